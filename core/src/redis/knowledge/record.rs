//! The text form of what one node says: `{v, service, node, expires, life_ms, open: {endpoint:
//! left_ms}}`. An endpoint is named by the frozen hash of its cluster and address, so that a record is small
//! and says nothing about the network.
//!
//! How long a word still counts is told by the clock of Redis alone: the record says with how much
//! life it was written and how much each word had left then, Redis how much of that life remains.
//! The calendar only has to agree roughly; a node whose clock is wrong is not heard.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::policy::balance::hash;
use crate::redis::value;
use crate::time::Wall;

/// Largest record read, in bytes.
pub const MOST_BYTES: usize = 32 << 10;
/// The version of the form.
pub const VERSION: u32 = 1;
/// Longest name of a node.
const MOST_NAME: usize = 64;

/// The name of an endpoint in records: the hash of its cluster and address. The same address in
/// two clusters is two endpoints, each with a breaker of its own.
#[must_use]
pub fn endpoint(cluster: &str, address: &str) -> u64 {
    // A line break can be in neither.
    hash::of([cluster, address].join("\n").as_bytes())
}

/// Whether `name` can name a node: 1–64 letters, digits, `-`, `_` and `.`.
#[must_use]
pub fn is_node(name: &str) -> bool {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(fine)
}

/// Why a record is not heard. Never repeats its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unheard {
    /// Larger than 32 KiB.
    #[error("it is larger than 32 KiB")]
    TooLarge,
    /// No record of this form.
    #[error("it is no record")]
    Shape,
    /// Of another version.
    #[error("it is of version {0}")]
    Version(u32),
    /// Under the name of another node, or about another service.
    #[error("it stands under another name than its own")]
    Name,
    /// More endpoints than are believed.
    #[error("it names {0} endpoints, more than max_endpoints")]
    TooMany(usize),
    /// Its key has no time to live, or more than it says.
    #[error("its time to live is not what it says")]
    Life,
    /// Its calendar differs from ours by more than the skew.
    #[error("its clock is wrong, or ours is")]
    Clock,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    v: u32,
    service: String,
    node: String,
    expires: Wall,
    life_ms: u64,
    #[serde(default)]
    open: Option<BTreeMap<String, u64>>,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its own calendar expiry.
    pub expires: Wall,
    /// The life it was written with, in milliseconds.
    pub life_ms: u64,
    /// Endpoints found bad, each with how long that was to count when it was written, in
    /// milliseconds.
    pub open: Vec<(u64, u64)>,
}

/// The record of `node` about `service`.
#[must_use]
pub fn encode(service: &str, node: &str, record: &Record) -> Bytes {
    let open = record.open.iter().map(|(endpoint, left)| (format!("{endpoint:016x}"), *left));
    let raw = Raw {
        v: VERSION,
        service: service.to_owned(),
        node: node.to_owned(),
        expires: record.expires,
        life_ms: record.life_ms,
        open: Some(open.collect()),
    };
    // A map with text keys and plain fields cannot fail to serialize.
    serde_json::to_vec(&raw).unwrap_or_default().into()
}

