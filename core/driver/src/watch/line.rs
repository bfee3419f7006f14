//! One subscription: a core [`Delivery`] behind its lock, and the list of those a service has.
//! Who waits and who calls is in the files beside this one; when a state is handed over, and what
//! follows a failure, is the core's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use event_listener::Event;
use origin_core::discovery::Candidate;
use origin_core::discovery::delivery::{
    Counts, Delivery, Done, MOST, Propagation, Settings, TooMany,
};
use origin_core::discovery::directory::Resolution;
use origin_core::job::Poll;
use origin_core::snapshot::WatchesSnapshot;
use origin_core::{Error, Time};
use serde::Serialize;

use crate::hub::lock;

/// The endpoints of a service as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Update {
    /// Whose.
    pub service: Arc<str>,
    /// Grows with every change; the same state has the same number in every subscription of a
    /// client. Numbers are missing where states were skipped.
    pub version: u64,
    /// All of them, in failover order. None at all when no source names the service any more.
    pub endpoints: Arc<[Candidate]>,
    /// When this was handed over, on the clock of [`Snapshot::at`](origin_core::snapshot::Snapshot).
    pub at: Time,
    /// For how long the list had been like this then.
    pub age: Duration,
    /// How long the oldest change in it had been known here then. Longer than `age` where changes
    /// were gathered, or repeated after a failure.
    pub delay: Duration,
}

/// How a subscription is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WatchStatus {
    /// The version that was understood last.
    pub delivered: Option<u64>,
    /// The newest version there is.
    pub newest: Option<u64>,
    /// For how long there has been a change that was not understood yet; zero when there is none.
    pub behind: Duration,
    /// The version that the callback is busy with, and for how long: one that hangs shows here.
    pub busy: Option<(u64, Duration)>,
    /// Failures in a row.
    pub failures: u32,
    /// What the callback said when it failed last, also if it has succeeded since.
    pub last_error: Option<Arc<str>>,
    /// How long the news took that were understood last.
    pub took: Propagation,
    /// What was counted.
    pub counts: Counts,
    /// Nothing will come any more: the client is gone, or the runtime of its task.
    pub over: bool,
}

/// What is delivered. Another list is news; the same list at another time is not.
#[derive(Clone, Debug)]
struct State {
    endpoints: Arc<[Candidate]>,
    changed: Time,
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.endpoints == other.endpoints
    }
}

/// One subscription. Applications see it only through a watch, or a
/// [`Subscription`](crate::Subscription).
pub struct Line {
    pub(crate) service: Arc<str>,
    /// Its number among the subscriptions of its service, from 1.
    pub(crate) number: AtomicU64,
    /// Whether it goes by the settings of the configuration, whatever they become.
    follows: bool,
    inner: Mutex<Inner>,
    /// Notified when there is something new, and when it is over.
    pub(crate) news: Event,
}

struct Inner {
    settings: Settings,
    delivery: Delivery<State>,
    last_error: Option<Arc<str>>,
    over: bool,
}

/// What a subscription has to do.
pub(crate) enum Next {
    /// This is to be handed over, and [`Line::done`] to be told what came of it.
    Tell(Update),
    /// Nothing before this, unless there is news.
    Wait(Time),
    Over,
}

impl Line {
    pub(crate) fn new(service: Arc<str>, settings: Settings, follows: bool) -> Line {
        let inner =
            Inner { settings, delivery: Delivery::default(), last_error: None, over: false };
        let number = AtomicU64::new(0);
        Line { service, number, follows, inner: Mutex::new(inner), news: Event::new() }
    }

    /// Other settings are in force, also for what is gathered or waits for its repetition now.
    fn retune(&self, settings: Settings) {
        if self.follows {
            lock(&self.inner).settings = settings;
            self.news.notify(usize::MAX);
        }
    }

    fn publish(&self, now: Time, version: u64, state: State) {
        lock(&self.inner).delivery.publish(now, version, state, now);
        self.news.notify(usize::MAX);
    }

    pub(crate) fn take(&self, now: Time) -> Next {
        let mut inner = lock(&self.inner);
        if inner.over {
            return Next::Over;
        }
        let settings = inner.settings;
        match inner.delivery.poll(now, &settings) {
            Poll::Wait(until) => Next::Wait(until),
            Poll::Run(state) => Next::Tell(Update {
                service: self.service.clone(),
                version: state.version,
                endpoints: state.value.endpoints,
                at: now,
                age: state.value.changed.until(now),
                delay: inner.delivery.behind(now),
            }),
        }
    }

