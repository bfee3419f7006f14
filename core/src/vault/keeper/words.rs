//! The words of the keeper: what it is told, what it asks, what it is answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;
use crate::vault::event::{AskId, Trouble, What};
use crate::vault::schedule;

/// How the token is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was given, and cannot be had again.
    Given,
    /// It stands in a file that is looked at this often.
    File {
        /// From one look to the next.
        poll: Duration,
    },
    /// By a login.
    Login {
        /// Whether a file is read before.
        reads: bool,
    },
}

/// What the keeper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// How the token is had.
    pub how: How,
    /// When it is renewed.
    pub times: schedule::Settings,
    /// Deadline of one thing asked.
    pub timeout: Duration,
}

impl Settings {
    /// The settings of the keeper in those of Vault.
    #[must_use]
    pub fn of(how: How, vault: &crate::vault::Settings) -> Settings {
        Settings { how, times: *vault.token(), timeout: vault.timeout() }
    }
}

/// Something to be asked of Vault, or read. A lease: what does not come back until shortly after
/// its deadline counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// To be given back with the answer.
    pub id: AskId,
    /// What to do.
    pub what: What,
    /// To be given up at this time.
    pub deadline: Time,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Poll {
    /// This.
    Ask(Asked),
    /// Nothing before this time.
    Wait(Time),
}

/// What came of something asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A file was read, and holds something new: the token, or what the login needs.
    Fresh,
    /// The file holds the same token as before.
    Same,
    /// A login, a renewal or a look: the token lasts this long; zero is forever.
    Granted {
        /// How long from when it was asked.
        lease: Duration,
        /// Whether it can be renewed.
        renewable: bool,
    },
    /// It is revoked.
    Revoked,
    /// It failed.
    Failed(Trouble),
}

/// Where the token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// There is none.
    None,
    /// There is none, and one is being had.
    LoggingIn,
    /// There is one.
    Held,
    /// There is one, and it is being renewed.
    Renewing,
    /// There is one, and another one is being had.
    Replacing,
    /// The client is closed.
    Closed,
}
