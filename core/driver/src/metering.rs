//! The client as those see it who look after it: metrics in every format, health, and what is kept
//! over a restart. Everything is made of a snapshot; no lock is held while a text is written, and
//! that of a service only for its own copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use origin_core::config::Rules;
use origin_core::learned::{Learned, LearnedService, MOST, NotUsed};
use origin_core::metrics::{self, EventCount, Format};
use origin_core::snapshot::{
    CacheSnapshot, DiscoverySnapshot, HealthReport, ServiceSnapshot, Snapshot,
};
use origin_core::{Config, Service, Time};

use crate::cache::Second;
use crate::client::Client;
use crate::consul::Desk;
use crate::hub::{Hub, Slot, lock};
use crate::observe::bell::Speaks;
use crate::runtime::Runtime;
use crate::vault::Vault;

/// What was sent last, so that what is sent next tells what has changed.
#[derive(Clone, Debug, Default)]
pub struct Last(pub(crate) Option<Box<Snapshot>>);

impl<R: Runtime> Client<R> {
    /// All metrics in the text format of Prometheus, to be answered to `GET /metrics` with
    /// [`Format::content_type`]. The families are in
    /// [`FAMILIES`](origin_core::metrics::FAMILIES); `metrics` in the configuration bounds them.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics_as(Format::Prometheus)
    }

    /// All metrics in the format that a scraper wants; see [`Format::wanted`].
    #[must_use]
    pub fn metrics_as(&self, format: Format) -> String {
        metrics::render(&self.hub.measure(), &self.hub.config().metrics, format)
    }

    /// What has changed since `last`, as datagrams of StatsD lines, each to be sent as it is; then
    /// `last` is now. Call it every ten seconds or so:
    ///
    /// ```no_run
    /// # fn send<R: origin_driver::Runtime>(client: &origin_driver::Client<R>) -> std::io::Result<()> {
    /// let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    /// let mut last = origin_driver::Last::default();
    /// loop {
    ///     for datagram in client.statsd(&mut last) {
    ///         socket.send_to(datagram.as_bytes(), "127.0.0.1:8125")?;
    ///     }
    ///     std::thread::sleep(std::time::Duration::from_secs(10));
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn statsd(&self, last: &mut Last) -> Vec<String> {
        let now = Box::new(self.hub.measure());
        let lines = metrics::statsd(last.0.as_deref(), &now, &self.hub.config().metrics);
        last.0 = Some(now);
        lines
    }

    /// How well the application is, as far as its upstream services tell, with every reason: serde
    /// data for an answer to `/health`, with [`HealthReport::http_status`].
    #[must_use]
    pub fn health(&self) -> HealthReport {
        self.hub.measure().health()
    }

    /// What it has learnt of its endpoints, for [`Builder::learned`](crate::Builder::learned) of
    /// another run. Serde data; orders of an operator are not among it.
    #[must_use]
    pub fn learned(&self) -> Learned {
        self.hub.learned()
    }
}

impl<R: Runtime> Hub<R> {
    /// What it has learnt of its endpoints.
    pub(crate) fn learned(&self) -> Learned {
        let (now, at) = (self.runtime.now(), self.runtime.wall().0);
        let slots: Vec<Arc<Slot>> = self.read_slots().values().cloned().collect();
        let lessons = slots.iter().filter_map(|slot| {
            let lesson = lock(&slot.service).learned(now);
            (!lesson.is_empty()).then(|| (slot.name.clone(), lesson))
        });
        Learned { at, services: lessons.take(MOST).collect() }
    }
}

/// What an earlier run has learnt of services that are not opened yet.
pub(crate) struct Lessons {
    services: BTreeMap<Arc<str>, LearnedService>,
    /// When it was true, on this run's clock, and how old it was then.
    since: Time,
    age: std::time::Duration,
}

