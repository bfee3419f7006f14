//! The compiled settings of failover between tiers. The form a person writes is
//! [`FailoverConfig`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::At;
use crate::config::{ConfigError, FailoverConfig, OverCap};

/// Checked and compiled: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Percent; `u32::MAX` for strict order.
    pub over_provisioning: u32,
    /// Percent, at most 100; 0 never panics.
    pub panic_threshold: u8,
    /// Calls to a tier in panic are refused.
    pub fail_on_panic: bool,
    /// Percent, at most 100; 100 is no cap.
    pub max_spill: u8,
    /// What happens to load above `max_spill`.
    pub over_cap: OverCap,
    /// Zero never holds back.
    pub hold_down: Duration,
    /// Failbacks that need not wait.
    pub free_failbacks: u32,
    /// Zero: a tier of unknown health is passed over at once.
    pub init_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&FailoverConfig::default())
    }
}

impl Settings {
    /// Checks `config` and compiles it. `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is out of range, or that another one makes meaningless.
    pub fn of(config: &FailoverConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("over_provisioning", config.over_provisioning, 100..=100_000)?;
        at.within("panic_threshold", config.panic_threshold, 0..=100)?;
        at.within("max_spill", config.max_spill, 0..=100)?;
        at.within("free_failbacks", config.free_failbacks, 0..=1_000)?;
        at.span_or_zero("hold_down", config.hold_down)?;
        at.span_or_zero("init_grace", config.init_grace)?;
        if config.enabled && config.fail_on_panic && config.panic_threshold == 0 {
            let reason = "nothing ever panics with a panic_threshold of 0 %";
            return Err(at.refuse("fail_on_panic", reason));
        }
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &FailoverConfig) -> Settings {
        let percent = |value: u32| u8::try_from(value.min(100)).unwrap_or(100);
        if !config.enabled {
            return Settings {
                // One healthy endpoint of 40 million still carries everything.
                over_provisioning: u32::MAX,
                panic_threshold: 0,
                fail_on_panic: false,
                max_spill: 100,
                over_cap: OverCap::Shed,
                hold_down: Duration::ZERO,
                free_failbacks: 0,
                init_grace: Duration::ZERO,
            };
        }
        Settings {
            over_provisioning: config.over_provisioning.max(100),
            panic_threshold: percent(config.panic_threshold),
            fail_on_panic: config.fail_on_panic,
            max_spill: percent(config.max_spill),
            over_cap: config.over_cap,
            hold_down: config.hold_down,
            free_failbacks: config.free_failbacks.min(1_000),
            init_grace: config.init_grace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut FailoverConfig)) -> String {
        let mut config = FailoverConfig::default();
        change(&mut config);
        Settings::of(&config, "policy.failover").unwrap_err().field
    }

    #[test]
    fn out_of_range_and_meaningless_are_refused_by_name() {
        let week = Duration::from_secs(8 * 86_400);
        let field = |name: &str| format!("policy.failover.{name}");
        for bad in [0, 1, 99, 100_001, u32::MAX] {
            assert_eq!(refused(|c| c.over_provisioning = bad), field("over_provisioning"));
        }
        for bad in [101, u32::MAX] {
            assert_eq!(refused(|c| c.panic_threshold = bad), field("panic_threshold"));
            assert_eq!(refused(|c| c.max_spill = bad), field("max_spill"));
        }
        assert_eq!(refused(|c| c.free_failbacks = 1_001), field("free_failbacks"));
        for bad in [week, Duration::MAX] {
            assert_eq!(refused(|c| c.hold_down = bad), field("hold_down"));
            assert_eq!(refused(|c| c.init_grace = bad), field("init_grace"));
        }
        let nothing_panics = |c: &mut FailoverConfig| {
            (c.fail_on_panic, c.panic_threshold) = (true, 0);
        };
        assert_eq!(refused(nothing_panics), field("fail_on_panic"));
    }

    #[test]
    fn the_text_form_is_strict() {
        let text = r#"{"hold_down": "5s", "over_cap": "keep", "max_spill": 20}"#;
        let config: FailoverConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.hold_down, Duration::from_secs(5));
        assert_eq!((config.over_cap, config.over_provisioning), (OverCap::Keep, 200));
        assert!(serde_json::from_str::<FailoverConfig>(r#"{"holddown": "5s"}"#).is_err());
    }

    #[test]
    fn defaults_compile_and_zero_switches_off() {
        let config = FailoverConfig::default();
        assert_eq!(Settings::of(&config, "p").unwrap(), Settings::default());
        let off = FailoverConfig { hold_down: Duration::ZERO, panic_threshold: 0, ..config };
        assert_eq!(Settings::of(&off, "p").unwrap().panic_threshold, 0);
    }
}
