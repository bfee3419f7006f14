//! The text form of a list of instances in Redis, and what of a foreign text is believed.
//!
//! It is the form of seed 004 (contracts §5.5): a JSON array of objects with exactly the keys `id`,
//! `address`, `port`, `healthy`, `last_check` and `metadata`. Readers of that form are known to
//! refuse unknown keys, so what else there is to say (cluster, role, scheme and path, weight, tags,
//! version, name of the service, expiry) stands as one JSON text in the metadata, under
//! [`EXTRA`]: metadata may have any key. Metadata of an instance under that name is not written.
//!
//! Reading trusts nothing (004-84, 004-86): size, count, port range, address, that the address
//! says the same in both places, the name of the service, the version, and the calendar expiry of
//! every object. One bad object and the whole list is a miss: half a list is worse than none,
//! because nobody would ask the source for the other half.

use core::net::Ipv6Addr;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::discovery::{Condition, Instance, Role};
use crate::time::Wall;

/// The key of the metadata that holds what the contract has no key for.
pub const EXTRA: &str = "x-origin";
/// The version of that.
pub const VERSION: u32 = 1;
/// The cluster of instances that another program wrote: its form cannot say one.
pub const FOREIGN_CLUSTER: &str = "shared";
/// Largest weight believed.
const MOST_WEIGHT: u32 = 1_000_000;

/// Bounds on a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds {
    /// Largest value, in bytes.
    pub bytes: usize,
    /// Most instances in one.
    pub instances: usize,
    /// Whether a value without [`EXTRA`] is believed: one that another program wrote.
    pub foreign: bool,
}

/// Why a value is not believed. Never repeats its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Mistrust {
    /// Larger than allowed.
    #[error("it is larger than max_value of {most} bytes")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// Not JSON, or cut off, or nested too deeply.
    #[error("it is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Line of the first offence.
        line: usize,
        /// Column of it.
        column: usize,
    },
    /// JSON, but no list of endpoints.
    #[error("it is JSON of another shape (line {line}, column {column})")]
    WrongShape {
        /// Line of the first offence.
        line: usize,
        /// Column of it.
        column: usize,
    },
    /// The key holds something else than a string.
    #[error("it is not a string")]
    WrongType,
    /// Too many instances.
    #[error("it has {count} instances, more than max_instances of {most}")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// An instance cannot be one.
    #[error("instance {index} {bad}")]
    Instance {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        bad: BadInstance,
    },
    /// Written by another version.
    #[error("it is of version {found}, this program writes {VERSION}")]
    Version {
        /// The version it names.
        found: u32,
    },
    /// Written by another program, and that is not allowed here.
    #[error("another program wrote it")]
    Foreign,
    /// It would never expire.
    #[error("its key has no time to live")]
    Endless,
    /// It would live longer than anything written with this configuration.
    #[error("its key lives another {left_ms} ms, more than the ttl of {most_ms} ms")]
    TooLong {
        /// What remains by Redis, in milliseconds.
        left_ms: u64,
        /// The limit.
        most_ms: u64,
    },
    /// Its calendar expiry is further away than anything written with this configuration.
    #[error("it expires {ahead_s} s after the latest that can be; a clock is wrong")]
    Ahead {
        /// By how much, in seconds.
        ahead_s: u64,
    },
    /// Its calendar expiry is long past, and yet Redis has it.
    #[error("it expired {by_s} s ago and is still there; a clock is wrong")]
    Behind {
        /// By how much, in seconds.
        by_s: u64,
    },
}

/// What is wrong with one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadInstance {
    /// Its port is not between 1 and 65535.
    Port,
    /// Its address is empty or none.
    Address,
    /// Its address says something else in each of its two places.
    Contradiction,
    /// It belongs to another service.
    Service,
    /// Its weight is beyond a million.
    Weight,
    /// Its extra text is none.
    Extra,
    /// Its id is empty.
    Id,
}

impl fmt::Display for BadInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadInstance::Port => "has a port that is not between 1 and 65535",
            BadInstance::Address => "has no valid address",
            BadInstance::Contradiction => "has two addresses that differ",
            BadInstance::Service => "belongs to another service",
            BadInstance::Weight => "has a weight above 1000000",
            BadInstance::Extra => "has an extra text of another shape",
            BadInstance::Id => "has no id",
        })
    }
}

