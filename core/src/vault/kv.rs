//! The key-value engine in both versions, and the plain read and write that every engine has.
//!
//! Version 1 keeps one value for each path. Version 2 keeps a history: a read may name a version,
//! a write may demand the version that it replaces, a deleted version can be undeleted until it is
//! destroyed. A read of a deleted version is a 404 with a body, which is told from "nothing there".

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{Unreadable, VaultError};
use super::lease::{self, Lease};
use super::settings::Settings;
use super::wire::{self, Api, Envelope, Exchange, Object, data, json, open, or_default};
use crate::config::KvVersion;

/// What a secret consists of.
pub type Data = Map<String, Value>;

/// Most versions named in one request.
const MOST_VERSIONS: usize = 100;

/// What stands under a path. `Debug` prints its keys, not its values.
#[derive(Clone, PartialEq)]
pub struct Content {
    /// What the engine holds there.
    pub data: Data,
    /// How long it may be kept, in seconds, where the engine says so.
    pub lease_seconds: u64,
    /// The lease, where the engine has made the secret for this read.
    pub lease: Option<Lease>,
    /// Which version it is, where the engine keeps versions.
    pub version: Option<Version>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        let (seconds, version) = (self.lease_seconds, &self.version);
        write!(f, "Content {{ keys: {keys:?}, lease_seconds: {seconds}, version: {version:?} }}")
    }
}

/// One version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Its number, from 1.
    pub version: u64,
    /// When it was written, as Vault writes it (RFC 3339).
    #[serde(default, deserialize_with = "or_default")]
    pub created_time: Arc<str>,
    /// When it was deleted, or will be; empty: it is not.
    #[serde(default, deserialize_with = "or_default")]
    pub deletion_time: Arc<str>,
    /// Whether its content is gone for good.
    #[serde(default, deserialize_with = "or_default")]
    pub destroyed: bool,
}

/// What is known of all versions of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Metadata {
    /// The newest one.
    pub current_version: u64,
    /// The oldest one kept; 0 while none was dropped.
    pub oldest_version: u64,
    /// How many are kept; 0 is what the mount says.
    pub max_versions: u64,
    /// Whether every write has to name the version it replaces.
    pub cas_required: bool,
    /// The versions, by number.
    pub versions: BTreeMap<u64, Version>,
    /// What people wrote about it.
    pub custom: BTreeMap<String, String>,
}

/// A key-value mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mount {
    encoded: Arc<str>,
    version: KvVersion,
}

