//! What the machines want of Vault, what came of it, and what they have to say. Neither a token
//! nor anything that Vault wrote stands in any of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Next, VaultError};
use crate::outcome::Fault;
use crate::time::{Rounded, Time};

/// Events kept until they are taken; the oldest fall out.
pub const KEPT: usize = 256;

/// How long past its deadline something asked may report: timers fire in any order.
pub(super) const LATE: Duration = Duration::from_millis(500);

/// Names one issue of something asked. Unique within its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskId(pub(super) u64);

/// Why something failed. Holds nothing that a peer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// There was no usable answer.
    Fault(Fault),
    /// The node is sealed.
    Sealed,
    /// The node is a standby, behind, or not initialised.
    Standby,
    /// Vault does not know the token.
    Invalid,
    /// Vault does not permit it.
    Denied,
    /// The credentials of the login are wrong, or Vault does not take the request.
    Refused(u16),
    /// Vault answered with this status.
    Status(u16),
    /// The answer cannot be read.
    Malformed,
    /// The file is not there, empty, or cannot be read.
    NoFile,
    /// The file still holds a token that is of no use any more.
    OldFile,
    /// Nobody knows where Vault is.
    NoNode,
    /// The driver gave it up; says nothing about Vault.
    Dropped,
}

impl Trouble {
    /// The lease of something asked ended without an answer.
    pub(super) const LOST: Trouble = Trouble::Fault(Fault::Timeout);

    pub(super) const fn of(error: &VaultError) -> Trouble {
        match error {
            VaultError::Sealed => Trouble::Sealed,
            VaultError::Standby { .. } | VaultError::Behind | VaultError::NotInitialised => {
                Trouble::Standby
            }
            VaultError::InvalidToken => Trouble::Invalid,
            VaultError::Denied | VaultError::NoToken => Trouble::Denied,
            VaultError::LoginRefused { status } | VaultError::Refused { status } => {
                Trouble::Refused(*status)
            }
            VaultError::NotFound => Trouble::Refused(404),
            VaultError::LeaseRefused
            | VaultError::Field { .. }
            | VaultError::Conflict
            | VaultError::CasRequired => Trouble::Refused(400),
            VaultError::TooOften => Trouble::Status(429),
            VaultError::Failed { status } => Trouble::Status(*status),
            _ => Trouble::Malformed,
        }
    }

    /// Whether another node may do better.
    #[must_use]
    pub const fn elsewhere(self) -> bool {
        match self {
            Trouble::Fault(_) | Trouble::Sealed | Trouble::Standby => true,
            Trouble::Status(status) => status >= 500,
            _ => false,
        }
    }

    /// Whether only a person can end it, so that it is repeated rarely.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        matches!(self, Trouble::Denied | Trouble::Invalid | Trouble::Refused(_))
    }

    /// What to do about it.
    #[must_use]
    pub const fn next(self) -> Next {
        match self {
            Trouble::Fault(_) | Trouble::Sealed | Trouble::Standby => Next::Elsewhere,
            Trouble::Invalid => Next::LogIn,
            Trouble::Denied => Next::Permit,
            Trouble::Refused(_) | Trouble::NoFile | Trouble::OldFile => Next::Credentials,
            Trouble::Status(_) | Trouble::Malformed | Trouble::NoNode | Trouble::Dropped => {
                Next::Later
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Fault(fault) => fault.fmt(f),
            Trouble::Sealed => f.write_str("the node is sealed"),
            Trouble::Standby => f.write_str("the node does not answer this at the moment"),
            Trouble::Invalid => f.write_str("vault does not know the token"),
            Trouble::Denied => f.write_str("permission denied"),
            Trouble::Refused(status) => write!(f, "vault refuses it ({status})"),
            Trouble::Status(status) => write!(f, "vault answered {status}"),
            Trouble::Malformed => f.write_str("the answer cannot be read"),
            Trouble::NoFile => f.write_str("the file of the credential cannot be used"),
            Trouble::OldFile => f.write_str("the file still holds the old token"),
            Trouble::NoNode => f.write_str("no node of vault is known"),
            Trouble::Dropped => f.write_str("given up by the driver"),
        }
    }
}

/// Why a token or a lease is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// Its time is over.
    Expired,
    /// Vault does not know it any more.
    Revoked,
}

