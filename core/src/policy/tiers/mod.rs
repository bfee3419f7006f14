//! Failover between tiers: which cluster a call goes to first, and what share of the load spills.
//!
//! Two things go wrong when a tier loses endpoints. Moving *nothing* overloads the rest of the
//! tier until it falls; moving *everything* at the first failure throws the whole load at a backup
//! that was sized for some of it. And when the tier comes back half alive, every client returns at
//! once, kills it again, and the load swings to and fro.
//!
//! - **Gradual spill**, as in Envoy's priority levels: a tier carries the share of the load that
//!   its healthy share, times an over-provisioning factor, can carry; the rest goes to the next.
//!   Envoy's factor is 140 %. Ours is 200 %, since the contract says "the primary only after the
//!   local cluster failed": nothing leaves while half of the endpoints are healthy.
//! - **Panic**, as in Envoy: when all tiers together cannot carry the load, a tier with less than
//!   half of its endpoints usable is called at all of them, since the health information is then
//!   more likely wrong, or the survivors would be crushed. It is the caller's business which
//!   endpoints "all" are: a breaker that is open for good reason may well stay respected.
//! - **Failover timer**, as in gRPC (A56): a tier of unknown health may be waited for. Only when
//!   nothing better is in use: a tier that serves is not left for one that may.
//! - **Hold-down before failback**, which neither has: a tier that was lost must stay usable for a
//!   while before it is the first choice again, except for a few free failbacks after a quiet
//!   time. The clock starts when the tier is usable again, not at the last switch. `HoldDown`
//!   carries the proof of how often the first choice can change. A tier that is held back is not
//!   wasted: it comes last, and takes what the others cannot carry.
//! - **Spill cap**, which neither has: at most so much of the load may go below the first tier.
//!   What exceeds it is refused by default: the cap is there to protect the backup, and a refusal
//!   is quick, tells why, and takes load away; sending it to endpoints known to be down is none
//!   of these. It may be kept in the first tier instead, where health information is doubtful.
//!
//! Every part is a type of its own: [`Loads`] the calculation, [`HoldDown`] the first choice,
//! [`Tiers`] both together. Switched off (`enabled = false`) it is strict order; each part is
//! switched off by its own 0.

mod change;
mod holddown;
mod load;
mod reason;
mod settings;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use change::Change;
pub use holddown::{Cause, Held, HoldDown, Switch, Usability};
pub use load::{Loads, MOST_TIERS, Share, Standing, TierHealth, Weights, more_healthy};
pub use reason::{Choice, Explanation, Instead, Pass, Refusal, Why};
pub use settings::Settings;

use crate::time::Time;

/// Failover between the tiers of one service: health comes in when it changes, the split of the
/// load, the first choice and the changes come out. Nothing is calculated per call but the pick,
/// which compares a few numbers per tier.
///
/// ```
/// use origin_core::policy::tiers::{Settings, TierHealth, Tiers};
/// use origin_core::Time;
///
/// let settings = Settings { over_provisioning: 140, ..Settings::default() };
/// let mut tiers = Tiers::new(Time::ZERO, 2, &settings);
/// let mut changes = Vec::new();
/// // Local cluster 2 of 4 healthy, primary all: 2/4 × 140 % = 70 % stay.
/// let health = [TierHealth::of(2, 4), TierHealth::of(3, 3)];
/// tiers.update_all(Time::ZERO, &health, &settings, |change| changes.push(change));
/// assert_eq!(tiers.pick(69).unwrap().tier, 0);
/// assert_eq!(tiers.pick(70).unwrap().tier, 1);
/// assert_eq!(changes.len(), 1); // spilling to tier 1
/// // What would have kept it?
/// let line = tiers.explain(70, &settings).to_string();
/// assert!(line.ends_with("with 1 more healthy endpoint it would have gone to tier 0"), "{line}");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tiers {
    health: Vec<TierHealth>,
    first_choice: HoldDown,
    loads: Loads,
    /// When each tier was last left, or began.
    left: Vec<Time>,
    due: Time,
    /// What was reported, one bit per tier.
    held: u64,
    spilling: u64,
    panic: u64,
    capped: bool,
    /// The answer to every draw, where there is only one.
    sole: Option<Result<Choice, Refusal>>,
}