impl Mount {
    /// The mount called `name`, without a slash at either end, of this version.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn new(name: &str, version: KvVersion) -> Result<Mount, VaultError> {
        Ok(Mount { encoded: wire::path("mount", name)?.into(), version })
    }

    /// Which version it has.
    #[must_use]
    pub const fn version(&self) -> KvVersion {
        self.version
    }

    fn at(&self, part: &str, path: &str) -> Result<String, VaultError> {
        let path = wire::path("path", path)?;
        Ok(match self.version {
            KvVersion::V1 => format!("{}/{path}", self.encoded),
            KvVersion::V2 => format!("{}/{part}/{path}", self.encoded),
        })
    }

    /// A part of the API that only version 2 has.
    fn second(&self, part: &str, path: &str) -> Result<String, VaultError> {
        match self.version {
            KvVersion::V2 => self.at(part, path),
            KvVersion::V1 => {
                Err(VaultError::field("mount", "has version 1, which keeps no versions"))
            }
        }
    }

    /// Reading: `GET {mount}/{path}`, `GET {mount}/data/{path}`; a `version` of 0 is the newest.
    ///
    /// # Errors
    /// A path that cannot be one; a version where there are none.
    pub fn read(&self, api: &Api<'_>, path: &str, version: u64) -> Result<Exchange, VaultError> {
        if version == 0 {
            return api.get(&self.at("data", path)?);
        }
        let query = format!("?version={version}");
        api.request(Method::GET, &self.second("data", path)?, &query, None)
    }

    /// Writing: `POST {mount}/{path}`, `POST {mount}/data/{path}`. With `cas` only if that is the
    /// newest version; 0: if there is none yet.
    ///
    /// # Errors
    /// A path that cannot be one; `cas` where there are no versions.
    pub fn write(
        &self,
        api: &Api<'_>,
        path: &str,
        data: &Data,
        cas: Option<u64>,
    ) -> Result<Exchange, VaultError> {
        #[derive(Serialize)]
        struct Options {
            cas: u64,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            options: Option<Options>,
            data: &'a Data,
        }
        match (self.version, cas) {
            (KvVersion::V1, Some(_)) => {
                Err(VaultError::field("cas", "needs a mount of version 2; this one has version 1"))
            }
            (KvVersion::V1, None) => api.post(&self.at("data", path)?, data),
            (KvVersion::V2, cas) => {
                let options = cas.map(|cas| Options { cas });
                api.post(&self.at("data", path)?, &Body { options, data })
            }
        }
    }

    /// Deleting: in version 2 the newest version, which can be undeleted.
    ///
    /// # Errors
    /// A path that cannot be one.
    pub fn delete(&self, api: &Api<'_>, path: &str) -> Result<Exchange, VaultError> {
        api.delete(&self.at("data", path)?)
    }

    /// Listing what is below `prefix`; the empty one is the mount. Names of folders end with `/`.
    ///
    /// # Errors
    /// A prefix that cannot be one.
    pub fn list(&self, api: &Api<'_>, prefix: &str) -> Result<Exchange, VaultError> {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let path = match (prefix, self.version) {
            ("", KvVersion::V1) => self.encoded.to_string(),
            ("", KvVersion::V2) => format!("{}/metadata", self.encoded),
            _ => self.at("metadata", prefix)?,
        };
        api.list(&path)
    }

    /// `POST {mount}/delete|undelete|destroy/{path}`.
    ///
    /// # Errors
    /// A mount of version 1; a path that cannot be one; no version, 0, or more than 100.
    pub fn change(
        &self,
        api: &Api<'_>,
        change: Change,
        path: &str,
        versions: &[u64],
    ) -> Result<Exchange, VaultError> {
        #[derive(Serialize)]
        struct Body<'a> {
            versions: &'a [u64],
        }
        let path = self.second(change.word(), path)?;
        if versions.is_empty() || versions.len() > MOST_VERSIONS || versions.contains(&0) {
            let reason = format!("takes 1 to {MOST_VERSIONS} versions, which count from 1");
            return Err(VaultError::field("versions", reason));
        }
        api.post(&path, &Body { versions })
    }

    /// `GET {mount}/metadata/{path}`.
    ///
    /// # Errors
    /// A mount of version 1; a path that cannot be one.
    pub fn metadata(&self, api: &Api<'_>, path: &str) -> Result<Exchange, VaultError> {
        api.get(&self.second("metadata", path)?)
    }

    /// `DELETE {mount}/metadata/{path}`: all versions, for good.
    ///
    /// # Errors
    /// A mount of version 1; a path that cannot be one.
    pub fn forget(&self, api: &Api<'_>, path: &str) -> Result<Exchange, VaultError> {
        api.delete(&self.second("metadata", path)?)
    }
}

/// What is done to versions of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They are not read any more.
    Delete,
    /// They are read again.
    Undelete,
    /// Their content is gone for good.
    Destroy,
}

impl Change {
    const fn word(self) -> &'static str {
        match self {
            Change::Delete => "delete",
            Change::Undelete => "undelete",
            Change::Destroy => "destroy",
        }
    }
}

/// `GET /v1/{path}`: any engine; below a mount of version 2 that the settings name, its `data`.
/// Yields the version whose shape the answer has.
///
/// # Errors
/// A path that cannot be one.
pub fn read(api: &Api<'_>, path: &str) -> Result<(Exchange, KvVersion), VaultError> {
    match api.settings.mount(path) {
        Some((mount, KvVersion::V2, rest)) => {
            Ok((Mount::new(mount, KvVersion::V2)?.read(api, rest, 0)?, KvVersion::V2))
        }
        _ => Ok((api.get(&wire::path("path", path)?)?, KvVersion::V1)),
    }
}

/// `POST /v1/{path}`: any engine, as it is.
///
/// # Errors
/// A path that cannot be one.
pub fn write(api: &Api<'_>, path: &str, data: &Data) -> Result<Exchange, VaultError> {
    api.post(&wire::path("path", path)?, data)
}

const SECRET: &str = "the secret";

/// The answer to reading a secret of this version.
///
/// # Errors
/// A status that is no success; [`VaultError::Deleted`]; a reply too large or of another shape.
pub fn parse_read(
    settings: &Settings,
    version: KvVersion,
    status: u16,
    body: &[u8],
) -> Result<Content, VaultError> {
    match version {
        KvVersion::V1 => {
            let envelope: Envelope<Data> = open(settings, SECRET, status, body)?;
            let lease = lease::of(&envelope)?;
            let (data, lease_seconds) = (envelope.data, envelope.lease_duration);
            let Some(Object(data)) = data else {
                return Err(VaultError::unreadable(SECRET, Unreadable::Missing));
            };
            Ok(Content { data, lease_seconds, lease, version: None })
        }
        KvVersion::V2 => parse_version(settings, status, body),
    }
}

