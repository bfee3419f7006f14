//! The snapshot on disk: what discovery knew, for a start while no source answers.
//!
//! A control plane that is down must not stop its clients from starting; a program that knew its
//! peers a minute ago, before a restart, still knows them. Envoy and gRPC leave this to a local
//! agent; Kubernetes' informers and Consul's agent cache lose it. Here it is one file.
//!
//! The file is for this program alone, and it is still not believed: it carries a checksum over
//! its bytes, so a half-written one is recognised before it is parsed; the time it was written,
//! and one from too long ago or from the future is refused; and the name of the local cluster,
//! because what is kept holds internal addresses, which mean other servers elsewhere. What is
//! wrong with the file as a whole refuses it; what is wrong with one instance leaves that one
//! out. It holds no credentials: there is no field for any, and an address with user information
//! is none.
//!
//! The format is JSON, `{"checksum":"…","format":1,…}`, the checksum first and of fixed length,
//! so that it can be checked over the bytes behind it. When it is read and written is in
//! [`Keeper`]. Off, without a `path`, there is no job.

mod keeper;
#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::sound::{self, MOST_INSTANCES, MOST_SERVICES, Unsound, or_null};
use super::{Condition, Instance, Role};
use crate::address::Address;
use crate::config::check_service_name;
use crate::policy::balance::hash;
use crate::time::{DurationText, Wall};
pub use keeper::{Heard, KeepProblem, Keeper, Settings};

/// The version of the format.
pub const FORMAT: u32 = 1;
/// What stands before and behind the sixteen hexadecimal digits of the checksum.
const BEFORE: &[u8] = b"{\"checksum\":\"";
const BEHIND: &[u8] = b"\",";
const HEAD: usize = BEFORE.len() + 16 + BEHIND.len();
/// What was left out is listed up to this many.
const MOST_LISTED: usize = 64;
/// Longest name of a source, in bytes.
const LONGEST_SOURCE: usize = 128;

/// Why a snapshot cannot be used, or not be written. Never repeats its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadSnapshot {
    /// More bytes than allowed.
    #[error("it has {bytes} bytes, more than max_bytes of {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// It does not begin like one.
    #[error("it is not a snapshot")]
    NotASnapshot,
    /// The checksum is that of other bytes: cut off, half written, or edited.
    #[error("it is damaged: its checksum is not that of its {bytes} bytes")]
    Damaged {
        /// Its size.
        bytes: usize,
    },
    /// Another version of the format.
    #[error("it has format {found}, and this program reads {FORMAT}")]
    Format {
        /// The version.
        found: u64,
    },
    /// JSON, but not this.
    #[error("it is of another shape (line {line}, column {column})")]
    WrongShape {
        /// Line of the first offence.
        line: usize,
        /// Column of it.
        column: usize,
    },
    /// Written too long ago.
    #[error("it was written {} ago, longer than max_age of {}", DurationText(*age), DurationText(*most))]
    TooOld {
        /// How long ago.
        age: Duration,
        /// The limit.
        most: Duration,
    },
    /// Written in the future: a clock was or is wrong.
    #[error("it was written {} in the future, more than skew of {}", DurationText(*ahead), DurationText(*most))]
    FromTheFuture {
        /// How far.
        ahead: Duration,
        /// The limit.
        most: Duration,
    },
    /// Written by a program in another cluster, whose internal addresses mean other servers.
    #[error("it was written in another cluster")]
    OtherCluster,
    /// More services than 10 000.
    #[error("it has {0} services, more than 10000")]
    TooManyServices(usize),
    /// More instances than 100 000.
    #[error("it has {0} instances, more than 100000")]
    TooManyInstances(usize),
}

/// What is kept of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptService {
    /// The source that named these instances: `consul`, `dns`, a URL without credentials.
    pub source: Arc<str>,
    /// When the source was last known to name them.
    pub taken: Wall,
    /// Until when they count as fresh. Behind that they are stale, and still better than none.
    pub expires: Wall,
    /// The instances.
    pub instances: Arc<[Instance]>,
}

/// What is kept of everything.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Duration;
/// use origin_core::discovery::kept::{BadSnapshot, Kept, KeptService, Settings};
/// use origin_core::discovery::{Instance, Role};
/// use origin_core::{Address, Wall};
///
/// let address = Address::parse("http://10.0.0.1:80").unwrap();
/// let billing = KeptService {
///     source: "consul".into(),
///     taken: Wall(1_000),
///     expires: Wall(1_030),
///     instances: [Instance::new("alpha".into(), Role::Primary, address)].into(),
/// };
/// let services = BTreeMap::from([("billing".into(), billing)]);
/// let kept = Kept { written: Wall(1_000), local: Some("alpha".into()), services };
/// let settings = Settings::default();
/// let bytes = kept.encode(&settings)?;
/// // An hour later, in the same cluster.
/// let restored = Kept::decode(&bytes, Wall(4_600), Some("alpha"), &settings)?;
/// assert_eq!(restored.kept, kept);
/// // Half of it is worse than nothing, and recognised.
/// let half = Kept::decode(&bytes[..bytes.len() / 2], Wall(4_600), Some("alpha"), &settings);
/// assert!(matches!(half, Err(BadSnapshot::Damaged { .. })));
/// # Ok::<(), BadSnapshot>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When it was written.
    pub written: Wall,
    /// The cluster of the program that wrote it.
    pub local: Option<Arc<str>>,
    /// Its services, by name.
    pub services: BTreeMap<Arc<str>, KeptService>,
}

