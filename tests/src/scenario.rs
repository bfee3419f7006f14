//! Scenarios: what a client meets and what it must make of it, as files in `tests/scenarios`.
//!
//! The same files are played by the simulator in virtual time and by the conformance suite over
//! real sockets. A runner implements [`Stage`] (a handful of plain functions); [`play`] walks
//! through the steps and compares, so the runners cannot drift apart.
//!
//! ```toml
//! name = "local first"
//! proves = ["000-08"]
//! local = "beta"
//!
//! [[clusters]]
//! name = "alpha"
//! role = "primary"
//! endpoints = ["ok", { status = { code = 503 } }]   # one `origin_lab::Mode` per endpoint
//!
//! [[steps]]
//! call = { path = "/x", expect = { status = 200, attempts = 1, path = ["beta"] } }
//!
//! [[steps]]
//! set = { cluster = "alpha", endpoint = 0, mode = "refuse" }
//!
//! [[steps]]
//! advance = "500ms"
//!
//! [[steps]]
//! state = { last_success = true, endpoints = [{ cluster = "beta", breaker = "closed" }] }
//! ```

mod check;
mod play;
mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use origin_core::call::Why;
use origin_core::config::{DiscoveryConfig, EndpointConfig, Limits, Policy, ServiceConfig};
use origin_core::discovery::Role;
use origin_core::snapshot::Health;
use origin_core::{Config, Error};
use origin_lab::Mode;
use serde::{Deserialize, Serialize};

pub use check::{Attempted, Observed};
pub use play::{Stage, play};

/// The service every scenario calls unless it says otherwise.
pub const SERVICE: &str = "billing";

/// One scenario file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a few words.
    pub name: String,
    /// The requirement ids it proves.
    pub proves: Vec<String>,
    /// Where the endpoints come from.
    #[serde(default)]
    pub source: Source,
    /// The cluster the client is in.
    pub local: Option<String>,
    /// The policies, as in `origin.toml`.
    #[serde(default)]
    pub policy: Policy,
    /// The discovery section, as in `origin.toml`; its `url` is filled in by the runner.
    pub discovery: Option<DiscoveryConfig>,
    /// The limits, as in `origin.toml`.
    #[serde(default)]
    pub limits: Limits,
    /// How the discovery server behaves at the start. `"ok"` serves the document.
    #[serde(default)]
    pub registry: Mode,
    /// The clusters in document order.
    pub clusters: Vec<Cluster>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Where the endpoints of the service come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From the discovery document.
    #[default]
    Discovered,
    /// From the configuration; there is a registry, but nobody should ask it.
    Injected,
}

/// One cluster with the endpoints of the service in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// What the document says it is.
    #[serde(default)]
    pub role: Role,
    /// How each of its endpoints behaves at the start.
    pub endpoints: Vec<Mode>,
}

/// One thing that happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Calls are made.
    Call(CallStep),
    /// Endpoints change their behaviour.
    Set(SetStep),
    /// The discovery server changes its behaviour.
    Registry(Mode),
    /// A new document is published.
    Publish(PublishStep),
    /// Time passes: virtual or real, whichever the runner has.
    Advance(#[serde(with = "origin_core::time::text")] Duration),
    /// The state of the client is looked at.
    State(StateStep),
}

/// Calls, and what has to come of every one of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallStep {
    /// The service called.
    #[serde(default = "service")]
    pub service: String,
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// Path and query.
    #[serde(default = "root")]
    pub path: String,
    /// Whether it may be repeated; left out, the method says so.
    pub idempotent: Option<bool>,
    /// Deadline of each call, instead of the policy's.
    #[serde(default, with = "span")]
    pub total: Option<Duration>,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Whether they are begun together instead of one after the other.
    #[serde(default)]
    pub together: bool,
    /// What has to come of each.
    #[serde(default)]
    pub expect: Expect,
}

/// What has to come of a call. What is left out is not looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The status of the answer.
    pub status: Option<u16>,
    /// The kind of the error.
    pub error: Option<ErrorKind>,
    /// The reason within the error, where it carries one.
    pub why: Option<Why>,
    /// Attempts made.
    pub attempts: Option<Count>,
    /// The cluster that gave the answer.
    pub cluster: Option<String>,
    /// The clusters of the attempts, in order.
    pub path: Option<Vec<String>>,
    /// What the last attempt met, as `Outcome` prints it.
    pub last: Option<String>,
    /// Clusters that an error has to name, tried or skipped.
    pub names: Vec<String>,
    /// The call took no less.
    #[serde(with = "span")]
    pub no_sooner: Option<Duration>,
    /// The call took no more. Drivers on real clocks are given a little on top.
    #[serde(with = "span")]
    pub no_later: Option<Duration>,
}

