//! What the servers really do, as far as the client relies on it: if one of these fails after an
//! update of a server, the client's assumptions have to be looked at. And what the harness
//! promises. Nothing here uses the library.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod acl;
mod cluster;
mod consul;
mod dns;
mod harness;
mod redis;
mod tls;
mod vault;
