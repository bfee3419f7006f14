//! Consul as a person writes it: where the agents are, with which tokens they are asked, and how.
//! What is done with it is in [`crate::consul`]; registering is in [`super::registration`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::optional;
use super::{ConfigError, ConsistencyConfig, RegistrarConfig, WatchConfig};
use crate::identity::files;
use crate::redis::server::{check_host, port_of};
use crate::secret::Secret;

/// Where the agent is unless somebody says.
const URL: &str = "http://consul:8500";

/// How consistent an answer of Consul has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// The leader answers; for an instant after an election an old leader may.
    #[default]
    Default,
    /// Any server answers, leader or not: works without a leader, `max_stale` bounds its age.
    Stale,
    /// The leader answers after asking a quorum: one more round trip.
    Consistent,
    /// The agent answers from its own cache, at most `max_age` old.
    Cached,
}

/// How instances are called that do not say it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InstanceScheme {
    /// `http`.
    #[default]
    Http,
    /// `https`.
    Https,
}

impl InstanceScheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            InstanceScheme::Http => "http",
            InstanceScheme::Https => "https",
        }
    }
}

/// Where a token comes from: `{ env = "CONSUL_HTTP_TOKEN" }` or `{ text = "…" }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The token itself. It is not printed, and not written when the configuration is.
    Text(Secret),
    /// Name of the environment variable that holds it; read once, when the client is built.
    Env(String),
}

/// Files for TLS towards the agents. Used for `https` URLs only; the host name of the agent is
/// always verified (003-46).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConsulTlsConfig {
    /// Certificates of the authority, PEM. Default `/etc/consul/ca.pem`; empty: whom the client
    /// trusts for services vouches for agents, too.
    pub ca: String,
    /// Certificate of this client, PEM. Default `/etc/consul/cert.pem`; empty with `key` for
    /// none.
    pub cert: String,
    /// Its key, PEM. Default `/etc/consul/key.pem`.
    pub key: String,
    /// From one look at the files to the next, 100 ms – 7 days. Default 30 s. What has changed, and
    /// is still the same a second later, is put in force while the client runs.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub poll: Duration,
}

impl Default for ConsulTlsConfig {
    fn default() -> Self {
        ConsulTlsConfig {
            ca: "/etc/consul/ca.pem".to_owned(),
            cert: "/etc/consul/cert.pem".to_owned(),
            key: "/etc/consul/key.pem".to_owned(),
            poll: Duration::from_secs(30),
        }
    }
}

impl ConsulTlsConfig {
    /// The files as they are watched.
    ///
    /// # Errors
    /// The first field that cannot be meant; this stands at `path`.
    pub fn files(&self, path: &str) -> Result<files::Settings, ConfigError> {
        files::Settings::of([&self.ca, &self.cert, &self.key], self.poll, path)
    }
}

/// Connect: who this program is in the mesh. Its roots and its certificate are read from the agent
/// and watched, for services looked up with `lookup.connect = true`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConnectConfig {
    /// Whether the certificates are asked for at all. Default `false`.
    pub enabled: bool,
    /// The service that this program is: its certificate is shown to others, and intentions are
    /// about it. Required when enabled; the service token needs `service:write` for it.
    pub service: String,
    /// A certificate that has no successor this long before it expires is warned of, once; a tenth
    /// of its life if that is shorter. 1 s – 7 days. Default 1 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub warning: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        ConnectConfig {
            enabled: false,
            service: String::new(),
            warning: Duration::from_secs(3_600),
        }
    }
}

/// One file rendered from a template (003-17).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TemplateConfig {
    /// Path of the template. Required.
    pub source: String,
    /// Path of the file that is written, as a whole and for this user alone. Required.
    pub destination: String,
    /// From one rendering to the next, 1 s – 7 days. Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub period: Duration,
}

impl Default for TemplateConfig {
    fn default() -> Self {
        TemplateConfig {
            source: String::new(),
            destination: String::new(),
            period: Duration::from_secs(60),
        }
    }
}

