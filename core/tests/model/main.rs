//! The model checker: every input in every reachable state of a service with a few calls, breadth
//! first over discretised time, until a number of states is reached. What is an input, and what is
//! judged in each state, is in `world.rs`; which states are the same is in `walk.rs`.
//!
//! Judged in every state and at every input: permits out are the attempts that are out, of the
//! service, of clusters, of endpoints, of half-open breakers; calls in flight and in the queue are
//! those that are; what is free is offered to who waits; results of an old generation change no
//! breaker; no attempt too many, too late, too early repeated, or at an open endpoint; repeats are
//! paid once, held once, given back once, and never overdrawn; the split of the load sums up, keeps
//! to its cap and agrees with the lists; first choices change no more often than is proved. From
//! every state: time alone opens every endpoint, a driver that is in time ends every call by its
//! deadline, nothing is held then, and a new call is sent.
//!
//! A plain run walks through a small part. All of it, more than a million states:
//! `ORIGIN_MODEL_DEPTH=deep cargo test -p origin-core --release --test model -- --nocapture`
//! (a number instead of `deep` is the number of states per variant).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // test code
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // threads, a clock for the report
#![allow(clippy::cast_possible_truncation, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod search;
mod variants;
mod walk;
mod world;

use std::sync::Mutex;

#[test]
fn every_state_within_reach_is_sound() {
    let wanted = std::env::var("ORIGIN_MODEL_DEPTH").unwrap_or_default();
    let (most, deep) = match wanted.as_str() {
        "deep" => (80_000, true),
        number => (number.parse().unwrap_or(400), false),
    };
    let only = std::env::var("ORIGIN_MODEL_ONLY").unwrap_or_default();
    let mut todo = variants::all();
    todo.retain(|v| v.name.contains(&only));
    todo.reverse();
    let todo = Mutex::new(todo);
    let done = Mutex::new((0_u64, 0_u64));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(v) = { todo.lock().unwrap().pop() } {
                    let found = search::search(&v, most);
                    println!(
                        "{:<28} {:>8} states {:>9} transitions, all to depth {:>2}{}, {:.1?}",
                        v.name,
                        found.states,
                        found.transitions,
                        found.depth,
                        if found.all { " (all there are)" } else { "" },
                        found.took
                    );
                    let mut done = done.lock().unwrap();
                    *done = (done.0 + found.states, done.1 + found.transitions);
                }
            });
        }
    });
    let (states, transitions) = *done.lock().unwrap();
    println!("{states} states, {transitions} transitions, no violation");
    assert!(!deep || !only.is_empty() || states > 1_000_000, "{states} states");
}
