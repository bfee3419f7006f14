//! What people do to a breaker while it runs: overrule it, reset it, give it new settings; and a
//! whole call as one function. Every function is safe with permits out: they belong to an older
//! generation afterwards wherever the state has changed.

use std::time::Duration;

use super::window::Windows;
use super::{
    Breaker, Force, MOST_OPENINGS, Permit, Phase, Probes, Refusal, Settings, Transition, Trip, next,
};
use crate::config::Mode;
use crate::outcome::Class;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

impl Breaker {
    /// Opens it by hand, in every mode, shadow and disabled included.
    ///
    /// `None`: for the first open interval, after which it heals itself like any open breaker
    /// (contract 001). `Some(until)`: the same at `until`. `Some(Time::NEVER)`: until
    /// [`Breaker::unforce`], [`Breaker::force_closed`] or [`Breaker::reset`]. The openings that
    /// lengthen the interval are not counted up by it.
    #[must_use]
    pub fn force_open(
        &mut self,
        now: Time,
        until: Option<Time>,
        settings: &Settings,
    ) -> Transition {
        let until = until.unwrap_or_else(|| now.plus(settings.open));
        self.force = Some(Force::Open);
        self.trip = Some(Trip::Forced);
        self.enter(Phase::Open { until });
        Transition::Opened { trip: Trip::Forced, interval: now.until(until), shadow: false }
    }

    /// Opens it as it was in an earlier run: for `left` more, at most the longest open interval;
    /// with nothing left it turns half-open at the next tick. `openings` as [`Breaker::openings`]
    /// told then. Only a closed breaker that is not forced and not disabled is changed.
    #[must_use]
    pub fn restore(
        &mut self,
        now: Time,
        left: Duration,
        trip: Option<Trip>,
        openings: u8,
        settings: &Settings,
    ) -> Option<Transition> {
        let closed = matches!(self.phase, Phase::Closed { .. });
        if !closed || self.force.is_some() || settings.mode == Mode::Disabled {
            return None;
        }
        let interval = left.min(Duration::from_nanos(settings.longest_open()));
        let trip = trip.unwrap_or(Trip::ProbeLost);
        self.openings = openings.min(MOST_OPENINGS);
        self.trip = Some(trip);
        self.enter(Phase::Open { until: now.plus(interval) });
        Some(Transition::Opened { trip, interval, shadow: settings.shadow() })
    }

    /// How often it has opened, as far as that makes the next open interval longer.
    #[must_use]
    pub const fn openings(&self) -> u8 {
        self.openings
    }

