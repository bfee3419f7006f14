//! HTTP/1.1 on a byte stream: reading one request within bounds, writing one
//! answer into a buffer. No sockets here, only `BufRead` and `Vec<u8>`, so
//! that every malformed input can be tested without a network.

use std::io::{self, BufRead, Read, Write as _};

use crate::http::{Answer, Request, find, reason};

/// The longest request head that is read; longer ones are answered with 431.
pub(crate) const HEAD_LIMIT: usize = 64 * 1024;
/// The longest request body that is read; longer ones are answered with 413.
pub(crate) const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// A chunk-size or trailer line longer than this is not chunked coding.
const LINE_LIMIT: u64 = 4096;

/// What became of the attempt to read a request.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A complete request, and whether the connection may be used again.
    Request(Request, bool),
    /// The peer went away between requests or inside one.
    Closed,
    /// The bytes are not a request this server takes: answer this and close.
    Bad(u16),
}

/// Reads one request. `head` is a scratch buffer that holds the raw head
/// afterwards; `proceed` is called when the client waits for 100 Continue.
pub(crate) fn read_request<R: BufRead>(
    reader: &mut R,
    head: &mut Vec<u8>,
    mut proceed: impl FnMut() -> io::Result<()>,
) -> io::Result<Reading> {
    match read_head(reader, head)? {
        HeadEnd::Found => {}
        HeadEnd::Closed => return Ok(Reading::Closed),
        HeadEnd::TooLong => return Ok(Reading::Bad(431)),
    }
    let (mut request, version) = match parse_head(head) {
        Ok(parsed) => parsed,
        Err(status) => return Ok(Reading::Bad(status)),
    };
    let framing = match framing(&request.headers) {
        Ok(framing) => framing,
        Err(status) => return Ok(Reading::Bad(status)),
    };
    if framing != Framing::Empty
        && version == Version::Http11
        && request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    {
        proceed()?;
    }
    match framing {
        Framing::Empty => {}
        Framing::Length(length) => {
            let expected = length as usize;
            request.body.reserve(expected.min(64 * 1024));
            if reader.take(length).read_to_end(&mut request.body)? < expected {
                return Ok(Reading::Closed);
            }
        }
        Framing::Chunked => match read_chunked(reader, &mut request.body)? {
            Chunked::Complete => {}
            Chunked::Closed => return Ok(Reading::Closed),
            Chunked::Bad(status) => return Ok(Reading::Bad(status)),
        },
    }
    let keep_alive = keeps_alive(&request.headers, version);
    Ok(Reading::Request(request, keep_alive))
}

enum HeadEnd {
    Found,
    Closed,
    TooLong,
}

fn read_head<R: BufRead>(reader: &mut R, head: &mut Vec<u8>) -> io::Result<HeadEnd> {
    head.clear();
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(HeadEnd::Closed);
        }
        // A client may send empty lines between requests (RFC 9112, 2.2).
        if head.is_empty() {
            let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if blank > 0 {
                reader.consume(blank);
                continue;
            }
        }
        // The terminator may straddle two reads: look three bytes back.
        let old = head.len();
        let from = old.saturating_sub(3);
        let room = (HEAD_LIMIT + 4).saturating_sub(old).min(buffer.len());
        head.extend_from_slice(&buffer[..room]);
        let end = head[from..].windows(4).position(|window| window == b"\r\n\r\n");
        match end {
            Some(position) => {
                let end = from + position + 4;
                head.truncate(end);
                reader.consume(end - old);
                return Ok(HeadEnd::Found);
            }
            None if head.len() > HEAD_LIMIT => return Ok(HeadEnd::TooLong),
            None => reader.consume(room),
        }
    }
}

/// The HTTP versions this server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Closes unless asked to stay.
    Http10,
    /// Stays unless asked to close.
    Http11,
}

