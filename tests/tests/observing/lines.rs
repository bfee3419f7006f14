//! The lines of calls: contract 002 word for word, and what none of them may show.

use std::time::Duration;

use origin_core::config::Policy;
use origin_core::ops::bridge::Stamping;
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use tracing::Level;

use crate::capture::{during, up_to};
use crate::subject::Subject;

on_every_runtime! {
    case_002_16_17_18_19_20_lines_are_those_of_the_contract
    case_x_04_one_id_is_in_header_line_and_field
    case_001_102_a_hash_is_told_with_its_size_and_time
    case_002_18_warnings_are_there_without_the_rest
    case_001_52_no_line_shows_a_secret
}

fn synapse<S: Subject>(server: &FaultServer) -> Client<S> {
    Client::<S>::builder()
        .policy(Policy::preset("designsynapse").unwrap())
        .endpoint("user-service", server.url())
        .build()
        .unwrap()
}

fn case_002_16_17_18_19_20_lines_are_those_of_the_contract<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = synapse::<S>(&server);
    let (upstream, url) = (client.service("user-service").unwrap(), server.url());
    during(|seen| {
        S::wait(upstream.get("/api/v1/users?page=2").send()).unwrap();
        assert_eq!(
            seen.calls(),
            [
                (Level::INFO, format!("Request: GET {url}/api/v1/users?page=*** (attempt 1/3)")),
                (Level::INFO, format!("Response: GET {url}/api/v1/users?page=*** - 200")),
            ]
        );
        // A 4xx is a response like any other, and nothing is repeated.
        server.set(Mode::status(404));
        S::wait(upstream.delete("/x").send()).unwrap();
        assert_eq!(seen.calls()[1], (Level::INFO, format!("Response: DELETE {url}/x - 404")));
        // It cannot be connected to: told, waited for, tried again. A client that has no connection
        // from before, which would break instead.
        server.set(Mode::Refuse);
        let upstream = synapse::<S>(&server).service("user-service").unwrap();
        let error = S::wait(upstream.get("/x").send()).unwrap_err();
        let cause = "connection refused or unreachable";
        let mut expected = vec![];
        for (attempt, wait) in [(1, Some(1)), (2, Some(2)), (3, None)] {
            expected.push((Level::INFO, format!("Request: GET {url}/x (attempt {attempt}/3)")));
            let line = format!("Transient error on attempt {attempt}: {cause}");
            expected.push((Level::WARN, line));
            expected.extend(wait.map(|s| (Level::INFO, format!("Retrying in {s}s..."))));
        }
        assert_eq!(seen.calls(), expected, "{error}");
    });
}

fn case_x_04_one_id_is_in_header_line_and_field<S: Subject>() {
    let (bad, good) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    bad.set(Mode::status(503));
    let client = Client::<S>::builder()
        .endpoint("billing", bad.url())
        .endpoint("billing", good.url())
        .configure(|config| config.policy.retry.backoff.base = Duration::from_millis(1))
        .build()
        .unwrap();
    during(|seen| {
        let mut repeated = false;
        for n in 0..6 {
            let id = format!("order-{n}");
            let call = client.service("billing").unwrap().get("/x").correlation(&id);
            let report = S::wait(call.send()).unwrap().report;
            let trace = report.ids.trace.unwrap().to_string();
            let lines = seen.lines();
            repeated |= report.attempts.len() > 1;
            let mine: Vec<_> = lines.iter().filter(|l| l.target == "origin::call").collect();
            assert!(mine.len() >= 2);
            for line in mine {
                assert_eq!(line.field("correlation_id"), Some(&*id), "{line:?}");
                assert_eq!(line.field("trace_id"), Some(&*trace), "{line:?}");
                assert_eq!(line.field("service"), Some("billing"));
            }
            let sent: Vec<_> = bad.requests().into_iter().chain(good.requests()).collect();
            let mine = sent.iter().filter(|r| r.header("x-correlation-id") == Some(&*id));
            assert_eq!(mine.count(), report.attempts.len());
        }
        assert!(repeated, "no attempt was repeated");
    });
}

fn case_001_102_a_hash_is_told_with_its_size_and_time<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let answer = r#"{"status":"success","data":{"hash":"00ff","execution_time_ms":1.25}}"#;
    server.set(Mode::Body {
        content_type: "application/json".into(),
        etag: None,
        cache_control: None,
        body: answer.into(),
    });
    let client =
        Client::<S>::builder().endpoint("metadata-stamping", server.url()).build().unwrap();
    let id = origin_core::Correlation::new("order-4711").unwrap();
    let stamping = Stamping::new(client).correlated(&id);
    during(|seen| {
        S::wait(stamping.generate_hash(b"content", None)).unwrap();
        let lines = seen.lines();
        let line = lines.last().unwrap();
        assert_eq!((line.level, &*line.text), (Level::INFO, "Hash generation completed"));
        let fields = ["correlation_id", "file_size", "execution_time_ms"].map(|f| line.field(f));
        assert_eq!(fields, [Some("order-4711"), Some("7"), Some("1.25")]);
        // One that fails completes nothing.
        server.set(Mode::status(400));
        S::wait(stamping.generate_hash(b"content", None)).unwrap_err();
        assert!(seen.lines().iter().all(|line| !line.text.starts_with("Hash")));
    });
}

fn case_002_18_warnings_are_there_without_the_rest<S: Subject>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::Refuse);
    let client = Client::<S>::builder()
        .endpoint("billing", server.url())
        .configure(|config| {
            config.policy.retry.max_attempts = 2;
            config.policy.retry.backoff.base = Duration::from_millis(1);
        })
        .build()
        .unwrap();
    up_to(Level::WARN, |seen| {
        S::wait(client.service("billing").unwrap().get("/x").correlation("id-1").send())
            .unwrap_err();
        let lines = seen.lines();
        let calls: Vec<_> = lines.iter().filter(|l| l.target == "origin::call").collect();
        assert_eq!(calls.len(), 2, "{lines:?}");
        assert!(calls.iter().all(|l| l.field("correlation_id") == Some("id-1")));
        assert!(seen.spans().is_empty());
    });
}

fn case_001_52_no_line_shows_a_secret<S: Subject>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::Sequence(vec![Mode::status(500), Mode::ResetBeforeHead, Mode::Echo]));
    let client = Client::<S>::builder()
        .endpoint("billing", server.url())
        .configure(|config| config.policy.retry.backoff.base = Duration::from_millis(1))
        .build()
        .unwrap();
    during(|seen| {
        let call = client
            .service("billing")
            .unwrap()
            .post("/x?api_key=hush-1")
            .query(&[("token", "hush-2")])
            .header("authorization", "Bearer hush-3")
            .header("x-vault-token", "hush-4")
            .body("hush-5")
            .idempotent(true);
        S::wait(call.send()).unwrap();
        let all = seen.everything();
        assert!(all.contains("api_key=***&token=***") && !all.contains("hush"), "{all}");
    });
}
