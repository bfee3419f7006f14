//! What a file of services says: hostile bytes in, a [`Content`] or a reason out. When it is read
//! is in the parent.
//!
//! JSON is the Origin document, read as it always is. TOML is a list, for people:
//!
//! ```toml
//! [services.billing]
//! health = "/health"
//! endpoints = [
//!     { address = "http://10.0.0.1:8080", cluster = "alpha", role = "primary", weight = 2 },
//!     { address = "http://10.0.0.2:8080", tags = ["canary"], metadata = { zone = "b" } },
//! ]
//! ```
//!
//! In a list one wrong entry refuses the whole file, by the path of the entry: a person wrote it
//! and the last good one is still in use. Unknown fields are ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::config::{ConfigError, ServiceConfig};
use crate::discovery::document::{BadDocument, Refused};
use crate::discovery::sound::{MOST_SERVICES, Unsound};
use crate::discovery::{Document, Instance, Place, Role};

/// Why bytes are not a file of services. Names of services and positions are repeated, since
/// they say where; what stands there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadFile {
    /// More bytes than allowed.
    #[error("it has {bytes} bytes, more than max_bytes of {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Nothing but white space. A file without services says so: `[services]` or
    /// `{"services": {}}`; an empty one is more likely about to be written.
    #[error("it is empty; to name no service write an empty table \"services\"")]
    Empty,
    /// JSON, but not an Origin document.
    #[error("{0}")]
    Document(BadDocument),
    /// Not TOML, or cut off, or nested too deeply.
    #[error("it is not valid TOML (line {line})")]
    NotToml {
        /// Line of the first offence.
        line: usize,
    },
    /// TOML, but not this list.
    #[error("line {line} is not what belongs there; expected [services.name] with endpoints")]
    WrongShape {
        /// Line of the first offence.
        line: usize,
    },
    /// A service or an endpoint is wrong.
    #[error("{field}: {why}")]
    Entry {
        /// Where: `services.billing.endpoints[2].address`.
        field: String,
        /// What is wrong with it.
        why: EntryFault,
    },
    /// More services than 10 000.
    #[error("it names {0} services, more than 10000")]
    TooManyServices(usize),
    /// More instances than 100 000.
    #[error("it names {0} instances, more than 100000")]
    TooManyInstances(usize),
    /// This build cannot read TOML.
    #[error("it is TOML, and this program is built without the feature \"toml\"")]
    NoToml,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryFault {
    /// The name of a service has 1 to 128 letters, digits, `-`, `_` and `.`.
    Name,
    /// It is not an address.
    Address,
    /// One of the bounds.
    Unsound(Unsound),
}

impl fmt::Display for EntryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryFault::Name => {
                f.write_str("a service name has 1 to 128 letters, digits, '-', '_' and '.'")
            }
            EntryFault::Address => f.write_str("is not an address"),
            EntryFault::Unsound(unsound) => write!(f, "{unsound}"),
        }
    }
}

/// Services and their instances, in the order in which they were written.
///
/// ```
/// use std::collections::BTreeMap;
/// use origin_core::config::{EndpointConfig, ServiceConfig};
/// use origin_core::discovery::file::Listing;
///
/// let endpoints = vec![EndpointConfig::at("http://10.0.0.1:80")];
/// let billing = ServiceConfig { endpoints, ..ServiceConfig::default() };
/// let listing = Listing::of(&BTreeMap::from([("billing".to_owned(), billing)]))?;
/// assert_eq!(listing.instances("billing").unwrap()[0].address.as_str(), "http://10.0.0.1:80");
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    services: BTreeMap<Arc<str>, Vec<Instance>>,
}

