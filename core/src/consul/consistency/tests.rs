//! The checks of the standard as it states them, and both machines against small models.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::ask::{Answer, Ask, Asked, Mark, Trouble};
use super::super::event::Event;
use super::*;
use crate::job::Poll;
use crate::outcome::Fault;

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn mark(modified: u64) -> Mark {
    Mark { modified, value: 0 }
}

fn on() -> Settings {
    Settings::of(&ConsistencyConfig::standard(), "c").unwrap()
}

#[test]
fn case_003_55_the_cluster_is_whole_with_three_living_members() {
    assert!(judge(Ok(alive([1, 1, 1])), 3).whole);
    assert!(judge(Ok(alive([1, 1, 1, 4, 3, 2])), 3).whole);
    // Two alive; the dead, the leaving and those with a nonsensical status do not count.
    for statuses in [&[1, 1][..], &[1, 1, 2], &[1, 1, 3, 4, 4], &[1, 0, 1, u64::MAX], &[]] {
        assert!(!judge(Ok(alive(statuses.iter().copied())), 3).whole, "{statuses:?}");
    }
    assert!(judge(Ok(2), 2).whole && !judge(Ok(0), 1).whole);
}

/// Any error is `false` and an event, not an exception.
#[test]
fn case_003_56_any_error_is_not_whole_and_says_so() {
    let (settings, mut rng) = (on(), Pcg32::new(1, 1));
    let troubles = [
        Trouble::Fault(Fault::Connect),
        Trouble::Status(500),
        Trouble::Forbidden,
        Trouble::Malformed,
    ];
    for trouble in troubles {
        let mut cluster = Cluster::new();
        let Poll::Run(asked) = cluster.poll(at(0), &settings, &mut rng) else { panic!() };
        assert_eq!(asked.ask, Ask::Members);
        let answer = Answer::Failed(trouble);
        let verdict = cluster.done(at(1), asked.id, &answer, &settings, &mut rng).unwrap();
        assert_eq!((verdict.whole, verdict.error), (false, Some(trouble)));
        let events = cluster.events().take();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].1.name(), "cluster_health_check_failed");
    }
    // An answer to something else is none either.
    let mut cluster = Cluster::new();
    let Poll::Run(asked) = cluster.poll(at(0), &settings, &mut rng) else { panic!() };
    let verdict = cluster.done(at(1), asked.id, &Answer::Done, &settings, &mut rng).unwrap();
    assert_eq!((verdict.whole, verdict.error), (false, Some(Trouble::Malformed)));
}

#[test]
fn case_003_57_the_check_holds_until_it_has_seen_enough_members() {
    let (settings, mut rng) = (on(), Pcg32::new(1, 1));
    let mut cluster = Cluster::new();
    assert!(cluster.holds(&settings));
    let mut now = at(0);
    let mut held = vec![];
    let members = |alive| Answer::Members { alive, all: 5 };
    let answers =
        [members(3), members(2), members(2), Answer::Failed(Trouble::LOST), members(4), members(4)];
    for answer in answers {
        let Poll::Run(asked) = cluster.poll(now, &settings, &mut rng) else { panic!() };
        let _ = cluster.done(now, asked.id, &answer, &settings, &mut rng);
        held.push(cluster.holds(&settings));
        let Poll::Wait(until) = cluster.poll(now, &settings, &mut rng) else { panic!() };
        let wait = now.until(until);
        assert!(wait <= Duration::from_secs(30) && wait >= Duration::from_secs(27));
        now = until;
    }
    assert_eq!(held, [false, true, true, true, false, false]);
    // Each reason is said once.
    let events: Vec<_> = cluster.events().take().into_iter().map(|(_, event)| event).collect();
    assert!(
        matches!(
            events[..],
            [
                Event::ClusterHealthCheckFailed { alive: 2, minimum: 3, error: None },
                Event::ClusterHealthCheckFailed { alive: 0, error: Some(_), .. },
                Event::ClusterHealthy { alive: 4, .. },
            ]
        ),
        "{events:?}"
    );
    // Off, it never holds and never asks.
    let off = Settings::default();
    assert!(!Cluster::new().holds(&off));
    assert!(matches!(Cluster::new().poll(now, &off, &mut rng), Poll::Wait(Time::NEVER)));
}

