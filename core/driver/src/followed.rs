//! What is followed in Consul (`consul::followed`) put in force: certificates of the mesh and
//! towards agents through the TLS exchange, defaults by the way of a reconfiguration. What is
//! followed when, and what it means, is decided in the core.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use origin_core::config::Rules;
use origin_core::consul::ask::Trouble;
use origin_core::consul::entries::Suggestion;
use origin_core::consul::followed::{self, Followed, News, Said};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{DiscoveryError, Surroundings};
use origin_core::identity::files::Content;
use origin_core::job::{JobId, JobOutcome, Poll};
use origin_core::{Config, ConfigError, Time};

use crate::expect::{Target, target};
use crate::hub::{Hub, Slot, lock};
use crate::identity::{Chain, Form, Identity, Piece};
use crate::observe::bell::{Bell, Noted};
use crate::realm::{Credentials, Place, Places, RealmChange};
use crate::roots::Roots;
use crate::runtime::Runtime;
use crate::secure::TlsChange;

/// A service of the mesh: its name there, and where it is.
type Placed = (Arc<str>, Vec<Target>);

/// What a client follows.
pub(crate) struct Following {
    machine: Noted<Followed>,
    /// Services reached over Connect, by their names here.
    placed: Mutex<BTreeMap<Arc<str>, Placed>>,
    /// Held over putting certificates in force, so that what comes later stays.
    turn: Mutex<()>,
    /// Whether there are certificates of the mesh in force.
    ready: AtomicBool,
    /// What is suggested for services, and whether it could be put in force.
    suggested: Mutex<BTreeMap<Arc<str>, (Suggestion, bool)>>,
}

/// The rules of a service, not yet in force.
pub(crate) struct Ruled {
    pub(crate) rules: Rules,
    pub(crate) profiles: Vec<(Arc<str>, Rules)>,
    pub(crate) suggested: Option<Suggested>,
}

/// What Consul suggests for a service, where that is news.
pub(crate) struct Suggested {
    suggestion: Suggestion,
    /// Why it cannot be meant.
    refused: Option<ConfigError>,
}

impl Following {
    /// `None` where nothing is followed. `used` is the digest of the files of TLS in use.
    pub(crate) fn new(
        now: Time,
        config: &Config,
        seed: u64,
        around: &Surroundings,
        used: Option<u64>,
        bell: &Arc<Bell>,
    ) -> Result<Option<Following>, ConfigError> {
        let consul = config.discovery.as_ref().and_then(|discovery| discovery.consul.as_ref());
        let Some(consul) = consul.filter(|consul| consul.enabled) else { return Ok(None) };
        let path = "discovery.consul";
        let rules = followed::Rules::of(consul, path, |name| around.variable(name))?;
        Ok(rules.map(|rules| Following {
            machine: Noted::new(Followed::new(now, rules, used, seed), bell),
            placed: Mutex::default(),
            turn: Mutex::default(),
            ready: false.into(),
            suggested: Mutex::default(),
        }))
    }

    pub(crate) fn machine(&self) -> &Noted<Followed> {
        &self.machine
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Followed) -> T) -> T {
        read(&lock(&self.machine))
    }

    /// Where services of the mesh are, if this changes it: `service`, which has this name there,
    /// is at these.
    fn place(&self, service: &Arc<str>, name: &Arc<str>, targets: Vec<Target>) -> Option<Places> {
        let mut placed = lock(&self.placed);
        let now = (name.clone(), targets);
        if placed.get(service) == Some(&now) {
            return None;
        }
        placed.insert(service.clone(), now);
        let mut places = Places::new();
        for (name, targets) in placed.values() {
            for target in targets {
                let here = places.entry(target.clone());
                let place = here.or_insert_with(|| Place::Service(name.clone()));
                if *place != Place::Service(name.clone()) {
                    *place = Place::Contested;
                }
            }
        }
        Some(places)
    }
}

