//! What an operator hears of failover: rare changes, each once, with the numbers.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cause, TierHealth};
use crate::time::{Rounded, Time};

/// A change, reported exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// The first choice went to a lower tier.
    Failover {
        /// The tier before.
        from: u8,
        /// The tier now.
        to: u8,
        /// Why.
        cause: Cause,
        /// What is left of `from`.
        health: TierHealth,
    },
    /// The first choice went to a higher tier.
    Failback {
        /// The tier before.
        from: u8,
        /// The tier now.
        to: u8,
        /// Why now.
        cause: Cause,
        /// How long another tier than `to` has been the first choice; since the start if `to`
        /// never was.
        after: Duration,
    },
    /// A tier above the first choice is usable, and held back.
    Held {
        /// The tier.
        tier: u8,
        /// Until when, if it stays usable.
        until: Time,
        /// How long that is from when it became usable.
        wait: Duration,
    },
    /// A tier other than the first choice begins to get a share of the load.
    Spilling {
        /// The tier.
        tier: u8,
        /// Its share, in percent.
        percent: u8,
        /// What the first choice can carry, in percent.
        active_can: u8,
    },
    /// It gets no share any more.
    SpillEnded {
        /// The tier.
        tier: u8,
    },
    /// The cap on spill begins or ceases to bite.
    Capped {
        /// Percent of the load above the cap; 0 when it ceases.
        percent: u8,
        /// Percent that may go to lower tiers.
        max_spill: u8,
    },
    /// A tier enters or leaves panic.
    Panic {
        /// The tier.
        tier: u8,
        /// Whether it enters.
        on: bool,
        /// Percent of its endpoints that are usable.
        usable: u8,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Change::Failover { from, to, cause, health } => write!(
                f,
                "failover from tier {from} to {to}: {cause} ({} of {} endpoints healthy)",
                health.healthy, health.total
            ),
            Change::Failback { from, to, cause, after } => {
                let after = Rounded(after);
                write!(f, "failback from tier {from} to {to} after {after}: {cause}")
            }
            Change::Held { tier, wait, .. } => {
                write!(f, "tier {tier} is usable again and held back for {}", Rounded(wait))
            }
            Change::Spilling { tier, percent, active_can } => write!(
                f,
                "{percent} % of the load spill to tier {tier}: the first choice can carry {active_can} %"
            ),
            Change::SpillEnded { tier } => write!(f, "no load spills to tier {tier} any more"),
            Change::Capped { percent: 0, max_spill } => {
                write!(f, "spill is below the cap of {max_spill} % again")
            }
            Change::Capped { percent, max_spill } => {
                write!(f, "spill exceeds the cap of {max_spill} % by {percent} % of the load")
            }
            Change::Panic { tier, on: true, usable } => {
                write!(f, "tier {tier} panics: {usable} % of its endpoints are usable")
            }
            Change::Panic { tier, on: false, usable } => {
                write!(f, "tier {tier} no longer panics: {usable} % of its endpoints are usable")
            }
        }
    }
}
