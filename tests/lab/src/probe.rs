//! Test tools: a raw TCP client that shows the bytes of an answer exactly as
//! they came, and a bounded wait for things that become true.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::FaultServer;

/// A client that must not wait for ever for a server that hangs on purpose.
pub(crate) fn connect(server: &FaultServer) -> TcpStream {
    dial(server.addr()).unwrap()
}

/// As `connect`, for the cases where failing is the point.
pub(crate) fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends a GET.
pub(crate) fn get(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// Reads one answer that has a Content-Length (or is a 304): head and body.
pub(crate) fn answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed inside the head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// One GET on a fresh connection.
pub(crate) fn fetch(addr: SocketAddr, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let mut stream = dial(addr).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (head, body) = answer(&mut stream);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, body)
}

/// Everything until the connection ends, and how it ended.
pub(crate) fn drain(stream: &mut TcpStream) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return (all, None),
            Ok(read) => all.extend_from_slice(&part[..read]),
            Err(error) => return (all, Some(error.kind())),
        }
    }
}

/// True when nothing arrives for a moment and the connection stays open.
pub(crate) fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let silent = match stream.read(&mut [0; 16]) {
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        Ok(_) => false,
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    silent
}

/// Waits (generously, but not for ever) until the condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < give_up, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
