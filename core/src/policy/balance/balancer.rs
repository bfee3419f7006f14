//! A balancer for use alone: a fixed list of endpoints, all of them callable unless the caller
//! says otherwise. The service composes the same parts with breakers and tiers in its pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::affinity::{Bound, Keyed, Member, Ring};
use super::choose::{self, Choice, Nobody, Ready};
use super::ewma::PeakEwma;
use super::weights::Weights;
use super::{BalanceKind, Settings, hash};
use crate::rng::Pcg32;
use crate::time::Time;

/// An endpoint of a [`Balancer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The hash of its address, for affinity: [`super::hash::of`].
    pub hash: u64,
    /// Its weight.
    pub weight: u32,
}

/// What is known about one endpoint: half a cache line, and never across two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(align(32))]
struct Slot {
    ewma: PeakEwma,
    /// When it came or came back, for slow start.
    since: Time,
    out: u32,
    weight: u32,
}

/// Chooses among `n` endpoints by index.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::policy::balance::{Balancer, Endpoint, Settings, hash};
/// use origin_core::rng::Pcg32;
///
/// let endpoints = ["http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.3:80"]
///     .map(|address| Endpoint { hash: hash::of(address.as_bytes()), weight: 1 });
/// let settings = Settings::default();
/// let mut rng = Pcg32::new(42, 0);
/// let mut balancer = Balancer::new(Time::ZERO, &endpoints, &settings);
/// // Endpoint 0 takes 80 ms, the others 5 ms.
/// let mut calls = [0; 3];
/// for n in 0..1_000 {
///     let now = Time::from_millis(n * 100);
///     let choice = balancer.pick(now, &settings, &mut rng).unwrap();
///     calls[choice.position as usize] += 1;
///     let took = Duration::from_millis(if choice.position == 0 { 80 } else { 5 });
///     balancer.done(choice.position, now.plus(took), took, false, &settings);
/// }
/// assert!(calls[0] < 20, "{calls:?}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Balancer {
    slots: Vec<Slot>,
    hashes: Vec<u64>,
    /// When the last slow start is over.
    warm: Time,
    weights: Weights,
    ring: Ring,
    cursor: u32,
    outstanding: u64,
}

impl Balancer {
    /// A balancer over `endpoints`, all unknown and new at `now`. At most 2³² - 1 of them; what
    /// is beyond is left out.
    #[must_use]
    pub fn new(now: Time, endpoints: &[Endpoint], settings: &Settings) -> Balancer {
        let endpoints = &endpoints[..endpoints.len().min(u32::MAX as usize)];
        let slot =
            |e: &Endpoint| Slot { ewma: PeakEwma::new(now), since: now, out: 0, weight: e.weight };
        let mut balancer = Balancer {
            slots: endpoints.iter().map(slot).collect(),
            hashes: endpoints.iter().map(|e| e.hash).collect(),
            warm: now,
            weights: Weights::default(),
            ring: Ring::default(),
            cursor: 0,
            outstanding: 0,
        };
        balancer.retune(settings);
        balancer
    }

    /// Adopts changed settings. Estimates, outstanding counts, ages and the turn survive; what
    /// is compiled from weights and addresses is built anew.
    pub fn retune(&mut self, settings: &Settings) {
        let weights: Vec<u32> = self.slots.iter().map(|slot| slot.weight).collect();
        self.weights = if settings.kind.heeds_weights() {
            Weights::build(&weights)
        } else {
            Weights::equal(u32::try_from(weights.len()).unwrap_or(u32::MAX))
        };
        let ring = match settings.kind {
            BalanceKind::Ring => true,
            BalanceKind::Rendezvous => self.slots.len() > hash::MOST_RENDEZVOUS as usize,
            _ => false,
        };
        let member = |((endpoint, hash), weight)| Member { endpoint, hash, weight };
        let members = (0..).zip(self.hashes.iter().copied()).zip(weights).map(member);
        self.ring = if ring { Ring::build(&members.collect::<Vec<_>>()) } else { Ring::default() };
        let latest = self.slots.iter().map(|slot| slot.since).max().unwrap_or_default();
        self.warm = settings.slow_start.over(latest);
    }