#[derive(Deserialize)]
struct Second {
    data: Option<Data>,
    metadata: Object<Version>,
}

fn parse_version(settings: &Settings, status: u16, body: &[u8]) -> Result<Content, VaultError> {
    if status == 404 {
        // The body of "nothing there" is a list of no errors, or anything a proxy says.
        let gone = json::<Envelope<Second>>(settings, SECRET, body).ok().and_then(|e| e.data);
        return Err(match gone {
            Some(Object(Second { metadata: Object(metadata), .. })) => {
                VaultError::Deleted { version: metadata.version, destroyed: metadata.destroyed }
            }
            None => VaultError::NotFound,
        });
    }
    let envelope: Envelope<Second> = open(settings, SECRET, status, body)?;
    let lease_seconds = envelope.lease_duration;
    let missing = || VaultError::unreadable(SECRET, Unreadable::Missing);
    let Object(Second { data, metadata: Object(metadata) }) = envelope.data.ok_or_else(missing)?;
    let data = data
        .ok_or(VaultError::Deleted { version: metadata.version, destroyed: metadata.destroyed })?;
    Ok(Content { data, lease_seconds, lease: None, version: Some(metadata) })
}

/// The version that a write has made; `None` in version 1.
///
/// # Errors
/// A status that is no success, [`VaultError::Conflict`] among them; another shape.
pub fn parse_write(
    settings: &Settings,
    version: KvVersion,
    status: u16,
    body: &[u8],
) -> Result<Option<Version>, VaultError> {
    match version {
        KvVersion::V1 => wire::done(status, body).map(|()| None),
        KvVersion::V2 => data(settings, "the written version", status, body).map(Some),
    }
}

/// The answer of an engine to [`write()`]: often there is none.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_answer(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Option<Content>, VaultError> {
    wire::done(status, body)?;
    if status == 204 || body.is_empty() {
        return Ok(None);
    }
    let envelope: Envelope<Data> = json(settings, "the answer", body)?;
    let lease = lease::of(&envelope)?;
    let lease_seconds = envelope.lease_duration;
    Ok(envelope.data.map(|Object(data)| Content { data, lease_seconds, lease, version: None }))
}

/// The names of a list; empty when there are none (404).
///
/// # Errors
/// Another status that is no success, and a reply that is too large or of another shape.
pub fn parse_list(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Arc<str>>, VaultError> {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(deserialize_with = "or_default")]
        keys: Vec<Arc<str>>,
    }
    if status == 404 {
        return Ok(Vec::new());
    }
    let keys: Keys = data(settings, "the list of names", status, body)?;
    Ok(keys.keys)
}

#[derive(Deserialize)]
struct RawVersion {
    #[serde(default, deserialize_with = "or_default")]
    created_time: Arc<str>,
    #[serde(default, deserialize_with = "or_default")]
    deletion_time: Arc<str>,
    #[serde(default, deserialize_with = "or_default")]
    destroyed: bool,
}

#[derive(Deserialize)]
struct RawMetadata {
    current_version: u64,
    #[serde(default, deserialize_with = "or_default")]
    oldest_version: u64,
    #[serde(default, deserialize_with = "or_default")]
    max_versions: u64,
    #[serde(default, deserialize_with = "or_default")]
    cas_required: bool,
    #[serde(default, deserialize_with = "or_default")]
    versions: BTreeMap<u64, Object<RawVersion>>,
    #[serde(default, deserialize_with = "or_default")]
    custom_metadata: BTreeMap<String, String>,
}

/// The metadata of a secret.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_metadata(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Metadata, VaultError> {
    let raw: RawMetadata = data(settings, "the metadata", status, body)?;
    let version = |(version, Object(raw)): (u64, Object<RawVersion>)| {
        let RawVersion { created_time, deletion_time, destroyed } = raw;
        (version, Version { version, created_time, deletion_time, destroyed })
    };
    Ok(Metadata {
        current_version: raw.current_version,
        oldest_version: raw.oldest_version,
        max_versions: raw.max_versions,
        cas_required: raw.cas_required,
        versions: raw.versions.into_iter().map(version).collect(),
        custom: raw.custom_metadata,
    })
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
