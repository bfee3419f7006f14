//! The background task of an async client: discovery ahead of expiry, the health checks of all
//! services, what they share with other nodes, sweeping their caches, and what Redis has not been
//! told of them while it was away. It carries nothing out itself: each fetch and each check is a
//! task of its own, so that a registry or an endpoint that hangs delays nobody else.
//!
//! It holds the client weakly and ends with it, and so do its tasks. If it is dropped before (its
//! runtime was shut down), the next call that needs it starts it anew.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use event_listener::Event;
use futures_lite::future::or;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use origin_core::job::{Check, CheckOutcome, How, Job, Poll};
use origin_core::outcome::Fault;
use origin_core::redis::knowledge::Exchange;
use origin_core::{Error, Time};

use crate::asynchronous::{AsyncRuntime, perform, share};
use crate::cache::asynchronous::carry_on;
use crate::client::Client;
use crate::close::Last;
use crate::custom::Slip;
use crate::guards::{CheckGuard, JobGuard};
use crate::hub::{Hub, Slot};
use crate::hyper::body_fault;
use crate::sharing::ShareGuard;

impl<R: AsyncRuntime> Client<R> {
    /// Starts the background now instead of with the first call that needs it: discovery is
    /// fetched, and the health checks of services that are configured, or have been asked for
    /// with [`Client::service`], begin. To be called on the runtime. Does nothing when the
    /// background is there already.
    pub fn start(&self) {
        attend(&self.hub);
    }
}

/// Starts the background task of the client, unless there is one.
pub fn attend<R: AsyncRuntime>(hub: &Arc<Hub<R>>) {
    if !hub.is_closing() && !hub.background.swap(true, Ordering::Relaxed) {
        let post = Post { hub: Arc::downgrade(hub), life: Arc::new(()) };
        let (runtime, news) = (hub.runtime.clone(), hub.news.clone());
        hub.runtime.spawn(async move { post.keep(&*runtime, &news).await });
    }
}

/// The place of the background task, free again when this is dropped.
struct Post<R: AsyncRuntime> {
    hub: Weak<Hub<R>>,
    /// Tells custom checks whether anybody waits for them.
    life: Arc<()>,
}

impl<R: AsyncRuntime> Post<R> {
    async fn keep(self, runtime: &R, news: &Event) {
        loop {
            let news = news.listen();
            let Some(hub) = self.hub.upgrade().filter(|hub| !hub.is_closing()) else { return };
            let next = self.look(&hub);
            // Not kept over the wait, or the client could never end.
            drop(hub);
            or(news, runtime.sleep_until(next)).await;
        }
    }

    /// Starts all that is due. Returns when to look again.
    fn look(&self, hub: &Arc<Hub<R>>) -> Time {
        let now = hub.runtime.now();
        let swept = hub.sweep(now);
        carry_on(hub);
        let second = hub.second.as_ref().map_or(Time::NEVER, |second| second.due(now));
        let (due, checks) = hub.poll_checks(now);
        for (slot, check) in due {
            self.check(hub, slot, check);
        }
        let (due, sharing) = hub.poll_sharing(now);
        for (slot, due) in due {
            exchange(hub, slot, due);
        }
        loop {
            match hub.poll_job(now, None, Time::NEVER) {
                Poll::Wait(at) => {
                    hub.speak_late(now);
                    return checks.min(sharing).min(at).min(swept).min(second);
                }
                Poll::Run(job) => fetch(hub, *job),
            }
        }
    }

