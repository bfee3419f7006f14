//! One DNS message to a server, and the answer to it. What is in either is the core's; only the
//! first three bytes are looked at here: the number of the question, and the bit that says that
//! this is an answer. Whoever wants to be heard in place of the server has to guess that number
//! and the port (RFC 5452), and a wrong guess must not end the waiting for the right answer.
#![expect(clippy::disallowed_types, reason = "the sockets of the jobs that are no HTTP exchange")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use bytes::Bytes;
use origin_core::outcome::Fault;

use super::Tried;
use super::net::{Limit, Wire, dial, fault_of, is_late};

/// The header of a message (RFC 1035 §4.1.1). What is shorter is none.
const HEADER: usize = 12;
/// Largest datagram, and largest message over TCP.
const MESSAGE: usize = u16::MAX as usize;

/// Over UDP: one datagram from a port of its own, chosen by the system. Datagrams from elsewhere
/// do not get through to a connected socket.
pub(super) fn datagram(server: SocketAddr, query: &[u8], limit: &Limit) -> Tried<Bytes> {
    check(query)?;
    limit.left()?;
    let here: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(here).map_err(|_| Fault::Connect)?;
    socket.connect(server).map_err(|_| Fault::Connect)?;
    match socket.send(query) {
        Ok(_) => {}
        // A datagram that the system will not send, however long one waits.
        Err(e) if query.len() > 512 && e.kind() != ErrorKind::ConnectionRefused => {
            return Err(Fault::Request);
        }
        Err(_) => return Err(Fault::Connect),
    }
    let mut message = vec![0; MESSAGE];
    loop {
        let stretch = limit.stretch().map_err(|_| Fault::Timeout)?;
        socket.set_read_timeout(Some(stretch)).map_err(|_| Fault::Connect)?;
        match socket.recv(&mut message) {
            Ok(count) if answers(&message[..count], query) => {
                return Ok(Bytes::copy_from_slice(&message[..count]));
            }
            // Not ours. Whoever floods us with such can do no more than that until the limit.
            Ok(_) => {}
            Err(e) if is_late(&e) || e.kind() == ErrorKind::Interrupted => {}
            // Nobody listens there, as the server's machine says.
            Err(_) => return Err(Fault::Connect),
        }
    }
}

/// Over TCP: the length in front of either message (RFC 1035 §4.2.2), one question per connection.
pub(super) fn stream(server: SocketAddr, query: &[u8], limit: &Limit) -> Tried<Bytes> {
    let length = check(query)?.to_be_bytes();
    let stream = dial(&[server], limit)?;
    let mut wire = Wire { stream: &stream, limit };
    // Together, since some servers read the length and the message as one (RFC 7766 §8).
    let sent = wire.write_all(&[&length[..], query].concat());
    sent.map_err(|e| fault_of(&e))?;
    let mut length = [0; 2];
    wire.read_exact(&mut length).map_err(|e| fault_of(&e))?;
    let length = usize::from(u16::from_be_bytes(length));
    if length < HEADER {
        return Err(Fault::Protocol);
    }
    let mut message = vec![0; length];
    wire.read_exact(&mut message).map_err(|e| fault_of(&e))?;
    if !answers(&message, query) {
        return Err(Fault::Protocol);
    }
    Ok(message.into())
}

/// The length of a question that can be sent.
fn check(query: &[u8]) -> Tried<u16> {
    u16::try_from(query.len()).ok().filter(|_| query.len() >= HEADER).ok_or(Fault::Request)
}

/// Whether this is an answer, and to this question.
fn answers(message: &[u8], query: &[u8]) -> bool {
    message.len() >= HEADER && message[..2] == query[..2] && message[2] & 0x80 != 0
}
