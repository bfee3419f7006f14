//! One endpoint of a service: what is known about it, apart from what the balancer reads for
//! every pick ([`Load`], kept densely beside).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::discovery::{Condition, Place};
use crate::policy::balance::ewma::PeakEwma;
use crate::policy::balance::route::Tags;
use crate::policy::breaker::{Breaker, State};
use crate::policy::health::Status;
use crate::policy::outlier::Outlier;
use crate::policy::stall::Watch;
use crate::redis::knowledge::{Suspect, record};
use crate::time::Time;

/// Names an endpoint of a service; never reused for another one while the first 2³² changes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId {
    pub(crate) index: u32,
    pub(super) generation: u32,
}

/// The list of its tier that an endpoint stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum List {
    /// Healthy, as far as is known.
    Ready,
    /// Degraded: used when the healthy ones do not suffice.
    Degraded,
    /// Its breaker lets an attempt through to find out.
    Probing,
    /// Its breaker would let it be called; health checks or outlier detection would not.
    Barred,
    /// Other nodes found it bad: used when there is nobody else.
    Advised,
}

/// How many lists there are.
pub(super) const LISTS: usize = 5;

/// What is made of what other nodes say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Heed {
    /// Nothing: they say nothing, or own successes say otherwise.
    #[default]
    Nothing,
    /// Others are used first.
    Held,
    /// The next call goes there, to find out.
    Probe,
    /// No call goes there.
    Refused,
}

/// What other nodes say of an endpoint, as far as it matters here. Decided in
/// `service/hearsay.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Hearsay {
    /// How nodes call it.
    pub(crate) name: u64,
    pub(crate) suspect: Suspect,
    /// When time alone may change what is made of it.
    pub(crate) due: Time,
    pub(crate) heed: Heed,
}

impl Hearsay {
    pub(super) fn of(cluster: &str, label: &str) -> Hearsay {
        Hearsay::named(record::endpoint(cluster, label))
    }

    fn named(name: u64) -> Hearsay {
        Hearsay { name, suspect: Suspect::default(), due: Time::NEVER, heed: Heed::Nothing }
    }

    /// The same, nothing heard.
    pub(crate) fn forgotten(&self) -> Hearsay {
        Hearsay::named(self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) label: Arc<str>,
    pub(crate) place: Place,
    pub(crate) tier: u32,
    pub(crate) breaker: Breaker,
    pub(crate) watch: Watch,
    pub(crate) outlier: Outlier,
    /// What active checks say.
    pub(crate) health: Status,
    /// What its source says; active checks know better.
    pub(crate) condition: Condition,
    /// The path that a check asks, if discovery names one.
    pub(crate) check: Option<Arc<str>>,
    /// Which routes it fits.
    pub(crate) tags: Tags,
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) last_success: Option<Time>,
    pub(crate) hearsay: Hearsay,
    pub(super) generation: u32,
    /// Its list, and its position there; `None` while its breaker refuses.
    pub(super) listed: Option<(List, u32)>,
    /// Key under which it stands in the timers.
    pub(super) due: Time,
}

impl Endpoint {
    /// Its health as far as anybody knows: active checks, else its source.
    pub(crate) fn standing(&self) -> Status {
        match (self.health, self.condition) {
            (Status::Unknown, Condition::Critical) => Status::Unhealthy,
            (Status::Unknown, Condition::Warning) => Status::Degraded,
            (health, _) => health,
        }
    }

    /// When time alone may next change something about it.
    #[inline]
    pub(super) fn next(&self) -> Time {
        self.breaker.due().min(self.hearsay.due)
    }

    /// The list it belongs to.
    pub(super) fn belongs(&self, breaker: &crate::policy::breaker::Settings) -> Option<List> {
        if self.hearsay.heed == Heed::Refused || !self.breaker.would_admit(breaker) {
            return None;
        }
        let health = self.standing();
        if self.outlier.is_ejected() || health == Status::Unhealthy {
            return Some(List::Barred);
        }
        if breaker.enforces() && matches!(self.breaker.state(), State::HalfOpen { .. }) {
            return Some(List::Probing);
        }
        match self.hearsay.heed {
            Heed::Nothing | Heed::Refused => (),
            Heed::Held => return Some(List::Advised),
            Heed::Probe => return Some(List::Probing),
        }
        Some(if health == Status::Degraded { List::Degraded } else { List::Ready })
    }
}

/// What a pick reads of an endpoint: half a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(align(32))]
pub(crate) struct Load {
    pub(crate) ewma: PeakEwma,
    /// When it came or came back, for slow start.
    pub(crate) since: Time,
    pub(crate) out: u32,
    /// Its weight; the highest bit says that its watch is troubled.
    weight: u32,
}

const TROUBLED: u32 = 1 << 31;

impl Load {
    pub(super) fn new(now: Time, weight: u32) -> Load {
        Load { ewma: PeakEwma::new(now), since: now, out: 0, weight: weight & !TROUBLED }
    }

    #[inline]
    pub(crate) const fn weight(&self) -> u32 {
        self.weight & !TROUBLED
    }

    pub(super) fn set_weight(&mut self, weight: u32) {
        self.weight = weight & !TROUBLED | self.weight & TROUBLED;
    }

    #[inline]
    pub(super) fn set_troubled(&mut self, troubled: bool) {
        self.weight = self.weight & !TROUBLED | if troubled { TROUBLED } else { 0 };
    }

    /// Whether it can be suspect at all: nothing is when nothing is out and nothing went wrong.
    #[inline]
    pub(super) const fn may_be_suspect(&self) -> bool {
        self.out > 0 || self.weight & TROUBLED != 0
    }
}
