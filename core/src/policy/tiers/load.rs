//! How the load is split over tiers, as a pure calculation in integers: availability, spill,
//! panic, cap, and the pick of one call. Which tiers are held back is input here; who decides it
//! is in `holddown.rs`. Order and rounding are those of Envoy's code, not of its documentation.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::reason::{Choice, Pass, Refusal, Why};
use crate::config::OverCap;

/// Tiers that are looked at; further ones are left out.
pub const MOST_TIERS: usize = 64;

/// The endpoints of one tier, counted by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TierHealth {
    /// Endpoints that may be used.
    pub healthy: u32,
    /// Endpoints that are used when the healthy ones of all tiers do not suffice.
    pub degraded: u32,
    /// All endpoints, whatever their health.
    pub total: u32,
    /// Those of `total` that nothing is known about yet. They leave the denominator; a tier of
    /// only such endpoints is of unknown health.
    pub excluded: u32,
    /// Weights to calculate availability from instead of the counts.
    pub weights: Option<Weights>,
}

/// Summed weights of the endpoints of one tier. Panic still goes by counts, as in Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weights {
    /// Of the healthy endpoints.
    pub healthy: u64,
    /// Of the degraded ones.
    pub degraded: u64,
    /// Of all that are not excluded.
    pub total: u64,
}

impl TierHealth {
    /// `healthy` endpoints of `total`; the others are unhealthy.
    #[must_use]
    pub const fn of(healthy: u32, total: u32) -> TierHealth {
        TierHealth { healthy, degraded: 0, total, excluded: 0, weights: None }
    }

    /// Whether any endpoint may be used.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        self.healthy > 0 || self.degraded > 0
    }

    /// Whether there are endpoints, and nothing is known about any of them.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.total > 0 && self.excluded >= self.total && !self.is_available()
    }

    /// Healthy and degraded availability in percent, each at most 100.
    fn availability(&self, factor: u32) -> (u8, u8) {
        let weights = self.weights.unwrap_or(Weights {
            healthy: self.healthy.into(),
            degraded: self.degraded.into(),
            total: self.judged(),
        });
        let share = |weight: u64| {
            let scaled = u128::from(factor) * u128::from(weight);
            let percent = scaled.checked_div(weights.total.into()).unwrap_or(0);
            u8::try_from(percent.min(100)).unwrap_or(100)
        };
        (share(weights.healthy), share(weights.degraded))
    }

    fn judged(&self) -> u64 {
        u64::from(self.total.saturating_sub(self.excluded))
    }

    fn usable(&self) -> u64 {
        u64::from(self.healthy) + u64::from(self.degraded)
    }

    fn panics(&self, threshold: u8) -> bool {
        threshold > 0
            && (self.judged() == 0 || self.usable() * 100 < u64::from(threshold) * self.judged())
    }

    fn usable_percent(&self) -> u8 {
        let percent = (self.usable() * 100).checked_div(self.judged()).unwrap_or(0);
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

/// What is known about tiers beyond their health, one bit per tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// Usable, but held back: they get only what no other tier can carry.
    pub held: u64,
    /// Of unknown health, and taken for healthy for now.
    pub trusted: u64,
}

/// What one tier gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// Percent of the load for its healthy endpoints.
    pub healthy: u8,
    /// Percent of the load for its degraded endpoints.
    pub degraded: u8,
    /// Percent of the load its healthy endpoints could carry, over-provisioned.
    pub able: u8,
    /// Percent of the load its degraded endpoints could carry, over-provisioned.
    pub able_degraded: u8,
    /// Percent of its judged endpoints that may be used.
    pub usable: u8,
    /// Too few may be used: all of them are, or none.
    pub panic: bool,
    /// Its health is unknown and it is used all the same.
    pub unproven: bool,
    /// Held back.
    pub held: bool,
    /// Without endpoints.
    pub empty: bool,
}

/// The split of the load. All shares together are 100 when there is any endpoint, and 0
/// otherwise. Reused from split to split, so that only a larger number of tiers allocates.
///
/// ```
/// use origin_core::policy::tiers::{Loads, Settings, Standing, TierHealth};
///
/// let envoy = Settings { over_provisioning: 140, ..Settings::default() };
/// let tiers = [TierHealth::of(1, 2), TierHealth::of(3, 3)]; // 1/2 × 140 % = 70 %
/// let loads = Loads::of(&tiers, Standing::default(), &envoy);
/// assert_eq!(loads.shares()[0].healthy, 70);
/// assert_eq!(loads.shares()[1].healthy, 30);
/// assert_eq!(loads.pick(85).unwrap().tier, 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loads {
    shares: Vec<Share>,
    /// The first tier that has endpoints.
    first: u8,
    kept: u8,
    shed: u8,
    /// No endpoint may be used, and nobody panics.
    idle: bool,
    fail_on_panic: bool,
    threshold: u8,
    max_spill: u8,
}

impl Loads {
    /// The split of `tiers`, which stand in order of preference.
    #[must_use]
    pub fn of(tiers: &[TierHealth], standing: Standing, settings: &Settings) -> Loads {
        let mut loads = Loads::default();
        loads.split(tiers, standing, settings);
        loads
    }

