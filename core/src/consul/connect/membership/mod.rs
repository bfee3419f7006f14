//! Membership: who this program is in the mesh, and whom it believes. The roots and the leaf
//! certificate are two blocking queries ([`super::super::watch`]); here is what their answers come
//! to, as one thing to be put in force.
//!
//! It protects against three ways in which clients of Connect lose their connections. A new leaf
//! used with old roots, or the other way round, fails against half of the servers: both are handed
//! on together, and only when they are of one trust domain. A watch that hangs lets a certificate
//! expire unseen: past nine tenths of its life, by which Consul's agent has renewed it (it does so
//! between six and nine tenths), it is asked for plainly, again and again. And a control plane that
//! is down takes nobody's identity away: what is held serves until it expires by the calendar, not
//! longer. Consul's own `connect/proxy` keeps serving an expired one and leaves it to servers to
//! refuse; here it is taken out of force, so that the reason is ours and is told.
//!
//! It holds a private key, so it is neither printed nor serialised, unlike the other machines.
//! Switched off with `connect.enabled = false`, the default.

mod said;

use std::sync::Arc;
use std::time::Duration;

use super::{Leaf, Roots};
use crate::config::field::At;
use crate::config::{ConfigError, ConnectConfig};
use crate::consul::ServiceName;
use crate::consul::ask::Trouble;
use crate::consul::watch::{self, Change, Query, Watch};
use crate::job::Poll;
use crate::policy::balance::hash;
use crate::rng::Pcg32;
use crate::time::{Time, Wall};

pub use said::{Part, Said};

/// Things said and not yet taken; the oldest are lost beyond it.
const MOST_SAID: usize = 64;
/// From one plain question for an overdue leaf to the next.
const OVERDUE: Duration = Duration::from_secs(60);

/// A checked [`ConnectConfig`], and the watch of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    service: ServiceName,
    warning: u64,
    watch: watch::Settings,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it; `None` when it is switched off.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn of(
        config: &ConnectConfig,
        watch: watch::Settings,
        path: &str,
    ) -> Result<Option<Settings>, ConfigError> {
        let at = At(path);
        if config.enabled && config.service.is_empty() {
            let reason = "is required: the service whose certificate this program shows";
            return Err(at.refuse("service", reason));
        }
        if !config.service.is_empty() {
            ServiceName::new(&config.service)
                .map_err(|reason| at.refuse("service", reason.to_string()))?;
        }
        at.span("warning", config.warning)?;
        let whole = config.warning.as_secs();
        if whole == 0 {
            return Err(at.refuse("warning", "is counted in whole seconds; it takes at least 1s"));
        }
        if !config.enabled {
            return Ok(None);
        }
        let service = ServiceName::new(&config.service)
            .map_err(|reason| at.refuse("service", reason.to_string()))?;
        Ok(Some(Settings { service, warning: whole, watch }))
    }

    /// The service that this program is.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }
}

/// What is to be used for calls in the mesh: both of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Whom to believe.
    pub roots: Roots,
    /// What to show.
    pub leaf: Leaf,
}

/// A query to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a query that is not made and reported stops its watch until its lease ends"]
pub struct Asked {
    /// For what.
    pub part: Part,
    /// How, and to be given back with the answer.
    pub query: Query,
}

/// What came of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The roots, and the index of the reply.
    Roots(Option<u64>, Roots),
    /// The leaf, and the index of the reply.
    Leaf(Option<u64>, Leaf),
    /// Nothing until the deadline.
    Silence,
    /// It failed; what an agent said, for people.
    Failed(Trouble, Arc<str>),
}

/// Why nothing is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What an agent said, or what is wrong with its answer.
    pub reason: Arc<str>,
    /// The kind of failure.
    pub trouble: Trouble,
    /// Failures in a row.
    pub failures: u32,
    /// No try before this.
    pub next_try: Time,
}

