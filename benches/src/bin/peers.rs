//! Plays the same sequences on Origin and on other crates, side by side: what their breakers do
//! where breakers go wrong, and how many repeats their budgets grant.
//!
//! `cargo run --release -p origin-benches --features peers --bin peers`. It takes a few seconds,
//! because the others have to be waited for in real time. Exits with 1 when Origin does not do
//! what it should; the others are only shown.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program prints

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use origin_benches::sequences::breakers::{self, ALL};
use origin_benches::sequences::{
    OPEN, PATIENCE, PROBE_MAX, Recovery, Unplayable, at_once, dropped_probe, hanging_probe,
    straggler_closes,
};
use origin_core::Time;
use origin_core::config::BudgetConfig;
use origin_core::policy::budget::{self, Budget};
use tower::retry::budget::{Budget as _, TpsBudget};

/// Probes configured where ten calls come at once.
const PROBES: usize = 2;

/// Calls that earn repeats.
const DEPOSITS: u64 = 10_000;

/// Repeats per call, in percent.
const RATIOS: [u64; 7] = [10, 30, 75, 99, 150, 40_000, 60_000];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("peers: Origin does not do what it should");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("peers: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let breakers = breakers_right()?;
    println!();
    Ok(budgets_right()? & breakers)
}

/// What one breaker did.
struct Found {
    at_once: Result<usize, Unplayable>,
    closed_by_straggler: Result<bool, Unplayable>,
    dropped: Result<Option<Recovery>, Unplayable>,
    hanging: Result<Option<Recovery>, Unplayable>,
}

impl Found {
    fn of(make: breakers::Make) -> Result<Found, Box<dyn Error>> {
        Ok(Found {
            at_once: at_once(&mut *make(PROBES)?),
            closed_by_straggler: straggler_closes(&mut *make(1)?),
            dropped: dropped_probe(&mut *make(1)?),
            hanging: hanging_probe(&mut *make(1)?),
        })
    }

    /// No more probes than configured; a straggler decides nothing; a probe that is dropped or
    /// hangs holds nobody up for longer than it may.
    fn right(&self) -> bool {
        let soon = |recovery: &Recovery| recovery.after <= PROBE_MAX + OPEN * 2;
        self.at_once == Ok(PROBES)
            && self.closed_by_straggler == Ok(false)
            && matches!(&self.dropped, Ok(Some(Recovery { refused: 0, .. })))
            && matches!(&self.hanging, Ok(Some(recovery)) if soon(recovery))
    }
}

fn breakers_right() -> Result<bool, Box<dyn Error>> {
    println!(
        "open for {OPEN:?}; reached: of ten calls at once in half-open, {PROBES} probes configured \
         where that can be said;\nstraggler: two successes from before the trip while a probe is \
         out; probe dropped, probe hangs: then\ntraffic resumes against a sound backend (Origin \
         waits {PROBE_MAX:?} for a probe)\n"
    );
    println!(
        "{:<22} {:>7}  {:<16} {:<26} probe hangs",
        "breaker", "reached", "straggler", "probe dropped"
    );
    let mut right = true;
    for (name, make) in ALL {
        let found = Found::of(make)?;
        right &= name != "Origin" || found.right();
        println!(
            "{name:<22} {:>7}  {:<16} {:<26} {}",
            text(found.at_once, |reached| reached.to_string()),
            text(found.closed_by_straggler, |closes| {
                if closes { "CLOSES IT" } else { "changes nothing" }.to_owned()
            }),
            text(found.dropped, recovery),
            text(found.hanging, recovery),
        );
    }
    Ok(right)
}

fn text<T>(found: Result<T, Unplayable>, say: impl FnOnce(T) -> String) -> String {
    found.map_or_else(|unplayable| unplayable.to_string(), say)
}

fn recovery(recovery: Option<Recovery>) -> String {
    match recovery {
        Some(Recovery { refused: 0, .. }) => "recovers at once".to_owned(),
        Some(Recovery { after, refused }) => format!("after {after:?}, {refused} refused"),
        None => format!("NOT WITHIN {PATIENCE:?}"),
    }
}

fn budgets_right() -> Result<bool, Box<dyn Error>> {
    println!("repeats granted after {DEPOSITS} calls, without a floor");
    println!("{:>8} {:>10} {:>10} {:>22}", "ratio", "exact", "Origin", "tower 0.5.3 TpsBudget");
    let mut right = true;
    for percent in RATIOS {
        let exact = DEPOSITS * percent / 100;
        let (ours, towers) = (origin(percent)?, tower(percent));
        right &= ours == exact;
        let ratio =
            if percent < 1_000 { format!("{percent} %") } else { format!("{}x", percent / 100) };
        let wrong = |granted| if granted == exact { "" } else { "  WRONG" };
        println!("{ratio:>8} {exact:>10} {ours:>10}{} {towers:>22}{}", wrong(ours), wrong(towers));
    }
    Ok(right)
}

#[allow(clippy::cast_precision_loss)] // percents below 10⁶
fn origin(percent: u64) -> Result<u64, Box<dyn Error>> {
    let config = BudgetConfig { enabled: true, ratio: percent as f64 / 100.0, min_per_second: 0 };
    let settings = budget::Settings::of(&config, "budget")?;
    let mut budget = Budget::default();
    (0..DEPOSITS).for_each(|_| budget.deposit(Time::ZERO));
    Ok(count(|| budget.withdraw(Time::ZERO, &settings).is_some()))
}

#[allow(clippy::cast_precision_loss)] // percents below 10⁶
fn tower(percent: u64) -> u64 {
    // The longest window there is, so that nothing leaves it meanwhile.
    let budget = TpsBudget::new(Duration::from_secs(60), 0, percent as f32 / 100.0);
    (0..DEPOSITS).for_each(|_| budget.deposit());
    count(|| budget.withdraw())
}

fn count(mut grant: impl FnMut() -> bool) -> u64 {
    let mut granted = 0;
    while grant() {
        granted += 1;
    }
    granted
}
