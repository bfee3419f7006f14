//! A fleet of clients that look services up over one Redis, in virtual time: which level answers.
//! Beside it the ideal, which knows what will be asked for.
//!
//! Clients are the core's own [`Directory`]s without a background: the call that finds nothing
//! fresh asks, as in a program that does nothing beside its calls. Redis is a map that carries out
//! the few commands the core sends; it has room for everything, and forgets what has expired.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use origin_core::config::{Config, ConsulConfig, DiscoveryConfig, RedisConfig, SharedLevelConfig};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Directory, Surroundings};
use origin_core::job::{Asker, JobOutcome, Poll, Work};
use origin_core::redis::{Command, Reply};
use origin_core::rng::Pcg32;
use origin_core::{Time, Wall};

use crate::caches::Zipf;

/// Instances of each service.
const INSTANCES: usize = 2;

/// A fleet and its caches.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Clients that share one Redis.
    pub clients: u32,
    /// Services that each client remembers.
    pub room: u32,
    /// How long an answer of the source is good.
    pub ttl: Duration,
    /// How long a list may live in Redis; `None`: there is no Redis.
    pub shared: Option<Duration>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Services, by popularity under a Zipf distribution.
    pub services: usize,
    /// Its exponent.
    pub exponent: f64,
    /// Time between two lookups of each client, on average.
    pub every: Duration,
    /// Lookups of each client that are not counted yet.
    pub warm_up: u32,
    /// Lookups of each client that are.
    pub counted: u32,
}

/// One lookup.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    at: Time,
    client: usize,
    service: usize,
    counted: bool,
}

/// The lookups of `load`, evenly spaced, each by any of the clients.
#[must_use]
pub fn requests(load: &Load, clients: u32) -> Vec<Request> {
    let mut zipf = Zipf::new(load.services, load.exponent, 1);
    let mut who = Pcg32::new(2, 0);
    let apart = load.every / clients.max(1);
    let one = |n: u32| Request {
        at: Time::ZERO.plus(apart.saturating_mul(n)),
        client: who.below(clients) as usize,
        service: zipf.draw(),
        counted: n >= load.warm_up.saturating_mul(clients),
    };
    (0..(load.warm_up + load.counted).saturating_mul(clients)).map(one).collect()
}

/// Who answers a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Local,
    Redis,
    Source,
}

/// Lookups by who answered them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// The client's own level.
    pub local: u32,
    /// Redis.
    pub redis: u32,
    /// The source.
    pub source: u32,
}

impl Shares {
    fn count(&mut self, request: &Request, by: By) {
        let count = match by {
            By::Local => &mut self.local,
            By::Redis => &mut self.redis,
            By::Source => &mut self.source,
        };
        *count += u32::from(request.counted);
    }

    /// All lookups.
    #[must_use]
    pub const fn all(&self) -> u32 {
        self.local + self.redis + self.source
    }

    /// `part` of all lookups in per cent.
    #[must_use]
    pub fn percent(&self, part: u32) -> f64 {
        100.0 * f64::from(part) / f64::from(self.all().max(1))
    }
}

/// What the core's directories do with `requests`.
///
/// # Panics
/// If a lookup comes to nothing: the source always answers.
#[must_use]
pub fn fleet(setting: &Setting, load: &Load, requests: &[Request]) -> Shares {
    let mut fleet = Fleet::new(setting, load);
    let mut shares = Shares::default();
    for request in requests {
        shares.count(request, fleet.look_up(request));
    }
    shares
}

struct Fleet {
    clients: Vec<Directory>,
    redis: Redis,
    names: Vec<String>,
    replies: Vec<Bytes>,
}

