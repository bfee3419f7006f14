//! The registry desk: own registrations of a client as jobs. It joins the machines that say *when*
//! something is asked of an agent ([`Registrar`], [`Cluster`], [`Indexes`]) to the codec that says
//! *how*, so that a driver only carries out HTTP exchanges and brings back what came of them.
//!
//! Of several agents one is used at a time. A registration lives on the agent that took it, so
//! spreading them would lose half of them with every look; and two agents with the same
//! registration list a service twice. When an exchange finds no answer at all the next agent is
//! used from then on: its first heartbeat or look shows that it knows nothing, and everything is
//! registered there. What was left on the old agent is not chased: its TTL check lapses, and
//! `deregister_after` removes it. An answer, even a refusal, never changes the agent.
//!
//! While the split-brain check fails, registrations are held (see [`super::consistency`]); what
//! discovery makes of it, and of an index that moved, is told by [`Told`].
//! Beside them stand the files that are rendered from what Consul knows ([`Renderer`]).
//! Who registers nothing, renders nothing, and switches both checks of consistency off, is never
//! asked for anything: this machine then waits forever.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(in crate::consul) use self::answer::trouble;
use super::agent;
use super::ask::{Answer, Ask, AskId, Asked, Beat, Trouble};
use super::consistency::{self, Agreement, Cluster, Indexes, Verdict};
use super::error::ConsulError;
use super::event::{Event, Events};
use super::kv::{self, Key};
use super::name::ServiceName;
use super::registrar::{self, Refused, Registrar, Stage, Ttl, View, Wanted};
use super::registration::Registration;
use super::settings::{Settings, Tokens};
use super::template::renderer::{self, Renderer};
use super::wire::Api;
use crate::config::{CheckStatus, ConfigError, ConsulConfig, RegistrationConfig};
use crate::discovery::directory::Usage;
use crate::job::{Job, JobId, JobOutcome, Poll, Work, mark};
use crate::notice::{self, Notices};
use crate::policy::balance::hash;
use crate::rng::Pcg32;
use crate::time::Time;

/// Marks the numbers of its jobs: those of discovery count up from zero.
const OWN: u64 = mark::REGISTRY;
/// Beside it, those of rendered files.
const FILES: u64 = mark::FOLLOWED;

/// The settings of the desk: those of Consul, and of the machines behind it.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Consul itself.
    pub consul: Settings,
    /// Its tokens.
    pub tokens: Tokens,
    /// Registering.
    pub registrar: registrar::Settings,
    /// Whether the cluster is whole and what is cached of its time.
    pub consistency: consistency::Settings,
    /// Files rendered from what Consul knows.
    pub templates: renderer::Settings,
}

impl Rules {
    /// Checks `config`, which stands at `path`, and compiles it; `variable` reads an environment
    /// variable, for tokens and for where Consul is.
    ///
    /// # Errors
    /// The first field that cannot be meant, and a token that is not there.
    pub fn of(
        config: &ConsulConfig,
        path: &str,
        mut variable: impl FnMut(&str) -> Option<String>,
    ) -> Result<Rules, ConfigError> {
        let config = &config.surrounded(path, &mut variable)?;
        let consul = Settings::of(config, path)?;
        let tokens = Tokens::of(&consul, variable)?;
        let registrar = registrar::Settings::of(&config.registrar, &format!("{path}.registrar"))?;
        let verify = format!("{path}.verify");
        let consistency = consistency::Settings::of(&config.verify, &verify)?;
        let templates = renderer::Settings::of(config);
        Ok(Rules { consul, tokens, registrar, consistency, templates })
    }
}

/// Which machine wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Registrar,
    Cluster,
    Indexes,
}

#[derive(Clone, Debug)]
struct Out {
    id: JobId,
    who: Who,
    asked: Asked,
    agent: usize,
}

/// What an outcome brought: for [`Directory::heed`](crate::discovery::Directory::heed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Somebody's index was compared: what is cached of the service is to be dropped unless
    /// they agree.
    pub agreement: Option<Agreement>,
    /// The members were counted.
    pub verdict: Option<Verdict>,
    /// How long that verdict counts when no other follows.
    pub holds_until: Time,
    /// A file was rendered, or cannot be.
    pub file: Option<renderer::Event>,
}

