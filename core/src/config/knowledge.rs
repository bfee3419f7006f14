//! Shared breaker knowledge as a person configures it. The machine is
//! [`crate::redis::knowledge`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is made of the breakers of other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KnowledgeMode {
    /// Nothing; nothing is told either.
    #[default]
    Off,
    /// An endpoint that a quorum of other nodes found bad is suspect: only a probe per
    /// `probe_interval` goes there.
    Advise,
    /// As `advise`, without probes, and own successes count for nothing: this node opens when the
    /// others did, and closes when their intervals end. The only mode that accepts a quorum of one, and then one bad node opens
    /// everybody's breakers.
    Strict,
}

/// Breaker states shared through Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct KnowledgeConfig {
    /// `off`, `advise` or `strict`. Default off.
    pub mode: KnowledgeMode,
    /// Other nodes that must have an endpoint's breaker open. 2–1 000 (`strict`: 1–1 000),
    /// default 2.
    pub quorum: u32,
    /// Share of the live nodes, this one included, that must; the larger of the two counts.
    /// 0–1, default 0.5.
    pub share: f64,
    /// How long a word of a node counts. At least three times `every`, at most 1 h, default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub ttl: Duration,
    /// Time after which everything is told and read again though nothing is new, less or more a
    /// tenth: the sign of life. 100 ms–10 min, default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub every: Duration,
    /// News travel at once, whatever `every` says: a change of an own breaker is told, and what
    /// another node has told is read. But never sooner than this after the news before. 10
    /// ms–`every`, default 500 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub gap: Duration,
    /// Time between two looks whether another node has told something: one short command for each
    /// service. Zero: none, others are heard every `every`. Else 10 ms–10 min, what exceeds `every` counting as that;
    /// default 250 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub listen: Duration,
    /// An own success within this time counts for more than what all others say. 0–1 h,
    /// default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub own_evidence: Duration,
    /// One attempt per this time goes to a suspect endpoint. 10 ms–10 min, default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub probe_interval: Duration,
    /// Most nodes that are asked; of more, a random choice. 1–512, default 128.
    pub max_nodes: usize,
    /// Most open breakers that a node tells of, and is believed. 1–512, default 256.
    pub max_endpoints: usize,
}

impl Default for KnowledgeConfig {
    fn default() -> Self {
        KnowledgeConfig {
            mode: KnowledgeMode::Off,
            quorum: 2,
            share: 0.5,
            ttl: Duration::from_secs(30),
            every: Duration::from_secs(5),
            gap: Duration::from_millis(500),
            listen: Duration::from_millis(250),
            own_evidence: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
            max_nodes: 128,
            max_endpoints: 256,
        }
    }
}
