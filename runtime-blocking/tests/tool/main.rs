//! The commands of the tool as a script and a person see them, against the laboratory's servers and
//! against mistakes. One idea is one room; `origin call` and the demo itself are in `cli.rs`.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

mod bench;
mod consul;
mod endings;
mod hostile;
mod pages;
mod pty;
mod screen;
mod settings;
mod states;
mod terminal;
mod things;
