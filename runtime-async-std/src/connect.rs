//! The connector: names to addresses, addresses to sockets, sockets to TLS where the URL says so.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec::IntoIter;

use async_io::{Async, Timer};
use futures_lite::future::{or, try_zip};
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::TlsConnector;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use origin_core::outcome::Fault;
use origin_driver::hyper::ConnectError;
use origin_driver::last_words::LastWords;
use origin_driver::tls::{self, Tls};
use origin_driver::watched::Watched;
use smol_hyper::rt::FuturesIo;
use tower_service::Service;

/// How long an address may keep the next one waiting (RFC 8305 recommends this).
const HEAD_START: Duration = Duration::from_millis(250);

type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Connects to the origin of a URL.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<Tls>,
}

impl Connector {
    pub(crate) fn new(tls: Arc<Tls>) -> Connector {
        Connector { tls }
    }
}

impl Service<Uri> for Connector {
    type Response = Watched<LastWords<Link>>;
    type Error = ConnectError;
    type Future = Pending<Watched<LastWords<Link>>, ConnectError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = (uri.scheme() == Some(&Scheme::HTTPS)).then(|| self.tls.clone());
        Box::pin(async move {
            let host = uri.host().ok_or(ConnectError { fault: Fault::NotHttp })?;
            // A URL writes IPv6 in brackets; neither resolver nor certificate knows them.
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            let Some(tls) = tls else {
                return connect(host, uri.port_u16().unwrap_or(80), None).await;
            };
            let port = uri.port_u16().unwrap_or(443);
            match connect(host, port, Some(&tls)).await {
                Err(_) if tls.once_more(host, port) => connect(host, port, Some(&tls)).await,
                link => link,
            }
        })
    }
}

async fn connect(
    host: &str,
    port: u16,
    tls: Option<&Arc<Tls>>,
) -> Result<Watched<LastWords<Link>>, ConnectError> {
    let because = |fault| ConnectError { fault };
    let addresses = resolve(host, port).await.map_err(|_| because(Fault::Resolve))?;
    if addresses.is_empty() {
        return Err(because(Fault::Resolve));
    }
    let addresses = interleaved(addresses).into_iter();
    let socket = fastest(addresses, dial).await.map_err(|_| because(Fault::Connect))?;
    // Requests are written whole: waiting for more to fill a segment would only delay them.
    socket.get_ref().set_nodelay(true).map_err(|_| because(Fault::Connect))?;
    let Some(tls) = tls else {
        return Ok(Watched::new(LastWords::new(Link::new(socket, false)), None));
    };
    // Asked now and not before the lookup, so that it is what holds now.
    let secured = tls.target(host, port).map_err(because)?;
    let connect = TlsConnector::from(secured.config).connect(secured.name, socket);
    let stream = connect.await.map_err(|e| because(handshake_fault(&e, &secured.watch)))?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Watched::new(LastWords::new(Link::new(stream, h2)), Some(secured.watch)))
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    blocking::unblock(move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
}

fn dial(address: SocketAddr) -> Pending<Async<TcpStream>, io::Error> {
    Box::pin(Async::<TcpStream>::connect(address))
}

/// The same addresses, both families by turns: one that is routed nowhere must not put the other
/// at the end of the queue. The resolver's first choice stays first.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let six_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == six_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        mixed.extend(first.next());
        mixed.extend(second.next());
    }
    mixed
}

/// Happy eyeballs: each address starts when the one before fails or has had its head start, and
/// the first connection wins. The error of the last address if there is none.
fn fastest<T: Send + 'static>(
    mut addresses: IntoIter<SocketAddr>,
    dial: fn(SocketAddr) -> Pending<T, io::Error>,
) -> Pending<T, io::Error> {
    Box::pin(async move {
        let Some(address) = addresses.next() else { return Err(io::ErrorKind::NotFound.into()) };
        let mut own = dial(address);
        if addresses.as_slice().is_empty() {
            return own.await;
        }
        let head_start = async {
            Timer::after(HEAD_START).await;
            None
        };
        match or(async { Some((&mut own).await) }, head_start).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(_)) => fastest(addresses, dial).await,
            None => {
                // `try_zip` ends with the first error; here that is the first connection.
                let own = async { swapped(own.await) };
                let others = async { swapped(fastest(addresses, dial).await) };
                swapped(try_zip(own, others).await.map(|(_, last)| last))
            }
        }
    })
}

fn swapped<A, B>(result: Result<A, B>) -> Result<B, A> {
    match result {
        Ok(a) => Err(a),
        Err(b) => Ok(b),
    }
}

/// A peer that breaks the handshake off is unreachable; one that is not trusted is another matter.
fn handshake_fault(error: &io::Error, watch: &tls::Watch) -> Fault {
    let Some(cause) = tls::cause(error) else { return Fault::Connect };
    watch.note(cause);
    Fault::Tls
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection, plain or secured, as hyper wants it.
pub(crate) struct Link {
    io: FuturesIo<Box<dyn Duplex>>,
    h2: bool,
}

impl Link {
    fn new(io: impl Duplex + 'static, h2: bool) -> Link {
        let io: Box<dyn Duplex> = Box::new(io);
        Link { io: FuturesIo::new(io), h2 }
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn families_take_turns_and_the_first_choice_stays_first() {
        let six = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        let mixed = interleaved(vec![six(1), six(2), six(3), at(4)]);
        assert_eq!(mixed, [six(1), at(4), six(2), six(3)]);
        let mixed = interleaved(vec![at(4), at(5), six(1), six(2), six(3)]);
        assert_eq!(mixed, [at(4), six(1), at(5), six(2), six(3)]);
        assert!(interleaved(Vec::new()).is_empty());
    }

    /// Even ports connect and odd ones refuse, after their number in milliseconds.
    fn pretend(address: SocketAddr) -> Pending<u16, io::Error> {
        let port = address.port();
        Box::pin(async move {
            Timer::after(Duration::from_millis(port.into())).await;
            if port.is_multiple_of(2) {
                Ok(port)
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        })
    }

    #[test]
    fn the_fastest_address_wins_and_failures_only_count_together() {
        // Addresses, who wins, and the milliseconds it takes at least and at most.
        for (ports, winner, span) in [
            (&[10][..], Some(10), 10..240),
            (&[1, 3, 4], Some(4), 8..240),
            (&[9_000, 9_000, 10], Some(10), 510..1_500),
            (&[400, 9_000], Some(400), 400..1_500),
            (&[400, 10], Some(10), 260..399),
            (&[301, 400], Some(400), 650..1_500),
            (&[401, 1], None, 401..1_500),
            (&[], None, 0..240),
        ] {
            let began = Instant::now();
            let addresses: Vec<_> = ports.iter().map(|port| at(*port)).collect();
            let result = async_io::block_on(fastest(addresses.into_iter(), pretend));
            let took = began.elapsed().as_millis();
            assert_eq!(result.ok(), winner, "{ports:?}");
            assert!(span.contains(&took), "{ports:?} took {took} ms");
        }
    }
}
