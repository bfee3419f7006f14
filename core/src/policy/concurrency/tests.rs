//! AIMD and gradient against small models, the numbers of the originals, and bad input.

use proptest::prelude::*;

use super::*;

fn settings(change: impl FnOnce(&mut ConcurrencyConfig)) -> Settings {
    let mut config = ConcurrencyConfig::default();
    change(&mut config);
    Settings::of(&config, "c").unwrap()
}

fn aimd(limit: u32, min: u32, max: u32) -> Settings {
    settings(|c| (c.mode, c.limit, c.min, c.max) = (ConcurrencyMode::Aimd, limit, min, max))
}

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn success(millis: u64) -> Sample {
    Sample::Success { took: Duration::from_millis(millis) }
}

/// Takes `n` slots.
fn take(limit: &mut Concurrency, n: u32, settings: &Settings) -> Vec<Slot> {
    (0..n).map(|_| limit.try_acquire(settings).unwrap()).collect()
}

#[test]
fn aimd_moves_once_per_round_trip() {
    // Netflix AIMDLimitTest: from 10, a drop makes 9 and a success makes 11. The first is the
    // same here; the second takes the success of the whole limit (see the module).
    let settings = aimd(10, 1, 200);
    let mut limit = Concurrency::new(&settings);
    let slots = take(&mut limit, 10, &settings);
    assert_eq!(limit.try_acquire(&settings), Err(Limited { limit: 10, in_flight: 10 }));
    let changes: Vec<Change> = slots
        .into_iter()
        .filter_map(|slot| limit.release(ms(1), slot, Sample::Dropped, &settings))
        .collect();
    assert_eq!(changes, [Change { from: 10, to: 9, why: Why::Dropped }], "ten drops, one cut");

    let mut limit = Concurrency::new(&settings);
    for n in 0..10 {
        let slots = take(&mut limit, 10, &settings);
        let change = limit.release(ms(1), slots[0], success(5), &settings);
        assert_eq!(
            change.map(|c| (c.from, c.to, c.why)),
            (n == 9).then_some((10, 11, Why::Successes))
        );
        for slot in &slots[1..] {
            let _ = limit.release(ms(1), *slot, Sample::Ignored, &settings);
        }
    }
}

#[test]
fn aimd_table_of_cuts_by_a_tenth() {
    // 0.9, rounded down, and always at least one: what the code of Netflix computes.
    let settings = aimd(200, 1, 200);
    let mut limit = Concurrency::new(&settings);
    let mut seen = vec![];
    for _ in 0..34 {
        let slot = limit.try_acquire(&settings).unwrap();
        seen.extend(limit.release(ms(1), slot, Sample::Dropped, &settings).map(|c| c.to));
    }
    assert_eq!(seen[..8], [180, 162, 145, 130, 117, 105, 94, 84]);
    assert_eq!(seen[seen.len() - 5..], [5, 4, 3, 2, 1], "{seen:?}");
    assert_eq!(limit.limit(), 1);
}

#[test]
fn an_unused_limit_does_not_grow_and_a_slow_success_is_a_drop() {
    let settings = aimd(20, 1, 200);
    let mut limit = Concurrency::new(&settings);
    for _ in 0..1_000 {
        let slots = take(&mut limit, 9, &settings);
        for slot in slots {
            assert_eq!(limit.release(ms(1), slot, success(1), &settings), None);
        }
    }
    assert_eq!(limit.limit(), 20);
    let slots = take(&mut limit, 10, &settings);
    assert_eq!(limit.release(ms(1), slots[0], success(5_000), &settings), None);
    assert_eq!(limit.release(ms(1), slots[1], success(5_001), &settings).unwrap().to, 18);
}

#[test]
fn results_from_before_a_cut_do_not_count_after_it() {
    let settings = aimd(4, 1, 200);
    let mut limit = Concurrency::new(&settings);
    let slots = take(&mut limit, 4, &settings);
    assert_eq!(limit.release(ms(1), slots[0], Sample::Dropped, &settings).unwrap().to, 3);
    for slot in &slots[1..] {
        assert_eq!(limit.release(ms(2), *slot, success(1), &settings), None);
    }
    assert_eq!((limit.limit(), limit.in_flight(), limit.credit), (3, 0, 0));
}

