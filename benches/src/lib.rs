//! What Origin costs. Three questions, three programs; this library holds what they share.
//!
//! | question | program | shared file |
//! |---|---|---|
//! | How many nanoseconds is a decision? | `benches/core.rs` (criterion) | `cases.rs` |
//! | How many instructions and allocations is a decision, exactly? | `bin/counts.rs` | `cases.rs`, `callgrind.rs` |
//! | What does Origin add to the HTTP client below it? | `bin/adapters.rs` | `pairs/`, `callgrind.rs` |
//!
//! Wall-clock time is reported and never judged: it belongs to the machine and to whoever else
//! is using it. Judged are counts, which are the same for everybody with the same compiler.

pub mod callgrind;
pub mod cases;
pub mod pairs;
