//! When a node tells what it knows and asks what others know: two exchanges with Redis, one after
//! the other, every few seconds; at once when a breaker of its own changed, or another node has
//! told something.
//!
//! The first writes the own record (which is also the sign of life that quorums are counted of)
//! and asks who else there is; the second reads their records. Both are bounded, in nodes, bytes
//! and time. Who writes something new marks that by another text under one key, and everybody
//! looks at that key several times a second. Not by publish and subscribe: that holds a connection
//! for every node, and what is published while it is down is lost. A storm of news (or somebody
//! who changes the mark all the time) costs an exchange per `gap` and no more.
//! Names of nodes whose record is gone are taken out of the index; one that was only
//! late comes back with its next record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::{self, Record, Unheard};
use super::{Advice, Board, Done, Event, Exchange, Own, Peer, Settings};
use crate::config::{ConfigError, check_service_name};
use crate::job::{JobOutcome, Poll};
use crate::policy::balance::hash;
use crate::redis::link::{Failure, Pass, Refusal, replies};
use crate::redis::{self, Command, Keys, Link, Reply};
use crate::rng::Pcg32;
use crate::time::{Time, Wall, nanos};

/// How long past its deadline an exchange may report: timers fire in any order.
const LATE: Duration = Duration::from_millis(500);
/// Most of a mark that is read, in bytes: a name of a node and a number.
const MOST_MARK: &str = "95";
/// Shortest time between two warnings about records that are not heard.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long an index lives after its last use.
const INDEX_MS: &str = "172800000";

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: u64,
    asked: Time,
    pass: Pass,
    commands: usize,
    what: What,
}

/// What an exchange is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum What {
    /// To tell, and to ask who else there is; with something new or without.
    Tell { news: bool },
    /// To read what these say.
    Read(Vec<Arc<str>>),
    /// To see whether anybody has told something.
    Look,
    /// To take everything back.
    Leave,
}

