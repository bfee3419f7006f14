//! The reference: what a breaker is, said with lists of everything and no care for cost.

use std::time::Duration;

use origin_core::Time;
use origin_core::config::{HalfOpenBy, Mode};
use origin_core::outcome::Class;
use origin_core::policy::breaker::{Force, Permit, Settings, Tally, TimeShape, Transition, Trip};

/// One counted result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) at: u64,
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

pub(crate) fn tally<'a>(results: impl Iterator<Item = &'a Seen>) -> Tally {
    results.fold(Tally::default(), |t, seen| Tally {
        calls: t.calls + 1,
        failures: t.failures + u32::from(seen.failed),
        slow: t.slow + u32::from(seen.slow),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Is {
    Closed(Time),
    Open(Time),
    Half,
}

/// A permit that is out, or was given back and may still see a late result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) permit: Permit,
    /// The model's own count of lives; `None`: let through uncounted.
    pub(crate) life: Option<u32>,
    pub(crate) back: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    pub(crate) is: Is,
    pub(crate) life: u32,
    pub(crate) force: Option<Force>,
    pub(crate) trip: Option<Trip>,
    pub(crate) openings: u32,
    pub(crate) held: Vec<Held>,
    /// When half-open gives up; counts while a permit is out.
    pub(crate) lost_at: Time,
    pub(crate) probes: Vec<Seen>,
    pub(crate) timed: Vec<Seen>,
    pub(crate) latest: u64,
    pub(crate) last: Vec<Seen>,
    /// Results in a row, of one kind.
    pub(crate) row: (Class, u32),
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) recent: u64,
    pub(crate) slow: u64,
    pub(crate) refused: u64,
    pub(crate) failed_at: Option<Time>,
}

impl Model {
    pub(crate) fn new(now: Time, life: u32) -> Model {
        Model {
            is: Is::Closed(now),
            life,
            force: None,
            trip: None,
            openings: 0,
            held: Vec::new(),
            lost_at: Time::NEVER,
            probes: Vec::new(),
            timed: Vec::new(),
            latest: now.as_nanos(),
            last: Vec::new(),
            row: (Class::Success, 0),
            successes: 0,
            failures: 0,
            recent: 0,
            slow: 0,
            refused: 0,
            failed_at: None,
        }
    }

    pub(crate) fn out(&self) -> u32 {
        self.held.iter().filter(|h| !h.back && h.life == Some(self.life)).count() as u32
    }

    pub(crate) fn enter(&mut self, is: Is) {
        (self.is, self.life) = (is, self.life + 1);
        self.probes.clear();
        self.timed.clear();
        self.last.clear();
        if let Is::Closed(_) = is {
            (self.row, self.recent) = ((Class::Success, 0), 0);
        }
    }

    pub(crate) fn close(&mut self, now: Time, shadow: bool) -> Transition {
        self.enter(Is::Closed(now));
        Transition::Closed { shadow }
    }

    pub(crate) fn open(&mut self, now: Time, trip: Trip, s: &Settings) -> Transition {
        let doubled = s.open.saturating_mul(2_u32.saturating_pow(self.openings.min(30)));
        let interval = doubled.min(s.open_max);
        self.openings += 1;
        self.trip = Some(trip);
        self.enter(Is::Open(now.plus(interval)));
        Transition::Opened { trip, interval, shadow: s.mode == Mode::Shadow }
    }

    pub(crate) fn recover(&mut self, now: Time, s: &Settings) -> Transition {
        self.force = None;
        if s.mode == Mode::Disabled {
            return self.close(now, false);
        }
        self.enter(Is::Half);
        Transition::HalfOpened { shadow: s.mode == Mode::Shadow }
    }

    pub(crate) fn tick(&mut self, now: Time, s: &Settings) -> Option<Transition> {
        match self.is {
            Is::Open(until) if now >= until && until != Time::NEVER => Some(self.recover(now, s)),
            Is::Half if self.out() > 0 && now >= self.lost_at && s.mode != Mode::Disabled => {
                Some(self.open(now, Trip::ProbeLost, s))
            }
            _ => None,
        }
    }

    /// The life a permit would be granted under: `Err` if none, `Ok(None)` if uncounted.
    pub(crate) fn grant(&self, s: &Settings) -> Result<Option<u32>, ()> {
        let forced = self.force == Some(Force::Open);
        let (out, done) = (self.out(), self.probes.len() as u32);
        let useful = match s.half_open_by {
            HalfOpenBy::Counts => {
                s.half_open_permits.max(s.half_open_successes + s.half_open_failures - 1)
            }
            HalfOpenBy::Rates => s.half_open_permits,
        };
        let room = out == 0 || (out < s.half_open_permits && out + done < useful);
        match (s.mode, self.is) {
            _ if forced => Err(()),
            (Mode::Disabled, _) => Ok(None),
            (_, Is::Closed(_)) => Ok(Some(self.life)),
            (_, Is::Half) if room => Ok(Some(self.life)),
            (Mode::Shadow, _) => Ok(None),
            (Mode::Enforce, _) => Err(()),
        }
    }

    pub(crate) fn admit(&mut self, now: Time, s: &Settings) -> Result<Option<u32>, ()> {
        let grant = self.grant(s);
        if matches!(grant, Err(()) | Ok(None)) && (s.mode != Mode::Disabled || grant.is_err()) {
            self.refused += 1;
        }
        if self.is == Is::Half && grant == Ok(Some(self.life)) && self.out() == 0 {
            self.lost_at = now.plus(s.half_open_max);
        }
        grant
    }

    pub(crate) fn reached(t: Tally, minimum: u32, s: &Settings) -> Option<Trip> {
        let reaches = |part: u32, ppm: Option<u32>| {
            ppm.is_some_and(|ppm| {
                u64::from(part) * 1_000_000 >= u64::from(ppm) * u64::from(t.calls)
            })
        };
        if t.calls < minimum {
            None
        } else if reaches(t.failures, s.failure_ppm) {
            Some(Trip::FailureRate { failures: t.failures, of: t.calls })
        } else if reaches(t.slow, s.slow_ppm) {
            Some(Trip::SlowRate { slow: t.slow, of: t.calls })
        } else {
            None
        }
    }

    /// Forgets what no window can see any more.
    pub(crate) fn prune(&mut self, s: &Settings) {
        let size = s.window_calls.unwrap_or(0) as usize;
        self.last.drain(..self.last.len().saturating_sub(size));
        match s.window {
            None => self.timed.clear(),
            Some(TimeShape { bucket_nanos, buckets }) => {
                let present = self.latest / bucket_nanos;
                self.timed.retain(|r| r.at / bucket_nanos + u64::from(buckets) > present);
            }
        }
    }

    pub(crate) fn result(
        &mut self,
        now: Time,
        held: Held,
        class: Class,
        took: Duration,
        s: &Settings,
    ) -> Option<Transition> {
        let alive = held.life == Some(self.life);
        if !alive || class == Class::Ignored || s.mode == Mode::Disabled {
            return None;
        }
        let (failed, slow) = (class != Class::Success, took >= s.slow_call);
        self.slow += u64::from(slow);
        if failed {
            (self.failures, self.recent) = (self.failures + 1, self.recent + 1);
            self.failed_at = Some(now);
        } else {
            self.successes += 1;
        }
        match (class, self.row) {
            (Class::Throttled, (Class::Success, _)) => self.row = (Class::Success, 0),
            (Class::Throttled, _) => (),
            (class, (same, n)) if class == same => self.row = (class, n + 1),
            (class, _) => self.row = (class, 1),
        }
        self.latest = self.latest.max(now.as_nanos());
        let seen = Seen { at: self.latest, failed, slow };
        match self.is {
            Is::Open(_) => panic!("a permit of an open breaker"),
            Is::Half => {
                // A breaker that opens for slowness fails a slow probe.
                let by_counts = s.half_open_by == HalfOpenBy::Counts;
                let bad = failed || (by_counts && slow && s.slow_ppm.is_some());
                self.probes.push(Seen { failed: bad, ..seen });
                self.probed(now, failed, bad, s)
            }
            Is::Closed(since) => {
                self.timed.push(seen);
                self.last.push(seen);
                self.prune(s);
                let row = class == Class::Failure && s.failures.is_some_and(|n| self.row.1 >= n);
                let enough = self.successes + self.failures >= u64::from(s.minimum_throughput);
                let trip =
                    (row && enough).then_some(Trip::Consecutive(self.row.1)).or_else(|| {
                        let windows = [&self.timed, &self.last];
                        windows
                            .into_iter()
                            .find_map(|w| Model::reached(tally(w.iter()), s.minimum_calls, s))
                    })?;
                if self.force == Some(Force::Closed) {
                    return None;
                }
                let healthy = now.since(since).as_nanos() / s.decay.as_nanos();
                self.openings = self.openings.saturating_sub(u32::try_from(healthy).unwrap());
                Some(self.open(now, trip, s))
            }
        }
    }

    pub(crate) fn probed(
        &mut self,
        now: Time,
        failed: bool,
        bad: bool,
        s: &Settings,
    ) -> Option<Transition> {
        let t = tally(self.probes.iter());
        let shadow = s.mode == Mode::Shadow;
        if s.half_open_by == HalfOpenBy::Rates {
            let enough = s.half_open_permits.min(s.minimum_calls);
            if t.calls < enough {
                return None;
            }
            return Some(match Model::reached(t, enough, s) {
                Some(trip) => self.open(now, trip, s),
                None => self.close(now, shadow),
            });
        }
        if bad {
            let slow = Trip::SlowRate { slow: t.slow, of: t.calls };
            let trip = if failed { Trip::ProbeFailed } else { slow };
            return (t.failures >= s.half_open_failures).then(|| self.open(now, trip, s));
        }
        (t.calls - t.failures >= s.half_open_successes).then(|| self.close(now, shadow))
    }

    /// Results stand at the beginning of the bucket they were in: that is all a bucket remembers.
    pub(crate) fn retune(&mut self, now: Time, old: &Settings, s: &Settings) -> Option<Transition> {
        if old.window != s.window {
            self.latest = self.latest.max(now.as_nanos());
            self.prune(old);
            if let (Some(shape), Some(_)) = (old.window, s.window) {
                let ats = self.timed.iter_mut().map(|r| &mut r.at).chain([&mut self.latest]);
                for at in ats {
                    *at = *at / shape.bucket_nanos * shape.bucket_nanos;
                }
            }
            self.latest = self.latest.max(now.as_nanos());
        }
        self.prune(s);
        if self.force == Some(Force::Open) {
            return None;
        }
        match self.is {
            Is::Closed(_) => (),
            _ if s.mode == Mode::Disabled => return Some(self.close(now, false)),
            Is::Open(until) => self.is = Is::Open(until.min(now.plus(s.open_max))),
            Is::Half => self.lost_at = self.lost_at.min(now.plus(s.half_open_max)),
        }
        None
    }
}
