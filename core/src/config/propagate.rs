//! What an attempt tells its endpoint about deadlines and about whose it is, as a person writes it. The texts are made
//! and read in [`crate::policy::remaining`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The form of the deadline header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeadlineHeader {
    /// None.
    #[default]
    Off,
    /// `grpc-timeout`: up to eight digits and a unit.
    GrpcTimeout,
    /// `x-envoy-expected-rq-timeout-ms`: whole milliseconds.
    Envoy,
    /// A header of this name: whole milliseconds.
    Custom(String),
}

/// Whether attempts say to which distributed trace they belong (`traceparent`, `tracestate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TraceRule {
    /// They do not.
    Off,
    /// Where the call belongs to one: the caller gives it, or the program's tracing library.
    Given,
    /// Always; a call that belongs to none begins one.
    #[default]
    Always,
}

/// Headers that tell an endpoint how much time an attempt has, which attempt it is, and to what it
/// belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PropagateConfig {
    /// How the remaining time is told. Default off.
    pub header: DeadlineHeader,
    /// Header for the number of the attempt, from 1, for example `x-envoy-attempt-count`.
    /// `None` (default): not told.
    pub attempt_header: Option<String>,
    /// Header for the id of what a call belongs to: the caller's, else one that is made. The same
    /// with every attempt. Default `x-correlation-id`; empty: none.
    pub correlation_header: String,
    /// Header for the id of the call itself, the same with every attempt. Default `x-request-id`;
    /// empty: none.
    pub request_header: String,
    /// The trace that a call belongs to. Default `always`.
    pub trace: TraceRule,
    /// On the receiving side: whether a peer's deadline is believed. Default `false`: a client
    /// that is not trusted could otherwise cut work short, or ask for an absurdly long time.
    pub accept: bool,
    /// A received deadline longer than this counts as this. Up to 7 d, default 1 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub accept_max: Duration,
}

impl Default for PropagateConfig {
    fn default() -> Self {
        PropagateConfig {
            header: DeadlineHeader::Off,
            attempt_header: None,
            correlation_header: "x-correlation-id".to_owned(),
            request_header: "x-request-id".to_owned(),
            trace: TraceRule::Always,
            accept: false,
            accept_max: Duration::from_secs(3600),
        }
    }
}
