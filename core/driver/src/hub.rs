//! What the handles of one client share: its machines behind their locks, and the bookkeeping
//! between them. No decision is made here: the directory says when to fetch, a service says
//! whom to call; the hub carries results from one to the other and wakes who waits.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use event_listener::Event;
use origin_core::consul::registry::Registry;
use origin_core::discovery::Directory;
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::plan::configured;
use origin_core::job::{Asker, JobId, JobOutcome, Poll};
use origin_core::learned::Learned;
use origin_core::metrics::Bounds;
use origin_core::notice::Notice;
use origin_core::ops::secrets::SERVICE;
use origin_core::s3::rotation::Rotation;
use origin_core::snapshot::Snapshot;
use origin_core::{Config, ConfigError, Error, Secret, Service, Time};

use crate::around;
use crate::cache::{Memory, Second};
use crate::carry::Carrier;
use crate::consul::Desk;
use crate::custom::{Custom, Threads};
use crate::followed::{Following, Ruled};
use crate::metering::Lessons;
use crate::observe::Voice;
use crate::observe::bell::{Bell, Lock, Noted};
use crate::observe::context::Source;
use crate::origin_vault::Purse;
use crate::own::Own;
use crate::runtime::Runtime;
use crate::sharing::Sharing;
use crate::signing::{Begun, Signing};
use crate::vault::Vault;
use crate::watch::Watchers;

/// Locks, whatever happened to an earlier holder: the machines have no invariant that a panic
/// of a driver could break half-way, since each step is one call.
pub(crate) fn lock<L: Lock>(mutex: &L) -> L::Held<'_> {
    mutex.hold()
}

/// One service of a client.
pub struct Slot {
    /// Its machine.
    pub(crate) service: Noted<Service>,
    /// Notified when its epoch moves.
    pub(crate) moved: Event,
    pub(crate) name: Arc<str>,
    /// Who its endpoints have to be, where it is reached over Connect.
    pub(crate) mesh: Option<Arc<str>>,
    /// Whether attempts carry the service-account token.
    pub(crate) bearer: bool,
    /// Whether its endpoints come from discovery.
    pub(crate) discovered: bool,
    /// Whether its endpoints are checked.
    pub(crate) checked: AtomicBool,
    /// When its next check is due, in nanoseconds: keeps the background off its lock. Zero when
    /// something has happened that may have changed it. Written under the lock of the service.
    pub(crate) check_due: AtomicU64,
    /// When its next exchange with other nodes is due, as `check_due`.
    pub(crate) share_due: AtomicU64,
    /// When a call should ask for a discovery job, in nanoseconds: keeps the lock of the directory
    /// off calls.
    discovery_due: AtomicU64,
    /// What is remembered of its answers.
    pub(crate) memory: Memory,
    /// Its custom checks under way.
    pub(crate) threads: Threads,
    /// Who is told when its endpoints change.
    pub(crate) watchers: Watchers,
}

impl Slot {
    pub(crate) fn new(
        service: Service,
        discovered: bool,
        memory: Memory,
        bell: &Arc<Bell>,
    ) -> Slot {
        Slot {
            name: service.name().clone(),
            checked: service.rules().checks.on().into(),
            service: Noted::new(service, bell),
            moved: Event::new(),
            mesh: None,
            bearer: false,
            discovered,
            check_due: AtomicU64::new(0),
            share_due: AtomicU64::new(0),
            discovery_due: AtomicU64::new(0),
            memory,
            threads: Threads::default(),
            watchers: Watchers::default(),
        }
    }

    /// Whether its endpoints are checked, from now on.
    pub(crate) fn checks_on(&self, on: bool) {
        self.checked.store(on, Ordering::Relaxed);
        self.check_due.store(0, Ordering::Release);
    }
}

/// Custom checks by their names.
pub(crate) type Customs = BTreeMap<Arc<str>, Custom>;

