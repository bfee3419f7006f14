//! The state machine of Origin (work in progress header)
pub mod address;
pub mod call;
pub mod config;
pub mod discovery;
pub mod error;
pub mod headers;
pub mod job;
pub mod notice;
pub mod ops;
pub mod outcome;
pub mod policy;
mod pool;
pub mod request;
pub mod rng;
pub mod service;
pub mod snapshot;
pub mod time;

pub use address::Address;
pub use call::{Action, Call, CallSpec, Event, Verdict};
pub use config::{Config, ConfigError};
pub use error::Error;
pub use pool::EndpointId;
pub use request::{Report, Request, Response};
pub use service::Service;
pub use time::{Time, Wall};
