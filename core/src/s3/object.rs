//! What is known of an object, and what can be asked of one: entity tags, ranges, conditions.
//! Names are checked here too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use super::date;
use crate::time::Wall;

const META: &str = "x-amz-meta-";
/// Longest key, in bytes of UTF-8.
pub const LONGEST_KEY: usize = 1024;
const LONGEST_BUCKET: usize = 255;
/// Most bytes of names and values of metadata; what S3 takes.
const MOST_METADATA: usize = 2048;

/// An entity tag, with its quotes: what an object is told apart by from the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ETag(Arc<str>);

impl ETag {
    /// A tag as a header has it; quotes are put around one that has none. `None`: it is none, or
    /// longer than 1 KiB.
    #[must_use]
    pub fn new(text: &str) -> Option<ETag> {
        let (weak, tag) = match text.trim().strip_prefix("W/") {
            Some(tag) => ("W/", tag),
            None => ("", text.trim()),
        };
        let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        let fine = |c: u8| c.is_ascii_graphic() && c != b'"';
        let sound = (1..=1024).contains(&inner.len()) && inner.bytes().all(fine);
        sound.then(|| ETag(format!("{weak}\"{inner}\"").into()))
    }

    /// The text, with quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names the bytes, and not just something like them: only then can parts of two
    /// answers be put together.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        !self.0.starts_with("W/")
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ETag {
    type Error = &'static str;
    fn try_from(text: String) -> Result<ETag, &'static str> {
        ETag::new(&text).ok_or("not an entity tag")
    }
}

impl From<ETag> for String {
    fn from(tag: ETag) -> String {
        tag.as_str().to_owned()
    }
}

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ByteRange {
    /// From this byte to the end.
    From(u64),
    /// From this byte to that one, both included.
    Between(u64, u64),
    /// So many bytes from the end.
    Last(u64),
}

impl ByteRange {
    /// Whether it holds at least a byte, as far as can be told without the object.
    #[must_use]
    pub fn is_sound(self) -> bool {
        match self {
            ByteRange::From(_) => true,
            ByteRange::Between(from, to) => from <= to,
            ByteRange::Last(count) => count > 0,
        }
    }
}

impl fmt::Display for ByteRange {
    /// The value of a `Range` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ByteRange::From(from) => write!(f, "bytes={from}-"),
            ByteRange::Between(from, to) => write!(f, "bytes={from}-{to}"),
            ByteRange::Last(count) => write!(f, "bytes=-{count}"),
        }
    }
}

/// `Content-Range`: which part of an object an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// Its first byte.
    pub from: u64,
    /// Its last byte.
    pub to: u64,
    /// The size of the whole object, where it is told.
    pub total: Option<u64>,
}

impl Part {
    /// Reads `bytes 0-9/443`. `None`: it is none, or contradicts itself.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Part> {
        let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim();
        let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (number(from)?, number(to)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let sound = from <= to && to < u64::MAX && total.is_none_or(|total| to < total);
        sound.then_some(Part { from, to, total })
    }

    /// How many bytes it has.
    pub(crate) fn size(self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// What storage tells of an object beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its entity tag.
    pub etag: Option<ETag>,
    /// Its size in bytes; of the whole object, also when a part was asked for.
    pub size: Option<u64>,
    /// Its media type.
    pub content_type: Option<String>,
    /// When it was written.
    pub modified: Option<Wall>,
    /// Which version it is, where the bucket has versions.
    pub version: Option<String>,
    /// What was written with it, names in lower case.
    pub metadata: BTreeMap<String, String>,
}

impl Info {
    /// What the headers of an answer tell. What cannot be read is not told.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Info {
        let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let metadata = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(META).filter(|name| !name.is_empty())?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        });
        let size = match headers.contains_key(CONTENT_RANGE) {
            true => Part::of(headers).and_then(|part| part.total),
            false => text(&CONTENT_LENGTH).and_then(number),
        };
        Info {
            etag: text(&ETAG).and_then(ETag::new),
            size,
            content_type: text(&CONTENT_TYPE).map(str::to_owned),
            modified: text(&LAST_MODIFIED).and_then(date::http),
            version: text(&HeaderName::from_static("x-amz-version-id")).map(str::to_owned),
            metadata: metadata.collect(),
        }
    }
}

/// Checks the name of a bucket and makes its path: `/bucket`.
///
/// Looser than what buckets can be called on any one system, but nothing that could be taken for
/// another path.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn bucket_path(bucket: &str) -> Result<String, &'static str> {
    if bucket.is_empty() {
        return Err("the bucket must not be empty");
    }
    if bucket.len() > LONGEST_BUCKET {
        return Err("the bucket is longer than 255 bytes");
    }
    if bucket == "." || bucket == ".." || bucket.contains(['/', '\\']) {
        return Err("the bucket is a path; it must be a name");
    }
    if bucket.chars().any(char::is_control) {
        return Err("the bucket contains control characters");
    }
    Ok(format!("/{}", crate::ops::segment(bucket)))
}

/// Checks the names of a bucket and an object and makes their path: `/bucket/key`.
///
/// A key may be nearly anything, and arrives as it is. Segments `.` and `..` are refused: storage
/// that keeps objects in folders refuses them too (MinIO), and proxies resolve them, also when
/// they are percent-encoded (RFC 3986 §6.2.2.2), which would lead to another bucket.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn object_path(bucket: &str, key: &str) -> Result<String, &'static str> {
    let bucket = bucket_path(bucket)?;
    if key.is_empty() {
        return Err("the key must not be empty");
    }
    if key.len() > LONGEST_KEY {
        return Err("the key is longer than 1024 bytes");
    }
    if key.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("the key has a segment '.' or '..', which would be taken for a folder");
    }
    Ok(format!("{bucket}/{}", crate::ops::segments(key)))
}

