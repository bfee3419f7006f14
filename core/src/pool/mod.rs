//! The endpoints of a service in tiers (one per cluster, in failover order). Each tier keeps
//! lists of its endpoints by what may be done with them, so a pick costs the same for three
//! endpoints and for ten thousand; time-driven breaker changes sit in one ordered set. The pick
//! itself is in `choose.rs`, what is known of one endpoint in `endpoint.rs`.

pub(crate) mod choose;
mod endpoint;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use choose::{Ask, Tried, Want};
pub use endpoint::EndpointId;
use endpoint::Hearsay;
pub(crate) use endpoint::{Endpoint, Heed, List, Load};

use crate::config::Rules;
use crate::discovery::{Candidate, Place};
use crate::metrics::{ClusterTally, OTHER};
use crate::policy::balance::affinity::{Member, Ring};
use crate::policy::balance::weights::Weights;
use crate::policy::balance::{BalanceKind, hash, subset};
use crate::policy::breaker::{Breaker, Transition};
use crate::policy::health::Status;
use crate::policy::outlier::{Group, Outlier};
use crate::policy::stall::{self, Watch};
use crate::policy::tiers::TierHealth;
use crate::rng::Pcg32;
use crate::time::Time;

/// Tiers kept; clusters beyond are left out.
const MOST_TIERS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Tier {
    pub(crate) cluster: Arc<str>,
    pub(crate) place: Place,
    /// All attempts of the cluster.
    pub(crate) watch: Watch,
    pub(crate) tally: ClusterTally,
    /// Its endpoints, by what may be done with them; see [`List`].
    lists: [Vec<u32>; endpoint::LISTS],
    /// All of them, in the order of their weights.
    members: Vec<u32>,
    weights: Weights,
    ring: Ring,
    /// Whose turn it is.
    cursor: u32,
    /// When the last slow start is over.
    warm: Time,
}

impl Tier {
    /// The endpoints in `list`.
    pub(crate) fn list(&self, list: List) -> &[u32] {
        &self.lists[list as usize]
    }

