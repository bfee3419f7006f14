//! One simulated world: a client, the network around it, what is planned to happen, and what has
//! happened. This file keeps time; what a client does is in `drive` and `jobs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use origin_core::call::AttemptId;
use origin_core::config::Rules;
use origin_core::discovery::{Directory, Surroundings};
use origin_core::job::{JobId, JobOutcome};
use origin_core::notice::{self, Notice};
use origin_core::outcome::Outcome;
use origin_core::rng::Pcg32;
use origin_core::snapshot::Snapshot;
use origin_core::{CallSpec, Config, ConfigError, Service, Time};
use origin_lab::Mode;

use super::audit::Audit;
use super::drive::Flight;
use super::net::Network;
use super::queue::Queue;
use super::record::{Done, Entry, Figures, What};

/// Calls that come at a rate, whatever becomes of those before them.
#[derive(Clone, Debug)]
pub struct Load {
    /// The service called.
    pub service: Arc<str>,
    /// Calls per second. The gaps between them vary by half in both directions.
    pub per_second: u32,
    /// From when.
    pub from: Time,
    /// Until when.
    pub until: Time,
    /// What is asked.
    pub spec: CallSpec,
    /// How many calls in a thousand are dropped by their caller before they end.
    pub dropped_permille: u32,
}

/// Something planned.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub at: Time,
    /// What.
    pub what: Turn,
}

/// What can be planned.
#[derive(Clone, Debug)]
pub enum Turn {
    /// The server at this address behaves like this from now on.
    Server(String, Mode),
    /// Packets to this address are lost, or arrive again.
    Dark(String, bool),
    /// The discovery server behaves like this from now on.
    Registry(Mode),
    /// The discovery server has a new document.
    Publish(String),
    /// The background of the client dies.
    BackgroundDies,
    /// A new phase of the record begins.
    Phase(String),
}

pub(super) enum Event {
    Arrive(usize),
    Change(usize),
    Wake { call: u64, turn: u32 },
    End { call: u64, attempt: AttemptId, outcome: Outcome },
    JobEnd { carrier: Option<u64>, id: JobId, outcome: JobOutcome },
    Background,
    Drop { call: u64 },
}

pub(super) struct Slot {
    pub(super) service: Service,
    pub(super) discovered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Background {
    /// This client has none (a blocking one).
    None,
    /// It starts with the first call that needs it.
    Idle,
    /// It runs.
    Running,
}

/// A client in its network, in virtual time.
pub struct World {
    pub(super) now: Time,
    pub(super) config: Config,
    pub(super) seed: u64,
    pub(super) network: Network,
    pub(super) queue: Queue<Event>,
    pub(super) directory: Option<Directory>,
    pub(super) slots: BTreeMap<Arc<str>, Slot>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) next_call: u64,
    pub(super) background: Background,
    /// Attempts a call may have out at the same time: as the async drivers, or the blocking one.
    pub(super) abreast: u8,
    pub(super) log: Vec<Entry>,
    pub(super) done: Vec<Done>,
    pub(super) audit: Audit,
    rng: Pcg32,
    loads: Vec<Load>,
    changes: Vec<Change>,
    phases: Vec<(Time, String)>,
    seen: BTreeMap<Arc<str>, u64>,
    kept: Vec<Notice>,
}

