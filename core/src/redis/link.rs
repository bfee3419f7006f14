//! The link: leaving Redis alone while it fails.
//!
//! A second level exists to save time. One that is down or hangs must not cost any, so the first
//! failure ends its use: everybody skips it for a second, then one trial goes there, and while
//! trials fail the wait doubles up to half a minute. It is a breaker of threshold one without
//! statistics: unlike a call, what is skipped here has another source at hand, so there is nothing
//! to be careful about (004-45, 004-87).
//!
//! An outage is said once, and its end once. Results of trials and uses that began before the
//! present outage or its end change nothing: each carries the generation it was let through in.
//! Writes that the server refuses (out of memory, read-only replica) are no outage: reading works.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Reply;
use crate::job::JobOutcome;
use crate::outcome::Fault;
use crate::rng::Pcg32;
use crate::time::{Rounded, Time};

/// When a failing Redis is tried again. Compiled in [`super::Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// First wait after a failure, in nanoseconds.
    pub backoff: u64,
    /// Longest wait, in nanoseconds.
    pub backoff_max: u64,
    /// How long one exchange may take, in nanoseconds.
    pub timeout: u64,
}

/// The right to one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Pass {
    generation: u64,
    trial: bool,
    deadline: Time,
}

impl Pass {
    /// When the exchange is to be given up.
    #[must_use]
    pub const fn deadline(&self) -> Time {
        self.deadline
    }
}

/// Why Redis is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Skip {
    /// When the next trial is due.
    pub until: Time,
    /// Failures in a row.
    pub failures: u32,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis is left alone after {} failures in a row", self.failures)
    }
}

/// Why an exchange with Redis failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// On the wire.
    #[error("{0}")]
    Fault(Fault),
    /// The server refuses: `NOAUTH`, `NOPERM`, `LOADING`, …
    #[error("the server refuses: {0}")]
    Refused(Arc<str>),
    /// The driver cannot talk to Redis at all.
    #[error("{0}")]
    Impossible(Arc<str>),
    /// Another number or kind of replies than there were commands for.
    #[error("the server's replies do not fit the commands")]
    Replies,
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// An outage begins. A warning.
    Lost {
        /// Why.
        why: Failure,
        /// Time to the first trial.
        retry_in: Duration,
    },
    /// It is over.
    Recovered {
        /// How long it lasted.
        after: Duration,
        /// Uses that were skipped.
        skipped: u64,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Lost { why, retry_in } => {
                write!(f, "redis is left alone for {}: {why}", Rounded(*retry_in))
            }
            Change::Recovered { after, skipped } => {
                write!(f, "redis is back after {}; {skipped} uses were skipped", Rounded(*after))
            }
        }
    }
}

/// How a server's refusal is taken, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// This key holds another kind of value.
    Value,
    /// It takes no writes at present; reading works.
    Write,
    /// It does nothing for us.
    Server,
}

impl Refusal {
    /// Reads the first word of the message.
    #[must_use]
    pub fn of(word: &str) -> Refusal {
        match word {
            "WRONGTYPE" => Refusal::Value,
            "OOM" | "READONLY" | "MISCONF" | "NOREPLICAS" => Refusal::Write,
            _ => Refusal::Server,
        }
    }
}

/// The replies of an exchange of `commands` commands, or why there are none. The first refusal
/// of the whole server counts for all; those of single keys and of writes stay in the list.
///
/// # Errors
/// `Some` failure, or `None` when the driver gave it up, which says nothing about Redis.
pub fn replies(outcome: JobOutcome, commands: usize) -> Result<Vec<Reply>, Option<Failure>> {
    let replies = match outcome {
        JobOutcome::Replies(replies) => replies,
        JobOutcome::Failed(fault) => return Err(Some(Failure::Fault(fault))),
        JobOutcome::Impossible(why) => return Err(Some(Failure::Impossible(short(&why)))),
        JobOutcome::Dropped => return Err(None),
        _ => return Err(Some(Failure::Replies)),
    };
    let server = |reply: &&Arc<str>| Refusal::of(reply) == Refusal::Server;
    if let Some(word) = replies.iter().filter_map(Reply::refusal).find(server) {
        return Err(Some(Failure::Refused(short(word))));
    }
    if replies.len() != commands {
        return Err(Some(Failure::Replies));
    }
    Ok(replies)
}

