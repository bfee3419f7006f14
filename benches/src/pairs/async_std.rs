//! async-std: hyper over async-io's sockets with the least connector that does it, tasks on
//! async-std's executor. How many threads that has is said by `ASYNC_STD_THREAD_COUNT`.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_io::Async;
use http::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use tower_service::Service;

use super::{
    Failed, Get, IDLE, KEPT, Length, PATH, Pair, Raw, SERVICE, Side, config, failed, origin_get,
    worker,
};

pub(super) struct AsyncStd {
    raw: Raw<Connector>,
    origin: origin_async_std::Upstream,
}

origin_get!(origin_async_std::Upstream);

impl AsyncStd {
    pub(super) fn new(url: &str) -> Result<AsyncStd, Failed> {
        let client = Client::builder(Executor)
            .pool_timer(SmolTimer::new())
            .timer(SmolTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(IDLE)
            .build(Connector);
        let origin = origin_async_std::Client::builder().config(config()).endpoint(SERVICE, url);
        let origin = origin.build().map_err(failed)?.service(SERVICE).map_err(failed)?;
        Ok(AsyncStd { raw: Raw { client, url: format!("{url}{PATH}") }, origin })
    }
}

fn drive<G: Get>(client: &G, concurrent: usize, length: Length) -> Result<u64, Failed> {
    async_std::task::block_on(async {
        let workers: Vec<_> = (0..concurrent)
            .map(|_| async_std::task::spawn(worker(client.clone(), length)))
            .collect();
        let mut done = 0;
        for worker in workers {
            done += worker.await?;
        }
        Ok(done)
    })
}

impl Pair for AsyncStd {
    fn round(&self, side: Side, concurrent: usize, length: Length) -> Result<u64, Failed> {
        match side {
            Side::Raw => drive(&self.raw, concurrent, length),
            Side::Origin => drive(&self.origin, concurrent, length),
        }
    }
}

#[derive(Clone, Copy)]
struct Executor;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        async_std::task::spawn(task);
    }
}

/// Connects to `http://address:port`, and to nothing else.
#[derive(Clone, Copy)]
struct Connector;

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let address: Option<SocketAddr> =
                uri.authority().and_then(|authority| authority.as_str().parse().ok());
            let stream = Async::<TcpStream>::connect(address.ok_or(io::ErrorKind::InvalidInput)?);
            let stream = stream.await?;
            stream.get_ref().set_nodelay(true)?;
            Ok(Link(FuturesIo::new(stream)))
        })
    }
}

/// A connection. It is a type of its own because hyper-util wants to ask it what it is.
struct Link(FuturesIo<Async<TcpStream>>);

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
