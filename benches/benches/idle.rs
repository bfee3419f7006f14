//! What a client takes that is built and never used, on each adapter: bytes on the heap, by an
//! allocator that counts, and of resident memory, as Linux tells it, over a thousand of them. Each
//! row is a process of its own, so that none reuses what another has freed. Nothing is judged.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a benchmark prints

use std::alloc::System;
use std::hint::black_box;
use std::process::Command;

use origin_core::config::ConfigError;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Clients over which a row is divided.
const MANY: usize = 1_000;
/// Names the row that a child measures.
const ROW: &str = "ORIGIN_BENCHES_IDLE";

const ADAPTERS: [&str; 4] = ["tokio", "async-std", "smol", "blocking"];
/// How many services a client knows by address.
const SERVICES: [usize; 2] = [1, 10];

fn main() {
    if let Ok(row) = std::env::var(ROW) {
        match row.split_once('/').and_then(|(name, count)| Some((name, count.parse().ok()?))) {
            Some((name, services)) => measured(name, services),
            None => eprintln!("no such row"),
        }
        return;
    }
    println!(
        "{:<12} {:>9} {:>12} {:>8} {:>15} {:>14}",
        "adapter", "services", "heap, bytes", "blocks", "the first one", "resident, bytes"
    );
    for adapter in ADAPTERS {
        for services in SERVICES {
            row(adapter, services);
        }
    }
}

fn row(adapter: &str, services: usize) {
    let child = std::env::current_exe().and_then(|program| {
        Command::new(program).env(ROW, format!("{adapter}/{services}")).output()
    });
    match child {
        Ok(output) => print!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("{adapter}: {error}"),
    }
}

fn measured(adapter: &str, services: usize) {
    let table = match adapter {
        "tokio" => {
            let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
            let _inside = runtime.enter();
            table(|| built::<origin_tokio::Tokio>(services))
        }
        "async-std" => table(|| built::<origin_async_std::AsyncStd>(services)),
        "smol" => table(|| built::<origin_async_std::smol::Smol>(services)),
        _ => table(|| built::<origin_blocking::Blocking>(services)),
    };
    match table {
        Ok([heap, blocks, first, resident]) => println!(
            "{adapter:<12} {services:>9} {heap:>12} {blocks:>8} {first:>15} {resident:>14}"
        ),
        Err(error) => println!("{adapter}: {error}"),
    }
}

fn built<R: origin_driver::Runtime>(
    services: usize,
) -> Result<origin_driver::Client<R>, ConfigError> {
    let builder = origin_driver::Client::<R>::builder();
    let named = (0..services).map(|n| (format!("service-{n}"), format!("http://10.0.0.{n}:80")));
    named.fold(builder, |builder, (name, url)| builder.endpoint(name, url)).build()
}

/// Heap bytes and blocks of one of many, heap bytes of the first, resident bytes of one of many.
fn table<T>(make: impl Fn() -> Result<T, ConfigError>) -> Result<[usize; 4], ConfigError> {
    let region = Region::new(ALLOCATOR);
    let first = black_box(make()?);
    let change = region.change();
    let first_heap = change.bytes_allocated - change.bytes_deallocated;
    let mut kept = Vec::with_capacity(MANY);
    let (before, region) = (resident(), Region::new(ALLOCATOR));
    for _ in 0..MANY {
        kept.push(black_box(make()?));
    }
    let (after, change) = (resident(), region.change());
    drop((first, kept));
    let heap = change.bytes_allocated - change.bytes_deallocated;
    let blocks = change.allocations - change.deallocations;
    let resident = after.saturating_sub(before);
    Ok([heap / MANY, blocks / MANY, first_heap, resident / MANY])
}

/// Resident bytes of this process; 0 where the system does not say.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
