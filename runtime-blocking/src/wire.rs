//! Connections as ureq's connector chain makes them, but with exact limits and exact knowledge:
//! [`Later`] → [`Dial`] → TLS (`secure.rs`) → [`Edge`].
//!
//! ureq's own pieces resolve names before they look into the pool (with a thread per request),
//! give each of several writes the whole remaining time, take a reset for the end of a body
//! without length, and cannot say whether a request had left when a limit passed. `unversioned`
//! items of ureq are used here, in `secure.rs` and nowhere else.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use http::Uri;
use origin_core::outcome::{Fault, Sent};
use origin_driver::carry::Limit;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, time,
};
use ureq::{Error, Timeout};

thread_local! {
    /// The exchange this thread is in: its limit, and whether it has written anything.
    static EXCHANGE: Cell<(Option<Instant>, bool)> = const { Cell::new((None, false)) };
}

/// The time of one exchange on this thread, from its beginning to the response head.
pub(crate) struct Exchange(());

impl Exchange {
    /// Nothing on this thread waits for the network past `head_by`, until this is dropped.
    pub(crate) fn begin(head_by: Instant) -> Exchange {
        EXCHANGE.set((Some(head_by), false));
        Exchange(())
    }

    /// Whether the request can have left.
    pub(crate) fn sent(&self) -> Sent {
        if EXCHANGE.get().1 { Sent::Maybe } else { Sent::Never }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        EXCHANGE.set((None, false));
    }
}

/// Takes back that something has been written: the peer has shown that it read none of it.
pub(crate) fn nothing_left() {
    EXCHANGE.set((EXCHANGE.get().0, false));
}

/// The end of ureq's limit, or of the exchange if that is sooner, with the reason to report.
fn limit(timeout: NextTimeout) -> (Option<Instant>, Timeout) {
    let own = match timeout.after {
        time::Duration::Exact(span) => Instant::now().checked_add(span),
        time::Duration::NotHappening => None,
    };
    match (own, EXCHANGE.get().0) {
        (Some(own), Some(head_by)) if own <= head_by => (Some(own), timeout.reason),
        (_, Some(head_by)) => (Some(head_by), Timeout::PerCall),
        (own, None) => (own, timeout.reason),
    }
}

/// What is left until `by`; an error when nothing is. No limit is `None`.
fn left(by: Option<Instant>, reason: Timeout) -> Result<Option<Duration>, Error> {
    let Some(by) = by else { return Ok(None) };
    match by.checked_duration_since(Instant::now()) {
        Some(span) if !span.is_zero() => Ok(Some(span)),
        _ => Err(Error::Timeout(reason)),
    }
}

/// No connection came about, and this is why.
#[derive(Debug)]
pub(crate) struct Unconnected(pub(crate) Fault);

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.text())
    }
}

impl std::error::Error for Unconnected {}

/// An error that says so.
pub(crate) fn unconnected(fault: Fault) -> Error {
    Error::Other(Box::new(Unconnected(fault)))
}

/// A connection that broke, in a form that ureq does not take for the end of a body.
#[derive(Debug)]
struct Broken(io::Error);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

/// Resolves nothing: ureq asks before it looks into its pool. [`Dial`] resolves when it has to.
#[derive(Debug)]
pub(crate) struct Later;

impl Resolver for Later {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut none = self.empty();
        // A resolver has to answer with one address at least; nobody reads it.
        none.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(none)
    }
}

/// Opens TCP connections: lookup and connecting share one limit.
#[derive(Debug)]
pub(crate) struct Dial;

impl Connector for Dial {
    type Out = Wire;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Wire>, Error> {
        let (by, reason) = limit(details.timeout);
        let host = details.uri.host().unwrap_or_default();
        let port = details.uri.port_u16().unwrap_or(if details.needs_tls() { 443 } else { 80 });
        let stream = open(host.trim_matches(['[', ']']), port, by, reason)?;
        stream.set_nodelay(details.config.no_delay()).map_err(|_| unconnected(Fault::Connect))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Wire { stream, buffers, read_limit: None, write_limit: None, broken: None }))
    }
}

fn open(host: &str, port: u16, by: Option<Instant>, reason: Timeout) -> Result<TcpStream, Error> {
    let limit = by.map_or_else(|| Limit::within(Duration::MAX), Limit::until);
    origin_driver::carry::open(host, port, &limit).map_err(|fault| match fault {
        Fault::Timeout => Error::Timeout(reason),
        fault => unconnected(fault),
    })
}

