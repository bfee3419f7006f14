//! The second level as a machine, against a Redis of a few commands and one that fails.

use std::sync::Arc;

use ::http::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;

use super::super::answer::Record;
use super::super::second::{Ask, Chore, Miss, PurgeId, Purged, SecondLevel};
use super::shared::{NOW, Redis, record};
use super::*;
use crate::job::JobOutcome;
use crate::outcome::Fault;
use crate::redis::Reply;
use crate::rng::Pcg32;
use crate::time::Wall;

const TIMEOUT: JobOutcome = JobOutcome::Failed(Fault::Timeout);

struct Bench {
    level: SecondLevel,
    rng: Pcg32,
    redis: Redis,
    settings: Arc<Settings>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            level: SecondLevel::new(crate::redis::Settings::default().link),
            rng: Pcg32::new(1, 0),
            redis: Redis::default(),
            settings: Arc::new(settings(|c| c.shared.enabled = true)),
        }
    }

    fn ask(&mut self, now: Time, name: &str) -> Result<Ask, Miss> {
        self.level.ask(now, &Key::text(name), Time::NEVER, &self.settings)
    }

    fn answered(&mut self, now: Time, ask: Ask, outcome: JobOutcome) -> Result<Record, Miss> {
        self.level.answered(now, NOW, ask, outcome, &self.settings, &mut self.rng)
    }

    fn look(&mut self, now: Time, name: &str) -> Result<Record, Miss> {
        let ask = self.ask(now, name)?;
        let replies = self.redis.run(&ask.commands);
        self.answered(now, ask, JobOutcome::Replies(replies))
    }

    fn keep(&mut self, name: &str, asked: u64) {
        let record = record(name, &format!("s/{name}"), &["t"]);
        self.level.keep(record, asked, &self.settings);
    }

    fn invalidate(&mut self, target: Target<Key>) -> PurgeId {
        self.level.invalidate(target, &self.settings)
    }

    fn done(&mut self, now: Time, chore: Chore, outcome: JobOutcome) {
        self.level.done(now, chore, outcome, &mut self.rng);
    }

    /// Carries everything out; returns how many exchanges that took.
    fn carry(&mut self, now: Time) -> usize {
        let mut count = 0;
        if !self.level.hire(now) {
            return 0;
        }
        while let Some(chore) = self.level.next(now, NOW) {
            let replies = self.redis.run(&chore.commands);
            self.done(now, chore, JobOutcome::Replies(replies));
            count += 1;
            assert!(count < 5_000, "no end");
        }
        count
    }

    fn said(&self) -> Vec<String> {
        self.level.notices().since(0).map(ToString::to_string).collect()
    }
}

fn invalid(found: Result<Record, Miss>) {
    assert_eq!(found, Err(Miss::Invalidated));
}

#[test]
fn case_001_121_what_is_kept_is_found_by_who_asks_next() {
    let mut bench = Bench::new();
    assert_eq!(bench.look(at(1), "a"), Err(Miss::Absent));
    let asked = bench.level.order();
    bench.keep("a", asked);
    assert!(bench.redis.texts.is_empty(), "nobody has carried it out");
    assert_eq!(bench.carry(at(1)), 1);
    assert!(!bench.level.hire(at(1)));
    let found = bench.look(at(2), "a").unwrap();
    assert_eq!(&found.answer.body[..], b"a");
    let counts = bench.level.counts();
    assert_eq!((counts.hits, counts.misses, counts.stored), (1, 1, 1));
    // Off it keeps nothing.
    bench.settings = Arc::new(Settings::default());
    bench.keep("b", 0);
    assert_eq!(bench.carry(at(3)), 0);
}

#[test]
fn what_a_record_is_worth_to_a_request() {
    let wants = |change: fn(&mut Wants)| {
        let mut wants = Wants::ANY;
        change(&mut wants);
        wants
    };
    let record = record("a", "s/a", &[]);
    let later = Wall(NOW.0 + 5);
    let (fill, label) = record.fresh(later, &Wants::ANY).unwrap();
    let Fill::Found(put) = fill else { panic!() };
    assert_eq!((put.ttl, label.age, label.level), (Some(secs(294)), secs(5), Level::Shared));
    assert_eq!((label.reason, label.stale), (Reason::Fresh, Duration::ZERO));
    assert!(record.fresh(later, &wants(|w| w.max_age = Some(secs(4)))).is_none());
    assert!(record.fresh(later, &wants(|w| w.max_age = Some(secs(5)))).is_some());
    assert!(record.fresh(later, &wants(|w| w.min_fresh = secs(295))).is_none());
    assert!(record.fresh(Wall(NOW.0 + 300), &Wants::ANY).is_none());
    let negative = Record { negative: true, ..record };
    let (fill, label) = negative.fresh(later, &Wants::ANY).unwrap();
    assert!(label.negative && matches!(fill, Fill::Absent(_)));
}

