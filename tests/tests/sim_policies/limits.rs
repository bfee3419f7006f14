//! What is not let in, and what is not repeated: the queue, the rate limit, the breaker of the service
//! as a whole, the retry tokens, servers that say that they are overloaded.

use super::*;

/// Four at a time, 20 ms each: room for 200 calls a second, and 350 come. Critical ones get
/// through, the others share what is left, and nobody waits for long.
#[test]
fn the_queue_lets_critical_calls_through_first() {
    let mut policy = quick();
    policy.concurrency.mode = ConcurrencyMode::Static;
    policy.concurrency.limit = 4;
    policy.queue.enabled = true;
    policy.queue.capacity = 40;
    policy.stall.enabled = false;
    let latency = Latency::millis(20, 0);
    let mut world = world_of(seed(6), &policy, &[("alpha", 2)], latency, BTreeMap::new());
    let mut critical = BTreeSet::new();
    for turn in 0..10 * 350_u64 {
        // A second has 350 calls, 100 of them critical, evenly mixed.
        world.run_until(Time::ZERO.plus(Duration::from_nanos(turn * 1_000_000_000 / 350)));
        let matters = turn * 100 / 350 != (turn + 1) * 100 / 350;
        let priority = if matters { Priority::Critical } else { Priority::Normal };
        let number = world.call(SERVICE, CallSpec { priority, ..GET });
        if matters {
            critical.insert(number);
        }
    }
    finish(&mut world, 11_000);
    let (first, rest): (Vec<&Done>, Vec<&Done>) =
        begun(&world, 1_000, 9_000).into_iter().partition(|d| critical.contains(&d.call));
    let ok = |d: &&Done| d.is_ok();
    let (first_ok, rest_ok) = (permille(&first, ok), permille(&rest, ok));
    assert!(first_ok >= 995, "{first_ok} permille of the critical ones");
    assert!((250..=450).contains(&rest_ok), "{rest_ok} permille of the others");
    for done in rest.iter().filter(|d| !d.is_ok()) {
        assert!(matches!(done.why, Some(Why::Overload(Overload::Queue(_)))), "{done:?}");
    }
    let slowest = first.iter().map(|d| d.elapsed()).max().unwrap();
    assert!(slowest <= span(100), "a critical call took {slowest:?}");
    // Never more than four at a time, and the places are used.
    let all = begun(&world, 1_000, 9_000);
    let served = all.iter().filter(|d| d.is_ok()).count();
    assert!((1_500..=1_620).contains(&served), "{served} of 1 600 places in 8 s");
}

/// A burst of 10, then one each 20 ms: exactly, over every window.
#[test]
fn case_001_125_the_rate_is_bounded_exactly() {
    let mut policy = quick();
    policy.rate.mode = RateMode::Fixed;
    policy.rate.permits = 50;
    policy.rate.burst = 10;
    policy.rate.max_wait = span(100);
    let mut world = world(seed(7), &policy, &[("alpha", 2)]);
    load(&mut world, 300, 0, 8_000);
    // A pause, in which the burst comes back.
    load(&mut world, 300, 10_000, 12_000);
    finish(&mut world, 12_000);
    let at: Vec<Time> = sends(&world).iter().map(|(at, _)| *at).collect();
    for (n, from) in at.iter().enumerate() {
        for (m, to) in at.iter().enumerate().skip(n) {
            let most = 10 + to.since(*from).as_nanos() / span(20).as_nanos();
            assert!((m - n + 1) as u128 <= most, "{} sends from {from:?} to {to:?}", m - n + 1);
        }
    }
    // And what is allowed is used.
    let used = at.iter().filter(|at| **at < ms(8_000)).count();
    assert!((405..=410).contains(&used), "{used} sends in 8 s");
    let refused = |d: &&Done| matches!(d.why, Some(Why::Overload(Overload::Rate(_))));
    assert!(world.done().iter().all(|d| d.is_ok() || refused(&d)));
    assert!(world.done().iter().any(|d| refused(&d)));
}