#[test]
fn off_counts_and_static_refuses() {
    let off = Settings::default();
    let mut limit = Concurrency::new(&off);
    let slots = take(&mut limit, 1_000, &off);
    assert_eq!((limit.in_flight(), limit.free(&off)), (1_000, u32::MAX));
    let fixed = settings(|c| (c.mode, c.limit) = (ConcurrencyMode::Static, 3));
    limit.retune(&fixed);
    assert_eq!(limit.try_acquire(&fixed), Err(Limited { limit: 3, in_flight: 1_000 }));
    for slot in slots {
        assert_eq!(limit.release(ms(1), slot, Sample::Dropped, &fixed), None);
    }
    let extra = Slot { round: 0 };
    assert_eq!(limit.release(ms(1), extra, success(1), &fixed), None, "one too many is harmless");
    assert_eq!((limit.in_flight(), limit.free(&fixed)), (0, 3));
}

fn gradient(change: impl FnOnce(&mut ConcurrencyConfig)) -> Settings {
    settings(|c| {
        c.mode = ConcurrencyMode::Gradient;
        change(c);
    })
}

/// One window: `used` slots out at once, `drops` of them dropped, the rest answered after
/// `millis`.
fn window(
    limit: &mut Concurrency,
    settings: &Settings,
    now: &mut u64,
    (used, drops, millis): (u32, u32, u64),
) -> Option<Change> {
    *now += 1_000;
    let slots = take(limit, used, settings);
    let mut change = None;
    for (n, slot) in slots.into_iter().enumerate() {
        let sample = if (n as u32) < drops { Sample::Dropped } else { success(millis) };
        // The last release ends the window, so that all of it is in one.
        let at = if n as u32 + 1 == used { *now } else { *now - 1_000 };
        change = change.or(limit.release(ms(at), slot, sample, settings));
    }
    change
}

#[test]
fn gradient_table_at_the_defaults() {
    // Gradient2 at 20/20/200, tolerance 1.5, smoothing 0.2, queue 4: while latency is usual the
    // limit grows by 0.2 × 4 a window; at half the gradient it becomes 0.9 × limit + 0.8.
    let settings = gradient(|_| ());
    let mut limit = Concurrency::new(&settings);
    let mut now = 10_000;
    let mut seen = vec![];
    for _ in 0..10 {
        let used = limit.limit();
        let _ = window(&mut limit, &settings, &mut now, (used, 0, 10));
        seen.push(limit.limit());
    }
    assert_eq!(seen, [20, 21, 22, 23, 24, 24, 25, 26, 27, 28]);
    // Up to half as much again is within the tolerance.
    let used = limit.limit();
    let _ = window(&mut limit, &settings, &mut now, (used, 0, 15));
    assert_eq!(limit.limit(), 28, "28.8");
    while limit.limit() < 200 {
        let used = limit.limit();
        let _ = window(&mut limit, &settings, &mut now, (used, 0, 10));
    }
    let mut seen = vec![];
    for _ in 0..30 {
        let used = limit.limit();
        let change = window(&mut limit, &settings, &mut now, (used, 0, 100));
        if let Some(Change { why: Why::Latency { present, .. }, .. }) = change {
            assert_eq!(present, Duration::from_millis(100));
        }
        seen.push(limit.limit());
    }
    assert_eq!(seen[..6], [180, 163, 147, 133, 121, 110]);
    assert_eq!(limit.limit(), 20, "the floor");
}

#[test]
fn drops_weigh_by_their_share() {
    for (drops, expect) in [(0, 100), (10, 100), (25, 100), (30, 99), (60, 94), (100, 90)] {
        let settings = gradient(|c| c.limit = 100);
        let mut limit = Concurrency::new(&settings);
        let mut now = 10_000;
        // Not used, so only the latency is learned.
        let _ = window(&mut limit, &settings, &mut now, (40, 0, 10));
        let _ = window(&mut limit, &settings, &mut now, (100, drops, 10));
        assert_eq!(limit.limit(), expect, "{drops}");
    }
    // A peer that never answered anything.
    let settings = gradient(|c| (c.limit, c.min) = (100, 1));
    let mut limit = Concurrency::new(&settings);
    let mut now = 10_000;
    for _ in 0..50 {
        let used = limit.limit();
        let _ = window(&mut limit, &settings, &mut now, (used, used, 0));
    }
    assert!(limit.limit() < 15, "{}", limit.limit());
}

#[test]
fn headroom_by_root() {
    let settings = gradient(|c| (c.limit, c.headroom, c.smoothing) = (100, Headroom::Root, 1.0));
    let mut limit = Concurrency::new(&settings);
    let mut now = 10_000;
    let _ = window(&mut limit, &settings, &mut now, (100, 0, 10));
    assert_eq!(limit.limit(), 110);
}