impl Tiers {
    /// `count` tiers (at most 64), in order of preference, of which nothing is known.
    #[must_use]
    pub fn new(now: Time, count: usize, settings: &Settings) -> Tiers {
        let count = count.min(MOST_TIERS);
        Tiers {
            health: vec![TierHealth::default(); count],
            first_choice: HoldDown::new(now, count, settings),
            left: vec![now; count],
            due: Time::NEVER,
            ..Tiers::default()
        }
    }

    /// Another number of tiers, or other settings. Tiers that stay keep their health and their
    /// clocks (see [`HoldDown::retune`]); a new one has no endpoints until it is updated.
    pub fn retune(
        &mut self,
        now: Time,
        count: usize,
        settings: &Settings,
        report: impl FnMut(Change),
    ) {
        let count = count.min(MOST_TIERS);
        self.health.resize(count, TierHealth::default());
        self.left.resize(count, now);
        self.first_choice.retune(now, count, settings);
        self.settle(now, settings, report);
    }

    /// The health of one tier, when it has changed. The same again costs a compare.
    pub fn update(
        &mut self,
        now: Time,
        tier: usize,
        health: TierHealth,
        settings: &Settings,
        report: impl FnMut(Change),
    ) {
        let Some(known) = self.health.get_mut(tier) else { return };
        if *known == health {
            return;
        }
        *known = health;
        self.news(now, settings, report);
    }

    /// The health of all tiers at once, so that no order of news makes a detour. Their number
    /// may have changed.
    pub fn update_all(
        &mut self,
        now: Time,
        health: &[TierHealth],
        settings: &Settings,
        mut report: impl FnMut(Change),
    ) {
        if health.len().min(MOST_TIERS) != self.health.len() {
            self.retune(now, health.len(), settings, &mut report);
        }
        self.health.iter_mut().zip(health).for_each(|(known, health)| *known = *health);
        self.news(now, settings, report);
    }

    fn news(&mut self, now: Time, settings: &Settings, report: impl FnMut(Change)) {
        // As in the split: degraded endpoints count where there are no healthy ones anywhere.
        let all_degraded = self.health.iter().all(|tier| tier.healthy == 0);
        for (tier, health) in self.health.iter().enumerate() {
            let usability = if health.healthy > 0 || (health.degraded > 0 && all_degraded) {
                Usability::Usable
            } else if health.is_unknown() {
                Usability::Unknown
            } else {
                Usability::Unusable
            };
            self.first_choice.report(now, tier, usability, settings);
        }
        self.settle(now, settings, report);
    }

    /// Lets time act. One compare while [`Tiers::due`] has not come.
    pub fn tick(&mut self, now: Time, settings: &Settings, report: impl FnMut(Change)) {
        if now >= self.due {
            self.settle(now, settings, report);
        }
    }

    /// When time alone may change something.
    #[must_use]
    pub const fn due(&self) -> Time {
        self.due
    }

    fn settle(&mut self, now: Time, settings: &Settings, mut report: impl FnMut(Change)) {
        if let Some(Switch { from, to, cause }) = self.first_choice.settle(now, settings) {
            let after = self.left.get(usize::from(to)).map_or(Duration::ZERO, |at| now.since(*at));
            if let Some(left) = self.left.get_mut(usize::from(from)) {
                *left = now;
            }
            let health = self.health.get(usize::from(from)).copied().unwrap_or_default();
            report(match from < to {
                true => Change::Failover { from, to, cause, health },
                false => Change::Failback { from, to, cause, after },
            });
        }
        self.due = self.first_choice.due(settings);
        let standing = self.standing();
        self.loads.split(&self.health, standing, settings);
        // Shares are walked in order: what the first and the last draw meet, all meet.
        let first = self.loads.pick(0);
        self.sole = (first == self.loads.pick(99)).then_some(first);
        self.tell(standing, settings, report);
    }