#[test]
fn a_count_is_a_lease() {
    let (settings, mut rng) = (on(), Pcg32::new(1, 1));
    let mut cluster = Cluster::new();
    let Poll::Run(lost) = cluster.poll(at(0), &settings, &mut rng) else { panic!() };
    let Poll::Wait(ends) = cluster.poll(at(0), &settings, &mut rng) else { panic!() };
    assert!(ends > lost.deadline);
    let Poll::Wait(again) = cluster.poll(ends, &settings, &mut rng) else { panic!() };
    assert_eq!(cluster.verdict().unwrap().0.error, Some(Trouble::LOST));
    let Poll::Run(asked) = cluster.poll(again, &settings, &mut rng) else { panic!() };
    let late = Answer::Members { alive: 9, all: 9 };
    assert_eq!(cluster.done(again, lost.id, &late, &settings, &mut rng), None);
    let dropped = Answer::Failed(Trouble::Dropped);
    assert_eq!(cluster.done(again, asked.id, &dropped, &settings, &mut rng), None);
    assert!(matches!(cluster.poll(again, &settings, &mut rng), Poll::Run(_)));
}

#[test]
fn cases_003_58_to_63_the_index_is_compared_as_the_standard_says() {
    let settings = Settings::default();
    let (mut indexes, now) = (Indexes::default(), at(0));
    let mut compare = |read| {
        let agreement = indexes.compare(now, "api", read, &settings);
        (agreement.consistent(), agreement.cached())
    };
    let (drop, keep) = (Cached::DropAllVariants, Cached::Keep);
    // 003-61: first.
    assert_eq!(compare(Ok(Some(mark(7)))), (false, drop));
    // 003-59: equal.
    assert_eq!(compare(Ok(Some(mark(7)))), (true, keep));
    // 003-58: other, then remembered.
    assert_eq!(compare(Ok(Some(mark(9)))), (false, drop));
    assert_eq!(compare(Ok(Some(mark(9)))), (true, keep));
    // 003-60: an error is not consistent, drops nothing and changes no memory.
    assert_eq!(compare(Err(Trouble::Status(500))), (false, keep));
    assert_eq!(compare(Ok(Some(mark(9)))), (true, keep));
    // 003-62: no key is a value like another; the value counts beside the index.
    assert_eq!(compare(Ok(None)), (false, drop));
    assert_eq!(compare(Ok(None)), (true, keep));
    assert_eq!(compare(Ok(Some(mark(9)))), (false, drop));
    assert_eq!(compare(Ok(Some(Mark { modified: 9, value: 1 }))), (false, drop));
    // Backwards is other, too.
    assert_eq!(compare(Ok(Some(mark(3)))), (false, drop));
}

#[test]
fn settings_refuse_what_cannot_work_by_name() {
    type Spoil = fn(&mut ConsistencyConfig);
    let cases: [(&str, Spoil); 9] = [
        ("minimum", |c| c.minimum = 0),
        ("minimum", |c| c.minimum = u32::MAX),
        ("interval", |c| c.interval = Duration::ZERO),
        ("index_interval", |c| c.index_interval = Duration::MAX),
        ("most", |c| c.most = 0),
        ("concurrent", |c| c.concurrent = u32::MAX),
        ("timeout", |c| c.timeout = Duration::ZERO),
        ("jitter", |c| c.jitter = f64::NAN),
        ("jitter", |c| c.jitter = 1.0),
    ];
    for (field, spoil) in cases {
        let mut config = ConsistencyConfig::standard();
        spoil(&mut config);
        assert_eq!(Settings::of(&config, "c").unwrap_err().field, format!("c.{field}"));
        survive(&Settings::compile(&config), 3);
    }
    let checked = Settings::of(&ConsistencyConfig::default(), "c").unwrap();
    assert_eq!(checked, Settings::default());
}

/// Both machines with a clock that jumps and answers that make no sense.
fn survive(settings: &Settings, seed: u64) {
    let mut rng = Pcg32::new(seed, 1);
    let (mut cluster, mut indexes) = (Cluster::new(), Indexes::default());
    for _ in 0..200 {
        let now = match rng.below(4) {
            0 => Time::NEVER,
            1 => Time::ZERO,
            _ => at(u64::from(rng.below(100_000))),
        };
        indexes.used(now, ["a", "b", "c"][rng.below(3) as usize], settings);
        let answer = match rng.below(5) {
            0 => Answer::Index(None),
            1 => Answer::Index(Some(mark(rng.up_to(u64::MAX)))),
            2 => Answer::Members { alive: rng.bits(), all: 0 },
            3 => Answer::Failed(Trouble::Dropped),
            _ => Answer::Failed(Trouble::Unknown),
        };
        match cluster.poll(now, settings, &mut rng) {
            Poll::Run(asked) => {
                let _ = cluster.done(now, asked.id, &answer, settings, &mut rng);
            }
            Poll::Wait(until) => assert!(until > now || until == Time::NEVER),
        }
        match indexes.poll(now, settings, &mut rng) {
            Poll::Run(asked) => {
                let _ = indexes.done(now, asked.id, &answer, settings, &mut rng);
            }
            Poll::Wait(until) => assert!(until > now || until == Time::NEVER),
        }
    }
}

