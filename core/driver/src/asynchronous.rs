//! The async half: the call loop, the parking of calls that wait for discovery, the background
//! task, and the streamed body. An async adapter implements [`AsyncRuntime`] and forwards to
//! [`run`] and [`stream`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use ::hyper::body::Incoming;
use bytes::{Bytes, BytesMut};
use futures_lite::future::or;
use http_body_util::BodyExt;
use origin_core::call::Ticket;
use origin_core::job::{Asker, Job, JobId, JobOutcome, Poll};
use origin_core::ops::{Flow, Step};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Error, Request, Response, Time};

use crate::flight::{Exchanged, Flight, Next};
use crate::hub::{Hub, Slot, lock};
use crate::hyper::body_fault;
use crate::response::Streaming;
use crate::runtime::Runtime;

/// What an async call yields.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What the async loop needs of a runtime, besides [`Runtime`].
pub trait AsyncRuntime: Runtime<Body = Body<Self>> {
    /// Completes at `at`, or a moment later. [`Time::NEVER`] may complete in a long time.
    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send;

    /// One HTTP exchange up to the response head. Dropping it abandons the exchange.
    fn exchange(
        &self,
        request: http::Request<Bytes>,
    ) -> impl Future<Output = Exchanged<Incoming>> + Send;

    /// Runs a task in the background.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);
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
    let mut reply = None;
    loop {
        match flow.next(reply)? {
            Step::Done(output) => return Ok(output),
            Step::Send(request) => {
                let flight = Flight::new(hub.clone(), slot.clone(), request);
                reply = Some(collected(flight).await?);
            }
        }
    }
}

/// One call whose response is collected.
async fn collected<R: AsyncRuntime>(mut flight: Flight<R>) -> Result<Response, Error> {
    let limit = flight.max_body();
    let (answer, _) = drive(&mut flight, Some(limit)).await?;
    let report = flight.report();
    let (head, body) = answer.into_parts();
    Ok(Response { status: head.status, headers: head.headers, body: body.whole, report })
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
    let (answer, ticket) = drive(&mut flight, None).await?;
    let report = flight.report();
    let (head, body) = answer.into_parts();
    let body = Body {
        incoming: body.open,
        left: flight.max_body(),
        limit: flight.max_body(),
        deadline: flight.deadline(),
        hub: flight.hub.clone(),
        slot: flight.slot.clone(),
        ticket,
    };
    Ok(Streaming { status: head.status, headers: head.headers, body, report })
}

/// A body: collected, or still open.
#[derive(Default)]
struct Content {
    whole: Bytes,
    open: Option<Incoming>,
}

/// The loop: asks the core what to do, does it, tells what came of it. With a limit, bodies are
/// collected as part of their attempt; without, they are left open.
async fn drive<R: AsyncRuntime>(
    flight: &mut Flight<R>,
    collect_up_to: Option<u64>,
) -> Result<(http::Response<Content>, Ticket), Error> {
    let runtime = flight.hub.runtime.clone();
    if flight.hub.discovery_due(&flight.slot, runtime.now()) {
        attend(&flight.hub);
        tend(&flight.hub, flight.deadline()).await;
    }
    let mut answer = http::Response::default();
    let mut next = flight.begin();
    loop {
        next = match next {
            Next::Send { request, deadline } => {
                let exchange = exchange(&*runtime, request, collect_up_to);
                let limit = async {
                    runtime.sleep_until(deadline.at).await;
                    Err((Fault::Timeout, Sent::Maybe))
                };
                let outcome = match or(exchange, limit).await {
                    Ok(response) => {
                        let outcome = flight.outcome_of(response.status(), response.headers());
                        answer = response;
                        outcome
                    }
                    Err((fault, sent)) => Outcome::Failed { fault, sent },
                };
                flight.finished(outcome)
            }
            Next::WaitUntil(until) => {
                runtime.sleep_until(until).await;
                flight.wake()
            }
            Next::Park { until, epoch } => {
                park(flight, until, epoch).await;
                flight.wake()
            }
            Next::Answered(ticket) => return Ok((answer, ticket)),
            Next::Failed(error) => return Err(error),
        }
    }
}

async fn exchange<R: AsyncRuntime>(
    runtime: &R,
    request: http::Request<Bytes>,
    collect_up_to: Option<u64>,
) -> Exchanged<Content> {
    let (head, body) = runtime.exchange(request).await?.into_parts();
    let content = match collect_up_to {
        None => Content { whole: Bytes::new(), open: Some(body) },
        Some(limit) => {
            let whole = collect(body, limit).await.map_err(|fault| (fault, Sent::Maybe))?;
            Content { whole, open: None }
        }
    };
    Ok(http::Response::from_parts(head, content))
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
        match hub.poll_job(now, Asker::Call(until)) {
            Poll::Run(job) => drop(perform(&*hub.runtime, &Arc::downgrade(hub), *job).await),
            Poll::Wait(at) => or(moved, hub.runtime.sleep_until(at.min(until))).await,
        }
    }
}