/// Whether a node still takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Part {
    #[default]
    In,
    /// It is to take back what it said.
    Leaving,
    /// It has, or has tried to.
    Out,
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
/// knowledge.report(now, endpoint("alpha", "http://10.0.0.1:8080"), Own::Open { until }, &settings.knowledge);
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
    /// Whether there is something new to tell.
    news: bool,
    /// Whether news are the cause of the next exchange, and when they last were.
    hurried: bool,
    urged: Option<Time>,
    /// The mark that was seen last.
    mark: Option<u64>,
    /// When to look at it again.
    look: Time,
    part: Part,
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
            news: false,
            hurried: false,
            urged: None,
            mark: None,
            look: Time::ZERO,
            part: Part::In,
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
            self.news = true;
            self.hurry(now, settings);
        }
        changed
    }

    /// There is something new, here or elsewhere: an exchange as soon as news may cause one.
    fn hurry(&mut self, now: Time, settings: &Settings) {
        let gap = Duration::from_nanos(settings.gap);
        // The second half: a clock that went back.
        let soonest = self.urged.map_or(now, |urged| urged.plus(gap).max(now).min(now.plus(gap)));
        self.next = self.next.min(soonest);
        self.hurried = true;
    }

    /// This node ends: what it said is taken back by the next exchange, and nothing is told or
    /// heard any more. Others hear of it as of any news, instead of at the end of its time to live.
    pub fn leave(&mut self) {
        if self.part == Part::In {
            self.part = Part::Leaving;
        }
    }

    /// Whether it has left, as far as that was possible.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.part == Part::Out
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
        if own.is_off() || self.part == Part::Out {
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
            let Some(Lease { what, .. }) = self.lease.take() else { return Poll::Wait(now) };
            self.unfinished(now, &what, own);
            if self.part == Part::Out {
                return Poll::Wait(Time::NEVER);
            }
        }
        // A clock that went back must not silence a node.
        let every = Duration::from_nanos(own.every.saturating_mul(2));
        (self.next, self.look) = (self.next.min(now.plus(every)), self.look.min(now.plus(every)));
        let looks = own.listen > 0;
        let leaving = self.part == Part::Leaving;
        let what = match self.found.take() {
            _ if leaving => What::Leave,
            Some(nodes) => What::Read(nodes),
            None if now >= self.next => What::Tell { news: self.news },
            None if looks && now >= self.look => What::Look,
            None => return Poll::Wait(if looks { self.next.min(self.look) } else { self.next }),
        };
        let pass = match self.link.enter(now, &settings.link) {
            Ok(pass) => pass,
            // Then the word ends with its time to live.
            Err(_) if leaving => {
                self.part = Part::Out;
                return Poll::Wait(Time::NEVER);
            }
            Err(skip) => return Poll::Wait(skip.until),
        };
        self.began = Some(now);
        self.look = now.plus(Duration::from_nanos(own.listen));
        let commands = match &what {
            What::Read(nodes) => self.read(nodes, &settings.keys),
            What::Look => vec![self.marked(&settings.keys)],
            What::Leave => self.farewell(settings),
            What::Tell { news } => {
                if std::mem::take(&mut self.hurried) {
                    self.urged = Some(now);
                }
                self.next = now.plus(Duration::from_nanos(jittered(own.every, rng)));
                self.news = false;
                self.tell(now, wall, *news, settings)
            }
        };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.lease = Some(Lease { id, asked: now, pass, commands: commands.len(), what });
        Poll::Run(Box::new(Exchange { id, commands, deadline: pass.deadline() }))
    }

    /// An exchange has failed, or nobody knows what came of it.
    fn unfinished(&mut self, now: Time, what: &What, settings: &Settings) {
        match what {
            What::Leave => self.part = Part::Out,
            What::Look => {}
            What::Read(_) | What::Tell { .. } => {
                self.news |= matches!(what, What::Tell { news: true });
                self.found = None;
                // As soon as the link lets it.
                self.hurry(now, settings);
            }
        }
    }

    fn tell(
        &mut self,
        now: Time,
        wall: Wall,
        news: bool,
        settings: &redis::Settings,
    ) -> Vec<Command> {
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
        let mut commands = Vec::with_capacity(8);
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
        if news {
            // After the record: who sees the mark finds it.
            commands.push(self.mark(self.next_id, settings));
        }
        // Before the records are read: what is told meanwhile is seen by the next look.
        commands.push(self.marked(keys));
        // The own name is among them.
        let most = max_nodes.saturating_add(1).to_string();
        commands.push(Command::text(&["SRANDMEMBER", &index, &most]));
        commands
    }

    /// Says that there is something new.
    fn mark(&self, number: u64, settings: &redis::Settings) -> Command {
        let mark = format!("{}/{number}", self.node);
        let life = (settings.knowledge.ttl / 1_000_000).to_string();
        Command::text(&["SET", &settings.keys.turn(&self.service), &mark, "PX", &life])
    }

    /// Asks for the mark.
    fn marked(&self, keys: &Keys) -> Command {
        Command::text(&["GETRANGE", &keys.turn(&self.service), "0", MOST_MARK])
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
        let own = &settings.knowledge;
        let taken = replies(outcome, lease.commands).and_then(|replies| match &lease.what {
            What::Tell { .. } => self.members(&replies, own).map_err(Some),
            What::Read(nodes) => {
                self.heard(now, wall, lease.asked, nodes, &replies, own, &mut done);
                Ok(())
            }
            What::Look => {
                if self.sees(replies.last()) {
                    self.hurry(now, own);
                }
                Ok(())
            }
            What::Leave => {
                self.part = Part::Out;
                Ok(())
            }
        });
        match taken {
            Ok(()) => done.events.extend(self.link.worked(now, lease.pass).map(Event::Link)),
            Err(None) => {
                self.link.dropped(now, lease.pass);
                self.unfinished(now, &lease.what, own);
            }
            Err(Some(why)) => {
                let lost = self.link.failed(now, lease.pass, why, &settings.link, rng);
                done.events.extend(lost.map(Event::Link));
                self.unfinished(now, &lease.what, own);
            }
        }
        done
    }

    /// Whether the mark is another one than before. One that has expired is not.
    fn sees(&mut self, reply: Option<&Reply>) -> bool {
        let text = reply.and_then(Reply::bytes).filter(|text| !text.is_empty());
        let Some(seen) = text.map(|text| hash::of(text)) else { return false };
        self.mark.replace(seen) != Some(seen)
    }

    /// The reply to the first exchange: who else there is.
    fn members(&mut self, replies: &[Reply], settings: &Settings) -> Result<(), Failure> {
        let [.., mark, last] = replies else { return Err(Failure::Replies) };
        let _ = self.sees(Some(mark));
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
    pub fn farewell(&self, settings: &redis::Settings) -> Vec<Command> {
        let keys = &settings.keys;
        let (key, index) = (keys.record(&self.service, &self.node), keys.nodes(&self.service));
        vec![
            Command::text(&["DEL", &key]),
            Command::text(&["SREM", &index, &self.node]),
            self.mark(self.next_id, settings),
        ]
    }
}

/// `span` less or more a tenth, so that a fleet that started together does not stay in step.
fn jittered(span: u64, rng: &mut Pcg32) -> u64 {
    let tenth = span / 10;
    (span - tenth).saturating_add(rng.up_to(tenth.saturating_mul(2))).max(1)
}
