//! The queue of callers that wait for a slot or a permit.
//!
//! It turns a short excess of calls into a short wait instead of refusals, and must not turn a
//! long one into a long wait for everybody: a queue that stands is latency and nothing else, and
//! the calls that come out of it have no time left. So it is bounded three times:
//!
//! - in length: when it is full, a newcomer displaces the newest of a lower priority or is
//!   refused;
//! - by the caller's own deadline, after which its place is nobody's;
//! - in age. While the queue comes and goes a caller may wait `max_wait`. One that was not empty
//!   for `interval` stands, and then `target` is all there is. This is how Facebook runs CoDel on
//!   queues of requests ("Fail at Scale", ACM Queue 2015): the test is whether the queue has been
//!   empty lately, not how long the last one waited, and the measure is a shorter time-out, not a
//!   growing rate of drops. As in WeChat's DAGOR (SoCC 2018) priorities pay one after the other:
//!   the lowest after one `interval`, the next after two, critical ones after three.
//!
//! When the queue was last empty cannot change while somebody waits in it. How long a caller may
//! wait is therefore known when it enters, kept with it as a lease, and never recomputed. A caller
//! that was lost without a word blocks nobody for longer than its lease; its place counts towards
//! the length until it would be its turn, at most `max_wait`.
//!
//! Within a priority the order is that of arrival. Last in, first out serves more calls in time
//! once the queue stands, but with leases of `target` there is nothing left to reorder.
//!
//! Callers poll when they are woken and when their lease ends. Nothing takes longer in a long
//! line: a poll looks at the first places only. Off, nobody waits.

mod line;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::At;
use crate::config::{ConfigError, QueueConfig};
use crate::time::{Rounded, Time};
use line::{Entry, Line};

/// A checked [`QueueConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// 0 when off.
    capacity: u32,
    max_wait: Duration,
    target: Duration,
    interval: Duration,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &QueueConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("capacity", config.capacity, 1..=4_096)?;
        at.span("max_wait", config.max_wait)?;
        at.span("target", config.target)?;
        at.span("interval", config.interval)?;
        at.ordered(("target", config.target), ("max_wait", config.max_wait))?;
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &QueueConfig) -> Settings {
        Settings {
            capacity: if config.enabled { config.capacity.clamp(1, 4_096) } else { 0 },
            max_wait: config.max_wait,
            target: config.target.min(config.max_wait),
            interval: config.interval,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&QueueConfig::default())
    }
}

/// Who goes first, and who is shed first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Work that can be done later or not at all: prefetches, batches.
    Sheddable,
    /// Everything that says nothing about itself.
    #[default]
    Normal,
    /// Calls that a person waits for, or that others depend on.
    Critical,
}

const PRIORITIES: usize = 3;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Ticket {
    index: u32,
    serial: u32,
}

/// What a caller does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "turn")]
#[must_use]
pub enum Turn {
    /// It is its turn: it takes what it waited for, at once. Its ticket is used up.
    Go,
    /// It waits until it is woken, at most until then, and polls again.
    Wait {
        /// When its lease ends.
        until: Time,
    },
    /// It does not get in. Its ticket is used up.
    Shed {
        /// Why.
        reason: Shed,
    },
}

/// Why a caller does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "shed")]
pub enum Shed {
    /// There is no queue.
    Off,
    /// The queue is full of calls that matter as much or more.
    Full {
        /// Callers waiting.
        waiting: u32,
        /// Of at most.
        capacity: u32,
    },
    /// A call of this higher priority took the place.
    Displaced {
        /// The priority of the other.
        by: Priority,
    },
    /// The caller's own deadline.
    Deadline {
        /// How long it could wait.
        waited: Duration,
    },
    /// Waited for too long.
    Aged {
        /// How long it could wait.
        waited: Duration,
        /// The queue stood: `target` applied, not `max_wait`.
        standing: bool,
    },
    /// The ticket was used up before, or its end was so long ago that the reason is forgotten.
    Gone,
}

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shed::Off => write!(f, "nobody waits: the queue is off"),
            Shed::Full { waiting, capacity } => {
                write!(f, "queue full: {waiting} of {capacity} waiting")
            }
            Shed::Displaced { by } => {
                let by = match by {
                    Priority::Sheddable => "sheddable",
                    Priority::Normal => "normal",
                    Priority::Critical => "critical",
                };
                write!(f, "displaced in the queue by a {by} call")
            }
            Shed::Deadline { waited } => {
                write!(f, "deadline after {} in the queue", Rounded(*waited))
            }
            Shed::Aged { waited, standing: true } => {
                write!(f, "shed after {} in a queue that stands", Rounded(*waited))
            }
            Shed::Aged { waited, standing: false } => {
                write!(f, "shed after {} in the queue", Rounded(*waited))
            }
            Shed::Gone => write!(f, "not in the queue"),
        }
    }
}