impl<R: Runtime> Hub<R> {
    /// The next exchange for what is followed: for the background any; for a call only what it
    /// cannot do without, certificates of the mesh.
    pub(crate) fn poll_followed(&self, now: Time, slot: Option<&Slot>, until: Time) -> Poll {
        let idle = Poll::Wait(Time::NEVER);
        let Some(following) = &self.following else { return idle };
        if slot.is_some_and(|slot| slot.mesh.is_none()) {
            return idle;
        }
        let wall = self.runtime.wall();
        let mut machine = lock(&following.machine);
        let news = machine.elapsed(now, wall);
        let poll = match slot {
            Some(_) if machine.in_force().is_some() => idle,
            Some(_) => machine.poll_missing(now),
            None => machine.poll(now, wall),
        };
        drop(machine);
        self.put_in_force(now, news);
        match poll {
            Poll::Run(mut job) => {
                job.deadline = job.deadline.min(until);
                Poll::Run(job)
            }
            wait @ Poll::Wait(_) => wait,
        }
    }

    /// Brings the result of such an exchange back; `None`: it is none. Returns whether another
    /// follows at once.
    pub(crate) fn followed_done(
        &self,
        id: JobId,
        outcome: &mut Option<JobOutcome>,
    ) -> Option<bool> {
        let following = self.following.as_ref().filter(|_| Followed::owns(id))?;
        let (now, wall) = (self.runtime.now(), self.runtime.wall());
        let outcome = outcome.take()?;
        let news = lock(&following.machine).done(now, wall, id, outcome);
        self.put_in_force(now, news);
        let ready = following.ready.load(Ordering::Acquire);
        if !ready {
            // They wait, and may be told why in vain.
            self.tell_mesh(now);
        }
        self.news.notify(usize::MAX);
        Some(!ready)
    }

    fn put_in_force(&self, now: Time, news: News) {
        let News { certificates, defaults, files } = news;
        if certificates {
            self.put_certificates(now);
        }
        if defaults {
            self.put_defaults(now);
        }
        if let Some(content) = files {
            self.put_files(now, &content);
        }
    }

    fn put_certificates(&self, now: Time) {
        let Some(following) = &self.following else { return };
        let turn = lock(&following.turn);
        let force = lock(&following.machine).in_force();
        let mesh = force.as_ref().map(|force| {
            let der = force.roots.certificates.iter().map(|der| der.to_vec()).collect();
            let (chain, key) = (force.leaf.pem.as_bytes(), force.leaf.key.expose().as_bytes());
            let identity = Some(Identity::pem(chain, key));
            let credentials = Credentials { roots: Some(Roots::Der(der)), identity };
            (credentials, force.roots.trust_domain.clone())
        });
        match self.runtime.secure(TlsChange::realm(RealmChange::Mesh(mesh))) {
            Ok(()) => following.ready.store(force.is_some(), Ordering::Release),
            Err(error) => lock(&following.machine).refused(now, error.reason.into()),
        }
        drop(turn);
        self.tell_mesh(now);
    }

    /// What discovery says of `slot`, once it is known how its instances are spoken to.
    pub(crate) fn over_mesh(
        &self,
        now: Time,
        service: &Arc<str>,
        mesh: Option<&Arc<str>>,
        resolution: Resolution,
    ) -> Resolution {
        let (Some(name), Resolution::Found(candidates)) = (mesh, &resolution) else {
            return resolution;
        };
        let Some(following) = &self.following else { return Resolution::Pending };
        let at = |uri: http::Uri| Some(target(uri.host()?, uri.port_u16().unwrap_or(443)));
        let targets = candidates.iter().filter_map(|each| at(each.address.uri()?)).collect();
        if let Some(places) = following.place(service, name, targets)
            && self.runtime.secure(TlsChange::realm(RealmChange::Places(places))).is_err()
        {
            return Resolution::Pending;
        }
        if following.ready.load(Ordering::Acquire) {
            return resolution;
        }
        let machine = lock(&following.machine);
        let Some(cause) = machine.trouble() else { return Resolution::Pending };
        let text: Arc<str> = format!("no certificate of the mesh: {}", cause.reason).into();
        let error = match cause.trouble {
            Trouble::Forbidden => DiscoveryError::Denied(text),
            _ => DiscoveryError::Reply(text),
        };
        let next_try = cause.next_try.max(now);
        Resolution::Failed { error, failures: cause.failures, next_try }
    }

