//! Several handlers of one thing, each with its own delivery, so that one that fails or hangs
//! holds up no other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Deliver, Delivery, Done, Settings};
use crate::job::Poll;
use crate::time::Time;

/// Handlers of one thing at the most.
pub const MOST: usize = 64;

/// What a handler does with news. The kinds are treated alike; they say what fails in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    /// Takes over configuration.
    ConfigUpdate,
    /// Feeds a balancer.
    LoadBalancerUpdate,
    /// Feeds metrics.
    MetricsUpdate,
}

impl Handler {
    /// `config_update`, `load_balancer_update` or `metrics_update`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Handler::ConfigUpdate => "config_update",
            Handler::LoadBalancerUpdate => "load_balancer_update",
            Handler::MetricsUpdate => "metrics_update",
        }
    }
}

/// Names a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HandlerId(u64);

/// There are [`MOST`] handlers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[error("there are {} handlers already", MOST)]
pub struct TooMany;

/// The handlers of one thing. One that is added later is told of the present state.
///
/// ```
/// use origin_core::Time;
/// use origin_core::discovery::delivery::{Done, Handler, Handlers, Settings};
/// use origin_core::job::Poll;
///
/// let (settings, now) = (Settings::default(), Time::ZERO);
/// let mut handlers = Handlers::default();
/// let config = handlers.add(now, Handler::ConfigUpdate)?;
/// let metrics = handlers.add(now, Handler::MetricsUpdate)?;
/// handlers.publish(now, "three instances", now);
/// let Poll::Run(first) = handlers.poll(now, &settings) else { panic!() };
/// let Poll::Run(second) = handlers.poll(now, &settings) else { panic!() };
/// assert_eq!((first.0, second.0), (config, metrics));
/// // One fails; the other does not notice.
/// let _ = handlers.done(now, config, first.1.version, false, &settings);
/// let done = handlers.done(now, metrics, second.1.version, true, &settings);
/// assert!(matches!(done, Done::Delivered { .. }));
/// # Ok::<(), origin_core::discovery::delivery::TooMany>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handlers<T> {
    all: BTreeMap<HandlerId, (Handler, Delivery<T>)>,
    newest: Option<(u64, T, Time)>,
    version: u64,
    next_id: u64,
}

impl<T> Default for Handlers<T> {
    fn default() -> Self {
        Handlers { all: BTreeMap::new(), newest: None, version: 0, next_id: 0 }
    }
}

impl<T: Clone + PartialEq> Handlers<T> {
    /// Adds a handler. If there is a state already, it is told of that.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&mut self, now: Time, kind: Handler) -> Result<HandlerId, TooMany> {
        if self.all.len() >= MOST {
            return Err(TooMany);
        }
        let id = HandlerId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        let mut delivery = Delivery::default();
        if let Some((version, value, heard)) = &self.newest {
            delivery.publish(now, *version, value.clone(), *heard);
        }
        self.all.insert(id, (kind, delivery));
        Ok(id)
    }

    /// Takes a handler away; the end of a call that is under way is ignored. `false`: unknown.
    pub fn remove(&mut self, id: HandlerId) -> bool {
        self.all.remove(&id).is_some()
    }

    /// Takes a new state for all, of which the source knew at `heard`. Returns its version.
    pub fn publish(&mut self, now: Time, value: T, heard: Time) -> u64 {
        self.version = self.version.saturating_add(1);
        for (_, delivery) in self.all.values_mut() {
            delivery.publish(now, self.version, value.clone(), heard);
        }
        self.newest = Some((self.version, value, heard));
        self.version
    }

    /// The next call to make, of the handler that has waited longest; to be called until it says
    /// when to call again.
    pub fn poll(&mut self, now: Time, settings: &Settings) -> Poll<(HandlerId, Deliver<T>)> {
        loop {
            let due = self.all.iter().map(|(id, (_, d))| (d.due(now, settings), *id)).min();
            let Some((due, id)) = due.filter(|(due, _)| *due < Time::NEVER) else {
                return Poll::Wait(Time::NEVER);
            };
            if now < due {
                return Poll::Wait(due);
            }
            let delivery = self.all.get_mut(&id).map(|(_, delivery)| delivery.poll(now, settings));
            match delivery {
                Some(Poll::Run(deliver)) => return Poll::Run(Box::new((id, *deliver))),
                // It knew this state already. Each turn of the loop takes one state away.
                Some(Poll::Wait(_)) => {}
                None => return Poll::Wait(Time::NEVER),
            }
        }
    }

    /// The call of a handler has ended, well or not.
    pub fn done(
        &mut self,
        now: Time,
        id: HandlerId,
        version: u64,
        ok: bool,
        settings: &Settings,
    ) -> Done {
        let handler = self.all.get_mut(&id);
        handler.map_or(Done::Ignored, |(_, delivery)| delivery.done(now, version, ok, settings))
    }

    /// What a handler is for, and what became of its news.
    #[must_use]
    pub fn get(&self, id: HandlerId) -> Option<(Handler, &Delivery<T>)> {
        self.all.get(&id).map(|(kind, delivery)| (*kind, delivery))
    }

    /// All handlers, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (HandlerId, Handler, &Delivery<T>)> {
        self.all.iter().map(|(id, (kind, delivery))| (*id, *kind, delivery))
    }
}
