//! The adapter: ureq's agent, set up so that it decides nothing, and what its errors mean.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_LENGTH;
use origin_core::cache::Invalidated;
use origin_core::ops::Flow;
use origin_core::ops::storage::Object;
use origin_core::outcome::{Fault, Sent};
use origin_core::s3::Uploaded;
use origin_core::{ConfigError, Error, Request, Response, Time, Wall};
use origin_driver::blocking::{self, BlockingRuntime, Body, Watch};
use origin_driver::moves::Moves;
use origin_driver::tls::Tls;
use origin_driver::{
    Download, Follower, Goal, Hub, Line, Options, Purging, Runtime, Slot, Streaming, TlsChange,
    TlsFailure, Upload, Warmed,
};
use ureq::config::{AutoHeaderValue, Config};
use ureq::{Agent, AsSendBody, BodyReader, SendBody};

use crate::connect::Connect;
use crate::wire::{self, Edge, Exchange, Later, Unconnected};

/// Far enough to be never, near enough for every platform's clock and socket options.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Idle connections kept in all. ureq goes through the whole list for every request.
const IDLE_IN_ALL: usize = 512;
/// Room for a piece of body that arrives together with the largest head.
const INPUT_SLACK: usize = 16 << 10;
/// The longest line of a request head; bodies are written in pieces of this size.
const OUTPUT: usize = 32 << 10;

/// Threads, as the driver sees them.
#[derive(Debug)]
pub struct Blocking {
    epoch: Instant,
    /// Locked for as long as it takes to clone it.
    agent: RwLock<Agent>,
    tls: Arc<Tls>,
    /// What agents are made by.
    shape: Mutex<Shape>,
}

/// Limits of an agent.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Of connecting.
    connect: Duration,
    max_head: usize,
    idle_connections: usize,
    idle_timeout: Duration,
}

impl Blocking {
    /// The moment of a [`Time`], at most a year from now.
    fn instant(&self, at: Time) -> Instant {
        Instant::now() + self.now().until(at).min(YEAR)
    }

    fn send<B: AsSendBody>(
        &self,
        request: http::Request<B>,
        head_by: Time,
        body_by: Time,
    ) -> Result<http::Response<ureq::Body>, (Fault, Sent)> {
        let left = self.now().until(body_by).min(YEAR);
        let agent = self.agent.read().unwrap_or_else(PoisonError::into_inner).clone();
        let request = agent.configure_request(request).timeout_global(Some(left)).build();
        // ureq's limits either end at the head or include the body; this one holds for all that
        // happens on this thread until `run` returns.
        let exchange = Exchange::begin(self.instant(head_by));
        agent.run(request).map_err(|error| (fault_of(&error, exchange.sent()), exchange.sent()))
    }
}

impl Runtime for Blocking {
    const ABREAST: u8 = 1;
    const GRPC: bool = false;
    type Reply<T: Send + 'static> = Result<T, Error>;
    type Body = Body<Blocking>;
    type Watch = Watch<Blocking>;

    fn build(options: &Options) -> Result<Blocking, ConfigError> {
        let tls = Tls::new(options, false)?;
        let shape = Shape {
            connect: options.connect,
            max_head: options.max_head,
            idle_connections: options.idle_connections,
            idle_timeout: options.idle_timeout,
        };
        let agent = RwLock::new(agent(config(&shape), tls.clone()));
        Ok(Blocking { epoch: Instant::now(), agent, tls, shape: Mutex::new(shape) })
    }

    fn now(&self) -> Time {
        Time::ZERO.plus(self.epoch.elapsed())
    }

    fn wall(&self) -> Wall {
        let span = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Wall(span.map_or(0, |span| span.as_secs()))
    }

    fn run<F: Flow>(hub: Arc<Hub<Blocking>>, slot: Arc<Slot>, flow: F) -> Result<F::Output, Error> {
        blocking::run(&hub, &slot, flow)
    }

    fn call(hub: Arc<Hub<Blocking>>, slot: Arc<Slot>, request: Request) -> Result<Response, Error> {
        blocking::call(hub, slot, request)
    }

    fn stream(
        hub: Arc<Hub<Blocking>>,
        slot: Arc<Slot>,
        request: Request,
    ) -> Result<Streaming<Body<Blocking>>, Error> {
        blocking::stream(hub, slot, request)
    }

    fn watch(hub: &Arc<Hub<Blocking>>, line: Arc<Line>) -> Watch<Blocking> {
        blocking::watch(hub, line)
    }

    fn follow(_: &Arc<Hub<Blocking>>, follower: Follower<Blocking>) -> io::Result<()> {
        blocking::follow(follower)
    }

    fn settle(hub: Arc<Hub<Blocking>>, goal: Goal, until: Time) -> Result<bool, Error> {
        blocking::settle(&hub, &goal, until)
    }

    fn close(hub: Arc<Hub<Blocking>>, until: Time) -> Result<bool, Error> {
        blocking::close(&hub, until)
    }

    fn warm(
        hub: Arc<Hub<Blocking>>,
        slot: Arc<Slot>,
        requests: Vec<Option<Request>>,
        at_once: u32,
    ) -> Result<Warmed, Error> {
        blocking::warm(&hub, &slot, requests, at_once)
    }

