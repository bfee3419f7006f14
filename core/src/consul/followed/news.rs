//! What following Consul brings: changes for a driver to put in force, and notices for operators.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::consul::connect::membership;
use crate::consul::entries::Suggestion;
use crate::identity::files::Content;
use crate::time::{DurationText, Rounded};

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct News {
    /// Who this client is in the mesh: see [`Followed::in_force`](super::Followed::in_force).
    pub certificates: bool,
    /// What is suggested for services: see [`Followed::suggestion`](super::Followed::suggestion).
    pub defaults: bool,
    /// Other files of TLS towards the agents.
    pub files: Option<Content>,
}

/// What operators are told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// About the certificates of the mesh.
    Connect(membership::Said),
    /// Other defaults are in force for a service.
    Defaults {
        /// The service.
        service: Arc<str>,
        /// What Consul suggests for it now.
        suggestion: Suggestion,
    },
    /// Defaults of Consul cannot be used for a service; its rules stay as they are.
    DefaultsRefused {
        /// The service.
        service: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// Defaults cannot be read; the first failure of a row.
    DefaultsFailed {
        /// Why.
        reason: Arc<str>,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// The files of TLS towards the agents have changed and are in force.
    FilesInForce,
    /// They cannot be read; the first failure of a row.
    FilesFailed {
        /// Why.
        reason: Arc<str>,
    },
    /// They have changed and cannot be used; what was in force before still is.
    FilesRefused {
        /// Why.
        reason: Arc<str>,
    },
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Connect(said) => said.fmt(f),
            Said::Defaults { service, suggestion } => {
                let Suggestion { connect, attempt, idle, protocol } = suggestion;
                write!(f, "defaults of consul for {service}:")?;
                for (name, span) in [("connect", connect), ("attempt", attempt), ("idle", idle)] {
                    if let Some(span) = span {
                        write!(f, " {name} {}", DurationText(*span))?;
                    }
                }
                match protocol {
                    Some(protocol) => write!(f, " protocol {protocol}"),
                    None if suggestion == &Suggestion::default() => f.write_str(" none"),
                    None => Ok(()),
                }
            }
            Said::DefaultsRefused { service, reason } => {
                write!(f, "defaults of consul for {service} cannot be used: {reason}")
            }
            Said::DefaultsFailed { reason, retry_in } => {
                write!(
                    f,
                    "defaults of consul cannot be read: {reason}; next try in {retry_in}",
                    retry_in = Rounded(*retry_in)
                )
            }
            Said::FilesInForce => f.write_str("other certificates towards consul are in force"),
            Said::FilesFailed { reason } => {
                write!(f, "certificates towards consul cannot be read again: {reason}")
            }
            Said::FilesRefused { reason } => {
                write!(f, "changed certificates towards consul cannot be used: {reason}")
            }
        }
    }
}
