//! Canonical keys: the same question has the same key, however it is written; another question
//! has another one.
//!
//! A key is a SHA-256 digest, so that whoever chooses parameters cannot choose a collision and be
//! served somebody else's answer. Everything that goes in is preceded by its kind and its length:
//! two different questions never are the same bytes before hashing.

use std::fmt;
use std::hash::{Hash, Hasher};

use http::{HeaderMap, Method};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Parameters that are not part of the question: they differ from call to call.
pub const NOT_IN_THE_KEY: [&str; 2] = ["correlation_id", "use_cache"];

/// Deepest nesting of a parameter.
pub const MOST_DEEP: usize = 128;

/// Names an answer: 256 bits of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([u8; 32]);

/// A parameter is nested deeper than [`MOST_DEEP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a parameter is nested deeper than 128")]
pub struct TooDeep;

impl Key {
    /// The key of an operation with parameters, in whatever order they and the fields of objects
    /// in them are written. Arrays keep their order, `null` is not the same as absent, and `1`
    /// not the same as `1.0`. Leaves out what [`NOT_IN_THE_KEY`] names.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn operation<'a>(
        endpoint: &str,
        parameters: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Key, TooDeep> {
        let mut sorted: Vec<(&str, &Value)> =
            parameters.into_iter().filter(|(name, _)| !NOT_IN_THE_KEY.contains(name)).collect();
        sorted.sort_by_key(|(name, _)| *name);
        let mut writer = Writer::new(b'o');
        writer.text(endpoint.as_bytes());
        for (name, value) in sorted {
            writer.text(name.as_bytes());
            writer.json(value, 0)?;
        }
        Ok(writer.end())
    }

    /// The key of a plain HTTP request: service, method, path, query in whatever order, body, and
    /// the values of the headers in `vary` (lower case and sorted, as [`super::Settings::vary`]
    /// has them). Queries of at most 16 parts are sorted without allocating.
    #[must_use]
    pub fn http(
        service: &str,
        method: &Method,
        path_and_query: &str,
        headers: &HeaderMap,
        vary: &[impl AsRef<str>],
        body: &[u8],
    ) -> Key {
        let mut writer = Writer::new(b'h');
        writer.text(service.as_bytes());
        writer.text(method.as_str().as_bytes());
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        writer.text(path.as_bytes());
        writer.query(query);
        for name in vary {
            writer.text(name.as_ref().as_bytes());
            writer.values(headers, name.as_ref());
        }
        writer.text(body);
        writer.end()
    }

    /// The key of a text, for caches of something else.
    #[must_use]
    pub fn text(text: &str) -> Key {
        let mut writer = Writer::new(b't');
        writer.text(text.as_bytes());
        writer.end()
    }

    /// All values of a header as one digest, so that they can be compared and need not be kept.
    pub(super) fn values(headers: &HeaderMap, name: &str) -> Key {
        let mut writer = Writer::new(b'v');
        writer.values(headers, name);
        writer.end()
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From bytes that [`Key::bytes`] gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// 64 digits, as keys of Redis have them.
    #[must_use]
    pub fn hex(&self) -> String {
        self.to_string()
    }

    /// From 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &[u8]) -> Option<Key> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Key(bytes))
    }
}

/// A digest is as good as a hash already, so eight bytes of it are enough for a table.
impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        hasher.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        let text = String::deserialize(from)?;
        Key::from_hex(text.as_bytes()).ok_or_else(|| D::Error::custom("not 64 hexadecimal digits"))
    }
}

struct Writer(Sha256);

impl Writer {
    fn new(kind: u8) -> Writer {
        let mut hash = Sha256::new();
        hash.update([kind]);
        Writer(hash)
    }

    fn end(self) -> Key {
        Key(self.0.finalize().into())
    }

    /// A kind and a count, seven bits to a byte: short, because every 64 bytes cost a round.
    fn count(&mut self, kind: u8, count: usize) {
        let (mut bytes, mut end, mut rest) = ([kind; 11], 1, count as u64);
        for byte in &mut bytes[1..] {
            let more = rest > 0x7f;
            // The low seven bits are what is meant.
            #[allow(clippy::cast_possible_truncation)]
            let low = (rest & 0x7f) as u8;
            *byte = low | u8::from(more) << 7;
            end += 1;
            rest >>= 7;
            if !more {
                break;
            }
        }
        self.0.update(&bytes[..end]);
    }

