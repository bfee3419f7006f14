//! Jobs that block, on async-std and smol: they block no executor, and end with whoever waits for
//! them.
#![cfg(any(feature = "async-std", feature = "smol"))]
#![allow(clippy::unwrap_used)] // test code

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::{block_on, zip};
use origin_async_std::{AsyncIo, Executor};
use origin_driver::asynchronous::AsyncRuntime;
use origin_driver::carry::{Carrier, aside};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;
use origin_driver::{Options, Roots, Runtime};

const LONG: Duration = Duration::from_secs(60);
const SLACK: Duration = Duration::from_millis(1500);

fn jobs_on<E: Executor>() {
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
    let adapter = AsyncIo::<E>::build(&options).unwrap();
    let carrier = Arc::<Carrier>::default();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let hanging = || Work::Dns { server: address, query: vec![0; 12].into(), tcp: false };

    // One thread: work that blocked it would keep the timer from ending before the deadline.
    let deadline = adapter.now().plus(Duration::from_millis(300));
    let ticks = async {
        for tick in 1..10 {
            adapter
                .sleep_until(deadline.min(adapter.now().plus(Duration::from_millis(tick))))
                .await;
        }
        adapter.now()
    };
    let (outcome, ticked) =
        block_on(zip(aside(&adapter, carrier.clone(), hanging(), deadline), ticks));
    assert!(matches!(outcome, JobOutcome::Failed(Fault::Timeout)), "{outcome:?}");
    assert!(ticked < deadline && adapter.now() >= deadline);
    assert!(deadline.until(adapter.now()) < SLACK);

    let work = Work::Read { path: "Cargo.toml".into(), most: 1 << 20 };
    let read = block_on(aside(&adapter, carrier.clone(), work, adapter.now().plus(LONG)));
    assert!(matches!(read, JobOutcome::Content(Some(_))), "{read:?}");

    // The thread of a job that was dropped is soon free again: then nobody has its carrier.
    let job = aside(&adapter, carrier.clone(), hanging(), adapter.now().plus(LONG));
    let soon = adapter.now().plus(Duration::from_millis(100));
    block_on(futures_lite::future::or(
        async {
            job.await;
        },
        adapter.sleep_until(soon),
    ));
    let begun = Instant::now();
    while Arc::strong_count(&carrier) > 1 {
        assert!(begun.elapsed() < SLACK);
        block_on(adapter.sleep_until(adapter.now().plus(Duration::from_millis(5))));
    }
    assert_eq!(block_on(adapter.unblock(|| 7)), Some(7));
    drop(server);
}

#[cfg(feature = "async-std")]
#[test]
fn jobs_on_async_std() {
    jobs_on::<origin_async_std::AsyncStdExecutor>();
}

#[cfg(feature = "smol")]
#[test]
fn jobs_on_smol() {
    jobs_on::<origin_async_std::smol::SmolExecutor>();
}
