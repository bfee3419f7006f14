//! Each adapter beside its raw HTTP client: requests per second in alternating rounds, and user
//! instructions per request.
//!
//! `adapters [--quick] [--json] [--where] [tokio|async-std|blocking …]`
//!
//! The server is another process, so that its work is in neither figure. Rates are reported, not
//! judged: both sides share the machine with everything else on it, which is why only the ratio
//! of neighbouring rounds means anything. Instructions need valgrind and are left out without it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program prints

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use origin_benches::callgrind::{self, Cost};
use origin_benches::pairs::{self, Kind, Length, Side, Threads};
use origin_lab::FaultServer;

const USAGE: &str = "adapters [--quick] [--json] [--where] [tokio|async-std|blocking …]";
/// Concurrent requests.
const CONCURRENT: [usize; 2] = [1, 64];
/// Aim for the ratio of rates with the most concurrent requests.
const RATIO: f64 = 0.97;
/// Aim for the user instructions a request takes more than raw.
const MORE: f64 = 3_000.0;
/// Requests before anything counts: connections are opened, buffers have grown.
const WARM_UP: u32 = 32;
/// A run under callgrind takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// async-std has no other way to be told.
const ONE_THREAD: callgrind::Environment<'_> = &[("ASYNC_STD_THREAD_COUNT", "1")];

/// How much is measured.
struct Effort {
    /// Pairs of rounds.
    rounds: usize,
    /// Length of a round.
    round: Duration,
    /// Requests of the shorter run under callgrind.
    requests: u32,
    /// Repetitions under callgrind: threads meet at other moments in each.
    repetitions: usize,
}

const FULL: Effort =
    Effort { rounds: 15, round: Duration::from_millis(500), requests: 500, repetitions: 3 };
