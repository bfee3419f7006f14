//! Connections of the async adapters: hyper's pooled client over whatever connector the runtime
//! has, a limit on connecting, and what hyper's errors mean.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use ::hyper::body::Incoming;
use ::hyper::rt::Timer;
use bytes::Bytes;
use futures_lite::future::{or, poll_fn};
use http::{Uri, Version};
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::{Builder, Client, Error, ResponseFuture};
use origin_core::outcome::{Fault, Sent};
use tower_service::Service;

use crate::flight::Exchanged;
use crate::moves::{Moves, Pieces};
use crate::runtime::Options;

/// hyper's pooled client: HTTP/1.1, and HTTP/2 where TLS negotiates it or a request says so.
pub struct Pooled<C> {
    /// Read-locked for as long as it takes to make the future of an exchange.
    clients: RwLock<Clients<C>>,
    builder: RwLock<Builder>,
    idle: AtomicU64,
    connector: C,
}

struct Clients<C> {
    usual: Client<C, Pieces>,
    /// For requests that say HTTP/2, with a pool of its own: made for the first of them.
    second: OnceLock<Client<C, Pieces>>,
}

impl<C: Connect + Clone> Clients<C> {
    fn new(builder: &Builder, connector: C) -> Clients<C> {
        Clients { usual: builder.build(connector), second: OnceLock::new() }
    }
}

impl<C> fmt::Debug for Pooled<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pooled")
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Pooled<C> {
    /// A pool over `connector`, spawning with `executor` and timing with `timer`.
    pub fn new<E, T>(connector: C, executor: E, timer: T, options: &Options) -> Pooled<C>
    where
        E: ::hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>>
            + Send
            + Sync
            + Clone
            + 'static,
        T: Timer + Send + Sync + Clone + 'static,
    {
        let mut builder = Client::builder(executor);
        builder
            .pool_timer(timer.clone())
            .timer(timer)
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.idle_connections)
            .http1_max_buf_size(options.max_head)
            .http2_max_header_list_size(u32::try_from(options.max_head).unwrap_or(u32::MAX));
        let clients = RwLock::new(Clients::new(&builder, connector.clone()));
        let (builder, idle) = (RwLock::new(builder), AtomicU64::new(nanos(options.idle_timeout)));
        Pooled { clients, builder, idle, connector }
    }

    /// Lets connections idle for this long from now on: in a new pool, if it is not the same.
    pub fn tune(&self, idle: Duration) {
        if self.idle.swap(nanos(idle), Ordering::Relaxed) != nanos(idle) {
            let mut builder = self.builder.write().unwrap_or_else(PoisonError::into_inner);
            builder.pool_idle_timeout(idle);
            drop(builder);
            self.renew();
        }
    }

    fn builder(&self) -> Builder {
        self.builder.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a new pool. Exchanges under way are finished on the connections they have; idle ones
    /// of the old pool are closed now, the others when they have become idle.
    pub fn renew(&self) {
        let fresh = Clients::new(&self.builder(), self.connector.clone());
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *clients, fresh);
        // Closing connections is not for those who wait for the lock.
        drop(clients);
        drop(old);
    }

    /// One exchange up to the response head. Redirects are not followed. A request that says
    /// HTTP/2 is sent so without asking the server (prior knowledge).
    ///
    /// # Errors
    /// What went wrong, and whether the request can have left.
    pub fn exchange(
        &self,
        mut request: http::Request<Bytes>,
    ) -> impl Future<Output = Exchanged<Incoming>> + Send + use<C> {
        let moves = Moves::take(&mut request);
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let client = match request.version() {
            Version::HTTP_2 => clients
                .second
                .get_or_init(|| self.builder().http2_only(true).build(self.connector.clone())),
            _ => &clients.usual,
        };
        Exchange(client.request(request.map(|body| Pieces::new(body, moves))))
    }

    /// Opens a TCP connection and closes it at once, with the connector's own limit.
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<(), Fault>> + Send + use<C>
    where
        C: Service<Uri>,
        C::Response: Send,
        C::Error: Into<Box<dyn StdError + Send + Sync>>,
        C::Future: Send,
    {
        let mut connector = self.connector.clone();
        // Of scheme http: connectors stop before TLS then.
        let uri = match host.contains(':') {
            true => format!("http://[{host}]:{port}/"),
            false => format!("http://{host}:{port}/"),
        };
        async move {
            let fault = |e: C::Error| reason(&*e.into(), DEPTH).unwrap_or(Fault::Connect);
            let uri: Uri = uri.parse().map_err(|_| Fault::NotHttp)?;
            poll_fn(|context| connector.poll_ready(context)).await.map_err(fault)?;
            connector.call(uri).await.map(drop).map_err(fault)
        }
    }
}