/// A number that is fixed, or has bounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Count {
    /// Exactly this.
    Exactly(u64),
    /// From here to there, both included.
    Within {
        /// The least.
        #[serde(default)]
        at_least: u64,
        /// The most.
        #[serde(default = "endless")]
        at_most: u64,
    },
}

/// The variants of [`Error`] that a scenario can expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // one to one the variants of `Error`, documented there
pub enum ErrorKind {
    Config,
    Request,
    Credential,
    Discovery,
    UnknownService,
    Refused,
    Deadline,
    Exhausted,
    Status,
    Decode,
    TooLarge,
    Body,
    Other,
}

impl ErrorKind {
    /// The kind of `error`.
    #[must_use]
    pub fn of(error: &Error) -> ErrorKind {
        match error {
            Error::Config(_) => ErrorKind::Config,
            Error::Request { .. } => ErrorKind::Request,
            Error::Credential { .. } => ErrorKind::Credential,
            Error::Discovery { .. } => ErrorKind::Discovery,
            Error::UnknownService { .. } => ErrorKind::UnknownService,
            Error::Refused(_) => ErrorKind::Refused,
            Error::Deadline(_) => ErrorKind::Deadline,
            Error::Exhausted(_) => ErrorKind::Exhausted,
            Error::Status { .. } => ErrorKind::Status,
            Error::Decode { .. } => ErrorKind::Decode,
            Error::TooLarge { .. } => ErrorKind::TooLarge,
            Error::Body { .. } => ErrorKind::Body,
            _ => ErrorKind::Other,
        }
    }
}

/// Endpoints change their behaviour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetStep {
    /// Their cluster.
    pub cluster: String,
    /// Only this one of it.
    pub endpoint: Option<usize>,
    /// How they behave from now on.
    pub mode: Mode,
}

/// A new document: the same clusters and addresses with these changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishStep {
    /// New roles; a cluster that is not named keeps its own.
    pub roles: BTreeMap<String, Role>,
    /// Clusters the service is no longer in.
    pub without: BTreeSet<String>,
}

/// The state the client has to show. What is left out is not looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateStep {
    /// Whether the service can be used.
    pub health: Option<Health>,
    /// The cluster that answered last.
    pub active: Option<String>,
    /// Whether there was a success.
    pub last_success: Option<bool>,
    /// Attempts that failed, ever.
    pub failed_attempts: Option<Count>,
    /// Attempts that failed since the last success.
    pub failed_since_success: Option<Count>,
    /// The clusters of `primary`, in order, each endpoint once.
    pub primary: Option<Vec<String>>,
    /// The clusters of `backups`, in order, each endpoint once.
    pub backups: Option<Vec<String>>,
    /// Requests the discovery server has got.
    pub discovery_requests: Option<Count>,
    /// Whether the document is past its time.
    pub stale: Option<bool>,
    /// Notices of a kind, by the snake-case name of their event.
    pub notices: BTreeMap<String, Count>,
    /// Single endpoints.
    pub endpoints: Vec<EndpointState>,
}

/// The state one endpoint has to show.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointState {
    /// Its cluster.
    pub cluster: String,
    /// Which one of it.
    #[serde(default)]
    pub endpoint: usize,
    /// Its breaker: `closed`, `open` or `half_open`.
    pub breaker: Option<String>,
    /// Whether it answered with success before.
    pub last_success: Option<bool>,
    /// Attempts at it that failed.
    pub failed_attempts: Option<Count>,
    /// Requests that have arrived at it, as its server counts them.
    pub requests: Option<Count>,
}

