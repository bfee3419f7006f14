//! Backoff: how long to wait before repeating.
//!
//! It protects a service that has just failed from being asked again by everybody at once. The
//! steps are exponential; what matters is their spread. In the simulation that AWS published
//! (100 clients contending for one row), full jitter needs 796 calls, equal jitter 811,
//! decorrelated 1 003, and bare exponential steps 1 854 calls and thirteen times as long, because
//! clients that collided once collide again. A test below runs that simulation. Full jitter is the
//! default; no jitter exists for services that were promised a printed schedule.
//!
//! A peer that names a time knows better than an exponent, but it may be hostile or broken. By
//! default its wish only lengthens the wait, by at most a slack (the AWS clamp), so that a
//! `Retry-After: 99999999` cannot park a call. Taken at its word, as in gRPC, it must be held
//! against the call's deadline by the caller, as every wait must.
//!
//! A wait is drawn from `0..=step` also where the step has reached its maximum, as AWS rule 2.1
//! says. Envoy's documentation counts steps as `(2ⁿ − 1) × base`, its code as `base × 2ⁿ⁻¹`; the
//! steps here are those of the code. Waiting is not switched off here but by allowing one attempt.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::config::backoff::{BackoffConfig, Jitter, PushbackRule};
use crate::config::field::{At, at_least_one};
use crate::outcome::Pushback;
use crate::rng::Pcg32;
use crate::time::{DurationText, nanos};

/// The first step after throttling, where the configuration names none (AWS rule 2.1).
const THROTTLED: Duration = Duration::from_secs(1);

/// The compiled [`BackoffConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    base_nanos: u64,
    throttled_nanos: u64,
    max_nanos: u64,
    jitter: Jitter,
    pushback: PushbackRule,
    slack: Duration,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is zero, longer than 7 days or longer than `max`.
    pub fn of(config: &BackoffConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.span("base", config.base)?;
        at.span("max", config.max)?;
        at.ordered(("base", config.base), ("max", config.max))?;
        if let Some(throttled) = config.throttled_base {
            at.span("throttled_base", throttled)?;
            at.ordered(("throttled_base", throttled), ("max", config.max))?;
        }
        at.span_or_zero("slack", config.slack)?;
        Ok(Settings::compile(config))
    }

    fn compile(config: &BackoffConfig) -> Settings {
        let max_nanos = at_least_one(config.max);
        let base_nanos = at_least_one(config.base).min(max_nanos);
        let throttled_nanos = match config.throttled_base {
            Some(own) => at_least_one(own).min(max_nanos),
            None => nanos(THROTTLED).clamp(base_nanos, max_nanos),
        };
        Settings {
            base_nanos,
            throttled_nanos,
            max_nanos,
            jitter: config.jitter,
            pushback: config.pushback,
            slack: config.slack,
        }
    }

    /// Whether a peer's wish is taken at its word.
    #[must_use]
    pub const fn exact(&self) -> bool {
        matches!(self.pushback, PushbackRule::Exact)
    }

    const fn base(&self, cause: Cause) -> u64 {
        match cause {
            Cause::Failed => self.base_nanos,
            Cause::Throttled => self.throttled_nanos,
        }
    }

    /// The `n`-th step after `cause`, counted from 0: `base × 2ⁿ`, at most `max`.
    #[must_use]
    pub fn step(&self, n: u32, cause: Cause) -> Duration {
        let scaled = self.base(cause).saturating_mul(1_u64.checked_shl(n).unwrap_or(u64::MAX));
        Duration::from_nanos(scaled.min(self.max_nanos))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&BackoffConfig::default())
    }
}

/// What the wait is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The attempt failed.
    #[default]
    Failed,
    /// The peer said that it is asked too often (429, `RESOURCE_EXHAUSTED`).
    Throttled,
}

/// Why a peer's wish forbids repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forbidden {
    /// It is negative: the peer says so.
    Negative,
    /// It is not a number.
    Unreadable,
    /// It is there more than once.
    Repeated,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forbidden::Negative => "the peer asks not to be asked again",
            Forbidden::Unreadable => "the peer's pushback is not a number",
            Forbidden::Repeated => "the peer sent more than one pushback",
        })
    }
}

/// What the peer said about the next try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Nothing.
    #[default]
    Silent,
    /// To try again after this.
    After(Duration),
    /// Not to try again.
    Forbidden(Forbidden),
}

impl From<Pushback> for Advice {
    fn from(pushback: Pushback) -> Advice {
        match pushback {
            Pushback::FORBIDDEN => Advice::Forbidden(Forbidden::Negative),
            pushback => pushback.span().map_or(Advice::Silent, Advice::After),
        }
    }
}

