//! One call: the words of it. What a caller asks ([`CallSpec`]), what a driver tells ([`Event`])
//! and is told ([`Action`]), how it ends ([`Verdict`]) and why. The machine is in `machine.rs`,
//! where an attempt goes is decided in `pick.rs`, what follows its end in `repeat.rs`, what happens
//! while it is out in `beside.rs`.

mod beside;
mod machine;
mod pick;
mod repeat;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use machine::Call;
pub(crate) use machine::Live;

use crate::config::MethodClass;
use crate::outcome::Outcome;
use crate::policy::balance::route::RouteId;
use crate::policy::breaker::Permit;
use crate::policy::queue::Priority;
use crate::policy::tiers;
use crate::pool::EndpointId;
use crate::service::Overload;
use crate::time::Time;

/// What the caller asks for, as far as decisions depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallSpec {
    /// The method of its request.
    pub method: MethodClass,
    /// Whether repeating the request has no further effect, where the caller knows better than
    /// the method tells (`retry.on.methods`). A request that may have left is repeated only then.
    pub idempotent: Option<bool>,
    /// Which profile of the service's policies it is under; 0 is the service's own policy. See
    /// [`Service::profile_number`](crate::Service::profile_number).
    pub profile: u8,
    /// Attempts in all, instead of the policy's; 0 is the policy's.
    pub max_attempts: u8,
    /// How much the call matters when not all can be let in.
    pub priority: Priority,
    /// Calls with the same number go to the same endpoint, if the balancer is a ring or
    /// rendezvous; 0 is none. A hash of whatever should stay together.
    pub affinity: u64,
    /// Which endpoints it may use; see `balance.routes`.
    pub route: RouteId,
    /// No second attempt beside the first, whatever the policy says.
    pub no_hedge: bool,
    /// It takes long by its nature, as sending much does: silence says nothing of its endpoint. An
    /// attempt is neither copied nor taken back then, and has its full time also where a short one
    /// would find out whether the endpoint works; how long its answer takes is not taken for the
    /// endpoint's usual time. See [`CallSpec::sending`].
    #[serde(default)]
    pub patient: bool,
    /// Deadline of the whole call, instead of the policy's.
    pub total: Option<Duration>,
    /// Limit of one attempt, instead of the policy's.
    pub attempt: Option<Duration>,
    /// Whether the body is left to the caller: an answer is then a success of its endpoint's
    /// breaker only when [`Service::body_done`](crate::Service::body_done) says so.
    pub streamed: bool,
    /// Statuses that mean "try elsewhere" for this operation, besides the policy's. 0 is none.
    pub also_retry: [u16; 4],
}

impl CallSpec {
    /// Nothing special; also [`Default`], but usable in constants.
    pub const DEFAULT: CallSpec = CallSpec {
        method: MethodClass::Other,
        idempotent: None,
        profile: 0,
        max_attempts: 0,
        priority: Priority::Normal,
        affinity: 0,
        route: RouteId::DEFAULT,
        no_hedge: false,
        patient: false,
        total: None,
        attempt: None,
        streamed: false,
        also_retry: [0; 4],
    };

    /// A request body above this, in bytes, takes as long as the line is slow: what is less has
    /// left for the buffers of the system at once, as a rule.
    pub const MUCH: usize = 64 << 10;

    /// The same for a request with a body of so many bytes: much is sent patiently.
    #[must_use]
    pub const fn sending(mut self, bytes: usize) -> CallSpec {
        self.patient = self.patient || bytes > CallSpec::MUCH;
        self
    }
}

/// Which attempt of a call, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u8);

/// Which deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineKind {
    /// `deadline.total` of the call.
    Total,
    /// `deadline.attempt`.
    Attempt,
    /// The short time a call gives an endpoint that went silent before, when others could answer.
    Probe,
}

/// A point in time, and what it is the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Deadline {
    /// When.
    pub at: Time,
    /// Of what.
    pub kind: DeadlineKind,
}

/// Why an attempt goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The most preferred cluster.
    Preferred,
    /// The clusters before it have no sound endpoint ready.
    Spill,
    /// Its cluster has a share of the load.
    Share(tiers::Why),
    /// Its breaker is half-open, and this attempt finds out.
    Probe,
    /// Another endpoint of the same cluster.
    OtherEndpoint,
    /// A second attempt beside one that takes longer than most: the first answer wins.
    Hedge,
    /// Elsewhere, because the endpoint of the attempt before went silent.
    Rescue,
    /// Another cluster, after a failure in the one before.
    Failover,
    /// An endpoint that was tried before: nothing else is left.
    Again,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Choice::Preferred => "the preferred cluster",
            Choice::Spill => "no sound endpoint ready in a more preferred cluster",
            Choice::Share(why) => return why.fmt(f),
            Choice::Probe => "its breaker is half-open and wants to know",
            Choice::OtherEndpoint => "another endpoint of the cluster",
            Choice::Hedge => "a second attempt beside a slow one",
            Choice::Rescue => "the endpoint before had gone silent",
            Choice::Failover => "the next cluster",
            Choice::Again => "nobody else is left",
        })
    }
}

