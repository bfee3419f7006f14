//! BIND with records that change, more of them than fit a datagram; dnsmasq with fixed ones.

use std::net::Ipv4Addr;

use origin_servers::dns::{self, Kind, Srv};
use origin_servers::{bind, dnsmasq};

const WEB: &str = "_web._tcp.test";

#[test]
fn records_change_while_the_server_runs() {
    let Some(mut bind) = bind::start() else { return };
    eprintln!("named ready in {:?}", bind.process.ready_in());
    let ask = |at| dns::ask(at, WEB, Kind::Srv, false).unwrap();
    let at = bind.address();
    assert_eq!(ask(at).code, 3, "no such name yet");

    let two = [Srv::new(10, 60, 8001, "a.test"), Srv::new(20, 0, 8002, "b.test")];
    bind.services(WEB, &two).unwrap();
    let mut answer = ask(at);
    answer.services.sort();
    assert_eq!((answer.code, answer.ttl, answer.truncated), (0, Some(1), false));
    assert!(answer.authoritative);
    assert_eq!(answer.services, two);

    bind.services(WEB, &two[..1]).unwrap();
    assert_eq!(ask(at).services, two[..1]);
    // Killed, it comes back with what it was told.
    bind.process.restart().unwrap();
    assert_eq!(ask(at).services, two[..1]);

    bind.services(WEB, &[]).unwrap();
    let empty = ask(at);
    assert_eq!((empty.code, empty.services.len()), (3, 0), "emptied, the name is gone");
    assert!(bind.update(&["add outside.example. 1 A 127.0.0.1"]).is_err());
}

#[test]
fn a_target_can_move() {
    let Some(bind) = bind::start() else { return };
    let ask = || dns::ask(bind.address(), "a.test", Kind::A, false).unwrap();
    assert_eq!(ask().addresses, [Ipv4Addr::new(127, 0, 0, 1)]);
    bind.update(&["del a.test. A", "add a.test. 1 A 127.0.0.9"]).unwrap();
    assert_eq!(ask().addresses, [Ipv4Addr::new(127, 0, 0, 9)]);
}

#[test]
fn many_records_are_cut_over_udp_and_whole_over_tcp() {
    let Some(bind) = bind::start() else { return };
    let many: Vec<Srv> = (0..280).map(|n| Srv::new(10, n, 8000 + n, "a.test")).collect();
    bind.services(WEB, &many).unwrap();
    let udp = dns::ask(bind.address(), WEB, Kind::Srv, false).unwrap();
    assert!(udp.truncated);
    assert!(udp.size <= 512, "{}", udp.size);
    assert!(udp.services.len() < 280);
    let mut tcp = dns::ask(bind.address(), WEB, Kind::Srv, true).unwrap();
    assert!(!tcp.truncated);
    tcp.services.sort();
    assert_eq!(tcp.services, many);
}

#[test]
fn a_paused_server_is_silent() {
    let Some(bind) = bind::start() else { return };
    bind.process.pause();
    assert!(dns::ask(bind.address(), "a.test", Kind::A, false).is_err());
    bind.process.resume();
    assert_eq!(dns::ask(bind.address(), "a.test", Kind::A, false).unwrap().code, 0);
}

#[test]
fn dnsmasq_knows_what_it_was_told_and_refuses_the_rest() {
    let web =
        |priority, weight, port, target| (WEB.to_owned(), Srv::new(priority, weight, port, target));
    let setup = dnsmasq::Setup {
        services: vec![web(10, 60, 8001, "a.test"), web(20, 100, 8002, "b.test")],
        hosts: vec![("a.test".to_owned(), Ipv4Addr::new(127, 0, 0, 7))],
    };
    let Some(mut dnsmasq) = dnsmasq::start(&setup) else { return };
    eprintln!("dnsmasq ready in {:?}", dnsmasq.process.ready_in());
    for tcp in [false, true] {
        let mut answer = dns::ask(dnsmasq.address(), WEB, Kind::Srv, tcp).unwrap();
        answer.services.sort();
        let told: Vec<Srv> = setup.services.iter().map(|(_, srv)| srv.clone()).collect();
        assert_eq!(answer.services, told);
        assert_eq!(answer.ttl, Some(1));
    }
    let host = dns::ask(dnsmasq.address(), "a.test", Kind::A, false).unwrap();
    assert_eq!(host.addresses, [Ipv4Addr::new(127, 0, 0, 7)]);
    let other = dns::ask(dnsmasq.address(), "other.test", Kind::A, false).unwrap();
    assert_eq!((other.code, other.addresses.len()), (5, 0), "refused");

    let less = dnsmasq::Setup { services: setup.services[..1].to_vec(), hosts: setup.hosts };
    dnsmasq.restart_with(&less).unwrap();
    let answer = dns::ask(dnsmasq.address(), WEB, Kind::Srv, false).unwrap();
    assert_eq!(answer.services.len(), 1);
}
