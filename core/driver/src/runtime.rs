//! What an adapter is to the driver: a clock, and a way to run calls. The async and the blocking
//! half ask for a few functions more, in their own files.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use origin_core::cache::Invalidated;
use origin_core::ops::Flow;
use origin_core::ops::storage::Object;
use origin_core::s3::Uploaded;
use origin_core::{ConfigError, Request, Response, Time, Wall};

use crate::cache::Purging;
use crate::consul::Goal;
use crate::download::Download;
use crate::expect::Expectations;
use crate::hub::{Hub, Slot};
use crate::identity::Identity;
use crate::observe::carried::Carried;
use crate::realm::Realms;
use crate::roots::Roots;
use crate::secure::{TlsChange, TlsFailure};
use crate::upload::Upload;
use crate::watch::{Follower, Line};

/// What an adapter has to know when it is built.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limit of resolving, connecting and shaking hands.
    pub connect: Duration,
    /// Largest response head in bytes.
    pub max_head: usize,
    /// Idle connections kept per endpoint.
    pub idle_connections: usize,
    /// How long they are kept.
    pub idle_timeout: Duration,
    /// Who is trusted to vouch for servers.
    pub roots: Roots,
    /// Who the client is to servers that ask.
    pub identity: Option<Identity>,
    /// Whom certain servers have to be.
    pub expect: Expectations,
    /// What is known of Consul's certificates.
    pub realms: Realms,
}

/// What came of warming a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Requests that were answered, by a service or from the cache.
    pub warmed: u32,
    /// Requests that failed or were answered with an error.
    pub failed: u32,
}

/// An adapter: one runtime with its HTTP client.
pub trait Runtime: Sized + Send + Sync + 'static {
    /// Attempts of one call that it can have out at the same time; 1 when a call cannot be woken
    /// while it waits for an answer.
    const ABREAST: u8;

    /// Whether it can carry out gRPC health checks, which need HTTP/2. Without, a configuration
    /// that asks for them is refused.
    const GRPC: bool;

    /// What a call yields: `Result<T, Error>`, or a future of it.
    type Reply<T: Send + 'static>;
    /// The body of a streamed response.
    type Body: Send + 'static;
    /// What waits for updates of a watched service.
    type Watch: Send + 'static;

    /// Builds it.
    ///
    /// # Errors
    /// What cannot be built from these options.
    fn build(options: &Options) -> Result<Self, ConfigError>;

    /// Time since an epoch of its own.
    fn now(&self) -> Time;

    /// Calendar time.
    fn wall(&self) -> Wall;

    /// Runs a flow on a service.
    fn run<F: Flow>(hub: Arc<Hub<Self>>, slot: Arc<Slot>, flow: F) -> Self::Reply<F::Output>;

    /// Runs one request and yields its response.
    fn call(hub: Arc<Hub<Self>>, slot: Arc<Slot>, request: Request) -> Self::Reply<Response>;

    /// Runs one request and yields its response with the body still to come.
    fn stream(
        hub: Arc<Hub<Self>>,
        slot: Arc<Slot>,
        request: Request,
    ) -> Self::Reply<crate::response::Streaming<Self::Body>>;

    /// Makes a watch of a subscription.
    fn watch(hub: &Arc<Hub<Self>>, line: Arc<Line>) -> Self::Watch;

    /// Lets a callback be called beside everything else.
    ///
    /// # Errors
    /// There is nothing to run it on.
    fn follow(hub: &Arc<Hub<Self>>, follower: Follower<Self>) -> io::Result<()>;

    /// Sees to it that somebody looks after what goes on beside calls. A blocking client leaves
    /// that to the application, so there this does nothing.
    fn attend(hub: &Arc<Hub<Self>>) {
        let _ = hub;
    }

    /// For whom calls are made at this moment, where an adapter knows that of the present task.
    fn carried() -> Option<Carried<Self>> {
        None
    }

    /// Waits until own registrations are as `goal` says, or until `until`, and carries what is
    /// due for that. Yields whether they are.
    fn settle(hub: Arc<Hub<Self>>, goal: Goal, until: Time) -> Self::Reply<bool>;

    /// Carries out what is to be done before a client ends, until that is over or `until`, and
    /// ends what is under way beside calls. Yields whether it was over.
    fn close(hub: Arc<Hub<Self>>, until: Time) -> Self::Reply<bool>;

    /// Makes these requests so that their answers are remembered, `at_once` at a time. `None`
    /// is one that cannot be made, and counts as failed.
    fn warm(
        hub: Arc<Hub<Self>>,
        slot: Arc<Slot>,
        requests: Vec<Option<Request>>,
        at_once: u32,
    ) -> Self::Reply<Warmed>;

    /// Waits until the second level of a cache has heard of an invalidation, and carries that out.
    fn purge(hub: Arc<Hub<Self>>, purging: Purging) -> Self::Reply<Invalidated>;

    /// Both of these at once; the first error is that of both.
    fn both<T: Send + 'static, U: Send + 'static>(
        first: impl FnOnce() -> Self::Reply<T> + Send,
        second: impl FnOnce() -> Self::Reply<U> + Send,
    ) -> Self::Reply<(T, U)>;

    /// What `next` makes of a reply, be it an error.
    fn then<T: Send + 'static, U: Send + 'static>(
        reply: Self::Reply<T>,
        next: impl FnOnce(Result<T, origin_core::Error>) -> Self::Reply<U> + Send + 'static,
    ) -> Self::Reply<U>;

    /// A reply that is there already.
    fn ready<T: Send + 'static>(result: Result<T, origin_core::Error>) -> Self::Reply<T>;

    /// Reads the whole of an object of storage.
    fn get(download: Download<Self>) -> Self::Reply<Object>;

    /// Writes what is left of an object of storage.
    fn finish(upload: Upload<Self>) -> Self::Reply<Uploaded>;

    /// Does what nobody waits for: beside everything else, or where there is nothing to run it
    /// on, at once.
    fn aside<T: Send + 'static>(
        hub: &Arc<Hub<Self>>,
        work: impl FnOnce() -> Self::Reply<T> + Send + 'static,
    );

    /// Puts another identity, other roots or expectations in force, as a whole or not at all: for
    /// every connection made from then on, and so that none made before carries another request.
    ///
    /// # Errors
    /// What cannot be used. An adapter that does not override this can change nothing.
    fn secure(&self, _: TlsChange) -> Result<(), ConfigError> {
        Err(ConfigError::new("tls", "this adapter cannot change it while the client runs"))
    }

    /// Other limits of connecting and idling, from now on. Exchanges under way go on; connections
    /// are made anew when the limit of idling differs. An adapter that cannot leaves it.
    fn tune(&self, _connect: Duration, _idle: Duration) {}

    /// Why TLS handshakes failed, the most recent last.
    fn tls_failures(&self) -> Vec<TlsFailure> {
        Vec::new()
    }
}
