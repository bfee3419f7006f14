//! Tests of the backoff: printed schedules, pushback tables, and the published simulation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn config(base_ms: u64, max_ms: u64, jitter: Jitter) -> BackoffConfig {
    BackoffConfig { base: MS(base_ms), max: MS(max_ms), jitter, ..BackoffConfig::default() }
}

fn settings(config: &BackoffConfig) -> Settings {
    Settings::of(config, "backoff").unwrap()
}

fn waits(config: &BackoffConfig, count: usize) -> Vec<u64> {
    let (settings, mut rng) = (settings(config), Pcg32::new(1, 1));
    let mut backoff = Backoff::default();
    let mut wait = || backoff.next(Cause::Failed, Advice::Silent, &settings, &mut rng).unwrap().0;
    (0..count).map(|_| u64::try_from(wait().as_millis()).unwrap()).collect()
}

#[test]
fn case_002_02_and_x_02_printed_schedules_are_exact() {
    let none = |base, max| waits(&config(base, max, Jitter::None), 6);
    assert_eq!(none(1_000, 10_000), [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]); // 001
    assert_eq!(none(1_000, 600_000), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]); // 002
    assert_eq!(none(5_000, 5_000), [5_000; 6]); // 003, 004
}

#[test]
fn throttling_has_its_own_base() {
    // AWS rule 2.1: 50 ms, throttling 1 s, at most 20 s.
    let mut aws = config(50, 20_000, Jitter::None);
    let steps = |config: &BackoffConfig, cause| {
        [0, 1, 2, 3, 8, 9, u32::MAX].map(|n| settings(config).step(n, cause).as_millis())
    };
    assert_eq!(steps(&aws, Cause::Failed), [50, 100, 200, 400, 12_800, 20_000, 20_000]);
    assert_eq!(steps(&aws, Cause::Throttled), [1_000, 2_000, 4_000, 8_000, 20_000, 20_000, 20_000]);
    aws.throttled_base = Some(MS(500));
    assert_eq!(settings(&aws).step(1, Cause::Throttled), MS(1_000));
    // Where none is named it fits between base and max.
    assert_eq!(settings(&config(50, 400, Jitter::None)).step(0, Cause::Throttled), MS(400));
    assert_eq!(settings(&config(5_000, 9_000, Jitter::None)).step(0, Cause::Throttled), MS(5_000));
}

#[test]
fn pushback_is_clamped_as_aws_does() {
    // Computed 50 ms, slack 5 s: 3 s stays, 10 ms becomes 50 ms, 10 s becomes 5.05 s.
    let settings = settings(&config(50, 2_000, Jitter::None));
    let after = |advice| {
        Backoff::default().next(Cause::Failed, advice, &settings, &mut Pcg32::new(1, 1)).unwrap()
    };
    for (asked, wait) in [(3_000, 3_000), (10, 50), (10_000, 5_050), (99_999_999_000, 5_050)] {
        let source = Source::Clamped { asked: MS(asked), computed: MS(50) };
        assert_eq!(after(Advice::After(MS(asked))), (MS(wait), source));
    }
    assert_eq!(after(Advice::Forbidden(Forbidden::Negative)), (MS(50), Source::Step { n: 0 }));
    assert_eq!(after(Advice::from(Pushback::NONE)), (MS(50), Source::Step { n: 0 }));
}

#[test]
fn pushback_is_exact_as_in_grpc_and_resets_the_sequence() {
    let exact = settings(&BackoffConfig {
        pushback: PushbackRule::Exact,
        ..config(100, 1_000, Jitter::None)
    });
    let (mut backoff, mut rng) = (Backoff::default(), Pcg32::new(1, 1));
    let mut next = |advice| backoff.next(Cause::Failed, advice, &exact, &mut rng).map(|w| w.0);
    assert_eq!(next(Advice::Silent), Ok(MS(100)));
    assert_eq!(next(Advice::Silent), Ok(MS(200)));
    assert_eq!(next(Advice::After(MS(7))), Ok(MS(7)));
    assert_eq!(next(Advice::Silent), Ok(MS(100)), "the sequence begins anew");
    assert_eq!(next(Advice::Forbidden(Forbidden::Repeated)), Err(Forbidden::Repeated));
    let ignore = settings(&BackoffConfig {
        pushback: PushbackRule::Ignore,
        ..config(100, 1_000, Jitter::None)
    });
    for advice in [Advice::After(MS(7_000)), Advice::Forbidden(Forbidden::Negative)] {
        let wait = Backoff::default().next(Cause::Failed, advice, &ignore, &mut rng);
        assert_eq!(wait, Ok((MS(100), Source::Step { n: 0 })));
    }
}

