//! One call as it is seen from outside: a span for it, a span for each attempt below it, and its
//! lines within them. Names are those of OpenTelemetry for HTTP clients, with `origin.*` for what
//! only this library knows; numbers are `i64`, the only ones that OpenTelemetry has. The spans are not entered while a call waits, only while something is
//! said in them; they begin and end with what they are about.

use http::Uri;
use origin_core::call::{AttemptId, Choice};
use origin_core::outcome::Outcome;
use origin_core::request::Ids;
use origin_core::{Error, Request, Time};
use tracing::field::{Empty, display};
use tracing::{Level, Span};

use super::lines::{self, Shown, Whose};

/// What is seen of a call; empty where nobody looks.
#[derive(Default)]
pub(crate) struct Sight(Option<Box<Open>>);

struct Open {
    call: Span,
    out: Vec<Out>,
}

struct Out {
    attempt: AttemptId,
    span: Span,
    uri: Uri,
}

/// Where an attempt goes.
pub(crate) struct Going<'a> {
    pub(crate) attempt: AttemptId,
    pub(crate) of: u8,
    pub(crate) uri: &'a Uri,
    pub(crate) cluster: &'a str,
    pub(crate) why: Choice,
}

impl Sight {
    /// The call begins. The span that is current now is its parent.
    #[inline]
    pub(crate) fn open(&mut self, service: &str, request: &Request) {
        if tracing::level_enabled!(Level::INFO) {
            self.open_now(service, request);
        }
    }

    #[cold]
    fn open_now(&mut self, service: &str, request: &Request) {
        let call = tracing::info_span!(
            target: "origin::call",
            "call",
            "otel.name" = %format_args!("{service} {}", request.method),
            "otel.kind" = "internal",
            "http.request.method" = %request.method,
            "http.response.status_code" = Empty,
            "error.type" = Empty,
            "otel.status_code" = Empty,
            "origin.service" = service,
            "origin.attempts" = Empty,
            correlation_id = Empty,
        );
        self.0 = Some(Box::new(Open { call, out: Vec::new() }));
    }

    /// Whether anybody looks.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// An attempt is about to be sent.
    pub(crate) fn attempt(&mut self, service: &str, request: &Request, going: &Going<'_>) {
        let Some(open) = &mut self.0 else { return };
        let Going { attempt, uri, cluster, why, .. } = going;
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        let span = tracing::info_span!(
            target: "origin::call",
            parent: &open.call,
            "attempt",
            "otel.name" = %request.method,
            "otel.kind" = "client",
            "http.request.method" = %request.method,
            "http.request.resend_count" = (attempt.0 > 1).then(|| i64::from(attempt.0) - 1),
            "server.address" = uri.host(),
            "server.port" = i64::from(port),
            "url.full" = %Shown(uri),
            "http.response.status_code" = Empty,
            "error.type" = Empty,
            "otel.status_code" = Empty,
            "origin.service" = service,
            "origin.cluster" = cluster,
            "origin.decision" = %why,
        );
        open.out.push(Out { attempt: *attempt, span, uri: (*uri).clone() });
    }

    /// Does this within the span of an attempt.
    pub(crate) fn within<T>(&self, attempt: AttemptId, then: impl FnOnce() -> T) -> T {
        match self.out(attempt) {
            Some(out) => out.span.in_scope(then),
            None => then(),
        }
    }

    fn out(&self, attempt: AttemptId) -> Option<&Out> {
        self.0.as_ref()?.out.iter().find(|out| out.attempt == attempt)
    }

    /// The line before it is sent, when its ids are known.
    pub(crate) fn sent(&self, service: &str, request: &Request, ids: &Ids, going: &Going<'_>) {
        let Some(open) = &self.0 else { return };
        if let Some(id) = ids.correlation.as_ref().filter(|_| going.attempt.0 == 1) {
            open.call.record("correlation_id", id.as_str());
        }
        self.within(going.attempt, || {
            let whose = Whose { service, ids };
            lines::request(whose, &request.method, going.uri, going.attempt, going.of);
        });
    }

