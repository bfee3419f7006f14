//! The blocking half: the plain twin of the async loop. No thread is started: a call that needs
//! discovery fetches it itself, or waits for the thread that does. A background is in `thread.rs`,
//! for those who ask for one.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use event_listener::Listener;
use origin_core::call::Ticket;
use origin_core::job::{Job, JobOutcome, Poll, Work};
use origin_core::ops::{Flow, Step};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Error, Request, Response, Time};

use crate::cache::blocking::{carry_on, remembering};
pub use crate::cache::blocking::{purge, warm};
use crate::carry::Limit;
use crate::consul::Goal;
pub use crate::download::blocking::get;
use crate::flight::{Exchanged, Flight, Next, Shot};
use crate::guards::JobGuard;
use crate::hub::{Hub, Slot, lock};
use crate::observe;
use crate::response::Streaming;
use crate::runtime::Runtime;
use crate::sharing::ShareGuard;
pub use crate::thread::{Background, close};
pub use crate::upload::blocking::finish;
use crate::vault::Wait;
pub use crate::watch::blocking::{Watch, follow, watch};

/// What the blocking loop needs of an adapter, besides [`Runtime`].
pub trait BlockingRuntime: Runtime<Body = Body<Self>> {
    /// The body as the HTTP library hands it out.
    type Raw: Read + Send + 'static;

    /// Sleeps until `at`.
    fn sleep_until(&self, at: Time);

    /// One HTTP exchange up to the response head, which is given up at `head_by`; reading its
    /// body fails at `body_by`, which is the same or later.
    fn exchange(
        &self,
        request: http::Request<Bytes>,
        head_by: Time,
        body_by: Time,
    ) -> Exchanged<Self::Raw>;

    /// Looks `host` up, opens a TCP connection and closes it, within the limit of connecting and
    /// until `by` at the latest.
    ///
    /// # Errors
    /// Why there is no connection.
    fn connect(&self, host: &str, port: u16, by: Time) -> Result<(), Fault>;

    /// What a read error of a body means.
    fn body_fault(error: &io::Error) -> Fault;
}

/// Runs one call and collects its response.
///
/// # Errors
/// Those of the call.
pub fn call<R: BlockingRuntime>(
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    request: Request,
) -> Result<Response, Error> {
    answered(&mut Flight::new(hub, slot, request))
}

fn answered<R: BlockingRuntime>(flight: &mut Flight<R>) -> Result<Response, Error> {
    if flight.slot.memory.is_on() { remembering(flight) } else { collected(flight) }
}

/// Two replies at once: the second on a thread that ends with it, or after the first where there is
/// no thread to be had. Both are waited for.
///
/// # Errors
/// That of the first, or else that of the second.
pub fn both<T: Send, U: Send>(
    first: impl FnOnce() -> Result<T, Error> + Send,
    second: impl FnOnce() -> Result<U, Error> + Send,
) -> Result<(T, U), Error> {
    let second = Mutex::new(Some(second));
    let run = || lock(&second).take().map(|second| second());
    let (first, second) = std::thread::scope(|scope| {
        let beside = std::thread::Builder::new().name("origin-both".to_owned());
        let beside = beside.spawn_scoped(scope, run);
        let first = first();
        let second = match beside {
            Ok(thread) => match thread.join() {
                Ok(second) => second,
                Err(panic) => std::panic::resume_unwind(panic),
            },
            Err(_) if first.is_ok() => run(),
            Err(_) => None,
        };
        (first, second)
    });
    let first = first?;
    match second {
        Some(second) => Ok((first, second?)),
        // It is taken once, by whoever runs it.
        None => Err(Error::Request { service: "".into(), reason: "it was not run".to_owned() }),
    }
}

/// Runs a flow: each of its requests is one call.
///
/// # Errors
/// Those of its calls, and of the flow itself.
pub fn run<R: BlockingRuntime, F: Flow>(
    hub: &Arc<Hub<R>>,
    slot: &Arc<Slot>,
    mut flow: F,
) -> Result<F::Output, Error> {
    let mut last = None;
    loop {
        let request = match last {
            Some(Err(error)) => flow.failed(error)?,
            reply => {
                let reply = reply.and_then(Result::ok);
                if flow.awaits_token(reply.as_ref()) {
                    token(hub, slot);
                }
                match flow.next(reply)? {
                    Step::Done(output) => {
                        observe::remark(flow.remark());
                        return Ok(output);
                    }
                    Step::Send(request) => request,
                }
            }
        };
        let mut flight = Flight::new(hub.clone(), slot.clone(), request);
        last = Some(answered(&mut flight));
    }
}

pub(crate) fn collected<R: BlockingRuntime>(flight: &mut Flight<R>) -> Result<Response, Error> {
    let mut answer = None;
    let limit = flight.max_body();
    drive(flight, &mut answer, false, |exchanged: http::Response<R::Raw>| {
        let (head, body) = exchanged.into_parts();
        let body = collect::<R>(body, limit).map_err(|fault| (fault, Sent::Maybe))?;
        Ok(http::Response::from_parts(head, body))
    })?;
    let report = flight.report();
    let (head, body) = answer.unwrap_or_default().into_parts();
    Ok(Response { status: head.status, headers: head.headers, body, trailers: None, report })
}

