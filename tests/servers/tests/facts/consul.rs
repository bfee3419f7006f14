//! One agent without access control: health queries, blocking, TTL checks, restarts, DNS.

use std::time::{Duration, Instant};

use origin_servers::consul::{self, Agent, Setup};
use origin_servers::dns::{self, Kind};
use origin_servers::eventually;
use origin_servers::http::Answer;
use serde_json::{Value, json};

const MOMENT: Duration = Duration::from_secs(5);

/// A service with one TTL check, which passes.
fn web(agent: &Agent, id: &str, port: u16) {
    agent
        .register(&json!({
            "ID": id, "Name": "web", "Port": port,
            "Check": { "TTL": "60s", "Status": "passing" },
        }))
        .unwrap();
}

fn passing(agent: &Agent) -> (u64, Vec<Value>) {
    let answer = agent.http().get("/v1/health/service/web?passing").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    (index(&answer), answer.json().as_array().unwrap().clone())
}

fn index(answer: &Answer) -> u64 {
    answer.header("X-Consul-Index").unwrap().parse().unwrap()
}

#[test]
fn a_health_query_has_its_headers_and_nulls() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    eprintln!("consul ready in {:?}", agent.process.ready_in());
    let none = agent.http().get("/v1/health/service/web?passing").unwrap();
    // Unknown is empty, not an error, and has an index to block on.
    assert_eq!((none.status, none.text().trim()), (200, "[]"));
    assert!(index(&none) >= 1);

    web(&agent, "web1", 80);
    let answer = agent.http().get("/v1/health/service/web?passing").unwrap();
    assert_eq!(answer.header("X-Consul-KnownLeader"), Some("true"));
    assert_eq!(answer.header("X-Consul-LastContact"), Some("0"));
    let entry = &answer.json()[0];
    assert_eq!(entry["Node"]["Address"], "127.0.0.1");
    assert_eq!(entry["Service"]["Address"], "");
    assert_eq!(entry["Service"]["Meta"], Value::Null);
    assert_eq!(entry["Service"]["Weights"]["Passing"], 1);
    // The node's own check is among them.
    let checks = entry["Checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["CheckID"] == "serfHealth"));

    let cached = || agent.http().get("/v1/health/service/web?passing&cached").unwrap();
    assert_eq!(cached().header("X-Cache"), Some("MISS"));
    assert_eq!(cached().header("X-Cache"), Some("HIT"));
    assert_eq!(cached().header("Age"), Some("0"));
}

