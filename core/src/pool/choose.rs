//! The pick within a tier: by the balancer over the list of those that may be called, at the same
//! cost for three endpoints and for a hundred thousand. Which tier is decided in
//! `call/pick.rs`.

use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, List, Load};
use super::{Pool, Tier};
use crate::config::Rules;
use crate::policy::balance::affinity::{Bound, Keyed};
use crate::policy::balance::choose::{self, Choice, Nobody, Ready};
use crate::policy::balance::route::RouteId;
use crate::policy::balance::{BalanceKind, Settings, hash};
use crate::policy::stall;
use crate::policy::tiers::Pass;
use crate::rng::Pcg32;
use crate::time::Time;

/// Endpoints remembered per call as tried.
pub(crate) const MOST_TRIED: usize = 8;

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

    #[inline]
    pub(crate) fn has(&self, index: u32) -> bool {
        self.count > 0 && self.list[..usize::from(self.count).min(MOST_TRIED)].contains(&index)
    }
}

/// Which endpoints a pick accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// What a call asks of a tier.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) now: Time,
    pub(crate) rules: &'a Rules,
    pub(crate) tried: &'a Tried,
    pub(crate) want: Want,
    /// Affinity, if the call has any.
    pub(crate) key: Option<u64>,
    pub(crate) route: RouteId,
}

impl Pool {
    /// An endpoint of `tier` that is what `ask` says, from the lists that `pass` allows.
    pub(crate) fn choose(
        &mut self,
        tier: usize,
        pass: Pass,
        ask: &Ask<'_>,
        rng: &mut Pcg32,
    ) -> Option<u32> {
        let sound = matches!(ask.want, Want::Fresh | Want::Sound);
        let found = self.tiers.get(tier)?;
        if sound && found.watch.suspect(ask.now, &ask.rules.stall) {
            return None;
        }
        match pass {
            Pass::Healthy => self.among(tier, List::Ready, ask, rng),
            Pass::Degraded => self.among(tier, List::Degraded, ask, rng),
            Pass::Any => {
                // As if they stood in one list: each list has its share of the draws.
                let lists = [List::Ready, List::Degraded, List::Barred, List::Advised];
                let sizes = lists.map(|list| found.list(list).len());
                let total = u32::try_from(sizes.iter().sum::<usize>()).unwrap_or(u32::MAX);
                let mut draw = rng.below(total) as usize;
                let first = sizes.iter().position(|size| {
                    let here = draw < *size;
                    draw = draw.saturating_sub(*size);
                    here
                });
                let first = first.unwrap_or(0);
                (0..lists.len()).find_map(|turn| {
                    self.among(tier, lists[(first + turn) % lists.len()], ask, rng)
                })
            }
        }
    }

    /// An endpoint of `tier` that only other nodes found bad.
    pub(crate) fn advised(&mut self, tier: usize, ask: &Ask<'_>, rng: &mut Pcg32) -> Option<u32> {
        self.among(tier, List::Advised, ask, rng)
    }

    /// A half-open endpoint of `tier` that waits for an attempt.
    pub(crate) fn probe(&self, tier: usize, ask: &Ask<'_>) -> Option<u32> {
        let tier = self.tiers.get(tier)?;
        let list = tier.list(List::Probing);
        if list.is_empty() {
            return None;
        }
        let view = self.view(tier, list, ask);
        list.iter().copied().find(|index| {
            self.loads.get(*index as usize).is_some_and(|load| view.accepts(*index, load))
        })
    }

    fn among(&mut self, tier: usize, list: List, ask: &Ask<'_>, rng: &mut Pcg32) -> Option<u32> {
        let found = self.tiers.get(tier)?;
        let ready = found.list(list);
        if ready.is_empty() {
            return None;
        }
        let mut cursor = found.cursor;
        let mut view = self.view(found, ready, ask);
        view.list = list;
        // Those that the route prefers first, if it prefers any.
        let choice = if ask.rules.routes.prefers(ask.route) {
            view.preferred = true;
            let choice = view.pick(ask, &mut cursor, rng);
            view.preferred = false;
            choice.or_else(|_| view.pick(ask, &mut cursor, rng))
        } else {
            view.pick(ask, &mut cursor, rng)
        };
        let index = choice.ok().and_then(|choice| ready.get(choice.position as usize).copied());
        if let Some(tier) = self.tiers.get_mut(tier) {
            tier.cursor = cursor;
        }
        index
    }

    fn view<'a>(&'a self, tier: &'a Tier, ready: &'a [u32], ask: &Ask<'a>) -> View<'a> {
        let Rules { balance, stall, .. } = ask.rules;
        View {
            ready,
            loads: &self.loads,
            endpoints: &self.endpoints,
            tier,
            tried: ask.tried,
            balance,
            stall,
            now: ask.now,
            list: List::Ready,
            untried: matches!(ask.want, Want::Fresh | Want::Untried),
            sound: matches!(ask.want, Want::Fresh | Want::Sound),
            route: ask.route,
            restricted: ask.rules.routes.restricts(ask.route),
            preferred: false,
            warm: ask.now >= tier.warm || !balance.slow_start.is_on(),
        }
    }
}

