//! The same sequences on Origin's breaker and on others: how each of them behaves where breakers
//! go wrong. What is reported is what happened; no answer is known beforehand.
//!
//! A backend is a future that notes when it is first polled and then waits for its answer. So any
//! number of calls can be out at the same time, on one thread and without a runtime. Waiting is
//! real for those who read a clock, and virtual for Origin.

pub mod breakers;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long the breakers of all sequences stay open.
pub const OPEN: Duration = Duration::from_millis(50);
/// Origin's longest time for a probe, here; the others have no such setting.
pub const PROBE_MAX: Duration = Duration::from_millis(100);
/// Enough for the open interval to be over.
const OPEN_IS_OVER: Duration = Duration::from_millis(60);
/// Time between two calls when traffic resumes.
const GAP: Duration = Duration::from_millis(5);
/// Traffic is watched for so long: ten open intervals.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// Successes in a row that count as recovered.
const RECOVERED: u32 = 5;

/// What a call through a breaker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend was asked, and its answer was good.
    Succeeded,
    /// The backend was asked, and its answer was bad.
    Failed,
    /// The breaker refused it.
    Refused,
}

/// A call through a breaker.
pub type Call = Pin<Box<dyn Future<Output = Outcome>>>;

/// A breaker under examination. Failures alone make it trip, and then it is open for [`OPEN`].
pub trait Subject {
    /// A call that asks `backend` if the breaker lets it.
    fn call(&mut self, backend: Backend) -> Call;
    /// Lets time pass.
    fn wait(&mut self, span: Duration);
}

/// One request as the backend sees it. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Backend(Arc<Request>);

#[derive(Debug, Default)]
struct Request {
    asked: AtomicBool,
    /// 0: no answer yet, 1: a bad one, 2: a good one.
    answer: AtomicU8,
}

impl Backend {
    fn answer(&self, good: bool) {
        self.0.answer.store(1 + u8::from(good), Ordering::SeqCst);
    }

    fn asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl Future for Backend {
    type Output = Result<(), ()>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.0.asked.store(true, Ordering::SeqCst);
        match self.0.answer.load(Ordering::SeqCst) {
            0 => Poll::Pending,
            1 => Poll::Ready(Err(())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// A sequence could not be played: the breaker did not do what every breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplayable(&'static str);

impl std::fmt::Display for Unplayable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// A call that has been started.
struct Started {
    call: Call,
    backend: Backend,
}

fn poll(call: &mut Call) -> Poll<Outcome> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn start(subject: &mut dyn Subject) -> Started {
    let backend = Backend::default();
    let mut call = subject.call(backend.clone());
    // What a refused call came to is seen by the backend, which was not asked.
    let _ = poll(&mut call);
    Started { call, backend }
}

/// A call whose backend answers at once.
fn prompt(subject: &mut dyn Subject, good: bool) -> Option<Outcome> {
    let backend = Backend::default();
    backend.answer(good);
    match poll(&mut subject.call(backend)) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Fails calls until one is refused, and waits until the breaker may be half-open.
fn trip_and_wait(subject: &mut dyn Subject) -> Result<(), Unplayable> {
    if !(0..100).any(|_| prompt(subject, false) == Some(Outcome::Refused)) {
        return Err(Unplayable("a hundred failures do not trip it"));
    }
    subject.wait(OPEN_IS_OVER);
    Ok(())
}

fn probe(subject: &mut dyn Subject) -> Result<Started, Unplayable> {
    let probe = start(subject);
    if probe.backend.asked() { Ok(probe) } else { Err(Unplayable("it lets no probe through")) }
}

/// Ten calls at once when it turns half-open: how many reach the backend.
///
/// # Errors
/// [`Unplayable`].
pub fn at_once(subject: &mut dyn Subject) -> Result<usize, Unplayable> {
    trip_and_wait(subject)?;
    let calls: Vec<Started> = (0..10).map(|_| start(subject)).collect();
    Ok(calls.iter().filter(|call| call.backend.asked()).count())
}

/// Two calls from before the trip succeed while the probe is out; then the probe fails. Whether
/// the breaker had been closed by them: it then takes that failure for one of many, and lets the
/// next call through. (Two, because recloser decides on one result more than it is told.)
///
/// # Errors
/// [`Unplayable`].
pub fn straggler_closes(subject: &mut dyn Subject) -> Result<bool, Unplayable> {
    let mut stragglers = [start(subject), start(subject)];
    trip_and_wait(subject)?;
    let mut probe = probe(subject)?;
    for straggler in &mut stragglers {
        straggler.backend.answer(true);
        let _ = poll(&mut straggler.call);
    }
    probe.backend.answer(false);
    let _ = poll(&mut probe.call);
    Ok(prompt(subject, true) != Some(Outcome::Refused))
}

/// How it recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Until the first of five successes in a row.
    pub after: Duration,
    /// Calls refused before, though the backend is well.
    pub refused: u32,
}

/// The probe is dropped without an answer, and traffic resumes. `None`: no recovery within
/// [`PATIENCE`].
///
/// # Errors
/// [`Unplayable`].
pub fn dropped_probe(subject: &mut dyn Subject) -> Result<Option<Recovery>, Unplayable> {
    trip_and_wait(subject)?;
    drop(probe(subject)?);
    Ok(resume(subject))
}

/// The probe is never answered and nobody drops it, and traffic resumes.
///
/// # Errors
/// [`Unplayable`].
pub fn hanging_probe(subject: &mut dyn Subject) -> Result<Option<Recovery>, Unplayable> {
    trip_and_wait(subject)?;
    let probe = probe(subject)?;
    let recovery = resume(subject);
    drop(probe);
    Ok(recovery)
}

fn resume(subject: &mut dyn Subject) -> Option<Recovery> {
    let (mut passed, mut refused, mut in_a_row) = (Duration::ZERO, 0, 0);
    while passed < PATIENCE {
        if prompt(subject, true) == Some(Outcome::Succeeded) {
            in_a_row += 1;
            if in_a_row == RECOVERED {
                return Some(Recovery { after: passed - GAP * (RECOVERED - 1), refused });
            }
        } else {
            (in_a_row, refused) = (0, refused + 1);
        }
        subject.wait(GAP);
        passed += GAP;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_gets_the_sequences_right() {
        let make = |probes| breakers::origin(probes).unwrap();
        assert_eq!(at_once(&mut *make(2)), Ok(2));
        assert_eq!(straggler_closes(&mut *make(1)), Ok(false));
        let at_once = Recovery { after: Duration::ZERO, refused: 0 };
        assert_eq!(dropped_probe(&mut *make(1)), Ok(Some(at_once)));
        let recovery = hanging_probe(&mut *make(1)).unwrap().unwrap();
        assert!(recovery.after <= PROBE_MAX + OPEN * 2, "{recovery:?}");
    }
}
