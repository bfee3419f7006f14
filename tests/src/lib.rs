//! The proof: scenarios that every driver and the simulator play alike, and the simulator that
//! runs whole clients in virtual time. And how a test becomes one per runtime.
//!
//! ```
//! use origin_tests::scenario::{Scenario, play};
//! use origin_tests::sim::SimStage;
//!
//! let scenario = Scenario::parse(r#"
//!     name = "the primary stands in"
//!     proves = ["000-09"]
//!     local = "beta"
//!     clusters = [
//!         { name = "alpha", role = "primary", endpoints = ["ok"] },
//!         { name = "beta", endpoints = ["refuse"] },
//!     ]
//!     [[steps]]
//!     call = { expect = { status = 200, path = ["beta", "alpha"] } }
//! "#)?;
//! let mut stage = SimStage::new(&scenario, 7, false)?;   // seed 7, no background
//! play(&scenario, &mut stage)?;
//! assert!(stage.world().violations().is_empty());
//! # Ok::<(), String>(())
//! ```
//!
//! | where | what |
//! |---|---|
//! | [`scenario`] | files of what a client meets and must make of it (`tests/scenarios`), and their walk |
//! | [`sim`] | whole clients in virtual time over a network that misbehaves on command |
//! | `runtimes.rs` | macros: one test per runtime |
//! | `tests/conformance/` | the suite over real sockets, on every adapter |
//! | `tests/real/` | Consul, Redis, BIND, dnsmasq, RustyVault, the mesh |
//! | `lab/`, `servers/` | the fault server and the scripted outage; real servers, started and broken |
//!
//! What proves what is in `docs/DESIGN.md` and `docs/REQUIREMENTS.md`.

pub use origin_lab::bridge;
mod runtimes;
pub mod scenario;
pub mod sim;
