//! `origin demo`: a world on loopback, a steady load, a scripted outage, and the honest report of
//! what the client made of it. With `--discovery` the same load and view on a real service.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use origin_blocking::{Client, Policy};
use origin_lab::{Outage, Pace, Report, Sample, Summary, Timeline, World, WorldSpec};

use crate::exit::{self, Refusal};
use crate::live::{Frame, Live};
use crate::load::Load;
use crate::watch::Watch;
use crate::{serve, span, text};

/// For `--help` and the manual: as wide as `exit::CODES`.
pub(crate) const HELP: &str = "\
Without --discovery everything runs inside this process, on loopback: a
discovery endpoint and the clusters alpha (primary), beta (the local one)
and gamma with two instances each. The script: calm; one local instance
answers 503; the whole local cluster refuses connections; the primary
accepts and never answers; everything recovers; calm.

Expected: success rate at least 0.999, at most 1.2 attempts per call,
99th percentile of the latency during the outage at most a quarter of the
attempt timeout. Exit code 0 if that held, 1 if not. Latency counts from
the moment a call was meant to start.

With --serve the servers stay up until Ctrl-C, with storage, secrets and
stamping beside billing, and what is printed first says how the other
commands reach them; --outage breaks them meanwhile.";

/// The command line of `origin demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Calls per second. Default: 200.
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// How long it runs (20s, 1m, or seconds).
    #[arg(long, default_value = "20s", value_parser = span::parse)]
    pub(crate) duration: Duration,
    /// Seed of every random choice of the client.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Threads that make the calls. Default: 32, or enough for 200 ms of calls, 1024 at most.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write the picture of the run to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the summary as JSON, and nothing else, on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Call a real service: URL of its discovery document. There is no scripted outage then.
    #[arg(long, value_name = "URL")]
    discovery: Option<String>,
    /// Name of the service.
    #[arg(long, default_value = "billing")]
    service: String,
    /// Path of the calls, which are GETs.
    #[arg(long, default_value = "/invoices/7")]
    path: String,
    /// Keep the demo's servers up until Ctrl-C, and print how to use them with the other commands.
    /// Calls go on at --rate, by default 20 a second; 0.1 at the least.
    #[arg(long, conflicts_with_all = ["discovery", "svg", "threads"])]
    pub(crate) serve: bool,
    /// With --serve: play the outage over and over, each time for --duration.
    #[arg(long, requires = "serve")]
    pub(crate) outage: bool,
    /// Name of the local cluster. Default: beta in the built-in world, none with --discovery.
    #[arg(long, value_name = "NAME")]
    local: Option<String>,
}

const ATTEMPT: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(5);
const OPEN: Duration = Duration::from_millis(500);
const OPEN_MAX: Duration = Duration::from_secs(2);

const SUCCESS: f64 = 0.999;
const AMPLIFICATION: f64 = 1.2;
const SLOW: Duration = Duration::from_millis(250);

/// How often the client's state is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number from 0.1 to 100000".to_owned()),
    }
}

impl Args {
    fn rate(&self) -> f64 {
        self.rate.unwrap_or(200.0)
    }

    /// A hanging endpoint holds the threads that called it. There have to be more of them than
    /// calls can run into it before it is avoided, or the calls after them begin late.
    fn threads(&self) -> u16 {
        let default = (self.rate() * 0.2).clamp(32.0, 1024.0) as u16;
        self.threads.unwrap_or(default)
    }
}

/// What this machine cannot do.
pub(crate) fn refuse(what: &str, error: &io::Error) -> Refusal {
    Refusal::Usage(format!("{what}: {error}"), "make room for it on this machine")
}

/// Runs the demo and returns the exit code.
pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    if args.serve {
        return serve::run(args);
    }
    demo(args)
}

fn demo(args: &Args) -> Result<u8, Refusal> {
    let mut live = Live::new(args.json);
    let (world, url) = match &args.discovery {
        Some(url) => (None, url.clone()),
        None => {
            let world = world(args).map_err(|e| refuse("the built-in world cannot start", &e))?;
            let url = world.discovery_url();
            (Some(Arc::new(world)), url)
        }
    };
    let local = args.local.clone().or_else(|| world.as_ref().map(|world| world.local().to_owned()));
    let client = client(args, url, local.clone())?;
    // The first call, which also fetches the discovery document, is not part of the load: a
    // wrong URL or name is told at once instead of a thousand times.
    client.service(&args.service)?.get(&args.path).send()?;
    live.say(&intro(args, &client));
    let (load, timeline) = play(args, &client, world.as_ref(), local, &mut live)?;
    let report = Report::new(&load.recorder, &timeline);
    let code = conclude(args, &report, world.is_some(), &mut live)?;
    let late = load.late.load(Ordering::Relaxed);
    if late > 0 {
        live.say(&format!(
            "{late} calls began more than 50 ms late: a busy machine, or too few threads \
             (--threads, {} now)",
            args.threads()
        ));
    }
    Ok(code)
}

/// The built-in world: the local cluster near, the others farther away.
fn world(args: &Args) -> io::Result<World> {
    let spec = WorldSpec::default()
        .only(&[&args.service])
        .latency("beta", 1)
        .latency("alpha", 3)
        .latency("gamma", 6);
    World::start(spec)
}

pub(crate) fn client(args: &Args, url: String, local: Option<String>) -> Result<Client, Refusal> {
    let mut policy = Policy::default();
    policy.breaker.open = OPEN;
    policy.breaker.open_max = OPEN_MAX;
    let mut builder = Client::builder()
        .discovery(url)
        .policy(policy)
        .timeout(TOTAL)
        .attempt_timeout(ATTEMPT)
        .seed(args.seed);
    if let Some(local) = local {
        builder = builder.local_cluster(local);
    }
    Ok(builder.build()?)
}