    fn check(&self, hub: &Arc<Hub<R>>, slot: Arc<Slot>, check: Check) {
        let Check { id, how, address, deadline } = check;
        // Made before the task: one that is dropped unstarted gives its place back, too.
        let mut guard = CheckGuard::new(hub, slot, id);
        let work = match how {
            How::Http { request, max_body } => Work::Http(request, max_body),
            How::Connect => match address.host_and_port() {
                Some((host, port)) => Work::Connect(host.into(), port),
                None => return,
            },
            How::Custom(name) => {
                let limit = hub.runtime.now().until(deadline);
                let life = Arc::downgrade(&self.life);
                match hub.start_custom(&guard.slot, &name, address, limit, life) {
                    Some(slip) => Work::Custom(slip),
                    None => return,
                }
            }
        };
        while_open(hub, async move {
            let runtime = guard.runtime.clone();
            let limit = async {
                runtime.sleep_until(deadline).await;
                Err(Fault::Timeout)
            };
            let outcome = or(carry(&*runtime, work), limit).await;
            guard.finish(&outcome.unwrap_or_else(CheckOutcome::Failed));
        });
    }
}

impl<R: AsyncRuntime> Drop for Post<R> {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.background.store(false, Ordering::Relaxed);
        }
    }
}

fn exchange<R: AsyncRuntime>(hub: &Arc<Hub<R>>, slot: Arc<Slot>, due: Exchange) {
    let (runtime, (guard, work, deadline)) = (hub.runtime.clone(), ShareGuard::new(hub, slot, due));
    while_open(hub, async move { share(&*runtime, guard, work, deadline).await });
}

/// Carries out what is to be done before the client ends, until that is over or `until`. Yields
/// whether it was over.
///
/// # Errors
/// None.
pub async fn close<R: AsyncRuntime>(hub: Arc<Hub<R>>, until: Time) -> Result<bool, Error> {
    let over = loop {
        let news = hub.news.listen();
        let now = hub.runtime.now();
        let Last { words, jobs, again } = hub.last(now);
        let Some(again) = again else { break true };
        if now >= until {
            break false;
        }
        for (slot, due) in words {
            exchange(&hub, slot, due);
        }
        for job in jobs {
            fetch(&hub, job);
        }
        or(news, hub.runtime.sleep_until(again.min(until))).await;
    };
    hub.end_background();
    Ok(over)
}

pub(crate) fn fetch<R: AsyncRuntime>(hub: &Arc<Hub<R>>, job: Job) {
    let (runtime, guard) = (hub.runtime.clone(), JobGuard::new(hub, &job));
    while_open(hub, async move {
        // A redirect is news, and leads to the next job.
        let _ = perform(&*runtime, guard, job).await;
    });
}

/// Runs a task until it or the client ends.
fn while_open<R: AsyncRuntime>(hub: &Arc<Hub<R>>, task: impl Future<Output = ()> + Send + 'static) {
    let (closed, open) = (hub.closed.clone(), Arc::downgrade(hub));
    hub.runtime.spawn(async move {
        let over = closed.listen();
        if open.strong_count() > 0 {
            or(task, over).await;
        }
    });
}

/// A check in the form in which it is carried out.
#[allow(clippy::large_enum_variant)] // moved into its task once
enum Work {
    Http(http::Request<bytes::Bytes>, usize),
    Connect(String, u16),
    Custom(Arc<Slip>),
}

async fn carry<R: AsyncRuntime>(runtime: &R, work: Work) -> Result<CheckOutcome, Fault> {
    match work {
        Work::Connect(host, port) => {
            runtime.connect(&host, port).await.map(|()| CheckOutcome::Connected)
        }
        Work::Custom(slip) => Ok(slip.outcome().await),
        Work::Http(request, most) => {
            let exchanged = runtime.exchange(request).await.map_err(|(fault, _)| fault)?;
            let (head, body) = exchanged.into_parts();
            let whole = Limited::new(body, most).collect().await.map_err(|e| {
                if e.is::<LengthLimitError>() {
                    return Fault::BodyTooLarge;
                }
                e.downcast_ref::<::hyper::Error>().map_or(Fault::Reset, body_fault)
            })?;
            Ok(CheckOutcome::Answered {
                status: head.status.as_u16(),
                headers: head.headers,
                trailers: whole.trailers().cloned(),
                body: whole.to_bytes(),
            })
        }
    }
}