/// Checks metadata and yields it as headers.
///
/// # Errors
/// What is wrong with it, without its values.
pub(crate) fn metadata(
    of: &BTreeMap<String, String>,
) -> Result<Vec<(HeaderName, http::HeaderValue)>, &'static str> {
    let size: usize = of.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MOST_METADATA {
        return Err("the metadata has more than 2048 bytes");
    }
    let header = |(name, value): (&String, &String)| {
        let name = HeaderName::try_from(format!("{META}{name}"))
            .map_err(|_| "a name of the metadata cannot be part of a header name")?;
        if name.as_str().len() == META.len() {
            return Err("a name of the metadata is empty");
        }
        if !value.bytes().all(|c| (b' '..=b'~').contains(&c)) {
            return Err("a value of the metadata is not printable ASCII");
        }
        // A signature is made over the value without them (AWS, MinIO) or with them (others).
        if value.contains("  ") || value.trim() != value {
            return Err("a value of the metadata has spaces at an end, or several in a row");
        }
        let value = http::HeaderValue::from_str(value).map_err(|_| "a value cannot be sent")?;
        Ok((name, value))
    };
    of.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn entity_tags() {
        let text = |tag: &str| ETag::new(tag).map(|tag| tag.to_string());
        assert_eq!(text("\"abc-2\"").as_deref(), Some("\"abc-2\""));
        assert_eq!(text(" abc ").as_deref(), Some("\"abc\""));
        assert_eq!(text("W/\"a\"").as_deref(), Some("W/\"a\""));
        assert!(!ETag::new("W/\"a\"").unwrap().is_strong() && ETag::new("a").unwrap().is_strong());
        for bad in ["", "\"\"", "a\"b", "a b", "ä", "a\r\nb", &"x".repeat(1025)] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    #[test]
    fn content_ranges() {
        let part = |text| Part::of(&headers(&[("content-range", text)]));
        let total = Some(443);
        assert_eq!(part("bytes 21-42/443"), Some(Part { from: 21, to: 42, total }));
        assert_eq!(part("bytes 0-0/*"), Some(Part { from: 0, to: 0, total: None }));
        for bad in [
            "",
            "bytes",
            "bytes */443",
            "bytes 5-4/443",
            "bytes 0-443/443",
            "items 0-1/2",
            "bytes -1-2/3",
            "bytes +1-2/3",
            "bytes 0-18446744073709551615/*",
            "bytes 0-1",
        ] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers_tell_of_an_object() {
        let info = Info::of(&headers(&[
            ("etag", "\"e\""),
            ("content-length", "10"),
            ("content-range", "bytes 0-9/443"),
            ("last-modified", "Fri, 24 May 2013 00:00:00 GMT"),
            ("content-type", "text/plain"),
            ("x-amz-version-id", "v1"),
            ("x-amz-meta-color", "blue"),
        ]));
        assert_eq!((info.size, info.modified), (Some(443), Some(Wall(1_369_353_600))));
        assert_eq!(info.metadata.get("color").map(String::as_str), Some("blue"));
        let info = Info::of(&headers(&[("content-length", "10"), ("etag", "a b")]));
        assert_eq!((info.size, info.etag), (Some(10), None));
        assert_eq!(Info::of(&HeaderMap::new()), Info::default());
    }

    #[test]
    fn names_are_sent_safely_or_not_at_all() {
        let path = |bucket: &str, key: &str| object_path(bucket, key);
        assert_eq!(path("b", "a b/ü/%2F?#+..x").unwrap(), "/b/a%20b/%C3%BC/%252F%3F%23%2B..x");
        assert_eq!(path("b", "/a//b/").unwrap(), "/b//a//b/");
        assert_eq!(path("..b", "...").unwrap(), "/..b/...");
        assert!(path("b", &"ü".repeat(512)).is_ok());
        let long = "k".repeat(1025);
        for key in ["", ".", "..", "a/../b", "./a", "a/..", &long, &"ü".repeat(513)] {
            assert!(path("b", key).is_err(), "{key}");
        }
        for bucket in ["", ".", "..", "a/b", "a\\b", "a\nb", &"b".repeat(256)] {
            assert!(path(bucket, "k").is_err(), "{bucket}");
        }
    }

    #[test]
    fn metadata_is_checked() {
        let of = |name: &str, value: &str| {
            metadata(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(of("Color", "dark blue").unwrap()[0].0, "x-amz-meta-color");
        assert!(of("", "x").is_err() && of("a b", "x").is_err() && of("a", "x\r\ny").is_err());
        assert!(of("a", "b  c").is_err() && of("a", " b").is_err());
        assert!(of("a", "ü").is_err() && of("a", &"x".repeat(2048)).is_err());
    }

    proptest! {
        #[test]
        fn any_header_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut map = HeaderMap::new();
            for name in [ETAG, CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED] {
                map.insert(name, value.clone());
            }
            let _ = (Info::of(&map), Part::of(&map));
        }

        /// No name leaves its place: the path decodes to bucket and key, and no part of it is dots.
        #[test]
        fn any_name_stays_in_its_bucket(bucket in ".{0,20}", key in ".{0,40}") {
            let Ok(path) = object_path(&bucket, &key) else { return Ok(()) };
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(&path).collect();
            prop_assert_eq!(decoded, format!("/{bucket}/{key}").into_bytes());
            prop_assert!(path.parse::<http::uri::PathAndQuery>().unwrap().query().is_none());
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }
}
