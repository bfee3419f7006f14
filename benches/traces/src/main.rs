//! What the lines and spans of a successful call cost, in instructions: a client that is answered
//! without a network, under callgrind with N and with 2N calls; the difference divided by N is one.
//!
//! Then what looking costs: a snapshot and a page of metrics of 1 000 endpoints, in microseconds.
//!
//! `cargo run --release -p origin-benches-traces`, and the same with `--no-default-features` for a
//! driver that was built without them. `traces MODE N` makes the calls, for one's own profile.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program prints

mod echo;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use origin_driver::Client;
use origin_driver::core::Error;

use echo::Echo;

/// Calls of the shorter run.
const CALLS: u32 = 2_000;

#[cfg(not(feature = "tracing"))]
const MODES: [(&str, &str); 1] = [("off", "built without the feature `tracing`")];

#[cfg(feature = "tracing")]
const MODES: [(&str, &str); 4] = [
    ("none", "feature on, no subscriber"),
    ("drop", "a subscriber that wants nothing above `warn`"),
    ("registry", "a registry that keeps spans and does nothing with them"),
    ("otlp", "OpenTelemetry's layer, batches, an exporter that drops them"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [] => compare(),
        [mode, calls] => calls.parse().map_err(|_| "N is a number".to_owned()).and_then(|calls| {
            let end = listen(mode);
            let done = run(calls).map_err(|error| error.to_string());
            end();
            done
        }),
        _ => Err("usage: traces [MODE N]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes calls, each of which is answered.
fn run(calls: u32) -> Result<(), Error> {
    let client: Client<Echo> = Client::builder().endpoint("lab", "http://lab").seed(7).build()?;
    let service = client.service("lab")?;
    for _ in 0..calls {
        assert_eq!(service.get("/x?id=7").send()?.text(), "ok");
    }
    Ok(())
}

fn compare() -> Result<(), String> {
    println!("| successful call | instructions |\n|---|---:|");
    for (mode, what) in MODES {
        let (once, twice) = (count(mode, CALLS)?, count(mode, 2 * CALLS)?);
        let one = twice.saturating_sub(once) / u64::from(CALLS);
        println!("| {what} | {one} |");
    }
    looking().map_err(|error| error.to_string())
}

/// What it takes to look at a service of 1 000 endpoints: the best of many, in microseconds.
fn looking() -> Result<(), Error> {
    let mut builder = Client::<Echo>::builder().seed(7);
    for number in 0..1_000 {
        builder = builder.endpoint("lab", format!("http://10.0.{}.{}", number / 250, number % 250));
    }
    let client = builder.configure(|config| config.metrics.max_endpoints = 1_000).build()?;
    let service = client.service("lab")?;
    for _ in 0..5_000 {
        drop(service.get("/x").send()?);
    }
    println!("\n| 1 000 endpoints | µs | bytes |\n|---|---:|---:|");
    best("a snapshot", || format!("{:?}", client.snapshot().services.len()).len());
    best("metrics for Prometheus", || client.metrics().len());
    best("health", || client.health().reasons.len());
    Ok(())
}

fn best(what: &str, mut look: impl FnMut() -> usize) {
    let mut least = Duration::MAX;
    let mut size = 0;
    for _ in 0..50 {
        let began = Instant::now();
        size = look();
        least = least.min(began.elapsed());
    }
    println!("| {what} | {} | {size} |", least.as_micros());
}

/// Instructions of all threads.
fn count(mode: &str, calls: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([mode, &calls.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    let number = line.and_then(|(_, number)| number.trim().parse().ok());
    number.filter(|_| output.status.success()).ok_or_else(|| said.to_string())
}

#[cfg(not(feature = "tracing"))]
fn listen(_: &str) -> impl FnOnce() + use<> {
    || ()
}

/// Installs who listens; yields what ends that.
#[cfg(feature = "tracing")]
fn listen(mode: &str) -> Box<dyn FnOnce()> {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;

    let registry = tracing_subscriber::registry();
    let installed = match mode {
        "drop" => tracing::subscriber::set_global_default(registry.with(LevelFilter::WARN)),
        "registry" => tracing::subscriber::set_global_default(registry.with(LevelFilter::INFO)),
        "otlp" => {
            let provider = SdkTracerProvider::builder().with_batch_exporter(Nowhere).build();
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("traces"));
            let subscriber = registry.with(LevelFilter::INFO).with(layer);
            drop(tracing::subscriber::set_global_default(subscriber));
            return Box::new(move || drop(provider.shutdown()));
        }
        _ => Ok(()),
    };
    drop(installed);
    Box::new(|| ())
}

/// Takes spans and forgets them.
#[cfg(feature = "tracing")]
#[derive(Debug)]
struct Nowhere;

#[cfg(feature = "tracing")]
impl opentelemetry_sdk::trace::SpanExporter for Nowhere {
    async fn export(
        &self,
        _: Vec<opentelemetry_sdk::trace::SpanData>,
    ) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}
