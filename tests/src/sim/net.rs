//! The simulated network: servers that behave as `origin_lab::Mode` says, in virtual time. What a
//! mode comes to is what the real adapters report for it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{CACHE_CONTROL, ETAG, HeaderName, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue};
use origin_core::job::{Job, JobOutcome};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::rng::Pcg32;
use origin_core::{Service, Time, Wall};
use origin_lab::Mode;

/// How long a healthy answer takes: a base, a uniform spread on top, and now and then a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub base: Duration,
    /// Added: something between nothing and this.
    pub spread: Duration,
    /// How many answers in a thousand take `tail` on top.
    pub tail_permille: u32,
    /// What those take on top.
    pub tail: Duration,
}

impl Latency {
    /// `base` milliseconds, and up to `spread` more.
    #[must_use]
    pub fn millis(base: u64, spread: u64) -> Latency {
        let (base, spread) = (Duration::from_millis(base), Duration::from_millis(spread));
        Latency { base, spread, tail_permille: 0, tail: Duration::ZERO }
    }

    fn draw(&self, rng: &mut Pcg32) -> Duration {
        let spread = u64::try_from(self.spread.as_nanos()).unwrap_or(u64::MAX);
        let tail = if rng.below(1000) < self.tail_permille { self.tail } else { Duration::ZERO };
        self.base + Duration::from_nanos(rng.up_to(spread)) + tail
    }
}

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// How it behaves.
    mode: Mode,
    /// How long it takes.
    pub latency: Latency,
    /// Whether packets to it are lost: connecting takes until the limit.
    pub dark: bool,
    /// When each of its workers is free again; without workers there is no limit.
    workers: Vec<Time>,
    /// Requests that arrived.
    pub requests: u64,
    /// Requests since the mode was set: the place in a sequence.
    turns: BTreeMap<usize, usize>,
}

impl Server {
    /// A healthy server.
    #[must_use]
    pub fn new(latency: Latency) -> Server {
        let (mode, turns) = (Mode::Ok, BTreeMap::new());
        Server { mode, latency, dark: false, workers: Vec::new(), requests: 0, turns }
    }

    /// The same with so many workers: more requests at a time wait for one another.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Server {
        self.workers = vec![Time::ZERO; count];
        self
    }

    /// Changes how it behaves.
    pub fn set(&mut self, mode: Mode) {
        self.mode = mode;
        self.turns.clear();
    }

    /// The mode of the next request: sequences and flaky modes resolved.
    fn next(&mut self) -> Mode {
        let mut depth = 0;
        let mut mode = self.mode.clone();
        let mut inside = false;
        loop {
            let turn = self.turns.entry(depth).or_default();
            *turn += 1;
            let turn = *turn - 1;
            depth += 1;
            mode = match mode {
                Mode::Sequence(modes) => {
                    let last = modes.len().saturating_sub(1);
                    inside = true;
                    modes.get(turn.min(last)).cloned().unwrap_or(Mode::Ok)
                }
                Mode::Flaky { every, mode } => {
                    inside = true;
                    let nth = (turn as u64 + 1).checked_rem(every) == Some(0);
                    if nth { *mode } else { Mode::Ok }
                }
                // Inside a sequence the connection exists already.
                Mode::Refuse if inside => return Mode::ResetBeforeHead,
                Mode::HangOnAccept if inside => return Mode::HangBeforeHead,
                plain => return plain,
            };
        }
    }

    /// When a healthy answer that needs `work` comes.
    fn busy_until(&mut self, now: Time, work: Duration) -> Time {
        let Some(worker) = self.workers.iter_mut().min() else { return now.plus(work) };
        *worker = (*worker).max(now).plus(work);
        *worker
    }
}

/// What comes of a request: when, and what. `None` never comes.
type Fate<T> = Option<(Time, T)>;

/// Every server there is, and the registry that names them.
#[derive(Clone, Debug)]
pub struct Network {
    servers: BTreeMap<String, Server>,
    registry: Server,
    document: String,
    rng: Pcg32,
    /// Connect limit of the client.
    connect: Duration,
    /// Largest head and body the client accepts.
    limits: (u64, u64),
}

/// The address of the simulated registry.
pub(super) const REGISTRY: &str = "http://registry.sim:8080/api/v1/services";

impl Network {
    /// A network without servers.
    #[must_use]
    pub fn new(seed: u64) -> Network {
        Network {
            servers: BTreeMap::new(),
            registry: Server::new(Latency::millis(2, 2)),
            document: String::new(),
            rng: Pcg32::new(seed, 0x6e7),
            connect: Duration::from_secs(1),
            limits: (64 << 10, 16 << 20),
        }
    }

    /// The limits of the client, which real adapters enforce.
    pub(super) fn limits(&mut self, connect: Duration, head: u64, body: u64) {
        (self.connect, self.limits) = (connect, (head, body));
    }

    /// Adds a server.
    pub fn add(&mut self, address: &str, server: Server) {
        self.servers.insert(address.to_owned(), server);
    }

    /// The server at `address`.
    pub fn server(&mut self, address: &str) -> Option<&mut Server> {
        self.servers.get_mut(address)
    }

    /// Requests that arrived at `address`.
    #[must_use]
    pub fn requests(&self, address: &str) -> u64 {
        self.servers.get(address).map_or(0, |server| server.requests)
    }

    /// Requests that arrived at the registry.
    #[must_use]
    pub fn registry_requests(&self) -> u64 {
        self.registry.requests
    }