    /// Its endpoints, counted by health.
    pub(crate) fn health(&self) -> TierHealth {
        let count = |list: List| u32::try_from(self.list(list).len()).unwrap_or(u32::MAX);
        TierHealth {
            healthy: count(List::Ready),
            degraded: count(List::Degraded),
            total: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            excluded: 0,
            weights: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) endpoints: Vec<Option<Endpoint>>,
    /// What picks read, by the same numbers.
    pub(crate) loads: Vec<Load>,
    pub(crate) tiers: Vec<Tier>,
    timers: BTreeSet<(Time, u32)>,
    free: Vec<u32>,
    generation: u32,
    /// Tiers whose lists have changed, one bit each.
    dirty: u64,
    /// Endpoints in any list: without one there is nothing to look for.
    listed: u32,
    /// What clusters had counted that are not there any more.
    retired: BTreeMap<Arc<str>, Box<ClusterTally>>,
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
        client: u64,
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
        for candidate in chosen(candidates, rules.balance.subset, client) {
            let label: Arc<str> = candidate.address.as_str().into();
            let key = (candidate.cluster.clone(), label.clone());
            if !placed.insert(key.clone()) {
                continue;
            }
            let Some(tier) = self.tier_of(now, candidate) else { continue };
            let tags = rules.routes.tags(&candidate.metadata);
            let known = gone.remove(&key);
            if let Some(index) = known
                && let Some(endpoint) = &mut self.endpoints[index as usize]
            {
                (endpoint.tier, endpoint.place) = (tier, candidate.place);
                (endpoint.check, endpoint.tags) = (candidate.health.clone(), tags);
                endpoint.condition = candidate.condition;
                self.loads[index as usize].set_weight(candidate.weight);
                self.tiers[tier as usize].members.push(index);
                continue;
            }
            added += 1;
            self.generation = self.generation.wrapping_add(1);
            let endpoint = Endpoint {
                hearsay: Hearsay::of(&candidate.cluster, &label),
                address: candidate.address.clone(),
                label,
                place: candidate.place,
                tier,
                breaker: Breaker::new(now, &rules.breaker),
                watch: Watch::new(now),
                outlier: Outlier::default(),
                health: Status::Unknown,
                condition: candidate.condition,
                check: candidate.health.clone(),
                tags,
                attempts: 0,
                failed: 0,
                last_success: None,
                generation: self.generation,
                listed: None,
                due: Time::NEVER,
            };
            let load = Load::new(now, candidate.weight);
            let index = match self.free.pop() {
                Some(index) => {
                    self.endpoints[index as usize] = Some(endpoint);
                    self.loads[index as usize] = load;
                    index
                }
                None => {
                    self.endpoints.push(Some(endpoint));
                    self.loads.push(load);
                    u32::try_from(self.endpoints.len() - 1).unwrap_or(u32::MAX)
                }
            };
            self.tiers[tier as usize].members.push(index);
        }
        for tier in before {
            if let Some(same) = self.tiers.iter_mut().find(|t| t.cluster == tier.cluster) {
                (same.watch, same.cursor) = (tier.watch, tier.cursor);
                same.tally = tier.tally;
            } else {
                self.retire(tier);
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
        self.compile(rules);
        self.relist(now, rules);
        (added, gone.len())
    }

    /// Builds anew what is compiled from weights and addresses.
    pub(crate) fn compile(&mut self, rules: &Rules) {
        let Pool { endpoints, loads, tiers, .. } = self;
        for tier in tiers {
            let weights: Vec<u32> =
                tier.members.iter().map(|index| loads[*index as usize].weight()).collect();
            tier.weights = Weights::build(&weights);
            let ring = match rules.balance.kind {
                BalanceKind::Ring => true,
                BalanceKind::Rendezvous => tier.members.len() > hash::MOST_RENDEZVOUS as usize,
                _ => false,
            };
            tier.ring = Ring::default();
            if ring {
                let member = |index: &u32| {
                    let endpoint = endpoints[*index as usize].as_ref()?;
                    let hash = hash::of(endpoint.label.as_bytes());
                    Some(Member { endpoint: *index, hash, weight: loads[*index as usize].weight() })
                };
                let members: Vec<Member> = tier.members.iter().filter_map(member).collect();
                tier.ring = Ring::build(&members);
            }
            let since = tier.members.iter().map(|index| loads[*index as usize].since).max();
            tier.warm = rules.balance.slow_start.over(since.unwrap_or_default());
        }
    }

    /// Puts every endpoint into its list and timer, from scratch.
    pub(crate) fn relist(&mut self, now: Time, rules: &Rules) {
        self.timers.clear();
        for tier in &mut self.tiers {
            tier.lists.iter_mut().for_each(Vec::clear);
        }
        for endpoint in self.endpoints.iter_mut().flatten() {
            (endpoint.listed, endpoint.due) = (None, Time::NEVER);
        }
        self.listed = 0;
        for index in 0..u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX) {
            self.sync_listed(now, index, rules, false);
        }
        self.dirty = u64::MAX;
    }

    fn tier_of(&mut self, now: Time, candidate: &Candidate) -> Option<u32> {
        let found = self.tiers.iter().position(|tier| tier.cluster == candidate.cluster);
        let position = match found {
            Some(position) => position,
            None if self.tiers.len() >= MOST_TIERS => return None,
            None => {
                let tally = self.retired.remove(&candidate.cluster);
                self.tiers.push(Tier {
                    cluster: candidate.cluster.clone(),
                    place: candidate.place,
                    watch: Watch::new(now),
                    tally: tally.map(|tally| *tally).unwrap_or_default(),
                    lists: Default::default(),
                    members: Vec::new(),
                    weights: Weights::default(),
                    ring: Ring::default(),
                    cursor: 0,
                    warm: Time::ZERO,
                });
                self.tiers.len() - 1
            }
        };
        u32::try_from(position).ok()
    }

    /// Keeps what a cluster has counted that leaves; of too many, under one name.
    fn retire(&mut self, tier: Tier) {
        let full = self.retired.len() >= MOST_TIERS;
        let cluster = if full { OTHER.into() } else { tier.cluster };
        self.retired.entry(cluster).or_default().add(&tier.tally);
    }

    /// What each cluster has counted, also those that are not there any more.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&Arc<str>, &ClusterTally)> {
        let gone = self.retired.iter().map(|(cluster, tally)| (cluster, &**tally));
        self.tiers.iter().map(|tier| (&tier.cluster, &tier.tally)).chain(gone)
    }

    /// An attempt at the endpoint is not out any more.
    pub(crate) fn done(&mut self, index: u32) {
        if let Some(load) = self.loads.get_mut(index as usize) {
            load.out = load.out.saturating_sub(1);
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
            self.sync(now, index, rules);
        }
    }

    /// The endpoints that time has something to do with by now.
    pub(crate) fn due_by(&self, now: Time) -> Vec<u32> {
        self.timers.range(..=(now, u32::MAX)).map(|(_, index)| *index).collect()
    }

    /// When time alone next changes something.
    pub(crate) fn due(&self) -> Time {
        self.timers.first().map_or(Time::NEVER, |(due, _)| *due)
    }

    /// Brings the lists and the timers in line with the endpoint. Two compares when nothing has
    /// changed.
    #[inline]
    pub(crate) fn sync(&mut self, now: Time, index: u32, rules: &Rules) {
        let Some(Some(endpoint)) = self.endpoints.get(index as usize) else { return };
        if let Some(load) = self.loads.get_mut(index as usize) {
            load.set_troubled(endpoint.watch.troubled());
        }
        let listed = endpoint.listed.map(|(list, _)| list);
        if endpoint.next() != endpoint.due || endpoint.belongs(&rules.breaker) != listed {
            self.sync_listed(now, index, rules, true);
        }
    }

