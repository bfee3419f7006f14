//! The policies that decide whether and when a call goes out at all.

use std::hint::black_box;
use std::time::Duration;

use origin_core::Time;
use origin_core::config::{
    AdaptiveTimeoutConfig, BackoffConfig, BreakerConfig, BudgetConfig, ConcurrencyConfig,
    ConcurrencyMode, HedgeConfig, QueueConfig, RateConfig, RateMode, ThrottleConfig, TokensConfig,
};
use origin_core::outcome::Class;
use origin_core::policy::backoff::{self, Advice, Backoff, Cause};
use origin_core::policy::breaker::{self, Breaker};
use origin_core::policy::budget::{self, Budget};
use origin_core::policy::concurrency::{self, Concurrency, Sample};
use origin_core::policy::hedge::{self, Hedge};
use origin_core::policy::latency::{self, Histogram};
use origin_core::policy::queue::{self, Priority, Turn, WaitQueue};
use origin_core::policy::rate::{self, RateLimit};
use origin_core::policy::throttle::{self, Throttle};
use origin_core::policy::timeout::{self, Adaptive};
use origin_core::policy::tokens::{self, After, Tokens};
use origin_core::rng::Pcg32;

use super::{Case, Clock, LONG, Made, TOOK, batch, judged, unjudged};

const PATH: &str = "policy";
const SEED: u64 = 42;

pub(super) const CASES: &[Case] = &[
    judged("breaker_consecutive", "breaker by failures in a row: tick, admit, success", 85, || {
        breaker(&consecutive(), Class::Success)
    }),
    judged(
        "breaker_time",
        "breaker by rate over 10 s in 10 buckets and by failures in a row: success",
        113,
        || breaker(&BreakerConfig::default(), Class::Success),
    ),
    judged("breaker_count", "breaker by rate over the last 100 results: success", 194, || {
        breaker(&counting(), Class::Success)
    }),
    unjudged(
        "breaker_failure",
        "breaker by rate over 10 s: tick, admit, failure and success in turn, below the rate",
        breaker_mixed,
    ),
    judged("breaker_rejected", "open breaker: tick, refusal with reason", 56, breaker_rejected),
    judged("budget_call", "retry budget: a call earns its share", 55, || budget(1.5, false)),
    judged("budget_retry", "retry budget: a call, and a repeat that is granted", 139, || {
        budget(1.5, true)
    }),
    judged("budget_refused", "retry budget: a repeat that is refused", 73, budget_refused),
    judged(
        "tokens_retry",
        "retry tokens as in the AWS SDKs: failure, retry paid, success",
        44,
        || tokens(&TokensConfig::aws()),
    ),
    judged("rate_taken", "rate limit: a permit", 72, || rate(RateMode::Fixed)),
    unjudged("rate_adaptive", "adaptive rate limit: a permit and a good answer", || {
        rate(RateMode::Adaptive)
    }),
    judged(
        "rate_refused",
        "rate limit: refusal with the time of the next permit",
        121,
        rate_refused,
    ),
    judged("concurrency_static", "static concurrency limit: acquire and release", 36, || {
        concurrency(ConcurrencyMode::Static)
    }),
    unjudged("concurrency_aimd", "AIMD concurrency limit: acquire and release", || {
        concurrency(ConcurrencyMode::Aimd)
    }),
    unjudged("concurrency_gradient", "gradient concurrency limit: acquire and release", || {
        concurrency(ConcurrencyMode::Gradient)
    }),
    unjudged("throttle_accepted", "client-side throttling: admit, accepted by the peer", || {
        throttle(true)
    }),
    unjudged(
        "throttle_refusing",
        "client-side throttling against a peer that refuses everything",
        || throttle(false),
    ),
    unjudged("queue", "wait queue: enter, and it is one's turn", queue),
    unjudged("backoff", "one wait with full jitter, the sequence anew every third time", backoff),
    unjudged("hedge", "hedging: count the call, its delay from the percentile", hedge),
    unjudged("adaptive_timeout", "the attempt timeout from the percentile", adaptive_timeout),
];

fn consecutive() -> BreakerConfig {
    BreakerConfig { failure_rate: None, ..BreakerConfig::default() }
}

fn counting() -> BreakerConfig {
    BreakerConfig {
        failures: None,
        window: None,
        window_calls: Some(100),
        ..BreakerConfig::default()
    }
}

