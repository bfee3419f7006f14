//! Three servers and a client agent: the loss of a leader, of a quorum, a second datacenter.

use std::time::{Duration, Instant};

use origin_servers::consul::{self, Agent, Cluster, ClusterSetup};
use origin_servers::eventually;
use serde_json::json;

const PATH: &str = "/v1/health/service/web?passing";
const MOMENT: Duration = Duration::from_secs(10);

fn with_web(cluster: &Cluster) {
    cluster.client.register(&json!({ "ID": "web1", "Name": "web", "Port": 80 })).unwrap();
    // In every server's own copy: a follower applies a change with the leader's next message.
    for server in &cluster.servers {
        assert!(eventually(MOMENT, || stale(server).1 == 1));
    }
}

/// Whether a server says that it knows a leader, and how many instances its own copy has.
fn stale(agent: &Agent) -> (bool, usize) {
    let answer = agent.http().get(&format!("{PATH}&stale")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let led = answer.header("X-Consul-KnownLeader") == Some("true");
    (led, answer.json().as_array().unwrap().len())
}

#[test]
fn stale_reads_survive_the_leader_and_default_reads_come_back() {
    let Some(mut cluster) = consul::cluster(&ClusterSetup::default()) else { return };
    with_web(&cluster);
    let http = cluster.client.http();
    let leader = cluster.leader().expect("a leader");
    cluster.servers[leader].process.kill9();

    let start = Instant::now();
    let (mut errors, mut words) = (0, String::new());
    loop {
        // Stale reads keep their answer all the while: from the agent's point of view the next
        // server is one broken connection away, so one error of that is allowed for.
        let stale = (0..2).map(|_| http.get(&format!("{PATH}&stale")).unwrap());
        let stale: Vec<u16> = stale.map(|answer| answer.status).collect();
        assert!(stale.contains(&200), "{stale:?}");
        let answer = http.get(PATH).unwrap();
        if answer.status == 200 && answer.header("X-Consul-KnownLeader") == Some("true") {
            break;
        }
        assert_eq!(answer.status, 500);
        errors += 1;
        words = answer.text();
        assert!(start.elapsed() < Duration::from_secs(15), "no new leader");
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{errors} errors in {:?}, the last one: {words}", start.elapsed());
    assert!(errors > 0, "the loss of a leader shows");
    let next = cluster.leader().expect("a new leader");
    assert_ne!(next, leader);

    // The old one comes back as a follower with all it had, though not all of it at once: it is
    // told by the leader how far what it has on disk is agreed upon.
    cluster.servers[leader].process.restart().unwrap();
    assert!(eventually(MOMENT, || stale(&cluster.servers[leader]) == (true, 1)));
}

#[test]
fn without_a_quorum_only_stale_reads_answer_and_they_say_so() {
    let Some(mut cluster) = consul::cluster(&ClusterSetup::default()) else { return };
    with_web(&cluster);
    cluster.servers[0].process.kill9();
    cluster.servers[1].process.kill9();
    let http = cluster.client.http();
    // A server notices that it leads nobody in about a second.
    let noticed = eventually(MOMENT, || {
        let answer = http.get(&format!("{PATH}&stale")).unwrap();
        answer.header("X-Consul-KnownLeader") == Some("false")
            && (answer.status, &answer.json()[0]["Service"]["ID"]) == (200, &json!("web1"))
    });
    assert!(noticed);
    // Milliseconds since it heard of a leader, or led: they grow.
    let grown = eventually(MOMENT, || {
        let answer = http.get(&format!("{PATH}&stale")).unwrap();
        answer.header("X-Consul-LastContact").and_then(|ms| ms.parse().ok()) > Some(1_000_u64)
    });
    assert!(grown);
    assert_eq!(cluster.leader(), None);

    // The last one gone: the agent has nobody to ask, also not for stale answers.
    cluster.servers[2].process.kill9();
    let answer = http.get(&format!("{PATH}&stale")).unwrap();
    assert_eq!(answer.status, 500, "{}", answer.text());
}

#[test]
fn a_server_that_was_left_behind_says_that_there_is_nothing() {
    let Some(mut cluster) = consul::cluster(&ClusterSetup::default()) else { return };
    let leader = cluster.leader().expect("a leader");
    let behind = (leader + 1) % 3;
    cluster.servers[behind].process.pause();
    let web = json!({ "ID": "web1", "Name": "web", "Port": 80 });
    cluster.servers[leader].register(&web).unwrap();
    assert!(eventually(MOMENT, || stale(&cluster.servers[leader]).1 == 1));
    for (number, server) in cluster.servers.iter_mut().enumerate() {
        if number != behind {
            server.process.kill9();
        }
    }
    cluster.servers[behind].process.resume();
    // 200 and an empty list: a stale answer without a known leader proves no absence.
    let last = &cluster.servers[behind];
    assert!(eventually(MOMENT, || !stale(last).0));
    assert_eq!(stale(last), (false, 0));
}

#[test]
fn a_second_datacenter_is_asked_through_the_first() {
    let setup = ClusterSetup { second: true, acl: true };
    let Some(cluster) = consul::cluster(&setup) else { return };
    let second = cluster.second.as_ref().unwrap();
    second.register(&json!({ "ID": "web9", "Name": "web", "Port": 90 })).unwrap();
    let there = eventually(MOMENT, || {
        let answer = cluster.client.http().get(&format!("{PATH}&dc=dc2")).unwrap();
        answer.json()[0]["Service"]["ID"] == "web9"
    });
    assert!(there);
    assert_eq!(cluster.client.http().get(PATH).unwrap().text().trim(), "[]");
    let names = cluster.client.http().get("/v1/catalog/datacenters").unwrap().json();
    assert_eq!(names, json!(["dc1", "dc2"]));
    // One token for both: it is known to the second datacenter, too.
    let token = cluster.client.token(r#"service_prefix "" { policy = "read" }"#).unwrap();
    let reader = cluster.client.http_as(&token.secret);
    let known = eventually(MOMENT, || {
        reader.get(&format!("{PATH}&dc=dc2")).is_ok_and(|answer| answer.status == 200)
    });
    assert!(known);
}
