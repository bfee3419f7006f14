//! Delivery against a plain log of what was published and what was handed over.

use proptest::prelude::*;

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn run<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Run(deliver) => *deliver,
        Poll::Wait(until) => panic!("wait until {until:?}"),
    }
}

fn wait<T: std::fmt::Debug>(poll: Poll<T>) -> Time {
    match poll {
        Poll::Wait(until) => until,
        Poll::Run(deliver) => panic!("{deliver:?}"),
    }
}

/// 004-55 and 004-76: the first state at once, a burst as one, a lone change after `settle`.
#[test]
fn case_004_76_a_burst_is_one_call_with_the_last_state() {
    let settings = Settings::default();
    let mut delivery = Delivery::default();
    assert!(delivery.publish(at(0), 1, 1, at(0)));
    assert_eq!(run(delivery.poll(at(0), &settings)), Deliver { version: 1, value: 1 });
    let _ = delivery.done(at(2), 1, true, &settings);
    for n in 2..12 {
        delivery.publish(at(1_000 + 10 * n), n, n, at(1_000));
    }
    assert_eq!(wait(delivery.poll(at(1_115), &settings)), at(1_160));
    assert_eq!(run(delivery.poll(at(1_160), &settings)), Deliver { version: 11, value: 11 });
    // 004-63: how long it took is known.
    let took = Propagation { source: ms(110), handler: ms(60), oldest: ms(150) };
    assert_eq!(delivery.behind(at(1_170)), ms(150));
    assert_eq!(
        delivery.done(at(1_170), 11, true, &settings),
        Done::Delivered { version: 11, failures: 0, took }
    );
    assert_eq!((delivery.took(), delivery.behind(at(1_170))), (took, Duration::ZERO));
    let counts = Counts { delivered: 2, skipped: 9, ..Counts::default() };
    assert_eq!(delivery.counts(), counts);
}

/// A service that flaps every 100 ms for 10 s: few calls, none delayed beyond `max_delay`, and
/// the last state in the end.
#[test]
fn flapping_gives_bounded_calls_and_the_last_state() {
    let settings = Settings::default();
    let mut delivery = Delivery::default();
    let (mut calls, mut last) = (0, 0);
    for tick in 0..1_200_u64 {
        let now = at(tick * 10);
        if tick % 10 == 0 && tick <= 1_000 {
            delivery.publish(now, tick + 1, tick + 1, now);
        }
        if let Poll::Run(state) = delivery.poll(now, &settings) {
            calls += 1;
            last = state.value;
            let _ = delivery.done(now, state.version, true, &settings);
            assert!(delivery.took().oldest <= ms(1_000));
        }
    }
    // One per 500 ms, and the first.
    assert!((15..=22).contains(&calls), "{calls}");
    assert_eq!(last, 1_001);
    // Flapping between two states that ends where it began, with the handler knowing that one.
    let mut delivery = Delivery::default();
    delivery.publish(at(0), 1, "up", at(0));
    let first = run(delivery.poll(at(0), &settings));
    let _ = delivery.done(at(0), first.version, true, &settings);
    delivery.publish(at(600), 2, "down", at(600));
    delivery.publish(at(620), 3, "up", at(620));
    assert_eq!(wait(delivery.poll(at(620), &settings)), at(670));
    assert_eq!(wait(delivery.poll(at(670), &settings)), Time::NEVER);
    assert_eq!((delivery.counts().unchanged, delivery.known()), (1, Some((3, &"up"))));
}

/// 004-66: a failing handler neither ends delivery nor loses the state, and is not hammered.
#[test]
fn case_004_66_a_failing_handler_is_called_again_until_it_has_understood() {
    let settings = Settings::default();
    let mut delivery = Delivery::default();
    delivery.publish(at(0), 7, "x", at(0));
    let mut now = at(0);
    let mut steps = vec![];
    for n in 1..=14 {
        let state = run(delivery.poll(now, &settings));
        assert_eq!((state.version, state.value), (7, "x"));
        let done = delivery.done(now, 7, false, &settings);
        let Done::Failed { version: 7, failures, retry_in } = done else { panic!("{done:?}") };
        assert_eq!(failures, n);
        steps.push(retry_in.as_millis());
        // Never sooner than every 500 ms either.
        let next = wait(delivery.poll(now, &settings));
        assert_eq!(now.until(next), retry_in.max(ms(500)));
        now = next;
    }
    let expected = [
        100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000, 60_000,
        60_000,
    ];
    assert_eq!(steps, expected);
    // A newer state takes its place; success ends the waits.
    delivery.publish(now, 8, "y", now);
    assert_eq!(run(delivery.poll(now, &settings)).value, "y");
    let _ = delivery.done(now, 8, true, &settings);
    delivery.publish(now.plus(ms(600)), 9, "z", now);
    assert_eq!(wait(delivery.poll(now.plus(ms(600)), &settings)), now.plus(ms(650)));
    assert_eq!(delivery.failures(), 0);
}