/// Parses a raw head (up to and including the empty line) into a request
/// without a body; an error is the status that says what was wrong with it.
pub(crate) fn parse_head(head: &[u8]) -> Result<(Request, Version), u16> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(400);
    };
    let version = match version {
        "HTTP/1.1" => Version::Http11,
        "HTTP/1.0" => Version::Http10,
        other if other.starts_with("HTTP/") => return Err(505),
        _ => return Err(400),
    };
    if !is_token(method) || target.is_empty() {
        return Err(400);
    }
    let mut headers = Vec::with_capacity(12);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(400_u16)?;
        if !is_token(name) {
            return Err(400);
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let request = Request {
        method: method.to_owned(),
        path: origin_form(target).to_owned(),
        headers,
        body: Vec::new(),
    };
    Ok((request, version))
}

/// A proxy-style absolute target is reduced to its path, so that counting by
/// path does not depend on how the client was configured.
fn origin_form(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://") else {
        return target;
    };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Empty,
    Length(u64),
    Chunked,
}

fn framing(headers: &[(String, String)]) -> Result<Framing, u16> {
    let coding = find(headers, "transfer-encoding");
    let mut length = None;
    for (name, value) in headers {
        if !name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(400);
        }
        // Digits that do not fit are a length nobody takes.
        let parsed = value.parse::<u64>().map_err(|_| 413_u16)?;
        if length.is_some_and(|known| known != parsed) {
            return Err(400);
        }
        length = Some(parsed);
    }
    match (coding, length) {
        // Both at once is the classic request smuggling input.
        (Some(_), Some(_)) => Err(400),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(501),
        (None, Some(length)) if length > BODY_LIMIT as u64 => Err(413),
        (None, Some(0) | None) => Ok(Framing::Empty),
        (None, Some(length)) => Ok(Framing::Length(length)),
    }
}

