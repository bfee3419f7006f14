//! The health of one endpoint: a run of equal results, the verdict it led to, and a bounded
//! history. When the next check is due is not decided here.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Fail, ProbeOutcome, Settings, Status};
use crate::time::Time;

/// Why a verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The first answer ever was a good one.
    FirstPass,
    /// This many successes in a row.
    Passes(u32),
    /// Failures in a row.
    Fails {
        /// How many.
        count: u32,
        /// The last one.
        last: Fail,
    },
    /// It says of itself that it is degraded.
    Marked,
    /// It no longer says so.
    Unmarked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::FirstPass => f.write_str("its first check passed"),
            Reason::Passes(1) => f.write_str("a check passed"),
            Reason::Passes(count) => write!(f, "{count} checks passed in a row"),
            Reason::Fails { count: 1, last } => write!(f, "a check failed: {last}"),
            Reason::Fails { count, last } => {
                write!(f, "{count} checks failed in a row, the last one: {last}")
            }
            Reason::Marked => f.write_str("it says that it is degraded"),
            Reason::Unmarked => f.write_str("it no longer says that it is degraded"),
        }
    }
}

/// A change of the verdict, reported exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The verdict before.
    pub from: Status,
    /// The verdict now.
    pub to: Status,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, was {}: {}", self.to, self.from, self.reason)
    }
}

/// Equal results next to each other, as one line of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// When the first of them came.
    pub at: Time,
    /// The verdict after each of them.
    pub status: Status,
    /// The result. [`ProbeOutcome::Dropped`] only where checks were switched off.
    pub outcome: ProbeOutcome,
    /// How many of them.
    pub count: u32,
}

/// The health of one endpoint. The history is the only part on the heap, allocated once, with
/// the first result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    status: Status,
    /// Whether the present run is one of successes.
    passing: bool,
    /// Results of the same side in a row; 0 before the first result.
    run: u32,
    since: Time,
    checked: Option<Time>,
    history: VecDeque<Entry>,
}

impl Health {
    /// An endpoint nobody has asked.
    #[must_use]
    pub const fn new(now: Time) -> Health {
        Health {
            status: Status::Unknown,
            passing: false,
            run: 0,
            since: now,
            checked: None,
            history: VecDeque::new(),
        }
    }

    /// The present verdict.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Since when the verdict is what it is.
    #[must_use]
    pub const fn since(&self) -> Time {
        self.since
    }

    /// When the last result came.
    #[must_use]
    pub const fn checked(&self) -> Option<Time> {
        self.checked
    }

    /// Equal results in a row so far: successes if the flag is set, else failures.
    #[must_use]
    pub const fn run(&self) -> (bool, u32) {
        (self.passing, self.run)
    }

