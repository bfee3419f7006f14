//! by the operating system's own count: after clients have come and gone, with
//! calls finished, dropped and failed, the process has as many threads and descriptors, and tokio
//! as many tasks, as before. Alone in its process, because others would be counted, too.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

#[allow(dead_code)] // what the other binary of the suite uses
#[path = "conformance/subject.rs"]
mod subject;

use std::thread;
use std::time::{Duration, Instant};

use origin_lab::{Mode, World, WorldSpec};

use subject::{AsyncStd, Blocking, Smol, Subject, TOKIO, Tokio, begin, get, in_world, open};

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

/// Threads, descriptors, tasks on tokio.
fn levels() -> [usize; 3] {
    // First, since asking for it starts its workers.
    let tasks = TOKIO.metrics().num_alive_tasks();
    [count("task"), count("fd"), tasks]
}

fn connections(world: &World) -> u64 {
    let services = open(world.all().servers().iter().copied());
    services + open([world.registry().server()])
}

/// One client's life: calls that succeed, fail, are dropped, and bodies left unread.
fn life<S: Subject>(world: &World) {
    world.all().set(Mode::Ok);
    let client = in_world::<S>(world)
        .timeout(Duration::from_millis(150))
        .attempt_timeout(Duration::from_millis(60))
        .configure(|config| {
            let discovery = config.discovery.as_mut().unwrap();
            discovery.ttl = Duration::from_millis(30);
            discovery.refresh_ahead = Duration::from_millis(10);
        })
        .build()
        .unwrap();
    let results = S::together(8, |_| begin(&client, "billing", "/x"));
    assert!(results.iter().all(|(result, _)| result.is_ok()));
    let billing = client.service("billing").unwrap();
    world.all().set(Mode::HugeBody { bytes: 4 << 20 });
    let mut streaming = S::wait(billing.get("/x").send_streaming()).unwrap();
    assert!(S::chunk(&mut streaming.body).unwrap().is_some());
    world.all().set(Mode::HangBeforeHead);
    for _ in 0..3 {
        assert!(
            S::wait_at_most(billing.get("/x").send(), Duration::from_millis(20))
                .is_none_or(|r| r.is_err())
        );
    }
    assert!(get(&client, "billing", "/x").is_err());
    world.all().set(Mode::Refuse);
    assert!(get(&client, "billing", "/x").is_err());
}

/// Names of the threads of this process, those of the servers left out.
fn threads() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(entry.ok()?.path().join("comm")).ok()
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.retain(|name| !name.starts_with("lab-"));
    names.sort();
    names
}

/// A blocking client starts no thread, not even for discovery.
fn a_blocking_client_has_no_threads(world: &World) {
    let before = threads();
    let client = in_world::<Blocking>(world).build().unwrap();
    for _ in 0..3 {
        assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
        assert_eq!(threads(), before);
    }
}

fn comes_and_goes<S: Subject>(world: &World) {
    // The first life starts what lives as long as the process: workers, reactors, lazy statics.
    life::<S>(world);
    let idle = || {
        let give_up = Instant::now() + Duration::from_secs(10);
        while connections(world) > 0 {
            assert!(Instant::now() < give_up, "{}: connections left", S::NAME);
            thread::sleep(Duration::from_millis(10));
        }
        // Threads of the servers and of pools end a moment after their connections.
        thread::sleep(Duration::from_millis(700));
        levels()
    };
    let before = idle();
    for _ in 0..4 {
        life::<S>(world);
    }
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let after = idle();
        if after.iter().zip(before).all(|(after, before)| *after <= before) {
            return;
        }
        assert!(
            Instant::now() < give_up,
            "{}: threads, descriptors, tasks were {before:?} and are {after:?}",
            S::NAME
        );
    }
}

#[test]
fn case_x_14_and_x_15_clients_that_are_gone_leave_nothing_in_the_process() {
    let world = World::start(WorldSpec::default().only(&["billing"])).unwrap();
    // New threads bear the name of the one that starts them for a moment.
    thread::sleep(Duration::from_millis(200));
    a_blocking_client_has_no_threads(&world);
    comes_and_goes::<Blocking>(&world);
    comes_and_goes::<Tokio>(&world);
    comes_and_goes::<AsyncStd>(&world);
    comes_and_goes::<Smol>(&world);
}
