//! The circuit breaker of one endpoint: closed, open, half-open.
//!
//! It protects the caller from waiting for an endpoint that fails, and the endpoint from being
//! hammered while it recovers.
//!
//! **What trips it** is any of: failures in a row (Finagle, linkerd); the share of failures, or of
//! slow calls, over the last n results or over a span in buckets (resilience4j, Polly, linkerd's
//! unified breaker). A rate is reached at `>=`, as in resilience4j, compared exactly as integers,
//! and unknown below a minimum of results; any counted result may reach it, a success too.
//! Throttled results (429) count in rates and fail probes but are no failure in a row (linkerd). A
//! slow failure is slow as well, as in resilience4j's code; slow begins at the threshold, where
//! that code begins above it.
//!
//! **Half-open** is where breakers go wrong, so it is strict here: a bounded number of permits;
//! every permit stamped with the generation it was granted under, so that a straggler from before
//! the trip can neither close nor reopen (as in gobreaker; resilience4j, Polly and Finagle let
//! it); a permit that is released without result counts for nothing; and a bound on the time that
//! permits are out, so that lost ones cannot block it (as in resilience4j, where it is off by
//! default; but a half-open breaker that nobody calls stays half-open). It is decided by counts,
//! or by the rates of a fixed number of probes (resilience4j).
//!
//! **The open interval** doubles with each opening and takes a doubling back for each span of
//! health (as in Envoy's outlier ejection); it is counted anew from every opening.
//!
//! It is switched off with [`Mode::Disabled`](crate::config::Mode), tried out with
//! [`Mode::Shadow`](crate::config::Mode), and overruled by hand at any time ([`Breaker::force_open`]
//! and its neighbours in `control`), all without harm to permits that are out.
//!
//! ```
//! use std::time::Duration;
//! use origin_core::outcome::Class;
//! use origin_core::policy::breaker::{Breaker, Settings, State};
//! use origin_core::{Time, rng::Pcg32};
//!
//! let settings = Settings::default();
//! let mut rng = Pcg32::new(42, 0);
//! let mut breaker = Breaker::new(Time::ZERO, &settings);
//! for ms in 0..5 {
//!     let now = Time::from_millis(ms);
//!     let permit = breaker.admit(now, &settings).unwrap();
//!     // ... the call fails after a millisecond ...
//!     let took = Duration::from_millis(1);
//!     let _ = breaker.record(now.plus(took), permit, Class::Failure, took, &settings, &mut rng);
//! }
//! let refusal = breaker.admit(Time::from_millis(5), &settings).unwrap_err();
//! assert!(refusal.to_string().starts_with("breaker open until 1s"));
//! // Time is an argument; `tick` lets it act.
//! let _ = breaker.tick(Time::from_millis(2_000), &settings, &mut rng);
//! assert!(matches!(breaker.state(), State::HalfOpen { .. }));
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the machine: permits, results, time |
//! | `control.rs` | what people do to it: force, reset, new settings; a call as one function |
//! | `half_open.rs` | the probes: how many, and what their results decide |
//! | `window.rs` | the windows of results |
//! | `settings.rs` | checking and compiling its configuration |
//! | `state.rs`, `numbers.rs` | what it says: states, changes, reasons; numbers |

mod control;
mod half_open;
mod numbers;
mod settings;
mod state;
mod window;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Mode;
use crate::outcome::Class;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};
use half_open::Probes;
use window::Windows;

pub use numbers::{Numbers, Rates};
pub use settings::{Settings, TimeShape};
pub use state::{Force, Permit, Refusal, State, Transition, Trip};
pub use window::Tally;

/// Doublings beyond this exceed every open interval that can be configured.
const MOST_OPENINGS: u8 = 62;

/// The state with what only the machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Closed { since: Time },
    Open { until: Time },
    HalfOpen(Probes),
}

