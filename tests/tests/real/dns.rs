//! DNS by real servers: records that change while the client runs, answers too large for UDP,
//! Consul's own DNS.

use std::time::Duration;

use origin_core::config::{DiscoveryConfig, DnsConfig, DnsForm};
use origin_driver::Client;
use origin_lab::FaultServer;
use origin_servers::bind;
use origin_servers::consul::{self, Setup};
use origin_servers::dns::Srv;
use origin_servers::dnsmasq;

use crate::catalogue::{known, register};
use crate::subject::{Subject, Tokio, get, within};

on_every_runtime! {
    case_003_16_srv_records_that_change_are_followed
}

fn client<S: Subject>(dns: DnsConfig) -> Client<S> {
    let discovery = DiscoveryConfig { dns: Some(dns), ..DiscoveryConfig::default() };
    Client::<S>::builder()
        .timeout(Duration::from_secs(10))
        .seed(7)
        .configure(|config| config.discovery = Some(discovery))
        .build()
        .unwrap()
}

fn rfc2782(server: std::net::SocketAddr) -> DnsConfig {
    DnsConfig {
        servers: vec![server.to_string()],
        form: DnsForm::Rfc2782,
        domain: Some("test".into()),
        ..DnsConfig::default()
    }
}

fn srv(priority: u16, server: &FaultServer) -> Srv {
    Srv { priority, weight: 1, port: server.addr().port(), target: "localhost.test".into() }
}

fn case_003_16_srv_records_that_change_are_followed<S: Subject>() {
    let Some(bind) = bind::start() else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    bind.update(&["add localhost.test. 1 A 127.0.0.1".to_owned()]).unwrap();
    bind.services("_web._tcp.test", &[srv(1, &servers[0]), srv(2, &servers[1])]).unwrap();
    let client = client::<S>(rfc2782(bind.address()));
    let _background = S::background(&client);
    assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    // Priorities are tiers: the second is a backup.
    assert_eq!((servers[0].request_count(), servers[1].request_count()), (1, 0));
    let snapshot = client.snapshot();
    let clusters: Vec<_> =
        snapshot.service("web").unwrap().endpoints.iter().map(|e| e.cluster.to_string()).collect();
    assert_eq!(clusters, ["srv-1", "srv-2"]);
    bind.update(&["del _web._tcp.test. SRV".to_owned()]).unwrap();
    bind.services("_web._tcp.test", &[srv(1, &servers[1])]).unwrap();
    within(Duration::from_secs(15), "the change is followed", || {
        let _ = get(&client, "web", "/y");
        known(&client, "web") == [servers[1].url()]
    });
    assert_eq!(get(&client, "web", "/z").unwrap().status, 200);
}

#[test]
fn an_answer_too_large_for_udp_is_fetched_over_tcp_as_a_whole() {
    let Some(bind) = bind::start() else { return };
    let server = FaultServer::start().unwrap();
    bind.update(&["add localhost.test. 60 A 127.0.0.1".to_owned()]).unwrap();
    let port = server.addr().port();
    // 280 records do not fit into a datagram; one of them is somebody.
    let mut records = vec![srv(1, &server)];
    records.extend((0..279_u16).map(|n| Srv {
        priority: 2,
        weight: 1,
        port: if port == 20_000 + n { 30_000 } else { 20_000 + n },
        target: "localhost.test".into(),
    }));
    bind.services("_web._tcp.test", &records).unwrap();
    let client = client::<Tokio>(rfc2782(bind.address()));
    assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    assert_eq!(known(&client, "web").len(), 280);
}

#[test]
fn dnsmasq_and_consul_answer_too() {
    let server = FaultServer::start().unwrap();
    let setup = dnsmasq::Setup {
        services: vec![("_web._tcp.test".into(), srv(1, &server))],
        hosts: vec![("localhost.test".into(), std::net::Ipv4Addr::LOCALHOST)],
    };
    let Some(dnsmasq) = dnsmasq::start(&setup) else { return };
    let by_dnsmasq = client::<Tokio>(rfc2782(dnsmasq.address()));
    assert_eq!(get(&by_dnsmasq, "web", "/x").unwrap().status, 200);

    let Some(agent) = consul::start(&Setup::default()) else { return };
    register(&agent, "web", "web1", &server);
    let dns = DnsConfig { servers: vec![agent.dns().to_string()], ..DnsConfig::consul() };
    let by_consul = client::<Tokio>(dns);
    assert_eq!(get(&by_consul, "web", "/x").unwrap().status, 200);
    assert_eq!(known(&by_consul, "web"), [server.url()]);
}
