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
//! | `close.rs` | the orderly end |
//! | `hub.rs` | what the handles of one client share |
//! | `flight.rs` | one call: core `Call` + lock + trail + drop guard |
//! | `asynchronous/` | the async loop over hyper's pooled client (feature `hyper`) |
//! | `blocking.rs` | its plain twin |
//! | `consul/` | own registrations and typed calls of Consul |
//! | `vault.rs` | the client's token for Vault |
//! | `origin_vault.rs` | the session with the other Origin vault |
//! | `signing.rs` | how storage is asked, its credentials and their files |
//! | `background.rs`, `thread.rs` | what goes on beside calls, as a task or as a thread |
//! | `carry/` | the jobs that are no HTTP exchange: DNS messages, Redis commands, files |
//! | `watch/` | being told of changed endpoints |
//! | `checks.rs`, `custom.rs`, `guards.rs` | health checks: polling, those of applications, results |
//! | `sharing.rs` | breaker knowledge shared with other nodes: polling, results |
//! | `cache/` | remembered answers around one call, here and in Redis |
//! | `download.rs`, `upload.rs` | objects read to their end, and written, over broken connections |
//! | `observe/` | notices for subscribers and logs, lines and spans of calls, traces |
//! | `roots.rs`, `identity.rs`, `expect.rs`, `secure.rs` | certificates as applications give them, and exchange them |
//! | `tls/` | how they are enforced, shared by all adapters (feature `rustls`) |
//! | `hyper.rs`, `watched.rs` | connections shared by the async adapters |
//!
//! Pages in the repository: `docs/DESIGN.md` (from a call to the socket, by file names), `docs/README.md`
//! (the index of all).
//!
//! An adapter is a clock, a sleep and an exchange. This one answers everything itself; put a
//! socket in its place and it is a blocking HTTP client with failover:
//!
//! ```
//! use std::io::{self, Cursor};
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use bytes::Bytes;
//! use origin_driver::blocking::{self, BlockingRuntime, Body, Watch};
//! use origin_driver::core::cache::Invalidated;
//! use origin_driver::core::ops::Flow;
//! use origin_driver::core::ops::storage::Object;
//! use origin_driver::core::outcome::{Fault, Sent};
//! use origin_driver::core::s3::Uploaded;
//! use origin_driver::core::{ConfigError, Error, Request, Response, Time, Wall};
//! use origin_driver::{
//!     Client, Download, Follower, Goal, Hub, Line, Options, Purging, Runtime, Slot, Streaming,
//!     Upload, Warmed,
//! };
//!
//! struct Echo(Instant);
//!
//! impl Runtime for Echo {
//!     const ABREAST: u8 = 1;
//!     const GRPC: bool = false;
//!     type Reply<T: Send + 'static> = Result<T, Error>;
//!     type Body = Body<Echo>;
//!     type Watch = Watch<Echo>;
//!     fn build(_: &Options) -> Result<Echo, ConfigError> {
//!         Ok(Echo(Instant::now()))
//!     }
//!     fn now(&self) -> Time {
//!         Time::ZERO.plus(self.0.elapsed())
//!     }
//!     fn wall(&self) -> Wall {
//!         Wall(0)
//!     }
//!     fn run<F: Flow>(hub: Arc<Hub<Echo>>, slot: Arc<Slot>, flow: F) -> Result<F::Output, Error> {
//!         blocking::run(&hub, &slot, flow)
//!     }
//!     fn call(hub: Arc<Hub<Echo>>, slot: Arc<Slot>, request: Request) -> Result<Response, Error> {
//!         blocking::call(hub, slot, request)
//!     }
//!     fn stream(hub: Arc<Hub<Echo>>, slot: Arc<Slot>, request: Request)
//!         -> Result<Streaming<Body<Echo>>, Error> {
//!         blocking::stream(hub, slot, request)
//!     }
//!     fn watch(hub: &Arc<Hub<Echo>>, line: Arc<Line>) -> Watch<Echo> {
//!         blocking::watch(hub, line)
//!     }
//!     fn follow(_: &Arc<Hub<Echo>>, follower: Follower<Echo>) -> io::Result<()> {
//!         blocking::follow(follower)
//!     }
//!     fn settle(hub: Arc<Hub<Echo>>, goal: Goal, until: Time) -> Result<bool, Error> {
//!         blocking::settle(&hub, &goal, until)
//!     }
//!     fn close(hub: Arc<Hub<Echo>>, until: Time) -> Result<bool, Error> {
//!         blocking::close(&hub, until)
//!     }
//!     fn warm(hub: Arc<Hub<Echo>>, slot: Arc<Slot>, requests: Vec<Option<Request>>, at_once: u32)
//!         -> Result<Warmed, Error> {
//!         blocking::warm(&hub, &slot, requests, at_once)
//!     }
//!     fn purge(hub: Arc<Hub<Echo>>, purging: Purging) -> Result<Invalidated, Error> {
//!         blocking::purge(&hub, &purging)
//!     }
//!     fn both<T: Send + 'static, U: Send + 'static>(
//!         first: impl FnOnce() -> Result<T, Error> + Send,
//!         second: impl FnOnce() -> Result<U, Error> + Send,
//!     ) -> Result<(T, U), Error> {
//!         blocking::both(first, second)
//!     }
//!     fn then<T: Send + 'static, U: Send + 'static>(
//!         reply: Result<T, Error>,
//!         next: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
//!     ) -> Result<U, Error> {
//!         next(reply)
//!     }
//!     fn ready<T: Send + 'static>(result: Result<T, Error>) -> Result<T, Error> {
//!         result
//!     }
//!     fn get(download: Download<Echo>) -> Result<Object, Error> {
//!         blocking::get(download)
//!     }
//!     fn finish(upload: Upload<Echo>) -> Result<Uploaded, Error> {
//!         blocking::finish(upload)
//!     }
//!     fn aside<T: Send + 'static>(
//!         _: &Arc<Hub<Echo>>,
//!         work: impl FnOnce() -> Result<T, Error> + Send + 'static,
//!     ) {
//!         drop(work());
//!     }
//! }
//!
//! impl BlockingRuntime for Echo {
//!     type Raw = Cursor<Vec<u8>>;
//!     fn sleep_until(&self, at: Time) {
//!         std::thread::sleep(self.now().until(at).min(Duration::from_secs(1)));
//!     }
//!     fn exchange(&self, request: http::Request<Bytes>, _head_by: Time, _body_by: Time)
//!         -> Result<http::Response<Cursor<Vec<u8>>>, (Fault, Sent)> {
//!         match request.uri().host() {
//!             Some("down") => Err((Fault::Connect, Sent::Never)),
//!             _ => Ok(http::Response::new(Cursor::new(request.uri().to_string().into_bytes()))),
//!         }
//!     }
//!     fn connect(&self, _host: &str, _port: u16, _by: Time) -> Result<(), Fault> {
//!         Ok(())
//!     }
//!     fn body_fault(_: &io::Error) -> Fault {
//!         Fault::Reset
//!     }
//! }
//!
//! let client: Client<Echo> =
//!     Client::builder().endpoint("echo", "http://down").endpoint("echo", "http://up/base").build()?;
//! for _ in 0..10 {
//!     assert_eq!(client.service("echo")?.get("/x").send()?.text(), "http://up/base/x");
//! }
//! # Ok::<(), Error>(())
//! ```

