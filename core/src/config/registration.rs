//! What is registered in Consul, as a person writes it. Checking and compiling it is in
//! [`crate::consul::registration`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::consul::InstanceScheme;
use super::policy::optional;
use crate::secret::Secret;

/// How the id of a registration is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IdRule {
    /// `{name}-{address}-{port}`: the same after a restart, so that a registration is replaced
    /// (seed 004).
    #[default]
    HostPort,
    /// `{name}-{instance id}`, by default a new random one per start (seed 003). What a killed
    /// process leaves behind stays until its check has been critical for long enough.
    Uuid,
    /// This one.
    Given(String),
}

/// How a service takes part in Consul Connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectMode {
    /// It does not.
    #[default]
    Off,
    /// It speaks mutual TLS with its own leaf certificate.
    Native,
    /// A proxy beside it does.
    Sidecar,
}

/// Where calls to other datacenters leave this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GatewayMode {
    /// Nothing is said about it.
    #[default]
    Off,
    /// Through the gateway here.
    Local,
    /// Through the gateway there.
    Remote,
    /// Directly.
    None,
}

/// What a service wants of the mesh (003-35). All off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// Whether and how it takes part in Connect.
    pub connect: ConnectMode,
    /// `true`: intentions are written: those of `allow` may call it, nobody else.
    pub intentions: bool,
    /// Services that may call it.
    pub allow: Vec<String>,
    /// Where calls to other datacenters leave this one. The standard has `local`.
    pub gateway: GatewayMode,
}

/// What a check of Consul does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConsulCheckKind {
    /// The agent requests a path: 2xx passes, 429 warns, the rest is critical.
    #[default]
    Http,
    /// The agent connects.
    Tcp,
    /// The agent runs a program on its machine; needs `allow_scripts` here, and at the agent
    /// `enable_script_checks` (`enable_local_script_checks` is for its own files).
    Script,
    /// The agent asks `grpc.health.v1.Health`.
    Grpc,
    /// The service reports to the agent; critical when it has not for `ttl`.
    Ttl,
}

/// The status a check begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Healthy.
    Passing,
    /// It works, and something is wrong.
    Warning,
    /// It does not work.
    Critical,
}

impl CheckStatus {
    /// The word Consul has for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            CheckStatus::Passing => "passing",
            CheckStatus::Warning => "warning",
            CheckStatus::Critical => "critical",
        }
    }
}

/// One check of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConsulCheckConfig {
    /// What is done. Default `http`.
    pub kind: ConsulCheckKind,
    /// Its name, for people. `None`: the kind and the service.
    pub name: Option<String>,
    /// Host that is checked. `None`: the address of the registration, or `localhost` where that
    /// has none. Another host than these is refused unless `elsewhere` is set.
    pub host: Option<String>,
    /// Port that is checked. `None`: that of the service.
    pub port: Option<u16>,
    /// Whether a host other than the registered one may be checked: the agent then sends
    /// requests wherever the registration says. Default `false`.
    pub elsewhere: bool,
    /// HTTP: `http` or `https`. Default `http`.
    pub scheme: InstanceScheme,
    /// HTTP: the path. Default `/health`.
    pub path: String,
    /// HTTP: the method. Default `GET`.
    pub method: String,
    /// HTTP: headers to send, a token for instance; values are not printed, and not written when
    /// the configuration is.
    pub headers: BTreeMap<String, Secret>,
    /// gRPC: the service asked for. Default empty: the server as a whole.
    pub service: String,
    /// gRPC: whether over TLS. Default `false`.
    pub tls: bool,
    /// HTTP and gRPC: the certificate is not verified. Default `false`.
    pub tls_skip_verify: bool,
    /// HTTP: the name the certificate must have; needs Consul 1.9, 1.8 refuses it.
    pub tls_server_name: Option<String>,
    /// Script: the program and its arguments. No shell is involved unless it is named.
    pub args: Vec<String>,
    /// From one check to the next, 1 s – 7 days (Consul raises what is shorter). Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub interval: Duration,
    /// How long one may take; not longer than `interval`. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// TTL: how long a report holds, 1 s – 7 days. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub ttl: Duration,
    /// The registration is removed once the check has been critical for this long, 1 min –
    /// 7 days (Consul raises what is shorter, and looks every 30 s). `None`: never.
    /// Default 1 min.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub deregister_after: Option<Duration>,
    /// What it counts as until it was done once. `None`: critical.
    pub status: Option<CheckStatus>,
}