    /// An attempt has ended, or was given up.
    #[inline]
    pub(crate) fn ended(
        &mut self,
        service: &str,
        request: &Request,
        ids: &Ids,
        attempt: AttemptId,
        outcome: Outcome,
    ) {
        let failed = matches!(outcome, Outcome::Failed { .. });
        if failed || self.is_open() {
            self.ended_now(Whose { service, ids }, request, attempt, outcome);
        }
    }

    #[cold]
    fn ended_now(
        &mut self,
        whose: Whose<'_>,
        request: &Request,
        attempt: AttemptId,
        outcome: Outcome,
    ) {
        use origin_core::outcome::Fault;
        let place =
            self.0.as_ref().and_then(|open| open.out.iter().position(|o| o.attempt == attempt));
        let out = place.and_then(|place| Some(self.0.as_mut()?.out.swap_remove(place)));
        let span = out.as_ref().map_or_else(Span::none, |out| out.span.clone());
        let say = || match (outcome, &out) {
            (Outcome::Answered { status, .. }, Some(out)) => {
                lines::response(whose, &request.method, &out.uri, attempt, status);
            }
            // Another one has answered: nothing is wrong with this one.
            (Outcome::Answered { .. } | Outcome::Failed { fault: Fault::Outrun, .. }, _) => (),
            (Outcome::Failed { fault, .. }, _) => lines::transient(whose, attempt, &fault),
        };
        // Without a span of its own it belongs to whoever calls.
        if span.is_none() {
            say()
        } else {
            span.in_scope(say)
        }
        match outcome {
            Outcome::Answered { status, .. } => {
                span.record("http.response.status_code", i64::from(status));
                if status >= 400 {
                    span.record("error.type", display(status));
                    span.record("otel.status_code", "ERROR");
                }
            }
            Outcome::Failed { fault: Fault::Outrun, .. } => {
                span.record("error.type", "outrun");
            }
            Outcome::Failed { fault, .. } => {
                span.record("error.type", word(&fault).as_str());
                span.record("otel.status_code", "ERROR");
            }
        }
    }

    /// The attempt that has ended is repeated, in `wait`.
    pub(crate) fn repeated(
        &self,
        service: &str,
        ids: &Ids,
        (attempt, outcome): (AttemptId, Outcome),
        (now, until): (Time, Time),
    ) {
        let whose = Whose { service, ids };
        let say = || {
            // What failed without an answer has been told.
            if let Outcome::Answered { .. } = outcome {
                lines::transient(whose, attempt, &outcome);
            }
            lines::retrying(whose, now.until(until));
        };
        match &self.0 {
            Some(open) => open.call.in_scope(say),
            None => say(),
        }
    }

    /// The call has an answer.
    pub(crate) fn answered(&mut self, last: Option<Outcome>, attempts: usize) {
        let Some(open) = self.0.take() else { return };
        open.call.record("origin.attempts", i64::try_from(attempts).unwrap_or(i64::MAX));
        if let Some(Outcome::Answered { status, .. }) = last {
            open.call.record("http.response.status_code", i64::from(status));
        }
    }

    /// The call has failed.
    pub(crate) fn failed(&mut self, error: &Error) {
        let Some(open) = self.0.take() else { return };
        open.call.record("error.type", kind(error));
        open.call.record("otel.status_code", "ERROR");
    }
}

/// Its caller does not wait for it any more.
impl Drop for Sight {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            for span in open.out.iter().map(|out| &out.span).chain([&open.call]) {
                span.record("error.type", "abandoned");
            }
        }
    }
}

/// A fault as reports have it.
fn word(fault: &origin_core::outcome::Fault) -> String {
    serde_json::to_value(fault).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Refused(_) => "refused",
        Error::Deadline(_) => "deadline",
        Error::Exhausted(_) => "exhausted",
        Error::UnknownService { .. } => "unknown_service",
        Error::Discovery { .. } => "discovery",
        Error::TooLarge { .. } => "too_large",
        Error::Request { .. } => "request",
        _ => "error",
    }
}
