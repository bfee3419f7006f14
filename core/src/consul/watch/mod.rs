//! The watch: the cursor of one blocking query, and when it is asked again.
//!
//! A blocking query is a GET that the server answers when its index has passed the one that was
//! asked with, or when a wait is over. It looks like a loop of four lines, and most clients of
//! Consul get it wrong. This follows the rules of Consul's API documentation and of its own watch
//! library (`api/watch`):
//!
//! * An index that goes backwards (a restored or restarted server, or one that lags behind) resets
//!   the cursor. Consul's library uses such an answer; here its content is set aside and
//!   everything is read anew, so that a lagging server does not bring yesterday's list.
//! * An index below 1 counts as 1, and an answer without one leaves no cursor: 0 would not block,
//!   and the loop would run hot.
//! * An answer is no change: contents are compared, and only a difference is delivered. What is
//!   said first is always delivered.
//! * A token bucket bounds the loop whatever the server does. One that answers at once, again and
//!   again, without a new index does not hold queries back at all and is asked once per `poll`.
//! * After failures the waits grow as `n²`; permission that is denied waits longer still.
//! * An answer may take the wait and a sixteenth more; only after that and a margin is it given
//!   up. Then nothing is known, which is no change and no failure, but the next query does not
//!   block: a hanging server is found out within `timeout` instead of another five minutes.
//!
//! After a failure everything is read anew, for a server that was restarted would hold a query
//! with the old index back for the whole wait. One query is out at a time, a lease: one that never
//! comes back costs its deadline, and an answer that comes later than that is ignored.
//!
//! Not blocking, `blocking = false`, it is a plain poll; to switch it off, do not ask it.

mod settings;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use settings::Settings;

use super::ask::{AskId, LATE, Trouble};
use crate::job::Poll;
use crate::policy::rate::RateLimit;
use crate::rng::Pcg32;
use crate::time::Time;

/// So many answers at once with the index that was asked with, and the server does not block.
const UNHELD: u32 = 3;

/// A query to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use = "a query that is not made and reported stops the watch until its lease ends"]
pub struct Query {
    /// To be given back with the answer.
    pub id: AskId,
    /// The index to wait for a successor of; `None`: answer at once. Never 0.
    pub index: Option<u64>,
    /// How long the server may wait; zero without an index.
    pub wait: Duration,
    /// When to give up and call [`Watch::timed_out`].
    pub deadline: Time,
}

/// What an answer, or its absence, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Change {
    /// The content is not that of before: to be taken over.
    Changed,
    /// Nothing new.
    Same,
    /// The index went backwards: the content is to be set aside, it is read anew.
    Reset {
        /// The index that was asked with.
        from: u64,
        /// The lower one of the answer.
        to: u64,
    },
    /// It failed.
    Failed {
        /// Why.
        trouble: Trouble,
        /// Failures in a row.
        failures: u32,
        /// No query before this.
        next_try: Time,
    },
    /// It is not under way any more (reported before, or its lease ended), and was ignored.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: AskId,
    index: Option<u64>,
    issued: Time,
    deadline: Time,
}

/// One watch.
///
/// ```
/// use origin_core::Time;
/// use origin_core::consul::watch::{Change, Settings, Watch};
/// use origin_core::job::Poll;
/// use origin_core::rng::Pcg32;
///
/// let settings = Settings::default();
/// let (mut watch, mut rng) = (Watch::new(&settings), Pcg32::new(42, 0));
/// let now = Time::from_millis(1_000);
/// let Poll::Run(first) = watch.next(now, &settings, &mut rng) else { panic!() };
/// assert_eq!(first.index, None);
/// // The first answer, with its X-Consul-Index and a digest of its content.
/// assert_eq!(watch.answered(now, first.id, Some(7), 0xfeed, &settings), Change::Changed);
/// let Poll::Run(next) = watch.next(now, &settings, &mut rng) else { panic!() };
/// assert_eq!((next.index, next.wait.as_secs()), (Some(7), 300));
/// // The read timeout is more than 300 s and a sixteenth.
/// assert_eq!(now.until(next.deadline).as_millis(), 300_000 + 18_750 + 10_000);
/// assert_eq!(watch.answered(now, next.id, Some(8), 0xfeed, &settings), Change::Same);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watch {
    cursor: Option<u64>,
    content: Option<u64>,
    lease: Option<Lease>,
    failures: u32,
    trouble: Option<Trouble>,
    /// Answers in a row that came at once and with the index that was asked with.
    unheld: u32,
    not_before: Time,
    heard: Option<Time>,
    next_id: u64,
    limit: RateLimit,
}

impl Watch {
    /// A watch that has asked nothing.
    #[must_use]
    pub fn new(settings: &Settings) -> Watch {
        Watch {
            cursor: None,
            content: None,
            lease: None,
            failures: 0,
            trouble: None,
            unheld: 0,
            not_before: Time::ZERO,
            heard: None,
            next_id: 0,
            limit: RateLimit::new(&settings.rate),
        }
    }

