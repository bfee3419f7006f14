//! Consul over its HTTP API, as data: requests are built here and replies read. Nothing is sent: a request goes to an adapter as [`crate::job::Work::Http`], and what
//! comes back is given to the parser of the same file. When it is asked is decided by the machines
//! in the last four rows.
//!
//! Most clients get Consul wrong in small ways: they follow the address of a service that is
//! empty and means its node, take the tokens of all operations from one variable and put them
//! into URLs, trust a status of 500 to be the server's fault, and send fields that the next
//! version refuses. The shapes here are those of a running Consul 1.8.7; what later versions
//! added is sent only when it is asked for.
//!
//! | file | what |
//! |---|---|
//! | [`name`] | what a service may be called; checked before anything is sent |
//! | [`health`] | instances of a service with their condition; the head of a reply |
//! | [`catalogue`] | services, nodes, datacenters |
//! | [`registration`], [`check`] | what is registered: identity, metadata, checks |
//! | [`agent`] | registering, heartbeats, members, maintenance |
//! | [`kv`] | keys and values |
//! | [`connect`], [`intention`] | certificates, SPIFFE ids, who may call whom |
//! | [`entries`] | service and proxy defaults, and what they mean for a client |
//! | [`policy`] | documents for operators: ACL policies, agent configuration |
//! | [`template`] | a file rendered from all this |
//! | [`error`] | what can be wrong |
//! | [`watch`] | the schedule of a blocking query |
//! | [`registrar`] | the life of one's own registrations |
//! | [`consistency`] | is the cluster whole, is the cache of its time |
//! | [`registry`] | the machines of the last two rows as jobs for a driver |
//! | [`followed`] | certificates, defaults and the files of TLS, followed as jobs for a driver |
//!
//! Switched off with `consul.enabled = false`, or by not configuring it.
//!
//! ```
//! use origin_core::config::ConsulConfig;
//! use origin_core::consul::health::{Lookup, parse, request};
//! use origin_core::consul::{Api, ServiceName, Settings, Tokens};
//!
//! let config = ConsulConfig::at("http://127.0.0.1:8500");
//! let settings = Settings::of(&config, "consul").unwrap();
//! let tokens = Tokens::of(&settings, |_variable| None).unwrap(); // none is named
//! let name = ServiceName::new("web").unwrap();
//! let ask = request(&Api::new(&settings, &tokens), &Lookup::of(&name)).unwrap();
//! assert_eq!(ask.uri(), "http://127.0.0.1:8500/v1/health/service/web?passing=true");
//! // An adapter carries it out; Consul knows no such service.
//! assert!(parse(&settings, 200, b"[]").unwrap().instances.is_empty());
//! ```

pub mod agent;
pub mod ask;
pub mod catalogue;
pub mod check;
pub mod connect;
pub mod consistency;
pub mod duration;
pub mod entries;
pub mod error;
pub mod event;
pub mod followed;
pub mod health;
pub mod intention;
pub mod kv;
pub mod name;
pub mod policy;
pub mod registrar;
pub mod registration;
pub mod registry;
mod settings;
pub mod spiffe;
pub mod template;
pub mod watch;
mod wire;

pub use error::{ConsulError, Phrase};
pub use name::{BadName, ServiceName};
pub use registration::Registration;
pub use settings::{Settings, Tokens};
pub use spiffe::SpiffeId;
pub use wire::{Api, Class, Cursor, Head};
