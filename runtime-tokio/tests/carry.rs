//! Jobs that block, on tokio: they block none of its workers, and end with whoever waits for them.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use origin_driver::asynchronous::AsyncRuntime;
use origin_driver::carry::{Carrier, aside};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;
use origin_driver::{Options, Roots, Runtime};
use origin_tokio::Tokio;

const LONG: Duration = Duration::from_secs(60);
const SLACK: Duration = Duration::from_millis(1500);

fn adapter() -> Tokio {
    let options = Options {
        connect: Duration::from_secs(1),
        max_head: 64 << 10,
        idle_connections: 1,
        idle_timeout: LONG,
        roots: Roots::WebPki,
        identity: None,
        expect: Default::default(),
        realms: Default::default(),
    };
    Tokio::build(&options).unwrap()
}

/// A question to a server that never answers.
fn hanging() -> (UdpSocket, Work) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    (socket, Work::Dns { server, query: vec![0; 12].into(), tcp: false })
}

#[tokio::test] // one thread: work that blocked it would block the test
async fn a_job_does_not_block_the_runtime_and_keeps_its_deadline() {
    let (tokio, carrier) = (adapter(), Arc::<Carrier>::default());
    let (_server, work) = hanging();
    let deadline = tokio.now().plus(Duration::from_millis(300));
    let ticks = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio.now()
    };
    let (outcome, ticked) = tokio::join!(aside(&tokio, carrier.clone(), work, deadline), ticks);
    assert!(matches!(outcome, JobOutcome::Failed(Fault::Timeout)), "{outcome:?}");
    assert!(ticked < deadline && tokio.now() >= deadline);
    assert!(deadline.until(tokio.now()) < SLACK);

    let work = Work::Read { path: "Cargo.toml".into(), most: 1 << 20 };
    let read = aside(&tokio, carrier, work, tokio.now().plus(LONG)).await;
    assert!(matches!(read, JobOutcome::Content(Some(_))), "{read:?}");
}

#[test]
fn a_job_that_was_dropped_holds_up_no_shutdown() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_server, work) = hanging();
    runtime.block_on(async {
        let tokio = adapter();
        let job = aside(&tokio, Arc::default(), work, tokio.now().plus(LONG));
        assert!(tokio::time::timeout(Duration::from_millis(100), job).await.is_err());
    });
    let begun = Instant::now();
    // Waits for the threads that have begun something.
    drop(runtime);
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
}

#[test]
fn work_that_no_thread_is_there_for_is_none() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tokio = runtime.block_on(async { adapter() });
    assert_eq!(runtime.block_on(tokio.unblock(|| 7)), Some(7));
    let panicking = tokio.unblock(|| -> i32 { panic!("for the test") });
    assert_eq!(runtime.block_on(panicking), None);
    let outside = pin!(tokio.unblock(|| 7));
    assert_eq!(outside.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(None));
}
