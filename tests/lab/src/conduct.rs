//! What each mode does to a connection: the loop that reads requests, and the
//! good and bad manners of answering them. Nothing here decides which mode is
//! in force, and nothing here closes a socket; it only returns.

use std::io::{self, BufReader};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::connection::Connection;
use crate::http::{Answer, Request};
use crate::mode::Mode;
use crate::server::Shared;
use crate::wire::{self, Frame, Reading};

/// How much more body than is sent the broken answers announce.
const SHORTFALL: u64 = 1024;
/// Filler for bodies that have a length and no meaning.
static FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// What happens to the connection after an answer.
enum Next {
    Stay,
    /// Close with a FIN, after the client had time to read.
    Close,
    /// Return at once: whatever the socket is set to happens.
    Leave,
}

/// Serves one connection until either side ends it.
pub(crate) fn serve(shared: &Shared, connection: &Connection) {
    let plan = shared.plan();
    if *plan.mode() == Mode::HangOnAccept {
        connection.hold_while(|| shared.follows(&plan));
        return;
    }
    // An error means that one side is gone: there is nobody to tell.
    let _ = converse(shared, connection);
}

fn converse(shared: &Shared, connection: &Connection) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(8 * 1024, connection);
    let mut head = Vec::with_capacity(512);
    let mut out = Vec::with_capacity(1024);
    loop {
        let proceed = || connection.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        let (request, keep_alive) = match wire::read_request(&mut reader, &mut head, proceed)? {
            Reading::Request(request, keep_alive) => (request, keep_alive),
            Reading::Closed => return Ok(()),
            Reading::Bad(status) => {
                let frame = Frame { head_only: false, keep_alive: false };
                out.clear();
                wire::write_answer(&mut out, &Answer::new(status), frame);
                connection.send(&out)?;
                connection.close_politely();
                return Ok(());
            }
        };
        shared.book.arrived(&head, &request);
        let exchange = Exchange { shared, connection, request: &request, keep_alive };
        let plan = shared.plan();
        match exchange.behave(plan.next(), &mut out)? {
            Next::Stay if keep_alive => {}
            Next::Stay | Next::Close => {
                connection.close_politely();
                return Ok(());
            }
            Next::Leave => return Ok(()),
        }
        // One huge answer must not keep its buffer for a connection's life.
        if out.capacity() > 1 << 20 {
            out = Vec::with_capacity(1024);
        }
    }
}

/// One request and everything needed to answer it.
struct Exchange<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    request: &'a Request,
    keep_alive: bool,
}

