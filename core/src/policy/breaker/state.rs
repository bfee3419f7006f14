//! What a breaker says: its state, why it opened, what changed, why it refuses. Decisions are in
//! the other files of this folder, numbers in `numbers`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{DurationText, Rounded, Time};

/// The state that admission depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Everything is let through.
    Closed,
    /// Nothing is let through before `until`.
    Open {
        /// When it turns half-open; [`Time::NEVER`] when it was forced open for good.
        until: Time,
    },
    /// A few attempts are let through to find out.
    HalfOpen {
        /// When it opens again for lack of a result; [`Time::NEVER`] while no permit is out.
        until: Time,
        /// Permits out.
        out: u32,
        /// Successes so far.
        successes: u32,
    },
}

impl State {
    /// `closed`, `open` or `half_open`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trip {
    /// This many failures in a row.
    Consecutive(u32),
    /// Too large a share of a window failed.
    FailureRate {
        /// Failures.
        failures: u32,
        /// Results in the window.
        of: u32,
    },
    /// Too large a share of a window was slow.
    SlowRate {
        /// Slow results.
        slow: u32,
        /// Results in the window.
        of: u32,
    },
    /// A half-open attempt failed.
    ProbeFailed,
    /// Half-open for too long without a result.
    ProbeLost,
    /// Somebody opened it by hand.
    Forced,
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trip::Consecutive(n) => write!(f, "{n} failures in a row"),
            Trip::FailureRate { failures, of } => write!(f, "{failures} of {of} calls failed"),
            Trip::SlowRate { slow, of } => write!(f, "{slow} of {of} calls were slow"),
            Trip::ProbeFailed => f.write_str("the half-open attempt failed"),
            Trip::ProbeLost => f.write_str("half-open without a result for too long"),
            Trip::Forced => f.write_str("forced open"),
        }
    }
}

/// A change of state, reported exactly once. With `shadow`, the breaker only shows what it would
/// do: nothing is refused because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It opened.
    Opened {
        /// Why.
        trip: Trip,
        /// For how long.
        interval: Duration,
        /// Whether it only shows it.
        shadow: bool,
    },
    /// It lets probes through.
    HalfOpened {
        /// Whether it only shows it.
        shadow: bool,
    },
    /// It closed.
    Closed {
        /// Whether it only shows it.
        shadow: bool,
    },
}

impl Transition {
    /// Whether the breaker only shows what it would do.
    #[must_use]
    pub const fn shadow(self) -> bool {
        match self {
            Transition::Opened { shadow, .. }
            | Transition::HalfOpened { shadow }
            | Transition::Closed { shadow } => shadow,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shadow() {
            f.write_str("would have ")?;
        }
        match self {
            Transition::Opened { trip: Trip::Forced, interval, .. }
                if *interval > Duration::from_secs(1 << 32) =>
            {
                f.write_str("opened until further notice: forced open")
            }
            Transition::Opened { trip, interval, .. } => {
                write!(f, "opened for {interval}: {trip}", interval = Rounded(*interval))
            }
            Transition::HalfOpened { .. } => f.write_str("half-opened"),
            Transition::Closed { .. } => f.write_str("closed"),
        }
    }
}

/// Why a permit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is open.
    Open {
        /// When it turns half-open.
        until: Time,
    },
    /// It was opened by hand.
    Forced {
        /// When it turns half-open; [`Time::NEVER`]: when somebody lifts it.
        until: Time,
    },
    /// Half-open, with as many attempts out as it takes to decide.
    HalfOpen {
        /// Permits out.
        out: u32,
        /// When it opens again for lack of a result.
        until: Time,
    },
}

impl Refusal {
    /// How long the state that refused lasts from `now` on, unless a result ends it; `None` when
    /// it does not end by itself.
    #[must_use]
    pub fn left(self, now: Time) -> Option<Duration> {
        let (Refusal::Open { until } | Refusal::Forced { until } | Refusal::HalfOpen { until, .. }) =
            self;
        (until != Time::NEVER).then(|| now.until(until))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |until: &Time| DurationText(until.since(Time::ZERO));
        match self {
            Refusal::Open { until } => write!(f, "breaker open until {}", at(until)),
            Refusal::Forced { until: Time::NEVER } => f.write_str("breaker forced open"),
            Refusal::Forced { until } => write!(f, "breaker forced open until {}", at(until)),
            Refusal::HalfOpen { out, .. } => write!(f, "breaker half-open with {out} attempts out"),
        }
    }
}

/// The right to make one attempt. Give it back with [`Breaker::record`](super::Breaker::record) or
/// [`Breaker::release`](super::Breaker::release); one that is lost costs nothing but time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permit {
    /// The generation it was granted under; [`Permit::UNCOUNTED`] is nobody's.
    pub(super) generation: u32,
}

impl Permit {
    /// Of an attempt that a shadow or disabled breaker lets through although it is not its to
    /// count.
    pub(super) const UNCOUNTED: Permit = Permit { generation: 0 };

    /// Whether the result of this attempt can count: `false` for what a disabled breaker, or one
    /// in shadow that would have refused, let through.
    #[must_use]
    pub const fn counted(self) -> bool {
        self.generation != Permit::UNCOUNTED.generation
    }
}

/// What somebody decided by hand, over the breaker's own decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Force {
    /// Open, in every mode.
    Open,
    /// Closed, whatever is counted.
    Closed,
}
