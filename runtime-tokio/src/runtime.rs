//! Tokio as the driver sees it: connector, clock, sleep, spawn.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
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

use crate::connect::Connector;

type Sleeper = fn(Duration) -> tokio::time::Sleep;

/// The tokio runtime: hyper over tokio's sockets, TLS by rustls, HTTP/2 where TLS negotiates it.
#[derive(Debug)]
pub struct Tokio {
    epoch: tokio::time::Instant,
    pool: Pooled<Limited<Connector, Sleeper>>,
    tls: Arc<Tls>,
    limit: Limit,
}

impl Runtime for Tokio {
    const ABREAST: u8 = 3;
    const GRPC: bool = true;
    type Reply<T: Send + 'static> = Reply<T>;
    type Body = Body<Tokio>;
    type Watch = Watch<Tokio>;

    fn build(options: &Options) -> Result<Tokio, ConfigError> {
        let tls = Tls::new(options, true)?;
        let connector = Connector::new(tls.clone());
        let limit = Limit::of(options.connect);
        let connector = Limited::new(connector, limit.clone(), tokio::time::sleep as Sleeper);
        let pool = Pooled::new(connector, TokioExecutor::new(), TokioTimer::new(), options);
        Ok(Tokio { epoch: tokio::time::Instant::now(), pool, tls, limit })
    }

    #[cfg(feature = "tower")]
    fn carried() -> Option<origin_driver::Carried<Tokio>> {
        crate::tower::present()
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

    fn run<F: Flow>(hub: Arc<Hub<Tokio>>, slot: Arc<Slot>, flow: F) -> Reply<F::Output> {
        Box::pin(asynchronous::run(hub, slot, flow))
    }

    fn call(hub: Arc<Hub<Tokio>>, slot: Arc<Slot>, request: Request) -> Reply<Response> {
        Box::pin(asynchronous::call(hub, slot, request))
    }

    fn stream(
        hub: Arc<Hub<Tokio>>,
        slot: Arc<Slot>,
        request: Request,
    ) -> Reply<Streaming<Body<Tokio>>> {
        Box::pin(asynchronous::stream(hub, slot, request))
    }

    fn watch(hub: &Arc<Hub<Tokio>>, line: Arc<Line>) -> Watch<Tokio> {
        asynchronous::watch(hub, line)
    }

    fn follow(hub: &Arc<Hub<Tokio>>, follower: Follower<Tokio>) -> io::Result<()> {
        asynchronous::follow(hub, follower)
    }

    fn attend(hub: &Arc<Hub<Tokio>>) {
        asynchronous::attend(hub);
    }

    fn settle(hub: Arc<Hub<Tokio>>, goal: Goal, until: Time) -> Reply<bool> {
        Box::pin(asynchronous::settle(hub, goal, until))
    }

    fn close(hub: Arc<Hub<Tokio>>, until: Time) -> Reply<bool> {
        Box::pin(asynchronous::close(hub, until))
    }

    fn warm(
        hub: Arc<Hub<Tokio>>,
        slot: Arc<Slot>,
        requests: Vec<Option<Request>>,
        at_once: u32,
    ) -> Reply<Warmed> {
        Box::pin(asynchronous::warm(hub, slot, requests, at_once))
    }

    fn purge(hub: Arc<Hub<Tokio>>, purging: Purging) -> Reply<Invalidated> {
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

    fn get(download: Download<Tokio>) -> Reply<Object> {
        Box::pin(asynchronous::get(download))
    }

    fn finish(upload: Upload<Tokio>) -> Reply<Uploaded> {
        Box::pin(asynchronous::finish(upload))
    }

    fn aside<T: Send + 'static>(
        hub: &Arc<Hub<Tokio>>,
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

impl AsyncRuntime for Tokio {
    async fn sleep_until(&self, at: Time) {
        // tokio refuses points that its clock cannot hold; a century is never in practice. Counted
        // from the epoch: the clock would be read once per attempt for nothing else.
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let span = Duration::from_nanos(at.as_nanos()).min(CENTURY);
        tokio::time::sleep_until(self.epoch + span).await;
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
        // Outside of a runtime `tokio::spawn` would panic.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(task);
        }
    }

    async fn unblock<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The same here; and while a runtime shuts down it refuses the work.
        tokio::runtime::Handle::try_current().ok()?.spawn_blocking(work).await.ok()
    }
}