/// Something that happened and is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// There is a token.
    TokenAcquired {
        /// How long it lasts; zero is forever.
        lease: Duration,
        /// Whether it can be renewed.
        renewable: bool,
        /// Whether there was another one before.
        again: bool,
    },
    /// The token lasts longer.
    TokenRenewed {
        /// How long from now.
        lease: Duration,
    },
    /// Vault does not say how long the token lasts; it is used, and nothing is done ahead.
    TokenUnknown {
        /// Why not.
        error: Trouble,
    },
    /// The token could not be had, looked up or renewed; it is tried again.
    TokenFailed {
        /// What was tried.
        what: What,
        /// Why it failed.
        error: Trouble,
        /// Failures in a row.
        failures: u32,
        /// What is left of the present token; zero: there is none.
        left: Duration,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// The token expires soon, and the client cannot replace it by itself.
    TokenExpiring {
        /// What is left of it.
        left: Duration,
    },
    /// The token is of no use any more.
    TokenLost {
        /// Why.
        why: Gone,
    },
    /// The token was revoked at the end, or could not be.
    TokenRevoked {
        /// Why not.
        error: Option<Trouble>,
    },
    /// A lease lasts longer.
    LeaseRenewed {
        /// The path of the secret.
        path: Arc<str>,
        /// How long from now.
        lease: Duration,
    },
    /// A lease could not be renewed; it is tried again.
    LeaseFailed {
        /// The path of the secret.
        path: Arc<str>,
        /// Why.
        error: Trouble,
        /// What is left of it.
        left: Duration,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// A lease expires soon and cannot be renewed: read the secret again.
    LeaseExpiring {
        /// The path of the secret.
        path: Arc<str>,
        /// What is left of it.
        left: Duration,
    },
    /// A lease is over: the secret is of no use any more.
    LeaseLost {
        /// The path of the secret.
        path: Arc<str>,
        /// Why.
        why: Gone,
    },
    /// A lease was revoked, or could not be; then it expires by itself.
    LeaseRevoked {
        /// The path of the secret.
        path: Arc<str>,
        /// Why not.
        error: Option<Trouble>,
    },
}

/// What was tried with the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Reading the file of the credential.
    Read,
    /// Looking the token up.
    LookUp,
    /// Logging in.
    LogIn,
    /// Renewing.
    Renew,
    /// Revoking.
    Revoke,
}

impl What {
    const fn text(self) -> &'static str {
        match self {
            What::Read => "reading the credential",
            What::LookUp => "looking the token up",
            What::LogIn => "the login",
            What::Renew => "renewing the token",
            What::Revoke => "revoking the token",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |span: &Duration| Rounded(*span);
        match self {
            Event::TokenAcquired { lease, .. } if lease.is_zero() => {
                f.write_str("vault: there is a token that does not expire")
            }
            Event::TokenAcquired { lease, renewable, again } => {
                let again = if *again { "a new" } else { "a" };
                let how = if *renewable { "and can be renewed" } else { "and cannot be renewed" };
                write!(f, "vault: there is {again} token, it lasts {} {how}", span(lease))
            }
            Event::TokenRenewed { lease } => write!(f, "vault: token renewed for {}", span(lease)),
            Event::TokenUnknown { error } => {
                write!(f, "vault: how long the token lasts is not known: {error}")
            }
            Event::TokenFailed { what, error, failures, left, retry_in } => {
                let (what, next) = (what.text(), error.next().text());
                write!(
                    f,
                    "vault: {what} failed for the {failures}. time: {error}; the token lasts \
                     another {}; next try in {}; {next}",
                    span(left),
                    span(retry_in)
                )
            }
            Event::TokenExpiring { left } => {
                write!(f, "vault: the token expires in {} and is not replaced", span(left))
            }
            Event::TokenLost { why: Gone::Expired } => f.write_str("vault: the token has expired"),
            Event::TokenLost { why: Gone::Revoked } => {
                f.write_str("vault: the token is revoked or not known any more")
            }
            Event::TokenRevoked { error: None } => f.write_str("vault: the own token is revoked"),
            Event::TokenRevoked { error: Some(error) } => {
                write!(f, "vault: the own token could not be revoked: {error}")
            }
            Event::LeaseRenewed { path, lease } => {
                write!(f, "vault: lease of {path} renewed for {}", span(lease))
            }
            Event::LeaseFailed { path, error, left, retry_in } => write!(
                f,
                "vault: lease of {path} not renewed: {error}; it lasts another {}; next try in {}",
                span(left),
                span(retry_in)
            ),
            Event::LeaseExpiring { path, left } => {
                write!(f, "vault: lease of {path} expires in {}; read it again", span(left))
            }
            Event::LeaseLost { path, why: Gone::Expired } => {
                write!(f, "vault: lease of {path} has expired")
            }
            Event::LeaseLost { path, why: Gone::Revoked } => {
                write!(f, "vault: lease of {path} is revoked")
            }
            Event::LeaseRevoked { path, error: None } => {
                write!(f, "vault: lease of {path} given back")
            }
            Event::LeaseRevoked { path, error: Some(error) } => {
                write!(f, "vault: lease of {path} could not be given back: {error}")
            }
        }
    }
}

/// A bounded ring of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Events(VecDeque<(Time, Event)>);

impl Events {
    pub(super) fn push(&mut self, at: Time, event: Event) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, event));
    }

    /// Takes what happened, oldest first.
    #[must_use]
    pub fn take(&mut self) -> Vec<(Time, Event)> {
        self.0.drain(..).collect()
    }
}
