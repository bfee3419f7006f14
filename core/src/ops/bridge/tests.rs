//! The operations against a scripted server: what is sent, what is read, what is refused.

mod hostile;
mod variables;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::data::Anything;
use super::envelope::{Data, Word, read};
use super::*;
use crate::Config;
use crate::correlation::Correlation;
use crate::ops::fake::Fake;
use crate::request::Request;
use crate::said::Said;

fn says(status: u16, body: impl Into<String>) -> Fake {
    let body = body.into();
    Fake::new(move |_| (status, body.clone()))
}

fn success(data: &Value) -> String {
    json!({"status": "success", "data": data, "error": null, "message": null}).to_string()
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

const HEX: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn stamped() -> Value {
    json!({"stamp_id": "s-1", "file_hash": HEX, "stamped_content": "c", "stamp": "t",
        "created_at": "2026-01-01T00:00:00Z", "op_id": "o", "namespace": "n", "version": 1})
}

#[test]
fn case_001_06_07_09_a_hash_is_asked_for_in_the_namespace_default() {
    for field in ["hash", "file_hash"] {
        let fake = says(
            200,
            success(&json!({field: HEX, "execution_time_ms": 0.5,
            "file_size_bytes": 0, "performance_grade": "A"})),
        );
        let hash = Stamping::new(fake.clone()).generate_hash(b"", None).unwrap();
        assert_eq!((hash.hash.as_str(), hash.file_size_bytes), (HEX, Some(0)));
        let sent = fake.sent();
        assert_eq!(sent[0].path, "/hash?namespace=default");
        assert_eq!(sent[0].spec.idempotent, Some(true));
        let header = |name: &str| sent[0].headers[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with("multipart/form-data; boundary="));
        assert_eq!(header("user-agent"), "omninode-bridge/MetadataStampingService");
        let server = Stamping::new(fake.clone()).of_server();
        server.generate_hash(b"x", Some("a b")).unwrap();
        let path = "/api/v1/metadata-stamping/hash?namespace=a%20b";
        assert_eq!(fake.sent()[0].path, path);
    }
}

#[test]
fn case_001_08_09_a_stamp_is_made_of_a_hash_in_the_namespace_of_stamps() {
    let fake = says(200, success(&stamped()));
    let stamping = Stamping::new(fake.clone());
    let new = NewStamp::new(HEX, "a.rs", 3).with("k", 1);
    let stamp = stamping.create_stamp(&new, None).unwrap();
    assert_eq!((stamp.stamp_id.as_deref(), stamp.version), (Some("s-1"), Some(1)));
    let sent = fake.sent();
    assert_eq!((sent[0].path.as_str(), sent[0].spec.idempotent), ("/stamp", None));
    let expected = json!({"file_hash": HEX, "file_path": "a.rs", "file_size": 3,
        "content_type": null, "stamp_data": {"k": 1}, "namespace": "omninode.services.metadata"});
    assert_eq!(body(&sent[0]), expected);
    // Repeating is for servers that know contents by their hash.
    stamping.deduplicates(true).create_stamp(&new, Some("other")).unwrap();
    let sent = fake.sent();
    assert_eq!(sent[0].spec.idempotent, Some(true));
    assert_eq!(body(&sent[0])["namespace"], "other");
}

#[test]
fn the_published_server_is_sent_the_content_and_never_less() {
    let fake = says(200, success(&stamped()));
    let server = Stamping::new(fake.clone()).of_server();
    let error = server.create_stamp(&NewStamp::new(HEX, "a.rs", 3), None).unwrap_err();
    assert!(matches!(error, Error::Request { .. }) && error.to_string().contains("content"));
    assert!(Stamping::new(fake.clone()).create_stamp(&NewStamp::default(), None).is_err());
    assert!(fake.sent().is_empty());
    let new = NewStamp::new(HEX, "a.rs", 3)
        .content("fn")
        .with("intelligence", json!({"a": 1}))
        .with("context", "c");
    server.create_stamp(&new, None).unwrap();
    let sent = fake.sent();
    assert_eq!(sent[0].path, "/api/v1/metadata-stamping/stamp");
    let body = body(&sent[0]);
    assert_eq!((&body["content"], &body["intelligence_data"]), (&json!("fn"), &json!({"a": 1})));
    assert_eq!((&body["metadata"], body.get("file_hash")), (&json!({"context": "c"}), None));
}

#[test]
fn case_001_10_either_form_of_a_validation_is_read() {
    let seed = json!({"validation_result": true, "stamps_found": 2, "valid_stamps": 1,
        "invalid_stamps": 1, "details": [1, 2]});
    let fake = says(200, success(&seed).replace("success", "partial"));
    let validation = Stamping::new(fake.clone()).validate_stamp("text", None).unwrap();
    assert!(validation.validation_result && validation.partial);
    assert_eq!((validation.valid_stamps, validation.details.len()), (Some(1), 2));
    assert_eq!(fake.line(), r#"POST /validate {"content":"text","namespace":null}"#);
    let server = json!({"success": true, "is_valid": false, "stamps_found": 2, "current_hash": HEX,
        "validation_details": [{"is_valid": true}, {"is_valid": false}]});
    let fake = says(200, success(&server));
    let stamping = Stamping::new(fake.clone()).of_server();
    let validation = stamping.validate_stamp("text", Some("n")).unwrap();
    assert!(!validation.validation_result && !validation.partial);
    assert_eq!((validation.valid_stamps, validation.invalid_stamps), (Some(1), Some(1)));
    assert_eq!(validation.current_hash.as_deref(), Some(HEX));
}

#[test]
fn case_001_12_a_stamp_that_is_not_there_is_none() {
    let get = |status, body: &str| Stamping::new(says(status, body)).get_stamp(HEX, None);
    assert_eq!(get(200, &success(&stamped())).unwrap().unwrap().file_hash, HEX);
    // A row need not repeat the hash.
    let row = get(200, &success(&json!({"stamp_id": "7", "colour": 1}))).unwrap().unwrap();
    assert_eq!((row.file_hash.as_str(), &row.more["colour"]), (HEX, &json!(1)));
    assert_eq!(get(404, "{}").unwrap(), None);
    assert_eq!(get(200, r#"{"status":"error","data":null,"error":"gone"}"#).unwrap(), None);
    assert_eq!(get(503, "{}").unwrap_err().status(), Some(503));
    assert!(matches!(get(200, "[]").unwrap_err(), Error::Decode { .. }));
    // The published server has a code for it; a 404 without one is another mistake.
    let get = |body: &str| Stamping::new(says(404, body)).of_server().get_stamp(HEX, Some("n"));
    let absent = json!({"detail": {"status": "error",
        "error": [{"code": "STAMP_NOT_FOUND_IN_NAMESPACE", "message": "m"}]}});
    assert_eq!(get(&absent.to_string()).unwrap(), None);
    assert_eq!(get(r#"{"detail":"Not Found"}"#).unwrap_err().status(), Some(404));
    let fake = says(404, "{}");
    Stamping::new(fake.clone()).get_stamp("a/b", Some("n")).unwrap();
    assert_eq!(fake.line(), "GET /stamp/a%2Fb?namespace=n");
}

#[test]
fn case_001_11_14_ten_items_are_one_request_and_total_failure_is_an_error() {
    let items: Vec<NewStamp> = (0..10).map(|n| NewStamp::new(HEX, n.to_string(), n)).collect();
    for names in
        [["total", "successful", "failed"], ["total_items", "successful_items", "failed_items"]]
    {
        let counts =
            |ok: u64| json!({names[0]: 10, names[1]: ok, names[2]: 10 - ok, "results": null});
        let fake = says(200, success(&counts(7)).replace("success\"", "partial\""));
        let batch = Stamping::new(fake.clone()).batch_create_stamps(&items, None);
        let batch = batch.unwrap_or_else(|error| panic!("{names:?}: {error}"));
        assert_eq!((batch.total, batch.successful, batch.failed, batch.partial), (10, 7, 3, true));
        let sent = fake.sent();
        assert_eq!((sent.len(), sent[0].spec.idempotent), (1, Some(false)));
        let body = body(&sent[0]);
        assert_eq!(body["items"].as_array().unwrap().len(), 10);
        for item in body["items"].as_array().unwrap() {
            assert_eq!(item["namespace"], "omninode.services.metadata");
        }
        for status in ["success", "error"] {
            let answer = json!({"status": status, "data": counts(0)}).to_string();
            let error = Stamping::new(says(200, answer)).batch_create_stamps(&items, None);
            assert!(matches!(error.unwrap_err(), Error::Rejected { .. }));
        }
    }
    let fake = says(200, "");
    assert!(Stamping::new(fake.clone()).batch_create_stamps(&[], None).is_err());
    assert!(Stamping::new(fake.clone()).of_server().batch_create_stamps(&items, None).is_err());
    assert!(fake.sent().is_empty());
}

#[test]
fn case_001_13_metrics_that_are_no_json_are_an_error() {
    let metrics = |body: &str| Stamping::new(says(200, body)).service_metrics();
    assert_eq!(metrics(r#"{"a": 1}"#).unwrap()["a"], 1);
    let error = metrics("# HELP x\nx 1\n").unwrap_err();
    assert!(matches!(error, Error::Decode { .. }) && !error.to_string().contains("HELP"));
    let server = Stamping::new(says(200, success(&json!({"database": {}})))).of_server();
    assert!(server.service_metrics().unwrap().contains_key("database"));
}

#[test]
fn case_001_55_56_health_is_a_word_wherever_it_stands() {
    let cases = [
        (200, r#"{"status":"healthy"}"#, true),
        (200, r#"{"status":"ok","service":"metadata-stamping"}"#, true),
        (200, r#"{"status":"success","data":{"status":"healthy"}}"#, true),
        (200, r#"{"status":"success","data":{"status":"unhealthy"}}"#, false),
        (200, r#"{"status":"partial","data":{"status":"healthy","overall_ready":false}}"#, false),
        (200, r#"{"status":"error"}"#, false),
        (200, "{}", false),
        (200, "ok", false),
        (500, r#"{"status":"healthy"}"#, false),
    ];
    for (status, body, well) in cases {
        assert_eq!(
            Stamping::new(says(status, body)).validate_connection().unwrap(),
            well,
            "{body}"
        );
        assert_eq!(
            OnexTree::new(says(status, body)).validate_connection().unwrap(),
            well,
            "{body}"
        );
    }
    let other = Stamping::new(says(200, r#"{"status":"ready"}"#)).healthy_words(["ready"]);
    assert!(other.validate_connection().unwrap());
    for (word, ready) in [("success", true), ("partial", false), ("error", false)] {
        let fake = says(200, json!({"status": word, "data": {}}).to_string());
        assert_eq!(Stamping::new(fake.clone()).of_server().ready().unwrap(), ready);
        assert_eq!(fake.line(), "GET /api/v1/metadata-stamping/health/ready");
    }
}

#[test]
fn case_001_15_16_17_questions_have_the_defaults_of_the_contract() {
    let fake = says(200, success(&json!({"intelligence": {}, "results": [], "nodes": null})));
    let tree = OnexTree::new(fake.clone());
    tree.get_intelligence(&IntelligenceQuery::new("c")).unwrap();
    let line = r#"POST /intelligence {"context":"c","include_patterns":true,"include_relationships":true}"#;
    let sent = fake.sent();
    assert_eq!(format!("POST {} {}", sent[0].path, body(&sent[0])), line);
    let wish = sent[0].wish.as_ref().unwrap();
    assert!(wish.cached && !wish.skip && sent[0].spec.idempotent == Some(true));
    tree.query_knowledge(&KnowledgeQuery::new("q")).unwrap();
    assert_eq!(fake.line(), r#"POST /knowledge/query {"filters":null,"max_depth":3,"query":"q"}"#);
    tree.navigate_tree(&Walk { use_cache: false, ..Walk::new("n") }).unwrap();
    let sent = fake.sent();
    assert_eq!(body(&sent[0]), json!({"start_node": "n", "direction": "both", "max_nodes": 100}));
    let fresh = sent[0].wish.as_ref().unwrap();
    assert!(fresh.skip);
    // Another operation has another key, whatever it is asked (001-80).
    assert_ne!(fresh.key, wish.key);
    let again = OnexTree::new(fake.clone()).correlated(&Correlation::new("x").unwrap());
    again
        .get_intelligence(&IntelligenceQuery { use_cache: false, ..IntelligenceQuery::new("c") })
        .unwrap();
    assert_eq!(fake.sent()[0].wish.as_ref().unwrap().key, wish.key);
}

#[test]
fn case_001_18_a_direction_is_one_of_three() {
    for (text, way) in [("up", Direction::Up), ("down", Direction::Down), ("both", Direction::Both)]
    {
        assert_eq!((text.parse(), way.to_string().as_str()), (Ok(way), text));
    }
    for bad in ["", "UP", "sideways", "up "] {
        assert_eq!(bad.parse::<Direction>(), Err(BadDirection));
        assert!(serde_json::from_value::<Direction>(json!(bad)).is_err());
    }
}

#[test]
fn case_001_83_only_data_of_the_right_kind_is_remembered() {
    let fake = says(200, success(&json!({"intelligence": {}})));
    OnexTree::new(fake.clone()).get_intelligence(&IntelligenceQuery::new("c")).unwrap();
    let wish = fake.sent()[0].wish.clone().unwrap();
    let good = success(&json!({"intelligence": {}}));
    assert!(!wish.refuses(200, good.as_bytes()));
    for (status, body) in [
        (404, good.as_str()),
        (200, r#"{"status":"error","data":{"intelligence":{}}}"#),
        (200, r#"{"status":"partial","data":{"intelligence":{}}}"#),
        (200, r#"{"status":"success","data":{"results":[]}}"#),
        (200, r#"{"status":"success","data":null}"#),
        (200, "<html>"),
    ] {
        assert!(wish.refuses(status, body.as_bytes()), "{status} {body}");
    }
}

#[test]
fn an_operation_that_the_server_lacks_is_unsupported_and_not_empty() {
    let tree = OnexTree::new(says(404, r#"{"detail":"Not Found"}"#));
    assert!(tree::unsupported(&tree.query_knowledge(&KnowledgeQuery::new("q")).unwrap_err()));
    assert!(tree::unsupported(&tree.navigate_tree(&Walk::new("n")).unwrap_err()));
    let down = OnexTree::new(says(503, "")).navigate_tree(&Walk::new("n")).unwrap_err();
    assert!(!tree::unsupported(&down));
}

#[test]
fn case_001_92_errors_name_a_code_and_nothing_else_and_problems_are_read_for_who_asks() {
    let planted = "postgres://admin:hunter2@db/x";
    let forms = [
        json!({"status": "error", "error": planted}),
        json!({"status": "error", "error": [{"code": "MEMORY_ERROR", "field": "f", "message": planted}]}),
        json!({"detail": {"status": "error", "error": [{"code": "MEMORY_ERROR", "message": planted}]}}),
        json!({"detail": planted}),
        json!({"detail": [{"loc": ["body"], "msg": planted, "type": "missing"}]}),
    ];
    for form in forms {
        for status in [200, 500] {
            let error = OnexTree::new(says(status, form.to_string()))
                .get_intelligence(&IntelligenceQuery::new("c"))
                .unwrap_err();
            let problems = error.said().map(Problem::all).unwrap_or_default();
            assert!(!format!("{error} {error:?} {problems:?}").contains("hunter2"), "{form}");
            if status == 500 {
                assert_eq!((problems.len(), problems[0].message.as_str()), (1, planted), "{form}");
            }
            let fallback = OnexTree::new(says(status, form.to_string()))
                .get_intelligence_or_fallback(&IntelligenceQuery::new("c"))
                .unwrap();
            let text = serde_json::to_string(&fallback).unwrap();
            assert!(fallback.degraded && !text.contains("hunter2"), "{text}");
            assert_eq!(fallback.intelligence["analysis_type"], "fallback");
            assert_eq!(fallback.metadata["fallback"], true);
        }
    }
}

fn orchestrated(broken: &'static str) -> Fake {
    Fake::new(move |request| {
        let route = request.path.path();
        if route == broken {
            return (503, "{}".to_owned());
        }
        match route {
            "/hash" => (200, success(&json!({"hash": HEX}))),
            "/intelligence" => {
                (200, success(&json!({"intelligence": {"a": 1}, "patterns": ["p"]})))
            }
            "/stamp" => (200, success(&stamped())),
            "/health" => (200, r#"{"status":"healthy"}"#.to_owned()),
            _ => (404, "{}".to_owned()),
        }
    })
}

#[test]
fn case_001_107_108_the_pipeline_yields_three_things_or_stops() {
    let fake = orchestrated("");
    let done = Bridge::new(fake.clone()).process("abc", "a.rs", "why").unwrap();
    let text = serde_json::to_value(&done).unwrap();
    let mut keys: Vec<_> = text.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["hash", "intelligence", "stamp"]);
    assert_eq!(done.hash, HEX);
    let sent = fake.sent();
    let stamp = body(&sent[2]);
    assert_eq!((&stamp["file_hash"], &stamp["file_size"]), (&json!(HEX), &json!(3)));
    assert_eq!(stamp["stamp_data"]["context"], "why");
    assert_eq!(stamp["stamp_data"]["intelligence"]["intelligence"], json!({"a": 1}));
    // One id for all of them, given or made.
    let made = sent[0].correlation.clone().unwrap();
    assert!(sent.iter().all(|request| request.correlation.as_ref() == Some(&made)));
    let given = Correlation::new("order-4711").unwrap();
    Bridge::new(fake.clone()).correlated(&given).process("abc", "a.rs", "why").unwrap();
    assert!(fake.sent().iter().all(|request| request.correlation.as_ref() == Some(&given)));
    for broken in ["/hash", "/intelligence"] {
        let fake = orchestrated(broken);
        let error = Bridge::new(fake.clone()).process("abc", "a.rs", "why").unwrap_err();
        assert_eq!(error.status(), Some(503));
        assert!(fake.sent().iter().all(|request| request.path.path() != "/stamp"), "{broken}");
    }
    assert!(Bridge::new(orchestrated("/stamp")).process("abc", "a.rs", "why").is_err());
    // The published server stamps texts.
    let fake = orchestrated("");
    let server = Stamping::new(fake.clone()).of_server();
    let bridge = Bridge::new(fake.clone()).with_stamping(server);
    assert!(matches!(bridge.process(&b"\xff"[..], "a", "b"), Err(Error::Request { .. })));
    assert!(fake.sent().is_empty());
}

#[test]
fn case_001_57_58_59_health_degrades_and_a_start_fails() {
    let well = Bridge::new(orchestrated(""));
    well.validate().unwrap();
    let health = serde_json::to_value(well.health().unwrap()).unwrap();
    let each = json!({"status": "healthy"});
    let expected = json!({"status": "healthy", "services": {"metadata": each, "onextree": each}});
    assert_eq!(health, expected);
    let ill = Bridge::new(orchestrated("/health"));
    let health = serde_json::to_value(ill.health().unwrap()).unwrap();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["services"]["metadata"]["status"], "unreachable");
    assert!(health["services"]["onextree"]["error"].as_str().unwrap().contains("503"));
    let error = ill.validate().unwrap_err();
    assert_eq!(error.to_string(), "not healthy at the start: metadata-stamping, onextree");
    assert!(error.is_unavailable());
}

#[test]
fn case_001_05_70_the_configuration_of_the_contract_keeps_what_is_there() {
    let mut config = Config::default();
    configure(&mut config, |name| {
        (name == TREE_URL_VARIABLE).then(|| "http://tree:1/ ".to_owned())
    })
    .unwrap();
    let stamping = &config.services[stamping::SERVICE];
    assert_eq!(stamping.endpoints[0].address, STAMPING_URL);
    let policy = stamping.policy.as_ref().unwrap();
    assert_eq!((policy.retry.max_attempts, policy.service_breaker.failures), (3, Some(5)));
    let tree = &config.services[tree::SERVICE];
    assert_eq!(tree.endpoints[0].address, "http://tree:1");
    assert!(tree.cache.as_ref().unwrap().enabled && stamping.cache.is_none());
    config.check().unwrap();
    // Twice is as good as once, and nothing of one's own is lost.
    let before = config.clone();
    let url = |name: &str| name.ends_with("URL").then(|| "http://other".to_owned());
    configure(&mut config, url).unwrap();
    assert_eq!(config, before);
    // With discovery, that says where services are, unless a variable does.
    let mut config = Config { discovery: Some(Default::default()), ..Config::default() };
    configure(&mut config, |_| None).unwrap();
    assert!(config.services[tree::SERVICE].endpoints.is_empty());
}

#[test]
fn case_001_55_a_failed_health_check_is_unavailable_and_keeps_what_it_was() {
    for (status, body) in [(500, "{}"), (503, r#"{"error":"x"}"#), (404, ""), (200, "hunter2")] {
        for error in [
            Stamping::new(says(status, body)).health_check().unwrap_err(),
            OnexTree::new(says(status, body)).health_check().unwrap_err(),
        ] {
            assert!(error.is_unavailable() && !error.is_circuit_open(), "{error:?}");
            assert_eq!(error.status(), (status != 200).then_some(status));
            assert!(error.service().is_some() && error.failure().is_none());
            let text = format!("{error} {error:?}");
            assert!(text.contains("health check failed") && !text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn case_001_102_a_hash_says_how_much_was_hashed_and_under_which_id() {
    let fake = says(200, success(&json!({"hash": HEX})));
    let hash = Stamping::new(fake).generate_hash(b"1234567", None).unwrap();
    assert_eq!((hash.file_size_bytes, hash.execution_time_ms), (Some(7), None));
}

#[test]
fn kinds_of_searches_are_read_as_they_are_written() {
    for kind in [QueryKind::Auto, QueryKind::Extension, QueryKind::Name, QueryKind::Path] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("AUTO".parse::<QueryKind>(), Err(BadQueryKind));
}

#[test]
fn case_001_02_one_module_has_all_that_the_package_exports() {
    use crate::ops::bridge::{Breaker, BreakerConfig, Error, OnexTree, Stamping, State};
    use crate::policy::breaker;
    let _clients: fn(Fake) -> (Stamping<Fake>, OnexTree<Fake>) =
        |fake| (Stamping::new(fake.clone()), OnexTree::new(fake));
    let settings = breaker::Settings::of(&BreakerConfig::default(), "breaker").unwrap();
    let made = Breaker::new(crate::Time::ZERO, &settings);
    let closed: State = made.state();
    assert_eq!(closed.word(), "closed");
    let general = Error::NotHealthy { services: Vec::new() };
    assert!(general.is_unavailable() && !general.is_circuit_open());
}
