//! The crates somebody would take instead, doing what the case of the same kind does here. They
//! read their own clocks, and where they wrap a call, the call is one that is ready at once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use failsafe::CircuitBreaker;
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use recloser::Recloser;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::retry::budget::{Budget, TpsBudget};
use tower::{Service, ServiceExt};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use super::{Batch, Case, LONG, Made, batch, unjudged};

pub(super) const CASES: &[Case] = &[
    unjudged("recloser_success", "recloser 1.4: success, window of 100 calls", || recloser(true)),
    unjudged("recloser_rejected", "recloser 1.4: refusal", || recloser(false)),
    unjudged("failsafe_consecutive", "failsafe 1.3: failures in a row, success", || {
        Ok(failsafe_success(&failsafe_consecutive()))
    }),
    unjudged(
        "failsafe_default",
        "failsafe 1.3 as it is by default (EMA and in a row): success",
        || Ok(failsafe_success(&failsafe::Config::new().build())),
    ),
    unjudged("failsafe_rejected", "failsafe 1.3: refusal", failsafe_rejected),
    unjudged(
        "tower_resilience_count",
        "tower-resilience 0.14: success, window of 100 calls",
        || tower_resilience(Window::Calls),
    ),
    unjudged(
        "tower_resilience_consecutive",
        "tower-resilience 0.14: failures in a row, success",
        || tower_resilience(Window::InARow),
    ),
    unjudged(
        "tower_resilience_time",
        "tower-resilience 0.14: success, time window with 1 000 calls in it on average",
        || tower_resilience(Window::Time),
    ),
    unjudged("tower_resilience_rejected", "tower-resilience 0.14: refusal", || {
        tower_resilience(Window::Open)
    }),
    unjudged("tower_budget_call", "tower 0.5.3 TpsBudget: deposit", || tower_budget(false)),
    unjudged("tower_budget_retry", "tower 0.5.3 TpsBudget: deposit and granted withdrawal", || {
        tower_budget(true)
    }),
    unjudged(
        "tower_p2c_3",
        "tower 0.5.3 p2c on peak EWMA: ready, call, answer, 3 endpoints",
        || tower_p2c(3),
    ),
    unjudged("tower_p2c_100", "the same, 100 endpoints", || tower_p2c(100)),
    unjudged("tower_p2c_10000", "the same, 10 000 endpoints", || tower_p2c(10_000)),
    unjudged("tower_p2c_100000", "the same, 100 000 endpoints", || tower_p2c(100_000)),
    unjudged("governor_taken", "governor 0.10: a permit", || governor(true)).times(GOVERNOR),
    unjudged("governor_refused", "governor 0.10: refusal", || governor(false)).times(GOVERNOR),
    unjudged(
        "governor_clockless",
        "governor 0.10 with a clock that is told the time, so that none is read: a permit",
        governor_clockless,
    ),
    unjudged(
        "backon",
        "backon 1.6: one wait with jitter, the sequence anew every third time",
        backon,
    ),
];

fn recloser(closed: bool) -> Made {
    let recloser = Recloser::custom().error_rate(0.5).closed_len(100).open_wait(LONG).build();
    if closed {
        return Ok(batch(move || {
            black_box(&recloser).call(|| black_box(Ok::<(), ()>(()))).is_ok()
        }));
    }
    for _ in 0..200 {
        let _ = recloser.call(|| Err::<(), ()>(()));
    }
    Ok(batch(move || {
        let answer = black_box(&recloser).call(|| black_box(Ok::<(), ()>(())));
        matches!(answer, Err(recloser::Error::Rejected))
    }))
}

fn failsafe_consecutive() -> impl CircuitBreaker + Clone + 'static {
    let policy =
        failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(LONG));
    failsafe::Config::new().failure_policy(policy).build()
}

