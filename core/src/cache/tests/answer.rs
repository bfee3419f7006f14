//! Records: what is written is read, and nothing else is.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use proptest::prelude::*;

use super::super::answer::{BadRecord, Record};
use super::*;
use crate::time::Wall;

const NOW: Wall = Wall(1_700_000_000);
const MOST: usize = 1 << 20;

fn record() -> Record {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    headers.append("x-b", HeaderValue::from_static("1"));
    headers.append("x-b", HeaderValue::from_bytes(&[0xff, 0x20]).unwrap());
    let mut answer = Answer::new(200, &headers, Bytes::from_static(b"the body"));
    answer.vary = vec![(HeaderName::from_static("accept"), Key::text("v"))];
    Record {
        key: Key::text("k"),
        created: Wall(NOW.0 - 10),
        expires: Wall(NOW.0 + 20),
        revalidate: None,
        on_error: Some(secs(60)),
        strict: false,
        negative: false,
        scope: Some("svc/a".into()),
        tags: vec!["t".into(), "ü".into()],
        answer,
    }
}

fn decode(bytes: &Bytes) -> Result<Record, BadRecord> {
    Record::decode(bytes, &Key::text("k"), NOW, MOST)
}

#[test]
fn there_and_back() {
    let bytes = record().encode().unwrap();
    assert_eq!(decode(&bytes), Ok(record()));
    let other = Record::decode(&bytes, &Key::text("j"), NOW, MOST);
    assert_eq!(other, Err(BadRecord::OtherKey));
    let long = Record::decode(&bytes, &Key::text("k"), NOW, bytes.len() - 1);
    assert_eq!(long, Err(BadRecord::TooLarge { bytes: bytes.len(), most: bytes.len() - 1 }));
    let mut newer = bytes.to_vec();
    newer[4] = 2;
    assert_eq!(decode(&newer.into()), Err(BadRecord::Version(2)));
    for garbage in [&b""[..], b"Org", b"{\"key\": 1}", b"\0\0\0\0\0\0\0\0"] {
        assert_eq!(decode(&Bytes::copy_from_slice(garbage)), Err(BadRecord::NotOurs));
    }
    assert_eq!(decode(&Bytes::from_static(b"OrgC")), Err(BadRecord::Damaged));
}

/// The debug form and the errors say nothing of what is kept.
#[test]
fn nothing_leaks() {
    let text = format!("{:?}", record());
    assert!(!text.contains("body\"") && !text.contains("text/plain") && !text.contains("the body"));
}

/// The form is frozen: other programs read it.
#[test]
fn the_form_is_frozen() {
    let mut small = record();
    small.answer = Answer::new(204, &HeaderMap::new(), Bytes::new());
    (small.scope, small.tags) = (None, vec![]);
    let bytes = small.encode().unwrap();
    assert_eq!(bytes.len(), 13 + 32 + 16 + 9 + 2 + 2 + 2 + 2 + 2 + 4);
    assert_eq!(&bytes[..5], b"OrgC\x01");
    assert_eq!(u64::from_le_bytes(bytes[5..13].try_into().unwrap()), 0xc1f2_a737_d747_d0b1);
}

/// 004-42…44: never longer than the original expiry, by whichever clock.
#[test]
fn it_never_lives_longer_than_there() {
    let record = record();
    let ttl = |wall| record.put(Wall(wall)).map(|put| put.ttl.unwrap().as_secs());
    // The second that has begun counts as over.
    assert_eq!(ttl(NOW.0), Some(19));
    assert_eq!(ttl(NOW.0 + 18), Some(1));
    assert_eq!(ttl(NOW.0 + 19), None);
    assert_eq!(ttl(NOW.0 - 500), Some(30), "a calendar that is behind gives it no more");
    assert_eq!(ttl(u64::MAX), None);
    let put = record.put(NOW).unwrap();
    assert_eq!((put.age, put.level), (secs(10), Level::Shared));
    let settings = Settings::default();
    let again = Record::of(record.key, &put, false, NOW, &settings).unwrap();
    assert_eq!((again.created, again.expires.0), (record.created, record.expires.0 - 1));
    let spent = Put { ttl: Some(Duration::from_millis(900)), ..put.clone() };
    assert_eq!(Record::of(record.key, &spent, false, NOW, &settings), None);
    let eternal = Put { ttl: Some(Duration::MAX), age: Duration::MAX, ..put };
    let eternal = Record::of(record.key, &eternal, false, NOW, &settings).unwrap();
    assert_eq!(eternal.expires.0 - eternal.created.0, 604_800);
    assert!(Record::decode(&eternal.encode().unwrap(), &record.key, NOW, MOST).is_ok());
}

