//! What the tests of lookups share: writing answers, and driving a lookup against a server that
//! is a function.

mod hostile;
mod model;
mod recorded;
mod servers;
mod settings;

use core::net::IpAddr;

use super::message::Kind;
use super::*;
use crate::config::{DnsConfig, DnsForm};
use crate::rng::Pcg32;

/// The data of a record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum D {
    Ip(IpAddr),
    Srv(u16, u16, u16, String),
    Cname(String),
    Soa(u32),
    Ns(String),
}

/// A record to be written: owner, TTL, data.
type Rr = (String, u32, D);

fn ip(text: &str) -> D {
    D::Ip(text.parse().unwrap())
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> D {
    D::Srv(priority, weight, port, target.to_owned())
}

fn rr(owner: &str, ttl: u32, data: D) -> Rr {
    (owner.to_owned(), ttl, data)
}

fn wire(name: &str) -> Vec<u8> {
    if name == "." { vec![0] } else { Name::parse(name).unwrap().wire().to_vec() }
}

fn record(bytes: &mut Vec<u8>, (owner, ttl, data): &Rr) {
    let (code, data) = match data {
        D::Ip(IpAddr::V4(ip)) => (1_u16, ip.octets().to_vec()),
        D::Ip(IpAddr::V6(ip)) => (28, ip.octets().to_vec()),
        D::Srv(priority, weight, port, target) => {
            let numbers = [priority, weight, port].map(|n| n.to_be_bytes()).concat();
            (33, [numbers, wire(target)].concat())
        }
        D::Cname(to) => (5, wire(to)),
        D::Ns(to) => (2, wire(to)),
        D::Soa(minimum) => {
            (6, [wire("ns.x"), wire("me.x"), vec![0; 16], minimum.to_be_bytes().to_vec()].concat())
        }
    };
    bytes.extend(wire(owner));
    bytes.extend([code.to_be_bytes(), [0, 1]].concat());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
}

/// An answer to `query`: code (and 0x10 for "cut"), and the three sections.
fn reply(query: &[u8], code: u8, sections: [&[Rr]; 3]) -> Vec<u8> {
    let end = Name::skip(query, 12, query.len()).unwrap() + 4;
    let mut bytes = query[..end].to_vec();
    bytes[2] = 0x85 | if code & 0x10 == 0 { 0 } else { 2 };
    bytes[3] = code & 0x0f;
    for (index, section) in sections.into_iter().enumerate() {
        let count = u16::try_from(section.len()).unwrap().to_be_bytes();
        bytes[6 + 2 * index..8 + 2 * index].copy_from_slice(&count);
        section.iter().for_each(|rr| record(&mut bytes, rr));
    }
    bytes
}

/// What an [`Ask`] asks for.
fn asked(ask: &Ask) -> (String, Kind) {
    let (name, end) = Name::read(&ask.query, 12, ask.query.len()).unwrap();
    let kind = match ask.query[end + 1] {
        1 => Kind::A,
        28 => Kind::Aaaa,
        33 => Kind::Srv,
        other => panic!("{other}"),
    };
    (name.to_string(), kind)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Plain names below `x`, two servers, no mixed case.
fn config() -> DnsConfig {
    DnsConfig {
        servers: vec!["10.9.9.1".to_owned(), "10.9.9.2".to_owned()],
        form: DnsForm::Plain,
        domain: Some("x".to_owned()),
        mix_case: false,
        ..DnsConfig::default()
    }
}

fn settings(change: impl FnOnce(&mut DnsConfig)) -> Settings {
    let mut config = config();
    change(&mut config);
    Settings::of(&config, "dns").unwrap()
}

/// Drives a lookup of `web`; silence is a timeout. Returns what came of it and what was asked.
fn drive(
    settings: &Settings,
    mut server: impl FnMut(&Ask) -> Option<Vec<u8>>,
) -> (Result<Answer, DnsError>, Vec<String>) {
    let mut now = Time::from_millis(5);
    let mut lookup = Lookup::new(now, settings, "web", &mut Pcg32::new(7, 7));
    let mut log = Vec::new();
    for _ in 0..10_000 {
        match lookup.next(now, settings) {
            Step::Done(result) => {
                assert_eq!(lookup.next(now, settings), Step::Done(result.clone()));
                return (result, log);
            }
            Step::Ask(ask) => {
                assert_eq!(lookup.next(now, settings), Step::Ask(ask.clone()), "the same");
                assert!(ask.deadline > now);
                let (name, kind) = asked(&ask);
                let last = ask.server.ip().to_string().pop().unwrap();
                let tcp = if ask.tcp { " tcp" } else { "" };
                log.push(format!("{kind:?} {name} @{last}{tcp}"));
                match server(&ask) {
                    Some(bytes) => lookup.answered(now, settings, &bytes),
                    None => now = ask.deadline,
                }
            }
        }
    }
    panic!("no end: {log:?}");
}

fn addresses(answer: &Answer) -> Vec<&str> {
    answer.instances.iter().map(|instance| instance.address.as_str()).collect()
}
