//! Nanoseconds of a decision of each policy, by criterion; with the feature `peers`, those of
//! other crates in the same run. Nothing here asserts a time. Memory is in `memory.rs`, because
//! an allocator that counts would be paid for by those who allocate.
#![allow(clippy::print_stdout)] // a benchmark prints
#![allow(missing_docs)] // of what criterion's macros make

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use origin_benches::policies::{self, Case};

fn policies(criterion: &mut Criterion) {
    measure(criterion, "policies", policies::cases());
    measure(criterion, "peers", policies::peers());
}

fn measure(criterion: &mut Criterion, group: &str, cases: impl Iterator<Item = &'static Case>) {
    let mut cases = cases.peekable();
    if cases.peek().is_none() {
        return;
    }
    let mut group = criterion.benchmark_group(group);
    for case in cases {
        let mut batch = None;
        group.bench_function(case.name, |bencher| {
            // Set up only if it is chosen, and once: some cases have 100 000 endpoints.
            let batch = batch.get_or_insert_with(|| case.batch());
            bencher.iter_custom(|count| match batch {
                Ok(batch) => {
                    let begin = Instant::now();
                    let right = batch(count);
                    let took = begin.elapsed();
                    if right != count {
                        println!("{}: only {right} of {count} went as it says", case.name);
                    }
                    took
                }
                Err(unfit) => {
                    println!("{}: {unfit}", case.name);
                    Duration::from_nanos(count)
                }
            });
        });
    }
    group.finish();
}

/// Short, because there are many: a fifth of a second to warm up and half a second to measure.
fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20)
        .nresamples(2_000)
}

criterion_group!(name = benches; config = short(); targets = policies);
criterion_main!(benches);
