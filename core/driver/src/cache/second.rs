//! The second level of the caches of one client: its machine behind a lock, and guards that bring
//! results back, dropped or not.

use std::sync::Arc;

use origin_core::cache::answer::Record;
use origin_core::cache::second::{Ask, Chore, Counts, PurgeId};
use origin_core::cache::{Invalidated, Key, Purged, SecondLevel, Settings, Target};
use origin_core::job::{JobOutcome, Work};
use origin_core::metrics::EventCount;
use origin_core::notice::{Notice, Notices};
use origin_core::rng::Pcg32;
use origin_core::{Config, ConfigError, Time, redis};

use crate::hub::{Hub, Slot, lock};
use crate::observe::bell::{Bell, Noted, Speaks};
use crate::runtime::Runtime;

/// The second level.
pub(crate) struct Second(Noted<State>);

pub(crate) struct State {
    level: SecondLevel,
    rng: Pcg32,
}

impl Speaks for State {
    fn said(&mut self) -> &Notices {
        self.level.notices()
    }
}

impl Second {
    /// `None` without a Redis.
    pub(crate) fn of(
        config: &Config,
        seed: u64,
        bell: &Arc<Bell>,
    ) -> Result<Option<Second>, ConfigError> {
        let Some(redis) = config.redis.as_ref().filter(|redis| redis.enabled) else {
            return Ok(None);
        };
        let level = SecondLevel::new(redis::Settings::of(redis, "redis")?.link);
        let state = State { level, rng: Pcg32::new(seed, STREAM) };
        Ok(Some(Second(Noted::new(state, bell))))
    }

    pub(crate) fn machine(&self) -> &Noted<State> {
        &self.0
    }

    pub(super) fn order(&self) -> u64 {
        lock(&self.0).level.order()
    }

    pub(super) fn keep(&self, record: Record, asked: u64, settings: &Arc<Settings>) {
        lock(&self.0).level.keep(record, asked, settings);
    }

    pub(super) fn invalidate(&self, target: Target<Key>, settings: &Arc<Settings>) -> PurgeId {
        lock(&self.0).level.invalidate(target, settings)
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.0).level.counts()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        lock(&self.0).level.notices().since(0).cloned().collect()
    }

    pub(crate) fn events(&self) -> Vec<EventCount> {
        lock(&self.0).level.notices().counts().collect()
    }

    /// When a background should look whether a carrier is wanted.
    pub(crate) fn due(&self, now: Time) -> Time {
        lock(&self.0).level.due(now)
    }
}

/// The random stream of the second level: any that calls do not have.
const STREAM: u64 = u64::MAX - 1;

/// A lookup under way.
pub(crate) struct Errand<R: Runtime> {
    hub: Arc<Hub<R>>,
    settings: Arc<Settings>,
    ask: Option<Ask>,
    pub(crate) deadline: Time,
}

impl<R: Runtime> Errand<R> {
    pub(super) fn new(
        hub: &Arc<Hub<R>>,
        key: &Key,
        until: Time,
        settings: &Arc<Settings>,
    ) -> Option<Errand<R>> {
        let mut state = lock(&hub.second.as_ref()?.0);
        let ask = state.level.ask(hub.runtime.now(), key, until, settings).ok()?;
        drop(state);
        let (hub, settings, deadline) = (hub.clone(), settings.clone(), ask.deadline());
        Some(Errand { hub, settings, ask: Some(ask), deadline })
    }

    pub(crate) fn work(&self) -> Work {
        Work::Redis(self.ask.as_ref().map_or_else(Vec::new, |ask| ask.commands.clone()))
    }

    /// Brings the result back; yields what is believed of it.
    pub(crate) fn finish(mut self, outcome: JobOutcome) -> Option<Record> {
        self.end(outcome)
    }

    fn end(&mut self, outcome: JobOutcome) -> Option<Record> {
        let (ask, second) = (self.ask.take()?, self.hub.second.as_ref()?);
        let (now, wall) = (self.hub.runtime.now(), self.hub.runtime.wall());
        let mut state = lock(&second.0);
        let State { level, rng } = &mut *state;
        level.answered(now, wall, ask, outcome, &self.settings, rng).ok()
    }
}

impl<R: Runtime> Drop for Errand<R> {
    fn drop(&mut self) {
        let _ = self.end(JobOutcome::Dropped);
    }
}

/// The place of one who carries out chores. It keeps the client until they are done, so that what
/// its last call brought is not lost to others: no longer than Redis takes.
pub(crate) struct Carrying<R: Runtime> {
    pub(crate) hub: Arc<Hub<R>>,
    out: Option<Chore>,
    over: bool,
}

impl<R: Runtime> Carrying<R> {
    /// `None` when nobody is wanted.
    pub(crate) fn begin(hub: &Arc<Hub<R>>) -> Option<Carrying<R>> {
        let second = hub.second.as_ref()?;
        let hired = lock(&second.0).level.hire(hub.runtime.now());
        hired.then(|| Carrying { hub: hub.clone(), out: None, over: false })
    }

    /// What to carry out, and until when.
    pub(crate) fn next(&mut self) -> Option<(Work, Time)> {
        let second = self.hub.second.as_ref()?;
        let (now, wall) = (self.hub.runtime.now(), self.hub.runtime.wall());
        let chore = lock(&second.0).level.next(now, wall);
        let Some(chore) = chore else {
            self.over = true;
            self.hub.news.notify(usize::MAX);
            return None;
        };
        let work = (Work::Redis(chore.commands.clone()), chore.deadline());
        self.out = Some(chore);
        Some(work)
    }

    /// Brings the result back, and wakes who waits for it.
    pub(crate) fn finish(&mut self, outcome: JobOutcome) {
        let (Some(chore), Some(second)) = (self.out.take(), &self.hub.second) else { return };
        let now = self.hub.runtime.now();
        let mut state = lock(&second.0);
        let State { level, rng } = &mut *state;
        level.done(now, chore, outcome, rng);
        drop(state);
        self.hub.news.notify(usize::MAX);
    }
}

impl<R: Runtime> Drop for Carrying<R> {
    fn drop(&mut self) {
        self.finish(JobOutcome::Dropped);
        if let (false, Some(second)) = (self.over, &self.hub.second) {
            lock(&second.0).level.dismiss();
            self.hub.news.notify(usize::MAX);
        }
    }
}

/// An invalidation of which the second level has not heard yet.
#[derive(Debug)]
pub struct Purging {
    local: u32,
    id: PurgeId,
    pub(crate) until: Time,
}

impl<R: Runtime> Hub<R> {
    /// The reply to an invalidation.
    pub(crate) fn forgotten(
        self: &Arc<Hub<R>>,
        slot: &Slot,
        (local, id): (u32, Option<PurgeId>),
    ) -> R::Reply<Invalidated> {
        let Some(id) = id else { return R::ready(Ok(Invalidated { local, shared: None })) };
        let total = lock(&slot.service).rules().total;
        let until = self.runtime.now().plus(total);
        R::purge(self.clone(), Purging { local, id, until })
    }

    /// What came of an invalidation; `None` while it is under way and there is time.
    pub(crate) fn purged(&self, purging: &Purging) -> Option<Invalidated> {
        let now = self.runtime.now();
        let second = self.second.as_ref();
        let purged = second
            .map_or(Some(Purged::Later), |second| lock(&second.0).level.purged(now, purging.id));
        let late = (now >= purging.until).then_some(Purged::Later);
        let shared = purged.or(late)?;
        Some(Invalidated { local: purging.local, shared: Some(shared) })
    }
}