/// The queue.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::QueueConfig;
/// use origin_core::policy::queue::{Priority, Settings, Shed, Turn, WaitQueue};
///
/// let config = QueueConfig { enabled: true, capacity: 2, ..QueueConfig::default() };
/// let settings = Settings::of(&config, "queue").unwrap();
/// let now = Time::from_millis(5_000);
/// let deadline = now.plus(Duration::from_secs(30));
/// let mut queue = WaitQueue::new(&settings);
/// let batch = queue.enter(now, Priority::Sheddable, deadline, &settings).unwrap();
/// let usual = queue.enter(now, Priority::Normal, deadline, &settings).unwrap();
/// let human = queue.enter(now, Priority::Critical, deadline, &settings).unwrap();
/// // The queue was full: the batch is out. One slot is free: it is for the one in front.
/// let displaced = Turn::Shed { reason: Shed::Displaced { by: Priority::Critical } };
/// assert_eq!(queue.poll(now, batch, 1), displaced);
/// assert!(matches!(queue.poll(now, usual, 1), Turn::Wait { .. }));
/// assert_eq!(queue.poll(now, human, 1), Turn::Go);
/// assert_eq!(queue.poll(now, usual, 1), Turn::Go);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WaitQueue {
    line: Line,
    /// Since when it has not been empty, while it is not.
    filled: Time,
}

/// A poll looks at no more than this many places in front. More free slots than that are handed
/// out by the polls that follow.
const LOOK: u32 = 32;

impl WaitQueue {
    /// An empty queue. Memory for twice the capacity (48 bytes each) is set aside here.
    #[must_use]
    pub fn new(settings: &Settings) -> WaitQueue {
        WaitQueue { line: Line::new(settings.capacity), filled: Time::ZERO }
    }

    /// Callers waiting, including those that are lost and not yet noticed.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.line.len()
    }

    /// Whether nobody waits. Only then may somebody pass without a ticket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line.len() == 0
    }

    /// Takes a place for a caller that can wait until `latest`.
    ///
    /// # Errors
    /// There is no place, or no time to wait.
    pub fn enter(
        &mut self,
        now: Time,
        priority: Priority,
        latest: Time,
        settings: &Settings,
    ) -> Result<Ticket, Shed> {
        if settings.capacity == 0 {
            return Err(Shed::Off);
        }
        self.line.shed_ended(now);
        let waiting = self.line.len();
        let filled = if waiting == 0 { now } else { self.filled };
        let entry = lease(now, filled, priority, latest, settings);
        if entry.end <= now {
            return Err(entry.reason());
        }
        if waiting >= settings.capacity {
            let full = Shed::Full { waiting, capacity: settings.capacity };
            if !self.line.shed_newest_below(priority, Shed::Displaced { by: priority }) {
                return Err(full);
            }
        }
        self.filled = filled;
        Ok(self.line.push(entry, settings.capacity))
    }

    /// Whether it is this caller's turn, when `free` slots or permits are free: it is when fewer
    /// than `free` callers are in front of it.
    pub fn poll(&mut self, now: Time, ticket: Ticket, free: u32) -> Turn {
        // Not for the answer, which skips them, but so that there are few to skip.
        self.line.shed_ended(now);
        let entry = match self.line.find(ticket) {
            Ok(entry) => *entry,
            Err(reason) => return Turn::Shed { reason },
        };
        if entry.end <= now {
            let reason = entry.reason();
            self.line.remove(ticket, reason);
            return Turn::Shed { reason };
        }
        if free >= self.line.len() || self.line.among_first(ticket, now, free.min(LOOK)) {
            self.line.remove(ticket, Shed::Gone);
            return Turn::Go;
        }
        Turn::Wait { until: entry.end }
    }

    /// Gives a place up, because the caller was cancelled. Harmless when it has none.
    pub fn leave(&mut self, ticket: Ticket) {
        self.line.remove(ticket, Shed::Gone);
    }

    /// Applies other settings. Leases are kept as they were promised. If the queue becomes
    /// shorter than the line, the newest of the lowest priority are shed; if it is switched off,
    /// all are.
    pub fn retune(&mut self, settings: &Settings) {
        self.line.reserve(settings.capacity);
        while self.line.len() > settings.capacity {
            let reason = match settings.capacity {
                0 => Shed::Off,
                capacity => Shed::Full { waiting: self.line.len(), capacity },
            };
            self.line.shed_newest(reason);
        }
    }
}

/// How long a caller may wait that enters now a queue which has been filled since `filled`.
fn lease(now: Time, filled: Time, priority: Priority, latest: Time, settings: &Settings) -> Entry {
    let intervals = priority as u32 + 1;
    let stands = filled.plus(settings.interval.saturating_mul(intervals));
    let standing_end = now.plus(settings.target).max(stands);
    let longest = now.plus(settings.max_wait);
    let end = standing_end.min(longest);
    Entry {
        priority,
        entered: now,
        end: end.min(latest),
        by_deadline: latest < end,
        standing: standing_end < longest,
    }
}
