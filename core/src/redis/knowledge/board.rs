//! What all others say, merged: who is live, who says what until when, and which endpoints a
//! quorum is against. Counted once when it was read; asking is a search in a small sorted list.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::Record;
use super::{Advice, Settings};
use crate::time::Time;

/// What one other node said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub node: Arc<str>,
    /// Endpoints it found bad, and until when that counts.
    pub open: Vec<(u64, Time)>,
}

impl Peer {
    /// The word of `node` as read by an exchange that was begun at `asked`; its times remain from
    /// some time after that.
    #[must_use]
    pub fn new(node: Arc<str>, asked: Time, record: &Record) -> Peer {
        let until = |left: u64| asked.plus(Duration::from_millis(left));
        Peer { node, open: record.open.iter().map(|(name, left)| (*name, until(*left))).collect() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Advised {
    endpoint: u64,
    by: u32,
    until: Time,
}

/// The words of the other nodes.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::{KnowledgeConfig, KnowledgeMode};
/// use origin_core::redis::knowledge::record::endpoint;
/// use origin_core::redis::knowledge::{Advice, Board, Peer, Settings};
///
/// let config = KnowledgeConfig { mode: KnowledgeMode::Advise, ..KnowledgeConfig::default() };
/// let settings = Settings::of(&config, Duration::from_secs(5), "breakers")?;
/// let now = Time::from_millis(1_000);
/// let dead = endpoint("alpha", "http://10.0.0.1:8080");
/// let until = now.plus(Duration::from_secs(20));
/// let peer = |node: &str, open: &[(u64, Time)]| Peer { node: node.into(), open: open.to_vec() };
/// let mut board = Board::default();
/// // One of three others is against it: too few. Two are half of the four live nodes.
/// board.replace(vec![peer("b", &[(dead, until)]), peer("c", &[]), peer("d", &[])], &settings);
/// assert_eq!(board.advice(now, dead, None, &settings), Advice::None);
/// board.replace(vec![peer("b", &[(dead, until)]), peer("c", &[(dead, until)]), peer("d", &[])], &settings);
/// assert_eq!(board.advice(now, dead, None, &settings), Advice::Avoid { by: 2, of: 4, until });
/// // An own success counts for more.
/// assert_eq!(board.advice(now, dead, Some(now), &settings), Advice::None);
/// assert_eq!(board.advice(until, dead, None, &settings), Advice::None);
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Board {
    live: u32,
    /// Sorted by endpoint, each once.
    advised: Vec<Advised>,
}

impl Board {
    /// Takes what the others say now, in place of what they said before. A node that occurs twice
    /// counts once, with what it said first. Returns whether other endpoints are advised against.
    pub fn replace(&mut self, mut peers: Vec<Peer>, settings: &Settings) -> bool {
        peers.truncate(settings.max_nodes);
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        peers.dedup_by(|later, first| later.node == first.node);
        self.live = u32::try_from(peers.len()).unwrap_or(u32::MAX).saturating_add(1);
        let need = settings.need(self.live);
        let mut votes: Vec<(u64, std::cmp::Reverse<Time>)> = Vec::new();
        for peer in &mut peers {
            peer.open.truncate(settings.max_endpoints);
            peer.open.sort_unstable();
            peer.open.dedup_by_key(|(endpoint, _)| *endpoint);
            votes.extend(peer.open.iter().map(|(name, until)| (*name, std::cmp::Reverse(*until))));
        }
        votes.sort_unstable();
        let mut advised = Vec::new();
        for votes in votes.chunk_by(|a, b| a.0 == b.0) {
            // The last of as many as it takes, by who ends last: then too few are left. That the
            // number of live nodes may have fallen by then only lowers what it takes.
            let last = usize::try_from(need).ok().and_then(|need| votes.get(need.checked_sub(1)?));
            if let Some((endpoint, until)) = last {
                let by = u32::try_from(votes.len()).unwrap_or(u32::MAX);
                advised.push(Advised { endpoint: *endpoint, by, until: until.0 });
            }
        }
        let names = |list: &[Advised]| list.iter().map(|one| one.endpoint).collect::<Vec<_>>();
        let changed = names(&advised) != names(&self.advised);
        self.advised = advised;
        changed
    }

    /// What the others say of an endpoint. `success` is when an own call there last succeeded.
    #[inline]
    #[must_use]
    pub fn advice(
        &self,
        now: Time,
        endpoint: u64,
        success: Option<Time>,
        settings: &Settings,
    ) -> Advice {
        if self.advised.is_empty() || settings.is_off() {
            return Advice::None;
        }
        let Ok(at) = self.advised.binary_search_by_key(&endpoint, |one| one.endpoint) else {
            return Advice::None;
        };
        let Advised { by, until, .. } = self.advised[at];
        // The second half of the first: a clock that went back.
        let ttl = Duration::from_nanos(settings.ttl);
        let over = now >= until || until > now.plus(ttl);
        let evidence = Duration::from_nanos(settings.own_evidence);
        let own = success.is_some_and(|at| at <= now && now < at.plus(evidence));
        if over || own { Advice::None } else { Advice::Avoid { by, of: self.live, until } }
    }

    /// Nodes that were live when it was last read, this one included; 0 before.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// The endpoints that are advised against, or were until a moment ago.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.advised.iter().map(|one| one.endpoint)
    }
}