/// The breaker. 96 bytes, and its windows where rates need them; time and randomness are
/// arguments. [`Breaker::new`] and [`Breaker::retune`] allocate, and [`Breaker::numbers`] may;
/// nothing on the way of a call does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Breaker {
    phase: Phase,
    windows: Option<Box<Windows>>,
    /// Counts changes of state; results of another generation are ignored. Never zero.
    generation: u32,
    /// Results of one kind in a row: failures if `failing`, else successes.
    run: u32,
    failing: bool,
    force: Option<Force>,
    /// Exponent of the next open interval.
    openings: u8,
    trip: Option<Trip>,
    slow: u32,
    /// Failures since the last closing.
    recent_failures: u32,
    successes: u64,
    failures: u64,
    refused: u64,
    last_failure: Time,
}

impl Breaker {
    /// A closed breaker, with the windows that `settings` ask for.
    #[must_use]
    pub fn new(now: Time, settings: &Settings) -> Breaker {
        Breaker::with(now, Windows::new(now, settings), 1)
    }

    fn with(now: Time, windows: Option<Box<Windows>>, generation: u32) -> Breaker {
        Breaker {
            phase: Phase::Closed { since: now },
            windows,
            generation,
            run: 0,
            failing: false,
            force: None,
            openings: 0,
            trip: None,
            slow: 0,
            recent_failures: 0,
            successes: 0,
            failures: 0,
            refused: 0,
            last_failure: Time::ZERO,
        }
    }