impl Advice {
    /// The values of `grpc-retry-pushback-ms`: one signed 32-bit number of milliseconds without
    /// needless zeros in front, by the document (gRPC A6; grpc-go reads more forms). A second
    /// value forbids repeating, as in grpc-go, and so does anything else.
    #[must_use]
    pub fn grpc<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Advice {
        let mut values = values.into_iter();
        let Some(value) = values.next() else { return Advice::Silent };
        if values.next().is_some() {
            return Advice::Forbidden(Forbidden::Repeated);
        }
        let digits = value.strip_prefix(b"-").unwrap_or(value);
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let padded = digits.len() > 1 && digits[0] == b'0';
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i32>().ok());
        match number {
            Some(ms) if plain && !padded => match u64::try_from(ms) {
                Ok(ms) => Advice::After(Duration::from_millis(ms)),
                Err(_) => Advice::Forbidden(Forbidden::Negative),
            },
            _ => Advice::Forbidden(Forbidden::Unreadable),
        }
    }
}

/// Where a wait comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The `n`-th step and its jitter.
    Step {
        /// Which step, from 0.
        n: u32,
    },
    /// The peer's wish, where it lies between the computed wait and the slack above it, or the
    /// nearer end of that range.
    Clamped {
        /// What the peer asked for.
        asked: Duration,
        /// The computed wait.
        computed: Duration,
    },
    /// The peer's wish.
    Asked,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Step { n } => write!(f, "step {n} of the backoff"),
            Source::Clamped { asked, computed } => {
                let (asked, computed) = (DurationText(*asked), DurationText(*computed));
                write!(f, "the peer asked for {asked}, the backoff for {computed}")
            }
            Source::Asked => f.write_str("the peer asked for it"),
        }
    }
}

/// The waits of one call, or of one client of anything. 16 bytes.
///
/// ```
/// use std::time::Duration;
/// use origin_core::config::backoff::{BackoffConfig, Jitter};
/// use origin_core::policy::backoff::{Advice, Backoff, Cause, Settings};
/// use origin_core::rng::Pcg32;
///
/// let config = BackoffConfig {
///     base: Duration::from_secs(1),
///     max: Duration::from_secs(10),
///     jitter: Jitter::None,
///     ..BackoffConfig::default()
/// };
/// let settings = Settings::of(&config, "policy.backoff")?;
/// let (mut backoff, mut rng) = (Backoff::default(), Pcg32::new(1, 1));
/// let mut next = || backoff.next(Cause::Failed, Advice::Silent, &settings, &mut rng).unwrap().0;
/// assert_eq!([next(), next(), next()].map(|wait| wait.as_secs()), [1, 2, 4]);
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    /// The wait before, for decorrelated jitter; 0 before the first.
    previous_nanos: u64,
    /// The next step.
    n: u32,
}

impl Backoff {
    /// The wait before the next try, and where it comes from.
    ///
    /// # Errors
    /// The peer forbids repeating, and `pushback = "exact"` takes it at its word.
    pub fn next(
        &mut self,
        cause: Cause,
        advice: Advice,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Result<(Duration, Source), Forbidden> {
        match (settings.pushback, advice) {
            (PushbackRule::Exact, Advice::Forbidden(why)) => Err(why),
            (PushbackRule::Exact, Advice::After(asked)) => {
                self.reset();
                Ok((asked, Source::Asked))
            }
            (PushbackRule::Clamp, Advice::After(asked)) => {
                let computed = self.advance(cause, settings, rng);
                let wait = asked.clamp(computed, computed.saturating_add(settings.slack));
                Ok((wait, Source::Clamped { asked, computed }))
            }
            _ => {
                let n = self.n;
                Ok((self.advance(cause, settings, rng), Source::Step { n }))
            }
        }
    }

    /// The next wait begins the sequence anew.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Waits computed since the beginning or the last reset.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.n
    }

    fn advance(&mut self, cause: Cause, settings: &Settings, rng: &mut Pcg32) -> Duration {
        let step = nanos(settings.step(self.n, cause));
        let wait = match settings.jitter {
            Jitter::None => step,
            Jitter::Full => rng.up_to(step),
            Jitter::Equal => step - step / 2 + rng.up_to(step / 2),
            Jitter::Decorrelated => {
                let base = settings.base(cause);
                let most = self.previous_nanos.max(base).saturating_mul(3);
                base.saturating_add(rng.up_to(most - base)).min(settings.max_nanos)
            }
        };
        self.n = self.n.saturating_add(1);
        self.previous_nanos = wait;
        Duration::from_nanos(wait)
    }
}

#[cfg(test)]
mod tests;