    /// Says that an endpoint is back after it could not be used: its slow start begins again.
    pub fn returned(&mut self, index: u32, now: Time, settings: &Settings) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.since = now;
            self.warm = self.warm.max(settings.slow_start.over(now));
        }
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Attempts outstanding at `index`.
    #[must_use]
    pub fn outstanding(&self, index: u32) -> u32 {
        self.slots.get(index as usize).map_or(0, |slot| slot.out)
    }

    /// The endpoint for a call, by index. Tell what came of it with [`Balancer::done`] or
    /// [`Balancer::abandoned`].
    ///
    /// # Errors
    /// [`Nobody`] when there are no endpoints.
    #[inline]
    pub fn pick(
        &mut self,
        now: Time,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Result<Choice, Nobody> {
        self.pick_where(now, None, |_| true, settings, rng)
    }

    /// The endpoint for a call with an affinity `key` (used by `rendezvous` and `ring`), among
    /// those that `accept` accepts by index.
    ///
    /// # Errors
    /// [`Nobody`] when none was found, within the bounds of [`choose`].
    #[inline]
    pub fn pick_where(
        &mut self,
        now: Time,
        key: Option<u64>,
        accept: impl Fn(u32) -> bool,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Result<Choice, Nobody> {
        let warm = now >= self.warm || !settings.slow_start.is_on();
        let choice = if settings.kind == BalanceKind::P2c {
            choose::cheapest(&View { of: self, settings, now, accept, warm }, rng)?
        } else {
            let mut cursor = self.cursor;
            let view = View { of: self, settings, now, accept, warm };
            let choice = view.otherwise(key, &mut cursor, rng);
            self.cursor = cursor;
            choice?
        };
        if let Some(slot) = self.slots.get_mut(choice.position as usize) {
            slot.out = slot.out.saturating_add(1);
            self.outstanding = self.outstanding.saturating_add(1);
        }
        Ok(choice)
    }

    /// An attempt at `index` ended after `took`. `failed`: in a way that speaks against the
    /// endpoint.
    #[inline]
    pub fn done(
        &mut self,
        index: u32,
        now: Time,
        took: Duration,
        failed: bool,
        settings: &Settings,
    ) {
        self.abandoned(index);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if failed {
                slot.ewma.failed(now, took, &settings.ewma);
            } else {
                slot.ewma.answered(now, took, &settings.ewma);
            }
        }
    }

    /// An attempt at `index` was given up and says nothing.
    #[inline]
    pub fn abandoned(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.out > 0
        {
            slot.out -= 1;
            self.outstanding = self.outstanding.saturating_sub(1);
        }
    }
}

/// All endpoints, as the picks see them; the cost is latency × outstanding.
struct View<'a, F> {
    of: &'a Balancer,
    settings: &'a Settings,
    now: Time,
    accept: F,
    /// Nobody is in slow start.
    warm: bool,
}

impl<F: Fn(u32) -> bool> View<'_, F> {
    #[inline]
    fn slot(&self, position: u32) -> Option<&Slot> {
        self.of.slots.get(position as usize).filter(|_| (self.accept)(position))
    }

    /// Every kind but the default one: apart, so that this one stays small.
    #[inline(never)]
    fn otherwise(
        &self,
        key: Option<u64>,
        cursor: &mut u32,
        rng: &mut Pcg32,
    ) -> Result<Choice, Nobody> {
        match (self.settings.kind, key) {
            (BalanceKind::LeastOutstanding, _) => choose::least_outstanding(&Counted(self), rng),
            (BalanceKind::RoundRobin, _) => choose::in_turn(self, cursor, rng),
            (BalanceKind::Weighted, _) => choose::drawn(self, rng),
            (BalanceKind::Random, _) => choose::uniform(self, rng),
            (BalanceKind::Rendezvous | BalanceKind::Ring, Some(key)) => {
                let total = self.of.outstanding;
                let bound = Bound::new(self.settings.load_permille, total, self.count());
                if self.of.ring.is_empty() {
                    hash::owner(key, bound, self)
                } else {
                    self.of.ring.pick(key, bound, self, rng)
                }
            }
            _ => choose::cheapest(self, rng),
        }
    }
}

impl<F: Fn(u32) -> bool> Ready for View<'_, F> {
    #[inline]
    fn count(&self) -> u32 {
        u32::try_from(self.of.slots.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn cost(&self, position: u32) -> Option<u64> {
        let slot = self.slot(position)?;
        Some(slot.ewma.cost(self.now, slot.out, &self.settings.ewma))
    }

    #[inline]
    fn even(&self) -> bool {
        self.warm && self.of.weights.even()
    }

    fn weight(&self, position: u32) -> u32 {
        if self.of.weights.even() {
            return 1;
        }
        self.of.slots.get(position as usize).map_or(0, |slot| slot.weight)
    }

    fn draw(&self, rng: &mut Pcg32) -> Option<u32> {
        let position = self.of.weights.draw(rng);
        let slot = self.of.slots.get(position as usize)?;
        let mut passes = || self.settings.slow_start.passes(slot.since, self.now, rng);
        (self.warm || passes()).then_some(position)
    }
}

impl<F: Fn(u32) -> bool> Keyed for View<'_, F> {
    #[inline]
    fn position(&self, endpoint: u32) -> Option<u32> {
        Some(endpoint)
    }

    #[inline]
    fn outstanding(&self, position: u32) -> u32 {
        self.of.outstanding(position)
    }

    #[inline]
    fn hash(&self, position: u32) -> u64 {
        self.of.hashes.get(position as usize).copied().unwrap_or(0)
    }
}

/// The same, where the cost is the number outstanding.
struct Counted<'a, F>(&'a View<'a, F>);

impl<F: Fn(u32) -> bool> Ready for Counted<'_, F> {
    #[inline]
    fn count(&self) -> u32 {
        self.0.count()
    }

    #[inline]
    fn cost(&self, position: u32) -> Option<u64> {
        self.0.slot(position).map(|slot| u64::from(slot.out))
    }

    #[inline]
    fn even(&self) -> bool {
        self.0.even()
    }

    fn weight(&self, position: u32) -> u32 {
        self.0.weight(position)
    }

    fn draw(&self, rng: &mut Pcg32) -> Option<u32> {
        self.0.draw(rng)
    }
}