fn intro(args: &Args, client: &Client) -> String {
    let snapshot = client.snapshot();
    let endpoints = snapshot.service(&args.service).map_or(0, |known| known.endpoints.len());
    let source = match &args.discovery {
        Some(url) => format!("discovery {url}"),
        None => "a world on loopback".to_owned(),
    };
    format!(
        "origin demo: GET {} of {}, {} endpoints, {source}\n\
         load:   {}/s for {:?} by {} threads, seed {}\n\
         policy: attempt timeout {ATTEMPT:?}, total {TOTAL:?}, breaker open {OPEN:?} doubling up to \
         {OPEN_MAX:?}\n",
        args.path,
        args.service,
        endpoints,
        args.rate(),
        args.duration,
        args.threads(),
        args.seed,
    )
}

/// Plays the script under load, with the view on this thread.
fn play(
    args: &Args,
    client: &Client,
    world: Option<&Arc<World>>,
    local: Option<String>,
    live: &mut Live,
) -> Result<(Load, Timeline), Refusal> {
    let upstream = client.service(&args.service)?;
    let load = Load::default();
    let pace = Pace::new(args.rate(), args.duration);
    let mut watch = Watch::new(&args.service);
    let phase = Arc::new(Mutex::new("steady load".to_owned()));
    let unfinished = AtomicUsize::new(usize::from(args.threads()));
    let start = Instant::now();
    let running = match world {
        None => None,
        Some(world) => {
            let outage = Outage::scripted(args.duration, world.local(), "alpha");
            let shown = Arc::clone(&phase);
            let spawned = outage.spawn(start, Arc::clone(world), move |now| {
                shown.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&now.name);
            });
            Some(spawned.map_err(|e| refuse("the script cannot start", &e))?)
        }
    };
    let looked: Result<(), Refusal> = thread::scope(|scope| {
        for _ in 0..args.threads() {
            let worker = || {
                load.run(&upstream, &args.path, &pace, start);
                unfinished.fetch_sub(1, Ordering::Release);
            };
            let stack = 256 << 10;
            thread::Builder::new().stack_size(stack).spawn_scoped(scope, worker).map_err(|e| {
                // Ends the pace, so that the threads that did start come back.
                while pace.next().is_some() {}
                refuse("a thread cannot start", &e)
            })?;
        }
        let mut drawn: Option<Instant> = None;
        loop {
            let over = unfinished.load(Ordering::Acquire) == 0;
            let elapsed = start.elapsed();
            let (rows, notice) = watch.look(&client.snapshot(), elapsed, &load.recorder);
            if over || drawn.is_none_or(|at| at.elapsed() >= live.interval()) {
                let phase = phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
                live.show(&Frame {
                    elapsed: elapsed.min(args.duration),
                    total: args.duration,
                    phase: &phase,
                    rows: &rows,
                    recent: &load.recent(start),
                    notice: notice.as_deref(),
                });
                drawn = Some(Instant::now());
            }
            if over {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    });
    looked?;
    let timeline = match running {
        Some(running) => running.join(),
        None => {
            Timeline { local: local.unwrap_or_default(), end: args.duration, ..Timeline::default() }
        }
    };
    Ok((load, timeline))
}

/// Prints the report, writes the picture, and compares with what was expected.
fn conclude(args: &Args, report: &Report, scripted: bool, live: &mut Live) -> Result<u8, Refusal> {
    live.say(&format!("\n{report}"));
    if let Some(path) = &args.svg {
        let title = format!("origin demo: {} at {}/s", args.service, args.rate());
        fs::write(path, report.svg(&title))
            .map_err(|e| refuse("the picture cannot be written", &e))?;
        live.say(&format!("picture: {}", path.display()));
    }
    if args.json {
        text::print_json(&report.summary)?;
    }
    if !scripted {
        live.say("no outage was scripted, so nothing particular was expected");
        return Ok(if report.summary.ok > 0 { exit::OK } else { exit::NO_ANSWER });
    }
    live.say(&slow(report));
    let expected = expectations(&report.summary);
    for (held, text) in &expected {
        live.say(&format!("{} {text}", if *held { "held:  " } else { "MISSED:" }));
    }
    Ok(if expected.iter().all(|(held, _)| *held) { exit::OK } else { exit::MISSED })
}

/// How many calls a percentile hides, and in which phases they were started.
fn slow(report: &Report) -> String {
    let is_slow = |sample: &&Sample| sample.latency > SLOW;
    let mut text = format!(
        "{} calls took longer than {SLOW:?}",
        report.samples().iter().filter(is_slow).count()
    );
    for (name, from, to) in report.timeline.spans() {
        let inside = report.samples().iter().filter(|one| (from..to).contains(&one.at));
        let count = inside.filter(is_slow).count();
        if count > 0 {
            text.push_str(&format!("; {name}: {count}"));
        }
    }
    text
}

/// What was expected of the scripted outage, and whether it held.
fn expectations(summary: &Summary) -> Vec<(bool, String)> {
    let limit = SLOW.as_secs_f64() * 1e3;
    vec![
        (
            summary.success_rate >= SUCCESS,
            format!("success rate {:.5}, expected at least {SUCCESS}", summary.success_rate),
        ),
        (
            summary.amplification <= AMPLIFICATION,
            format!(
                "{:.3} attempts per call, expected at most {AMPLIFICATION}",
                summary.amplification
            ),
        ),
        (
            summary.p99_ms <= limit,
            format!(
                "p99 of {:.1} ms during the outage, expected at most {limit:.0} ms, a quarter of \
                 the attempt timeout",
                summary.p99_ms
            ),
        ),
    ]
}
