//! The configuration as a person writes it: in code, or as `origin.toml`. Plain data with serde.
//! What each policy means is in [`policy`]; checking and compiling is in `check`, what is
//! contradictory between policies in `conflict`, what is only surprising in [`lint`].

pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod cache;
mod check;
pub mod checks;
pub mod classes;
pub mod concurrency;
mod conflict;
pub mod consistency;
pub mod consul;
pub mod delivery;
pub mod discovery;
pub mod dns;
pub mod failover;
pub(crate) mod field;
#[cfg(feature = "toml")]
mod file;
pub mod hedge;
pub mod identity;
pub mod knowledge;
pub mod latency;
pub mod lint;
pub mod log;
pub mod metrics;
pub mod outlier;
pub mod policy;
pub mod presets;
pub mod propagate;
pub mod queue;
pub mod rate;
pub mod redis;
pub mod registrar;
pub mod registration;
pub mod removal;
pub mod retry;
#[cfg(feature = "schema")]
mod schema;
pub mod sources;
pub mod state;
mod storage;
pub mod throttle;
pub mod timeout;
pub mod tokens;
pub mod vault;
pub mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use backoff::{BackoffConfig, Jitter, PushbackRule};
pub use balance::{BalanceConfig, BalanceKind, Match, RouteConfig, SlowStartConfig};
pub use breaker::{BreakerConfig, HalfOpenBy, Mode};
pub use cache::{CacheConfig, CacheEviction, SharedCacheConfig};
pub use check::{ConfigError, Rules, StatusSet, check_service_name};
pub use checks::{CheckKind, ChecksConfig};
pub use classes::{ClassesConfig, FaultClass, MethodClass};
pub use concurrency::{ConcurrencyConfig, ConcurrencyMode, Headroom};
pub use consistency::ConsistencyConfig;
pub use consul::{
    ConnectConfig, Consistency, ConsulConfig, ConsulTlsConfig, InstanceScheme, TemplateConfig,
    TokenSource,
};
pub use delivery::DeliveryConfig;
pub use discovery::{Combine, DiscoveryConfig, LookupConfig};
pub use dns::{DnsConfig, DnsFamily, DnsForm, DnsHost, DnsRecords, DnsScheme, DnsTransport};
pub use failover::{FailoverConfig, OverCap};
pub use hedge::HedgeConfig;
pub use identity::IdentityConfig;
pub use knowledge::{KnowledgeConfig, KnowledgeMode};
pub use latency::LatencyConfig;
pub use lint::Warning;
pub use log::LogConfig;
pub use metrics::{Dialect, MetricsConfig, StatsdLabels};
pub use outlier::OutlierConfig;
pub use policy::{BudgetConfig, DeadlineConfig, Policy, StallConfig};
pub use presets::PRESETS;
pub use propagate::{DeadlineHeader, PropagateConfig, TraceRule};
pub use queue::QueueConfig;
pub use rate::{RateConfig, RateMode};
pub use redis::{RedisConfig, SharedLevelConfig};
pub use registrar::RegistrarConfig;
pub use registration::{
    CheckStatus, ConnectMode, ConsulCheckConfig, ConsulCheckKind, GatewayMode, IdRule, MeshConfig,
    RegistrationConfig,
};
pub use removal::RemovalConfig;
pub use retry::RetryConfig;
pub use sources::{EnvironmentConfig, FileConfig, SnapshotConfig};
pub use state::StateConfig;
pub use storage::StorageConfig;
pub use throttle::ThrottleConfig;
pub use timeout::AdaptiveTimeoutConfig;
pub use tokens::{TokensConfig, TokensMode};
pub use vault::{KvVersion, VaultAuth, VaultConfig, VaultList, VaultRenewConfig};
pub use watch::{WatchBackoff, WatchConfig};

use crate::discovery::Role;