    /// The name under which Consul knows a service.
    fn name_there(config: &Config, service: &str) -> String {
        let own = config.services.get(service).and_then(|own| own.lookup.name.clone());
        own.unwrap_or_else(|| service.to_owned())
    }

    /// The rules of `service`, with what Consul suggests where `config` says nothing.
    pub(crate) fn rules_for(&self, config: &Config, service: &str) -> Result<Ruled, ConfigError> {
        let ruled = |(rules, profiles), suggested| Ruled { rules, profiles, suggested };
        let Some(following) = &self.following else {
            return Ok(ruled(config.rules_for(service)?, None));
        };
        let there = Self::name_there(config, service);
        let suggestion = following.read(|machine| machine.suggestion(&there));
        let (both, refused) = match suggestion.rules(config, service) {
            Ok(both) => (both, None),
            // What others have written must not keep a service from being called.
            Err(error) => (config.rules_for(service)?, Some(error)),
        };
        let now = (suggestion, refused.is_none());
        let known = lock(&following.suggested).get(service).cloned();
        let news = known.unwrap_or((Suggestion::default(), true)) != now;
        Ok(ruled(both, news.then_some(Suggested { suggestion: now.0, refused })))
    }

    /// Says what is followed with the rules that are in force now.
    pub(crate) fn tell_suggested(&self, now: Time, service: &Arc<str>, suggested: Suggested) {
        let Some(following) = &self.following else { return };
        let Suggested { suggestion, refused } = suggested;
        let known = (suggestion.clone(), refused.is_none());
        lock(&following.suggested).insert(service.clone(), known);
        let service = service.clone();
        let said = match refused {
            None => Said::Defaults { service, suggestion },
            Some(error) => Said::DefaultsRefused { service, reason: error.to_string().into() },
        };
        lock(&following.machine).say(now, said);
    }

    fn put_defaults(&self, now: Time) {
        let Some(following) = &self.following else { return };
        // Held, so that this and a reconfiguration follow each other.
        let config = self.write_config();
        // What is not possible together is left as it was; services say why.
        let all = following.read(Followed::suggestion_for_all);
        if let Ok((connect, idle)) = all.client(&config) {
            self.runtime.tune(connect, idle);
        }
        let slots: Vec<Arc<Slot>> = self.read_slots().values().cloned().collect();
        for slot in slots {
            let Ok(ruled) = self.rules_for(&config, &slot.name) else { continue };
            let Ruled { rules, profiles, suggested: Some(suggested) } = ruled else { continue };
            if suggested.refused.is_none() {
                let mut service = lock(&slot.service);
                service.reconfigure(now, rules, profiles);
                slot.told(&mut service, &self.news);
                drop(service);
                slot.moved.notify(usize::MAX);
            }
            self.tell_suggested(now, &slot.name, suggested);
        }
    }

    fn put_files(&self, now: Time, content: &Content) {
        let Some(following) = &self.following else { return };
        let config = self.config();
        let consul = config.discovery.as_ref().and_then(|discovery| discovery.consul.as_ref());
        let Some(tls) = consul.map(|consul| &consul.tls) else { return };
        let piece = |bytes: &Option<bytes::Bytes>, file: &str| {
            let bytes = bytes.as_ref()?;
            Some(Piece { bytes: bytes[..].into(), file: Some(file.into()), form: Form::Pem })
        };
        let identity = match (piece(&content.cert, &tls.cert), piece(&content.key, &tls.key)) {
            (Some(chain), Some(key)) => Some(Identity { chain: Chain::Pem(chain), key }),
            _ => None,
        };
        let roots = piece(&content.ca, &tls.ca).map(Roots::of);
        let change = RealmChange::Agents(Credentials { roots, identity });
        let said = match self.runtime.secure(TlsChange::realm(change)) {
            Ok(()) => Said::FilesInForce,
            Err(error) => Said::FilesRefused { reason: error.to_string().into() },
        };
        lock(&following.machine).say(now, said);
    }
}