    #[inline(never)]
    fn sync_listed(&mut self, now: Time, index: u32, rules: &Rules, back: bool) {
        let Some(Some(endpoint)) = self.endpoints.get_mut(index as usize) else { return };
        let Some(tier) = self.tiers.get_mut(endpoint.tier as usize) else { return };
        let due = endpoint.next();
        if due != endpoint.due {
            self.timers.remove(&(endpoint.due, index));
            if due != Time::NEVER {
                self.timers.insert((due, index));
            }
            endpoint.due = due;
        }
        let belongs = endpoint.belongs(&rules.breaker);
        let listed = endpoint.listed.map(|(list, _)| list);
        if belongs == listed {
            return;
        }
        self.dirty |= 1 << endpoint.tier;
        let left = endpoint.listed.take();
        self.listed = self.listed - u32::from(left.is_some()) + u32::from(belongs.is_some());
        if let Some(list) = belongs {
            let members = &mut tier.lists[list as usize];
            endpoint.listed = u32::try_from(members.len()).ok().map(|at| (list, at));
            members.push(index);
            if list == List::Ready && back && rules.balance.slow_start.is_on() {
                self.loads[index as usize].since = now;
                tier.warm = tier.warm.max(rules.balance.slow_start.over(now));
            }
        }
        if let Some((list, at)) = left {
            let members = &mut tier.lists[list as usize];
            members.swap_remove(at as usize);
            if let Some(moved) = members.get(at as usize).copied()
                && let Some(moved) = &mut self.endpoints[moved as usize]
            {
                moved.listed = Some((list, at));
            }
        }
    }

    /// Whether no endpoint may be called at all, not even in panic.
    #[inline]
    pub(crate) fn nobody(&self) -> bool {
        self.listed == 0
    }

    /// Whether any endpoint is held back only because of what other nodes say.
    pub(crate) fn has_advised(&self) -> bool {
        self.tiers.iter().any(|tier| !tier.list(List::Advised).is_empty())
    }

    /// The tiers whose lists have changed since this was last asked, one bit each.
    pub(crate) fn take_dirty(&mut self) -> u64 {
        std::mem::take(&mut self.dirty)
    }

    /// Whether more than one endpoint may be called now.
    pub(crate) fn has_choice(&self) -> bool {
        self.tiers.iter().map(callable).sum::<usize>() > 1
    }

    /// Whether an endpoint other than the one at `index` may be called now and is not suspect.
    /// Only asked while there is trouble; a look at a few endpoints of each tier has to do.
    pub(crate) fn has_sound(&self, now: Time, index: u32, settings: &stall::Settings) -> bool {
        let sound = |other: &u32| {
            let endpoint = self.endpoints.get(*other as usize).and_then(Option::as_ref);
            *other != index && endpoint.is_some_and(|e| !e.watch.suspect(now, settings))
        };
        self.tiers.iter().filter(|tier| !tier.watch.suspect(now, settings)).any(|tier| {
            [List::Ready, List::Degraded].iter().any(|l| tier.list(*l).iter().take(16).any(sound))
        })
    }

    /// How many endpoints of `tier` may be called now.
    pub(crate) fn ready(&self, tier: usize) -> usize {
        self.tiers.get(tier).map_or(0, callable)
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

/// How many endpoints of a tier may be called now, without panic.
fn callable(tier: &Tier) -> usize {
    tier.list(List::Ready).len() + tier.list(List::Degraded).len() + tier.list(List::Probing).len()
}

/// The part of the candidates that this client uses, cluster by cluster.
fn chosen(candidates: &[Candidate], size: u32, client: u64) -> Vec<&Candidate> {
    if size == 0 {
        return candidates.iter().collect();
    }
    let mut clusters: Vec<(&Arc<str>, Vec<&Candidate>)> = Vec::new();
    for candidate in candidates {
        match clusters.iter_mut().find(|(cluster, _)| **cluster == candidate.cluster) {
            Some((_, members)) => members.push(candidate),
            None => clusters.push((&candidate.cluster, vec![candidate])),
        }
    }
    let mut all = Vec::new();
    for (_, members) in clusters {
        let hashes: Vec<u64> =
            members.iter().map(|c| hash::of(c.address.as_str().as_bytes())).collect();
        let kept = subset::members(client, &hashes, size);
        all.extend(kept.into_iter().filter_map(|at| members.get(at as usize).copied()));
    }
    all
}

impl Group for Pool {
    fn each(&mut self, mut visit: impl FnMut(usize, &mut Outlier)) {
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            if let Some(endpoint) = endpoint {
                visit(index, &mut endpoint.outlier);
            }
        }
    }
}