fn service() -> String {
    SERVICE.to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn one() -> u32 {
    1
}

fn endless() -> u64 {
    u64::MAX
}

impl Scenario {
    /// Reads and validates a scenario.
    ///
    /// # Errors
    /// What is wrong with it, for the person who wrote it.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|e| e.to_string())?;
        scenario.validate()?;
        Ok(scenario)
    }

    fn validate(&self) -> Result<(), String> {
        if self.proves.is_empty() || self.steps.is_empty() || self.clusters.is_empty() {
            return Err("a scenario has clusters, steps, and proves something".to_owned());
        }
        let known = |name: &str| self.clusters.iter().any(|cluster| cluster.name == name);
        let mut names: Vec<&str> = Vec::new();
        for step in &self.steps {
            match step {
                Step::Call(CallStep { expect, count, method, .. }) => {
                    if expect.status.is_some() == expect.error.is_some() {
                        return Err(format!("expect a status or an error: {step:?}"));
                    }
                    if *count == 0 || method.parse::<http::Method>().is_err() {
                        return Err(format!("not a call: {step:?}"));
                    }
                    names.extend(expect.cluster.iter().map(String::as_str));
                    names.extend(expect.path.iter().flatten().map(String::as_str));
                    names.extend(expect.names.iter().map(String::as_str));
                }
                Step::Set(set) => {
                    names.push(&set.cluster);
                    self.endpoint(&set.cluster, set.endpoint.unwrap_or(0))?;
                }
                Step::Publish(publish) => {
                    names.extend(publish.roles.keys().map(String::as_str));
                    names.extend(publish.without.iter().map(String::as_str));
                }
                Step::Advance(span) if *span > Duration::from_secs(3) => {
                    return Err(format!("{span:?} is too long to wait on a real clock"));
                }
                Step::State(state) => {
                    for endpoint in &state.endpoints {
                        self.endpoint(&endpoint.cluster, endpoint.endpoint)?;
                    }
                }
                Step::Registry(_) | Step::Advance(_) => (),
            }
        }
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("there is no cluster {name:?}")),
            None => self
                .config("http://registry.invalid/", &|_, _| "http://x.invalid".to_owned())
                .check()
                .map_err(|e| e.to_string()),
        }
    }

    fn endpoint(&self, cluster: &str, index: usize) -> Result<(), String> {
        let found = self.clusters.iter().find(|c| c.name == cluster);
        match found.and_then(|c| c.endpoints.get(index)) {
            Some(_) => Ok(()),
            None => Err(format!("there is no endpoint {index} in {cluster:?}")),
        }
    }

    /// The configuration of the client, once the runner knows the addresses.
    #[must_use]
    pub fn config(&self, registry: &str, address: &dyn Fn(&str, usize) -> String) -> Config {
        let mut services = BTreeMap::new();
        if self.source == Source::Injected {
            let endpoints = self.clusters.iter().flat_map(|cluster| {
                (0..cluster.endpoints.len()).map(|index| EndpointConfig {
                    address: address(&cluster.name, index),
                    cluster: cluster.name.clone(),
                    role: cluster.role,
                    ..EndpointConfig::at("")
                })
            });
            let config =
                ServiceConfig { endpoints: endpoints.collect(), ..ServiceConfig::default() };
            services.insert(SERVICE.to_owned(), config);
        }
        let discovery = self.discovery.clone().unwrap_or_default();
        Config {
            seed: Some(seed_of(&self.name)),
            local_cluster: self.local.clone(),
            discovery: Some(DiscoveryConfig { url: registry.to_owned(), ..discovery }),
            policy: self.policy.clone(),
            services,
            limits: self.limits.clone(),
            ..Config::default()
        }
    }

    /// The discovery document after `publish`, with clusters in the order of the scenario. The
    /// local cluster is also given its internal addresses, as a real document has them.
    #[must_use]
    pub fn document(
        &self,
        publish: &PublishStep,
        address: &dyn Fn(&str, usize) -> String,
    ) -> String {
        let clusters: Vec<_> = self
            .clusters
            .iter()
            .map(|c| {
                let role = publish.roles.get(&c.name).copied().unwrap_or(c.role);
                serde_json::json!({ "name": c.name, "role": role })
            })
            .collect();
        let places: BTreeMap<&str, Vec<String>> = self
            .clusters
            .iter()
            .filter(|c| !publish.without.contains(&c.name))
            .map(|c| {
                (c.name.as_str(), (0..c.endpoints.len()).map(|n| address(&c.name, n)).collect())
            })
            .collect();
        serde_json::json!({
            "version": "1.0",
            "clusters": clusters,
            "services": { SERVICE: { "endpoints": places, "internal_endpoints": places } },
        })
        .to_string()
    }
}

/// A fixed seed, different from scenario to scenario.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Reads every scenario of `tests/scenarios`, in order of their file names.
///
/// # Errors
/// The file and what is wrong with it.
pub fn load_all() -> Result<Vec<(PathBuf, Scenario)>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
        match text.and_then(|text| Scenario::parse(&text)) {
            Ok(scenario) => Ok((path, scenario)),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    };
    files.into_iter().map(read).collect()
}