/// Services found in Consul.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConsulConfig {
    /// `false`: Consul is not asked. Default `true`.
    pub enabled: bool,
    /// Base URLs of agents, at most 16; the next one is asked when one fails.
    /// Default `["http://consul:8500"]`.
    pub urls: Vec<String>,
    /// `true`: `CONSUL_HOST` and `CONSUL_PORT` of the environment say where the agent is while
    /// `urls` is not written, and `CONSUL_DC` the datacenter while `datacenter` is not. What is
    /// written wins; read once, when the client is built. Default `false`.
    pub environment: bool,
    /// Token for what concerns the agent and the cluster: agent self, members, maintenance of
    /// the node; writing config entries, intentions and policies. `None`: `service_token`.
    pub agent_token: Option<TokenSource>,
    /// Token for what concerns services: registering them, finding them, their keys and
    /// certificates. `None`: anonymous.
    pub service_token: Option<TokenSource>,
    /// The datacenter that is asked. `None`: that of the agent.
    pub datacenter: Option<String>,
    /// Datacenters to fall back to, in this order, at most 16; their instances are used when
    /// those before have none that can be called.
    pub fallback_datacenters: Vec<String>,
    /// Only instances with all of these tags, at most 16.
    pub tags: Vec<String>,
    /// Only instances that this filter expression of Consul accepts, at most 2048 bytes.
    pub filter: Option<String>,
    /// Sorts instances by round-trip time from this node; `_agent` is the agent's own.
    pub near: Option<String>,
    /// How consistent answers have to be. Default `default`.
    pub consistency: Consistency,
    /// Oldest answer of a server without contact to the leader that is still taken, with
    /// `stale`. Default 5 min.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_stale: Duration,
    /// Oldest answer that the agent may give from its cache, with `cached`. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_age: Duration,
    /// How much older than `max_age` it may be while the servers cannot be reached, with
    /// `cached`. `None`: no older.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub stale_if_error: Option<Duration>,
    /// `true`: only instances all of whose checks pass. `false`: the others too, with their
    /// condition, for when no better one is left. Default `true`.
    pub passing_only: bool,
    /// How changes are waited for: blocking queries, or plain ones now and then.
    pub watch: WatchConfig,
    /// Blocking queries that agents hold back for this client at the same time, 0-10 000; what is
    /// looked up beyond is asked plainly, once per `watch.poll`. An agent closes connections of one
    /// address beyond `http_max_conns_per_client`, 200 unless it is told otherwise. Default 100.
    pub max_watches: u32,
    /// Deadline of one request, for a blocking one on top of its wait. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// How instances are called whose metadata names neither `scheme` nor `protocol`.
    /// Default `http`.
    pub scheme: InstanceScheme,
    /// Key of the metadata that holds an instance's health path; a value that does not begin
    /// with `/` is left out. Default `health`; empty for none.
    pub health_meta: String,
    /// Largest reply, in bytes, 1 KiB – 1 GiB. Default 64 MiB.
    pub max_bytes: usize,
    /// Certificates for `https` agents.
    pub tls: ConsulTlsConfig,
    /// Who this program is in the mesh. Off.
    pub connect: ConnectConfig,
    /// Whether `service-defaults`, `service-resolver` and `proxy-defaults` are followed: what they
    /// say of time-outs holds wherever this configuration says nothing. Default `false`.
    pub defaults: bool,
    /// Files rendered from what Consul knows, at most 64.
    pub templates: Vec<TemplateConfig>,
    /// How own registrations are made, renewed and taken back.
    pub registrar: RegistrarConfig,
    /// Checks against a cluster that fell apart, and against a cache of another time. Both off.
    pub verify: ConsistencyConfig,
}

impl Default for ConsulConfig {
    fn default() -> Self {
        ConsulConfig {
            enabled: true,
            urls: vec![URL.to_owned()],
            environment: false,
            agent_token: None,
            service_token: None,
            datacenter: None,
            fallback_datacenters: Vec::new(),
            tags: Vec::new(),
            filter: None,
            near: None,
            consistency: Consistency::Default,
            max_stale: Duration::from_secs(300),
            max_age: Duration::from_secs(30),
            stale_if_error: None,
            passing_only: true,
            watch: WatchConfig::default(),
            max_watches: 100,
            timeout: Duration::from_secs(10),
            scheme: InstanceScheme::Http,
            health_meta: "health".to_owned(),
            max_bytes: 64 << 20,
            tls: ConsulTlsConfig::default(),
            connect: ConnectConfig::default(),
            defaults: false,
            templates: Vec::new(),
            registrar: RegistrarConfig::default(),
            verify: ConsistencyConfig::default(),
        }
    }
}

