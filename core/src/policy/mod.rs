//! The policies, each a small machine of its own with time and randomness as arguments.
//! Their numbers are in [`crate::config::policy`]; their composition is in [`crate::call`].

pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod concurrency;
pub mod health;
pub mod hedge;
pub mod latency;
pub mod outlier;
pub mod queue;
pub mod rate;
pub mod remaining;
pub mod retryable;
pub mod stall;
pub mod throttle;
pub mod tiers;
pub mod timeout;
pub mod tokens;
