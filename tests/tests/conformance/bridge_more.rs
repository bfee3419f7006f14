//! The clients of the bridge beyond every day's operations: what only the published servers have,
//! health in trouble, and the time limits of the environment.

use std::process::Command;
use std::time::{Duration, Instant};

use origin_core::config::Mode as Breaking;
use origin_core::ops::bridge::{
    Bridge as Both, IntelligenceQuery, PageOf, QueryKind, Stamping, stamping, tree,
};
use origin_core::{Config, ConfigError, Error};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use origin_tests::bridge::{Bridge, Speaks};
use serde_json::json;

use crate::subject::Subject;

on_every_runtime! {
    case_001_104_what_only_the_published_stamping_server_has
    case_001_105_what_only_the_published_tree_has
    case_001_55_a_health_check_that_fails_in_whatever_way_is_unavailable
    case_001_93_and_94_every_answer_is_bounded_in_time
    case_001_102_a_hash_says_what_a_line_of_a_log_needs
    case_001_27_28_time_limits_come_from_the_environment
    case_001_28_a_limit_for_one_call
    case_001_90_91_three_kinds_of_error_can_be_told_apart
    case_001_109_110_the_values_of_the_troubleshooting_take_effect
}

fn client<S: Subject>(stamps: &FaultServer, trees: &FaultServer) -> Client<S> {
    changed(stamps, trees, |_| ())
}

fn changed<S: Subject>(
    stamps: &FaultServer,
    trees: &FaultServer,
    change: impl FnOnce(&mut Config),
) -> Client<S> {
    Client::<S>::builder()
        .endpoint(stamping::SERVICE, stamps.url())
        .endpoint(tree::SERVICE, trees.url())
        .bridge()
        .configure(|config| {
            for service in config.services.values_mut() {
                let policy = service.policy.get_or_insert_default();
                policy.retry.max_attempts = 1;
                // Each trouble is met by itself.
                policy.breaker.mode = Breaking::Disabled;
                policy.service_breaker.mode = Breaking::Disabled;
            }
            change(config);
        })
        .build()
        .unwrap()
}