impl Fleet {
    #[allow(clippy::expect_used)] // as is said above
    fn new(setting: &Setting, load: &Load) -> Fleet {
        let discovery = DiscoveryConfig {
            ttl: setting.ttl,
            refresh_ahead: Duration::ZERO,
            max_services: setting.room,
            consul: Some(ConsulConfig::at("http://127.0.0.1:8500")),
            ..DiscoveryConfig::default()
        };
        let redis = setting.shared.map(|ttl| RedisConfig {
            discovery: SharedLevelConfig { ttl, ..SharedLevelConfig::default() },
            ..RedisConfig::default()
        });
        let config = Config { discovery: Some(discovery), redis, ..Config::default() };
        let client = |seed: u32| {
            let around = Surroundings::default();
            let made = Directory::new(&config, seed.into(), &around).expect("the configuration");
            let mut directory = made.expect("discovery is configured");
            directory.calendar(Time::ZERO, Wall(1_700_000_000));
            directory
        };
        let names: Vec<String> = (0..load.services).map(|n| format!("service-{n}")).collect();
        Fleet {
            clients: (0..setting.clients).map(client).collect(),
            redis: Redis::default(),
            replies: names.iter().map(|name| reply(name)).collect(),
            names,
        }
    }

    #[allow(clippy::panic)] // as is said above
    fn look_up(&mut self, request: &Request) -> By {
        let (now, service) = (request.at, self.names[request.service].as_str());
        let directory = &mut self.clients[request.client];
        // Makes room, where it is unknown.
        let _ = directory.resolve(now, service);
        if directory.call_due(now, service) > now {
            return By::Local;
        }
        let mut by = By::Redis;
        let until = now.plus(Duration::from_secs(2));
        while let Poll::Run(job) = directory.poll_job(now, Asker::Call { service, until }) {
            let outcome = match job.work {
                Work::Redis(commands) => JobOutcome::Replies(self.redis.run(now, &commands)),
                _ => {
                    by = By::Source;
                    let body = self.replies[request.service].clone();
                    JobOutcome::Answered { status: 200, headers: HeaderMap::new(), body }
                }
            };
            let _ = directory.job_done(now, job.id, outcome);
        }
        let found = directory.resolve(now, service);
        if !matches!(&found, Resolution::Found(list) if list.len() == INSTANCES) {
            panic!("{service} at {now:?}: {found:?}");
        }
        by
    }
}

/// A health reply of Consul.
fn reply(service: &str) -> Bytes {
    let one = |n: usize| {
        format!(
            r#"{{"Node":{{"Node":"node-{n}","Address":"10.0.0.{n}","Datacenter":"dc1"}},"Service":{{"ID":"{service}-{n}","Service":"{service}","Tags":[],"Address":"","Meta":null,"Port":8080}},"Checks":[]}}"#
        )
    };
    format!("[{}]", (1..=INSTANCES).map(one).collect::<Vec<_>>().join(",")).into()
}

/// Keys, what they hold, and when they expire, in milliseconds.
#[derive(Default)]
struct Redis(BTreeMap<Bytes, (Bytes, u64)>);

impl Redis {
    fn run(&mut self, now: Time, commands: &[Command]) -> Vec<Reply> {
        commands.iter().map(|command| self.one(now.as_millis(), &command.0)).collect()
    }

    #[allow(clippy::panic)] // a command that the core has learnt since has to be added here
    fn one(&mut self, ms: u64, words: &[Bytes]) -> Reply {
        let key = &words[1];
        if self.0.get(key).is_some_and(|(_, until)| *until <= ms) {
            self.0.remove(key);
        }
        match (&words[0][..], self.0.get(key)) {
            (b"PTTL", None) => Reply::Number(-2),
            (b"PTTL", Some((_, until))) => {
                Reply::Number(i64::try_from(until - ms).unwrap_or(i64::MAX))
            }
            (b"GETRANGE", held) => {
                Reply::Text(held.map(|(text, _)| text.clone()).unwrap_or_default())
            }
            (b"SET", _) => {
                let life = std::str::from_utf8(&words[4]).ok().and_then(|life| life.parse().ok());
                self.0.insert(key.clone(), (words[2].clone(), ms + life.unwrap_or(0)));
                Reply::Text("OK".into())
            }
            (other, _) => panic!("{} is not in this Redis", String::from_utf8_lossy(other)),
        }
    }
}