impl Lessons {
    /// # Errors
    /// It cannot be used.
    pub(crate) fn of<R: Runtime>(learned: Learned, runtime: &R) -> Result<Lessons, NotUsed> {
        let age = learned.age(runtime.wall())?;
        let services = learned.services.into_iter().take(MOST).collect();
        Ok(Lessons { services, since: runtime.now(), age })
    }

    /// Tells a service that is made at `now` what is known of it.
    pub(crate) fn tell(&self, now: Time, service: &mut Service) {
        if let Some(lesson) = self.services.get(service.name()) {
            let age = self.age.saturating_add(now.since(self.since));
            service.relearn(now, lesson.clone(), age);
        }
    }
}

impl<R: Runtime> Hub<R> {
    /// Everything that can be counted: a snapshot without notices.
    pub(crate) fn measure(&self) -> Snapshot {
        let (now, config) = (self.runtime.now(), self.config());
        let slots: Vec<Arc<Slot>> = self.read_slots().values().cloned().collect();
        let mut events = Events::default();
        let mut services: Vec<ServiceSnapshot> = slots
            .iter()
            .chain(self.agents())
            .map(|slot| {
                let mut service = lock(&slot.service);
                let snapshot = service.snapshot(now);
                events.add(service.notices().counts());
                drop(service);
                complete(now, &config, slot, snapshot)
            })
            .collect();
        let (mut discovery, mut shared_lists) = (Vec::<DiscoverySnapshot>::new(), None);
        if let Some(directory) = &self.directory {
            let rules = Rules::default();
            let known: BTreeSet<&Arc<str>> = slots.iter().map(|slot| &slot.name).collect();
            let mut directory = lock(directory);
            discovery = directory.snapshot(now);
            shared_lists = directory.shared_counts();
            events.add(directory.notices().counts());
            // Services nobody has called are known all the same (000-19).
            for name in directory.names().into_iter().filter(|name| !known.contains(name)) {
                let mut idle = Service::new(name.clone(), rules.clone(), self.seed);
                idle.resolve(now, directory.peek(now, &name));
                let idle = ServiceSnapshot { discovered: true, ..idle.snapshot(now) };
                services.push(idle);
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(following) = &self.following {
            following.read(|machine| events.add(machine.notices().counts()));
        }
        events.add(self.desk.iter().flat_map(Desk::events));
        events.add(self.vault.iter().flat_map(Vault::events));
        events.add(self.second.iter().flat_map(Second::events));
        events.add(lock(&self.storage.rotation).said().counts());
        events.add(lock(&self.own.desk).notices().counts());
        events.add(
            self.kept.iter().flat_map(|kept| lock(kept).notices().counts().collect::<Vec<_>>()),
        );
        Snapshot {
            at: now,
            discovery,
            services,
            vault: self.vault_view(),
            identity: self.identity_view(),
            credentials: self.credentials(now),
            shared_lists,
            shared_answers: self.second.as_ref().map(Second::counts),
            events: events.finish(),
            notices: Vec::new(),
        }
    }
}

/// What is known of a service beside its machine.
fn complete(now: Time, config: &Config, slot: &Slot, service: ServiceSnapshot) -> ServiceSnapshot {
    let critical = config.services.get(&*slot.name).and_then(|own| own.critical);
    let cache = slot
        .memory
        .is_on()
        .then(|| CacheSnapshot::of(&slot.memory.stats(), &slot.memory.more_stats()));
    ServiceSnapshot {
        critical: critical.unwrap_or(true),
        discovered: slot.discovered,
        cache,
        watches: slot.watchers.summary(now),
        ..service
    }
}

/// Counts of notices of all machines.
#[derive(Default)]
struct Events(BTreeMap<(Option<Arc<str>>, std::borrow::Cow<'static, str>), u64>);

impl Events {
    fn add(&mut self, counts: impl IntoIterator<Item = EventCount>) {
        for EventCount { service, event, count } in counts {
            *self.0.entry((service, event)).or_default() += count;
        }
    }

    fn finish(self) -> Vec<EventCount> {
        let counts = self.0.into_iter();
        counts.map(|((service, event), count)| EventCount { service, event, count }).collect()
    }
}
