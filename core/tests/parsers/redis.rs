//! Values that other nodes, or other programs, have put into Redis.

use std::collections::BTreeSet;

use origin_core::Wall;
use origin_core::redis::knowledge::record as of_record;
use origin_core::redis::resp::{self, Broken, Reader, parse};
use origin_core::redis::value::{self as of_value, Bounds, Unwritable};

use super::{Verdict, callable, in_proportion, judged};

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, instances: 100, foreign: true };

pub(super) fn value(_: &str, bytes: &[u8]) -> Verdict {
    let read = of_value::decode(bytes, "billing", &BOUNDS);
    // Whoever believes no other programs believes nothing more.
    let own = of_value::decode(bytes, "billing", &Bounds { foreign: false, ..BOUNDS });
    assert!(own.is_err() || own == read);
    if let Ok(decoded) = &read {
        assert!(decoded.instances.len() <= BOUNDS.instances);
        decoded.instances.iter().for_each(callable);
        in_proportion(format!("{decoded:?}").len(), bytes);
        let expires = decoded.expires.unwrap_or(Wall(7));
        match of_value::encode("billing", &decoded.instances, expires, &BOUNDS) {
            Ok(written) => {
                let again = of_value::decode(&written, "billing", &BOUNDS).unwrap();
                assert_eq!(again.instances, decoded.instances);
                assert_eq!(again.expires, (!again.instances.is_empty()).then_some(expires));
            }
            Err(e) => assert!(matches!(e, Unwritable::TooLarge { .. }), "{e}"),
        }
    }
    judged(&read, bytes)
}

pub(super) fn record(_: &str, bytes: &[u8]) -> Verdict {
    let read = of_record::decode(bytes, "billing", "node-1", 4);
    if let Ok(record) = &read {
        let endpoints: BTreeSet<u64> = record.open.iter().map(|(endpoint, _)| *endpoint).collect();
        assert!(endpoints.len() == record.open.len() && endpoints.len() <= 4);
        let written = of_record::encode("billing", "node-1", record);
        assert_eq!(of_record::decode(&written, "billing", "node-1", 4).as_ref(), Ok(record));
    }
    judged(&read, bytes)
}

/// Replies on the wire: in pieces it comes to the same as at once.
pub(super) fn reply(_: &str, bytes: &[u8]) -> Verdict {
    let read = parse(bytes);
    let mut reader = Reader::new(usize::MAX, resp::Bounds::default());
    let last = bytes.iter().map(|byte| reader.feed(&[*byte])).last();
    match (&read, last) {
        (_, None) => {}
        (Err(broken), Some(last)) if *broken != Broken::BrokenOff => assert_eq!(last, Err(*broken)),
        (Err(_), Some(last)) => assert_eq!(last, Ok(false)),
        (Ok(replies), Some(_)) => {
            in_proportion(format!("{replies:?}").len(), bytes);
            assert_eq!(&reader.into_replies(), replies);
        }
    }
    judged(&read, bytes)
}