    /// Splits anew.
    pub fn split(&mut self, tiers: &[TierHealth], standing: Standing, settings: &Settings) {
        let tiers = &tiers[..tiers.len().min(MOST_TIERS)];
        let has = |set: u64, tier: usize| set >> tier & 1 == 1;
        self.shares.clear();
        self.shares.extend(tiers.iter().enumerate().map(|(number, tier)| {
            let unproven = has(standing.trusted, number) && tier.is_unknown();
            let (able, able_degraded) =
                if unproven { (100, 0) } else { tier.availability(settings.over_provisioning) };
            let held = has(standing.held, number);
            let usable = tier.usable_percent();
            let empty = tier.total == 0;
            Share { able, able_degraded, usable, unproven, held, empty, ..Share::default() }
        }));
        let first = tiers.iter().position(|tier| tier.total > 0);
        (self.kept, self.shed, self.idle) = (0, 0, false);
        self.first = u8::try_from(first.unwrap_or(0)).unwrap_or(0);
        self.fail_on_panic = settings.fail_on_panic;
        (self.threshold, self.max_spill) = (settings.panic_threshold, settings.max_spill);
        let Some(first) = first else { return };

        let sum: u32 =
            self.shares.iter().map(|s| u32::from(s.able) + u32::from(s.able_degraded)).sum();
        let whole = sum.min(100);
        let mut left = 100;
        let mut rest_to = None;
        // Healthy endpoints of all tiers, then degraded ones, then those held back.
        for (held, degraded) in [(false, false), (false, true), (true, false), (true, true)] {
            for (tier, share) in self.shares.iter_mut().enumerate() {
                let able = if degraded { share.able_degraded } else { share.able };
                if able == 0 || share.held != held {
                    continue;
                }
                rest_to = rest_to.or(Some((tier, degraded)));
                let part = (u32::from(able) * 100 / whole.max(1)).min(left);
                left -= part;
                share.add(degraded, part);
            }
        }
        if let Some((tier, degraded)) = rest_to {
            self.shares[tier].add(degraded, left);
            left = 0;
        }
        if whole < 100 {
            self.panic(tiers, &mut left);
        }
        if left > 0 {
            self.last_resort(tiers, first);
        }
        self.cap(first, settings);
    }

    /// Not enough health for the whole load: tiers with little of it use all their endpoints;
    /// when all tiers do, nothing is known that could order them, and numbers decide.
    fn panic(&mut self, tiers: &[TierHealth], left: &mut u32) {
        for (share, tier) in self.shares.iter_mut().zip(tiers) {
            share.panic = tier.panics(self.threshold);
        }
        if !self.shares.iter().all(|share| share.panic) {
            return;
        }
        let total: u64 = tiers.iter().map(|tier| u64::from(tier.total)).sum();
        *left = 100;
        for (share, tier) in self.shares.iter_mut().zip(tiers) {
            (share.healthy, share.degraded) = (0, 0);
            let part = u64::from(tier.total) * 100 / total.max(1);
            let part = u32::try_from(part).unwrap_or(0).min(*left);
            *left -= part;
            share.add(false, part);
        }
        self.shares[usize::from(self.first)].add(false, *left);
        *left = 0;
    }

    /// Nothing could be given, and not everybody panics: availability was rounded down to
    /// nothing, weights are 0, health is unknown, or all is lost and panic is off.
    fn last_resort(&mut self, tiers: &[TierHealth], first: usize) {
        let find = |what: fn(&TierHealth) -> bool| tiers.iter().position(what);
        if let Some(tier) = find(|tier| tier.healthy > 0) {
            self.shares[tier].healthy = 100;
        } else if let Some(tier) = find(|tier| tier.degraded > 0) {
            self.shares[tier].degraded = 100;
        } else if let Some(tier) = find(|tier| tier.is_unknown()) {
            (self.shares[tier].healthy, self.shares[tier].unproven) = (100, true);
        } else {
            (self.shares[first].healthy, self.idle) = (100, true);
        }
    }

    /// Takes from the lower tiers what exceeds the cap: the last come first. What the first tier
    /// could carry itself (it is held back, then) returns to it in either mode.
    fn cap(&mut self, first: usize, settings: &Settings) {
        let below = |shares: &[Share]| -> u8 {
            shares[first + 1..].iter().fold(0, |sum, s| sum + s.healthy + s.degraded)
        };
        let over = below(&self.shares).saturating_sub(settings.max_spill);
        let mut take = over;
        for degraded in [true, false] {
            for share in self.shares[first + 1..].iter_mut().rev() {
                let part = if degraded { &mut share.degraded } else { &mut share.healthy };
                let taken = take.min(*part);
                *part -= taken;
                take -= taken;
            }
        }
        let home = &mut self.shares[first];
        let back = over.min(home.availability().saturating_sub(home.healthy + home.degraded));
        home.healthy += back;
        match settings.over_cap {
            OverCap::Keep => self.kept = over - back,
            OverCap::Shed => self.shed = over - back,
        }
    }

