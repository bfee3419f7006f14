//! The retry budget of a service: what keeps a partial outage from being multiplied into a full
//! one. Over a sliding window of ten seconds, repeats may be at most `ratio` of the calls, plus a
//! floor per second, as in Finagle's RetryBudget. Exact for every ratio: calls are counted and
//! the ratio is applied to the count in millionths, never to single deposits (where truncation
//! turns 75 % into 100 %). A repeat holds its share from the decision on, so a crowd waiting in
//! backoff cannot pass the budget together.

use serde::{Deserialize, Serialize};

use crate::config::{BudgetConfig, ConfigError, field};
use crate::time::Time;

const SLOTS: usize = 10;
const SLOT_NANOS: u64 = 1_000_000_000;
const ONE: u64 = 1_000_000;

/// A checked [`BudgetConfig`]: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the configuration, documented there
pub struct Settings {
    pub enabled: bool,
    pub ppm: u64,
    pub min_per_second: u32,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn of(config: &BudgetConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = field::At(path);
        Ok(Settings {
            enabled: config.enabled,
            ppm: at.ppm("ratio", config.ratio, 1000.0)?,
            min_per_second: at.within("min_per_second", config.min_per_second, 0..=1_000_000)?,
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slot {
    calls: u32,
    repeats: u32,
}

/// A repeat that was paid for; [`Budget::refund`] takes it back if it never happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    tick: u64,
}

/// The budget of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Budget {
    slots: [Slot; SLOTS],
    tick: u64,
    calls: u64,
    repeats: u64,
}

impl Budget {
    /// Counts a call, which earns `ratio` of a repeat.
    pub fn deposit(&mut self, now: Time) {
        self.advance(now);
        let slot = &mut self.slots[(self.tick % SLOTS as u64) as usize];
        slot.calls = slot.calls.saturating_add(1);
        self.calls = self.calls.saturating_add(1);
    }

    /// Pays for one repeat, if the budget allows it.
    #[must_use]
    pub fn withdraw(&mut self, now: Time, settings: &Settings) -> Option<Held> {
        self.advance(now);
        if settings.enabled && self.balance(settings) < ONE {
            return None;
        }
        let slot = &mut self.slots[(self.tick % SLOTS as u64) as usize];
        slot.repeats = slot.repeats.saturating_add(1);
        self.repeats = self.repeats.saturating_add(1);
        Some(Held { tick: self.tick })
    }

    /// Takes back a repeat that was abandoned before it was sent.
    pub fn refund(&mut self, now: Time, held: Held) {
        self.advance(now);
        if held.tick + SLOTS as u64 > self.tick {
            let slot = &mut self.slots[(held.tick % SLOTS as u64) as usize];
            if slot.repeats > 0 {
                slot.repeats -= 1;
                self.repeats = self.repeats.saturating_sub(1);
            }
        }
    }

    /// Whole repeats that could be paid for now.
    #[must_use]
    pub fn available(&mut self, now: Time, settings: &Settings) -> u64 {
        self.advance(now);
        self.balance(settings) / ONE
    }

    /// In millionths of a repeat.
    fn balance(&self, settings: &Settings) -> u64 {
        let earned = self.calls.saturating_mul(settings.ppm);
        let floor = u64::from(settings.min_per_second) * SLOTS as u64 * ONE;
        earned.saturating_add(floor).saturating_sub(self.repeats.saturating_mul(ONE))
    }

    fn advance(&mut self, now: Time) {
        let tick = now.as_nanos() / SLOT_NANOS;
        if tick <= self.tick {
            return;
        }
        for step in 1..=(tick - self.tick).min(SLOTS as u64) {
            let slot = &mut self.slots[((self.tick + step) % SLOTS as u64) as usize];
            self.calls -= u64::from(slot.calls).min(self.calls);
            self.repeats -= u64::from(slot.repeats).min(self.repeats);
            *slot = Slot::default();
        }
        self.tick = tick;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn settings(ratio: f64, floor: u32) -> Settings {
        let config = BudgetConfig { ratio, min_per_second: floor, ..BudgetConfig::default() };
        Settings::of(&config, "p").unwrap()
    }

    #[test]
    fn ratios_that_others_get_wrong_are_exact() {
        for (ratio, expect) in [
            (0.1, 1_000),
            (0.3, 3_000),
            (0.75, 7_500),
            (0.99, 9_900),
            (1.5, 15_000),
            (400.0, 4_000_000),
            (600.0, 6_000_000),
        ] {
            let settings = settings(ratio, 0);
            let mut budget = Budget::default();
            (0..10_000).for_each(|_| budget.deposit(Time::ZERO));
            let mut granted = 0_u64;
            while budget.withdraw(Time::ZERO, &settings).is_some() {
                granted += 1;
            }
            assert_eq!(granted, expect, "{ratio}");
        }
    }

    #[test]
    fn off_means_off() {
        let off = BudgetConfig { enabled: false, ratio: 0.0, min_per_second: 0 };
        let settings = Settings::of(&off, "p").unwrap();
        let mut budget = Budget::default();
        assert!((0..1_000).all(|_| budget.withdraw(Time::ZERO, &settings).is_some()));
    }

    proptest! {
        /// The model keeps every event with its second and sums the last ten seconds.
        #[test]
        fn equals_the_plain_sum(
            ppm in 0_u32..3_000_000, floor in 0_u32..4,
            script in proptest::collection::vec((0_u8..4, 0_u64..4_000, any::<prop::sample::Index>()), 1..200),
        ) {
            let settings = settings(f64::from(ppm) / 1e6, floor);
            let mut budget = Budget::default();
            let mut now = Time::ZERO;
            let (mut calls, mut repeats): (Vec<u64>, Vec<u64>) = (vec![], vec![]);
            let mut held: Vec<Held> = vec![];
            for (action, ms, index) in script {
                now = now.plus(Duration::from_millis(ms));
                let tick = now.as_nanos() / SLOT_NANOS;
                let live = |list: &[u64]| list.iter().filter(|t| **t + 10 > tick).count() as u64;
                let balance = (live(&calls) * settings.ppm + u64::from(floor) * 10 * ONE)
                    .saturating_sub(live(&repeats) * ONE);
                match action {
                    0 | 1 => { budget.deposit(now); calls.push(tick); }
                    2 => {
                        let got = budget.withdraw(now, &settings);
                        prop_assert_eq!(got.is_some(), balance >= ONE);
                        if let Some(h) = got { held.push(h); repeats.push(tick); }
                    }
                    _ if held.is_empty() => (),
                    _ => {
                        let h = held.swap_remove(index.index(held.len()));
                        budget.refund(now, h);
                        let at = repeats.iter().position(|t| *t == h.tick).unwrap();
                        repeats.remove(at);
                    }
                }
            }
        }
    }
}
