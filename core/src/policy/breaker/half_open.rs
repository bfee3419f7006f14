//! Half-open: how many probes may be out, and what their results decide.

use serde::{Deserialize, Serialize};

use super::window::Tally;
use super::{Settings, Trip};
use crate::config::HalfOpenBy;
use crate::time::Time;

/// What half-open counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Probes {
    /// Longest wait for a result; meaningless while nothing is out.
    pub(super) until: Time,
    pub(super) out: u16,
    pub(super) successes: u16,
    pub(super) failures: u16,
    pub(super) slow: u16,
}

impl Probes {
    pub(super) const NONE: Probes =
        Probes { until: Time::NEVER, out: 0, successes: 0, failures: 0, slow: 0 };

    /// Whether another probe could still matter. One may always be out, so no change of settings
    /// can leave a breaker that waits for nothing.
    pub(super) const fn room(&self, settings: &Settings) -> bool {
        if self.out == 0 {
            return true;
        }
        let (out, permits) = (self.out as u32, settings.half_open_permits);
        let used = out + self.successes as u32 + self.failures as u32;
        let useful = match settings.half_open_by {
            HalfOpenBy::Rates => permits,
            // Results that decide at the latest; but as many as may be out at once.
            HalfOpenBy::Counts => {
                let latest =
                    settings.half_open_successes.saturating_add(settings.half_open_failures);
                max(latest.saturating_sub(1), permits)
            }
        };
        out < permits && used < useful && self.out < u16::MAX
    }

    /// Counts a result and says what follows: nothing yet, closing, or opening for a reason.
    pub(super) fn count(
        &mut self,
        failed: bool,
        slow: bool,
        settings: &Settings,
    ) -> Option<Result<(), Trip>> {
        let by_counts = settings.half_open_by == HalfOpenBy::Counts;
        // A breaker that opens for slowness must not close on a slow answer.
        let bad = failed || (by_counts && slow && settings.slow_ppm.is_some());
        let counter = if bad { &mut self.failures } else { &mut self.successes };
        *counter = counter.saturating_add(1);
        self.slow = self.slow.saturating_add(u16::from(slow));
        let (successes, failures) = (u32::from(self.successes), u32::from(self.failures));
        let tally = Tally { calls: successes + failures, failures, slow: u32::from(self.slow) };
        if by_counts {
            if bad && failures >= settings.half_open_failures {
                let slow = Trip::SlowRate { slow: tally.slow, of: tally.calls };
                return Some(Err(if failed { Trip::ProbeFailed } else { slow }));
            }
            return (!bad && successes >= settings.half_open_successes).then_some(Ok(()));
        }
        let enough = settings.minimum_calls.min(settings.half_open_permits);
        if tally.calls < enough {
            return None;
        }
        Some(tally.trip(enough, settings).map_or(Ok(()), Err))
    }
}

const fn max(a: u32, b: u32) -> u32 {
    if a > b { a } else { b }
}
