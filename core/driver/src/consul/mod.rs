//! Consul for applications: what [`Client::consul`](crate::Client::consul) yields. Registrations
//! are kept by the core (`consul::registry`) and looked after by the background; typed calls are
//! the core's flows over the agents, which are a service of their own: with failover from one
//! configured agent to the next, with breakers and with the policies of `[services.consul]`, or
//! else the general ones. Nothing is decided here.

mod registered;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use origin_core::cache;
use origin_core::config::CacheConfig;
use origin_core::config::RegistrationConfig;
use origin_core::consul::event::Event;
use origin_core::consul::registrar::{Stage, View};
use origin_core::consul::registry::{NotWanted, Registry, Rules, Told};
use origin_core::discovery::directory::{Resolution, Usage};
use origin_core::discovery::plan::injected;
use origin_core::discovery::{Role, Surroundings};
use origin_core::job::{JobId, JobOutcome, Poll};
use origin_core::metrics::EventCount;
use origin_core::notice::Notice;
use origin_core::ops::consul::{Consul as Calls, SERVICE};
use origin_core::ops::{Caller, Flow};
use origin_core::{Config, ConfigError, Error, Service, Time};

use crate::cache::Memory;
use crate::hub::{Hub, Slot, lock};
use crate::observe::bell::{Bell, Noted};
use crate::runtime::Runtime;

pub use registered::Registered;

/// Consul in the inside of a client.
pub(crate) struct Desk {
    registry: Noted<Registry>,
    /// The agents. Not among the services, where another one may have this name.
    pub(crate) agents: Arc<Slot>,
}

impl Desk {
    /// `None` where Consul is not configured.
    pub(crate) fn new(
        now: Time,
        config: &Config,
        seed: u64,
        around: &Surroundings,
        bell: &Arc<Bell>,
    ) -> Result<Option<Desk>, ConfigError> {
        let consul = config.discovery.as_ref().and_then(|discovery| discovery.consul.as_ref());
        let Some(consul) = consul.filter(|consul| consul.enabled) else { return Ok(None) };
        let rules = Rules::of(consul, "discovery.consul", |name| around.variable(name))?;
        // Each is a cluster of its own: the next one is for when those before do not answer.
        let agent = |n| Some((Arc::from(format!("agent-{n}")), rules.consul.agent(n)?.clone()));
        let role = |n| if n == 0 { Role::Primary } else { Role::Backup };
        let agents: Vec<_> = (0..rules.consul.agents())
            .filter_map(|n| agent(n).map(|(name, address)| (name, role(n), address)))
            .collect();
        let (policy, profiles) = config.rules_for(SERVICE)?;
        let mut service = Service::new(SERVICE.into(), policy, seed)
            .with_profiles(profiles)
            .with_bounds(config.metrics.check("metrics")?);
        service.resolve(now, Resolution::Found(injected(&agents, None)));
        let off = CacheConfig { enabled: false, ..CacheConfig::default() };
        let memory = Memory::new(now, seed, cache::Settings::of(&off, "cache")?);
        let agents = Slot::new(service, false, memory, bell);
        // The policy's checks are meant for services.
        agents.checks_on(false);
        let registry = Noted::new(Registry::new(rules, seed), bell);
        Ok(Some(Desk { registry, agents: agents.into() }))
    }

    pub(crate) fn poll(&self, now: Time) -> Poll {
        lock(&self.registry).poll(now)
    }

    pub(crate) fn machine(&self) -> &Noted<Registry> {
        &self.registry
    }