/// Looks after discovery before a call: carries a fetch that is due.
async fn tend<R: AsyncRuntime>(hub: &Arc<Hub<R>>, until: Time) {
    let mut redirected = true;
    while redirected {
        let Poll::Run(job) = hub.poll_job(hub.runtime.now(), Asker::Call(until)) else { return };
        redirected = perform(&*hub.runtime, &Arc::downgrade(hub), *job).await;
    }
}

/// Starts the background task of the client, once.
fn attend<R: AsyncRuntime>(hub: &Arc<Hub<R>>) {
    if !hub.background.swap(true, Ordering::Relaxed) {
        let (runtime, closed) = (hub.runtime.clone(), hub.closed.clone());
        let hub = Arc::downgrade(hub);
        let spawner = runtime.clone();
        spawner.spawn(async move {
            loop {
                let over = closed.listen();
                let Some(poll) =
                    hub.upgrade().map(|hub| hub.poll_job(hub.runtime.now(), Asker::Background))
                else {
                    return;
                };
                let work = async {
                    match poll {
                        Poll::Run(job) => drop(perform(&*runtime, &hub, *job).await),
                        Poll::Wait(at) => runtime.sleep_until(at).await,
                    }
                };
                or(work, over).await;
            }
        });
    }
}

/// Does a job and brings its result back. Dropped half-way, it says so. Returns whether the fetch
/// was redirected and goes on.
async fn perform<R: AsyncRuntime>(runtime: &R, hub: &Weak<Hub<R>>, job: Job) -> bool {
    let mut guard = JobGuard { hub, id: Some(job.id) };
    let mut request = http::Request::new(Bytes::new());
    *request.uri_mut() = job.uri;
    *request.headers_mut() = job.headers;
    let exchange = async {
        let (head, body) =
            runtime.exchange(request).await.map_err(|(fault, _)| fault)?.into_parts();
        let body = collect(body, job.max_body as u64).await?;
        Ok(JobOutcome::Answered { status: head.status.as_u16(), headers: head.headers, body })
    };
    let limit = async {
        runtime.sleep_until(job.deadline).await;
        Err(Fault::Timeout)
    };
    let outcome = or(exchange, limit).await.unwrap_or_else(JobOutcome::Failed);
    guard.finish(outcome)
}

struct JobGuard<'a, R: Runtime> {
    hub: &'a Weak<Hub<R>>,
    id: Option<JobId>,
}

impl<R: Runtime> JobGuard<'_, R> {
    fn finish(&mut self, outcome: JobOutcome) -> bool {
        match (self.id.take(), self.hub.upgrade()) {
            (Some(id), Some(hub)) => hub.finish_job(id, outcome),
            _ => false,
        }
    }
}

impl<R: Runtime> Drop for JobGuard<'_, R> {
    fn drop(&mut self) {
        self.finish(JobOutcome::Dropped);
    }
}

/// Reads a whole body of at most `limit` bytes.
async fn collect(mut body: Incoming, limit: u64) -> Result<Bytes, Fault> {
    use http_body::Body as _;
    if body.size_hint().lower() > limit {
        return Err(Fault::BodyTooLarge);
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| body_fault(&e))?.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            return Err(Fault::BodyTooLarge);
        }
        // Nearly every body is one piece, which needs no copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The body of a streamed response. Read it with [`Body::chunk`].
pub struct Body<R: Runtime> {
    /// `None` when it is over.
    incoming: Option<Incoming>,
    left: u64,
    limit: u64,
    deadline: Time,
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    ticket: Ticket,
}

impl<R: Runtime> std::fmt::Debug for Body<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({}, at most {} bytes)", self.slot.name, self.left)
    }
}

impl<R: AsyncRuntime> Body<R> {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Body`] when it breaks off or the call's deadline passes, [`Error::TooLarge`] past
    /// the limit. After an error there is nothing more, and its connection is closed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        // The body stays in its place over every await, so that a dropped `chunk` loses nothing.
        while let Some(incoming) = &mut self.incoming {
            let frame = async { incoming.frame().await.transpose().map_err(|e| body_fault(&e)) };
            let limit = async {
                self.hub.runtime.sleep_until(self.deadline).await;
                Err(Fault::Timeout)
            };
            let frame = match or(frame, limit).await {
                Ok(frame) => frame,
                Err(fault) => {
                    self.incoming = None;
                    lock(&self.slot.service).body_failed(
                        self.hub.runtime.now(),
                        self.ticket,
                        fault,
                    );
                    return Err(Error::Body { service: self.slot.name.clone(), fault });
                }
            };
            let Some(frame) = frame else {
                self.incoming = None;
                break;
            };
            let Ok(data) = frame.into_data() else { continue };
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                self.incoming = None;
                return Err(Error::TooLarge { service: self.slot.name.clone(), limit: self.limit });
            };
            self.left = left;
            return Ok(Some(data));
        }
        Ok(None)
    }
}