/// The shared inside of a client. Applications see it only through the adapters.
pub struct Hub<R> {
    pub(crate) runtime: Arc<R>,
    config: RwLock<Arc<Config>>,
    /// `limits.body`, which every call reads.
    max_body: AtomicU64,
    pub(crate) seed: u64,
    pub(crate) token: Option<Secret>,
    /// Who this program is.
    pub(crate) own: Own,
    /// How a token for Vault is had and kept, where that is configured.
    pub(crate) vault: Option<Vault>,
    /// How requests to storage are signed.
    pub(crate) storage: Signing,
    /// The session with the other Origin vault.
    pub(crate) purse: Purse,
    pub(crate) directory: Option<Noted<Directory>>,
    /// Consul for the application, where it is configured.
    pub(crate) desk: Option<Desk>,
    /// What is followed in Consul beside services, if anything is.
    pub(crate) following: Option<Following>,
    /// How breaker knowledge is shared, if it is.
    pub(crate) sharing: Option<Sharing>,
    /// Where answers are shared, if there is a Redis.
    pub(crate) second: Option<Second>,
    slots: RwLock<BTreeMap<Arc<str>, Arc<Slot>>>,
    /// What an earlier run has learnt.
    lessons: Option<Lessons>,
    /// How durations are counted.
    bounds: Bounds,
    next_call: AtomicU64,
    pub(crate) customs: Customs,
    /// Does the jobs that are no HTTP exchange.
    pub(crate) carrier: Arc<Carrier>,
    /// Whether it was closed: nothing begins any more beside calls.
    pub(crate) closing: AtomicBool,
    /// Notified when what is under way beside calls is to end.
    pub(crate) closed: Arc<Event>,
    /// Rung when a machine has something to say.
    pub(crate) bell: Arc<Bell>,
    /// How far that is logged.
    pub(crate) voice: Voice,
    /// Who knows the ids of the current span.
    pub(crate) trace_source: Option<Source>,
    /// Notified when a background should look again, also because the client was dropped.
    pub(crate) news: Arc<Event>,
    /// Whether there is a background task.
    #[cfg(feature = "hyper")]
    pub(crate) background: std::sync::atomic::AtomicBool,
}

