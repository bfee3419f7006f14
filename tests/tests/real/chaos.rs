//! 003-71: node failure, partition, degradation, each with the client under load. No call fails
//! that a healthy candidate could have served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use origin_servers::consul::{self, Setup};

use crate::catalogue::{client, register, say};
use crate::subject::{Subject, Tokio, get};

/// Calls from four threads until told to stop; how many were answered, and the failures.
fn load<S: Subject>(client: &Client<S>, stop: &AtomicBool) -> (usize, Vec<String>) {
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut answered, mut failed) = (0, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        match get(client, "web", "/load") {
                            Ok(reply) if reply.status == 200 => answered += 1,
                            Ok(reply) => failed.push(format!("answered {}", reply.status)),
                            Err(error) => failed.push(error.to_string()),
                        }
                        std::thread::sleep(Duration::from_millis(4));
                    }
                    (answered, failed)
                })
            })
            .collect();
        calls.into_iter().fold((0, Vec::new()), |(answered, mut failed), call| {
            let (more, others) = call.join().unwrap();
            failed.extend(others);
            (answered + more, failed)
        })
    })
}

/// Plays `act` for a few seconds under load: three instances, of which one at least is well.
fn play(name: &str, act: impl Fn(&mut consul::Agent, &[FaultServer]) + Send + Sync) {
    let Some(mut agent) = consul::start(&Setup::default()) else { return };
    let servers: Vec<FaultServer> = (0..3).map(|_| FaultServer::start().unwrap()).collect();
    for (n, server) in servers.iter().enumerate() {
        register(&agent, "web", &format!("web{n}"), server);
    }
    let client = client::<Tokio>(&agent.url(), |_| ())
        .attempt_timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    get(&client, "web", "/first").unwrap();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let (answered, failed) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&client, &stop));
        act(&mut agent, &servers);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    eprintln!(
        "{name}: {answered} calls answered in {:?}, {} failed",
        begun.elapsed(),
        failed.len()
    );
    assert!(answered > 200, "{answered}");
    assert!(failed.is_empty(), "{} failed, first: {}", failed.len(), failed[0]);
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn case_003_71_node_failure() {
    play("node failure", |agent, servers| {
        pause(500);
        // The node is gone at once; the catalogue hears of it later.
        servers[0].set(Mode::Refuse);
        pause(1_000);
        say(agent, "web0", "fail");
        pause(1_000);
        servers[0].set(Mode::Ok);
        say(agent, "web0", "pass");
        pause(1_000);
    });
}

#[test]
fn case_003_71_partition() {
    play("partition", |agent, servers| {
        pause(500);
        // Cut off from the registry, and one instance answers nobody.
        agent.process.pause();
        servers[1].set(Mode::HangOnAccept);
        pause(3_000);
        servers[1].set(Mode::Ok);
        agent.process.resume();
        pause(1_000);
    });
}

#[test]
fn case_003_71_degradation() {
    play("degradation", |agent, servers| {
        pause(500);
        servers[2].set(Mode::slow(300));
        servers[1].set(Mode::status(503));
        pause(1_500);
        agent.process.kill9();
        pause(1_500);
        servers[1].set(Mode::Ok);
        servers[2].set(Mode::Ok);
        pause(500);
    });
}