/// A handler that failed half-way is told also of the state that it knew before.
#[test]
fn a_return_to_the_known_state_after_a_failure_is_delivered() {
    let settings = Settings::of(&DeliveryConfig::immediate(), "d").unwrap();
    let mut delivery = Delivery::default();
    for (version, value, ok) in [(1, "up", true), (2, "down", false), (3, "up", true)] {
        let now = at(version * 1_000);
        delivery.publish(now, version, value, now);
        assert_eq!(run(delivery.poll(now, &settings)).value, value);
        let _ = delivery.done(now, version, ok, &settings);
    }
}

/// 004-67: one at a time, and never an older state after a newer one.
#[test]
fn case_004_67_one_call_at_a_time_and_never_backwards() {
    let settings = Settings::of(&DeliveryConfig::immediate(), "d").unwrap();
    let mut delivery = Delivery::default();
    delivery.publish(at(0), 5, "e", at(0));
    let _ = run(delivery.poll(at(0), &settings));
    assert_eq!(delivery.busy(), Some((5, at(0))));
    assert!(!delivery.publish(at(1), 5, "e again", at(1)));
    assert!(!delivery.publish(at(1), 4, "d", at(1)));
    assert!(delivery.publish(at(1), 6, "f", at(1)));
    assert!(!delivery.publish(at(1), 5, "e again", at(1)));
    // Busy for an hour: nothing else starts, whoever reports what.
    assert_eq!(wait(delivery.poll(at(3_600_000), &settings)), Time::NEVER);
    assert_eq!(delivery.done(at(3_600_000), 6, true, &settings), Done::Ignored);
    let _ = delivery.done(at(3_600_000), 5, true, &settings);
    assert_eq!(delivery.done(at(3_600_000), 5, true, &settings), Done::Ignored);
    assert_eq!(run(delivery.poll(at(3_600_000), &settings)).value, "f");
    assert_eq!(delivery.counts().outdated, 3);
}

#[test]
fn case_003_18_a_failing_kind_of_handler_does_not_stop_the_others() {
    let settings = Settings::default();
    let mut handlers = Handlers::default();
    let kinds = [Handler::ConfigUpdate, Handler::LoadBalancerUpdate, Handler::MetricsUpdate];
    let ids = kinds.map(|kind| handlers.add(at(0), kind).unwrap());
    let mut got = [vec![], vec![], vec![]];
    let mut now = at(0);
    for value in 1..=5 {
        handlers.publish(now, value, now);
        let end = now.plus(ms(70_000));
        loop {
            match handlers.poll(now, &settings) {
                Poll::Run(call) => {
                    let at = ids.iter().position(|id| *id == call.0).unwrap();
                    got[at].push(call.1.value);
                    match at {
                        // Always fails.
                        0 => {
                            let done = handlers.done(now, call.0, call.1.version, false, &settings);
                            assert!(matches!(done, Done::Failed { .. }));
                        }
                        // Never comes back.
                        1 => {}
                        _ => drop(handlers.done(now, call.0, call.1.version, true, &settings)),
                    }
                }
                Poll::Wait(until) if until <= end => now = until,
                Poll::Wait(_) => break,
            }
        }
        now = end;
    }
    assert!(got[0].len() > 5 && got[0].last() == Some(&5), "{got:?}");
    assert_eq!((&got[1], &got[2]), (&vec![1], &vec![1, 2, 3, 4, 5]));
    // Who comes late is told of the present state; who goes is forgotten.
    assert!(handlers.remove(ids[0]) && !handlers.remove(ids[0]));
    let late = handlers.add(now, Handler::ConfigUpdate).unwrap();
    let call = run(handlers.poll(now, &settings));
    assert_eq!((call.0, call.1.value), (late, 5));
    assert_eq!(handlers.get(late).unwrap().0.word(), "config_update");
    assert_eq!(handlers.done(now, ids[0], 5, true, &settings), Done::Ignored);
    for _ in 3..MOST {
        handlers.add(now, Handler::MetricsUpdate).unwrap();
    }
    assert_eq!(handlers.add(now, Handler::MetricsUpdate), Err(TooMany));
    assert_eq!(TooMany.to_string(), "there are 64 handlers already");
}