impl<R: Runtime> Hub<R> {
    pub(crate) fn new(
        runtime: R,
        config: Config,
        seed: u64,
        token: Option<Secret>,
        customs: Customs,
        carrier: Carrier,
        (papers, own, bell, learned): (Option<u64>, Own, Arc<Bell>, Option<Learned>),
    ) -> Result<Hub<R>, ConfigError> {
        let around = around::surroundings(&config);
        let directory = Directory::new(&config, seed, &around)?.map(|d| Noted::new(d, &bell));
        let desk = Desk::new(runtime.now(), &config, seed, &around, &bell)?;
        let following = Following::new(runtime.now(), &config, seed, &around, papers, &bell)?;
        let sharing = Sharing::of(&config)?;
        let second = Second::of(&config, seed, &bell)?;
        let vault = Vault::new(&config, seed, token.as_ref(), &bell)?;
        let storage = Signing::new(Begun::new(runtime.now(), &config)?, &bell);
        // What cannot be used is as good as nothing: a client starts all the same.
        let lessons = learned.and_then(|learned| Lessons::of(learned, &runtime).ok());
        let hub = Hub {
            lessons,
            bounds: config.metrics.check("metrics")?,
            runtime: Arc::new(runtime),
            seed,
            token,
            own,
            vault,
            storage,
            purse: Purse::default(),
            directory,
            desk,
            following,
            sharing,
            second,
            slots: RwLock::default(),
            next_call: AtomicU64::new(0),
            customs,
            carrier: Arc::new(carrier),
            closing: AtomicBool::new(false),
            closed: Arc::new(Event::new()),
            bell,
            voice: Voice::default(),
            trace_source: None,
            news: Arc::new(Event::new()),
            #[cfg(feature = "hyper")]
            background: false.into(),
            max_body: AtomicU64::new(config.limits.body),
            config: RwLock::new(Arc::new(config)),
        };
        let now = hub.runtime.now();
        let names: Vec<String> = hub.config().services.keys().cloned().collect();
        for name in names {
            hub.open(now, &name)?;
        }
        if hub.vault.as_ref().is_some_and(Vault::needs_nodes) && hub.directory.is_some() {
            hub.open(now, SERVICE)?;
        }
        Ok(hub)
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same; it is not replaced while this is kept.
    pub(crate) fn read_config(&self) -> std::sync::RwLockReadGuard<'_, Arc<Config>> {
        self.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to be replaced.
    pub(crate) fn write_config(&self) -> std::sync::RwLockWriteGuard<'_, Arc<Config>> {
        self.config.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Largest body that is collected, where the call does not say.
    pub(crate) fn max_body(&self) -> u64 {
        self.max_body.load(Ordering::Relaxed)
    }

    pub(crate) fn set_max_body(&self, bytes: u64) {
        self.max_body.store(bytes, Ordering::Relaxed);
    }

    /// The number of the next call: its random stream.
    pub(crate) fn call_number(&self) -> u64 {
        self.next_call.fetch_add(1, Ordering::Relaxed)
    }

    /// The slot of `name`, made on first use.
    ///
    /// A name that the present discovery document does not know is refused here, without a
    /// request and without a slot, so that wrong names cannot fill memory.
    pub(crate) fn slot(&self, name: &str) -> Result<Arc<Slot>, Error> {
        if let Some(slot) = self.read_slots().get(name) {
            return Ok(slot.clone());
        }
        let now = self.runtime.now();
        let unknown = |known| Error::UnknownService { service: name.into(), known };
        match &self.directory {
            None => return Err(unknown(self.read_slots().keys().cloned().collect())),
            Some(directory) => {
                // Bound before the match: the guard of a scrutinee would live through it.
                let resolution = lock(directory).resolve(now, name);
                if let Resolution::Absent(known) = resolution {
                    return Err(unknown(self.with_configured(known)));
                }
            }
        }
        Ok(self.open(now, name)?)
    }

    fn with_configured(&self, mut known: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let slots = self.read_slots();
        known.extend(slots.values().filter(|slot| !slot.discovered).map(|slot| slot.name.clone()));
        known.sort();
        known.dedup();
        known
    }

    pub(crate) fn read_slots(
        &self,
    ) -> std::sync::RwLockReadGuard<'_, BTreeMap<Arc<str>, Arc<Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every slot there is, one after the other.
    pub(crate) fn each_slot(&self, each: impl FnMut(&Arc<Slot>)) {
        self.read_slots().values().for_each(each);
    }

    fn open(&self, now: Time, name: &str) -> Result<Arc<Slot>, ConfigError> {
        origin_core::config::check_service_name(name)?;
        // Both kept until the slot is there: rules or a document that came in between would miss it.
        let config = self.read_config();
        let mut directory = None;
        let own = config.services.get(name);
        let Ruled { rules, profiles, suggested } = self.rules_for(&config, name)?;
        let memory = Memory::new(now, self.seed, config.cache_for(name)?);
        let mut service = Service::new(name.into(), rules, self.seed)
            .with_profiles(profiles)
            .with_bounds(self.bounds);
        if let Some(lessons) = &self.lessons {
            lessons.tell(now, &mut service);
        }
        let local = config.local_cluster.as_deref();
        let endpoints = match own {
            Some(own) => configured(name, own, local)?,
            None => Vec::new(),
        };
        let discovered = endpoints.is_empty();
        let mut mesh = None;
        let resolution = match &self.directory {
            _ if !discovered => Resolution::Found(endpoints),
            Some(mutex) => {
                let directory = directory.insert(lock(mutex));
                mesh = directory.mesh_name(name);
                let resolution = directory.resolve(now, name);
                self.over_mesh(now, service.name(), mesh.as_ref(), resolution)
            }
            None => Resolution::Absent(Vec::new()),
        };
        if let Some(vault) = &self.vault {
            vault.resolved(name, &resolution);
        }
        service.resolve(now, resolution);
        if let Some(sharing) = self.sharing.as_ref().filter(|_| !self.is_closing()) {
            sharing.with(now, &mut service)?;
        }
        let bearer = self.own.names(name);
        let slot = Slot { mesh, bearer, ..Slot::new(service, discovered, memory, &self.bell) };
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let (slot, suggested) = match slots.entry(slot.name.clone()) {
            Entry::Occupied(there) => (there.get().clone(), None),
            Entry::Vacant(place) => (place.insert(Arc::new(slot)).clone(), suggested),
        };
        drop(slots);
        if let Some(suggested) = suggested {
            self.tell_suggested(now, &slot.name, suggested);
        }
        drop((directory, config));
        let shares = self.sharing.is_some();
        if slot.checked.load(Ordering::Relaxed) || shares || slot.memory.is_on() {
            self.news.notify(usize::MAX);
        }
        Ok(slot)
    }

    /// Whether a call on `slot` should look after discovery first. No lock.
    pub(crate) fn discovery_due(&self, slot: &Slot, now: Time) -> bool {
        slot.discovered && now.as_nanos() >= slot.discovery_due.load(Ordering::Relaxed)
    }

    /// Whether a call on `slot` should start the background first, for its health checks or
    /// for what other nodes know. No lock.
    #[cfg(feature = "hyper")]
    pub(crate) fn unattended(&self, slot: &Slot) -> bool {
        let followed = self.sharing.is_some() || self.following.is_some();
        let followed = followed || self.storage.is_followed();
        (slot.checked.load(Ordering::Relaxed) || followed)
            && !self.background.load(Ordering::Relaxed)
    }

    /// Whether there is no background task yet.
    #[cfg(feature = "hyper")]
    pub(crate) fn is_alone(&self) -> bool {
        !self.background.load(Ordering::Relaxed)
    }

    /// Asks for a job: for a call the directory, for a background own registrations first.
    pub(crate) fn poll_job(&self, now: Time, slot: Option<&Slot>, until: Time) -> Poll {
        let wait = match (&self.desk, slot) {
            (Some(desk), None) => {
                self.say_usage(now, desk);
                match desk.poll(now) {
                    Poll::Run(job) => return Poll::Run(job),
                    Poll::Wait(at) => at,
                }
            }
            _ => Time::NEVER,
        };
        let wait = match slot {
            None => match self.poll_identity() {
                Poll::Run(job) => return Poll::Run(job),
                Poll::Wait(at) => wait.min(at),
            },
            Some(_) => wait,
        };
        let wait = match (&self.vault, slot) {
            (Some(vault), None) => match vault.poll(now) {
                Poll::Run(job) => return Poll::Run(job),
                Poll::Wait(at) => wait.min(at),
            },
            _ => wait,
        };
        let wait = match slot {
            Some(_) => wait,
            None => match self.storage.poll(now) {
                Poll::Run(job) => return Poll::Run(job),
                Poll::Wait(at) => wait.min(at),
            },
        };
        let wait = match self.poll_followed(now, slot, until) {
            Poll::Run(job) => return Poll::Run(job),
            Poll::Wait(at) => wait.min(at),
        };
        match self.poll_directory(now, slot, until) {
            Poll::Wait(at) => Poll::Wait(at.min(wait)),
            run @ Poll::Run(_) => run,
        }
    }

    /// Tells the registry desk what discovery looks up.
    fn say_usage(&self, now: Time, desk: &Desk) {
        let Some(directory) = &self.directory else { return };
        let usage = lock(directory).take_usage();
        if !usage.is_empty() {
            desk.usage(now, &usage);
        }
    }

    fn poll_directory(&self, now: Time, slot: Option<&Slot>, until: Time) -> Poll {
        let Some(directory) = &self.directory else { return Poll::Wait(Time::NEVER) };
        let mut directory = lock(directory);
        directory.calendar(now, self.runtime.wall());
        let elapsed = directory.elapsed(now);
        if !elapsed.is_empty() {
            self.tell(now, &mut directory, &elapsed);
        }
        let Some(slot) = slot else { return directory.poll_job(now, Asker::Background) };
        let poll = directory.poll_job(now, Asker::Call { service: &slot.name, until });
        let due = directory.call_due(now, &slot.name);
        slot.discovery_due.store(due.as_nanos(), Ordering::Relaxed);
        poll
    }

    /// Brings the result of a job back, tells every service, and wakes who waits. Returns whether
    /// another exchange follows at once.
    pub(crate) fn finish_job(&self, id: JobId, outcome: JobOutcome) -> bool {
        let more = self.job_finished(id, outcome);
        self.speak();
        more
    }

    fn job_finished(&self, id: JobId, outcome: JobOutcome) -> bool {
        let mut outcome = Some(outcome);
        if let Some(more) = self.identity_done(id, &mut outcome) {
            return more;
        }
        if let Some(more) = self.followed_done(id, &mut outcome) {
            return more;
        }
        let Some(outcome) = outcome else { return false };
        if let Some(desk) = self.desk.as_ref().filter(|_| Registry::owns(id)) {
            let now = self.runtime.now();
            let told = desk.done(now, id, &outcome);
            if let (Some(told), Some(directory)) = (told, &self.directory) {
                let mut directory = lock(directory);
                let moved = directory.heed(now, &told);
                self.tell(now, &mut directory, &moved.services);
            }
            self.news.notify(usize::MAX);
            return false;
        }
        if let Some(vault) =
            self.vault.as_ref().filter(|_| origin_core::vault::desk::Desk::owns(id))
        {
            vault.done(self.runtime.now(), id, &outcome);
            self.news.notify(usize::MAX);
            return false;
        }
        if Rotation::owns(id) {
            self.storage.done(self.runtime.now(), id, outcome);
            self.news.notify(usize::MAX);
            return false;
        }
        let Some(directory) = &self.directory else { return false };
        let now = self.runtime.now();
        let mut directory = lock(directory);
        let moved = directory.job_done(now, id, outcome);
        self.tell(now, &mut directory, &moved.services);
        drop(directory);
        self.news.notify(usize::MAX);
        moved.more
    }

    /// Tells services what discovery knows of them now, and wakes who waits for it.
    fn tell(&self, now: Time, directory: &mut Directory, services: &[Arc<str>]) {
        let slots: Vec<Arc<Slot>> = {
            let slots = self.read_slots();
            services.iter().filter_map(|name| slots.get(name).cloned()).collect()
        };
        // The directory is locked, so that an older list cannot overtake a newer one.
        for slot in slots.iter().filter(|slot| slot.discovered) {
            let resolution = directory.resolve(now, &slot.name);
            let resolution = self.over_mesh(now, &slot.name, slot.mesh.as_ref(), resolution);
            let due = directory.call_due(now, &slot.name);
            slot.discovery_due.store(due.as_nanos(), Ordering::Relaxed);
            slot.watchers.tell(now, &resolution);
            if let Some(vault) = &self.vault {
                vault.resolved(&slot.name, &resolution);
            }
            let mut service = lock(&slot.service);
            service.resolve(now, resolution);
            slot.check_due.store(0, Ordering::Release);
        }
        for slot in slots {
            slot.moved.notify(usize::MAX);
        }
    }

    /// Forgets where a service runs, and asks anew.
    pub(crate) fn rediscover(&self, name: &str) {
        let Some(directory) = &self.directory else { return };
        let now = self.runtime.now();
        let mut directory = lock(directory);
        let moved = directory.invalidate(now, name);
        self.tell(now, &mut directory, &moved.services);
        drop(directory);
        self.news.notify(usize::MAX);
    }

    /// Tells the services that are reached over Connect what is known of them now.
    pub(crate) fn tell_mesh(&self, now: Time) {
        let Some(directory) = &self.directory else { return };
        let mut names = Vec::new();
        self.each_slot(|slot| names.extend(slot.mesh.as_ref().map(|_| slot.name.clone())));
        if !names.is_empty() {
            self.tell(now, &mut lock(directory), &names);
        }
    }

    /// What discovery knows of a service now, and since when it is so, looked at under the lock of
    /// the directory: nothing newer is told meanwhile. `None` when it is not from discovery.
    pub(crate) fn resolve_with<T>(
        &self,
        slot: &Slot,
        look: impl FnOnce(Time, &Resolution, Time) -> T,
    ) -> Option<T> {
        let mut directory = lock(self.directory.as_ref().filter(|_| slot.discovered)?);
        let now = self.runtime.now();
        let resolution = directory.resolve(now, &slot.name);
        let resolution = self.over_mesh(now, &slot.name, slot.mesh.as_ref(), resolution);
        let changed = directory.version(&slot.name).map_or(now, |(_, changed)| changed);
        Some(look(now, &resolution, changed))
    }

    /// Everything the client knows, at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { notices: self.notices(), ..self.measure() }
    }

