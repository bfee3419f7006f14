//! One connection to Redis, plain or with TLS.
#![expect(clippy::disallowed_types, reason = "the sockets of the jobs that are no HTTP exchange")]

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use origin_core::outcome::Fault;
use origin_core::redis::Reply;
use origin_core::redis::resp::{Bounds, Broken, Reader, encode};

use super::options::Target;
use crate::carry::Tried;
use crate::carry::net::{Limit, Wire, fault_of, open};

/// How much is read at once.
const PIECE: usize = 16 << 10;

/// A connection on which we are known, with nothing under way.
pub(super) struct Connection {
    stream: TcpStream,
    #[cfg(feature = "redis-tls")]
    tls: Option<Box<rustls::ClientConnection>>,
    used: Instant,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:?})", self.stream.peer_addr().ok())
    }
}

impl Connection {
    /// Connects and logs in; the inner error is the word with which that was refused.
    pub(super) fn open(target: &Target, limit: &Limit) -> Tried<Result<Connection, Arc<str>>> {
        let connecting = limit.shorter(target.connect);
        let opened = Connection::connect(target, &connecting).and_then(|mut connection| {
            let login = &target.login;
            let replies = connection.exchange(&encode(login), login.len(), &connecting)?;
            let refused = replies.into_iter().find_map(|reply| match reply {
                Reply::Refused(word) => Some(word),
                _ => None,
            });
            Ok(refused.map_or(Ok(connection), Err))
        });
        opened.map_err(|fault| match fault {
            Fault::Timeout if limit.left().is_ok() => Fault::ConnectTimeout,
            fault => fault,
        })
    }

    fn connect(target: &Target, limit: &Limit) -> Tried<Connection> {
        let stream = open(&target.host, target.port, limit)?;
        stream.set_nodelay(true).map_err(|_| Fault::Connect)?;
        Ok(Connection {
            #[cfg(feature = "redis-tls")]
            tls: match &target.tls {
                Some(tls) => Some(tls.shake(&stream, limit)?),
                None => None,
            },
            stream,
            used: Instant::now(),
        })
    }

    /// Sends `bytes`, which hold `count` commands, and reads as many replies.
    pub(super) fn exchange(
        &mut self,
        bytes: &[u8],
        count: usize,
        limit: &Limit,
    ) -> Tried<Vec<Reply>> {
        let mut reader = Reader::new(count, Bounds::default());
        self.with(limit, |wire| {
            wire.write_all(bytes)?;
            wire.flush()?;
            let mut piece = [0; PIECE];
            while !reader.is_done() {
                match wire.read(&mut piece)? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    count => reader.feed(&piece[..count]).map_err(io::Error::other)?,
                };
            }
            Ok(())
        })?;
        self.used = Instant::now();
        Ok(reader.into_replies())
    }

    fn with(
        &mut self,
        limit: &Limit,
        work: impl FnOnce(&mut dyn Duplex) -> io::Result<()>,
    ) -> Tried<()> {
        let mut wire = Wire { stream: &self.stream, limit };
        #[cfg(feature = "redis-tls")]
        let done = match &mut self.tls {
            Some(tls) => work(&mut rustls::Stream::new(&mut **tls, &mut wire)),
            None => work(&mut wire),
        };
        #[cfg(not(feature = "redis-tls"))]
        let done = work(&mut wire);
        done.map_err(|error| {
            let broken = error.get_ref().and_then(|inner| inner.downcast_ref::<Broken>());
            broken.map_or_else(|| fault_of(&error), |broken| broken.fault())
        })
    }

    /// How long nobody has used it.
    pub(super) fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Whether it is open and has nothing to read: an answer that nobody waits for would be taken
    /// for the answer to the next command.
    pub(super) fn is_quiet(&mut self) -> bool {
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &mut self.tls {
            match tls.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 => {}
                _ => return false,
            }
        }
        if self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let quiet =
            matches!(self.stream.peek(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
        quiet && self.stream.set_nonblocking(false).is_ok()
    }
}

/// Bytes in and out.
trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// TLS as it is set up for one server.
#[cfg(feature = "redis-tls")]
pub(super) struct Tls {
    config: Arc<rustls::ClientConfig>,
    name: rustls::pki_types::ServerName<'static>,
}

#[cfg(feature = "redis-tls")]
impl Tls {
    pub(super) fn new(
        host: &str,
        options: &super::RedisOptions,
        roots: &crate::Roots,
    ) -> Result<Tls, origin_core::ConfigError> {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|_| {
            origin_core::ConfigError::new("redis.url", "its host cannot stand in a certificate")
        })?;
        let config = crate::tls::plain(roots, options.identity.as_ref())?;
        Ok(Tls { config: Arc::new(config), name })
    }

    fn shake(&self, stream: &TcpStream, limit: &Limit) -> Tried<Box<rustls::ClientConnection>> {
        let connection = rustls::ClientConnection::new(self.config.clone(), self.name.clone());
        let mut connection = Box::new(connection.map_err(|_| Fault::Tls)?);
        let mut wire = Wire { stream, limit };
        while connection.is_handshaking() {
            connection.complete_io(&mut wire).map_err(|error| match fault_of(&error) {
                // As everywhere: broken while connecting is not connected.
                Fault::Reset => Fault::Connect,
                fault => fault,
            })?;
        }
        Ok(connection)
    }
}
