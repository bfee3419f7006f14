//! The rules of a watch one by one. All of them together, against a server: `model.rs`.

use proptest::prelude::*;

use super::*;
use crate::config::{WatchBackoff, WatchConfig};
use crate::outcome::Fault;

pub(super) fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn run(poll: Poll<Query>) -> Query {
    match poll {
        Poll::Run(query) => *query,
        Poll::Wait(until) => panic!("wait until {until:?}"),
    }
}

fn wait(poll: Poll<Query>) -> Time {
    match poll {
        Poll::Wait(until) => until,
        Poll::Run(query) => panic!("{query:?}"),
    }
}

/// A watch, its settings and its dice.
pub(super) struct Rig {
    pub(super) watch: Watch,
    pub(super) settings: Settings,
    pub(super) rng: Pcg32,
}

impl Rig {
    pub(super) fn new(config: &WatchConfig) -> Rig {
        let settings = Settings::of(config, "watch").unwrap();
        Rig { watch: Watch::new(&settings), settings, rng: Pcg32::new(7, 7) }
    }
    pub(super) fn next(&mut self, now: Time) -> Poll<Query> {
        self.watch.next(now, &self.settings, &mut self.rng)
    }
    pub(super) fn answered(
        &mut self,
        now: Time,
        query: Query,
        index: Option<u64>,
        content: u64,
    ) -> Change {
        self.watch.answered(now, query.id, index, content, &self.settings)
    }
    pub(super) fn failed(&mut self, now: Time, query: Query, trouble: Trouble) -> Change {
        self.watch.failed(now, query.id, trouble, &self.settings, &mut self.rng)
    }
    pub(super) fn timed_out(&mut self, now: Time, query: Query) -> Change {
        self.watch.timed_out(now, query.id, &self.settings, &mut self.rng)
    }
}

/// Rule 1 and servers.md: a server that has lost its index holds the query and then answers with
/// a lower one. Its content is set aside, and the next query reads everything.
#[test]
fn case_003_28_an_index_that_goes_backwards_resets_the_cursor() {
    let mut rig = Rig::new(&WatchConfig::default());
    let first = run(rig.next(at(0)));
    assert_eq!((first.index, first.wait), (None, Duration::ZERO));
    assert_eq!(rig.answered(at(5), first, Some(100), 1), Change::Changed);
    let second = run(rig.next(at(5)));
    assert_eq!((second.index, second.wait), (Some(100), s(300)));
    let reset = Change::Reset { from: 100, to: 9 };
    assert_eq!(rig.answered(at(300_000), second, Some(9), 2), reset);
    let third = run(rig.next(at(300_000)));
    assert_eq!(third.index, None);
    assert_eq!(rig.answered(at(300_001), third, Some(9), 2), Change::Changed);
    let query = run(rig.next(at(300_001)));
    assert_eq!(query.index, Some(9));
    // By one is backwards, too.
    let reset = Change::Reset { from: 9, to: 8 };
    assert_eq!(rig.answered(at(300_002), query, Some(8), 2), reset);
}

/// Rule 3: `index` must be at least 1 before a query blocks; none leaves no cursor.
#[test]
fn index_zero_counts_as_one_and_a_missing_one_as_none() {
    let mut rig = Rig::new(&WatchConfig::default());
    let query = run(rig.next(at(0)));
    assert_eq!(rig.answered(at(0), query, Some(0), 1), Change::Changed);
    let query = run(rig.next(at(0)));
    assert_eq!(query.index, Some(1));
    // Zero again is not backwards.
    assert_eq!(rig.answered(at(0), query, Some(0), 1), Change::Same);
    let query = run(rig.next(at(0)));
    assert_eq!(rig.answered(at(1), query, None, 1), Change::Same);
    // No index: the server is polled.
    assert_eq!(wait(rig.next(at(1))), at(10_001));
    assert_eq!(run(rig.next(at(10_001))).index, None);
}

