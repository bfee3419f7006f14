//! Remembering answers.
//!
//! A cache protects a peer from questions it has answered already, and the program from waiting
//! for them. What it must not do is change what an answer means, so everything here is bounded
//! and said: how old an answer may be, when a stale one may be used and why, how much is kept.
//!
//! One [`Store`] expresses what four kinds of clients want (a single value, a thousand entries of
//! which a fifth goes at once, least recently used, the local one of two levels). Its rules:
//!
//! - An answer is fresh for its time to live, counted from when it was stored (HTTP: from when it
//!   was made). Reading does not extend it.
//! - The windows of RFC 5861 are counted from the moment of staleness, which several caches get
//!   wrong. During `stale-while-revalidate` one caller fetches, everybody else is served.
//! - An answer past its freshness can still be better than none, and a client knows more reasons
//!   for that than a proxy: the breaker is open, the budget is empty, the deadline is about to
//!   pass, the peer fails. Each has its own bound and is off by default; what is served carries a
//!   [`Label`] with its age and the reason ([`Store::on_failure`]).
//! - Equal requests in flight are one: the first gets a [`Ticket`], which is a lease, so that a
//!   caller who vanishes hands over; the others wait ([`Flights`]).
//! - What was asked before an entry was invalidated is not stored after it, and an older answer
//!   never replaces a newer one, however long it took.
//!
//! Off (`enabled = false`), nothing is stored, found or counted, and every caller fetches.
//!
//! | file | what |
//! |---|---|
//! | `settings.rs` | the checked configuration |
//! | `store.rs`, `entry.rs` | looking up and storing; when an entry is fresh, stale or dead |
//! | `evict.rs`, `slab.rs`, `index.rs` | who leaves; where entries live and how they are found |
//! | `flight.rs` | equal requests in flight |
//! | `invalidate.rs` | by key, tag, path and prefix |
//! | `upkeep.rs`, `stats.rs`, `warm.rs` | clearing, sweeping, other settings; numbers; warming |
//! | `key.rs` | canonical keys |
//! | `wish.rs` | what one request says beside its headers |
//! | `control.rs`, `http.rs` | the headers of RFC 9111 |
//! | `answer.rs`, `shared.rs` | an answer as bytes, and the commands that keep it in Redis |
//! | `second.rs` | the second level: when Redis is asked, believed, written to and left alone |

pub mod answer;
pub mod control;
mod entry;
mod evict;
pub mod flight;
pub mod http;
mod index;
mod instead;
pub mod invalidate;
pub mod key;
pub mod second;
mod settings;
pub mod shared;
mod slab;
pub mod stats;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
pub mod warm;
mod wish;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use answer::Answer;
pub use entry::{MOST_TAGS, Put};
pub use flight::{Flights, Join, Progress, Ticket, Turn};
pub use invalidate::Target;
pub use key::Key;
pub use second::{Invalidated, Purged, SecondLevel};
pub use settings::Settings;
pub use stats::{MoreStats, StaleServed, Stats};
pub use store::Store;
pub use upkeep::Swept;
pub use warm::Warming;
pub use wish::Wish;

use crate::time::Rounded;

/// Why an answer from the cache may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is fresh.
    Fresh,
    /// It is stale, and somebody fetches a new one (RFC 5861 §3).
    Revalidating,
    /// It is stale, and the request says that it may be (`max-stale`).
    Asked,
    /// It is stale, and the peer failed or answered with a 5xx (RFC 5861 §4).
    Error,
    /// It is stale, and no breaker lets the call through.
    BreakerOpen,
    /// It is stale, and a budget or a limit has nothing left for the call.
    BudgetEmpty,
    /// It is stale, and the deadline is about to pass.
    DeadlineDying,
}

impl Reason {
    /// The reason in a few plain words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Fresh => "fresh",
            Reason::Revalidating => "used while it is revalidated",
            Reason::Asked => "used because the request allows it",
            Reason::Error => "used because the peer fails",
            Reason::BreakerOpen => "used because the breaker is open",
            Reason::BudgetEmpty => "used because the budget is empty",
            Reason::DeadlineDying => "used because the deadline is about to pass",
        }
    }
}

