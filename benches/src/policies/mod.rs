//! What a decision of each policy costs, alone, as somebody uses it who takes only this one from
//! `origin_core::policy`; with the feature `peers`, the crates one would take instead, in the
//! same form.
//!
//! A decision may take three nanoseconds, so a case is a loop over many of them and not a call of
//! one: the loop itself (case `loop`) is about seven instructions and is part of every figure.
//! State and settings are taken from memory anew for each operation, as in a program that keeps
//! them behind a lock, and answers are left in memory; that is up to ten instructions more.
//!
//! Origin is told the time, which passes by [`STEP`] from one operation to the next; the peers
//! read their clocks themselves, and that is part of their price.
//!
//! | file | cases |
//! |---|---|
//! | `guard.rs` | what a service is protected by: breaker, budget, limits, waits, hedges |
//! | `endpoint.rs` | what is known of endpoints and tiers, and of their latency |
//! | `balance.rs` | pick and release over 3 to 100 000 endpoints |
//! | `cache.rs` | looking up, storing and keys of the response cache |
//! | `peers.rs` | the other crates |

mod balance;
mod cache;
mod endpoint;
mod guard;
#[cfg(feature = "peers")]
pub mod peers;

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use origin_core::Time;

/// So many operations in a row; returns how many went the way the case says.
pub type Batch = Box<dyn FnMut(u64) -> u64>;

/// A case that is set up, or why it cannot be.
pub type Made = Result<Batch, Box<dyn Error>>;

/// Time from one operation to the next: ten thousand calls a second, so that buckets and windows
/// turn as often as they do in a busy program.
pub const STEP: Duration = Duration::from_micros(100);

/// How long an attempt takes.
const TOOK: Duration = Duration::from_millis(1);

/// A span that no measurement outlasts.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// One kind of decision.
pub struct Case {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// Instructions one operation may take, and then no allocation either; `None`: not judged.
    pub instructions: Option<u64>,
    /// How many times as many operations as usual it takes to be counted.
    pub times: u32,
    make: fn() -> Made,
}

const fn unjudged(name: &'static str, about: &'static str, make: fn() -> Made) -> Case {
    Case { name, about, instructions: None, times: 1, make }
}

const fn judged(name: &'static str, about: &'static str, most: u64, make: fn() -> Made) -> Case {
    Case { name, about, instructions: Some(most), times: 1, make }
}

impl Case {
    #[cfg(feature = "peers")]
    const fn times(mut self, times: u32) -> Case {
        self.times = times;
        self
    }

    /// Sets the case up.
    ///
    /// # Errors
    /// The case itself is wrong.
    pub fn batch(&self) -> Made {
        (self.make)()
    }
}

/// The cases of Origin's policies.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    EMPTY
        .iter()
        .chain(guard::CASES)
        .chain(endpoint::CASES)
        .chain(balance::CASES)
        .chain(cache::CASES)
}

/// The cases of other crates; none without the feature `peers`.
pub fn peers() -> impl Iterator<Item = &'static Case> {
    #[cfg(feature = "peers")]
    let cases = peers::CASES;
    #[cfg(not(feature = "peers"))]
    let cases: &[Case] = &[];
    cases.iter()
}

/// The case called `name`, ours or not.
#[must_use]
pub fn find(name: &str) -> Option<&'static Case> {
    cases().chain(peers()).find(|case| case.name == name)
}

const EMPTY: &[Case] = &[unjudged("loop", "nothing but time: what is in every figure", || {
    let mut clock = Clock::default();
    Ok(batch(move || black_box(clock.next()) > Time::ZERO))
})];

/// The loop around one operation.
fn batch(mut operation: impl FnMut() -> bool + 'static) -> Batch {
    Box::new(move |count| (0..count).map(|_| u64::from(operation())).sum())
}

/// Virtual time.
#[derive(Default)]
struct Clock(u64);

impl Clock {
    #[inline]
    fn next(&mut self) -> Time {
        self.0 += STEP_NANOS;
        Time::from_nanos(self.0)
    }
}

#[allow(clippy::cast_possible_truncation)] // far below
const STEP_NANOS: u64 = STEP.as_nanos() as u64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_goes_the_way_it_says() {
        for case in cases().chain(peers()).filter(|case| !case.name.ends_with("_100000")) {
            let mut batch = case.batch().unwrap();
            assert_eq!(batch(3_000), 3_000, "{}", case.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let all: Vec<&str> = cases().chain(peers()).map(|case| case.name).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
