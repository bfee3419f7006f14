//! The server leaves nothing behind: what decides whether it may stand next to a client whose own
//! leaks are looked for.

use std::process::Command;

use crate::probe::{connect, eventually, get, is_silent};
use crate::{Mode, World, WorldSpec};

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
            .args(["--exact", "leaks::nothing_is_left_behind_after_a_drop"])
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
    drop(world);
}