/// The machine.
///
/// ```
/// use origin_core::config::ConnectConfig;
/// use origin_core::consul::connect::membership::{Membership, Part, Settings};
/// use origin_core::consul::watch;
/// use origin_core::job::Poll;
/// use origin_core::rng::Pcg32;
/// use origin_core::{Time, Wall};
///
/// let config =
///     ConnectConfig { enabled: true, service: "web".into(), ..ConnectConfig::default() };
/// let settings = Settings::of(&config, watch::Settings::default(), "connect")?.unwrap();
/// let (mut membership, mut rng) = (Membership::new(&settings), Pcg32::new(42, 0));
/// let (now, wall) = (Time::from_millis(1_000), Wall(1_800_000_000));
/// // An adapter asks for both; what came of them is given to `done`.
/// let Poll::Run(first) = membership.poll(now, wall, &settings, &mut rng) else { panic!() };
/// let Poll::Run(second) = membership.poll(now, wall, &settings, &mut rng) else { panic!() };
/// assert_eq!((first.part, second.part), (Part::Roots, Part::Leaf));
/// assert!(membership.in_force().is_none());
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Membership {
    roots: Watch,
    leaf: Watch,
    believed: Option<Roots>,
    shown: Option<Leaf>,
    force: Option<Arc<InForce>>,
    /// When an overdue leaf is asked for again.
    nudge: Time,
    warned: bool,
    /// The last failure, while what is needed is not there.
    trouble: Option<Cause>,
    said: Vec<(Time, Said)>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let serial = self.force.as_ref().map(|force| force.leaf.serial.clone());
        write!(f, "Membership({serial:?})")
    }
}

impl Membership {
    /// One that has asked nothing.
    #[must_use]
    pub fn new(settings: &Settings) -> Membership {
        Membership {
            roots: Watch::new(&settings.watch),
            leaf: Watch::new(&settings.watch),
            believed: None,
            shown: None,
            force: None,
            nudge: Time::ZERO,
            warned: false,
            trouble: None,
            said: Vec::new(),
        }
    }

    /// Looks at the calendar: warns of a certificate that is about to expire, asks for one that is
    /// overdue whatever its watch says, and takes one that has expired out of force. Returns
    /// whether what is in force has changed. To be called before [`Membership::poll`].
    pub fn tick(&mut self, now: Time, wall: Wall, settings: &Settings) -> bool {
        let lost = self.force.take_if(|force| force.leaf.valid_before <= wall);
        if let Some(force) = &lost {
            self.say(now, Said::Expired { serial: force.leaf.serial.clone() });
        }
        if self.shown.take_if(|leaf| leaf.valid_before <= wall).is_some() {
            self.warned = false;
            self.leaf.forget();
            self.leaf.refresh(now);
        }
        let Some(leaf) = &self.shown else { return lost.is_some() };
        let (serial, left) = (leaf.serial.clone(), leaf.valid_before.0.saturating_sub(wall.0));
        let life = leaf.valid_before.0.saturating_sub(leaf.valid_after.0);
        if left <= life / 10 && now >= self.nudge {
            self.leaf.refresh(now);
            self.nudge = now.plus(OVERDUE);
        }
        if left <= settings.warning.min(life / 10) && !self.warned {
            self.warned = true;
            self.say(now, Said::Expiring { serial, left: Duration::from_secs(left) });
        }
        lost.is_some()
    }