/// Why a list is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unwritable {
    /// An instance has an address that the form cannot say: without a port, say.
    #[error("instance {index} has an address without host and port")]
    Address {
        /// Which, from 0.
        index: usize,
    },
    /// Too many instances.
    #[error("{count} instances are more than max_instances of {most}")]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// Too large.
    #[error("{bytes} bytes are more than max_value of {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
}

/// What a believable value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The instances.
    pub instances: Vec<Instance>,
    /// The earliest calendar expiry in it; `None` when nothing in it says one: an empty list, or
    /// one that another program wrote.
    pub expires: Option<Wall>,
}

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    address: &'a str,
    port: u16,
    healthy: bool,
    last_check: Option<()>,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct Found {
    id: Arc<str>,
    address: String,
    port: i64,
    #[serde(default = "yes")]
    healthy: bool,
    #[serde(default)]
    metadata: Option<BTreeMap<Arc<str>, Arc<str>>>,
}

#[derive(Serialize, Deserialize)]
struct Extra {
    v: u32,
    service: Arc<str>,
    expires: Wall,
    cluster: Arc<str>,
    #[serde(default, skip_serializing_if = "is_backup")]
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<Arc<str>>,
    #[serde(default)]
    condition: Condition,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Arc<str>>,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn is_backup(role: &Role) -> bool {
    *role == Role::Backup
}

/// Whether `host` is one, without brackets; whether it has odd characters, the address says.
fn is_host(host: &str) -> bool {
    !host.is_empty() && (!host.contains(':') || host.parse::<Ipv6Addr>().is_ok())
}

fn plain_url(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("http://[{host}]:{port}")
    } else {
        format!("http://{host}:{port}")
    }
}

/// The value for the `instances` of `service`, which expire at `expires`.
///
/// # Errors
/// [`Unwritable`]: nothing is left out silently.
pub fn encode(
    service: &str,
    instances: &[Instance],
    expires: Wall,
    bounds: &Bounds,
) -> Result<Bytes, Unwritable> {
    let count = instances.len();
    if count > bounds.instances {
        return Err(Unwritable::TooMany { count, most: bounds.instances });
    }
    let service: Arc<str> = service.into();
    let mut text = Vec::with_capacity(2 + count.saturating_mul(256).min(bounds.bytes));
    text.push(b'[');
    for (index, instance) in instances.iter().enumerate() {
        let (address, port) = instance
            .address
            .host_and_port()
            .filter(|(host, port)| is_host(host) && *port > 0)
            .ok_or(Unwritable::Address { index })?;
        let url = Some(instance.address.as_str())
            .filter(|url| **url != plain_url(address, port))
            .map(str::to_owned);
        let extra = Extra {
            v: VERSION,
            service: service.clone(),
            expires,
            cluster: instance.cluster.clone(),
            role: instance.role,
            url,
            health: instance.health.clone(),
            condition: instance.condition,
            weight: instance.weight,
            tags: instance.tags.clone(),
        };
        // Maps with text keys and plain fields cannot fail to serialize.
        let extra = serde_json::to_string(&extra).unwrap_or_default();
        let mut metadata: BTreeMap<&str, &str> =
            instance.metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
        metadata.insert(EXTRA, &extra);
        let written = Written {
            id: &instance.id,
            address,
            port,
            healthy: instance.condition != Condition::Critical,
            last_check: None,
            metadata,
        };
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&serde_json::to_vec(&written).unwrap_or_default());
        if text.len() >= bounds.bytes {
            return Err(Unwritable::TooLarge { bytes: text.len() + 1, most: bounds.bytes });
        }
    }
    text.push(b']');
    Ok(text.into())
}

/// Reads the value for `service`. What its key's time to live and the clock say of it is judged
/// in [`super::level`].
///
/// # Errors
/// [`Mistrust`].
pub fn decode(bytes: &[u8], service: &str, bounds: &Bounds) -> Result<Decoded, Mistrust> {
    if bytes.len() > bounds.bytes {
        return Err(Mistrust::TooLarge { most: bounds.bytes });
    }
    let found: Vec<Found> = serde_json::from_slice(bytes).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        if e.is_data() {
            Mistrust::WrongShape { line, column }
        } else {
            Mistrust::NotJson { line, column }
        }
    })?;
    let count = found.len();
    if count > bounds.instances {
        return Err(Mistrust::TooMany { count, most: bounds.instances });
    }
    let mut decoded = Decoded { instances: Vec::with_capacity(count), expires: None };
    for (index, found) in found.into_iter().enumerate() {
        let (instance, expires) = read(found, service, bounds).map_err(|e| match e {
            Bad::Value(mistrust) => mistrust,
            Bad::Instance(bad) => Mistrust::Instance { index, bad },
        })?;
        decoded.instances.push(instance);
        if let Some(expires) = expires {
            decoded.expires = Some(decoded.expires.map_or(expires, |least| least.min(expires)));
        }
    }
    Ok(decoded)
}

