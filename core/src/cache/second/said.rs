//! What the second level tells: numbers, why there is no answer, what is worth a line in a log.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::answer::BadRecord;
use crate::redis::link::{Change, Failure, Skip};

/// What the second level counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counts {
    /// Answers found and believed, expired ones included.
    pub hits: u64,
    /// Nothing there.
    pub misses: u64,
    /// Something there that was not believed.
    pub garbage: u64,
    /// Exchanges that failed.
    pub errors: u64,
    /// Not asked, or not believed, because Redis was failing, something was being deleted, or the
    /// call had no time.
    pub skipped: u64,
    /// Answers written.
    pub stored: u64,
    /// Answers that could not be written, or had to give way to others.
    pub store_errors: u64,
    /// Deletions that are through.
    pub purged: u64,
    /// Deletions that wait.
    pub purging: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The call has too little time left to ask.
    NoTime,
    /// Redis is being left alone.
    Skipped(Skip),
    /// What is there may be from before an invalidation.
    Invalidated,
    /// Nothing is there.
    Absent,
    /// It is not believed.
    Mistrusted(BadRecord),
    /// The exchange failed.
    Failed(Failure),
    /// The driver gave it up.
    Dropped,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::NoTime => f.write_str("the call has no time to ask"),
            Miss::Skipped(skip) => skip.fmt(f),
            Miss::Invalidated => f.write_str("what is there may be from before an invalidation"),
            Miss::Absent => f.write_str("nothing is there"),
            Miss::Mistrusted(why) => write!(f, "what is there is not believed: {why}"),
            Miss::Failed(why) => write!(f, "redis failed: {why}"),
            Miss::Dropped => f.write_str("the lookup was given up"),
        }
    }
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// An outage of Redis began or ended.
    Link(Change),
    /// An answer is not believed. A warning, at most one a minute.
    Mistrusted {
        /// Why, without any of its content.
        why: Arc<str>,
        /// Answers not believed since the warning before, this one included.
        times: u64,
    },
    /// The server takes no writes, or not these. A warning, once until a write succeeds.
    WriteRefused {
        /// The first word of its message.
        word: Arc<str>,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Link(change) => write!(f, "shared answers: {change}"),
            Trouble::Mistrusted { why, times } => {
                write!(f, "an answer in redis is not believed ({times} times): {why}")
            }
            Trouble::WriteRefused { word } => {
                write!(f, "redis takes no answers or deletions: {word}")
            }
        }
    }
}

/// What invalidation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Invalidated {
    /// Entries removed in this program.
    pub local: u32,
    /// What was done in Redis; `None` without a second level.
    pub shared: Option<Purged>,
}

/// What a deletion in Redis came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purged {
    /// It is through: so many entries are gone.
    Removed(u64),
    /// Redis is away or refuses. It is deleted when it is back, and until then this client
    /// believes nothing of it; other programs do.
    Later,
}
