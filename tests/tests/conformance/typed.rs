//! Clients for services of one's own (`ops::rest`): what arrives at the server, how redirects are
//! followed, what errors say; and the ids that every request carries.

use std::time::Duration;

use origin_core::config::TraceRule;
use origin_core::ops::rest::Api;
use origin_core::{Correlation, Error};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use serde::Deserialize;

use crate::subject::{Subject, get};

on_every_runtime! {
    case_001_50_a_given_id_goes_with_every_attempt_and_into_the_report
    case_001_51_without_one_an_id_is_made
    case_001_53_the_id_is_not_part_of_what_is_remembered
    case_002_50_arguments_and_queries_arrive_as_they_were_meant
    case_002_48_an_empty_answer_is_a_success_and_a_missing_thing_is_none
    case_001_92_an_error_names_the_code_and_nothing_else
}

const ID: &str = "x-correlation-id";
const CALL: &str = "x-request-id";

fn server() -> FaultServer {
    FaultServer::start().unwrap()
}

fn client<S: Subject>(servers: &[&FaultServer]) -> Client<S> {
    let builder = Client::<S>::builder();
    servers
        .iter()
        .fold(builder, |builder, server| builder.endpoint("billing", server.url()))
        .configure(|config| config.policy.retry.backoff.base = Duration::from_millis(1))
        .build()
        .unwrap()
}

fn json(text: &str) -> Mode {
    Mode::Body {
        content_type: "application/json".into(),
        etag: None,
        cache_control: None,
        body: text.into(),
    }
}

fn case_001_50_a_given_id_goes_with_every_attempt_and_into_the_report<S: Subject>() {
    let (bad, good) = (server(), server());
    bad.set(Mode::status(503));
    let client = client::<S>(&[&bad, &good]);
    for _ in 0..4 {
        let call = client.service("billing").unwrap().get("/x").correlation("order-4711");
        let report = S::wait(call.send()).unwrap().report;
        assert_eq!(report.ids.correlation.unwrap().as_str(), "order-4711");
    }
    let requests: Vec<_> = [&bad, &good].iter().flat_map(|server| server.requests()).collect();
    assert!(requests.len() > 4, "no attempt was repeated");
    assert!(requests.iter().all(|request| request.header(ID) == Some("order-4711")));
    // The call has an id of its own, the same with each of its attempts: four calls, four ids.
    let ids = requests.iter().map(|request| request.header(CALL).unwrap().to_owned());
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 4);
    // One that would break a header is refused, and nothing is sent.
    let before = good.request_count();
    let call = client.service("billing").unwrap().get("/x").correlation("two\r\nlines").send();
    assert!(matches!(S::wait(call), Err(Error::Request { .. })));
    assert_eq!(good.request_count(), before);
}

fn case_001_51_without_one_an_id_is_made<S: Subject>() {
    let server = server();
    let client = client::<S>(&[&server]);
    for _ in 0..3 {
        let response = get(&client, "billing", "/x").unwrap();
        let seen = server.requests().pop().unwrap();
        let ids = response.report.ids;
        assert_eq!(seen.header(ID), ids.correlation.as_ref().map(Correlation::as_str));
        assert_eq!(seen.header(CALL), ids.request.as_ref().map(Correlation::as_str));
        assert_eq!(seen.header(ID).unwrap().len(), 36);
    }
    let ids =
        server.requests().iter().map(|r| r.header(ID).unwrap().to_owned()).collect::<Vec<_>>();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    // Who does not want them sends none.
    let silent = Client::<S>::builder()
        .endpoint("billing", server.url())
        .configure(|config| {
            config.policy.propagate.correlation_header = String::new();
            config.policy.propagate.request_header = String::new();
            config.policy.propagate.trace = TraceRule::Off;
        })
        .build()
        .unwrap();
    assert_eq!(get(&silent, "billing", "/x").unwrap().report.ids, Default::default());
    let seen = server.requests().pop().unwrap();
    assert_eq!((seen.header(ID), seen.header(CALL)), (None, None));
    assert_eq!(seen.header("traceparent"), None);
}

