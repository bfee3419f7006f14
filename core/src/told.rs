//! What every attempt is told beside its own headers: the host, the ids it goes under, its trace,
//! how much time it has and which attempt it is. What those are is decided elsewhere
//! (`policy/remaining.rs`, `correlation.rs`, `trace`); here they become headers, once per attempt
//! and outside of any lock.
//!
//! The usual four are the same names for every attempt of a service. A map that has them already is
//! copied and its values replaced, which spares hashing their names each time.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::call::AttemptId;
use crate::correlation::header_name;
use crate::policy::remaining::{Settings, Text};
use crate::request::Ids;
use crate::trace::{TRACEPARENT, TraceContext};

/// What one attempt is told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Which attempt it is.
    pub attempt: AttemptId,
    /// How much time it has.
    pub left: Duration,
    /// The ids of its call.
    pub ids: &'a Ids,
    /// Where it stands in a trace; `None`: it is not told of one.
    pub trace: Option<&'a TraceContext>,
    /// The value of [`Address::host`](crate::Address::host); `None`: it is left to others.
    pub host: Option<&'a HeaderValue>,
}

impl Told<'_> {
    /// As headers, as far as `settings` name them.
    #[must_use]
    pub fn headers(&self, settings: &Settings) -> HeaderMap {
        let mut headers = self.usual(settings).unwrap_or_else(|| self.one_by_one(settings));
        let mut tell = |name: &str, text: Text| {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(text.as_bytes())) {
                headers.insert(name, value);
            }
        };
        if let Some((form, name)) = settings.deadline_header()
            && let Some(text) = form.text(self.left)
        {
            tell(name, text);
        }
        if let Some(name) = settings.attempt_header() {
            tell(name, Text::attempt(u32::from(self.attempt.0)));
        }
        if let Some(state) = self.trace.and_then(TraceContext::state_header) {
            headers.insert(crate::trace::TRACESTATE, state);
        }
        headers
    }

    /// By copying the map that has the names.
    fn usual(&self, settings: &Settings) -> Option<HeaderMap> {
        let Ids { correlation: Some(correlation), request: Some(request), .. } = self.ids else {
            return None;
        };
        let (trace, host) = (self.trace?, self.host?);
        let usual = settings.usual();
        if usual.0.is_empty() {
            return None;
        }
        let mut headers = usual.0.clone();
        let values =
            [correlation.value().clone(), request.value().clone(), trace.header(), host.clone()];
        for (place, value) in headers.values_mut().zip(values) {
            *place = value;
        }
        Some(headers)
    }

    fn one_by_one(&self, settings: &Settings) -> HeaderMap {
        let (correlation, request) = settings.id_headers();
        let ids = [(correlation, &self.ids.correlation), (request, &self.ids.request)];
        let mut headers = HeaderMap::new();
        for (name, id) in ids {
            if let (Some(name), Some(id)) = (name.and_then(header_name), id) {
                headers.insert(name, id.value().clone());
            }
        }
        if let Some(trace) = self.trace {
            headers.insert(TRACEPARENT, trace.header());
        }
        if let Some(host) = self.host {
            headers.insert(HOST, host.clone());
        }
        headers
    }
}

/// A map that has the names of the ids, of the trace and of the host, in this order, with empty
/// values. Empty where one of them is not told, and after the settings were read back: then they
/// are put in one by one. It follows from the settings, so it is no part of what is compared.
#[derive(Clone, Default)]
pub(crate) struct Usual(HeaderMap);

impl Usual {
    pub(crate) fn of(correlation: &str, request: &str) -> Usual {
        let (Some(correlation), Some(request)) = (header_name(correlation), header_name(request))
        else {
            return Usual::default();
        };
        let names = [correlation, request, TRACEPARENT, HOST];
        // With room for more than these: libraries look whether the host is there, and a map that
        // is full grows when it is asked for a place, also for one that is taken.
        let mut map = HeaderMap::with_capacity(6);
        for name in &names {
            map.insert(name.clone(), HeaderValue::from_static(""));
        }
        // Values are replaced by place. No order is promised, and one that is not this is not used;
        // nor is one where two of the names are the same.
        if map.keys().eq(names.iter()) { Usual(map) } else { Usual::default() }
    }
}

impl fmt::Debug for Usual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usual")
    }
}

impl PartialEq for Usual {
    fn eq(&self, _: &Usual) -> bool {
        true
    }
}

impl Eq for Usual {}

impl Hash for Usual {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Correlation;
    use crate::config::{DeadlineHeader, PropagateConfig, TraceRule};

    fn settings(config: &PropagateConfig) -> Settings {
        Settings::of(config, "p").unwrap()
    }

    proptest! {
        /// The map that is copied says the same as one that is put together.
        #[test]
        fn case_001_50_128_both_ways_say_the_same(
            (call, left, attempt) in (1_u64.., 1_u64..1 << 40, 1_u8..16),
            (with_ids, with_trace, with_host) in any::<(bool, bool, bool)>(),
            names in prop_oneof![
                Just(("X-Correlation-ID", "X-Request-ID")),
                Just(("x-order", "x-try")),
                Just(("", "x-request-id")),
            ],
            (deadline, number, rule) in any::<(bool, bool, bool)>(),
        ) {
            let config = PropagateConfig {
                header: if deadline { DeadlineHeader::Envoy } else { DeadlineHeader::Off },
                attempt_header: number.then(|| "x-attempt".to_owned()),
                correlation_header: names.0.to_owned(),
                request_header: names.1.to_owned(),
                trace: if rule { TraceRule::Always } else { TraceRule::Given },
                ..PropagateConfig::default()
            };
            let compiled = settings(&config);
            let id = Correlation::random(7, call);
            let ids = Ids {
                correlation: (with_ids && !names.0.is_empty()).then(|| id.clone()),
                request: with_ids.then_some(id),
                trace: None,
            };
            let trace = with_trace.then(|| TraceContext::root(7, call));
            let host = with_host.then(|| HeaderValue::from_static("a:1"));
            let told = Told {
                attempt: AttemptId(attempt),
                left: Duration::from_nanos(left),
                ids: &ids,
                trace: trace.as_ref(),
                host: host.as_ref(),
            };
            let said = told.headers(&compiled);
            // Settings that were read back have no map to copy.
            let text = serde_json::to_string(&compiled).unwrap();
            let read: Settings = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &compiled);
            prop_assert_eq!(&told.headers(&read), &said);
            let count = ids.correlation.iter().count() + ids.request.iter().count()
                + trace.iter().count() + host.iter().count()
                + usize::from(deadline) + usize::from(number);
            prop_assert_eq!(said.len(), count);
            prop_assert!(said.values().all(|value| !value.is_empty()));
            prop_assert_eq!(said.get(HOST), host.as_ref());
            prop_assert_eq!(TraceContext::of(&said), trace);
        }
    }

    #[test]
    fn the_usual_names_are_copied() {
        let config = PropagateConfig::default();
        assert_eq!(settings(&config).usual().0.len(), 4);
        let same = PropagateConfig { request_header: "Host".into(), ..config.clone() };
        assert!(settings(&same).usual().0.is_empty());
        let none = PropagateConfig { correlation_header: String::new(), ..config };
        assert!(settings(&none).usual().0.is_empty());
    }
}