/// The breaker of the service opens when whole calls fail, refuses without an attempt, and
/// closes when a call succeeds again.
#[test]
fn the_breaker_of_the_service_opens_and_heals() {
    let mut policy = quick();
    policy.breaker.mode = BreakerMode::Disabled;
    policy.service_breaker.mode = BreakerMode::Enforce;
    policy.service_breaker.open = span(300);
    policy.service_breaker.open_max = span(300);
    let mut world = world(seed(8), &policy, &[("alpha", 2)]);
    for endpoint in 0..2 {
        let to = address("alpha", endpoint);
        world.plan(ms(1_000), Turn::Server(to.clone(), Mode::status(500)));
        world.plan(ms(4_000), Turn::Server(to, Mode::Ok));
    }
    load(&mut world, 100, 0, 6_000);
    finish(&mut world, 6_000);
    let refused = |d: &&Done| d.why == Some(Why::Overload(Overload::Breaker));
    let sick = begun(&world, 2_000, 4_000);
    assert!(permille(&sick, refused) >= 900, "{}", permille(&sick, refused));
    assert!(sick.iter().filter(|d| refused(d)).all(|d| d.attempts.is_empty()));
    assert!(begun(&world, 0, 900).iter().all(|d| d.is_ok()));
    assert!(begun(&world, 4_500, 6_000).iter().all(|d| d.is_ok()), "it heals");
    let turns: Vec<String> = world
        .notices()
        .iter()
        .filter(|n| matches!(n.event, Event::ServiceBreaker { .. }))
        .map(ToString::to_string)
        .collect();
    assert!(turns.len() >= 3, "{turns:?}");
    assert!(turns[0].contains("open"), "{turns:?}");
    assert!(turns.last().unwrap().contains("closed"), "{turns:?}");
}

/// A quota of 20 tokens, 5 for a retry: four retries, then none; each success brings one back.
#[test]
fn retry_tokens_run_out_and_refill() {
    let mut policy = quick();
    policy.budget.enabled = false;
    policy.breaker.mode = BreakerMode::Disabled;
    policy.retry.max_attempts = 2;
    policy.retry.tokens = TokensConfig {
        mode: TokensMode::Quota,
        capacity: 20,
        cost: 5,
        cost_timeout: 5,
        cost_throttled: 5,
        gain: 1.0,
    };
    let mut world = world(seed(12), &policy, &[("alpha", 2)]);
    for (from, until) in [(1_000, 2_000), (3_000, 4_000), (4_080, 5_000)] {
        for endpoint in 0..2 {
            let to = address("alpha", endpoint);
            world.plan(ms(from), Turn::Server(to.clone(), Mode::status(500)));
            world.plan(ms(until), Turn::Server(to, Mode::Ok));
        }
    }
    load(&mut world, 100, 0, 6_000);
    finish(&mut world, 6_000);
    let retries = |from, until| -> usize {
        begun(&world, from, until).iter().map(|d| d.attempts.len() - 1).sum()
    };
    assert_eq!(retries(0, 950), 0);
    assert_eq!(retries(1_000, 2_000), 4, "a full bucket");
    assert_eq!(retries(3_000, 4_000), 4, "100 successes have filled it again");
    let few = retries(4_080, 5_000);
    assert!((1..=2).contains(&few), "some 8 successes pay for one retry, not for four: {few}");
    let spent = |n: &&origin_core::notice::Notice| match n.event {
        Event::RetrySuppressed { by: Suppressed::Tokens { have, need }, .. } => {
            have < need && need == 5_000
        }
        _ => false,
    };
    assert!(world.notices().iter().filter(spent).count() > 50, "the numbers are told");
    assert!(begun(&world, 1_300, 1_950).iter().all(|d| d.why == Some(Why::Budget)));
}

/// "Overloaded, do not retry": the answer of 503 is given to the caller after one attempt.
#[test]
fn who_says_overloaded_is_not_asked_again() {
    let plain = Mode::status(503);
    let overloaded = Mode::status_with(503, "x-origin-overloaded", "1");
    let grpc = Mode::status_with(503, "grpc-retry-pushback-ms", "-1");
    for (mode, once) in [(plain, false), (overloaded, true), (grpc, true)] {
        let mut policy = quick();
        policy.breaker.mode = BreakerMode::Disabled;
        policy.budget.enabled = false;
        let mut world = world(seed(13), &policy, &[("alpha", 2), ("beta", 2)]);
        for cluster in ["alpha", "beta"] {
            for endpoint in 0..2 {
                world.plan(ms(0), Turn::Server(address(cluster, endpoint), mode.clone()));
            }
        }
        load(&mut world, 20, 10, 2_000);
        finish(&mut world, 2_000);
        assert!(!world.done().is_empty());
        for done in world.done() {
            assert_eq!(done.attempts.len() == 1, once, "{mode:?}: {done:?}");
            assert_eq!(done.result == Ok(503), once, "{mode:?}: {done:?}");
        }
    }
}