/// Everything a client can be told. [`Default`] is a working configuration without discovery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of every random choice. `None`: the adapter draws one at build.
    pub seed: Option<u64>,
    /// Name of the cluster this program runs in. It is tried first, by its internal address.
    /// `None`: calls start at the primary.
    pub local_cluster: Option<String>,
    /// Where endpoints are looked up. `None`: only configured endpoints exist.
    pub discovery: Option<DiscoveryConfig>,
    /// Policies of every service that does not set its own.
    pub policy: Policy,
    /// Named variants of the policy, for calls that ask for one: deadlines, retries, hedging and
    /// what endpoints are told follow the profile, and the ratio at which the shared budget
    /// pays; what calls share (breakers, counters, limits) stays that of the service.
    pub profiles: BTreeMap<String, Policy>,
    /// Services of which configuration knows something: endpoints, policies, how to look them up.
    pub services: BTreeMap<String, ServiceConfig>,
    /// A Redis that clients share: the second level of what they remember. `None`: none.
    pub redis: Option<RedisConfig>,
    /// How requests to storage are signed. `None`: not at all.
    pub storage: Option<StorageConfig>,
    /// How the client gets its Vault token and keeps it alive. `None`: it uses the one it is given
    /// as it is.
    pub vault: Option<VaultConfig>,
    /// Who this program is, from files. `None`: as the program says, or nobody.
    pub identity: Option<IdentityConfig>,
    /// What is remembered of the answers of every service that does not say otherwise. `None`:
    /// nothing. The service `secrets` is never cached.
    pub cache: Option<CacheConfig>,
    /// How metrics are counted and shown.
    pub metrics: MetricsConfig,
    /// Bounds on what peers may send and on pooled connections.
    pub limits: Limits,
    /// How often a log says the same.
    pub log: LogConfig,
    /// Where what was learnt of endpoints is kept over a restart. A running client keeps to what it
    /// was built with.
    pub state: StateConfig,
}

impl Config {
    /// That of a program on the platform DesignSynapse: its services where the environment says
    /// (`USER_SERVICE_HOST`, … or localhost, see [`EnvironmentConfig`]), and the policies of its
    /// clients (the preset `designsynapse`).
    #[must_use]
    pub fn design_synapse() -> Config {
        let environment = EnvironmentConfig { enabled: true, ..EnvironmentConfig::default() };
        Config {
            discovery: Some(DiscoveryConfig { environment, ..DiscoveryConfig::default() }),
            policy: Policy::preset("designsynapse").unwrap_or_default(),
            ..Config::default()
        }
    }
}

/// One service known by configuration: injected endpoints, own policies, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// Its endpoints. Not empty: this service is never looked up in discovery.
    pub endpoints: Vec<EndpointConfig>,
    /// How it is looked up, where that differs from [`Config::discovery`].
    pub lookup: LookupConfig,
    /// How those who watch it are told of changes, replacing [`DiscoveryConfig::delivery`] as a
    /// whole.
    pub delivery: Option<DeliveryConfig>,
    /// Policies of this service, replacing [`Config::policy`] as a whole.
    pub policy: Option<Policy>,
    /// Whether the application as a whole is unhealthy without it, in
    /// [`Snapshot::health`](crate::snapshot::Snapshot::health). Default `true`.
    pub critical: Option<bool>,
    /// What is remembered of its answers, replacing [`Config::cache`] as a whole.
    pub cache: Option<CacheConfig>,
    /// Named variants of its policy, for calls that ask for one; these win over those of
    /// [`Config::profiles`].
    pub profiles: BTreeMap<String, Policy>,
}

/// One injected endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// `http://host:port` with an optional base path.
    pub address: String,
    /// The cluster it belongs to. Default `static`.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// What that cluster is. The local cluster is recognised by name. Default backup.
    #[serde(default)]
    pub role: Role,
    /// Its share of the calls, where the balancer heeds weights. 0–1 000 000, default 1; one of
    /// weight 0 is used when nobody else is left.
    #[serde(default = "one")]
    pub weight: u32,
    /// What is known about it, for routes: `zone = "a"`, `version = "2"`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn default_cluster() -> String {
    "static".to_owned()
}

impl EndpointConfig {
    /// An endpoint in the cluster `static`.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        EndpointConfig {
            address: address.into(),
            cluster: default_cluster(),
            role: Role::Backup,
            weight: 1,
            metadata: BTreeMap::new(),
        }
    }
}

/// Bounds that protect the program from its peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest response body collected into memory or streamed, in bytes. Default 16 MiB.
    pub body: u64,
    /// Largest response head, in bytes. Default 64 KiB.
    pub head: usize,
    /// Idle connections kept per endpoint. Default 20.
    pub idle_connections: usize,
    /// How long an idle connection is kept. Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 16 << 20,
            head: 64 << 10,
            idle_connections: 20,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests;
