//! Client-side throttling: of the requests that a peer would refuse anyway, most are refused here.
//!
//! It protects a peer that spends its capacity on saying no. The rule is that of the SRE book
//! (chapter 21): with `n` requests in the last two minutes of which `a` were accepted, refuse a
//! share of `max(0, (n − K·a) / (n + 1))`. At K = 2 the peer sees at most twice what it accepts,
//! which is how it notices that it accepts more. Unlike a breaker it never closes the door, and
//! unlike a rate limit it needs no number. The price is a slow return: from nothing accepted to
//! everything passing takes 1.85 windows under the cap of 90 % (222 s at the defaults), 3.3 under
//! one of 99 %. Who needs a faster one shortens the window or lowers the cap.
//!
//! Three differences. A request counts when its answer is known (as in Envoy and go-zero) or when
//! it is refused here: at the moment it is sent, a burst of first calls would look like as many
//! failures. The share is capped and nothing is refused below a number of requests. And if nothing
//! has passed for a second, one request does (go-zero's rule), so that a window full of refusals
//! cannot starve itself.
//!
//! Decided exactly, in integers: a draw of 32 bits is compared with the share cross-multiplied.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::field::{At, scaled};
use crate::config::{ConfigError, ThrottleConfig};
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

const BUCKETS: usize = 30;
const ONE: u64 = 1_000_000;

/// A checked [`ThrottleConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    enabled: bool,
    bucket: u64,
    k_ppm: u64,
    free: u64,
    min: u64,
    max_ppm: u64,
    pass_after: u64,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero or out of range.
    pub fn of(config: &ThrottleConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.span("window", config.window)?;
        at.span("pass_after", config.pass_after)?;
        at.within("k", config.k, 1.0..=100.0)?;
        at.within("free_requests", config.free_requests, 0..=1_000_000)?;
        at.within("min_requests", config.min_requests, 1..=1_000_000)?;
        at.within("max", config.max, 0.01..=1.0)?;
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &ThrottleConfig) -> Settings {
        Settings {
            enabled: config.enabled,
            bucket: (nanos(config.window) / BUCKETS as u64).max(1),
            k_ppm: scaled(config.k, 1_000_000).clamp(ONE, 1_000 * ONE),
            free: u64::from(config.free_requests),
            min: u64::from(config.min_requests),
            max_ppm: scaled(config.max, 1_000_000).min(ONE),
            pass_after: nanos(config.pass_after),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&ThrottleConfig::default())
    }
}

/// Why a request was refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Throttled {
    /// The share refused, in thousandths, rounded.
    pub permille: u32,
    /// Requests in the window, this one not included.
    pub requests: u64,
    /// Of these, accepted by the peer.
    pub accepts: u64,
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Throttled { permille, requests, accepts } = self;
        let (percent, tenth) = (permille / 10, permille % 10);
        write!(
            f,
            "throttled: {accepts} of {requests} requests accepted, {percent}.{tenth} % refused here"
        )
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Bucket {
    requests: u32,
    accepts: u32,
}

/// Client-side throttling of one service.
///
/// ```
/// use origin_core::{Time, rng::Pcg32};
/// use origin_core::config::ThrottleConfig;
/// use origin_core::policy::throttle::{Settings, Throttle};
///
/// let config = ThrottleConfig { enabled: true, ..ThrottleConfig::default() };
/// let settings = Settings::of(&config, "throttle").unwrap();
/// let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(42, 0));
/// let now = Time::from_millis(5_000);
/// let mut sent = 0;
/// for _ in 0..1_000 {
///     if throttle.admit(now, &settings, &mut rng).is_ok() {
///         sent += 1;
///         throttle.record(now, false, &settings); // the peer refuses everything
///     }
/// }
/// assert!(sent < 150, "{sent}");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Throttle {
    buckets: [Bucket; BUCKETS],
    at: u8,
    /// When the present bucket began.
    start: Time,
    requests: u64,
    accepts: u64,
    passed: Time,
}

