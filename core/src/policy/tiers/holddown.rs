//! Which tier is the first choice, and when it may change: failover at once, failback only after
//! the higher tier has stayed usable for a while. What share of the load follows from it is in
//! `load.rs`.
//!
//! # The bound
//! `n` tiers, a window of length `T` (its end not included), a `hold_down` above zero. A switch
//! *up* is one of three kinds:
//! - a **failback** (`Free` or `Waited`) is paid from one allowance of `free + 1` that regains one
//!   per `hold_down`. Kept as the time `full_at` at which it is whole again: a failback at `t`
//!   needs `full_at − t ≤ free × hold` and moves `full_at` to `max(full_at, t) + hold`. If `k`
//!   failbacks lie in the window, at `t₁ … tₖ`, then before the last `full_at ≥ t₁ + (k−1) × hold`,
//!   so `(k−1) × hold ≤ tₖ − t₁ + free × hold < T + free × hold`, which is
//!   **failbacks ≤ free + ⌈T / hold⌉**;
//! - a **first use** of a tier that was never usable before: once per tier, `n − 1` in all;
//! - a **rescue**: the tier in use became unusable and no lower one is usable, so that holding
//!   back would mean serving nobody. The other end causes it; no rule can bound it.
//!
//! Every switch *down* happens because the tier in use is no longer usable, and raises the
//! position by at least 1 of at most `n − 1`; every switch up lowers it by at most `n − 1`. Hence
//! **switches ≤ n × (failbacks + first uses + rescues) + n − 1**. Two tiers that have both been up
//! before, the lower of which does not fail: `2 × (free + ⌈T / hold⌉) + 1`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::load::MOST_TIERS;
use crate::time::{Rounded, Time, nanos};

/// What is known about a tier as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usability {
    /// Nothing yet, or nothing any more.
    #[default]
    Unknown,
    /// No endpoint may be used.
    Unusable,
    /// Some endpoint may be used.
    Usable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Tier {
    usability: Usability,
    /// It was usable at some time.
    seen: bool,
    /// It was usable before it became usable this time.
    again: bool,
    /// It became usable since the last decision.
    fresh: bool,
    /// Usable: since when. Unknown: until when it is waited for, zero if not.
    at: Time,
}

/// A change of the first choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Switch {
    /// The tier that was the first choice.
    pub from: u8,
    /// The one that is now.
    pub to: u8,
    /// Why.
    pub cause: Cause,
}

/// Why the first choice changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The tier in use became unusable; the next lower one takes over.
    Lost,
    /// A higher tier is usable for the first time.
    FirstUse,
    /// A higher tier is usable again, and a failback was free.
    Free,
    /// A higher tier has been usable for long enough.
    Waited {
        /// For how long.
        usable_for: Duration,
    },
    /// The tier in use became unusable and there is no lower one; a higher one takes over that
    /// had been held back or whose health is unknown.
    Rescue,
}

/// A tier is usable but must not be the first choice yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// The tier.
    pub tier: u8,
    /// Since when it is usable.
    pub since: Time,
    /// When it becomes the first choice, if it stays usable till then and other failbacks do not
    /// use up the allowance.
    pub until: Time,
}

/// The first choice among tiers. 16 bytes per tier and 40.
///
/// ```
/// use origin_core::policy::tiers::{Cause, HoldDown, Settings, Usability};
/// use origin_core::Time;
///
/// let settings = Settings { free_failbacks: 0, ..Settings::default() }; // hold-down 10 s
/// let mut tiers = HoldDown::new(Time::ZERO, 2, &settings);
/// let s = |seconds: u64| Time::from_millis(seconds * 1_000);
/// let mut report = |now, tier, usability| {
///     tiers.report(now, tier, usability, &settings);
///     tiers.settle(now, &settings)
/// };
/// report(s(0), 0, Usability::Usable);
/// report(s(0), 1, Usability::Usable);
/// assert_eq!(report(s(5), 0, Usability::Unusable).unwrap().cause, Cause::Lost);
/// assert!(report(s(6), 0, Usability::Usable).is_none()); // back, but held
/// assert!(tiers.settle(s(15), &settings).is_none());
/// assert_eq!(tiers.settle(s(16), &settings).unwrap().to, 0); // usable for 10 s
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HoldDown {
    tiers: Vec<Tier>,
    active: Option<u8>,
    /// When the allowance of failbacks is whole again.
    full_at: Time,
}

