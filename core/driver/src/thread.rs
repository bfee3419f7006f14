//! The background thread of a blocking client: the plain twin of `background.rs`. It exists only
//! when the application asks for it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use event_listener::{Event, Listener};
use origin_core::job::{Check, CheckOutcome, How, Job, Poll};
use origin_core::outcome::Fault;
use origin_core::redis::knowledge::Exchange;
use origin_core::{Address, Error, Time};

use crate::blocking::{BlockingRuntime, collect, perform, share};
use crate::cache::blocking::carry_on;
use crate::client::Client;
use crate::close::Last;
use crate::guards::{CheckGuard, JobGuard};
use crate::hub::{Hub, Slot};
use crate::sharing::ShareGuard;

/// Longest wait at a stretch, so that a time far away cannot overflow the platform's clock.
pub(crate) const STRETCH: Duration = Duration::from_secs(3600);
/// Pause after the system has refused a thread: more requests would not help it.
const NO_THREADS: Duration = Duration::from_millis(100);

impl<R: BlockingRuntime> Client<R> {
    /// Starts a thread that refreshes discovery ahead of its expiry and carries out the health
    /// checks of services that are configured, or have been asked for with [`Client::service`].
    /// It ends when the returned guard, or the last clone of the client, is dropped. Each fetch
    /// and each check is a short-lived thread of its own: of a service, at most as many as its
    /// `checks.max_concurrent`.
    ///
    /// **Without it there are no health checks, and nothing is shared with other nodes.** Keep the guard for as long as the client is
    /// used: verdicts stay as they are when it is dropped, and nobody revises them.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn background(&self) -> io::Result<Background> {
        let (runtime, news) = (self.hub.runtime.clone(), self.hub.news.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let post = Post { hub: Arc::downgrade(&self.hub), life: Arc::new(()), stop: stop.clone() };
        let thread = thread::Builder::new().name("origin-background".into());
        let thread = thread.spawn(move || post.keep(&*runtime, &news))?;
        Ok(Background { stop, news: self.hub.news.clone(), thread: Some(thread) })
    }
}

/// The background thread of a blocking client. Dropping this ends it and waits for that; checks
/// under way are not waited for and end by themselves, at their timeout at the latest.
#[must_use = "the background ends when this is dropped"]
pub struct Background {
    stop: Arc<AtomicBool>,
    news: Arc<Event>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Background")
    }
}

