//! A secret as text: a token, a password, the key of a signature. It can be sent; it cannot be
//! printed, and it cannot be written. Where secrets come from, and which one goes to whom, is
//! with those who send them: [`crate::vault`], [`crate::consul`], [`crate::redis`], [`crate::s3`].

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in a written value where a secret was.
const HIDDEN: &str = "***";

/// A secret text. Printed it is `Secret(…)`. Serialised it is `***`, which is refused when it is
/// read back: what was written down cannot be anonymous, or let somebody in, by accident.
///
/// ```
/// use origin_core::Secret;
///
/// let token = Secret::new("hvs.example\n").unwrap();
/// assert_eq!((token.expose(), format!("{token:?}").as_str()), ("hvs.example", "Secret(…)"));
/// assert_eq!(Secret::new(" "), None); // an empty variable counts as unset
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Largest secret read from a file, an answer or a configuration, in bytes.
    pub const MOST: usize = 64 << 10;

    /// A secret, or `None` for the empty text: an empty variable counts as unset (000-03). White
    /// space around it, such as the newline at the end of a file, is no part of it.
    #[must_use]
    pub fn new(text: &str) -> Option<Secret> {
        Secret::exact(text.trim())
    }

    /// The same with white space as part of it: people choose passwords.
    #[must_use]
    pub fn exact(text: &str) -> Option<Secret> {
        (!text.is_empty()).then(|| Secret(text.into()))
    }

    /// The secret in the content of a file: UTF-8 of at most [`Secret::MOST`] bytes, on one line.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Secret> {
        let text = core::str::from_utf8(content).ok().filter(|text| text.len() <= Secret::MOST)?;
        Secret::new(text).filter(|secret| !secret.0.chars().any(char::is_control))
    }

    /// The text, for the one place that sends it or signs with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As a header, marked as sensitive; `None` when it cannot be one.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        sensitive(&self.0)
    }

    /// As the value of `Authorization`, marked likewise.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        sensitive(&format!("Bearer {}", self.0))
    }

    fn of<E: serde::de::Error>(text: &str, make: fn(&str) -> Option<Secret>) -> Result<Secret, E> {
        match make(text) {
            Some(secret) if &*secret.0 == HIDDEN => {
                Err(E::custom("the secret was left out when this was written; give it again"))
            }
            Some(secret) if secret.0.len() <= Secret::MOST => Ok(secret),
            Some(_) => Err(E::custom("the secret is too long")),
            None => Err(E::custom("the secret is empty")),
        }
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(\u{2026})")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        // As a `&str` would not do: escapes have to be resolved.
        Secret::of(&String::deserialize(from)?, Secret::new)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

/// Reads a field that holds a secret as [`Secret::exact`] takes it.
pub(crate) fn exact<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| Secret::of(&text, Secret::exact)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_000_03_and_45_empty_is_none_and_nothing_prints_it() {
        assert!(Secret::new("  \n").is_none() && Secret::read(b"\xff").is_none());
        assert!(Secret::read(b"").is_none() && Secret::read(b"a\nb").is_none());
        assert!(Secret::read(&vec![b'a'; Secret::MOST + 1]).is_none());
        let secret = Secret::read(b"s3cret-token\n").unwrap();
        assert_eq!(secret.expose(), "s3cret-token");
        let headers = [secret.header().unwrap(), secret.bearer().unwrap()];
        let shown = format!("{secret:?} {headers:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(Secret::new("a\u{1}b").unwrap().header().is_none());
    }

    #[test]
    fn what_was_hidden_is_no_secret_and_what_is_refused_is_not_repeated() {
        let read = serde_json::from_str::<Secret>;
        let long = format!("\"{}\"", "s3cret".repeat(20_000));
        for bad in ["\"***\"", "\" *** \"", "\"\"", "\" \"", "null", &long] {
            let error = read(bad).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!(read("\"a\\u002eb\\n\"").unwrap().expose(), "a.b");
    }

    #[test]
    fn a_password_keeps_its_spaces() {
        #[derive(Deserialize)]
        struct Login {
            #[serde(default, deserialize_with = "exact")]
            password: Option<Secret>,
        }
        let read = |text: &str| serde_json::from_str::<Login>(text).map(|login| login.password);
        assert_eq!(read(r#"{"password":" a "}"#).unwrap(), Secret::exact(" a "));
        assert_ne!(Secret::exact(" a "), Secret::new(" a "));
        assert_eq!((read("{}").unwrap(), read(r#"{"password":null}"#).unwrap()), (None, None));
        assert!(read(r#"{"password":""}"#).is_err() && read(r#"{"password":"***"}"#).is_err());
    }
}