/// Something that was left out of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// A service whose name, or whose source's name, is none.
    Name,
    /// A service that was taken too long ago.
    Old {
        /// How long ago.
        age: Duration,
    },
    /// A service that was taken after the snapshot was written.
    Future,
    /// An instance.
    Instance(Unsound),
}

/// A snapshot that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What can be used of it.
    pub kept: Kept,
    /// What was left out, the first 64.
    pub left_out: Vec<LeftOut>,
    /// How many were left out.
    pub left_out_count: usize,
}

impl Restored {
    fn leave_out(&mut self, what: LeftOut) {
        self.left_out_count += 1;
        if self.left_out.len() < MOST_LISTED {
            self.left_out.push(what);
        }
    }
}

impl Kept {
    /// The bytes to be written. What [`Kept::decode`] would leave out for its form is left out
    /// here, so that one odd instance does not cost the snapshot.
    ///
    /// # Errors
    /// Too many services or instances, or more bytes than `settings` allow.
    pub fn encode(&self, settings: &Settings) -> Result<Bytes, BadSnapshot> {
        let sound = |(name, service): &(&Arc<str>, &KeptService)| named(name, &service.source);
        let services: BTreeMap<&str, Line<'_>> = (self.services.iter().filter(sound))
            .map(|(name, service)| (&**name, Line::of(service)))
            .collect();
        bounded(services.len(), services.values().map(|line| line.instances.len()).sum())?;
        let body = Body { format: FORMAT, written: self.written, local: &self.local, services };
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(BEFORE);
        bytes.extend_from_slice(&[b'0'; 16]);
        bytes.extend_from_slice(BEHIND);
        let start = bytes.len() - 1;
        // Nothing here can fail: no map has keys that are not texts.
        serde_json::to_writer(&mut bytes, &body)
            .map_err(|e| BadSnapshot::WrongShape { line: e.line(), column: e.column() })?;
        // The brace that opens the body gives way to the comma behind the checksum.
        bytes.remove(start + 1);
        if bytes.len() > settings.most() {
            return Err(BadSnapshot::TooLarge { bytes: bytes.len(), most: settings.most() });
        }
        let digest = format!("{:016x}", hash::of(&bytes[HEAD..]));
        bytes[BEFORE.len()..BEFORE.len() + 16].copy_from_slice(digest.as_bytes());
        Ok(bytes.into())
    }

    /// Reads a snapshot at `now` in the cluster `local`. Times in it are those of another run:
    /// what is restored should be renewed at once, however fresh it says it is.
    ///
    /// # Errors
    /// [`BadSnapshot`]; the size, the frame and the checksum are looked at before anything else.
    pub fn decode(
        bytes: &[u8],
        now: Wall,
        local: Option<&str>,
        settings: &Settings,
    ) -> Result<Restored, BadSnapshot> {
        let raw = read(bytes, settings.most())?;
        if raw.written.0 > now.0 {
            let ahead = Duration::from_secs(raw.written.0 - now.0);
            if ahead > settings.skew() {
                return Err(BadSnapshot::FromTheFuture { ahead, most: settings.skew() });
            }
        }
        let most = settings.max_age();
        let age = age(raw.written, now);
        if age > most {
            return Err(BadSnapshot::TooOld { age, most });
        }
        if raw.local.as_deref() != local {
            return Err(BadSnapshot::OtherCluster);
        }
        bounded(raw.services.len(), raw.services.values().map(|s| s.instances.len()).sum())?;
        let kept = Kept { written: raw.written, local: raw.local, services: BTreeMap::new() };
        let mut restored = Restored { kept, left_out: Vec::new(), left_out_count: 0 };
        for (name, service) in raw.services {
            restored.take(name, service, now, settings);
        }
        Ok(restored)
    }

    /// Adds what `older` has and this has not, so that a program which has called few services
    /// since it started does not forget the others. What is older than `max_age` is not carried
    /// on, nor anything from another cluster.
    pub fn carry(&mut self, older: &Kept, now: Wall, settings: &Settings) {
        if older.local != self.local {
            return;
        }
        for (name, service) in &older.services {
            if self.services.len() >= MOST_SERVICES {
                return;
            }
            if age(service.taken, now) <= settings.max_age() {
                self.services.entry(name.clone()).or_insert_with(|| service.clone());
            }
        }
    }
}