/// What the best does that can be done with the same room and the same times to live, by somebody
/// who knows all lookups to come.
///
/// A lookup hits if the client has kept the service since its own last lookup of it and the answer
/// has not expired meanwhile; of the services worth keeping, those that are asked for last are
/// let go. When an answer expires is decided by the fleet's first lookup after the one before has
/// expired, whoever keeps what, as long as lists live as long in Redis as in clients: so no choice
/// hits more often. (A list in Redis expires by the calendar in whole seconds, so up to a second before
/// the ideal's.) Without Redis an answer that was let go is fetched again and then lives
/// longer, which now and then is worth more than this keeps.
#[must_use]
pub fn ideal(setting: &Setting, requests: &[Request]) -> Shares {
    let later = next_by_same(requests);
    // By client: what it keeps, by the lookup for which it is kept.
    let mut kept: Vec<BTreeMap<usize, Time>> = vec![BTreeMap::new(); setting.clients as usize];
    let mut redis: BTreeMap<usize, Time> = BTreeMap::new();
    let mut shares = Shares::default();
    for (n, request) in requests.iter().enumerate() {
        let (now, kept) = (request.at, &mut kept[request.client]);
        let shared = redis.get(&request.service).copied().filter(|until| *until > now);
        let (by, until) = match (kept.remove(&n), shared) {
            (Some(until), _) => (By::Local, until),
            (None, Some(until)) => (By::Redis, until),
            (None, None) => {
                if let Some(life) = setting.shared {
                    redis.insert(request.service, now.plus(life.min(setting.ttl)));
                }
                (By::Source, now.plus(setting.ttl))
            }
        };
        shares.count(request, by);
        if let Some(next) = later[n]
            && requests[next].at < until
        {
            kept.insert(next, until);
            if kept.len() > setting.room as usize {
                kept.pop_last();
            }
        }
    }
    shares
}

/// For each lookup the next one of the same service by the same client.
fn next_by_same(requests: &[Request]) -> Vec<Option<usize>> {
    let mut next = BTreeMap::new();
    let mut later: Vec<Option<usize>> = requests
        .iter()
        .enumerate()
        .rev()
        .map(|(n, request)| next.insert((request.client, request.service), n))
        .collect();
    later.reverse();
    later
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In whole seconds for one client and for five: the expiry that a list in Redis names is in
    /// seconds of the calendar, so that between them it is up to a second early.
    const LOAD: Load = Load {
        services: 60,
        exponent: 1.0,
        every: Duration::from_secs(5),
        warm_up: 200,
        counted: 800,
    };

    fn both(setting: Setting) -> (Shares, Shares) {
        let requests = requests(&LOAD, setting.clients);
        (fleet(&setting, &LOAD, &requests), ideal(&setting, &requests))
    }

    #[test]
    fn with_room_for_all_the_core_does_what_the_ideal_does() {
        for clients in [1, 5] {
            for shared in [None, Some(Duration::from_secs(300))] {
                let ttl = Duration::from_secs(300);
                let (fleet, ideal) = both(Setting { clients, room: 60, ttl, shared });
                assert_eq!(fleet, ideal, "{clients} clients, {shared:?}");
                assert_eq!(fleet.all(), LOAD.counted * clients);
                assert_eq!(fleet.redis > 0, clients > 1 && shared.is_some(), "{fleet:?}");
            }
        }
    }

    #[test]
    fn the_ideal_is_never_beaten_and_the_source_asked_once_a_ttl() {
        for room in [1, 5, 20] {
            let ttl = Duration::from_secs(300);
            let (fleet, ideal) = both(Setting { clients: 5, room, ttl, shared: Some(ttl) });
            assert!(fleet.local < ideal.local, "room for {room}: {fleet:?}, ideal {ideal:?}");
            assert_eq!(fleet.source, ideal.source, "room for {room}");
        }
    }

    #[test]
    fn room_for_none_but_the_present_keeps_what_is_asked_for_twice_in_a_row() {
        let ttl = Duration::from_secs(3_600);
        let setting = Setting { clients: 1, room: 1, ttl, shared: None };
        let requests = requests(&LOAD, 1);
        let twice = requests
            .windows(2)
            .filter(|two| two[1].counted && two[0].service == two[1].service)
            .count();
        let fleet = fleet(&setting, &LOAD, &requests);
        assert_eq!(fleet.local as usize, twice);
    }
}