/// Anchor b.19 (Consul `api/watch`): min(5 s × n², 180 s) is 5, 20, 45, 80, 125, 180.
#[test]
fn case_004_53_waits_after_failures_are_those_of_consul_and_end_with_success() {
    let mut rig = Rig::new(&WatchConfig { jitter: 0.0, ..WatchConfig::default() });
    let mut now = at(0);
    for (n, seconds) in [5, 20, 45, 80, 125, 180, 180, 180].into_iter().enumerate() {
        let query = run(rig.next(now));
        let Change::Failed { failures, next_try, .. } =
            rig.failed(now, query, Trouble::Fault(Fault::Connect))
        else {
            panic!()
        };
        assert_eq!((failures as usize, now.until(next_try)), (n + 1, s(seconds)));
        assert_eq!(wait(rig.next(now)), next_try);
        now = next_try;
    }
    let query = run(rig.next(now));
    assert_eq!(rig.answered(now, query, Some(3), 1), Change::Changed);
    assert_eq!(rig.watch.trouble(), (0, None));
    let query = run(rig.next(now));
    let _ = rig.failed(now, query, Trouble::Status(500));
    assert_eq!(wait(rig.next(now)), now.plus(s(5)));
}

/// 003-26 and its module: exactly 5 s, always, then on with the old index.
#[test]
fn case_003_26_the_standard_waits_five_seconds_and_keeps_the_old_index() {
    let mut rig = Rig::new(&WatchConfig::standard());
    let query = run(rig.next(at(0)));
    let _ = rig.answered(at(0), query, Some(40), 1);
    let mut now = at(0);
    for trouble in [Trouble::Status(500), Trouble::Forbidden, Trouble::Malformed] {
        let query = run(rig.next(now));
        assert_eq!(query.index, Some(40));
        let _ = rig.failed(now, query, trouble);
        assert_eq!(wait(rig.next(now)), now.plus(s(5)));
        now = now.plus(s(5));
    }
}

#[test]
fn permission_denied_waits_longer_than_other_failures() {
    let mut rig = Rig::new(&WatchConfig { jitter: 0.0, ..WatchConfig::default() });
    let query = run(rig.next(at(0)));
    let _ = rig.failed(at(0), query, Trouble::Forbidden);
    assert_eq!(wait(rig.next(at(0))), at(60_000));
    let settings = rig.settings;
    assert!((1..99).all(|n| settings.step(n, Trouble::Forbidden) >= s(60)));
}

/// 004-65 and rule 6: no answer until the deadline is no change. The next query finds out whether
/// the server is alive; that one failing is a failure.
#[test]
fn case_004_65_a_long_poll_that_times_out_is_no_change() {
    let mut rig = Rig::new(&WatchConfig::default());
    let query = run(rig.next(at(0)));
    let _ = rig.answered(at(0), query, Some(4), 1);
    let query = run(rig.next(at(0)));
    // Rule 2: longer than 300 s × 17/16.
    assert!(at(0).until(query.deadline) > s(300) * 17 / 16);
    assert_eq!(rig.timed_out(query.deadline, query), Change::Same);
    let now = query.deadline;
    let query = run(rig.next(now));
    assert_eq!((query.index, now.until(query.deadline)), (None, s(10)));
    assert!(matches!(
        rig.timed_out(query.deadline, query),
        Change::Failed { trouble: Trouble::Fault(Fault::Timeout), failures: 1, .. }
    ));
}

/// A server that was restarted holds a query with the old index for the whole wait; so the first
/// query after a failure is one without.
#[test]
fn case_004_64_after_a_failure_everything_is_read_anew_and_compared() {
    let mut rig = Rig::new(&WatchConfig::default());
    let query = run(rig.next(at(0)));
    let _ = rig.answered(at(0), query, Some(900), 1);
    let query = run(rig.next(at(0)));
    let Change::Failed { next_try, .. } = rig.failed(at(1), query, Trouble::Fault(Fault::Reset))
    else {
        panic!()
    };
    let query = run(rig.next(next_try));
    assert_eq!(query.index, None);
    assert_eq!(rig.answered(next_try, query, Some(3), 2), Change::Changed);
}

