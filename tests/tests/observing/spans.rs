//! Spans of calls and attempts, and the trace that servers are told of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use origin_core::config::TraceRule;
use origin_core::trace::TraceContext;
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};

use crate::capture::during;
use crate::subject::Subject;

on_every_runtime! {
    case_001_127_a_call_has_a_span_and_each_attempt_one_below_it
    case_001_128_every_attempt_tells_the_trace_and_a_span_of_its_own
    case_001_128_the_tracing_library_of_the_program_is_asked
    case_001_128_it_can_be_off
}

on_every_async_runtime! {
    a_call_that_is_dropped_ends_its_spans
}

fn two<S: Subject>(rule: TraceRule) -> (FaultServer, FaultServer, Client<S>) {
    let (bad, good) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    bad.set(Mode::status(503));
    let client = Client::<S>::builder()
        .endpoint("billing", bad.url())
        .endpoint("billing", good.url())
        .configure(|config| {
            config.policy.retry.backoff.base = Duration::from_millis(1);
            config.policy.propagate.trace = rule;
        })
        .build()
        .unwrap();
    (bad, good, client)
}

fn case_001_127_a_call_has_a_span_and_each_attempt_one_below_it<S: Subject>() {
    let (bad, _good, client) = two::<S>(TraceRule::Always);
    during(|seen| {
        let mut attempts = 0;
        while attempts < 2 {
            let outer = tracing::info_span!(target: "origin::test", "outer");
            let before = seen.spans().len();
            let call = client.service("billing").unwrap().get("/x?key=hush");
            let report = outer.in_scope(|| S::wait(call.send())).unwrap().report;
            attempts = report.attempts.len();
            let spans = seen.spans().split_off(before);
            let outer = spans.iter().find(|span| span.name == "outer");
            let outer = outer.map_or(before as u64, |span| span.id);
            let call = spans.iter().find(|span| span.name == "call").unwrap();
            assert_eq!(call.parent, Some(outer));
            assert!(call.closed);
            assert_eq!(call.field("otel.kind"), Some("internal"));
            assert_eq!(call.field("origin.service"), Some("billing"));
            assert_eq!(call.field("http.response.status_code"), Some("200"));
            assert_eq!(call.field("origin.attempts"), Some(&*attempts.to_string()));
            let id = report.ids.correlation.as_ref().unwrap();
            assert_eq!(call.field("correlation_id"), Some(id.as_str()));
            let below: Vec<_> = spans.iter().filter(|span| span.name == "attempt").collect();
            assert_eq!(below.len(), attempts);
            for (n, (span, attempt)) in below.iter().zip(&report.attempts).enumerate() {
                assert!(span.parent == Some(call.id) && span.closed);
                let url = format!("{}/x?key=***", attempt.endpoint);
                let port = attempt.endpoint.rsplit(':').next();
                assert_eq!(span.field("url.full"), Some(&*url));
                assert_eq!(span.field("otel.kind"), Some("client"));
                assert_eq!(span.field("http.request.method"), Some("GET"));
                assert_eq!(span.field("server.address"), Some("127.0.0.1"));
                assert_eq!(span.field("server.port"), port);
                assert_eq!(span.field("origin.cluster"), Some("static"));
                let resend = (n > 0).then(|| n.to_string());
                assert_eq!(span.field("http.request.resend_count"), resend.as_deref());
                let failed = *attempt.endpoint == *bad.url();
                let status = if failed { "503" } else { "200" };
                assert_eq!(span.field("http.response.status_code"), Some(status));
                assert_eq!(span.field("error.type"), failed.then_some("503"));
                assert_eq!(span.field("otel.status_code"), failed.then_some("ERROR"));
                assert_eq!(span.field("origin.decision"), Some(&*attempt.why.to_string()));
            }
        }
    });
}

fn parents(servers: &[&FaultServer]) -> Vec<TraceContext> {
    let requests = servers.iter().flat_map(|server| server.requests());
    requests
        .map(|request| {
            TraceContext::parse(request.header("traceparent").unwrap().as_bytes()).unwrap()
        })
        .collect()
}