fn breaker(config: &BreakerConfig, class: Class) -> Made {
    let settings = black_box(breaker::Settings::of(config, PATH)?);
    let mut breaker = Breaker::new(Time::ZERO, &settings);
    let (mut clock, mut rng) = (Clock::default(), Pcg32::new(SEED, 0));
    Ok(batch(move || {
        let (now, settings, breaker) =
            (clock.next(), black_box(&settings), black_box(&mut breaker));
        let _ = breaker.tick(now, settings, &mut rng);
        let Ok(permit) = breaker.admit(now, settings) else { return false };
        breaker.record(now, permit, black_box(class), TOOK, settings, &mut rng).is_none()
    }))
}

fn breaker_mixed() -> Made {
    let config = BreakerConfig { failure_rate: Some(0.6), ..BreakerConfig::default() };
    let settings = black_box(breaker::Settings::of(&config, PATH)?);
    let mut breaker = Breaker::new(Time::ZERO, &settings);
    let (mut clock, mut rng) = (Clock::default(), Pcg32::new(SEED, 0));
    let mut class = Class::Failure;
    Ok(batch(move || {
        let (now, settings, breaker) =
            (clock.next(), black_box(&settings), black_box(&mut breaker));
        let _ = breaker.tick(now, settings, &mut rng);
        let Ok(permit) = breaker.admit(now, settings) else { return false };
        let this = black_box(class);
        class = if this == Class::Success { Class::Failure } else { Class::Success };
        breaker.record(now, permit, this, TOOK, settings, &mut rng).is_none()
    }))
}

fn breaker_rejected() -> Made {
    let config = BreakerConfig { open: LONG, open_max: LONG, ..BreakerConfig::default() };
    let settings = black_box(breaker::Settings::of(&config, PATH)?);
    let mut breaker = Breaker::new(Time::ZERO, &settings);
    let (mut clock, mut rng) = (Clock::default(), Pcg32::new(SEED, 0));
    let now = Time::ZERO;
    while let Ok(permit) = breaker.admit(now, &settings) {
        let _ = breaker.record(now, permit, Class::Failure, TOOK, &settings, &mut rng);
    }
    Ok(batch(move || {
        let (now, settings, breaker) =
            (clock.next(), black_box(&settings), black_box(&mut breaker));
        let _ = breaker.tick(now, settings, &mut rng);
        black_box(&breaker.admit(now, settings)).is_err()
    }))
}

fn budget(ratio: f64, repeat: bool) -> Made {
    let config = BudgetConfig { ratio, ..BudgetConfig::default() };
    let settings = black_box(budget::Settings::of(&config, PATH)?);
    let (mut budget, mut clock) = (Budget::default(), Clock::default());
    Ok(batch(move || {
        let (now, settings, budget) = (clock.next(), black_box(&settings), black_box(&mut budget));
        budget.deposit(now);
        !repeat || black_box(&budget.withdraw(now, settings)).is_some()
    }))
}

fn budget_refused() -> Made {
    let config = BudgetConfig { ratio: 0.2, min_per_second: 0, ..BudgetConfig::default() };
    let settings = black_box(budget::Settings::of(&config, PATH)?);
    let (mut budget, mut clock) = (Budget::default(), Clock::default());
    Ok(batch(move || {
        let (now, settings, budget) = (clock.next(), black_box(&settings), black_box(&mut budget));
        black_box(&budget.withdraw(now, settings)).is_none()
    }))
}

fn tokens(config: &TokensConfig) -> Made {
    let settings = black_box(tokens::Settings::of(config, PATH)?);
    let mut tokens = Tokens::new(&settings);
    Ok(batch(move || {
        let (settings, tokens) = (black_box(&settings), black_box(&mut tokens));
        tokens.on_failure(settings);
        let Ok(taken) = tokens.try_take(After::Failure, settings) else { return false };
        tokens.on_success(Some(black_box(taken)), settings);
        true
    }))
}

fn rate(mode: RateMode) -> Made {
    let config = RateConfig {
        mode,
        permits: 100_000,
        burst: 1_000,
        floor: 50_000,
        ceiling: 1_000_000,
        ..RateConfig::default()
    };
    let settings = black_box(rate::Settings::of(&config, PATH)?);
    let (mut limit, mut clock) = (RateLimit::new(&settings), Clock::default());
    let adaptive = mode == RateMode::Adaptive;
    Ok(batch(move || {
        let (now, settings, limit) = (clock.next(), black_box(&settings), black_box(&mut limit));
        let taken = black_box(&limit.try_take(now, settings)).is_ok();
        if adaptive {
            limit.on_answer(now.plus(TOOK), now, false, settings);
        }
        taken
    }))
}