    /// What was found when, oldest first: results that were equal and next to each other are one
    /// entry, so that an endpoint which is fine for days does not push its last failure out.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.history.iter()
    }

    /// Whether the last results confirm the verdict: more of them in a row than it took.
    #[must_use]
    pub const fn settled(&self, settings: &Settings) -> bool {
        match self.status {
            Status::Unknown => false,
            Status::Unhealthy => !self.passing && self.run > settings.unhealthy_threshold,
            _ => self.passing && self.run > settings.healthy_threshold,
        }
    }

    /// Takes a result. A dropped probe changes nothing.
    #[must_use]
    pub fn record(
        &mut self,
        now: Time,
        outcome: ProbeOutcome,
        settings: &Settings,
    ) -> Option<Change> {
        let (to, reason) = match outcome {
            ProbeOutcome::Dropped => return None,
            ProbeOutcome::Fail(last) => {
                let count = self.count(false);
                let down = count >= settings.unhealthy_threshold;
                let to = if down { Status::Unhealthy } else { self.status };
                (to, Reason::Fails { count, last })
            }
            ProbeOutcome::Pass | ProbeOutcome::Assumed | ProbeOutcome::Degraded => {
                let first = self.run == 0;
                let count = self.count(true);
                let marked = outcome == ProbeOutcome::Degraded;
                let good = if marked { Status::Degraded } else { Status::Healthy };
                match self.status {
                    Status::Healthy => (good, Reason::Marked),
                    Status::Degraded => (good, Reason::Unmarked),
                    _ if first => (good, Reason::FirstPass),
                    _ if count >= settings.healthy_threshold => (good, Reason::Passes(count)),
                    below => (below, Reason::Passes(count)),
                }
            }
        };
        self.checked = Some(now);
        let from = std::mem::replace(&mut self.status, to);
        self.remember(now, outcome, settings);
        (from != to).then(|| {
            self.since = now;
            Change { from, to, reason }
        })
    }

    /// Forgets the verdict and the results it was built on, but not the history: checks were
    /// switched off, and a verdict that nobody revises must not last for ever.
    pub fn forget(&mut self, now: Time, settings: &Settings) {
        if self.run == 0 {
            return;
        }
        if self.status != Status::Unknown {
            (self.status, self.since) = (Status::Unknown, now);
            self.remember(now, ProbeOutcome::Dropped, settings);
        }
        (self.passing, self.run) = (false, 0);
    }

    /// Cuts the history to the length that `settings` allow; verdict and run stay as they are,
    /// and new thresholds apply from the next result on.
    pub fn retune(&mut self, settings: &Settings) {
        let most = settings.history as usize;
        if self.history.len() > most {
            self.history.drain(..self.history.len() - most);
        }
    }

    fn count(&mut self, passing: bool) -> u32 {
        self.run = if self.passing == passing { self.run.saturating_add(1) } else { 1 };
        self.passing = passing;
        self.run
    }

    fn remember(&mut self, now: Time, outcome: ProbeOutcome, settings: &Settings) {
        let (status, most) = (self.status, settings.history.clamp(1, 64) as usize);
        if let Some(newest) = self.history.back_mut()
            && (newest.status, newest.outcome) == (status, outcome)
        {
            newest.count = newest.count.saturating_add(1);
            return;
        }
        if self.history.capacity() < most {
            self.history.reserve_exact(most - self.history.len());
        }
        while self.history.len() >= most {
            self.history.pop_front();
        }
        self.history.push_back(Entry { at: now, status, outcome, count: 1 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{CheckKind, ChecksConfig};

    const PASS: ProbeOutcome = ProbeOutcome::Pass;
    const MARKED: ProbeOutcome = ProbeOutcome::Degraded;
    const FAIL: ProbeOutcome = ProbeOutcome::Fail(Fail::Status(503));
    const DROP: ProbeOutcome = ProbeOutcome::Dropped;

    fn settings(healthy: u32, unhealthy: u32, history: u32) -> Settings {
        let config = ChecksConfig {
            kind: CheckKind::Tcp,
            healthy_threshold: healthy,
            unhealthy_threshold: unhealthy,
            history,
            ..ChecksConfig::default()
        };
        Settings::of(&config, "c").unwrap()
    }

    /// The verdict by its definition, over the whole list of results so far.
    fn model(results: &[ProbeOutcome], healthy: usize, unhealthy: usize) -> Status {
        let mut status = Status::Unknown;
        let heard: Vec<ProbeOutcome> = results.iter().copied().filter(|r| *r != DROP).collect();
        for n in 1..=heard.len() {
            let last = |k: usize, failing: bool| {
                n >= k
                    && heard[n - k..n].iter().all(|r| matches!(r, ProbeOutcome::Fail(_)) == failing)
            };
            let good = if heard[n - 1] == MARKED { Status::Degraded } else { Status::Healthy };
            let up = matches!(status, Status::Healthy | Status::Degraded);
            if last(unhealthy, true) {
                status = Status::Unhealthy;
            } else if last(1, false) && (up || n == 1 || last(healthy, false)) {
                status = good;
            }
        }
        status
    }

    /// Thresholds as in Envoy's documentation of `core.v3.HealthCheck`: the first success
    /// suffices at the beginning, never again later; then runs decide.
    #[test]
    fn case_004_38_threshold_table_of_envoy() {
        use Status::{Degraded as D, Healthy as H, Unhealthy as U, Unknown as N};
        let table: [(&[ProbeOutcome], &[Status]); 9] = [
            (&[PASS], &[H]),
            (&[FAIL, PASS, PASS], &[N, N, H]),
            (&[FAIL, FAIL, FAIL], &[N, N, U]),
            (&[PASS, FAIL, FAIL, PASS, FAIL, FAIL, FAIL], &[H, H, H, H, H, H, U]),
            (&[FAIL, FAIL, FAIL, PASS, FAIL, PASS, PASS], &[N, N, U, U, U, U, H]),
            (&[MARKED, PASS, MARKED, FAIL, PASS], &[D, H, D, D, H]),
            (&[FAIL, FAIL, FAIL, MARKED, MARKED], &[N, N, U, U, D]),
            (&[FAIL, FAIL, FAIL, MARKED, PASS], &[N, N, U, U, H]),
            (&[DROP, PASS, DROP, FAIL, DROP, FAIL, FAIL], &[N, H, H, H, H, H, U]),
        ];
        let settings = settings(2, 3, 16);
        for (results, expected) in table {
            let mut health = Health::new(Time::ZERO);
            let got: Vec<Status> = results
                .iter()
                .map(|result| {
                    let _ = health.record(Time::ZERO, *result, &settings);
                    health.status()
                })
                .collect();
            assert_eq!(got, expected, "{results:?}");
        }
    }

    #[test]
    fn all_short_sequences_equal_the_definition_and_report_each_change_once() {
        let alphabet = [PASS, MARKED, FAIL, DROP];
        let mut sequences = 0;
        for (healthy, unhealthy) in [(1, 1), (1, 3), (2, 2), (2, 3), (3, 1)] {
            let settings = settings(healthy, unhealthy, 4);
            for number in 0..4_u32.pow(7) {
                let results: Vec<ProbeOutcome> =
                    (0..7).map(|at| alphabet[(number >> (2 * at) & 3) as usize]).collect();
                let mut health = Health::new(Time::ZERO);
                for (n, result) in (1..).zip(&results) {
                    let before = health.status();
                    let change = health.record(Time::from_millis(n), *result, &settings);
                    let told = change.map(|change| (change.from, change.to));
                    let moved = before != health.status();
                    assert_eq!(told, moved.then_some((before, health.status())), "{results:?}");
                }
                let expected = model(&results, healthy as usize, unhealthy as usize);
                assert_eq!(health.status(), expected, "{results:?} {healthy} {unhealthy}");
                sequences += 1;
            }
        }
        assert_eq!(sequences, 81_920);
    }

    #[test]
    fn case_004_03_the_history_keeps_time_and_status_and_is_bounded() {
        let settings = settings(2, 2, 3);
        let mut health = Health::new(Time::ZERO);
        for (n, result) in (0..).zip([PASS, PASS, PASS, FAIL, FAIL, DROP, PASS, PASS]) {
            let _ = health.record(Time::from_millis(n), result, &settings);
        }
        let got: Vec<(u64, Status, u32)> =
            health.history().map(|e| (e.at.as_millis(), e.status, e.count)).collect();
        assert_eq!(
            got,
            [(4, Status::Unhealthy, 1), (6, Status::Unhealthy, 1), (7, Status::Healthy, 1)]
        );
        assert_eq!(health.checked(), Some(Time::from_millis(7)));
        assert_eq!((health.since(), health.run()), (Time::from_millis(7), (true, 2)));
        let at = |n| health.history().nth(n).unwrap().outcome;
        assert_eq!((at(0), at(1)), (FAIL, PASS));
    }

    #[test]
    fn a_verdict_is_settled_once_it_is_confirmed() {
        let settings = settings(2, 3, 16);
        let mut health = Health::new(Time::ZERO);
        let mut after = |result| {
            let _ = health.record(Time::ZERO, result, &settings);
            health.settled(&settings)
        };
        assert_eq!([PASS, PASS, PASS].map(&mut after), [false, false, true]);
        assert_eq!([FAIL, PASS, PASS, PASS].map(&mut after), [false, false, false, true]);
        assert_eq!([FAIL, FAIL, FAIL, FAIL].map(&mut after), [false, false, false, true]);
        assert_eq!([PASS, FAIL].map(&mut after), [false, false]);
    }

    #[test]
    fn switching_off_forgets_the_verdict_but_not_the_history() {
        let settings = settings(2, 1, 16);
        let mut health = Health::new(Time::ZERO);
        let _ = health.record(Time::ZERO, FAIL, &settings);
        health.forget(Time::from_millis(9), &settings);
        assert_eq!((health.status(), health.history().len()), (Status::Unknown, 2));
        assert_eq!(health.since(), Time::from_millis(9));
        let change = health.record(Time::from_millis(9), PASS, &settings).unwrap();
        assert_eq!(change.reason, Reason::FirstPass);
        assert_eq!(change.to_string(), "healthy, was unknown: its first check passed");
    }

    #[test]
    fn what_is_said_of_a_failure_names_it() {
        let mut health = Health::new(Time::ZERO);
        let change = health.record(Time::ZERO, FAIL, &settings(1, 1, 1)).unwrap();
        assert_eq!(
            change.to_string(),
            "unhealthy, was unknown: a check failed: status 503 is not expected"
        );
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"from":"unknown","to":"unhealthy","reason":{"fails":{"count":1,"last":{"status":503}}}}"#
        );
    }

    proptest! {
        #[test]
        fn long_sequences_equal_the_definition(
            healthy in 1_u32..6, unhealthy in 1_u32..6, history in 1_u32..65,
            results in proptest::collection::vec(prop_oneof![
                4 => Just(PASS), 1 => Just(MARKED), 1 => Just(ProbeOutcome::Assumed),
                4 => Just(FAIL), 1 => Just(DROP)], 0..120),
        ) {
            let settings = settings(healthy, unhealthy, history);
            let mut health = Health::new(Time::ZERO);
            for (n, result) in (1..).zip(&results) {
                // Time runs backwards: it must not matter.
                let _ = health.record(Time::from_millis(1_000 - n as u64), *result, &settings);
                prop_assert_eq!(health.status(), model(&results[..n], healthy as usize, unhealthy as usize));
                prop_assert!(health.history().len() <= history as usize);
                prop_assert!(health.history.capacity() <= 64);
            }
            let heard = results.iter().filter(|r| **r != DROP).count();
            let kept: u32 = health.history().map(|e| e.count).sum();
            prop_assert!(health.history().len() == history as usize || kept as usize == heard);
            let text = serde_json::to_string(&health).unwrap();
            prop_assert_eq!(serde_json::from_str::<Health>(&text).unwrap(), health);
        }

        /// Settings that were never checked are survived, and so are counts at their end.
        #[test]
        fn no_number_is_too_odd(healthy: u32, unhealthy: u32, history: u32, run: u32, passing: bool,
                                nanos: u64) {
            let settings = Settings {
                healthy_threshold: healthy, unhealthy_threshold: unhealthy, history,
                ..Settings::default()
            };
            let mut health = Health { run, passing, ..Health::new(Time::NEVER) };
            for result in [PASS, FAIL, MARKED, DROP, FAIL] {
                let _ = health.record(Time::from_nanos(nanos), result, &settings);
                let _ = health.settled(&settings);
            }
            health.retune(&settings);
            health.forget(Time::NEVER, &settings);
            prop_assert!(health.history().len() <= 64);
        }
    }
}
