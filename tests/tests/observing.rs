//! What is seen of a client from outside, on every runtime: the lines of calls and notices as a
//! `tracing` subscriber gets them, spans, the ids that tie them to what servers see, and the
//! subscription to notices.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use] // on_every_runtime, on_every_async_runtime, on_runtimes
extern crate origin_tests;

#[allow(dead_code)] // what the other binary of the suite uses
#[path = "conformance/subject.rs"]
mod subject;

#[path = "observing/capture.rs"]
mod capture;
#[path = "observing/feed.rs"]
mod feed;
#[path = "observing/lines.rs"]
mod lines;
#[path = "observing/notices.rs"]
mod notices;
#[path = "observing/spans.rs"]
mod spans;
