//! What can be seen of a client: notices for subscribers and logs, the lines and spans of calls,
//! the trace that attempts are told of. Everything is said outside of locks, and nothing here
//! decides anything; a call goes the same way whoever listens.
//!
//! With the feature `tracing` lines and spans go to that crate; where no subscriber is installed,
//! each costs one look at its static level. Without the feature their places are empty.

pub(crate) mod bell;
pub(crate) mod carried;
pub(crate) mod context;
pub(crate) mod feed;
#[cfg(feature = "tracing")]
mod lines;
#[cfg(feature = "tracing")]
pub(crate) mod logs;
#[cfg(not(feature = "tracing"))]
mod nothing;
#[cfg(feature = "tracing")]
mod sight;

#[cfg(feature = "tracing")]
pub(crate) use lines::remark;
#[cfg(feature = "tracing")]
pub(crate) use logs::Voice;
#[cfg(not(feature = "tracing"))]
pub(crate) use nothing::{Going, Sight, Voice, remark};
#[cfg(feature = "tracing")]
pub(crate) use sight::{Going, Sight};
