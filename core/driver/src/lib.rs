//! The runtime-neutral half of driving [`origin_core`].
//!
//! Applications use one of the adapter crates, which re-export everything a caller needs from
//! here. This crate is for those who write an adapter: it holds the locks, the call loops (async
//! and blocking), the guards that give back what a dropped call holds, and the public client,
//! written once over the [`Runtime`] trait. It decides nothing: every decision is a step of a
//! core machine.
//!
//! | file | what lives there |
//! |---|---|
//! | `client.rs`, `request.rs`, `response.rs` | what applications see |
//! | `hub.rs` | what the handles of one client share |
//! | `flight.rs` | one call: core `Call` + lock + trail + drop guard |
//! | `asynchronous.rs` | the async loop over hyper's pooled client (feature `hyper`) |
//! | `blocking.rs` | its plain twin |
//! | `hyper.rs`, `tls.rs` | connections and TLS shared by the async adapters |

#[cfg(feature = "hyper")]
pub mod asynchronous;
pub mod blocking;
mod client;
mod flight;
mod hub;
#[cfg(feature = "hyper")]
pub mod hyper;
mod request;
mod response;
mod roots;
mod runtime;
#[cfg(feature = "rustls")]
pub mod tls;

pub use client::{Builder, Client};
pub use hub::{Hub, Slot};
pub use request::{RequestBuilder, Upstream};
pub use response::Streaming;
pub use roots::Roots;
pub use runtime::{Options, Runtime};

pub use origin_core as core;