/// One thing that is done to [`Indexes`].
#[derive(Clone, Debug)]
enum Step {
    Used(usize),
    Forget(usize),
    Poll,
    Done(usize, Option<Option<u64>>),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::option::of(proptest::option::of(0_u64..3));
    prop_oneof![
        (0_usize..5).prop_map(Step::Used),
        (0_usize..5).prop_map(Step::Forget),
        Just(Step::Poll),
        Just(Step::Poll),
        (0_usize..4, value).prop_map(|(n, value)| Step::Done(n, value)),
        (0_u64..20_000).prop_map(Step::Later),
    ]
}

proptest! {
    /// The memory against a plain map; bounded in services and in comparisons under way, never
    /// two of one service, and never more than one per interval.
    #[test]
    fn indexes_agree_with_a_plain_map(steps in proptest::collection::vec(step(), 0..120), most in 1_u32..5) {
        const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
        let config = ConsistencyConfig { most, concurrent: 2, ..ConsistencyConfig::standard() };
        let (settings, mut rng) = (Settings::of(&config, "c").unwrap(), Pcg32::new(1, 1));
        let mut indexes = Indexes::default();
        // What is remembered, from the one not used for longest.
        let mut model: Vec<(&str, Option<Option<u64>>)> = vec![];
        let mut out: Vec<(Asked, bool)> = vec![];
        let mut asked_at: BTreeMap<String, Time> = BTreeMap::new();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Later(millis) => now = now.plus(Duration::from_millis(millis)),
                Step::Used(n) => {
                    indexes.used(now, NAMES[n], &settings);
                    let slot = model.iter().position(|(name, _)| *name == NAMES[n]);
                    let slot = slot.map(|at| model.remove(at));
                    let fresh = slot.is_none();
                    if fresh && model.len() == most as usize {
                        let (gone, _) = model.remove(0);
                        asked_at.remove(gone);
                        out.iter_mut().for_each(|(asked, live)| *live &= asked.ask != Ask::Index(gone.into()));
                    }
                    model.push(slot.unwrap_or((NAMES[n], None)));
                }
                Step::Forget(n) => {
                    indexes.forget(NAMES[n]);
                    model.retain(|(name, _)| *name != NAMES[n]);
                    asked_at.remove(NAMES[n]);
                    out.iter_mut().for_each(|(asked, live)| *live &= asked.ask != Ask::Index(NAMES[n].into()));
                }
                Step::Poll => {
                    // The model drops leases where the machine does.
                    let ended = |asked: &Asked| now >= asked.deadline.plus(super::super::ask::LATE);
                    out.retain(|(asked, _)| !ended(asked));
                    if let Poll::Run(asked) = indexes.poll(now, &settings, &mut rng) {
                        let Ask::Index(service) = &asked.ask else { panic!() };
                        if let Some(before) = asked_at.insert(service.to_string(), now) {
                            prop_assert!(before.until(now) >= Duration::from_secs(27));
                        }
                        out.push((*asked, true));
                    }
                    prop_assert!(out.len() <= 2);
                    let live: Vec<_> = out.iter().filter(|(_, live)| *live).map(|(a, _)| format!("{:?}", a.ask)).collect();
                    prop_assert_eq!(live.iter().collect::<BTreeSet<_>>().len(), live.len());
                }
                Step::Done(n, value) => {
                    if n >= out.len() { continue }
                    let (asked, live) = out.remove(n);
                    let answer = match value {
                        Some(value) => Answer::Index(value.map(mark)),
                        None => Answer::Failed(Trouble::Status(500)),
                    };
                    let got = indexes.done(now, asked.id, &answer, &settings, &mut rng);
                    let Ask::Index(service) = asked.ask else { panic!() };
                    let slot = model.iter_mut().find(|(name, _)| **name == *service).filter(|_| live);
                    let Some((_, known)) = slot else {
                        prop_assert_eq!(got, None);
                        continue;
                    };
                    let got = got.unwrap();
                    let (same, drop) = match value {
                        None => (false, false),
                        Some(value) => (*known == Some(value), *known != Some(value)),
                    };
                    if let Some(value) = value { *known = Some(value) }
                    prop_assert_eq!(got.consistent(), same);
                    prop_assert_eq!(got.cached() == Cached::DropAllVariants, drop);
                }
            }
            prop_assert_eq!(indexes.len(), model.len());
        }
    }

    #[test]
    fn anything_is_survived(seed: u64) {
        survive(&on(), seed);
    }
}
