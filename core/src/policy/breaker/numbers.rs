//! The numbers of a breaker, for people and tools. Nothing here is on the way of a call.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::window::{Tally, Windows};
use super::{Breaker, Force, Settings, State, Trip};
use crate::time::Time;

/// The share of failures and of slow results in a window, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rates {
    /// What the rates are taken over.
    #[serde(flatten)]
    pub tally: Tally,
    /// Failures ÷ results; `None` below the minimum of results (−1 in resilience4j).
    pub failure_ppm: Option<u32>,
    /// Slow results ÷ results; `None` below the minimum.
    pub slow_ppm: Option<u32>,
}

impl Rates {
    fn of(tally: Tally, minimum: u32) -> Rates {
        let rate = |part| ppm(part, tally.calls).filter(|_| tally.calls >= minimum);
        Rates { tally, failure_ppm: rate(tally.failures), slow_ppm: rate(tally.slow) }
    }
}

/// `part` ÷ `of` in millionths, rounded down; `None` of nothing.
fn ppm<T: Into<u64>>(part: T, of: T) -> Option<u32> {
    let (part, of) = (u128::from(part.into()), u128::from(of.into()));
    u32::try_from((part * 1_000_000).checked_div(of)?).ok()
}

/// The numbers of a breaker, under the names that contract 001 gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Numbers {
    /// Its state; serialised as the lower-case word with its details.
    #[serde(flatten)]
    pub state: State,
    /// What was decided by hand.
    pub forced: Option<Force>,
    /// Why it opened last; `None`: never since creation or reset.
    pub trip: Option<Trip>,
    /// Until time alone changes its state; zero when that is due, `None` when it never will.
    pub left: Option<Duration>,
    /// Failures since it was closed last. Throttled results are failures here.
    pub failure_count: u64,
    /// Successes since creation or reset.
    pub success_count: u64,
    /// Finished calls since creation or reset; refused, released and ignored ones are not.
    pub total_calls: u64,
    /// Failures in a row; throttled results neither add nor end it. Zero from closing on.
    pub consecutive_failures: u32,
    /// Successes in a row. Zero from closing on.
    pub consecutive_successes: u32,
    /// Failures ÷ finished calls since creation or reset, in millionths; `None` before the first.
    pub error_rate: Option<u32>,
    /// Slow calls since creation or reset.
    pub slow_calls: u64,
    /// Permits refused since creation or reset; in shadow, those that would have been.
    pub not_permitted: u64,
    /// When the last failure was counted.
    pub last_failure_time: Option<Time>,
    /// The rates of the time window, if there is one.
    pub window: Option<Rates>,
    /// The rates of the count window, if there is one.
    pub window_calls: Option<Rates>,
}

impl Breaker {
    /// Its numbers, for people.
    #[must_use]
    pub fn numbers(&self, now: Time, settings: &Settings) -> Numbers {
        let due = self.due();
        let windows = self.windows.as_deref();
        let rates = |tally: Tally| Rates::of(tally, settings.minimum_calls);
        let total = self.successes.saturating_add(self.failures);
        Numbers {
            state: self.state(),
            forced: self.force,
            trip: self.trip,
            left: (due != Time::NEVER).then(|| now.until(due)),
            failure_count: u64::from(self.recent_failures),
            success_count: self.successes,
            total_calls: total,
            consecutive_failures: self.consecutive_failures(),
            consecutive_successes: if self.failing { 0 } else { self.run },
            error_rate: ppm(self.failures, total),
            slow_calls: u64::from(self.slow),
            not_permitted: self.refused,
            last_failure_time: (self.failures > 0).then_some(self.last_failure),
            window: windows.and_then(|windows| windows.by_time(now)).map(rates),
            window_calls: windows.and_then(Windows::by_count).map(rates),
        }
    }
}
