//! Domain names as they are on the wire (RFC 1035 §3.1, §4.1.4): reading them out of a message
//! without ever running in circles, and making them of text. Which name a service has is in
//! [`super::form`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::BadMessage;

/// Longest name on the wire, the root at its end included.
const MOST_BYTES: usize = 255;
/// Longest label.
const MOST_LABEL: usize = 63;
/// A name has at most 127 labels, and nobody needs more than one pointer behind each.
const MOST_HOPS: u32 = 127;
/// Nothing can be pointed at in front of this.
const HEADER: usize = 12;

/// A domain name, in lower case: names are the same in either case (RFC 4343).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Name(Arc<[u8]>);

/// Why a text is not a name that can be asked for.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum BadName {
    /// It is empty, or has an empty label.
    #[error("it has an empty label")]
    Empty,
    /// A label is too long.
    #[error("a label has {0} characters, more than 63")]
    LongLabel(u32),
    /// It is too long.
    #[error("it has more than 253 characters")]
    Long,
    /// A label has a character other than letters, digits, `-` and `_`, or `-` at an end.
    #[error("a label consists of letters, digits and '_', with '-' only inside")]
    Character,
    /// It ends in the domain of Consul and is none of its forms.
    #[error("it is neither service.service.datacenter.domain nor service.datacenter.domain")]
    NotConsul,
}

/// Whether `label` can stand in a name that is asked for. Underscores are no part of host names,
/// but Consul answers for services that have them, and RFC 2782 puts them in front.
///
/// # Errors
/// [`BadName`].
pub(super) fn check_label(label: &str) -> Result<(), BadName> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if label.is_empty() {
        return Err(BadName::Empty);
    }
    if !label.bytes().all(fine) || label.starts_with('-') || label.ends_with('-') {
        return Err(BadName::Character);
    }
    if label.len() > MOST_LABEL {
        return Err(BadName::LongLabel(u32::try_from(label.len()).unwrap_or(u32::MAX)));
    }
    Ok(())
}

impl Name {
    /// Reads `a.b.c`, with or without a dot at the end.
    ///
    /// # Errors
    /// [`BadName`]; the root alone is refused as well.
    pub fn parse(text: &str) -> Result<Name, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > MOST_BYTES - 2 {
            return Err(BadName::Long);
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            check_label(label)?;
            wire.push(u8::try_from(label.len()).unwrap_or(0));
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        Ok(Name(wire.into()))
    }

    /// The name at `at` of a message, and where it ends. Until its first pointer it must lie in
    /// front of `end`.
    pub(super) fn read(bytes: &[u8], at: usize, end: usize) -> Result<(Name, usize), BadMessage> {
        let (mut wire, mut length) = ([0_u8; MOST_BYTES], 0);
        let next = walk(bytes, at, end, |part| {
            for (to, from) in wire[length..].iter_mut().zip(part) {
                *to = from.to_ascii_lowercase();
            }
            length += part.len();
        })?;
        // Lengths are below `b'A'`, so that lowering them too changes nothing.
        Ok((Name(wire.get(..length).unwrap_or(&[0]).into()), next))
    }

    /// Where the name at `at` of a message ends, read as [`Name::read`] does.
    pub(super) fn skip(bytes: &[u8], at: usize, end: usize) -> Result<usize, BadMessage> {
        walk(bytes, at, end, |_| {})
    }

    /// Whether the name at `at` of a message, which has been read before, is this one.
    pub(super) fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let (mut rest, mut same) = (&*self.0, true);
        let read = walk(bytes, at, bytes.len(), |part| match rest.split_at_checked(part.len()) {
            Some((front, back)) if front.eq_ignore_ascii_case(part) => rest = back,
            _ => same = false,
        });
        same && read.is_ok() && rest.is_empty()
    }

    /// Whether this is the root, which as the target of an SRV record means "not here".
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The name on the wire.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Its labels.
    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(usize::from(*length))?;
            rest = tail;
            Some(label).filter(|label| !label.is_empty())
        })
    }

    /// Its text without a dot at the end, if it can stand in a URL.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let fine = |label: &[u8]| std::str::from_utf8(label).is_ok_and(|l| check_label(l).is_ok());
        (!self.is_root() && self.labels().all(fine)).then(|| self.to_string())
    }
}

