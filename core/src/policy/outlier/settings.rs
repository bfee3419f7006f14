//! The compiled settings of outlier ejection. The form a person writes is [`OutlierConfig`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::At;
use crate::config::{ConfigError, OutlierConfig};

/// Checked and compiled: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the configuration, documented there
pub struct Settings {
    pub enabled: bool,
    pub interval: Duration,
    pub base_ejection: Duration,
    pub max_ejection: Duration,
    pub jitter: Duration,
    pub max_ejected_percent: u32,
    pub consecutive_failures: u32,
    pub consecutive_enforcing: u32,
    /// In thousandths.
    pub success_rate_factor_permille: u32,
    pub success_rate_enforcing: u32,
    pub success_rate_min_hosts: u32,
    pub success_rate_min_requests: u32,
    pub failure_percentage: u32,
    pub failure_percentage_enforcing: u32,
    pub failure_percentage_min_hosts: u32,
    pub failure_percentage_min_requests: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&OutlierConfig::default())
    }
}

impl Settings {
    /// Checks `config` and compiles it. `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &OutlierConfig, path: &str) -> Result<Settings, ConfigError> {
        let c = config;
        let at = At(path);
        at.span("interval", c.interval)?;
        at.span("base_ejection", c.base_ejection)?;
        at.span("max_ejection", c.max_ejection)?;
        at.span_or_zero("jitter", c.jitter)?;
        const MANY: u32 = 1_000_000;
        for (name, value, least, most) in [
            ("max_ejected_percent", c.max_ejected_percent, 0, 100),
            ("consecutive_failures", c.consecutive_failures, 0, MANY),
            ("consecutive_enforcing", c.consecutive_enforcing, 0, 100),
            ("success_rate_enforcing", c.success_rate_enforcing, 0, 100),
            ("success_rate_min_hosts", c.success_rate_min_hosts, 1, MANY),
            ("success_rate_min_requests", c.success_rate_min_requests, 1, MANY),
            ("failure_percentage", c.failure_percentage, 1, 100),
            ("failure_percentage_enforcing", c.failure_percentage_enforcing, 0, 100),
            ("failure_percentage_min_hosts", c.failure_percentage_min_hosts, 1, MANY),
            ("failure_percentage_min_requests", c.failure_percentage_min_requests, 1, MANY),
        ] {
            at.within(name, value, least..=most)?;
        }
        at.within("success_rate_factor", c.success_rate_factor, 0.001..=100.0)?;
        at.ordered(("base_ejection", c.base_ejection), ("max_ejection", c.max_ejection))?;
        let settings = Settings::compile(config);
        settings.can_happen(at)?;
        Ok(settings)
    }

    /// Of `n` values none is more than √(n−1) population deviations from their mean, whatever
    /// they are. Envoy's 1.9 with its 5 hosts is just within.
    fn can_happen(&self, at: At<'_>) -> Result<(), ConfigError> {
        let factor = u64::from(self.success_rate_factor_permille);
        let hosts = factor * factor / 1_000_000 + 2;
        if u64::from(self.success_rate_min_hosts) >= hosts {
            return Ok(());
        }
        let reason = format!(
            "among {} hosts none can be {}.{:03} standard deviations below the mean; that takes \
             {hosts}",
            self.success_rate_min_hosts,
            factor / 1_000,
            factor % 1_000,
        );
        Err(at.refuse("success_rate_min_hosts", reason))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped first
    fn compile(c: &OutlierConfig) -> Settings {
        Settings {
            enabled: c.enabled,
            interval: c.interval,
            base_ejection: c.base_ejection,
            max_ejection: c.max_ejection.max(c.base_ejection),
            jitter: c.jitter,
            max_ejected_percent: c.max_ejected_percent.min(100),
            consecutive_failures: c.consecutive_failures,
            consecutive_enforcing: c.consecutive_enforcing.min(100),
            success_rate_factor_permille: (c.success_rate_factor.clamp(0.001, 100.0) * 1e3).round()
                as u32,
            success_rate_enforcing: c.success_rate_enforcing.min(100),
            success_rate_min_hosts: c.success_rate_min_hosts.max(1),
            success_rate_min_requests: c.success_rate_min_requests.max(1),
            failure_percentage: c.failure_percentage.clamp(1, 100),
            failure_percentage_enforcing: c.failure_percentage_enforcing.min(100),
            failure_percentage_min_hosts: c.failure_percentage_min_hosts.max(1),
            failure_percentage_min_requests: c.failure_percentage_min_requests.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut OutlierConfig)) -> ConfigError {
        let mut config = OutlierConfig::default();
        change(&mut config);
        Settings::of(&config, "o").unwrap_err()
    }

    #[test]
    fn zero_nan_and_out_of_range_are_refused_by_name() {
        for bad in [Duration::ZERO, Duration::MAX, Duration::from_secs(8 * 86_400)] {
            assert_eq!(refused(|c| c.interval = bad).field, "o.interval");
            assert_eq!(refused(|c| c.base_ejection = bad).field, "o.base_ejection");
            assert_eq!(refused(|c| c.max_ejection = bad).field, "o.max_ejection");
        }
        assert_eq!(refused(|c| c.jitter = Duration::MAX).field, "o.jitter");
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.9, 0.0009, 100.1] {
            assert_eq!(refused(|c| c.success_rate_factor = bad).field, "o.success_rate_factor");
        }
        for bad in [101, u32::MAX] {
            assert_eq!(refused(|c| c.max_ejected_percent = bad).field, "o.max_ejected_percent");
            assert_eq!(refused(|c| c.failure_percentage = bad).field, "o.failure_percentage");
            let field = refused(|c| c.success_rate_enforcing = bad).field;
            assert_eq!(field, "o.success_rate_enforcing");
            let field = refused(|c| c.failure_percentage_enforcing = bad).field;
            assert_eq!(field, "o.failure_percentage_enforcing");
            let field = refused(|c| c.consecutive_enforcing = bad).field;
            assert_eq!(field, "o.consecutive_enforcing");
        }
        assert_eq!(refused(|c| c.failure_percentage = 0).field, "o.failure_percentage");
        for bad in [0, u32::MAX] {
            let field = refused(|c| c.success_rate_min_requests = bad).field;
            assert_eq!(field, "o.success_rate_min_requests");
            let field = refused(|c| c.failure_percentage_min_requests = bad).field;
            assert_eq!(field, "o.failure_percentage_min_requests");
            let field = refused(|c| c.failure_percentage_min_hosts = bad).field;
            assert_eq!(field, "o.failure_percentage_min_hosts");
        }
        assert_eq!(refused(|c| c.consecutive_failures = u32::MAX).field, "o.consecutive_failures");
        let longer = refused(|c| c.base_ejection = Duration::from_secs(301));
        assert_eq!(longer.field, "o.base_ejection");
    }

    #[test]
    fn a_deviation_that_cannot_occur_is_refused_with_the_number_it_takes() {
        let few = refused(|c| c.success_rate_min_hosts = 4);
        assert_eq!(few.field, "o.success_rate_min_hosts");
        assert!(few.reason.contains("among 4 hosts none can be 1.900"), "{few}");
        assert!(few.reason.ends_with("that takes 5"), "{few}");
        let wide = refused(|c| c.success_rate_factor = 3.0);
        assert!(wide.reason.ends_with("that takes 11"), "{wide}");
    }

    #[test]
    fn defaults_compile_to_themselves() {
        let settings = Settings::of(&OutlierConfig::default(), "o").unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.success_rate_factor_permille, 1_900);
    }
}