    fn purge(hub: Arc<Hub<Blocking>>, purging: Purging) -> Result<Invalidated, Error> {
        blocking::purge(&hub, &purging)
    }

    fn both<T: Send + 'static, U: Send + 'static>(
        first: impl FnOnce() -> Result<T, Error> + Send,
        second: impl FnOnce() -> Result<U, Error> + Send,
    ) -> Result<(T, U), Error> {
        blocking::both(first, second)
    }

    fn then<T: Send + 'static, U: Send + 'static>(
        reply: Result<T, Error>,
        next: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
    ) -> Result<U, Error> {
        next(reply)
    }

    fn ready<T: Send + 'static>(result: Result<T, Error>) -> Result<T, Error> {
        result
    }

    fn get(download: Download<Self>) -> Result<Object, Error> {
        blocking::get(download)
    }

    fn finish(upload: Upload<Self>) -> Result<Uploaded, Error> {
        blocking::finish(upload)
    }

    fn aside<T: Send + 'static>(
        _: &Arc<Hub<Self>>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) {
        // There is nobody else, and a thread might not outlive the program.
        drop(work());
    }

    fn secure(&self, change: TlsChange) -> Result<(), ConfigError> {
        self.tls.change(change, || {
            let mut present = self.agent.write().unwrap_or_else(PoisonError::into_inner);
            let fresh = agent(present.config().clone(), self.tls.clone());
            // Exchanges under way have a clone of the old one; its idle connections are closed
            // with the last of them, and none of those comes back to a pool that is gone.
            let old = std::mem::replace(&mut *present, fresh);
            drop(present);
            drop(old);
        })
    }

    fn tune(&self, connect: Duration, idle: Duration) {
        let mut shape = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
        if (shape.connect, shape.idle_timeout) != (connect, idle) {
            (shape.connect, shape.idle_timeout) = (connect, idle);
            let fresh = agent(config(&shape), self.tls.clone());
            *self.agent.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    fn tls_failures(&self) -> Vec<TlsFailure> {
        self.tls.failures()
    }
}

impl BlockingRuntime for Blocking {
    type Raw = BodyReader<'static>;

    fn sleep_until(&self, at: Time) {
        thread::sleep(self.now().until(at).min(YEAR));
    }

    fn exchange(
        &self,
        mut request: http::Request<Bytes>,
        head_by: Time,
        body_by: Time,
    ) -> Result<http::Response<BodyReader<'static>>, (Fault, Sent)> {
        let moves = Moves::take(&mut request);
        let (mut head, body) = request.into_parts();
        // RFC 9110 §8.6: a length of zero is said where a body would mean something.
        let meant = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        let response = if let Some(moves) = moves {
            // Of what is read, ureq would not know the length.
            head.headers.insert(CONTENT_LENGTH, body.len().into());
            let body = SendBody::from_owned_reader(moves.reader(body));
            self.send(http::Request::from_parts(head, body), head_by, body_by)
        } else if body.is_empty() && !meant {
            self.send(http::Request::from_parts(head, ()), head_by, body_by)
        } else {
            self.send(http::Request::from_parts(head, &*body), head_by, body_by)
        };
        response.map(|response| response.map(ureq::Body::into_reader))
    }

    fn connect(&self, host: &str, port: u16, by: Time) -> Result<(), Fault> {
        let connect = self.shape.lock().unwrap_or_else(PoisonError::into_inner).connect;
        let limit = Instant::now() + connect.min(YEAR);
        let by = self.instant(by);
        wire::reach(host, port, limit.min(by), limit <= by)
    }

    fn body_fault(error: &io::Error) -> Fault {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(inner) => fault_of(inner, Sent::Maybe),
            None => Fault::Reset,
        }
    }
}

/// An agent's configuration: it decides nothing.
fn config(shape: &Shape) -> Config {
    Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        // Includes resolving, which `Later` leaves to the connector, and the TLS handshake.
        .timeout_connect(Some(shape.connect))
        .max_response_header_size(shape.max_head)
        .input_buffer_size(shape.max_head.saturating_add(INPUT_SLACK))
        .output_buffer_size(OUTPUT)
        .max_idle_connections(IDLE_IN_ALL)
        .max_idle_connections_per_host(shape.idle_connections)
        .max_idle_age(shape.idle_timeout)
        .build()
}

/// An agent with a pool of its own.
fn agent(config: Config, tls: Arc<Tls>) -> Agent {
    Agent::with_parts(config, Edge(Connect::new(tls)), Later)
}

/// What ureq's error means, given whether anything had been written to the connection.
fn fault_of(error: &ureq::Error, sent: Sent) -> Fault {
    match error {
        ureq::Error::Other(inner) => {
            inner.downcast_ref::<Unconnected>().map_or(Fault::Reset, |known| known.0)
        }
        ureq::Error::Timeout(_) => Fault::Timeout,
        ureq::Error::Io(_) => Fault::Reset,
        ureq::Error::LargeResponseHeader(..) => Fault::HeadTooLarge,
        // Refused by ureq before anything was sent: no endpoint is to blame.
        _ if sent == Sent::Never => Fault::Request,
        // The type behind this is private to ureq; only its text tells.
        ureq::Error::Protocol(inner) if inner.to_string().contains("too many headers") => {
            Fault::HeadTooLarge
        }
        _ => Fault::Protocol,
    }
}