enum Bad {
    Value(Mistrust),
    Instance(BadInstance),
}

impl From<BadInstance> for Bad {
    fn from(bad: BadInstance) -> Bad {
        Bad::Instance(bad)
    }
}

fn read(found: Found, service: &str, bounds: &Bounds) -> Result<(Instance, Option<Wall>), Bad> {
    let port = u16::try_from(found.port).ok().filter(|port| *port > 0).ok_or(BadInstance::Port)?;
    if found.id.is_empty() {
        return Err(BadInstance::Id.into());
    }
    let mut metadata = found.metadata.unwrap_or_default();
    let extra = match metadata.remove(EXTRA) {
        Some(text) => Some(extra(&text)?),
        None if bounds.foreign => None,
        None => return Err(Bad::Value(Mistrust::Foreign)),
    };
    let host = found.address.trim_start_matches('[').trim_end_matches(']');
    let url = match extra.as_ref().and_then(|extra| extra.url.clone()) {
        Some(url) => url,
        None => {
            let mut url = plain_url(host, port);
            // A foreign writer has no other place to say so.
            let secure = |key: &str| metadata.get(key).is_some_and(|scheme| **scheme == *"https");
            if extra.is_none() && (secure("scheme") || secure("protocol")) {
                url.insert(4, 's');
            }
            url
        }
    };
    let address = Address::parse(&url).map_err(|_| BadInstance::Address)?;
    if !is_host(host) {
        return Err(BadInstance::Address.into());
    }
    if address.host_and_port() != Some((host, port)) {
        return Err(BadInstance::Contradiction.into());
    }
    let mut instance = Instance {
        id: found.id,
        metadata,
        ..Instance::new(FOREIGN_CLUSTER.into(), Role::Backup, address)
    };
    let mut expires = None;
    if let Some(extra) = extra {
        if *extra.service != *service {
            return Err(BadInstance::Service.into());
        }
        if extra.weight > MOST_WEIGHT {
            return Err(BadInstance::Weight.into());
        }
        expires = Some(extra.expires);
        instance.cluster = extra.cluster;
        instance.role = extra.role;
        instance.health = extra.health;
        instance.condition = extra.condition;
        instance.weight = extra.weight;
        instance.tags = extra.tags;
    }
    if !found.healthy {
        instance.condition = Condition::Critical;
    }
    Ok((instance, expires))
}

fn extra(text: &str) -> Result<Extra, Bad> {
    // The version first: another one may have another shape.
    let version = |text: &str| serde_json::from_str::<VersionOnly>(text).ok().map(|only| only.v);
    match serde_json::from_str::<Extra>(text) {
        Ok(extra) if extra.v == VERSION => Ok(extra),
        Ok(extra) => Err(Bad::Value(Mistrust::Version { found: extra.v })),
        Err(_) => match version(text) {
            Some(found) if found != VERSION => Err(Bad::Value(Mistrust::Version { found })),
            _ => Err(BadInstance::Extra.into()),
        },
    }
}

/// What remains of a life by the calendar: until `expires`, as seen at `wall`. `Ok(None)` when
/// it has just ended.
///
/// # Errors
/// The two clocks differ by more than `skew`, or the writer had a longer `ttl`.
pub fn remaining(
    expires: Wall,
    wall: Wall,
    ttl: Duration,
    skew: Duration,
) -> Result<Option<Duration>, Mistrust> {
    // Whole seconds: a life that begins within a second ends up to two later.
    let most = wall.0.saturating_add(ttl.as_secs()).saturating_add(1);
    let latest = most.saturating_add(skew.as_secs());
    if expires.0 > latest {
        return Err(Mistrust::Ahead { ahead_s: expires.0 - latest });
    }
    if expires.0 > wall.0 {
        return Ok(Some(Duration::from_secs(expires.0 - wall.0)));
    }
    let by_s = wall.0 - expires.0;
    if by_s > skew.as_secs() { Err(Mistrust::Behind { by_s }) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
