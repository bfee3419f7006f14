//! The scenario of the async adapters' `outage_…` examples: each includes this file as a module and
//! gives it a module `runtime` with what is special to its own.
//!
//! Calls start on a fixed schedule, however those before them fare, and are timed from the moment
//! they were meant to start: waiting shows in the figures.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use origin_lab::{Outage, Pace, Recorder, Report, Sample, State, World, WorldSpec};

use super::runtime::{self, Client, Error, Upstream};

/// The service that is called.
const SERVICE: &str = "billing";
/// How often breakers are looked at for the picture.
const LOOK: Duration = Duration::from_millis(25);

pub(crate) fn main() -> Result<(), Box<dyn StdError>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let report = runtime::block_on(play(options.clone()))?;
    if let Some(file) = &options.svg {
        std::fs::write(file, report.svg(&format!("An outage, on {}", runtime::NAME)))?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.text());
    }
    Ok(())
}

/// What the command line asks for.
#[derive(Clone)]
struct Options {
    duration: Duration,
    rate: f64,
    seed: u64,
    svg: Option<String>,
    json: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let seconds = Duration::from_secs;
        let mut options =
            Options { duration: seconds(20), rate: 200.0, seed: 1, svg: None, json: false };
        while let Some(flag) = words.next() {
            if flag == "--json" {
                options.json = true;
                continue;
            }
            let value =
                words.next().ok_or_else(|| format!("{flag} is unknown or needs a value"))?;
            let bad = || format!("{flag} cannot be {value:?}");
            match flag.as_str() {
                "--duration" => options.duration = seconds(value.parse().map_err(|_| bad())?),
                "--rate" => options.rate = value.parse().map_err(|_| bad())?,
                "--seed" => options.seed = value.parse().map_err(|_| bad())?,
                "--svg" => options.svg = Some(value),
                _ => {
                    return Err(format!(
                        "{flag} is unknown; there are --duration SECONDS, --rate CALLS_PER_SECOND, \
                         --seed NUMBER, --svg FILE, --json"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Plays the outage and watches what the client makes of it.
async fn play(options: Options) -> Result<Report, Box<dyn StdError>> {
    let world = Arc::new(World::start(WorldSpec::default().only(&[SERVICE]))?);
    let outage = Outage::default_for(options.duration);
    outage.check(&world)?;
    let client = Client::builder()
        .discovery(world.discovery_url())
        .local_cluster(world.local())
        .attempt_timeout(Duration::from_secs(1))
        .configure(|config| {
            config.policy.breaker.open = Duration::from_millis(500);
            config.policy.breaker.open_max = Duration::from_secs(2);
        })
        .seed(options.seed)
        .build()?;
    let service = client.service(SERVICE)?;
    let recorder = Recorder::new();
    let start = Instant::now();
    let running = outage.spawn(start, world.clone(), |_| ())?;
    let (watched, states) = (client.clone(), recorder.clone());
    let watch = runtime::spawn(async move {
        while start.elapsed() < options.duration {
            look(&watched, start, &states);
            runtime::sleep(LOOK).await;
        }
    });
    let mut calls = Vec::new();
    for at in &Pace::new(options.rate, options.duration) {
        let early = at.saturating_sub(start.elapsed());
        if !early.is_zero() {
            runtime::sleep(early).await;
        }
        calls.push(runtime::spawn(call(service.clone(), start, at, recorder.clone())));
    }
    for call in calls {
        runtime::join(call).await;
    }
    runtime::join(watch).await;
    Ok(Report::new(&recorder, &running.join()))
}

/// One call, as a sample.
async fn call(service: Upstream, start: Instant, at: Duration, recorder: Recorder) {
    let reply = match service.get("/invoices/7").send().await {
        Ok(response) => response.ok(),
        Err(error) => Err(error),
    };
    let latency = start.elapsed().saturating_sub(at);
    let (attempts, cluster, error) = match reply {
        Ok(response) => {
            let attempts = &response.report().attempts;
            let cluster = attempts.last().map(|attempt| attempt.cluster.to_string());
            (attempts.len(), cluster, None)
        }
        Err(error) => (error.attempts(), None, Some(kind(&error).to_owned())),
    };
    recorder.record(Sample {
        at,
        latency,
        ok: error.is_none(),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        cluster,
        error,
    });
}

/// What went wrong, in few words that repeat.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Refused(_) => "refused: breakers open",
        Error::Deadline(_) => "deadline",
        Error::Exhausted(_) => "every candidate failed",
        Error::Status { .. } => "status",
        Error::Discovery { .. } => "discovery",
        _ => "other",
    }
}

/// Records the state of each cluster's breakers: the soundest of its endpoints.
fn look(client: &Client, start: Instant, states: &Recorder) {
    let at = start.elapsed();
    let snapshot = client.snapshot();
    let Some(service) = snapshot.service(SERVICE) else { return };
    for endpoint in &service.endpoints {
        let cluster = &endpoint.cluster;
        let words = || {
            let same = service.endpoints.iter().filter(|e| e.cluster == *cluster);
            same.map(|e| e.breaker.word())
        };
        let soundest = ["closed", "half_open"].into_iter().find(|word| words().any(|w| w == *word));
        let breaker = soundest.unwrap_or("open").to_owned();
        states.state(State { at, cluster: cluster.to_string(), breaker });
    }
}
