//! When what expires is renewed, and how long a failure waits. Both machines, that of the token
//! and that of leases, take their times from here.
//!
//! A fleet that was started together must not renew together, so the point is drawn uniformly
//! from a part of the lease: the first sixth to third of what can be renewed (consul-template:
//! 100 s are renewed after 16–34 s), 80–95 % of what has to be replaced. Vault's own
//! `LifetimeWatcher` waits for two thirds and a random grace; renewing earlier leaves more time
//! for the waits after a failure, which double from 10 s to 5 min.
//!
//! A stored version of the watcher forgot to set its sleep after an error and asked in a tight
//! loop. Here a wait is never shorter than a second, and never longer than half of what is left of
//! the lease, so that there is always another try: that is a property test below.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::backoff::{BackoffConfig, Jitter};
use crate::config::field::{At, WEEK, scaled};
use crate::config::{ConfigError, VaultRenewConfig};
use crate::policy::backoff::{self, Advice, Backoff, Cause};
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// Shortest time between two tries of the same thing.
pub const FLOOR: Duration = Duration::from_secs(1);

const MILLION: u64 = 1_000_000;

/// A checked [`VaultRenewConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    renew: (u64, u64),
    replace: (u64, u64),
    backoff: backoff::Settings,
    longest: Duration,
    forbidden: Duration,
    increment: Option<Duration>,
    revoke: bool,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range, or that contradicts another.
    pub fn of(config: &VaultRenewConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("from", config.from, 0.01..=0.9)?;
        at.within("to", config.to, 0.01..=0.9)?;
        at.ordered(("from", config.from), ("to", config.to))?;
        at.within("replace_from", config.replace_from, 0.01..=0.99)?;
        at.within("replace_to", config.replace_to, 0.01..=0.99)?;
        at.ordered(("replace_from", config.replace_from), ("replace_to", config.replace_to))?;
        at.within("backoff", config.backoff, FLOOR..=WEEK)?;
        at.within("backoff_max", config.backoff_max, FLOOR..=WEEK)?;
        at.ordered(("backoff", config.backoff), ("backoff_max", config.backoff_max))?;
        at.within("forbidden", config.forbidden, FLOOR..=WEEK)?;
        if let Some(increment) = config.increment {
            at.within("increment", increment, FLOOR..=WEEK * 5)?;
        }
        Ok(Settings::compile(config))
    }

    fn compile(config: &VaultRenewConfig) -> Settings {
        let steps = BackoffConfig {
            base: config.backoff,
            max: config.backoff_max,
            jitter: Jitter::Equal,
            ..BackoffConfig::default()
        };
        let ppm = |share: f64| scaled(share, 1_000_000).min(MILLION);
        Settings {
            renew: (ppm(config.from), ppm(config.to)),
            replace: (ppm(config.replace_from), ppm(config.replace_to)),
            // Within its bounds by the checks above; unchecked, its defaults do.
            backoff: backoff::Settings::of(&steps, "backoff").unwrap_or_default(),
            longest: config.backoff_max,
            forbidden: config.forbidden,
            increment: config.increment,
            revoke: config.revoke_on_close,
        }
    }

    /// For how long renewals ask.
    #[must_use]
    pub const fn increment(&self) -> Option<Duration> {
        self.increment
    }

    /// Whether it is revoked at the end.
    #[must_use]
    pub const fn revoke(&self) -> bool {
        self.revoke
    }

    /// Wait after a refusal that repeating does not change.
    #[must_use]
    pub const fn forbidden(&self) -> Duration {
        self.forbidden
    }

    /// When a lease of `lease` that began at `issued` is renewed, or replaced where it cannot be
    /// renewed: at a random point of it, but not within the first second.
    #[must_use]
    pub fn point(&self, issued: Time, lease: Duration, renewable: bool, rng: &mut Pcg32) -> Time {
        let (from, to) = if renewable { self.renew } else { self.replace };
        let share = from.saturating_add(rng.up_to(to.saturating_sub(from)));
        let after = u128::from(nanos(lease)) * u128::from(share) / u128::from(MILLION);
        let after = Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX));
        issued.plus(after.max(FLOOR))
    }

    /// How long to wait after one more failure, with `left` of the lease, if there is one: at most
    /// half of that, at least a second. `lasting`: repeating does not change it.
    #[must_use]
    pub fn pause(
        &self,
        steps: &mut Backoff,
        lasting: bool,
        left: Option<Duration>,
        rng: &mut Pcg32,
    ) -> Duration {
        let step = steps.next(Cause::Failed, Advice::Silent, &self.backoff, rng);
        let mut wait = step.map_or(self.longest, |(wait, _)| wait);
        if lasting {
            wait = wait.max(self.forbidden);
        }
        left.map_or(wait, |left| wait.min(left / 2)).max(FLOOR)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&VaultRenewConfig::default())
    }
}