    /// What happened to own registrations of late.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        lock(&self.registry).notices().since(0).cloned().collect()
    }

    /// How often that happened.
    pub(crate) fn events(&self) -> Vec<EventCount> {
        lock(&self.registry).notices().counts().collect()
    }

    /// Takes what came of a job; what it means for discovery.
    pub(crate) fn done(&self, now: Time, id: JobId, outcome: &JobOutcome) -> Option<Told> {
        lock(&self.registry).done(now, id, outcome)
    }

    /// What discovery looks up, as far as that has changed.
    pub(crate) fn usage(&self, now: Time, usage: &Usage) {
        lock(&self.registry).usage(now, usage);
    }
}

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The service with this id is registered.
    Registered(Arc<str>),
    /// The service with this id is not registered any more, or that was given up.
    Gone(Arc<str>),
    /// None is.
    Empty,
}

impl<R: Runtime> Hub<R> {
    /// The next exchange for own registrations.
    pub(crate) fn poll_desk(&self, now: Time) -> Poll {
        self.desk.as_ref().map_or(Poll::Wait(Time::NEVER), |desk| desk.poll(now))
    }

    /// Whether the goal is reached, or why it will not be without a person; `None`: not yet.
    pub(crate) fn settled(&self, goal: &Goal) -> Option<Result<(), Error>> {
        let Some(desk) = &self.desk else { return Some(Ok(())) };
        let registry = lock(&desk.registry);
        let (id, reached) = match goal {
            Goal::Empty => return registry.is_empty().then_some(Ok(())),
            Goal::Registered(id) => (id, registry.stage(id) == Some(Stage::Registered)),
            Goal::Gone(id) => (id, registry.stage(id).is_none()),
        };
        let refused = registry.trouble(id).filter(|error| !error.retryable()).cloned();
        match (refused, goal) {
            (None, _) if reached => Some(Ok(())),
            (Some(error), _) => Some(Err(Error::Consul { error: Box::new(error), report: None })),
            // Somebody has taken it back meanwhile.
            (None, Goal::Registered(id)) if registry.stage(id).is_none() => {
                let id = id.clone();
                Some(Err(origin_core::consul::registrar::Refused::Foreign { id }.into()))
            }
            (None, _) => None,
        }
    }
}

/// The agents of a client's Consul, as whom typed calls are run on. Made by
/// [`Client::consul`](crate::Client::consul).
pub struct Agents<R: Runtime> {
    hub: Arc<Hub<R>>,
}

impl<R: Runtime> Clone for Agents<R> {
    fn clone(&self) -> Self {
        Agents { hub: self.hub.clone() }
    }
}

impl<R: Runtime> Caller for Agents<R> {
    type Reply<T: Send + 'static> = R::Reply<T>;

    fn run<F: Flow>(&self, flow: F) -> R::Reply<F::Output> {
        match &self.hub.desk {
            Some(desk) => R::run(self.hub.clone(), desk.agents.clone(), flow),
            None => R::ready(Err(unconfigured())),
        }
    }
}

fn unconfigured() -> Error {
    let reason = "is not configured, or switched off; say where an agent is";
    ConfigError::new("discovery.consul", reason).into()
}

/// Consul: own registrations, and, by what it dereferences to, typed calls: `kv()`,
/// `catalogue()`, `agent()`, `intentions()`, `entries()`.
///
/// A registration is kept up by the client's background: TTL checks are renewed, and what the
/// agent has forgotten is registered again. An async client starts its background with the first
/// registration; **a blocking one needs `client.background()`**, for without it nobody renews.
///
/// Nothing is sent when the last clone of a client is dropped. Call [`Consul::leave_all`] before;
/// what is not taken back stays listed until its checks have failed for `deregister_after`.
pub struct Consul<R: Runtime> {
    hub: Arc<Hub<R>>,
    calls: Calls<Agents<R>>,
}

impl<R: Runtime> Clone for Consul<R> {
    fn clone(&self) -> Self {
        Consul { hub: self.hub.clone(), calls: self.calls.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Consul<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.registrations()).finish()
    }
}

impl<R: Runtime> Deref for Consul<R> {
    type Target = Calls<Agents<R>>;

    fn deref(&self) -> &Self::Target {
        &self.calls
    }
}

