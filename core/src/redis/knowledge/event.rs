//! What the exchange machine hands out: an exchange to be carried out, and what came of one.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::Unheard;
use crate::redis::Command;
use crate::redis::link::Change;
use crate::time::Time;

/// One exchange to be carried out.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// To be given back with the result.
    pub id: u64,
    /// To be sent together.
    pub commands: Vec<Command>,
    /// To be given up at this time.
    pub deadline: Time,
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An outage of Redis began or ended.
    Link(Change),
    /// A record is not heard. At most once a minute.
    Unheard {
        /// Whose it is.
        node: Arc<str>,
        /// Why.
        why: Unheard,
        /// Records not heard since the warning before, this one included.
        times: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Link(change) => write!(f, "shared breakers: {change}"),
            Event::Unheard { node, why, times } => {
                write!(f, "shared breakers: node {node} is not heard ({times} times): {why}")
            }
        }
    }
}

/// What came of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Done {
    /// Whether other endpoints are advised against than before.
    pub changed: bool,
    /// What is worth a line in a log.
    pub events: Vec<Event>,
}
