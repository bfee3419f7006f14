//! Response bodies: collected within a limit, or streamed piece by piece; broken ones are
//! repeated elsewhere if they were being collected, and are the reader's if they were not.

use std::time::Duration;

use origin_core::Error;
use origin_core::notice::{Event, Notice};
use origin_core::outcome::Fault;
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};

use crate::hostile::{Script, Wire};
use crate::subject::{Subject, eventually, get, of, open};

on_every_runtime! {
    case_x_12_a_collected_body_has_a_limit
    case_x_12_a_streamed_body_has_a_limit
    case_x_12_a_body_without_length_is_counted_as_it_comes
    case_000_18_a_collected_body_that_breaks_is_repeated_elsewhere
    a_streamed_body_comes_in_pieces_while_it_is_sent
    case_000_31_a_streamed_body_that_breaks_is_an_error_and_counts_against_its_endpoint
    case_000_26_the_deadline_of_a_call_holds_for_its_streamed_body
}

const LIMIT: u64 = 64 << 10;

fn client<S: Subject>(endpoint: &str) -> Client<S> {
    Client::<S>::builder()
        .endpoint("files", endpoint)
        .timeout(Duration::from_secs(8))
        .configure(|config| config.limits.body = LIMIT)
        .seed(1)
        .build()
        .unwrap()
}

fn server(mode: Mode) -> FaultServer {
    let server = FaultServer::start().unwrap();
    server.set(mode);
    server
}

/// Reads a streamed body to its end: the sizes of its pieces, and the error if it broke.
fn read<S: Subject>(body: &mut S::Body) -> (Vec<usize>, Option<String>) {
    let mut pieces = Vec::new();
    loop {
        match S::chunk(body) {
            Ok(Some(piece)) => pieces.push(piece.len()),
            Ok(None) => return (pieces, None),
            Err(error) => return (pieces, Some(error)),
        }
    }
}

fn case_x_12_a_collected_body_has_a_limit<S: Subject>() {
    let server = server(Mode::HugeBody { bytes: LIMIT });
    let client = client::<S>(&server.url());
    assert_eq!(get(&client, "files", "/x").unwrap().body.len() as u64, LIMIT);
    for bytes in [LIMIT + 1, 1 << 30] {
        server.set(Mode::HugeBody { bytes });
        let error = get(&client, "files", "/x").unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: LIMIT, .. }), "{error:?}");
        assert!(error.to_string().contains("65536"), "{error}");
    }
    // A limit of the call's own, in both directions.
    let files = client.service("files").unwrap();
    server.set(Mode::HugeBody { bytes: LIMIT + 1 });
    let more = S::wait(files.get("/x").max_body(1 << 20).send()).unwrap();
    assert_eq!(more.body.len() as u64, LIMIT + 1);
    let less = S::wait(files.get("/x").max_body(10).send()).unwrap_err();
    assert!(matches!(less, Error::TooLarge { limit: 10, .. }), "{less:?}");
    // It was the caller's limit, not a fault of the endpoint; and it was not asked again.
    let service = of(&client, "files");
    assert_eq!((service.failed_attempts, service.endpoints[0].breaker.word()), (0, "closed"));
    assert_eq!((service.attempts, server.request_count()), (5, 5));
}

fn case_x_12_a_streamed_body_has_a_limit<S: Subject>() {
    let server = server(Mode::HugeBody { bytes: LIMIT });
    let client = client::<S>(&server.url());
    let files = client.service("files").unwrap();
    let mut streaming = S::wait(files.get("/x").send_streaming()).unwrap();
    let (pieces, error) = read::<S>(&mut streaming.body);
    assert_eq!((pieces.iter().sum::<usize>() as u64, error), (LIMIT, None));
    server.set(Mode::HugeBody { bytes: 1 << 30 });
    let mut streaming = S::wait(files.get("/x").send_streaming()).unwrap();
    let (pieces, error) = read::<S>(&mut streaming.body);
    assert!(pieces.iter().sum::<usize>() as u64 <= LIMIT, "{pieces:?}");
    assert!(error.unwrap().contains("exceeds"));
    // After an error there is nothing more, and its connection is closed.
    assert_eq!(S::chunk(&mut streaming.body), Ok(None));
    drop(streaming);
    eventually("the connection is closed", || open([&server]) <= 1);
    assert_eq!(of(&client, "files").failed_attempts, 0);
}

fn case_x_12_a_body_without_length_is_counted_as_it_comes<S: Subject>() {
    let server = Wire::start(Script::chunked(1 << 30));
    let client = client::<S>(&server.url());
    let error = get(&client, "files", "/x").unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: LIMIT, .. }), "{error:?}");
    let files = client.service("files").unwrap();
    let mut streaming = S::wait(files.get("/x").send_streaming()).unwrap();
    let (pieces, error) = read::<S>(&mut streaming.body);
    assert!(pieces.iter().sum::<usize>() as u64 <= LIMIT, "{pieces:?}");
    assert!(error.unwrap().contains("exceeds"));
}

