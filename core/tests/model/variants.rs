//! What is explored: small services, each with the policies on that should meet one another.

use std::time::Duration;

use origin_core::CallSpec;
use origin_core::config::{ConcurrencyMode, Jitter, Mode, OverCap, Policy};
use origin_core::policy::queue::Priority;
use origin_core::rng::Pcg32;

use crate::common::rules;
use crate::walk::Profile;
use crate::world::Variant;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A stream whose first draw of 0–99, the one that chooses the cluster, lies in this range.
fn stream(range: std::ops::Range<u32>) -> u64 {
    (0..).find(|stream| range.contains(&Pcg32::new(5, *stream).below(100))).unwrap()
}

fn safe() -> CallSpec {
    CallSpec { idempotent: Some(true), ..CallSpec::default() }
}

fn unsafe_() -> CallSpec {
    CallSpec { idempotent: Some(false), ..CallSpec::default() }
}

fn variant(
    name: &'static str,
    sizes: &'static [usize],
    change: impl FnOnce(&mut Policy),
) -> Variant {
    let mut hold = None;
    let mut max_spill = 100;
    let mut permits = 1;
    let rules = rules(|p| {
        p.deadline.total = ms(600);
        p.deadline.attempt = Some(ms(200));
        p.deadline.floor = ms(10);
        p.retry.max_attempts = 3;
        (p.retry.backoff.base, p.retry.backoff.max) = (ms(50), ms(100));
        p.retry.backoff.jitter = Jitter::None;
        p.breaker.failures = Some(2);
        p.breaker.failure_rate = None;
        p.breaker.window = None;
        p.breaker.jitter = 0.0;
        (p.breaker.open, p.breaker.open_max) = (ms(150), ms(300));
        p.breaker.half_open_max = ms(250);
        p.breaker.decay = Duration::from_secs(3_600);
        p.service_breaker = p.breaker.clone();
        p.service_breaker.mode = Mode::Disabled;
        p.outlier.enabled = false;
        p.stall.enabled = false;
        p.failover.hold_down = Duration::ZERO;
        change(p);
        if !p.failover.hold_down.is_zero() {
            hold = Some((p.failover.hold_down, p.failover.free_failbacks));
        }
        max_spill = u64::from(p.failover.max_spill);
        permits = u64::from(p.breaker.half_open_permits);
    });
    let profile = Profile {
        stall: rules.stall.enabled,
        hedge: rules.hedge.enabled(),
        windows: false,
        budget: false,
        closed: 0,
        age: 400_000_000,
        ppm: rules.budget.ppm,
        floor: rules.budget.min_per_second.into(),
    };
    Variant {
        name,
        sizes,
        rules,
        alive: 2,
        kinds: vec![(safe(), stream(0..10)), (unsafe_(), stream(90..100))],
        outcomes: &[0, 1, 2, 3, 4],
        abreast: 1,
        step: ms(100),
        profile,
        adaptive: false,
        warm: false,
        patience: ms(2_000),
        hold,
        max_spill,
        permits,
    }
}

