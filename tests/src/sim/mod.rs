//! The simulator: whole clients in virtual time. A [`World`] holds the machines of one client
//! (directory, services, calls) and drives them exactly as `origin-driver` does: a call looks
//! after discovery when that is due, parks until the epoch moves, carries a fetch if nobody else
//! does; a background may ask for jobs as well. Around it is a [`Network`] that misbehaves on
//! command and a queue of what happens when.
//!
//! There is no clock, no thread and no sleep: time is the time of the next event. Events of the
//! same instant are shuffled, because real timers and wake-ups come in any order. Everything is
//! drawn from one seed, so a run can be repeated bit for bit; [`seed`] reads it from the
//! environment.

mod audit;
pub mod crowd;
mod drive;
mod jobs;
mod net;
pub mod outage;
mod queue;
mod random;
mod record;
mod stage;
pub mod stall;
mod world;

pub use net::{Latency, Network, Server};
pub use random::random_run;
pub use record::{Done, Entry, Figures, What};
pub use stage::SimStage;
pub use world::{Change, Load, Turn, World};

/// The seed of this run: `ORIGIN_SIM_SEED`, or the given one.
#[must_use]
pub fn seed(otherwise: u64) -> u64 {
    let text = std::env::var("ORIGIN_SIM_SEED").ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(otherwise)
}