#[test]
fn settings_refuse_what_cannot_work_by_name() {
    type Spoil = fn(&mut DeliveryConfig);
    let cases: [(&str, Spoil); 8] = [
        ("settle", |c| c.settle = Duration::MAX),
        ("settle", |c| c.settle = ms(1_001)),
        ("at_most_every", |c| c.at_most_every = ms(1_001)),
        ("at_most_every", |c| c.at_most_every = Duration::MAX),
        ("max_delay", |c| c.max_delay = Duration::MAX),
        ("backoff", |c| c.backoff = Duration::ZERO),
        ("backoff", |c| c.backoff = ms(60_001)),
        ("backoff_max", |c| c.backoff_max = Duration::MAX),
    ];
    for (field, spoil) in cases {
        let mut config = DeliveryConfig::default();
        spoil(&mut config);
        assert_eq!(Settings::of(&config, "d").unwrap_err().field, format!("d.{field}"));
        survive(&Settings::compile(&config), 11);
    }
    let checked = Settings::of(&DeliveryConfig::default(), "d").unwrap();
    assert_eq!(checked, Settings::default());
}

/// A clock that jumps, and reports that make no sense.
fn survive(settings: &Settings, seed: u64) {
    let mut rng = crate::rng::Pcg32::new(seed, 1);
    let mut handlers = Handlers::default();
    let ids = [Handler::ConfigUpdate, Handler::MetricsUpdate].map(|k| handlers.add(at(0), k));
    for _ in 0..300 {
        let now = match rng.below(4) {
            0 => Time::NEVER,
            1 => Time::ZERO,
            _ => at(u64::from(rng.below(100_000))),
        };
        match rng.below(3) {
            0 => drop(handlers.publish(now, rng.below(2), Time::NEVER)),
            1 => {
                let id = ids[rng.below(2) as usize].unwrap();
                let version = rng.up_to(30);
                let _ = handlers.done(now, id, version, rng.below(2) == 0, settings);
            }
            _ => match handlers.poll(now, settings) {
                Poll::Run(_) => {}
                Poll::Wait(until) => assert!(until > now || until == Time::NEVER),
            },
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(u8),
    /// Time passes; the machine is polled whenever it wants to be.
    Later(u64),
    /// What is under way ends.
    End(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..4).prop_map(Step::Publish),
        (0_u64..40).prop_map(Step::Later),
        (0_u64..900).prop_map(Step::Later),
        any::<bool>().prop_map(Step::End),
    ]
}

/// The log of one delivery.
struct Log {
    settings: Settings,
    config: DeliveryConfig,
    delivery: Delivery<u8>,
    now: Time,
    published: Vec<(Time, u8)>,
    calls: Vec<(Time, u64)>,
    /// The call under way.
    out: Option<u64>,
    understood: Option<u64>,
    last_failed: bool,
    failed_at: Time,
    ended: Time,
}

impl Log {
    fn value(&self, version: u64) -> u8 {
        self.published[usize::try_from(version).unwrap() - 1].1
    }

    fn poll(&mut self) -> Option<Time> {
        match self.delivery.poll(self.now, &self.settings) {
            Poll::Wait(until) => {
                assert!(until > self.now);
                return Some(until);
            }
            Poll::Run(state) => {
                assert_eq!(self.out, None, "two at a time");
                assert_eq!(state.version, self.published.len() as u64, "not the newest");
                assert_eq!(state.value, self.value(state.version));
                if let Some((called, before)) = self.calls.last() {
                    assert!(called.until(self.now) >= self.config.at_most_every);
                    assert!(
                        *before < state.version || (*before == state.version && self.last_failed)
                    );
                }
                if let (Some(known), false) = (self.understood, self.last_failed) {
                    assert_ne!(self.value(known), state.value, "nothing new");
                }
                if !self.last_failed {
                    // The oldest change the handler does not know of waited at most `max_delay`,
                    // apart from the time the handler was busy.
                    let told = self.calls.last().map_or(0, |(_, version)| *version);
                    let known = self.delivery.known().map_or(0, |(version, _)| version);
                    let told = told.max(known);
                    let oldest = self.published[usize::try_from(told).unwrap()].0;
                    let from = oldest.max(self.ended);
                    assert!(from.until(self.now) <= self.config.max_delay);
                }
                self.calls.push((self.now, state.version));
                self.out = Some(state.version);
            }
        }
        None
    }

    fn later(&mut self, millis: u64) {
        let end = self.now.plus(ms(millis));
        loop {
            match self.poll() {
                Some(until) if until <= end => self.now = until,
                Some(_) => break,
                None => {}
            }
        }
        self.now = end;
    }

    fn end(&mut self, ok: bool) {
        let Some(version) = self.out.take() else { return };
        let done = self.delivery.done(self.now, version, ok, &self.settings);
        self.last_failed = !ok;
        self.ended = self.now;
        if ok {
            assert!(matches!(done, Done::Delivered { .. }));
            self.understood = Some(version);
        } else {
            assert!(matches!(done, Done::Failed { .. }));
            self.failed_at = self.now;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Order, one at a time, gathering within its bounds, and the last state in the end.
    #[test]
    fn the_last_state_always_arrives_in_order(
        steps in proptest::collection::vec(step(), 0..80),
        settle in 0_u64..300,
        every in 0_u64..300,
        more in 0_u64..300,
    ) {
        let config = DeliveryConfig {
            settle: ms(settle),
            at_most_every: ms(every),
            max_delay: ms(settle.max(every) + more),
            ..DeliveryConfig::default()
        };
        let settings = Settings::of(&config, "d").unwrap();
        let mut log = Log {
            settings,
            config,
            delivery: Delivery::default(),
            now: at(10),
            published: vec![],
            calls: vec![],
            out: None,
            understood: None,
            last_failed: false,
            failed_at: Time::ZERO,
            ended: Time::ZERO,
        };
        for step in steps {
            match step {
                Step::Publish(value) => {
                    log.published.push((log.now, value));
                    let version = log.published.len() as u64;
                    prop_assert!(log.delivery.publish(log.now, version, value, log.now));
                }
                Step::Later(millis) => log.later(millis),
                Step::End(ok) => log.end(ok),
            }
            prop_assert_eq!(log.delivery.busy().map(|(version, _)| version), log.out);
        }
        // The handler is well from now on; the longest wait there can be passes.
        log.end(true);
        log.later(61_000);
        log.end(true);
        log.later(61_000);
        let counts = log.delivery.counts();
        match log.published.last() {
            None => prop_assert!(log.calls.is_empty()),
            Some((_, value)) => {
                let last = log.published.len() as u64;
                prop_assert_eq!(log.delivery.known(), Some((last, value)));
                prop_assert_eq!(log.value(log.understood.unwrap()), *value);
            }
        }
        prop_assert_eq!(counts.delivered + counts.failed, log.calls.len() as u64);
        // Every state was handed over, skipped, or known already.
        let handed: std::collections::BTreeSet<_> = log.calls.iter().map(|(_, v)| *v).collect();
        let seen = handed.len() as u64 + counts.skipped + counts.unchanged;
        prop_assert_eq!(seen, log.published.len() as u64);
    }

    #[test]
    fn anything_is_survived(seed: u64) {
        survive(&Settings::default(), seed);
    }
}

#[test]
fn case_004_66_a_row_of_failures_is_told_once_and_its_end_once() {
    let (settings, mut delivery, mut now) =
        (Settings::default(), Delivery::default(), Time::from_millis(9));
    let mut said = Vec::new();
    let mut version = 0;
    // Fails four times, succeeds twice, fails once and succeeds.
    for ok in [false, false, false, false, true, true, false, true] {
        version += 1;
        now = now.plus(Duration::from_secs(60));
        delivery.publish(now, version, version, now);
        now = now.plus(Duration::from_secs(60));
        assert!(matches!(delivery.poll(now, &settings), Poll::Run(_)));
        let done = delivery.done(now, version, ok, &settings);
        said.extend(done.notice(Handler::MetricsUpdate, 3, Some("no\nroom")));
    }
    let text: Vec<String> = said.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "callback 3 (metrics_update) failed: no room; called again in 100ms",
            "callback 3 (metrics_update) succeeded after 4 failures in a row, 9m behind",
            "callback 3 (metrics_update) failed: no room; called again in 100ms",
            "callback 3 (metrics_update) succeeded after 1 failures in a row, 3m behind",
        ]
    );
    // However much a handler says.
    let failed = Done::Failed { version: 1, failures: 1, retry_in: Duration::ZERO };
    let long = failed.notice(Handler::ConfigUpdate, 1, Some(&"x".repeat(100_000))).unwrap();
    assert!(long.to_string().len() < 400);
    assert_eq!(Done::Ignored.notice(Handler::ConfigUpdate, 1, Some("x")), None);
}