    /// The kept notices of all machines, oldest first.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let mut notices: Vec<Notice> = Vec::new();
        if let Some(directory) = &self.directory {
            notices.extend(lock(directory).notices().since(0).cloned());
        }
        notices.extend(self.second.iter().flat_map(Second::notices));
        if let Some(following) = &self.following {
            following.read(|machine| notices.extend(machine.notices().since(0).cloned()));
        }
        let slots: Vec<Arc<Slot>> = self.read_slots().values().cloned().collect();
        if let Some(desk) = &self.desk {
            notices.extend(desk.notices());
        }
        notices.extend(self.vault.iter().flat_map(Vault::notices));
        notices.extend(self.storage.notices());
        notices.extend(self.identity_notices());
        for slot in slots.iter().chain(self.agents()) {
            notices.extend(lock(&slot.service).notices().since(0).cloned());
        }
        notices.sort_by_key(|notice| notice.at);
        notices
    }

    /// The agents of Consul as a service: no other one, though it may have the same name.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.desk.iter().map(|desk| &desk.agents)
    }

    /// The sources of discovery, for errors; those of one service, if it is known.
    pub(crate) fn source(&self, service: &str) -> String {
        self.directory
            .as_ref()
            .map_or_else(String::new, |directory| lock(directory).source(service))
    }
}

impl<R> Drop for Hub<R> {
    fn drop(&mut self) {
        self.closed.notify(usize::MAX);
        self.news.notify(usize::MAX);
        self.bell.moved.notify(usize::MAX);
        self.voice.finish();
        for slot in self.slots.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            slot.watchers.wake();
        }
    }
}
