//! A credential as text. It is never printed and never written.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::event::Trouble;
use super::lease::{Lease, LeaseId};
use crate::error::Error;
use crate::ops::secrets::SERVICE;

/// What stands in a written value where a token was.
const HIDDEN: &str = "***";

/// A token, or another credential: a secret id, a JWT. Printed it is `Token(…)`, serialised
/// `***`, which is refused when it is read back.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// A token, or `None` for the empty text: an empty variable counts as unset (000-03). White
    /// space around it, such as the newline at the end of a file, is no part of it.
    #[must_use]
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.into()))
    }

    /// The token in the content of a file: UTF-8 of at most [`Token::MOST`] bytes.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Token> {
        let text = core::str::from_utf8(content).ok().filter(|text| text.len() <= Token::MOST)?;
        Token::new(text).filter(|token| !token.0.chars().any(char::is_control))
    }

    /// Largest credential read from a file or an answer, in bytes.
    pub const MOST: usize = 64 << 10;

    /// As a header, marked as sensitive; `None` when it cannot be one.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        sensitive(&self.0)
    }

    pub(crate) fn header(&self) -> Result<HeaderValue, Error> {
        self.value().ok_or(Error::Credential {
            service: SERVICE.into(),
            what: "a Vault token that can be a header value; the one given contains control characters",
        })
    }

    /// As the value of `Authorization`.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        sensitive(&format!("Bearer {}", self.0))
    }

    /// The text, for bodies that have to contain it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(\u{2026})")
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Token, D::Error> {
        let refuse = |why| Err(serde::de::Error::custom(why));
        // As a `Cow` would not do: escapes have to be resolved.
        let text = String::deserialize(from)?;
        match Token::new(&text) {
            Some(token) if &*token.0 == HIDDEN => {
                refuse("the token was left out when it was written")
            }
            Some(token) if token.0.len() <= Token::MOST => Ok(token),
            Some(_) => refuse("the token is too long"),
            None => refuse("a token must not be empty"),
        }
    }
}

/// Whoever has the token of the moment. A driver implements it over its locks; a token that never
/// changes is one as well.
pub trait Tokens: Send + Sync {
    /// The token, if there is one.
    fn token(&self) -> Option<Token>;

    /// Vault has answered 403 to it. It may be revoked, or only not allowed this.
    fn doubted(&self) {}

    /// Why there is none, where somebody has tried to get one.
    fn trouble(&self) -> Option<Trouble> {
        None
    }

    /// Looks after a lease from now on. `false`: nobody does, or there are too many.
    fn adopt(&self, _: &Lease) -> bool {
        false
    }

    /// Gives a lease back that is looked after. `false`: it is not.
    fn release(&self, _: &LeaseId) -> bool {
        false
    }
}

impl Tokens for Option<Token> {
    fn token(&self) -> Option<Token> {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_000_03_and_45_empty_is_none_and_nothing_prints_it() {
        assert!(Token::new("  \n").is_none() && Token::read(b"\xff").is_none());
        assert!(Token::read(b"").is_none() && Token::read(b"a\nb").is_none());
        assert!(Token::read(&vec![b'a'; Token::MOST + 1]).is_none());
        let token = Token::read(b"s3cret-token\n").unwrap();
        assert_eq!(token.expose(), "s3cret-token");
        let headers = [token.value().unwrap(), token.bearer().unwrap()];
        let shown = format!("{token:?} {headers:?} {}", serde_json::to_string(&token).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(serde_json::from_str::<Token>("\"***\"").is_err(), "what was hidden is no token");
        assert!(serde_json::from_str::<Token>("\"\"").is_err());
        assert_eq!(serde_json::from_str::<Token>("\"a\\u002eb\"").unwrap().expose(), "a.b");
        assert!(Token::new("a\u{1}b").unwrap().value().is_none());
    }
}