fn case_001_53_the_id_is_not_part_of_what_is_remembered<S: Subject>() {
    let server = server();
    let client = Client::<S>::builder()
        .endpoint("billing", server.url())
        .configure(|config| config.cache = Some(origin_core::config::CacheConfig::default()))
        .build()
        .unwrap();
    for id in ["one", "two"] {
        let call = client.service("billing").unwrap().get("/x").cached().correlation(id);
        assert_eq!(S::wait(call.send()).unwrap().status, 200);
    }
    assert_eq!(server.request_count(), 1);
}

fn case_002_50_arguments_and_queries_arrive_as_they_were_meant<S: Subject>() {
    let server = server();
    server.set(json(r#"{"results": []}"#));
    let client = client::<S>(&[&server]);
    let api = Api::new(client, "billing").prefix("/api/v1/").header("accept", "application/json");
    let search = |text: &str| {
        api.get("search", "/projects/{id}/search")
            .segment("id", "a/b")
            .query("query", text)
            .query("limit", 20)
            .query_if("type", None::<&str>)
            .read::<serde_json::Value>()
    };
    assert!(S::wait(search("ä & b#c=d +e")).is_ok());
    let seen = server.requests().pop().unwrap();
    assert_eq!(
        seen.path,
        "/api/v1/projects/a%2Fb/search?query=%C3%A4%20%26%20b%23c%3Dd%20%2Be&limit=20"
    );
    assert_eq!(seen.header("accept"), Some("application/json"));
    // A path elsewhere, and one without the prefix.
    let moved = api.clone().path("search", "//search/global/{id}");
    let call = moved.get("search", "/unused").segment("id", 7).nothing();
    S::wait(call).unwrap();
    assert_eq!(server.requests().pop().unwrap().path, "/search/global/7");
    // A place that was not filled: nothing is sent.
    let before = server.request_count();
    let error = S::wait(api.get("search", "/x/{id}").nothing()).unwrap_err();
    assert!(error.to_string().contains("\"id\""), "{error}");
    assert_eq!(server.request_count(), before);
}

fn case_002_48_an_empty_answer_is_a_success_and_a_missing_thing_is_none<S: Subject>() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Thing {
        id: u64,
    }
    let server = server();
    let api = Api::new(client::<S>(&[&server]), "billing");
    let thing = || api.get("thing", "/things/{id}").segment("id", 7).maybe::<Thing>();
    server.set(Mode::status(204));
    S::wait(api.delete("remove", "/things/7").nothing()).unwrap();
    server.set(Mode::status(404));
    assert_eq!(S::wait(thing()).unwrap(), None);
    server.set(json(r#"{"id": 7, "unknown": [1]}"#));
    assert_eq!(S::wait(thing()).unwrap(), Some(Thing { id: 7 }));
    server.set(json(r#"{"id": "seven hunter2"}"#));
    let error = S::wait(thing()).unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

fn case_001_92_an_error_names_the_code_and_nothing_else<S: Subject>() {
    let server = server();
    server.set(Mode::Status {
        code: 409,
        headers: Vec::new(),
        body: r#"{"error_code": "CONFLICT", "message": "postgres://admin:hunter2@db/x"}"#.into(),
    });
    let api = Api::new(client::<S>(&[&server]), "billing");
    let call = api.post("make", "/things").json(&serde_json::json!({"password": "s3cret"}));
    let error = S::wait(call.read::<serde_json::Value>()).unwrap_err();
    assert_eq!((error.status(), error.to_string().contains("409 (CONFLICT)")), (Some(409), true));
    let printed = format!("{error} {error:?} {}", error.advice());
    assert!(!printed.contains("hunter2") && !printed.contains("s3cret"), "{printed}");
    // Whoever asks is told.
    let said = error.said().unwrap();
    assert_eq!(said.code(), Some("CONFLICT"));
    assert!(said.message().unwrap().contains("hunter2"));
}