    /// A tier of unknown health that is the first choice all the same is worth a try.
    fn standing(&self) -> Standing {
        let trusted = self.first_choice.active().map_or(0, |active| 1 << active);
        Standing { held: self.first_choice.held(), trusted }
    }

    fn tell(&mut self, standing: Standing, settings: &Settings, mut report: impl FnMut(Change)) {
        for tier in bits(standing.held & !self.held) {
            if let Err(held) = self.first_choice.allowed(usize::from(tier), settings) {
                let wait = held.since.until(held.until);
                report(Change::Held { tier, until: held.until, wait });
            }
        }
        self.held = standing.held;
        let shares = self.loads.shares();
        let at = |tier: u8| shares.get(usize::from(tier)).copied().unwrap_or_default();
        let set = |what: fn(&Share) -> bool| -> u64 {
            shares.iter().rev().fold(0, |bits, share| bits << 1 | u64::from(what(share)))
        };
        // A tier without endpoints panics too, which is of interest to nobody.
        let panic = set(|share| share.panic && !share.empty);
        for tier in bits(panic ^ self.panic) {
            report(Change::Panic { tier, on: panic >> tier & 1 == 1, usable: at(tier).usable });
        }
        self.panic = panic;
        let active = self.first_choice.active();
        let mine = active.map_or(0, |active| 1 << active);
        let loaded = set(|share| share.healthy + share.degraded > 0);
        for tier in bits(loaded & !self.spilling & !mine) {
            let percent = at(tier).healthy + at(tier).degraded;
            let active_can = active.map_or(0, |active| at(active).availability());
            report(Change::Spilling { tier, percent, active_can });
        }
        for tier in bits(self.spilling & !loaded & !mine) {
            report(Change::SpillEnded { tier });
        }
        self.spilling = loaded & !mine;
        let percent = self.loads.kept() + self.loads.shed();
        if (percent > 0) != self.capped {
            self.capped = percent > 0;
            report(Change::Capped { percent, max_spill: settings.max_spill });
        }
    }

    /// The tier for the call that drew `draw` of 0–99.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(&self, draw: u32) -> Result<Choice, Refusal> {
        self.loads.pick(draw)
    }

    /// What [`Tiers::pick`] says to every draw, where it is always the same.
    #[must_use]
    #[inline]
    pub const fn sole(&self) -> Option<Result<Choice, Refusal>> {
        self.sole
    }

    /// The first choice.
    #[must_use]
    pub const fn active(&self) -> Option<u8> {
        self.first_choice.active()
    }

    /// Until when a tier is held back, if it is.
    #[must_use]
    pub fn held(&self, tier: usize, settings: &Settings) -> Option<Time> {
        self.first_choice.allowed(tier, settings).err().map(|held| held.until)
    }

    /// The split of the load.
    #[must_use]
    pub const fn loads(&self) -> &Loads {
        &self.loads
    }

    /// The health of the tiers, as last updated.
    #[must_use]
    pub fn health(&self) -> &[TierHealth] {
        &self.health
    }

    /// The pick for `draw` again, with the smallest change that would have sent it to the first
    /// tier. For people: it costs more than a pick.
    #[must_use]
    pub fn explain(&self, draw: u32, settings: &Settings) -> Explanation {
        let pick = self.pick(draw);
        let first = self.health.iter().position(|tier| tier.total > 0).unwrap_or(0);
        let tier = u8::try_from(first).unwrap_or(0);
        let instead = match (&pick, self.first_choice.allowed(first, settings)) {
            (Ok(choice), _) if choice.tier == tier => None,
            (_, Err(held)) => Some(Instead::HoldEnds { tier, at: held.until }),
            (_, Ok(())) => {
                // An endpoint more ends an outage, and may begin a hold: that is said then.
                let more = more_healthy(&self.health, self.standing(), draw, settings);
                more.map(|more| Instead::MoreHealthy { tier, more })
            }
        };
        Explanation { pick, instead }
    }
}

/// The positions of the bits that are set, from the lowest.
fn bits(mut set: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        u8::try_from(lowest).ok().filter(|bit| *bit < 64)
    })
}

#[cfg(test)]
mod tests;
