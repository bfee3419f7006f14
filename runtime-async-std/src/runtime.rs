//! Runtimes on async-io as the driver sees them: clock, sleep, exchange, and an executor to spawn
//! on, which is all that async-std and smol differ in here.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_io::Timer;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer as _};
use origin_core::cache::Invalidated;
use origin_core::ops::Flow;
use origin_core::ops::storage::Object;
use origin_core::outcome::{Fault, Sent};
use origin_core::s3::Uploaded;
use origin_core::{ConfigError, Error, Request, Response, Time, Wall};
use origin_driver::asynchronous::{self, AsyncRuntime, Body, Reply, Watch};
use origin_driver::hyper::{Limit, Limited, Pooled};
use origin_driver::tls::Tls;
use origin_driver::{
    Download, Follower, Goal, Hub, Line, Options, Purging, Runtime, Slot, Streaming, TlsChange,
    TlsFailure, Upload, Warmed,
};
use smol_hyper::rt::SmolTimer;

use crate::connect::Connector;

/// A background task: the driving of a connection, the client's background, or a fetch or health
/// check that it has started.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where background tasks run.
pub trait Executor: Clone + Default + fmt::Debug + Send + Sync + 'static {
    /// Runs a task to its end, without waiting for it.
    fn spawn(&self, task: Task);
}

/// async-std's executor.
#[cfg(feature = "async-std")]
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStdExecutor;

#[cfg(feature = "async-std")]
impl Executor for AsyncStdExecutor {
    fn spawn(&self, task: Task) {
        // Dropping its handle detaches a task.
        async_std::task::spawn(task);
    }
}

/// The runtime async-std.
#[cfg(feature = "async-std")]
pub type AsyncStd = AsyncIo<AsyncStdExecutor>;

/// smol's global executor.
#[cfg(feature = "smol")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SmolExecutor;

#[cfg(feature = "smol")]
impl Executor for SmolExecutor {
    fn spawn(&self, task: Task) {
        smol::spawn(task).detach();
    }
}

/// The runtime smol.
#[cfg(feature = "smol")]
pub type Smol = AsyncIo<SmolExecutor>;

/// A runtime on async-io: hyper over its sockets, TLS by rustls, HTTP/2 where TLS negotiates it.
///
/// Calls may be awaited on any executor, since async-io brings its own reactor; `E` runs what
/// outlives a call.
#[derive(Debug)]
pub struct AsyncIo<E> {
    epoch: Instant,
    pool: Pooled<Limited<Connector, Sleeper>>,
    tls: Arc<Tls>,
    limit: Limit,
    executor: E,
}

type Sleeper = fn(Duration) -> Pin<Box<dyn Sleep>>;

/// An executor as hyper wants it.
#[derive(Clone)]
struct Spawner<E>(E);

impl<E: Executor> hyper::rt::Executor<Task> for Spawner<E> {
    fn execute(&self, task: Task) {
        self.0.spawn(task);
    }
}

impl<E: Executor> Runtime for AsyncIo<E> {
    const ABREAST: u8 = 3;
    const GRPC: bool = true;
    type Reply<T: Send + 'static> = Reply<T>;
    type Body = Body<AsyncIo<E>>;
    type Watch = Watch<AsyncIo<E>>;

    fn build(options: &Options) -> Result<AsyncIo<E>, ConfigError> {
        let tls = Tls::new(options, true)?;
        let connector = Connector::new(tls.clone());
        let sleep: Sleeper = |span| SmolTimer::new().sleep(span);
        let limit = Limit::of(options.connect);
        let connector = Limited::new(connector, limit.clone(), sleep);
        let executor = E::default();
        let pool = Pooled::new(connector, Spawner(executor.clone()), SmolTimer::new(), options);
        Ok(AsyncIo { epoch: Instant::now(), pool, tls, executor, limit })
    }

    fn now(&self) -> Time {
        Time::ZERO.plus(self.epoch.elapsed())
    }

