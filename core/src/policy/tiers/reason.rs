//! What a pick answers: a tier or a refusal, why, and what would have made it another. The
//! calculation behind it is in `load.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Which endpoints of the chosen tier may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
    /// Any, whatever their health.
    Any,
}

/// A tier for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// Position of the tier.
    pub tier: u8,
    /// Which of its endpoints.
    pub pass: Pass,
    /// Why this tier.
    pub why: Why,
}

/// Why a tier was chosen. All numbers are percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is the first tier.
    First {
        /// Its share of the load.
        percent: u8,
    },
    /// The tiers before it do not carry everything.
    Spilled {
        /// Its share of the load.
        percent: u8,
        /// What the first tier can carry.
        first: u8,
    },
    /// A tier before it is usable again but held back.
    HeldBack {
        /// Its share of the load.
        percent: u8,
        /// The tier that is held back.
        held: u8,
    },
    /// Too few of its endpoints may be used, and the tiers together cannot carry the load.
    Panic {
        /// Its share of the load.
        percent: u8,
        /// How many of its endpoints may be used.
        usable: u8,
        /// Below this it panics.
        threshold: u8,
    },
    /// Its health is not known yet.
    Unproven {
        /// Its share of the load.
        percent: u8,
    },
    /// This would have gone to a lower tier, which has all it may get.
    Kept {
        /// Share of the load that stays for this reason.
        percent: u8,
        /// Most that may go to lower tiers.
        max_spill: u8,
    },
}

/// Why no tier was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There are no endpoints.
    NoEndpoints,
    /// There are endpoints, but none may be used.
    NoneUsable,
    /// The tier is in panic, and the settings ask to fail then.
    Panic {
        /// The tier.
        tier: u8,
        /// Percent of its endpoints that may be used.
        usable: u8,
        /// Below this percentage it panics.
        threshold: u8,
    },
    /// The lower tiers have all they may get.
    SpillCapped {
        /// Percent of the load that is refused for this reason.
        percent: u8,
        /// Percent of the load that may go to lower tiers.
        max_spill: u8,
    },
}

/// A pick and what would have made it another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Explanation {
    /// The pick.
    pub pick: Result<Choice, Refusal>,
    /// What would have sent the call to the first tier, if it did not go there.
    pub instead: Option<Instead>,
}

/// The smallest change that sends a call to the first tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// This many more healthy endpoints there.
    MoreHealthy {
        /// The first tier.
        tier: u8,
        /// How many.
        more: u32,
    },
    /// The end of its hold-down.
    HoldEnds {
        /// The first tier.
        tier: u8,
        /// When.
        at: Time,
    },
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            Ok(choice) => write!(f, "tier {}: {}", choice.tier, choice.why)?,
            Err(refusal) => write!(f, "no tier: {refusal}")?,
        }
        match self.instead {
            None => Ok(()),
            Some(Instead::MoreHealthy { tier, more }) => write!(
                f,
                "; with {more} more healthy endpoint{} it would have gone to tier {tier}",
                if more == 1 { "" } else { "s" }
            ),
            Some(Instead::HoldEnds { tier, at }) => {
                write!(f, "; tier {tier} is held back until {} ms", at.as_millis())
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Why::First { percent } => write!(f, "first tier, {percent} % of the load"),
            Why::Spilled { percent, first } => {
                write!(f, "first tier can carry {first} %, {percent} % of the load spill here")
            }
            Why::HeldBack { percent, held } => {
                write!(f, "tier {held} is held back, {percent} % of the load go here")
            }
            Why::Panic { percent, usable, threshold } => write!(
                f,
                "panic: {usable} % of the endpoints are usable, below {threshold} %; any of them, \
                 {percent} % of the load"
            ),
            Why::Unproven { percent } => {
                write!(f, "health not known yet, {percent} % of the load")
            }
            Why::Kept { percent, max_spill } => write!(
                f,
                "{percent} % of the load stay here: at most {max_spill} % may go to lower tiers"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::NoEndpoints => f.write_str("there are no endpoints"),
            Refusal::NoneUsable => f.write_str("no endpoint of any tier may be used"),
            Refusal::Panic { tier, usable, threshold } => write!(
                f,
                "tier {tier} is in panic: {usable} % of its endpoints are usable, below {threshold} %"
            ),
            Refusal::SpillCapped { percent, max_spill } => write!(
                f,
                "{percent} % of the load are refused: at most {max_spill} % may go to lower tiers"
            ),
        }
    }
}
