//! Consul: changes, restarts, leaders lost, tokens revoked, services that flap.

use std::time::{Duration, Instant};

use origin_core::config::{Consistency, TokenSource};
use origin_core::discovery::DiscoveryError;
use origin_core::{Error, Secret};
use origin_lab::FaultServer;
use origin_servers::consul::{self, ClusterSetup, Setup};

use crate::catalogue::{client, known, register, say};
use crate::subject::{Subject, Tokio, eventually, get, within};

on_every_runtime! {
    case_004_50_a_change_in_consul_reaches_the_client_within_a_poll
    case_004_52_64_an_agent_that_restarts_during_a_watch_loses_nothing
}

fn case_004_50_a_change_in_consul_reaches_the_client_within_a_poll<S: Subject>() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    register(&agent, "web", "web1", &servers[0]);
    let client = client::<S>(&agent.url(), |_| ()).build().unwrap();
    let _background = S::background(&client);
    assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    assert_eq!(known(&client, "web"), [servers[0].url()]);
    eventually("it watches", || client.snapshot().discovery.iter().any(|feed| feed.watching));

    let begun = Instant::now();
    register(&agent, "web", "web2", &servers[1]);
    eventually("the new one is known", || known(&client, "web").len() == 2);
    let added = begun.elapsed();
    let begun = Instant::now();
    say(&agent, "web1", "fail");
    eventually("the ill one is gone", || known(&client, "web") == [servers[1].url()]);
    eprintln!("a new instance after {added:?}, an ill one gone after {:?}", begun.elapsed());
    for _ in 0..5 {
        assert_eq!(get(&client, "web", "/y").unwrap().status, 200);
    }
    assert_eq!(servers[0].request_count(), 1);
    // One connection for all polls (004-75) is the adapter's pool; nothing is asked without need.
    let feed = client.snapshot().discovery[0].clone();
    assert_eq!((feed.failures, feed.stale), (0, false));
}

fn case_004_52_64_an_agent_that_restarts_during_a_watch_loses_nothing<S: Subject>() {
    let Some(mut agent) = consul::start(&Setup::default()) else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    register(&agent, "web", "web1", &servers[0]);
    let client = client::<S>(&agent.url(), |_| ()).build().unwrap();
    let _background = S::background(&client);
    get(&client, "web", "/x").unwrap();
    eventually("it watches", || client.snapshot().discovery.iter().any(|feed| feed.watching));
    agent.process.kill9();
    eventually("it is noticed", || client.snapshot().discovery[0].failures > 0);
    // Without its registry the client goes on with what it knows (003-41).
    for _ in 0..5 {
        assert_eq!(get(&client, "web", "/y").unwrap().status, 200);
    }
    // What changed while it was away is found: a development agent has forgotten everything, and
    // its index is lower than before.
    agent.process.restart().unwrap();
    register(&agent, "web", "web2", &servers[1]);
    within(Duration::from_secs(20), "the change is found", || {
        known(&client, "web") == [servers[1].url()]
    });
    assert_eq!(get(&client, "web", "/z").unwrap().status, 200);
}

#[test]
fn case_003_41_stale_reads_go_on_without_a_leader() {
    let setup = ClusterSetup { acl: false, second: false };
    let Some(mut cluster) = consul::cluster(&setup) else { return };
    let server = FaultServer::start().unwrap();
    register(&cluster.client, "web", "web1", &server);
    let stale = client::<Tokio>(&cluster.client.url(), |consul| {
        consul.consistency = Consistency::Stale;
        consul.max_stale = Duration::from_secs(60);
        consul.watch.wait = Duration::from_secs(2);
    });
    let client = stale.build().unwrap();
    within(Duration::from_secs(15), "it is known", || get(&client, "web", "/x").is_ok());
    let leader = cluster.leader().unwrap();
    cluster.servers[leader].process.kill9();
    // Calls go on all the time, and so do lookups: the list may be old, it is never empty.
    let until = Instant::now() + Duration::from_secs(6);
    let mut calls = 0;
    while Instant::now() < until {
        assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
        assert_eq!(known(&client, "web"), [server.url()]);
        calls += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(calls > 50);
}

#[test]
fn case_003_40_44_without_a_right_nothing_is_found_and_a_revoked_token_is_said() {
    let setup = Setup { acl: true, ..Setup::default() };
    let Some(agent) = consul::start(&setup) else { return };
    let server = FaultServer::start().unwrap();
    register(&agent, "web", "web1", &server);
    let rules = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    let token = agent.token(rules).unwrap();
    let with = |secret: &str| {
        let secret = secret.to_owned();
        client::<Tokio>(&agent.url(), move |consul| {
            consul.service_token = Secret::new(&secret).map(TokenSource::Text);
            consul.watch.wait = Duration::from_secs(1);
        })
        .build()
        .unwrap()
    };
    // Without a token Consul shows an empty catalogue: an unlisted caller finds nobody.
    let nobody = client::<Tokio>(&agent.url(), |_| ()).build().unwrap();
    assert!(matches!(get(&nobody, "web", "/x"), Err(Error::Refused(_) | Error::Exhausted(_))));
    let wrong = with("11111111-2222-3333-4444-555555555555");
    let Err(Error::Discovery { error, .. }) = get(&wrong, "web", "/x") else { panic!() };
    assert!(matches!(error, DiscoveryError::Denied(_)), "{error}");

    let reader = with(&token.secret);
    assert_eq!(get(&reader, "web", "/x").unwrap().status, 200);
    eventually("it watches", || reader.snapshot().discovery.iter().any(|feed| feed.watching));
    agent.revoke(&token).unwrap();
    within(Duration::from_secs(10), "it is said", || {
        let error = reader.snapshot().discovery[0].last_error.clone();
        error.is_some_and(|text| text.contains("permission denied"))
    });
    // What was known still serves.
    assert_eq!(get(&reader, "web", "/x").unwrap().status, 200);
    let shown = format!("{:?} {:?}", reader.snapshot(), reader.notices());
    assert!(!shown.contains(&token.secret));
}

/// An instance is ill and well again every 100 ms for ten seconds: the client's list moves a
/// bounded number of times, no call fails, and in the end it is right.
#[test]
fn a_service_that_flaps_moves_a_bounded_number_of_times() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    register(&agent, "web", "steady", &servers[0]);
    register(&agent, "web", "flapping", &servers[1]);
    let client = client::<Tokio>(&agent.url(), |consul| {
        consul.watch.every = Duration::from_millis(500);
    });
    let client = client.build().unwrap();
    get(&client, "web", "/x").unwrap();
    let before = client.snapshot().notices.len();
    let until = Instant::now() + Duration::from_secs(10);
    let mut well = true;
    while Instant::now() < until {
        well = !well;
        say(&agent, "flapping", if well { "pass" } else { "fail" });
        assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    say(&agent, "flapping", "fail");
    eventually("the last word is heard", || known(&client, "web") == [servers[0].url()]);
    let moves = client.snapshot().notices.len() - before;
    eprintln!("100 changes in 10 s: {moves} notices");
    assert!(moves <= 2 * 26, "{moves}");
}
