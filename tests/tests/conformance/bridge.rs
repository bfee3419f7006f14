//! The clients of the `OmniNode` bridge over real sockets, against servers that speak either
//! contract: every operation, both services together, what is remembered, how errors read.

use std::collections::BTreeSet;
use std::time::Duration;

use origin_core::ops::bridge::{
    ClientMetrics, IntelligenceQuery, KnowledgeQuery, NewStamp, Problem, Stamping, Walk, stamping,
    tree,
};
use origin_core::{Correlation, Error};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use origin_tests::bridge::{Bridge, Speaks};

use crate::subject::Subject;

on_every_runtime! {
    case_001_104_every_operation_of_the_stamping_service
    case_001_105_every_operation_of_the_tree
    case_001_71_72_83_answers_of_the_tree_are_remembered_and_errors_are_not
    case_001_107_the_pipeline_runs_hash_and_intelligence_at_once_under_one_id
    case_001_57_58_59_health_degrades_and_a_start_fails
    case_001_92_nothing_a_server_says_is_in_an_error
    case_001_41_42_what_only_reads_is_repeated_and_what_makes_something_is_not
    case_001_60_61_62_what_a_client_counts
}

fn client<S: Subject>(servers: &Bridge) -> Client<S> {
    Client::<S>::builder()
        .endpoint(stamping::SERVICE, servers.stamping.url())
        .endpoint(tree::SERVICE, servers.tree.url())
        .bridge()
        .configure(|config| {
            for service in config.services.values_mut() {
                let policy = service.policy.get_or_insert_default();
                policy.retry.backoff.base = Duration::from_millis(1);
                policy.retry.backoff.max = Duration::from_millis(2);
            }
        })
        .build()
        .unwrap()
}

fn both<S: Subject>(speaks: Speaks) -> (Bridge, Client<S>, Stamping<Client<S>>) {
    let servers = Bridge::start(speaks).unwrap();
    let client = client::<S>(&servers);
    let stamping = Stamping::new(client.clone());
    let stamping = if speaks == Speaks::Server { stamping.of_server() } else { stamping };
    (servers, client, stamping)
}

fn header(server: &FaultServer, name: &str) -> BTreeSet<String> {
    server.requests().iter().map(|r| r.header(name).unwrap_or("").to_owned()).collect()
}

