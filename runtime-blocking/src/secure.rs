//! TLS over a [`Wire`]: rustls as the client wants it for each target at the moment of connecting.
//! ureq's own connector takes no verifier and cannot be told apart by target.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use origin_core::outcome::Fault;
use origin_driver::tls::{self, Secured, Tls, Watch};
use rustls::{ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::wire::{self, Wire};

/// Secures connections of `https` URLs and lets all others be.
#[derive(Debug)]
pub(crate) struct Secure(pub(crate) Arc<Tls>);

impl Connector<Wire> for Secure {
    type Out = Either<Wire, SecureWire>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<Wire>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(wire) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(wire)));
        }
        let host = details.uri.host().unwrap_or_default();
        let port = details.uri.port_u16().unwrap_or(443);
        let Secured { config, name, watch } =
            self.0.target(host, port).map_err(wire::unconnected)?;
        let refused = |cause: &rustls::Error| {
            watch.note(cause);
            wire::unconnected(Fault::Tls)
        };
        let mut connection = ClientConnection::new(config, name).map_err(|e| refused(&e))?;
        let mut socket = TransportAdapter::new(wire, details.current_time.clone());
        socket.set_timeout(left(details));
        connection.complete_io(&mut socket).map_err(|e| match tls::cause(&e) {
            Some(cause) => refused(cause),
            None => e.into(),
        })?;
        let stream = StreamOwned { conn: connection, sock: socket };
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(SecureWire { stream, buffers, watch, answered: false })))
    }
}

/// What resolving and dialing have left of the limit of connecting.
fn left(details: &ConnectionDetails<'_>) -> NextTimeout {
    use ureq::unversioned::transport::time::Instant;
    let mut timeout = details.timeout;
    if let (Duration::Exact(span), Instant::Exact(began), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        timeout.after = Duration::Exact(span.saturating_sub(now.saturating_duration_since(began)));
    }
    timeout
}

/// A secured TCP connection.
pub(crate) struct SecureWire {
    stream: StreamOwned<ClientConnection, TransportAdapter<Wire>>,
    buffers: LazyBuffers,
    watch: Watch,
    /// Whether anything has been read.
    answered: bool,
}

impl SecureWire {
    /// What an error of the open connection means. A server that refuses our certificate says so
    /// after the handshake has seemed to be over (TLS 1.3), in place of its first answer; it has
    /// not read any request then.
    fn told(&self, error: io::Error) -> Error {
        let Some(cause) = tls::cause(&error) else { return error.into() };
        self.watch.note(cause);
        if !tls::is_refusal(cause) {
            return error.into();
        }
        if !self.answered {
            wire::nothing_left();
        }
        wire::unconnected(Fault::Tls)
    }
}

impl fmt::Debug for SecureWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecureWire({:?})", self.watch)
    }
}

impl Transport for SecureWire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let written = self.stream.write_all(output);
        written.map_err(|error| self.told(error))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let count = match self.stream.read(self.buffers.input_append_buf()) {
            Ok(count) => count,
            Err(error) => return Err(self.told(error)),
        };
        self.answered = true;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
