//! Names of keys, and who may build them.
//!
//! The layout is that of seed 004 (contracts §5.5): `{prefix}service:discovery:{name}`, and where
//! a lookup is narrowed, `…:{name}:{dc}:{tag}` with the word `none` in the place of an absent part
//! (003-20); seed 004 left the parts out, and two narrowed lookups overwrote each other. Here no
//! two entries share a key: a name is a service name and has no `:`, every other byte that could
//! separate or alias is percent-encoded, and a tag that is called `none` is written `%6Eone`.
//!
//! A manager can only build keys below its prefix (004-85): prefixes end in `:` and must not
//! contain the words that follow one, so that no namespace contains keys of another. That is the
//! client's half of it; the server's is an ACL user with `~{prefix}*`.

use std::fmt::Write as _;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, check_service_name};

/// What stands for an absent part.
pub const NONE: &str = "none";
/// Longest part of a variant, in bytes before encoding.
pub const MOST_PART: usize = 256;

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
const WORDS: [&str; 3] = ["service", "breaker", "breakers"];

/// How a lookup is narrowed. The empty text counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Variant {
    /// To one datacenter.
    pub dc: Option<Arc<str>>,
    /// To one tag.
    pub tag: Option<Arc<str>>,
    /// By anything else that changes the answer: a filter, say, in its text form.
    pub also: Option<Arc<str>>,
}

/// Why there is no such entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// The name cannot be that of a service.
    #[error("{0}")]
    Name(ConfigError),
    /// A part of the variant is too long.
    #[error("{part} has {bytes} bytes, more than 256")]
    TooLong {
        /// Which part: `dc`, `tag` or `also`.
        part: &'static str,
        /// Its size.
        bytes: usize,
    },
}

/// One cached lookup: a service and how the lookup is narrowed. Checked, and cheap to copy and
/// compare, so that the local level can be keyed by it as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    name: Arc<str>,
    /// `{dc}:{tag}` or `{dc}:{tag}:{also}`, encoded; empty when nothing is narrowed.
    suffix: Arc<str>,
}

impl Entry {
    /// The entry of `name` as narrowed by `variant`.
    ///
    /// # Errors
    /// A name that is not that of a service, or a part that is too long.
    pub fn new(name: &str, variant: &Variant) -> Result<Entry, BadEntry> {
        check_service_name(name).map_err(BadEntry::Name)?;
        let part = |part, text: &Option<Arc<str>>| {
            let text = text.as_deref().unwrap_or("");
            if text.len() > MOST_PART {
                return Err(BadEntry::TooLong { part, bytes: text.len() });
            }
            Ok(encode(text))
        };
        let dc = part("dc", &variant.dc)?;
        let tag = part("tag", &variant.tag)?;
        let also = part("also", &variant.also)?;
        let suffix = match (&*dc, &*tag, &*also) {
            (NONE, NONE, NONE) => String::new(),
            (dc, tag, NONE) => format!("{dc}:{tag}"),
            (dc, tag, also) => format!("{dc}:{tag}:{also}"),
        };
        Ok(Entry { name: name.into(), suffix: suffix.into() })
    }

    /// The name of the service.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the lookup is not narrowed.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.suffix.is_empty()
    }

    /// What stands for it in the index of its service.
    pub(super) fn member(&self) -> &str {
        &self.suffix
    }

    /// The entry that a member of an index stands for. What somebody else wrote there may be
    /// anything; only what [`Entry::new`] could have made is one.
    pub(super) fn of_member(name: &Arc<str>, member: &[u8]) -> Option<Entry> {
        if member.len() > 3 * (3 * MOST_PART + 1) {
            return None;
        }
        let mut variant = Variant::default();
        let parts = [&mut variant.dc, &mut variant.tag, &mut variant.also];
        let mut given = member.split(|byte| *byte == b':');
        for place in parts {
            let Some(part) = given.next() else { break };
            if part != NONE.as_bytes() {
                let text = percent_decode(part).decode_utf8().ok()?;
                *place = Some(text.into_owned().into());
            }
        }
        let entry = Entry::new(name, &variant).ok()?;
        (!entry.is_plain() && entry.suffix.as_bytes() == member).then_some(entry)
    }
}

/// A part of a key: free of `:`, and never [`NONE`] unless absent.
fn encode(text: &str) -> String {
    match text {
        "" => NONE.to_owned(),
        NONE => "%6Eone".to_owned(),
        _ => utf8_percent_encode(text, KEPT).to_string(),
    }
}