impl ConsulConfig {
    /// The defaults for an agent at `url`.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        ConsulConfig { urls: vec![url.into()], ..ConsulConfig::default() }
    }

    /// As the Datapunk standard has it (seed 003): waits of 300 s, `CONSUL_HOST`, `CONSUL_PORT`
    /// and `CONSUL_DC`.
    #[must_use]
    pub fn standard() -> Self {
        let watch = WatchConfig::standard();
        ConsulConfig { watch, environment: true, ..ConsulConfig::default() }
    }

    /// As the Datapunk module has it (seed 004): waits of 30 s, the same variables.
    #[must_use]
    pub fn module() -> Self {
        let watch = WatchConfig::module(Duration::from_secs(30));
        ConsulConfig { watch, environment: true, ..ConsulConfig::default() }
    }

    /// With what the environment says, where it is asked for; `path` is where this stands. An
    /// empty variable counts as unset.
    ///
    /// # Errors
    /// A variable that is not a host, a port or a datacenter, by its name and the field it fills.
    pub fn surrounded(
        &self,
        path: &str,
        mut variable: impl FnMut(&str) -> Option<String>,
    ) -> Result<ConsulConfig, ConfigError> {
        let mut config = self.clone();
        if !config.enabled || !config.environment {
            return Ok(config);
        }
        let mut read = |name: &str| {
            let text = variable(name)?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let bad = |field: &str, name: &str, why: &str| {
            Err(ConfigError::new(format!("{path}.{field} (by {name})"), why))
        };
        if config.urls == [URL] {
            let (host, port) = (read("CONSUL_HOST"), read("CONSUL_PORT"));
            let mut shown = host.unwrap_or_else(|| "consul".to_owned());
            let inner = shown.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            let inner = inner.unwrap_or(&shown);
            if inner.parse::<core::net::Ipv6Addr>().is_ok() {
                shown = format!("[{inner}]");
            } else if check_host(&shown).is_err() {
                return bad("urls", "CONSUL_HOST", "is not a host name or address");
            }
            let port = match port.as_deref().map(port_of) {
                None => 8500,
                Some(Some(port)) => port,
                Some(None) => {
                    return bad("urls", "CONSUL_PORT", "is not a number between 1 and 65535");
                }
            };
            config.urls = vec![format!("http://{shown}:{port}")];
        }
        if config.datacenter.is_none()
            && let Some(name) = read("CONSUL_DC")
        {
            if let Err(why) = crate::consul::name::datacenter(&name) {
                return bad("datacenter", "CONSUL_DC", why);
            }
            config.datacenter = Some(name);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(config: &ConsulConfig, set: &[(&str, &str)]) -> Result<ConsulConfig, ConfigError> {
        config.surrounded("discovery.consul", |name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// Contracts \u{a7}6.3.
    #[test]
    fn the_environment_says_where_consul_is_unless_it_is_written() {
        let standard = ConsulConfig::standard();
        for (host, port, url) in [
            ("", "", "http://consul:8500"),
            ("c1", "", "http://c1:8500"),
            (" ", "28500", "http://consul:28500"),
            ("10.0.0.7", " 7 ", "http://10.0.0.7:7"),
            ("::1", "1", "http://[::1]:1"),
            ("[::1]", "1", "http://[::1]:1"),
        ] {
            let set = [("CONSUL_HOST", host), ("CONSUL_PORT", port), ("CONSUL_DC", "dc1")];
            let config = with(&standard, &set).unwrap();
            assert_eq!(
                (&config.urls[..], config.datacenter.as_deref()),
                (&[url.to_owned()][..], Some("dc1"))
            );
            crate::consul::Settings::of(&config, "c").unwrap();
            let module = with(&ConsulConfig::module(), &set).unwrap();
            assert_eq!(module.urls, [url]);
            // Not asked for; what is written wins.
            assert_eq!(with(&ConsulConfig::default(), &set).unwrap(), ConsulConfig::default());
            let written = ConsulConfig {
                environment: true,
                datacenter: Some("mine".to_owned()),
                ..ConsulConfig::at("http://written:1")
            };
            assert_eq!(with(&written, &set).unwrap(), written);
        }
        assert_eq!(with(&standard, &[]).unwrap(), standard);
    }

    #[test]
    fn a_bad_variable_is_refused_by_its_name() {
        let standard = ConsulConfig::standard();
        for (name, value) in [
            ("CONSUL_PORT", "0"),
            ("CONSUL_PORT", "x"),
            ("CONSUL_PORT", "65536"),
            ("CONSUL_PORT", "8500/"),
            ("CONSUL_HOST", "a:1"),
            ("CONSUL_HOST", "http://a"),
            ("CONSUL_HOST", "u:planted@a"),
            ("CONSUL_DC", "a/b"),
            ("CONSUL_DC", "two words"),
        ] {
            let error = with(&standard, &[(name, value)]).unwrap_err();
            assert!(error.field.starts_with("discovery.consul."), "{error}");
            assert!(error.field.contains(name), "{error}");
            assert!(!error.to_string().contains("planted"), "{error}");
            let off = ConsulConfig { enabled: false, ..standard.clone() };
            assert!(with(&off, &[(name, value)]).is_ok());
        }
    }
}