/// Opens a connection until `by` and closes it. `connecting`: whether it is the limit of
/// connecting that ends then.
pub(crate) fn reach(host: &str, port: u16, by: Instant, connecting: bool) -> Result<(), Fault> {
    let reason = if connecting { Timeout::Connect } else { Timeout::PerCall };
    open(host, port, Some(by), reason).map(drop).map_err(|error| why_unconnected(&error))
}

/// Whether a socket's own limit passed: platforms differ in how they say so.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// A TCP connection. Every read and write ends when ureq's limit or the exchange does, or a
/// millisecond later.
pub(crate) struct Wire {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// The limits the socket has: setting one is a system call, and most are the same as before.
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
    /// What a write has met although the peer had answered: nothing is written any more, and this
    /// is what there is when the answer has been read.
    broken: Option<io::Error>,
}

/// A span in whole milliseconds, rounded up. Requests with the same deadline then have the same
/// limit as a rule, although each asks some microseconds after its start.
fn coarse(span: Option<Duration>) -> Option<Duration> {
    span.map(|span| {
        let millis = span.as_nanos().div_ceil(1_000_000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    })
}

impl Wire {
    fn limit_reads(&mut self, span: Option<Duration>) -> io::Result<()> {
        let span = coarse(span);
        if span != self.read_limit {
            self.stream.set_read_timeout(span)?;
            self.read_limit = span;
        }
        Ok(())
    }

    fn limit_writes(&mut self, span: Option<Duration>) -> io::Result<()> {
        let span = coarse(span);
        if span != self.write_limit {
            self.stream.set_write_timeout(span)?;
            self.write_limit = span;
        }
        Ok(())
    }
}

impl Wire {
    /// What a write that has met `error` means. Who answers early and closes, as a server does
    /// that will not take a large body or refuses a certificate, resets what is still written to
    /// it. A connection that broke brings nothing more, so what it has brought decides at once:
    /// with something to read the write counts as made.
    fn broke(&mut self, error: io::Error) -> Result<(), Error> {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        let gone = matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
        if gone && self.peeked().is_ok_and(|count| count > 0) {
            self.broken = Some(error);
            return Ok(());
        }
        Err(error.into())
    }

    /// How many bytes (of one) there are to read now.
    fn peeked(&self) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        peeked
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({:?})", self.stream.peer_addr().ok())
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.broken.is_some() {
            return Ok(());
        }
        let (by, reason) = limit(timeout.for_write());
        let mut written = 0;
        // One write may take only part of it, and a slow reader could stretch `write_all` to a
        // multiple of the limit.
        while written < amount {
            self.limit_writes(left(by, reason)?)?;
            let rest = self.buffers.output().get(written..amount).unwrap_or_default();
            match self.stream.write(rest) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => written += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if is_late(&e) => return Err(Error::Timeout(reason)),
                Err(e) => return self.broke(e),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let (by, reason) = limit(timeout.for_read());
        loop {
            self.limit_reads(left(by, reason)?)?;
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(count) => {
                    if count == 0
                        && let Some(broken) = self.broken.take()
                    {
                        return Err(broken.into());
                    }
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if is_late(&e) => return Err(Error::Timeout(reason)),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// An idle connection has nothing to read; one that was closed, or that was sent something
    /// nobody asked for, is not used again.
    fn is_open(&mut self) -> bool {
        self.broken.is_none()
            && matches!(self.peeked(), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}

/// The last connector: whatever fails before it is done has not carried a request, whatever
/// fails behind it may have.
#[derive(Debug)]
pub(crate) struct Edge<C>(pub(crate) C);

impl<C: Connector> Connector for Edge<C> {
    type Out = Whole<C::Out>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        match self.0.connect(details, chained) {
            Ok(inner) => Ok(inner.map(Whole)),
            Err(error) => Err(unconnected(why_unconnected(&error))),
        }
    }
}

fn why_unconnected(error: &Error) -> Fault {
    match error {
        Error::Timeout(Timeout::Connect) => Fault::ConnectTimeout,
        Error::Timeout(_) => Fault::Timeout,
        Error::Other(inner) => {
            inner.downcast_ref::<Unconnected>().map_or(Fault::Connect, |known| known.0)
        }
        _ => Fault::Connect,
    }
}

/// A whole connection, TLS included where the scheme asks for it.
#[derive(Debug)]
pub(crate) struct Whole<T>(T);

impl<T: Transport> Transport for Whole<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        EXCHANGE.set((EXCHANGE.get().0, true));
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout).map_err(|error| match error {
            // ureq takes some of these for the end of a body that has no length, which makes a
            // whole body of a truncated one.
            Error::Io(e) => Error::Other(Box::new(Broken(e))),
            error => error,
        })
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
