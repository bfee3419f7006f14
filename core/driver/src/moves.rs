//! A large request body on its way: cut into pieces, so that somebody can be told while they are
//! taken. What that means is the core's to decide (`Service::moved`).
//!
//! The telling travels in the extensions of the HTTP request, which an adapter hands over as a
//! whole: [`Pieces`] is that request's body to hyper, [`Moves::reader`] to who reads.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use origin_core::{CallSpec, EndpointId};

use crate::flight::Flight;
use crate::hub::lock;
use crate::runtime::Runtime;

/// The largest piece: what a socket takes at once, as a rule.
const PIECE: usize = CallSpec::MUCH;

/// Who is told that part of a body has been taken. Clones tell the same.
#[derive(Clone)]
pub struct Moves(Arc<dyn Fn() + Send + Sync>);

impl Moves {
    /// Tells the service of a call, if the body is large enough for that.
    pub(crate) fn of<R: Runtime>(flight: &Flight<R>, to: EndpointId) -> Option<Moves> {
        if flight.request.body.len() <= PIECE {
            return None;
        }
        let (hub, slot) = (flight.hub.clone(), flight.slot.clone());
        let tell = move || lock(&slot.service).moved(hub.runtime.now(), to);
        Some(Moves(Arc::new(tell)))
    }

    /// The telling that a request carries.
    pub fn take<T>(request: &mut http::Request<T>) -> Option<Moves> {
        request.extensions_mut().remove()
    }

    /// Reads `body`, and tells of each piece that is asked for after the first.
    #[must_use]
    pub fn reader(self, body: Bytes) -> impl Read + Send + 'static {
        Reader(Pieces::new(body, Some(self)), Bytes::new())
    }
}

/// A request body: whole, or in pieces where somebody is told of them.
pub struct Pieces {
    left: Bytes,
    moves: Option<Moves>,
    begun: bool,
}

impl Pieces {
    /// This body; `moves` is told of each piece after the first.
    #[must_use]
    pub fn new(body: Bytes, moves: Option<Moves>) -> Pieces {
        Pieces { left: body, moves, begun: false }
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Option<Bytes> {
        let Some(Moves(tell)) = &self.moves else {
            return (!self.left.is_empty()).then(|| std::mem::take(&mut self.left));
        };
        // Who asks for more has taken what was before, the last piece too.
        if std::mem::replace(&mut self.begun, true) {
            tell();
        }
        let most = self.left.len().min(PIECE);
        (most > 0).then(|| self.left.split_to(most))
    }
}

struct Reader(Pieces, Bytes);

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Reader(pieces, piece) = self;
        if piece.is_empty() {
            *piece = pieces.next().unwrap_or_default();
        }
        let count = piece.len().min(into.len());
        let (Some(into), Some(from)) = (into.get_mut(..count), piece.get(..count)) else {
            return Ok(0);
        };
        into.copy_from_slice(from);
        piece.advance(count);
        Ok(count)
    }
}

#[cfg(feature = "hyper")]
mod to_hyper {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::{Body, Frame, SizeHint};

    use super::Pieces;

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.left.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.left.len() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_byte_comes_and_each_piece_is_told_of_when_the_next_is_asked_for() {
        for (length, told) in [(0, 0), (1, 1), (PIECE, 1), (PIECE + 1, 2), (5 * PIECE, 5)] {
            let count = Arc::new(AtomicUsize::new(0));
            let counted = count.clone();
            let moves = Moves(Arc::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            }));
            let body: Bytes = (0..length).map(|n| n as u8).collect();
            let mut read = Vec::new();
            let mut reader = moves.clone().reader(body.clone());
            // By odd sizes, as buffers have them.
            let mut buffer = vec![0; 10_007];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                read.extend_from_slice(&buffer[..count]);
            }
            assert!(read == body);
            assert_eq!(count.swap(0, Ordering::SeqCst), told, "{length}");
            let mut pieces = Pieces::new(body.clone(), Some(moves));
            let whole: Vec<u8> = std::iter::from_fn(|| pieces.next()).flatten().collect();
            assert!(whole == body && count.load(Ordering::SeqCst) == told);
            assert_eq!(Pieces::new(body.clone(), None).next().unwrap_or_default(), body);
        }
    }
}
