//! Delivery: telling a handler of the newest state, in order, and until it has understood.
//!
//! A callback in the loop of a watch is where updates get lost. If it fails after the cursor was
//! moved, the update is gone (as in the Datapunk module); if it is slow, updates pile up or
//! overtake each other; and a service that flaps calls it as often as it flaps. So what is
//! delivered is not each change but the *state*, as in Envoy's xDS and in Kubernetes' informers
//! with a work queue:
//!
//! * One call at a time; a state is never followed by an older one; of states that come while the
//!   handler is busy or more are expected, only the newest is kept, and how many were skipped is
//!   counted. Memory is bounded by three states (underway, waiting, understood).
//! * The last state always arrives. If the handler fails, the error is reported to the owner, and
//!   the same state, or a newer one that has come meanwhile, is delivered again after a wait that
//!   doubles up to a minute. It is never given up: a handler that fails for good costs one call a
//!   minute.
//! * The first state is delivered at once. After it, changes are gathered until nothing has
//!   changed for `settle`, but never longer than `max_delay`. A state that flapped back to what
//!   the handler knows is not delivered.
//! * How long news took is measured, from the source to here and from here to the handler.
//!
//! The handler runs elsewhere; a call that never comes back stops its own handler, and no other
//! ([`Handlers`]), visibly ([`Delivery::busy`]). No gathering: [`DeliveryConfig::immediate`].

mod handlers;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use handlers::{Handler, HandlerId, Handlers, MOST, TooMany};

use crate::config::field::{At, at_least_one};
use crate::config::{ConfigError, DeliveryConfig};
use crate::job::Poll;
use crate::notice::Event;
use crate::time::{Time, nanos};

/// A checked [`DeliveryConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    settle: Duration,
    at_most_every: Duration,
    max_delay: Duration,
    backoff: u64,
    backoff_max: u64,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range, or that contradicts another.
    pub fn of(config: &DeliveryConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
        at.within("settle", config.settle, Duration::ZERO..=hour)?;
        at.within("at_most_every", config.at_most_every, Duration::ZERO..=hour)?;
        at.within("max_delay", config.max_delay, Duration::ZERO..=hour)?;
        at.ordered(("settle", config.settle), ("max_delay", config.max_delay))?;
        at.ordered(("at_most_every", config.at_most_every), ("max_delay", config.max_delay))?;
        at.within("backoff", config.backoff, ms..=hour)?;
        at.within("backoff_max", config.backoff_max, ms..=hour)?;
        at.ordered(("backoff", config.backoff), ("backoff_max", config.backoff_max))?;
        Ok(Settings::compile(config))
    }

    fn compile(config: &DeliveryConfig) -> Settings {
        Settings {
            settle: config.settle.min(config.max_delay),
            at_most_every: config.at_most_every.min(config.max_delay),
            max_delay: config.max_delay,
            backoff: at_least_one(config.backoff),
            backoff_max: at_least_one(config.backoff_max),
        }
    }

    /// The wait after the `n`-th failure in a row, counted from 1.
    #[must_use]
    pub fn step(&self, n: u32) -> Duration {
        let doubled = 1_u64.checked_shl(n.saturating_sub(1)).unwrap_or(u64::MAX);
        Duration::from_nanos(self.backoff.saturating_mul(doubled).min(self.backoff_max))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&DeliveryConfig::default())
    }
}

/// A state and its way here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct State<T> {
    version: u64,
    value: T,
    /// When the source knew it.
    heard: Time,
    /// When it was published.
    published: Time,
    /// Whether the handler was called with it, and failed.
    tried: bool,
    /// When the oldest change in it was published that the handler has not been told of.
    since: Time,
}

/// A state to be handed to the handler now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use = "a state that is not reported as done stops its handler for good"]
pub struct Deliver<T> {
    /// To be given to [`Delivery::done`]. Grows from one call to the next, except that a failed
    /// one is repeated.
    pub version: u64,
    /// The state.
    pub value: T,
}

/// How long news took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Propagation {
    /// From the source to the publication.
    pub source: Duration,
    /// From the publication of the delivered state to the end of the handler's call.
    pub handler: Duration,
    /// From the publication of the oldest change in it: longer where changes were gathered,
    /// skipped or repeated.
    pub oldest: Duration,
}

