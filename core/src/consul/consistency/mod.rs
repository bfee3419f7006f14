//! Two checks against believing a registry that is not itself: the split-brain check ([`Cluster`])
//! and the comparison of the cache index ([`Indexes`]).
//!
//! They come from the known issues of the Datapunk standard. **Split brain**: in the smaller part
//! of a cluster that fell apart, an agent still answers, of the few it can see. So the members
//! that are alive are counted, and while they are too few, or nobody says how many they are, new
//! registrations and cache refreshes are held back: a list from before the split is better than
//! the half of one. What is held back is up to the owner, who asks [`Cluster::holds`]; heartbeats
//! and deregistrations should go on. Before the first count it holds too. In a client the registry
//! holds back registrations, and discovery refreshes of what it knows (`Directory::heed`), but
//! those only on account of a verdict.
//!
//! **Cache index**: whoever changes a service may count up `services/{service}/index` in the KV
//! store. When it differs from what is remembered, what is cached of the service is not believed
//! any more. The sample of the standard drops the bare name of a cache that is keyed by name,
//! datacenter and tag, and so drops nothing; here the verdict says [`Cached::DropAllVariants`].
//! A key that is not there is a value like another: nobody counts, and that agrees with itself.
//!
//! Both are off by default, see [`ConsistencyConfig`].

mod cluster;
mod indexes;

pub use cluster::{Cluster, Verdict, alive, judge};
pub use indexes::{Agreement, Cached, Disagrees, Indexes};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::{At, WEEK, at_least_one, scaled};
use crate::config::{ConfigError, ConsistencyConfig};
use crate::rng::Pcg32;
use crate::time::Time;

/// A checked [`ConsistencyConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    split_brain: bool,
    minimum: u32,
    interval: u64,
    index: bool,
    index_interval: u64,
    most: usize,
    concurrent: usize,
    timeout: Duration,
    jitter_ppm: u64,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range.
    pub fn of(config: &ConsistencyConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let second = Duration::from_secs(1);
        at.within("minimum", config.minimum, 1..=10_000)?;
        at.within("interval", config.interval, second..=WEEK)?;
        at.within("index_interval", config.index_interval, second..=WEEK)?;
        at.within("most", config.most, 1..=100_000)?;
        at.within("concurrent", config.concurrent, 1..=256)?;
        at.within("timeout", config.timeout, Duration::from_millis(10)..=second * 60)?;
        at.within("jitter", config.jitter, 0.0..=0.9)?;
        Ok(Settings::compile(config))
    }

    fn compile(config: &ConsistencyConfig) -> Settings {
        let count = |n: u32| usize::try_from(n.max(1)).unwrap_or(1);
        Settings {
            split_brain: config.split_brain,
            minimum: config.minimum.max(1),
            interval: at_least_one(config.interval),
            index: config.index,
            index_interval: at_least_one(config.index_interval),
            most: count(config.most),
            concurrent: count(config.concurrent),
            timeout: config.timeout,
            jitter_ppm: scaled(config.jitter, 1_000_000).min(900_000),
        }
    }

    /// How long a verdict on the cluster counts when no other follows.
    pub(crate) fn lasts(&self) -> Duration {
        Duration::from_nanos(self.interval.saturating_mul(2)).saturating_add(self.timeout * 2)
    }

    /// `interval` from `now` on, less its share of jitter.
    fn again(&self, now: Time, interval: u64, rng: &mut Pcg32) -> Time {
        let most = u128::from(interval) * u128::from(self.jitter_ppm) / 1_000_000;
        let off = rng.up_to(u64::try_from(most).unwrap_or(0));
        now.plus(Duration::from_nanos(interval - off))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&ConsistencyConfig::default())
    }
}

#[cfg(test)]
mod tests;
