//! `origin services`: what there is, where it is, and where that is known from.

use origin_blocking::core::snapshot::ServiceSnapshot;
use serde_json::{Value, json};

use crate::exit::{self, Refusal};
use crate::look::{self, Until};
use crate::text::{self, Paint, Table, Tone};

/// The command line of `origin services`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these services.
    names: Vec<String>,
    /// Every endpoint on a line of its own.
    #[arg(long, short)]
    long: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: look::Whose,
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    // Health is not asked for here, so nothing but discovery is waited for.
    let picked = args.look.pick(&args.names, Until::Discovered)?;
    let (services, discovery) = (&picked.snapshot.services, &picked.snapshot.discovery);
    if args.json {
        let all: Vec<Value> = services.iter().map(as_json).collect();
        text::print_json(&json!({"services": all, "discovery": discovery}))?;
    } else if !picked.is_empty() {
        text::print(table(services, args.long).text(Paint::of_stdout()).as_bytes())?;
        for source in discovery {
            let age = source.age.map_or("-".to_owned(), text::age);
            let stale = if source.stale { ", stale" } else { "" };
            let count = text::count(source.services, "service");
            exit::warn(&format!("source {}: {count}, {age} old{stale}", source.source));
        }
    }
    picked.all_known().map(|()| exit::OK)
}

fn clusters(service: &ServiceSnapshot) -> Vec<(String, usize)> {
    let groups = service.endpoints.chunk_by(|a, b| a.cluster == b.cluster);
    groups.filter_map(|group| Some((group.first()?.cluster.to_string(), group.len()))).collect()
}

fn table(services: &[ServiceSnapshot], long: bool) -> Table {
    if long {
        let mut table = Table::new(&["service", "cluster", "place", "address"]);
        for service in services {
            for one in &service.endpoints {
                let place = format!("{:?}", one.place).to_lowercase();
                let (cluster, address) = (one.cluster.to_string(), one.address.to_string());
                let cells = [service.name.to_string(), cluster, place, address];
                table.row(cells.map(|cell| (cell, None)));
            }
        }
        return table;
    }
    let mut table = Table::new(&["service", "endpoints", "clusters, in the order they are tried"]);
    for service in services {
        let count = service.endpoints.len();
        let clusters = clusters(service).into_iter();
        let clusters = clusters.map(|(name, count)| format!("{name} ({count})"));
        table.row([
            (service.name.to_string(), Some(Tone::Bold)),
            (count.to_string(), (count == 0).then_some(Tone::Bad)),
            (clusters.collect::<Vec<_>>().join(", "), None),
        ]);
    }
    table
}

fn as_json(service: &ServiceSnapshot) -> Value {
    let endpoints = service
        .endpoints
        .iter()
        .map(|one| json!({"cluster": one.cluster, "place": one.place, "address": one.address}));
    json!({"name": service.name, "endpoints": endpoints.collect::<Vec<_>>()})
}
