//! Active health checks: asking every endpoint from time to time whether it can work.
//!
//! Calls find out that an endpoint is down at the expense of a caller, and that it is back only
//! by sending a caller there. A check finds out beforehand, and it keeps knowing about endpoints
//! that nobody calls: the backups, and those that were taken out. What checks cost is load on
//! the endpoints (every client asks), so they are off by default, spread, and bounded.
//!
//! Thresholds and their first-check fast path follow Envoy's health checker: `healthy_threshold`
//! successes in a row, `unhealthy_threshold` failures in a row, and the very first answer of an
//! endpoint suffices if it is good. It differs from Envoy in three points:
//!  - A new endpoint is *unknown* and usable, where Envoy's is unhealthy until its first check;
//!    a client that has just started must be able to call (000-19).
//!  - An unexpected status counts to the threshold like any failure. Envoy takes the endpoint out
//!    at once for it and applies the threshold to network failures only. Here the fast interval
//!    (below) makes the threshold cheap: three failures take two seconds, not three intervals.
//!  - `no_traffic_interval` applies again whenever the service was not called for that long;
//!    Envoy applies it only until the first call ever. It is a matter of the service, not of the
//!    endpoint: a backup, or an endpoint taken out by its checks, gets no calls *because* of what
//!    the checks say, and must not be checked more rarely for it.
//!
//! The fast interval follows `HAProxy`'s `fastinter`: used while the last results disagree with
//! the present health. It is also used for an endpoint without verdict, and until a
//! new verdict has been confirmed once more than its threshold asks. (Envoy's documentation puts
//! its edge intervals after the change, its code before it; this does both.)
//!
//! What happens to whom: [`Health`] judges one endpoint; [`Schedule`] says which endpoint is asked
//! when; [`verdict`] and [`grpc`] read answers. Nothing here sends anything: the adapter carries
//! a [`Probe`] out and reports a [`ProbeOutcome`]. Switched off by `kind = "off"`, the default.
//!
//! What a verdict does to calls is not decided here. Two rules for whoever does: only
//! [`Status::Unhealthy`] takes an endpoint out, and a real success ([`Heard::vouched`]) ends a
//! passive ejection, as in Envoy.

pub mod grpc;
mod schedule;
mod settings;
mod state;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

pub use schedule::{Heard, Probe, ProbeId, Schedule};
pub use settings::{Kind, Settings};
pub use state::{Change, Entry, Health, Reason};

use crate::outcome::Fault;

/// The health of an endpoint.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It can work.
    Healthy,
    /// It can work, and asks to be spared.
    Degraded,
    /// It cannot work.
    Unhealthy,
    /// Nobody has found out yet.
    #[default]
    Unknown,
}

impl Status {
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Degraded => "degraded",
            Status::Unhealthy => "unhealthy",
            Status::Unknown => "unknown",
        }
    }

    /// Whether checks leave it in use: everything but unhealthy.
    #[must_use]
    pub const fn usable(self) -> bool {
        !matches!(self, Status::Unhealthy)
    }

    /// Reads a health word in any of the vocabularies in use: the contracts' own,
    /// Consul's, gRPC's serving status, and `pass`, `warn`, `fail` of the expired internet draft
    /// on health responses (draft-inadarei-api-health-check). Case and surrounding space do not
    /// matter. `None` for any other word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Status> {
        const WORDS: [(Status, &[&str]); 4] = [
            (
                Status::Healthy,
                &["healthy", "ok", "passing", "ready", "alive", "serving", "pass", "up"],
            ),
            (Status::Degraded, &["degraded", "warning", "warn", "partial"]),
            (
                Status::Unhealthy,
                &[
                    "unhealthy",
                    "critical",
                    "failing",
                    "down",
                    "not_serving",
                    "fail",
                    "error",
                    "maintenance",
                ],
            ),
            (Status::Unknown, &["unknown"]),
        ];
        let word = word.trim();
        let known = |list: &[&str]| list.iter().any(|known| word.eq_ignore_ascii_case(known));
        WORDS.iter().find(|(_, list)| known(list)).map(|(status, _)| *status)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    /// No answer: what the wire met.
    Fault(Fault),
    /// An HTTP status that is not expected.
    Status(u16),
    /// The body says so.
    Word,
    /// The body was to be read and has no known word.
    Wordless,
    /// A `grpc-status` other than OK and UNIMPLEMENTED.
    Grpc(u32),
    /// A gRPC serving status other than SERVING.
    NotServing(i32),
    /// Not an answer of the gRPC health protocol.
    Malformed,
    /// Exit code of a script.
    Exit(i32),
}

impl Hash for Fail {
    // By hand because `Fault` has no hash of its own.
    fn hash<H: Hasher>(&self, to: &mut H) {
        let (tag, number) = match *self {
            Fail::Fault(fault) => (0_u8, fault as i64),
            Fail::Status(code) => (1, i64::from(code)),
            Fail::Word => (2, 0),
            Fail::Wordless => (3, 0),
            Fail::Grpc(code) => (4, i64::from(code)),
            Fail::NotServing(status) => (5, i64::from(status)),
            Fail::Malformed => (6, 0),
            Fail::Exit(code) => (7, i64::from(code)),
        };
        (tag, number).hash(to);
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Fault(fault) => f.write_str(fault.text()),
            Fail::Status(code) => write!(f, "status {code} is not expected"),
            Fail::Word => f.write_str("its body says it is not healthy"),
            Fail::Wordless => f.write_str("its body has no known health word"),
            Fail::Grpc(code) => write!(f, "grpc-status {code}"),
            Fail::NotServing(status) => write!(f, "serving status {status} is not SERVING (1)"),
            Fail::Malformed => f.write_str("not an answer of the gRPC health protocol"),
            Fail::Exit(code) => write!(f, "exit code {code}"),
        }
    }
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The endpoint says that it can work.
    Pass,
    /// It answers, but cannot be asked: a gRPC server without health service. Counts like
    /// [`ProbeOutcome::Pass`], except that it vouches for nothing.
    Assumed,
    /// It says that it can work and wants to be spared. Counts as success.
    Degraded,
    /// It failed the check.
    Fail(Fail),
    /// Nothing: the probe was not made, or was given up. Counts neither way.
    Dropped,
}
