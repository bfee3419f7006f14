//! What nodes tell each other about open breakers: advice with a quorum and a time to live.
//!
//! A fleet of a hundred nodes finds out a hundred times that an endpoint is dead, and users of a
//! hundred nodes pay for it. Sharing breaker state is asked for in every library (resilience4j#419,
//! gobreaker#85, opossum#675, Polly#287), and those that have it (gobreaker, pybreaker) share the
//! state itself: one node with a broken network then opens the breaker of all. Polly's maintainers
//! named the way out, a quorum, and nobody built it. Here:
//!
//! - A node tells only what its own breakers learnt from its own calls, never what it was advised;
//!   so advice cannot feed on itself, and it ends when the evidence does.
//! - An endpoint is advised against while at least `max(quorum, share of the live nodes)` *other*
//!   live nodes say that their breakers for it are open ([`Board`]). Each word has a time to live,
//!   and ends sooner where the breaker that said it turns half-open.
//! - Advice is a hint ([`Suspect`]): the endpoint gets a probe per interval instead of calls, and a
//!   recent own success counts for more than what all others say. Wrong advice so heals at the
//!   first probe. It must never leave a service without endpoints: who has no other one ignores it.
//! - News travel at once: a node that has something new to tell marks that it has, and the others
//!   look for the mark far more often than they read everything ([`Knowledge`]).
//! - Redis gone: words end, and every node decides alone.
//!
//! What it does not do: keep out somebody who may write to this namespace under as many names as
//! he likes. A quorum guards against nodes that are wrong, an ACL against those who lie; and even
//! then probes go on.
//!
//! `strict` has no probes and allows a quorum of one: the shared breaker of seed 001 (001-120),
//! whose price is said in its configuration. Off by default, `redis.breakers.mode = "off"`.

mod board;
mod event;
mod exchange;
pub mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use board::{Board, Peer};
pub use event::{Done, Event, Exchange};
pub use exchange::Knowledge;

use crate::config::field::{At, WEEK, at_least_one};
use crate::config::{ConfigError, KnowledgeConfig, KnowledgeMode};
use crate::policy::breaker::State;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// A checked [`KnowledgeConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    mode: KnowledgeMode,
    quorum: u32,
    share_permille: u32,
    ttl: u64,
    every: u64,
    gap: u64,
    /// Zero: no looks.
    listen: u64,
    own_evidence: u64,
    probe_interval: u64,
    max_nodes: usize,
    max_endpoints: usize,
    skew: Duration,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error. `skew` is how
    /// far apart calendar clocks may be.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(
        config: &KnowledgeConfig,
        skew: Duration,
        path: &str,
    ) -> Result<Settings, ConfigError> {
        let at = At(path);
        let ms = Duration::from_millis;
        let (ten, hour) = (Duration::from_secs(600), Duration::from_secs(3_600));
        at.within("quorum", config.quorum, 1..=1_000)?;
        if config.quorum == 1 && config.mode != KnowledgeMode::Strict {
            let reason = "1 lets one bad node decide for all; only mode \"strict\" accepts that";
            return Err(at.refuse("quorum", reason));
        }
        let share_permille = at.permille("share", config.share)?;
        let every = at.within("every", config.every, ms(100)..=ten)?;
        at.within("gap", config.gap, ms(10)..=WEEK)?;
        at.ordered(("gap", config.gap), ("every", every))?;
        if !config.listen.is_zero() {
            at.within("listen", config.listen, ms(10)..=ten)?;
        }
        let ttl = at.within("ttl", config.ttl, every * 3..=hour)?;
        at.within("own_evidence", config.own_evidence, Duration::ZERO..=hour)?;
        at.within("probe_interval", config.probe_interval, ms(10)..=ten)?;
        Ok(Settings {
            mode: config.mode,
            quorum: config.quorum,
            share_permille,
            ttl: at_least_one(ttl),
            every: at_least_one(every),
            gap: at_least_one(config.gap),
            listen: nanos(config.listen.min(every)),
            own_evidence: nanos(config.own_evidence),
            probe_interval: at_least_one(config.probe_interval),
            max_nodes: at.within("max_nodes", config.max_nodes, 1..=512)?,
            max_endpoints: at.within("max_endpoints", config.max_endpoints, 1..=512)?,
            skew,
        })
    }

    /// Whether nothing is shared.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self.mode, KnowledgeMode::Off)
    }

    /// Whether what others say is binding.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        matches!(self.mode, KnowledgeMode::Strict)
    }

    /// Until when an own success at `at` counts for more than what others say.
    pub(crate) fn outvotes(&self, at: Time) -> Time {
        at.plus(Duration::from_nanos(self.own_evidence))
    }

    /// The same, switched off.
    #[must_use]
    pub const fn off(self) -> Settings {
        Settings { mode: KnowledgeMode::Off, ..self }
    }

    /// Other nodes that must agree when `live` nodes are, this one included.
    #[must_use]
    pub fn need(&self, live: u32) -> u32 {
        let share = (u64::from(live) * u64::from(self.share_permille)).div_ceil(1_000);
        self.quorum.max(u32::try_from(share).unwrap_or(u32::MAX))
    }
}

