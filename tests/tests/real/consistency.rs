//! The two checks of consistency, by a cluster that loses a member and by a key that is counted up.

use std::time::Duration;

use origin_core::config::RegistrationConfig;
use origin_core::consul::registrar::Stage;
use origin_core::notice::Event;
use origin_driver::Client;
use origin_lab::FaultServer;
use origin_servers::consul::{self, ClusterSetup, Setup};

use crate::catalogue::{client, known, register};
use crate::subject::{Subject, Tokio, eventually, get, within};

on_every_runtime! {
    case_003_58_63_an_index_that_is_counted_up_drops_what_is_known
}

fn said<S: Subject>(client: &Client<S>, is: impl Fn(&Event) -> bool) -> usize {
    client.notices().iter().filter(|notice| is(&notice.event)).count()
}

/// Nothing is watched here: only the index tells.
fn case_003_58_63_an_index_that_is_counted_up_drops_what_is_known<S: Subject>() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    register(&agent, "web", "web1", &servers[0]);
    agent.done("/v1/kv/services/web/index", "1").unwrap();
    let client = client::<S>(&agent.url(), |consul| {
        consul.watch.blocking = false;
        consul.watch.poll = Duration::from_secs(600);
        consul.verify.index = true;
        consul.verify.index_interval = Duration::from_secs(1);
    });
    let client = client.build().unwrap();
    let _background = S::background(&client);
    assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    std::thread::sleep(Duration::from_millis(2_500));
    register(&agent, "web", "web2", &servers[1]);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(known(&client, "web"), [servers[0].url()], "nobody has said anything");
    agent.done("/v1/kv/services/web/index", "2").unwrap();
    eventually("it is asked anew", || known(&client, "web").len() == 2);
    assert_eq!(said(&client, |event| matches!(event, Event::CacheDropped { .. })), 1);
    for _ in 0..4 {
        assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    }
}

/// Four members are wanted and one dies: Consul goes on answering, and is not believed.
#[test]
fn case_003_55_57_a_cluster_that_lost_a_member_refreshes_and_registers_nothing() {
    let setup = ClusterSetup { acl: false, second: false };
    let Some(mut cluster) = consul::cluster(&setup) else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    register(&cluster.client, "web", "web1", &servers[0]);
    let client = client::<Tokio>(&cluster.client.url(), |consul| {
        consul.verify.split_brain = true;
        consul.verify.minimum = 4;
        consul.verify.interval = Duration::from_secs(1);
        consul.watch.wait = Duration::from_secs(2);
    });
    let client = client.build().unwrap();
    within(Duration::from_secs(15), "it is known", || get(&client, "web", "/x").is_ok());
    let held = || client.snapshot().discovery.iter().any(|feed| feed.held_back);
    eventually("all four are counted", || !held());
    let leader = cluster.leader().unwrap();
    let follower = (0..3).find(|n| *n != leader).unwrap();
    cluster.servers[follower].process.kill9();
    within(Duration::from_secs(20), "it is held back", held);
    let failed = |event: &Event| {
        matches!(event, Event::ClusterHealthCheckFailed { alive: 3, minimum: 4, error: None })
    };
    assert_eq!(said(&client, failed), 1);
    // Consul knows the new one, and would say so at once.
    register(&cluster.client, "web", "web2", &servers[1]);
    let consul = client.consul().unwrap();
    let own =
        RegistrationConfig { checks: vec![], ..RegistrationConfig::module("api", "here", 80) };
    let own = Tokio::there(|| consul.register(&own)).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < until {
        assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(known(&client, "web"), [servers[0].url()]);
    assert_eq!(own.stage(), Some(Stage::Wanted));
    let begun = std::time::Instant::now();
    cluster.servers[follower].process.restart().unwrap();
    within(Duration::from_secs(20), "it is refreshed", || known(&client, "web").len() == 2);
    eprintln!("whole again, and known, {:?} after the start of the member", begun.elapsed());
    assert!(!held());
    assert!(Tokio::wait(own.wait(Duration::from_secs(10))).unwrap());
    assert_eq!(said(&client, |event| matches!(event, Event::ClusterHealthy { .. })), 1);
}
