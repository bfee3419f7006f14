//! Nanoseconds of signing a request to storage (Signature V4), by criterion: what is done once per
//! call (`begin`: the body is hashed) and what is done for each attempt (`attempt`: the canonical
//! request, four HMACs, one header). Nothing here asserts a time.
#![allow(missing_docs)] // of what criterion's macros make
#![allow(clippy::unwrap_used)] // a benchmark that cannot be set up has nothing to say

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use origin_core::config::StorageConfig;
use origin_core::s3::{Settings, Signer};
use origin_core::{Secret, Wall};

fn settings(sign_payload: bool) -> Arc<Settings> {
    let config = StorageConfig {
        access_key: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        sign_payload,
        ..StorageConfig::default()
    };
    Arc::new(Settings::of(&config, "storage", |_| None).unwrap())
}

fn request(body: &Bytes) -> http::Request<Bytes> {
    http::Request::put("http://storage.example:9000/bucket/some/key?partNumber=7&uploadId=abc")
        .header("host", "storage.example:9000")
        .header("content-type", "application/octet-stream")
        .header("x-correlation-id", "8e1df39c-087f-4b9e-b35e-cb0095d07d1b")
        .body(body.clone())
        .unwrap()
}

fn signing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("begin");
    for size in [0, 1 << 10, 64 << 10, 8 << 20] {
        let (settings, body) = (settings(true), vec![7; size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("hashed/{size}"), |bencher| {
            bencher.iter(|| black_box(Signer::new(&settings, black_box(&body))));
        });
    }
    let (settings_, body) = (settings(false), vec![7; 8 << 20]);
    group.bench_function("unsigned/8388608", |bencher| {
        bencher.iter(|| black_box(Signer::new(&settings_, black_box(&body))));
    });
    group.finish();
    let mut group = criterion.benchmark_group("attempt");
    let body = Bytes::from(vec![7; 1 << 10]);
    let signer = Signer::new(&settings(true), &body).unwrap();
    let plain = request(&body);
    // What is signed is made anew each time: the cost of that stands beside it.
    group.bench_function("clone", |bencher| bencher.iter(|| black_box(plain.clone())));
    group.bench_function("clone+sign", |bencher| {
        bencher.iter(|| {
            let mut request = plain.clone();
            signer.sign(&mut request, Wall(1_800_000_000));
            black_box(request)
        });
    });
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group!(name = benches; config = short(); targets = signing);
criterion_main!(benches);
