//! Real servers for tests, on loopback: Consul, Redis, RustyVault, BIND, dnsmasq, rotel for traces.
//!
//! A test starts what it needs, on ports of its own and in a directory of its own, breaks it
//! (`kill9`, `pause`), mends it (`resume`, `restart`: same ports, same data) and drops it, which
//! ends the processes even if the test panics. Should the test's process itself be killed, the
//! kernel ends them.
//!
//! Where a server is not installed, `start` says so loudly and gives `None`; under `CI=true` it
//! panics instead. `.ci/servers` installs all of them.
//!
//! ```
//! use origin_servers::consul::{self, Setup};
//!
//! let Some(agent) = consul::start(&Setup::default()) else { return };
//! let answer = agent.http().get("/v1/agent/self").unwrap();
//! assert_eq!(answer.status, 200);
//! ```
//!
//! What is absent: any opinion about clients, and any code of the library under test. The small
//! clients in [`http`], [`resp`] and [`dns`] are for setting the servers up and for looking at
//! them from beside the library; they trust their peer.

// Helpers of tests may fail the test.
#![allow(clippy::panic)]

pub mod bind;
pub mod consul;
pub mod dns;
pub mod dnsmasq;
pub mod http;
pub mod pki;
mod ports;
mod process;
pub mod prometheus;
pub mod redis;
pub mod resp;
mod room;
pub mod rotel;
mod starter;
mod tools;
pub mod vault;

pub use ports::free as free_ports;
pub use process::Process;
pub use room::Room;
pub use tools::{find, need};

use std::io;
use std::time::Duration;

/// How often a condition is looked at.
pub const TICK: Duration = Duration::from_millis(50);

/// Looks every 50 ms until `condition` holds or `limit` has passed; whether it held.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if std::time::Instant::now() >= end {
            return false;
        }
        std::thread::sleep(TICK);
    }
}

/// Tries a start up to three times, each with other ports: another program may take one between
/// the moment it was found free and the moment the server binds it.
fn attempts<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut result = start();
    for _ in 0..2 {
        if result.is_ok() {
            break;
        }
        result = start();
    }
    result
}

/// The server, or the end of the test with what it said.
fn must<T>(what: &str, result: io::Result<T>) -> T {
    match result {
        Ok(server) => server,
        Err(error) => panic!("{what} did not start: {error}"),
    }
}

/// 32 random hexadecimal digits in the form of a UUID.
fn uuid() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}
