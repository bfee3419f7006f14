//! The endpoints of a service in tiers (one per cluster, in failover order), and the pick among
//! them. Each tier keeps the list of its endpoints that may be called now, so a pick costs the
//! same for three endpoints and for ten thousand; time-driven breaker changes sit in one ordered
//! set. Within a tier: the less loaded of two random choices (power of two choices,
//! Mitzenmacher 2001); up to eight endpoints are simply all compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::config::Rules;
use crate::discovery::{Candidate, Place};
use crate::policy::breaker::{Breaker, Transition};
use crate::policy::health::Status;
use crate::policy::stall::Watch;
use crate::rng::Pcg32;
use crate::time::Time;

/// Endpoints remembered per call as tried.
pub(crate) const MOST_TRIED: usize = 8;
/// Up to this many ready endpoints are compared one by one.
const SMALL: usize = 8;
const SMALL_U32: u32 = 8;
/// Tiers kept; clusters beyond are left out.
const MOST_TIERS: usize = 64;

/// Names an endpoint of a service; never reused for another one while the first 2³² changes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId {
    pub(crate) index: u32,
    generation: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) label: Arc<str>,
    pub(crate) place: Place,
    pub(crate) tier: u32,
    pub(crate) breaker: Breaker,
    pub(crate) watch: Watch,
    /// What active checks say.
    pub(crate) health: Status,
    /// The path that a check asks, if discovery names one.
    pub(crate) check: Option<Arc<str>>,
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) last_success: Option<Time>,
    generation: u32,
    /// Position in its tier's ready list.
    ready_at: Option<u32>,
    /// Key under which it stands in the timers.
    due: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Tier {
    pub(crate) cluster: Arc<str>,
    pub(crate) place: Place,
    /// All attempts of the cluster.
    pub(crate) watch: Watch,
    ready: Vec<u32>,
}

/// The endpoints a call has been at; the latest [`MOST_TRIED`] of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Tried {
    count: u8,
    list: [u32; MOST_TRIED],
}

impl Tried {
    pub(crate) fn add(&mut self, index: u32) {
        self.list[usize::from(self.count) % MOST_TRIED] = index;
        self.count = self.count.saturating_add(1);
    }

    pub(crate) fn has(&self, index: u32) -> bool {
        self.list[..usize::from(self.count).min(MOST_TRIED)].contains(&index)
    }
}

/// Which endpoints a pick accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Untried and not suspect.
    Fresh,
    /// Untried.
    Untried,
    /// Not suspect.
    Sound,
    /// Any that is ready.
    Any,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) endpoints: Vec<Option<Endpoint>>,
    pub(crate) tiers: Vec<Tier>,
    timers: BTreeSet<(Time, u32)>,
    free: Vec<u32>,
    generation: u32,
}