/// Layers of wrapping looked through for the reason of an error.
const DEPTH: u8 = 16;

/// hyper's future with its error read. By hand: an async block would keep it twice, and it is
/// part of every call's future.
struct Exchange(ResponseFuture);

impl Future for Exchange {
    type Output = Exchanged<Incoming>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|e| read(&e))
    }
}

/// Why no connection came about. Connectors wrap their errors in this, so that the reason
/// survives hyper's own wrapping.
#[derive(Debug)]
pub struct ConnectError {
    /// The reason.
    pub fault: Fault,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.text())
    }
}

impl StdError for ConnectError {}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// What an error of the pooled client means.
fn read(error: &Error) -> (Fault, Sent) {
    #[cfg(feature = "rustls")]
    if let Some(sent) = chain(error).find_map(crate::watched::refused) {
        return (Fault::Tls, sent);
    }
    if error.is_connect() {
        let known = chain(error).find_map(|e| e.downcast_ref::<ConnectError>());
        return (known.map_or(Fault::Connect, |known| known.fault), Sent::Never);
    }
    let mut causes = chain(error).filter_map(|e| e.downcast_ref::<::hyper::Error>());
    let cause = causes.next();
    // hyper gives a request back that it had not begun to write when its connection closed. It tries
    // another one by itself, but not where the first was new. And where the request was never given
    // a connection, since a new one closed before it was ready, there is none to speak of.
    let unsent = error.connect_info().is_none()
        || cause.into_iter().chain(causes).any(::hyper::Error::is_canceled);
    let sent = if unsent { Sent::Never } else { Sent::Maybe };
    (cause.map_or(Fault::Reset, body_fault), sent)
}

/// What an error of an open connection means.
pub(crate) fn body_fault(error: &::hyper::Error) -> Fault {
    if error.is_parse() {
        // hyper tells the two apart in its text only.
        let too_large = error.to_string().contains("too large");
        if too_large { Fault::HeadTooLarge } else { Fault::Protocol }
    } else if error.is_timeout() {
        Fault::Timeout
    } else {
        Fault::Reset
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A limit that can be exchanged while it is used. Clones share it.
#[derive(Clone, Debug)]
pub struct Limit(Arc<AtomicU64>);

impl Limit {
    /// This one.
    #[must_use]
    pub fn of(span: Duration) -> Limit {
        Limit(Arc::new(AtomicU64::new(nanos(span))))
    }

    /// Another one from now on.
    pub fn set(&self, span: Duration) {
        self.0.store(nanos(span), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// A connector that gives up after a while. Counts resolving, TCP and TLS together, which the
/// limits of the usual connectors do not.
#[derive(Clone)]
pub struct Limited<C, S> {
    inner: C,
    limit: Limit,
    sleep: S,
}

impl<C, S> Limited<C, S> {
    /// Gives `inner` at most `limit`, as measured by `sleep`.
    pub fn new(inner: C, limit: Limit, sleep: S) -> Limited<C, S> {
        Limited { inner, limit, sleep }
    }
}

impl<C, S> fmt::Debug for Limited<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limited({:?})", self.limit)
    }
}

impl<C, S, F> Service<Uri> for Limited<C, S>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Response: Send + 'static,
    C::Error: Into<Box<dyn StdError + Send + Sync>>,
    S: Fn(Duration) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    type Response = C::Response;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.inner.call(uri);
        let sleep = (self.sleep)(self.limit.get());
        Box::pin(async move {
            let limit = async {
                sleep.await;
                Err(ConnectError { fault: Fault::ConnectTimeout }.into())
            };
            or(async { connect.await.map_err(|e| classify(e.into())) }, limit).await
        })
    }
}

/// Finds the reason in a connector's error: what kind of step failed.
fn classify(error: Box<dyn StdError + Send + Sync>) -> Box<dyn StdError + Send + Sync> {
    ConnectError { fault: reason(&*error, DEPTH).unwrap_or(Fault::Connect) }.into()
}

/// Looks through `depth` layers of wrapping.
fn reason(error: &(dyn StdError + 'static), depth: u8) -> Option<Fault> {
    if let Some(known) = error.downcast_ref::<ConnectError>() {
        return Some(known.fault);
    }
    #[cfg(feature = "rustls")]
    if error.downcast_ref::<rustls::Error>().is_some() {
        return Some(Fault::Tls);
    }
    // hyper-util's connector says so only in its text.
    if error.to_string() == "dns error" {
        return Some(Fault::Resolve);
    }
    let depth = depth.checked_sub(1)?;
    // An `io::Error` hides what it wraps from `source`.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let hidden = wrapped.and_then(|e| reason(e, depth));
    hidden.or_else(|| error.source().and_then(|e| reason(e, depth)))
}

#[cfg(test)]
mod tests;
