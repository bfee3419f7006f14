//! Discovery as a person writes it: which sources there are, in which order they are asked, how
//! long their answers are good for. What the numbers do is in [`crate::discovery`]; each source
//! has a file of its own beside this one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::field::At;
use super::{
    ConfigError, ConsulConfig, DeliveryConfig, DnsConfig, EnvironmentConfig, FileConfig,
    RemovalConfig, SnapshotConfig,
};
use crate::address::Address;
use crate::consul::{self, watch};
use crate::discovery::{SourceKind, delivery, environment, file, kept, removal};
use crate::dns;
use crate::time::DurationText;

/// What becomes of the answers of several sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The first source, in order, that knows an instance of the service. One that is asked for
    /// the first time is waited for; one that fails is passed over.
    #[default]
    First,
    /// What all of them know; of an address that several name, the first.
    Merged,
}

/// Where endpoints are looked up, and how long what was found may be used.
///
/// A source is there when its own part is: `url` for the Origin document, and so on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DiscoveryConfig {
    /// Absolute `http` or `https` URL of the Origin document: one GET that answers with every
    /// service. Empty: no such document.
    pub url: String,
    /// The order in which sources are asked. Empty, the default: all there are, in the order
    /// document, consul, dns, file, environment.
    pub order: Vec<SourceKind>,
    /// What becomes of several answers. Default first.
    pub combine: Combine,
    /// How long an answer is fresh. Default 5 minutes. A shorter `Cache-Control: max-age`, or time
    /// to live of a DNS record, wins. A watch tells of changes before.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub ttl: Duration,
    /// How long the answer that a service has no instance is fresh. Default 5 s, never longer
    /// than `ttl`.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub negative_ttl: Duration,
    /// How long before expiry a driver with a background refreshes. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub refresh_ahead: Duration,
    /// Deadline of one exchange. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// First wait after a failed exchange; doubles up to `backoff_max`, with full jitter over its
    /// upper half. Default 200 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff: Duration,
    /// Longest wait between failed exchanges. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff_max: Duration,
    /// How long past its expiry an answer may still be used while no newer one can be had.
    /// Default 24 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_stale: Duration,
    /// Largest answer accepted, in bytes. Default 8 MiB.
    pub max_bytes: usize,
    /// Services looked up one by one (Consul, DNS) that are remembered at the same time; beyond,
    /// what has not been asked for the longest is forgotten. 1-100 000, default 10 000.
    pub max_services: u32,
    /// Exchanges with sources that a background has out at the same time, beside queries that an
    /// agent holds back. 1-10 000, default 64.
    pub max_requests: u32,
    /// `false`: every use asks for a new answer (one exchange at a time); a failing source is
    /// then an error instead of stale data. Default `true`.
    pub cache: bool,
    /// What is believed when many instances vanish at once.
    pub removal: RemovalConfig,
    /// How those who watch a service are told of changes, where neither the service nor they say
    /// otherwise.
    pub delivery: DeliveryConfig,
    /// Consul as a source. `None`: it is none.
    pub consul: Option<ConsulConfig>,
    /// DNS as a source. `None`: it is none.
    pub dns: Option<DnsConfig>,
    /// A file as a source, where it has a path.
    pub file: FileConfig,
    /// The environment as a source, where it is enabled.
    pub environment: EnvironmentConfig,
    /// What survives a restart, where it has a path: a program that starts while its registry is
    /// down finds its services where they were.
    pub snapshot: SnapshotConfig,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        DiscoveryConfig {
            url: String::new(),
            order: Vec::new(),
            combine: Combine::First,
            ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
            refresh_ahead: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            max_stale: Duration::from_secs(24 * 3600),
            max_bytes: 8 << 20,
            max_services: 10_000,
            max_requests: 64,
            cache: true,
            removal: RemovalConfig::default(),
            delivery: DeliveryConfig::default(),
            consul: None,
            dns: None,
            file: FileConfig::default(),
            environment: EnvironmentConfig::default(),
            snapshot: SnapshotConfig::default(),
        }
    }
}

impl DiscoveryConfig {
    /// The defaults for a document at `url`.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        DiscoveryConfig { url: url.into(), ..DiscoveryConfig::default() }
    }
}