fn case_001_104_every_operation_of_the_stamping_service<S: Subject>() {
    for speaks in [Speaks::Clients, Speaks::Server] {
        let (servers, client, stamping) = both::<S>(speaks);
        // Any bytes, the empty ones included, and those of a boundary.
        for content in [&b""[..], b"\r\n--origin-part-00000000--\r\n\x00\xff", &[7; 100_000]] {
            let hash = S::wait(stamping.generate_hash(content, None)).unwrap();
            assert_eq!((hash.hash.len(), hash.file_size_bytes), (64, Some(content.len() as u64)));
        }
        let hash = S::wait(stamping.generate_hash(b"fn main", None)).unwrap().hash;
        assert_eq!(S::wait(stamping.get_stamp(&hash, None)).unwrap(), None);
        let new = NewStamp::new(&hash, "a.rs", 7).content("fn main").with("k", "v");
        let stamp = S::wait(stamping.create_stamp(&new, None)).unwrap();
        assert_eq!((&stamp.file_hash, stamp.version), (&hash, Some(1)));
        assert_eq!(stamp.namespace.as_deref(), Some("omninode.services.metadata"));
        let found = S::wait(stamping.get_stamp(&hash, Some("n"))).unwrap().unwrap();
        assert_eq!(found.stamp_id, stamp.stamp_id);
        for (text, valid) in [("fine", true), ("tampered", false)] {
            let validation = S::wait(stamping.validate_stamp(text, None)).unwrap();
            assert_eq!(validation.validation_result, valid);
            assert_eq!(validation.valid_stamps, Some(u64::from(valid)));
        }
        let item = |path: &str| NewStamp::new(&hash, path, 1).content("x");
        let before = servers.stamping.request_count();
        let ten: Vec<NewStamp> = (0..10).map(|n| item(&n.to_string())).collect();
        let batch = S::wait(stamping.batch_create_stamps(&ten, None)).unwrap();
        assert_eq!((batch.total, batch.successful, batch.partial), (10, 10, false));
        assert_eq!(servers.stamping.request_count() - before, 1);
        let mixed = [item("a"), item("bad")];
        let batch = S::wait(stamping.batch_create_stamps(&mixed, Some("n"))).unwrap();
        assert_eq!((batch.successful, batch.failed, batch.partial), (1, 1, true));
        let error = S::wait(stamping.batch_create_stamps(&[item("bad")], None)).unwrap_err();
        assert!(matches!(error, Error::Rejected { .. }), "{error}");
        assert!(!S::wait(stamping.service_metrics()).unwrap().is_empty());
        assert_eq!(S::wait(stamping.health_check()).unwrap().status(), "healthy");
        assert!(S::wait(stamping.validate_connection()).unwrap());
        let agent = "omninode-bridge/MetadataStampingService".to_owned();
        assert_eq!(header(&servers.stamping, "user-agent"), [agent].into());
        if speaks == Speaks::Server {
            // Not ready, with a status of 200.
            assert!(!S::wait(stamping.ready()).unwrap());
            let error = S::wait(stamping.get_stamp("short", None)).unwrap_err();
            assert_eq!(error.said().unwrap().code(), Some("INVALID_HASH_FORMAT"));
            // At the root: `ok` is healthy, and metrics are text.
            let root = Stamping::new(client);
            assert!(S::wait(root.validate_connection()).unwrap());
            let error = S::wait(root.service_metrics()).unwrap_err();
            assert!(matches!(error, Error::Decode { .. }), "{error}");
            let error = S::wait(root.generate_hash(b"", None)).unwrap_err();
            assert_eq!(error.status(), Some(404));
        }
    }
}

fn case_001_105_every_operation_of_the_tree<S: Subject>() {
    for speaks in [Speaks::Clients, Speaks::Server] {
        let (servers, client, _) = both::<S>(speaks);
        let bridge = client.bridge();
        let tree = bridge.tree();
        let known = S::wait(tree.get_intelligence(&IntelligenceQuery::new("auth"))).unwrap();
        assert_eq!(known.patterns, ["factory"]);
        assert_eq!(known.intelligence["confidence_score"], "0.9");
        let knowledge = S::wait(tree.query_knowledge(&KnowledgeQuery::new("who")));
        let walk = S::wait(tree.navigate_tree(&Walk::new("root")));
        if speaks == Speaks::Clients {
            assert_eq!(knowledge.unwrap().results, ["who"]);
            assert_eq!(walk.unwrap().edges, ["both"]);
        } else {
            // Not there, which is not the same as nothing found.
            assert!(tree::unsupported(&knowledge.unwrap_err()));
            assert!(tree::unsupported(&walk.unwrap_err()));
        }
        let health = S::wait(tree.health_check()).unwrap();
        assert_eq!((health.status(), &health.body["total_files"]), ("healthy", &12.into()));
        let agent = "omninode-bridge/OnexTreeService".to_owned();
        assert_eq!(header(&servers.tree, "user-agent"), [agent].into());
    }
}

