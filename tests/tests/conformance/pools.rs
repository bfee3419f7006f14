//! How many connections a client of the bridge has: the pool of its contract (001-100, 001-101).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use origin_core::ops::bridge::{Stamping, stamping};
use origin_driver::Client;
use origin_lab::{Answer, FaultServer};
use serde_json::json;

use crate::subject::{Subject, eventually};

on_every_runtime! {
    case_001_100_at_most_100_connections_and_the_next_call_waits
    case_001_101_at_most_20_idle_connections_are_kept
}

/// A server that answers once its gate is open, and knows how many wait before it.
struct Gated {
    server: FaultServer,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    moved: Condvar,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gated {
    fn start() -> Gated {
        let gate = Arc::new(Gate::default());
        let at = gate.clone();
        let server = FaultServer::with_handler(Arc::new(move |_| {
            let inside = at.inside.fetch_add(1, Ordering::SeqCst) + 1;
            at.most.fetch_max(inside, Ordering::SeqCst);
            let open = at.open.lock().unwrap_or_else(PoisonError::into_inner);
            let patience = Duration::from_secs(20);
            let waited = at.moved.wait_timeout_while(open, patience, |open| !*open);
            drop(waited);
            at.inside.fetch_sub(1, Ordering::SeqCst);
            Answer::json(200, &json!({"status": "success", "data": {"hash": "af13"}}))
        }));
        Gated { server: server.unwrap(), gate }
    }

    fn open(&self) {
        *self.gate.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.gate.moved.notify_all();
    }

    fn inside(&self) -> usize {
        self.gate.inside.load(Ordering::SeqCst)
    }
}

/// `count` hashes at once, while the gate is opened when `full` are inside.
fn hashes<S: Subject>(gated: &Gated, client: &Client<S>, count: usize, full: usize) {
    let stamping = Stamping::new(client.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the server is as busy as it gets", || gated.inside() >= full);
            if full > 0 && count > full {
                // Whoever comes beyond waits, and is seen to.
                eventually("the others wait", || waiting(client) == (count - full) as u32);
            }
            gated.open();
        });
        let results = S::together(count, |n| stamping.generate_hash(&[n as u8], None));
        for (result, took) in results {
            assert!(result.is_ok(), "{result:?} after {took:?}");
        }
    });
}

/// Callers that wait for a slot.
fn waiting<S: Subject>(client: &Client<S>) -> u32 {
    let snapshot = client.snapshot();
    snapshot.service(stamping::SERVICE).map_or(0, |service| service.limits.waiting)
}

fn client<S: Subject>(server: &FaultServer) -> Client<S> {
    Client::<S>::builder().endpoint(stamping::SERVICE, server.url()).bridge().build().unwrap()
}

fn case_001_100_at_most_100_connections_and_the_next_call_waits<S: Subject>() {
    let gated = Gated::start();
    let client = client::<S>(&gated.server);
    hashes(&gated, &client, 104, 100);
    assert_eq!(gated.gate.most.load(Ordering::SeqCst), 100);
    assert_eq!(gated.server.request_count(), 104);
    assert!(gated.server.stats().connections_accepted <= 104);
}

fn case_001_101_at_most_20_idle_connections_are_kept<S: Subject>() {
    let gated = Gated::start();
    let client = client::<S>(&gated.server);
    hashes(&gated, &client, 40, 40);
    eventually("all but 20 connections are closed", || gated.server.stats().connections_open <= 20);
    // Those that were kept are used.
    let before = gated.server.stats().connections_accepted;
    hashes(&gated, &client, 10, 0);
    assert_eq!(gated.server.stats().connections_accepted, before);
}
