//! What a service says about an error, kept for who asks and printed nowhere: error bodies hold
//! stack traces, connection strings and whatever else a server was careless with. Only a code is
//! shown, and only one that is nothing but a code.
//!
//! Codes are looked for where the services of the contracts put them: `error_code` beside
//! `message` (DesignSynapse), `error` as a list of `{code, message}`, an envelope inside `detail`
//! (OmniNode), `code`, and `error` or `errors` as text.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// Longest code in bytes.
const LONGEST_CODE: usize = 64;
/// Largest body that is looked into, and kept.
pub const MOST: usize = 64 << 10;
/// How deep a code may stand.
const DEPTH: u8 = 5;

/// What a service said about an error.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Said {
    code: Option<Arc<str>>,
    body: Bytes,
}

impl Said {
    /// What stands in an error body, of which at most 64 KiB are kept.
    #[must_use]
    pub fn of(body: &Bytes) -> Said {
        let body = body.slice(..body.len().min(MOST));
        let code =
            serde_json::from_slice::<Value>(&body).ok().and_then(|value| code(&value, DEPTH));
        Said { code, body }
    }

    /// Its machine-readable code, if it has one: upper-case letters, digits and underscores.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The body as it came. It may hold anything; think before it is printed.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The words in it that are meant for people, if they can be found. The same warning.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        message(&serde_json::from_slice(&self.body).ok()?, DEPTH)
    }
}

/// Codes are written in capitals; anything else may be prose.
fn sound(text: &str) -> bool {
    (1..=LONGEST_CODE).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && text.bytes().any(|b| b.is_ascii_uppercase())
}

fn code(value: &Value, depth: u8) -> Option<Arc<str>> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Object(fields) => {
            let named = ["error_code", "code", "error"].iter().filter_map(|name| fields.get(*name));
            let mut direct = named.filter_map(Value::as_str).filter(|text| sound(text));
            direct.next().map(Arc::from).or_else(|| {
                let mut inner = ["error", "errors", "detail"].iter().filter_map(|n| fields.get(*n));
                inner.find_map(|value| code(value, depth))
            })
        }
        Value::Array(all) => all.first().and_then(|value| code(value, depth)),
        _ => None,
    }
}

fn message(value: &Value, depth: u8) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => {
            let mut named = ["message", "msg", "error", "errors", "detail"].iter();
            named.find_map(|name| message(fields.get(*name)?, depth))
        }
        Value::Array(all) => all.first().and_then(|value| message(value, depth)),
        _ => None,
    }
}

/// The code behind a status, or nothing.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({:?}, {} bytes)", self.code, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(body: &str) -> Said {
        Said::of(&Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn codes_and_words_are_found_in_every_shape_of_the_contracts() {
        let cases = [
            // DesignSynapse, its three shapes.
            (
                r#"{"message":"no","error_code":"NOT_FOUND","details":null}"#,
                Some("NOT_FOUND"),
                "no",
            ),
            (r#"{"detail":"Not Found"}"#, None, "Not Found"),
            (
                r#"{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}"#,
                None,
                "field required",
            ),
            // OmniNode: an envelope, one in `detail`, one with text.
            (
                r#"{"status":"error","error":[{"code":"EMPTY_BATCH_REQUEST","field":"items","message":"m"}]}"#,
                Some("EMPTY_BATCH_REQUEST"),
                "m",
            ),
            (
                r#"{"detail":{"status":"error","error":[{"code":"STAMP_NOT_FOUND","message":"gone"}]}}"#,
                Some("STAMP_NOT_FOUND"),
                "gone",
            ),
            (r#"{"status":"error","error":"database down","data":null}"#, None, "database down"),
            // Vault.
            (r#"{"errors":["permission denied"]}"#, None, "permission denied"),
        ];
        for (body, code, message) in cases {
            assert_eq!(said(body).code(), code, "{body}");
            assert_eq!(said(body).message().as_deref(), Some(message), "{body}");
        }
        for none in ["", "<html>", "7", "[]", "{}", r#"{"error":null}"#] {
            assert_eq!((said(none).code(), said(none).message()), (None, None), "{none}");
        }
    }

    #[test]
    fn case_001_92_nothing_of_a_body_is_printed_but_a_code() {
        let planted = "postgres://admin:hunter2@db/x";
        for body in [
            format!(r#"{{"detail":"{planted}"}}"#),
            format!(r#"{{"error_code":"{planted}","message":"{planted}"}}"#),
            r#"{"error_code":"PASSWORD is hunter2"}"#.to_owned(),
            planted.to_owned(),
        ] {
            let said = said(&body);
            assert!(!format!("{said} {said:?}").contains("hunter2"), "{said} {said:?}");
            assert!(String::from_utf8_lossy(said.body()).contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_bounded_and_its_code_is_only_a_code(body: Vec<u8>, pad in 0_usize..3) {
            let mut all = body;
            all.resize(all.len() + pad * MOST, b' ');
            let said = Said::of(&all.into());
            prop_assert!(said.body().len() <= MOST);
            prop_assert!(said.code().is_none_or(sound));
            let _ = said.message();
        }
    }
}
