//! How often a log says the same, as a person writes it. What is logged and under which names is
//! in [`crate::notice`]; where it goes is the program's affair.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::field::At;
use crate::notice::limit::Settings;

/// Bounds on lines that repeat: what fails with every call (`connection_issue`, `failover`,
/// `retry_suppressed`, `shed`) or with every try (`service_discovery_failed`). Changes of state are
/// always written, and so are the lines of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines of one kind about one service in a window; the rest is one line with their number.
    /// Default 20; 0 is all.
    pub repeats: u32,
    /// How long a window is. Up to 7 d, default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub window: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        let Settings { lines, window } = Settings::default();
        LogConfig { repeats: lines, window }
    }
}

impl LogConfig {
    /// Checks it, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// A window of zero or above 7 days.
    pub fn compile(&self, path: &str) -> Result<Settings, ConfigError> {
        At(path).span("window", self.window)?;
        Ok(self.limit())
    }

    /// The same, checked before.
    #[must_use]
    pub const fn limit(&self) -> Settings {
        Settings { lines: self.repeats, window: self.window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_x_09_a_window_has_a_length() {
        let of = |window| LogConfig { repeats: 3, window }.compile("log");
        for bad in [Duration::ZERO, Duration::MAX] {
            assert_eq!(of(bad).unwrap_err().field, "log.window");
        }
        let window = Duration::from_secs(1);
        assert_eq!(of(window), Ok(Settings { lines: 3, window }));
        assert_eq!(LogConfig::default().limit(), Settings::default());
    }
}
