//! Nanoseconds of writing the request of each operation of each typed client, and of writing it and
//! reading a good answer, by criterion. Nothing here asserts a time.
#![allow(missing_docs)] // of what criterion's macros make

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use origin_benches::codecs::{self, Part};

fn operations(criterion: &mut Criterion) {
    for part in [Part::Encode, Part::Both] {
        let mut group = criterion.benchmark_group(part.word());
        for codec in codecs::codecs(part) {
            group.bench_function(codec.name(), |bencher| bencher.iter(|| black_box(codec.run())));
        }
        group.finish();
    }
}

/// Short, because there are many.
fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .sample_size(10)
        .nresamples(1_000)
}

criterion_group!(name = benches; config = short(); targets = operations);
criterion_main!(benches);
