//! What is retried, as a person writes it. The rules in force are
//! [`crate::policy::retryable`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds of failure, as coarse as a person wants to name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// No connection: name not found, refused, unreachable, or connecting timed out.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No complete answer in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// The answer is not valid HTTP or its head is too large; or the address is not an HTTP one.
    Protocol,
    /// The peer said that it is asked too often: one of the `throttled` statuses.
    Throttled,
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultClass::Connect => "connect",
            FaultClass::Tls => "tls",
            FaultClass::Timeout => "timeout",
            FaultClass::Reset => "reset",
            FaultClass::Protocol => "protocol",
            FaultClass::Throttled => "throttled",
        })
    }
}

/// Request methods, as far as rules tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // the methods of RFC 9110 and RFC 5789
pub enum MethodClass {
    Get,
    Head,
    Put,
    Delete,
    Options,
    Trace,
    Post,
    Patch,
    /// Any other method.
    #[default]
    Other,
}

impl fmt::Display for MethodClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MethodClass::Get => "GET",
            MethodClass::Head => "HEAD",
            MethodClass::Put => "PUT",
            MethodClass::Delete => "DELETE",
            MethodClass::Options => "OPTIONS",
            MethodClass::Trace => "TRACE",
            MethodClass::Post => "POST",
            MethodClass::Patch => "PATCH",
            MethodClass::Other => "this method",
        })
    }
}

impl From<&http::Method> for MethodClass {
    fn from(method: &http::Method) -> MethodClass {
        match *method {
            http::Method::GET => MethodClass::Get,
            http::Method::HEAD => MethodClass::Head,
            http::Method::PUT => MethodClass::Put,
            http::Method::DELETE => MethodClass::Delete,
            http::Method::OPTIONS => MethodClass::Options,
            http::Method::TRACE => MethodClass::Trace,
            http::Method::POST => MethodClass::Post,
            http::Method::PATCH => MethodClass::Patch,
            _ => MethodClass::Other,
        }
    }
}

/// Which outcomes of which requests are retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ClassesConfig {
    /// Kinds of failure that are retried. Default all but throttled.
    pub faults: Vec<FaultClass>,
    /// Answers that are retried, 500–599. Default 500, 502, 503, 504.
    pub statuses: Vec<u16>,
    /// Answers that say "asked too often", 400–599; retried with the class `throttled`, which
    /// has its own wait and price. Default 429.
    pub throttled: Vec<u16>,
    /// Methods whose requests may be repeated though they may have arrived. Default the
    /// idempotent ones of RFC 9110: GET, HEAD, PUT, DELETE, OPTIONS, TRACE.
    pub methods: Vec<MethodClass>,
    /// A failed answer with this header is never retried: the peer is overloaded and says so, and
    /// only the caller next to it should try again. Default `x-origin-overloaded`; `""` for none.
    pub overloaded_header: String,
    /// Answers that say the same by their status, 400–599. Default none.
    pub overloaded: Vec<u16>,
}

impl Default for ClassesConfig {
    fn default() -> Self {
        use FaultClass::{Connect, Protocol, Reset, Timeout, Tls};
        use MethodClass::{Delete, Get, Head, Options, Put, Trace};
        ClassesConfig {
            faults: vec![Connect, Tls, Timeout, Reset, Protocol],
            statuses: vec![500, 502, 503, 504],
            throttled: vec![429],
            methods: vec![Get, Head, Put, Delete, Options, Trace],
            overloaded_header: "x-origin-overloaded".to_owned(),
            overloaded: vec![],
        }
    }
}
