//! `origin status`: how everything is, in a table for people, as the whole snapshot for programs, and
//! as an exit code for scripts.

use std::time::Duration;

use origin_blocking::core::snapshot::ServiceSnapshot;
use origin_blocking::{Health, Snapshot};

use crate::exit::{self, Refusal};
use crate::look::{self, Until, health_of, health_word, trouble_of};
use crate::text::{self, Paint, Table, Tone, age};

/// The command line of `origin status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these services, in the table and in the exit code.
    names: Vec<String>,
    /// Every endpoint on a line of its own.
    #[arg(long, short)]
    long: bool,
    /// Print the whole snapshot as JSON; what --from reads.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: look::Whose,
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    let picked = args.look.pick(&args.names, Until::Settled)?;
    let snapshot = &picked.snapshot;
    if args.json {
        text::print_json(snapshot)?;
    } else if !picked.is_empty() {
        text::print(table(snapshot, args.long, Paint::of_stdout()).as_bytes())?;
    }
    picked.all_known().map(|()| code(snapshot, args.look.from.is_none()))
}

/// The number for the worst of them. Who asks endpoints himself and learns nothing does not know them
/// to be well; another process may simply not have called a service yet.
fn code(snapshot: &Snapshot, asked: bool) -> u8 {
    let health = snapshot.services.iter().map(health_of);
    let codes = health.map(|health| match health {
        Health::Healthy => exit::OK,
        Health::Unknown if !asked => exit::OK,
        Health::Degraded | Health::Unknown => exit::DEGRADED,
        Health::Unhealthy => exit::UNHEALTHY,
    });
    codes.max().unwrap_or(exit::OK)
}

pub(crate) const fn tone_of(health: Health) -> Tone {
    match health {
        Health::Healthy => Tone::Well,
        Health::Degraded | Health::Unknown => Tone::Warn,
        Health::Unhealthy => Tone::Bad,
    }
}

/// What is wrong with a service, counted: `2 open, 1 silent`.
pub(crate) fn troubles(service: &ServiceSnapshot) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in service.endpoints.iter().filter_map(trouble_of) {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    words.join(", ")
}

pub(crate) fn millis(latency: Option<Duration>) -> String {
    latency.map_or("-".to_owned(), |span| format!("{:.1}ms", span.as_secs_f64() * 1e3))
}

fn table(snapshot: &Snapshot, long: bool, paint: Paint) -> String {
    let plain = |text: String| (text, None);
    if long {
        let mut table = Table::new(&[
            "service", "cluster", "address", "state", "health", "attempts", "failed", "latency",
        ]);
        for service in &snapshot.services {
            for one in &service.endpoints {
                let state = trouble_of(one);
                let tone = if state.is_some() { Tone::Warn } else { Tone::Well };
                table.row([
                    plain(service.name.to_string()),
                    plain(one.cluster.to_string()),
                    plain(one.address.to_string()),
                    (state.unwrap_or("ready").to_owned(), Some(tone)),
                    plain(one.health.word().to_owned()),
                    plain(one.attempts.to_string()),
                    plain(one.failed_attempts.to_string()),
                    plain(millis(one.latency)),
                ]);
            }
        }
        return table.text(paint);
    }
    let mut table = Table::new(&[
        "service",
        "health",
        "answered by",
        "ready",
        "calls",
        "failed",
        "last success",
        "trouble",
    ]);
    for service in &snapshot.services {
        let health = health_of(service);
        let ready = service.endpoints.iter().filter(|one| trouble_of(one).is_none()).count();
        let last = service.last_success.map(|at| age(snapshot.at.since(at)));
        table.row([
            (service.name.to_string(), Some(Tone::Bold)),
            (health_word(health).to_owned(), Some(tone_of(health))),
            plain(service.active_cluster.as_deref().unwrap_or("-").to_owned()),
            plain(format!("{ready}/{}", service.endpoints.len())),
            plain(service.calls.to_string()),
            plain(service.failed.to_string()),
            plain(last.map_or("-".to_owned(), |age| format!("{age} ago"))),
            plain(troubles(service)),
        ]);
    }
    table.text(paint)
}