    /// What each tier gets.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Percent of the load above the cap that stays in the first tier.
    #[must_use]
    pub const fn kept(&self) -> u8 {
        self.kept
    }

    /// Percent of the load above the cap that is refused.
    #[must_use]
    pub const fn shed(&self) -> u8 {
        self.shed
    }

    /// The tier for the call that drew `draw` of 0–99. Low numbers go to early tiers, so a caller
    /// that keeps its number moves as little as possible when the split changes.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(&self, draw: u32) -> Result<Choice, Refusal> {
        if self.idle {
            return Err(Refusal::NoneUsable);
        }
        let draw = draw % 100;
        let mut edge = 0;
        for (tier, share) in (0_u8..).zip(&self.shares) {
            edge += u32::from(share.healthy);
            if draw < edge {
                return self.choice(tier, share, Pass::Healthy, share.healthy);
            }
        }
        for (tier, share) in (0_u8..).zip(&self.shares) {
            edge += u32::from(share.degraded);
            if draw < edge {
                return self.choice(tier, share, Pass::Degraded, share.degraded);
            }
        }
        let max_spill = self.max_spill;
        if draw < edge + u32::from(self.kept) {
            let why = Why::Kept { percent: self.kept, max_spill };
            return Ok(Choice { tier: self.first, pass: Pass::Any, why });
        }
        if self.shed > 0 {
            return Err(Refusal::SpillCapped { percent: self.shed, max_spill });
        }
        Err(Refusal::NoEndpoints)
    }

    fn choice(&self, tier: u8, share: &Share, pass: Pass, percent: u8) -> Result<Choice, Refusal> {
        let (usable, threshold) = (share.usable, self.threshold);
        if share.panic && self.fail_on_panic {
            return Err(Refusal::Panic { tier, usable, threshold });
        }
        let (pass, why) = if share.panic {
            (Pass::Any, Why::Panic { percent, usable, threshold })
        } else if share.unproven {
            (Pass::Any, Why::Unproven { percent })
        } else if tier == self.first {
            (pass, Why::First { percent })
        } else if let Some(held) = self.shares[..usize::from(tier)].iter().position(|s| s.held) {
            (pass, Why::HeldBack { percent, held: u8::try_from(held).unwrap_or(0) })
        } else {
            let first = self.shares.get(usize::from(self.first)).map_or(0, Share::availability);
            (pass, Why::Spilled { percent, first })
        };
        Ok(Choice { tier, pass, why })
    }
}

impl Share {
    /// Percent of the load that the tier could carry.
    #[must_use]
    pub fn availability(&self) -> u8 {
        self.able.saturating_add(self.able_degraded).min(100)
    }

    fn add(&mut self, degraded: bool, percent: u32) {
        let part = if degraded { &mut self.degraded } else { &mut self.healthy };
        *part = part.saturating_add(u8::try_from(percent).unwrap_or(100));
    }
}

/// How many further endpoints of the first tier would have to be healthy for `draw` to go there:
/// the smallest number, unhealthy ones first, then degraded, then unknown. `None` if it goes
/// there anyway or would not even with all of them healthy. For explanations: it splits again and
/// again, one by one up to 64 and by bisection beyond.
#[must_use]
pub fn more_healthy(
    tiers: &[TierHealth],
    standing: Standing,
    draw: u32,
    settings: &Settings,
) -> Option<u32> {
    let tiers = &tiers[..tiers.len().min(MOST_TIERS)];
    let first = tiers.iter().position(|tier| tier.total > 0)?;
    let mut tiers = tiers.to_vec();
    let before = tiers[first];
    let mut loads = Loads::default();
    let mut stays = |more: u32| {
        tiers[first] = before.healed(more);
        loads.split(&tiers, standing, settings);
        draw % 100 < u32::from(loads.shares[first].healthy) && !loads.shares[first].panic
    };
    let most = before.total.saturating_sub(before.healthy);
    if stays(0) || !stays(most) {
        return None;
    }
    if let Some(found) = (1..=most.min(64)).find(|more| stays(*more)) {
        return Some(found);
    }
    let (mut low, mut high) = (64, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if stays(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

impl TierHealth {
    /// With `more` further endpoints healthy. Weights grow by their average.
    fn healed(mut self, more: u32) -> TierHealth {
        let unhealthy = self
            .total
            .saturating_sub(self.excluded)
            .saturating_sub(self.healthy)
            .saturating_sub(self.degraded);
        let from_degraded = more.saturating_sub(unhealthy).min(self.degraded);
        let from_excluded = more.saturating_sub(unhealthy).saturating_sub(from_degraded);
        if let Some(weights) = &mut self.weights {
            let each = u128::from(weights.total) * u128::from(more);
            let gained = each / u128::from(self.total.saturating_sub(self.excluded).max(1));
            let gained = u64::try_from(gained).unwrap_or(u64::MAX);
            weights.healthy = weights.healthy.saturating_add(gained).min(weights.total);
        }
        self.healthy = self.healthy.saturating_add(more).min(self.total);
        self.degraded -= from_degraded;
        self.excluded = self.excluded.saturating_sub(from_excluded);
        self
    }
}

#[cfg(test)]
mod tests;
