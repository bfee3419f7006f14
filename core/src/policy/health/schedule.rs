//! Which endpoint of a service is asked when: due times with jitter, a bound on probes under way,
//! and leases, so that a probe which never comes back blocks nobody. What an answer means is in
//! `state.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::{reached, share};
use super::{Change, Health, ProbeOutcome, Settings, Status};
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// Shortest wait whatever the settings say, so that unchecked ones cannot make a busy loop.
const SHORTEST: u64 = 1_000_000;

/// Names one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProbeId(u64);

/// A probe to carry out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use = "a probe that is not carried out and reported occupies a place until its lease ends"]
pub struct Probe {
    /// To be given to [`Schedule::done`].
    pub id: ProbeId,
    /// Whom to ask, by the number under which it was added.
    pub endpoint: u32,
    /// When to give up and report [`Fault::Timeout`](crate::outcome::Fault::Timeout).
    pub deadline: Time,
}

/// What the result of a probe led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heard {
    /// Who was asked.
    pub endpoint: u32,
    /// The verdict now.
    pub status: Status,
    /// The change of the verdict, if this was one.
    pub change: Option<Change>,
    /// Whether the endpoint has just shown that it can work and its verdict agrees: this ends a
    /// passive ejection. Never set by [`ProbeOutcome::Assumed`].
    pub vouched: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slot {
    health: Health,
    /// Key under which it stands in `waiting`, while no probe of it is out.
    due: Time,
    issued: Time,
    out: Option<ProbeId>,
    /// Whether its last probe was dropped.
    dropped: bool,
    /// Whether its last wait was a slow one.
    slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: ProbeId,
    endpoint: u32,
    until: Time,
}

/// The checks of one service. Time and randomness are arguments; polling allocates nothing but
/// the nodes of an ordered set.
///
/// ```
/// use origin_core::config::{CheckKind, ChecksConfig};
/// use origin_core::policy::health::{ProbeOutcome, Schedule, Settings, Status};
/// use origin_core::rng::Pcg32;
/// use origin_core::Time;
///
/// let config = ChecksConfig { kind: CheckKind::Http, ..ChecksConfig::default() };
/// let settings = Settings::of(&config, "checks").unwrap();
/// let mut rng = Pcg32::new(42, 0);
/// let mut checks = Schedule::new();
/// checks.add(7, Time::ZERO, &settings, &mut rng);
/// assert_eq!(checks.status(7), Status::Unknown);
///
/// // Sleep until `due`, carry out what `poll` hands out, report what came of it.
/// let now = checks.due(&settings);
/// let probe = checks.poll(now, &settings, &mut rng).unwrap();
/// assert_eq!(probe.endpoint, 7);
/// let heard = checks.done(now, probe.id, ProbeOutcome::Pass, &settings, &mut rng).unwrap();
/// assert_eq!(heard.change.unwrap().to, Status::Healthy);
/// assert_eq!(checks.status(7), Status::Healthy);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schedule {
    slots: BTreeMap<u32, Slot>,
    waiting: BTreeSet<(Time, u32)>,
    /// Probes under way, also those of endpoints that are gone: they occupy the adapter.
    leases: Vec<Lease>,
    /// Counts the probes handed out.
    issued: u64,
    traffic: Option<Time>,
}

impl Schedule {
    /// A service without endpoints.
    #[must_use]
    pub const fn new() -> Schedule {
        Schedule {
            slots: BTreeMap::new(),
            waiting: BTreeSet::new(),
            leases: Vec::new(),
            issued: 0,
            traffic: None,
        }
    }

    /// Takes an endpoint in; `false` if it is there already. Its first probe is due at a random
    /// point of the fast interval: soon, but not all of them, and not all clients, at once. The
    /// first slow wait of an endpoint is spread over the whole interval for the same reason.
    pub fn add(&mut self, endpoint: u32, now: Time, settings: &Settings, rng: &mut Pcg32) -> bool {
        if self.slots.contains_key(&endpoint) {
            return false;
        }
        let due = now.plus(Duration::from_nanos(rng.up_to(nanos(settings.fast_interval))));
        let health = Health::new(now);
        let slot = Slot { health, due, issued: now, out: None, dropped: false, slow: false };
        self.slots.insert(endpoint, slot);
        self.waiting.insert((due, endpoint));
        true
    }

    /// Lets an endpoint go; `false` if it is unknown. A probe of it that is under way keeps its
    /// place until it is reported or its lease ends, and its result is ignored, also when the
    /// number is taken in again meanwhile.
    pub fn remove(&mut self, endpoint: u32) -> bool {
        let Some(slot) = self.slots.remove(&endpoint) else { return false };
        self.waiting.remove(&(slot.due, endpoint));
        true
    }

    /// A call of the service is made: the checks are wanted at their normal pace.
    pub fn traffic(&mut self, now: Time) {
        self.traffic = Some(now);
    }

    /// The next probe to carry out now, if one is due and a place is free. To be called until it
    /// says `None`, then again at [`Schedule::due`].
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Option<Probe> {
        self.reclaim(now, settings, rng);
        if !self.free(settings) {
            return None;
        }
        let (due, endpoint) = *self.waiting.first()?;
        if !reached(due, now) {
            return None;
        }
        self.waiting.pop_first();
        let slot = self.slots.get_mut(&endpoint)?;
        self.issued = self.issued.wrapping_add(1);
        let id = ProbeId(self.issued);
        (slot.issued, slot.out) = (now, Some(id));
        self.leases.push(Lease { id, endpoint, until: now.plus(settings.lease()) });
        Some(Probe { id, endpoint, deadline: now.plus(settings.timeout) })
    }

