//! A response whose body is still to come.

use http::{HeaderMap, StatusCode};
use origin_core::Report;

/// A response decided at its head; the body is the adapter's own. The call's total deadline and
/// its body limit apply to reading it too, and a body that breaks off counts against its
/// endpoint.
#[derive(Debug)]
pub struct Streaming<B> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: B,
    /// How it came about.
    pub report: Report,
}
