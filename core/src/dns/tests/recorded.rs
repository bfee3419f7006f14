//! Answers of real servers, recorded on loopback: BIND 9.18.49 with the zone `test.`, dnsmasq
//! 2.90, Consul 1.8.7. Beside them in `core/tests/corpus/dns` lie hostile ones made by hand.

use super::*;
use crate::config::DnsFamily;
use message::Message;

macro_rules! recorded {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../../../tests/corpus/dns/", $name, ".bin")).as_slice())),*]
    };
}

pub(super) const GOOD: [(&str, &[u8]); 21] = recorded![
    "bind-srv" "bind-nxdomain" "bind-nodata" "bind-cname-srv" "bind-cname-out" "bind-cname-a"
    "bind-refused" "bind-down" "bind-dual" "bind-far" "bind-truncated" "bind-big-tcp"
    "dnsmasq-srv" "dnsmasq-a" "consul-srv" "consul-seed-form" "consul-nxdomain"
    "consul-aaaa-nodata" "consul-six" "consul-host" "consul-many-udp"
];

const HOSTILE: [(&str, &[u8]); 12] = recorded![
    "hostile-pointer-loop" "hostile-pointer-forward" "hostile-counts-lie" "hostile-length-lies"
    "hostile-a-of-five" "hostile-name-leaves-data" "hostile-trailing" "hostile-ttl-lies"
    "hostile-two-opts" "hostile-alias-circle" "hostile-question-only"
    "hostile-no-such-name-but-records"
];

/// The recorded answer with the id and question of `ask`, whose name must be as long.
fn replay(ask: &Ask, name: &str) -> Vec<u8> {
    let (_, bytes) = GOOD.iter().find(|(file, _)| *file == name).unwrap();
    let mut bytes = bytes.to_vec();
    let end = Name::skip(&ask.query, 12, ask.query.len()).unwrap() + 4;
    bytes[..2].copy_from_slice(&ask.query[..2]);
    bytes[12..end].copy_from_slice(&ask.query[12..end]);
    bytes
}

fn named(name: &str) -> Settings {
    settings(|c| (c.name, c.mix_case) = (Some(name.to_owned()), true))
}

fn lines(result: Result<Answer, DnsError>) -> Vec<String> {
    let answer = result.unwrap();
    let line = |i: &crate::discovery::Instance| format!("{} {} {}", i.cluster, i.address, i.weight);
    answer.instances.iter().map(line).collect()
}

#[test]
fn case_003_16_real_answers_are_understood() {
    let srv = |file, name| drive(&named(name), |ask| Some(replay(ask, file)));
    let (result, _) = srv("consul-srv", "web.service.consul");
    assert_eq!(result.as_ref().unwrap().ttl, s(1));
    assert_eq!(lines(result), ["srv-1 http://127.0.0.1:8001 10", "srv-1 http://127.0.0.2:8002 3"]);
    let three = [
        "srv-10 http://127.0.0.1:8001 60",
        "srv-10 http://127.0.0.2:8002 40",
        "srv-20 http://127.0.0.3:8003 100",
    ];
    for (file, name) in [
        ("bind-srv", "_web._tcp.test"),
        ("dnsmasq-srv", "_web._tcp.test"),
        ("bind-cname-srv", "alias.test"),
    ] {
        let (result, log) = srv(file, name);
        assert_eq!((lines(result), log.len()), (three.map(str::to_owned).to_vec(), 1), "{file}");
    }
    let (result, _) = srv("consul-six", "six.service.consul");
    assert_eq!(lines(result), ["srv-1 http://[::1]:8006 1"]);
    let (result, _) = srv("bind-dual", "_dual._tcp.test");
    assert_eq!(lines(result), ["srv-0 http://127.0.0.8:80 1", "srv-0 http://127.0.0.9:80 1"]);
    let mut both = named("_dual._tcp.test");
    both.family = DnsFamily::Both;
    let (result, _) = drive(&both, |ask| Some(replay(ask, "bind-dual")));
    assert_eq!(lines(result).len(), 3);
    // Consul without `enable_truncate`: 19 of 60, and not a word about it.
    let (result, log) = srv("consul-many-udp", "many.service.consul");
    assert_eq!((lines(result).len(), log.len()), (19, 1));
}

#[test]
fn case_003_16_real_denials_are_empty_and_real_refusals_errors() {
    for (file, name, nothing, ttl) in [
        ("consul-nxdomain", "none.service.consul", Nothing::NoName, 1),
        // What Consul says to the short form, and why it is never asked for it.
        ("consul-seed-form", "web.dc1.consul", Nothing::NoName, 1),
        ("bind-nxdomain", "_no._tcp.test", Nothing::NoName, 1),
        ("bind-down", "_down._tcp.test", Nothing::Unavailable, 5),
    ] {
        let (result, _) = drive(&named(name), |ask| Some(replay(ask, file)));
        let answer = result.unwrap();
        assert_eq!((answer.nothing, answer.ttl), (Some(nothing), s(ttl)), "{file}");
    }
    let (result, _) = drive(&named("web.example"), |ask| Some(replay(ask, "bind-refused")));
    assert!(matches!(result, Err(DnsError::NoAnswer { asked: 6, trouble: Trouble::Code(5), .. })));
}

#[test]
fn real_truncation_goes_to_tcp_and_on_to_the_targets() {
    let mut big = named("_big._tcp.test");
    big.max_lookups = 64;
    let (result, log) = drive(&big, |ask| match asked(ask) {
        (_, Kind::Srv) if ask.tcp => Some(replay(ask, "bind-big-tcp")),
        (_, Kind::Srv) => Some(replay(ask, "bind-truncated")),
        (name, _) => {
            let last: u8 = name.trim_start_matches('t').trim_end_matches(".test").parse().unwrap();
            let ip = ip(&format!("127.1.0.{last}"));
            Some(reply(&ask.query, 0, [&[rr(&name, 5, ip)], &[], &[]]))
        }
    });
    let answer = result.unwrap();
    // BIND brought no addresses along; 64 of the targets may be looked up.
    assert_eq!(
        (log[0].as_str(), log[1].as_str()),
        ("Srv _big._tcp.test @1", "Srv _big._tcp.test @1 tcp")
    );
    assert_eq!(answer.instances.len() + answer.missing.beyond as usize, 80);
    assert_eq!(log.len(), 2 + 64);
}

#[test]
fn x_11_every_file_of_the_corpus_is_read_or_refused_as_it_should() {
    for (name, bytes) in GOOD {
        let message = Message::parse(bytes, 4_096).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert!(message.records().all(|record| record.data().is_some()), "{name}");
        // Every beginning of it is refused, unless it says itself that it is cut.
        for end in 0..bytes.len() {
            let part = Message::parse(&bytes[..end], 4_096);
            assert!(part.is_err() || message.truncated, "{name} cut at {end}");
        }
    }
    for (name, bytes) in HOSTILE {
        let read = Message::parse(bytes, 4_096).map(|_| ());
        let expected = match name.trim_start_matches("hostile-") {
            "pointer-loop" | "pointer-forward" => Err(BadMessage::Name),
            "counts-lie" | "length-lies" | "name-leaves-data" => Err(BadMessage::Short),
            "a-of-five" => Err(BadMessage::Length(1)),
            "trailing" => Err(BadMessage::Trailing(9)),
            "two-opts" => Err(BadMessage::TwoOpts),
            "question-only" => Err(BadMessage::NotAnswer),
            _ => Ok(()),
        };
        assert_eq!(read, expected, "{name}");
    }
}
