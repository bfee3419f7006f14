//! DNS as far as tests need it to look at a server from beside the library: one question, and
//! its A and SRV answers. Not the resolver under test, and nothing of it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// Services.
    Srv = 33,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// The share within its priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, without the final dot.
    pub target: String,
}

impl Srv {
    /// A record.
    #[must_use]
    pub fn new(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv { priority, weight, port, target: target.to_owned() }
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The response code: 0 is fine, 3 is "no such name", 5 is "refused".
    pub code: u8,
    /// Whether the answer was cut to fit a datagram.
    pub truncated: bool,
    /// Whether the server speaks for the zone.
    pub authoritative: bool,
    /// The SRV records of the answer section, in their order.
    pub services: Vec<Srv>,
    /// The addresses of the answer section, in their order.
    pub addresses: Vec<Ipv4Addr>,
    /// The smallest time to live of the answer section, in seconds.
    pub ttl: Option<u32>,
    /// Size of the message in bytes.
    pub size: usize,
}

/// Asks a server over UDP or TCP, without EDNS; waits 2 s at most.
///
/// # Errors
/// No answer, or one that is no answer to this question.
pub fn ask(server: SocketAddr, name: &str, kind: Kind, tcp: bool) -> io::Result<Answer> {
    // No secrecy here: a fixed number and a socket of our own tell our answer from others.
    let mut query = vec![0x4f, 0x52, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        query.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
    let patience = Some(Duration::from_secs(2));
    let reply = if tcp {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
        stream.set_read_timeout(patience)?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &query].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply)?;
        reply
    } else {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(patience)?;
        socket.send(&query)?;
        let mut reply = vec![0; 65_536];
        let length = socket.recv(&mut reply)?;
        reply.truncate(length);
        reply
    };
    read(&reply).ok_or_else(|| io::Error::other("not a DNS answer"))
}

fn read(message: &[u8]) -> Option<Answer> {
    let short = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    if !message.starts_with(&[0x4f, 0x52]) {
        return None;
    }
    let (questions, answers) = (short(4)?, short(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name(message, at)?.1 + 4;
    }
    let flags = (*message.get(2)?, *message.get(3)?);
    let mut answer = Answer {
        code: flags.1 & 15,
        truncated: flags.0 & 2 != 0,
        authoritative: flags.0 & 4 != 0,
        size: message.len(),
        ..Answer::default()
    };
    for _ in 0..answers {
        at = name(message, at)?.1;
        let ttl = u32::from(short(at + 4)?) << 16 | u32::from(short(at + 6)?);
        answer.ttl = Some(answer.ttl.map_or(ttl, |least| least.min(ttl)));
        let (kind, length, data) = (short(at)?, usize::from(short(at + 8)?), at + 10);
        if kind == Kind::A as u16 {
            let four: [u8; 4] = message.get(data..data + 4)?.try_into().ok()?;
            answer.addresses.push(Ipv4Addr::from(four));
        } else if kind == Kind::Srv as u16 {
            answer.services.push(Srv {
                priority: short(data)?,
                weight: short(data + 2)?,
                port: short(data + 4)?,
                target: name(message, data + 6)?.0,
            });
        }
        at = data + length;
    }
    Some(answer)
}

/// A name and where the message goes on after it.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut labels, mut end) = (Vec::new(), None);
    for _ in 0..128 {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            0xc0.. => {
                end = end.or(Some(at + 2));
                at = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
            }
            _ => {
                let label = message.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + length;
            }
        }
    }
    None
}
