//! One outage, seen from every side: the local cluster refuses connections for two seconds. Writes
//! what a program's log, its spans, its metrics and its state said, for `docs/SAME-OUTAGE.md`.
//!
//! ```sh
//! cargo run -p origin-tokio --example seen -- /tmp/seen
//! cargo origin status --from /tmp/seen/during.json
//! cargo origin top --once --from /tmp/seen/during.json
//! ```
#![allow(clippy::print_stdout, reason = "what it prints is its purpose")]

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use origin_lab::{Mode, World, WorldSpec};
use origin_tokio::{Client, Upstream};
use tracing_subscriber::Layer as _;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{FmtSpan, debug_fn};
use tracing_subscriber::fmt::time::uptime;
use tracing_subscriber::layer::SubscriberExt as _;

type Failure = Box<dyn Error + Send + Sync>;

/// From one call to the next.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "seen".to_owned());
    let place = Path::new(&place);
    fs::create_dir_all(place)?;
    listen(place)?;
    let world = World::start(WorldSpec::default().only(&["billing"]))?;
    let client =
        Client::builder().discovery(world.discovery_url()).local_cluster("beta").seed(7).build()?;
    let billing = client.service("billing")?;

    calls(&billing, 50).await;
    write(&client, place, "before")?;
    world.cluster("beta").set(Mode::Refuse);
    calls(&billing, 100).await;
    write(&client, place, "during")?;
    world.cluster("beta").set(Mode::Ok);
    // Until the local cluster answers again and nothing is held back.
    for _ in 0..1_500 {
        calls(&billing, 1).await;
        let snapshot = client.snapshot();
        let service = snapshot.service("billing").ok_or("no such service")?;
        let back = service.active_cluster.as_deref() == Some("beta");
        if back && service.health == origin_tokio::Health::Healthy {
            break;
        }
    }
    write(&client, place, "after")?;
    println!("{}", place.display());
    Ok(())
}

/// The program's work: an invoice every 20 ms.
async fn calls(billing: &Upstream, count: usize) {
    for _ in 0..count {
        if let Err(error) = billing.get("/invoices/7").send().await {
            println!("{error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lines to `log.txt`, spans as they close to `spans.txt`, both by the seconds since the start.
fn listen(place: &Path) -> Result<(), Failure> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Mutex::new(File::create(place.join("log.txt"))?))
        .with_ansi(false)
        .with_timer(uptime())
        .compact()
        .with_filter(LevelFilter::INFO);
    let spans = tracing_subscriber::fmt::layer()
        .with_writer(Mutex::new(File::create(place.join("spans.txt"))?))
        .with_ansi(false)
        .with_timer(uptime())
        .with_span_events(FmtSpan::CLOSE)
        // Of a type of its own: layers with equal formatters would write into the same text.
        .fmt_fields(debug_fn(|to, field, value| write!(to, "{field}={value:?}")).delimited(" "))
        .with_filter(filter_fn(|one| one.is_span() && one.target().starts_with("origin")));
    tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(lines).with(spans),
    )?;
    Ok(())
}

/// The metrics and the state of now.
fn write(client: &Client, place: &Path, when: &str) -> Result<(), Failure> {
    fs::write(place.join(format!("{when}.prom")), client.metrics())?;
    let state = serde_json::to_string_pretty(&client.snapshot())?;
    fs::write(place.join(format!("{when}.json")), state)?;
    let health = serde_json::to_string_pretty(&client.health())?;
    fs::write(place.join(format!("{when}.health.json")), health)?;
    Ok(())
}
