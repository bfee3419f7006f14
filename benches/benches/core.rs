//! Nanoseconds of each core case, by criterion; and its allocations, counted over the first
//! calls. The aim for a successful call through the lock is 150 ns; nothing here asserts it.
#![allow(clippy::print_stdout)] // a benchmark prints
#![allow(missing_docs)] // of what criterion's macros make

use std::alloc::System;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use origin_benches::cases::CASES;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

// A case without allocations is not slowed by being counted; the one with some, by a few
// nanoseconds each.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls over which allocations are counted.
const COUNTED: u32 = 10_000;

fn core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    for case in &CASES {
        let mut operation = match case.operation() {
            Ok(operation) => operation,
            Err(unfit) => {
                println!("{}: {unfit}", case.name);
                continue;
            }
        };
        let region = Region::new(ALLOCATOR);
        let right = (0..COUNTED).filter(|_| operation()).count();
        let change = region.change();
        let allocations = change.allocations + change.reallocations;
        println!(
            "core/{}: {allocations} allocations in {COUNTED} calls; {}",
            case.name, case.about
        );
        if right != COUNTED as usize {
            println!("core/{}: only {right} calls went the way the case says", case.name);
        }
        group.bench_function(case.name, |bencher| bencher.iter(|| black_box(operation())));
    }
    group.finish();
}

criterion_group!(benches, core);
criterion_main!(benches);
