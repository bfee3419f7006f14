//! A breaker and its model side by side. What is compared after every input: the state with its
//! times and counts, every number, every window, whether a permit was granted, and the transition
//! that was reported, with its reason.

use std::time::Duration;

use origin_core::Time;
use origin_core::config::Mode;
use origin_core::outcome::Class;
use origin_core::policy::breaker::{
    Breaker, Force, Numbers, Permit, Settings, State, TimeShape, Transition, Trip,
};
use origin_core::rng::Pcg32;

use crate::model::{Held, Is, Model, Seen, tally};

pub(crate) const FAST: Duration = Duration::from_millis(1);
pub(crate) const SLOW: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    Oldest,
    Newest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Pass(u64),
    Tick,
    Ask,
    Result(Which, Class, Duration),
    Release(Which),
    Late(Class),
    ForceOpen(Option<u64>),
    ForceForever,
    ForceClosed,
    Unforce,
    Reset,
}

/// Permits out at the same time, in these tests.
const MOST_HELD: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) breaker: Breaker,
    pub(crate) model: Model,
}

impl World {
    pub(crate) fn new(settings: &Settings) -> World {
        let now = Time::from_millis(100);
        World { now, breaker: Breaker::new(now, settings), model: Model::new(now, 0) }
    }

    /// Where in `held` the permit is that `which` means; `Newest` only where it is another one.
    pub(crate) fn find(&self, which: Which) -> Option<usize> {
        let mut out = (0..self.model.held.len()).filter(|n| !self.model.held[*n].back);
        let oldest = out.next()?;
        match which {
            Which::Oldest => Some(oldest),
            Which::Newest => out.next_back(),
        }
    }

    /// Whether `op` means anything here, and nothing that another one means too.
    pub(crate) fn enabled(&self, op: Op) -> bool {
        match op {
            Op::Ask => self.model.held.iter().filter(|h| !h.back).count() < MOST_HELD,
            Op::Result(which, ..) | Op::Release(which) => self.find(which).is_some(),
            Op::Late(_) => self.model.held.iter().any(|h| h.back),
            _ => true,
        }
    }

    /// Does `op` to both and compares all there is to see.
    pub(crate) fn step(&mut self, op: Op, s: &Settings, keep_late: bool) {
        let now = self.now;
        let mut rng = Pcg32::new(1, 1); // jitter is off, so its draws do not matter
        let before = self.breaker.clone();
        let (mut got, mut expected) = (None, None);
        match op {
            Op::Pass(ms) => self.now = now.plus(Duration::from_millis(ms)),
            Op::Tick => {
                got = self.breaker.tick(now, s, &mut rng);
                expected = self.model.tick(now, s);
            }
            Op::Ask => {
                expected = self.model.tick(now, s);
                got = self.breaker.tick(now, s, &mut rng);
                let life = self.model.admit(now, s);
                let permitted = self.breaker.would_admit(s);
                let permit = self.breaker.admit(now, s);
                assert_eq!(permit.is_ok(), permitted, "would_admit tells the truth");
                assert_eq!(permit.map(Permit::counted).map_err(drop), life.map(|l| l.is_some()));
                if let (Ok(permit), Ok(life)) = (permit, life) {
                    self.model.held.push(Held { permit, life, back: false });
                }
            }
            Op::Result(which, class, took) => {
                let held = self.model.held.remove(self.find(which).unwrap());
                expected = self.model.result(now, held, class, took, s);
                got = self.breaker.record(now, held.permit, class, took, s, &mut rng);
                self.judge_straggler(&before, held);
            }
            Op::Release(which) => {
                let at = self.find(which).unwrap();
                let held = self.model.held[at];
                self.breaker.release(held.permit);
                if keep_late {
                    self.model.held[at].back = true;
                } else {
                    self.model.held.remove(at);
                }
                self.judge_straggler(&before, held);
            }
            Op::Late(class) => {
                let at = self.model.held.iter().position(|h| h.back).unwrap();
                let held = self.model.held.remove(at);
                expected = self.model.result(now, held, class, FAST, s);
                got = self.breaker.late(now, held.permit, class, FAST, s, &mut rng);
                self.judge_straggler(&before, held);
            }
            Op::ForceOpen(_) | Op::ForceForever => {
                let until = match op {
                    Op::ForceOpen(ms) => ms.map(|ms| now.plus(Duration::from_millis(ms))),
                    _ => Some(Time::NEVER),
                };
                let stays = until.unwrap_or(now.plus(s.open));
                self.model.force = Some(Force::Open);
                self.model.trip = Some(Trip::Forced);
                self.model.enter(Is::Open(stays));
                let (trip, interval) = (Trip::Forced, now.until(stays));
                expected = Some(Transition::Opened { trip, interval, shadow: false });
                got = Some(self.breaker.force_open(now, until, s));
            }
            Op::ForceClosed => {
                self.model.force = Some(Force::Closed);
                if !matches!(self.model.is, Is::Closed(_)) {
                    expected = Some(self.model.close(now, false));
                }
                got = self.breaker.force_closed(now);
            }
            Op::Unforce => {
                expected = match self.model.force.take() {
                    Some(Force::Open) => Some(self.model.recover(now, s)),
                    Some(Force::Closed) | None => None,
                };
                got = self.breaker.unforce(now, s);
            }
            Op::Reset => {
                let closed = matches!(self.model.is, Is::Closed(_));
                expected = (!closed).then_some(Transition::Closed { shadow: false });
                let held = std::mem::take(&mut self.model.held);
                self.model = Model { held, ..Model::new(now, self.model.life + 1) };
                got = self.breaker.reset(now);
            }
        }
        assert_eq!(got, expected, "what is reported");
        let moved = self.breaker.generation() != before.generation();
        assert_eq!(moved, got.is_some() || op == Op::Reset, "once for every change");
        self.compare(s);
    }

