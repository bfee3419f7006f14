//! The envelope around what the services of the bridge answer: `status`, `data`, `error`,
//! `message`, `metadata`; sometimes as a whole inside `detail` (contracts §3.3–3.5). Here it is
//! taken off; what is inside is read by `data.rs`.
//!
//! A status word decides, not the HTTP status alone: an answer of 200 that says `error` has
//! failed. Each operation says which words it accepts. `error` is text in one contract and a list
//! of `{code, field, message}` in the other; both are [`Problem`]s.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::request::{Response, json_reason};
use crate::said::Said;

/// The word of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// All of it was done.
    Success,
    /// A part of it was done.
    Partial,
    /// It failed.
    Error,
    /// Any other word, or none.
    Other,
}

impl Word {
    fn of(text: Option<&str>) -> Word {
        match text {
            Some("success") => Word::Success,
            Some("partial") => Word::Partial,
            Some("error") => Word::Error,
            _ => Word::Other,
        }
    }
}

/// Why an answer is not taken. Says nothing of its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It is not JSON, or not an object.
    #[error("{0}")]
    Shape(String),
    /// Its word is none of those the operation accepts.
    #[error("its status is {0:?}")]
    Word(Word),
    /// This field is missing, or of another type.
    #[error("the field {0:?} is missing or of another type")]
    Field(&'static str),
}

/// One thing a service found wrong. Its own words are not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its code, if it has one.
    pub code: Option<String>,
    /// The field it is about, if it names one.
    pub field: Option<String>,
    /// What it says to people. It may be anything; think before it is printed.
    pub message: String,
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({} bytes)", self.message.len())
    }
}

/// Most problems that are read of one answer.
const MOST_PROBLEMS: usize = 100;

