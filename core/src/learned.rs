//! What a client has learnt of its endpoints, kept over a restart: which breakers are open and for
//! how long, latencies, verdicts of health checks, the cluster that answers. So that a client that
//! comes back does not have to fail anew to know what it knew.
//!
//! What is read back is not trusted: it may be old, of another configuration, or written by
//! somebody else. It can make an endpoint be tried later, for as long as its breaker could have
//! stayed open at most, and nothing else. Orders of an operator are not learnt, and not kept.

pub mod keeper;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::metrics::Phase;
use crate::policy::breaker::Trip;
use crate::policy::health::Status;
use crate::time::Wall;

pub use keeper::Keeper;

/// Older than this, what was learnt is not used.
pub const MAX_AGE: Duration = Duration::from_secs(600);

/// How far in the future it may seem to have been written: clocks differ.
pub const SKEW: u64 = 60;

/// Services, and endpoints of each, that are read; the others are left out.
pub const MOST: usize = 10_000;

/// What one client has learnt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Calendar time, in seconds.
    pub at: u64,
    /// By service.
    #[serde(default)]
    pub services: BTreeMap<Arc<str>, LearnedService>,
}

/// What was learnt of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnedService {
    /// The cluster that answered last.
    pub active: Option<Arc<str>>,
    /// Its endpoints.
    pub endpoints: Vec<LearnedEndpoint>,
}

impl LearnedService {
    /// Whether nothing was learnt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_none() && self.endpoints.is_empty()
    }
}

/// What was learnt of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedEndpoint {
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Its address.
    pub address: Arc<str>,
    /// Its breaker.
    pub breaker: Phase,
    /// How long that was still to be open, in milliseconds.
    #[serde(default)]
    pub open_ms: u64,
    /// Why it opened.
    #[serde(default)]
    pub trip: Option<Trip>,
    /// How often it had opened, as far as that makes the next time longer.
    #[serde(default)]
    pub openings: u8,
    /// Smoothed latency in microseconds.
    #[serde(default)]
    pub latency_us: Option<u64>,
    /// What active checks said.
    #[serde(default = "unknown")]
    pub health: Status,
}

fn unknown() -> Status {
    Status::Unknown
}

/// Why what was learnt is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUsed {
    /// It is too old.
    #[error("it was written {0} s ago, and is used for 600 s")]
    Old(u64),
    /// It was written in the future.
    #[error("it seems to be written {0} s in the future")]
    Future(u64),
}

impl Learned {
    /// How old it is at `wall`, if it can be used.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn age(&self, wall: Wall) -> Result<Duration, NotUsed> {
        let ahead = self.at.saturating_sub(wall.0);
        if ahead > SKEW {
            return Err(NotUsed::Future(ahead));
        }
        let age = wall.0.saturating_sub(self.at);
        if age > MAX_AGE.as_secs() { Err(NotUsed::Old(age)) } else { Ok(Duration::from_secs(age)) }
    }
}
