//! Where what was learnt of endpoints is kept over a restart, as a person writes it. What that is,
//! and what of it is believed, is in [`crate::learned`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::field::At;
use crate::learned::MAX_AGE;

/// A file with the open breakers, latencies and verdicts of checks of a client, for the next run.
///
/// Written by the background (of a blocking client: `background()`) and by `close`, as a whole or
/// not at all; read when a client is built. A file that is too old, too large or no such file is
/// not used, which is told and does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// The file; the directory must exist and be writable. Default `None`: nothing is kept.
    pub path: Option<String>,
    /// At least this long from one write to the next, 1 s – 5 min (half of what is still used
    /// when it is read). Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub every: Duration,
    /// Largest file written or read, in bytes, 1 KiB – 1 GiB. Default 16 MiB.
    pub max_bytes: usize,
}

impl Default for StateConfig {
    fn default() -> Self {
        StateConfig { path: None, every: Duration::from_secs(30), max_bytes: 16 << 20 }
    }
}

impl StateConfig {
    /// Checks it, which stands at `path`.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn check(&self, path: &str) -> Result<(), ConfigError> {
        let at = At(path);
        if self.path.as_ref().is_some_and(String::is_empty) {
            return Err(at.refuse("path", "is empty; leave it out to keep nothing"));
        }
        at.within("every", self.every, Duration::from_secs(1)..=MAX_AGE / 2)?;
        at.within("max_bytes", self.max_bytes, 1 << 10..=1 << 30)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_x_09_what_cannot_be_meant_is_refused_by_name() {
        let refused = |change: fn(&mut StateConfig)| {
            let mut config = StateConfig::default();
            change(&mut config);
            config.check("state").unwrap_err().field
        };
        assert_eq!(refused(|c| c.path = Some(String::new())), "state.path");
        assert_eq!(refused(|c| c.every = Duration::ZERO), "state.every");
        assert_eq!(refused(|c| c.every = MAX_AGE), "state.every");
        assert_eq!(refused(|c| c.max_bytes = 1), "state.max_bytes");
        assert_eq!(StateConfig::default().check("state"), Ok(()));
    }
}