impl<R: Runtime> Consul<R> {
    pub(crate) fn of(hub: &Arc<Hub<R>>) -> Result<Consul<R>, Error> {
        let desk = hub.desk.as_ref().ok_or_else(unconfigured)?;
        let caller = Agents { hub: hub.clone() };
        let calls = Calls::new(caller, lock(&desk.registry).rules());
        Ok(Consul { hub: hub.clone(), calls })
    }

    fn read<T>(&self, read: impl FnOnce(&Registry) -> T) -> Option<T> {
        self.hub.desk.as_ref().map(|desk| read(&lock(&desk.registry)))
    }

    /// Changes something, which may make something due.
    fn registry<T>(&self, change: impl FnOnce(&mut Registry, Time) -> T) -> Result<T, Error> {
        let desk = self.hub.desk.as_ref().ok_or_else(unconfigured)?;
        let result = change(&mut lock(&desk.registry), self.hub.runtime.now());
        self.hub.news.notify(usize::MAX);
        Ok(result)
    }

    /// Wants a service registered from now on. Returns at once: whether the agent has taken it is
    /// told by [`Registered::wait`]. The same id again replaces the registration.
    ///
    /// # Errors
    /// What is wrong with the registration, by its field. Nothing is sent then.
    pub fn register(&self, config: &RegistrationConfig) -> Result<Registered<R>, Error> {
        let id = self.registry(|registry, now| registry.register(now, config))?;
        let id = id.map_err(|error| match error {
            NotWanted::Config(error) => Error::Config(error),
            NotWanted::Refused(refused) => Error::Registration(refused),
            other => ConfigError::new("registration", other.to_string()).into(),
        })?;
        R::attend(&self.hub);
        Ok(Registered::new(self.clone(), id))
    }

    /// Takes a service back that was registered here, and waits for that up to `within`. Yields
    /// whether it is over; if not, it goes on in the background, for
    /// `discovery.consul.registrar.leave_within` at the longest.
    ///
    /// Yields [`Error::Registration`], and nothing is sent, for a service that was not registered
    /// here; [`Error::Consul`] when the agent will not let it go.
    pub fn deregister(&self, id: &str, within: Duration) -> R::Reply<bool> {
        self.leaving(id, within, |registry, now| registry.deregister(now, id))
    }

    /// The same for a service that was **not** registered here, by explicit demand: what an
    /// earlier process has left behind.
    pub fn remove_foreign(&self, id: &str, within: Duration) -> R::Reply<bool> {
        self.leaving(id, within, |registry, now| registry.remove_foreign(now, id))
    }

    fn leaving(
        &self,
        id: &str,
        within: Duration,
        leave: impl FnOnce(&mut Registry, Time) -> Result<(), origin_core::consul::registrar::Refused>,
    ) -> R::Reply<bool> {
        match self.registry(leave) {
            Ok(Ok(())) => self.settle(Goal::Gone(id.into()), within),
            Ok(Err(refused)) => R::ready(Err(refused.into())),
            Err(error) => R::ready(Err(error)),
        }
    }

    /// Takes everything back that was registered here, as at the end of a program, and waits for
    /// that up to `within`. Yields whether nothing is left to be done.
    pub fn leave_all(&self, within: Duration) -> R::Reply<bool> {
        match self.registry(|registry, now| registry.leave_all(now)) {
            Ok(()) => self.settle(Goal::Empty, within),
            Err(error) => R::ready(Err(error)),
        }
    }

    fn settle(&self, goal: Goal, within: Duration) -> R::Reply<bool> {
        let until = self.hub.runtime.now().plus(within);
        R::settle(self.hub.clone(), goal, until)
    }

    /// Own registrations, in order of their ids, and where they stand.
    #[must_use]
    pub fn registrations(&self) -> Vec<View> {
        self.read(|registry| registry.views().collect()).unwrap_or_default()
    }

    /// What happened to own registrations since this was last called, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<(Time, Event)> {
        self.registry(|registry, _| registry.take_events()).unwrap_or_default()
    }
}