    /// The next query, if one is due; else when to ask again.
    pub fn poll(
        &mut self,
        now: Time,
        wall: Wall,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Poll<Asked> {
        let next = self.calendar(now, wall, settings);
        self.ask(now, [true, true], next, settings, rng)
    }

    /// The same for somebody who cannot wait for changes, a call: what is not there yet, and no
    /// query that is held back until something changes.
    pub fn poll_missing(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll<Asked> {
        let missing = [self.believed.is_none(), self.shown.is_none()];
        self.ask(now, missing, Time::NEVER, settings, rng)
    }

    fn ask(
        &mut self,
        now: Time,
        wanted: [bool; 2],
        mut next: Time,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Poll<Asked> {
        for (part, wanted) in [Part::Roots, Part::Leaf].into_iter().zip(wanted) {
            if !wanted {
                continue;
            }
            match self.watch(part).next(now, &settings.watch, rng) {
                Poll::Run(query) => return Poll::Run(Box::new(Asked { part, query: *query })),
                Poll::Wait(at) => next = next.min(at),
            }
        }
        Poll::Wait(next)
    }

    /// When [`Membership::tick`] will have something to do.
    fn calendar(&self, now: Time, wall: Wall, settings: &Settings) -> Time {
        let at = |second: u64| now.plus(Duration::from_secs(second.saturating_sub(wall.0)));
        let force = self.force.as_ref().map_or(Time::NEVER, |f| at(f.leaf.valid_before.0));
        let Some(leaf) = &self.shown else { return force };
        let life = leaf.valid_before.0.saturating_sub(leaf.valid_after.0);
        let before = |seconds: u64| at(leaf.valid_before.0.saturating_sub(seconds)).min(force);
        let mut next = before(0).min(before(life / 10).max(self.nudge));
        if !self.warned {
            next = next.min(before(settings.warning.min(life / 10)));
        }
        next
    }

    /// Takes what came of a query. Returns whether what is in force has changed.
    pub fn done(
        &mut self,
        now: Time,
        wall: Wall,
        asked: &Asked,
        answer: Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> bool {
        let Asked { part, query } = *asked;
        let answer = self.sound(wall, part, answer, settings);
        let change = match answer {
            Answer::Roots(index, roots) => {
                let mut digest = hash::of(roots.trust_domain.as_bytes());
                for der in &roots.certificates {
                    digest = digest.rotate_left(5) ^ hash::of(der);
                }
                let change = self.roots.answered(now, query.id, index, digest, &settings.watch);
                if change == Change::Changed {
                    self.believed = Some(roots);
                }
                change
            }
            Answer::Leaf(index, leaf) => {
                let digest = hash::of(leaf.pem.as_bytes()) ^ leaf.valid_before.0;
                let change = self.leaf.answered(now, query.id, index, digest, &settings.watch);
                if change == Change::Changed {
                    (self.shown, self.warned) = (Some(leaf), false);
                }
                change
            }
            Answer::Silence => self.watch(part).timed_out(now, query.id, &settings.watch, rng),
            Answer::Failed(trouble, reason) => {
                let change = self.watch(part).failed(now, query.id, trouble, &settings.watch, rng);
                if let Change::Failed { failures, next_try, .. } = change {
                    let why = reason.clone();
                    self.trouble = Some(Cause { reason: why, trouble, failures, next_try });
                    // The first of a row.
                    if failures == 1 {
                        let retry_in = now.until(next_try);
                        self.say(now, Said::Failed { part, reason, retry_in });
                    }
                }
                change
            }
        };
        change == Change::Changed && self.join(now, wall)
    }

    /// Refuses what nobody can use: the certificate of another service, and one that has expired.
    fn sound(&self, wall: Wall, part: Part, answer: Answer, settings: &Settings) -> Answer {
        let refuse = |reason: &str| Answer::Failed(Trouble::Malformed, reason.into());
        match (part, answer) {
            (Part::Leaf, Answer::Leaf(index, leaf)) => {
                if *leaf.id.service != *settings.service.as_str() {
                    return refuse("the agent gave the certificate of another service");
                }
                if leaf.valid_before <= wall {
                    return refuse("the certificate has expired by the clock of this machine");
                }
                Answer::Leaf(index, leaf)
            }
            (Part::Roots, Answer::Leaf(..)) | (Part::Leaf, Answer::Roots(..)) => {
                refuse("the answer is to another question")
            }
            (_, answer) => answer,
        }
    }

    /// Puts roots and leaf in force, if they are there and of one trust domain.
    fn join(&mut self, now: Time, wall: Wall) -> bool {
        let (Some(roots), Some(leaf)) = (&self.believed, &self.shown) else { return false };
        if roots.trust_domain != leaf.id.trust_domain {
            return false;
        }
        let force = InForce { roots: roots.clone(), leaf: leaf.clone() };
        let said = Said::InForce {
            service: leaf.id.service.clone(),
            serial: leaf.serial.clone(),
            roots: roots.certificates.len(),
            left: Duration::from_secs(leaf.valid_before.0.saturating_sub(wall.0)),
        };
        self.force = Some(Arc::new(force));
        self.trouble = None;
        self.say(now, said);
        true
    }

    /// A driver cannot use what is in force, and says why. What it used before goes on there, until
    /// the next change.
    pub fn refused(&mut self, now: Time, reason: Arc<str>) {
        self.force = None;
        let (trouble, next_try) = (Trouble::Malformed, Time::NEVER);
        self.trouble = Some(Cause { reason: reason.clone(), trouble, failures: 1, next_try });
        self.say(now, Said::Refused { reason });
    }

    /// What is to be used now. `None`: nothing yet, or it has expired.
    #[must_use]
    pub const fn in_force(&self) -> Option<&Arc<InForce>> {
        self.force.as_ref()
    }

    /// While nothing is in force: the last failure, if there was one.
    #[must_use]
    pub fn trouble(&self) -> Option<&Cause> {
        self.trouble.as_ref().filter(|_| self.force.is_none())
    }

    /// Takes what happened, oldest first.
    #[must_use]
    pub fn take_said(&mut self) -> Vec<(Time, Said)> {
        std::mem::take(&mut self.said)
    }

    fn say(&mut self, now: Time, said: Said) {
        if self.said.len() >= MOST_SAID {
            self.said.remove(0);
        }
        self.said.push((now, said));
    }

    fn watch(&mut self, part: Part) -> &mut Watch {
        match part {
            Part::Roots => &mut self.roots,
            Part::Leaf => &mut self.leaf,
        }
    }
}

#[cfg(test)]
mod tests;
