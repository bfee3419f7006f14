//! Metrics as a person configures them: buckets, bounds on series, and whose names are used beside
//! our own. What is shown is in [`crate::metrics`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::field::At;
use crate::metrics::{Bounds, MOST_BUCKETS};

/// Whose names and labels metrics have, beside those of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The Datapunk standard: `service_health`, `discovery_latency`, `cache_stats`.
    Standard,
    /// The Datapunk discovery module: `service_discovery_…`.
    Module,
    /// The Datapunk mesh: `circuit_breaker_…`, `retry_…`, `mesh_…`, `load_balancer_…`,
    /// `health_check_…`.
    Mesh,
    /// All three of them.
    Datapunk,
}

/// How labels are written in StatsD lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StatsdLabels {
    /// As parts of the name, with dots between: `origin.calls_total.billing`.
    #[default]
    Plain,
    /// As tags after `|#`, which the agent of Datadog, Telegraf and the exporter of Prometheus
    /// read.
    Tags,
}

/// How metrics are counted and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// The upper bounds of histograms, rising: 1–15 of 1 µs – 1 h. Default `5ms` to `10s` in 14
    /// steps, those that clients of Prometheus use. Cannot change while a client runs.
    #[serde(with = "texts")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::config::schema::Span>"))]
    pub buckets: Vec<Duration>,
    /// Names and labels of others, beside our own. Default none.
    pub compat: Vec<Dialect>,
    /// Services with series of their own, in order of their names; the others are summed up as the
    /// service `_other`. 1–100 000, default 1000.
    pub max_services: usize,
    /// Endpoints with series of their own per service, in failover order; the others are summed up
    /// as `_other`. 0–100 000, default 100.
    pub max_endpoints: usize,
    /// How labels are written in StatsD lines. Default `plain`.
    pub statsd: StatsdLabels,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig {
            buckets: Bounds::default().iter().map(Duration::from_nanos).collect(),
            compat: Vec::new(),
            max_services: 1_000,
            max_endpoints: 100,
            statsd: StatsdLabels::Plain,
        }
    }
}

impl MetricsConfig {
    /// Checks it, and yields the bounds of histograms. `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self, path: &str) -> Result<Bounds, ConfigError> {
        let at = At(path);
        at.within("max_services", self.max_services, 1..=100_000)?;
        at.within("max_endpoints", self.max_endpoints, 0..=100_000)?;
        let field = || format!("{path}.buckets");
        if self.buckets.is_empty() || self.buckets.len() > MOST_BUCKETS {
            let reason = format!("{} bounds; 1 to {MOST_BUCKETS} can be kept", self.buckets.len());
            return Err(ConfigError::new(field(), reason));
        }
        for bound in &self.buckets {
            at.within("buckets", *bound, Duration::from_micros(1)..=Duration::from_secs(3_600))?;
        }
        if self.buckets.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(ConfigError::new(field(), "the bounds do not rise"));
        }
        Ok(Bounds::new(&self.buckets))
    }

    /// Whether names of `dialect` are shown.
    #[must_use]
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.compat.iter().any(|spoken| *spoken == dialect || *spoken == Dialect::Datapunk)
    }
}

/// Durations as people write them.
mod texts {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Text(#[serde(with = "crate::time::text")] Duration);

    pub(super) fn serialize<S: Serializer>(spans: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(spans.iter().copied().map(Text))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<Text>::deserialize(from)?;
        Ok(texts.into_iter().map(|text| text.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes() {
        let text = r#"{"buckets":["1ms","10ms","1s"],"compat":["datapunk"],"statsd":"tags"}"#;
        let config: MetricsConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.buckets.len(), 3);
        assert!(config.speaks(Dialect::Mesh) && config.speaks(Dialect::Module));
        assert_eq!(config.check("metrics").unwrap().iter().count(), 3);
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<MetricsConfig>(&back).unwrap(), config);
        assert!(!MetricsConfig::default().speaks(Dialect::Module));
        assert_eq!(MetricsConfig::default().check("metrics").unwrap(), Bounds::default());
    }

    #[test]
    fn refuses_what_cannot_be() {
        let ms = Duration::from_millis;
        let with = |buckets: Vec<Duration>| MetricsConfig { buckets, ..MetricsConfig::default() };
        for buckets in [vec![], vec![ms(2), ms(1)], vec![ms(1), ms(1)], vec![Duration::ZERO]] {
            assert_eq!(with(buckets).check("metrics").unwrap_err().field, "metrics.buckets");
        }
        assert!(with((1..=16).map(ms).collect()).check("metrics").is_err());
        assert!(with((1..=15).map(ms).collect()).check("metrics").is_ok());
        let config = MetricsConfig { max_services: 0, ..MetricsConfig::default() };
        assert_eq!(config.check("metrics").unwrap_err().field, "metrics.max_services");
        assert!(serde_json::from_str::<MetricsConfig>(r#"{"compat":["other"]}"#).is_err());
    }
}