    /// What belongs to another life changes nothing at all.
    pub(crate) fn judge_straggler(&self, before: &Breaker, held: Held) {
        let now_alive = self.model.life == held.life.unwrap_or(u32::MAX);
        let was_alive = before.generation() == self.breaker.generation();
        if !now_alive && was_alive {
            assert_eq!(&self.breaker, before, "a straggler left a trace");
        }
    }

    pub(crate) fn compare(&self, s: &Settings) {
        let (model, out) = (&self.model, self.model.out());
        let state = match model.is {
            Is::Closed(_) => State::Closed,
            Is::Open(until) => State::Open { until },
            Is::Half => {
                let until = if out == 0 { Time::NEVER } else { model.lost_at };
                let t = tally(model.probes.iter());
                State::HalfOpen { until, out, successes: t.calls - t.failures }
            }
        };
        assert_eq!(self.breaker.state(), state);
        let now = self.now;
        let n: Numbers = self.breaker.numbers(now, s);
        let row = |class: Class| if model.row.0 == class { model.row.1 } else { 0 };
        assert_eq!((n.forced, n.trip), (model.force, model.trip));
        assert_eq!((n.success_count, n.failure_count), (model.successes, model.recent));
        assert_eq!((n.total_calls, n.slow_calls), (model.successes + model.failures, model.slow));
        assert_eq!(n.consecutive_failures, row(Class::Failure));
        assert_eq!(n.consecutive_successes, row(Class::Success));
        assert_eq!((n.not_permitted, n.last_failure_time), (model.refused, model.failed_at));
        assert_eq!(
            n.window_calls.map(|w| w.tally),
            s.window_calls.map(|_| tally(model.last.iter()))
        );
        let timed = s.window.map(|TimeShape { bucket_nanos, buckets }| {
            let present = model.latest.max(now.as_nanos()) / bucket_nanos;
            let live = |r: &&Seen| r.at / bucket_nanos + u64::from(buckets) > present;
            tally(model.timed.iter().filter(live))
        });
        assert_eq!(n.window.map(|w| w.tally), timed);
        for rates in [n.window, n.window_calls].into_iter().flatten() {
            assert_eq!(rates.failure_ppm.is_some(), rates.tally.calls >= s.minimum_calls);
        }
        assert_eq!(self.breaker.would_admit(s), self.model.grant(s).is_ok());
    }

    /// Time alone leads to a breaker that admits somebody, unless it was forced open for good.
    pub(crate) fn judge_progress(&self, s: &Settings) {
        let (mut breaker, mut now, mut rng) = (self.breaker.clone(), self.now, Pcg32::new(1, 1));
        if self.model.is == Is::Open(Time::NEVER) {
            assert!(!breaker.would_admit(s) || s.mode != Mode::Enforce);
            return;
        }
        // Nobody gives anything back: every permit that is out is lost.
        for _ in 0..3 {
            let _ = breaker.tick(now, s, &mut rng);
            if breaker.would_admit(s) {
                return;
            }
            assert!(breaker.due() > now && breaker.due() != Time::NEVER);
            now = breaker.due();
        }
        panic!("stuck in {breaker:?}");
    }
}