impl DiscoveryConfig {
    /// Whether a source is configured.
    #[must_use]
    pub fn has(&self, kind: SourceKind) -> bool {
        match kind {
            SourceKind::Document => !self.url.is_empty(),
            SourceKind::Consul => self.consul.as_ref().is_some_and(|consul| consul.enabled),
            SourceKind::Dns => self.dns.is_some(),
            SourceKind::File => self.file.path.is_some(),
            SourceKind::Environment => self.environment.enabled,
        }
    }

    /// Checks it, sources and all.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let at = At("discovery");
        self.sources("discovery.order", &self.order)?;
        if !self.url.is_empty() {
            let address = Address::parse(&self.url).map_err(|e| at.refuse("url", e.to_string()))?;
            if !address.is_http() {
                return Err(at.refuse("url", "must begin with http:// or https://"));
            }
        }
        for (name, span) in [
            ("ttl", self.ttl),
            ("negative_ttl", self.negative_ttl),
            ("timeout", self.timeout),
            ("backoff", self.backoff),
            ("backoff_max", self.backoff_max),
        ] {
            at.span(name, span)?;
        }
        if self.refresh_ahead >= self.ttl {
            let (ahead, ttl) = (DurationText(self.refresh_ahead), DurationText(self.ttl));
            let reason = format!("{ahead} is not shorter than discovery.ttl of {ttl}");
            return Err(at.refuse("refresh_ahead", reason));
        }
        at.ordered(("backoff", self.backoff), ("backoff_max", self.backoff_max))?;
        if !(64..=1 << 30).contains(&self.max_bytes) {
            return Err(at.refuse("max_bytes", "must be between 64 bytes and 1 GiB"));
        }
        at.within("max_services", self.max_services, 1..=100_000)?;
        at.within("max_requests", self.max_requests, 1..=10_000)?;
        removal::Settings::of(&self.removal, "discovery.removal")?;
        delivery::Settings::of(&self.delivery, "discovery.delivery")?;
        if let Some(consul) = &self.consul {
            consul::Settings::of(consul, "discovery.consul")?;
            watch::Settings::of(&consul.watch, "discovery.consul.watch")?;
        }
        if let Some(dns) = &self.dns {
            dns::Settings::of(dns, "discovery.dns")?;
        }
        if self.file.path.is_some() {
            file::Settings::of(&self.file, "discovery.file")?;
        }
        if self.snapshot.path.is_some() {
            kept::Settings::of(&self.snapshot, "discovery.snapshot")?;
        }
        environment::Settings::of(&self.environment, "discovery.environment").map(drop)
    }

    /// The sources in `order`, or all there are.
    ///
    /// # Errors
    /// None at all, one that is not configured, or one twice; `field` is where the order stands.
    pub(crate) fn sources(
        &self,
        field: &str,
        order: &[SourceKind],
    ) -> Result<Vec<SourceKind>, ConfigError> {
        if order.is_empty() {
            let all: Vec<_> = SourceKind::ALL.into_iter().filter(|kind| self.has(*kind)).collect();
            if all.is_empty() {
                let reason = "\"\" is not an address, and no other source is configured";
                return Err(ConfigError::new("discovery.url", reason));
            }
            return Ok(all);
        }
        for (index, kind) in order.iter().enumerate() {
            let word = kind.word();
            if !self.has(*kind) {
                let reason = format!("names {word}, which is not configured");
                return Err(ConfigError::new(field, reason));
            }
            if order[..index].contains(kind) {
                return Err(ConfigError::new(field, format!("names {word} twice")));
            }
        }
        Ok(order.to_vec())
    }
}

/// How one service is looked up, where that differs from what all have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LookupConfig {
    /// Its sources, in order. Empty, the default: those of [`DiscoveryConfig::order`].
    pub order: Vec<SourceKind>,
    /// What becomes of several answers. `None`: [`DiscoveryConfig::combine`].
    pub combine: Option<Combine>,
    /// The name under which sources know it. `None`: its own.
    pub name: Option<String>,
    /// Consul: only instances with this tag. `None`: as for all.
    pub tag: Option<String>,
    /// Consul: the datacenter that is asked. `None`: as for all.
    pub datacenter: Option<String>,
    /// Consul: reached over Connect. Its instances are sidecars and services that speak it, always
    /// over TLS: they have to prove that they are this service, and are shown who this program is.
    /// Needs `discovery.consul.connect`. No other source is asked. Default `false`.
    pub connect: bool,
}