/// One call whose body is left to the caller.
///
/// # Errors
/// Those of the call up to the response head.
pub fn stream<R: BlockingRuntime>(
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    request: Request,
) -> Result<Streaming<Body<R>>, Error> {
    let mut flight = Flight::new(hub, slot, request);
    let mut answer = None;
    let ticket = drive(&mut flight, &mut answer, true, Ok)?;
    let report = flight.report();
    let Some(response) = answer else {
        return Err(Error::Body { service: report.service, fault: Fault::Reset });
    };
    flight.outdate(response.status(), response.headers());
    carry_on(&flight.hub);
    let (head, raw) = response.into_parts();
    let (hub, slot, left) = (flight.hub.clone(), flight.slot.clone(), flight.max_body());
    let body = Body { raw: Box::new(raw), left, hub, slot, ticket, over: false };
    Ok(Streaming { status: head.status, headers: head.headers, body, report })
}

/// The loop: asks the core what to do, does it, tells what came of it.
fn drive<R: BlockingRuntime, T>(
    flight: &mut Flight<R>,
    answer: &mut Option<http::Response<T>>,
    streamed: bool,
    finish: impl Fn(http::Response<R::Raw>) -> Exchanged<T>,
) -> Result<Ticket, Error> {
    let runtime = flight.hub.runtime.clone();
    let mut now = flight.start();
    if flight.hub.discovery_due(&flight.slot, now) {
        let mut more = true;
        while more {
            let (slot, until) = (Some(&*flight.slot), flight.deadline());
            let Poll::Run(job) = flight.hub.poll_job(runtime.now(), slot, until) else { break };
            more = perform(&*runtime, JobGuard::new(&flight.hub, &job), *job);
        }
        now = runtime.now();
    }
    if flight.hub.identity_due(&flight.slot, now) {
        identified(flight)?;
        now = runtime.now();
    }
    let mut next = flight.begin(now);
    loop {
        next = match next {
            Next::Send(mut shot) => {
                let Shot { attempt, until, .. } = shot;
                // A streamed body may go on after the head until the call's own deadline.
                let body_by = if streamed { flight.deadline() } else { until };
                let request = flight.request(&mut shot);
                let exchanged = runtime.exchange(request, until, body_by).and_then(&finish);
                let outcome = match exchanged {
                    Ok(response) => {
                        let outcome = flight.outcome_of(response.status(), response.headers());
                        *answer = Some(response);
                        outcome
                    }
                    Err((fault, sent)) => Outcome::Failed { fault, sent },
                };
                flight.finished(attempt, outcome)
            }
            Next::WaitUntil(until) => {
                runtime.sleep_until(until);
                flight.wake()
            }
            Next::Park { until, epoch } => {
                park(flight, until, epoch);
                flight.wake()
            }
            // An attempt that has ended cannot be out.
            Next::Cancel(_) => flight.wake(),
            Next::Answered(ticket) => return Ok(ticket),
            Next::Failed(error) => return Err(error),
        }
    }
}

/// Waits for the epoch of the service to move, carrying the fetch if nobody else does.
fn park<R: BlockingRuntime>(flight: &Flight<R>, until: Time, epoch: u64) {
    let (hub, slot) = (&flight.hub, &flight.slot);
    loop {
        let moved = slot.moved.listen();
        if lock(&slot.service).epoch() != epoch {
            return;
        }
        let now = hub.runtime.now();
        if now >= until {
            return;
        }
        match hub.poll_job(now, Some(slot), until) {
            Poll::Run(job) => {
                let _ = perform(&*hub.runtime, JobGuard::new(hub, &job), *job);
            }
            Poll::Wait(at) => {
                // A bound, so that a time far away cannot overflow the platform's clock.
                let span = now.until(at.min(until)).min(Duration::from_secs(3600));
                let _ = moved.wait_timeout(span);
            }
        }
    }
}

/// Waits until own registrations are as `goal` says, carrying what is due if nobody else does.
/// Yields whether they are.
///
/// # Errors
/// Why they never will be.
pub fn settle<R: BlockingRuntime>(
    hub: &Arc<Hub<R>>,
    goal: &Goal,
    until: Time,
) -> Result<bool, Error> {
    loop {
        let news = hub.news.listen();
        if let Some(result) = hub.settled(goal) {
            return result.map(|()| true);
        }
        let now = hub.runtime.now();
        if now >= until {
            return Ok(false);
        }
        match hub.poll_desk(now) {
            Poll::Run(mut job) => {
                // Nothing can wake this thread, so an exchange has to end with the wait; cut
                // short, it counts as one without an answer.
                job.deadline = job.deadline.min(until);
                let _ = perform(&*hub.runtime, JobGuard::new(hub, &job), *job);
            }
            Poll::Wait(at) => {
                // A bound, so that a time far away cannot overflow the platform's clock.
                let span = now.until(at.min(until)).min(Duration::from_secs(3600));
                let _ = news.wait_timeout(span);
            }
        }
    }
}