    /// Closes it by hand and keeps it closed, until [`Breaker::unforce`], [`Breaker::force_open`]
    /// or [`Breaker::reset`]. Results are still counted, so its numbers stay true.
    #[must_use]
    pub fn force_closed(&mut self, now: Time) -> Option<Transition> {
        self.force = Some(Force::Closed);
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { .. } | Phase::HalfOpen(_) => Some(self.close(now, false)),
        }
    }

    /// Takes back what was forced. A breaker forced open turns half-open at once (closed, when
    /// disabled); one forced closed stays closed, and its next result is judged with all that was
    /// counted meanwhile. Without force, nothing happens.
    #[must_use]
    pub fn unforce(&mut self, now: Time, settings: &Settings) -> Option<Transition> {
        match self.force.take()? {
            Force::Open => Some(self.recover(now, settings)),
            Force::Closed => None,
        }
    }

    /// Makes it as good as new: closed, nothing forced, all numbers zero, the first open interval
    /// next. Results of attempts that are out do not count any more. Reports the closing, if it
    /// was not closed.
    #[must_use]
    pub fn reset(&mut self, now: Time) -> Option<Transition> {
        let was_closed = matches!(self.phase, Phase::Closed { .. });
        let mut windows = self.windows.take();
        if let Some(windows) = &mut windows {
            windows.clear();
        }
        *self = Breaker::with(now, windows, next(self.generation));
        (!was_closed).then_some(Transition::Closed { shadow: false })
    }

    /// Takes over new settings without forgetting.
    ///
    /// | what | becomes |
    /// |---|---|
    /// | counters, reason, doublings, force | kept |
    /// | count window | keeps its newest results, as many as fit |
    /// | time window | each bucket goes over as a whole, to where it began: exact if the new bucket is a multiple of the old one, and never kept longer than the new window says |
    /// | window switched on or off | begins empty; forgotten |
    /// | closed | stays; new thresholds judge from the next result on |
    /// | open | stays, no longer than the longest interval of the new settings from now on |
    /// | half-open | stays, with its counts; new numbers decide from the next result on; permits that are out have at most the new `half_open_max` from now on |
    /// | mode to disabled | closes, unless it is forced open |
    /// | mode to shadow, or to enforce | state kept: an open breaker that was a shadow refuses from now on |
    ///
    /// Where only thresholds differ, passing other settings without this is harmless too.
    #[must_use]
    pub fn retune(&mut self, now: Time, settings: &Settings) -> Option<Transition> {
        if !Windows::fit(self.windows.as_deref(), settings) {
            self.windows = Windows::reshaped(self.windows.as_deref(), now, settings);
        }
        let forced = self.force == Some(Force::Open);
        let within = |until: Time, most: u64| until.min(now.plus(Duration::from_nanos(most)));
        match &mut self.phase {
            _ if forced => (),
            Phase::Closed { .. } => (),
            _ if settings.mode == Mode::Disabled => return Some(self.close(now, false)),
            Phase::Open { until } => *until = within(*until, settings.longest_open()),
            Phase::HalfOpen(Probes { until, out: 1.., .. }) => {
                *until = within(*until, nanos(settings.half_open_max));
            }
            Phase::HalfOpen(_) => (),
        }
        None
    }

    /// [`Breaker::tick`] and [`Breaker::admit`] in one.
    ///
    /// # Errors
    /// Why there is no permit.
    pub fn ask(
        &mut self,
        now: Time,
        settings: &Settings,
        rng: &mut Pcg32,
        mut report: impl FnMut(Transition),
    ) -> Result<Permit, Refusal> {
        if let Some(change) = self.tick(now, settings, rng) {
            report(change);
        }
        self.admit(now, settings)
    }

    /// One protected call as a scope: asks, runs `attempt`, records what it says. `attempt` is not
    /// run when the breaker refuses, and a panic in it gives the permit back without a result.
    /// Changes of state go to `report`, each once.
    ///
    /// For callers that own the breaker alone while the call runs; those that share it use
    /// [`Breaker::admit`] before and [`Breaker::record`] after.
    ///
    /// ```
    /// use std::time::Duration;
    /// use origin_core::outcome::Class;
    /// use origin_core::policy::breaker::{Breaker, Settings};
    /// use origin_core::{Time, rng::Pcg32};
    ///
    /// let (settings, mut rng) = (Settings::default(), Pcg32::new(1, 0));
    /// let mut breaker = Breaker::new(Time::ZERO, &settings);
    /// let answer = breaker.call(Time::ZERO, &settings, &mut rng, |change| eprintln!("{change}"), || {
    ///     ("hello", Class::Success, Duration::from_millis(3))
    /// });
    /// assert_eq!(answer, Ok("hello"));
    /// ```
    ///
    /// # Errors
    /// Why `attempt` was not run.
    pub fn call<T>(
        &mut self,
        now: Time,
        settings: &Settings,
        rng: &mut Pcg32,
        mut report: impl FnMut(Transition),
        attempt: impl FnOnce() -> (T, Class, Duration),
    ) -> Result<T, Refusal> {
        let permit = self.ask(now, settings, rng, &mut report)?;
        let mut held = Held { breaker: self, permit: Some(permit) };
        let (answer, class, took) = attempt();
        if let Some(permit) = held.permit.take() {
            let then = now.plus(took);
            if let Some(change) = held.breaker.record(then, permit, class, took, settings, rng) {
                report(change);
            }
        }
        Ok(answer)
    }
}

/// A permit that goes back by itself.
struct Held<'a> {
    breaker: &'a mut Breaker,
    permit: Option<Permit>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.release(permit);
        }
    }
}
