//! Discovery by DNS: from the name of a service to its instances.
//!
//! DNS is the one registry that every platform has, and the easiest to be fooled by: answers
//! arrive in packets that anybody can send, are cut without losing their shape, and say with the
//! same word that a name is gone and that a server does not know it. So the order of belief is
//! fixed here: an answer belongs to its question (id and name, the name in mixed case, as in
//! draft-vixie-dnsext-dns0x20) or it is nothing; a cut one is asked for again over TCP
//! (RFC 7766); "no such name" (NXDOMAIN) and "no such record" are valid and empty, for a short
//! while (RFC 2308); anything else (SERVFAIL, REFUSED, a referral, silence) is a failure of that
//! server, and the next one is asked, as `resolv.conf(5)` has it. A failed lookup is an error and
//! never an empty list.
//!
//! | what | where |
//! |---|---|
//! | which name is asked for | `form` |
//! | names and messages on the wire | `name`, `message` |
//! | one lookup, question by question | [`Lookup`] |
//! | SRV records into tiers and shares | `instances` |
//! | `resolv.conf` | [`resolv_conf`] |
//!
//! It does not resolve by itself from the root and does not check DNSSEC: it asks servers that
//! are trusted as far as the network to them is. When a lookup is made, and what is served
//! meanwhile, is decided by whoever holds it. Off: no [`DnsConfig`](crate::config::DnsConfig).
//!
//! The messages are read here and not by a crate: `simple-dns` 0.13 unfolds a hostile message of
//! 64 KiB into 33 MiB, takes an A record of five bytes for an address and refuses a whole answer
//! for a broken record that nobody asked for.

mod form;
mod instances;
mod lookup;
mod meaning;
pub mod message;
mod name;
mod resolv;
mod settings;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::discovery::Instance;
use crate::job::Work;
use crate::outcome::Fault;
use crate::time::Time;

pub use lookup::Lookup;
pub use message::{BadMessage, Kind, belongs};
pub use name::{BadName, Name};
pub use resolv::{ResolvConf, resolv_conf};
pub use settings::Settings;

/// A message to be sent, and its answer to be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// To whom.
    pub server: SocketAddr,
    /// The message, without a length in front.
    pub query: Bytes,
    /// Whether over TCP.
    pub tcp: bool,
    /// To be given up at this time.
    pub deadline: Time,
}

impl Ask {
    /// As the work of a job.
    #[must_use]
    pub fn work(self) -> Work {
        Work::Dns { server: self.server, query: self.query, tcp: self.tcp }
    }
}

/// What a lookup wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// This to be asked. It is the same until its answer is reported or its deadline passes.
    Ask(Ask),
    /// Nothing: this is what came of it, however often it is asked.
    Done(Result<Answer, DnsError>),
}

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The instances: clusters in order of preference, each sorted by address.
    pub instances: Vec<Instance>,
    /// How long this holds, within the configured bounds.
    pub ttl: Duration,
    /// Why there are none.
    pub nothing: Option<Nothing>,
    /// What is missing although it was announced.
    pub missing: Missing,
}

/// Why there are no instances. None of these is an error: the servers said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nothing {
    /// There is no such name.
    NoName,
    /// There is such a name, without records of use.
    NoRecords,
    /// The service is decidedly not available: its target is `.` (RFC 2782).
    Unavailable,
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Nothing::NoName => "no such name",
            Nothing::NoRecords => "no records of use under this name",
            Nothing::Unavailable => "decidedly not available at this domain",
        })
    }
}

/// What was announced and is not among the instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Missing {
    /// Targets whose addresses could not be had this time.
    pub failed: u32,
    /// Targets that have no address, or none that can be called.
    pub without: u32,
    /// Targets and instances beyond `max_lookups`, `max_records`.
    pub beyond: u32,
}

/// What a server did instead of answering.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The exchange failed.
    #[error("{0}")]
    Fault(Fault),
    /// Its answer was refused.
    #[error("its answer was refused: {0}")]
    Message(BadMessage),
    /// What came has another id or question: forged, or far too late.
    #[error("what came was not the answer to the question")]
    NotOurs,
    /// It answered with a failure: 2 is SERVFAIL, 5 REFUSED.
    #[error("it answered {}", code_text(*.0))]
    Code(u16),
    /// Even over TCP its answer is cut.
    #[error("its answer is cut even over TCP")]
    Truncated,
    /// It knows only whom else to ask.
    #[error("it does not know and refers to other servers")]
    Referral,
    /// One name leads to another too often.
    #[error("more than {0} names lead to one another")]
    Aliases(u32),
    /// A name leads to one that cannot be asked for.
    #[error("a name leads to one that cannot be asked for")]
    Alias,
    /// More targets than may be looked up.
    #[error("more targets than dns.max_lookups of {0}")]
    TooManyTargets(u32),
    /// The adapter cannot do it.
    #[error("this adapter cannot ask DNS servers")]
    Impossible,
    /// The time for the whole lookup has passed.
    #[error("dns.total has passed")]
    OutOfTime,
}

fn code_text(code: u16) -> String {
    let name = match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        _ => "a failure",
    };
    format!("{name} ({code})")
}

/// Why a lookup found out nothing.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum DnsError {
    /// The service cannot be part of a name.
    #[error("the service has no DNS name: {0}")]
    Name(BadName),
    /// No servers: those of the system are not known.
    #[error("no DNS servers are known")]
    NoServers,
    /// No server answered.
    #[error("{asked} questions were asked without an answer; last, {server}: {trouble}")]
    NoAnswer {
        /// Messages sent in the whole lookup.
        asked: u32,
        /// The server asked last.
        server: SocketAddr,
        /// What it did.
        trouble: Trouble,
    },
    /// SRV records were had, but of none of their targets an address.
    #[error("none of {targets} targets could be looked up; last: {trouble}")]
    NoTargets {
        /// Targets that failed.
        targets: u32,
        /// What happened to the last one.
        trouble: Trouble,
    },
}