impl Listing {
    /// The static source: the services that the configuration gives endpoints, as instances.
    ///
    /// # Errors
    /// The first address that is none, by its field.
    pub fn of(services: &BTreeMap<String, ServiceConfig>) -> Result<Listing, ConfigError> {
        let mut listing = Listing::default();
        for (name, service) in services.iter().filter(|(_, s)| !s.endpoints.is_empty()) {
            let mut instances = Vec::with_capacity(service.endpoints.len());
            for (index, endpoint) in service.endpoints.iter().enumerate() {
                let address = Address::parse(&endpoint.address).map_err(|bad| {
                    let field = format!("services.{name}.endpoints[{index}].address");
                    ConfigError::new(field, bad.to_string())
                })?;
                let pair = |(key, value): (&String, &String)| {
                    (Arc::from(key.as_str()), Arc::from(value.as_str()))
                };
                let cluster = endpoint.cluster.as_str().into();
                instances.push(Instance {
                    weight: endpoint.weight,
                    metadata: endpoint.metadata.iter().map(pair).collect(),
                    ..Instance::new(cluster, endpoint.role, address)
                });
            }
            listing.services.insert(name.as_str().into(), instances);
        }
        Ok(listing)
    }

    /// The names of all services, in order.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.services.keys()
    }

    /// The instances of `service`; `None` when it is not listed.
    #[must_use]
    pub fn instances(&self, service: &str) -> Option<&[Instance]> {
        self.services.get(service).map(Vec::as_slice)
    }
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// An Origin document.
    Document(Document),
    /// A list.
    Listing(Listing),
}

impl Content {
    /// Reads a file of at most `most` bytes; `path` is its name, of which only the ending counts.
    ///
    /// # Errors
    /// [`BadFile`].
    pub fn parse(bytes: &[u8], path: &str, most: usize) -> Result<Content, BadFile> {
        if bytes.len() > most {
            return Err(BadFile::TooLarge { bytes: bytes.len(), most });
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.trim_ascii().is_empty() {
            return Err(BadFile::Empty);
        }
        if is_json(bytes, path) {
            let document = Document::parse(bytes, most).map_err(BadFile::Document)?;
            if document.services().len() > MOST_SERVICES {
                return Err(BadFile::TooManyServices(document.services().len()));
            }
            return Ok(Content::Document(document));
        }
        list(bytes).map(Content::Listing)
    }

    /// The names of all services, in order.
    pub fn services(&self) -> Box<dyn ExactSizeIterator<Item = &Arc<str>> + '_> {
        match self {
            Content::Document(document) => Box::new(document.services()),
            Content::Listing(listing) => Box::new(listing.services()),
        }
    }

    /// Whether it names `service`.
    #[must_use]
    pub fn knows(&self, service: &str) -> bool {
        match self {
            Content::Document(document) => document.knows(service),
            Content::Listing(listing) => listing.instances(service).is_some(),
        }
    }

    /// The instances of `service`, and what a document had to leave out; `None` when it is not
    /// named. `local` decides which address of a document is meant; the instances of one are in
    /// failover order already.
    #[must_use]
    pub fn instances(
        &self,
        service: &str,
        local: Option<&str>,
    ) -> Option<(Vec<Instance>, Vec<Refused>)> {
        match self {
            Content::Listing(listing) => Some((listing.instances(service)?.to_vec(), Vec::new())),
            Content::Document(document) => {
                let (found, refused) = document.candidates(service, local)?;
                let instance = |candidate: super::super::Candidate| {
                    // The local cluster is recognised by its name, whatever its role.
                    let primary = candidate.place == Place::Primary;
                    let role = if primary { Role::Primary } else { Role::Backup };
                    Instance {
                        health: candidate.health,
                        weight: candidate.weight,
                        metadata: candidate.metadata,
                        ..Instance::new(candidate.cluster, role, candidate.address)
                    }
                };
                Some((found.into_iter().map(instance).collect(), refused))
            }
        }
    }
}