/// What the end of a call led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Done {
    /// The handler knows this state.
    Delivered {
        /// Which.
        version: u64,
        /// Failures in a row that ended with this.
        failures: u32,
        /// How long it took.
        took: Propagation,
    },
    /// It failed, and the newest state is delivered again.
    Failed {
        /// The state it failed with.
        version: u64,
        /// Failures in a row.
        failures: u32,
        /// Time until the next call.
        retry_in: Duration,
    },
    /// No such call is under way.
    Ignored,
}

/// Longest reason of a failure in a notice, in characters.
const MOST_REASON: usize = 256;

impl Done {
    /// What is to be said about it: the first failure of a row, with what the handler said, and
    /// the success that ends the row. Each once, however often the handler is called in between.
    #[must_use]
    pub fn notice(&self, handler: Handler, number: u64, said: Option<&str>) -> Option<Event> {
        match *self {
            Done::Failed { failures: 1, retry_in, .. } => {
                let said = said.unwrap_or_default().chars().take(MOST_REASON);
                let reason = said.map(|c| if c.is_control() { ' ' } else { c });
                let reason = reason.collect::<String>().into();
                Some(Event::ServiceWatchError { handler, number, reason, retry_in })
            }
            Done::Delivered { failures: failures @ 1.., took, .. } => {
                let behind = took.oldest;
                Some(Event::ServiceWatchRecovered { handler, number, failures, behind })
            }
            _ => None,
        }
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counts {
    /// States the handler has understood.
    pub delivered: u64,
    /// Calls that failed.
    pub failed: u64,
    /// States that a newer one replaced before the handler was called.
    pub skipped: u64,
    /// States that were what the handler knew already.
    pub unchanged: u64,
    /// States refused because a newer one was known.
    pub outdated: u64,
}

/// The states of one thing on their way to one handler.
///
/// ```
/// use origin_core::Time;
/// use origin_core::discovery::delivery::{Delivery, Done, Settings};
/// use origin_core::job::Poll;
///
/// let (settings, now) = (Settings::default(), Time::from_millis(1_000));
/// let mut delivery = Delivery::default();
/// delivery.publish(now, 1, "a", now);
/// // The first state at once.
/// let Poll::Run(state) = delivery.poll(now, &settings) else { panic!() };
/// assert_eq!((state.version, state.value), (1, "a"));
/// // The handler fails, and is called again.
/// assert!(matches!(delivery.done(now, 1, false, &settings), Done::Failed { failures: 1, .. }));
/// let Poll::Wait(again) = delivery.poll(now, &settings) else { panic!() };
/// // By the newest state there is then.
/// delivery.publish(now, 2, "b", now);
/// delivery.publish(now, 3, "c", now);
/// let Poll::Run(state) = delivery.poll(again, &settings) else { panic!() };
/// assert_eq!((state.version, state.value), (3, "c"));
/// assert!(matches!(delivery.done(again, 3, true, &settings), Done::Delivered { .. }));
/// assert_eq!(delivery.counts().skipped, 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delivery<T> {
    waiting: Option<State<T>>,
    underway: Option<State<T>>,
    /// What the handler understood last.
    known: Option<(u64, T)>,
    /// When the newest state was published.
    changed: Time,
    /// When the handler was last called.
    called: Option<Time>,
    not_before: Time,
    failures: u32,
    took: Propagation,
    counts: Counts,
}

impl<T> Default for Delivery<T> {
    fn default() -> Self {
        Delivery {
            waiting: None,
            underway: None,
            known: None,
            changed: Time::ZERO,
            called: None,
            not_before: Time::ZERO,
            failures: 0,
            took: Propagation::default(),
            counts: Counts::default(),
        }
    }
}

impl<T: Clone + PartialEq> Delivery<T> {
    /// Takes a new state, of which the source knew at `heard`. Versions grow; the caller counts
    /// them (an index of Consul can go backwards, and does not do). `false`: it is not newer than
    /// what is known, and was ignored.
    pub fn publish(&mut self, now: Time, version: u64, value: T, heard: Time) -> bool {
        if self.newest().is_some_and(|newest| version <= newest) {
            self.counts.outdated = self.counts.outdated.saturating_add(1);
            return false;
        }
        self.changed = now;
        let before = self.waiting.take();
        if before.as_ref().is_some_and(|before| !before.tried) {
            self.counts.skipped = self.counts.skipped.saturating_add(1);
        }
        let since = before.map_or(now, |before| before.since);
        self.waiting = Some(State { version, value, heard, published: now, tried: false, since });
        true
    }

