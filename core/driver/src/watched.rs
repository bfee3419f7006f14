//! A stream that notices when its peer refuses our certificate after the handshake.
//!
//! In TLS 1.3 that comes in place of the first answer: the client was done before the server had
//! looked at its certificate. Such a connection has carried no request, whatever was written to
//! it, because a server reads none before the handshake is over on its side, too.
//!
//! hyper loses such an error if it comes before the connection has taken a request, and a request
//! that is queued in that very moment is lost with it until its deadline (hyperium/hyper#4122; seen
//! here once in a thousand refusals). So a refusal is held back until a request is written.
//! That a refusal is heard although a write breaks first is the affair of `last_words.rs`, below.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use ::hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use origin_core::outcome::Sent;

use crate::tls::{Watch, cause, is_refusal};

/// A stream, plain or secured.
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    /// Where to note what is wrong; none for a plain stream.
    watch: Option<Watch>,
    /// Whether anything has been read.
    answered: bool,
    /// How far writing is.
    asked: Asked,
    /// A refusal that came before.
    held: Option<io::Error>,
    /// Who reads, while it is held.
    reader: Option<Waker>,
}

impl<T> Watched<T> {
    /// Watches `inner` for the target it is connected to; none for a plain stream.
    pub fn new(inner: T, watch: Option<Watch>) -> Watched<T> {
        Watched { inner, watch, answered: false, asked: Asked::Nothing, held: None, reader: None }
    }

    /// What an error of reading is to hyper; nothing yet, if it is held back.
    fn told(&mut self, context: &Context<'_>, error: io::Error) -> Poll<io::Result<()>> {
        let (Some(watch), Some(tls)) = (&self.watch, cause(&error)) else {
            return Poll::Ready(Err(error));
        };
        watch.note(tls);
        if !is_refusal(tls) {
            return Poll::Ready(Err(error));
        }
        let sent = if self.answered { Sent::Maybe } else { Sent::Never };
        let refused = io::Error::new(error.kind(), Refused(sent));
        if self.asked == Asked::Request {
            return Poll::Ready(Err(refused));
        }
        self.held = Some(refused);
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Notes what has been written.
    fn wrote(&mut self, bytes: &[u8]) {
        self.asked.wrote(bytes);
        if self.asked == Asked::Request
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
    }
}

/// Whether a request is on its way.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Nothing at all.
    Nothing,
    /// HTTP/2 has said hello: the bytes until the head of the next frame, and what is there of it.
    Hello { skip: usize, head: Vec<u8> },
    /// Any byte of HTTP/1, or the HEADERS of HTTP/2.
    Request,
}

impl Asked {
    const PREFACE: &'static [u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const FRAME_HEAD: usize = 9;
    const HEADERS: u8 = 1;

    fn wrote(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if *self == Asked::Nothing {
            *self = match bytes.starts_with(b"PRI ") {
                true => Asked::Hello { skip: Asked::PREFACE.len(), head: Vec::new() },
                false => Asked::Request,
            };
        }
        while let Asked::Hello { skip, head } = self {
            let skipped = bytes.len().min(*skip);
            *skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let taken = bytes.len().min(Asked::FRAME_HEAD - head.len());
            head.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            bytes = bytes.get(taken..).unwrap_or_default();
            let &[a, b, c, kind, _, _, _, _, _] = head.as_slice() else { return };
            if kind == Asked::HEADERS {
                *self = Asked::Request;
                return;
            }
            *skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            head.clear();
        }
    }
}

/// The peer refused our certificate.
#[derive(Debug)]
struct Refused(Sent);

impl Refused {
    const BEFORE: &'static str = "the peer refused our certificate instead of answering";
    const LATER: &'static str = "the peer refused our certificate between answers";
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Sent::Never => Refused::BEFORE,
            Sent::Maybe => Refused::LATER,
        })
    }
}

impl StdError for Refused {}

/// Whether this is a refusal, and whether a request can have left before it. HTTP/2 keeps the text
/// of an error and not its type.
pub(crate) fn refused(error: &(dyn StdError + 'static)) -> Option<Sent> {
    let text = error.to_string();
    if text.contains(Refused::BEFORE) {
        return Some(Sent::Never);
    }
    text.contains(Refused::LATER).then_some(Sent::Maybe)
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_some() {
            if self.asked == Asked::Request {
                return Poll::Ready(self.held.take().map_or(Ok(()), Err));
            }
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.inner).poll_read(context, into);
        match read {
            Poll::Ready(Ok(())) => {
                self.answered = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.told(context, error),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What nobody will read need not be sent.
        let written = match self.held {
            Some(_) => bytes.len(),
            None => ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?,
        };
        self.wrote(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.held {
            Some(_) => Poll::Ready(Ok(())),
            None => Pin::new(&mut self.inner).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match self.held {
            Some(_) => pieces.iter().map(|piece| piece.len()).sum(),
            None => ready!(Pin::new(&mut self.inner).poll_write_vectored(context, pieces))?,
        };
        let mut left = written;
        for piece in pieces {
            let part = piece.get(..left.min(piece.len())).unwrap_or_default();
            self.wrote(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request has begun after these bytes, cut into pieces of `size`.
    fn asked(bytes: &[u8], size: usize) -> bool {
        let mut asked = Asked::Nothing;
        for piece in bytes.chunks(size) {
            asked.wrote(piece);
        }
        asked == Asked::Request
    }

    fn frame(kind: u8, length: u16) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend(length.to_be_bytes());
        frame.extend([kind, 0, 0, 0, 0, 0]);
        // Ones, which are no sizes and all HEADERS, where a frame is cut wrongly.
        frame.resize(frame.len() + usize::from(length), 1);
        frame
    }

    #[test]
    fn a_request_begins_with_the_first_byte_or_with_headers() {
        assert!(asked(b"G", 1) && asked(b"POST / HTTP/1.1", 4));
        // Preface, SETTINGS and WINDOW_UPDATE as hyper writes them, an empty one, a long one.
        let mut hello = Asked::PREFACE.to_vec();
        hello.extend([frame(4, 24), frame(8, 4), frame(4, 0), frame(6, 300)].concat());
        // The first write has the whole preface as a rule; four bytes tell.
        for size in 4..hello.len() + 1 {
            assert!(!asked(&hello, size), "{size}");
            let request = [hello.clone(), frame(1, 10)].concat();
            assert!(asked(&request, size), "{size}");
            let head = request.len() - 10;
            assert!(!asked(&request[..head - 1], size) && asked(&request[..head], size), "{size}");
        }
    }
}
