//! The credentials of a client as a snapshot shows them: what there is, where it is had, how old it
//! is and when it ends. Never a value, nor anything that could be one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// The client's own certificate with its key.
    Certificate,
    /// The authorities that vouch for services; its end is that of the first of them.
    Roots,
    /// The token of the service account.
    ServiceToken,
    /// The token for Vault.
    VaultToken,
    /// The keys that sign requests to storage.
    StorageKeys,
    /// The token for what concerns Consul's agents and cluster.
    ConsulAgentToken,
    /// The token for services in Consul.
    ConsulServiceToken,
    /// The leaf certificate of Consul Connect.
    MeshCertificate,
}

/// Where it is had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialSource {
    /// The program gave it.
    Program,
    /// It stands in the configuration.
    Configuration,
    /// This environment variable, read once.
    Variable(Arc<str>),
    /// This file, which is followed where the configuration names it.
    File(Arc<str>),
    /// A login of this kind.
    Login(Arc<str>),
    /// Consul issues it.
    Consul,
    /// Mozilla's list, compiled in.
    BuiltIn,
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialSource::Program => f.write_str("the program"),
            CredentialSource::Configuration => f.write_str("the configuration"),
            CredentialSource::Variable(name) => write!(f, "the variable {name}"),
            CredentialSource::File(path) => write!(f, "the file {path}"),
            CredentialSource::Login(kind) => write!(f, "a login by {kind}"),
            CredentialSource::Consul => f.write_str("Consul"),
            CredentialSource::BuiltIn => f.write_str("Mozilla's list"),
        }
    }
}

/// How one credential stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CredentialSnapshot {
    /// What it is.
    pub kind: CredentialKind,
    /// Where it is had.
    pub source: CredentialSource,
    /// Whether there is one that can be used now.
    pub held: bool,
    /// How long it has been in use; `None` where there is none.
    pub age: Option<Duration>,
    /// How long it lasts, zero when it is over; `None`: it does not end, or does not say when.
    pub ends_in: Option<Duration>,
}
