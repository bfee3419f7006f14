//! Origin for threads and scripts: name a service, get an answer, even while parts of the system
//! are down.
//!
//! ```
//! # use origin_lab::{World, WorldSpec};
//! # let world = World::start(WorldSpec::default()).unwrap();
//! # let url = world.discovery_url();
//! use origin_blocking::Client;
//!
//! let client = Client::builder()
//!     .discovery(url)                                  // where the registry document is
//!     .local_cluster("beta")                           // tried first, by its internal address
//!     .vault_token_from_env("VAULT_CLIENT_TOKEN")      // sent to `secrets` and nowhere else
//!     .build()?;
//! let reply = client.service("billing")?.get("/invoices/7").send()?;
//! assert_eq!(reply.status(), 200);
//! let object = client.storage().get_object("my-bucket", "my-object")?;
//! println!("{} bytes; {}", object.bytes.len(), object.report);
//! # Ok::<(), origin_blocking::Error>(())
//! ```
//!
//! Everything an application uses is on [`Client`], the same as in `origin-tokio` and
//! `origin-async-std`; what a call yields is a plain `Result` here. A client is cheap to clone and
//! may be used from any number of threads at once: they share connections, breakers and
//! discovery. There is no background thread unless you ask for it. A call that finds no discovery
//! document fetches it (or waits for the thread that is fetching it), and a document that has
//! expired is renewed by the next call that uses it, not ahead of time.
//!
//! # Health checks
//!
//! `policy.checks` asks endpoints how they are, so that no caller has to find out. Off by default,
//! and carried out only while there is a background: [`Client::background`], which also renews the
//! discovery document ahead of its expiry. gRPC checks need HTTP/2, so they are refused here.
//!
//! ```
//! # let server = origin_lab::FaultServer::start().unwrap();
//! # let url = server.url();
//! use origin_blocking::Client;
//! use origin_blocking::core::config::CheckKind;
//! use origin_blocking::core::policy::health::Status;
//!
//! let client = Client::builder()
//!     .endpoint("ledger", url)
//!     .configure(|config| config.policy.checks.kind = CheckKind::Http)
//!     .build()?;
//! let background = client.background()?;
//! let health = || client.snapshot().service("ledger").unwrap().endpoints[0].health;
//! while health() == Status::Unknown {
//!     std::thread::sleep(std::time::Duration::from_millis(20));
//! }
//! assert_eq!(health(), Status::Healthy);
//! drop(background);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Watching
//!
//! Who keeps a list of endpoints elsewhere (a balancer, a dashboard) is told when it changes:
//! [`Client::watch`] to wait for the next state, [`Client::on_change`] for a callback on a thread
//! of its own, which is called again when it fails. Discovery is asked only while there is a
//! background.
//!
//! ```
//! # use origin_lab::{World, WorldSpec};
//! # let world = World::start(WorldSpec::default()).unwrap();
//! # let url = world.discovery_url();
//! use origin_blocking::{Client, Handler};
//!
//! let client = Client::builder().discovery(url).build()?;
//! let background = client.background()?;
//! let guard = client.on_change("billing", Handler::MetricsUpdate, |update| {
//!     println!("{} endpoints, known for {:?}", update.endpoints.len(), update.age);
//!     Ok(())
//! })?;
//! for update in client.watch("billing")? {
//!     println!("version {}: {} endpoints", update.version, update.endpoints.len());
//! #   assert_eq!(update.endpoints.len(), 6);
//! #   break;
//! }
//! assert_eq!(guard.status().failures, 0);
//! # drop(background);
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
//! use origin_blocking::{Client, Expect, TlsChange, TlsFiles, Verify};
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
//! # Ok::<(), origin_blocking::ConfigError>(())
//! ```
//!
//! What follows from ureq carrying the requests:
//!
//! - HTTP/1.1 only. Redirects are never followed: a 3xx is an answer like any other.
//! - Nothing is added to a request but `Host` and `Content-Length`: no `User-Agent`, `Accept`,
//!   `Accept-Encoding`, cookies, and no proxy from the environment, because endpoints are named by
//!   the discovery document and meant to be reached directly.
//! - A pooled connection that the server has closed meanwhile is found out before it is used. If
//!   the server closes it in the very moment a request is written, that attempt has met a broken
//!   connection, and what may be repeated is repeated by Origin; nothing is repeated silently.
//! - A host name is looked up in a short-lived helper thread, only when a new connection is needed
//!   and the host is not an IP address: the system's resolver cannot be given a deadline
//!   otherwise.
//!
//! # Map
//!
//! | | where |
//! |---|---|
//! | building, calling, asking for the state | [`Client`], [`Builder`], [`Upstream`], [`RequestBuilder`] |
//! | answers and errors | [`Response`], [`Streaming`], [`Report`], [`Error`], [`ConfigError`] |
//! | configuration and policies | [`Config`], [`Policy`]; every field in [`core::config`] |
//! | storage, secrets, Consul, the bridge | `Client::storage`, `secrets`, `consul`; [`Download`], [`Upload`], [`Registered`], [`bridge`] |
//! | clients of your own | [`core::ops::rest`]; the example `own_client` |
//! | what goes on beside calls, if it is asked for | [`Background`] |
//! | what it says | [`NoticeFeed`], [`Snapshot`], [`HealthReport`], [`core::metrics`], [`trace`] |
//! | certificates | [`Identity`], [`Roots`], [`Expect`], [`TlsFiles`], [`TlsChange`] |
//! | sockets and the clock, in this crate | `transport.rs`, `wire.rs`, `secure.rs` |
//! | the tool `origin` (feature `cli`) | `src/bin/origin/` |
//!
//! Pages in the repository: `docs/TOOL.md` (the tool), `docs/COOKBOOK.md` (recipes; here without
//! `.await`), `docs/POLICIES.md` (a page per policy), `docs/SETTINGS.md` (every key),
//! `docs/TROUBLESHOOTING.md`; their index is `docs/README.md`.
//!
//! This crate holds the sockets and the clock; the loop around them is `origin-driver`, and every
//! decision is `origin-core`. Feature `cli` adds the command-line tool `origin`.

