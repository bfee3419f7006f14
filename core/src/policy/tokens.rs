//! Retry tokens: a bucket that failures empty and successes fill.
//!
//! Like the ratio budget it keeps a partial outage from being multiplied by retries. The budget
//! counts calls of the last seconds; a bucket knows no time: it lasts until it is empty and then
//! follows what the service answers. Two forms are in wide use, and this is both:
//!
//! * **quota**, the AWS SDKs' standard mode: a retry takes tokens, more or fewer depending on what
//!   failed; a call that succeeds brings back what its last retry took, or a little if it needed
//!   none. In rule 2.1 a retry takes 14 of 500, and 5 after throttling.
//! * **throttle**, gRPC A6: every failed attempt takes one token, every success brings
//!   `tokenRatio`, and retries and hedges are allowed while more than half of the bucket is left.
//!
//! Tokens are thousandths, exactly: gRPC's three decimals need no rounding. Three mistakes of
//! others cannot happen: the bucket is never negative (smithy-rs#4632), it always refills
//! (aws-sdk-go-v2#3550: no gain of 0, no price above the capacity is accepted), and a refusal says
//! what is there and what is needed. gRPC's document leaves open whether a failure counts before
//! the retry it causes is judged; in its code it does, and so [`Tokens::on_failure`] comes before
//! [`Tokens::try_take`] here.
//!
//! Off by default; Origin's default is the ratio budget.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::field::{At, scaled};
use crate::config::{ConfigError, TokensConfig, TokensMode};

const ONE: u32 = 1_000;

/// The compiled [`TokensConfig`]. Amounts are thousandths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    mode: TokensMode,
    capacity: u32,
    cost: u32,
    cost_timeout: u32,
    cost_throttled: u32,
    gain: u32,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range, a price that no full bucket can pay, or a gain that is no
    /// whole number of thousandths.
    pub fn of(config: &TokensConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let most = if config.mode == TokensMode::Throttle { 1_000 } else { 1_000_000 };
        at.within("capacity", config.capacity, 1..=most)?;
        if config.mode == TokensMode::Quota {
            for (field, cost) in [
                ("cost", config.cost),
                ("cost_timeout", config.cost_timeout),
                ("cost_throttled", config.cost_throttled),
            ] {
                if cost > config.capacity {
                    let capacity = config.capacity;
                    let reason =
                        format!("{cost} of {capacity} tokens: no such retry could ever be paid");
                    return Err(at.refuse(field, reason));
                }
            }
        }
        at.within("gain", config.gain, 0.001..=1_000.0)?;
        let thousandths = config.gain * f64::from(ONE);
        if (thousandths - thousandths.round()).abs() > 1e-6 {
            let gain = config.gain;
            return Err(at.refuse("gain", format!("{gain} has more than three decimals")));
        }
        Ok(Settings::compile(config))
    }

    #[allow(clippy::cast_possible_truncation)] // clamped first
    fn compile(config: &TokensConfig) -> Settings {
        let capacity = config.capacity.clamp(1, 1_000_000) * ONE;
        let cost = |tokens: u32| tokens.saturating_mul(ONE).min(capacity);
        Settings {
            mode: config.mode,
            capacity,
            cost: cost(config.cost),
            cost_timeout: cost(config.cost_timeout),
            cost_throttled: cost(config.cost_throttled),
            gain: scaled(config.gain, ONE).clamp(1, 1_000_000) as u32,
        }
    }

    const fn cost(&self, after: After) -> u32 {
        match after {
            After::Failure => self.cost,
            After::Timeout => self.cost_timeout,
            After::Throttling => self.cost_throttled,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&TokensConfig::default())
    }
}

/// What the retry is for; it decides the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// A failure.
    Failure,
    /// A timeout.
    Timeout,
    /// The peer said that it is asked too often.
    Throttling,
}

/// What a retry took. Give it to [`Tokens::on_success`] if the call succeeds with this retry, or
/// to [`Tokens::refund`] if the retry is never sent; drop it if the retry fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Taken {
    thousandths: u32,
}

