//! The services of DesignSynapse (contracts §4): users, projects, knowledge, designs, and the two of
//! which only an address is known, analytics and the marketplace.
//!
//! **Whose paths.** What the platform's client code asks for and what its servers offer differ
//! (§4.6). A client here speaks as that code does; [`Users::published`] and its like turn to what
//! the servers publish, in one call, and `path` moves one operation. Operations that only one side
//! has are the same either way. A redirect to the path with a slash is followed, so that both ways
//! reach a server that wants it.
//!
//! **Where they are.** Paths are below the address of the service, as its registry has it:
//! `http://localhost:8001/api/v1`. The [environment](crate::discovery::environment) gives such
//! addresses, and nothing is put in front of them. For addresses without the prefix, say so:
//! `Users::new(caller).prefix("/api/v1")`. Health and readiness stand at the host either way.
//!
//! **Ids** are positive; others are refused before anything is sent. **Replies** are typed as far as
//! the sources agree on a field; what else a server says is in `other`. Bodies of creating and
//! updating calls are free objects there, so anything that serializes is taken here. Creating calls
//! are not repeated once they may have arrived; where that is wanted, the `_with_key` form sends an
//! `Idempotency-Key`, which helps only with a server that heeds it.
//!
//! ```
//! use origin_core::ops::Caller;
//! use origin_core::ops::design::{Paging, Projects};
//!
//! fn work<C: Caller>(caller: C) {
//!     let projects = Projects::new(caller);
//!     let _all = projects.list(Paging::default());
//!     let _mine = projects.is_owner(7, 42);
//! }
//! ```
//!
//! Arguments of other types do not compile:
//!
//! ```compile_fail
//! # use origin_core::ops::{Caller, design::Projects};
//! fn work<C: Caller>(caller: C) {
//!     let _ = Projects::new(caller).get("forty-two");
//! }
//! ```

#[macro_use]
mod client;
mod designs;
mod form;
mod knowledge;
mod project;
#[cfg(test)]
mod tests;
mod user;
mod wire;

use crate::ops::Caller;

pub use client::Probe;
pub use designs::{
    Design, DesignComment, DesignFile, DesignFilter, Designs, Export, NewDesign, Optimization,
    Task, Validation, Visuals,
};
pub use form::Upload;
pub use knowledge::{
    Citation, Found, Knowledge, Recommendation, Resource, ResourceFilter, Resources, Search,
};
pub use project::{Comment, NewComment, NewProject, Paging, Project, ProjectStatus, Projects};
pub use user::{Role, Session, User, Users};
pub use wire::Fields;

client! {
    /// Analytics. Neither its client nor its server has an operation (contracts §4.4, §4.5), so
    /// there are health, readiness, and [`Analytics::api`] for what you know of yours.
    Analytics, "analytics-service", ["accept": "application/json"], "/health", "/ready"
}

client! {
    /// The marketplace. As with [`Analytics`], nothing of it is known but its address.
    Marketplace, "marketplace-service", ["accept": "application/json"], "/health", "/ready"
}
