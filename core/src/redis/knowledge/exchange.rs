//! When a node tells what it knows and asks what others know: two exchanges with Redis, one after
//! the other, every few seconds; sooner when a breaker of its own changed.
//!
//! The first writes the own record (which is also the sign of life that quorums are counted of)
//! and asks who else there is; the second reads their records. Both are bounded, in nodes, bytes
//! and time. Names of nodes whose record is gone are taken out of the index; one that was only
//! late comes back with its next record.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::{self, Record, Unheard};
use super::{Advice, Board, Own, Peer, Settings};
use crate::config::{ConfigError, check_service_name};
use crate::job::{JobOutcome, Poll};
use crate::redis::link::{Change, Failure, Pass, Refusal, replies};
use crate::redis::{self, Command, Keys, Link, Reply};
use crate::rng::Pcg32;
use crate::time::{Time, Wall, nanos};

/// How long past its deadline an exchange may report: timers fire in any order.
const LATE: Duration = Duration::from_millis(500);
/// Shortest time between two warnings about records that are not heard.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long an index lives after its last use.
const INDEX_MS: &str = "172800000";

/// One exchange to be carried out.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// To be given back with the result.
    pub id: u64,
    /// To be sent together.
    pub commands: Vec<Command>,
    /// To be given up at this time.
    pub deadline: Time,
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An outage of Redis began or ended.
    Link(Change),
    /// A record is not heard. At most once a minute.
    Unheard {
        /// Whose it is.
        node: Arc<str>,
        /// Why.
        why: Unheard,
        /// Records not heard since the warning before, this one included.
        times: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Link(change) => write!(f, "shared breakers: {change}"),
            Event::Unheard { node, why, times } => {
                write!(f, "shared breakers: node {node} is not heard ({times} times): {why}")
            }
        }
    }
}

/// What came of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Done {
    /// Whether other endpoints are advised against than before.
    pub changed: bool,
    /// What is worth a line in a log.
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: u64,
    asked: Time,
    pass: Pass,
    commands: usize,
    /// Whose records are asked for; `None`: the first exchange.
    nodes: Option<Vec<Arc<str>>>,
}

/// What one node tells about the endpoints of one service, and what it is told.
///
/// ```
/// use std::time::Duration;
/// use origin_core::config::{KnowledgeMode, RedisConfig};
/// use origin_core::job::Poll;
/// use origin_core::redis::Settings;
/// use origin_core::redis::knowledge::{Knowledge, Own, record::endpoint};
/// use origin_core::rng::Pcg32;
/// use origin_core::{Time, Wall};
///
/// let mut config = RedisConfig::default();
/// config.breakers.mode = KnowledgeMode::Advise;
/// let settings = Settings::of(&config, "redis")?;
/// let (mut rng, now, wall) = (Pcg32::new(1, 0), Time::from_millis(9_000), Wall(1_700_000_000));
/// let mut knowledge = Knowledge::new("billing", "node-1")?;
/// let until = now.plus(Duration::from_secs(10));
/// knowledge.report(now, endpoint("http://10.0.0.1:8080"), Own::Open { until }, &settings.knowledge);
/// // The first of two exchanges: its own record, and who else there is.
/// let Poll::Run(exchange) = knowledge.poll(now, wall, &settings, &mut rng) else { panic!() };
/// assert_eq!(exchange.commands[0].0[..2], ["SET", "origin:breaker:billing:node-1"]);
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Knowledge {
    service: Arc<str>,
    node: Arc<str>,
    pub(super) own: BTreeMap<u64, Time>,
    board: Board,
    link: Link,
    lease: Option<Lease>,
    /// Whose records are to be asked for next.
    found: Option<Vec<Arc<str>>>,
    /// Names to be taken out of the index.
    gone: Vec<Arc<str>>,
    /// The index is no set, and to be deleted.
    reset: bool,
    began: Option<Time>,
    next: Time,
    next_id: u64,
    next_warning: Time,
    unsaid: u64,
}

