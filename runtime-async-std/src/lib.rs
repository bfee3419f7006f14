//! Origin on async-std, and on smol: name a service, get an answer, even while parts of the
//! system are down.
//!
#![cfg_attr(feature = "async-std", doc = "```")]
#![cfg_attr(not(feature = "async-std"), doc = "```ignore")]
//! # use origin_lab::{World, WorldSpec};
//! # let world = World::start(WorldSpec::default()).unwrap();
//! # let url = world.discovery_url();
//! # async_std::task::block_on(async {
//! use origin_async_std::Client;
//!
//! let client = Client::builder()
//!     .discovery(url)                                  // where the registry document is
//!     .local_cluster("beta")                           // tried first, by its internal address
//!     .vault_token_from_env("VAULT_CLIENT_TOKEN")      // sent to `secrets` and nowhere else
//!     .build()?;
//! let reply = client.service("billing")?.get("/invoices/7").send().await?;
//! assert_eq!(reply.status(), 200);
//! let object = client.storage().get_object("my-bucket", "my-object").await?;
//! println!("{} bytes; {}", object.bytes.len(), object.report);
//! # Ok::<(), origin_async_std::Error>(())
//! # }).unwrap();
//! ```
//!
//! Everything an application uses is on `Client`, the same as in `origin-tokio` and
//! `origin-blocking`; what a call yields is a future here. Futures may be dropped at any time:
//! a dropped call gives back its slot, its permit and its connection. The client starts one
//! background task with the first call that needs discovery or health checks (`policy.checks`; off
//! by default), or with `Client::start`; it ends, with the fetches and checks it has started, when
//! the last clone of the client is dropped.
//!
//! # Certificates
//!
//! Servers prove the host name of their URL to one of Mozilla's list of authorities. An application
//! can name its own authorities, who it is itself, and who a server has to be: another name, or in a
//! mesh a SPIFFE id. All of it can be exchanged while calls go on; [`TlsFailure`] says what does not
//! fit.
//!
//! ```no_run
//! # #[cfg(feature = "async-std")]
//! # fn main() -> Result<(), origin_async_std::ConfigError> {
//! use origin_async_std::{Client, Expect, TlsChange, TlsFiles, Verify};
//!
//! let files = TlsFiles::default();                      // /etc/consul/ca.pem, cert.pem, key.pem
//! let (roots, identity) = files.read("consul.tls")?;
//! let agent = Expect::of(Verify::Name("server.dc1.consul".into()));
//! let client = Client::builder()
//!     .endpoint("consul", "https://10.0.0.5:8501")
//!     .roots(roots)
//!     .identity(identity)
//!     .expect("10.0.0.5", 8501, agent)
//!     .build()?;
//! // When the files have changed:
//! let (roots, identity) = files.read("consul.tls")?;
//! client.set_tls(TlsChange::new().roots(roots).identity(identity))?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "async-std"))]
//! # fn main() {}
//! ```
//!
//! # async-std and smol
//!
//! async-std is discontinued upstream ([RUSTSEC-2025-0052]: "use smol"). This crate serves the
//! programs that are on it today. It talks to sockets and timers through async-io, the reactor
//! that async-std shares with smol, so the way out is to exchange `origin_async_std::Client` for
//! `origin_async_std::smol::Client` and nothing else; while a program moves, both may be used at
//! once. Neither needs tokio: the parts of it in the dependency tree are the channels and traits
//! that hyper uses, and no tokio runtime is started.
//!
//! | feature | what it adds |
//! |---|---|
//! | `async-std` (default) | `Client`, with tasks on async-std's executor |
//! | `smol` | `smol::Client`, with tasks on smol's global executor |
//! | `toml` | `Config::from_toml`: the configuration as a file |
//!
//! [`AsyncIo`] with an [`Executor`] of your own serves any other executor.
//!
//! # Map
//!
//! | | where |
//! |---|---|
//! | building, calling, asking for the state | `Client`, `Builder`, `Upstream`, `RequestBuilder` (and in `smol`) |
//! | answers and errors | [`Response`], [`Streaming`], [`Report`], [`Error`], [`ConfigError`] |
//! | configuration and policies | [`Config`], [`Policy`]; every field in [`core::config`] |
//! | storage, secrets, Consul, the bridge | `Client::storage`, `secrets`, `consul`; [`bridge`] |
//! | clients of your own | [`core::ops::rest`] |
//! | what it says | `Client::notice_feed`, [`Snapshot`], [`HealthReport`], [`core::metrics`], [`trace`] |
//! | certificates | [`Identity`], [`Roots`], [`Expect`], [`TlsFiles`], [`TlsChange`] |
//! | sockets and the clock, in this crate | `connect.rs`, `runtime.rs` |
//!
//! Pages in the repository: `docs/COOKBOOK.md` (recipes, here with this crate's name), `docs/POLICIES.md`
//! (a page per policy), `docs/SETTINGS.md` (every key), `docs/TROUBLESHOOTING.md`; their index is
//! `docs/README.md`.
//!
//! This crate holds the connector, the clock and the spawning; the loop around them is
//! `origin-driver`, and every decision is `origin-core`.
//!
//! [RUSTSEC-2025-0052]: https://rustsec.org/advisories/RUSTSEC-2025-0052.html

