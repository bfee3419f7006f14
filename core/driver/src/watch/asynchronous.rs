//! Waiting for updates as a future, and callbacks as a task.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use futures_lite::future::or;

use super::{Follower, Line, Next, Update, WatchStatus, now};
use crate::asynchronous::AsyncRuntime;
use crate::background::attend;
use crate::hub::Hub;

/// A watch of an async client: see [`Client::watch`](crate::Client::watch).
#[must_use = "a watch that is dropped is over"]
pub struct Watch<R: AsyncRuntime> {
    hub: Weak<Hub<R>>,
    line: Arc<Line>,
}

/// Makes a watch of a subscription, and starts the background that feeds it.
pub fn watch<R: AsyncRuntime>(hub: &Arc<Hub<R>>, line: Arc<Line>) -> Watch<R> {
    attend(hub);
    Watch { hub: Arc::downgrade(hub), line }
}

impl<R: AsyncRuntime> Watch<R> {
    /// The next update; the first is the present state. `None` when the client is gone. May be
    /// dropped at any time: nothing is lost.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            let news = self.line.news.listen();
            let hub = self.hub.upgrade()?;
            // It may have been asked for outside of the runtime.
            attend(&hub);
            let runtime = hub.runtime.clone();
            // Not kept over the wait, or the client could never end.
            drop(hub);
            match self.line.take(runtime.now()) {
                Next::Tell(update) => {
                    let _ = self.line.done(runtime.now(), update.version, None);
                    return Some(update);
                }
                Next::Wait(until) => or(news, runtime.sleep_until(until)).await,
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

impl<R: AsyncRuntime> fmt::Debug for Watch<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.line.service)
    }
}

impl<R: AsyncRuntime> Drop for Watch<R> {
    fn drop(&mut self) {
        self.line.end();
    }
}

/// Calls a callback in a task of its own.
///
/// # Errors
/// There is no runtime here.
pub fn follow<R: AsyncRuntime>(hub: &Arc<Hub<R>>, mut follower: Follower<R>) -> io::Result<()> {
    attend(hub);
    let line = follower.line.clone();
    hub.runtime.spawn(async move {
        loop {
            let news = follower.line.news.listen();
            let Some(runtime) = follower.runtime() else { return };
            let Some(next) = follower.step(&runtime) else { return };
            or(news, runtime.sleep_until(next)).await;
        }
    });
    // A task that cannot be run is dropped, which ends the line.
    match line.is_over() {
        true => Err(io::Error::other("no runtime is running here")),
        false => Ok(()),
    }
}