/// A dead one costs one call its time, and is said once.
#[test]
fn a_redis_that_fails_is_left_alone() {
    let mut bench = Bench::new();
    let ask = bench.ask(at(1), "a").unwrap();
    assert_eq!(ask.deadline(), at(1).plus(Duration::from_millis(250)));
    assert!(matches!(bench.answered(at(1), ask, TIMEOUT), Err(Miss::Failed(_))));
    for _ in 0..100 {
        assert!(matches!(bench.ask(at(1), "a"), Err(Miss::Skipped(_))));
    }
    // Writes are given up meanwhile, and do not pile up.
    bench.keep("a", 0);
    assert_eq!(bench.carry(at(1)), 0);
    assert!(!bench.level.hire(at(1)));
    assert_eq!(bench.said().len(), 1);
    assert_eq!(bench.look(at(60), "a"), Err(Miss::Absent));
    assert_eq!(bench.said().len(), 2, "{:?}", bench.said());
    assert!(bench.ask(at(60), "a").is_ok());
}

/// It never takes more than half of what a call has left.
#[test]
fn a_call_with_little_time_does_not_ask() {
    let mut bench = Bench::new();
    let key = Key::text("a");
    let ask = |bench: &mut Bench, millis| {
        let until = at(1).plus(Duration::from_millis(millis));
        bench.level.ask(at(1), &key, until, &bench.settings)
    };
    for millis in [0, 1, 9] {
        assert_eq!(ask(&mut bench, millis), Err(Miss::NoTime));
    }
    let deadline = ask(&mut bench, 100).unwrap().deadline();
    assert_eq!(deadline, at(1).plus(Duration::from_millis(50)));
}

#[test]
fn what_is_not_believed_is_a_miss_and_said_once_a_minute() {
    let mut bench = Bench::new();
    let name: Bytes = format!("origin:{}", Key::text("a")).into();
    bench.redis.texts.insert(name, "planted garbage".into());
    for _ in 0..5 {
        assert!(matches!(bench.look(at(1), "a"), Err(Miss::Mistrusted(_))));
    }
    assert_eq!(bench.said().len(), 1);
    assert!(!bench.said()[0].contains("planted"));
    assert!(!bench.level.is_lost());
    // It is overwritten by what the call brings.
    bench.keep("a", 0);
    bench.carry(at(1));
    assert!(bench.look(at(1), "a").is_ok());
}

#[test]
fn case_001_122_invalidation_is_over_both_levels() {
    for target in [
        Target::Key(Key::text("a")),
        Target::Tag("t".into()),
        Target::Path("s/a".into()),
        Target::Prefix("s/".into()),
        Target::All,
    ] {
        let mut bench = Bench::new();
        bench.keep("a", 0);
        bench.carry(at(1));
        let id = bench.invalidate(target.clone());
        // Not believed from now on, though it is there still.
        assert!(!bench.redis.texts.is_empty());
        invalid(bench.look(at(1), "a"));
        assert_eq!(bench.level.purged(at(1), id), None);
        assert!(bench.carry(at(1)) > 0);
        assert_eq!(bench.level.purged(at(1), id), Some(Purged::Removed(1)), "{target:?}");
        assert_eq!(bench.look(at(1), "a"), Err(Miss::Absent));
        // What is fetched after it counts again.
        let asked = bench.level.order();
        bench.keep("a", asked);
        bench.carry(at(1));
        assert!(bench.look(at(1), "a").is_ok());
    }
}

/// While Redis is away nothing of it is believed; when it is back, it is deleted.
#[test]
fn an_invalidation_outlives_an_outage() {
    let mut bench = Bench::new();
    bench.keep("a", 0);
    bench.keep("b", 0);
    bench.carry(at(1));
    let id = bench.invalidate(Target::Path("s/a".into()));
    assert!(bench.level.hire(at(2)));
    let chore = bench.level.next(at(2), NOW).unwrap();
    assert_eq!(bench.level.purged(at(2), id), None, "under way");
    bench.done(at(2), chore, TIMEOUT);
    assert_eq!(bench.level.next(at(2), NOW), None);
    assert_eq!(bench.level.purged(at(2), id), Some(Purged::Later));
    let due = bench.level.due(at(2));
    assert!(at(2) < due && due <= at(4), "{due:?}");
    assert!(!bench.level.hire(at(2)), "not before");
    // A lookup finds Redis back, and still believes nothing of it.
    invalid(bench.look(at(60), "a"));
    assert!(bench.look(at(60), "b").is_ok(), "of others it does");
    assert!(bench.carry(at(60)) > 0);
    assert_eq!(bench.level.purged(at(60), id), Some(Purged::Removed(1)));
    assert_eq!(bench.look(at(60), "a"), Err(Miss::Absent));
    assert_eq!(bench.level.due(at(60)), Time::NEVER);
}