    /// What came of an update, and what followed.
    pub(crate) fn done(&self, now: Time, version: u64, error: Option<&str>) -> Done {
        let mut inner = lock(&self.inner);
        let settings = inner.settings;
        if let Some(text) = error {
            inner.last_error = Some(text.into());
        }
        inner.delivery.done(now, version, error.is_none(), &settings)
    }

    /// Ends it: no further update.
    pub(crate) fn end(&self) {
        lock(&self.inner).over = true;
        self.news.notify(usize::MAX);
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.inner).over
    }

    /// How it is; `None` for the time when the client is gone.
    pub(crate) fn status(&self, now: Option<Time>) -> WatchStatus {
        let inner = lock(&self.inner);
        let delivery = &inner.delivery;
        let at = now.unwrap_or(Time::ZERO);
        WatchStatus {
            delivered: delivery.known().map(|(version, _)| version),
            newest: delivery.newest(),
            behind: delivery.behind(at),
            busy: delivery.busy().map(|(version, since)| (version, since.until(at))),
            failures: delivery.failures(),
            last_error: inner.last_error.clone(),
            took: delivery.took(),
            counts: delivery.counts(),
            over: inner.over || now.is_none(),
        }
    }
}

/// The subscriptions of one service, and what they were told last.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    version: u64,
    /// Subscriptions there ever were.
    numbers: u64,
    state: Option<State>,
    lines: Vec<Weak<Line>>,
}

impl Watchers {
    /// Takes what discovery knows now. To be called under the lock of the directory, so that an
    /// older list cannot overtake a newer one.
    pub(crate) fn tell(&self, now: Time, resolution: &Resolution) {
        let mut watched = lock(&self.0);
        if !watched.lines.is_empty() {
            watched.note(now, resolution, now);
        }
    }

    /// Adds a subscription, which is told of the present state, `changed` then. Under the same
    /// lock.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn add(
        &self,
        now: Time,
        resolution: &Resolution,
        changed: Time,
        line: &Arc<Line>,
    ) -> Result<(), TooMany> {
        let mut watched = lock(&self.0);
        watched.note(now, resolution, changed);
        if watched.lines.len() >= MOST {
            return Err(TooMany);
        }
        if let Some(state) = &watched.state {
            line.publish(now, watched.version, state.clone());
        }
        watched.numbers += 1;
        line.number.store(watched.numbers, Ordering::Relaxed);
        watched.lines.push(Arc::downgrade(line));
        Ok(())
    }

    /// Other settings are in force for those that have none of their own.
    pub(crate) fn retune(&self, settings: Settings) {
        self.each(|line| line.retune(settings));
    }

    /// All of them together; `None` when there are none.
    pub(crate) fn summary(&self, now: Time) -> Option<WatchesSnapshot> {
        let mut all = WatchesSnapshot::default();
        let lines: Vec<Arc<Line>> = lock(&self.0).lines.iter().filter_map(Weak::upgrade).collect();
        for status in lines.iter().map(|line| line.status(Some(now))).filter(|s| !s.over) {
            all.subscriptions += 1;
            all.behind = all.behind.max(status.behind);
            all.took = all.took.max(status.took.source.saturating_add(status.took.oldest));
            all.delivered += status.counts.delivered;
            all.failed += status.counts.failed;
        }
        (all.subscriptions > 0).then_some(all)
    }

    /// Wakes all of them: the client is gone.
    pub(crate) fn wake(&self) {
        self.each(|line| line.news.notify(usize::MAX));
    }

    /// Ends all of them: the client was closed.
    pub(crate) fn end(&self) {
        self.each(Line::end);
    }

    fn each<T>(&self, each: impl Fn(&Line) -> T) {
        for line in lock(&self.0).lines.iter().filter_map(Weak::upgrade) {
            each(&line);
        }
    }
}

impl Watched {
    fn note(&mut self, now: Time, resolution: &Resolution, changed: Time) {
        self.lines.retain(|line| line.upgrade().is_some_and(|line| !line.is_over()));
        let endpoints = match resolution {
            Resolution::Found(endpoints) => endpoints.as_slice(),
            Resolution::Absent(_) => &[],
            // Nothing is known, which changes nothing: what was known is still the best there is.
            Resolution::Pending | Resolution::Failed { .. } => return,
        };
        if self.state.as_ref().is_some_and(|state| *state.endpoints == *endpoints) {
            return;
        }
        let state = State { endpoints: endpoints.into(), changed };
        self.version += 1;
        for line in self.lines.iter().filter_map(Weak::upgrade) {
            line.publish(now, self.version, state.clone());
        }
        self.state = Some(state);
    }
}

/// The error of one subscription too many.
pub(crate) fn too_many(service: &Arc<str>, error: TooMany) -> Error {
    Error::Request { service: service.clone(), reason: format!("it cannot be watched: {error}") }
}
