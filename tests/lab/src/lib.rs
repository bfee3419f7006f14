//! A laboratory on loopback: servers that misbehave on command, a registry
//! document, a scripted outage, and the report of what a client made of it.
//!
//! Everything here is plain `std`: threads, `std::net`, and a small HTTP/1.1
//! server of its own, so that a test of an HTTP client never shares code with
//! the client it tests. What is deliberately absent: TLS, HTTP/2, any async
//! runtime, and any opinion about how a client should behave. The laboratory
//! only breaks things and measures. (The exception is the feature `grpc`: a
//! server of the gRPC health protocol, over hyper.)
//!
//! ```
//! use origin_lab::{FaultServer, Mode};
//!
//! let server = FaultServer::named("beta", "beta-0")?;
//! server.set(Mode::status(503)); // every request is now answered with 503
//! server.set(Mode::Refuse);      // connect() now fails with ECONNREFUSED
//! server.set(Mode::Ok);          // and the same port answers again
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod accept;
mod book;
pub mod bridge;
mod calendar;
mod canvas;
mod clusters;
mod conduct;
mod connection;
mod document;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod mode;
mod outage;
mod pace;
mod record;
mod registry;
mod report;
mod server;
mod services;
mod store;
mod svg;
mod table;
mod timeline;
mod wire;

#[cfg(test)]
mod leaks;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod rehearsal;
#[cfg(test)]
mod server_tests;

pub use book::{SEEN_LIMIT, Seen, Stats};
pub use calendar::rfc3339;
pub use clusters::{ClusterSpec, DEMO_TOKEN, Group, World, WorldSpec};
pub use document::{Document, Place, Role, ServiceEntry};
#[cfg(feature = "grpc")]
pub use grpc::{GrpcHealth, Serving};
pub use http::{Answer, Request};
pub use mode::Mode;
pub use outage::{Action, Outage, Phase, Running};
pub use pace::Pace;
pub use record::{Recorder, Sample, State};
pub use registry::Registry;
pub use report::{Breakdown, ClusterRow, PhaseRow, Report, Summary, percentile};
pub use server::{FaultServer, Handler};
pub use services::{billing, secrets};
pub use store::{Store, storage};
pub use svg::Picture;
pub use timeline::{Mark, Timeline};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock even if a thread panicked while holding it: all guarded state
/// here is valid after every single statement, and a test that panics must
/// not turn the servers' own shutdown into a second panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A span in milliseconds with three decimals, the form every figure of a
/// report is given in: short in JSON and fine enough for loopback.
pub(crate) fn millis(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
