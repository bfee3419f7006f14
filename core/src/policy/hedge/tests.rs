//! Tests of hedging: the schedule of gRPC A6, the share of copies, hostile numbers and clocks.

use proptest::prelude::*;

use super::*;
use crate::policy::backoff::Forbidden;
use crate::policy::latency;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn on() -> HedgeConfig {
    HedgeConfig { enabled: true, ..HedgeConfig::default() }
}

fn settings(config: &HedgeConfig) -> Settings {
    Settings::of(config, "hedge").unwrap()
}

fn seen(calls: u32) -> Histogram {
    let settings = latency::Settings::default();
    let mut seen = Histogram::new(Time::ZERO, &settings);
    for n in 0..calls {
        let took = if n % 20 == 19 { 300 } else { 10 };
        seen.record(Time::ZERO, MS(took), &settings);
    }
    seen
}

#[test]
fn the_delay_is_the_percentile_within_its_bounds() {
    let mut hedge = Hedge::new(Time::ZERO);
    let delay = |hedge: &mut Hedge, calls, config: &HedgeConfig| {
        hedge.delay(&seen(calls), &settings(config))
    };
    assert_eq!(delay(&mut hedge, 1_000, &HedgeConfig::default()), Err(NoHedge::Off));
    let warming = NoHedge::WarmingUp { have: 99, need: 100 };
    assert_eq!(delay(&mut hedge, 99, &on()), Err(warming));
    let p95 = delay(&mut hedge, 100, &on()).unwrap();
    assert!(p95 >= MS(10) && p95 < MS(12), "{p95:?}");
    let p96 = delay(&mut hedge, 100, &HedgeConfig { percentile: 0.96, ..on() }).unwrap();
    assert!(p96 >= MS(300) && p96 < MS(338), "{p96:?}");
    let at_least = HedgeConfig { min_delay: MS(50), ..on() };
    assert_eq!(delay(&mut hedge, 100, &at_least), Ok(MS(50)));
    let at_most = HedgeConfig { min_delay: MS(1), max_delay: MS(4), ..on() };
    assert_eq!(delay(&mut hedge, 100, &at_most), Ok(MS(4)));
    let fixed = HedgeConfig { delay: Some(MS(7)), ..on() };
    assert_eq!(delay(&mut hedge, 0, &fixed), Ok(MS(7)), "a fixed delay needs no samples");
    let reads = |config: &HedgeConfig| settings(config).reads_latency();
    assert!(reads(&on()) && !reads(&fixed) && !reads(&HedgeConfig::default()));
    assert!(size_of::<Copies>() <= 24 && size_of::<Hedge>() <= 160);
}

/// gRPC A6, "Hedging Policy" and "Summary of Retry and Hedging Logic": hedgingDelay 0.5 s.
#[test]
fn copies_follow_the_schedule_of_grpc() {
    let settings = settings(&HedgeConfig { max_extra: 2, min_copies: 9, ..on() });
    let start = || (Hedge::new(Time::ZERO), Copies::new(Time::from_millis(1), MS(500)));
    let at = Time::from_millis;
    let run = |hedge: &mut Hedge, copies: &mut Copies, ms: u64| {
        hedge.send(at(ms), copies, &settings).map(|_| ())
    };
    // Nothing answers: copies at 501 and 1001 ms, then no more.
    let (mut hedge, mut copies) = start();
    assert_eq!(run(&mut hedge, &mut copies, 500), Err(NoHedge::NotYet { at: at(501) }));
    assert_eq!(run(&mut hedge, &mut copies, 501), Ok(()));
    assert_eq!(run(&mut hedge, &mut copies, 1_000), Err(NoHedge::NotYet { at: at(1_001) }));
    assert_eq!(run(&mut hedge, &mut copies, 1_001), Ok(()));
    assert_eq!(run(&mut hedge, &mut copies, 9_000), Err(NoHedge::AllOut { most: 2 }));
    // A driver that wakes late does not send two at once to make up for it.
    let (mut hedge, mut copies) = start();
    assert_eq!(run(&mut hedge, &mut copies, 1_200), Ok(()));
    assert_eq!(copies.due(&settings), Ok(at(1_700)));
    // A non-fatal answer sends the next at once; later ones resume at the delay.
    let (mut hedge, mut copies) = start();
    copies.failed(at(100), Advice::Silent);
    assert_eq!(run(&mut hedge, &mut copies, 100), Ok(()));
    assert_eq!(copies.due(&settings), Ok(at(600)));
    // Pushback of n ms: the next at n, later ones at n + delay.
    let (mut hedge, mut copies) = start();
    copies.failed(at(100), Advice::After(MS(900)));
    assert_eq!(run(&mut hedge, &mut copies, 999), Err(NoHedge::NotYet { at: at(1_000) }));
    assert_eq!(run(&mut hedge, &mut copies, 1_000), Ok(()));
    assert_eq!(copies.due(&settings), Ok(at(1_500)));
    // Pushback that forbids: no more.
    copies.failed(at(1_100), Advice::Forbidden(Forbidden::Negative));
    assert_eq!(run(&mut hedge, &mut copies, 9_000), Err(NoHedge::Forbidden));
    assert_eq!(copies.extra(), 1);
}