impl Throttle {
    /// Whether a request may be sent. One that is refused counts as a request.
    ///
    /// # Errors
    /// It is refused by the success ratio of the window.
    #[inline]
    pub fn admit(
        &mut self,
        now: Time,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Result<(), Throttled> {
        if !settings.enabled {
            return Ok(());
        }
        self.advance(now, settings);
        if self.requests.saturating_mul(ONE) > self.accepts.saturating_mul(settings.k_ppm) {
            self.draw(now, settings, rng)?;
        }
        self.passed = now;
        Ok(())
    }

    /// What came of a request that was admitted: `accepted` by the peer or refused. A request
    /// that says nothing about it (never sent, cancelled) is not recorded.
    #[inline]
    pub fn record(&mut self, now: Time, accepted: bool, settings: &Settings) {
        if !settings.enabled {
            return;
        }
        self.advance(now, settings);
        self.count(u32::from(accepted));
    }

    /// The share that is refused at present, in thousandths, rounded.
    #[must_use]
    pub fn permille(&self, settings: &Settings) -> u32 {
        let (over, of) = self.share(settings);
        u32::try_from((over.saturating_mul(1_000) + of / 2) / of.max(1)).unwrap_or(1_000)
    }

    /// Requests and accepted ones in the window, as of the last call.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.requests, self.accepts)
    }

    /// There may be an excess: draw, unless it is time to let one pass.
    #[cold]
    fn draw(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Result<(), Throttled> {
        // A clock that went back passes as well: the difference wraps.
        if now.as_nanos().wrapping_sub(self.passed.as_nanos()) >= settings.pass_after {
            return Ok(());
        }
        let (over, of) = self.share(settings);
        if u128::from(rng.bits()) * of >= over << 32 {
            return Ok(());
        }
        let refused = Throttled {
            permille: self.permille(settings),
            requests: self.requests,
            accepts: self.accepts,
        };
        self.count(0);
        Err(refused)
    }

    /// The share to refuse, as a fraction: `(n − free − k·a) / (n + 1)`, at most `max`.
    fn share(&self, settings: &Settings) -> (u128, u128) {
        if self.requests < settings.min {
            return (0, 1);
        }
        let one = u128::from(ONE);
        let needed = u128::from(self.requests.saturating_sub(settings.free)) * one;
        let over = needed.saturating_sub(u128::from(self.accepts) * u128::from(settings.k_ppm));
        let of = (u128::from(self.requests) + 1) * one;
        let max = u128::from(settings.max_ppm);
        if over * one > of * max { (max, one) } else { (over, of) }
    }

    fn count(&mut self, accepted: u32) {
        let bucket = &mut self.buckets[usize::from(self.at) % BUCKETS];
        // A full bucket counts neither, or the totals would come apart from their parts.
        if bucket.requests < u32::MAX {
            bucket.requests += 1;
            bucket.accepts += accepted;
            self.requests += 1;
            self.accepts += u64::from(accepted);
        }
    }

    #[inline]
    fn advance(&mut self, now: Time, settings: &Settings) {
        // One comparison also finds a clock that went back: the difference wraps.
        if now.as_nanos().wrapping_sub(self.start.as_nanos()) >= settings.bucket {
            self.turn(now, settings);
        }
    }

    #[cold]
    fn turn(&mut self, now: Time, settings: &Settings) {
        if now < self.start {
            // The clock went back: what is counted stays, and ages from here on.
            self.start = now;
            return;
        }
        let passed = now.as_nanos() - self.start.as_nanos();
        let steps = passed / settings.bucket.max(1);
        if steps >= BUCKETS as u64 {
            (self.requests, self.accepts) = (0, 0);
            (self.buckets, self.start) = ([Bucket::default(); BUCKETS], now);
            return;
        }
        for _ in 0..steps {
            self.at = (self.at + 1) % BUCKETS as u8;
            let old = std::mem::take(&mut self.buckets[usize::from(self.at) % BUCKETS]);
            self.requests = self.requests.saturating_sub(u64::from(old.requests));
            self.accepts = self.accepts.saturating_sub(u64::from(old.accepts));
        }
        self.start = Time::from_nanos(self.start.as_nanos() + steps * settings.bucket);
    }
}
