//! Health queries: the instances of a service with their condition (003-15, 003-19, 003-22).
//!
//! The traps of the reply (contracts §5.1) are settled here: an empty service address means that
//! of the node, `null` means empty, checks of the node count, IPv6 addresses get brackets, and
//! service ids are unique on a node only. An instance that cannot be called (port 0 or beyond
//! 65535, an address that is none) is left out and counted instead of spoiling the list.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::ConsulError;
use super::name::ServiceName;
use super::settings::Settings;
use super::wire::{Api, Cursor, Many, Query, open, or_empty, or_empty_map};
use crate::address::Address;
use crate::config::InstanceScheme;
use crate::discovery::{Condition, Instance, Role};

/// What is asked about a service.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The service.
    pub name: &'a ServiceName,
    /// The datacenter, if another than that of the settings.
    pub datacenter: Option<&'a str>,
    /// A tag, besides those of the settings.
    pub tag: Option<&'a str>,
    /// Where a blocking query goes on.
    pub cursor: Option<Cursor>,
    /// Instances reached over Connect instead: sidecars and services that speak it.
    pub connect: bool,
}

impl<'a> Lookup<'a> {
    /// A lookup as the settings have it, not blocking.
    #[must_use]
    pub const fn of(name: &'a ServiceName) -> Lookup<'a> {
        Lookup { name, datacenter: None, tag: None, cursor: None, connect: false }
    }
}

/// `GET /v1/health/service/{name}`, or `/v1/health/connect/{name}`.
///
/// # Errors
/// A tag or datacenter that cannot be one.
pub fn request(api: &Api<'_>, lookup: &Lookup<'_>) -> Result<Request<Bytes>, ConsulError> {
    if let Some(name) = lookup.datacenter {
        super::name::datacenter(name).map_err(|reason| ConsulError::field("datacenter", reason))?;
    }
    if let Some(tag) = lookup.tag {
        super::name::tag(tag).map_err(|reason| ConsulError::field("tag", reason))?;
    }
    let settings = api.settings;
    let mut query = Query::default();
    if settings.passing_only {
        query.flag("passing");
    }
    for tag in &settings.tags {
        query.pair("tag", tag);
    }
    query.maybe("tag", lookup.tag);
    query.maybe("filter", settings.filter.as_deref());
    query.maybe("near", settings.near.as_deref());
    let kind = if lookup.connect { "connect" } else { "service" };
    api.read(&format!("/v1/health/{kind}/{}", lookup.name), query, lookup.datacenter, lookup.cursor)
}

/// The instances of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Those that can be called, in the order of Consul.
    pub instances: Vec<Instance>,
    /// How many were left out because they cannot be.
    pub left_out: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw<'a> {
    #[serde(borrow)]
    node: Node<'a>,
    #[serde(borrow)]
    service: Service<'a>,
    #[serde(default)]
    checks: Checks,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node<'a> {
    #[serde(borrow, default)]
    node: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(borrow, default)]
    datacenter: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service<'a> {
    #[serde(rename = "ID", default)]
    id: Arc<str>,
    #[serde(borrow, default)]
    address: Option<Cow<'a, str>>,
    #[serde(default)]
    port: i64,
    #[serde(default, deserialize_with = "or_empty")]
    tags: Vec<Arc<str>>,
    #[serde(default, deserialize_with = "or_empty_map")]
    meta: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(default, deserialize_with = "or_empty")]
    weights: Weights,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Weights {
    pub(super) passing: i64,
    pub(super) warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { passing: 1, warning: 1 }
    }
}

/// What the checks of an instance and of its node come to. Folded while they are read: their
/// texts can be long and none is kept.
struct Checks(Condition);

impl Default for Checks {
    fn default() -> Self {
        Checks(Condition::Passing)
    }
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fold;
        impl<'de> Visitor<'de> for Fold {
            type Value = Checks;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of checks")
            }
            fn visit_unit<E>(self) -> Result<Checks, E> {
                Ok(Checks::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Checks, A::Error> {
                let mut worst = Condition::Passing;
                while let Some(check) = seq.next_element::<Check>()? {
                    worst = worst.max(check.status.condition());
                }
                Ok(Checks(worst))
            }
        }
        from.deserialize_any(Fold)
    }
}

#[derive(Deserialize)]
struct Check {
    #[serde(rename = "Status", default)]
    status: Word,
}

/// The status of one check. Maintenance is a critical check of its own in the reply and a status
/// in Consul's own summaries; both are critical. A word that nobody knows is not passing.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Passing,
    Critical,
    Maintenance,
    #[default]
    #[serde(other)]
    Other,
}

impl Word {
    const fn condition(self) -> Condition {
        match self {
            Word::Passing => Condition::Passing,
            Word::Critical | Word::Maintenance => Condition::Critical,
            Word::Other => Condition::Warning,
        }
    }
}

/// Reads the reply to [`request`]. With `passing_only` what does not pass is dropped here too:
/// an answer from a cache in between need not be the answer to the question.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse(settings: &Settings, status: u16, body: &[u8]) -> Result<Answer, ConsulError> {
    read(settings, status, body, false)
}

/// The same for instances reached over Connect: always TLS, whatever their metadata says of what
/// is spoken behind it.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_connect(settings: &Settings, status: u16, body: &[u8]) -> Result<Answer, ConsulError> {
    read(settings, status, body, true)
}