impl Problem {
    /// What stands under `error` in what a service said, whichever of its forms it has, also
    /// inside `detail`; a `detail` that is text or the list of a framework is read as well. Empty
    /// where nothing is found.
    #[must_use]
    pub fn all(said: &Said) -> Vec<Problem> {
        let Ok(mut top) = serde_json::from_slice::<Map<String, Value>>(said.body()) else {
            return Vec::new();
        };
        let found = match (top.remove("error"), top.remove("detail")) {
            (Some(error), _) if !error.is_null() => Some(error),
            (_, Some(Value::Object(mut inner))) => inner.remove("error"),
            (_, detail) => detail,
        };
        match found {
            Some(Value::Array(all)) => {
                all.into_iter().take(MOST_PROBLEMS).filter_map(Problem::of).collect()
            }
            Some(one) => Problem::of(one).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn of(value: Value) -> Option<Problem> {
        match value {
            Value::String(message) => Some(Problem { code: None, field: None, message }),
            Value::Object(mut fields) => {
                let mut text = |names: &[&str]| {
                    names.iter().find_map(|name| match fields.remove(*name) {
                        Some(Value::String(text)) => Some(text),
                        _ => None,
                    })
                };
                let (code, field) = (text(&["code", "type"]), text(&["field"]));
                let message = text(&["message", "msg"]).or_else(|| code.clone())?;
                Some(Problem { code, field, message })
            }
            _ => None,
        }
    }
}

/// The fields of an answer's data, taken one by one. `null` is the same as absent, and for lists
/// and maps the same as empty; a wrong type is an error that names the field.
#[derive(Debug)]
pub struct Fields(pub(super) Map<String, Value>);

/// What an operation answers with, read from the fields of its data: all of it, or nothing.
pub trait Data: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// [`Bad::Field`].
    fn of(fields: Fields) -> Result<Self, Bad>;
}

impl Fields {
    /// The first of these names that is there, for fields with two names.
    fn take(&mut self, names: &[&'static str]) -> Option<(&'static str, Value)> {
        let mut found = None;
        for name in names {
            // Every name is removed: the other one is no field of its own.
            let value = self.0.remove(*name).filter(|value| !value.is_null());
            found = found.or(value.map(|value| (*name, value)));
        }
        found
    }

    pub(super) fn text(&mut self, names: &[&'static str]) -> Result<Option<String>, Bad> {
        match self.take(names) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((name, _)) => Err(Bad::Field(name)),
        }
    }

    pub(super) fn count(&mut self, names: &[&'static str]) -> Result<Option<u64>, Bad> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        value.as_u64().map(Some).ok_or(Bad::Field(name))
    }

    pub(super) fn number(&mut self, names: &[&'static str]) -> Result<Option<f64>, Bad> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        value.as_f64().map(Some).ok_or(Bad::Field(name))
    }

    pub(super) fn truth(&mut self, names: &[&'static str]) -> Result<Option<bool>, Bad> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        value.as_bool().map(Some).ok_or(Bad::Field(name))
    }

    pub(super) fn list(&mut self, names: &[&'static str]) -> Result<Vec<Value>, Bad> {
        match self.take(names) {
            None => Ok(Vec::new()),
            Some((_, Value::Array(list))) => Ok(list),
            Some((name, _)) => Err(Bad::Field(name)),
        }
    }

    pub(super) fn map(&mut self, names: &[&'static str]) -> Result<Map<String, Value>, Bad> {
        match self.take(names) {
            None => Ok(Map::new()),
            Some((_, Value::Object(map))) => Ok(map),
            Some((name, _)) => Err(Bad::Field(name)),
        }
    }

    /// An error unless this field is there, be it `null`.
    pub(super) fn need(&self, name: &'static str) -> Result<(), Bad> {
        if self.0.contains_key(name) { Ok(()) } else { Err(Bad::Field(name)) }
    }
}

/// Takes the envelope off and reads what is inside.
///
/// # Errors
/// [`Bad`]; nothing is half read.
pub fn read<T: Data>(body: &[u8], accept: &[Word]) -> Result<(T, Word), Bad> {
    let mut envelope = object(body)?;
    if !envelope.contains_key("status")
        && let Some(Value::Object(inner)) = envelope.remove("detail")
    {
        envelope = inner;
    }
    let word = Word::of(envelope.get("status").and_then(Value::as_str));
    if !accept.contains(&word) {
        return Err(Bad::Word(word));
    }
    let Some(Value::Object(data)) = envelope.remove("data") else {
        return Err(Bad::Field("data"));
    };
    T::of(Fields(data)).map(|data| (data, word))
}

/// A body as an object, and as nothing else.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Bad> {
    serde_json::from_slice(body).map_err(|error| Bad::Shape(json_reason(&error)))
}

/// Reads an answer that has no envelope, but may say `success` itself, or that has one all the
/// same.
pub(super) fn bare<T: Data>(body: &[u8]) -> Result<T, Bad> {
    let mut top = object(body)?;
    if top.get("success") == Some(&Value::Bool(false)) {
        return Err(Bad::Word(Word::Error));
    }
    match (top.get("status").and_then(Value::as_str), top.get("data")) {
        (word @ Some(_), Some(_)) => match Word::of(word) {
            Word::Success => match top.remove("data") {
                Some(Value::Object(data)) => T::of(Fields(data)),
                _ => Err(Bad::Field("data")),
            },
            word => Err(Bad::Word(word)),
        },
        _ => T::of(Fields(top)),
    }
}

/// Whether an answer may be remembered: only data of the kind asked for (001-83).
pub(super) fn storable<T: Data>(status: u16, body: &[u8]) -> bool {
    (200..300).contains(&status) && read::<T>(body, &[Word::Success]).is_ok()
}

/// The same for a whole response, with the errors of an operation.
pub(super) fn open<T: Data>(
    operation: &'static str,
    accept: &[Word],
    response: Response,
) -> Result<(T, Word, Response), Error> {
    let response = response.ok()?;
    match read(&response.body, accept) {
        Ok((data, word)) => Ok((data, word, response)),
        Err(Bad::Word(_)) => Err(Error::rejected(operation, response)),
        Err(bad) => Err(unreadable(operation, &response, &bad)),
    }
}

/// [`bare`] for a whole response.
pub(super) fn open_bare<T: Data>(operation: &'static str, response: Response) -> Result<T, Error> {
    let response = response.ok()?;
    match bare(&response.body) {
        Ok(data) => Ok(data),
        Err(Bad::Word(_)) => Err(Error::rejected(operation, response)),
        Err(bad) => Err(unreadable(operation, &response, &bad)),
    }
}

pub(super) fn unreadable(operation: &'static str, response: &Response, bad: &Bad) -> Error {
    Error::Decode {
        service: response.report.service.clone(),
        what: operation,
        reason: bad.to_string(),
    }
}
