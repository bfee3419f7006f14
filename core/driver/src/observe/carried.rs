//! What an incoming request hands on to the calls made for it: its correlation id, its trace and
//! the time that its caller still waits. Read under the names and the rules of the client's own
//! configuration (`policy.propagate`), applied when a call is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use origin_core::policy::remaining;
use origin_core::trace::TraceContext;
use origin_core::{Correlation, Request, Time};

use crate::client::Client;
use crate::hub::{Hub, Slot, lock};
use crate::request::RequestBuilder;
use crate::runtime::Runtime;

/// What an incoming request carries. Made by [`Client::carried`].
pub struct Carried<R: Runtime> {
    correlation: Option<Correlation>,
    trace: Option<TraceContext>,
    /// Until when somebody waits for the answer, by the clock of this runtime.
    until: Time,
    runtime: Arc<R>,
}

impl<R: Runtime> Clone for Carried<R> {
    fn clone(&self) -> Self {
        let Carried { correlation, trace, until, runtime } = self;
        let (correlation, trace) = (correlation.clone(), trace.clone());
        Carried { correlation, trace, until: *until, runtime: runtime.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Carried<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried")
            .field("correlation", &self.correlation)
            .field("trace", &self.trace)
            .field("left", &self.left())
            .finish()
    }
}

impl<R: Runtime> Client<R> {
    /// What an incoming request with these headers hands on: the id under
    /// `policy.propagate.correlation_header`, `traceparent` and `tracestate`, and, only where
    /// `policy.propagate.accept` says that callers are believed, their deadline, counted from
    /// now. What is not sound is left out.
    #[must_use]
    pub fn carried(&self, headers: &HeaderMap) -> Carried<R> {
        let config = self.hub.config();
        // Checked when the client was built; what could not be compiled carries nothing.
        let settings =
            remaining::Settings::of(&config.policy.propagate, "policy").unwrap_or_default();
        let correlation = settings.id_headers().0.and_then(|name| Correlation::of(headers, name));
        let left = settings.deadline_header().and_then(|(_, name)| {
            // Several deadlines are none that could be trusted.
            let mut values = headers.get_all(name).iter();
            let value = values.next().filter(|_| values.next().is_none())?;
            settings.accepted(value.as_bytes())
        });
        let runtime = self.hub.runtime.clone();
        let until = left.map_or(Time::NEVER, |left| runtime.now().plus(left));
        Carried { correlation, trace: TraceContext::of(headers), until, runtime }
    }
}

impl<R: Runtime> Carried<R> {
    /// Its correlation id.
    #[must_use]
    pub fn correlation(&self) -> Option<&Correlation> {
        self.correlation.as_ref()
    }

    /// Its trace.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    /// How long its caller still waits; `None`: that is not known.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        (self.until != Time::NEVER).then(|| self.runtime.now().until(self.until))
    }

    /// Hands it to a request, which keeps what it has itself; of two deadlines the earlier one
    /// counts.
    pub(crate) fn apply(&self, hub: &Hub<R>, slot: &Slot, request: &mut Request) {
        if request.correlation.is_none() {
            request.correlation.clone_from(&self.correlation);
        }
        if request.trace.is_none()
            && let Some(trace) = &self.trace
        {
            // The program's own span below the incoming one is nearer than that.
            let nearer = hub.trace_source.as_ref().and_then(|source| (source.0)());
            if nearer.is_none() {
                request.trace = Some(Box::new(trace.clone()));
            }
        }
        if let Some(left) = self.left() {
            let profile = request.spec.profile;
            let total = request.spec.total.unwrap_or_else(|| lock(&slot.service).total_of(profile));
            // Nothing left is a call that is not made, not one without an end.
            request.spec.total = Some(total.min(left).max(Duration::from_nanos(1)));
        }
    }
}

impl<R: Runtime> RequestBuilder<R> {
    /// Makes this call for an incoming request: under its id and in its trace, where it has none
    /// of its own, and for as long as that one's caller waits at most.
    #[must_use]
    pub fn carried(mut self, carried: &Carried<R>) -> Self {
        self.carried = Some(carried.clone());
        self
    }
}