    /// When [`Schedule::poll`] is worth calling again; [`Time::NEVER`] if only
    /// [`Schedule::add`] or [`Schedule::done`] can lead to something.
    #[must_use]
    pub fn due(&self, settings: &Settings) -> Time {
        let lease = self.leases.iter().map(|lease| lease.until).min().unwrap_or(Time::NEVER);
        let first = self.waiting.first().filter(|_| self.free(settings));
        first.map_or(lease, |(due, _)| lease.min(*due))
    }

    /// Takes the result of a probe. `None`: it is not under way any more (reported before, its
    /// lease ended, its endpoint gone), and the result was ignored.
    pub fn done(
        &mut self,
        now: Time,
        id: ProbeId,
        outcome: ProbeOutcome,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Heard> {
        let at = self.leases.iter().position(|lease| lease.id == id)?;
        let endpoint = self.leases.swap_remove(at).endpoint;
        let slot = self.slots.get_mut(&endpoint).filter(|slot| slot.out == Some(id))?;
        // A probe that was under way when checks were switched off has nothing to say any more.
        let outcome = if settings.on() { outcome } else { ProbeOutcome::Dropped };
        let change = slot.health.record(now, outcome, settings);
        let status = slot.health.status();
        let good = matches!(outcome, ProbeOutcome::Pass | ProbeOutcome::Degraded);
        let vouched = good && matches!(status, Status::Healthy | Status::Degraded);
        self.requeue(endpoint, now, outcome == ProbeOutcome::Dropped, settings, rng);
        Some(Heard { endpoint, status, change, vouched })
    }

    /// Takes new settings over. Verdicts, runs of results, histories (cut to the new length) and
    /// probes under way survive. No endpoint waits longer than the new settings allow from now.
    /// With checks switched off all verdicts become unknown, silently: whoever shows them must
    /// read them again.
    pub fn retune(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) {
        let quiet = self.quiet(now, settings);
        for (endpoint, slot) in &mut self.slots {
            slot.health.retune(settings);
            if !settings.on() {
                slot.health.forget(now, settings);
                continue;
            }
            let span = if slot.slow { slow_span(quiet, settings) } else { fast_span(settings) };
            let latest = now.plus(Duration::from_nanos(stretched(span, settings)));
            // Overdue without a verdict: checks were off until now, and all would start at once.
            let fresh = slot.due < now && slot.health.status() == Status::Unknown;
            if slot.out.is_none() && (slot.due > latest || fresh) {
                self.waiting.remove(&(slot.due, *endpoint));
                slot.due = now.plus(Duration::from_nanos(rng.up_to(span)));
                self.waiting.insert((slot.due, *endpoint));
            }
        }
    }

    /// The verdict on an endpoint; unknown for one that was never taken in.
    #[must_use]
    pub fn status(&self, endpoint: u32) -> Status {
        self.health(endpoint).map_or(Status::Unknown, Health::status)
    }

    /// Everything known about an endpoint.
    #[must_use]
    pub fn health(&self, endpoint: u32) -> Option<&Health> {
        self.slots.get(&endpoint).map(|slot| &slot.health)
    }

    /// All endpoints, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Health)> {
        self.slots.iter().map(|(endpoint, slot)| (*endpoint, &slot.health))
    }

    /// Probes under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.leases.len()
    }

    fn free(&self, settings: &Settings) -> bool {
        settings.on() && self.leases.len() < settings.max_concurrent as usize
    }

    /// Gives up the probes whose leases have ended.
    fn reclaim(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) {
        while let Some(at) = self.leases.iter().position(|lease| reached(lease.until, now)) {
            let Lease { id, endpoint, .. } = self.leases.swap_remove(at);
            if self.slots.get(&endpoint).is_some_and(|slot| slot.out == Some(id)) {
                self.requeue(endpoint, now, true, settings, rng);
            }
        }
    }

    /// Puts an endpoint back whose probe has ended. The wait counts from the probe's beginning,
    /// so that slow answers do not lengthen the interval.
    fn requeue(
        &mut self,
        endpoint: u32,
        now: Time,
        dropped: bool,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let quiet = self.quiet(now, settings);
        let Some(slot) = self.slots.get_mut(&endpoint) else { return };
        // A dropped probe is made up for soon, once; if that is dropped too, something keeps the
        // adapter from checking, and insisting would not help.
        let slow = if dropped { slot.dropped } else { slot.health.settled(settings) };
        let wait = if slow && !slot.slow {
            // Coming from the fast pace, where endpoints run in step: anywhere in the interval.
            let (fast, span) = (fast_span(settings), slow_span(quiet, settings));
            fast.saturating_add(rng.up_to(span.saturating_sub(fast)))
        } else {
            let span = if slow { slow_span(quiet, settings) } else { fast_span(settings) };
            span.saturating_add(rng.up_to(share(span, settings.jitter_permille)))
        };
        (slot.out, slot.slow, slot.dropped) = (None, slow, dropped);
        // Not before now: an endpoint that is slow to answer must not go ahead of those that
        // have been waiting for a place.
        slot.due = slot.issued.plus(Duration::from_nanos(wait)).max(now);
        self.waiting.insert((slot.due, endpoint));
    }

    /// Whether the service was not called lately.
    fn quiet(&self, now: Time, settings: &Settings) -> bool {
        self.traffic.is_none_or(|last| now.since(last) >= settings.no_traffic_interval)
    }
}

fn fast_span(settings: &Settings) -> u64 {
    nanos(settings.fast_interval).max(SHORTEST)
}

fn slow_span(quiet: bool, settings: &Settings) -> u64 {
    let span = if quiet { settings.no_traffic_interval } else { settings.interval };
    nanos(span).max(SHORTEST)
}

/// The longest that `span` can become by jitter.
fn stretched(span: u64, settings: &Settings) -> u64 {
    span.saturating_add(share(span, settings.jitter_permille))
}
