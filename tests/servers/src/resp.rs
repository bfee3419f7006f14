//! The protocol of Redis (RESP 2) as far as the set-up of servers needs it. Not the client under
//! test, and nothing of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::http::secure;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing there.
    Nil,
    /// An integer.
    Number(i64),
    /// A string, simple or bulk; what is not UTF-8 replaced.
    Text(String),
    /// Several.
    List(Vec<Value>),
    /// The server refused; its whole message.
    Refused(String),
}

/// Both kinds of stream.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection.
pub struct Link {
    stream: BufReader<Box<dyn Stream>>,
}

impl Link {
    /// Connects, over TLS to `localhost` if asked to; each read waits `patience` at most.
    ///
    /// # Errors
    /// No connection.
    pub fn open(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        patience: Duration,
    ) -> io::Result<Link> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(config) => Box::new(secure(stream, config)?),
        };
        Ok(Link { stream: BufReader::new(stream) })
    }

    /// Sends one command and reads its reply.
    ///
    /// # Errors
    /// The connection broke, nothing came in time, or no RESP.
    pub fn call(&mut self, words: &[&str]) -> io::Result<Value> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let stream = self.stream.get_mut();
        stream.write_all(command.as_bytes())?;
        stream.flush()?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Value> {
        let bad = || io::Error::other("not RESP");
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.strip_suffix("\r\n").ok_or_else(bad)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(bad)?;
        let number = || rest.parse::<i64>().map_err(|_| bad());
        Ok(match kind {
            "+" => Value::Text(rest.to_owned()),
            "-" => Value::Refused(rest.to_owned()),
            ":" => Value::Number(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => {
                    let mut bulk = vec![0; length + 2];
                    self.stream.read_exact(&mut bulk)?;
                    Value::Text(String::from_utf8_lossy(&bulk[..length]).into_owned())
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(count) => {
                    Value::List((0..count).map(|_| self.reply()).collect::<io::Result<_>>()?)
                }
            },
            _ => return Err(bad()),
        })
    }
}
