//! What the suite needs of a runtime besides its client: waiting for a reply, many calls at once,
//! dropping a call, reading a streamed body. Everything else is `origin_driver::Client`, the same
//! type on all of them, so a test is one function over [`Subject`].

use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use origin_core::notice::Notice;
use origin_core::snapshot::{ServiceSnapshot, Snapshot};
use origin_core::{Error, Response};
use origin_driver::blocking::Background;
use origin_driver::{Builder, Client, Runtime, Update};
use origin_lab::{FaultServer, World};

/// A result, and how long it took.
pub(crate) type Timed<T> = (Result<T, Error>, Duration);

/// One of the four runtimes.
pub(crate) trait Subject: Runtime<Body: Debug> {
    /// What failures call it.
    const NAME: &'static str;
    /// Whether a call is a future, which can be dropped and has a background beside it.
    const ASYNC: bool;

    /// Waits for a reply.
    fn wait<T: Send + 'static>(reply: Self::Reply<T>) -> Result<T, Error>;

    /// Waits that long, then drops the call: `None`. A blocking call cannot be dropped.
    fn wait_at_most<T: Send + 'static>(
        reply: Self::Reply<T>,
        span: Duration,
    ) -> Option<Result<T, Error>>;

    /// Runs `count` calls at once: as tasks of the runtime, or as threads.
    fn together<T: Send + 'static>(
        count: usize,
        make: impl Fn(usize) -> Self::Reply<T> + Sync,
    ) -> Vec<Timed<T>>;

    /// Starts what looks after discovery and health checks beside calls; an async client keeps
    /// it itself.
    fn background(client: &Client<Self>) -> Option<Background>;

    /// The next piece of a streamed body, or the error as text.
    fn chunk(body: &mut Self::Body) -> Result<Option<Bytes>, String>;

    /// The next update of a watch, if it comes within `span`.
    fn update(watch: &mut Self::Watch, span: Duration) -> Option<Update>;

    /// Does this on the runtime.
    fn there<T>(make: impl FnOnce() -> T) -> T;
}

pub(crate) use origin_async_std::AsyncStd;
pub(crate) use origin_async_std::smol::Smol;
pub(crate) use origin_blocking::Blocking;
pub(crate) use origin_tokio::Tokio;

/// The multi-threaded runtime that every test on tokio shares, as a program would.
pub(crate) static TOKIO: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

async fn tokio_sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

async fn io_sleep(span: Duration) {
    smol::Timer::after(span).await;
}

fn tokio_spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    let task = tokio::spawn(task);
    async { task.await.unwrap() }
}

macro_rules! asynchronous {
    ($subject:ty, $name:literal, $block_on:expr, $spawn:path, $sleep:path) => {
        impl Subject for $subject {
            const NAME: &'static str = $name;
            const ASYNC: bool = true;

            fn wait<T: Send + 'static>(reply: Self::Reply<T>) -> Result<T, Error> {
                $block_on(reply)
            }

            fn wait_at_most<T: Send + 'static>(
                reply: Self::Reply<T>,
                span: Duration,
            ) -> Option<Result<T, Error>> {
                let late = async {
                    $sleep(span).await;
                    None
                };
                $block_on(or(async { Some(reply.await) }, late))
            }

            fn together<T: Send + 'static>(
                count: usize,
                make: impl Fn(usize) -> Self::Reply<T> + Sync,
            ) -> Vec<Timed<T>> {
                $block_on(async {
                    let start = |number| {
                        let reply = make(number);
                        $spawn(async move {
                            let began = Instant::now();
                            (reply.await, began.elapsed())
                        })
                    };
                    let tasks: Vec<_> = (0..count).map(start).collect();
                    let mut results = Vec::with_capacity(count);
                    for task in tasks {
                        results.push(task.await);
                    }
                    results
                })
            }

            fn background(client: &Client<Self>) -> Option<Background> {
                $block_on(async { client.start() });
                None
            }

            fn chunk(body: &mut Self::Body) -> Result<Option<Bytes>, String> {
                $block_on(body.chunk()).map_err(|error| error.to_string())
            }

            fn update(watch: &mut Self::Watch, span: Duration) -> Option<Update> {
                let late = async {
                    $sleep(span).await;
                    None
                };
                $block_on(or(watch.next(), late))
            }

            fn there<T>(make: impl FnOnce() -> T) -> T {
                $block_on(async { make() })
            }
        }
    };
}