/// Reads what stands under the name of `node`, and nothing else is believed to be there.
///
/// # Errors
/// [`Unheard`].
pub fn decode(bytes: &[u8], service: &str, node: &str, most: usize) -> Result<Record, Unheard> {
    if bytes.len() > MOST_BYTES {
        return Err(Unheard::TooLarge);
    }
    #[derive(Deserialize)]
    struct VersionOnly {
        v: u32,
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(|_| {
        match serde_json::from_slice::<VersionOnly>(bytes) {
            Ok(only) if only.v != VERSION => Unheard::Version(only.v),
            _ => Unheard::Shape,
        }
    })?;
    if raw.v != VERSION {
        return Err(Unheard::Version(raw.v));
    }
    if raw.service != service || raw.node != node {
        return Err(Unheard::Name);
    }
    let named = raw.open.unwrap_or_default();
    if named.len() > most {
        return Err(Unheard::TooMany(named.len()));
    }
    let mut open = Vec::with_capacity(named.len());
    for (name, left) in named {
        let hex = |c: u8| c.is_ascii_digit() || matches!(c, b'a'..=b'f');
        let exact = name.len() == 16 && name.bytes().all(hex);
        let endpoint = u64::from_str_radix(&name, 16).ok().filter(|_| exact);
        open.push((endpoint.ok_or(Unheard::Shape)?, left));
    }
    Ok(Record { expires: raw.expires, life_ms: raw.life_ms, open })
}

/// What remains of a record that Redis keeps for another `left` milliseconds (−1: for ever), in
/// the same form: each word with what is left of it now.
///
/// # Errors
/// [`Unheard::Life`] and [`Unheard::Clock`].
pub fn aged(
    mut record: Record,
    left: i64,
    wall: Wall,
    settings: &Settings,
) -> Result<Record, Unheard> {
    let left = u64::try_from(left).map_err(|_| Unheard::Life)?;
    let most = settings.ttl / 1_000_000;
    if left > record.life_ms || record.life_ms > most {
        return Err(Unheard::Life);
    }
    let ttl = Duration::from_nanos(settings.ttl);
    value::remaining(record.expires, wall, ttl, settings.skew).map_err(|_| Unheard::Clock)?;
    let age = record.life_ms - left;
    record.life_ms = left;
    record.open.retain_mut(|(_, counts)| {
        *counts = counts.saturating_sub(age).min(left);
        *counts > 0
    });
    Ok(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::KnowledgeConfig;

    fn record(open: &[(u64, u64)]) -> Record {
        Record { expires: Wall(130), life_ms: 30_000, open: open.to_vec() }
    }

    fn settings() -> Settings {
        Settings::of(&KnowledgeConfig::default(), Duration::from_secs(5), "k").unwrap()
    }

    #[test]
    fn the_form() {
        let text = encode("web", "n1", &record(&[(255, 12_000)]));
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            r#"{"v":1,"service":"web","node":"n1","expires":130,"life_ms":30000,"open":{"00000000000000ff":12000}}"#
        );
        assert_eq!(decode(&text, "web", "n1", 1), Ok(record(&[(255, 12_000)])));
        assert_eq!(decode(&text, "web", "n2", 1), Err(Unheard::Name));
        assert_eq!(decode(&text, "wob", "n1", 1), Err(Unheard::Name));
        assert_eq!(decode(&text, "web", "n1", 0), Err(Unheard::TooMany(1)));
        let with = |from: &str, to: &str| {
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains(from));
            decode(text.replace(from, to).as_bytes(), "web", "n1", 9)
        };
        assert_eq!(with("{\"00000000000000ff\":12000}", "null"), Ok(record(&[])));
        assert_eq!(with("\"v\":1", "\"v\":2"), Err(Unheard::Version(2)));
        assert_eq!(with("\"life_ms\":30000", "\"life\":1,\"v\":1"), Err(Unheard::Shape));
        for name in
            ["ff", "00000000000000FF", "+0000000000000ff", "00000000000000fg", "000000000000000ff"]
        {
            assert_eq!(with("00000000000000ff", name), Err(Unheard::Shape), "{name}");
        }
        assert_eq!(with(":12000", ":-1"), Err(Unheard::Shape));
        assert_eq!(decode(b"{\"v\":7}", "web", "n1", 9), Err(Unheard::Version(7)));
        assert_eq!(decode(&[b' '; MOST_BYTES + 1], "web", "n1", 9), Err(Unheard::TooLarge));
        assert_eq!(decode(&b"[".repeat(30_000), "web", "n1", 9), Err(Unheard::Shape));
    }

    #[test]
    fn the_largest_record_that_is_written_can_be_read() {
        let open: Vec<(u64, u64)> = (0..512).map(|n| (u64::MAX - n, 3_600_000)).collect();
        let name = "n".repeat(MOST_NAME);
        let text = encode(
            &"s".repeat(128),
            &name,
            &Record { expires: Wall(u64::MAX), life_ms: u64::MAX, open },
        );
        assert!(text.len() < MOST_BYTES, "{}", text.len());
    }

    #[test]
    fn words_age_by_the_clock_of_redis() {
        let aged =
            |left, wall| aged(record(&[(1, 12_000), (2, 90_000)]), left, Wall(wall), &settings());
        assert_eq!(aged(30_000, 100).unwrap().open, [(1, 12_000), (2, 30_000)]);
        assert_eq!(aged(20_000, 110).unwrap().open, [(1, 2_000), (2, 20_000)]);
        assert_eq!(aged(18_000, 112).unwrap().open, [(2, 18_000)]);
        assert_eq!(aged(0, 130).unwrap().open, []);
        for left in [-1, -2, i64::MIN, 30_001, i64::MAX] {
            assert_eq!(aged(left, 100), Err(Unheard::Life), "{left}");
        }
        assert!(aged(1, 135).is_ok() && aged(30_000, 94).is_ok());
        assert_eq!(aged(1, 136), Err(Unheard::Clock));
        assert_eq!(aged(1, 93), Err(Unheard::Clock));
        let long = Record { life_ms: 30_001, ..record(&[]) };
        assert_eq!(super::aged(long, 1, Wall(100), &settings()), Err(Unheard::Life));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(open in proptest::collection::btree_map(any::<u64>(), any::<u64>(), 0..20), expires: u64, life_ms: u64) {
            let record = Record { expires: Wall(expires), life_ms, open: open.into_iter().collect() };
            prop_assert_eq!(decode(&encode("s", "n", &record), "s", "n", 20), Ok(record));
        }

        #[test]
        fn any_bytes_and_ages_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..99), left: i64, wall: u64, life_ms: u64, expires: u64, counts: u64) {
            let _ = decode(&bytes, "s", "n", 9);
            let record = Record { expires: Wall(expires), life_ms, open: vec![(1, counts)] };
            if let Ok(aged) = aged(record, left, Wall(wall), &settings()) {
                prop_assert!(aged.life_ms <= 30_000 && aged.open.iter().all(|(_, left)| *left <= aged.life_ms));
            }
        }
    }
}