mod connect;
mod secure;
mod transport;
mod wire;

pub use origin_driver::blocking::Background;
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
pub use transport::Blocking;

/// A client for threads. Its calls yield `Result<T, Error>`.
pub type Client = origin_driver::Client<Blocking>;
/// Builds a [`Client`].
pub type Builder = origin_driver::Builder<Blocking>;
/// A handle on one service.
pub type Upstream = origin_driver::Upstream<Blocking>;
/// What an incoming request hands on to the calls made for it: [`Client::carried`].
pub type Carried = origin_driver::Carried<Blocking>;
/// Everything a client has to say from now on: [`Client::notice_feed`].
pub type NoticeFeed = origin_driver::NoticeFeed<Blocking>;
/// Consul: own registrations and typed calls.
pub type Consul = origin_driver::Consul<Blocking>;
/// An own registration.
pub type Registered = origin_driver::Registered<Blocking>;
/// An object of storage, read piece by piece: `Storage::download`.
pub type Download = origin_driver::Download<Blocking>;
/// An object of storage, written piece by piece: `Storage::upload`; a [`std::io::Write`], then `finish()`.
pub type Upload = origin_driver::Upload<Blocking>;
/// One request being put together.
pub type RequestBuilder = origin_driver::RequestBuilder<Blocking>;
/// The body of a streamed response: a [`std::io::Read`].
pub type Body = origin_driver::blocking::Body<Blocking>;
/// Waits for updates of a watched service: [`Client::watch`]. An iterator.
pub type Watch = origin_driver::blocking::Watch<Blocking>;
/// A callback that is told of changes: [`Client::on_change`].
pub type Subscription = origin_driver::Subscription<Blocking>;