pub fn all() -> Vec<Variant> {
    let default = variant("default 1+1", &[1, 1], |_| ());
    let mut three = variant("default 1+1, three calls", &[1, 1], |p| {
        p.retry.max_attempts = 2;
        p.breaker.half_open_permits = 2;
        p.breaker.half_open_successes = 2;
    });
    three.alive = 3;
    three.outcomes = &[0, 1, 3, 4];
    let mut windows = variant("rates, decay 2+1", &[2, 1], |p| {
        p.breaker.failures = None;
        p.breaker.failure_rate = Some(0.5);
        (p.breaker.window_calls, p.breaker.minimum_calls) = (Some(3), 2);
        (p.breaker.half_open_permits, p.breaker.half_open_successes) = (2, 2);
        p.breaker.decay = ms(300);
    });
    windows.profile.windows = true;
    windows.profile.closed = 600_000_000;

    let hedge = |p: &mut Policy| {
        p.hedge.enabled = true;
        p.hedge.delay = Some(ms(50));
        p.hedge.max_extra = 2;
        p.hedge.min_copies = 3;
        p.deadline.total = ms(400);
    };
    let mut hedged = variant("hedging 2+1", &[2, 1], hedge);
    hedged.abreast = 3;
    hedged.outcomes = &[0, 1, 3, 4];
    let mut stalled = variant("stall rescue 1+1", &[1, 1], |p| {
        p.stall.enabled = true;
        p.stall.floor = ms(20);
        p.stall.probe_interval = ms(150);
    });
    (stalled.abreast, stalled.warm) = (3, true);
    stalled.outcomes = &[0, 1, 3, 4];
    let mut both = variant("hedging and rescue 2+1", &[2, 1], |p| {
        hedge(p);
        p.hedge.max_extra = 1;
        p.stall.enabled = true;
        p.stall.floor = ms(20);
        p.stall.probe_interval = ms(150);
    });
    (both.abreast, both.warm) = (3, true);
    both.outcomes = &[0, 1, 4];

    let priorities = || {
        [Priority::Sheddable, Priority::Normal, Priority::Critical]
            .map(|priority| (CallSpec { priority, ..safe() }, stream(0..10)))
            .to_vec()
    };
    let queue = |limit: u32, capacity: u32| {
        move |p: &mut Policy| {
            p.concurrency.mode = ConcurrencyMode::Static;
            p.concurrency.limit = limit;
            p.queue.enabled = true;
            p.queue.capacity = capacity;
            (p.queue.max_wait, p.queue.target) = (ms(250), ms(50));
            p.queue.interval = ms(100);
            p.retry.max_attempts = 2;
        }
    };
    let mut queued = variant("queue 1, limit 1", &[1, 1], queue(1, 1));
    (queued.alive, queued.kinds) = (3, priorities());
    queued.outcomes = &[0, 1, 4];
    let mut wide = variant("queue 2, AIMD limit 2", &[1, 1], |p| {
        queue(2, 2)(p);
        p.concurrency.mode = ConcurrencyMode::Aimd;
        (p.concurrency.min, p.concurrency.max, p.concurrency.backoff) = (1, 3, 0.5);
    });
    (wide.alive, wide.kinds, wide.adaptive) = (4, priorities(), true);
    wide.outcomes = &[0, 1, 2, 4];

    // Few inputs, so that it goes deep: who is shed must not leave a free place unannounced.
    let mut deep = variant("queue 2, limit 1, deep", &[1], |p| {
        queue(1, 2)(p);
        p.queue.target = p.queue.max_wait;
        p.retry.max_attempts = 1;
        p.budget.enabled = false;
    });
    (deep.alive, deep.kinds) = (3, vec![(safe(), stream(0..10))]);
    deep.outcomes = &[0];

    let draws =
        || vec![(safe(), stream(0..10)), (safe(), stream(50..60)), (safe(), stream(90..100))];
    let mut spill = variant("spill 140 %, cap 40, hold", &[2, 1], |p| {
        p.failover.over_provisioning = 140;
        p.failover.max_spill = 40;
        p.failover.hold_down = ms(250);
        p.failover.free_failbacks = 0;
        p.breaker.failures = Some(1);
        p.retry.max_attempts = 2;
    });
    spill.kinds = draws();
    spill.outcomes = &[0, 1, 4];
    let mut keep = variant("spill 100 %, 3+2, 1 free", &[3, 2], |p| {
        p.failover.over_provisioning = 100;
        p.failover.max_spill = 60;
        p.failover.over_cap = OverCap::Keep;
        p.failover.hold_down = ms(250);
        p.failover.free_failbacks = 1;
        p.breaker.failures = Some(1);
        p.retry.max_attempts = 2;
    });
    keep.kinds = draws();
    keep.outcomes = &[0, 1, 3];
    let mut swing = variant("hold 1+1, 1 free", &[1, 1], |p| {
        p.failover.hold_down = ms(250);
        p.failover.free_failbacks = 1;
        p.breaker.failures = Some(1);
        p.retry.max_attempts = 2;
    });
    swing.outcomes = &[0, 1, 4];

    // Quick to break and to heal, long to be held back: the allowance of failbacks is used up.
    let mut flap = variant("hold 1+1, flapping, deep", &[1, 1], |p| {
        p.failover.hold_down = ms(1_000);
        p.failover.free_failbacks = 1;
        p.breaker.failures = Some(1);
        (p.breaker.open, p.breaker.open_max) = (ms(50), ms(50));
        p.retry.max_attempts = 1;
        (p.deadline.total, p.deadline.attempt) = (ms(50), Some(ms(50)));
    });
    (flap.alive, flap.kinds, flap.step) = (1, vec![(safe(), stream(0..10))], ms(50));
    (flap.outcomes, flap.profile.age) = (&[0, 1], 1_000_000_000);

    let mut whole = variant("service breaker", &[1, 1], |p| {
        p.service_breaker.mode = Mode::Enforce;
        p.retry.max_attempts = 2;
    });
    whole.alive = 3;
    whole.outcomes = &[0, 1, 4];
    let mut budget = variant("tight budget", &[2, 1], |p| {
        p.budget.min_per_second = 0;
        p.budget.ratio = 0.5;
        p.retry.max_attempts = 4;
    });
    budget.profile.budget = true;
    budget.kinds = vec![(safe(), stream(0..10))];
    vec![
        default, three, windows, hedged, stalled, both, queued, wide, deep, spill, keep, swing,
        flap, whole, budget,
    ]
}
