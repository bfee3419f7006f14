//! What a membership tells operators. Nothing of a key is in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Rounded;
use serde::{Deserialize, Serialize};

/// One of the two things that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The authorities.
    Roots,
    /// One's own certificate.
    Leaf,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Roots => "the roots",
            Part::Leaf => "the certificate",
        })
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Roots and certificate are in force.
    InForce {
        /// The service that this program is.
        service: Arc<str>,
        /// The serial number of its certificate.
        serial: Arc<str>,
        /// How many authorities are believed.
        roots: usize,
        /// How long the certificate holds.
        left: Duration,
    },
    /// The certificate expires soon, and there is no successor.
    Expiring {
        /// Its serial number.
        serial: Arc<str>,
        /// How long it still holds.
        left: Duration,
    },
    /// It has expired and is not shown any more.
    Expired {
        /// Its serial number.
        serial: Arc<str>,
    },
    /// Reading it from the agent failed; the first of a row.
    Failed {
        /// What was read.
        part: Part,
        /// Why.
        reason: Arc<str>,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// What was read cannot be used; what was in force before still is.
    Refused {
        /// Why.
        reason: Arc<str>,
    },
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::InForce { service, serial, roots, left } => write!(
                f,
                "connect: certificate {serial} of {service} in force for {left}, with {roots} \
                 roots",
                left = Rounded(*left)
            ),
            Said::Expiring { serial, left } => {
                write!(
                    f,
                    "connect: certificate {serial} expires in {left}, no successor yet",
                    left = Rounded(*left)
                )
            }
            Said::Expired { serial } => {
                write!(f, "connect: certificate {serial} has expired, calls in the mesh fail")
            }
            Said::Failed { part, reason, retry_in } => {
                write!(
                    f,
                    "connect: {part} cannot be read: {reason}; next try in {retry_in}",
                    retry_in = Rounded(*retry_in)
                )
            }
            Said::Refused { reason } => {
                write!(f, "connect: what was read cannot be used: {reason}")
            }
        }
    }
}
