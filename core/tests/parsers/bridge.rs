//! Answers of the services of the bridge. Each is given to every operation.

use std::fmt::Debug;

use origin_core::ops::bridge::envelope::{Data, Word, read};
use origin_core::ops::bridge::{
    Batch, Hash, Health, Intelligence, Knowledge, Problem, Seen, Stamp, Validation,
};
use origin_core::said::Said;

use super::{Verdict, in_proportion, judged};

fn tried<T: Data + Debug>(bytes: &[u8]) -> Verdict {
    let read = read::<T>(bytes, &[Word::Success, Word::Partial]);
    if let Ok((data, word)) = &read {
        assert!(matches!(word, Word::Success | Word::Partial));
        in_proportion(format!("{data:?}").len(), bytes);
    }
    judged(&read, bytes)
}

/// Read by any of the operations that have an envelope.
pub(super) fn answer(_: &str, bytes: &[u8]) -> Verdict {
    let verdicts = [
        tried::<Hash>(bytes),
        tried::<Stamp>(bytes),
        tried::<Validation>(bytes),
        tried::<Batch>(bytes),
        tried::<Intelligence>(bytes),
        tried::<Knowledge>(bytes),
        tried::<Seen>(bytes),
    ];
    let health = Health::read(bytes);
    let _ = judged(&health, bytes);
    let _ = health.is_ok_and(|health| health.is(&Default::default()) | health.is_ready());
    let problems = Problem::all(&Said::of(&bytes::Bytes::copy_from_slice(bytes)));
    assert!(problems.len() <= 100 && !format!("{problems:?}").contains("hunter2"));
    verdicts.iter().find(|verdict| verdict.is_ok()).unwrap_or(&verdicts[0]).clone()
}