impl Default for Settings {
    fn default() -> Self {
        super::Settings::default().knowledge
    }
}

/// What an own breaker says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Own {
    /// Nothing against it.
    Closed,
    /// It is bad.
    Open {
        /// When the breaker turns half-open; the word ends then.
        until: Time,
    },
}

impl Own {
    /// The word of a breaker in this state. Half-open is none: the matter is being looked into.
    /// Nor is a breaker that was forced open for good: that was a person's decision for this
    /// node. One that only shows what it would do (shadow) is not to be told.
    #[must_use]
    pub fn of(state: &State) -> Own {
        match state {
            State::Open { until } if *until < Time::NEVER => Own::Open { until: *until },
            _ => Own::Closed,
        }
    }
}

/// What the others say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Nothing, or too few.
    #[default]
    None,
    /// That it is bad.
    Avoid {
        /// How many other nodes say so.
        by: u32,
        /// How many nodes are live, this one included.
        of: u32,
        /// When too few say so, unless they say it again.
        until: Time,
    },
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Advice::None => f.write_str("no advice"),
            Advice::Avoid { by, of, .. } => write!(f, "{by} of {of} nodes found it bad"),
        }
    }
}

/// Whether an attempt may go to an endpoint, as far as others are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Admission {
    /// There is nothing against it.
    Free,
    /// This one, to find out.
    Probe,
    /// Not now, if there is another one.
    Held {
        /// When the next probe is due, or the advice ends.
        until: Time,
    },
}

/// What is remembered of one endpoint to obey advice: when the next probe is due. 8 bytes.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::redis::knowledge::{Admission, Advice, Settings, Suspect};
/// use origin_core::rng::Pcg32;
///
/// let (settings, mut rng) = (Settings::default(), Pcg32::new(1, 0));
/// let mut suspect = Suspect::default();
/// let now = Time::from_millis(1_000);
/// assert_eq!(suspect.admit(now, Advice::None, &settings, &mut rng), Admission::Free);
/// let avoid = Advice::Avoid { by: 3, of: 5, until: now.plus(Duration::from_secs(30)) };
/// // Held, but for one probe within each interval of five seconds.
/// let Admission::Held { until } = suspect.admit(now, avoid, &settings, &mut rng) else { panic!() };
/// assert!(until <= now.plus(Duration::from_secs(5)));
/// assert_eq!(suspect.admit(until, avoid, &settings, &mut rng), Admission::Probe);
/// assert!(matches!(suspect.admit(until, avoid, &settings, &mut rng), Admission::Held { .. }));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suspect {
    /// Zero: it is not suspect.
    next_probe: Time,
}

impl Suspect {
    /// Asks for one attempt. The first probe comes at a random time within the interval, so that
    /// the nodes of a fleet do not all probe at once.
    #[inline]
    pub fn admit(
        &mut self,
        now: Time,
        advice: Advice,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Admission {
        let Advice::Avoid { until, .. } = advice else {
            *self = Suspect::default();
            return Admission::Free;
        };
        if settings.mode == KnowledgeMode::Strict {
            return Admission::Held { until };
        }
        let interval = Duration::from_nanos(settings.probe_interval);
        if self.next_probe == Time::ZERO {
            let first = rng.up_to(settings.probe_interval).max(1);
            self.next_probe = now.plus(Duration::from_nanos(first));
        }
        // The second half: a clock that went back.
        if now >= self.next_probe || self.next_probe > now.plus(interval) {
            self.next_probe = now.plus(interval);
            return Admission::Probe;
        }
        Admission::Held { until: self.next_probe.min(until) }
    }
}
