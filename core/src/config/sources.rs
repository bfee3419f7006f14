//! Discovery sources of the program's own surroundings as a person writes them: the environment,
//! a file, and the snapshot that survives a restart. The machines are
//! [`crate::discovery::environment`], [`crate::discovery::file`] and [`crate::discovery::kept`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Services by environment variables: `USER_SERVICE_HOST`, `_PORT`, `_PROTOCOL` or `_URL`. Off by
/// default: its defaults are addresses on localhost, which nobody should call by surprise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// Whether the environment is a source at all. Default `false`.
    pub enabled: bool,
    /// Whether a service of the built-in registry of which no variable is set is at its default
    /// (`localhost` and the port of the table). `false`: it is registered only if its `_HOST` or
    /// `_URL` is set. Default `true`.
    pub defaults: bool,
    /// Whether services beyond the built-in registry are taken from any pair
    /// `<NAME>_SERVICE_HOST` and `<NAME>_SERVICE_PORT`, as Kubernetes sets them. Default `false`.
    pub scan: bool,
    /// Base path of the built-in services. Empty for none. Default `/api/v1`.
    pub prefix: String,
    /// Base path of the services that only `scan` found. Default empty.
    pub scan_prefix: String,
    /// Path of the health check, at the host and not below the base path. Default `/health`.
    pub health: String,
    /// Path of the readiness check, likewise. Default `/ready`.
    pub ready: String,
    /// The cluster that these instances belong to. Default `environment`.
    pub cluster: String,
}

impl Default for EnvironmentConfig {
    fn default() -> Self {
        EnvironmentConfig {
            enabled: false,
            defaults: true,
            scan: false,
            prefix: "/api/v1".to_owned(),
            scan_prefix: String::new(),
            health: "/health".to_owned(),
            ready: "/ready".to_owned(),
            cluster: "environment".to_owned(),
        }
    }
}

/// Services by a file, read again when it changes: the Origin document as JSON, or a list as TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// The file. One that ends in `.json` or `.toml` is read as that, any other by its first
    /// character. Default `None`: no file.
    pub path: Option<String>,
    /// From one look at the file to the next, 10 ms – 7 days. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub poll: Duration,
    /// A new content counts when it is still the same this much later, so that a file that is
    /// just being written is not taken for a short one. Not longer than `poll`; zero: at once.
    /// Default 200 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub settle: Duration,
    /// Largest file accepted, in bytes, 64 – 2³⁰. Default 8 MiB.
    pub max_bytes: usize,
}

impl Default for FileConfig {
    fn default() -> Self {
        FileConfig {
            path: None,
            poll: Duration::from_secs(5),
            settle: Duration::from_millis(200),
            max_bytes: 8 << 20,
        }
    }
}

/// What discovery knows, kept in a file of this program, so that a start while no source answers
/// still finds its services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotConfig {
    /// The file; the directory must exist and be writable. Default `None`: nothing is kept.
    pub path: Option<String>,
    /// At least this long from one write to the next, 1 s – 7 days. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub every: Duration,
    /// The file is written again after this long though nothing changed, so that what is still
    /// right does not grow old in it. At least `every`, at most half of `max_age`. Default 1 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub refresh: Duration,
    /// A snapshot, or a service in it, older than this is not used. 1 min – 365 days.
    /// Default 24 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_age: Duration,
    /// How far in the future a snapshot may seem to have been written: clocks differ.
    /// 0 – 7 days. Default 5 min.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub skew: Duration,
    /// Largest snapshot written or read, in bytes, 1 KiB – 1 GiB. Default 64 MiB.
    pub max_bytes: usize,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        SnapshotConfig {
            path: None,
            every: Duration::from_secs(10),
            refresh: Duration::from_secs(3_600),
            max_age: Duration::from_secs(24 * 3_600),
            skew: Duration::from_secs(300),
            max_bytes: 64 << 20,
        }
    }
}