#[test]
fn grpc_pushback_header() {
    let read = |values: &[&str]| Advice::grpc(values.iter().map(|v| v.as_bytes()));
    assert_eq!(read(&[]), Advice::Silent);
    assert_eq!(read(&["0"]), Advice::After(Duration::ZERO));
    assert_eq!(read(&["10"]), Advice::After(MS(10)));
    assert_eq!(read(&["2147483647"]), Advice::After(MS(2_147_483_647)));
    for negative in ["-1", "-2147483648"] {
        assert_eq!(read(&[negative]), Advice::Forbidden(Forbidden::Negative), "{negative}");
    }
    for nonsense in ["", "-", "+1", " 1", "1 ", "1.5", "01", "-01", "2147483648", "soon", "--1"] {
        let unreadable = Advice::Forbidden(Forbidden::Unreadable);
        assert_eq!(read(&[nonsense]), unreadable, "{nonsense:?}");
    }
    assert_eq!(read(&["1", "1"]), Advice::Forbidden(Forbidden::Repeated));
    assert_eq!(Advice::grpc([&[0xff, 0x31][..]]), Advice::Forbidden(Forbidden::Unreadable));
}

#[test]
fn case_x_09_every_number_at_its_ends() {
    let field = |change: &dyn Fn(&mut BackoffConfig)| {
        let mut config = BackoffConfig::default();
        change(&mut config);
        let compiled = Settings::compile(&config); // total
        let mut backoff = Backoff { n: u32::MAX, previous_nanos: u64::MAX };
        let _ = backoff.next(Cause::Throttled, Advice::Silent, &compiled, &mut Pcg32::new(0, 0));
        Settings::of(&config, "b").err().map(|e| e.field)
    };
    let refused = |name: &str| Some(format!("b.{name}"));
    for span in [Duration::ZERO, Duration::MAX] {
        assert_eq!(field(&|c| c.base = span), refused("base"));
        assert_eq!(field(&|c| c.max = span), refused("max"));
        assert_eq!(field(&|c| c.throttled_base = Some(span)), refused("throttled_base"));
    }
    assert_eq!(field(&|c| c.base = MS(2_001)), refused("base"));
    assert_eq!(field(&|c| c.throttled_base = Some(MS(2_001))), refused("throttled_base"));
    assert_eq!(field(&|c| c.slack = Duration::MAX), refused("slack"));
    assert_eq!(field(&|c| c.slack = Duration::ZERO), None);
    assert_eq!(settings(&BackoffConfig::default()), Settings::default());
    assert!(size_of::<Backoff>() <= 16);
}

proptest! {
    #[test]
    fn waits_stay_within_bounds(
        base in 1_u64..1 << 40, more in 0_u64..1 << 45, kind in 0_usize..4, seed: u64,
        causes in proptest::collection::vec(any::<(bool, Option<u64>)>(), 1..40), slack in 0_u64..1 << 40,
    ) {
        let jitter = [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None][kind];
        let span = Duration::from_nanos;
        let config = BackoffConfig {
            base: span(base), max: span(base + more), jitter, slack: span(slack), ..BackoffConfig::default()
        };
        let settings = settings(&config);
        let (mut backoff, mut rng) = (Backoff::default(), Pcg32::new(seed, 1));
        let mut previous = Duration::ZERO;
        for (n, (throttled, asked)) in causes.into_iter().enumerate() {
            let cause = if throttled { Cause::Throttled } else { Cause::Failed };
            let advice = asked.map_or(Advice::Silent, |nanos| Advice::After(span(nanos)));
            let step = settings.step(u32::try_from(n).unwrap(), cause);
            prop_assert!(step >= config.base && step <= config.max);
            let (wait, source) = backoff.next(cause, advice, &settings, &mut rng).unwrap();
            let computed = match source {
                Source::Step { n: step } => { prop_assert_eq!(step as usize, n); wait }
                Source::Clamped { asked, computed } => {
                    prop_assert_eq!(wait, asked.max(computed).min(computed + config.slack));
                    computed
                }
                Source::Asked => return Err(TestCaseError::fail("not with clamp")),
            };
            match jitter {
                Jitter::None => prop_assert_eq!(computed, step),
                Jitter::Full => prop_assert!(computed <= step),
                Jitter::Equal => prop_assert!(computed <= step && computed >= step / 2),
                Jitter::Decorrelated => {
                    let base = settings.step(0, cause);
                    prop_assert!(computed >= base && computed <= (previous.max(base) * 3).min(config.max));
                }
            }
            previous = computed;
        }
    }
}