fn case_000_18_a_collected_body_that_breaks_is_repeated_elsewhere<S: Subject>() {
    let (broken, sound) = (server(Mode::CloseMidBody { after: 500 }), server(Mode::Ok));
    for mode in [
        Mode::CloseMidBody { after: 500 },
        Mode::ResetMidBody { after: 500 },
        Mode::CloseMidBody { after: 0 },
    ] {
        broken.set(mode.clone());
        let client = Client::<S>::builder()
            .configure(|config| {
                let service = config.services.entry("files".into()).or_default();
                for (cluster, server) in [("near", &broken), ("far", &sound)] {
                    let mut endpoint = origin_core::config::EndpointConfig::at(server.url());
                    endpoint.cluster = cluster.into();
                    service.endpoints.push(endpoint);
                }
            })
            .local_cluster("near")
            .build()
            .unwrap();
        let reply = get(&client, "files", "/x").unwrap();
        let clusters: Vec<_> = reply.report.attempts.iter().map(|a| &*a.cluster).collect();
        assert_eq!((reply.status.as_u16(), clusters), (200, vec!["near", "far"]), "{mode:?}");
        let first = reply.report.attempts[0].outcome.to_string();
        assert_eq!(first, "connection broke", "{mode:?}");
    }
}

fn a_streamed_body_comes_in_pieces_while_it_is_sent<S: Subject>() {
    let server = server(Mode::Drip { bytes: 12, every_ms: 60 });
    let client = client::<S>(&server.url());
    let files = client.service("files").unwrap();
    let mut streaming = S::wait(files.get("/x").send_streaming()).unwrap();
    assert_eq!(streaming.status, 200);
    assert_eq!(streaming.report.attempts.len(), 1);
    // The call is over with its head: nothing is outstanding while the body is read.
    assert_eq!(of(&client, "files").endpoints[0].outstanding, 0);
    let (pieces, error) = read::<S>(&mut streaming.body);
    assert_eq!((pieces.iter().sum::<usize>(), error), (12, None));
    assert!(pieces.len() > 3, "not while it was sent: {pieces:?}");
    // A body read to its end gives its connection back.
    server.set(Mode::HugeBody { bytes: 5000 });
    for _ in 0..10 {
        let mut streaming = S::wait(files.get("/x").send_streaming()).unwrap();
        assert_eq!(read::<S>(&mut streaming.body).0.iter().sum::<usize>(), 5000);
        drop(streaming);
        std::thread::sleep(Duration::from_millis(20));
    }
    // One would do; the pool may learn late that a connection is free again.
    let accepted = server.stats().connections_accepted;
    assert!(accepted <= 4, "{accepted} connections for eleven bodies");
}

fn case_000_31_a_streamed_body_that_breaks_is_an_error_and_counts_against_its_endpoint<
    S: Subject,
>() {
    for mode in [Mode::ResetMidBody { after: 3000 }, Mode::CloseMidBody { after: 3000 }] {
        let server = server(mode.clone());
        let client = client::<S>(&server.url());
        let files = client.service("files").unwrap();
        for failures in 1..=3_u64 {
            let mut streaming = S::wait(files.get("/x").send_streaming()).unwrap();
            let (pieces, error) = read::<S>(&mut streaming.body);
            assert!(pieces.iter().sum::<usize>() <= 3000, "{mode:?}");
            assert!(error.as_ref().unwrap().contains("broke"), "{mode:?}: {error:?}");
            assert_eq!(S::chunk(&mut streaming.body), Ok(None), "{mode:?}: more after the end");
            let service = of(&client, "files");
            let endpoint = &service.endpoints[0];
            assert_eq!((service.failed_attempts, endpoint.failed_attempts), (failures, failures));
            assert!(endpoint.outstanding == 0 && endpoint.consecutive_failures > 0);
            assert_eq!(service.answered, failures, "the head was an answer");
        }
        let issue = |notice: &&Notice| {
            matches!(&notice.event, Event::ConnectionIssue { fault: Fault::Reset, endpoint, .. }
                if **endpoint == *server.url())
        };
        let notices = client.notices();
        assert_eq!(notices.iter().filter(issue).count(), 3, "{mode:?}: {notices:?}");
    }
}

fn case_000_26_the_deadline_of_a_call_holds_for_its_streamed_body<S: Subject>() {
    let server = server(Mode::HangAfterHead);
    let client = client::<S>(&server.url());
    let files = client.service("files").unwrap();
    let began = std::time::Instant::now();
    let call = files.get("/x").timeout(Duration::from_millis(300)).send_streaming();
    let mut streaming = S::wait(call).unwrap();
    let (pieces, error) = read::<S>(&mut streaming.body);
    assert!(pieces.is_empty());
    assert!(error.as_ref().unwrap().contains("no complete answer in time"), "{error:?}");
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(of(&client, "files").failed_attempts, 1);
    drop(streaming);
    eventually("the connection is closed", || open([&server]) == 0);
}
