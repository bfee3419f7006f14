//! Discovery: from what sources say to an ordered list of endpoints.
//!
//! ```text
//! directory     which sources a service has, what comes of their answers, who must be told
//! ├ feed        one source, about everything or one service: when to ask it, what is held
//! │ └ fetch     how it is asked, and how its answers are read
//! ├ removal     what is believed when many instances vanish at once
//! ├ kept        what survives a restart
//! └ plan        failover order
//! delivery      telling those who watch a service
//! ```

pub mod delivery;
pub mod directory;
pub mod document;
pub mod environment;
mod feed;
mod fetch;
pub mod file;
pub mod health_path;
pub mod instance;
pub mod kept;
mod listing;
mod memory;
pub mod plan;
pub mod removal;

pub mod sound;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::document::BadDocument;
use crate::outcome::Fault;

pub use directory::Directory;
pub use document::Document;
pub use environment::Environment;
pub use health_path::HealthPath;
pub use instance::{Condition, Instance};
pub use plan::{Candidate, Place};

/// What the document says a cluster is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Tried first after the local cluster.
    Primary,
    /// Tried after the primary, in the order of the document. Unknown roles count as backup.
    #[default]
    #[serde(other)]
    Backup,
}

/// What the machine around a client says: read once by the driver, where sources need it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment variables.
    pub variables: Vec<(String, String)>,
    /// The text of `resolv.conf`.
    pub resolv_conf: Option<String>,
}

impl Surroundings {
    /// The variable called `name`; the last one of that name.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, text)| text.clone())
    }
}

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The Origin document: one GET that answers with every service.
    Document,
    /// Consul's catalogue.
    Consul,
    /// SRV and address records.
    Dns,
    /// A file with services and their instances.
    File,
    /// Environment variables.
    Environment,
}

impl SourceKind {
    /// All of them, in the order in which they are asked unless configured otherwise.
    pub const ALL: [SourceKind; 5] = [
        SourceKind::Document,
        SourceKind::Consul,
        SourceKind::Dns,
        SourceKind::File,
        SourceKind::Environment,
    ];

    /// Whether one answer of it is about all services.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, SourceKind::Document | SourceKind::File | SourceKind::Environment)
    }

    /// `document`, `consul`, `dns`, `file` or `environment`, as in `origin.toml`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            SourceKind::Document => "document",
            SourceKind::Consul => "consul",
            SourceKind::Dns => "dns",
            SourceKind::File => "file",
            SourceKind::Environment => "environment",
        }
    }
}

/// Why a source has no answer, or no newer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryError {
    /// The exchange failed.
    #[error("{0}")]
    Fault(Fault),
    /// The source answered with a status that carries nothing.
    #[error("answered {0}")]
    Status(u16),
    /// The source redirects to another host, in circles, or nowhere.
    #[error("answered {0} with a redirect that is not followed; configure the final URL")]
    Redirect(u16),
    /// The document was refused.
    #[error("the document was refused: {0}")]
    Document(BadDocument),
    /// The source refuses this client: its token lacks a right. Not tried again soon.
    #[error("permission denied: {0}")]
    Denied(Arc<str>),
    /// The answer cannot be used; what is wrong with it, without its content.
    #[error("{0}")]
    Reply(Arc<str>),
    /// The exchange is none for this adapter, or the file cannot be read.
    #[error("{0}")]
    Impossible(Arc<str>),
}

/// Kinds of errors, in words.
const ERRORS: [&str; 8] =
    ["timeout", "connection", "status", "redirect", "document", "denied", "reply", "impossible"];

impl DiscoveryError {
    /// What kind of error it is, in a word or two.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        ERRORS[self.at()]
    }

    /// Its place among [`ERRORS`].
    const fn at(&self) -> usize {
        match self {
            DiscoveryError::Fault(Fault::Timeout | Fault::ConnectTimeout) => 0,
            DiscoveryError::Fault(_) => 1,
            DiscoveryError::Status(_) => 2,
            DiscoveryError::Redirect(_) => 3,
            DiscoveryError::Document(_) => 4,
            DiscoveryError::Denied(_) => 5,
            DiscoveryError::Reply(_) => 6,
            DiscoveryError::Impossible(_) => 7,
        }
    }

    /// Whether asking again soon is of no use.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, DiscoveryError::Denied(_))
    }
}