impl Exchange<'_> {
    fn behave(&self, mode: &Mode, out: &mut Vec<u8>) -> io::Result<Next> {
        out.clear();
        match mode {
            // Plans resolve these two before a request gets here.
            Mode::Ok | Mode::Sequence(_) | Mode::Flaky { .. } => self.answer(self.healthy(), out),
            Mode::Slow { delay_ms } => {
                self.connection.pause(Duration::from_millis(*delay_ms))?;
                self.answer(self.healthy(), out)
            }
            Mode::Echo => self.answer(self.echo(), out),
            Mode::Status { code, headers, body } => {
                let mut answer = Answer::new(*code);
                answer.headers.clone_from(headers);
                answer.body = body.clone().into_bytes();
                self.answer(answer, out)
            }
            Mode::Redirect { to, code } => {
                self.answer(Answer::new(*code).header("Location", to), out)
            }
            Mode::Body { content_type, etag, cache_control, body } => {
                let tag = etag.as_deref();
                self.answer(self.document(content_type, tag, cache_control.as_deref(), body), out)
            }
            Mode::HangBeforeHead | Mode::HangOnAccept => self.hang(),
            Mode::HangAfterHead => {
                self.connection.send(&head_of(SHORTFALL))?;
                self.hang()
            }
            Mode::Drip { bytes, every_ms } => self.drip(*bytes, Duration::from_millis(*every_ms)),
            Mode::Refuse | Mode::ResetBeforeHead => Ok(self.reset()),
            Mode::ResetMidBody { after } => {
                self.part_of_body(*after)?;
                Ok(self.reset())
            }
            Mode::CloseMidBody { after } => {
                self.part_of_body(*after)?;
                Ok(Next::Close)
            }
            Mode::HugeHead { bytes } => self.huge_head(*bytes),
            Mode::HugeBody { bytes } => {
                self.connection.send(&head_of(*bytes))?;
                if !self.head_only() {
                    self.filler(*bytes)?;
                }
                Ok(Next::Stay)
            }
            Mode::Garbage => {
                self.connection.send(&garbage())?;
                Ok(Next::Close)
            }
        }
    }

    fn head_only(&self) -> bool {
        self.request.method == "HEAD"
    }

    fn answer(&self, answer: Answer, out: &mut Vec<u8>) -> io::Result<Next> {
        self.connection.pause(answer.delay)?;
        let keep_alive = self.keep_alive && !answer.close;
        let frame = Frame { head_only: self.head_only(), keep_alive };
        wire::write_answer(out, &answer, frame);
        self.connection.send(out)?;
        Ok(if keep_alive { Next::Stay } else { Next::Close })
    }

    /// The server's own answer, always with its name on it.
    fn healthy(&self) -> Answer {
        let answer = match &self.shared.handler {
            Some(handler) => handler(self.request),
            None => Answer::json(
                200,
                &json!({
                    "cluster": self.shared.cluster,
                    "instance": self.shared.instance,
                    "method": self.request.method,
                    "path": self.request.path,
                }),
            ),
        };
        self.signed(answer)
    }

    fn signed(&self, answer: Answer) -> Answer {
        answer
            .header("X-Origin-Cluster", &self.shared.cluster)
            .header("X-Origin-Instance", &self.shared.instance)
    }

    fn echo(&self) -> Answer {
        // An array of pairs: header names repeat and their order matters.
        let headers: Vec<Value> =
            self.request.headers.iter().map(|(name, value)| json!([name, value])).collect();
        let mut echo = Map::new();
        echo.insert("method".into(), self.request.method.clone().into());
        echo.insert("path".into(), self.request.path.clone().into());
        echo.insert("headers".into(), headers.into());
        echo.insert("body".into(), String::from_utf8_lossy(&self.request.body).into());
        self.signed(Answer::json(200, &Value::Object(echo)))
    }

    fn document(
        &self,
        content_type: &str,
        etag: Option<&str>,
        cache_control: Option<&str>,
        body: &str,
    ) -> Answer {
        let unchanged = etag.is_some_and(|tag| self.request.has_match(tag));
        let mut answer =
            if unchanged { Answer::new(304) } else { Answer::bytes(200, content_type, body) };
        if let Some(tag) = etag {
            answer = answer.header("ETag", tag);
        }
        if let Some(control) = cache_control {
            answer = answer.header("Cache-Control", control);
        }
        self.signed(answer)
    }

    fn hang(&self) -> io::Result<Next> {
        self.connection.swallow();
        Ok(Next::Leave)
    }

    fn reset(&self) -> Next {
        self.connection.reset_on_close();
        Next::Leave
    }

    fn drip(&self, bytes: u64, every: Duration) -> io::Result<Next> {
        self.connection.send(&head_of(bytes))?;
        if !self.head_only() {
            for _ in 0..bytes {
                self.connection.pause(every)?;
                self.connection.send(b"x")?;
            }
        }
        Ok(Next::Stay)
    }

    fn part_of_body(&self, after: u64) -> io::Result<()> {
        self.connection.send(&head_of(after.saturating_add(SHORTFALL)))?;
        self.filler(after)
    }

    fn filler(&self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let part = bytes.min(FILLER.len() as u64);
            self.connection.send(FILLER.get(..part as usize).unwrap_or(&FILLER))?;
            bytes -= part;
        }
        Ok(())
    }

    fn huge_head(&self, bytes: u64) -> io::Result<Next> {
        // "X-Padding: " and the line end around the filler.
        const FRAME: u64 = 13;
        const LINE: u64 = 1024;
        let mut line = Vec::new();
        wire::status_line(&mut line, 200);
        wire::length(&mut line, 0);
        let mut left = bytes.saturating_sub(line.len() as u64 + 2);
        self.connection.send(&line)?;
        while left >= FRAME {
            // A remainder too small for a line of its own joins this one.
            let size = if left < LINE + FRAME { left } else { LINE };
            let padding = FILLER.get(..(size - FRAME) as usize).unwrap_or_default();
            line.clear();
            line.extend_from_slice(b"X-Padding: ");
            line.extend_from_slice(padding);
            line.extend_from_slice(b"\r\n");
            self.connection.send(&line)?;
            left -= size;
        }
        self.connection.send(b"\r\n")?;
        Ok(Next::Stay)
    }
}

/// The head of a 200 with a body of that length.
fn head_of(bytes: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(96);
    wire::status_line(&mut head, 200);
    wire::header(&mut head, "Content-Type", "application/octet-stream");
    wire::length(&mut head, bytes);
    head.extend_from_slice(b"\r\n");
    head
}

/// Deterministic noise (xorshift) with the high bit set, so that no prefix of
/// it can be mistaken for a status line.
fn garbage() -> Vec<u8> {
    let mut state: u32 = 0x9E37_79B9;
    (0..512)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0] | 0x80
        })
        .collect()
}