#[test]
fn copies_stay_within_their_share_and_come_back_with_time() {
    let settings = settings(&HedgeConfig { max_ratio: 0.05, min_copies: 0, ..on() });
    let mut hedge = Hedge::new(Time::ZERO);
    let one = |now: Time, hedge: &mut Hedge| {
        hedge.send(now, &mut Copies::new(now, Duration::ZERO), &settings)
    };
    (0..399).for_each(|_| hedge.call(Time::ZERO));
    let granted = (0..100).filter(|_| one(Time::ZERO, &mut hedge).is_ok()).count();
    assert_eq!(granted, 19, "19.95 of a copy are 19");
    let capped = one(Time::ZERO, &mut hedge).unwrap_err();
    assert_eq!(capped, NoHedge::Capped { copies: 19, calls: 399 });
    hedge.call(Time::ZERO);
    let paid = one(Time::ZERO, &mut hedge).unwrap();
    assert!(one(Time::ZERO, &mut hedge).is_err());
    hedge.refund(Time::ZERO, paid);
    assert!(one(Time::ZERO, &mut hedge).is_ok());
    assert_eq!(hedge.load(Time::from_millis(9_999)), (20, 400));
    assert_eq!(hedge.load(Time::from_millis(10_000)), (0, 0));
    hedge.refund(Time::from_millis(10_000), paid);
    assert_eq!(hedge.load(Time::from_millis(10_000)), (0, 0));
}

#[test]
fn case_x_09_every_number_at_its_ends() {
    let field = |change: &dyn Fn(&mut HedgeConfig)| {
        let mut config = on();
        change(&mut config);
        let _ = Settings::compile(&config); // total
        Settings::of(&config, "h").err().map(|e| e.field)
    };
    let refused = |name: &str| Some(format!("h.{name}"));
    for nonsense in [f64::NAN, f64::INFINITY, -1.0, f64::MAX] {
        assert_eq!(field(&|c| c.percentile = nonsense), refused("percentile"));
        assert_eq!(field(&|c| c.max_ratio = nonsense), refused("max_ratio"));
    }
    for n in [0, u32::MAX] {
        assert_eq!(field(&|c| c.min_samples = n), refused("min_samples"));
        assert_eq!(field(&|c| c.max_extra = n), refused("max_extra"));
    }
    for span in [Duration::ZERO, Duration::MAX] {
        assert_eq!(field(&|c| c.delay = Some(span)), refused("delay"));
        assert_eq!(field(&|c| c.min_delay = span), refused("min_delay"));
        assert_eq!(field(&|c| c.max_delay = span), refused("max_delay"));
    }
    assert_eq!(field(&|c| c.min_delay = MS(10_001)), refused("min_delay"));
    assert_eq!(field(&|c| c.min_samples = 19), refused("min_samples"), "p95 needs 20");
    let never = |c: &mut HedgeConfig| (c.max_ratio, c.min_copies) = (0.0, 0);
    assert_eq!(field(&never), refused("max_ratio"));
    assert_eq!(field(&|c| c.min_copies = u32::MAX), refused("min_copies"));
    assert_eq!(settings(&HedgeConfig::default()), Settings::default());
}

#[test]
fn a_clock_at_its_end_still_counts() {
    let mut hedge = Hedge::new(Time::ZERO);
    (0..30).for_each(|_| hedge.call(Time::NEVER));
    assert_eq!(hedge.load(Time::NEVER), (0, 30));
}

proptest! {
    /// The model keeps every call and copy with its second and sums the last ten.
    #[test]
    fn copies_never_exceed_the_share(
        ppm in 0_u32..2_000_000, floor in 0_u32..4,
        script in proptest::collection::vec((0_u8..4, 0_u64..4_000, any::<prop::sample::Index>()), 1..200),
    ) {
        let config = HedgeConfig { max_ratio: f64::from(ppm) / 1e6, min_copies: floor, ..on() };
        prop_assume!(ppm > 0 || floor > 0);
        let settings = settings(&config);
        let mut hedge = Hedge::new(Time::ZERO);
        let mut now = Time::ZERO;
        let (mut calls, mut paid): (Vec<u64>, Vec<(u64, Paid)>) = (vec![], vec![]);
        for (action, ms, index) in script {
            now = now.plus(MS(ms));
            let second = now.as_millis() / 1_000;
            let live_calls = calls.iter().filter(|s| **s + 10 > second).count() as u64;
            let live = paid.iter().filter(|(s, _)| *s + 10 > second).count() as u64;
            prop_assert_eq!(hedge.load(now), (live, live_calls));
            match action {
                0 | 1 => { hedge.call(now); calls.push(second); }
                2 => {
                    let mut copies = Copies::new(now, Duration::ZERO);
                    let got = hedge.send(now, &mut copies, &settings);
                    let allowed = live_calls * u64::from(ppm) + u64::from(floor) * ONE;
                    prop_assert_eq!(got.is_ok(), (live + 1) * ONE <= allowed);
                    prop_assert_eq!(copies.extra(), 1, "asked once, granted or not");
                    if let Ok(p) = got { paid.push((second, p)); }
                }
                _ if paid.is_empty() => (),
                _ => {
                    let (_, p) = paid.swap_remove(index.index(paid.len()));
                    hedge.refund(now, p);
                }
            }
        }
    }

    #[test]
    fn any_clock_is_survived(times in proptest::collection::vec(any::<u64>(), 0..40), extra in 0_u64..5) {
        let settings = settings(&on());
        let mut hedge = Hedge::new(Time::from_nanos(extra));
        for at in times.into_iter().chain([u64::MAX, 0, u64::MAX - 1, u64::MAX]) {
            let now = Time::from_nanos(at);
            hedge.call(now);
            let mut copies = Copies::new(now, Duration::MAX);
            copies.failed(now, Advice::After(Duration::MAX));
            let _ = hedge.send(now, &mut copies, &settings);
            copies.failed(now, Advice::Silent);
            if let Ok(paid) = hedge.send(now, &mut copies, &settings) {
                hedge.refund(Time::ZERO, paid);
            }
            let (sent, calls) = hedge.load(now);
            prop_assert!(sent <= calls + 3);
        }
    }
}