fn case_001_128_every_attempt_tells_the_trace_and_a_span_of_its_own<S: Subject>() {
    let (bad, good, client) = two::<S>(TraceRule::Always);
    let upstream = client.service("billing").unwrap();
    let mut made = std::collections::BTreeSet::new();
    let mut attempts = 0;
    for n in 0..6 {
        // Given by the caller, every other time.
        let state = "vendor=opaque".as_bytes();
        let state = origin_core::trace::TraceState::of([state]).unwrap();
        let given = (n % 2 == 0).then(|| TraceContext::root(99, n).with_state(state));
        let call = upstream.get("/x");
        let call = match &given {
            Some(given) => call.trace(given.clone()),
            None => call,
        };
        let report = S::wait(call.send()).unwrap().report;
        attempts += report.attempts.len();
        let told: Vec<_> = parents(&[&bad, &good]);
        assert_eq!(told.len(), report.attempts.len());
        let states = [&bad, &good].into_iter().flat_map(|server| server.requests());
        let expected = given.as_ref().map(|_| "vendor=opaque");
        assert!(states.into_iter().all(|request| request.header("tracestate") == expected));
        for context in &told {
            assert_eq!(Some(context.trace_id()), report.ids.trace);
            assert!(made.insert(context.span_id().to_string()), "two attempts are one span");
        }
        match given {
            Some(given) => {
                assert_eq!(report.ids.trace, Some(given.trace_id()));
                assert!(told.iter().all(|context| context.span_id() != given.span_id()));
            }
            None => assert!(made.insert(report.ids.trace.unwrap().to_string())),
        }
        bad.reset_counts();
        good.reset_counts();
    }
    assert!(attempts > 6, "no attempt was repeated");
    // What the caller has put into the headers is left as it is.
    let own = TraceContext::root(5, 5).traceparent();
    let report = S::wait(upstream.get("/x").header("traceparent", &own).send()).unwrap().report;
    assert!(parents(&[&bad, &good]).iter().all(|context| context.traceparent() == own));
    assert_eq!(report.ids.trace, Some(TraceContext::root(5, 5).trace_id()));
}

fn case_001_128_the_tracing_library_of_the_program_is_asked<S: Subject>() {
    let server = FaultServer::start().unwrap();
    // Spans are numbered; the one entered last is the current one.
    let current = Arc::new(AtomicU64::new(1));
    let now = current.clone();
    let client = Client::<S>::builder()
        .endpoint("billing", server.url())
        .trace_source(move || {
            let current = now.load(Ordering::Relaxed);
            (current > 0).then(|| TraceContext::root(3, current))
        })
        .build()
        .unwrap();
    let report = S::wait(client.service("billing").unwrap().get("/x").send()).unwrap().report;
    let told = &parents(&[&server])[0];
    assert_eq!(told.trace_id(), TraceContext::root(3, 1).trace_id());
    assert_eq!(report.ids.trace, Some(told.trace_id()));
    assert_ne!(told.span_id(), TraceContext::root(3, 1).span_id());
    // It has nothing to say: a trace begins.
    current.store(0, Ordering::Relaxed);
    let report = S::wait(client.service("billing").unwrap().get("/x").send()).unwrap().report;
    assert_eq!(report.ids.trace, Some(parents(&[&server])[1].trace_id()));
}

fn case_001_128_it_can_be_off<S: Subject>() {
    for (rule, given, told) in [
        (TraceRule::Off, true, false),
        (TraceRule::Given, false, false),
        (TraceRule::Given, true, true),
    ] {
        let (bad, good, client) = two::<S>(rule);
        let call = client.service("billing").unwrap().get("/x");
        let call = if given { call.trace(TraceContext::root(1, 1)) } else { call };
        let report = S::wait(call.send()).unwrap().report;
        assert_eq!(report.ids.trace.is_some(), told);
        let requests = [&bad, &good].into_iter().flat_map(|server| server.requests());
        for request in requests {
            assert_eq!(request.header("traceparent").is_some(), told, "{rule:?}");
        }
    }
}

fn a_call_that_is_dropped_ends_its_spans<S: Subject>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::HangBeforeHead);
    let client = Client::<S>::builder().endpoint("billing", server.url()).build().unwrap();
    during(|seen| {
        let call = client.service("billing").unwrap().get("/x").send();
        assert!(S::wait_at_most(call, Duration::from_millis(50)).is_none());
        let spans = seen.spans();
        assert_eq!(spans.len(), 2, "{spans:?}");
        for span in spans {
            assert!(span.closed && span.field("error.type") == Some("abandoned"), "{span:?}");
        }
    });
}
