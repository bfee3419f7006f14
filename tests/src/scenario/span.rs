//! `Option<Duration>` as text, for serde.
use std::time::Duration;

use origin_core::time::{DurationText, parse_duration};
use serde::{Deserialize, Deserializer, Serializer};

#[allow(clippy::ref_option)] // the signature serde asks for
pub(super) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => to.collect_str(&DurationText(*span)),
        None => to.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(from)?
        .map(|text| parse_duration(&text).map_err(serde::de::Error::custom))
        .transpose()
}