    /// Every address.
    pub fn addresses(&self) -> impl Iterator<Item = &String> {
        self.servers.keys()
    }

    /// The registry.
    pub fn registry(&mut self) -> &mut Server {
        &mut self.registry
    }

    /// Replaces the discovery document.
    pub fn publish(&mut self, document: String) {
        self.document = document;
    }

    /// What an attempt of `service` at `address` meets.
    pub(super) fn attempt(&mut self, now: Time, address: &str, service: &Service) -> Fate<Outcome> {
        let failed = |fault, sent| Outcome::Failed { fault, sent };
        let Some(server) = self.servers.get_mut(address) else {
            let soon = now.plus(Duration::from_micros(300));
            return Some((soon, failed(Fault::Resolve, Sent::Never)));
        };
        if server.dark {
            let at = now.plus(self.connect);
            return Some((at, failed(Fault::ConnectTimeout, Sent::Never)));
        }
        let mode = server.next();
        let trip = now.plus(server.latency.draw(&mut self.rng));
        let work = trip.since(now);
        if mode == Mode::Refuse {
            let soon = now.plus(Duration::from_micros(300));
            return Some((soon, failed(Fault::Connect, Sent::Never)));
        }
        server.requests += 1;
        let (head, body) = self.limits;
        Some(match mode {
            Mode::Ok | Mode::Echo | Mode::Body { .. } => {
                (server.busy_until(now, work), Outcome::status(200))
            }
            Mode::Slow { delay_ms } => {
                let work = work + Duration::from_millis(delay_ms);
                (server.busy_until(now, work), Outcome::status(200))
            }
            Mode::Drip { bytes, every_ms } => {
                let span = Duration::from_millis(bytes.saturating_mul(every_ms));
                (trip.plus(span), Outcome::status(200))
            }
            Mode::Status { code, headers, .. } => {
                (trip, service.outcome(code, &header_map(&headers), Wall::default()))
            }
            Mode::Redirect { code, .. } => (trip, Outcome::status(code)),
            Mode::ResetBeforeHead | Mode::ResetMidBody { .. } | Mode::CloseMidBody { .. } => {
                (trip, failed(Fault::Reset, Sent::Maybe))
            }
            Mode::Garbage => (trip, failed(Fault::Protocol, Sent::Maybe)),
            Mode::HugeHead { bytes } if bytes > head => {
                (trip, failed(Fault::HeadTooLarge, Sent::Maybe))
            }
            Mode::HugeBody { bytes } if bytes > body => {
                (trip, failed(Fault::BodyTooLarge, Sent::Maybe))
            }
            Mode::HugeHead { .. } | Mode::HugeBody { .. } => (trip, Outcome::status(200)),
            Mode::Refuse | Mode::Sequence(_) | Mode::Flaky { .. } => return None,
            Mode::HangBeforeHead | Mode::HangOnAccept | Mode::HangAfterHead => return None,
        })
    }

    /// What a discovery job meets.
    pub(super) fn fetch(&mut self, now: Time, job: &Job) -> Fate<JobOutcome> {
        let server = &mut self.registry;
        if server.dark {
            return Some((now.plus(self.connect), JobOutcome::Failed(Fault::ConnectTimeout)));
        }
        let trip = now.plus(server.latency.draw(&mut self.rng));
        let mode = server.next();
        if mode == Mode::Refuse {
            return Some((trip, JobOutcome::Failed(Fault::Connect)));
        }
        server.requests += 1;
        let answer = |status, headers: HeaderMap, body: &str| JobOutcome::Answered {
            status,
            headers,
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        };
        let outcome = match mode {
            Mode::Ok => {
                let none = HeaderMap::new();
                let (headers, matches) =
                    validators(&self.document, job.http().map_or(&none, |r| r.headers()));
                match matches {
                    true => answer(304, headers, ""),
                    false => answer(200, headers, &self.document),
                }
            }
            Mode::Slow { delay_ms } => {
                let (headers, _) = validators(&self.document, &HeaderMap::new());
                let at = trip.plus(Duration::from_millis(delay_ms));
                return Some((at, answer(200, headers, &self.document)));
            }
            Mode::Body { body, .. } => answer(200, HeaderMap::new(), &body),
            Mode::Status { code, headers, body } => answer(code, header_map(&headers), &body),
            Mode::Redirect { to, code } => {
                let mut headers = HeaderMap::new();
                if let Ok(to) = HeaderValue::from_str(&to) {
                    headers.insert(LOCATION, to);
                }
                answer(code, headers, "")
            }
            Mode::Echo => answer(200, HeaderMap::new(), "{\"method\":\"GET\"}"),
            Mode::Garbage => JobOutcome::Failed(Fault::Protocol),
            Mode::HugeBody { .. } => JobOutcome::Failed(Fault::BodyTooLarge),
            Mode::HugeHead { .. } => JobOutcome::Failed(Fault::HeadTooLarge),
            Mode::ResetBeforeHead | Mode::ResetMidBody { .. } | Mode::CloseMidBody { .. } => {
                JobOutcome::Failed(Fault::Reset)
            }
            _ => return None,
        };
        Some((trip, outcome))
    }
}

fn header_map(pairs: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            map.append(name, value);
        }
    }
    map
}

/// The headers a registry sends with a document, and whether the client has that one already.
fn validators(document: &str, asked: &HeaderMap) -> (HeaderMap, bool) {
    let hash = document.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let etag = format!("\"{hash:016x}\"");
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    let matches = asked.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    (headers, matches)
}