/// One list of a tier, as a call sees it.
struct View<'a> {
    ready: &'a [u32],
    loads: &'a [Load],
    endpoints: &'a [Option<Endpoint>],
    tier: &'a Tier,
    tried: &'a Tried,
    balance: &'a Settings,
    stall: &'a stall::Settings,
    now: Time,
    list: List,
    untried: bool,
    sound: bool,
    route: RouteId,
    /// Whether the route leaves anybody out.
    restricted: bool,
    preferred: bool,
    /// Nobody is in slow start.
    warm: bool,
}

impl View<'_> {
    #[inline]
    fn pick(&self, ask: &Ask<'_>, cursor: &mut u32, rng: &mut Pcg32) -> Result<Choice, Nobody> {
        if self.balance.kind == BalanceKind::P2c {
            choose::cheapest(self, rng)
        } else {
            self.otherwise(ask.key, cursor, rng)
        }
    }

    /// Every kind but the default one: apart, so that this one stays small.
    #[inline(never)]
    fn otherwise(
        &self,
        key: Option<u64>,
        cursor: &mut u32,
        rng: &mut Pcg32,
    ) -> Result<Choice, Nobody> {
        match (self.balance.kind, key) {
            (BalanceKind::LeastOutstanding, _) => choose::least_outstanding(&Counted(self), rng),
            (BalanceKind::RoundRobin, _) => choose::in_turn(self, cursor, rng),
            (BalanceKind::Weighted, _) => choose::drawn(self, rng),
            (BalanceKind::Random, _) => choose::uniform(self, rng),
            (BalanceKind::Rendezvous | BalanceKind::Ring, Some(key)) => {
                let total = u64::from(self.tier.watch.outstanding());
                let bound = Bound::new(self.balance.load_permille, total, self.count());
                if self.tier.ring.is_empty() {
                    hash::owner(key, bound, self)
                } else {
                    self.tier.ring.pick(key, bound, self, rng)
                }
            }
            _ => choose::cheapest(self, rng),
        }
    }

    #[inline]
    fn accepts(&self, index: u32, load: &Load) -> bool {
        if self.untried && self.tried.has(index) {
            return false;
        }
        // Usually neither is to be asked, and the endpoint need not be read.
        let suspect = self.sound && load.may_be_suspect();
        if !suspect && !self.restricted && !self.preferred {
            return true;
        }
        let Some(Some(endpoint)) = self.endpoints.get(index as usize) else { return false };
        (!self.restricted || endpoint.tags.fits(self.route))
            && (!self.preferred || endpoint.tags.preferred(self.route))
            && !(suspect && endpoint.watch.suspect(self.now, self.stall))
    }

    #[inline]
    fn load(&self, position: u32) -> Option<&Load> {
        let index = *self.ready.get(position as usize)?;
        let load = self.loads.get(index as usize)?;
        self.accepts(index, load).then_some(load)
    }
}

impl Ready for View<'_> {
    #[inline]
    fn count(&self) -> u32 {
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn cost(&self, position: u32) -> Option<u64> {
        let load = self.load(position)?;
        Some(load.ewma.cost(self.now, load.out, &self.balance.ewma))
    }

    #[inline]
    fn even(&self) -> bool {
        self.warm && self.tier.weights.even()
    }

    fn weight(&self, position: u32) -> u32 {
        if self.tier.weights.even() {
            return 1;
        }
        let index = self.ready.get(position as usize).copied().unwrap_or(u32::MAX);
        self.loads.get(index as usize).map_or(0, |load| load.weight())
    }

    fn draw(&self, rng: &mut Pcg32) -> Option<u32> {
        let member = self.tier.weights.draw(rng);
        let index = *self.tier.members.get(member as usize)?;
        let position = self.position(index)?;
        let load = self.loads.get(index as usize)?;
        let mut passes = || self.balance.slow_start.passes(load.since, self.now, rng);
        (self.warm || passes()).then_some(position)
    }
}

impl Keyed for View<'_> {
    #[inline]
    fn position(&self, index: u32) -> Option<u32> {
        let endpoint = self.endpoints.get(index as usize)?.as_ref()?;
        let (list, position) = endpoint.listed?;
        (list == self.list).then_some(position)
    }

    #[inline]
    fn outstanding(&self, position: u32) -> u32 {
        let index = self.ready.get(position as usize).copied().unwrap_or(u32::MAX);
        self.loads.get(index as usize).map_or(0, |load| load.out)
    }

    #[inline]
    fn hash(&self, position: u32) -> u64 {
        let index = self.ready.get(position as usize).copied().unwrap_or(u32::MAX);
        match self.endpoints.get(index as usize) {
            Some(Some(endpoint)) => hash::of(endpoint.label.as_bytes()),
            _ => 0,
        }
    }
}

/// The same, where the cost is the number outstanding.
struct Counted<'a, 'b>(&'a View<'b>);

impl Ready for Counted<'_, '_> {
    #[inline]
    fn count(&self) -> u32 {
        self.0.count()
    }

    #[inline]
    fn cost(&self, position: u32) -> Option<u64> {
        self.0.load(position).map(|load| u64::from(load.out))
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
