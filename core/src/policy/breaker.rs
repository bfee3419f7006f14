//! The circuit breaker of one endpoint: closed, open, half-open.
//!
//! It protects the caller from waiting for an endpoint that fails, and the endpoint from being
//! hammered while it recovers. Half-open is where breakers go wrong, so it is strict here:
//! a bounded number of permits; every permit stamped with the generation it was granted under, so
//! that a straggler from before the trip can neither close nor reopen (as in gobreaker); a permit
//! that is released without result counts for nothing; and a bound on the time that permits are
//! out, so that lost ones cannot block it (as in resilience4j; but a half-open breaker that nobody
//! calls stays half-open). The open interval doubles with each
//! opening and takes a doubling back for each span of health (as in Envoy's outlier ejection).
//!
//! What trips it is one function, `Breaker::verdict_on`: the seam for windows and rates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{BreakerConfig, ConfigError, field};
use crate::outcome::Class;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// A checked [`BreakerConfig`]: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the configuration, documented there
pub struct Settings {
    pub enabled: bool,
    pub failures: u32,
    pub open: Duration,
    pub open_max: Duration,
    pub jitter_permille: u32,
    pub decay: Duration,
    pub half_open_permits: u32,
    pub half_open_successes: u32,
    pub half_open_max: Duration,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &BreakerConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = field::At(path);
        Ok(Settings {
            enabled: config.enabled,
            failures: at.count("failures", config.failures, 1, 1_000_000)?,
            open: at.span("open", config.open)?,
            open_max: at.not_below("open_max", config.open_max, "open", config.open)?,
            jitter_permille: at.permille("jitter", config.jitter)?,
            decay: at.span("decay", config.decay)?,
            half_open_permits: at.count(
                "half_open_permits",
                config.half_open_permits,
                1,
                10_000,
            )?,
            half_open_successes: at.count(
                "half_open_successes",
                config.half_open_successes,
                1,
                10_000,
            )?,
            half_open_max: at.span("half_open_max", config.half_open_max)?,
        })
    }
}

/// The state that admission depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Everything is let through.
    Closed,
    /// Nothing is let through before `until`.
    Open {
        /// When it turns half-open.
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
    /// A half-open attempt failed.
    ProbeFailed,
    /// Half-open for too long without a result.
    ProbeLost,
}

/// A change of state, reported exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It opened.
    Opened {
        /// Why.
        trip: Trip,
        /// For how long.
        interval: Duration,
    },
    /// It lets probes through.
    HalfOpened,
    /// It closed.
    Closed,
}

/// The right to make one attempt. Give it back with [`Breaker::record`] or
/// [`Breaker::release`]; one that is lost costs nothing but time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permit {
    generation: u32,
}