impl World {
    /// A client of `config` in `network`. With `background`, it refreshes discovery ahead of
    /// expiry once its first call has been made, as the async drivers do.
    ///
    /// # Errors
    /// What a real client would refuse at build.
    pub fn new(
        config: Config,
        seed: u64,
        mut network: Network,
        background: bool,
    ) -> Result<World, ConfigError> {
        config.check()?;
        let rules = Rules::of(&config.policy, "policy")?;
        network.limits(rules.connect, config.limits.head as u64, config.limits.body);
        let directory = Directory::new(&config, seed, &Surroundings::default())?;
        let backoff = config.discovery.as_ref().map(|discovery| discovery.backoff);
        let names: Vec<String> = config.services.keys().cloned().collect();
        let mut world = World {
            now: Time::ZERO,
            seed,
            network,
            queue: Queue::new(seed),
            directory,
            slots: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_call: 0,
            background: if background { Background::Idle } else { Background::None },
            abreast: if background { 3 } else { 1 },
            log: Vec::new(),
            done: Vec::new(),
            audit: Audit::new(backoff),
            rng: Pcg32::new(seed, 0x10ad),
            loads: Vec::new(),
            changes: Vec::new(),
            phases: vec![(Time::ZERO, "start".to_owned())],
            seen: BTreeMap::new(),
            kept: Vec::new(),
            config,
        };
        for name in names {
            world.open(&name)?;
        }
        Ok(world)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The network, to change it at once.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Plans a change.
    pub fn plan(&mut self, at: Time, what: Turn) {
        self.queue.push(at, Event::Change(self.changes.len()));
        self.changes.push(Change { at, what });
    }

    /// Plans calls.
    pub fn load(&mut self, load: Load) {
        self.queue.push(load.from, Event::Arrive(self.loads.len()));
        self.loads.push(load);
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: Time) {
        while self.queue.due().is_some_and(|at| at <= end) {
            self.turn();
        }
        self.now = self.now.max(end);
    }

    /// Lets time pass until no call is under way and none is planned before `latest`; then looks
    /// whether anything was left behind.
    pub fn settle(&mut self, latest: Time) {
        let busy = |world: &World| {
            !world.flights.is_empty() || world.loads.iter().any(|load| load.until > world.now)
        };
        while busy(self) && self.queue.due().is_some_and(|at| at <= latest) {
            self.turn();
        }
        if let Some(call) = self.flights.keys().next() {
            self.audit.note(format!("call {call} is still under way at {:?}", self.now));
        }
        self.take_stock();
        for slot in self.slots.values_mut() {
            let snapshot = slot.service.snapshot(self.now);
            let over = snapshot.answered + snapshot.failed + snapshot.abandoned;
            if snapshot.calls != over || slot.service.counts().misuse > 0 {
                self.audit.note(format!("counts do not add up: {:?}", slot.service.counts()));
            }
        }
    }

    /// Lets the next thing happen.
    pub(super) fn turn(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Arrive(number) => self.arrive(number),
            Event::Change(number) => self.change(number),
            Event::Wake { call, turn } => self.woken(call, turn),
            Event::End { call, attempt, outcome } => self.ended(call, attempt, outcome),
            Event::JobEnd { carrier, id, outcome } => self.job_ended(carrier, id, outcome),
            Event::Background => self.background_turn(),
            Event::Drop { call } => self.drop_call(call),
        }
        self.keep_notices();
        self.audit.turns += 1;
        if self.audit.turns.is_multiple_of(64) {
            self.take_stock();
        }
    }

    fn arrive(&mut self, number: usize) {
        let load = self.loads[number].clone();
        if self.now >= load.until {
            return;
        }
        let call = self.call(&load.service, load.spec);
        if self.rng.below(1000) < load.dropped_permille && self.flights.contains_key(&call) {
            let after = Duration::from_nanos(self.rng.up_to(200_000_000));
            self.queue.push(self.now.plus(after), Event::Drop { call });
        }
        let gap = 1_000_000_000 / u64::from(load.per_second.max(1));
        let next = Duration::from_nanos(gap / 2 + self.rng.up_to(gap));
        self.queue.push(self.now.plus(next), Event::Arrive(number));
    }

    fn change(&mut self, number: usize) {
        match self.changes[number].what.clone() {
            Turn::Server(address, mode) => {
                if let Some(server) = self.network.server(&address) {
                    server.set(mode);
                }
            }
            Turn::Dark(address, dark) => {
                if let Some(server) = self.network.server(&address) {
                    server.dark = dark;
                }
            }
            Turn::Registry(mode) => self.network.registry().set(mode),
            Turn::Publish(document) => self.network.publish(document),
            Turn::BackgroundDies => self.background = Background::None,
            Turn::Phase(name) => self.phases.push((self.now, name)),
        }
    }

