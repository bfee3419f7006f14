//! The async half: the call loop, the parking of calls that wait for discovery, and the streamed
//! body. An async adapter implements [`AsyncRuntime`] and forwards to [`run`] and [`stream`]. What
//! goes on beside calls is in `background.rs`, remembering answers in `cache/asynchronous.rs`.

mod body;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use ::hyper::body::Incoming;
use bytes::Bytes;
use futures_lite::future::or;
use origin_core::call::{AttemptId, Ticket};
use origin_core::job::{self, Job, JobOutcome, Work};
use origin_core::ops::{Flow, Step};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Error, Request, Response, Time};

pub use self::body::Body;
use self::body::collect;
use crate::background::fetch;
pub use crate::background::{attend, close};
use crate::cache::asynchronous::{carry_on, remembering};
pub use crate::cache::asynchronous::{purge, warm};
use crate::carry;
use crate::consul::Goal;
pub use crate::download::asynchronous::get;
use crate::flight::{Exchanged, Flight, Next, Shot};
use crate::guards::JobGuard;
use crate::hub::{Hub, Slot, lock};
use crate::observe;
use crate::response::Streaming;
use crate::runtime::Runtime;
use crate::sharing::ShareGuard;
pub use crate::upload::asynchronous::{aside, finish};
use crate::vault::Wait;
pub use crate::watch::asynchronous::{Watch, follow, watch};

/// What an async call yields.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What the async loop needs of a runtime, besides [`Runtime`].
pub trait AsyncRuntime: Runtime<Body = Body<Self>> {
    /// Completes at `at`, or a moment later. [`Time::NEVER`] may complete in a long time.
    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send;

    /// One HTTP exchange up to the response head. Dropping it abandons the exchange. A request
    /// that says HTTP/2 is sent so whatever the peer says (prior knowledge); all others by what
    /// TLS negotiates.
    fn exchange(
        &self,
        request: http::Request<Bytes>,
    ) -> impl Future<Output = Exchanged<Incoming>> + Send;

    /// Looks `host` up, opens a TCP connection and closes it, within the limit of connecting.
    fn connect(&self, host: &str, port: u16) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Runs a task in the background. One that cannot be run is dropped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Runs work that blocks on a thread made for that. `None` when there is none for it. It goes
    /// on when the future is dropped.
    fn unblock<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Option<T>> + Send;
}

/// Runs one call and collects its response.
///
/// The future of a call is boxed, which copies it whole once, and an allocator serves up to about
/// a kilobyte from its fastest shelf. So this is the plain call without the flow around it, the
/// flight is made before the future and used where it lies, and what is rarely needed is boxed.
pub fn call<R: AsyncRuntime>(
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    request: Request,
) -> impl Future<Output = Result<Response, Error>> + Send {
    let mut flight = Flight::new(hub, slot, request);
    async move {
        if flight.slot.memory.is_on() {
            return Box::pin(remembering(&mut flight)).await;
        }
        let (answer, _) = drive(&mut flight, Whole::Collect).await?;
        Ok(response(&mut flight, answer))
    }
}

/// Two replies at once. When one fails, the other is dropped.
#[must_use]
pub fn both<T: Send + 'static, U: Send + 'static>(
    first: Reply<T>,
    second: Reply<U>,
) -> Reply<(T, U)> {
    Box::pin(futures_lite::future::try_zip(first, second))
}