fn case_001_71_72_83_answers_of_the_tree_are_remembered_and_errors_are_not<S: Subject>() {
    let (servers, client, _) = both::<S>(Speaks::Clients);
    let bridge = client.bridge();
    let ask = |context: &str, use_cache| {
        let query = IntelligenceQuery { use_cache, ..IntelligenceQuery::new(context) };
        S::wait(bridge.tree().get_intelligence(&query))
    };
    let requests = || servers.tree.request_count();
    let first = ask("auth", true).unwrap();
    assert_eq!((ask("auth", true).unwrap(), requests()), (first, 1));
    ask("auth", false).unwrap();
    ask("other", true).unwrap();
    assert_eq!(requests(), 3);
    // An error in an answer of 200 is an error each time, and each time asked for.
    for count in 4..6 {
        assert!(matches!(ask("broken", true), Err(Error::Rejected { .. })));
        assert_eq!(requests(), count);
    }
    let query = IntelligenceQuery::new("broken");
    let stand_in = S::wait(bridge.tree().get_intelligence_or_fallback(&query)).unwrap();
    assert!(stand_in.degraded && stand_in.metadata["fallback"] == true);
    assert_eq!(requests(), 6);
    let upstream = client.service(tree::SERVICE).unwrap();
    let stats = upstream.cache_stats();
    assert_eq!((stats.enabled, stats.cache_size, stats.cache_hits), (true, 2, 1));
    assert_eq!(stats.ttl_seconds, 300);
    S::wait(upstream.clear_cache()).unwrap();
    assert_eq!(upstream.cache_stats().cache_size, 0);
    ask("auth", true).unwrap();
    assert_eq!(requests(), 7);
    // Hashes and stamps are not remembered.
    for _ in 0..2 {
        S::wait(bridge.stamping().generate_hash(b"x", None)).unwrap();
    }
    assert_eq!(servers.stamping.request_count(), 2);
}

fn case_001_107_the_pipeline_runs_hash_and_intelligence_at_once_under_one_id<S: Subject>() {
    for speaks in [Speaks::Clients, Speaks::Server] {
        let (servers, client, stamping) = both::<S>(speaks);
        let bridge = client.bridge().with_stamping(stamping);
        servers.let_them_meet();
        let done = S::wait(bridge.process("fn main", "a.rs", "auth")).unwrap();
        assert!(servers.have_met(), "one after the other on {}", S::NAME);
        assert_eq!((done.hash.len(), &done.stamp.file_hash), (64, &done.hash));
        assert_eq!(done.intelligence.patterns, ["factory"]);
        let ids = || {
            let mut ids = header(&servers.stamping, "x-correlation-id");
            ids.extend(header(&servers.tree, "x-correlation-id"));
            ids
        };
        let made = ids();
        assert_eq!((made.len(), made.first().unwrap().len()), (1, 36), "{made:?}");
        // A step that fails: nothing is stamped.
        servers.stamping.reset_counts();
        servers.tree.reset_counts();
        let given = Correlation::new("order-4711").unwrap();
        let bridge = bridge.correlated(&given);
        let error = S::wait(bridge.process("fn main", "a.rs", "broken")).unwrap_err();
        assert_eq!(error.service(), Some(tree::SERVICE));
        assert!(servers.stamping.requests().iter().all(|r| !r.path.ends_with("/stamp")));
        assert_eq!(ids(), ["order-4711".to_owned()].into());
    }
}

fn case_001_57_58_59_health_degrades_and_a_start_fails<S: Subject>() {
    let (servers, client, _) = both::<S>(Speaks::Clients);
    let bridge = client.bridge();
    S::wait(bridge.validate()).unwrap();
    let health = serde_json::to_value(S::wait(bridge.health()).unwrap()).unwrap();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["services"]["onextree"]["tree_loaded"], true);
    servers.stamping.set(Mode::Refuse);
    let health = serde_json::to_value(S::wait(bridge.health()).unwrap()).unwrap();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["services"]["metadata"]["status"], "unreachable");
    assert_eq!(health["services"]["onextree"]["status"], "healthy");
    assert!(!S::wait(bridge.stamping().validate_connection()).unwrap());
    match S::wait(bridge.validate()).unwrap_err() {
        Error::NotHealthy { services } => assert_eq!(&*services[0], stamping::SERVICE),
        other => panic!("{other}"),
    }
}