fn rate_refused() -> Made {
    let (mode, per) = (RateMode::Fixed, Duration::from_secs(3600));
    let config = RateConfig { mode, permits: 1, per, burst: 1, ..RateConfig::default() };
    let settings = black_box(rate::Settings::of(&config, PATH)?);
    let mut limit = RateLimit::new(&settings);
    let now = Time::from_millis(1);
    limit.try_take(now, &settings).map_err(|refused| refused.to_string())?;
    Ok(batch(move || {
        // Time stands still: a permit comes every hour.
        let (now, settings, limit) = (black_box(now), black_box(&settings), black_box(&mut limit));
        black_box(&limit.try_take(now, settings)).is_err()
    }))
}

fn concurrency(mode: ConcurrencyMode) -> Made {
    let config = ConcurrencyConfig { mode, ..ConcurrencyConfig::default() };
    let settings = black_box(concurrency::Settings::of(&config, PATH)?);
    let (mut limit, mut clock) = (Concurrency::new(&settings), Clock::default());
    Ok(batch(move || {
        let (now, settings, limit) = (clock.next(), black_box(&settings), black_box(&mut limit));
        let Ok(slot) = limit.try_acquire(settings) else { return false };
        let answered = Sample::Success { took: black_box(TOOK) };
        let _ = black_box(&limit.release(now, slot, answered, settings));
        true
    }))
}

fn throttle(accepting: bool) -> Made {
    let config = ThrottleConfig { enabled: true, ..ThrottleConfig::default() };
    let settings = black_box(throttle::Settings::of(&config, PATH)?);
    let (mut throttle, mut clock) = (Throttle::default(), Clock::default());
    let mut rng = Pcg32::new(SEED, 0);
    Ok(batch(move || {
        let (now, settings) = (clock.next(), black_box(&settings));
        let throttle = black_box(&mut throttle);
        let admitted = throttle.admit(now, settings, &mut rng).is_ok();
        if admitted {
            throttle.record(now, accepting, settings);
        }
        // Against a peer that refuses everything, some are let through and some are not.
        admitted || !accepting
    }))
}

fn queue() -> Made {
    let config = QueueConfig { enabled: true, ..QueueConfig::default() };
    let settings = black_box(queue::Settings::of(&config, PATH)?);
    let (mut queue, mut clock) = (WaitQueue::new(&settings), Clock::default());
    Ok(batch(move || {
        let (now, settings, queue) = (clock.next(), black_box(&settings), black_box(&mut queue));
        let latest = now.plus(LONG);
        let Ok(ticket) = queue.enter(now, Priority::Normal, latest, settings) else {
            return false;
        };
        queue.poll(now, ticket, 1) == Turn::Go
    }))
}

fn backoff() -> Made {
    let settings = black_box(backoff::Settings::of(&BackoffConfig::default(), PATH)?);
    let (mut backoff, mut rng) = (Backoff::default(), Pcg32::new(SEED, 0));
    Ok(batch(move || {
        let (settings, backoff) = (black_box(&settings), black_box(&mut backoff));
        if backoff.steps() == 3 {
            backoff.reset();
        }
        black_box(&backoff.next(Cause::Failed, Advice::Silent, settings, &mut rng)).is_ok()
    }))
}

/// A histogram that has seen what uneven calls take.
fn seen() -> (Histogram, latency::Settings) {
    let settings = latency::Settings::default();
    let (mut seen, mut rng) = (Histogram::new(Time::ZERO, &settings), Pcg32::new(SEED, 1));
    for _ in 0..2_000 {
        let took = Duration::from_micros(500 + u64::from(rng.below(20_000)));
        seen.record(Time::ZERO, took, &settings);
    }
    (seen, settings)
}

fn hedge() -> Made {
    let config = HedgeConfig { enabled: true, ..HedgeConfig::default() };
    let settings = black_box(hedge::Settings::of(&config, PATH)?);
    let (mut hedge, mut clock) = (Hedge::new(Time::ZERO), Clock::default());
    let (seen, _) = seen();
    Ok(batch(move || {
        let (now, settings, hedge) = (clock.next(), black_box(&settings), black_box(&mut hedge));
        hedge.call(now);
        black_box(&hedge.delay(black_box(&seen), settings)).is_ok()
    }))
}

fn adaptive_timeout() -> Made {
    let config = AdaptiveTimeoutConfig { enabled: true, ..AdaptiveTimeoutConfig::default() };
    let settings = black_box(timeout::Settings::of(&config, PATH)?);
    let mut timeout = Adaptive::default();
    let (seen, _) = seen();
    let configured = Duration::from_secs(10);
    Ok(batch(move || {
        let (settings, timeout) = (black_box(&settings), black_box(&mut timeout));
        let (took, _) = timeout.timeout(black_box(&seen), black_box(configured), settings);
        black_box(took) < configured
    }))
}