/// What a client of the simulation hears next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    AskVersion,
    Version(u32),
    Write(u32),
    Written(bool),
}

/// The published comparison (aws-samples/aws-arch-backoff-simulator): clients read a version and
/// write with it; a write with an old version fails and the client backs off and begins again.
/// One leg of the network takes |normal(10, 2)| ms there; here the sum of twelve uniform draws,
/// which has the same mean and deviation. Steps count from 1 there, so the base of the exponential
/// kinds is 10 ms here for its 5 ms. Returns mean milliseconds and mean writes per run.
fn contend(clients: u32, settings: Option<&Settings>) -> (u64, u64) {
    const RUNS: u64 = 40;
    let (mut elapsed, mut writes) = (0_u64, 0_u64);
    for run in 0..RUNS {
        let mut rng = Pcg32::new(run, 7);
        let mut heap = BinaryHeap::new();
        let mut backoff = vec![Backoff::default(); clients as usize];
        let (mut version, mut order) = (0_u32, 0_u64);
        let leg = |rng: &mut Pcg32| {
            let sum: u64 = (0..12).map(|_| rng.up_to(2_000_000)).sum();
            sum.abs_diff(2_000_000)
        };
        for client in 0..clients {
            heap.push(Reverse((leg(&mut rng), order, client, Message::AskVersion)));
            order += 1;
        }
        let mut now = 0;
        while let Some(Reverse((at, _, client, message))) = heap.pop() {
            now = at;
            let (next, pause) = match message {
                Message::AskVersion => (Message::Version(version), 0),
                Message::Version(seen) => (Message::Write(seen), 0),
                Message::Write(seen) => {
                    writes += 1;
                    let done = seen == version;
                    version += u32::from(done);
                    (Message::Written(done), 0)
                }
                Message::Written(true) => continue,
                Message::Written(false) => {
                    let own = &mut backoff[client as usize];
                    let wait = settings.map_or(Duration::ZERO, |s| {
                        own.next(Cause::Failed, Advice::Silent, s, &mut rng).unwrap().0
                    });
                    (Message::AskVersion, nanos(wait))
                }
            };
            order += 1;
            heap.push(Reverse((now + pause + leg(&mut rng), order, client, next)));
        }
        elapsed += now;
    }
    (elapsed / RUNS / 1_000_000, writes / RUNS)
}

#[test]
fn the_published_comparison_of_jitters() {
    let run = |base, jitter| contend(100, Some(&settings(&config(base, 2_000, jitter))));
    let none = contend(100, None);
    let full = run(10, Jitter::Full);
    let equal = run(10, Jitter::Equal);
    let decorrelated = run(5, Jitter::Decorrelated);
    let bare = run(10, Jitter::None);
    // Milliseconds and calls of a reproduction of the original, 100 clients. Within 2 %.
    for (what, got, published) in [
        ("none", none, (2_027, 2_425)),
        ("full", full, (4_840, 796)),
        ("equal", equal, (6_612, 811)),
        ("decorrelated", decorrelated, (4_587, 1_003)),
        ("exponential", bare, (63_410, 1_854)),
    ] {
        let near = |got: u64, published: u64| got.abs_diff(published) * 50 <= published;
        assert!(near(got.0, published.0) && near(got.1, published.1), "{what}: {got:?}");
    }
    assert!(full.1 < equal.1 && equal.1 < decorrelated.1 && decorrelated.1 < bare.1);
    assert!(bare.1 < none.1 && bare.0 > 5 * equal.0);
}