#[test]
fn what_is_wrong_is_said_with_these_statuses() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let http = agent.http();
    let said = |answer: Answer| (answer.status, answer.text());
    let put = |path: &str, body: &str| said(http.put(path, body).unwrap());
    let get = |path: &str| said(http.get(path).unwrap());
    let register = "/v1/agent/service/register";
    assert_eq!(put(register, r#"{"Port":80}"#), (400, "Missing service name".into()));
    let (status, text) = put(register, r#"{"Name":"x","Bogus":1}"#);
    assert_eq!(status, 400);
    assert!(text.contains("unknown field \"Bogus\""), "{text}");
    // Not 404, as newer versions say: nothing to do is done.
    assert_eq!(put("/v1/agent/service/deregister/none", ""), (200, String::new()));
    // Not 404 either: the agent has forgotten the check, and the status does not tell.
    let (status, text) = put("/v1/agent/check/pass/none", "");
    assert_eq!((status, text.as_str()), (500, "CheckID \"none\" does not have associated TTL"));
    assert_eq!(get("/v1/kv/none"), (404, String::new()));
    let path = "/v1/health/service/web";
    assert_eq!(get(&format!("{path}?dc=dc9")), (500, "No path to datacenter".into()));
    assert_eq!(get(&format!("{path}?index=-1")), (400, "Invalid index".into()));
    assert_eq!(get(&format!("{path}?index=1&wait=abc")), (400, "Invalid wait time".into()));
}

#[test]
fn a_blocking_query_returns_at_once_when_a_ttl_check_fails() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    web(&agent, "web1", 80);
    let (seen, list) = passing(&agent);
    assert_eq!(list.len(), 1);
    let http = agent.http().patience(Duration::from_secs(12));
    let watch = std::thread::spawn(move || {
        let path = format!("/v1/health/service/web?passing&index={seen}&wait=10s");
        (http.get(&path).unwrap(), Instant::now())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!watch.is_finished(), "it blocks while nothing changes");
    let failed = Instant::now();
    agent.done("/v1/agent/check/fail/service:web1", "").unwrap();
    let (answer, woken) = watch.join().unwrap();
    eprintln!("a failed check woke the query in {:?}", woken.duration_since(failed));
    assert!(woken.duration_since(failed) < Duration::from_secs(2));
    assert!(index(&answer) > seen);
    assert_eq!(answer.text().trim(), "[]");
}

#[test]
fn a_query_blocks_until_wait_and_a_little_more() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    web(&agent, "web1", 80);
    let (seen, _) = passing(&agent);
    let ask = |index: u64| {
        let start = Instant::now();
        let path = format!("/v1/health/service/web?passing&index={index}&wait=1s");
        (agent.http().get(&path).unwrap(), start.elapsed())
    };
    // Nothing changed: the same index after wait, plus up to a sixteenth.
    let (answer, took) = ask(seen);
    assert_eq!(index(&answer), seen);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // An index from the future blocks all the same, and comes back lower.
    let (answer, took) = ask(seen + 1_000_000);
    assert_eq!(index(&answer), seen);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // Index 0 does not block.
    let (_, took) = ask(0);
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_restarted_development_agent_has_forgotten_all_and_its_index_is_lower() {
    let Some(mut agent) = consul::start(&Setup::default()) else { return };
    for port in 1..=20 {
        web(&agent, &format!("web{port}"), port);
    }
    let (before, list) = passing(&agent);
    assert_eq!(list.len(), 20);
    let url = agent.url();
    agent.process.restart().unwrap();
    assert_eq!(agent.url(), url);
    let (after, list) = passing(&agent);
    assert!(after < before, "{after} < {before}");
    assert!(list.is_empty());
}

#[test]
fn a_restarted_durable_agent_has_everything() {
    let Some(mut agent) = consul::start(&Setup { durable: true, ..Setup::default() }) else {
        return;
    };
    eprintln!("durable consul ready in {:?}", agent.process.ready_in());
    agent.done("/v1/kv/colour", "blue").unwrap();
    web(&agent, "silent", 80);
    web(&agent, "beaten", 81);
    agent.done("/v1/agent/check/pass/service:beaten", "").unwrap();
    agent.process.restart().unwrap();
    let answer = agent.http().get("/v1/kv/colour?raw").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "blue"));
    let services = agent.http().get("/v1/agent/services").unwrap().json();
    assert_eq!(services["silent"]["Service"], "web");
    assert_eq!(services["beaten"]["Service"], "web");
    // The agent remembers a beat, not the status with which a check was registered: a service
    // that has not beaten yet is critical after a restart.
    let checks = agent.http().get("/v1/agent/checks").unwrap().json();
    assert_eq!(checks["service:beaten"]["Status"], "passing");
    assert_eq!(checks["service:silent"]["Status"], "critical");
    let one = || passing(&agent).1.iter().map(|e| e["Service"]["ID"].clone()).collect::<Vec<_>>();
    assert!(eventually(MOMENT, || one() == ["beaten"]), "{:?}", one());
}

#[test]
fn a_paused_agent_accepts_and_says_nothing() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    agent.process.pause();
    let hurried = agent.http().patience(Duration::from_millis(500));
    let error = hurried.get("/v1/agent/self").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "connected, then silence: {error}");
    agent.process.resume();
    assert_eq!(agent.http().get("/v1/agent/self").unwrap().status, 200);
}

#[test]
fn its_dns_gives_three_records_over_udp_without_saying_so_and_all_over_tcp() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    for number in 1..=12 {
        agent
            .register(&json!({
                "ID": format!("big{number}"), "Name": "big", "Port": 8000 + number,
                "Address": format!("127.0.1.{number}"), "Tags": ["v1"],
                "Weights": { "Passing": number, "Warning": 1 },
            }))
            .unwrap();
    }
    let ask = |name: &str, kind, tcp| dns::ask(agent.dns(), name, kind, tcp).unwrap();
    let name = "big.service.dc1.consul";
    assert!(eventually(MOMENT, || ask(name, Kind::Srv, true).services.len() == 12));
    let tcp = ask(name, Kind::Srv, true);
    assert_eq!(tcp.ttl, Some(1));
    let mut weights: Vec<_> = tcp.services.iter().map(|srv| (srv.priority, srv.weight)).collect();
    weights.sort_unstable();
    assert_eq!(weights, (1..=12).map(|weight| (1, weight)).collect::<Vec<_>>());
    assert!(tcp.services.iter().all(|srv| srv.target.ends_with(".addr.dc1.consul")));
    let udp = ask(name, Kind::Srv, false);
    assert_eq!((udp.services.len(), udp.truncated), (3, false), "without EDNS");
    // The other form of the name (RFC 2782), with a tag as the protocol.
    assert_eq!(ask("_big._v1.service.consul", Kind::Srv, true).services.len(), 12);
    assert_eq!(ask(name, Kind::A, true).addresses.len(), 12);
    assert_eq!(ask("none.service.consul", Kind::Srv, false).code, 3, "no such name");
    assert_eq!(ask("example.org", Kind::A, false).code, 5, "refused");
}

#[test]
fn members_say_one_for_alive() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let members = agent.http().get("/v1/agent/members").unwrap().json();
    assert_eq!(members[0]["Status"], 1);
    assert_eq!(members[0]["Name"], agent.node());
}
