//! `origin demo --serve`: the demo's servers, for the other commands, scripts and one's own programs.
//! Prints what is where, calls a little so that there is something to see, and stays until it is
//! ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use origin_lab::{Answer, DEMO_TOKEN, FaultServer, Outage, World, WorldSpec};
use serde_json::json;

use crate::demo::{Args, client, refuse};
use crate::exit::{self, Refusal};
use crate::{signal, text};

/// What is served: all that the laboratory has.
const SERVICES: [&str; 5] = ["billing", "storage", "secrets", "metadata-stamping", "onextree"];
/// Calls per second.
const RATE: f64 = 20.0;
/// Threads that make them: enough while one cluster hangs.
const THREADS: usize = 8;

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    signal::heed();
    let world = WorldSpec::default().only(&SERVICES).latency("beta", 1).latency("alpha", 3);
    let world = World::start(world.latency("gamma", 6))
        .map_err(|e| refuse("the built-in world cannot start", &e))?;
    let world = Arc::new(world);
    let local = world.local().to_owned();
    let caller = client(args, world.discovery_url(), Some(local.clone()))?;
    let upstream = caller.service("billing")?;
    upstream.get("/invoices/7").send()?;
    let state = caller.clone();
    let window = FaultServer::with_handler(Arc::new(move |_| Answer::json(200, &state.snapshot())))
        .map_err(|e| refuse("the server of the snapshot cannot start", &e))?;
    say(args, &world, &format!("{}/snapshot", window.url()))?;

    let over = AtomicBool::new(false);
    let pause = Duration::from_secs_f64(THREADS as f64 / args.rate.unwrap_or(RATE));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (upstream, over) = (&upstream, &over);
            let worker = move || {
                // Spread over the pause, so that they do not all call at once.
                let mut next = Instant::now() + pause.mul_f64(number as f64 / THREADS as f64);
                while !over.load(Ordering::Relaxed) {
                    let left = next.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        // What becomes of it is seen in the snapshot.
                        let _ = upstream.get("/invoices/7").send();
                        next = (next + pause).max(Instant::now());
                    } else {
                        thread::sleep(left.min(Duration::from_millis(50)));
                    }
                }
            };
            let spawned = thread::Builder::new().spawn_scoped(scope, worker);
            if let Err(error) = spawned {
                over.store(true, Ordering::Relaxed);
                return Err(refuse("a thread cannot start", &error));
            }
        }
        let played = stay(args, &world, &local);
        over.store(true, Ordering::Relaxed);
        played.map_err(|e| refuse("the script cannot start", &e))
    })?;
    Ok(exit::OK)
}

/// Until somebody ends it, with one outage after the other where they are wanted.
fn stay(args: &Args, world: &Arc<World>, local: &str) -> io::Result<()> {
    if !args.outage {
        while !signal::came_within(Duration::from_secs(1)) {}
        return Ok(());
    }
    while !signal::came() {
        let outage = Outage::scripted(args.duration, local, "alpha");
        let began = Instant::now();
        let running = outage.spawn(began, world.clone(), |phase| {
            exit::warn(&format!("-- {}", phase.name));
        })?;
        // It sets everything right when it ends, also when it is stopped.
        if signal::came_within(args.duration) {
            running.stop();
        }
        let _ = running.join();
    }
    Ok(())
}

fn say(args: &Args, world: &World, snapshot: &str) -> Result<(), Refusal> {
    let (url, local) = (world.discovery_url(), world.local());
    if args.json {
        return text::print_json(&json!({
            "discovery": url, "local": local, "snapshot": snapshot, "services": SERVICES,
            "vault_token": DEMO_TOKEN,
        }));
    }
    text::print(
        format!(
            "# {} services in the clusters alpha (primary), {local} (local) and gamma, two instances each.\n\
             # Ctrl-C ends them. In another shell:\n\
             export ORIGIN_DISCOVERY={url}\n\
             export ORIGIN_LOCAL_CLUSTER={local}\n\
             export VAULT_CLIENT_TOKEN={DEMO_TOKEN}\n\
             \n\
             # origin services\n\
             # origin status\n\
             # origin call billing /invoices/7 --explain\n\
             # echo hello | origin object put my-bucket greeting -\n\
             # origin object get my-bucket greeting\n\
             # origin object ls my-bucket\n\
             # origin secret get app/database --field value\n\
             # origin stamp README.md\n\
             # origin watch billing\n\
             # origin top --from {snapshot}      # what the client of this process goes through\n",
            SERVICES.len()
        )
        .as_bytes(),
    )
}
