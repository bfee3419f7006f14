//! What an attempt met, as facts ([`Outcome`]), and how the policies read it ([`Class`]).
//! Adapters report facts; only this file judges them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What went wrong on the wire, as far as an adapter can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The host name has no address.
    Resolve,
    /// No connection: refused, unreachable, reset while connecting.
    Connect,
    /// Name resolution, TCP or TLS handshake took longer than the connect limit.
    ConnectTimeout,
    /// The TLS handshake failed: wrong name, unknown authority, expired certificate.
    Tls,
    /// The deadline of the attempt passed.
    Timeout,
    /// The connection broke after the request may have left.
    Reset,
    /// The peer does not speak HTTP, or broke its rules.
    Protocol,
    /// The response head exceeds the limit.
    HeadTooLarge,
    /// The response body exceeds the limit.
    BodyTooLarge,
    /// The address is not an HTTP address.
    NotHttp,
    /// The HTTP library refuses to send the request as it is.
    Request,
    /// Given up by the call: the endpoint had gone silent, and others could answer. Never
    /// reported by an adapter.
    Stalled,
    /// Given up by the call: another attempt of it answered first. Never reported by an adapter.
    Outrun,
}

impl Fault {
    /// The fault in a few plain words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Fault::Resolve => "host name not found",
            Fault::Connect => "connection refused or unreachable",
            Fault::ConnectTimeout => "connecting timed out",
            Fault::Tls => "TLS handshake failed",
            Fault::Timeout => "no complete answer in time",
            Fault::Reset => "connection broke",
            Fault::Protocol => "answer is not valid HTTP",
            Fault::HeadTooLarge => "response head exceeds limits.head",
            Fault::BodyTooLarge => "response body exceeds the body limit",
            Fault::NotHttp => "address is not http or https",
            Fault::Request => "request cannot be sent as it is; look at its headers",
            Fault::Stalled => "given up, the endpoint had gone silent",
            Fault::Outrun => "given up, another attempt answered first",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Whether the request can have reached the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// Certainly not: repeating it is always safe.
    Never,
    /// Perhaps: only an idempotent request may be repeated.
    Maybe,
}

/// A `Retry-After` of the peer, in milliseconds; [`Pushback::NONE`] when there was none. Written as
/// that number, `"forbidden"` or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Option<Written>", into = "Option<Written>")]
pub struct Pushback(u32);

/// How it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Millis(u32),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Forbidden,
}

impl From<Option<Written>> for Pushback {
    fn from(written: Option<Written>) -> Pushback {
        match written {
            None => Pushback::NONE,
            Some(Written::Word(Word::Forbidden)) => Pushback::FORBIDDEN,
            Some(Written::Millis(millis)) => Pushback::after(Duration::from_millis(millis.into())),
        }
    }
}

impl From<Pushback> for Option<Written> {
    fn from(pushback: Pushback) -> Option<Written> {
        match pushback {
            Pushback::NONE => None,
            Pushback::FORBIDDEN => Some(Written::Word(Word::Forbidden)),
            Pushback(millis) => Some(Written::Millis(millis)),
        }
    }
}

impl Default for Pushback {
    fn default() -> Pushback {
        Pushback::NONE
    }
}

impl Pushback {
    /// The peer asked for nothing.
    pub const NONE: Pushback = Pushback(u32::MAX);

    /// The peer asked not to be asked again.
    pub const FORBIDDEN: Pushback = Pushback(u32::MAX - 1);

    /// The peer asked to wait for `span`; longer than 49 days is 49 days.
    #[must_use]
    pub fn after(span: Duration) -> Pushback {
        Pushback(u32::try_from(span.as_millis()).unwrap_or(u32::MAX).min(u32::MAX - 2))
    }

    /// Whether the peer asked for nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Pushback::NONE
    }

    /// The span asked for.
    #[must_use]
    pub fn span(self) -> Option<Duration> {
        (self.0 < u32::MAX - 1).then(|| Duration::from_millis(u64::from(self.0)))
    }
}

/// What an attempt met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A response arrived: its head, and its body where the call collects it.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, if any.
        #[serde(default, skip_serializing_if = "Pushback::is_none")]
        pushback: Pushback,
    },
    /// No usable response.
    Failed {
        /// What went wrong.
        fault: Fault,
        /// Whether the request can have left.
        sent: Sent,
    },
}

impl Outcome {
    /// An answer without pushback.
    #[must_use]
    pub const fn status(status: u16) -> Outcome {
        Outcome::Answered { status, pushback: Pushback::NONE }
    }

    /// How policies count it.
    ///
    /// 5xx is the endpoint's failure, except 501 and 505 which say that it works and will not do
    /// this. 429 says that it has too much to do, 408 nothing about its health. Any other answer
    /// shows that it is alive:
    /// a 4xx is the caller's mistake and never opens a breaker (000-44).
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Outcome::Answered { status: 408, .. } => Class::Ignored,
            Outcome::Answered { status: 429, .. } => Class::Throttled,
            Outcome::Answered { status: 501 | 505, .. } => Class::Success,
            Outcome::Answered { status: 500.., .. } => Class::Failure,
            Outcome::Answered { .. } => Class::Success,
            Outcome::Failed {
                fault:
                    Fault::BodyTooLarge
                    | Fault::NotHttp
                    | Fault::Request
                    | Fault::Stalled
                    | Fault::Outrun,
                ..
            } => Class::Ignored,
            Outcome::Failed { .. } => Class::Failure,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered { status, .. } => write!(f, "answered {status}"),
            Outcome::Failed { fault, .. } => f.write_str(fault.text()),
        }
    }
}

/// How an outcome counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The endpoint did its work.
    Success,
    /// The endpoint failed.
    Failure,
    /// The endpoint has more to do than it wants. Counts in failure rates and fails a half-open
    /// attempt, but is no failure in a row (as in linkerd).
    Throttled,
    /// Says nothing about the endpoint; gives the permit back.
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_written_for_people_and_read_back() {
        let millis = Pushback::after(Duration::from_millis(1_500));
        for (pushback, text) in [
            (Pushback::NONE, r#"{"answered":{"status":503}}"#),
            (Pushback::FORBIDDEN, r#"{"answered":{"status":503,"pushback":"forbidden"}}"#),
            (millis, r#"{"answered":{"status":503,"pushback":1500}}"#),
        ] {
            let outcome = Outcome::Answered { status: 503, pushback };
            assert_eq!(serde_json::to_string(&outcome).unwrap(), text);
            assert_eq!(serde_json::from_str::<Outcome>(text).unwrap(), outcome);
        }
    }

    #[test]
    fn case_000_44_client_mistakes_are_not_failures() {
        for status in [200, 204, 304, 400, 401, 403, 404, 422, 501, 505] {
            assert_eq!(Outcome::status(status).class(), Class::Success, "{status}");
        }
        for status in [500, 502, 503, 504, 507, 599] {
            assert_eq!(Outcome::status(status).class(), Class::Failure, "{status}");
        }
        assert_eq!(Outcome::status(429).class(), Class::Throttled);
        assert_eq!(Outcome::status(408).class(), Class::Ignored);
    }

    #[test]
    fn pushback_is_bounded() {
        assert_eq!(Pushback::after(Duration::from_secs(3)).span(), Some(Duration::from_secs(3)));
        assert!(Pushback::after(Duration::MAX).span().is_some());
        assert_eq!(Pushback::NONE.span(), None);
    }
}