/// Whether these bytes are meant as JSON: by the ending of the file, else by the first character.
/// No TOML begins with a brace.
fn is_json(bytes: &[u8], path: &str) -> bool {
    let ends = |end: &str| {
        let at = path.len().saturating_sub(end.len());
        path.as_bytes()[at..].eq_ignore_ascii_case(end.as_bytes())
    };
    ends(".json") || (!ends(".toml") && bytes.trim_ascii_start().first() == Some(&b'{'))
}

#[cfg(not(feature = "toml"))]
fn list(_: &[u8]) -> Result<Listing, BadFile> {
    Err(BadFile::NoToml)
}

#[cfg(feature = "toml")]
fn list(bytes: &[u8]) -> Result<Listing, BadFile> {
    use toml::de::{DeTable, Deserializer};

    let line_of = |at: usize| bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    let text = core::str::from_utf8(bytes)
        .map_err(|bad| BadFile::NotToml { line: line_of(bad.valid_up_to()) })?;
    let line = |e: &toml::de::Error| line_of(e.span().map_or(0, |span| span.start));
    let table = DeTable::parse(text).map_err(|e| BadFile::NotToml { line: line(&e) })?;
    let raw = raw::File::deserialize(Deserializer::from(table))
        .map_err(|e| BadFile::WrongShape { line: line(&e) })?;
    raw::check(raw)
}

/// The list as it is written.
#[cfg(feature = "toml")]
mod raw {
    use super::*;
    use crate::config::check_service_name;
    use crate::discovery::sound::{self, MOST_INSTANCES};

    #[derive(Deserialize)]
    pub(super) struct File {
        services: BTreeMap<String, Service>,
    }

    #[derive(Deserialize)]
    struct Service {
        health: Option<Arc<str>>,
        #[serde(default)]
        endpoints: Vec<Endpoint>,
    }

    #[derive(Deserialize)]
    struct Endpoint {
        address: String,
        #[serde(default = "default_cluster")]
        cluster: Arc<str>,
        #[serde(default)]
        role: Role,
        #[serde(default = "default_weight")]
        weight: u32,
        #[serde(default)]
        tags: Vec<Arc<str>>,
        #[serde(default)]
        metadata: BTreeMap<Arc<str>, Arc<str>>,
        health: Option<Arc<str>>,
    }

    fn default_cluster() -> Arc<str> {
        "static".into()
    }

    fn default_weight() -> u32 {
        1
    }

    pub(super) fn check(raw: File) -> Result<Listing, BadFile> {
        if raw.services.len() > MOST_SERVICES {
            return Err(BadFile::TooManyServices(raw.services.len()));
        }
        let count = raw.services.values().map(|service| service.endpoints.len()).sum();
        if count > MOST_INSTANCES {
            return Err(BadFile::TooManyInstances(count));
        }
        let mut listing = Listing::default();
        for (name, service) in raw.services {
            if check_service_name(&name).is_err() {
                // Not repeated: a name that is none may be anything.
                return Err(BadFile::Entry { field: "services".into(), why: EntryFault::Name });
            }
            let mut instances = Vec::with_capacity(service.endpoints.len());
            for (index, endpoint) in service.endpoints.into_iter().enumerate() {
                let instance = read(endpoint, service.health.as_ref()).map_err(|why| {
                    let end = if why == EntryFault::Address { ".address" } else { "" };
                    let field = format!("services.{name}.endpoints[{index}]{end}");
                    BadFile::Entry { field, why }
                })?;
                instances.push(instance);
            }
            listing.services.insert(name.into(), instances);
        }
        Ok(listing)
    }

    fn read(raw: Endpoint, health: Option<&Arc<str>>) -> Result<Instance, EntryFault> {
        let address = Address::parse(&raw.address).map_err(|_| EntryFault::Address)?;
        let instance = Instance {
            weight: raw.weight,
            tags: raw.tags,
            metadata: raw.metadata,
            health: raw.health.or_else(|| health.cloned()),
            ..Instance::new(raw.cluster, raw.role, address)
        };
        sound::check(&instance).map_err(EntryFault::Unsound)?;
        Ok(instance)
    }
}