#[test]
fn answers_to_lost_leases_are_ignored_and_dropped_ones_cost_nothing() {
    let mut rig = Rig::new(&WatchConfig::default());
    let lost = run(rig.next(at(0)));
    let ends = lost.deadline.plus(LATE);
    assert_eq!(wait(rig.next(at(0))), ends);
    // A query that does not block and is lost is a failure.
    let again = wait(rig.next(ends));
    assert_eq!(rig.watch.trouble().0, 1);
    let query = run(rig.next(again));
    assert_eq!(rig.answered(again, lost, Some(5), 1), Change::Ignored);
    assert_eq!(rig.failed(again, lost, Trouble::Malformed), Change::Ignored);
    assert_eq!(rig.timed_out(again, lost), Change::Ignored);
    assert_eq!(rig.watch.out(), Some(query.id));
    assert_eq!(rig.answered(again, query, Some(5), 1), Change::Changed);
    assert_eq!(rig.answered(again, query, Some(6), 2), Change::Ignored);
    let query = run(rig.next(again));
    assert_eq!(rig.failed(again, query, Trouble::Dropped), Change::Same);
    assert_eq!((rig.watch.trouble(), rig.watch.index()), ((0, None), Some(5)));
    assert_eq!(run(rig.next(again)).index, Some(5));
}

/// A proxy or a broken server that answers at once with the index that was asked with.
#[test]
fn a_server_that_does_not_hold_queries_back_is_polled() {
    let mut rig = Rig::new(&WatchConfig::default());
    let (mut now, mut queries) = (at(0), 0);
    while now < at(1_000_000) {
        match rig.next(now) {
            Poll::Run(query) => {
                queries += 1;
                let _ = rig.answered(now, *query, Some(7), 1);
            }
            Poll::Wait(until) => now = until,
        }
    }
    // One per 10 s, and the few by which it is found out.
    assert!((100..=105).contains(&queries), "{queries}");
    // Once it blocks again, so does the watch.
    let query = run(rig.next(now));
    let _ = rig.answered(now, query, Some(8), 2);
    let query = run(rig.next(now));
    assert_eq!(query.index, Some(8));
}

#[test]
fn refresh_and_forget_read_and_deliver_anew() {
    let mut rig = Rig::new(&WatchConfig::default());
    let query = run(rig.next(at(0)));
    let _ = rig.answered(at(0), query, Some(7), 1);
    let held = run(rig.next(at(0)));
    rig.watch.refresh(at(5));
    let query = run(rig.next(at(5)));
    assert_eq!(query.index, None);
    assert_eq!(rig.answered(at(6), held, Some(9), 9), Change::Ignored);
    rig.watch.forget();
    assert_eq!(rig.answered(at(6), query, Some(7), 1), Change::Changed);
    // It does not shorten the wait after a failure.
    let query = run(rig.next(at(600)));
    let Change::Failed { next_try, .. } = rig.failed(at(600), query, Trouble::Malformed) else {
        panic!()
    };
    rig.watch.refresh(at(601));
    assert_eq!(wait(rig.next(at(601))), next_try);
}