/// The registrations of a client, as jobs.
///
/// ```
/// use origin_core::Time;
/// use origin_core::config::{ConsulConfig, RegistrationConfig};
/// use origin_core::consul::registrar::Stage;
/// use origin_core::consul::registry::{Registry, Rules};
/// use origin_core::job::{JobOutcome, Poll};
///
/// let config = ConsulConfig::at("http://127.0.0.1:8500");
/// let rules = Rules::of(&config, "discovery.consul", |_| None)?;
/// let mut registry = Registry::new(rules, 42);
/// let now = Time::ZERO;
///
/// let api = RegistrationConfig::module("api", "api.local", 8080);
/// let id = registry.register(now, &api)?;
/// let Poll::Run(job) = registry.poll(now) else { panic!() };
/// assert!(job.http().unwrap().uri().path().ends_with("/v1/agent/service/register"));
/// // An adapter carries it out.
/// let taken = JobOutcome::Answered { status: 200, headers: Default::default(), body: "".into() };
/// registry.done(now, job.id, &taken);
/// assert_eq!(registry.stage(&id), Some(Stage::Registered));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    rules: Rules,
    registrar: Registrar,
    cluster: Cluster,
    indexes: Indexes,
    renderer: Renderer,
    own: BTreeMap<Arc<str>, Registration>,
    /// Why the agent last refused a registration, in its words.
    troubles: BTreeMap<Arc<str>, ConsulError>,
    /// Of these after they are gone, too: the agent would not let them go.
    kept: BTreeSet<Arc<str>>,
    out: Vec<Out>,
    agent: usize,
    next: u64,
    rng: Pcg32,
    /// What happened and was not taken yet, and all that happened of late.
    events: Events,
    notices: Notices,
}