    fn wall(&self) -> Wall {
        Wall(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |span| span.as_secs()),
        )
    }

    fn run<F: Flow>(hub: Arc<Hub<AsyncIo<E>>>, slot: Arc<Slot>, flow: F) -> Reply<F::Output> {
        Box::pin(asynchronous::run(hub, slot, flow))
    }

    fn call(hub: Arc<Hub<AsyncIo<E>>>, slot: Arc<Slot>, request: Request) -> Reply<Response> {
        Box::pin(asynchronous::call(hub, slot, request))
    }

    fn stream(
        hub: Arc<Hub<AsyncIo<E>>>,
        slot: Arc<Slot>,
        request: Request,
    ) -> Reply<Streaming<Body<AsyncIo<E>>>> {
        Box::pin(asynchronous::stream(hub, slot, request))
    }

    fn watch(hub: &Arc<Hub<Self>>, line: Arc<Line>) -> Watch<Self> {
        asynchronous::watch(hub, line)
    }

    fn follow(hub: &Arc<Hub<Self>>, follower: Follower<Self>) -> io::Result<()> {
        asynchronous::follow(hub, follower)
    }

    fn attend(hub: &Arc<Hub<AsyncIo<E>>>) {
        asynchronous::attend(hub);
    }

    fn settle(hub: Arc<Hub<AsyncIo<E>>>, goal: Goal, until: Time) -> Reply<bool> {
        Box::pin(asynchronous::settle(hub, goal, until))
    }

    fn close(hub: Arc<Hub<AsyncIo<E>>>, until: Time) -> Reply<bool> {
        Box::pin(asynchronous::close(hub, until))
    }

    fn warm(
        hub: Arc<Hub<AsyncIo<E>>>,
        slot: Arc<Slot>,
        requests: Vec<Option<Request>>,
        at_once: u32,
    ) -> Reply<Warmed> {
        Box::pin(asynchronous::warm(hub, slot, requests, at_once))
    }

    fn purge(hub: Arc<Hub<AsyncIo<E>>>, purging: Purging) -> Reply<Invalidated> {
        Box::pin(asynchronous::purge(hub, purging))
    }

    fn both<T: Send + 'static, U: Send + 'static>(
        first: impl FnOnce() -> Reply<T> + Send,
        second: impl FnOnce() -> Reply<U> + Send,
    ) -> Reply<(T, U)> {
        asynchronous::both(first(), second())
    }

    fn then<T: Send + 'static, U: Send + 'static>(
        reply: Reply<T>,
        next: impl FnOnce(Result<T, Error>) -> Reply<U> + Send + 'static,
    ) -> Reply<U> {
        Box::pin(async move { next(reply.await).await })
    }

    fn ready<T: Send + 'static>(result: Result<T, Error>) -> Reply<T> {
        Box::pin(std::future::ready(result))
    }

    fn get(download: Download<Self>) -> Reply<Object> {
        Box::pin(asynchronous::get(download))
    }

    fn finish(upload: Upload<Self>) -> Reply<Uploaded> {
        Box::pin(asynchronous::finish(upload))
    }

    fn aside<T: Send + 'static>(
        hub: &Arc<Hub<Self>>,
        work: impl FnOnce() -> Reply<T> + Send + 'static,
    ) {
        asynchronous::aside(hub, work);
    }

    fn secure(&self, change: TlsChange) -> Result<(), ConfigError> {
        self.tls.change(change, || self.pool.renew())
    }

    fn tune(&self, connect: Duration, idle: Duration) {
        self.limit.set(connect);
        self.pool.tune(idle);
    }

    fn tls_failures(&self) -> Vec<TlsFailure> {
        self.tls.failures()
    }
}

impl<E: Executor> AsyncRuntime for AsyncIo<E> {
    async fn sleep_until(&self, at: Time) {
        let never = Timer::never;
        match at {
            // Its nanoseconds would be a date, six centuries on, that not every system can hold.
            Time::NEVER => never().await,
            at => {
                let at = self.epoch.checked_add(Duration::from_nanos(at.as_nanos()));
                at.map_or_else(never, Timer::at).await
            }
        };
    }

    fn exchange(
        &self,
        request: http::Request<Bytes>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, (Fault, Sent)>> + Send {
        self.pool.exchange(request)
    }

    fn connect(&self, host: &str, port: u16) -> impl Future<Output = Result<(), Fault>> + Send {
        self.pool.connect(host, port)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(Box::pin(task));
    }

    async fn unblock<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // Dropped, such a task would be cancelled if it has not begun, which is as well.
        Some(blocking::unblock(work).await)
    }
}