/// What happened, told by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The call starts.
    Begin,
    /// The time of [`Action::WaitUntil`], [`Action::Park`] or [`Action::Send`]'s `wake` came, the
    /// epoch moved, or what [`Action::Cancel`] named is dropped.
    Wake,
    /// The attempt ended.
    Finished(AttemptId, Outcome),
    /// The caller dropped the call.
    Abandoned,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send the request to this endpoint and report [`Event::Finished`].
    Send {
        /// Its number.
        attempt: AttemptId,
        /// Where to.
        to: EndpointId,
        /// To be given up then, reported as [`Fault::Timeout`](crate::outcome::Fault::Timeout).
        deadline: Deadline,
        /// Why there.
        why: Choice,
        /// If it has not ended by then, report [`Event::Wake`]; [`Time::NEVER`]: need not.
        wake: Time,
    },
    /// Drop this attempt: nobody waits for its answer any more. Then report [`Event::Wake`].
    Cancel(AttemptId),
    /// Nothing to do before `until` unless the service's epoch is no longer `epoch`.
    Park {
        /// Wake then at the latest.
        until: Time,
        /// The present epoch.
        epoch: u64,
    },
    /// Wake then. Attempts that are out stay out: report what ends before.
    WaitUntil(Time),
    /// Over. Attempts that are still out are to be dropped; nothing more is to be reported.
    Done(Verdict),
}

/// What the call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The response of the last attempt is the answer, whatever its status.
    Answered(Ticket),
    /// There is no answer.
    Failed {
        /// Why.
        why: Why,
        /// When it may be worth trying again; [`Time::NEVER`] when that is unknown.
        until: Time,
    },
}

impl Verdict {
    /// One line: which attempt answered and why it went where it went, or why there is no answer.
    #[must_use]
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Answered(ticket) => {
                write!(f, "answered by attempt {}, chosen as {}", ticket.number.0, ticket.why)
            }
            Verdict::Failed { why, until: Time::NEVER } => write!(f, "no answer: {why}"),
            Verdict::Failed { why, until } => {
                write!(f, "no answer: {why}; not before {} ms", until.as_millis())
            }
        }
    }
}

/// Names the attempt whose response the caller holds, in case its body fails later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket {
    pub(crate) endpoint: EndpointId,
    pub(crate) permit: Permit,
    pub(crate) number: AttemptId,
    pub(crate) why: Choice,
}

/// Why a call ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The discovery document does not name the service.
    UnknownService,
    /// There is no discovery document.
    Discovery,
    /// The service has no endpoints.
    NoEndpoints,
    /// Every endpoint's breaker is open, or its half-open permits are out.
    Refused,
    /// This deadline passed, or leaves no room for what would have to come.
    Deadline(DeadlineKind),
    /// All attempts are used, or nobody is left to take another.
    Exhausted,
    /// The retry budget is spent.
    Budget,
    /// The service as a whole lets no further call in.
    Overload(Overload),
    /// The request may have left, and repeating it is not safe.
    NotRepeatable,
    /// The policy does not repeat failures of this kind, or the peer asks for no repeat.
    NotRetried,
    /// The response body exceeds its limit.
    BodyTooLarge,
    /// The request cannot be sent as it is, to nobody.
    Request,
    /// The caller dropped the call.
    Abandoned,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::UnknownService => "discovery does not name the service",
            Why::Discovery => "there is no discovery document",
            Why::Refused => "no endpoint may be called now",
            Why::NoEndpoints => "discovery names the service, but no endpoint of it",
            Why::Deadline(DeadlineKind::Total) => "the total deadline passed",
            Why::Deadline(_) => "the attempt deadline passed, and repeating is not safe",
            Why::Exhausted => "no candidate gave a usable answer",
            Why::Budget => "no answer, and the retry budget is spent",
            Why::Overload(why) => return write!(f, "not let in: {why}"),
            Why::NotRepeatable => "no answer, and repeating is not safe",
            Why::NotRetried => "no answer, and failures of this kind are not repeated",
            Why::BodyTooLarge => "the response body exceeds its limit",
            Why::Request => "the request cannot be sent as it is",
            Why::Abandoned => "dropped by the caller",
        })
    }
}