impl HoldDown {
    /// `count` tiers (at most 64) of unknown health, which are waited for as settings say.
    #[must_use]
    pub fn new(now: Time, count: usize, settings: &Settings) -> HoldDown {
        let mut tiers = HoldDown::default();
        tiers.retune(now, count, settings);
        tiers
    }

    /// Another number of tiers, or other settings. Tiers that stay keep what is known; a new one
    /// is of unknown health. Spans that run (how long a tier has been usable) are measured
    /// against the new settings; an allowance that was used up is never worse than empty.
    pub fn retune(&mut self, now: Time, count: usize, settings: &Settings) {
        let at =
            if settings.init_grace.is_zero() { Time::ZERO } else { now.plus(settings.init_grace) };
        self.tiers.resize(count.min(MOST_TIERS), Tier { at, ..Tier::default() });
        self.active = self.active.filter(|active| usize::from(*active) < self.tiers.len());
        let all = settings.free_failbacks.saturating_add(1);
        self.full_at = self.full_at.min(now.plus(settings.hold_down.saturating_mul(all)));
    }

    /// What is now known about `tier`. The same news twice is no news: it restarts no clock.
    /// [`HoldDown::settle`] draws the conclusions, after one report or several.
    pub fn report(&mut self, now: Time, tier: usize, usability: Usability, settings: &Settings) {
        let Some(tier) = self.tiers.get_mut(tier) else { return };
        if tier.usability == usability {
            return;
        }
        tier.fresh = usability == Usability::Usable;
        match usability {
            Usability::Usable => {
                (tier.again, tier.seen) = (tier.seen, true);
                tier.at = now;
            }
            // As in gRPC: only a tier that was fine is waited for when it reconnects.
            Usability::Unknown
                if tier.usability == Usability::Usable && !settings.init_grace.is_zero() =>
            {
                tier.at = now.plus(settings.init_grace);
            }
            Usability::Unknown | Usability::Unusable => tier.at = Time::ZERO,
        }
        tier.usability = usability;
    }

    /// Decides anew. To be called after reports and when [`HoldDown::due`] has come.
    #[must_use]
    pub fn settle(&mut self, now: Time, settings: &Settings) -> Option<Switch> {
        for tier in &mut self.tiers {
            if tier.usability == Usability::Unknown && tier.at <= now {
                tier.at = Time::ZERO;
            }
        }
        let found = self.next(now, settings);
        self.tiers.iter_mut().for_each(|tier| tier.fresh = false);
        let (to, cause) = found?;
        let from = self.active.replace(to)?;
        if matches!(cause, Cause::Free | Cause::Waited { .. }) && !settings.hold_down.is_zero() {
            self.full_at = self.full_at.max(now).plus(settings.hold_down);
        }
        Some(Switch { from, to, cause })
    }

    fn next(&self, now: Time, settings: &Settings) -> Option<(u8, Cause)> {
        let all = || (0_u8..).zip(&self.tiers);
        let stands = |tier: &Tier| match tier.usability {
            Usability::Usable => true,
            Usability::Unknown => tier.at > now,
            Usability::Unusable => false,
        };
        let unknown = || all().find(|(_, tier)| tier.usability == Usability::Unknown);
        let Some(active) = self.active else {
            let (to, _) = all().find(|(_, tier)| stands(tier)).or_else(unknown)?;
            return Some((to, Cause::FirstUse));
        };
        let above = || all().take(usize::from(active));
        if let Some(up) = above().find_map(|(t, tier)| Some((t, self.ascent(tier, now, settings)?)))
        {
            return Some(up);
        }
        let mine = self.tiers.get(usize::from(active))?;
        if stands(mine) {
            return None;
        }
        if let Some((to, _)) = all().skip(usize::from(active) + 1).find(|(_, tier)| stands(tier)) {
            return Some((to, Cause::Lost));
        }
        if let Some((to, _)) = above().find(|(_, tier)| stands(tier)) {
            return Some((to, Cause::Rescue));
        }
        if mine.usability == Usability::Unknown {
            return None;
        }
        unknown().map(|(to, _)| (to, if to > active { Cause::Lost } else { Cause::Rescue }))
    }

