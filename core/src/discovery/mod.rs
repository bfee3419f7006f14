//! Discovery: from the consolidated document to an ordered list of endpoints.
//! [`document`] parses it, [`plan`] orders it, [`directory`] decides when to fetch it.

pub mod directory;
pub mod document;
pub mod instance;
pub mod plan;

use serde::{Deserialize, Serialize};

pub use directory::{Directory, DiscoveryError};
pub use document::Document;
pub use instance::{Condition, Instance};
pub use plan::{Candidate, Place};

/// What the document says a cluster is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Tried first after the local cluster.
    Primary,
    /// Tried after the primary, in the order of the document. Unknown roles count as backup.
    #[default]
    #[serde(other)]
    Backup,
}