const QUICK: Effort =
    Effort { rounds: 3, round: Duration::from_millis(100), requests: 100, repetitions: 1 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["--serve"] => serve(),
        ["--run", kind, side, url, requests] => run(kind, side, url, requests),
        _ => match Options::read(&words) {
            Some(options) => compare(&options),
            None => {
                eprintln!("usage: {USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adapters: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

struct Options {
    effort: &'static Effort,
    json: bool,
    functions: bool,
    kinds: Vec<Kind>,
}

impl Options {
    fn read(words: &[&str]) -> Option<Options> {
        let mut options =
            Options { effort: &FULL, json: false, functions: false, kinds: Vec::new() };
        for word in words {
            match *word {
                "--quick" => options.effort = &QUICK,
                "--json" => options.json = true,
                "--where" => options.functions = true,
                name => options.kinds.push(kind(name)?),
            }
        }
        if options.kinds.is_empty() {
            options.kinds = Kind::ALL.to_vec();
        }
        Some(options)
    }
}

fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// The server's process: says where it is, and ends when its input does, which happens at the
/// latest when the process that started it is gone.
fn serve() -> Outcome<()> {
    let server = FaultServer::start()?;
    println!("{}", server.url());
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// What runs under callgrind: one side, so many requests, one after the other.
fn run(name: &str, side: &str, url: &str, requests: &str) -> Outcome<()> {
    let kind = kind(name).ok_or("no such adapter")?;
    let side = if side == "raw" { Side::Raw } else { Side::Origin };
    let requests: u32 = requests.parse()?;
    let pair = pairs::pair(kind, url, Threads::One)?;
    pair.round(side, 1, Length::Requests(WARM_UP + requests))?;
    Ok(())
}

/// The server as its parent sees it. Dropped, it is ended and waited for.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Outcome<Server> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take();
        let mut server = Server { process, url: String::new() };
        BufReader::new(stdout.ok_or("no output")?).read_line(&mut server.url)?;
        server.url.truncate(server.url.trim_end().len());
        if server.url.is_empty() {
            return Err("the server did not start".into());
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn compare(options: &Options) -> Outcome<()> {
    let server = Server::start()?;
    let mut rates = Vec::new();
    for kind in &options.kinds {
        let pair = pairs::pair(*kind, &server.url, Threads::Several)?;
        for concurrent in CONCURRENT {
            for side in [Side::Raw, Side::Origin] {
                pair.round(side, concurrent, Length::Requests(WARM_UP))?;
            }
            rates.push(Rate::measure(*kind, &*pair, concurrent, options.effort)?);
        }
    }
    let counts = match callgrind::version() {
        Ok(_) => Some(
            options
                .kinds
                .iter()
                .map(|kind| Count::measure(*kind, &server.url, options.effort))
                .collect::<Outcome<Vec<Count>>>()?,
        ),
        Err(problem) => {
            eprintln!("adapters: {problem}");
            None
        }
    };
    if options.json {
        let counts: Option<Vec<_>> =
            counts.as_ref().map(|counts| counts.iter().map(Count::json).collect());
        let rates: Vec<_> = rates.iter().map(Rate::json).collect();
        println!("{}", serde_json::json!({ "rates": rates, "counts": counts }));
        return Ok(());
    }
    Rate::print(&rates);
    if let Some(counts) = counts {
        Count::print(&counts);
        if options.functions {
            counts.iter().for_each(Count::print_functions);
        }
    }
    Ok(())
}

/// Processor time of this process so far, in ticks of the system, as Linux tells it.
fn processor_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in front may hold anything; what follows its parenthesis does not. Fields 14 and 15
    // of all are user and system time of all threads, also of those that have ended.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// What the rounds of one side came to.
#[derive(Default)]
struct Sum {
    rates: Vec<f64>,
    done: u64,
    ticks: u64,
}

impl Sum {
    #[allow(clippy::cast_precision_loss)] // far below 2⁵³
    fn ticks_per_request(&self) -> f64 {
        self.ticks as f64 / self.done as f64
    }
}

/// Requests per second of both sides.
struct Rate {
    kind: Kind,
    concurrent: usize,
    raw: f64,
    origin: f64,
    /// Processor time of a request, raw to Origin: what the ratio would be if the processor were
    /// the only limit. Nobody else's work is in it. Not a number where the system does not say.
    processor: f64,
    /// Origin to raw of each pair of neighbouring rounds, in ascending order.
    ratios: Vec<f64>,
}

impl Rate {
    fn measure(
        kind: Kind,
        pair: &dyn pairs::Pair,
        concurrent: usize,
        effort: &Effort,
    ) -> Outcome<Rate> {
        let (mut raw, mut origin, mut ratios) = (Sum::default(), Sum::default(), Vec::new());
        let round = |side, sum: &mut Sum| -> Outcome<f64> {
            let before = processor_time();
            let done = pair.round(side, concurrent, Length::Time(effort.round))?;
            if let (Some(before), Some(after)) = (before, processor_time()) {
                sum.ticks += after - before;
            }
            #[allow(clippy::cast_precision_loss)] // far below 2⁵³
            let rate = done as f64 / effort.round.as_secs_f64();
            sum.done += done;
            sum.rates.push(rate);
            Ok(rate)
        };
        for _ in 0..effort.rounds {
            let (raw, origin) = (round(Side::Raw, &mut raw)?, round(Side::Origin, &mut origin)?);
            ratios.push(origin / raw);
        }
        let processor = raw.ticks_per_request() / origin.ticks_per_request();
        let (raw, origin) = (median(&mut raw.rates), median(&mut origin.rates));
        ratios.sort_by(f64::total_cmp);
        Ok(Rate { kind, concurrent, raw, origin, processor, ratios })
    }

    fn ratio(&self) -> f64 {
        self.ratios[self.ratios.len() / 2]
    }

    fn aim(&self) -> Option<f64> {
        (CONCURRENT.last() == Some(&self.concurrent)).then_some(RATIO)
    }

    fn print(rates: &[Rate]) {
        println!(
            "{:<10} {:>10} {:>12} {:>12} {:>7} {:>15} {:>10}  aim of ratio",
            "adapter", "concurrent", "raw req/s", "origin req/s", "ratio", "quartiles", "cpu ratio"
        );
        for rate in rates {
            let (quarter, last) = (rate.ratios.len() / 4, rate.ratios.len() - 1);
            let spread =
                format!("{:.3} – {:.3}", rate.ratios[quarter], rate.ratios[last - quarter]);
            println!(
                "{:<10} {:>10} {:>12.0} {:>12.0} {:>7.3} {:>15} {:>10.3}  {}",
                rate.kind.name(),
                rate.concurrent,
                rate.raw,
                rate.origin,
                rate.ratio(),
                spread,
                rate.processor,
                rate.aim().map_or_else(String::new, |aim| met(rate.ratio() >= aim, "≥", aim)),
            );
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "adapter": self.kind.name(),
            "concurrent": self.concurrent,
            "raw_per_second": self.raw,
            "origin_per_second": self.origin,
            "ratio": self.ratio(),
            "processor_ratio": self.processor,
            "ratios": self.ratios,
            "aim": self.aim(),
        })
    }
}

/// User instructions and allocations per request of both sides.
struct Count {
    kind: Kind,
    raw: Cost,
    origin: Cost,
    /// Instructions more than raw, of each repetition, in ascending order.
    more: Vec<f64>,
}

impl Count {
    fn measure(kind: Kind, url: &str, effort: &Effort) -> Outcome<Count> {
        let cost = |side: &str| {
            callgrind::cost(effort.requests, PATIENCE, ONE_THREAD, |n| {
                ["--run", kind.name(), side, url, &n.to_string()].map(str::to_owned).to_vec()
            })
        };
        let (mut raws, mut origins) = (Vec::new(), Vec::new());
        for _ in 0..effort.repetitions {
            raws.push(cost("raw")?);
            origins.push(cost("origin")?);
        }
        let mut more: Vec<f64> = raws
            .iter()
            .zip(&origins)
            .map(|(raw, origin)| origin.instructions - raw.instructions)
            .collect();
        more.sort_by(f64::total_cmp);
        Ok(Count { kind, raw: typical(raws)?, origin: typical(origins)?, more })
    }

    fn more(&self) -> f64 {
        self.more[self.more.len() / 2]
    }

    fn print(counts: &[Count]) {
        println!(
            "\n{:<10} {:>13} {:>13} {:>7} {:>15} {:>8} {:>8}  aim",
            "adapter", "raw instr/req", "origin", "more", "least – most", "raw alloc", "origin"
        );
        for count in counts {
            let more = &count.more;
            let spread = format!("{:.0} – {:.0}", more[0], more[more.len() - 1]);
            println!(
                "{:<10} {:>13.0} {:>13.0} {:>7.0} {:>15} {:>8.1} {:>8.1}  {}",
                count.kind.name(),
                count.raw.instructions,
                count.origin.instructions,
                count.more(),
                spread,
                count.raw.allocations,
                count.origin.allocations,
                met(count.more() <= MORE, "≤", MORE),
            );
        }
    }

    /// The functions that differ most: where the instructions are.
    fn print_functions(&self) {
        let of = |cost: &Cost, name: &str| cost.functions.get(name).copied().unwrap_or(0.0);
        let names: BTreeSet<&String> =
            self.raw.functions.keys().chain(self.origin.functions.keys()).collect();
        let mut rows: Vec<(f64, &String)> = names
            .into_iter()
            .map(|name| (of(&self.origin, name) - of(&self.raw, name), name))
            .collect();
        rows.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        println!(
            "\n{}: instructions per request more than raw, by function, without callees",
            self.kind.name()
        );
        for (more, name) in rows.iter().take(40) {
            println!("{more:>8.0}  {name}");
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "adapter": self.kind.name(),
            "raw_instructions": self.raw.instructions,
            "origin_instructions": self.origin.instructions,
            "more": self.more(),
            "all": self.more,
            "aim": MORE,
            "raw_allocations": self.raw.allocations,
            "origin_allocations": self.origin.allocations,
        })
    }
}

fn met(met: bool, relation: &str, aim: f64) -> String {
    format!("{relation} {aim}: {}", if met { "met" } else { "MISSED" })
}

/// The repetition in the middle.
fn typical(mut costs: Vec<Cost>) -> Outcome<Cost> {
    costs.sort_by(|a, b| a.instructions.total_cmp(&b.instructions));
    let middle = costs.len() / 2;
    costs.into_iter().nth(middle).ok_or_else(|| "nothing was measured".into())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
