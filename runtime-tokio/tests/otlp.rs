//! The example that exports spans, against a real collector: what it has is what servers were told.
#![allow(clippy::unwrap_used)] // test code

#[allow(dead_code)] // its `main`
#[path = "../examples/otlp.rs"]
mod example;

use std::time::Duration;

use origin_lab::{FaultServer, Mode};
use origin_servers::rotel::{self, Span};
use origin_tokio::trace::TraceContext;

#[test]
fn case_001_127_128_a_collector_finds_calls_and_attempts_under_the_ids_that_servers_saw() {
    let Some(collector) = rotel::start() else { return };
    let (bad, good) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    bad.set(Mode::status(503));
    let client = example::client(&[bad.url(), good.url()]).unwrap();
    let exporter = example::exporting(&collector.url()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Until a call has needed two attempts.
    let trace = tracing::subscriber::with_default(example::subscriber(&exporter), || {
        loop {
            bad.reset_counts();
            good.reset_counts();
            let trace = runtime.block_on(example::work(&client)).unwrap();
            if bad.request_count() == 1 {
                break trace;
            }
        }
    });
    exporter.shutdown().unwrap();
    let mine = || -> Vec<Span> {
        collector.spans().into_iter().filter(|span| span.trace == trace).collect()
    };
    let there = origin_servers::eventually(Duration::from_secs(10), || mine().len() == 4);
    let spans = mine();
    assert!(there, "{spans:#?}\n{}", collector.process.log());

    let order = spans.iter().find(|span| span.name == "order").unwrap();
    let call = spans.iter().find(|span| span.parent == order.id).unwrap();
    assert_eq!((&*order.parent, &*call.name), ("", "billing GET"));
    let attempts: Vec<_> = spans.iter().filter(|span| span.parent == call.id).collect();
    assert_eq!(attempts.len(), 2);
    for server in [&bad, &good] {
        let seen = server.requests();
        let told = seen[0].header("traceparent").unwrap();
        let told = TraceContext::parse(told.as_bytes()).unwrap();
        assert_eq!(told.trace_id().to_string(), trace);
        // What the server would do is found right below the attempt that asked for it.
        let attempt = attempts.iter().find(|span| span.id == told.span_id().to_string());
        let attempt = attempt.unwrap();
        assert_eq!(attempt.name, "GET");
        let port = server.url().rsplit(':').next().unwrap().to_owned();
        assert!(attempt.text.contains("/invoices/7"));
        assert!(attempt.text.contains(&format!("server.port: Int({port})")), "{}", attempt.text);
    }
    drop(client);
}
