//! What Origin costs. Several questions, a program each; this library holds what they share.
//!
//! | question | program | shared file |
//! |---|---|---|
//! | How many nanoseconds is a decision? | `benches/core.rs` (criterion) | `cases.rs` |
//! | How many instructions and allocations is a decision, exactly? | `bin/counts.rs` | `cases.rs`, `callgrind.rs` |
//! | The same of each policy alone, and of other crates? | `benches/policies.rs`, `bin/counts.rs` | `policies/` |
//! | What is a cache hit, what a miss, and how many hits are there? | `benches/cache.rs`, `benches/hit_ratio.rs` | `caches.rs` |
//! | What is it to write each typed operation, and to read its answer? | `benches/codecs.rs`, `bin/codecs.rs` | `codecs.rs` |
//! | What does a client take that is never used? | `benches/idle.rs` | |
//! | What does discovery cost: a lookup, a refresh, memory? | `benches/discovery.rs` | |
//! | What does looking cost: a snapshot, a page of metrics? | `benches/metrics.rs` | |
//! | What does a new connection take, and a large object? | `bin/handshakes.rs`, `bin/storage.rs` | |
//! | Which level answers a lookup of discovery, in a fleet over one Redis? | `benches/levels.rs` | `levels.rs` |
//! | How many bytes do policies take? | `benches/memory.rs` | |
//! | What do other crates do where breakers go wrong? | `bin/peers.rs` (feature `peers`) | `sequences/` |
//! | What does Origin add to the HTTP client below it? | `bin/adapters.rs` | `pairs/`, `callgrind.rs` |
//!
//! Wall-clock time is reported and never judged: it belongs to the machine and to whoever else
//! is using it. Judged are counts, which are the same for everybody with the same compiler. How to
//! run them is in `benches/README.md`, what they said in `docs/FIGURES.md` and `benches/records`.

pub mod caches;
pub mod callgrind;
pub mod cases;
pub mod codecs;
pub mod levels;
pub mod pairs;
pub mod policies;
#[cfg(feature = "peers")]
pub mod sequences;

// Every operation of every typed client: the list of the core's tests.
#[path = "../../core/tests/operations/mod.rs"]
#[allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]
mod operations;
