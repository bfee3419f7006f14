//! Who this program is: its certificate, the authorities it believes, and the token of its service
//! account, each kept up to date from files (issue of identity; 000-21, 003-46, 003-47).
//!
//! | machine | says |
//! |---|---|
//! | [`files`] | when three PEM files are read, and when what is in them counts |
//! | [`token`] | when the file of a token is read, which token is used, and until when |
//! | [`Desk`] | both as jobs, and the calendar of the certificate that is in force |
//! | [`resumption`] | which servers are offered a TLS session, and what is done when one breaks off |
//!
//! The desk never sees a connection: a driver reads files, puts certificates in force (or says why
//! it cannot) and asks for the token of the moment, per attempt. What a certificate says of itself
//! is read in [`certificate`], what a token says in [`claims`].
//!
//! ```
//! use bytes::Bytes;
//! use origin_core::config::IdentityConfig;
//! use origin_core::identity::{Desk, Rules};
//! use origin_core::job::{JobOutcome, Poll};
//! use origin_core::{Time, Wall};
//!
//! let config = IdentityConfig {
//!     token_file: "/run/token".to_owned(),
//!     services: vec!["billing".to_owned()],
//!     ..IdentityConfig::default()
//! };
//! let rules = Rules::of(&config, "identity")?;
//! let (now, wall) = (Time::ZERO, Wall(1_800_000_000));
//! let mut desk = Desk::new(now, rules, None, None);
//! assert!(desk.is_awaited(), "calls of `billing` wait for the first read");
//! let Poll::Run(job) = desk.poll(now, wall) else { panic!() };
//! let content = JobOutcome::Content(Some(Bytes::from_static(b"s3cret\n")));
//! assert!(desk.done(now, wall, job.id, content).is_none());
//! let header = desk.bearer(wall).unwrap();
//! assert!(header.is_sensitive() && header == "Bearer s3cret");
//! # Ok::<(), origin_core::ConfigError>(())
//! ```

pub mod certificate;
pub mod claims;
mod desk;
mod expiry;
pub mod files;
pub mod resumption;
mod said;
pub mod token;

pub use self::certificate::Leaf;
pub use self::desk::{Desk, Rules};
pub use self::said::{Said, TokenView, View};
