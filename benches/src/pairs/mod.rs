//! Each adapter beside the HTTP client that carries it, doing the same: a GET by its text, over
//! pooled connections, the body read to its end. Both keep as many idle connections, so that the
//! pool is not what is compared.

mod async_std;
mod blocking;
mod tokio;

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use origin_core::config::{Config, Limits};

/// Idle connections kept by either side: more than any round uses.
const IDLE: usize = 256;
/// How long they are kept.
const KEPT: Duration = Duration::from_secs(60);
/// What is asked for.
const PATH: &str = "/invoices/7";
/// The name Origin knows the server by.
const SERVICE: &str = "billing";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The HTTP client alone.
    Raw,
    /// Origin over the same client.
    Origin,
}

/// Which pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `origin-tokio` and hyper-util's pooled client on tokio.
    Tokio,
    /// `origin-async-std` and hyper-util's pooled client on async-std.
    AsyncStd,
    /// `origin-blocking` and ureq's agent.
    Blocking,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Tokio, Kind::AsyncStd, Kind::Blocking];

    /// Its name on the command line and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Tokio => "tokio",
            Kind::AsyncStd => "async-std",
            Kind::Blocking => "blocking",
        }
    }
}

/// When one worker stops.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// After this time.
    Time(Duration),
    /// After so many requests.
    Requests(u32),
}

/// Whether the runtime may use several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// As many as it wants.
    Several,
    /// One, as far as the runtime can: for counting instructions.
    One,
}

/// A request that failed. A measurement with failures in it measures nothing.
#[derive(Debug)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

fn failed(error: impl fmt::Display) -> Failed {
    Failed(error.to_string())
}

/// Two clients of the same server.
pub trait Pair {
    /// Lets `concurrent` workers of one side send requests one after the other, and returns how
    /// many were answered.
    ///
    /// # Errors
    /// The first request that failed.
    fn round(&self, side: Side, concurrent: usize, length: Length) -> Result<u64, Failed>;
}

/// Both clients of `kind` for the server at `url`, which has no path.
///
/// # Errors
/// A client that cannot be built.
pub fn pair(kind: Kind, url: &str, threads: Threads) -> Result<Box<dyn Pair>, Failed> {
    Ok(match kind {
        Kind::Tokio => Box::new(tokio::Tokio::new(url, threads)?),
        Kind::AsyncStd => Box::new(async_std::AsyncStd::new(url)?),
        Kind::Blocking => Box::new(blocking::Blocking::new(url)?),
    })
}

/// The configuration of Origin's side: defaults, but the pool as large as the other's.
fn config() -> Config {
    let limits = Limits { idle_connections: IDLE, idle_timeout: KEPT, ..Limits::default() };
    Config { limits, ..Config::default() }
}

/// One worker's end.
struct Progress {
    end: Option<Instant>,
    left: u32,
    done: u64,
}

impl Progress {
    fn new(length: Length) -> Progress {
        match length {
            Length::Time(span) => {
                Progress { end: Some(Instant::now() + span), left: u32::MAX, done: 0 }
            }
            Length::Requests(count) => Progress { end: None, left: count, done: 0 },
        }
    }

    fn goes_on(&self) -> bool {
        self.left > 0 && self.end.is_none_or(|end| Instant::now() < end)
    }

    fn advance(&mut self) {
        self.left -= 1;
        self.done += 1;
    }
}

/// An answer that both sides must have got.
fn check(status: http::StatusCode, length: usize) -> Result<(), Failed> {
    if status != 200 || length == 0 {
        return Err(Failed(format!("answered {status} with {length} bytes")));
    }
    Ok(())
}

/// An async client of a pair.
trait Get: Clone + Send + Sync + 'static {
    fn get(&self) -> impl Future<Output = Result<(), Failed>> + Send;
}

async fn worker<G: Get>(client: G, length: Length) -> Result<u64, Failed> {
    let mut progress = Progress::new(length);
    while progress.goes_on() {
        client.get().await?;
        progress.advance();
    }
    Ok(progress.done)
}

/// hyper's pooled client as a program without Origin would use it.
#[derive(Clone)]
struct Raw<C> {
    client: Client<C, Full<Bytes>>,
    url: String,
}

impl<C: Connect + Clone + Send + Sync + 'static> Get for Raw<C> {
    async fn get(&self) -> Result<(), Failed> {
        let request =
            http::Request::get(self.url.as_str()).body(Full::default()).map_err(failed)?;
        let (head, body) = self.client.request(request).await.map_err(failed)?.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        check(head.status, body.len())
    }
}

/// Origin as a program uses it. The same text for all runtimes.
macro_rules! origin_get {
    ($client:ty) => {
        impl $crate::pairs::Get for $client {
            async fn get(&self) -> Result<(), $crate::pairs::Failed> {
                let reply =
                    self.get($crate::pairs::PATH).send().await.map_err($crate::pairs::failed)?;
                $crate::pairs::check(reply.status(), reply.bytes().len())
            }
        }
    };
}
use origin_get;