/// What was asked for before an invalidation is neither written after it nor read.
#[test]
fn answers_on_their_way_when_something_is_invalidated() {
    let tag = || Target::Tag("t".into());
    // Fetched before, brought after.
    let mut bench = Bench::new();
    let asked = bench.level.order();
    bench.invalidate(tag());
    bench.keep("a", asked);
    bench.carry(at(1));
    assert!(bench.redis.texts.is_empty());
    // In the queue when it comes.
    let mut bench = Bench::new();
    bench.keep("a", 0);
    bench.invalidate(tag());
    bench.carry(at(1));
    assert!(bench.redis.texts.is_empty());
    // Being written when it comes, and the deletion overtakes it.
    let mut bench = Bench::new();
    bench.keep("a", 0);
    assert!(bench.level.hire(at(1)));
    let write = bench.level.next(at(1), NOW).unwrap();
    bench.invalidate(tag());
    bench.carry(at(1));
    let replies = bench.redis.run(&write.commands);
    assert!(!bench.redis.texts.is_empty());
    bench.done(at(1), write, JobOutcome::Replies(replies));
    bench.carry(at(1));
    assert!(bench.redis.texts.is_empty());
    // Being read when it comes and is through at once.
    let mut bench = Bench::new();
    bench.keep("a", 0);
    bench.carry(at(1));
    let ask = bench.ask(at(1), "a").unwrap();
    let replies = bench.redis.run(&ask.commands);
    bench.invalidate(tag());
    bench.carry(at(1));
    invalid(bench.answered(at(1), ask, JobOutcome::Replies(replies)));
}

/// A server that takes no deletions is asked again later, and not in a loop.
#[test]
fn refused_deletions_wait() {
    let mut bench = Bench::new();
    let id = bench.invalidate(Target::All);
    assert!(bench.level.hire(at(1)));
    let chore = bench.level.next(at(1), NOW).unwrap();
    bench.done(at(1), chore, JobOutcome::Replies(vec![Reply::Refused("READONLY".into())]));
    assert_eq!(bench.level.next(at(1), NOW), None);
    assert_eq!(bench.level.purged(at(1), id), Some(Purged::Later));
    assert_eq!(bench.level.due(at(1)), at(31));
    assert_eq!(bench.said().len(), 1);
    assert!(!bench.level.is_lost(), "reading works");
    assert!(bench.carry(at(31)) > 0);
    assert_eq!(bench.level.purged(at(31), id), Some(Purged::Removed(0)));
}

#[test]
fn queues_are_bounded_and_deletions_are_never_lost() {
    let mut bench = Bench::new();
    for n in 0..2_000 {
        bench.keep(&n.to_string(), 0);
    }
    assert_eq!(bench.level.counts().store_errors, 2_000 - 1_024);
    bench.carry(at(1));
    assert_eq!(bench.redis.texts.len(), 1_024);
    // Heavy ones count by their weight.
    for n in 0..100 {
        let answer = Answer::new(200, &HeaderMap::new(), vec![0; 1 << 20].into());
        let put = Put::new(answer, 1 << 20);
        let key = Key::text(&format!("heavy{n}"));
        let record = Record::of(key, &put, false, NOW, &bench.settings).unwrap();
        bench.level.keep(record, bench.level.order(), &bench.settings);
    }
    assert!(bench.level.counts().store_errors >= 2_000 - 1_024 + 68);
    bench.carry(at(1));
    let ids: Vec<PurgeId> =
        (0..2_000).map(|n| bench.invalidate(Target::Path(format!("s/{n}").into()))).collect();
    assert!(bench.level.counts().purging <= 64);
    assert_eq!(bench.level.purged(at(1), ids[0]), Some(Purged::Later), "one of everything now");
    bench.carry(at(1));
    assert!(bench.redis.texts.is_empty());
    // The same again is one.
    let ids: Vec<PurgeId> = (0..9).map(|_| bench.invalidate(Target::All)).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
}