/// A namespace in Redis: the only way to a key.
///
/// ```
/// use origin_core::redis::{Entry, Keys, Variant};
///
/// let keys = Keys::of("origin:", "redis.prefix")?;
/// let plain = Entry::new("billing", &Variant::default())?;
/// assert_eq!(keys.value(&plain), "origin:service:discovery:billing");
/// let blue = Variant { tag: Some("blue".into()), ..Variant::default() };
/// assert_eq!(
///     keys.value(&Entry::new("billing", &blue)?),
///     "origin:service:discovery:billing:none:blue"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keys {
    prefix: Arc<str>,
}

impl TryFrom<String> for Keys {
    type Error = ConfigError;
    fn try_from(prefix: String) -> Result<Keys, ConfigError> {
        Keys::of(&prefix, "prefix")
    }
}

impl From<Keys> for String {
    fn from(keys: Keys) -> String {
        keys.prefix.as_ref().to_owned()
    }
}

impl Keys {
    /// The namespace below `prefix`; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// A prefix that does not end in `:`, has other characters than letters, digits, `-`, `_`,
    /// `.` and `:`, is longer than 128 bytes, or has `service`, `breaker` or `breakers` between
    /// two colons: it could be a place inside another namespace.
    pub fn of(prefix: &str, path: &str) -> Result<Keys, ConfigError> {
        let refuse = |reason: &str| Err(ConfigError::new(path, reason));
        let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':');
        if prefix.len() > 128 {
            return refuse("is longer than 128 bytes");
        }
        if !prefix.bytes().all(fine) {
            return refuse("consists of letters, digits, '-', '_', '.' and ':'");
        }
        let Some(inner) = prefix.strip_suffix(':') else {
            return refuse("must end in ':', so that no other namespace begins with it");
        };
        if inner.split(':').any(str::is_empty) {
            return refuse("has nothing between two colons");
        }
        if inner.split(':').any(|part| WORDS.contains(&part)) {
            return refuse("must not have 'service', 'breaker' or 'breakers' between its colons");
        }
        Ok(Keys { prefix: prefix.into() })
    }

    /// The prefix, with its colon.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of what is cached for `entry`.
    #[must_use]
    pub fn value(&self, entry: &Entry) -> String {
        let mut key = format!("{}service:discovery:{}", self.prefix, entry.name);
        if !entry.is_plain() {
            let _ = write!(key, ":{}", entry.suffix);
        }
        key
    }

    /// The key of the set that names all variants of `name` that may be cached. The plain one is
    /// not in it: it is always assumed.
    #[must_use]
    pub fn index(&self, entry: &Entry) -> String {
        format!("{}service:variants:{}", self.prefix, entry.name)
    }

    /// The key of what `node` says about the breakers of a service.
    #[must_use]
    pub(super) fn record(&self, service: &str, node: &str) -> String {
        format!("{}breaker:{service}:{node}", self.prefix)
    }

    /// The key of a text that is another one whenever a node has told something new about a
    /// service.
    #[must_use]
    pub(super) fn turn(&self, service: &str) -> String {
        format!("{}breakers:{service}:turn", self.prefix)
    }

    /// The key of the set of nodes that say something about a service.
    #[must_use]
    pub(super) fn nodes(&self, service: &str) -> String {
        format!("{}breakers:{service}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variant(dc: &str, tag: &str, also: &str) -> Variant {
        Variant { dc: Some(dc.into()), tag: Some(tag.into()), also: Some(also.into()) }
    }

    fn entry(name: &str, dc: &str, tag: &str) -> Entry {
        Entry::new(name, &variant(dc, tag, "")).unwrap()
    }

    fn keys(prefix: &str) -> Keys {
        Keys::of(prefix, "p").unwrap()
    }

    #[test]
    fn case_003_20_the_key_has_name_dc_and_tag() {
        let keys = keys("origin:");
        for (dc, tag, key) in [
            ("", "", "origin:service:discovery:web"),
            ("dc1", "", "origin:service:discovery:web:dc1:none"),
            ("", "dc1", "origin:service:discovery:web:none:dc1"),
            ("none", "", "origin:service:discovery:web:%6Eone:none"),
            ("a:b", "", "origin:service:discovery:web:a%3Ab:none"),
            ("a", "b:none", "origin:service:discovery:web:a:b%3Anone"),
            ("%6Eone", "ü", "origin:service:discovery:web:%256Eone:%C3%BC"),
        ] {
            assert_eq!(keys.value(&entry("web", dc, tag)), key);
        }
    }

    #[test]
    fn names_that_could_alias_are_refused() {
        for name in ["", "a:b", "a b", "../x", "ü", &"a".repeat(129), "a\n", ".a", "a%3Ab"] {
            assert!(
                matches!(Entry::new(name, &Variant::default()), Err(BadEntry::Name(_))),
                "{name}"
            );
        }
        let long = variant("", &"t".repeat(257), "");
        let refused = Entry::new("a", &long).unwrap_err();
        assert_eq!(refused, BadEntry::TooLong { part: "tag", bytes: 257 });
    }

    #[test]
    fn case_004_85_prefixes_that_could_reach_into_another_namespace_are_refused() {
        for prefix in [
            "",
            ":",
            "origin",
            "a::",
            ":a:",
            "a b:",
            "ü:",
            "a*:",
            "x:service:discovery:",
            "service:",
            "breaker:",
            "a:breakers:",
            &format!("{}:", "a".repeat(128)),
        ] {
            let refused = Keys::of(prefix, "redis.prefix").unwrap_err();
            assert_eq!(refused.field, "redis.prefix", "{prefix}");
        }
        for prefix in ["origin:", "datapunk:", "team-1:prod:", "A.b_c:"] {
            assert!(Keys::of(prefix, "p").is_ok(), "{prefix}");
        }
    }

    #[test]
    fn what_is_no_member_of_an_index_is_not_taken_for_one() {
        let name: Arc<str> = "web".into();
        for member in [
            &b""[..],
            b"a",
            b"a:",
            b":",
            b"none:none",
            b"a:b:c:d",
            b"a:b:none",
            b"a*:b",
            b"\xff:a",
            b"%ff:a",
            b"%61:b",
            b"a%3ab:c",
            b"../x:y",
            b"%6eone:a",
            &[b'a'; 5_000],
        ] {
            assert_eq!(
                Entry::of_member(&name, member),
                None,
                "{:?}",
                String::from_utf8_lossy(member)
            );
        }
    }

    /// Few and nasty, so that two of them often are the same, or nearly.
    fn part() -> impl Strategy<Value = String> {
        let nasty =
            ["", NONE, "%6Eone", "a", ":", "a:b", "b", "none:none", "a:none"].map(str::to_owned);
        prop_oneof![9 => proptest::sample::select(nasty.to_vec()), 1 => "\\PC{0,8}"]
    }

    fn prefix() -> impl Strategy<Value = String> {
        proptest::sample::select(vec![
            "a:",
            "b:",
            "a:b:",
            "a:b:web:",
            "a:discovery:",
            "a:variants:",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        /// Different entries, indexes and namespaces have different keys; all of them are below
        /// their prefix; a member of an index stands for exactly its entry.
        #[test]
        fn no_two_share_a_key(
            one in (prefix(), "(web|discovery|variants|none|a)", part(), part(), part()),
            other in (prefix(), "(web|discovery|variants|none|a)", part(), part(), part()), field in 0..6_u8,
        ) {
            // Alike but for one field.
            let mut two = one.clone();
            match field {
                0 => two.0 = other.0,
                1 => two.1 = other.1,
                2 => two.2 = other.2,
                3 => two.3 = other.3,
                4 => two.4 = other.4,
                _ => two = other,
            }
            let all = |(prefix, name, dc, tag, also): &(String, String, String, String, String)| {
                let keys = keys(prefix);
                let entry = Entry::new(name, &variant(dc, tag, also)).unwrap();
                let texts = [keys.value(&entry), keys.index(&entry), keys.record(name, "n"), keys.nodes(name)];
                (prefix.clone(), entry, texts)
            };
            let raw = |(_, name, dc, tag, also): &(String, String, String, String, String)| [name.clone(), dc.clone(), tag.clone(), also.clone()];
            let (raw_one, raw_two) = (raw(&one), raw(&two));
            let (prefix_one, entry_one, one) = all(&one);
            let (prefix_two, entry_two, two) = all(&two);
            for (n, a) in one.iter().enumerate() {
                prop_assert!(a.starts_with(&prefix_one));
                for (m, b) in two.iter().enumerate() {
                    let same = n == m && prefix_one == prefix_two && match n {
                        // By what was asked for, not by what was made of it.
                        0 => raw_one == raw_two,
                        _ => entry_one.name == entry_two.name,
                    };
                    prop_assert_eq!(a == b, same, "{} {}", a, b);
                }
            }
            if !entry_one.is_plain() {
                let again = Entry::of_member(entry_one.name(), entry_one.member().as_bytes());
                prop_assert_eq!(again, Some(entry_one));
            }
        }

        #[test]
        fn any_member_is_survived(member in proptest::collection::vec(any::<u8>(), 0..40)) {
            let name: Arc<str> = "web".into();
            if let Some(entry) = Entry::of_member(&name, &member) {
                prop_assert_eq!(entry.member().as_bytes(), &member[..]);
            }
        }
    }
}
