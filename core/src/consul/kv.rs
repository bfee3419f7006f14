//! Keys and values: reading, writing with compare-and-set, deleting, listing.
//!
//! Keys are checked before they are sent: the agent cleans paths, so that a key with `..` or an
//! empty part would silently be another one (or a redirect).

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use serde::Deserialize;

use super::error::{ConsulError, Unreadable};
use super::name::ServiceName;
use super::settings::Settings;
use super::wire::{Api, Class, Cursor, Many, Query, open, truth};
use crate::ops::segments;

/// Largest value that Consul takes, in bytes.
pub const LARGEST: usize = 512 << 10;

/// A checked key: 1–512 bytes, parts joined by `/`, none of them empty, `.` or `..`. A prefix may
/// end with `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks a key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Key, ConsulError> {
        let bad = |reason: &str| Err(ConsulError::field("key", reason));
        let parts = text.strip_suffix('/').unwrap_or(text);
        match text {
            "" | "/" => bad("must not be empty"),
            _ if text.len() > 512 => bad("has more than 512 bytes"),
            _ if text.chars().any(char::is_control) => bad("has control characters"),
            _ if parts.split('/').any(str::is_empty) => bad("has an empty part"),
            _ if parts.split('/').any(|part| part == "." || part == "..") => {
                bad("has a part that is a path")
            }
            _ => Ok(Key(text.into())),
        }
    }

    /// `services/{name}/index`: what tells whether a cache of the service is of today (003-58).
    #[must_use]
    pub fn index_of(name: &ServiceName) -> Key {
        Key(format!("services/{name}/index").into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn path(&self) -> String {
        format!("/v1/kv/{}", segments(&self.0))
    }
}

/// A value with what Consul knows about it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Arc<str>,
    /// The value; empty where Consul says `null`.
    pub value: Bytes,
    /// A number of the application's own.
    pub flags: u64,
    /// Index at which it was made.
    pub create_index: u64,
    /// Index at which it was last changed: what a compare-and-set compares, and what tells
    /// whether it is another value than before (003-62).
    pub modify_index: u64,
    /// How often it was locked.
    pub lock_index: u64,
}

/// Values may be secrets: only their size is shown.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Entry {{ {:?}, {} bytes, modify_index: {} }}",
            self.key,
            self.value.len(),
            self.modify_index
        )
    }
}

/// `GET /v1/kv/{key}`.
///
/// # Errors
/// Settings without an agent.
pub fn get(
    api: &Api<'_>,
    key: &Key,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.read(&key.path(), Query::default(), None, cursor)
}

/// `GET /v1/kv/{prefix}?recurse`: everything below.
///
/// # Errors
/// Settings without an agent.
pub fn list(
    api: &Api<'_>,
    prefix: &Key,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.read(&prefix.path(), Query::default().with("recurse", "true"), None, cursor)
}

/// `GET /v1/kv/{prefix}?keys`: the keys below, without their values.
///
/// # Errors
/// Settings without an agent.
pub fn keys(
    api: &Api<'_>,
    prefix: &Key,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.read(&prefix.path(), Query::default().with("keys", "true"), None, cursor)
}

/// `PUT /v1/kv/{key}`. With `cas` only if its modify index is still that one; 0 means that there
/// must be none yet. [`parse_changed`] tells whether it was.
///
/// # Errors
/// A value of more than 512 KiB.
pub fn put(
    api: &Api<'_>,
    key: &Key,
    value: &[u8],
    cas: Option<u64>,
) -> Result<Request<Bytes>, ConsulError> {
    if value.len() > LARGEST {
        let reason = format!("has {} bytes, more than {LARGEST}", value.len());
        return Err(ConsulError::field("value", reason));
    }
    change(api, Method::PUT, key, Some(value.to_vec()), cas)
}

/// `DELETE /v1/kv/{key}`; `cas` as in [`put`], never 0.
///
/// # Errors
/// Settings without an agent; a `cas` of 0.
pub fn delete(api: &Api<'_>, key: &Key, cas: Option<u64>) -> Result<Request<Bytes>, ConsulError> {
    if cas == Some(0) {
        return Err(ConsulError::field("cas", "what is deleted has an index of at least 1"));
    }
    change(api, Method::DELETE, key, None, cas)
}

fn change(
    api: &Api<'_>,
    method: Method,
    key: &Key,
    body: Option<Vec<u8>>,
    cas: Option<u64>,
) -> Result<Request<Bytes>, ConsulError> {
    let mut query = Query::default();
    query.maybe("dc", api.settings.datacenter.as_deref());
    query.maybe("cas", cas.map(|index| index.to_string()).as_deref());
    api.request(method, Class::Service, &key.path(), query, body)
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "Key")]
    key: Arc<str>,
    #[serde(borrow, rename = "Value", default)]
    value: Option<Cow<'a, str>>,
    #[serde(rename = "Flags", default)]
    flags: u64,
    #[serde(rename = "CreateIndex", default)]
    create_index: u64,
    #[serde(rename = "ModifyIndex")]
    modify_index: u64,
    #[serde(rename = "LockIndex", default)]
    lock_index: u64,
}