impl Background {
    /// Whether its thread has ended: the last clone of the client was dropped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.news.notify(usize::MAX);
        // A thread cannot wait for itself: that of a client that owns its own background.
        let thread = self.thread.take();
        if let Some(thread) = thread.filter(|t| t.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

struct Post<R: BlockingRuntime> {
    hub: Weak<Hub<R>>,
    /// Tells custom checks whether anybody waits for them.
    life: Arc<()>,
    stop: Arc<AtomicBool>,
}

impl<R: BlockingRuntime> Post<R> {
    fn keep(self, runtime: &R, news: &Event) {
        loop {
            let news = news.listen();
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let Some(hub) = self.hub.upgrade().filter(|hub| !hub.is_closing()) else { return };
            let next = self.look(&hub);
            // Not kept over the wait, or the client could never end.
            drop(hub);
            match next {
                Ok(next) => {
                    let _ = news.wait_timeout(runtime.now().until(next).min(STRETCH));
                }
                Err(_) => runtime.sleep_until(runtime.now().plus(NO_THREADS)),
            }
        }
    }

    /// Starts all that is due. Returns when to look again.
    fn look(&self, hub: &Arc<Hub<R>>) -> io::Result<Time> {
        let now = hub.runtime.now();
        let swept = hub.sweep(now);
        carry_on(hub);
        let second = hub.second.as_ref().map_or(Time::NEVER, |second| second.due(now));
        let (due, checks) = hub.poll_checks(now);
        let mut started = Ok(());
        for (slot, check) in due {
            // Those that find no thread are dropped, which tells the core.
            started = started.and(self.check(hub, slot, check));
        }
        let (due, sharing) = hub.poll_sharing(now);
        for (slot, due) in due {
            started = started.and(exchange(hub, slot, due));
        }
        started?;
        loop {
            match hub.poll_job(now, None, Time::NEVER) {
                Poll::Wait(at) => {
                    hub.speak_late(now);
                    return Ok(checks.min(sharing).min(at).min(swept).min(second));
                }
                Poll::Run(job) => fetch(hub, *job)?,
            }
        }
    }

    fn check(&self, hub: &Arc<Hub<R>>, slot: Arc<Slot>, check: Check) -> io::Result<()> {
        let Check { id, how, address, deadline } = check;
        let mut guard = CheckGuard::new(hub, slot, id);
        let limit = hub.runtime.now().until(deadline);
        let slip = match &how {
            How::Custom(name) => {
                let life = Arc::downgrade(&self.life);
                let slip = hub.start_custom(&guard.slot, name, address.clone(), limit, life);
                if slip.is_none() {
                    return Ok(());
                }
                slip
            }
            _ => None,
        };
        helper(move || {
            let outcome = match slip {
                Some(slip) => slip.outcome_within(limit).ok_or(Fault::Timeout),
                None => carry(&*guard.runtime, how, &address, deadline),
            };
            guard.finish(&outcome.unwrap_or_else(CheckOutcome::Failed));
        })
    }
}

fn exchange<R: BlockingRuntime>(
    hub: &Arc<Hub<R>>,
    slot: Arc<Slot>,
    due: Exchange,
) -> io::Result<()> {
    let (runtime, (guard, work, deadline)) = (hub.runtime.clone(), ShareGuard::new(hub, slot, due));
    helper(move || share(&*runtime, guard, work, deadline))
}

fn fetch<R: BlockingRuntime>(hub: &Arc<Hub<R>>, job: Job) -> io::Result<()> {
    let (runtime, guard) = (hub.runtime.clone(), JobGuard::new(hub, &job));
    helper(move || {
        // More to do is news, and leads to the next job.
        let _ = perform(&*runtime, guard, job);
    })
}

/// Carries out what is to be done before the client ends, until that is over or `until`. Yields
/// whether it was over.
///
/// # Errors
/// None. What finds no thread is left undone.
pub fn close<R: BlockingRuntime>(hub: &Arc<Hub<R>>, until: Time) -> Result<bool, Error> {
    let over = loop {
        let news = hub.news.listen();
        let now = hub.runtime.now();
        let Last { words, jobs, again } = hub.last(now);
        let Some(again) = again else { break true };
        if now >= until {
            break false;
        }
        for (slot, due) in words {
            // One that finds no thread is dropped, which tells the core.
            let _ = exchange(hub, slot, due);
        }
        for job in jobs {
            let _ = fetch(hub, job);
        }
        let _ = news.wait_timeout(now.until(again.min(until)).min(STRETCH));
    };
    hub.end_background();
    Ok(over)
}

pub(crate) fn helper(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("origin-helper".into()).spawn(work).map(drop)
}

fn carry<R: BlockingRuntime>(
    runtime: &R,
    how: How,
    address: &Address,
    deadline: Time,
) -> Result<CheckOutcome, Fault> {
    match how {
        // Refused when the client was built, as are custom checks that nobody has registered.
        How::Http { request, .. } if request.version() == http::Version::HTTP_2 => {
            Ok(CheckOutcome::Dropped)
        }
        How::Custom(_) => Ok(CheckOutcome::Dropped),
        How::Http { request, max_body } => {
            let exchanged = runtime.exchange(request, deadline, deadline);
            let (head, body) = exchanged.map_err(|(fault, _)| fault)?.into_parts();
            let body = collect::<R>(body, max_body as u64)?;
            let (status, headers) = (head.status.as_u16(), head.headers);
            Ok(CheckOutcome::Answered { status, headers, body, trailers: None })
        }
        How::Connect => {
            let (host, port) = address.host_and_port().ok_or(Fault::NotHttp)?;
            runtime.connect(host, port, deadline).map(|()| CheckOutcome::Connected)
        }
    }
}