fn keeps_alive(headers: &[(String, String)], version: Version) -> bool {
    let says = |word: &str| {
        headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
            .flat_map(|(_, value)| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    match version {
        Version::Http11 => !says("close"),
        Version::Http10 => says("keep-alive"),
    }
}

enum Chunked {
    Complete,
    Closed,
    Bad(u16),
}

fn read_chunked<R: BufRead>(reader: &mut R, body: &mut Vec<u8>) -> io::Result<Chunked> {
    let mut line = Vec::new();
    loop {
        if !read_line(reader, &mut line)? {
            return Ok(Chunked::Closed);
        }
        let Some(size) = chunk_size(&line) else {
            return Ok(Chunked::Bad(400));
        };
        if size == 0 {
            break;
        }
        if size > (BODY_LIMIT - body.len()) as u64 {
            return Ok(Chunked::Bad(413));
        }
        if (reader.by_ref().take(size).read_to_end(body)? as u64) < size {
            return Ok(Chunked::Closed);
        }
        if !read_line(reader, &mut line)? {
            return Ok(Chunked::Closed);
        }
        if line != b"\r\n" {
            return Ok(Chunked::Bad(400));
        }
    }
    // Trailers are read and dropped, within the bound of a head.
    let mut trailers = 0;
    loop {
        if !read_line(reader, &mut line)? {
            return Ok(Chunked::Closed);
        }
        if line == b"\r\n" {
            return Ok(Chunked::Complete);
        }
        trailers += line.len();
        if trailers > HEAD_LIMIT || !line.ends_with(b"\n") {
            return Ok(Chunked::Bad(431));
        }
    }
}

/// Reads up to a line feed or the line limit; false when the peer is gone.
fn read_line<R: BufRead>(reader: &mut R, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = reader.take(LINE_LIMIT).read_until(b'\n', line)?;
    Ok(read > 0 && (line.ends_with(b"\n") || read as u64 == LINE_LIMIT))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let digits = text.split(';').next()?.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// How an answer is framed for the request it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// The answer is to a HEAD request: all headers, no body.
    pub head_only: bool,
    /// The connection stays open afterwards.
    pub keep_alive: bool,
}

/// Appends the whole answer, head and body, so that it leaves in one write.
pub(crate) fn write_answer(out: &mut Vec<u8>, answer: &Answer, frame: Frame) {
    status_line(out, answer.status);
    let mut framed = matches!(answer.status, 100..=199 | 204 | 304);
    let bodiless = framed || frame.head_only;
    for (name, value) in &answer.headers {
        framed |= name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding");
        header(out, name, value);
    }
    if !framed {
        length(out, answer.body.len() as u64);
    }
    if !frame.keep_alive {
        header(out, "Connection", "close");
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless {
        out.extend_from_slice(&answer.body);
    }
}

/// Appends a status line.
pub(crate) fn status_line(out: &mut Vec<u8>, status: u16) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
}

/// Appends one header line.
pub(crate) fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a Content-Length line.
pub(crate) fn length(out: &mut Vec<u8>, bytes: u64) {
    let _ = write!(out, "Content-Length: {bytes}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Reading {
        // One byte per read: the worst case for anything that straddles.
        let mut slow = io::BufReader::with_capacity(1, bytes);
        let mut fast = bytes;
        let mut head = Vec::new();
        let slowly = read_request(&mut slow, &mut head, || Ok(())).unwrap();
        let quickly = read_request(&mut fast, &mut head, || Ok(())).unwrap();
        assert_eq!(format!("{slowly:?}"), format!("{quickly:?}"));
        quickly
    }

    fn status(bytes: &[u8]) -> u16 {
        match read(bytes) {
            Reading::Bad(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn request(bytes: &[u8]) -> (Request, bool) {
        match read(bytes) {
            Reading::Request(request, keep) => (request, keep),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_lengths_chunks_and_absolute_targets() {
        let (got, keep) = request(b"POST /x?y HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcEXTRA");
        assert_eq!((got.body.as_slice(), keep), (&b"abc"[..], true));
        let (got, _) = request(
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: r\r\n\r\n",
        );
        assert_eq!(got.body, b"abcd");
        let (got, keep) = request(b"\r\nGET http://h/p?q HTTP/1.0\r\nX:  a \r\n\r\n");
        assert_eq!((got.path.as_str(), keep), ("/p?q", false));
        assert_eq!(got.header("x"), Some("a"));
    }

    #[test]
    fn refuses_what_is_not_a_request() {
        assert_eq!(status(b"nonsense\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n"), 400);
        assert_eq!(status(b"PRI * HTTP/2.0\r\n\r\n"), 505);
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400
        );
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
        assert_eq!(status(b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
        assert_eq!(status(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
    }

    #[test]
    fn bounds_head_and_body() {
        let mut long = b"GET / HTTP/1.1\r\nA: ".to_vec();
        long.resize(HEAD_LIMIT + 100, b'a');
        assert_eq!(status(&long), 431);
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n"), 413);
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
            413
        );
        assert_eq!(
            status(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"),
            413
        );
    }

    #[test]
    fn a_truncated_request_is_a_closed_connection_at_every_length() {
        let whole = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(matches!(read(&whole[..cut]), Reading::Closed), "{cut}");
        }
        assert!(matches!(read(whole), Reading::Request(..)));
    }

    #[test]
    fn two_requests_in_one_read_are_read_one_by_one() {
        let mut bytes = &b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"[..];
        for wanted in ["/1", "/2"] {
            let mut head = Vec::new();
            match read_request(&mut bytes, &mut head, || Ok(())).unwrap() {
                Reading::Request(request, _) => assert_eq!(request.path, wanted),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn answers_are_framed_unless_the_handler_framed_them() {
        let mut out = Vec::new();
        let frame = Frame { head_only: false, keep_alive: true };
        write_answer(&mut out, &Answer::text(200, "hi"), frame);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nhi"
        );
        out.clear();
        let lying = Answer::new(200).header("content-length", "9");
        write_answer(&mut out, &lying, frame);
        assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    }

    #[test]
    fn no_mutation_of_a_request_breaks_the_reader() {
        let seeds: [&[u8]; 3] = [
            b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;q\r\nabc\r\n0\r\nT: r\r\n\r\n",
            b"GET http://h/ HTTP/1.0\r\nConnection: keep-alive, x\r\nExpect: 100-continue\r\n\r\n",
        ];
        let mut state = 3_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for round in 0..6000 {
            let mut bytes = seeds[round % seeds.len()].to_vec();
            for _ in 0..=random(4) {
                let place = random(bytes.len());
                match random(3) {
                    0 => bytes[place] = random(256) as u8,
                    1 => bytes.insert(place, b"\r\n:;0f \xff"[random(8)]),
                    _ => drop(bytes.remove(place)),
                }
            }
            // `read` also checks that the split into reads does not matter.
            read(&bytes);
        }
    }
}