/// The value of a reply to [`get`]; `None` when there is none (404).
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_get(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Option<Entry>, ConsulError> {
    Ok(parse_list(settings, status, body)?.into_iter().next())
}

/// The values of a reply to [`list`]; empty when there are none (404).
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_list(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Entry>, ConsulError> {
    if status == 404 {
        return Ok(Vec::new());
    }
    let what = "a value";
    let raw: Many<Raw<'_>> = open(settings, what, status, body)?;
    let entry = |raw: Raw<'_>| {
        let value = raw.value.as_deref().unwrap_or("");
        let value = STANDARD
            .decode(value)
            .map_err(|_| ConsulError::unreadable(what, Unreadable::Base64))?;
        let Raw { key, flags, create_index, modify_index, lock_index, .. } = raw;
        Ok(Entry { key, value: value.into(), flags, create_index, modify_index, lock_index })
    };
    raw.0.into_iter().map(entry).collect()
}

/// The keys of a reply to [`keys`]; empty when there are none (404).
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_keys(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Arc<str>>, ConsulError> {
    if status == 404 {
        return Ok(Vec::new());
    }
    open::<Many<Arc<str>>>(settings, "the list of keys", status, body).map(|many| many.0)
}

/// Whether a [`put`] or [`delete`] took place; `false`: its `cas` was not met.
///
/// # Errors
/// A status that is no success.
pub fn parse_changed(status: u16, body: &[u8]) -> Result<bool, ConsulError> {
    truth(status, body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consul::Tokens;

    const ONE: &[u8] = include_bytes!("../../tests/corpus/consul_kv/one.json");
    const LIST: &[u8] = include_bytes!("../../tests/corpus/consul_kv/list.json");
    const KEYS: &[u8] = include_bytes!("../../tests/corpus/consul_kv/keys.json");

    #[test]
    fn real_replies() {
        let s = Settings::default();
        let one = parse_get(&s, 200, ONE).unwrap().unwrap();
        assert_eq!((&*one.key, &one.value[..]), ("services/web/index", &b"hello"[..]));
        assert!(one.modify_index >= one.create_index && one.create_index > 0);
        assert!(!format!("{one:?}").contains("hello"));
        let all = parse_list(&s, 200, LIST).unwrap();
        assert_eq!(all.len(), 2);
        let umlaut = all.iter().find(|e| &*e.key == "services/\u{fc} x").unwrap();
        assert!(umlaut.value.is_empty() && umlaut.flags == 7, "null is empty");
        assert!(!parse_keys(&s, 200, KEYS).unwrap().is_empty());
    }

    #[test]
    fn case_003_62_absence_is_no_error() {
        let s = Settings::default();
        assert_eq!(parse_get(&s, 404, b"").unwrap(), None);
        assert_eq!(parse_get(&s, 200, b"null").unwrap(), None);
        assert!(
            parse_list(&s, 404, b"").unwrap().is_empty()
                && parse_keys(&s, 404, b"").unwrap().is_empty()
        );
        assert!(parse_get(&s, 403, b"Permission denied").unwrap_err().is_permission());
        let bad = br#"[{"Key":"a","Value":"@@@","ModifyIndex":1}]"#;
        assert!(matches!(
            parse_get(&s, 200, bad),
            Err(ConsulError::Unreadable { why: Unreadable::Base64, .. })
        ));
        assert!(parse_get(&s, 200, br#"[{"Key":"a"}]"#).is_err());
        assert_eq!(parse_changed(200, b"true"), Ok(true));
        assert_eq!(parse_changed(200, b"false"), Ok(false));
        assert_eq!(parse_changed(500, b"No cluster leader"), Err(ConsulError::NoLeader));
    }

    #[test]
    fn keys_are_checked_and_requests_are_exact() {
        for bad in ["", "/", "/a", "a//b", "../a", "a/..", "a/./b", "a\n", &"x".repeat(513)] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        let (s, t) = (Settings::default(), Tokens::default());
        let api = Api::new(&s, &t);
        let line = |r: Result<Request<Bytes>, ConsulError>| {
            let r = r.unwrap();
            format!("{} {}", r.method(), r.uri().path_and_query().unwrap())
        };
        let key = Key::new("a b/\u{fc}").unwrap();
        assert_eq!(line(get(&api, &key, None)), "GET /v1/kv/a%20b/%C3%BC");
        assert_eq!(line(list(&api, &Key::new("a/").unwrap(), None)), "GET /v1/kv/a/?recurse=true");
        assert_eq!(line(put(&api, &key, b"v", Some(0))), "PUT /v1/kv/a%20b/%C3%BC?cas=0");
        assert_eq!(line(delete(&api, &key, Some(4))), "DELETE /v1/kv/a%20b/%C3%BC?cas=4");
        assert!(delete(&api, &key, Some(0)).is_err());
        assert!(put(&api, &key, &vec![0; LARGEST + 1], None).is_err());
        assert_eq!(&put(&api, &key, b"v", None).unwrap().body()[..], b"v");
        assert_eq!(Key::index_of(&ServiceName::new("web").unwrap()).as_str(), "services/web/index");
    }

    proptest! {
        /// What Consul would answer for a value is read as that value.
        #[test]
        fn values_round_trip(value in proptest::collection::vec(any::<u8>(), 0..60), index in 1_u64..) {
            let body = format!("[{{\"Key\":\"k\",\"Value\":\"{}\",\"ModifyIndex\":{index}}}]", STANDARD.encode(&value));
            let got = parse_get(&Settings::default(), 200, body.as_bytes()).unwrap().unwrap();
            prop_assert_eq!((&got.value[..], got.modify_index), (&value[..], index));
        }

        #[test]
        fn mutated_replies_are_survived(at in 0_usize..1_000, byte: u8) {
            for reply in [ONE, LIST, KEYS] {
                let mut body = reply.to_vec();
                let at = at % body.len();
                body[at] = byte;
                let _ = (parse_list(&Settings::default(), 200, &body), parse_keys(&Settings::default(), 200, &body));
            }
        }
    }
}
