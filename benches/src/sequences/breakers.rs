//! The breakers of [`super`], each told the same as far as it can be told: open for [`OPEN`],
//! half-open with so many probes. What is not told is as the crate has it by default.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use failsafe::futures::CircuitBreaker as _;
use origin_core::Time;
use origin_core::config::BreakerConfig;
use origin_core::outcome::Class;
use origin_core::policy::breaker::{Breaker, Permit, Settings};
use origin_core::rng::Pcg32;
use recloser::{AsyncRecloser, Recloser};
use tower::{Service, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};

use super::{Backend, Call, OPEN, Outcome, PROBE_MAX, Subject};

/// A breaker, or why it cannot be made.
pub type Made = Result<Box<dyn Subject>, Box<dyn Error>>;

/// Makes a breaker that lets so many probes through, where it can be told.
pub type Make = fn(usize) -> Made;

/// All of them, by name and version.
pub const ALL: [(&str, Make); 4] = [
    ("Origin", origin),
    ("recloser 1.4", recloser),
    ("failsafe 1.3", failsafe),
    ("tower-resilience 0.14", tower_resilience),
];

/// A breaker of a crate that reads the clock itself.
struct Foreign<F>(F);

impl<F: FnMut(Backend) -> Call> Subject for Foreign<F> {
    fn call(&mut self, backend: Backend) -> Call {
        (self.0)(backend)
    }

    fn wait(&mut self, span: Duration) {
        std::thread::sleep(span);
    }
}

fn recloser(probes: usize) -> Made {
    let recloser: AsyncRecloser = Recloser::custom()
        .error_rate(0.5)
        .closed_len(4)
        .half_open_len(probes)
        .open_wait(OPEN)
        .build()
        .into();
    Ok(Box::new(Foreign(move |backend| {
        let call = recloser.call(backend);
        Box::pin(async {
            match call.await {
                Ok(()) => Outcome::Succeeded,
                Err(recloser::Error::Inner(())) => Outcome::Failed,
                Err(recloser::Error::Rejected) => Outcome::Refused,
            }
        }) as Call
    })))
}

/// The number of its probes cannot be told.
fn failsafe(_: usize) -> Made {
    let policy =
        failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(OPEN));
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    Ok(Box::new(Foreign(move |backend| {
        let call = breaker.call(backend);
        Box::pin(async {
            match call.await {
                Ok(()) => Outcome::Succeeded,
                Err(failsafe::Error::Inner(())) => Outcome::Failed,
                Err(failsafe::Error::Rejected) => Outcome::Refused,
            }
        }) as Call
    })))
}

fn tower_resilience(probes: usize) -> Made {
    let layer = CircuitBreakerLayer::builder()
        .consecutive_failures(5)
        .wait_duration_in_open(OPEN)
        .permitted_calls_in_half_open(probes)
        .build()?;
    let service = layer.layer_fn(service_fn(|backend: Backend| backend));
    Ok(Box::new(Foreign(move |backend| {
        let mut service = service.clone();
        Box::pin(async move {
            let answer = match service.ready().await {
                Ok(service) => service.call(backend).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(()) => Outcome::Succeeded,
                Err(CircuitBreakerError::Inner(())) => Outcome::Failed,
                Err(_) => Outcome::Refused,
            }
        }) as Call
    })))
}

/// Origin's breaker behind a lock, with a clock that is told the time.
struct Shared {
    breaker: Breaker,
    settings: Settings,
    rng: Pcg32,
    now: Time,
}

struct Origin(Arc<Mutex<Shared>>);

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Origin's breaker as a driver uses it.
///
/// # Errors
/// More probes than can be configured.
pub fn origin(probes: usize) -> Made {
    let probes = u32::try_from(probes)?;
    let config = BreakerConfig {
        failures: Some(5),
        failure_rate: None,
        open: OPEN,
        jitter: 0.0,
        half_open_permits: probes,
        half_open_successes: probes,
        half_open_max: PROBE_MAX,
        ..BreakerConfig::default()
    };
    let settings = Settings::of(&config, "breaker")?;
    let breaker = Breaker::new(Time::ZERO, &settings);
    let shared = Shared { breaker, settings, rng: Pcg32::new(42, 0), now: Time::ZERO };
    Ok(Box::new(Origin(Arc::new(Mutex::new(shared)))))
}

impl Subject for Origin {
    fn call(&mut self, backend: Backend) -> Call {
        Box::pin(Guarded { shared: self.0.clone(), backend, stage: Stage::New })
    }

    fn wait(&mut self, span: Duration) {
        let mut shared = lock(&self.0);
        shared.now = shared.now.plus(span);
    }
}

enum Stage {
    New,
    Out { permit: Permit, sent: Time },
    Over,
}

/// A call that holds a permit while it is out, and gives it back when it is dropped.
struct Guarded {
    shared: Arc<Mutex<Shared>>,
    backend: Backend,
    stage: Stage,
}

impl Future for Guarded {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Stage::New = self.stage {
            let mut guard = lock(&self.shared);
            let Shared { breaker, settings, rng, now } = &mut *guard;
            let (asked, sent) = (breaker.ask(*now, settings, rng, |_| ()), *now);
            drop(guard);
            self.stage = match asked {
                Ok(permit) => Stage::Out { permit, sent },
                Err(_) => Stage::Over,
            };
        }
        let Stage::Out { permit, sent } = self.stage else { return Poll::Ready(Outcome::Refused) };
        let answer = ready!(Pin::new(&mut self.backend).poll(context));
        self.stage = Stage::Over;
        let class = if answer.is_ok() { Class::Success } else { Class::Failure };
        let mut guard = lock(&self.shared);
        let Shared { breaker, settings, rng, now } = &mut *guard;
        let _ = breaker.record(*now, permit, class, now.since(sent), settings, rng);
        Poll::Ready(if answer.is_ok() { Outcome::Succeeded } else { Outcome::Failed })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Stage::Out { permit, .. } = self.stage {
            lock(&self.shared).breaker.release(permit);
        }
    }
}