    /// Whether `tier`, which is above the one in use, may take over from it.
    fn ascent(&self, tier: &Tier, now: Time, settings: &Settings) -> Option<Cause> {
        if tier.usability != Usability::Usable {
            return None;
        }
        if !tier.again {
            return Some(Cause::FirstUse);
        }
        let used = nanos(now.until(self.full_at));
        let (hold, free) = (nanos(settings.hold_down), u64::from(settings.free_failbacks));
        // One failback of the allowance is out of reach here, for those that have waited.
        if tier.fresh && (hold == 0 || (free > 0 && used <= hold.saturating_mul(free - 1))) {
            return Some(Cause::Free);
        }
        (now >= tier.at.plus(settings.hold_down) && used <= hold.saturating_mul(free))
            .then(|| Cause::Waited { usable_for: now.since(tier.at) })
    }

    /// The first choice; `None` while there are no tiers or none is worth a try.
    #[must_use]
    pub const fn active(&self) -> Option<u8> {
        self.active
    }

    /// Whether `tier` may be the first choice, as far as hold-down is concerned.
    ///
    /// # Errors
    /// It is usable and above the one in use, and has to wait.
    pub fn allowed(&self, tier: usize, settings: &Settings) -> Result<(), Held> {
        let above = self.active.is_some_and(|active| tier < usize::from(active));
        match self.tiers.get(tier) {
            Some(state) if above && state.usability == Usability::Usable => Err(Held {
                tier: u8::try_from(tier).unwrap_or(u8::MAX),
                since: state.at,
                until: self.until(state, settings),
            }),
            _ => Ok(()),
        }
    }

    fn until(&self, tier: &Tier, settings: &Settings) -> Time {
        let (hold, free) = (nanos(settings.hold_down), u64::from(settings.free_failbacks));
        let paid = self.full_at.as_nanos().saturating_sub(hold.saturating_mul(free));
        tier.at.plus(settings.hold_down).max(Time::from_nanos(paid))
    }

    /// The tiers that are held back, one bit each.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.bits(|tier| tier.usability == Usability::Usable)
            & self.active.map_or(0, |active| (1 << active) - 1)
    }

    /// The tiers of unknown health that are waited for, one bit each.
    #[must_use]
    pub fn waited_for(&self) -> u64 {
        self.bits(|tier| tier.usability == Usability::Unknown && tier.at > Time::ZERO)
    }

    fn bits(&self, what: impl Fn(&Tier) -> bool) -> u64 {
        self.tiers.iter().rev().fold(0, |bits, tier| bits << 1 | u64::from(what(tier)))
    }

    /// When time alone may change the first choice; [`Time::NEVER`] if it cannot.
    #[must_use]
    pub fn due(&self, settings: &Settings) -> Time {
        let active = usize::from(self.active.unwrap_or(0));
        let held = self.tiers.iter().take(active).filter(|t| t.usability == Usability::Usable);
        let held = held.map(|tier| self.until(tier, settings)).min().unwrap_or(Time::NEVER);
        match self.tiers.get(active) {
            Some(tier) if tier.usability == Usability::Unknown && tier.at > Time::ZERO => {
                held.min(tier.at)
            }
            _ => held,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Lost => f.write_str("the tier in use became unusable"),
            Cause::FirstUse => f.write_str("usable for the first time"),
            Cause::Free => f.write_str("usable again, and a failback was free"),
            Cause::Waited { usable_for } => {
                write!(f, "usable again for {}", Rounded(*usable_for))
            }
            Cause::Rescue => f.write_str("no lower tier is usable"),
        }
    }
}

#[cfg(test)]
mod tests;