/// Times that cannot be: from the future, over before they began, without end.
#[test]
fn impossible_times_are_refused() {
    let with = |created, expires| {
        let record = Record { created: Wall(created), expires: Wall(expires), ..record() };
        decode(&record.encode().unwrap()).is_ok()
    };
    assert!(with(NOW.0 + 60, NOW.0 + 70));
    assert!(!with(NOW.0 + 61, NOW.0 + 70));
    assert!(!with(NOW.0, NOW.0 - 1));
    assert!(with(NOW.0, NOW.0 + 604_800));
    assert!(!with(NOW.0, NOW.0 + 604_801));
    assert!(!with(0, u64::MAX));
}

#[test]
fn expired_there_and_still_of_use() {
    let settings = settings(|c| c.stale_if_breaker_open = secs(5));
    let record = record();
    let expired = Wall(NOW.0 + 24);
    let label = record.on_failure(expired, Reason::BreakerOpen, &settings).unwrap();
    assert_eq!((label.age, label.stale, label.level), (secs(34), secs(4), Level::Shared));
    assert!(record.on_failure(Wall(NOW.0 + 26), Reason::BreakerOpen, &settings).is_none());
    assert!(record.on_failure(Wall(NOW.0 + 80), Reason::Error, &settings).is_some(), "its own");
    assert!(record.on_failure(Wall(NOW.0 + 81), Reason::Error, &settings).is_none());
    assert!(record.on_failure(expired, Reason::BudgetEmpty, &settings).is_none());
    assert_eq!(record.keep_for(NOW, &settings), secs(80));
    let strict = Record { strict: true, ..record };
    assert!(strict.on_failure(expired, Reason::BreakerOpen, &settings).is_none());
    assert_eq!(strict.keep_for(NOW, &settings), secs(20));
}

/// The checksum of changed bytes, so that what is behind it is tested too.
fn resealed(mut bytes: Vec<u8>) -> Bytes {
    let sum =
        bytes.get(13..).unwrap_or(&[]).iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    if let Some(place) = bytes.get_mut(5..13) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    bytes.into()
}

proptest! {
    /// One changed byte anywhere is noticed; cut off anywhere as well.
    #[test]
    fn damage_is_noticed(at in 0_usize..400, change in 1_u8.., cut in 0_usize..400) {
        let bytes = record().encode().unwrap();
        let mut damaged = bytes.to_vec();
        let at = at % damaged.len();
        damaged[at] ^= change;
        prop_assert!(decode(&damaged.into()).is_err());
        prop_assert!(decode(&bytes.slice(..cut % bytes.len())).is_err());
    }

    /// With a right checksum, whatever is read is within bounds and can be written again.
    #[test]
    fn anything_is_survived(
        changes in proptest::collection::vec((0_usize..400, any::<u8>()), 0..6),
        cut in 0_usize..800,
        tail in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = record().encode().unwrap().to_vec();
        let length = bytes.len();
        for (at, byte) in changes {
            bytes[5 + at % (length - 5)] = byte;
        }
        bytes.truncate(cut.max(5));
        bytes.extend(tail);
        if let Ok(record) = decode(&resealed(bytes)) {
            prop_assert!(record.put(NOW).is_none_or(|put| put.ttl.unwrap() <= secs(604_800)));
            let again = record.encode().unwrap();
            prop_assert_eq!(decode(&again), Ok(record));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes.into());
    }
}