asynchronous!(Tokio, "tokio", |f| TOKIO.block_on(f), tokio_spawn, tokio_sleep);
asynchronous!(AsyncStd, "async-std", async_std::task::block_on, async_std::task::spawn, io_sleep);
asynchronous!(Smol, "smol", smol::block_on, smol::spawn, io_sleep);

impl Subject for Blocking {
    const NAME: &'static str = "blocking";
    const ASYNC: bool = false;

    fn wait<T: Send + 'static>(reply: Result<T, Error>) -> Result<T, Error> {
        reply
    }

    fn wait_at_most<T: Send + 'static>(
        reply: Result<T, Error>,
        _: Duration,
    ) -> Option<Result<T, Error>> {
        Some(reply)
    }

    fn together<T: Send + 'static>(
        count: usize,
        make: impl Fn(usize) -> Result<T, Error> + Sync,
    ) -> Vec<Timed<T>> {
        let make = &make;
        std::thread::scope(|scope| {
            let start = |number| {
                scope.spawn(move || {
                    let began = Instant::now();
                    (make(number), began.elapsed())
                })
            };
            let threads: Vec<_> = (0..count).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn background(client: &Client<Self>) -> Option<Background> {
        Some(client.background().unwrap())
    }

    fn chunk(body: &mut Self::Body) -> Result<Option<Bytes>, String> {
        let mut buffer = vec![0; 16 << 10];
        match std::io::Read::read(body, &mut buffer) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(Bytes::copy_from_slice(&buffer[..count]))),
            Err(error) => Err(error.to_string()),
        }
    }

    fn update(watch: &mut Self::Watch, span: Duration) -> Option<Update> {
        watch.next_within(span)
    }

    fn there<T>(make: impl FnOnce() -> T) -> T {
        make()
    }
}

/// A builder for a client of `world`: in its local cluster, seeded, and impatient enough for a
/// test.
pub(crate) fn in_world<S: Subject>(world: &World) -> Builder<S> {
    Client::<S>::builder()
        .discovery(world.discovery_url())
        .local_cluster(world.local())
        .timeout(Duration::from_secs(10))
        .attempt_timeout(Duration::from_secs(3))
        .seed(7)
}

/// A `GET` whose response is collected.
pub(crate) fn get<S: Subject>(
    client: &Client<S>,
    service: &str,
    path: &str,
) -> Result<Response, Error> {
    S::wait(client.service(service)?.get(path).send())
}

/// Calls of a service that can be made from anywhere, also where it is not known.
pub(crate) fn begin<S: Subject>(
    client: &Client<S>,
    service: &str,
    path: &str,
) -> S::Reply<Response> {
    match client.service(service) {
        Ok(upstream) => upstream.get(path).send(),
        Err(error) => S::ready(Err(error)),
    }
}

/// The snapshot of one service.
pub(crate) fn of<S: Subject>(client: &Client<S>, service: &str) -> ServiceSnapshot {
    client.snapshot().service(service).unwrap().clone()
}

/// Asks until `is` holds, for ten seconds at most: what a dropped future, a closed socket or a
/// background task does is done soon, but not at once.
pub(crate) fn eventually(what: &str, is: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, is);
}

/// The same with a bound that matters.
pub(crate) fn within(span: Duration, what: &str, mut is: impl FnMut() -> bool) {
    let give_up = Instant::now() + span;
    while !is() {
        assert!(Instant::now() < give_up, "it did not come to pass: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Connections open at these servers.
pub(crate) fn open<'a>(servers: impl IntoIterator<Item = &'a FaultServer>) -> u64 {
    servers.into_iter().map(|server| server.stats().connections_open).sum()
}

/// What a client has to say for itself, for failed tests.
pub(crate) fn story(snapshot: &Snapshot, notices: &[Notice]) -> String {
    let mut text = String::from("  notices:\n");
    for notice in notices {
        text.push_str(&format!("    {:?} {notice}\n", notice.at));
    }
    for service in &snapshot.services {
        text.push_str(&format!("  {service:?}\n"));
    }
    text
}