/// The breaker. 48 bytes; time and randomness are arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Breaker {
    state: State,
    /// Counts transitions; results of an older generation are ignored.
    generation: u32,
    failures: u32,
    /// Exponent of the next open interval.
    openings: u32,
    closed_since: Time,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(now: Time) -> Breaker {
        Breaker { state: State::Closed, generation: 0, failures: 0, openings: 0, closed_since: now }
    }

    /// The present state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Failures in a row, as counted while closed.
    #[must_use]
    pub const fn consecutive_failures(&self) -> u32 {
        self.failures
    }

    /// When time alone changes the state; [`Time::NEVER`] while closed.
    #[must_use]
    pub const fn due(&self) -> Time {
        match self.state {
            State::Closed => Time::NEVER,
            State::Open { until } | State::HalfOpen { until, .. } => until,
        }
    }

    /// Whether [`Breaker::admit`] would grant a permit, once [`Breaker::tick`] has seen `now`.
    #[must_use]
    pub const fn would_admit(&self, settings: &Settings) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { .. } => !settings.enabled,
            State::HalfOpen { out, successes, .. } => {
                // No more probes than the successes still missing could use.
                out < settings.half_open_permits
                    && out.saturating_add(successes)
                        < max(settings.half_open_successes, settings.half_open_permits)
            }
        }
    }

    /// Lets time act: an open breaker turns half-open, a half-open one that ran out opens.
    #[must_use]
    pub fn tick(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Option<Transition> {
        match self.state {
            State::Open { until } if now >= until => {
                self.enter(State::HalfOpen { until: Time::NEVER, out: 0, successes: 0 });
                Some(Transition::HalfOpened)
            }
            State::HalfOpen { until, .. } if now >= until => {
                Some(self.open(now, Trip::ProbeLost, settings, rng))
            }
            _ => None,
        }
    }

    /// Asks for a permit.
    #[must_use]
    pub fn admit(&mut self, now: Time, settings: &Settings) -> Option<Permit> {
        if !self.would_admit(settings) {
            return None;
        }
        if let State::HalfOpen { out, until, .. } = &mut self.state {
            if *out == 0 {
                *until = now.plus(settings.half_open_max);
            }
            *out += 1;
        }
        Some(Permit { generation: self.generation })
    }

    /// Takes a permit back without a result: the attempt was cancelled or says nothing.
    pub fn release(&mut self, permit: Permit) {
        if permit.generation == self.generation
            && let State::HalfOpen { out, until, .. } = &mut self.state
        {
            *out = out.saturating_sub(1);
            if *out == 0 {
                *until = Time::NEVER;
            }
        }
    }

    /// Takes a permit back with the result of its attempt.
    #[must_use]
    pub fn record(
        &mut self,
        now: Time,
        permit: Permit,
        class: Class,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        self.release(permit);
        self.late(now, permit, class, settings, rng)
    }

    /// The result of an attempt whose permit was given back before: a body that was read later.
    #[must_use]
    pub fn late(
        &mut self,
        now: Time,
        permit: Permit,
        class: Class,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        if permit.generation != self.generation || !settings.enabled {
            return None;
        }
        if class == Class::Ignored {
            return None;
        }
        if let State::HalfOpen { successes, .. } = &mut self.state {
            if class == Class::Failure {
                return Some(self.open(now, Trip::ProbeFailed, settings, rng));
            }
            *successes += 1;
            if *successes < settings.half_open_successes {
                return None;
            }
            self.enter(State::Closed);
            self.closed_since = now;
            return Some(Transition::Closed);
        }
        let trip = self.verdict_on(class, settings)?;
        // Health since the last closing pays earlier openings back.
        let healthy = nanos(now.since(self.closed_since)) / nanos(settings.decay).max(1);
        self.openings = self.openings.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX));
        Some(self.open(now, trip, settings, rng))
    }

    /// Counts a result while closed and says whether it trips.
    fn verdict_on(&mut self, class: Class, settings: &Settings) -> Option<Trip> {
        if class == Class::Success {
            self.failures = 0;
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        (self.failures >= settings.failures).then_some(Trip::Consecutive(self.failures))
    }

    fn open(&mut self, now: Time, trip: Trip, settings: &Settings, rng: &mut Pcg32) -> Transition {
        let base = nanos(settings.open)
            .saturating_mul(1_u64.checked_shl(self.openings.min(62)).unwrap_or(1))
            .min(nanos(settings.open_max));
        let share = u64::from(rng.below(settings.jitter_permille + 1));
        let interval = Duration::from_nanos(base.saturating_add(base / 1000 * share));
        self.openings = self.openings.saturating_add(1).min(62);
        self.enter(State::Open { until: now.plus(interval) });
        Transition::Opened { trip, interval }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.failures = 0;
        self.generation = self.generation.wrapping_add(1);
    }
}