/// Why a service is not registered. Said before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotWanted {
    /// The registration cannot be meant.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The registrar does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Registry {
    /// A desk with nothing to do.
    #[must_use]
    pub fn new(rules: Rules, seed: u64) -> Registry {
        Registry {
            renderer: Renderer::new(&rules.templates, OWN | FILES),
            rules,
            registrar: Registrar::new(),
            cluster: Cluster::new(),
            indexes: Indexes::default(),
            own: BTreeMap::new(),
            troubles: BTreeMap::new(),
            kept: BTreeSet::new(),
            out: Vec::new(),
            agent: 0,
            next: 0,
            events: Events::default(),
            notices: Notices::new(None),
            rng: Pcg32::new(seed, 0x7265_6769_7374_7279),
        }
    }

    /// Its settings.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Wants a service registered from now on, and yields its id. The same id again replaces the
    /// registration.
    ///
    /// # Errors
    /// What is wrong with it. Nothing is sent then.
    pub fn register(
        &mut self,
        now: Time,
        config: &RegistrationConfig,
    ) -> Result<Arc<str>, NotWanted> {
        let mut random = [0_u8; 16];
        for four in random.chunks_exact_mut(4) {
            four.copy_from_slice(&self.rng.bits().to_be_bytes());
        }
        let registration = Registration::of(config, "registration", random)?;
        let checks = registration.beats().iter();
        let wanted = Wanted {
            id: registration.id().clone(),
            service: registration.name().shared(),
            checks: checks.map(|(check, ttl)| Ttl { check: check.clone(), ttl: *ttl }).collect(),
            digest: hash::of(registration.body()),
        };
        self.registrar.want(now, &wanted)?;
        let id = wanted.id;
        self.kept.remove(&id);
        self.troubles.remove(&id);
        self.own.insert(id.clone(), registration);
        Ok(id)
    }

    /// Takes a service back.
    ///
    /// # Errors
    /// [`Refused::Foreign`]: it was not registered here. Nothing is sent then.
    pub fn deregister(&mut self, now: Time, id: &str) -> Result<(), Refused> {
        if let Err(refused) = self.registrar.leave(now, id, &self.rules.registrar) {
            if let Refused::Foreign { id } = &refused {
                self.gather();
                self.happened(now, Event::DeregistrationRefused { id: id.clone() });
            }
            return Err(refused);
        }
        self.troubles.remove(id);
        self.tidy();
        Ok(())
    }

    /// Removes a service that was not registered here, by explicit demand.
    ///
    /// # Errors
    /// An id that cannot be one.
    pub fn remove_foreign(&mut self, now: Time, id: &str) -> Result<(), Refused> {
        // What cannot be sent would only be tried in vain.
        if super::name::id(id).is_err() {
            return Err(Refused::Empty { field: "id".into() });
        }
        self.registrar.remove_foreign(now, id, &self.rules.registrar)?;
        self.troubles.remove(id);
        Ok(())
    }

    /// Takes all services back.
    pub fn leave_all(&mut self, now: Time) {
        self.registrar.leave_all(now, &self.rules.registrar);
        self.tidy();
    }

    /// Says how a service is, through one of its TTL checks, or through all of them. `false`: it
    /// has no such check.
    pub fn say(
        &mut self,
        now: Time,
        id: &str,
        check: Option<&str>,
        beat: Beat,
        note: &str,
    ) -> bool {
        let Some(registration) = self.own.get(id) else { return false };
        let mut any = false;
        for (name, _) in registration.beats() {
            if check.is_none_or(|check| check == &**name) {
                any |= self.registrar.say(now, id, name, beat, note);
            }
        }
        any
    }

    /// The service is in use: its index is compared, where that is switched on.
    pub fn used(&mut self, now: Time, service: &str) {
        self.indexes.used(now, service, &self.rules.consistency);
    }

    /// The same for what discovery has begun and ceased to look up.
    pub fn usage(&mut self, now: Time, usage: &Usage) {
        for service in &usage.began {
            self.used(now, service);
        }
        for service in &usage.ended {
            self.indexes.forget(service);
        }
    }

    /// Whether registrations are held back now: the cluster is not known to be whole.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.cluster.holds(&self.rules.consistency)
    }

    /// The next exchange, if one is due; else when to ask again, unless something is told before.
    pub fn poll(&mut self, now: Time) -> Poll {
        self.forget_lost(now);
        self.registrar.hold(now, self.cluster.holds(&self.rules.consistency));
        let rules = &self.rules;
        let mut next = Time::NEVER;
        for who in [Who::Registrar, Who::Cluster, Who::Indexes] {
            let poll = match who {
                Who::Registrar => self.registrar.poll(now, &rules.registrar, &mut self.rng),
                Who::Cluster => self.cluster.poll(now, &rules.consistency, &mut self.rng),
                Who::Indexes => self.indexes.poll(now, &rules.consistency, &mut self.rng),
            };
            match poll {
                Poll::Wait(at) => next = next.min(at),
                Poll::Run(asked) => return self.issue(now, who, *asked),
            }
        }
        let Rules { consul, tokens, templates, .. } = rules;
        match self.renderer.poll(now, self.holds(), templates, consul, tokens) {
            Poll::Wait(at) => Poll::Wait(next.min(at)),
            run @ Poll::Run(_) => run,
        }
    }

    fn issue(&mut self, now: Time, who: Who, asked: Asked) -> Poll {
        match self.request(&asked.ask) {
            Ok(request) => {
                let id = JobId(OWN | self.next);
                self.next = (self.next + 1) & !(OWN | FILES);
                let work = Work::Http { request, max_body: self.rules.consul.max_bytes() };
                let job = Job { id, work, deadline: asked.deadline };
                self.out.push(Out { id, who, asked, agent: self.agent });
                Poll::Run(Box::new(job))
            }
            // Cannot happen with ids that were checked; said so that it is tried rarely.
            Err(_) => {
                let answer = Answer::Failed(Trouble::Status(400));
                let _ = self.answer(now, who, asked.id, &answer);
                Poll::Wait(now.plus(crate::consul::ask::LATE))
            }
        }
    }

    /// Takes what came of a job; `None`: it is not one of its own, or not under way any more.
    pub fn done(&mut self, now: Time, id: JobId, outcome: &JobOutcome) -> Option<Told> {
        if id.0 & FILES != 0 {
            let Rules { templates, consul, .. } = &self.rules;
            let file = self.renderer.done(now, id, outcome.clone(), templates, consul);
            return Some(Told { file, ..Told::default() });
        }
        let at = self.out.iter().position(|out| out.id == id)?;
        let Out { who, asked, agent, .. } = self.out.swap_remove(at);
        let answer = answer::of(&self.rules.consul, &asked.ask, outcome);
        let answer = match answer {
            Ok(answer) => {
                if let Ask::Register(id) | Ask::Deregister(id) = &asked.ask
                    && matches!(answer, Answer::Done | Answer::Failed(Trouble::Unknown))
                {
                    self.kept.remove(id);
                    self.troubles.remove(id);
                }
                answer
            }
            Err(error) => {
                let trouble = answer::trouble(&error);
                if let Ask::Register(id) | Ask::Deregister(id) = &asked.ask {
                    self.troubles.insert(id.clone(), error);
                }
                if let Ask::Deregister(id) = &asked.ask {
                    // Known after the registrar has given up, too; bounded, the least id goes.
                    self.kept.insert(id.clone());
                    if self.kept.len() > registrar::MOST {
                        self.kept.pop_first();
                    }
                }
                Answer::Failed(trouble)
            }
        };
        // Only once for several exchanges that found the same agent gone.
        if matches!(answer, Answer::Failed(Trouble::Fault(_))) && agent == self.agent {
            self.agent =
                self.agent.wrapping_add(1).checked_rem(self.rules.consul.agents()).unwrap_or(0);
        }
        let told = self.answer(now, who, asked.id, &answer);
        self.tidy();
        Some(told)
    }

    /// Whether a job of this number is one of its own.
    #[must_use]
    pub const fn owns(id: JobId) -> bool {
        id.0 & OWN != 0
    }

    fn answer(&mut self, now: Time, who: Who, id: AskId, answer: &Answer) -> Told {
        let (rules, rng) = (&self.rules, &mut self.rng);
        let mut told = Told::default();
        match who {
            Who::Registrar => {
                let _ = self.registrar.done(now, id, answer, &rules.registrar, rng);
            }
            Who::Cluster => {
                told.verdict = self.cluster.done(now, id, answer, &rules.consistency, rng);
                told.holds_until = now.plus(rules.consistency.lasts());
            }
            Who::Indexes => {
                told.agreement = self.indexes.done(now, id, answer, &rules.consistency, rng);
            }
        }
        told
    }

    fn request(&self, ask: &Ask) -> Result<http::Request<bytes::Bytes>, ConsulError> {
        let api = Api::new(&self.rules.consul, &self.rules.tokens).at(self.agent);
        match ask {
            Ask::Register(id) => match self.own.get(id) {
                Some(registration) => agent::register(&api, registration),
                None => Err(ConsulError::field("id", "it is not known here")),
            },
            Ask::Deregister(id) => agent::deregister(&api, id),
            Ask::Beat { check, beat, note } => {
                let status = match beat {
                    Beat::Pass => CheckStatus::Passing,
                    Beat::Warn => CheckStatus::Warning,
                    Beat::Fail => CheckStatus::Critical,
                };
                agent::beat(&api, check, status, note)
            }
            Ask::Present => agent::services(&api),
            Ask::Members => agent::members(&api),
            Ask::Index(service) => kv::get(&api, &Key::index_of(&ServiceName::new(service)?), None),
        }
    }

    /// The machines have given them up by themselves.
    fn forget_lost(&mut self, now: Time) {
        self.out.retain(|out| now < out.asked.deadline.plus(super::ask::LATE));
    }

    /// What the registrar has let go of is not kept.
    fn tidy(&mut self) {
        let registrar = &self.registrar;
        self.own.retain(|id, _| registrar.stage(id).is_some());
        self.troubles.retain(|id, _| registrar.stage(id).is_some() || self.kept.contains(id));
    }

    /// Where a registration stands; `None`: it is gone, or never was.
    #[must_use]
    pub fn stage(&self, id: &str) -> Option<Stage> {
        self.registrar.stage(id)
    }

    /// Why the agent did not take a registration, or did not let it go, the last time.
    #[must_use]
    pub fn trouble(&self, id: &str) -> Option<&ConsulError> {
        self.troubles.get(id)
    }

    /// All registrations, in order of their ids.
    pub fn views(&self) -> impl Iterator<Item = View> + '_ {
        self.registrar.views()
    }

    /// Whether nothing is registered, wanted or leaving.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.registrar.is_empty()
    }

    /// Takes what happened, oldest first.
    #[must_use]
    pub fn take_events(&mut self) -> Vec<(Time, Event)> {
        self.gather();
        self.events.take()
    }

    /// What happened of late as notices, whoever has taken the events.
    #[must_use]
    pub fn notices(&mut self) -> &Notices {
        self.gather();
        &self.notices
    }

    fn gather(&mut self) {
        let mut events = self.registrar.events().take();
        events.extend(self.cluster.events().take());
        events.sort_by_key(|(at, _)| *at);
        for (at, event) in events {
            self.happened(at, event);
        }
    }

    fn happened(&mut self, at: Time, event: Event) {
        // A failure is told each time it is tried; it is noticed once.
        if !event.is_repeated() {
            let about = event.service().cloned();
            self.notices.push_about(at, about, notice::Event::Registry { what: event.clone() });
        }
        self.events.push(at, event);
    }
}

#[cfg(test)]
mod tests;
