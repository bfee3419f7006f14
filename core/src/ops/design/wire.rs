//! Reading what these servers write.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::request::Response;

/// What a server says beyond the fields that are known.
pub type Fields = Map<String, Value>;

/// `null` is the empty one.
pub(super) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A list, of which `null` is the empty one.
pub(super) fn list<T: DeserializeOwned>(response: Response) -> Result<Vec<T>, Error> {
    response.ok()?.json::<Option<Vec<T>>>().map(Option::unwrap_or_default)
}