    /// Compares what endpoints hold with what is under way.
    fn take_stock(&mut self) {
        for (name, slot) in &mut self.slots {
            let flights = self.flights.values().filter(|flight| flight.service == *name);
            let live = flights
                .flat_map(|flight| &flight.out)
                .filter(|(_, to)| slot.service.address(*to).is_some())
                .count();
            let permits = slot.service.rules().breaker.half_open_permits;
            let snapshot = slot.service.snapshot(self.now);
            self.audit.stock(self.now, &snapshot, live, permits);
        }
    }

    /// Notices fall out of their rings; those that tell of switches and breakers are kept.
    fn keep_notices(&mut self) {
        for (name, slot) in &self.slots {
            let notices = slot.service.notices();
            let seen = self.seen.entry(name.clone()).or_default();
            if notices.count() > *seen {
                let rare = |notice: &&Notice| {
                    !matches!(
                        notice.event,
                        notice::Event::ConnectionIssue { .. } | notice::Event::Failover { .. }
                    )
                };
                self.kept.extend(notices.since(*seen).filter(rare).cloned());
                *seen = notices.count();
            }
        }
    }

    pub(super) fn write(&mut self, call: Option<u64>, what: What) {
        self.log.push(Entry { at: self.now, call, what });
    }

    /// The decision log so far.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// The calls that are over, in the order they ended.
    #[must_use]
    pub fn done(&self) -> &[Done] {
        &self.done
    }

    /// What was found wrong, a line each.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.audit.violations
    }

    /// The configuration of the client.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Notices of switches, breakers and suppressed retries.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.kept
    }

    /// How often another cluster took over.
    #[must_use]
    pub fn switches(&self) -> usize {
        let is = |n: &&Notice| matches!(n.event, notice::Event::Switched { .. });
        self.kept.iter().filter(is).count()
    }

    /// The figures of the calls begun between two points.
    #[must_use]
    pub fn figures(&self, from: Time, until: Time) -> Figures {
        Figures::of(self.done.iter().filter(|d| d.began >= from && d.began < until))
    }

    /// The phases with their names and bounds.
    pub fn phases(&self) -> impl Iterator<Item = (&str, Time, Time)> {
        let ends = self.phases.iter().skip(1).map(|(at, _)| *at).chain([Time::NEVER]);
        self.phases.iter().zip(ends).map(|((from, name), until)| (name.as_str(), *from, until))
    }

    /// Everything the client knows, put together as the driver does.
    pub fn snapshot(&mut self) -> Snapshot {
        let now = self.now;
        let mut services: Vec<_> =
            self.slots.values_mut().map(|slot| slot.service.snapshot(now)).collect();
        let mut notices: Vec<Notice> = Vec::new();
        if let Some(directory) = &mut self.directory {
            notices.extend(directory.notices().since(0).cloned());
            for name in directory.names() {
                if services.iter().all(|service| service.name != name) {
                    let mut idle = Service::new(name.clone(), Rules::default(), self.seed);
                    idle.resolve(now, directory.peek(now, &name));
                    services.push(idle.snapshot(now));
                }
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        for slot in self.slots.values() {
            notices.extend(slot.service.notices().since(0).cloned());
        }
        notices.sort_by_key(|notice| notice.at);
        let discovery = self.directory.as_ref().map(|d| d.snapshot(now)).unwrap_or_default();
        Snapshot {
            at: now,
            discovery,
            services,
            vault: None,
            identity: Default::default(),
            shared_lists: None,
            shared_answers: None,
            credentials: Vec::new(),
            events: Vec::new(),
            notices,
        }
    }
}

impl World {
    /// The cluster that calls of the first service should be answered by when all is well.
    pub(super) fn preferred_cluster(&mut self) -> Option<String> {
        let now = self.now;
        let slot = self.slots.values_mut().next()?;
        let first = slot.service.snapshot(now).endpoints.into_iter().next();
        first.map(|endpoint| endpoint.cluster.to_string())
    }
}
