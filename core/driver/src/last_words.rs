//! A stream whose peer is heard out. Who answers before it has taken the whole of a request and
//! closes (413 to a large body) resets what is still written to it; hyper takes the write that
//! breaks for the end, and the answer that is there for reading is lost. So here such a write
//! counts as made, nothing is written any more, and the break is told when all has been read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use ::hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

#[cfg(feature = "rustls")]
use crate::tls::cause;

/// A stream, plain or secured.
#[derive(Debug)]
pub struct LastWords<T> {
    inner: T,
    /// What a write has met.
    broken: Option<io::Error>,
    /// Whether that has been told.
    over: bool,
    /// Who reads.
    reader: Option<Waker>,
}

impl<T> LastWords<T> {
    /// Hears the peer of `inner` out.
    pub fn new(inner: T) -> LastWords<T> {
        LastWords { inner, broken: None, over: false, reader: None }
    }

    fn is_broken(&self) -> bool {
        self.broken.is_some() || self.over
    }

    /// What came of a write of `all` bytes.
    fn written(&mut self, written: io::Result<usize>, all: usize) -> io::Result<usize> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match written {
            Err(error)
                if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) =>
            {
                self.broken = Some(error);
                // It may wait for what the platform will not announce again.
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
                Ok(all)
            }
            written => written,
        }
    }
}

/// Whether the peer has said why: that counts for more than that the connection broke.
fn says_why(error: &io::Error) -> bool {
    #[cfg(feature = "rustls")]
    return cause(error).is_some();
    #[cfg(not(feature = "rustls"))]
    return false;
}

impl<T: Read + Unpin> Read for LastWords<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_broken() {
            let read = Pin::new(&mut self.inner).poll_read(context, into);
            if read.is_pending()
                && !self.reader.as_ref().is_some_and(|w| w.will_wake(context.waker()))
            {
                self.reader = Some(context.waker().clone());
            }
            return read;
        }
        let mut room = [0; 4_096];
        let most = room.len().min(into.remaining());
        let mut words = ReadBuf::new(&mut room[..most]);
        let read = ready!(Pin::new(&mut self.inner).poll_read(context, words.unfilled()));
        match read {
            Ok(()) if !words.filled().is_empty() => {
                into.put_slice(words.filled());
                Poll::Ready(Ok(()))
            }
            Err(error) if says_why(&error) => Poll::Ready(Err(error)),
            _ => {
                self.over = true;
                let broken = self.broken.take();
                Poll::Ready(Err(broken.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())))
            }
        }
    }
}

impl<T: Write + Unpin> Write for LastWords<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes));
        Poll::Ready(self.written(written, bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(context));
        Poll::Ready(self.written(flushed.map(|()| 0), 0).map(drop))
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
        let all = pieces.iter().map(|piece| piece.len()).sum();
        if self.is_broken() {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, pieces));
        Poll::Ready(self.written(written, all))
    }
}

impl<T: Connection> Connection for LastWords<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}