const fn max(a: u32, b: u32) -> u32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(change: impl FnOnce(&mut BreakerConfig)) -> Settings {
        let mut config = BreakerConfig { jitter: 0.0, ..BreakerConfig::default() };
        change(&mut config);
        Settings::of(&config, "p").unwrap()
    }

    fn s(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    struct Bench {
        breaker: Breaker,
        settings: Settings,
        rng: Pcg32,
    }

    impl Bench {
        fn new(change: impl FnOnce(&mut BreakerConfig)) -> Bench {
            Bench {
                breaker: Breaker::new(Time::ZERO),
                settings: settings(change),
                rng: Pcg32::new(7, 0),
            }
        }
        fn permit(&mut self, now: Time) -> Option<Permit> {
            let _ = self.breaker.tick(now, &self.settings, &mut self.rng);
            self.breaker.admit(now, &self.settings)
        }
        fn record(&mut self, now: Time, permit: Permit, class: Class) -> Option<Transition> {
            self.breaker.record(now, permit, class, &self.settings, &mut self.rng)
        }
        fn trip(&mut self, now: Time) {
            while !matches!(self.breaker.state(), State::Open { .. }) {
                let permit = self.permit(now).unwrap();
                let _ = self.record(now, permit, Class::Failure);
            }
        }
    }

    #[test]
    fn case_001_20_to_26_profile_of_contract_001() {
        let mut b = Bench::new(|p| {
            p.open = Duration::from_secs(60);
            p.half_open_permits = 3;
            p.half_open_successes = 2;
        });
        b.trip(s(0));
        assert!(b.permit(Time::from_millis(59_900)).is_none());
        let probes: Vec<Permit> = (0..3).map(|_| b.permit(s(60)).unwrap()).collect();
        assert!(b.permit(s(60)).is_none(), "the fourth is refused");
        assert_eq!(b.record(s(61), probes[0], Class::Success), None);
        assert_eq!(b.record(s(61), probes[1], Class::Success), Some(Transition::Closed));
        // The third probe ends after the closing: it belongs to an older generation.
        for _ in 0..10 {
            assert_eq!(b.record(s(62), probes[2], Class::Failure), None);
        }
        assert_eq!(b.breaker.consecutive_failures(), 0);
    }

    #[test]
    fn case_002_14_one_trial_failure_reopens() {
        let mut b = Bench::new(|p| p.open = Duration::from_secs(60));
        b.trip(s(0));
        let probe = b.permit(s(60)).unwrap();
        assert!(b.permit(s(60)).is_none());
        assert!(matches!(
            b.record(s(61), probe, Class::Failure),
            Some(Transition::Opened { trip: Trip::ProbeFailed, .. })
        ));
        assert!(b.permit(s(120)).is_none());
        assert!(b.permit(s(121)).is_some(), "open_max caps the doubling at 60 s");
    }

    #[test]
    fn straggler_from_before_the_trip_cannot_close() {
        let mut b = Bench::new(|_| ());
        let straggler = b.permit(s(0)).unwrap();
        b.trip(s(0));
        let probe = b.permit(s(2)).unwrap();
        assert_eq!(b.record(s(2), straggler, Class::Success), None);
        assert!(matches!(b.breaker.state(), State::HalfOpen { out: 1, successes: 0, .. }));
        assert_eq!(b.record(s(2), probe, Class::Success), Some(Transition::Closed));
    }

    #[test]
    fn a_late_result_counts_once_and_frees_nothing_twice() {
        let mut b = Bench::new(|p| p.half_open_permits = 2);
        b.trip(s(0));
        let (first, second) = (b.permit(s(1)).unwrap(), b.permit(s(1)).unwrap());
        b.breaker.release(first);
        assert!(matches!(b.breaker.state(), State::HalfOpen { out: 1, .. }));
        let late = b.breaker.late(s(2), first, Class::Success, &b.settings, &mut b.rng);
        assert_eq!(late, Some(Transition::Closed));
        assert_eq!(b.breaker.late(s(3), second, Class::Failure, &b.settings, &mut b.rng), None);
    }

    #[test]
    fn case_001_36_released_probe_frees_its_slot_and_a_lost_one_times_out() {
        let mut b = Bench::new(|p| p.half_open_max = Duration::from_secs(5));
        b.trip(s(0));
        let probe = b.permit(s(1)).unwrap();
        b.breaker.release(probe);
        let _lost = b.permit(s(2)).unwrap();
        assert!(b.permit(s(3)).is_none());
        assert_eq!(b.breaker.tick(s(6), &b.settings, &mut b.rng), None);
        let reopened = b.breaker.tick(s(7), &b.settings, &mut b.rng);
        assert!(matches!(reopened, Some(Transition::Opened { trip: Trip::ProbeLost, .. })));
    }

    #[test]
    fn interval_grows_and_decays() {
        let mut b = Bench::new(|_| ());
        let mut now = s(0);
        let mut intervals = Vec::new();
        b.trip(now);
        for _ in 0..8 {
            intervals.push(now.until(b.breaker.due()).as_secs());
            now = b.breaker.due();
            let probe = b.permit(now).unwrap();
            let _ = b.record(now, probe, Class::Failure);
        }
        assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 60, 60]);
        now = b.breaker.due();
        let probe = b.permit(now).unwrap();
        assert_eq!(b.record(now, probe, Class::Success), Some(Transition::Closed));
        let later = now.plus(Duration::from_secs(30 * 20));
        b.trip(later);
        assert_eq!(later.until(b.breaker.due()).as_secs(), 1, "long health pays everything back");
    }

    proptest! {
        /// Against a model that keeps every permit: slots are conserved, half-open never lends
        /// more than it has, and generations only move with transitions.
        #[test]
        fn permits_are_conserved(
            seed: u64, permits in 1_u32..4, successes in 1_u32..4, failures in 1_u32..4,
            script in proptest::collection::vec((0_u8..5, 0_u64..3_000, any::<prop::sample::Index>()), 1..120),
        ) {
            let mut b = Bench::new(|p| {
                p.half_open_permits = permits;
                p.half_open_successes = successes;
                p.failures = failures;
                p.jitter = 0.5;
            });
            b.rng = Pcg32::new(seed, 1);
            let mut now = Time::ZERO;
            let mut held: Vec<Permit> = Vec::new();
            for (action, ms, index) in script {
                now = now.plus(Duration::from_millis(ms));
                let before = b.breaker;
                match action {
                    0 | 1 => held.extend(b.permit(now)),
                    _ if held.is_empty() => (),
                    2 => b.breaker.release(held.swap_remove(index.index(held.len()))),
                    _ => {
                        let class = if action == 3 { Class::Success } else { Class::Failure };
                        let permit = held.swap_remove(index.index(held.len()));
                        let change = b.record(now, permit, class);
                        prop_assert_eq!(change.is_some(), b.breaker.generation != before.generation);
                    }
                }
                if let State::HalfOpen { out, until, .. } = b.breaker.state() {
                    let mine = held.iter().filter(|p| p.generation == b.breaker.generation).count();
                    prop_assert_eq!(out as usize, mine);
                    prop_assert!(out <= permits);
                    prop_assert_eq!(until == Time::NEVER, out == 0);
                    prop_assert!(out == 0 || until <= now.plus(b.settings.half_open_max));
                }
                if let State::Open { until } = b.breaker.state() {
                    prop_assert!(now.until(until) <= b.settings.open_max.mul_f64(1.5));
                }
                prop_assert!(b.breaker.failures < failures);
            }
            // Whatever happened, time alone leads to a breaker that admits somebody.
            for permit in held.drain(..) { b.breaker.release(permit); }
            let mut admitted = false;
            for _ in 0..4 {
                let _ = b.breaker.tick(now, &b.settings, &mut b.rng);
                if b.breaker.would_admit(&b.settings) { admitted = true; break; }
                now = b.breaker.due();
            }
            prop_assert!(admitted, "stuck in {:?}", b.breaker);
        }
    }
}