#[test]
fn retune_keeps_what_is_learned_and_in_flight() {
    let wide = aimd(100, 1, 200);
    let mut limit = Concurrency::new(&wide);
    let slots = take(&mut limit, 60, &wide);
    let narrow = aimd(50, 10, 50);
    limit.retune(&narrow);
    assert_eq!((limit.limit(), limit.in_flight(), limit.free(&narrow)), (50, 60, 0));
    assert!(limit.release(ms(1), slots[0], Sample::Dropped, &narrow).is_some());
    limit.retune(&gradient(|_| ()));
    assert_eq!((limit.limit(), limit.in_flight()), (20, 59));

    let mut limit = Concurrency::new(&settings(|_| ()));
    let slots = take(&mut limit, 3, &settings(|_| ()));
    limit.retune(&narrow);
    for slot in &slots {
        // Taken under another rule: counted, not learned from.
        assert_eq!(limit.release(ms(1), *slot, Sample::Dropped, &narrow), None);
    }

    let wide = gradient(|c| c.limit = 200);
    let mut limit = Concurrency::new(&wide);
    let mut now = 10_000;
    for _ in 0..10 {
        let _ = window(&mut limit, &wide, &mut now, (50, 0, 10));
    }
    let narrow = gradient(|c| (c.max, c.min) = (50, 1));
    limit.retune(&narrow);
    assert_eq!(limit.limit(), 50);
    let _ = window(&mut limit, &narrow, &mut now, (50, 0, 100));
    assert_eq!(limit.limit(), 45, "0.9 × 50 + 0.8, not a share of 200");
}

