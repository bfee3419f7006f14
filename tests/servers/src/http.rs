//! HTTP as far as the set-up of servers needs it: one exchange per connection, over plain `std`
//! or TLS. Not the client under test, and nothing of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    headers: Vec<(String, String)>,
    patience: Duration,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers in their order; names as sent.
    pub headers: Vec<(String, String)>,
    /// The whole body, without chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// Over plain TCP; each read waits 12 s at most.
    #[must_use]
    pub fn new(address: SocketAddr) -> Client {
        Client { address, tls: None, headers: Vec::new(), patience: Duration::from_secs(12) }
    }

    /// Over TLS; the server is expected to prove that it is `localhost`.
    #[must_use]
    pub fn over(mut self, tls: Arc<ClientConfig>) -> Client {
        self.tls = Some(tls);
        self
    }

    /// With a header in every request.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Client {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Each read waits at most this long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Asks by GET.
    ///
    /// # Errors
    /// No connection, no answer in time, or no HTTP.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, "")
    }

    /// Asks by PUT.
    ///
    /// # Errors
    /// No connection, no answer in time, or no HTTP.
    pub fn put(&self, path: &str, body: impl ToString) -> io::Result<Answer> {
        self.ask("PUT", path, &body.to_string())
    }

    /// Asks by any method.
    ///
    /// # Errors
    /// No connection, no answer in time, or no HTTP.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!(
            "Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        match &self.tls {
            None => exchange(stream, &request),
            Some(config) => exchange(secure(stream, config)?, &request),
        }
    }
}

/// TLS to `localhost` over a connection.
pub(crate) fn secure(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, stream))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        // A server may close without the farewell of TLS: what came is judged by its length.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !reply.is_empty() => {}
        result => _ = result?,
    }
    parse(&reply).ok_or_else(|| io::Error::other("not a whole HTTP answer"))
}

fn parse(reply: &[u8]) -> Option<Answer> {
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).ok()?;
    let mut body = reply[end + 4..].to_vec();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        body = unchunk(&body)?;
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse().ok()?;
        body = body.get(..length)?.to_vec();
    }
    answer.body = body;
    Some(answer)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn whole_answers_only() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        let answer = parse(chunked).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "abcd"));
        let counted = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(parse(counted).unwrap().body, b"no");
        for cut in 1..counted.len() {
            assert!(parse(&counted[..cut]).is_none(), "{cut}");
        }
        // The last 2 bytes end the trailers, which are not read.
        for cut in 1..chunked.len() - 2 {
            assert!(parse(&chunked[..cut]).is_none(), "{cut}");
        }
    }
}