/// Goes through the name at `at`, handing each length-and-label to `part`, the root last.
/// Pointers must lead backwards, to before where the present stretch began: so it always ends.
fn walk(
    bytes: &[u8],
    at: usize,
    end: usize,
    mut part: impl FnMut(&[u8]),
) -> Result<usize, BadMessage> {
    let (mut at, mut begun, mut end) = (at, at, end.min(bytes.len()));
    let (mut total, mut hops, mut after) = (0, 0, None);
    loop {
        let length = *bytes[..end].get(at).ok_or(BadMessage::Short)?;
        if length & 0xc0 == 0xc0 {
            let low = *bytes[..end].get(at + 1).ok_or(BadMessage::Short)?;
            let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
            after = after.or(Some(at + 2));
            hops += 1;
            if to >= begun || to < HEADER || hops > MOST_HOPS {
                return Err(BadMessage::Name);
            }
            (at, begun, end) = (to, to, bytes.len());
            continue;
        }
        let length = usize::from(length);
        total += length + 1;
        // Lengths of 64 and more are kinds of labels that never came to be (RFC 6891 §5).
        if length > MOST_LABEL || total > MOST_BYTES {
            return Err(BadMessage::Name);
        }
        part(bytes[..end].get(at..=at + length).ok_or(BadMessage::Short)?);
        at += length + 1;
        if length == 0 {
            return Ok(after.unwrap_or(at));
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Vec<u8> {
        name.0.to_vec()
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = BadMessage;
    fn try_from(wire: Vec<u8>) -> Result<Name, BadMessage> {
        match Name::read(&wire, 0, wire.len())? {
            (name, end) if end == wire.len() && name.0.len() == end => Ok(name),
            _ => Err(BadMessage::Name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], at: usize) -> Result<(String, usize), BadMessage> {
        Name::read(bytes, at, bytes.len()).map(|(name, end)| (name.to_string(), end))
    }

    #[test]
    fn texts_become_names_or_say_why_not() {
        let name = Name::parse("_Web._tcp.Example.").unwrap();
        assert_eq!(name.wire(), b"\x04_web\x04_tcp\x07example\x00");
        assert_eq!(
            (name.to_string(), name.host()),
            ("_web._tcp.example".into(), Some("_web._tcp.example".into()))
        );
        let long = "a".repeat(64);
        for (text, why) in [
            ("", BadName::Empty),
            (".", BadName::Empty),
            ("a..b", BadName::Empty),
            (".a", BadName::Empty),
            (&long, BadName::LongLabel(64)),
            ("a b", BadName::Character),
            ("-a", BadName::Character),
            ("a-", BadName::Character),
            ("ä", BadName::Character),
            ("a/b", BadName::Character),
            (&"a.".repeat(128), BadName::Long),
        ] {
            assert_eq!(Name::parse(text), Err(why), "{text}");
        }
        assert_eq!(Name::parse(&"a.".repeat(127)).unwrap().wire().len(), 255);
        assert!(Name::parse(&format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61))).is_ok());
    }

    /// RFC 1035 §4.1.4, its own example moved to behind a header.
    #[test]
    fn pointers_are_followed_backwards_only() {
        let mut bytes = vec![0; 12];
        bytes.extend(b"\x01F\x03ISI\x04ARPA\x00"); // 12
        bytes.extend(b"\x03FOO\xc0\x0c"); // 24
        bytes.extend(b"\xc0\x12"); // 30
        bytes.extend(b"\x00"); // 32
        assert_eq!(read(&bytes, 24), Ok(("foo.f.isi.arpa".into(), 30)));
        assert_eq!(read(&bytes, 30), Ok(("arpa".into(), 32)));
        assert_eq!(read(&bytes, 32), Ok((".".into(), 33)));
        for (hostile, why) in [
            (&b"\xc0\x0c"[..], BadMessage::Name),    // itself
            (b"\x01a\xc0\x0c", BadMessage::Name),    // a circle
            (b"\xc0\x0e\xc0\x0c", BadMessage::Name), // two that point at each other
            (b"\xc0\x00", BadMessage::Name),         // into the header
            (b"\xc0\x20\x00", BadMessage::Name),     // forwards
            (b"\x40a", BadMessage::Name),
            (b"\x80a", BadMessage::Name),
            (b"\xc0", BadMessage::Short),
            (b"\x05abc", BadMessage::Short),
            (b"\x01a", BadMessage::Short),
            (b"", BadMessage::Short),
        ] {
            let bytes = [&[0; 12], hostile].concat();
            assert_eq!(read(&bytes, 12), Err(why), "{hostile:x?}");
        }
    }

    #[test]
    fn the_longest_names_and_chains_are_bounded() {
        let name = |labels: usize| [&[0; 12][..], &b"\x01a".repeat(labels), b"\x00"].concat();
        assert!(read(&name(127), 12).is_ok());
        assert_eq!(read(&name(128), 12), Err(BadMessage::Name));
        // Pointers to pointers add nothing to the length, so that they are counted.
        let chain = |count: usize| {
            let mut bytes = [&[0; 12][..], b"\x00\x00"].concat();
            for _ in 0..count {
                let to = u16::try_from(bytes.len() - 2).unwrap().max(12) | 0xc000;
                bytes.extend(to.to_be_bytes());
            }
            bytes
        };
        let (fine, over) = (chain(127), chain(128));
        assert!(read(&fine, fine.len() - 2).is_ok());
        assert_eq!(read(&over, over.len() - 2), Err(BadMessage::Name));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..310) {
            if let Ok((name, _)) = Name::read(&bytes, at, bytes.len()) {
                prop_assert!(name.wire().len() <= 255);
                prop_assert!(name.is_at(&bytes, at));
                prop_assert!(!name.to_string().is_empty());
                let back: Vec<u8> = name.clone().into();
                prop_assert_eq!(Name::try_from(back), Ok(name));
            }
        }

        #[test]
        fn any_text_is_survived_and_reads_back(text in "[a-zA-Z0-9_.-]{0,300}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(name.to_string(), text.trim_end_matches('.').to_lowercase());
                let mut other = vec![0; 12];
                other.extend(name.wire().to_ascii_uppercase());
                prop_assert!(name.is_at(&other, 12));
                other[13] ^= 1;
                prop_assert!(!name.is_at(&other, 12));
            }
        }
    }
}
