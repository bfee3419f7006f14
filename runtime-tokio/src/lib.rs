//! Origin on tokio: name a service, get an answer, even while parts of the system are down.
//!
//! ```
//! # use origin_lab::{World, WorldSpec};
//! # let world = World::start(WorldSpec::default()).unwrap();
//! # let url = world.discovery_url();
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use origin_tokio::Client;
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
//! # Ok::<(), origin_tokio::Error>(())
//! # }).unwrap();
//! ```
//!
//! Everything an application uses is on [`Client`], the same as in `origin-async-std` and
//! `origin-blocking`; what a call yields is a future here. Futures may be dropped at any time:
//! a dropped call gives back its slot, its permit and its connection. The client starts one
//! background task with the first call that needs discovery or health checks (or with
//! [`Client::start`]); it ends, with the fetches and checks it has started, when the last clone of
//! the client is dropped. Time is `tokio::time`, so a paused clock works in tests.
//!
//! # Health checks
//!
//! Calls find out that an endpoint is down at the expense of a caller; `policy.checks` asks
//! beforehand. Off by default.
//!
//! ```
//! # let server = origin_lab::FaultServer::start().unwrap();
//! # let url = server.url();
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use origin_tokio::core::config::CheckKind;
//! use origin_tokio::core::policy::health::Status;
//! use origin_tokio::{Client, command_check};
//!
//! let client = Client::builder()
//!     .endpoint("ledger", url)
//!     .configure(|config| {
//!         config.policy.checks.kind = CheckKind::Custom;  // or Http, Tcp, Grpc
//!         config.policy.checks.custom = "ledger-up".to_owned();
//!     })
//!     .check("ledger-up", command_check("sh", ["-c", "test -n \"$ORIGIN_PORT\""]))
//!     .build()?;
//! client.start();
//! let health = || client.snapshot().service("ledger").unwrap().endpoints[0].health;
//! while health() == Status::Unknown {
//!     tokio::time::sleep(std::time::Duration::from_millis(20)).await;
//! }
//! assert_eq!(health(), Status::Healthy);
//! # Ok::<(), origin_tokio::ConfigError>(())
//! # }).unwrap();
//! ```
//!
//! # Watching
//!
//! Who keeps a list of endpoints elsewhere (a balancer, a dashboard) is told when it changes:
//! [`Client::watch`] to wait for the next state, [`Client::on_change`] for a callback, which is
//! called again when it fails.
//!
//! ```
//! # use origin_lab::{World, WorldSpec};
//! # let world = World::start(WorldSpec::default()).unwrap();
//! # let url = world.discovery_url();
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use origin_tokio::{Client, Handler};
//!
//! let client = Client::builder().discovery(url).build()?;
//! let guard = client.on_change("billing", Handler::MetricsUpdate, |update| {
//!     println!("{} endpoints, known for {:?}", update.endpoints.len(), update.age);
//!     Ok(())
//! })?;
//! let mut watch = client.watch("billing")?;
//! while let Some(update) = watch.next().await {
//!     println!("version {}: {} endpoints", update.version, update.endpoints.len());
//! #   assert_eq!(update.endpoints.len(), 6);
//! #   break;
//! }
//! assert_eq!(guard.status().failures, 0);
//! # Ok::<(), origin_tokio::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Certificates
//!
//! Servers prove the host name of their URL to one of Mozilla's list of authorities. An application
//! can name its own authorities, who it is itself, and who a server has to be: another name, or in a
//! mesh a SPIFFE id. All of it can be exchanged while calls go on; [`TlsFailure`] says what does not
//! fit.
//!
//! ```no_run
//! use origin_tokio::{Client, Expect, TlsChange, TlsFiles, Verify};
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
//! # Ok::<(), origin_tokio::ConfigError>(())
//! ```
//!
//! # Map
//!
//! | | where |
//! |---|---|
//! | building, calling, asking for the state | [`Client`], [`Builder`], [`Upstream`], [`RequestBuilder`] |
//! | answers and errors | [`Response`], [`Streaming`], [`Report`], [`Error`], [`ConfigError`] |
//! | configuration and policies | [`Config`], [`Policy`]; every field in [`core::config`] |
//! | storage, secrets, Consul, the bridge | `Client::storage`, `secrets`, `consul`; [`Download`], [`Upload`], [`Registered`], [`bridge`] |
//! | clients of your own | [`core::ops::rest`] |
//! | what it says | [`NoticeFeed`], [`Snapshot`], [`HealthReport`], [`core::metrics`], [`trace`] |
//! | certificates | [`Identity`], [`Roots`], [`Expect`], [`TlsFiles`], [`TlsChange`] |
//! | between tower services (feature `tower`) | `tower::Carry`, `tower::Outgoing` |
//! | sockets and the clock, in this crate | `connect.rs`, `runtime.rs` |
//!
//! Pages in the repository: `docs/COOKBOOK.md` (recipes, compiled with this crate), `docs/POLICIES.md`
//! (a page per policy), `docs/SETTINGS.md` (every key), `docs/TROUBLESHOOTING.md`, `docs/OBSERVING.md`,
//! `docs/METRICS.md`; their index is `docs/README.md`.
//!
//! This crate holds the connector, the clock and the spawning; the loop around them is
//! `origin-driver`, and every decision is `origin-core`.

mod connect;
mod runtime;
/// What the first page shows is a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
/// The cookbook's recipes are tests.
#[cfg(all(doctest, feature = "tower"))]
#[doc = include_str!("../../docs/COOKBOOK.md")]
struct Cookbook;

#[cfg(feature = "tower")]
pub mod tower;

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
pub use runtime::Tokio;

/// A client on tokio. Its calls yield `Send` futures of `Result<T, Error>`.
pub type Client = origin_driver::Client<Tokio>;
/// Builds a [`Client`].
pub type Builder = origin_driver::Builder<Tokio>;
/// A handle on one service.
pub type Upstream = origin_driver::Upstream<Tokio>;
/// What an incoming request hands on to the calls made for it: [`Client::carried`].
pub type Carried = origin_driver::Carried<Tokio>;
/// Everything a client has to say from now on: [`Client::notice_feed`].
pub type NoticeFeed = origin_driver::NoticeFeed<Tokio>;
/// Consul: own registrations and typed calls.
pub type Consul = origin_driver::Consul<Tokio>;
/// An own registration.
pub type Registered = origin_driver::Registered<Tokio>;
/// An object of storage, read piece by piece: `Storage::download`.
pub type Download = origin_driver::Download<Tokio>;
/// An object of storage, written piece by piece: `Storage::upload`; write it with `write(bytes).await`, then `finish().await`.
pub type Upload = origin_driver::Upload<Tokio>;
/// One request being put together.
pub type RequestBuilder = origin_driver::RequestBuilder<Tokio>;
/// The body of a streamed response; read it with `chunk().await`.
pub type Body = origin_driver::asynchronous::Body<Tokio>;
/// Waits for updates of a watched service: [`Client::watch`].
pub type Watch = origin_driver::asynchronous::Watch<Tokio>;
/// A callback that is told of changes: [`Client::on_change`].
pub type Subscription = origin_driver::Subscription<Tokio>;