fn failsafe_success(breaker: &(impl CircuitBreaker + Clone + 'static)) -> Batch {
    let breaker = breaker.clone();
    batch(move || black_box(&breaker).call(|| black_box(Ok::<(), ()>(()))).is_ok())
}

fn failsafe_rejected() -> Made {
    let breaker = failsafe_consecutive();
    for _ in 0..5 {
        let _ = breaker.call(|| Err::<(), ()>(()));
    }
    Ok(batch(move || {
        let answer = black_box(&breaker).call(|| black_box(Ok::<(), ()>(())));
        matches!(answer, Err(failsafe::Error::Rejected))
    }))
}

/// What `poll` would return to a task that is awake: all services here are ready at once.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// A service that answers at once.
#[derive(Clone, Copy)]
struct Prompt;

impl Service<()> for Prompt {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, (): ()) -> Self::Future {
        ready(black_box(Ok(())))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Window {
    Calls,
    InARow,
    Time,
    Open,
}

/// With a time window, this crate keeps every call of the window and counts them all for each
/// result. So that its price is that of a definite number, the window is begun anew after so many.
const IN_WINDOW: u64 = 2_000;

fn tower_resilience(window: Window) -> Made {
    let builder = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .minimum_number_of_calls(20)
        .wait_duration_in_open(LONG);
    let layer = match window {
        Window::Calls | Window::Open => builder.sliding_window_size(100),
        Window::InARow => builder.consecutive_failures(5),
        Window::Time => builder
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_secs(3600)),
    }
    .build()?;
    let mut service = layer.layer_fn(Prompt);
    if window == Window::Open {
        now(service.force_open());
        return Ok(batch(move || {
            let service = black_box(&mut service);
            let call = async { service.ready().await?.call(()).await };
            matches!(now(call), Some(Err(_)))
        }));
    }
    let mut calls = 0;
    Ok(batch(move || {
        calls += 1;
        if window == Window::Time && calls % IN_WINDOW == 0 {
            // The way to empty the window is a change of state and back.
            now(service.force_open());
            now(service.force_closed());
        }
        let service = black_box(&mut service);
        let call = async { service.ready().await?.call(()).await };
        matches!(now(call), Some(Ok(())))
    }))
}

fn tower_budget(repeat: bool) -> Made {
    let budget = TpsBudget::new(Duration::from_secs(10), 10, 1.0);
    Ok(batch(move || {
        let budget = black_box(&budget);
        budget.deposit();
        !repeat || budget.withdraw()
    }))
}

fn tower_p2c(endpoints: u32) -> Made {
    let list = (0..endpoints).map(|_| {
        let decay = Duration::from_secs(10).as_secs_f64() * 1e9;
        PeakEwma::new(Prompt, Duration::from_millis(1), decay, CompleteOnResponse::default())
    });
    let list: Vec<_> = list.collect();
    let mut balance = Balance::new(ServiceList::new::<()>(list));
    Ok(batch(move || {
        let balance = black_box(&mut balance);
        matches!(now(async { balance.ready().await?.call(()).await }), Some(Ok(())))
    }))
}

/// Its clock measures itself when it is first used, for as long as it takes to be sure: a start
/// that is never the same, and must be little beside the operations.
const GOVERNOR: u32 = 100;

fn governor(granted: bool) -> Made {
    if granted {
        let limiter = RateLimiter::direct(Quota::per_second(NonZeroU32::MAX));
        return Ok(batch(move || black_box(&limiter).check().is_ok()));
    }
    let limiter = RateLimiter::direct(Quota::per_hour(NonZeroU32::MIN));
    let _ = limiter.check();
    Ok(batch(move || black_box(&black_box(&limiter).check()).is_err()))
}

fn governor_clockless() -> Made {
    let clock = FakeRelativeClock::default();
    let limiter = RateLimiter::direct_with_clock(Quota::per_second(NonZeroU32::MAX), clock.clone());
    Ok(batch(move || {
        clock.advance(Duration::from_nanos(1));
        black_box(&limiter).check().is_ok()
    }))
}

fn backon() -> Made {
    let builder = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(3);
    let mut waits = builder.build();
    let mut taken = 0;
    Ok(batch(move || {
        if taken == 3 {
            (waits, taken) = (black_box(&builder).build(), 0);
        }
        taken += 1;
        black_box(&black_box(&mut waits).next()).is_some()
    }))
}