    /// The next query, if one is to be made now. While one is out: when its lease ends.
    pub fn next(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll<Query> {
        if let Some(lease) = self.lease {
            let ends = lease.deadline.plus(LATE);
            if now < ends {
                return Poll::Wait(ends);
            }
            let _ = self.timed_out(now, lease.id, settings, rng);
        }
        // A clock that went back must not stretch a wait.
        self.not_before = self.not_before.min(now.plus(settings.longest()));
        if now < self.not_before {
            return Poll::Wait(self.not_before);
        }
        if let Err(limited) = self.limit.try_take(now, &settings.rate) {
            return Poll::Wait(limited.until);
        }
        let index = self.cursor.filter(|_| settings.blocking);
        let id = AskId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let deadline = now.plus(settings.patience(index.is_some()));
        self.lease = Some(Lease { id, index, issued: now, deadline });
        let wait = if index.is_some() { settings.wait } else { Duration::ZERO };
        Poll::Run(Box::new(Query { id, index, wait, deadline }))
    }

    /// An answer came: its index, if it names one, and a digest of its content, by which it is
    /// compared with the one before.
    pub fn answered(
        &mut self,
        now: Time,
        id: AskId,
        index: Option<u64>,
        content: u64,
        settings: &Settings,
    ) -> Change {
        let Some(lease) = self.give_back(id) else { return Change::Ignored };
        (self.failures, self.trouble, self.heard) = (0, None, Some(now));
        self.not_before = now;
        let index = index.map(|index| index.max(1));
        if let (Some(from), Some(to)) = (lease.index, index)
            && to < from
        {
            (self.cursor, self.unheld) = (None, 0);
            return Change::Reset { from, to };
        }
        self.cursor = index;
        let early = now.since(lease.issued) < settings.wait / 2;
        let stuck = lease.index.is_some() && lease.index == index && early;
        self.unheld = if stuck { self.unheld.saturating_add(1) } else { 0 };
        if index.is_none() || !settings.blocking || self.unheld >= UNHELD {
            self.not_before = now.plus(settings.poll);
        }
        if self.content == Some(content) {
            return Change::Same;
        }
        self.content = Some(content);
        Change::Changed
    }

    /// No answer came until the deadline. After a blocking query that says nothing; the next one
    /// does not block (with `resume`: it does). After one that does not block it is a failure.
    pub fn timed_out(
        &mut self,
        now: Time,
        id: AskId,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Change {
        match self.lease.filter(|lease| lease.id == id) {
            Some(Lease { index: Some(_), .. }) => {
                self.lease = None;
                self.start_over(settings);
                Change::Same
            }
            _ => self.failed(now, id, Trouble::LOST, settings, rng),
        }
    }

    /// It failed in another way. [`Trouble::Dropped`] is no failure and is asked again at once.
    pub fn failed(
        &mut self,
        now: Time,
        id: AskId,
        trouble: Trouble,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Change {
        if self.give_back(id).is_none() {
            return Change::Ignored;
        }
        if trouble == Trouble::Dropped {
            return Change::Same;
        }
        self.start_over(settings);
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(trouble);
        self.not_before = settings.retry(now, self.failures, trouble, rng);
        Change::Failed { trouble, failures: self.failures, next_try: self.not_before }
    }

    /// Reads everything anew with the next query, as soon as the bucket and the wait after a
    /// failure allow. A query that is out is given up: its answer will be ignored.
    pub fn refresh(&mut self, now: Time) {
        (self.cursor, self.lease, self.unheld) = (None, None, 0);
        if self.failures == 0 {
            self.not_before = now;
        }
    }

    /// The content was lost by whoever was told of it: the next answer is a change.
    pub fn forget(&mut self) {
        self.content = None;
    }

    /// Takes new settings over. Cursor, failures and a query that is out survive; the bucket
    /// counts what was taken against the new rate. A wait is cut to what the new settings allow.
    pub fn retune(&mut self, now: Time, settings: &Settings) {
        self.limit.retune(now, &settings.rate);
    }

    /// The cursor.
    #[must_use]
    pub const fn index(&self) -> Option<u64> {
        self.cursor
    }

    /// Failures in a row, and the last one.
    #[must_use]
    pub const fn trouble(&self) -> (u32, Option<Trouble>) {
        (self.failures, self.trouble)
    }

    /// When the server last answered.
    #[must_use]
    pub const fn heard(&self) -> Option<Time> {
        self.heard
    }

    /// The query that is out, by which an adapter cancels it.
    #[must_use]
    pub fn out(&self) -> Option<AskId> {
        self.lease.map(|lease| lease.id)
    }

    fn start_over(&mut self, settings: &Settings) {
        self.unheld = 0;
        if !settings.resume {
            self.cursor = None;
        }
    }

    fn give_back(&mut self, id: AskId) -> Option<Lease> {
        self.lease.take_if(|lease| lease.id == id)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