    fn text(&mut self, text: &[u8]) {
        self.count(b's', text.len());
        self.0.update(text);
    }

    fn json(&mut self, value: &Value, depth: usize) -> Result<(), TooDeep> {
        if depth > MOST_DEEP {
            return Err(TooDeep);
        }
        match value {
            Value::Null => self.count(b'n', 0),
            Value::Bool(yes) => self.count(b'b', usize::from(*yes)),
            Value::Number(number) => {
                let number = number.to_string();
                self.count(b'0', number.len());
                self.0.update(number.as_bytes());
            }
            Value::String(text) => self.text(text.as_bytes()),
            Value::Array(items) => {
                self.count(b'[', items.len());
                for item in items {
                    self.json(item, depth + 1)?;
                }
            }
            Value::Object(fields) => {
                // Their order depends on how serde_json is built: never rely on it.
                let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
                sorted.sort_by_key(|(name, _)| *name);
                self.count(b'{', sorted.len());
                for (name, value) in sorted {
                    self.text(name.as_bytes());
                    self.json(value, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// The parts of a query by name; parts of the same name stay in their order, which may mean
    /// something.
    fn query(&mut self, query: &str) {
        let mut few = [""; 16];
        let parts = query.split('&').filter(|part| !part.is_empty());
        let count = parts.clone().count();
        let mut many;
        let sorted: &mut [&str] = if let Some(few) = few.get_mut(..count) {
            few.iter_mut().zip(parts).for_each(|(place, part)| *place = part);
            few
        } else {
            many = parts.collect::<Vec<_>>();
            &mut many
        };
        let name = |part: &str| part.bytes().position(|c| c == b'=').unwrap_or(part.len());
        // By hand, because a stable sort of the standard library allocates, and these are few.
        if sorted.len() <= 16 {
            for end in 1..sorted.len() {
                let mut at = end;
                while at > 0 && {
                    let (before, this) = (sorted[at - 1], sorted[at]);
                    before[..name(before)] > this[..name(this)]
                } {
                    sorted.swap(at - 1, at);
                    at -= 1;
                }
            }
        } else {
            sorted.sort_by(|a, b| a[..name(a)].cmp(&b[..name(b)]));
        }
        self.count(b'?', sorted.len());
        for part in sorted {
            self.text(part.as_bytes());
        }
    }

    /// The values of a header, without blanks around them; absent is not the same as empty.
    fn values(&mut self, headers: &HeaderMap, name: &str) {
        let values = headers.get_all(name);
        self.count(b':', values.iter().count());
        for value in values {
            self.text(value.as_bytes().trim_ascii());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn operation(parameters: &Value) -> Key {
        let fields = parameters.as_object().unwrap();
        Key::operation("query", fields.iter().map(|(name, value)| (name.as_str(), value))).unwrap()
    }

    fn http(path: &str) -> Key {
        Key::http("s", &Method::GET, path, &HeaderMap::new(), &[""; 0], b"")
    }

    #[test]
    fn case_001_80_order_does_not_matter_and_everything_else_does() {
        let one = json!({"a": 1, "filter": {"x": [1, 2], "y": {"p": null, "q": "r"}}});
        let (fields, filter) = (json!(1), json!({"y": {"q": "r", "p": null}, "x": [1, 2]}));
        let other = Key::operation("query", [("filter", &filter), ("a", &fields)]);
        assert_eq!(other, Ok(operation(&one)));
        let ignored =
            json!({"a": 1, "filter": one["filter"], "correlation_id": "c", "use_cache": true});
        assert_eq!(operation(&ignored), operation(&one));
        let different = [
            json!({"a": 2, "filter": one["filter"]}),
            json!({"a": "1", "filter": one["filter"]}),
            json!({"a": 1.0, "filter": one["filter"]}),
            json!({"b": 1, "filter": one["filter"]}),
            json!({"a": 1, "filter": {"x": [2, 1], "y": {"p": null, "q": "r"}}}),
            json!({"a": 1, "filter": {"x": [1, 2], "y": {"q": "r"}}}),
            json!({"a": 1}),
            json!({}),
        ];
        for parameters in &different {
            assert_ne!(operation(parameters), operation(&one), "{parameters}");
        }
        let elsewhere = Key::operation("other", [("a", &fields), ("filter", &filter)]);
        assert_ne!(elsewhere, Ok(operation(&one)));
    }

    /// What is next to each other never runs into each other.
    #[test]
    fn nothing_runs_together() {
        let texts =
            [json!({"a": "b", "c": "d"}), json!({"a": "b\u{0}c", "": "d"}), json!({"ab": "cd"})];
        assert_ne!(operation(&texts[0]), operation(&texts[1]));
        assert_ne!(operation(&texts[0]), operation(&texts[2]));
        assert_ne!(operation(&json!({"a": [[1], 2]})), operation(&json!({"a": [[1, 2]]})));
        assert_ne!(operation(&json!({"a": {}})), operation(&json!({"a": []})));
        assert_ne!(Key::text("a"), http("a"));
    }

    #[test]
    fn deep_parameters_are_refused() {
        let deep = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(Key::operation("e", [("a", &deep(128))]).is_ok());
        assert_eq!(Key::operation("e", [("a", &deep(129))]), Err(TooDeep));
    }

    #[test]
    fn http_keys() {
        assert_eq!(http("/p?b=2&a=1&a=0"), http("/p?a=1&b=2&a=0&"));
        assert_ne!(
            http("/p?a=1&a=0"),
            http("/p?a=0&a=1"),
            "order of equal names may mean something"
        );
        assert_ne!(http("/p"), http("/p/"));
        let with = |value: &str, vary: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("accept-language", HeaderValue::from_str(value).unwrap());
            Key::http("s", &Method::GET, "/p", &headers, vary, b"")
        };
        assert_eq!(with("de", &[]), http("/p"));
        assert_ne!(with("de", &["accept-language"]), with("en", &["accept-language"]));
        assert_eq!(with(" de ", &["accept-language"]), with("de", &["accept-language"]));
        let head = Key::http("s", &Method::HEAD, "/p", &HeaderMap::new(), &[""; 0], b"");
        assert_ne!(head, http("/p"));
    }

    /// Other programs, and other versions, look for the same keys in Redis. The digests were
    /// computed by another implementation of SHA-256 from the bytes written down by hand.
    #[test]
    fn keys_are_frozen() {
        let value = json!({"y": "ü", "x": [null, true]});
        let key = Key::operation("query", [("f", &value), ("a", &json!(1))]).unwrap();
        assert_eq!(key.hex(), "fd28482d1f212703546ea15ecef8db1cbebab63f704db8d11e39c3c974b76fa1");
        let body = [b'x'; 300];
        let key = Key::http("s", &Method::GET, "/p?b=2&a=1", &HeaderMap::new(), &[""; 0], &body);
        assert_eq!(key.hex(), "98f487b85af0e06b8ffc0eba96c8fd64b6854acbf67f46abab36267cd05c55c2");
        assert_eq!(
            Key::text("k").hex(),
            "131e2b08afcee427fce5b38626e1a2d40d9ef921602d8ec06c8891905aad440c"
        );
    }

    #[test]
    fn hexadecimal_both_ways() {
        let key = Key::text("x");
        assert_eq!(Key::from_hex(key.hex().as_bytes()), Some(key));
        for bad in ["", "00", &"g".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
            assert_eq!(Key::from_hex(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        /// Any order of the parts is the same; 16 and more are sorted in another way.
        #[test]
        fn any_order(names in proptest::collection::btree_set("[a-z]{1,3}", 0..24), seed: u64) {
            let parts: Vec<String> = names.iter().map(|name| format!("{name}={}", name.len())).collect();
            let mut mixed = parts.clone();
            let mut rng = crate::rng::Pcg32::new(seed, 0);
            for end in (1..mixed.len()).rev() {
                mixed.swap(end, rng.below(u32::try_from(end).unwrap() + 1) as usize);
            }
            let path = |parts: &[String]| format!("/p?{}", parts.join("&"));
            prop_assert_eq!(http(&path(&mixed)), http(&path(&parts)));
        }
    }
}
