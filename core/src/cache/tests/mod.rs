//! The cache against small models, and the rules of its anchors.

mod answer;
mod bounds;
mod http;
mod model;
mod rules;
mod second;
mod shared;
mod turns;

use std::time::Duration;

use super::*;
use crate::config::{CacheConfig, CacheEviction};
use crate::time::Time;

/// Seconds.
fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings(change: impl FnOnce(&mut CacheConfig)) -> Settings {
    let mut config = CacheConfig::default();
    change(&mut config);
    Settings::of(&config, "cache").unwrap()
}

/// A lookup by somebody who would never give up.
fn get<'a, V>(
    store: &'a mut Store<u32, V>,
    now: Time,
    key: u32,
    settings: &Settings,
) -> Lookup<'a, V> {
    store.lookup(now, &key, Time::NEVER, settings)
}

/// The ticket of a lookup that must find nothing.
fn lead<V>(store: &mut Store<u32, V>, now: Time, key: u32, settings: &Settings) -> Ticket {
    match get(store, now, key, settings) {
        Lookup::Miss(Turn::Lead(ticket)) => ticket,
        _ => panic!("not the leader of {key}"),
    }
}

/// Fetches `value`, as a caller does that finds nothing.
fn fetch(store: &mut Store<u32, u32>, now: Time, key: u32, value: u32, settings: &Settings) {
    let ticket = lead(store, now, key, settings);
    let fill = Fill::Found(Put::new(value, 1));
    assert_eq!(store.fill(now, &key, &ticket, fill, settings).stored, Ok(()));
}