/// A message of somebody else, in bounds and on one line.
fn short(text: &str) -> Arc<str> {
    text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
}

/// Whether Redis is used.
///
/// ```
/// use std::time::Duration;
/// use origin_core::outcome::Fault;
/// use origin_core::redis::{Link, Settings};
/// use origin_core::redis::link::{Change, Failure};
/// use origin_core::rng::Pcg32;
/// use origin_core::Time;
///
/// let settings = Settings::default();
/// let (mut link, mut rng, now) = (Link::default(), Pcg32::new(1, 0), Time::ZERO);
/// let pass = link.enter(now, &settings.link).unwrap();
/// let why = Failure::Fault(Fault::Connect);
/// let change = link.failed(now, pass, why, &settings.link, &mut rng);
/// assert!(matches!(change, Some(Change::Lost { .. })));
/// // Skipped, at the cost of a comparison; then one trial, which succeeds.
/// let skip = link.enter(now, &settings.link).unwrap_err();
/// let pass = link.enter(skip.until, &settings.link).unwrap();
/// assert!(link.enter(skip.until, &settings.link).is_err());
/// assert!(matches!(link.worked(skip.until, pass), Some(Change::Recovered { skipped: 2, .. })));
/// assert!(link.enter(skip.until, &settings.link).is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    generation: u64,
    /// Failures in a row; 0: it works.
    failures: u32,
    since: Time,
    next_trial: Time,
    skipped: u64,
}

impl Link {
    /// Asks for the right to one exchange.
    ///
    /// # Errors
    /// Redis is being left alone, or somebody else is trying it.
    #[inline]
    pub fn enter(&mut self, now: Time, settings: &Settings) -> Result<Pass, Skip> {
        let deadline = now.plus(Duration::from_nanos(settings.timeout));
        if self.failures == 0 {
            return Ok(Pass { generation: self.generation, trial: false, deadline });
        }
        // A clock that went back must not keep Redis away for longer than a failure could.
        let ahead =
            settings.backoff_max.saturating_add(settings.backoff).saturating_add(settings.timeout);
        self.next_trial = self.next_trial.min(now.plus(Duration::from_nanos(ahead)));
        if now < self.next_trial {
            self.skipped = self.skipped.saturating_add(1);
            return Err(Skip { until: self.next_trial, failures: self.failures });
        }
        // A trial is a lease: one that never comes back is followed by another. Results of the
        // one before no longer count.
        self.generation = self.generation.wrapping_add(1);
        let backoff = Duration::from_nanos(settings.backoff);
        self.next_trial = deadline.plus(backoff).max(now.plus(Duration::from_nanos(1)));
        Ok(Pass { generation: self.generation, trial: true, deadline })
    }

