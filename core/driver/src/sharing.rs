//! Shared breaker knowledge between the services, which say what to tell and to ask when, and the
//! backgrounds, which carry it out. A client without a background tells and hears nothing.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_listener::Event;
use origin_core::job::{JobOutcome, Poll, Work};
use origin_core::redis;
use origin_core::redis::knowledge::Exchange;
use origin_core::{Config, ConfigError, Service, Time};

use crate::carry::Carrier;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;

/// What every service of a client shares by.
pub(crate) struct Sharing {
    settings: redis::Settings,
    node: String,
}

impl Sharing {
    /// `None` where the configuration shares nothing.
    pub(crate) fn of(config: &Config) -> Result<Option<Sharing>, ConfigError> {
        let Some(redis) = &config.redis else { return Ok(None) };
        let settings = redis::Settings::of(redis, "redis")?;
        if settings.knowledge.is_off() {
            return Ok(None);
        }
        // Not from the seed: a fleet may be configured with one, and no two nodes may have the
        // same name. Two numbers, since each is only 64 bits.
        let random = || RandomState::new().hash_one(std::process::id());
        let node = format!("{:016x}{:016x}", random(), random());
        Ok(Some(Sharing { settings, node }))
    }

    /// Has a new service share.
    pub(crate) fn with(&self, now: Time, service: &mut Service) -> Result<(), ConfigError> {
        service.share(now, Some(&self.settings), &self.node)
    }
}

impl Slot {
    /// Something was done to its service: has it more to tell, the background looks. One compare
    /// where nothing is shared.
    #[inline]
    pub(crate) fn told(&self, service: &mut Service, news: &Event) {
        if service.take_news() {
            self.share_due.store(0, Ordering::Release);
            news.notify(usize::MAX);
        }
    }
}

impl<R: Runtime> Hub<R> {
    /// The exchanges to carry out now, and when to ask again.
    pub(crate) fn poll_sharing(&self, now: Time) -> (Vec<(Arc<Slot>, Exchange)>, Time) {
        let (mut found, mut next) = (Vec::new(), Time::NEVER);
        if self.sharing.is_none() {
            return (found, next);
        }
        let wall = self.runtime.wall();
        self.each_slot(|slot| {
            let mut due = slot.share_due.load(Ordering::Acquire);
            if due <= now.as_nanos() {
                let mut service = lock(&slot.service);
                let at = loop {
                    match service.poll_knowledge(now, wall) {
                        Poll::Run(exchange) => found.push((slot.clone(), *exchange)),
                        Poll::Wait(at) => break at,
                    }
                };
                // Under the lock: news that come meanwhile must not be overwritten.
                due = at.as_nanos();
                slot.share_due.store(due, Ordering::Release);
            }
            next = next.min(Time::from_nanos(due));
        });
        (found, next)
    }
}

/// An exchange under way: brings its result back, and says so when it is dropped without one.
pub(crate) struct ShareGuard<R: Runtime> {
    runtime: Arc<R>,
    slot: Arc<Slot>,
    news: Arc<Event>,
    pub(crate) carrier: Arc<Carrier>,
    id: Option<u64>,
}

impl<R: Runtime> ShareGuard<R> {
    /// The guard, and what is to be carried out until when.
    pub(crate) fn new(
        hub: &Hub<R>,
        slot: Arc<Slot>,
        exchange: Exchange,
    ) -> (ShareGuard<R>, Work, Time) {
        let Exchange { id, commands, deadline } = exchange;
        let (runtime, news, carrier) = (hub.runtime.clone(), hub.news.clone(), hub.carrier.clone());
        let guard = ShareGuard { runtime, slot, news, carrier, id: Some(id) };
        (guard, Work::Redis(commands), deadline)
    }

    /// Brings the result back, and wakes who waits for it.
    pub(crate) fn finish(&mut self, outcome: JobOutcome) {
        let Some(id) = self.id.take() else { return };
        let mut service = lock(&self.slot.service);
        let (now, wall) = (self.runtime.now(), self.runtime.wall());
        let heard = service.knowledge_done(now, wall, id, outcome);
        self.slot.share_due.store(0, Ordering::Release);
        drop(service);
        if heard.changed {
            self.slot.moved.notify(usize::MAX);
        }
        self.news.notify(usize::MAX);
    }
}

impl<R: Runtime> Drop for ShareGuard<R> {
    fn drop(&mut self) {
        self.finish(JobOutcome::Dropped);
    }
}
