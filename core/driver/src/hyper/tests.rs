//! Connections that close at the worst moment, step by step: who polls what when is decided here.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Instant;

use ::hyper::rt::{Executor, Read, ReadBufCursor, Sleep, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

use super::*;
use crate::{Expectations, Roots};

/// A peer that says nothing until it closes.
#[derive(Clone, Default)]
struct Peer {
    closed: Arc<AtomicBool>,
    /// Whether its end is an error instead of the end of the stream.
    resets: bool,
    written: Arc<AtomicUsize>,
}

impl Peer {
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn heard(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }
}

impl Read for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.closed.load(Ordering::Relaxed) {
            true if self.resets => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

impl Write for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.fetch_add(bytes.len(), Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for Peer {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Connects to it at once.
#[derive(Clone)]
struct To(Peer);

impl Service<Uri> for To {
    type Response = Peer;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Peer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(Ok(self.0.clone()))
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that run when the test says so.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<Task>>>);

impl Executor<Task> for Tasks {
    fn execute(&self, task: Task) {
        self.0.lock().unwrap().push(task);
    }
}

impl Tasks {
    fn run(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap());
        tasks.retain_mut(|task| {
            task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
        });
        self.0.lock().unwrap().append(&mut tasks);
    }
}

/// Time that never passes.
#[derive(Clone)]
struct Still;

impl Timer for Still {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Asleep)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Asleep)
    }
}

struct Asleep;

impl Sleep for Asleep {}

impl Future for Asleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// What comes of a POST whose connection closes after so many turns of its task; and how many
/// bytes the peer was given.
fn closes_after(turns: usize, resets: bool) -> ((Fault, Sent), usize) {
    let (peer, tasks) = (Peer { resets, ..Peer::default() }, Tasks::default());
    let options = Options {
        connect: Duration::from_secs(1),
        max_head: 64 << 10,
        idle_connections: 1,
        idle_timeout: Duration::from_secs(60),
        roots: Roots::default(),
        identity: None,
        expect: Expectations::new(),
        realms: crate::realm::Realms::default(),
    };
    let pool = Pooled::new(To(peer.clone()), tasks.clone(), Still, &options);
    let request = http::Request::post("http://peer/x").body(Bytes::from_static(b"once")).unwrap();
    let mut exchange = pin!(pool.exchange(request));
    for turn in 0..100 {
        if turn == turns {
            peer.close();
        }
        match exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(_)) => panic!("it has said nothing"),
            Poll::Ready(Err(error)) => return (error, peer.heard()),
            Poll::Pending => tasks.run(),
        }
    }
    panic!("it never ends");
}

#[test]
fn a_request_that_no_byte_was_written_of_was_not_sent() {
    let mut kinds = [0, 0];
    for resets in [false, true] {
        for turns in 0..10 {
            let ((fault, sent), heard) = closes_after(turns, resets);
            assert_eq!(heard == 0, sent == Sent::Never, "{turns} {resets}: {fault:?}");
            kinds[usize::from(heard == 0)] += 1;
        }
    }
    // Both happen: closed before the request, and after it.
    assert!(kinds[0] > 0 && kinds[1] > 0, "{kinds:?}");
}
