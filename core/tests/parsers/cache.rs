//! What the response cache reads: records that other programs have put into Redis, and the
//! `Cache-Control` of servers.

use bytes::Bytes;
use origin_core::Wall;
use origin_core::cache::Key;
use origin_core::cache::answer::Record;
use origin_core::cache::control::Control;

use super::{Verdict, in_proportion, judged};

pub(super) fn record(_: &str, bytes: &[u8]) -> Verdict {
    let own = Bytes::copy_from_slice(bytes);
    let read = Record::decode(&own, &Key::text("k"), Wall(1_700_000_000), 1 << 20);
    if let Ok(record) = &read {
        assert_eq!(record.encode().as_ref(), Some(&own), "there is one way to write it");
    }
    judged(&read, bytes)
}

/// Whatever it is, it is read: what cannot be understood counts as the stricter.
pub(super) fn control(_: &str, bytes: &[u8]) -> Verdict {
    let control = Control::parse(bytes);
    assert_eq!(control, Control::parse(bytes));
    in_proportion(format!("{control:?}").len(), bytes);
    Ok(())
}
