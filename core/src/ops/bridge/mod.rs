//! Clients of the `OmniNode` bridge: [`Stamping`] (`MetadataStampingService`), [`OnexTree`], and
//! [`Bridge`], which does with both what an orchestrator does.
//!
//! All a client needs is where the service is; everything else has a default. With an adapter:
//!
//! ```text
//! let client = Client::builder().endpoint("metadata-stamping", url).build()?;
//! let hash = Stamping::new(client).generate_hash(b"content", None).await?;
//! ```
//!
//! or with the addresses, retries, breakers and cache of the contracts, and no argument at all:
//!
//! ```text
//! let client = Client::builder().bridge().build()?;
//! let known = client.bridge().tree().get_intelligence(&IntelligenceQuery::new("auth")).await?;
//! ```
//!
//! What a server says of an error is in no error text but for its code; [`Problem::all`] reads it
//! for who asks. Errors of three kinds can be told apart: the breaker is open
//! ([`Error::is_circuit_open`]), the service is unavailable for whatever reason
//! ([`Error::is_unavailable`], which matches an open breaker, too), and all others.
//!
//! | file | what |
//! |---|---|
//! | `stamping.rs`, `tree.rs` | the operations |
//! | `published.rs` | those that only the published servers have |
//! | `pipeline.rs` | both services together |
//! | `data.rs` | what goes in and comes out |
//! | `envelope.rs` | what is around that |
//! | `confidence.rs` | what an answer of the tree is worth |
//! | `multipart.rs` | a file as a form |
//! | `health.rs`, `metrics.rs` | how services are, what clients count |
//! | `setup.rs` | the configuration of the contracts |

mod confidence;
mod data;
pub mod envelope;
mod health;
mod metrics;
mod multipart;
mod pipeline;
mod published;
mod setup;
pub mod stamping;
#[cfg(test)]
mod tests;
pub mod tree;

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Flow, Step};
use crate::request::Response;

// What the contract's package exports beside the clients (001-02); its three kinds of errors are
// told apart by `is_circuit_open`, `is_unavailable` and the rest.
pub use crate::config::BreakerConfig;
pub use crate::error::Error;
pub use crate::policy::breaker::{Breaker, State};

pub use confidence::{Confidence, Level};
pub use data::{
    BadDirection, Batch, Direction, Hash, Intelligence, IntelligenceQuery, Knowledge,
    KnowledgeQuery, NewStamp, Seen, Stamp, Validation, Walk,
};
pub use envelope::Problem;
pub use health::{BridgeHealth, Health, OneHealth, Together, Words};
pub use metrics::{BreakerMetrics, CacheMetrics, ClientMetrics};
pub use pipeline::{Bridge, Processed};
pub use published::{
    BadQueryKind, Entry, Found, Generated, Named, PageOf, ProtocolCheck, QueryKind, Stamps,
    TreeStats,
};
pub use setup::{
    INTELLIGENCE_TIMEOUT_VARIABLE, STAMPING_HEALTH_TIMEOUT_VARIABLE, STAMPING_TIMEOUT_VARIABLE,
    STAMPING_URL, STAMPING_URL_VARIABLE, TREE_HEALTH_TIMEOUT_VARIABLE, TREE_URL, TREE_URL_VARIABLE,
    configure,
};
pub use stamping::Stamping;
pub use tree::OnexTree;

/// A flow that sends nothing and ends in an error.
struct Refused<T> {
    service: Arc<str>,
    error: Error,
    output: PhantomData<fn() -> T>,
}

fn refused<T: Send + 'static>(service: &str, error: Error) -> impl Flow<Output = T> + use<T> {
    Refused { service: service.into(), error, output: PhantomData }
}

impl<T: Send + 'static> Flow for Refused<T> {
    type Output = T;

    fn service(&self) -> &str {
        &self.service
    }

    fn next(&mut self, _: Option<Response>) -> Result<Step<T>, Error> {
        Err(self.error.clone())
    }
}