impl Knowledge {
    /// Of `node` about `service`. No two live nodes may have the same name.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn new(service: &str, node: &str) -> Result<Knowledge, ConfigError> {
        check_service_name(service)?;
        if !record::is_node(node) {
            let reason = "has 1 to 64 letters, digits, '-', '_' and '.'";
            return Err(ConfigError::new("node name", reason));
        }
        Ok(Knowledge {
            service: service.into(),
            node: node.into(),
            own: BTreeMap::new(),
            board: Board::default(),
            link: Link::default(),
            lease: None,
            found: None,
            gone: Vec::new(),
            reset: false,
            began: None,
            next: Time::ZERO,
            next_id: 0,
            next_warning: Time::ZERO,
            unsaid: 0,
        })
    }

    /// Tells what an own breaker says now, from own calls only. Beyond `max_endpoints` open ones
    /// no more are told. Returns whether there is something new to tell.
    pub fn report(&mut self, now: Time, endpoint: u64, own: Own, settings: &Settings) -> bool {
        let changed = match own {
            Own::Closed => self.own.remove(&endpoint).is_some(),
            Own::Open { until } if until <= now => self.own.remove(&endpoint).is_some(),
            Own::Open { until } => {
                let room =
                    self.own.len() < settings.max_endpoints || self.own.contains_key(&endpoint);
                room && self.own.insert(endpoint, until) != Some(until)
            }
        };
        if changed {
            self.next = self.next.min(self.soonest(now, settings));
        }
        changed
    }

    fn soonest(&self, now: Time, settings: &Settings) -> Time {
        self.began.map_or(now, |began| began.plus(Duration::from_nanos(settings.gap)).max(now))
    }

    /// What the others say of an endpoint; see [`Board::advice`].
    #[inline]
    #[must_use]
    pub fn advice(
        &self,
        now: Time,
        endpoint: u64,
        success: Option<Time>,
        settings: &Settings,
    ) -> Advice {
        self.board.advice(now, endpoint, success, settings)
    }

    /// What all others say.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }

    /// What to do now.
    pub fn poll(
        &mut self,
        now: Time,
        wall: Wall,
        settings: &redis::Settings,
        rng: &mut Pcg32,
    ) -> Poll<Exchange> {
        let own = &settings.knowledge;
        if own.is_off() {
            return Poll::Wait(Time::NEVER);
        }
        if let Some(lease) = &self.lease {
            let ends = lease.pass.deadline().plus(LATE);
            let began = self.began.is_some_and(|began| began <= now);
            if began && now < ends {
                return Poll::Wait(ends);
            }
            // It never came back.
            self.link.dropped(now, lease.pass);
            (self.lease, self.found) = (None, None);
        }
        // A clock that went back must not silence a node.
        self.next = self.next.min(now.plus(Duration::from_nanos(own.every.saturating_mul(2))));
        if self.found.is_none() && now < self.next {
            return Poll::Wait(self.next);
        }
        let pass = match self.link.enter(now, &settings.link) {
            Ok(pass) => pass,
            Err(skip) => {
                self.found = None;
                return Poll::Wait(skip.until);
            }
        };
        let (nodes, commands) = match self.found.take() {
            Some(nodes) => {
                let commands = self.read(&nodes, &settings.keys);
                (Some(nodes), commands)
            }
            None => {
                self.began = Some(now);
                self.next = now.plus(Duration::from_nanos(jittered(own.every, rng)));
                (None, self.tell(now, wall, settings))
            }
        };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.lease = Some(Lease { id, asked: now, pass, commands: commands.len(), nodes });
        Poll::Run(Box::new(Exchange { id, commands, deadline: pass.deadline() }))
    }

    fn tell(&mut self, now: Time, wall: Wall, settings: &redis::Settings) -> Vec<Command> {
        let Settings { ttl, max_nodes, .. } = settings.knowledge;
        self.own.retain(|_, until| *until > now);
        let left = |until: &Time| nanos(now.until(*until)) / 1_000_000;
        let record = Record {
            expires: Wall(wall.0.saturating_add(ttl.div_ceil(1_000_000_000))),
            life_ms: ttl / 1_000_000,
            open: self.own.iter().map(|(endpoint, until)| (*endpoint, left(until))).collect(),
        };
        let keys = &settings.keys;
        let (key, index) = (keys.record(&self.service, &self.node), keys.nodes(&self.service));
        let mut commands = Vec::with_capacity(6);
        if std::mem::take(&mut self.reset) {
            commands.push(Command::text(&["DEL", &index]));
        }
        if !self.gone.is_empty() {
            let forget = Command::text(&["SREM", &index]);
            let gone = std::mem::take(&mut self.gone);
            let add = |command: Command, node: Arc<str>| {
                command.with(Bytes::copy_from_slice(node.as_bytes()))
            };
            commands.push(gone.into_iter().fold(forget, add));
        }
        let life = record.life_ms.to_string();
        let text = record::encode(&self.service, &self.node, &record);
        commands.push(Command::text(&["SET", &key]).with(text).with("PX").with(life));
        commands.push(Command::text(&["SADD", &index, &self.node]));
        commands.push(Command::text(&["PEXPIRE", &index, INDEX_MS]));
        // The own name is among them.
        let most = max_nodes.saturating_add(1).to_string();
        commands.push(Command::text(&["SRANDMEMBER", &index, &most]));
        commands
    }

    fn read(&self, nodes: &[Arc<str>], keys: &Keys) -> Vec<Command> {
        let most = record::MOST_BYTES.to_string();
        let mut commands = Vec::with_capacity(2 * nodes.len());
        for node in nodes {
            let key = keys.record(&self.service, node);
            commands.push(Command::text(&["PTTL", &key]));
            commands.push(Command::text(&["GETRANGE", &key, "0", &most]));
        }
        commands
    }

    /// Takes what came of an exchange. A result of an earlier one is ignored.
    pub fn done(
        &mut self,
        now: Time,
        wall: Wall,
        id: u64,
        outcome: JobOutcome,
        settings: &redis::Settings,
        rng: &mut Pcg32,
    ) -> Done {
        let Some(lease) = self.lease.take_if(|lease| lease.id == id) else {
            return Done::default();
        };
        let mut done = Done::default();
        let taken = replies(outcome, lease.commands).and_then(|replies| match &lease.nodes {
            None => self.members(&replies, &settings.knowledge).map_err(Some),
            Some(nodes) => {
                self.heard(now, wall, lease.asked, nodes, &replies, &settings.knowledge, &mut done);
                Ok(())
            }
        });
        match taken {
            Ok(()) => done.events.extend(self.link.worked(now, lease.pass).map(Event::Link)),
            Err(None) => {
                self.link.dropped(now, lease.pass);
                self.next = self.soonest(now, &settings.knowledge);
            }
            Err(Some(why)) => {
                let lost = self.link.failed(now, lease.pass, why, &settings.link, rng);
                done.events.extend(lost.map(Event::Link));
                // As soon as the link lets it.
                self.next = self.soonest(now, &settings.knowledge);
            }
        }
        done
    }

    /// The reply to the first exchange: who else there is.
    fn members(&mut self, replies: &[Reply], settings: &Settings) -> Result<(), Failure> {
        let Some(last) = replies.last() else { return Err(Failure::Replies) };
        if last.refusal().is_some_and(|word| Refusal::of(word) == Refusal::Value) {
            self.reset = true;
            return Ok(());
        }
        let members = last.list().ok_or(Failure::Replies)?;
        let mut nodes = Vec::new();
        for member in members.iter().filter_map(Reply::bytes).take(settings.max_nodes + 1) {
            // What is no name stays in the index, which expires when nobody is left.
            let name = std::str::from_utf8(member).ok().filter(|name| record::is_node(name));
            if let Some(name) = name.filter(|name| **name != *self.node) {
                nodes.push(Arc::<str>::from(name));
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes.truncate(settings.max_nodes);
        self.found = Some(nodes);
        Ok(())
    }

    /// The reply to the second exchange: what they say.
    #[allow(clippy::too_many_arguments)] // both clocks, and what was asked
    fn heard(
        &mut self,
        now: Time,
        wall: Wall,
        asked: Time,
        nodes: &[Arc<str>],
        replies: &[Reply],
        settings: &Settings,
        done: &mut Done,
    ) {
        let mut peers = Vec::with_capacity(nodes.len());
        self.gone.clear();
        for (node, pair) in nodes.iter().zip(replies.chunks_exact(2)) {
            let (left, text) = (pair[0].number(), pair[1].bytes());
            let (Some(left), Some(text)) = (left, text) else {
                done.events.extend(self.warn(now, node, Unheard::Shape));
                continue;
            };
            if left == -2 || text.is_empty() {
                self.gone.push(node.clone());
                continue;
            }
            let record = record::decode(text, &self.service, node, settings.max_endpoints)
                .and_then(|record| record::aged(record, left, wall, settings));
            match record {
                Ok(record) => peers.push(Peer::new(node.clone(), asked, &record)),
                Err(why) => done.events.extend(self.warn(now, node, why)),
            }
        }
        done.changed = self.board.replace(peers, settings);
    }

    fn warn(&mut self, now: Time, node: &Arc<str>, why: Unheard) -> Option<Event> {
        self.unsaid = self.unsaid.saturating_add(1);
        if now < self.next_warning && self.next_warning <= now.plus(WARN_EVERY) {
            return None;
        }
        self.next_warning = now.plus(WARN_EVERY);
        let times = std::mem::take(&mut self.unsaid);
        Some(Event::Unheard { node: node.clone(), why, times })
    }

    /// The commands with which a node that ends takes its word back, instead of letting it expire.
    #[must_use]
    pub fn farewell(&self, keys: &Keys) -> Vec<Command> {
        let (key, index) = (keys.record(&self.service, &self.node), keys.nodes(&self.service));
        vec![Command::text(&["DEL", &key]), Command::text(&["SREM", &index, &self.node])]
    }
}

/// `span` less or more a tenth, so that a fleet that started together does not stay in step.
fn jittered(span: u64, rng: &mut Pcg32) -> u64 {
    let tenth = span / 10;
    (span - tenth).saturating_add(rng.up_to(tenth.saturating_mul(2))).max(1)
}
