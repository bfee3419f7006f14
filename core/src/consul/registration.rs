//! What is registered: identity, metadata, weights, checks, mesh (003-01…10, 004-15…20,
//! 004-80…83). Everything is checked before anything is sent, with the field named; the agent
//! would take names, ports and metadata with which the service cannot be found.
//!
//! Where the seeds disagree: the id is that of seed 004 by default, since one that changes with
//! every start (seed 003, `id = "uuid"`) leaves ghosts behind until their checks give up. The
//! random part is new for every registration, and comes in as an argument. Custom metadata wins
//! over the declared one, as in the sample of seed 003.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::check;
use super::name::{self, ServiceName};
use crate::config::field::At;
use crate::config::{
    ConfigError, ConnectMode, ConsulCheckKind, GatewayMode, IdRule, RegistrationConfig,
};

/// Most pairs of metadata that Consul takes.
pub const MOST_PAIRS: usize = 64;
/// Longest key of metadata, in bytes.
pub const LONGEST_KEY: usize = 128;
/// Longest value of metadata, in bytes.
pub const LONGEST_VALUE: usize = 512;

/// A checked registration, ready to be sent.
///
/// ```
/// use origin_core::config::RegistrationConfig;
/// use origin_core::consul::Registration;
///
/// let mut config = RegistrationConfig::module("api", "api.local", 8080);
/// config.tags = vec!["v1".into(), "production".into()];
/// config.meta.insert("version".into(), "1.0.0".into());
/// let random = [7; 16]; // for ids and instance ids that are made up
/// let api = Registration::of(&config, "consul.register", random).unwrap();
/// assert_eq!(&**api.id(), "api-api.local-8080");
///
/// config.name = "../api".into();
/// let refused = Registration::of(&config, "consul.register", random).unwrap_err();
/// assert_eq!(refused.field, "consul.register.name");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    id: Arc<str>,
    name: ServiceName,
    checks: Vec<Arc<str>>,
    beats: Vec<(Arc<str>, Duration)>,
    body: Bytes,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    port: u16,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    weights: Weights,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a check::Body>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [check::Body]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

impl Registration {
    /// Checks `config` and compiles it; `path` is where it stands, for the error. `random` is
    /// used where an instance id is made up and must be fresh for every call.
    ///
    /// # Errors
    /// The first field that is missing, out of range or not allowed.
    pub fn of(
        config: &RegistrationConfig,
        path: &str,
        random: [u8; 16],
    ) -> Result<Registration, ConfigError> {
        let at = At(path);
        let name = ServiceName::new(&config.name).map_err(|e| at.refuse("name", e.to_string()))?;
        if !config.address.is_empty() {
            let unspecified =
                config.address.parse::<core::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
            if name::host(&config.address).is_none() || unspecified {
                return Err(
                    at.refuse("address", "is neither a host name nor the IP address of one host")
                );
            }
        }
        if config.port == 0 {
            return Err(at.refuse("port", "must be between 1 and 65535"));
        }
        at.within("tags", config.tags.len(), 0..=50)?;
        for (index, tag) in config.tags.iter().enumerate() {
            name::tag(tag).map_err(|reason| at.refuse(format!("tags[{index}]"), reason))?;
        }
        at.within("passing_weight", config.passing_weight, 1..=65_535)?;
        at.within("warning_weight", config.warning_weight, 0..=65_535)?;
        let made = uuid(random);
        let instance_id = config.instance_id.as_deref().filter(|id| !id.is_empty());
        let id = match &config.id {
            IdRule::Uuid => format!("{name}-{}", instance_id.unwrap_or(&made)),
            IdRule::Given(id) => id.clone(),
            IdRule::HostPort if config.address.is_empty() => {
                return Err(at.refuse("id", "host_port needs an address; set one, or another id"));
            }
            IdRule::HostPort => format!("{name}-{}-{}", config.address, config.port),
        };
        name::id(&id).map_err(|reason| at.refuse("id", reason))?;
        let makes = config.strict || config.id == IdRule::Uuid;
        let instance_id = instance_id.or(makes.then_some(&*made));
        let meta = metadata(config, instance_id, at)?;
        let id: Arc<str> = id.into();
        let mut checks = Vec::with_capacity(config.checks.len());
        at.within("checks", config.checks.len(), 0..=16)?;
        for (index, check) in config.checks.iter().enumerate() {
            // The ids the agent would give them itself.
            let check_id = match config.checks.len() {
                1 => format!("service:{id}"),
                _ => format!("service:{id}:{}", index + 1),
            };
            checks.push(check::body(
                check,
                config,
                check_id.into(),
                &format!("{path}.checks[{index}]"),
            )?);
        }
        let body = Body {
            id: &id,
            name: name.as_str(),
            address: &config.address,
            port: config.port,
            tags: &config.tags,
            meta: &meta,
            weights: Weights { passing: config.passing_weight, warning: config.warning_weight },
            enable_tag_override: config.enable_tag_override,
            check: checks.first().filter(|_| checks.len() == 1),
            checks: (checks.len() > 1).then_some(&checks),
            connect: connect(config),
        };
        let body = serde_json::to_vec(&body)
            .map_err(|_| at.refuse("name", "cannot be written as JSON"))?;
        let beats =
            checks.iter().zip(&config.checks).filter(|(_, c)| c.kind == ConsulCheckKind::Ttl);
        Ok(Registration {
            beats: beats.map(|(body, config)| (body.id.clone(), config.ttl)).collect(),
            checks: checks.iter().map(|check| check.id.clone()).collect(),
            id,
            name,
            body: body.into(),
        })
    }

