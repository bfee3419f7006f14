//! One accepted connection as seen from two sides: the thread that serves it
//! and the server that may end it at any moment. Every wait and every write
//! goes through here, so that ending a connection ends its thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::lock;

/// How long a write may block before its thread looks whether it was ended.
const WRITE_TICK: Duration = Duration::from_millis(100);

/// How a connection is ended by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a reset, as when a process dies with unread data.
    Reset,
    /// With a normal close, as when a server shuts down.
    Close,
}

/// A connection shared by its thread and the server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    ended: AtomicBool,
    pause: Mutex<()>,
    wake: Condvar,
}

impl Connection {
    /// Prepares an accepted stream. Options that cannot be set mean that the
    /// peer is gone already, which the first read will find out.
    pub(crate) fn new(stream: TcpStream) -> Connection {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(WRITE_TICK));
        Connection {
            stream,
            ended: AtomicBool::new(false),
            pause: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Whether the server ended the connection.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the connection from outside: wakes a read, a wait, and (within a
    /// tick) a write. The socket itself is closed by the thread that owns it.
    pub(crate) fn end(&self, how: End) {
        let direction = match how {
            // No FIN may go out before the reset: stop only the reading side.
            End::Reset => {
                self.reset_on_close();
                Shutdown::Read
            }
            End::Close => Shutdown::Both,
        };
        self.ended.store(true, Ordering::Release);
        let _ = self.stream.shutdown(direction);
        self.nudge();
    }

    /// Wakes a waiting thread so that it looks at its condition again.
    pub(crate) fn nudge(&self) {
        drop(lock(&self.pause));
        self.wake.notify_all();
    }

    /// From now on closing the socket sends a reset instead of a FIN.
    pub(crate) fn reset_on_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Sends all bytes, or fails when the peer or the server ended it.
    pub(crate) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.ended() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Waits for a span; fails early when the connection is ended.
    pub(crate) fn pause(&self, span: Duration) -> io::Result<()> {
        if span.is_zero() {
            return Ok(());
        }
        let deadline = Instant::now() + span.min(Duration::from_secs(86_400));
        let mut guard = lock(&self.pause);
        loop {
            if self.ended() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            guard = self.wake.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits without touching the socket until ended or told to stop.
    pub(crate) fn hold_while(&self, mut held: impl FnMut() -> bool) {
        let mut guard = lock(&self.pause);
        while !self.ended() && held() {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Swallows what the peer sends until one side ends it: how a thread
    /// hangs and still notices that its client left.
    pub(crate) fn swallow(&self) {
        let mut waste = [0; 4096];
        while !self.ended() {
            match (&self.stream).read(&mut waste) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Ends our side and drains the other for a moment: closing with unread
    /// data would reset the connection and take the last answer with it.
    pub(crate) fn close_politely(&self) {
        const PATIENCE: Duration = Duration::from_millis(500);
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = self.stream.set_read_timeout(Some(PATIENCE));
        let give_up = Instant::now() + PATIENCE;
        let mut waste = [0; 4096];
        while !self.ended() && Instant::now() < give_up {
            match (&self.stream).read(&mut waste) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Reading goes straight to the socket; the serving thread buffers.
impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended() {
            return Ok(0);
        }
        (&self.stream).read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    fn pair() -> (TcpStream, Arc<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        (client, Arc::new(Connection::new(stream)))
    }

    #[test]
    fn ending_wakes_a_pause_a_hold_a_read_and_a_full_write() {
        type Job = fn(&Connection);
        let jobs: [Job; 4] = [
            |connection| assert!(connection.pause(Duration::from_secs(600)).is_err()),
            |connection| connection.hold_while(|| true),
            |connection| connection.swallow(),
            |connection| assert!(connection.send(&vec![0; 64 << 20]).is_err()),
        ];
        for job in jobs {
            for how in [End::Reset, End::Close] {
                let (_client, connection) = pair();
                let inner = Arc::clone(&connection);
                let thread = thread::spawn(move || job(&inner));
                thread::sleep(Duration::from_millis(20));
                connection.end(how);
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn a_peer_that_leaves_ends_a_swallow() {
        let (client, connection) = pair();
        let inner = Arc::clone(&connection);
        let thread = thread::spawn(move || inner.swallow());
        drop(client);
        thread.join().unwrap();
        assert!(!connection.ended());
    }
}
