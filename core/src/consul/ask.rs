//! What the machines want of a Consul agent and what came of it, as small enums. How a request is
//! written and a reply is read is the codec's business; when something is asked, the machines'.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::outcome::Fault;
use crate::time::Time;

/// Longest note that a heartbeat carries, in bytes; the rest is cut off.
pub const MOST_NOTE: usize = 1024;

/// Names one issue of something asked. Unique within its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub(super) u64);

/// Something to be asked of the agent now. It is a lease: what does not come back until shortly
/// after its deadline counts as lost, and its late answer is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use = "an ask that is not carried out and reported occupies a place until its lease ends"]
pub struct Asked {
    /// To be given back with the answer.
    pub id: AskId,
    /// What to ask.
    pub ask: Ask,
    /// To be given up at this time and reported as [`Trouble::Fault`] with [`Fault::Timeout`].
    pub deadline: Time,
}

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Register the service with this id (an upsert). Answered by [`Answer::Done`].
    Register(Arc<str>),
    /// Deregister it. Answered by [`Answer::Done`], or [`Trouble::Unknown`] when it is gone.
    Deregister(Arc<str>),
    /// Renew a TTL check. Answered by [`Answer::Done`], or [`Trouble::Unknown`] when the agent
    /// does not know the check (404, or 500 in older versions).
    Beat {
        /// The check.
        check: Arc<str>,
        /// How the service is.
        beat: Beat,
        /// For people, at most [`MOST_NOTE`] bytes.
        note: Arc<str>,
    },
    /// Which services are registered on the agent. Answered by [`Answer::Present`].
    Present,
    /// Who is in the cluster. Answered by [`Answer::Members`].
    Members,
    /// The key `services/{service}/index`. Answered by [`Answer::Index`].
    Index(Arc<str>),
}

/// How a service says that it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beat {
    /// All is well.
    #[default]
    Pass,
    /// It works, and something is wrong.
    Warn,
    /// It does not work.
    Fail,
}

/// What came of an ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// The ids of the services on the agent.
    Present(Vec<Arc<str>>),
    /// The members of the cluster.
    Members {
        /// Those with status 1; see [`alive`](super::consistency::alive).
        alive: u32,
        /// All that were named.
        all: u32,
    },
    /// The key, or `None` when there is none (404).
    Index(Option<Mark>),
    /// It failed.
    Failed(Trouble),
}

/// What is compared of a key: never the whole reply, which also says who holds its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Its `ModifyIndex`.
    pub modified: u64,
    /// A digest of its value: after a restored backup the index may be the same by chance.
    pub value: u64,
}

/// Why an ask failed. Holds nothing that a peer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// There was no usable answer.
    Fault(Fault),
    /// The agent answered with this status. 400: it will not take the request, whenever it is
    /// repeated; everything else may be over soon.
    Status(u16),
    /// The token does not permit it (403). Repeating is of no use until somebody acts.
    Forbidden,
    /// The agent does not know what was named.
    Unknown,
    /// The answer cannot be read.
    Malformed,
    /// The driver gave it up; says nothing about the agent.
    Dropped,
}

impl Trouble {
    /// The lease of an ask ended without an answer.
    pub(super) const LOST: Trouble = Trouble::Fault(Fault::Timeout);

    /// Whether only a person can end it, so that it is repeated rarely.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        matches!(self, Trouble::Forbidden | Trouble::Status(400))
    }

    /// One word for a metric label (`error_type`).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Trouble::Fault(Fault::Timeout) => "timeout",
            Trouble::Fault(_) => "fault",
            Trouble::Status(_) => "status",
            Trouble::Forbidden => "forbidden",
            Trouble::Unknown => "unknown",
            Trouble::Malformed => "malformed",
            Trouble::Dropped => "dropped",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Fault(fault) => fault.fmt(f),
            Trouble::Status(status) => write!(f, "the agent answered {status}"),
            Trouble::Forbidden => f.write_str("permission denied; look at the token and its rules"),
            Trouble::Unknown => f.write_str("the agent does not know it"),
            Trouble::Malformed => f.write_str("the answer cannot be read"),
            Trouble::Dropped => f.write_str("given up by the driver"),
        }
    }
}

/// How long past its deadline an ask may report: timers fire in any order.
pub(super) const LATE: std::time::Duration = std::time::Duration::from_millis(500);