fn case_001_92_nothing_a_server_says_is_in_an_error<S: Subject>() {
    for speaks in [Speaks::Clients, Speaks::Server] {
        let (_servers, client, stamping) = both::<S>(speaks);
        let query = IntelligenceQuery::new("broken");
        let errors = [
            S::wait(client.bridge().tree().get_intelligence(&query)).unwrap_err(),
            S::wait(stamping.get_stamp("short", None))
                .err()
                .unwrap_or(Error::NotHealthy { services: Vec::new() }),
        ];
        for error in &errors {
            let problems = error.said().map(Problem::all).unwrap_or_default();
            let printed = format!("{error} {error:?} {problems:?} {}", error.advice());
            assert!(!printed.contains("hunter2"), "{printed}");
        }
        // Whoever asks is told.
        assert!(Problem::all(errors[0].said().unwrap())[0].message.contains("hunter2"));
        let notices = client.notices().iter().map(ToString::to_string).collect::<String>();
        assert!(!notices.contains("hunter2"), "{notices}");
    }
}

fn case_001_41_42_what_only_reads_is_repeated_and_what_makes_something_is_not<S: Subject>() {
    let (servers, client, stamping) = both::<S>(Speaks::Clients);
    let bridge = client.bridge();
    servers.stamping.set(Mode::ResetBeforeHead);
    let seen = |call: &dyn Fn() -> bool| {
        let before = servers.stamping.request_count();
        assert!(!call());
        servers.stamping.request_count() - before
    };
    let new = NewStamp::new("aa", "a", 1);
    assert_eq!(seen(&|| S::wait(stamping.create_stamp(&new, None)).is_ok()), 1);
    let batch = std::slice::from_ref(&new);
    assert_eq!(seen(&|| S::wait(stamping.batch_create_stamps(batch, None)).is_ok()), 1);
    assert_eq!(seen(&|| S::wait(stamping.generate_hash(b"x", None)).is_ok()), 3);
    servers.tree.set(Mode::status(503));
    let query = IntelligenceQuery::new("auth");
    assert!(S::wait(bridge.tree().get_intelligence(&query)).is_err());
    assert_eq!(servers.tree.request_count(), 3);
}

fn case_001_60_61_62_what_a_client_counts<S: Subject>() {
    let (servers, client, _) = both::<S>(Speaks::Clients);
    let bridge = client.bridge();
    let metrics = |name: &str| {
        let upstream = client.service(name).unwrap();
        let cache = (upstream.cache_stats(), upstream.cache_more_stats());
        let cache = (name == tree::SERVICE).then_some(cache);
        serde_json::to_value(ClientMetrics::of(&client.snapshot(), name, cache).unwrap()).unwrap()
    };
    assert_eq!(metrics(stamping::SERVICE)["error_rate"], 0.0);
    for _ in 0..3 {
        S::wait(bridge.stamping().generate_hash(b"x", None)).unwrap();
    }
    servers.stamping.set(Mode::Refuse);
    assert!(S::wait(bridge.stamping().generate_hash(b"x", None)).is_err());
    let seen = metrics(stamping::SERVICE);
    assert_eq!((&seen["request_count"], &seen["error_count"]), (&4.into(), &1.into()));
    assert_eq!(seen["error_rate"], 0.25);
    assert_eq!(seen["circuit_breaker"]["name"], "metadata-stamping_circuit_breaker");
    assert_eq!(seen["circuit_breaker"]["state"], "closed");
    assert!(seen.get("cache").is_none());
    let query = IntelligenceQuery::new("auth");
    for _ in 0..4 {
        S::wait(bridge.tree().get_intelligence(&query)).unwrap();
    }
    let seen = metrics(tree::SERVICE);
    assert_eq!(
        (&seen["cache"]["cache_hits"], &seen["cache"]["hit_rate"]),
        (&3.into(), &0.75.into())
    );
    assert_eq!(seen["cache"]["cache_max_size"], 1_000);
}