/// Runs a flow: each of its requests is one call.
///
/// # Errors
/// Those of its calls, and of the flow itself.
pub async fn run<R: AsyncRuntime, F: Flow>(
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    mut flow: F,
) -> Result<F::Output, Error> {
    let mut last = None;
    loop {
        let request = match last {
            Some(Err(error)) => flow.failed(error)?,
            reply => {
                let reply = reply.and_then(Result::ok);
                if flow.awaits_token(reply.as_ref()) {
                    Box::pin(token(&hub, &slot)).await;
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
        if slot.memory.is_on() {
            last = Some(Box::pin(remembering(&mut flight)).await);
            continue;
        }
        let answer = drive(&mut flight, Whole::Collect).await;
        last = Some(answer.map(|(answer, _)| response(&mut flight, answer)));
    }
}

/// The collected answer with the report of its call.
pub(crate) fn response<R: Runtime>(
    flight: &mut Flight<R>,
    answer: http::Response<Content>,
) -> Response {
    let report = flight.report();
    let (head, body) = answer.into_parts();
    Response {
        status: head.status,
        headers: head.headers,
        body: body.whole,
        trailers: body.trailers,
        report,
    }
}

/// One call whose body is left to the caller.
///
/// # Errors
/// Those of the call up to the response head.
pub async fn stream<R: AsyncRuntime>(
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    request: Request,
) -> Result<Streaming<Body<R>>, Error> {
    let mut flight = Flight::new(hub, slot, request);
    let (answer, ticket) = drive(&mut flight, Whole::Leave).await?;
    flight.outdate(answer.status(), answer.headers());
    carry_on(&flight.hub);
    let report = flight.report();
    let (head, body) = answer.into_parts();
    let body = Body::new(&flight, body.open, ticket);
    Ok(Streaming { status: head.status, headers: head.headers, body, report })
}

/// A body: collected, or still open.
#[derive(Default)]
pub(crate) struct Content {
    whole: Bytes,
    trailers: Option<Box<http::HeaderMap>>,
    open: Option<Incoming>,
}

/// What becomes of a response body.
#[derive(Clone, Copy)]
pub(crate) enum Whole {
    /// Collected up to the call's limit, as part of its attempt.
    Collect,
    /// Left open.
    Leave,
}

/// The loop: asks the core what to do, does it, tells what came of it.
pub(crate) async fn drive<R: AsyncRuntime>(
    flight: &mut Flight<R>,
    whole: Whole,
) -> Result<(http::Response<Content>, Ticket), Error> {
    let runtime = flight.hub.runtime.clone();
    let mut now = flight.start();
    if flight.hub.unattended(&flight.slot) {
        attend(&flight.hub);
    }
    if flight.hub.discovery_due(&flight.slot, now) {
        attend(&flight.hub);
        Box::pin(tend(&flight.hub, &flight.slot, flight.deadline())).await;
        now = flight.hub.runtime.now();
    }
    if flight.hub.identity_due(&flight.slot, now) {
        Box::pin(identified(flight)).await?;
        now = flight.hub.runtime.now();
    }
    let mut next = flight.begin(now);
    loop {
        let mut shot = ready(flight, next).await?;
        let request = flight.request(&mut shot);
        let Shot { attempt, until, mut wake, .. } = shot;
        let first = exchange(&*runtime, request, flight.max_body(), whole);
        let mut first = pin!(Some(first));
        next = loop {
            let stop = until.min(wake);
            let answer = async { Some(whichever(first.as_mut()).await) };
            let timer = async {
                runtime.sleep_until(stop).await;
                None
            };
            let exchanged = match or(answer, timer).await {
                Some(exchanged) => exchanged,
                None if stop == until => Err((Fault::Timeout, Sent::Maybe)),
                None => match flight.wake() {
                    Next::WaitUntil(at) => {
                        wake = at;
                        continue;
                    }
                    Next::Cancel(_) => break flight.wake(),
                    Next::Send(second) => {
                        let crowd = crowd(flight, whole, (attempt, until, first), second);
                        match Box::pin(crowd).await {
                            Ended::Answered(answer, ticket) => return Ok((answer, ticket)),
                            Ended::Next(next) => break next,
                        }
                    }
                    next => break next,
                },
            };
            match told(flight, attempt, exchanged) {
                Ended::Answered(answer, ticket) => return Ok((answer, ticket)),
                Ended::Next(next) => break next,
            }
        };
    }
}

/// What the end of an attempt came to.
#[allow(clippy::large_enum_variant)] // taken apart at once; a box would be paid by every call
enum Ended {
    Answered(http::Response<Content>, Ticket),
    Next(Next),
}

/// Reports how an attempt ended.
fn told<R: AsyncRuntime>(
    flight: &mut Flight<R>,
    attempt: AttemptId,
    exchanged: Exchanged<Content>,
) -> Ended {
    match exchanged {
        Ok(answer) => {
            let outcome = flight.outcome_of(answer.status(), answer.headers());
            match flight.finished(attempt, outcome) {
                Next::Answered(ticket) => Ended::Answered(answer, ticket),
                next => Ended::Next(next),
            }
        }
        Err((fault, sent)) => {
            Ended::Next(flight.finished(attempt, Outcome::Failed { fault, sent }))
        }
    }
}

/// The future in `place`, or none.
async fn whichever<F: Future>(mut place: Pin<&mut Option<F>>) -> F::Output {
    poll_fn(|context| match place.as_mut().as_pin_mut() {
        Some(future) => future.poll(context),
        None => Poll::Pending,
    })
    .await
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Exchanged<Content>> + Send + 'a>>;

/// Several attempts of one call at the same time, from the second on. Rare, so what it needs is
/// allocated. Ends with the answer, or with what comes next when nothing is out any more.
async fn crowd<R: AsyncRuntime, F>(
    flight: &mut Flight<R>,
    whole: Whole,
    (attempt, until, mut first): (AttemptId, Time, Pin<&mut Option<F>>),
    second: Shot,
) -> Ended
where
    F: Future<Output = Exchanged<Content>> + Send,
{
    let hub = flight.hub.clone();
    let mut out: Vec<(AttemptId, Time, Boxed<'_>)> =
        vec![(attempt, until, Box::pin(whichever(first.as_mut())) as Boxed<'_>)];
    let mut wake;
    let mut next = Next::Send(second);
    loop {
        match next {
            Next::Send(mut shot) => {
                let request = flight.request(&mut shot);
                let exchange = exchange(&*hub.runtime, request, flight.max_body(), whole);
                out.push((shot.attempt, shot.until, Box::pin(exchange)));
                wake = shot.wake;
            }
            Next::WaitUntil(at) if flight.is_out() => wake = at,
            Next::Cancel(attempt) => {
                out.retain(|(id, _, _)| *id != attempt);
                next = flight.wake();
                continue;
            }
            next => return Ended::Next(next),
        }
        let stop = out.iter().map(|(_, until, _)| *until).fold(wake, Time::min);
        let any = poll_fn(|context| {
            for (id, _, exchange) in &mut out {
                if let Poll::Ready(exchanged) = exchange.as_mut().poll(context) {
                    return Poll::Ready(Some((*id, exchanged)));
                }
            }
            Poll::Pending
        });
        let timer = async {
            hub.runtime.sleep_until(stop).await;
            None
        };
        let ended = or(any, timer).await.or_else(|| {
            let due = out.iter().find(|(_, until, _)| *until <= stop)?;
            Some((due.0, Err((Fault::Timeout, Sent::Maybe))))
        });
        next = match ended {
            Some((id, exchanged)) => {
                out.retain(|(other, _, _)| *other != id);
                match told(flight, id, exchanged) {
                    Ended::Next(next) => next,
                    answered @ Ended::Answered(..) => return answered,
                }
            }
            None => flight.wake(),
        };
    }
}

/// Does whatever comes before the next attempt: where to send it, and until when it has time.
async fn ready<R: AsyncRuntime>(flight: &mut Flight<R>, mut next: Next) -> Result<Shot, Error> {
    loop {
        next = match next {
            Next::Send(shot) => return Ok(shot),
            // Whatever it was, it is not out any more.
            Next::Cancel(_) => flight.wake(),
            Next::WaitUntil(until) => {
                flight.hub.runtime.sleep_until(until).await;
                flight.wake()
            }
            Next::Park { until, epoch } => {
                Box::pin(park(flight, until, epoch)).await;
                flight.wake()
            }
            Next::Failed(error) => return Err(error),
            // Only a finished attempt answers, and that has left the loop. An answer must never
            // be made up, so this is the error of a lost one.
            Next::Answered(_) => {
                let service = flight.slot.name.clone();
                return Err(Error::Body { service, fault: Fault::Reset });
            }
        }
    }
}

/// One attempt. The request is handed over before the future begins, so that it is not in it.
fn exchange<R: AsyncRuntime>(
    runtime: &R,
    request: http::Request<Bytes>,
    limit: u64,
    whole: Whole,
) -> impl Future<Output = Exchanged<Content>> + Send {
    let exchange = runtime.exchange(request);
    async move {
        let (head, body) = exchange.await?.into_parts();
        let content = match whole {
            Whole::Leave => Content { open: Some(body), ..Content::default() },
            Whole::Collect => {
                let whole = collect(body, limit).await;
                let (whole, trailers) = whole.map_err(|fault| (fault, Sent::Maybe))?;
                Content { whole, trailers, open: None }
            }
        };
        Ok(http::Response::from_parts(head, content))
    }
}

/// Waits for the epoch of the service to move, carrying the fetch if nobody else does.
async fn park<R: AsyncRuntime>(flight: &Flight<R>, until: Time, epoch: u64) {
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
            job::Poll::Run(job) => {
                let guard = JobGuard::new(hub, &job);
                let _ = perform(&*hub.runtime, guard, *job).await;
            }
            job::Poll::Wait(at) => or(moved, hub.runtime.sleep_until(at.min(until))).await,
        }
    }
}

/// Waits until own registrations are as `goal` says, carrying what is due if nobody else does.
/// Yields whether they are.
///
/// # Errors
/// Why they never will be.
pub async fn settle<R: AsyncRuntime>(
    hub: Arc<Hub<R>>,
    goal: Goal,
    until: Time,
) -> Result<bool, Error> {
    attend(&hub);
    loop {
        let news = hub.news.listen();
        if let Some(result) = hub.settled(&goal) {
            return result.map(|()| true);
        }
        let now = hub.runtime.now();
        if now >= until {
            return Ok(false);
        }
        match hub.poll_desk(now) {
            job::Poll::Run(job) => {
                let guard = JobGuard::new(&hub, &job);
                // Dropped when the time is over, which says nothing about the agent.
                let work = async {
                    let _ = perform(&*hub.runtime, guard, *job).await;
                };
                or(work, hub.runtime.sleep_until(until)).await;
            }
            job::Poll::Wait(at) => or(news, hub.runtime.sleep_until(at.min(until))).await,
        }
    }
}

/// Waits for a token that is under way, or for the word on the present one. What is due for that is
/// carried out beside the call, so that dropping the call does not cut it short.
async fn token<R: AsyncRuntime>(hub: &Arc<Hub<R>>, slot: &Arc<Slot>) {
    if hub.vault.is_none() {
        return;
    }
    attend(hub);
    let start = hub.runtime.now();
    let until = start.plus(lock(&slot.service).rules().total);
    loop {
        let news = hub.news.listen();
        let now = hub.runtime.now();
        match hub.await_token(slot, now) {
            _ if now >= until => return,
            Wait::No => return,
            Wait::Carry(job) => fetch(hub, *job),
            Wait::News(at) => {
                if hub.discovery_due(slot, now) {
                    tend(hub, slot, until).await;
                }
                // What came of that is news.
                or(news, hub.runtime.sleep_until(at.min(until))).await;
            }
        }
    }
}

/// Looks after the identity before a call, and waits for the service-account token where its file
/// has not been read yet. What is due is carried out beside the call.
async fn identified<R: AsyncRuntime>(flight: &Flight<R>) -> Result<(), Error> {
    let (hub, slot) = (&flight.hub, &flight.slot);
    let (wants, until) = (flight.takes_bearer(), flight.deadline());
    attend(hub);
    loop {
        let news = hub.news.listen();
        match hub.await_identity(slot, wants, until)? {
            Wait::No => return Ok(()),
            Wait::Carry(job) => fetch(hub, *job),
            Wait::News(at) => or(news, hub.runtime.sleep_until(at.min(until))).await,
        }
    }
}

/// Looks after discovery before a call: carries a fetch that is due.
async fn tend<R: AsyncRuntime>(hub: &Arc<Hub<R>>, slot: &Slot, until: Time) {
    let mut more = true;
    while more {
        let job::Poll::Run(job) = hub.poll_job(hub.runtime.now(), Some(slot), until) else {
            return;
        };
        more = perform(&*hub.runtime, JobGuard::new(hub, &job), *job).await;
    }
}

/// Does a job and brings its result back. Dropped half-way, it says so. Returns whether the fetch
/// was redirected and goes on.
pub(crate) async fn perform<R: AsyncRuntime>(
    runtime: &R,
    mut guard: JobGuard<R>,
    job: Job,
) -> bool {
    let (request, max_body) = match job.work {
        Work::Http { request, max_body } => (request, max_body),
        work => {
            let outcome = carry::aside(runtime, guard.carrier.clone(), work, job.deadline).await;
            return guard.finish(outcome);
        }
    };
    let exchange = async {
        let (head, body) =
            runtime.exchange(request).await.map_err(|(fault, _)| fault)?.into_parts();
        let (body, _) = collect(body, max_body as u64).await?;
        Ok(JobOutcome::Answered { status: head.status.as_u16(), headers: head.headers, body })
    };
    let limit = async {
        runtime.sleep_until(job.deadline).await;
        Err(Fault::Timeout)
    };
    let outcome = or(exchange, limit).await.unwrap_or_else(JobOutcome::Failed);
    guard.finish(outcome)
}

/// Exchanges breaker knowledge with other nodes. Dropped half-way, it says so.
pub(crate) async fn share<R: AsyncRuntime>(
    runtime: &R,
    mut guard: ShareGuard<R>,
    work: Work,
    deadline: Time,
) {
    let outcome = carry::aside(runtime, guard.carrier.clone(), work, deadline).await;
    guard.finish(outcome);
}