/// The bucket does not allow a retry. Amounts are thousandths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Empty {
    /// What is there.
    pub have: u32,
    /// What must be there.
    pub need: u32,
}

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (have, need) = (Decimal(self.have), Decimal(self.need));
        write!(f, "{have} retry tokens are left, {need} are needed")
    }
}

/// Thousandths as a decimal number.
struct Decimal(u32);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / ONE, self.0 % ONE) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, part) => write!(f, "{whole}.{part:03}"),
        }
    }
}

/// The retry tokens that all calls of a service share. 8 bytes.
///
/// ```
/// use origin_core::config::TokensConfig;
/// use origin_core::policy::tokens::{After, Settings, Tokens};
///
/// let settings = Settings::of(&TokensConfig::aws(), "policy.tokens")?;
/// let mut tokens = Tokens::new(&settings);
/// tokens.on_failure(&settings);
/// let taken = tokens.try_take(After::Failure, &settings).unwrap();
/// assert_eq!(tokens.available(), 486_000);
/// tokens.on_success(Some(taken), &settings);
/// assert_eq!(tokens.available(), 500_000);
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tokens {
    left: u32,
    /// The capacity that `left` is a part of, for [`Tokens::retune`].
    of: u32,
}

impl Tokens {
    /// A full bucket.
    #[must_use]
    pub const fn new(settings: &Settings) -> Tokens {
        Tokens { left: settings.capacity, of: settings.capacity }
    }

    /// Thousandths of a token that are left.
    #[must_use]
    pub const fn available(&self) -> u32 {
        self.left
    }

    /// Asks for a retry (or a hedge) and pays for it.
    ///
    /// # Errors
    /// What is there and what would have to be.
    pub fn try_take(&mut self, after: After, settings: &Settings) -> Result<Taken, Empty> {
        let have = self.left;
        match settings.mode {
            TokensMode::Off => Ok(Taken { thousandths: 0 }),
            TokensMode::Throttle => {
                // More than half: at exactly half there is no retry.
                let need = settings.capacity / 2 + 1;
                if have < need { Err(Empty { have, need }) } else { Ok(Taken { thousandths: 0 }) }
            }
            TokensMode::Quota => {
                let need = settings.cost(after);
                if have < need {
                    return Err(Empty { have, need });
                }
                self.left = have - need;
                Ok(Taken { thousandths: need })
            }
        }
    }

    /// A call succeeded; `last` is what its last retry took, if it needed one.
    pub fn on_success(&mut self, last: Option<Taken>, settings: &Settings) {
        let back = match (settings.mode, last) {
            (TokensMode::Off, _) => 0,
            (TokensMode::Quota, Some(taken)) => taken.thousandths,
            (TokensMode::Quota, None) | (TokensMode::Throttle, _) => settings.gain,
        };
        self.put(back, settings);
    }

    /// An attempt failed in a way that may be repeated, or was answered with a pushback that
    /// forbids it. Call it for each such attempt, before [`Tokens::try_take`].
    pub fn on_failure(&mut self, settings: &Settings) {
        if settings.mode == TokensMode::Throttle {
            self.left = self.left.saturating_sub(ONE);
        }
    }

    /// A retry that was paid for is never sent.
    pub fn refund(&mut self, taken: Taken, settings: &Settings) {
        self.put(taken.thousandths, settings);
    }

    /// Takes over new settings: the bucket stays as full as it was, in proportion, as gRPC does
    /// when a service configuration changes.
    pub fn retune(&mut self, settings: &Settings) {
        let share = u64::from(self.left.min(self.of)) * u64::from(settings.capacity);
        let left = u32::try_from(share / u64::from(self.of.max(1))).unwrap_or(settings.capacity);
        *self = Tokens { left: left.min(settings.capacity), of: settings.capacity };
    }

    fn put(&mut self, thousandths: u32, settings: &Settings) {
        self.left = self.left.saturating_add(thousandths).min(settings.capacity);
    }
}

#[cfg(test)]
mod tests;
