//! The bucket against a bucket that fills continuously, the adaptive rate against its promises.

use proptest::prelude::*;

use super::*;

fn fixed(permits: u32, per: Duration, burst: u32, max_wait: Duration) -> Settings {
    let config = RateConfig {
        mode: RateMode::Fixed,
        permits,
        per,
        burst,
        max_wait,
        ..RateConfig::default()
    };
    Settings::of(&config, "r").unwrap()
}

fn ns(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// A bucket of `burst` permits that holds parts of them: a nanosecond adds `permits`, a permit
/// costs `per`. Shares no formula with the machine. It overflows by whole nanoseconds only: what
/// flowed in during the one in which it became full is still there.
struct Bucket {
    now: u64,
    level: i128,
    permits: i128,
    per: i128,
    full: i128,
    newest: Vec<Permit>,
}

impl Bucket {
    fn new(permits: u32, per: u64, burst: u32) -> Bucket {
        let (permits, per) = (i128::from(permits), i128::from(per));
        let full = per * i128::from(burst);
        Bucket { now: 0, level: full, permits, per, full, newest: vec![] }
    }
    fn at(&mut self, now: u64) {
        self.level += i128::from(now - self.now) * self.permits;
        if self.level >= self.full + self.permits {
            self.level = self.full;
        }
        self.now = now;
    }
    /// When the next permit is due.
    fn due(&self) -> u64 {
        let missing = (self.per - self.level).max(0);
        self.now + u64::try_from((missing + self.permits - 1) / self.permits).unwrap()
    }
    fn take(&mut self) {
        self.level -= self.per;
    }
    fn refund(&mut self) {
        self.level += self.per;
        self.at(self.now);
    }
}

/// One step of both; `false` when they differ.
fn agree(
    limit: &mut RateLimit,
    model: &mut Bucket,
    settings: &Settings,
    action: u8,
    nanos: u64,
    max_wait: u64,
) -> Result<(), String> {
    let before = limit.clone();
    let say = |what: &str| Err(format!("{what}: {before:?}"));
    match action {
        0 => model.at(model.now + nanos),
        1 | 2 => {
            let wait = if action == 1 { 0 } else { nanos };
            let latest = model.now + wait;
            let due = model.due();
            match limit.reserve(ns(model.now), ns(latest), settings) {
                Ok(permit) => {
                    if due > latest || permit.at() != ns(due) || due > model.now + max_wait {
                        return say(&format!("granted at {:?}, due {due}", permit.at()));
                    }
                    model.take();
                    model.newest.push(permit);
                }
                Err(refused) => {
                    if due <= latest.min(model.now + max_wait) || refused.until != ns(due) {
                        return say(&format!("refused until {:?}, due {due}", refused.until));
                    }
                }
            }
        }
        _ => {
            if let Some(permit) = model.newest.pop() {
                limit.refund(permit);
                model.refund();
                limit.refund(permit); // a second time changes nothing
            }
        }
    }
    Ok(())
}

#[test]
fn case_001_124_125_burst_then_steady_rate_every_short_sequence() {
    // Seven permits per 10 µs (1428.57… ns), a burst of two; every sequence of eight actions.
    let settings = fixed(7, Duration::from_micros(10), 2, Duration::from_nanos(2_000));
    let alphabet = [(0, 700), (0, 1_429), (1, 0), (2, 1_500), (2, 9_999), (3, 0)];
    let mut visited = 0_u32;
    for code in 0..6_usize.pow(8) {
        let (mut limit, mut model) = (RateLimit::new(&settings), Bucket::new(7, 10_000, 2));
        let mut left = code;
        for _ in 0..8 {
            let (action, nanos) = alphabet[left % 6];
            left /= 6;
            agree(&mut limit, &mut model, &settings, action, nanos, 2_000).unwrap();
        }
        visited += 1;
    }
    assert_eq!(visited, 1_679_616);
}

#[test]
fn a_rate_that_does_not_divide_a_second_is_exact_for_ever() {
    for (permits, per) in [(7, 1_000_000_000_u64), (999_983, 1_000_000_000), (3, 1_000_000_000_000)]
    {
        let settings = fixed(permits, Duration::from_nanos(per), 1, Duration::from_secs(1));
        let mut limit = RateLimit::new(&settings);
        let mut now = ns(0);
        for n in 0..200_000_u128 {
            assert_eq!(u128::from(now.as_nanos()), (n * u128::from(per)).div_ceil(permits.into()));
            assert!(limit.try_take(now, &settings).is_ok());
            now = limit.try_take(now, &settings).unwrap_err().until;
        }
    }
}

#[test]
fn a_refund_leaves_the_bookings_of_others_alone() {
    let settings = fixed(10, Duration::from_secs(1), 1, Duration::from_secs(1));
    let mut limit = RateLimit::new(&settings);
    let mut book = || limit.reserve(ms(0), ms(900), &settings).unwrap();
    let (first, second, third) = (book(), book(), book());
    assert_eq!([first, second, third].map(|p| p.at()), [ms(0), ms(100), ms(200)]);
    limit.refund(second);
    assert_eq!(limit.reserve(ms(0), ms(900), &settings).unwrap().at(), ms(300), "forfeited");
    let newest = limit.reserve(ms(0), ms(900), &settings).unwrap();
    limit.refund(newest);
    assert_eq!(limit.reserve(ms(0), ms(900), &settings).unwrap().at(), newest.at());
}

fn adaptive(change: impl FnOnce(&mut RateConfig)) -> Settings {
    let mut config = RateConfig { mode: RateMode::Adaptive, burst: 1, ..RateConfig::default() };
    change(&mut config);
    Settings::of(&config, "r").unwrap()
}

/// Takes whatever it gets for `millis`, each answered at once; `throttled` decides by the rate
/// in permits per second. Returns the rate at the end.
fn run(
    limit: &mut RateLimit,
    settings: &Settings,
    now: &mut u64,
    millis: u64,
    throttled: impl Fn(u64) -> bool,
) -> u64 {
    for _ in 0..millis {
        *now += 1;
        if limit.try_take(ms(*now), settings).is_ok() {
            let rate = limit.rate_milli() / 1_000;
            limit.on_answer(ms(*now), ms(*now), throttled(rate), settings);
        }
    }
    limit.rate_milli() / 1_000
}

#[test]
fn case_001_126_falls_on_throttling_and_climbs_after() {
    let settings = adaptive(|_| ());
    let mut limit = RateLimit::new(&settings);
    let mut now = 10_000;
    assert_eq!(limit.rate_milli(), 100_000);
    let _ = run(&mut limit, &settings, &mut now, 1_000, |_| false);
    limit.on_answer(ms(now), ms(now), true, &settings);
    let cut = limit.rate_milli() / 1_000;
    assert!((66..=71).contains(&cut), "{cut}: 0.7 of what was sent");
    // Quickly towards the old rate, slowly around it, then beyond: CUBIC's three phases.
    let early = run(&mut limit, &settings, &mut now, 2_500, |_| false);
    let half = run(&mut limit, &settings, &mut now, 2_500, |_| false);
    let back = run(&mut limit, &settings, &mut now, 5_000, |_| false);
    let flat = run(&mut limit, &settings, &mut now, 2_500, |_| false);
    let beyond = run(&mut limit, &settings, &mut now, 20_000, |_| false);
    assert!(early - cut > half - early && half - early > 0, "{cut} {early} {half}");
    assert!((94..=102).contains(&back), "{back}");
    assert!(flat - back <= 3 && beyond - flat > 100, "{back} {flat} {beyond}");
    let at_last = run(&mut limit, &settings, &mut now, 60_000, |_| false);
    assert_eq!(at_last, 1_000, "the ceiling");
}

#[test]
fn case_001_126_settles_below_a_peer_that_serves_less() {
    let settings = adaptive(|_| ());
    let mut limit = RateLimit::new(&settings);
    let mut now = 10_000;
    let _ = run(&mut limit, &settings, &mut now, 60_000, |rate| rate > 50);
    for _ in 0..60 {
        let rate = run(&mut limit, &settings, &mut now, 1_000, |rate| rate > 50);
        assert!((34..=52).contains(&rate), "{rate}");
    }
}

#[test]
fn a_burst_of_throttled_answers_is_one_cut() {
    let settings = adaptive(|c| c.burst = 100);
    let mut limit = RateLimit::new(&settings);
    assert!((0..100).all(|_| limit.try_take(ms(10_000), &settings).is_ok()));
    (0..100).for_each(|n| limit.on_answer(ms(10_050 + n), ms(10_000), true, &settings));
    assert_eq!(limit.rate_milli(), 70_000);
    limit.on_answer(ms(10_200), ms(10_060), true, &settings);
    assert!(limit.rate_milli() < 70_000, "sent at the new rate and still too much");
}

#[test]
fn the_cut_begins_at_the_rate_that_was_sent() {
    let settings = adaptive(|c| (c.permits, c.ceiling) = (1_000, 1_000));
    let mut limit = RateLimit::new(&settings);
    for n in 0..40 {
        assert!(limit.try_take(ms(10_000 + n * 50), &settings).is_ok());
    }
    limit.on_answer(ms(12_000), ms(12_000), true, &settings);
    let rate = limit.rate_milli() / 1_000;
    assert!((13..=16).contains(&rate), "{rate}: 0.7 of the twenty a second that were sent");
}

#[test]
fn a_cut_does_not_come_with_a_fresh_burst() {
    let settings = adaptive(|c| (c.burst, c.keep) = (100, 0.1));
    let mut limit = RateLimit::new(&settings);
    while limit.try_take(ms(10_000), &settings).is_ok() {}
    limit.on_answer(ms(10_000), ms(10_000), true, &settings);
    assert_eq!(limit.rate_milli(), 10_000);
    let granted = (0..1_000).filter(|n| limit.try_take(ms(10_001 + n), &settings).is_ok()).count();
    assert!((9..=10).contains(&granted), "{granted} in the second after, at ten a second");
}

#[test]
fn a_refund_was_never_sent() {
    let settings = adaptive(|c| c.burst = 50);
    let mut limit = RateLimit::new(&settings);
    for n in 0..50 {
        let permit = limit.try_take(ms(10_000), &settings).unwrap();
        if n >= 10 {
            limit.refund(permit);
        }
    }
    limit.on_answer(ms(10_000), ms(10_000), true, &settings);
    assert_eq!(limit.rate_milli(), 14_000, "0.7 of ten in half a second");
}

#[test]
fn a_rare_permit_counts_as_use_when_callers_are_refused() {
    // One permit in ten seconds, answered after two: no window ever holds it.
    let settings = adaptive(|c| {
        c.per = Duration::from_secs(10);
        (c.floor, c.permits, c.ceiling) = (1, 1, 1_000);
    });
    for refused in [false, true] {
        let mut limit = RateLimit::new(&settings);
        limit.on_answer(ms(1_000), ms(1_000), true, &settings);
        for n in 1..20_u64 {
            let now = n * 10_000;
            let sent = limit.try_take(ms(now), &settings).is_ok();
            assert!(!refused || n > 5 || limit.try_take(ms(now + 1), &settings).is_err());
            if sent {
                limit.on_answer(ms(now + 2_000), ms(now), false, &settings);
            }
        }
        assert_eq!(limit.rate_milli() > 100, refused, "{}", limit.rate_milli());
    }
}

#[test]
fn one_busy_moment_after_an_idle_hour_is_not_an_hour_of_climbing() {
    let settings = adaptive(|_| ());
    let mut limit = RateLimit::new(&settings);
    limit.on_answer(ms(10_000), ms(10_000), true, &settings);
    assert!(limit.try_take(ms(3_600_000), &settings).is_ok());
    assert!(limit.try_take(ms(3_600_000), &settings).is_err());
    limit.on_answer(ms(3_600_001), ms(3_600_000), false, &settings);
    let rate = limit.rate_milli();
    assert!((70_000..76_000).contains(&rate), "{rate}: half a second of ten");
}

#[test]
fn idle_time_is_not_climbing_and_the_floor_is_no_trap() {
    let settings = adaptive(|_| ());
    let mut limit = RateLimit::new(&settings);
    let mut now = 10_000;
    for _ in 0..50 {
        now += 1;
        limit.on_answer(ms(now), ms(now), true, &settings);
    }
    assert_eq!(limit.rate_milli(), 10_000, "the floor");
    // An answer a minute: not used, not climbing.
    for _ in 0..100 {
        now += 60_000;
        assert!(limit.try_take(ms(now), &settings).is_ok());
        limit.on_answer(ms(now), ms(now), false, &settings);
    }
    assert!(limit.rate_milli() < 12_000, "{}", limit.rate_milli());
    let rate = run(&mut limit, &settings, &mut now, 120_000, |_| false);
    assert_eq!(rate, 1_000, "used, it climbs from the floor to the ceiling");
}

#[test]
fn retune_keeps_what_was_taken_and_learned() {
    let slow = fixed(10, Duration::from_secs(1), 10, Duration::from_secs(1));
    let fast = fixed(100, Duration::from_secs(1), 10, Duration::from_secs(1));
    let mut limit = RateLimit::new(&slow);
    while limit.try_take(ms(10_000), &slow).is_ok() {}
    limit.retune(ms(10_000), &fast);
    let wait = limit.try_take(ms(10_000), &fast).unwrap_err().wait;
    assert!(wait > Duration::from_millis(9) && wait < Duration::from_millis(11), "{wait:?}");

    let settings = adaptive(|_| ());
    let mut limit = RateLimit::new(&settings);
    limit.on_answer(ms(10_000), ms(10_000), true, &settings);
    let other = adaptive(|c| c.ceiling = 500);
    limit.retune(ms(10_000), &other);
    assert_eq!(limit.rate_milli(), 70_000);
    limit.retune(ms(10_000), &adaptive(|c| (c.permits, c.ceiling) = (50, 50)));
    assert_eq!(limit.rate_milli(), 50_000, "clamped");

    // A longer way back puts the rate high on its curve; it waits there.
    let mut limit = RateLimit::new(&settings);
    let mut now = 10_000;
    limit.on_answer(ms(now), ms(now), true, &settings);
    let before = run(&mut limit, &settings, &mut now, 5_000, |_| false);
    let longer = adaptive(|c| c.recover = Duration::from_secs(100));
    limit.retune(ms(now), &longer);
    assert!(run(&mut limit, &longer, &mut now, 5_000, |_| false) >= before);

    let mut limit = RateLimit::new(&slow);
    limit.retune(ms(10_000), &settings);
    assert_eq!(limit.rate_milli(), 100_000, "a fixed rate has learned nothing");
}

#[test]
fn off_means_off() {
    let settings = Settings::default();
    let mut limit = RateLimit::new(&settings);
    let before = limit.clone();
    for _ in 0..1_000 {
        let permit = limit.try_take(ms(1), &settings).unwrap();
        limit.refund(permit);
        limit.on_answer(ms(1), ms(1), true, &settings);
    }
    assert_eq!(limit, before);
}

#[test]
fn a_clock_that_goes_back_closes_nothing_for_long() {
    let day = Duration::from_secs(86_400);
    for settings in [fixed(10, day / 86_400, 3, day / 86_400), adaptive(|_| ())] {
        let mut limit = RateLimit::new(&settings);
        for now in [Time::NEVER, ns(u64::MAX - 1), Time::NEVER] {
            let _ = (0..9).filter(|_| limit.try_take(now, &settings).is_ok()).count();
            limit.on_answer(now, now, true, &settings);
            limit.on_answer(now, Time::ZERO, false, &settings);
        }
        let refused = limit.try_take(ms(5), &settings).unwrap_err();
        assert!(refused.wait <= Duration::from_secs(2), "{refused}");
        assert!(limit.try_take(refused.until, &settings).is_ok());
    }
    let settings = adaptive(|_| ());
    let mut limit = RateLimit::new(&settings);
    limit.on_answer(Time::NEVER, Time::NEVER, true, &settings);
    limit.on_answer(ms(10_000), ms(10_000), false, &settings);
    limit.on_answer(ms(10_001), ms(10_001), true, &settings);
    assert_eq!(limit.rate_milli(), 49_000, "cuts still work");
}

#[test]
fn x_09_every_field_is_checked_by_name() {
    let refused = |change: &dyn Fn(&mut RateConfig)| {
        let mut config = RateConfig { mode: RateMode::Adaptive, ..RateConfig::default() };
        change(&mut config);
        Settings::of(&config, "policy.rate").unwrap_err()
    };
    type Case = (&'static str, fn(&mut RateConfig));
    let cases: [Case; 16] = [
        ("permits", |c| c.permits = 0),
        ("permits", |c| c.permits = u32::MAX),
        ("permits", |c| c.permits = 1_001),
        ("per", |c| c.per = Duration::ZERO),
        ("per", |c| c.per = Duration::MAX),
        ("burst", |c| c.burst = 0),
        ("burst", |c| c.burst = u32::MAX),
        ("burst", |c| (c.per, c.burst) = (Duration::from_secs(86_400), 1_000_000)),
        ("max_wait", |c| c.max_wait = Duration::ZERO),
        ("floor", |c| c.floor = 0),
        ("floor", |c| c.floor = 101),
        ("ceiling", |c| c.ceiling = 0),
        ("ceiling", |c| c.ceiling = 1_000_001),
        ("keep", |c| c.keep = f64::NAN),
        ("keep", |c| c.keep = 1.0),
        ("recover", |c| c.recover = Duration::ZERO),
    ];
    for (field, change) in cases {
        assert_eq!(refused(&change).field, format!("policy.rate.{field}"));
    }
    let reason = refused(&|c| c.floor = 200).reason;
    assert_eq!(reason, "200 exceeds policy.rate.permits of 100");
    assert_eq!(Settings::of(&RateConfig::default(), "r").unwrap(), Settings::default());
}

/// Values that break arithmetic.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>(), 0_u64..1 << 40]
}

proptest! {
    #[test]
    fn equals_a_bucket_that_fills_continuously(
        permits in 1_u32..5_000, per in 5_000_000_u64..20_000_000_000, burst in 1_u32..50,
        max_wait in 1_u64..5_000_000_000,
        script in proptest::collection::vec((0_u8..4, 0_u64..2_000_000_000), 1..200),
    ) {
        let settings = fixed(permits, Duration::from_nanos(per), burst, Duration::from_nanos(max_wait));
        let (mut limit, mut model) = (RateLimit::new(&settings), Bucket::new(permits, per, burst));
        for (action, nanos) in script {
            let nanos = if nanos % 3 == 0 { per / u64::from(permits) } else { nanos };
            let step = agree(&mut limit, &mut model, &settings, action, nanos, max_wait);
            prop_assert!(step.is_ok(), "{step:?}");
        }
    }

    /// Whatever the peer answers, the rate stays within its bounds, and nobody who waits as told
    /// is refused twice.
    #[test]
    fn an_adaptive_rate_stays_within_bounds(
        floor in 1_u32..100, more in 0_u32..100, most in 0_u32..10_000, keep in 0.1_f64..0.95,
        recover in 1_u64..100_000,
        script in proptest::collection::vec((0_u8..4, 0_u64..3_000), 1..300),
    ) {
        let settings = adaptive(|c| {
            (c.floor, c.permits, c.ceiling) = (floor, floor + more, floor + more + most);
            (c.keep, c.recover) = (keep, Duration::from_millis(recover));
        });
        let mut limit = RateLimit::new(&settings);
        let mut now = ms(1_000);
        for (action, millis) in script {
            now = now.plus(Duration::from_millis(millis));
            match action {
                0 => limit.on_answer(now, now, true, &settings),
                1 => limit.on_answer(now, now, false, &settings),
                _ => if let Err(refused) = limit.try_take(now, &settings) {
                    prop_assert!(refused.until > now);
                    prop_assert!(limit.clone().try_take(refused.until, &settings).is_ok());
                    prop_assert!(limit.try_take(ns(refused.until.as_nanos() - 1), &settings).is_err());
                }
            }
            let rate = limit.rate_milli();
            prop_assert!(rate >= u64::from(floor) * 1_000 && rate <= u64::from(floor + more + most) * 1_000);
        }
    }

    #[test]
    fn any_input_is_survived(
        permits: u32, per in number(), burst: u32, max_wait in number(), floor: u32, ceiling: u32,
        keep: f64, recover in number(), fixed: bool,
        script in proptest::collection::vec((0_u8..6, number(), number()), 1..60),
    ) {
        let config = RateConfig {
            mode: if fixed { RateMode::Fixed } else { RateMode::Adaptive },
            permits, burst, floor, ceiling, keep,
            per: Duration::from_nanos(per),
            max_wait: Duration::from_nanos(max_wait),
            recover: Duration::from_nanos(recover),
        };
        let _ = Settings::of(&config, "r");
        // Even what was not checked must not panic.
        let settings = Settings::compile(&config);
        let mut limit = RateLimit::new(&settings);
        let mut permit = None;
        for (action, now, other) in script {
            match action {
                0 => permit = limit.try_take(ns(now), &settings).ok(),
                1 => permit = limit.reserve(ns(now), ns(other), &settings).ok(),
                2 => limit.on_answer(ns(now), ns(other), true, &settings),
                3 => limit.on_answer(ns(now), ns(other), false, &settings),
                4 => permit.into_iter().for_each(|p| limit.refund(p)),
                _ => limit.retune(ns(now), &settings),
            }
        }
    }
}
