//! Vault over its HTTP API, as data: requests are built here and replies read, and two machines
//! say when the client's token and the leases of its secrets are renewed. Nothing is sent: an
//! adapter carries out what [`desk::Desk`] hands it as jobs, and calls of the application go
//! through [`crate::ops::secrets`] under the client's own policies.
//!
//! The API is that of Vault 1.12, in its public documentation; RustyVault answers a part of it.
//! A token goes to the nodes of Vault and to nobody else, in a header that is marked as sensitive.
//! No type here prints or serialises one, and errors repeat nothing of what Vault wrote.
//!
//! | file | what |
//! |---|---|
//! | [`tokens`](Tokens) | who has the token of the moment |
//! | [`error`] | what can be wrong, and what to do next |
//! | [`wire`] | headers, paths, the envelope, limits |
//! | [`auth`] | logins by AppRole, Kubernetes, certificate; the own token |
//! | [`lease`] | leases of dynamic secrets |
//! | [`kv`] | the key-value engine, versions 1 and 2; any other engine |
//! | [`health`] | the health check with its codes, the seal |
//! | [`schedule`] | when something is renewed, how long a failure waits |
//! | [`keeper`] | the life of the own token |
//! | [`leases`] | the life of leases |
//! | [`desk`] | both as jobs for a driver |
//!
//! Response wrapping is not here. Switched off with `vault.enabled = false`: a token that was given
//! is used as it is then.
//!
//! ```
//! use origin_core::config::{KvVersion, VaultConfig};
//! use origin_core::Secret;
//! use origin_core::vault::{Api, Settings, kv};
//!
//! let settings = Settings::of(&VaultConfig::default(), "vault").unwrap();
//! let token = Secret::new("hvs.example").unwrap();
//! let mount = kv::Mount::new("secret", KvVersion::V2).unwrap();
//! let ask = mount.read(&Api::with(&settings, &token), "app/db", 0).unwrap();
//! assert_eq!(ask.path(), "/v1/secret/data/app/db");
//! // An adapter carries it out.
//! let body = br#"{"data":{"data":{"user":"u"},"metadata":{"version":3}}}"#;
//! let secret = kv::parse_read(&settings, KvVersion::V2, 200, body).unwrap();
//! assert_eq!(secret.data["user"], "u");
//! ```

pub mod auth;
pub mod desk;
pub mod error;
pub mod event;
pub mod health;
pub mod keeper;
pub mod kv;
pub mod lease;
pub mod leases;
pub mod schedule;
mod settings;
mod tokens;
pub mod wire;

pub use error::{Next, VaultError};
pub use lease::{Lease, LeaseId};
pub use settings::{Auth, Settings};
pub use tokens::Tokens;
pub use wire::{Api, Exchange};