/// Waits for a token that is under way, or for the word on the present one, and carries out what is
/// due for it: there may be nobody else.
fn token<R: BlockingRuntime>(hub: &Arc<Hub<R>>, slot: &Arc<Slot>) {
    if hub.vault.is_none() {
        return;
    }
    let until = hub.runtime.now().plus(lock(&slot.service).rules().total);
    loop {
        let news = hub.news.listen();
        let now = hub.runtime.now();
        match hub.await_token(slot, now) {
            _ if now >= until => return,
            Wait::No => return,
            Wait::Carry(mut job) => {
                job.deadline = job.deadline.min(until);
                let _ = perform(&*hub.runtime, JobGuard::new(hub, &job), *job);
            }
            Wait::News(at) => {
                if hub.discovery_due(slot, now)
                    && let Poll::Run(job) = hub.poll_job(now, Some(slot), until)
                {
                    let _ = perform(&*hub.runtime, JobGuard::new(hub, &job), *job);
                }
                // What came of that is news.
                let span = now.until(at.min(until)).min(Duration::from_secs(3600));
                let _ = news.wait_timeout(span);
            }
        }
    }
}

/// Looks after the identity before a call, and waits for the service-account token where its file
/// has not been read yet. What is due is carried out here: there may be nobody else.
fn identified<R: BlockingRuntime>(flight: &Flight<R>) -> Result<(), Error> {
    let (hub, slot) = (&flight.hub, &flight.slot);
    let (wants, until) = (flight.takes_bearer(), flight.deadline());
    loop {
        let news = hub.news.listen();
        match hub.await_identity(slot, wants, until)? {
            Wait::No => return Ok(()),
            Wait::Carry(mut job) => {
                job.deadline = job.deadline.min(until);
                let _ = perform(&*hub.runtime, JobGuard::new(hub, &job), *job);
            }
            Wait::News(at) => {
                let span = hub.runtime.now().until(at.min(until)).min(Duration::from_secs(3600));
                let _ = news.wait_timeout(span);
            }
        }
    }
}

/// Does a job and brings its result back; says so if the thread unwinds on the way. Returns
/// whether the fetch was redirected and goes on.
pub(crate) fn perform<R: BlockingRuntime>(runtime: &R, mut guard: JobGuard<R>, job: Job) -> bool {
    let (request, max_body) = match job.work {
        Work::Http { request, max_body } => (request, max_body),
        work => {
            let limit = Limit::within(runtime.now().until(job.deadline));
            let outcome = guard.carrier.carry(work, &limit);
            return guard.finish(outcome);
        }
    };
    let exchanged = runtime
        .exchange(request, job.deadline, job.deadline)
        .map_err(|(fault, _)| fault)
        .and_then(|response| {
            let (head, body) = response.into_parts();
            let body = collect::<R>(body, max_body as u64)?;
            Ok(JobOutcome::Answered { status: head.status.as_u16(), headers: head.headers, body })
        });
    guard.finish(exchanged.unwrap_or_else(JobOutcome::Failed))
}

/// Exchanges breaker knowledge with other nodes; says so if the thread unwinds on the way.
pub(crate) fn share<R: BlockingRuntime>(
    runtime: &R,
    mut guard: ShareGuard<R>,
    work: Work,
    deadline: Time,
) {
    let outcome = guard.carrier.carry(work, &Limit::within(runtime.now().until(deadline)));
    guard.finish(outcome);
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) fn collect<R: BlockingRuntime>(body: R::Raw, limit: u64) -> Result<Bytes, Fault> {
    let mut whole = Vec::new();
    body.take(limit.saturating_add(1)).read_to_end(&mut whole).map_err(|e| R::body_fault(&e))?;
    if whole.len() as u64 > limit {
        return Err(Fault::BodyTooLarge);
    }
    Ok(whole.into())
}

/// The body of a streamed response: a reader.
pub struct Body<R: Runtime> {
    raw: Box<dyn Read + Send>,
    left: u64,
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    ticket: Ticket,
    over: bool,
}

impl<R: Runtime> std::fmt::Debug for Body<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({}, at most {} bytes)", self.slot.name, self.left)
    }
}

impl<R: BlockingRuntime> Body<R> {
    /// Tells the service what became of it.
    fn done(&self, result: Result<(), Fault>) {
        let mut service = lock(&self.slot.service);
        service.body_done(self.hub.runtime.now(), self.ticket, result);
        self.slot.told(&mut service, &self.hub.news);
    }
}

impl<R: BlockingRuntime> Read for Body<R> {
    /// Reads on. Fails with the fault as text when the body breaks off, when the call's deadline
    /// passes, or past the limit of the body.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.over || buffer.is_empty() {
            return Ok(0);
        }
        match self.raw.read(buffer) {
            Ok(0) => {
                self.over = true;
                self.done(Ok(()));
                Ok(0)
            }
            Ok(count) if count as u64 > self.left => {
                self.over = true;
                Err(io::Error::other(Fault::BodyTooLarge.text()))
            }
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                self.over = true;
                let fault = R::body_fault(&e);
                self.done(Err(fault));
                Err(io::Error::new(e.kind(), fault.text()))
            }
        }
    }
}
