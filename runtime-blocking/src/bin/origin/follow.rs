//! `origin watch`: the endpoints of a service, a line per change.

use std::collections::BTreeSet;
use std::time::Duration;

use origin_blocking::Update;

use crate::exit::{self, Refusal};
use crate::settings::Where;
use crate::{look, signal, text};

/// The command line of `origin watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the service.
    service: String,
    /// End after so many lines; the present state is the first.
    #[arg(long, short = 'n', value_name = "LINES")]
    count: Option<u64>,
    /// Print each state as JSON on a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// How often the wish to end is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long the first answer of discovery is waited for.
const FIRST: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    signal::heed();
    let client = args.place.client()?.build()?;
    let _background = client.background().map_err(|error| {
        Refusal::Unusable(format!("a thread cannot start: {error}"), "free some memory")
    })?;
    // A registry that is not there, or does not know the name, is told at once. One that fails
    // later, or forgets the service, is what is watched for.
    let snapshot = look::discovered(|| Ok(client.snapshot()), FIRST)?;
    look::sighted(&snapshot)?;
    client.service(&args.service)?;
    let mut watch = client.watch(&args.service)?;
    let (mut before, mut lines) = (Vec::new(), 0);
    let mut said: Option<String> = None;
    while args.count.is_none_or(|count| lines < count) && !signal::came() {
        let Some(update) = watch.next_within(LOOK) else {
            if watch.status().over {
                break;
            }
            let why = client.snapshot().discovery.iter().find_map(|one| one.last_error.clone());
            if why != said {
                let now = why.as_deref().unwrap_or("answers again");
                exit::warn(&text::clean(&format!("discovery: {now}")));
                said = why;
            }
            continue;
        };
        if args.json {
            text::print_json(&update)?;
        } else {
            text::print(format!("{}\n", line(&update, &before)).as_bytes())?;
        }
        before = addresses(&update);
        lines += 1;
    }
    Ok(exit::OK)
}

/// In the order in which they are tried.
fn addresses(update: &Update) -> Vec<String> {
    let named =
        update.endpoints.iter().map(|one| format!("{} ({})", one.address.as_str(), one.cluster));
    named.collect()
}

/// What changed.
fn line(update: &Update, before: &[String]) -> String {
    let now = addresses(update);
    let count = text::count(now.len(), "endpoint");
    let mut line = format!("{} version {}: {count}", update.service, update.version);
    let mut changed = false;
    for (sign, all, others) in [('+', &*now, before), ('-', before, &*now)] {
        let others: BTreeSet<&String> = others.iter().collect();
        for one in all.iter().filter(|one| !others.contains(one)) {
            line.push_str(&format!(" {sign}{one}"));
            changed = true;
        }
    }
    if !changed {
        line.push_str(" (order, health or weights)");
    }
    text::clean(&line)
}
