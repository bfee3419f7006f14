//! How fast the server is, and that it leaves nothing behind: the two things
//! that decide whether it may stand next to a client under measurement.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::probe::{connect, eventually, get, is_silent};
use crate::{FaultServer, Mode, World, WorldSpec};

/// Prints keep-alive requests per second. Not a test of anything by itself:
/// `cargo test --release -- --ignored --nocapture throughput`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    for (name, mode) in [("ok", Mode::Ok), ("status", Mode::status(200)), ("echo", Mode::Echo)] {
        for connections in [1, 4, 16] {
            let server = FaultServer::named("beta", "beta-0").unwrap();
            server.set(mode.clone());
            let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
            let before = Instant::now();
            thread::scope(|scope| {
                for _ in 0..connections {
                    scope.spawn(|| hammer(connect(&server), &done, &stop));
                }
                thread::sleep(Duration::from_secs(1));
                stop.store(true, Ordering::Relaxed);
            });
            let rate = done.load(Ordering::Relaxed) as f64 / before.elapsed().as_secs_f64();
            println!("{name:>8} over {connections:>2} connections: {rate:>8.0} requests/s");
        }
    }
}

fn hammer(mut stream: TcpStream, done: &AtomicU64, stop: &AtomicBool) {
    let request = b"GET /invoices/7 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\
                    User-Agent: lab/0.1\r\nX-Request-Id: 0123456789abcdef\r\n\r\n";
    // One answer is one write, and small: it arrives in one read.
    let mut answer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(request).unwrap();
        assert!(stream.read(&mut answer).unwrap() > 20);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Counting descriptors and threads of a process only means something when
/// nothing else runs in it, so the test runs itself again in a process of its
/// own.
#[test]
fn nothing_is_left_behind_after_a_drop() {
    const ALONE: &str = "ORIGIN_LAB_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "bench::nothing_is_left_behind_after_a_drop"])
            .args(["--test-threads", "1"])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let inventory = || (count("/proc/self/fd"), count("/proc/self/task"));
    let before = inventory();
    for _ in 0..3 {
        leave_a_mess();
        eventually("descriptors and threads are back to what they were", || inventory() == before);
    }
}

fn leave_a_mess() {
    let world = World::start(WorldSpec::default()).unwrap();
    let server = world.server("billing", "beta", 0).unwrap();
    let modes = [
        Mode::Ok,
        Mode::HangBeforeHead,
        Mode::HangAfterHead,
        Mode::HangOnAccept,
        Mode::slow(3_600_000),
        Mode::Drip { bytes: 1000, every_ms: 3_600_000 },
        Mode::HugeBody { bytes: u64::MAX },
        Mode::ResetMidBody { after: 5 },
        Mode::Refuse,
        Mode::Ok,
    ];
    let mut clients = Vec::new();
    for mode in modes {
        let refuses = mode == Mode::Refuse;
        server.set(mode);
        if refuses {
            continue;
        }
        for _ in 0..5 {
            let mut stream = connect(server);
            get(&mut stream, "/");
            clients.push(stream);
        }
        if let Some(last) = clients.last_mut() {
            let _ = is_silent(last);
        }
    }
    // The server goes first, its clients still connected.
    let before = Instant::now();
    drop(world);
    assert!(before.elapsed() < Duration::from_secs(4), "drop was slow");
}