mod connect;
mod runtime;

pub use origin_driver::core;
pub use origin_driver::core::config::{Config, Policy};
pub use origin_driver::core::discovery::Candidate;
pub use origin_driver::core::discovery::delivery::Handler;
pub use origin_driver::core::notice::Notice;
pub use origin_driver::core::ops::bridge;
pub use origin_driver::core::ops::secrets::Secret;
pub use origin_driver::core::ops::storage::{Object, Written};
pub use origin_driver::core::s3::{UploadOptions, Uploaded};
pub use origin_driver::core::snapshot::{Health, HealthReport, Snapshot};
pub use origin_driver::core::trace;
pub use origin_driver::core::{ConfigError, Error, Report, Response};
pub use origin_driver::{
    CallbackError, CheckTarget, Heard, Last, Streaming, Update, Warmed, WatchStatus, command_check,
};
pub use origin_driver::{
    Expect, Expectations, Identity, Roots, TlsChange, TlsFailure, TlsFiles, Verify,
};
pub use runtime::{AsyncIo, Executor, Task};

#[cfg(feature = "async-std")]
pub use on_async_std::*;

#[cfg(feature = "async-std")]
mod on_async_std {
    pub use crate::runtime::{AsyncStd, AsyncStdExecutor};

    /// A client on async-std. Its calls yield `Send` futures of `Result<T, Error>`.
    pub type Client = origin_driver::Client<AsyncStd>;
    /// Builds a [`Client`].
    pub type Builder = origin_driver::Builder<AsyncStd>;
    /// A handle on one service.
    pub type Upstream = origin_driver::Upstream<AsyncStd>;
    /// What an incoming request hands on to the calls made for it: [`Client::carried`].
    pub type Carried = origin_driver::Carried<AsyncStd>;
    /// Everything a client has to say from now on: [`Client::notice_feed`].
    pub type NoticeFeed = origin_driver::NoticeFeed<AsyncStd>;
    /// Consul: own registrations and typed calls.
    pub type Consul = origin_driver::Consul<AsyncStd>;
    /// An own registration.
    pub type Registered = origin_driver::Registered<AsyncStd>;
    /// An object of storage, read piece by piece: `Storage::download`.
    pub type Download = origin_driver::Download<AsyncStd>;
    /// An object of storage, written piece by piece: `Storage::upload`; write it with
    /// `write(bytes).await`, then `finish().await`.
    pub type Upload = origin_driver::Upload<AsyncStd>;
    /// One request being put together.
    pub type RequestBuilder = origin_driver::RequestBuilder<AsyncStd>;
    /// The body of a streamed response; read it with `chunk().await`.
    pub type Body = origin_driver::asynchronous::Body<AsyncStd>;
    /// Waits for updates of a watched service: [`Client::watch`].
    pub type Watch = origin_driver::asynchronous::Watch<AsyncStd>;
    /// A callback that is told of changes: [`Client::on_change`].
    pub type Subscription = origin_driver::Subscription<AsyncStd>;
}

/// The same on smol.
///
/// ```
/// # use origin_lab::{World, WorldSpec};
/// # let world = World::start(WorldSpec::default()).unwrap();
/// # let url = world.discovery_url();
/// # smol::block_on(async {
/// use origin_async_std::smol::Client;
///
/// let client = Client::builder().discovery(url).local_cluster("beta").build()?;
/// let reply = client.service("billing")?.get("/invoices/7").send().await?;
/// assert_eq!(reply.status(), 200);
/// # Ok::<(), origin_async_std::Error>(())
/// # }).unwrap();
/// ```
#[cfg(feature = "smol")]
pub mod smol {
    pub use crate::runtime::{Smol, SmolExecutor};

    /// A client on smol. Its calls yield `Send` futures of `Result<T, Error>`.
    pub type Client = origin_driver::Client<Smol>;
    /// Builds a [`Client`].
    pub type Builder = origin_driver::Builder<Smol>;
    /// A handle on one service.
    pub type Upstream = origin_driver::Upstream<Smol>;
    /// What an incoming request hands on to the calls made for it: [`Client::carried`].
    pub type Carried = origin_driver::Carried<Smol>;
    /// Everything a client has to say from now on: [`Client::notice_feed`].
    pub type NoticeFeed = origin_driver::NoticeFeed<Smol>;
    /// Consul: own registrations and typed calls.
    pub type Consul = origin_driver::Consul<Smol>;
    /// An own registration.
    pub type Registered = origin_driver::Registered<Smol>;
    /// An object of storage, read piece by piece: `Storage::download`.
    pub type Download = origin_driver::Download<Smol>;
    /// An object of storage, written piece by piece: `Storage::upload`; write it with
    /// `write(bytes).await`, then `finish().await`.
    pub type Upload = origin_driver::Upload<Smol>;
    /// One request being put together.
    pub type RequestBuilder = origin_driver::RequestBuilder<Smol>;
    /// The body of a streamed response; read it with `chunk().await`.
    pub type Body = origin_driver::asynchronous::Body<Smol>;
    /// Waits for updates of a watched service: [`Client::watch`].
    pub type Watch = origin_driver::asynchronous::Watch<Smol>;
    /// A callback that is told of changes: [`Client::on_change`].
    pub type Subscription = origin_driver::Subscription<Smol>;
}