/// A carrier that is dropped gives its place back, and what it had out is done by another.
#[test]
fn carriers_come_and_go() {
    let mut bench = Bench::new();
    let id = bench.invalidate(Target::All);
    assert!(bench.level.hire(at(1)) && bench.level.hire(at(1)));
    assert!(!bench.level.hire(at(1)), "two are enough");
    assert_eq!(bench.level.due(at(1)), Time::NEVER);
    let chore = bench.level.next(at(1), NOW).unwrap();
    assert_eq!(bench.level.next(at(1), NOW), None, "the second one has nothing to do");
    bench.done(at(1), chore, JobOutcome::Dropped);
    assert_eq!(bench.level.next(at(1), NOW), None, "not at once");
    bench.level.dismiss();
    assert_eq!(bench.level.due(at(1)), at(2));
    assert_eq!(bench.level.purged(at(1), id), Some(Purged::Later));
    bench.carry(at(2));
    assert_eq!(bench.level.purged(at(2), id), Some(Purged::Removed(0)));
}

#[derive(Clone, Debug)]
enum Act {
    Fetch(u8),
    Read(u8),
    Invalidate(u8),
    Carry,
    Step(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0_u8..3).prop_map(Act::Fetch),
        (0_u8..3).prop_map(Act::Read),
        (0_u8..4).prop_map(Act::Invalidate),
        Just(Act::Carry),
        any::<bool>().prop_map(Act::Step),
    ]
}

proptest! {
    /// Whatever is on its way when: nothing is believed that was fetched before an invalidation
    /// that means it. The model is a number per name: how often it was invalidated.
    #[test]
    fn nothing_from_before_an_invalidation_is_believed(
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut bench = Bench::new();
        let mut version = [0_u32; 3];
        let mut out: Vec<(Chore, Vec<Reply>)> = Vec::new();
        for (now, act) in acts.into_iter().enumerate() {
            // An outage is over with the next act.
            let now = at(now as u64 * 60);
            match act {
                Act::Fetch(name) => {
                    let place = usize::from(name);
                    let answer = Answer::new(
                        200,
                        &HeaderMap::new(),
                        version[place].to_string().into(),
                    );
                    let scope = Some(format!("s/{name}").into());
                    let put = Put { scope, ..Put::new(answer, 1) };
                    let key = Key::text(&name.to_string());
                    let record = Record::of(key, &put, false, NOW, &bench.settings).unwrap();
                    bench.level.keep(record, bench.level.order(), &bench.settings);
                }
                Act::Read(name) => {
                    if let Ok(found) = bench.look(now, &name.to_string()) {
                        let expected = version[usize::from(name)].to_string();
                        prop_assert_eq!(&found.answer.body[..], expected.as_bytes());
                    }
                }
                Act::Invalidate(name) => {
                    let target = match name {
                        3 => Target::Prefix("s/".into()),
                        name => Target::Path(format!("s/{name}").into()),
                    };
                    for (place, version) in version.iter_mut().enumerate() {
                        *version += u32::from(name == 3 || place == usize::from(name));
                    }
                    bench.invalidate(target);
                }
                Act::Carry => { bench.carry(now); }
                // One exchange goes out and reaches Redis; or the oldest one's replies come in.
                Act::Step(true) => {
                    if bench.level.hire(now)
                        && let Some(chore) = bench.level.next(now, NOW)
                    {
                        let replies = bench.redis.run(&chore.commands);
                        out.push((chore, replies));
                        bench.level.dismiss();
                    }
                }
                Act::Step(false) => {
                    if !out.is_empty() {
                        let (chore, replies) = out.remove(0);
                        bench.done(now, chore, JobOutcome::Replies(replies));
                    }
                }
            }
        }
    }

    /// Any reply to anything: no panic, no endless loop.
    #[test]
    fn any_outcome_is_survived(
        kinds in proptest::collection::vec(0_u8..7, 1..40),
        times in proptest::collection::vec(any::<u64>(), 40),
    ) {
        let mut bench = Bench::new();
        for (kind, now) in kinds.into_iter().zip(times) {
            let now = Time::from_nanos(now);
            let outcome = || match kind {
                0 => JobOutcome::Replies(vec![Reply::Nil]),
                1 => JobOutcome::Replies(vec![Reply::Refused("WRONGTYPE".into())]),
                2 => JobOutcome::Replies(vec![Reply::Refused("NOAUTH".into()); 6]),
                3 => TIMEOUT,
                4 => JobOutcome::Dropped,
                5 => JobOutcome::Impossible("no".into()),
                _ => JobOutcome::Written,
            };
            if let Ok(ask) = bench.ask(now, "a") {
                let _ = bench.answered(now, ask, outcome());
            }
            bench.keep("a", bench.level.order());
            bench.invalidate(Target::Tag("t".into()));
            bench.keep("a", bench.level.order());
            if bench.level.hire(now) {
                let mut most = 0;
                while let Some(chore) = bench.level.next(now, NOW) {
                    bench.done(now, chore, outcome());
                    most += 1;
                    prop_assert!(most < 100);
                }
            }
            let _ = bench.level.due(now);
        }
    }
}