fn read(
    settings: &Settings,
    status: u16,
    body: &[u8],
    connect: bool,
) -> Result<Answer, ConsulError> {
    let raw: Many<Raw<'_>> = open(settings, "the health of a service", status, body)?;
    let mut answer = Answer::default();
    let mut nodes: Vec<Arc<str>> = Vec::new();
    let mut clusters: Vec<Arc<str>> = Vec::new();
    for Raw { node, service, checks: Checks(condition) } in raw.0 {
        if settings.passing_only && condition != Condition::Passing {
            continue;
        }
        let host = service.address.filter(|a| !a.is_empty()).unwrap_or(node.address);
        let cluster = shared(&mut clusters, node.datacenter.as_deref().unwrap_or("consul"));
        let place = Place { id: service.id, host: &host, port: service.port, cluster, connect };
        let weights = service.weights;
        let weight =
            if condition == Condition::Warning { weights.warning } else { weights.passing };
        match place.instance(settings, service.tags, service.meta, condition, weight) {
            Some(instance) => {
                answer.instances.push(instance);
                nodes.push(shared(&mut clusters, &node.node));
            }
            None => answer.left_out = answer.left_out.saturating_add(1),
        }
    }
    tell_apart(&mut answer.instances, &nodes);
    Ok(answer)
}

/// The same text again, if it was seen lately: replies repeat the name of the datacenter in
/// every entry, and that of the node often.
pub(super) fn shared(seen: &mut Vec<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = seen.iter().find(|known| &***known == text) {
        return known.clone();
    }
    let new: Arc<str> = text.into();
    if seen.len() < 16 {
        seen.push(new.clone());
    }
    new
}

/// Service ids are unique on a node only, and by default they are the name of the service. Those
/// that occur more than once get their node in front.
pub(super) fn tell_apart(instances: &mut [Instance], nodes: &[Arc<str>]) {
    let mut count: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for instance in instances.iter() {
        *count.entry(instance.id.clone()).or_default() += 1;
    }
    for (instance, node) in instances.iter_mut().zip(nodes) {
        if count.get(&instance.id).is_some_and(|n| *n > 1) {
            instance.id = format!("{node}/{}", instance.id).into();
        }
    }
}

/// Where Consul says an instance is.
pub(super) struct Place<'a> {
    pub(super) id: Arc<str>,
    pub(super) host: &'a str,
    pub(super) port: i64,
    pub(super) cluster: Arc<str>,
    pub(super) connect: bool,
}

impl Place<'_> {
    /// The instance there; `None` when it cannot be called.
    pub(super) fn instance(
        self,
        settings: &Settings,
        tags: Vec<Arc<str>>,
        metadata: BTreeMap<Arc<str>, Arc<str>>,
        condition: Condition,
        weight: i64,
    ) -> Option<Instance> {
        let protocol = match self.connect {
            true => Some("https"),
            false => metadata.get("scheme").or_else(|| metadata.get("protocol")).map(|p| &**p),
        };
        let address = address(self.host, self.port, protocol, settings.scheme)?;
        let role = if settings.is_fallback(&self.cluster) { Role::Backup } else { Role::Primary };
        let health = settings.health_meta.as_ref().and_then(|key| metadata.get(key));
        let health = health.filter(|path| path.starts_with('/') && path.len() <= 1_024).cloned();
        Some(Instance {
            id: if self.id.is_empty() { address.as_str().into() } else { self.id },
            condition,
            health,
            tags,
            metadata,
            weight: u32::try_from(weight.clamp(0, 1_000_000)).unwrap_or(0),
            ..Instance::new(self.cluster, role, address)
        })
    }
}

/// The address of a host and port. gRPC is HTTP; another protocol is kept and is not called.
fn address(
    host: &str,
    port: i64,
    protocol: Option<&str>,
    scheme: InstanceScheme,
) -> Option<Address> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let scheme = match protocol.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => scheme.word().into(),
        Some("http" | "http2" | "h2c" | "grpc") => "http".into(),
        Some("https" | "h2" | "grpcs") => "https".into(),
        Some(other) => Cow::Owned(other.to_owned()),
    };
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
    if !scheme.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) || !scheme.bytes().all(fine)
    {
        return None;
    }
    Address::parse(&format!("{scheme}://{}:{port}", super::name::host(host)?)).ok()
}

/// A number that differs when the lists differ in anything that matters, whatever their order:
/// for telling whether a reply is a change (contracts §5.1, rule 4). FNV-1a.
#[must_use]
pub fn digest(instances: &[Instance]) -> u64 {
    // Added up, so that the order does not count; each is mixed well before.
    let sum = instances.iter().map(one).fold(0_u64, u64::wrapping_add);
    sum ^ (instances.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn one(instance: &Instance) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut byte = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut text = |text: &str| {
        // Its length first: without it ("a", "bc") and ("ab", "c") would be the same.
        for b in (text.len() as u64).to_le_bytes() {
            byte(b);
        }
        text.bytes().for_each(&mut byte);
    };
    text(&instance.id);
    text(&instance.cluster);
    text(instance.address.as_str());
    text(instance.health.as_deref().unwrap_or(""));
    text(match instance.condition {
        Condition::Unknown => "u",
        Condition::Passing => "p",
        Condition::Warning => "w",
        Condition::Critical => "c",
    });
    text(&instance.weight.to_string());
    text(&instance.tags.len().to_string());
    instance.tags.iter().for_each(|tag| text(tag));
    for (key, value) in &instance.metadata {
        text(key);
        text(value);
    }
    // The finisher of SplitMix64: sums of plain FNV values collide easily.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