fn case_001_104_what_only_the_published_stamping_server_has<S: Subject>() {
    let servers = Bridge::start(Speaks::Server).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let stamping = Stamping::new(client).of_server();
    for (text, level) in [("fine", "full"), ("tampered", "none")] {
        let check = S::wait(stamping.validate_protocol(text, "O.N.E. v0.1", "strict", None));
        let check = check.unwrap();
        assert_eq!(check.compliance_level.as_deref(), Some(level));
        assert_eq!(check.is_valid, level == "full");
    }
    let page = PageOf { limit: 10, offset: 20 };
    let stamps = S::wait(stamping.namespace_stamps("a/b c", page)).unwrap();
    assert_eq!((stamps.total_stamps, stamps.stamps.len(), stamps.has_more), (0, 0, false));
    let path = servers.stamping.requests().pop().unwrap().path;
    assert!(path.ends_with("/namespace/a%2Fb%20c?limit=10&offset=20"), "{path}");
    assert!(S::wait(stamping.live()).unwrap());
    assert!(!S::wait(stamping.ready()).unwrap());
    let named = S::wait(stamping.transform_stamp(&json!({"transformer": "lines"}))).unwrap();
    assert_eq!(named.0["transformer"], "lines");
    assert!(S::wait(stamping.transform_validate(&json!({"transformer": "x"}))).is_ok());
    // Their errors are answers of 200.
    let error = S::wait(stamping.transform_stamp(&json!({}))).unwrap_err();
    assert!(matches!(error, Error::Rejected { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(S::wait(stamping.transformers()).unwrap().0["lines"], "1");
    assert_eq!(S::wait(stamping.schemas()).unwrap().0.len(), 1);
}

fn case_001_105_what_only_the_published_tree_has<S: Subject>() {
    let servers = Bridge::start(Speaks::Server).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let bridge = client.bridge();
    let tree = bridge.tree();
    assert_eq!(S::wait(tree.info()).unwrap()["status"], "no_tree_loaded");
    let made = S::wait(tree.generate_tree("/src")).unwrap();
    assert_eq!((made.total_files, made.total_directories), (12, 3));
    let error = S::wait(tree.generate_tree("/missing")).unwrap_err();
    assert_eq!(error.status(), Some(400));
    let found = S::wait(tree.query_tree("lib.rs", QueryKind::Name, 10)).unwrap();
    assert_eq!(found.query_type.as_deref(), Some("name"));
    assert_eq!((&*found.results[0].path, found.results[0].size), ("src/lib.rs", Some(7)));
    let stats = S::wait(tree.tree_stats()).unwrap();
    assert_eq!((stats.tree_loaded, &stats.statistics["files"]), (true, &json!(12)));
}

fn case_001_55_a_health_check_that_fails_in_whatever_way_is_unavailable<S: Subject>() {
    let servers = Bridge::start(Speaks::Clients).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let bridge = client.bridge();
    let sick = |mode: Mode| {
        servers.stamping.set(mode.clone());
        servers.tree.set(mode.clone());
        for error in [
            S::wait(bridge.stamping().health_check()).unwrap_err(),
            S::wait(bridge.tree().health_check()).unwrap_err(),
        ] {
            assert!(error.is_unavailable(), "{mode:?}: {error:?}");
            assert!(!error.is_circuit_open(), "{mode:?}: {error:?}");
        }
        let health = serde_json::to_value(S::wait(bridge.health()).unwrap()).unwrap();
        assert_eq!(health["status"], "degraded", "{mode:?}");
    };
    for code in [500, 503, 404, 401] {
        sick(Mode::status(code));
    }
    sick(Mode::Status { code: 200, headers: Vec::new(), body: "pl4nted".to_owned() });
    sick(Mode::ResetBeforeHead);
    sick(Mode::Refuse);
    // The status of the answer is still there, for whoever asks.
    servers.stamping.set(Mode::status(500));
    let error = S::wait(bridge.stamping().health_check()).unwrap_err();
    assert_eq!((error.status(), error.service()), (Some(500), Some(stamping::SERVICE)));
}

fn case_001_93_and_94_every_answer_is_bounded_in_time<S: Subject>() {
    let servers = Bridge::start(Speaks::Clients).unwrap();
    let limit = Duration::from_millis(200);
    let client = changed::<S>(&servers.stamping, &servers.tree, |config| {
        config.policy.deadline.connect = Some(limit);
        for service in config.services.values_mut() {
            let policy = service.policy.get_or_insert_default();
            (policy.deadline.total, policy.deadline.attempt) = (limit, Some(limit));
        }
    });
    let slow = Mode::Drip { bytes: 100_000, every_ms: 20 };
    for mode in [Mode::HangBeforeHead, Mode::HangAfterHead, slow] {
        servers.stamping.set(mode.clone());
        servers.tree.set(mode.clone());
        let bridge = client.bridge();
        let query = IntelligenceQuery::new("auth");
        let began = Instant::now();
        let errors = [
            S::wait(bridge.stamping().generate_hash(b"x", None)).unwrap_err(),
            S::wait(bridge.stamping().validate_stamp("x", None)).unwrap_err(),
            S::wait(bridge.tree().get_intelligence(&query)).unwrap_err(),
        ];
        for error in &errors {
            assert!(error.is_unavailable(), "{mode:?}: {error:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{mode:?}: {:?}", began.elapsed());
    }
}

fn case_001_28_a_limit_for_one_call<S: Subject>() {
    let servers = Bridge::start(Speaks::Clients).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let bridge = client.bridge();
    servers.stamping.set(Mode::slow(600));
    let limit = Duration::from_millis(100);
    let hasty = S::wait(bridge.stamping().timeout(limit).generate_hash(b"x", None)).unwrap_err();
    assert!(hasty.is_timeout() || hasty.is_unavailable(), "{hasty:?}");
    // The next one has all the time there is.
    assert!(S::wait(bridge.stamping().generate_hash(b"x", None)).is_ok());
}

fn case_001_90_91_three_kinds_of_error_can_be_told_apart<S: Subject>() {
    let servers = Bridge::start(Speaks::Clients).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let mut config = client.config();
    for service in config.services.values_mut() {
        service.policy.as_mut().unwrap().service_breaker.mode = Breaking::Enforce;
    }
    client.reconfigure(config).unwrap();
    let bridge = client.bridge();
    let hash = || S::wait(bridge.stamping().generate_hash(b"x", None)).unwrap_err();
    // A mistake of the caller's is neither, and opens nothing however often it is made.
    servers.stamping.set(Mode::status(422));
    for _ in 0..10 {
        let error = hash();
        assert!(!error.is_unavailable() && !error.is_circuit_open(), "{error:?}");
        assert_eq!(error.status(), Some(422));
    }
    servers.stamping.set(Mode::ResetBeforeHead);
    for _ in 0..5 {
        let error = hash();
        assert!(error.is_unavailable() && !error.is_circuit_open(), "{error:?}");
    }
    let before = servers.stamping.request_count();
    let error = hash();
    assert!(error.is_circuit_open() && error.is_unavailable(), "{error:?}");
    assert_eq!(servers.stamping.request_count(), before, "an open breaker sends nothing");
    let text = error.to_string();
    assert!(text.contains(stamping::SERVICE), "{text}");
}

fn case_001_109_110_the_values_of_the_troubleshooting_take_effect<S: Subject>() {
    let servers = Bridge::start(Speaks::Clients).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let mut config = client.config();
    for service in config.services.values_mut() {
        let policy = service.policy.as_mut().unwrap();
        policy.service_breaker.mode = Breaking::Enforce;
        policy.service_breaker.failures = Some(10);
        policy.service_breaker.minimum_throughput = 10;
        policy.service_breaker.open = Duration::from_secs(120);
        policy.service_breaker.open_max = Duration::from_secs(120);
        policy.retry.max_attempts = 5;
        policy.retry.backoff.base = Duration::from_millis(1);
        policy.retry.backoff.max = Duration::from_millis(2);
        // With waits of seconds nobody repeats more than ten times a second.
        policy.budget.enabled = false;
    }
    client.reconfigure(config).unwrap();
    let bridge = client.bridge();
    servers.stamping.set(Mode::status(503));
    for call in 1..=10 {
        let error = S::wait(bridge.stamping().generate_hash(b"x", None)).unwrap_err();
        assert!(!error.is_circuit_open(), "call {call}: {error:?}");
        assert_eq!(servers.stamping.request_count(), 5 * call, "{error}");
    }
    let error = S::wait(bridge.stamping().generate_hash(b"x", None)).unwrap_err();
    assert!(error.is_circuit_open(), "{error:?}");
    let left = error.failure().unwrap().retry_in.unwrap();
    let spans = Duration::from_secs(100)..=Duration::from_secs(120);
    assert!(spans.contains(&left), "{left:?}");
}

fn case_001_102_a_hash_says_what_a_line_of_a_log_needs<S: Subject>() {
    let servers = Bridge::start(Speaks::Clients).unwrap();
    let client = client::<S>(&servers.stamping, &servers.tree);
    let hash = S::wait(client.bridge().stamping().generate_hash(b"fn main", None)).unwrap();
    assert_eq!((hash.file_size_bytes, hash.execution_time_ms), (Some(7), Some(0.4)));
    let sent = servers.stamping.requests().pop().unwrap();
    let id = hash.correlation_id.unwrap();
    assert_eq!(sent.header("x-correlation-id"), Some(id.as_str()));
}

/// What tells the test that it is the child.
const CHILD: &str = "ORIGIN_TESTS_BRIDGE";

/// The environment of a process belongs to the process, so another one is started.
fn case_001_27_28_time_limits_come_from_the_environment<S: Subject>() {
    match std::env::var(CHILD).as_deref() {
        Ok("bad") => {
            let error: ConfigError = Client::<S>::builder().bridge().build().unwrap_err();
            assert_eq!(error.field, "ONEXTREE_INTELLIGENCE_TIMEOUT_SECONDS");
            assert!(!error.to_string().contains("soon"), "{error}");
            return;
        }
        Ok(_) => {
            let client = Client::<S>::builder().bridge().build().unwrap();
            let both = Both::new(client);
            let timed = |error: Error| assert!(error.is_unavailable(), "{error:?}");
            // Both hang. Without a limit of its own each would take 30 s.
            timed(S::wait(both.tree().get_intelligence(&IntelligenceQuery::new("a"))).unwrap_err());
            timed(S::wait(both.tree().health_check()).unwrap_err());
            timed(S::wait(both.stamping().health_check()).unwrap_err());
            timed(S::wait(both.stamping().generate_hash(b"x", None)).unwrap_err());
            return;
        }
        Err(_) => (),
    }
    let server = FaultServer::start().unwrap();
    server.set(Mode::HangBeforeHead);
    let name = format!(
        "bridge_more::case_001_27_28_time_limits_come_from_the_environment::on_{}",
        S::NAME.replace('-', "_")
    );
    for (kind, intelligence) in [("good", "0.1"), ("bad", "soon")] {
        let began = Instant::now();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name])
            .env(CHILD, kind)
            .env("METADATA_STAMPING_SERVICE_URL", server.url())
            .env("ONEXTREE_SERVICE_URL", server.url())
            .env("METADATA_STAMPING_CLIENT_TIMEOUT_SECONDS", "0.3")
            .env("ONEXTREE_INTELLIGENCE_TIMEOUT_SECONDS", intelligence)
            .env("METADATA_STAMPING_HEALTH_CHECK_TIMEOUT_SECONDS", "0.1")
            .env("ONEXTREE_HEALTH_CHECK_TIMEOUT_SECONDS", "0.1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{kind}: {said}");
        assert!(began.elapsed() < Duration::from_secs(25), "{kind}: {:?}", began.elapsed());
    }
}