/// When a password that Vault exchanges by itself (a static role of the database engine) is read
/// again: one second after its time to live, since reading it earlier yields the same one.
#[must_use]
pub fn rotated(read: Time, ttl: Duration) -> Time {
    read.plus(ttl).plus(FLOOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of anchor b.20 (consul-template, `vault_common`): 100 s are renewed after 16–34 s
    /// where they can be, and replaced after 80–95 s where not; static roles at ttl + 1.
    #[test]
    fn anchor_b20_points() {
        let settings = Settings::default();
        let mut rng = Pcg32::new(1, 1);
        let mut seen = [(u64::MAX, 0); 2];
        for _ in 0..2_000 {
            for (renewable, (least, most)) in [true, false].into_iter().zip(&mut seen) {
                let lease = Duration::from_secs(100);
                let at = settings.point(Time::ZERO, lease, renewable, &mut rng).as_millis();
                (*least, *most) = ((*least).min(at), (*most).max(at));
            }
        }
        let [(a, b), (c, d)] = seen;
        assert!((16_000..17_500).contains(&a) && (32_500..=34_000).contains(&b), "{a} {b}");
        assert!((80_000..81_000).contains(&c) && (94_000..=95_000).contains(&d), "{c} {d}");
        assert_eq!(rotated(Time::ZERO, Duration::from_secs(60)), Time::from_millis(61_000));
    }

    /// b.20: after errors 10 s, doubling, up to 5 min; equal jitter takes up to half off.
    #[test]
    fn anchor_b20_error_steps() {
        let settings = Settings::default();
        let (mut rng, mut steps) = (Pcg32::new(3, 1), Backoff::default());
        for most in [10, 20, 40, 80, 160, 300, 300] {
            let wait = settings.pause(&mut steps, false, None, &mut rng).as_millis();
            assert!((most * 500..=most * 1_000).contains(&wait), "{wait} of {most} s");
        }
    }

    #[test]
    fn settings_are_checked() {
        let refused = |change: fn(&mut VaultRenewConfig)| {
            let mut config = VaultRenewConfig::default();
            change(&mut config);
            Settings::of(&config, "p").unwrap_err().field
        };
        assert_eq!(Settings::of(&VaultRenewConfig::default(), "p"), Ok(Settings::default()));
        assert_eq!(refused(|c| c.from = 0.0), "p.from");
        assert_eq!(refused(|c| c.from = 0.5), "p.from");
        assert_eq!(refused(|c| c.to = f64::INFINITY), "p.to");
        assert_eq!(refused(|c| c.replace_from = 0.96), "p.replace_from");
        assert_eq!(refused(|c| c.replace_to = 1.0), "p.replace_to");
        assert_eq!(refused(|c| c.backoff = Duration::ZERO), "p.backoff");
        assert_eq!(refused(|c| c.backoff_max = Duration::from_secs(5)), "p.backoff");
        assert_eq!(refused(|c| c.forbidden = Duration::MAX), "p.forbidden");
        assert_eq!(refused(|c| c.increment = Some(Duration::ZERO)), "p.increment");
    }

    proptest! {
        /// The hazard of b.20: a wait is never nothing, and another try fits into the lease while
        /// two seconds of it are left.
        #[test]
        fn a_wait_is_neither_zero_nor_beyond_the_lease(seed: u64, failures in 0_u32..40, lasting: bool, left: u64) {
            let settings = Settings::default();
            let (mut rng, mut steps) = (Pcg32::new(seed, 1), Backoff::default());
            let left = Duration::from_nanos(left);
            for _ in 0..=failures {
                let wait = settings.pause(&mut steps, lasting, Some(left), &mut rng);
                prop_assert!(wait >= FLOOR);
                prop_assert!(left < FLOOR * 2 || wait < left);
            }
        }

        /// A renewal falls into its lease, whatever the lease, if that is longer than a second.
        #[test]
        fn a_point_is_within_its_lease(seed: u64, lease: u64, issued: u64, renewable: bool) {
            let mut rng = Pcg32::new(seed, 1);
            let (issued, lease) = (Time::from_nanos(issued), Duration::from_nanos(lease));
            let at = Settings::default().point(issued, lease, renewable, &mut rng);
            prop_assert!(at >= issued.plus(FLOOR));
            prop_assert!(lease <= FLOOR || at < issued.plus(lease) || at == Time::NEVER);
        }
    }
}
