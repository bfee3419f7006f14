//! The state machine of Origin: decides, never does.
//!
//! Time and results go in, decisions come out. Nothing in this crate opens a socket, reads a
//! clock, starts a thread, takes a lock or draws ambient randomness; the same inputs give the
//! same outputs, bit for bit, on every machine. Adapters (`origin-tokio`, `origin-async-std`,
//! `origin-blocking`) carry the decisions out.
//!
//! | machine | decides | where |
//! |---|---|---|
//! | [`Call`] | what one call does next: send, wait, park, give up | [`call`] |
//! | [`Service`] | what calls of a service share: endpoints, breakers, budget | [`service`], `pool/` |
//! | [`discovery::Directory`] | which source is asked when, and what is used meanwhile | [`discovery`], [`consul`], [`dns`], [`redis`] |
//! | policies | breaker, backoff, budget, balancing, …, each usable alone | [`policy`] |
//! | [`cache::Store`] | which answers are remembered, and when a stale one may be used | [`cache`] |
//! | desks | when tokens, leases and certificates are renewed | [`vault`], [`identity`], [`files`] |
//! | typed operations | which requests a task is made of, and what replies amount to | [`ops`], [`s3`] |
//!
//! | data | where |
//! |---|---|
//! | the configuration, presets, warnings | [`config`] |
//! | time, randomness | [`time`], [`rng`] |
//! | what drivers carry out and report | [`job`], [`outcome`], [`request`], [`headers`], [`address`] |
//! | what every attempt is told beside its own headers | [`told`] |
//! | what people are told | [`notice`], [`metrics`], [`snapshot`], [`error`], [`said`], [`trace`], [`correlation`] |
//! | what outlives a restart | [`learned`], [`discovery::kept`] |
//! | what is never shown | [`secret`] |
//!
//! Pages in the repository: `docs/DESIGN.md` (why it is built like this), `docs/POLICIES.md` (what decides
//! about a call, in which order), `docs/SETTINGS.md` (every key); their index is `docs/README.md`.
//!
//! Driving a call is one loop: hand [`Call::step`] an [`Event`], do the [`Action`] it returns,
//! report what came of it.
//!
//! ```
//! use origin_core::call::{Action, Call, CallSpec, Event, Verdict};
//! use origin_core::config::Rules;
//! use origin_core::discovery::directory::Resolution;
//! use origin_core::discovery::{Role, plan};
//! use origin_core::outcome::{Fault, Outcome, Sent};
//! use origin_core::{Address, Service, Time};
//!
//! let mut service = Service::new("billing".into(), Rules::default(), 42);
//! let endpoints = [
//!     ("beta".into(), Role::Backup, Address::parse("http://10.0.0.1:80").unwrap()),
//!     ("alpha".into(), Role::Primary, Address::parse("http://10.1.0.1:80").unwrap()),
//! ];
//! let now = Time::ZERO;
//! service.resolve(now, Resolution::Found(plan::injected(&endpoints, Some("beta"))));
//!
//! let mut call = Call::new(CallSpec { idempotent: Some(true), ..CallSpec::default() }, 42, 0);
//! // The local cluster is tried first ...
//! let Action::Send { attempt, to, .. } = call.step(&mut service, now, Event::Begin) else { panic!() };
//! assert_eq!(service.address(to).unwrap().as_str(), "http://10.0.0.1:80");
//! // ... refuses the connection, and the primary takes over at once.
//! let refused = Outcome::Failed { fault: Fault::Connect, sent: Sent::Never };
//! let Action::Send { attempt, to, .. } =
//!     call.step(&mut service, now, Event::Finished(attempt, refused)) else { panic!() };
//! assert_eq!(service.address(to).unwrap().as_str(), "http://10.1.0.1:80");
//! let done = call.step(&mut service, now, Event::Finished(attempt, Outcome::status(200)));
//! assert!(matches!(done, Action::Done(Verdict::Answered(_))));
//! ```

pub mod address;
pub mod cache;
pub mod call;
pub mod config;
pub mod consul;
pub mod correlation;
pub mod discovery;
pub mod dns;
pub mod error;
pub mod files;
pub mod headers;
pub mod identity;
pub mod job;
pub mod learned;
pub mod metrics;
pub mod notice;
pub mod ops;
pub mod outcome;
pub mod policy;
mod pool;
pub mod redis;
pub mod request;
pub mod rng;
pub mod s3;
pub mod said;
pub mod secret;
pub mod service;
pub mod snapshot;
pub mod time;
pub mod told;
pub mod trace;
pub mod vault;

pub use address::Address;
pub use call::{Action, Call, CallSpec, Event, Verdict};
pub use config::{Config, ConfigError};
pub use correlation::Correlation;
pub use error::Error;
pub use pool::EndpointId;
pub use request::{Report, Request, Response};
pub use secret::Secret;
pub use service::Service;
pub use time::{Time, Wall};
