//! Waiting for updates on a thread, and callbacks on a thread of their own.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use event_listener::Listener;
use origin_core::Time;

use super::{Follower, Line, Next, Update, WatchStatus, now};
use crate::blocking::BlockingRuntime;
use crate::hub::Hub;
use crate::thread::STRETCH;

/// A watch of a blocking client: see [`Client::watch`](crate::Client::watch). As an iterator it
/// yields an update at a time and ends with the client.
#[must_use = "a watch that is dropped is over"]
pub struct Watch<R: BlockingRuntime> {
    hub: Weak<Hub<R>>,
    line: Arc<Line>,
}

/// Makes a watch of a subscription.
pub fn watch<R: BlockingRuntime>(hub: &Arc<Hub<R>>, line: Arc<Line>) -> Watch<R> {
    Watch { hub: Arc::downgrade(hub), line }
}

impl<R: BlockingRuntime> Watch<R> {
    /// The next update if it comes within `span`; the first is the present state. `None` also
    /// when the client is gone ([`WatchStatus::over`] tells).
    pub fn next_within(&mut self, span: Duration) -> Option<Update> {
        let by = now(&self.hub)?.plus(span);
        self.next_by(by)
    }

    fn next_by(&mut self, by: Time) -> Option<Update> {
        loop {
            let news = self.line.news.listen();
            // The client is not kept over the wait, or it could never end.
            let runtime = self.hub.upgrade()?.runtime.clone();
            let now = runtime.now();
            match self.line.take(now) {
                Next::Tell(update) => {
                    let _ = self.line.done(runtime.now(), update.version, None);
                    return Some(update);
                }
                Next::Wait(_) if now >= by => return None,
                Next::Wait(until) => {
                    let _ = news.wait_timeout(now.until(until.min(by)).min(STRETCH));
                }
                Next::Over => return None,
            }
        }
    }

    /// What became of the updates so far.
    #[must_use]
    pub fn status(&self) -> WatchStatus {
        self.line.status(now(&self.hub))
    }
}

impl<R: BlockingRuntime> Iterator for Watch<R> {
    type Item = Update;

    /// Waits for the next update; `None` when the client is gone.
    fn next(&mut self) -> Option<Update> {
        self.next_by(Time::NEVER)
    }
}

impl<R: BlockingRuntime> fmt::Debug for Watch<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.line.service)
    }
}

impl<R: BlockingRuntime> Drop for Watch<R> {
    fn drop(&mut self) {
        self.line.end();
    }
}

/// Calls a callback in a thread of its own.
///
/// # Errors
/// The system has no thread left.
pub fn follow<R: BlockingRuntime>(mut follower: Follower<R>) -> io::Result<()> {
    let thread = thread::Builder::new().name("origin-watch".into());
    let thread = thread.spawn(move || {
        loop {
            let news = follower.line.news.listen();
            let Some(runtime) = follower.runtime() else { return };
            let Some(next) = follower.step(&runtime) else { return };
            let _ = news.wait_timeout(runtime.now().until(next).min(STRETCH));
        }
    });
    thread.map(drop)
}