impl Pool {
    /// Replaces the endpoints by `candidates`. One that stays (same cluster, same address) keeps
    /// its slot, breaker and statistics, so attempts in flight still find it. Returns how many
    /// came and went.
    pub(crate) fn replace(
        &mut self,
        now: Time,
        candidates: &[Candidate],
        rules: &Rules,
    ) -> (usize, usize) {
        let mut gone: BTreeMap<(Arc<str>, Arc<str>), u32> = BTreeMap::new();
        for (index, endpoint) in (0..).zip(&self.endpoints) {
            if let Some(e) = endpoint {
                gone.insert((self.tiers[e.tier as usize].cluster.clone(), e.label.clone()), index);
            }
        }
        let before: Vec<Tier> = self.tiers.drain(..).collect();
        self.timers.clear();
        let mut added = 0;
        let mut placed = BTreeSet::new();
        for candidate in candidates {
            let label: Arc<str> = candidate.address.as_str().into();
            let key = (candidate.cluster.clone(), label.clone());
            if !placed.insert(key.clone()) {
                continue;
            }
            let Some(tier) = self.tier_of(now, candidate) else { continue };
            let known = gone.remove(&key);
            if let Some(index) = known
                && let Some(endpoint) = &mut self.endpoints[index as usize]
            {
                (endpoint.tier, endpoint.place) = (tier, candidate.place);
                endpoint.check.clone_from(&candidate.health);
                continue;
            }
            added += 1;
            let endpoint = self.fresh(now, candidate, label, tier, rules);
            match self.free.pop() {
                Some(index) => self.endpoints[index as usize] = Some(endpoint),
                None => self.endpoints.push(Some(endpoint)),
            }
        }
        for tier in before {
            if let Some(same) = self.tiers.iter_mut().find(|t| t.cluster == tier.cluster) {
                same.watch = tier.watch;
            }
        }
        for ((cluster, _), index) in &gone {
            let left = self.endpoints[*index as usize].take();
            let tier = self.tiers.iter_mut().find(|tier| tier.cluster == *cluster);
            if let (Some(left), Some(tier)) = (left, tier) {
                tier.watch.forget(left.watch.outstanding());
            }
            self.free.push(*index);
        }
        for endpoint in self.endpoints.iter_mut().flatten() {
            (endpoint.ready_at, endpoint.due) = (None, Time::NEVER);
        }
        for index in 0..u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX) {
            self.sync(index, rules);
        }
        (added, gone.len())
    }

    fn tier_of(&mut self, now: Time, candidate: &Candidate) -> Option<u32> {
        let found = self.tiers.iter().position(|tier| tier.cluster == candidate.cluster);
        let position = match found {
            Some(position) => position,
            None if self.tiers.len() >= MOST_TIERS => return None,
            None => {
                let (cluster, place) = (candidate.cluster.clone(), candidate.place);
                let (watch, ready) = (Watch::new(now), Vec::new());
                self.tiers.push(Tier { cluster, place, watch, ready });
                self.tiers.len() - 1
            }
        };
        u32::try_from(position).ok()
    }

    fn fresh(
        &mut self,
        now: Time,
        candidate: &Candidate,
        label: Arc<str>,
        tier: u32,
        rules: &Rules,
    ) -> Endpoint {
        self.generation = self.generation.wrapping_add(1);
        Endpoint {
            address: candidate.address.clone(),
            label,
            place: candidate.place,
            tier,
            breaker: Breaker::new(now, &rules.breaker),
            watch: Watch::new(now),
            health: Status::Unknown,
            check: candidate.health.clone(),
            attempts: 0,
            failed: 0,
            last_success: None,
            generation: self.generation,
            ready_at: None,
            due: Time::NEVER,
        }
    }

    /// The endpoint with this id, unless it is gone.
    pub(crate) fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        let endpoint = self.endpoints.get(id.index as usize)?.as_ref()?;
        (endpoint.generation == id.generation).then_some(endpoint)
    }

    pub(crate) fn get_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        let endpoint = self.endpoints.get_mut(id.index as usize)?.as_mut()?;
        (endpoint.generation == id.generation).then_some(endpoint)
    }

    /// Tells the endpoints that have stood at one place apart.
    pub(crate) fn generation_of(&self, index: u32) -> Option<u32> {
        self.endpoints.get(index as usize)?.as_ref().map(|endpoint| endpoint.generation)
    }

    /// The endpoint with this id, and its tier.
    pub(crate) fn with_tier(&mut self, id: EndpointId) -> Option<(&mut Endpoint, &mut Tier)> {
        let endpoint = self.endpoints.get_mut(id.index as usize)?.as_mut()?;
        let tier = self.tiers.get_mut(endpoint.tier as usize)?;
        (endpoint.generation == id.generation).then_some((endpoint, tier))
    }

    pub(crate) fn id(&self, index: u32) -> Option<EndpointId> {
        let generation = self.endpoints.get(index as usize)?.as_ref()?.generation;
        Some(EndpointId { index, generation })
    }

    /// Lets time act on the breakers that are due. Every change is passed to `report`.
    pub(crate) fn tick(
        &mut self,
        now: Time,
        rules: &Rules,
        rng: &mut Pcg32,
        mut report: impl FnMut(&Endpoint, &Tier, Transition),
    ) {
        while let Some(&(due, index)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            if let Some(endpoint) = &mut self.endpoints[index as usize] {
                endpoint.due = Time::NEVER;
                let change = endpoint.breaker.tick(now, &rules.breaker, rng);
                if let Some(change) = change {
                    report(endpoint, &self.tiers[endpoint.tier as usize], change);
                }
            }
            self.sync(index, rules);
        }
    }

    /// When time alone next changes something.
    pub(crate) fn due(&self) -> Time {
        self.timers.first().map_or(Time::NEVER, |(due, _)| *due)
    }

    /// Brings the ready list and the timers in line with the endpoint's breaker. Two compares
    /// when nothing has changed.
    pub(crate) fn sync(&mut self, index: u32, rules: &Rules) {
        let Some(Some(endpoint)) = self.endpoints.get_mut(index as usize) else { return };
        let ready = &mut self.tiers[endpoint.tier as usize].ready;
        let due = endpoint.breaker.due();
        if due != endpoint.due {
            self.timers.remove(&(endpoint.due, index));
            if due != Time::NEVER {
                self.timers.insert((due, index));
            }
            endpoint.due = due;
        }
        let usable = endpoint.health != Status::Unhealthy;
        match (usable && endpoint.breaker.would_admit(&rules.breaker), endpoint.ready_at) {
            (true, None) => {
                endpoint.ready_at = u32::try_from(ready.len()).ok();
                ready.push(index);
            }
            (false, Some(at)) => {
                endpoint.ready_at = None;
                ready.swap_remove(at as usize);
                if let Some(moved) = ready.get(at as usize).copied()
                    && let Some(moved) = &mut self.endpoints[moved as usize]
                {
                    moved.ready_at = Some(at);
                }
            }
            _ => (),
        }
    }

    /// Whether more than one endpoint may be called now.
    pub(crate) fn has_choice(&self) -> bool {
        self.tiers.iter().map(|tier| tier.ready.len()).sum::<usize>() > 1
    }

    /// How many endpoints of `tier` may be called now.
    pub(crate) fn ready(&self, tier: usize) -> usize {
        self.tiers.get(tier).map_or(0, |tier| tier.ready.len())
    }

    /// An endpoint of `tier` that may be called now and is what `want` says.
    pub(crate) fn choose(
        &self,
        tier: usize,
        now: Time,
        rules: &Rules,
        tried: &Tried,
        want: Want,
        rng: &mut Pcg32,
    ) -> Option<u32> {
        let Tier { ready, watch, .. } = self.tiers.get(tier)?;
        let sound = matches!(want, Want::Fresh | Want::Sound);
        if sound && watch.suspect(now, &rules.stall) {
            return None;
        }
        let length = u32::try_from(ready.len()).ok()?;
        let load = |index: u32| -> Option<u32> {
            let endpoint = self.endpoints.get(index as usize)?.as_ref()?;
            if matches!(want, Want::Fresh | Want::Untried) && tried.has(index) {
                return None;
            }
            if sound && endpoint.watch.suspect(now, &rules.stall) {
                return None;
            }
            Some(endpoint.watch.outstanding())
        };
        let mut best: Option<(u32, u32)> = None;
        let mut consider = |index: u32| -> bool {
            let Some(load) = load(index) else { return false };
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
            true
        };
        match length {
            0 => return None,
            1 => {
                consider(ready[0]);
            }
            2..=SMALL_U32 => {
                let start = rng.below(length) as usize;
                for index in ready[start..].iter().chain(&ready[..start]) {
                    consider(*index);
                }
            }
            _ => {
                let mut found = 0;
                for _ in 0..SMALL {
                    found += u32::from(consider(ready[rng.below(length) as usize]));
                    if found == 2 {
                        break;
                    }
                }
                if found == 0 {
                    // Unlucky, or nearly all are out of the question: look at a stretch long
                    // enough to hold an untried one.
                    let start = rng.below(length) as usize;
                    for index in
                        ready[start..].iter().chain(&ready[..start]).take(2 * MOST_TRIED + 1)
                    {
                        consider(*index);
                    }
                }
            }
        }
        best.map(|(_, index)| index)
    }

    /// All endpoints in failover order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Tier, &Endpoint)> {
        (0..).zip(&self.tiers).flat_map(move |(number, tier)| {
            (0..).zip(&self.endpoints).filter_map(move |(index, e)| {
                let e = e.as_ref().filter(|e| e.tier == number)?;
                Some((index, tier, e))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::Class;

    pub(crate) fn candidates(sizes: &[usize]) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (tier, size) in sizes.iter().enumerate() {
            for n in 0..*size {
                found.push(Candidate {
                    cluster: format!("c{tier}").into(),
                    place: if tier == 0 { Place::Local } else { Place::Backup },
                    address: Address::parse(&format!(
                        "http://10.{tier}.{}.{}:80",
                        n / 250,
                        n % 250
                    ))
                    .unwrap(),
                    health: None,
                });
            }
        }
        found
    }

    fn consistent(pool: &Pool, rules: &Rules) -> Result<(), TestCaseError> {
        for (index, endpoint) in (0_u32..).zip(&pool.endpoints) {
            let Some(e) = endpoint else { continue };
            let ready = &pool.tiers[e.tier as usize].ready;
            prop_assert_eq!(e.ready_at.map(|at| ready[at as usize]), e.ready_at.map(|_| index));
            prop_assert_eq!(e.ready_at.is_some(), e.breaker.would_admit(&rules.breaker));
            prop_assert_eq!(
                pool.timers.contains(&(e.breaker.due(), index)),
                e.breaker.due() != Time::NEVER
            );
        }
        let listed: usize = pool.tiers.iter().map(|t| t.ready.len()).sum();
        prop_assert_eq!(
            listed,
            pool.endpoints.iter().flatten().filter(|e| e.ready_at.is_some()).count()
        );
        Ok(())
    }

    proptest! {
        /// Whatever happens to endpoints and lists of them, ready lists and timers stay exact, a
        /// choice is always allowed by its want, and one is found whenever there is one.
        #[test]
        fn lists_stay_exact(
            seed: u64,
            script in proptest::collection::vec((0_u8..6, 0_usize..40, 0_u64..3_000), 1..80),
        ) {
            let rules = Rules::default();
            let mut rng = Pcg32::new(seed, 0);
            let mut pool = Pool::default();
            let mut now = Time::ZERO;
            pool.replace(now, &candidates(&[3, 12, 1]), &rules);
            for (action, n, ms) in script {
                now = now.plus(std::time::Duration::from_millis(ms));
                pool.tick(now, &rules, &mut rng, |_, _, _| ());
                let index = u32::try_from(n % pool.endpoints.len().max(1)).unwrap();
                match action {
                    0 => { pool.replace(now, &candidates(&[n % 4, n % 13, n % 2]), &rules); }
                    1 | 2 => if let Some(Some(e)) = pool.endpoints.get_mut(index as usize) {
                        for _ in 0..5 {
                            if let Ok(permit) = e.breaker.admit(now, &rules.breaker) {
                                let class = if action == 1 { Class::Failure } else { Class::Success };
                                let took = std::time::Duration::ZERO;
                                let _ = e.breaker.record(now, permit, class, took, &rules.breaker, &mut rng);
                            }
                        }
                        pool.sync(index, &rules);
                    },
                    _ => {
                        let mut tried = Tried::default();
                        for tier in 0..pool.tiers.len() {
                            for want in [Want::Fresh, Want::Untried, Want::Any] {
                                let choice = pool.choose(tier, now, &rules, &tried, want, &mut rng);
                                let allowed = pool.tiers[tier].ready.iter().any(|i| want == Want::Any || !tried.has(*i));
                                prop_assert_eq!(choice.is_some(), allowed, "tier {} of {:?}", tier, pool.tiers[tier].ready.len());
                                if let Some(i) = choice {
                                    prop_assert!(want == Want::Any || !tried.has(i));
                                    tried.add(i);
                                }
                            }
                        }
                    }
                }
                consistent(&pool, &rules)?;
            }
        }

        /// A kept endpoint keeps its id and its breaker; an id of a removed one finds nothing.
        #[test]
        fn ids_survive_replacement(before in 0_usize..20, after in 0_usize..20) {
            let rules = Rules::default();
            let mut pool = Pool::default();
            pool.replace(Time::ZERO, &candidates(&[before]), &rules);
            let ids: Vec<_> = (0..before).map(|n| pool.id(n as u32).unwrap()).collect();
            let (added, removed) = pool.replace(Time::ZERO, &candidates(&[after]), &rules);
            prop_assert_eq!(added, after.saturating_sub(before));
            prop_assert_eq!(removed, before.saturating_sub(after));
            for (n, id) in ids.iter().enumerate() {
                prop_assert_eq!(pool.get(*id).is_some(), n < after);
            }
            pool.replace(Time::ZERO, &candidates(&[before]), &rules);
            for (n, id) in ids.iter().enumerate() {
                prop_assert_eq!(pool.get(*id).is_some(), n < after.min(before));
            }
        }
    }
}
