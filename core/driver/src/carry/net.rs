//! What all jobs on a network need: a limit that holds for a whole exchange, a lookup and a
//! connection that keep it, and a stream that does.
//!
//! A limit of a socket begins anew with every read, so a peer that sends a byte now and then could
//! hold a thread for ever. Here the socket is told before each read and write how much is left.
#![expect(clippy::disallowed_types, reason = "the sockets of the jobs that are no HTTP exchange")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use origin_core::outcome::Fault;

use super::Tried;

/// Far enough to be never, near enough for every platform's clock and socket options.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// How soon a thread notices that nobody waits for it any more.
const STRETCH: Duration = Duration::from_millis(100);
/// The least that a socket does not refuse as zero.
const LEAST: Duration = Duration::from_micros(1);
/// Name lookups that may be under way at the same time; the system's resolver can hang.
const LOOKUPS: usize = 64;
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// How long work may take, and whether anybody still waits for it.
#[derive(Clone, Debug)]
pub struct Limit {
    by: Instant,
    life: Option<Weak<()>>,
}

impl Limit {
    /// Ends `span` from now, in a year at the latest.
    #[must_use]
    pub fn within(span: Duration) -> Limit {
        Limit::until(Instant::now() + span.min(YEAR))
    }

    /// Ends at `by`.
    #[must_use]
    pub fn until(by: Instant) -> Limit {
        Limit { by, life: None }
    }

    /// Ends also as soon as `life` is dropped, or a tenth of a second later: for work on a thread
    /// that cannot be stopped from outside.
    #[must_use]
    pub fn while_alive(self, life: &Arc<()>) -> Limit {
        Limit { by: self.by, life: Some(Arc::downgrade(life)) }
    }

    /// The same, ending `span` from now if that is sooner.
    #[cfg(feature = "redis")]
    pub(super) fn shorter(&self, span: Duration) -> Limit {
        let by = self.by.min(Instant::now() + span.min(YEAR));
        Limit { by, life: self.life.clone() }
    }

    /// What is left, which is more than nothing.
    pub(super) fn left(&self) -> Tried<Duration> {
        let span = self.by.saturating_duration_since(Instant::now());
        let abandoned = self.life.as_ref().is_some_and(|life| life.strong_count() == 0);
        if span.is_zero() || abandoned { Err(Fault::Timeout) } else { Ok(span) }
    }

    /// How long to wait for a socket at a stretch.
    pub(super) fn stretch(&self) -> io::Result<Duration> {
        let left = self.left().map_err(|_| io::Error::from(ErrorKind::TimedOut))?;
        Ok(if self.life.is_some() { left.min(STRETCH) } else { left }.max(LEAST))
    }
}

/// Whether a socket's own limit passed: platforms differ in how they say so.
pub(super) fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// What an error of a connection means that was made within a [`Limit`].
pub(super) fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        ErrorKind::TimedOut => Fault::Timeout,
        #[cfg(feature = "redis-tls")]
        _ if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Fault::Tls,
        _ => Fault::Reset,
    }
}

/// Opens a TCP connection to the first address of `host` that answers. Looking it up and
/// connecting share the limit; each address has an equal part of what is left.
///
/// # Errors
/// [`Fault::Timeout`] at the limit, else [`Fault::Resolve`] or [`Fault::Connect`].
pub fn open(host: &str, port: u16, limit: &Limit) -> Result<TcpStream, Fault> {
    match host.parse::<IpAddr>() {
        Ok(ip) => dial(&[SocketAddr::from((ip, port))], limit),
        Err(_) => dial(&look_up(host.to_owned(), port, limit)?, limit),
    }
}

/// Looks a name up in a helper thread, which may outlive the limit but is counted until it ends.
fn look_up(host: String, port: u16, limit: &Limit) -> Tried<Vec<SocketAddr>> {
    struct Seat;
    impl Drop for Seat {
        fn drop(&mut self) {
            LOOKING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let span = limit.left()?;
    let seat = Seat;
    if LOOKING.fetch_add(1, Ordering::Relaxed) >= LOOKUPS {
        return Err(Fault::Resolve);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("origin-lookup".into())
        .spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            drop(seat);
            // Nobody waits any more once the limit has passed.
            let _ = sender.send(found);
        })
        .map_err(|_| Fault::Resolve)?;
    match receiver.recv_timeout(span) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Err(RecvTimeoutError::Timeout) => Err(Fault::Timeout),
        _ => Err(Fault::Resolve),
    }
}

/// Connects to the first address that answers.
pub(super) fn dial(addresses: &[SocketAddr], limit: &Limit) -> Tried<TcpStream> {
    let mut last = Fault::Connect;
    for (tried, address) in (0_u32..).zip(addresses) {
        let others = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_sub(tried);
        let share = (limit.left()? / others.max(1)).max(LEAST);
        last = match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(e) if is_late(&e) => Fault::Timeout,
            Err(_) => Fault::Connect,
        };
    }
    Err(last)
}

/// A connection for the time of one exchange.
pub(super) struct Wire<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) limit: &'a Limit,
}

impl Wire<'_> {
    /// Does `step` until it neither is interrupted nor ends with a stretch. At the limit the error
    /// is one of the kind `TimedOut`.
    fn keep<T>(&self, mut step: impl FnMut(Duration) -> io::Result<T>) -> io::Result<T> {
        loop {
            match step(self.limit.stretch()?) {
                Err(e) if is_late(&e) || e.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.keep(|stretch| {
            self.stream.set_read_timeout(Some(stretch))?;
            (&*self.stream).read(to)
        })
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.keep(|stretch| {
            self.stream.set_write_timeout(Some(stretch))?;
            (&*self.stream).write(from)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