impl Default for ConsulCheckConfig {
    fn default() -> Self {
        ConsulCheckConfig {
            kind: ConsulCheckKind::Http,
            name: None,
            host: None,
            port: None,
            elsewhere: false,
            scheme: InstanceScheme::Http,
            path: "/health".to_owned(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            service: String::new(),
            tls: false,
            tls_skip_verify: false,
            tls_server_name: None,
            args: Vec::new(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            ttl: Duration::from_secs(30),
            deregister_after: Some(Duration::from_secs(60)),
            status: None,
        }
    }
}

impl ConsulCheckConfig {
    /// The defaults for a check of this kind.
    #[must_use]
    pub fn of(kind: ConsulCheckKind) -> Self {
        ConsulCheckConfig { kind, ..ConsulCheckConfig::default() }
    }
}

/// One service registered at the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationConfig {
    /// Name of the service: a DNS label, `a-z`, `0-9` and inner hyphens, at most 63. Required.
    pub name: String,
    /// How its id is made. Default `host_port`.
    pub id: IdRule,
    /// Where it is reached: host name or IP address. Empty: the address of the agent's node.
    pub address: String,
    /// Its port. Required.
    pub port: u16,
    /// Labels, at most 50 of 1–100 characters.
    pub tags: Vec<String>,
    /// `true`: `service_version`, `service_type` and `environment` are required and an instance
    /// id is made where none is given (003-01). Default `false`.
    pub strict: bool,
    /// Becomes `version` of the metadata.
    pub service_version: Option<String>,
    /// Becomes `type` of the metadata.
    pub service_type: Option<String>,
    /// Becomes `environment` of the metadata.
    pub environment: Option<String>,
    /// Becomes `instance_id` of the metadata.
    pub instance_id: Option<String>,
    /// Becomes `region` of the metadata.
    pub region: Option<String>,
    /// Becomes `zone` of the metadata.
    pub zone: Option<String>,
    /// Becomes `deployment_id` of the metadata.
    pub deployment_id: Option<String>,
    /// Become `capabilities` of the metadata, joined with commas.
    pub capabilities: Vec<String>,
    /// Metadata of its own. An entry with the name of one of those above replaces it.
    pub meta: BTreeMap<String, String>,
    /// Its share of the calls while all checks pass, 1–65535. Default 1.
    pub passing_weight: u32,
    /// Its share of the calls while a check warns, 0–65535. Default 1.
    pub warning_weight: u32,
    /// Its checks, at most 16. Default: one over HTTP.
    pub checks: Vec<ConsulCheckConfig>,
    /// Whether checks may run programs. Default `false`.
    pub allow_scripts: bool,
    /// Whether tags may be changed in the catalogue from outside. Default `false`.
    pub enable_tag_override: bool,
    /// What it wants of the mesh.
    pub mesh: MeshConfig,
}

impl Default for RegistrationConfig {
    fn default() -> Self {
        RegistrationConfig {
            name: String::new(),
            id: IdRule::HostPort,
            address: String::new(),
            port: 0,
            tags: Vec::new(),
            strict: false,
            service_version: None,
            service_type: None,
            environment: None,
            instance_id: None,
            region: None,
            zone: None,
            deployment_id: None,
            capabilities: Vec::new(),
            meta: BTreeMap::new(),
            passing_weight: 1,
            warning_weight: 1,
            checks: vec![ConsulCheckConfig::default()],
            allow_scripts: false,
            enable_tag_override: false,
            mesh: MeshConfig::default(),
        }
    }
}

impl RegistrationConfig {
    /// As the Datapunk standard has it (seed 003): required metadata, a random id, a check on
    /// `localhost` every 30 s. Version, type and environment are still to be set.
    #[must_use]
    pub fn standard(name: impl Into<String>, port: u16) -> Self {
        let check = ConsulCheckConfig {
            host: Some("localhost".to_owned()),
            ..ConsulCheckConfig::default()
        };
        RegistrationConfig {
            name: name.into(),
            id: IdRule::Uuid,
            port,
            strict: true,
            checks: vec![check],
            ..RegistrationConfig::default()
        }
    }

    /// As the Datapunk module has it (seed 004): an id of host and port, a check of that host
    /// every 10 s with a timeout of 5 s.
    #[must_use]
    pub fn module(name: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        let check = ConsulCheckConfig {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            ..ConsulCheckConfig::default()
        };
        RegistrationConfig {
            name: name.into(),
            address: host.into(),
            port,
            checks: vec![check],
            ..RegistrationConfig::default()
        }
    }
}