    /// The next state to hand over, if one is due and the handler is free.
    pub fn poll(&mut self, now: Time, settings: &Settings) -> Poll<Deliver<T>> {
        let due = self.due(now, settings);
        if now < due {
            return Poll::Wait(due);
        }
        let Some(state) = self.waiting.take() else { return Poll::Wait(Time::NEVER) };
        // After a failure it is repeated also when it is the old one: who knows how far it got.
        let known = self.known.as_ref().filter(|_| self.failures == 0);
        if known.is_some_and(|(_, value)| *value == state.value) {
            self.known = Some((state.version, state.value));
            self.counts.unchanged = self.counts.unchanged.saturating_add(1);
            return Poll::Wait(Time::NEVER);
        }
        let deliver = Deliver { version: state.version, value: state.value.clone() };
        self.underway = Some(state);
        self.called = Some(now);
        Poll::Run(Box::new(deliver))
    }

    /// When [`Delivery::poll`] is worth calling; [`Time::NEVER`] while the handler is busy or
    /// nothing is new.
    #[must_use]
    pub fn due(&self, now: Time, settings: &Settings) -> Time {
        let Some(state) = self.waiting.as_ref().filter(|_| self.underway.is_none()) else {
            return Time::NEVER;
        };
        let settled = self.changed.plus(settings.settle).min(state.since.plus(settings.max_delay));
        let due = match self.called {
            None => state.published,
            Some(called) => settled.max(called.plus(settings.at_most_every)),
        };
        // A clock that went back must not stretch a wait.
        let latest = settings.max_delay.max(settings.step(self.failures));
        due.max(self.not_before).min(now.plus(latest))
    }

    /// The handler's call with this version has ended, well or not. A driver that gave it up
    /// reports a failure: nobody knows how far it got.
    pub fn done(&mut self, now: Time, version: u64, ok: bool, settings: &Settings) -> Done {
        let Some(state) = self.underway.take_if(|state| state.version == version) else {
            return Done::Ignored;
        };
        if ok {
            let took = Propagation {
                source: state.heard.until(state.published),
                handler: state.published.until(now),
                oldest: state.since.until(now),
            };
            self.took = took;
            self.known = Some((version, state.value));
            let failures = std::mem::take(&mut self.failures);
            self.not_before = Time::ZERO;
            self.counts.delivered = self.counts.delivered.saturating_add(1);
            return Done::Delivered { version, failures, took };
        }
        self.failures = self.failures.saturating_add(1);
        self.counts.failed = self.counts.failed.saturating_add(1);
        let retry_in = settings.step(self.failures);
        self.not_before = now.plus(retry_in);
        match &mut self.waiting {
            Some(newer) => newer.since = newer.since.min(state.since),
            None => self.waiting = Some(State { tried: true, ..state }),
        }
        Done::Failed { version, failures: self.failures, retry_in }
    }

    /// The newest version that was published.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        let version = |state: &State<T>| state.version;
        let waiting = self.waiting.as_ref().map(version);
        let known = || self.known.as_ref().map(|(version, _)| *version);
        waiting.or_else(|| self.underway.as_ref().map(version)).or_else(known)
    }

    /// The version that the handler understood last, and its state.
    #[must_use]
    pub fn known(&self) -> Option<(u64, &T)> {
        self.known.as_ref().map(|(version, value)| (*version, value))
    }

    /// The version that the handler is busy with, and since when.
    #[must_use]
    pub fn busy(&self) -> Option<(u64, Time)> {
        self.underway.as_ref().map(|state| state.version).zip(self.called)
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// How long the last delivered news took.
    #[must_use]
    pub const fn took(&self) -> Propagation {
        self.took
    }

    /// How far the handler is behind: since when it has not been told of a change.
    #[must_use]
    pub fn behind(&self, now: Time) -> Duration {
        let since = |state: &State<T>| state.since;
        let underway = self.underway.as_ref().map(since);
        let oldest = underway.or_else(|| self.waiting.as_ref().map(since));
        Duration::from_nanos(oldest.map_or(0, |since| nanos(since.until(now))))
    }

    /// What was counted.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests;