#[test]
fn settings_refuse_what_cannot_work_by_name() {
    type Spoil = fn(&mut WatchConfig);
    let cases: [(&str, Spoil); 16] = [
        ("wait", |c| c.wait = Duration::ZERO),
        ("wait", |c| c.wait = s(601)),
        ("timeout", |c| c.timeout = Duration::ZERO),
        ("timeout", |c| c.timeout = Duration::MAX),
        ("poll", |c| c.poll = Duration::ZERO),
        ("burst", |c| c.burst = 0),
        ("burst", |c| c.burst = u32::MAX),
        ("every", |c| c.every = Duration::ZERO),
        ("every", |c| c.every = Duration::MAX),
        ("backoff", |c| c.backoff = Duration::ZERO),
        ("backoff", |c| c.backoff = s(200)),
        ("backoff_max", |c| c.backoff_max = Duration::MAX),
        ("forbidden", |c| c.forbidden = Duration::ZERO),
        ("backoff", |c| c.forbidden = s(4)),
        ("jitter", |c| c.jitter = f64::NAN),
        ("jitter", |c| c.jitter = 1.5),
    ];
    for (field, spoil) in cases {
        let mut config = WatchConfig::default();
        spoil(&mut config);
        let refused = Settings::of(&config, "watch").unwrap_err();
        assert_eq!(refused.field, format!("watch.{field}"));
        // Unchecked it is still harmless.
        let settings = Settings::compile(&config);
        let (mut watch, mut rng) = (Watch::new(&settings), Pcg32::new(1, 1));
        for now in [at(5), Time::NEVER, at(0), at(5), Time::NEVER] {
            if let Poll::Run(query) = watch.next(now, &settings, &mut rng) {
                let _ = watch.failed(now, query.id, Trouble::Forbidden, &settings, &mut rng);
            }
        }
    }
    for config in [WatchConfig::standard(), WatchConfig::module(s(30))] {
        assert!(Settings::of(&config, "watch").is_ok());
    }
    let checked = Settings::of(&WatchConfig::default(), "watch").unwrap();
    assert_eq!(checked, Settings::default());
}

#[test]
fn without_blocking_it_is_a_plain_poll() {
    let mut rig = Rig::new(&WatchConfig { blocking: false, ..WatchConfig::default() });
    for n in 0..20 {
        let query = run(rig.next(at(n * 10_000)));
        assert_eq!((query.index, query.wait), (None, Duration::ZERO));
        let _ = rig.answered(at(n * 10_000), query, Some(9), n);
        assert_eq!(wait(rig.next(at(n * 10_000))), at((n + 1) * 10_000));
    }
}

proptest! {
    /// Jitter shortens, never lengthens, and never beyond its share.
    #[test]
    fn jitter_stays_in_its_share(n in 1_u32.., jitter in 0.0..1.0_f64, seed: u64, now: u64) {
        let config = WatchConfig { jitter, growth: WatchBackoff::Square, ..WatchConfig::default() };
        let settings = Settings::of(&config, "w").unwrap();
        let now = Time::from_nanos(now);
        let step = settings.step(n, Trouble::Malformed);
        prop_assert!(step <= s(180));
        let wait = now.until(settings.retry(now, n, Trouble::Malformed, &mut Pcg32::new(seed, 1)));
        prop_assert!(wait <= step);
        let least = step.mul_f64(1.0 - jitter).saturating_sub(Duration::from_micros(200));
        prop_assert!(wait >= least || now.plus(step) == Time::NEVER);
    }

    /// Whatever the clock, the server and the driver do: no panic, and no wait into the past.
    #[test]
    fn anything_is_survived(steps in proptest::collection::vec((0_u8..9, any::<u64>(), any::<u64>()), 0..60)) {
        let mut rig = Rig::new(&WatchConfig::default());
        let (mut now, mut last) = (at(0), None);
        for (what, a, b) in steps {
            match what {
                0 => now = Time::from_nanos(a),
                1 => now = now.plus(Duration::from_nanos(a)),
                2..=4 => if let Poll::Run(query) = rig.next(now) { last = Some(*query) },
                _ => if let Some(query) = last {
                    let _ = match what {
                        5 => rig.answered(now, query, Some(a), b % 3),
                        6 => rig.answered(now, query, None, b % 3),
                        7 => rig.timed_out(now, query),
                        _ => rig.failed(now, query, Trouble::Status(429)),
                    };
                }
            }
            if let Poll::Wait(until) = rig.next(now) {
                prop_assert!(until > now);
            }
        }
    }
}
