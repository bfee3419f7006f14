//! The watch against a small model of a Consul server: every short history, and long random ones.

use std::time::Duration;

use proptest::prelude::*;

use super::super::ask::Trouble;
use super::tests::{Rig, at, s};
use super::{Change, Query};
use crate::config::WatchConfig;
use crate::job::Poll;
use crate::time::Time;

/// What happens to the world between two looks of the model.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// The content changes.
    Change,
    /// Something else changes: the index moves, the content does not.
    Elsewhere,
    /// The server loses its index and its content changes.
    Restart,
    /// The server restarts and answers what is out with an error.
    Fail,
    /// The connection hangs until the deadline.
    Hang,
    /// The wait of the query passes without anything.
    Pass,
    /// The server answers at once although nothing changed.
    Spurious,
}

const ALL: [Happens; 7] = [
    Happens::Change,
    Happens::Elsewhere,
    Happens::Restart,
    Happens::Fail,
    Happens::Hang,
    Happens::Pass,
    Happens::Spurious,
];

/// A Consul server with one key, and a watch of it. The server answers a query without index at
/// once; one with an index when its own is higher, and after the wait in any case (rules 1 to 3,
/// and the fact of servers.md that a query with an index beyond its own is held for the wait).
struct World {
    rig: Rig,
    now: Time,
    index: u64,
    content: u64,
    out: Option<(Query, Time)>,
    delivered: Option<u64>,
    asked: Vec<Time>,
    deliveries: u64,
    changes: u64,
}

impl World {
    fn new(config: &WatchConfig) -> World {
        let rig = Rig::new(config);
        World {
            rig,
            now: at(1_000),
            index: 50,
            content: 1,
            out: None,
            delivered: None,
            asked: vec![],
            deliveries: 0,
            changes: 1,
        }
    }

    /// Lets the watch ask if it wants to, now.
    fn ask(&mut self) -> Option<Time> {
        if self.out.is_some() {
            return None;
        }
        match self.rig.next(self.now) {
            Poll::Run(query) => {
                assert_ne!(query.index, Some(0));
                assert!(self.now.until(query.deadline) > query.wait * 17 / 16);
                self.out = Some((*query, self.now));
                self.asked.push(self.now);
                None
            }
            Poll::Wait(until) => {
                assert!(until > self.now);
                Some(until)
            }
        }
    }

    fn answer(&mut self) {
        let Some((query, _)) = self.out.take() else { return };
        match self.rig.answered(self.now, query, Some(self.index), self.content) {
            Change::Changed => {
                // A new state, or the first one.
                assert_ne!(self.delivered, Some(self.content));
                self.delivered = Some(self.content);
                self.deliveries += 1;
            }
            Change::Same => assert_eq!(self.delivered, Some(self.content)),
            Change::Reset { from, to } => {
                assert_eq!(Some(from), query.index);
                assert!(to < from && to == self.index);
            }
            other => panic!("{other:?}"),
        }
    }

    /// When the server answers by itself.
    fn due(&self) -> Option<Time> {
        let (query, asked) = self.out?;
        match query.index {
            Some(index) if index >= self.index => Some(asked.plus(query.wait + query.wait / 16)),
            _ => Some(self.now),
        }
    }

    /// One look: the watch asks and the server answers what is due.
    fn step(&mut self) -> Time {
        let waits = self.ask();
        match self.due() {
            Some(due) if due <= self.now => {
                self.answer();
                self.now
            }
            Some(due) => due,
            None => waits.unwrap(),
        }
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Change => {
                (self.index, self.content) = (self.index + 1, self.content + 1);
                self.changes += 1;
            }
            Happens::Elsewhere => self.index += 1,
            Happens::Restart => {
                (self.index, self.content) = (self.index / 2 + 1, self.content + 1);
                self.changes += 1;
            }
            Happens::Fail => {
                if let Some((query, _)) = self.out.take() {
                    let _ = self.rig.failed(self.now, query, Trouble::Status(500));
                }
            }
            Happens::Hang => {
                if let Some((query, _)) = self.out.take() {
                    self.now = self.now.max(query.deadline);
                    let _ = self.rig.timed_out(self.now, query);
                }
            }
            Happens::Pass => self.now = self.now.max(self.step()),
            Happens::Spurious => self.answer(),
        }
    }

    /// Nothing happens any more: how long until the watch has told the last state.
    fn settle(&mut self) -> Duration {
        let began = self.now;
        for _ in 0..40 {
            if self.delivered == Some(self.content) {
                return began.until(self.now);
            }
            self.now = self.now.max(self.step());
        }
        panic!("never told {}: {:?}", self.content, self.rig.watch);
    }

    /// Any window of length `d` holds at most `burst + d / every` queries.
    fn check_rate(&self, config: &WatchConfig) {
        for (first, from) in self.asked.iter().enumerate() {
            for (last, to) in self.asked.iter().enumerate().skip(first) {
                let allowed =
                    u128::from(config.burst) + from.until(*to).as_nanos() / config.every.as_nanos();
                assert!(((last - first + 1) as u128) <= allowed, "{:?}", self.asked);
            }
        }
    }
}

/// Every history of six happenings: the last state is always told, in bounded time, each state at
/// most once, and the loop is never faster than the bucket.
#[test]
fn case_004_52_004_64_no_short_history_loses_a_change() {
    for config in [WatchConfig::default(), WatchConfig::standard()] {
        // With `resume`, a server that lost its index is believed dead for one wait, and the
        // seed wants it so; without, nothing but the backoff and `timeout` passes.
        let most = if config.resume { s(2 * 330) } else { s(320 + 125) };
        for code in 0..7_u32.pow(6) {
            let mut world = World::new(&config);
            let mut rest = code;
            for _ in 0..6 {
                let _ = world.ask();
                world.happens(ALL[rest as usize % 7]);
                rest /= 7;
            }
            let took = world.settle();
            assert!(took <= most, "{code}: {took:?}");
            assert!(world.deliveries <= world.changes);
            world.check_rate(&config);
        }
    }
}

/// The step after the failure of a healthy, connected watch: a change comes within the backoff.
#[test]
fn case_004_50_a_change_comes_within_one_poll() {
    let mut world = World::new(&WatchConfig::default());
    assert_eq!(world.settle(), Duration::ZERO);
    for _ in 0..50 {
        let _ = world.ask();
        world.happens(Happens::Change);
        world.now = world.now.max(world.step());
        assert!(world.settle() <= Duration::from_millis(500));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Long random histories with other settings.
    #[test]
    fn no_long_history_loses_a_change(
        happenings in proptest::collection::vec(0_usize..7, 0..80),
        pauses in proptest::collection::vec(0_u64..400_000, 80),
        burst in 1_u32..6,
        every in 10_u64..2_000,
        blocking: bool,
        resume: bool,
    ) {
        let config = WatchConfig {
            burst,
            every: Duration::from_millis(every),
            blocking,
            resume,
            ..WatchConfig::default()
        };
        let mut world = World::new(&config);
        for (what, pause) in happenings.iter().zip(pauses) {
            let _ = world.ask();
            world.happens(ALL[*what]);
            if pause % 3 == 0 {
                world.now = world.now.plus(Duration::from_millis(pause / 100));
            }
        }
        world.settle();
        prop_assert!(world.deliveries <= world.changes);
        world.check_rate(&config);
    }
}