    /// The present state.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } => State::Open { until },
            Phase::HalfOpen(Probes { until, out, successes, .. }) => {
                State::HalfOpen { until, out: out as u32, successes: successes as u32 }
            }
        }
    }

    /// Whether its present state was forced by hand.
    #[must_use]
    pub const fn is_forced(&self) -> bool {
        self.force.is_some()
    }

    /// Failures in a row, until it closes or a success ends them.
    #[must_use]
    pub const fn consecutive_failures(&self) -> u32 {
        if self.failing { self.run } else { 0 }
    }

    /// Why it opened last; `None`: never since creation or reset.
    #[must_use]
    pub const fn trip(&self) -> Option<Trip> {
        self.trip
    }

    /// Moves with every [`Transition`], and with [`Breaker::reset`]; results of attempts that were
    /// admitted under another generation are ignored.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// When time alone changes the state; [`Time::NEVER`] while closed.
    #[must_use]
    pub const fn due(&self) -> Time {
        match self.phase {
            Phase::Closed { .. } => Time::NEVER,
            Phase::Open { until } | Phase::HalfOpen(Probes { until, .. }) => until,
        }
    }

    /// Whether [`Breaker::admit`] would grant a permit, once [`Breaker::tick`] has seen `now`.
    #[must_use]
    pub const fn would_admit(&self, settings: &Settings) -> bool {
        if matches!(self.force, Some(Force::Open)) {
            return false;
        }
        match (settings.mode, self.phase) {
            (Mode::Shadow | Mode::Disabled, _) | (_, Phase::Closed { .. }) => true,
            (Mode::Enforce, Phase::Open { .. }) => false,
            (Mode::Enforce, Phase::HalfOpen(probes)) => probes.room(settings),
        }
    }

    /// Lets time act: an open breaker turns half-open (closed, when disabled), a half-open one
    /// that ran out opens. Call it before [`Breaker::admit`], or when [`Breaker::due`] says so.
    #[must_use]
    #[inline]
    pub fn tick(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Option<Transition> {
        if now < self.due() || matches!(self.phase, Phase::Closed { .. }) {
            return None;
        }
        self.pass(now, settings, rng)
    }

    #[cold]
    fn pass(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Option<Transition> {
        match self.phase {
            Phase::Open { until } if now >= until && !self.lasting() => {
                Some(self.recover(now, settings))
            }
            Phase::HalfOpen(Probes { until, out: 1.., .. })
                if now >= until && settings.mode != Mode::Disabled =>
            {
                Some(self.open(now, Trip::ProbeLost, settings, rng))
            }
            _ => None,
        }
    }

    /// Asks for a permit.
    ///
    /// # Errors
    /// Why there is none.
    #[inline]
    pub fn admit(&mut self, now: Time, settings: &Settings) -> Result<Permit, Refusal> {
        if let Phase::Closed { .. } = self.phase
            && settings.mode != Mode::Disabled
        {
            return Ok(Permit { generation: self.generation });
        }
        self.consider(now, settings)
    }

    /// [`Breaker::admit`] off the common path.
    fn consider(&mut self, now: Time, settings: &Settings) -> Result<Permit, Refusal> {
        let forced = self.force == Some(Force::Open);
        if settings.mode == Mode::Disabled && !forced {
            return Ok(Permit::UNCOUNTED);
        }
        let refusal = match &mut self.phase {
            Phase::HalfOpen(probes) if !probes.room(settings) => {
                Refusal::HalfOpen { out: u32::from(probes.out), until: probes.until }
            }
            Phase::HalfOpen(probes) => {
                if probes.out == 0 {
                    probes.until = now.plus(settings.half_open_max);
                }
                probes.out += 1;
                return Ok(Permit { generation: self.generation });
            }
            Phase::Closed { .. } => return Ok(Permit { generation: self.generation }),
            Phase::Open { until } if forced => Refusal::Forced { until: *until },
            Phase::Open { until } => Refusal::Open { until: *until },
        };
        self.refused = self.refused.wrapping_add(1);
        if settings.shadow() && !forced { Ok(Permit::UNCOUNTED) } else { Err(refusal) }
    }

    /// Takes a permit back without a result: the attempt was cancelled or says nothing.
    #[inline]
    pub fn release(&mut self, permit: Permit) {
        if permit.generation == self.generation
            && let Phase::HalfOpen(probes) = &mut self.phase
        {
            probes.out = probes.out.saturating_sub(1);
            if probes.out == 0 {
                probes.until = Time::NEVER;
            }
        }
    }

    /// Takes a permit back with the result of its attempt, which took `took`.
    #[must_use]
    #[inline(always)] // the common case is shorter than the call
    pub fn record(
        &mut self,
        now: Time,
        permit: Permit,
        class: Class,
        took: Duration,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        if self.plain(permit, class, took, settings) {
            return self.passed(now, settings, rng);
        }
        self.release(permit);
        self.judge(now, permit, class, took, settings, rng)
    }

    /// The result of an attempt whose permit was given back before: a body that was read later.
    #[must_use]
    #[inline]
    pub fn late(
        &mut self,
        now: Time,
        permit: Permit,
        class: Class,
        took: Duration,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        if self.plain(permit, class, took, settings) {
            return self.passed(now, settings, rng);
        }
        self.judge(now, permit, class, took, settings, rng)
    }

    /// Whether this is by far the most common result: a success of a closed breaker that goes on
    /// a run of them.
    #[inline]
    fn plain(&self, permit: Permit, class: Class, took: Duration, settings: &Settings) -> bool {
        permit.generation == self.generation
            && class == Class::Success
            && !self.failing
            && took < settings.slow_call
            && settings.mode != Mode::Disabled
            && matches!(self.phase, Phase::Closed { .. })
    }

    /// What [`Breaker::judge`] comes to for a plain result, small enough to be inlined.
    #[allow(clippy::inline_always)] // measured: a quarter of the instructions of a success
    #[inline(always)]
    fn passed(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Option<Transition> {
        self.successes = self.successes.wrapping_add(1);
        self.run = self.run.saturating_add(1);
        if !self.windows.as_mut()?.add(now, false, false, settings) {
            return None;
        }
        self.rate_reached(now, settings, rng)
    }

    /// Counts a result and says what follows from it.
    #[inline(never)]
    fn judge(
        &mut self,
        now: Time,
        permit: Permit,
        class: Class,
        took: Duration,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        let stale = permit.generation != self.generation;
        if stale || class == Class::Ignored || settings.mode == Mode::Disabled {
            return None;
        }
        let (failed, slow) = (class != Class::Success, took >= settings.slow_call);
        self.slow = self.slow.saturating_add(u32::from(slow));
        if failed {
            self.failed(now, class);
        } else {
            self.succeeded();
        }
        let Phase::Closed { .. } = self.phase else {
            return self.probed(now, failed, slow, settings, rng);
        };
        let windows = self.windows.as_mut();
        let reached = windows.is_some_and(|windows| windows.add(now, failed, slow, settings));
        if class == Class::Failure && settings.failures.is_some_and(|most| self.run >= most) {
            let calls = self.successes.saturating_add(self.failures);
            if calls >= u64::from(settings.minimum_throughput) {
                return self.tripped(now, Trip::Consecutive(self.run), settings, rng);
            }
        }
        if reached { self.rate_reached(now, settings, rng) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn rate_reached(
        &mut self,
        now: Time,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        let trip = self.windows.as_ref()?.trip(settings)?;
        self.tripped(now, trip, settings, rng)
    }

    /// A condition holds for a closed breaker.
    fn tripped(
        &mut self,
        now: Time,
        trip: Trip,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        let Phase::Closed { since } = self.phase else { return None };
        if self.force == Some(Force::Closed) {
            return None;
        }
        // Health since the last closing pays earlier openings back.
        let healthy = nanos(now.since(since)) / nanos(settings.decay).max(1);
        self.openings = self.openings.saturating_sub(u8::try_from(healthy).unwrap_or(u8::MAX));
        Some(self.open(now, trip, settings, rng))
    }

    fn succeeded(&mut self) {
        if self.failing {
            (self.failing, self.run) = (false, 0);
        }
        self.successes = self.successes.wrapping_add(1);
        self.run = self.run.saturating_add(1);
    }

    fn failed(&mut self, now: Time, class: Class) {
        self.failures = self.failures.wrapping_add(1);
        self.recent_failures = self.recent_failures.saturating_add(1);
        self.last_failure = now;
        match (class, self.failing) {
            (Class::Failure, true) => self.run = self.run.saturating_add(1),
            (Class::Failure, false) => (self.failing, self.run) = (true, 1),
            // Throttled ends a run of successes and leaves one of failures as it is.
            (_, true) => (),
            (_, false) => self.run = 0,
        }
    }

    fn probed(
        &mut self,
        now: Time,
        failed: bool,
        slow: bool,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Transition> {
        let Phase::HalfOpen(probes) = &mut self.phase else { return None };
        match probes.count(failed, slow, settings)? {
            Err(trip) => Some(self.open(now, trip, settings, rng)),
            Ok(()) => Some(self.close(now, settings.shadow())),
        }
    }

    /// Whether it was forced open for good.
    fn lasting(&self) -> bool {
        self.force.is_some() && self.phase == Phase::Open { until: Time::NEVER }
    }

    /// The end of open: half-open, unless nothing is decided any more.
    fn recover(&mut self, now: Time, settings: &Settings) -> Transition {
        self.force = None;
        if settings.mode == Mode::Disabled {
            return self.close(now, false);
        }
        self.enter(Phase::HalfOpen(Probes::NONE));
        Transition::HalfOpened { shadow: settings.shadow() }
    }

    fn open(&mut self, now: Time, trip: Trip, settings: &Settings, rng: &mut Pcg32) -> Transition {
        let base = nanos(settings.open)
            .saturating_mul(1 << self.openings.min(MOST_OPENINGS))
            .min(nanos(settings.open_max));
        let share = u64::from(rng.below(settings.jitter_permille.saturating_add(1)));
        let interval =
            Duration::from_nanos(base.saturating_add((base / 1000).saturating_mul(share)));
        self.openings = self.openings.saturating_add(1).min(MOST_OPENINGS);
        self.trip = Some(trip);
        self.enter(Phase::Open { until: now.plus(interval) });
        Transition::Opened { trip, interval, shadow: settings.shadow() }
    }

    fn close(&mut self, now: Time, shadow: bool) -> Transition {
        self.enter(Phase::Closed { since: now });
        (self.run, self.failing, self.recent_failures) = (0, false, 0);
        Transition::Closed { shadow }
    }

    /// Every change of state goes through here: what is out belongs to another generation, and
    /// what was counted to another state.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = next(self.generation);
        if let Some(windows) = &mut self.windows {
            windows.clear();
        }
    }
}

/// The generation after `generation`; zero belongs to permits that do not count.
const fn next(generation: u32) -> u32 {
    if generation == u32::MAX { 1 } else { generation + 1 }
}

#[cfg(test)]
mod tests;