#[test]
fn x_09_every_field_is_checked_by_name() {
    type Case = (&'static str, fn(&mut ConcurrencyConfig));
    let cases: [Case; 17] = [
        ("limit", |c| c.limit = 0),
        ("limit", |c| c.limit = u32::MAX),
        ("limit", |c| c.limit = 201),
        ("min", |c| c.min = 0),
        ("min", |c| c.min = 21),
        ("max", |c| c.max = 0),
        ("max", |c| c.max = u32::MAX),
        ("backoff", |c| c.backoff = 1.0),
        ("backoff", |c| c.backoff = f64::NAN),
        ("tolerance", |c| c.tolerance = 0.9),
        ("smoothing", |c| c.smoothing = 0.0),
        ("long_window", |c| c.long_window = 0),
        ("window_samples", |c| c.window_samples = 0),
        ("slow", |c| c.slow = Duration::ZERO),
        ("window", |c| c.window = Duration::MAX),
        ("headroom", |c| c.headroom = Headroom::Fixed(0)),
        ("headroom", |c| c.headroom = Headroom::Fixed(u32::MAX)),
    ];
    for (field, change) in cases {
        let mut config =
            ConcurrencyConfig { mode: ConcurrencyMode::Gradient, ..ConcurrencyConfig::default() };
        change(&mut config);
        assert_eq!(Settings::of(&config, "p.c").unwrap_err().field, format!("p.c.{field}"));
    }
    assert_eq!(Settings::of(&ConcurrencyConfig::default(), "c").unwrap(), Settings::default());
}

#[test]
fn written_as_text() {
    let text = r#"{ "mode": "gradient", "headroom": "root", "window": "1m30s" }"#;
    let config: ConcurrencyConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.headroom, Headroom::Root);
    assert_eq!(config.window, Duration::from_secs(90));
    let config: ConcurrencyConfig =
        serde_json::from_str(r#"{ "headroom": { "fixed": 9 } }"#).unwrap();
    assert_eq!(config.headroom, Headroom::Fixed(9));
    assert!(serde_json::from_str::<ConcurrencyConfig>(r#"{ "limits": 9 }"#).is_err());
}

/// AIMD as one would say it: every slot carries the number of the cut it was taken after.
#[derive(Default)]
struct Model {
    held: Vec<(Slot, u32)>,
    cuts: u32,
    successes: u32,
}

proptest! {
    #[test]
    fn aimd_equals_its_sentence(
        start in 1_u32..40, min in 1_u32..20, max in 20_u32..60,
        script in proptest::collection::vec((0_u8..8, any::<prop::sample::Index>()), 1..400),
    ) {
        let settings = aimd(start.clamp(min, max), min, max);
        let mut limit = Concurrency::new(&settings);
        let mut model = Model::default();
        for (action, index) in script {
            let before = limit.limit();
            if action < 5 {
                let got = limit.try_acquire(&settings);
                prop_assert_eq!(got.is_ok(), (model.held.len() as u32) < before);
                if let Ok(slot) = got { model.held.push((slot, model.cuts)); }
            } else if !model.held.is_empty() {
                let used = model.held.len() as u32 * 2 >= before;
                let (slot, taken) = model.held.swap_remove(index.index(model.held.len()));
                let sample = match action { 5 => Sample::Dropped, 6 => Sample::Ignored, _ => success(1) };
                let change = limit.release(ms(1), slot, sample, &settings);
                let mut expect = before;
                if taken == model.cuts && action == 5 {
                    model.cuts += 1;
                    model.successes = 0;
                    expect = (before * 9 / 10).min(before - 1).max(min);
                } else if taken == model.cuts && action == 7 && used {
                    model.successes += 1;
                    if model.successes >= before {
                        model.successes = 0;
                        expect = (before + 1).min(max);
                    }
                }
                prop_assert_eq!(limit.limit(), expect);
                prop_assert_eq!(change.map(|c| (c.from, c.to)), (before != expect).then_some((before, expect)));
            }
            prop_assert_eq!(limit.in_flight() as usize, model.held.len());
        }
    }

    /// The formulas of Gradient2 in floating point, window by window.
    #[test]
    fn gradient_equals_its_formula(
        start in 20_u32..200, tolerance in 1.0_f64..3.0, smoothing in 0.05_f64..1.0,
        root: bool, long in 10_u32..1_000,
        script in proptest::collection::vec((any::<bool>(), 0_u32..6, 1_u64..2_000), 1..60),
    ) {
        let settings = gradient(|c| {
            (c.limit, c.tolerance, c.smoothing, c.long_window) = (start, tolerance, smoothing, long);
            c.headroom = if root { Headroom::Root } else { Headroom::Fixed(4) };
        });
        let mut limit = Concurrency::new(&settings);
        let (mut exact, mut usual, mut windows, mut now) = (f64::from(start), 0.0, 0_u32, 10_000);
        for (full, drops, millis) in script {
            let used = if full { limit.limit() } else { 10.min(limit.limit() / 2 - 1).max(1) };
            if used < settings.window_samples { continue; }
            let drops = drops.min(used);
            let _ = window(&mut limit, &settings, &mut now, (used, drops, millis));
            let mean = millis as f64 * 1e6;
            if drops < used {
                windows += 1;
                usual = if windows <= 10 {
                    (usual * f64::from(windows - 1) + mean) / f64::from(windows)
                } else {
                    usual + (mean - usual) * 2.0 / f64::from(long + 1)
                };
                if usual / mean > 2.0 { usual *= 0.9; }
            }
            if !full { continue; }
            let slow = 2.0 * tolerance * usual;
            let answers = f64::from(used - drops);
            let present = (answers * mean + f64::from(drops) * slow) / f64::from(used);
            let slope = if windows == 0 { 0.5 } else { (tolerance * usual / present).clamp(0.5, 1.0) };
            let room = if root { exact.trunc().sqrt().trunc() } else { 4.0 };
            exact = (exact * (1.0 - smoothing) + (exact * slope + room) * smoothing).clamp(20.0, 200.0);
            let got = limit.gradient.limit as f64 / 1e6;
            prop_assert!((got - exact).abs() < 0.02, "{got} {exact}");
            exact = got; // errors do not add up over the script
        }
    }

    #[test]
    fn any_input_is_survived(
        numbers: [u32; 6], floats: [f64; 3], spans: [u64; 2], mode in 0_u8..4, root: bool,
        script in proptest::collection::vec((0_u8..6, prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], any::<u64>()), 1..200),
    ) {
        let config = ConcurrencyConfig {
            mode: [ConcurrencyMode::Off, ConcurrencyMode::Static, ConcurrencyMode::Aimd, ConcurrencyMode::Gradient][usize::from(mode)],
            limit: numbers[0], min: numbers[1], max: numbers[2],
            backoff: floats[0], tolerance: floats[1], smoothing: floats[2],
            slow: Duration::from_nanos(spans[0]), window: Duration::from_nanos(spans[1]),
            long_window: numbers[3], window_samples: numbers[4] % 3,
            headroom: if root { Headroom::Root } else { Headroom::Fixed(numbers[5]) },
        };
        let _ = Settings::of(&config, "c");
        let settings = Settings::compile(&config);
        let mut limit = Concurrency::new(&settings);
        let mut held = vec![];
        for (action, now, took) in script {
            let now = Time::from_nanos(now);
            match action {
                0..3 => held.extend(limit.try_acquire(&settings)),
                3 => {
                    let took = Duration::from_nanos(took);
                    let slot = held.pop().unwrap_or(Slot { round: 7 });
                    let _ = limit.release(now, slot, Sample::Success { took }, &settings);
                }
                4 => {
                    let slot = held.pop().unwrap_or(Slot { round: 7 });
                    let _ = limit.release(now, slot, Sample::Dropped, &settings);
                }
                _ => limit.retune(&settings),
            }
            prop_assert!(limit.limit() >= 1 && limit.limit() <= MOST);
        }
    }
}
