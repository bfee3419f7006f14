//! What operators are told of an identity, and how it stands: names, numbers and times, never a key
//! or a token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate::Leaf;
use super::token::Trouble;
use crate::time::{Rounded, Wall};

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Another certificate, other authorities, or both are in force.
    Exchanged {
        /// The certificate; `None`: there is none.
        leaf: Option<Leaf>,
    },
    /// Something else is expected of servers (`Client::set_expectations`).
    Expected {
        /// Targets of which something is expected beyond their host name.
        targets: usize,
    },
    /// A certificate expires, and there is no successor yet.
    Expiring {
        /// How it is called.
        name: Arc<str>,
        /// Its serial number.
        serial: Arc<str>,
        /// How long it still holds.
        left: Duration,
    },
    /// It has expired; servers that ask for one will refuse it.
    Expired {
        /// How it is called.
        name: Arc<str>,
        /// Its serial number.
        serial: Arc<str>,
    },
    /// Its files cannot be read again; the first failure of a row.
    FilesFailed {
        /// Which, and why.
        reason: Arc<str>,
    },
    /// They have changed and cannot be used; what was in force before still is.
    FilesRefused {
        /// Which, and why.
        reason: Arc<str>,
    },
    /// There is another token; the first one is not told of.
    TokenExchanged {
        /// When it says that it ends.
        until: Option<Wall>,
    },
    /// The file of the token cannot be used; the first failure of a row.
    TokenFailed {
        /// Which file.
        file: Arc<str>,
        /// Why.
        trouble: Trouble,
        /// Whether there is an earlier token, which is used on.
        kept: bool,
    },
    /// The token has ended and is forgotten: calls that need it fail.
    TokenExpired,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Exchanged { leaf: Some(leaf) } => {
                write!(f, "certificate {} ({}) is in force", leaf.serial, leaf.name())
            }
            Said::Exchanged { leaf: None } => {
                f.write_str("other certificates are in force; there is none of our own")
            }
            Said::Expected { targets } => {
                write!(f, "other expectations are in force, of {targets} targets")
            }
            Said::Expiring { name, serial, left } => {
                let left = Rounded(*left);
                write!(f, "certificate {serial} ({name}) expires in {left}, no successor yet")
            }
            Said::Expired { name, serial } => {
                write!(f, "certificate {serial} ({name}) has expired")
            }
            Said::FilesFailed { reason } => {
                write!(f, "the files of the identity cannot be read again: {reason}")
            }
            Said::FilesRefused { reason } => {
                write!(f, "the changed files of the identity cannot be used: {reason}")
            }
            Said::TokenExchanged { .. } => f.write_str("another service-account token is in use"),
            Said::TokenFailed { file, trouble, kept } => {
                let kept = if *kept { "; the one before is used on" } else { "" };
                write!(f, "the file of the service-account token, {file:?}, {trouble}{kept}")
            }
            Said::TokenExpired => f.write_str("the service-account token has expired"),
        }
    }
}

/// How the identity of a client stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// The certificate in force; `None`: there is none, or it cannot be read.
    pub certificate: Option<Leaf>,
    /// Whether it has expired.
    pub expired: bool,
    /// How often certificate or authorities were exchanged.
    pub exchanged: u64,
    /// The token of the service account; `None`: none is configured.
    pub token: Option<TokenView>,
}

/// How the token of a service account stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenView {
    /// Its file; `None`: the program gave it.
    pub file: Option<Arc<str>>,
    /// Whether there is one that can be used.
    pub held: bool,
    /// Since when it is used.
    #[serde(default)]
    pub since: Option<Wall>,
    /// When it says that it ends.
    pub until: Option<Wall>,
    /// Tokens taken so far.
    pub taken: u64,
    /// What was wrong with the file at the last look.
    pub trouble: Option<Trouble>,
    /// Who is sent it.
    pub services: Vec<Arc<str>>,
}