    /// Its id at the agent.
    #[must_use]
    pub const fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The service it is an instance of.
    #[must_use]
    pub const fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The ids of its checks.
    #[must_use]
    pub fn checks(&self) -> &[Arc<str>] {
        &self.checks
    }

    /// The checks it has to report to itself, with how long a report holds.
    #[must_use]
    pub fn beats(&self) -> &[(Arc<str>, Duration)] {
        &self.beats
    }

    /// The JSON that is sent. May contain the tokens of check headers.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Without the body: headers of checks may be secrets.
impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registration { id, name, checks, .. } = self;
        f.debug_struct("Registration")
            .field("id", id)
            .field("name", name)
            .field("checks", checks)
            .finish_non_exhaustive()
    }
}

/// The mode word of a mesh gateway; `None` when nothing is to be said.
pub(super) const fn gateway(mode: GatewayMode) -> Option<&'static str> {
    match mode {
        GatewayMode::Off => None,
        GatewayMode::Local => Some("local"),
        GatewayMode::Remote => Some("remote"),
        GatewayMode::None => Some("none"),
    }
}

fn connect(config: &RegistrationConfig) -> Option<Value> {
    match config.mesh.connect {
        ConnectMode::Off => None,
        ConnectMode::Native => Some(json!({ "Native": true })),
        ConnectMode::Sidecar => Some(match gateway(config.mesh.gateway) {
            None => json!({ "SidecarService": {} }),
            Some(mode) => {
                json!({ "SidecarService": { "Proxy": { "MeshGateway": { "Mode": mode } } } })
            }
        }),
    }
}

/// The metadata of a registration: the declared part, then the custom one over it.
fn metadata(
    config: &RegistrationConfig,
    instance_id: Option<&str>,
    at: At<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut meta = BTreeMap::new();
    let declared = [
        ("service_version", "version", config.service_version.as_deref(), true),
        ("service_type", "type", config.service_type.as_deref(), true),
        ("environment", "environment", config.environment.as_deref(), true),
        ("instance_id", "instance_id", instance_id, false),
        ("region", "region", config.region.as_deref(), false),
        ("zone", "zone", config.zone.as_deref(), false),
        ("deployment_id", "deployment_id", config.deployment_id.as_deref(), false),
    ];
    for (field, key, value, required) in declared {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => {
                check_value(value).map_err(|reason| at.refuse(field, reason))?;
                meta.insert(key.to_owned(), value.to_owned());
            }
            None if required && config.strict => {
                return Err(at.refuse(field, "is required metadata; set it, or strict = false"));
            }
            None => {}
        }
    }
    if config.capabilities.iter().any(|one| one.is_empty() || one.contains(',')) {
        return Err(at.refuse(
            "capabilities",
            "are joined with commas; one must not be empty or contain one",
        ));
    }
    if !config.capabilities.is_empty() {
        let joined = config.capabilities.join(",");
        check_value(&joined).map_err(|reason| at.refuse("capabilities", reason))?;
        meta.insert("capabilities".to_owned(), joined);
    }
    for (key, value) in &config.meta {
        let shown: String = key.chars().take(64).collect();
        check_key(key).map_err(|reason| at.refuse("meta", format!("key {shown:?} {reason}")))?;
        check_value(value).map_err(|reason| at.refuse(format!("meta.{key}"), reason))?;
        meta.insert(key.clone(), value.clone());
    }
    if meta.len() > MOST_PAIRS {
        let reason = format!("{} pairs in all; Consul takes {MOST_PAIRS}", meta.len());
        return Err(at.refuse("meta", reason));
    }
    Ok(meta)
}

fn check_key(key: &str) -> Result<(), &'static str> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    match key {
        "" => Err("is empty"),
        _ if key.len() > LONGEST_KEY => Err("has more than 128 characters"),
        _ if !key.bytes().all(fine) => Err("consists of letters, digits, '-' and '_'"),
        _ if key.to_ascii_lowercase().starts_with("consul-") => {
            Err("is reserved for Consul itself")
        }
        _ => Ok(()),
    }
}

fn check_value(value: &str) -> Result<(), &'static str> {
    match value {
        _ if value.len() > LONGEST_VALUE => Err("has more than 512 bytes"),
        _ if value.chars().any(char::is_control) => Err("has control characters"),
        _ => Ok(()),
    }
}

/// A random UUID (RFC 9562, version 4) of 16 random bytes.
#[must_use]
pub fn uuid(random: [u8; 16]) -> String {
    let mut bits = u128::from_be_bytes(random);
    bits = bits & !(0xf << 76) | 0x4 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("");
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests;