mod around;
#[cfg(feature = "hyper")]
pub mod asynchronous;
#[cfg(feature = "hyper")]
mod background;
pub mod blocking;
mod cache;
pub mod carry;
mod checks;
mod client;
mod close;
mod consul;
mod credentials;
mod custom;
mod download;
mod expect;
#[cfg(feature = "metrics")]
mod facade;
mod flight;
mod followed;
mod guards;
mod hub;
#[cfg(feature = "hyper")]
pub mod hyper;
mod identity;
mod kept;
#[cfg(feature = "hyper")]
pub mod last_words;
mod metering;
pub mod moves;
mod observe;
mod origin_vault;
mod own;
mod realm;
mod reconfigure;
mod request;
mod response;
mod roots;
mod runtime;
mod secure;
mod sharing;
mod signing;
mod thread;
#[cfg(feature = "rustls")]
pub mod tls;
mod upload;
mod vault;
mod watch;
#[cfg(all(feature = "hyper", feature = "rustls"))]
pub mod watched;

pub use cache::Purging;
pub use client::{Builder, Client};
pub use consul::{Agents, Consul, Goal, Registered};
pub use custom::{CheckTarget, command_check};
pub use download::Download;
pub use expect::{Expect, Expectations, Verify};
pub use hub::{Hub, Slot};
pub use identity::{Identity, TlsFiles};
pub use metering::Last;
pub use observe::carried::Carried;
pub use observe::feed::{Blocking, Heard, NoticeFeed};
pub use realm::Realms;
pub use request::{RequestBuilder, Upstream};
pub use response::Streaming;
pub use roots::Roots;
pub use runtime::{Options, Runtime, Warmed};
pub use secure::{TlsChange, TlsFailure};
pub use upload::Upload;
pub use watch::{CallbackError, Follower, Line, Subscription, Update, WatchStatus};

pub use origin_core as core;
