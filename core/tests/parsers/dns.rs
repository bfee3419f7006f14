//! Messages of DNS, alone and as the answers to a lookup.

use origin_core::config::{DnsConfig, DnsFamily, DnsForm};
use origin_core::dns::message::{Data, MOST_BYTES, Message};
use origin_core::dns::{BadMessage, Kind, Lookup, Name, Settings, Step, belongs};
use origin_core::job::JobOutcome;
use origin_core::outcome::Fault;
use origin_core::rng::Pcg32;
use origin_core::time::Time;

use super::{Verdict, callable, judged};

pub(super) fn message(_: &str, bytes: &[u8]) -> Verdict {
    let read = Message::parse(bytes, 64);
    if let Ok(message) = &read {
        assert!(bytes.len() <= MOST_BYTES && message.code <= 0xfff);
        assert!(message.records().len() <= if message.truncated { 0 } else { 64 });
        for record in message.records() {
            // It has been read before, so it can be read.
            let (owner, data) = (record.owner().unwrap(), record.data().unwrap());
            named(&owner);
            assert!(record.is_of(&owner) && record.ttl() <= u32::MAX / 2);
            let kind = match data {
                Data::A(_) => Kind::A,
                Data::Aaaa(_) => Kind::Aaaa,
                Data::Srv { target, .. } => {
                    named(&target);
                    Kind::Srv
                }
                Data::Cname(name) => {
                    named(&name);
                    Kind::Cname
                }
                Data::Ns => Kind::Ns,
                Data::Soa(_) => Kind::Soa,
            };
            assert_eq!(kind, record.kind());
        }
    }
    // Fewer records allowed: the same, or that there are too many.
    match (Message::parse(bytes, 1), &read) {
        (Ok(one), Ok(all)) => assert_eq!(one.records().len(), all.records().len()),
        (Err(bad), Ok(_)) => assert_eq!(bad, BadMessage::TooMany(1)),
        (one, Err(_)) => assert!(one.is_err()),
    }
    let _ = belongs(bytes, bytes);
    judged(&read.map(drop), bytes)
}

/// A name fits into a message, and its text says the same where it is one of a host.
fn named(name: &Name) {
    let wire = name.wire();
    assert!(wire.len() <= 255 && wire.last() == Some(&0));
    if let Some(host) = name.host() {
        assert_eq!(Name::parse(&host).as_ref(), Ok(name), "{host}");
    }
}

/// The input is a list of answers: a byte that says how, two that give the length, that many
/// bytes. The last one is repeated for as long as the lookup goes on asking.
pub(super) fn lookup(_: &str, bytes: &[u8]) -> Verdict {
    for (index, family) in [DnsFamily::Ipv4, DnsFamily::Both].into_iter().enumerate() {
        let config = DnsConfig {
            servers: vec!["10.0.0.2".to_owned(), "10.0.0.3".to_owned()],
            form: DnsForm::Plain,
            name: Some("web.test".to_owned()),
            port: (index == 1).then_some(80),
            family,
            ..DnsConfig::default()
        };
        let settings = Settings::of(&config, "dns").unwrap();
        assert_eq!(course(&config, &settings, bytes), course(&config, &settings, bytes));
    }
    Ok(())
}

/// Drives one lookup to its end; what came of it, as text.
fn course(config: &DnsConfig, settings: &Settings, mut script: &[u8]) -> String {
    let mut now = Time::ZERO;
    let mut lookup = Lookup::new(now, settings, "web", &mut Pcg32::new(1, 1));
    let (mut how, mut body): (u8, &[u8]) = (0, &[]);
    let names = 2 + 2 * config.max_lookups + 64;
    // A question may be asked again over TCP and without EDNS, of each server, in each try.
    let most = names * config.tries * 2 * 3;
    for step in 0..most {
        let ask = match lookup.next(now, settings) {
            Step::Ask(ask) => ask,
            Step::Done(result) => {
                if let Ok(answer) = &result {
                    let all = &answer.instances;
                    assert!(all.len() <= config.max_records as usize);
                    all.iter().for_each(callable);
                    let nothing = answer.nothing.is_some();
                    assert!(!nothing || all.is_empty(), "{answer:?}");
                    let most = if nothing { config.max_negative_ttl } else { config.max_ttl };
                    assert!(answer.ttl <= most.max(config.negative_ttl), "{answer:?}");
                }
                // It stays so.
                lookup.answered(now, settings, body);
                assert_eq!(lookup.next(now, settings), Step::Done(result.clone()));
                return format!("{result:?}");
            }
        };
        assert!(ask.deadline > now && settings.servers().contains(&ask.server));
        if let Some((head, rest)) = script.split_at_checked(3) {
            let length = usize::from(u16::from_be_bytes([head[1], head[2]])).min(rest.len());
            (how, body) = (head[0], &rest[..length]);
            script = &rest[length..];
        }
        let outcome = answer(how, &ask.query, body);
        if how & 0x80 != 0 {
            now = ask.deadline;
        }
        lookup.job_done(now, settings, &outcome);
        // It survives being written down in between; slow, so not at every step.
        if !(step + 1).is_power_of_two() {
            continue;
        }
        let written = serde_json::to_vec(&lookup).unwrap();
        assert_eq!(serde_json::from_slice::<Lookup>(&written).unwrap(), lookup);
    }
    panic!("a lookup has asked {most} questions");
}

/// What the adapter brings: 0 to 3 the answer with the right id and question (the body is the
/// rest of the head, and the records), 4 the body under the right id, 5 as it is, 6 a fault,
/// 7 another one.
fn answer(how: u8, query: &[u8], body: &[u8]) -> JobOutcome {
    let id = &query[..2];
    let bytes = match how & 7 {
        0..=3 => {
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let (head, records) = body.split_at(body.len().min(10));
            [id, head, &query[12..end], records].concat()
        }
        4 => [id, body].concat(),
        5 => body.to_vec(),
        6 => return JobOutcome::Failed(Fault::Timeout),
        _ => return JobOutcome::Failed(Fault::Reset),
    };
    JobOutcome::Datagram(bytes.into())
}