    /// Whether it is in an outage.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.failures > 0
    }

    /// An exchange worked.
    pub fn worked(&mut self, now: Time, pass: Pass) -> Option<Change> {
        if !pass.trial || pass.generation != self.generation || self.failures == 0 {
            return None;
        }
        let change = Change::Recovered { after: now.since(self.since), skipped: self.skipped };
        self.failures = 0;
        self.skipped = 0;
        self.generation = self.generation.wrapping_add(1);
        Some(change)
    }

    /// An exchange failed.
    pub fn failed(
        &mut self,
        now: Time,
        pass: Pass,
        why: Failure,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Change> {
        if pass.generation != self.generation || pass.trial != (self.failures > 0) {
            return None;
        }
        let step = settings
            .backoff
            .saturating_mul(1_u64.checked_shl(self.failures.min(63)).unwrap_or(u64::MAX))
            .clamp(1, settings.backoff_max.max(1));
        // Half fixed, half random: many clients do not come back in step.
        let retry_in = Duration::from_nanos((step / 2 + rng.up_to(step - step / 2)).max(1));
        let first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        self.generation = self.generation.wrapping_add(1);
        self.next_trial = now.plus(retry_in);
        if !first {
            return None;
        }
        self.since = now;
        Some(Change::Lost { why, retry_in })
    }

    /// An exchange was given up by the driver, and says nothing.
    pub fn dropped(&mut self, now: Time, pass: Pass) {
        if pass.trial && pass.generation == self.generation && self.failures > 0 {
            self.next_trial = self.next_trial.min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings =
        Settings { backoff: 1_000_000_000, backoff_max: 30_000_000_000, timeout: 250_000_000 };

    fn fault() -> Failure {
        Failure::Fault(Fault::Timeout)
    }

    fn ms(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn the_wait_doubles_from_one_second_to_thirty() {
        let (mut link, mut rng, mut now) = (Link::default(), Pcg32::new(1, 0), Time::ZERO);
        let mut most = 1_000;
        for n in 0..200 {
            let pass = link.enter(now, &SETTINGS).unwrap();
            let change = link.failed(now, pass, fault(), &SETTINGS, &mut rng);
            assert_eq!(change.is_some(), n == 0);
            let skip = link.enter(now, &SETTINGS).unwrap_err();
            let wait = skip.until.since(now).as_millis();
            assert!((most / 2..=most).contains(&wait), "{n}: {wait} of {most}");
            most = (most * 2).min(30_000);
            now = skip.until;
        }
    }

    #[test]
    fn results_from_before_say_nothing_about_now() {
        let (mut link, mut rng) = (Link::default(), Pcg32::new(1, 0));
        let early = [(); 4].map(|()| link.enter(ms(0), &SETTINGS).unwrap());
        assert!(link.failed(ms(1), early[0], fault(), &SETTINGS, &mut rng).is_some());
        let skip = link.enter(ms(1), &SETTINGS).unwrap_err();
        // A second failure of the same burst neither warns nor prolongs; a late success of it
        // does not recover.
        assert_eq!(link.failed(ms(2), early[1], fault(), &SETTINGS, &mut rng), None);
        assert_eq!(link.worked(ms(3), early[2]), None);
        assert_eq!(link.enter(ms(4), &SETTINGS).unwrap_err().until, skip.until);
        // A trial that hangs is replaced, and its late result is not that of the other.
        let hung = link.enter(ms(2_000), &SETTINGS).unwrap();
        let second = link.enter(ms(9_000), &SETTINGS).unwrap();
        assert_eq!(link.worked(ms(9_001), hung), None);
        let waiting = link.clone();
        assert_eq!(link.failed(ms(9_001), hung, fault(), &SETTINGS, &mut rng), None);
        assert_eq!(link, waiting, "it neither ends the other trial nor prolongs the wait");
        assert!(link.worked(ms(9_002), second).is_some());
        // Nor is what began before the outage a new one.
        assert_eq!(link.failed(ms(9_003), hung, fault(), &SETTINGS, &mut rng), None);
        assert_eq!(link.failed(ms(9_003), early[3], fault(), &SETTINGS, &mut rng), None);
        assert!(!link.is_lost());
    }

    #[test]
    fn a_dropped_trial_is_free_again_at_once() {
        let (mut link, mut rng) = (Link::default(), Pcg32::new(1, 0));
        let pass = link.enter(ms(0), &SETTINGS).unwrap();
        let _ = link.failed(ms(0), pass, fault(), &SETTINGS, &mut rng);
        let trial = link.enter(ms(1_000), &SETTINGS).unwrap();
        assert!(link.enter(ms(1_001), &SETTINGS).is_err());
        link.dropped(ms(1_001), trial);
        assert!(link.enter(ms(1_001), &SETTINGS).is_ok());
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused =
            |word: &str| JobOutcome::Replies(vec![Reply::Nil, Reply::Refused(word.into())]);
        for word in ["NOAUTH", "NOPERM", "LOADING", "ERR", "MASTERDOWN", "WRONGPASS", ""] {
            let failure = replies(refused(word), 2).unwrap_err();
            assert_eq!(failure, Some(Failure::Refused(word.into())));
        }
        for word in ["WRONGTYPE", "OOM", "READONLY"] {
            assert!(replies(refused(word), 2).is_ok());
        }
        assert_eq!(replies(refused("OOM"), 3), Err(Some(Failure::Replies)));
        assert_eq!(replies(JobOutcome::Written, 0), Err(Some(Failure::Replies)));
        assert_eq!(replies(JobOutcome::Dropped, 0), Err(None));
        let long = JobOutcome::Impossible("x\n".repeat(500).into());
        assert!(
            matches!(replies(long, 0), Err(Some(Failure::Impossible(why))) if why.len() == 120 && !why.contains('\n'))
        );
    }

    proptest! {
        /// Whatever happens, whenever: an outage is said once, then its end, in turn; during one
        /// at most one exchange goes out per wait; and it always ends once trials work.
        #[test]
        fn one_warning_one_recovery_one_trial_at_a_time(
            steps in proptest::collection::vec((0..5_u8, 0..4_000_u64, any::<prop::sample::Index>()), 0..80),
            backoff in 0..3_000_000_000_u64, timeout in 0..1_000_000_000_u64, seed: u64,
        ) {
            let settings = Settings { backoff, timeout, ..SETTINGS };
            let (mut link, mut rng, mut now) = (Link::default(), Pcg32::new(seed, 0), Time::ZERO);
            let mut out: Vec<Pass> = vec![];
            let mut lost = false;
            for (what, millis, which) in steps {
                let change = match what {
                    0 => { now = now.plus(Duration::from_millis(millis)); None }
                    1 => {
                        let entered = link.enter(now, &settings);
                        prop_assert!(lost || entered.is_ok());
                        if let Ok(pass) = entered {
                            prop_assert!(!lost || link.enter(now, &settings).is_err(), "two trials at once");
                            out.push(pass);
                        }
                        None
                    }
                    _ if out.is_empty() => None,
                    2 => link.worked(now, out.swap_remove(which.index(out.len()))),
                    3 => link.failed(now, out.swap_remove(which.index(out.len())), fault(), &settings, &mut rng),
                    _ => { link.dropped(now, out.swap_remove(which.index(out.len()))); None }
                };
                match change {
                    Some(Change::Lost { retry_in, .. }) => {
                        prop_assert!(!lost && retry_in <= Duration::from_secs(30) && !retry_in.is_zero());
                        lost = true;
                    }
                    Some(Change::Recovered { .. }) => { prop_assert!(lost); lost = false; }
                    None => {}
                }
                prop_assert_eq!(link.is_lost(), lost);
            }
            now = now.plus(Duration::from_secs(60));
            let pass = link.enter(now, &settings).unwrap();
            let _ = link.worked(now, pass);
            prop_assert!(!link.is_lost());
        }

        #[test]
        fn any_time_and_any_setting_is_survived(
            times in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()], 0..20),
            backoff in prop_oneof![Just(0), Just(1), Just(u64::MAX)],
            backoff_max in prop_oneof![Just(0), Just(1), Just(u64::MAX)],
            timeout in prop_oneof![Just(0), Just(1), Just(u64::MAX)],
        ) {
            let settings = Settings { backoff, backoff_max, timeout };
            let (mut link, mut rng) = (Link::default(), Pcg32::new(1, 0));
            for time in times {
                let now = Time::from_nanos(time);
                if let Ok(pass) = link.enter(now, &settings) {
                    let _ = if time % 3 == 0 { link.worked(now, pass) } else { link.failed(now, pass, fault(), &settings, &mut rng) };
                }
            }
        }
    }
}