impl Restored {
    fn take(&mut self, name: Arc<str>, raw: RawService, now: Wall, settings: &Settings) {
        if !named(&name, &raw.source) {
            return self.leave_out(LeftOut::Name);
        }
        if raw.taken > self.kept.written {
            return self.leave_out(LeftOut::Future);
        }
        let age = age(raw.taken, now);
        if age > settings.max_age() {
            return self.leave_out(LeftOut::Old { age });
        }
        let mut instances = Vec::with_capacity(raw.instances.len());
        for raw in raw.instances {
            match raw.check() {
                Ok(instance) => instances.push(instance),
                Err(unsound) => self.leave_out(LeftOut::Instance(unsound)),
            }
        }
        let service = KeptService {
            source: raw.source,
            taken: raw.taken,
            expires: raw.expires,
            instances: instances.into(),
        };
        self.kept.services.insert(name, service);
    }
}

fn age(then: Wall, now: Wall) -> Duration {
    Duration::from_secs(now.0.saturating_sub(then.0))
}

fn named(service: &str, source: &str) -> bool {
    check_service_name(service).is_ok()
        && source.len() <= LONGEST_SOURCE
        && !source.contains('@')
        && !source.chars().any(char::is_control)
}

fn bounded(services: usize, instances: usize) -> Result<(), BadSnapshot> {
    if services > MOST_SERVICES {
        return Err(BadSnapshot::TooManyServices(services));
    }
    if instances > MOST_INSTANCES {
        return Err(BadSnapshot::TooManyInstances(instances));
    }
    Ok(())
}

/// From bytes to what they say, unchecked.
fn read(bytes: &[u8], most: usize) -> Result<RawKept, BadSnapshot> {
    if bytes.len() > most {
        return Err(BadSnapshot::TooLarge { bytes: bytes.len(), most });
    }
    let rest = bytes.strip_prefix(BEFORE).ok_or(BadSnapshot::NotASnapshot)?;
    let damaged = BadSnapshot::Damaged { bytes: bytes.len() };
    let digest = rest.get(..16).ok_or(damaged)?;
    let body = rest[16..].strip_prefix(BEHIND).ok_or(damaged)?;
    if format!("{:016x}", hash::of(body)).as_bytes() != digest {
        return Err(damaged);
    }
    serde_json::from_slice::<RawKept>(bytes)
        .ok()
        .filter(|raw| raw.format == u64::from(FORMAT))
        .ok_or_else(|| {
            // Another version may have another shape: that is said first.
            match serde_json::from_slice::<Version>(bytes) {
                Ok(version) if version.format != u64::from(FORMAT) => {
                    BadSnapshot::Format { found: version.format }
                }
                _ => {
                    let (line, column) = serde_json::from_slice::<RawKept>(bytes)
                        .map_or_else(|e| (e.line(), e.column()), |_| (0, 0));
                    BadSnapshot::WrongShape { line, column }
                }
            }
        })
}

#[derive(Deserialize)]
struct Version {
    format: u64,
}

#[derive(Deserialize)]
struct RawKept {
    format: u64,
    written: Wall,
    #[serde(default)]
    local: Option<Arc<str>>,
    #[serde(default, deserialize_with = "or_null")]
    services: BTreeMap<Arc<str>, RawService>,
}

#[derive(Deserialize)]
struct RawService {
    source: Arc<str>,
    taken: Wall,
    expires: Wall,
    #[serde(default, deserialize_with = "or_null")]
    instances: Vec<RawInstance>,
}

/// An [`Instance`] whose address is not read yet, so that one which is none spoils only its own.
#[derive(Deserialize)]
struct RawInstance {
    id: Arc<str>,
    cluster: Arc<str>,
    #[serde(default)]
    role: Role,
    address: String,
    #[serde(default)]
    health: Option<Arc<str>>,
    #[serde(default)]
    condition: Condition,
    weight: u32,
    #[serde(default, deserialize_with = "or_null")]
    tags: Vec<Arc<str>>,
    #[serde(default, deserialize_with = "or_null")]
    metadata: BTreeMap<Arc<str>, Arc<str>>,
}

impl RawInstance {
    fn check(self) -> Result<Instance, Unsound> {
        let address = Address::parse(&self.address).map_err(|_| Unsound::Address)?;
        let RawInstance { id, cluster, role, health, condition, weight, tags, metadata, .. } = self;
        let instance =
            Instance { id, cluster, role, address, health, condition, weight, tags, metadata };
        sound::check(&instance).map(|()| instance)
    }
}

/// What is written.
#[derive(Serialize)]
struct Body<'a> {
    format: u32,
    written: Wall,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: &'a Option<Arc<str>>,
    services: BTreeMap<&'a str, Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    taken: Wall,
    expires: Wall,
    instances: Vec<&'a Instance>,
}

impl Line<'_> {
    fn of(service: &KeptService) -> Line<'_> {
        let sound = |instance: &&Instance| sound::check(instance).is_ok();
        Line {
            source: &service.source,
            taken: service.taken,
            expires: service.expires,
            instances: service.instances.iter().filter(sound).collect(),
        }
    }
}