/// Where an answer was kept.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// In this program.
    #[default]
    Local,
    /// In Redis: read from there for this call, or earlier and kept here since.
    Shared,
}

/// What a caller is told of an answer from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Since it was made, as far as is known.
    pub age: Duration,
    /// How long it has been stale; zero when it is fresh.
    pub stale: Duration,
    /// Why it may be used.
    pub reason: Reason,
    /// Where it comes from.
    pub level: Level,
    /// It says that there is none.
    pub negative: bool,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from the cache, {} old", Rounded(self.age))?;
        if !self.stale.is_zero() {
            write!(f, ", stale for {}", Rounded(self.stale))?;
        }
        write!(f, ", {}", self.reason.text())
    }
}

/// What is found for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Lookup<'a, V> {
    /// A fresh answer.
    Fresh(&'a V, Label),
    /// A stale one that may be used. With a ticket, this caller has it fetched anew, besides;
    /// without, somebody else does or the request does not want it.
    Stale(&'a V, Label, Option<Ticket>),
    /// Nothing that may be used.
    Miss(Turn),
}

impl<'a, V> Lookup<'a, V> {
    /// What was found, and its label.
    #[must_use]
    pub fn found(&self) -> Option<(&'a V, Label)> {
        match self {
            Lookup::Fresh(value, label) | Lookup::Stale(value, label, _) => Some((value, *label)),
            Lookup::Miss(_) => None,
        }
    }
}

/// What a request wants of a cached answer (RFC 9111 §5.2.1). [`Wants::ANY`] for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wants {
    /// No older than this.
    pub max_age: Option<Duration>,
    /// Fresh for at least this long still.
    pub min_fresh: Duration,
    /// It may have been stale for this long.
    pub max_stale: Option<Duration>,
}

impl Wants {
    /// Whatever the cache finds good enough.
    pub const ANY: Wants = Wants { max_age: None, min_fresh: Duration::ZERO, max_stale: None };
}

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill<V> {
    /// An answer.
    Found(Put<V>),
    /// The answer that there is none: stored for `negative_ttl`, if that is set.
    Absent(Put<V>),
    /// An answer that must not be stored; what was stored before is outdated by it.
    Unstorable,
    /// No answer. What was stored before stays.
    Failed,
}

/// Why an answer was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotStored {
    /// The cache is off.
    Off,
    /// There was no answer.
    Failed,
    /// It said that there is none, and such answers are not stored.
    Negative,
    /// It must not be stored.
    Unstorable,
    /// It would be neither fresh nor usable when stale.
    NeverFresh,
    /// It was asked for before its key, tag or path was invalidated.
    Invalidated,
    /// A younger request was answered before it.
    Older,
    /// It has more tags than can be kept.
    TooManyTags,
    /// It is too heavy.
    TooLarge {
        /// Its weight in bytes.
        bytes: u64,
        /// `max_entry_bytes`.
        most: u64,
    },
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotStored::Off => "not stored: the cache is off",
            NotStored::Failed => "not stored: there was no answer",
            NotStored::Negative => "not stored: negative answers are not cached",
            NotStored::Unstorable => "not stored: the answer must not be",
            NotStored::NeverFresh => "not stored: it is never fresh",
            NotStored::Invalidated => "not stored: invalidated while it was fetched",
            NotStored::Older => "not stored: a younger answer is there already",
            NotStored::TooManyTags => "not stored: more tags than can be kept",
            NotStored::TooLarge { bytes, most } => {
                return write!(f, "not stored: {bytes} bytes, more than {most}");
            }
        })
    }
}

/// What came of storing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filled {
    /// Whether it was stored.
    pub stored: Result<(), NotStored>,
    /// Callers that wait for it and have to be woken; each then asks [`Store::progress`].
    pub waiting: u32,
}
