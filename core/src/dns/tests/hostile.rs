//! Whatever comes over the wire, and whatever the clock does.

use proptest::prelude::*;

use super::recorded::GOOD;
use super::*;
use crate::config::{DnsFamily, DnsHost};
use message::{MOST_BYTES, Message};

fn header(counts: [u16; 4]) -> Vec<u8> {
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
    [&[0, 1, 0x84, 0][..], &counts].concat()
}

#[test]
fn x_11_size_and_counts_are_bounded() {
    assert_eq!(
        Message::parse(&vec![0; MOST_BYTES + 1], 1).map(|_| ()),
        Err(BadMessage::TooLarge(MOST_BYTES + 1))
    );
    for counts in [[2, 0, 0, 0], [u16::MAX; 4], [0, 0, 0, 0]] {
        let read = Message::parse(&header(counts), 1).map(|_| ());
        assert_eq!(read, Err(BadMessage::Questions(counts[0])), "{counts:?}");
    }
    // As many records as fit: no more are kept than allowed, and they cost little.
    let mut bytes = [header([1, 4_094, 0, 0]), b"\x01a\x00\x00\x01\x00\x01".to_vec()].concat();
    for _ in 0..4_094 {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]);
    }
    assert!(Message::parse(&bytes, 4_094).is_ok());
    assert_eq!(Message::parse(&bytes, 4_093).map(|_| ()), Err(BadMessage::TooMany(4_093)));
}

#[test]
fn x_11_records_that_nobody_asked_for_do_not_spoil_an_answer() {
    // A SVCB record (RFC 9460) of one byte, and an A record of the class Chaos.
    let mut bytes = [header([1, 2, 0, 0]), b"\x01a\x00\x00\x01\x00\x01".to_vec()].concat();
    bytes.extend([0xc0, 12, 0, 64, 0, 1, 0, 0, 0, 9, 0, 1, 0xff]);
    bytes.extend([0xc0, 12, 0, 1, 0, 3, 0, 0, 0, 9, 0, 2, 0xff, 0xff]);
    assert_eq!(Message::parse(&bytes, 9).unwrap().records().len(), 0);
}

#[test]
fn lying_ttls_are_bounded() {
    let settings = settings(|_| {});
    // More than 2³¹ is zero (RFC 2181 §8), and zero is the least.
    for (ttl, expected) in [
        (0, 1),
        (1, 1),
        (59, 59),
        (1 << 30, 3_600),
        (i32::MAX as u32, 3_600),
        (1 << 31, 1),
        (u32::MAX, 1),
    ] {
        let (result, _) = drive(&settings, |ask| {
            let records = [rr("web.x", ttl, srv(0, 0, 80, "a.x"))];
            let brought = [rr("a.x", i32::MAX as u32, ip("10.0.0.1"))];
            Some(reply(&ask.query, 0, [&records, &[], &brought]))
        });
        assert_eq!(result.unwrap().ttl, s(expected), "{ttl}");
    }
}

#[test]
fn addresses_and_names_that_nobody_can_call_are_left_out() {
    let settings = settings(|_| {});
    let (result, log) = drive(&settings, |ask| {
        let records = [
            rr("web.x", 9, srv(0, 0, 80, "a.x")),
            rr("web.x", 9, srv(0, 0, 0, "b.x")),
            rr("web.x", 9, srv(0, 0, 80, ".")),
            rr("web.x", 9, srv(0, 0, 80, "c.x")),
        ];
        let brought = ["a.x", "b.x", "c.x"].map(|name| rr(name, 9, ip("10.0.0.1")));
        let mut bytes = reply(&ask.query, 0, [&records, &[], &brought]);
        // Names that would end in a URL: "c.x" becomes "/.x".
        while let Some(at) = bytes.windows(4).position(|four| four == b"\x01c\x01x") {
            bytes[at + 1] = b'/';
        }
        Some(bytes)
    });
    let answer = result.unwrap();
    assert_eq!((addresses(&answer), log.len()), (vec!["http://10.0.0.1:80"], 1));
    assert_eq!(answer.missing, Missing { failed: 0, without: 1, beyond: 0 });
    let (result, _) = drive(&settings, |ask| {
        let brought = [rr("a.x", 9, ip("0.0.0.0")), rr("a.x", 9, ip("239.1.1.1"))];
        let records = [rr("web.x", 9, srv(0, 0, 80, "a.x"))];
        Some(match asked(ask).1 {
            Kind::Srv => reply(&ask.query, 0, [&records, &[], &brought]),
            Kind::A => reply(&ask.query, 0, [&brought, &[], &[]]),
            _ => reply(&ask.query, 0, [&[], &[], &[]]),
        })
    });
    assert_eq!(result.unwrap().nothing, Some(Nothing::NoRecords));
}

/// One name with more addresses than there is room for, target after target.
#[test]
fn memory_is_bounded_over_many_answers() {
    let settings = settings(|c| (c.max_records, c.max_lookups) = (40, 40));
    let many: Vec<Rr> =
        (0..40).map(|n| rr("web.x", 9, srv(0, 0, 80, &format!("t{n}.x")))).collect();
    let mut lookup = Lookup::new(Time::ZERO, &settings, "web", &mut Pcg32::new(1, 1));
    for target in 0_u8.. {
        let bytes = match lookup.next(Time::ZERO, &settings) {
            Step::Ask(ask) if target == 0 => reply(&ask.query, 0, [&many, &[], &[]]),
            Step::Ask(ask) => {
                let name = asked(&ask).0;
                let ip = |n: u8| rr(&name, 9, ip(&format!("10.0.{target}.{n}")));
                reply(&ask.query, 0, [&(0..30).map(ip).collect::<Vec<_>>(), &[], &[]])
            }
            Step::Done(result) => {
                let answer = result.unwrap();
                assert_eq!(answer.instances.len(), 40);
                assert!(answer.missing.beyond > 0, "{:?}", answer.missing);
                break;
            }
        };
        lookup.answered(Time::ZERO, &settings, &bytes);
        let held = serde_json::to_string(&lookup).unwrap().matches("\"10.0.").count();
        assert!(held <= 40, "{held}");
    }
}

#[test]
fn a_clock_that_stands_jumps_or_goes_back_is_harmless() {
    let settings = settings(|_| {});
    for times in [[0, 0, 0, 0], [u64::MAX; 4], [5, u64::MAX, 0, 5], [u64::MAX, 0, 1, 2]] {
        let mut lookup =
            Lookup::new(Time::from_nanos(times[0]), &settings, "web", &mut Pcg32::new(1, 1));
        for nanos in times.into_iter().cycle().take(40) {
            let now = Time::from_nanos(nanos);
            if let Step::Ask(ask) = lookup.next(now, &settings) {
                assert!(ask.deadline > now);
            }
            lookup.failed(&settings, Fault::Connect);
        }
        assert!(matches!(lookup.next(Time::NEVER, &settings), Step::Done(Err(_))));
    }
}

/// An answer to the question, changed in a few places.
fn mutated() -> impl Strategy<Value = (usize, Vec<(usize, u8)>, usize)> {
    let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6);
    (0..GOOD.len(), changes, 0_usize..4)
}

proptest! {
    #[test]
    fn x_11_any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Message::parse(&bytes, 16) {
            prop_assert!(message.records().len() <= 16);
            prop_assert!(message.records().all(|record| record.data().is_some() && record.owner().is_some()));
        }
        let _ = belongs(&bytes, &bytes);
        let _ = belongs(b"", &bytes);
    }

    /// Real answers with a few bytes changed or cut off, given to a lookup that asked that
    /// question: it ends, with bounded output, and never with an address nobody can call.
    #[test]
    fn x_11_mutated_answers_are_survived(
        rounds in proptest::collection::vec(mutated(), 1..40),
        keep in any::<bool>(),
        family in 0_usize..3,
        by_name in any::<bool>(),
    ) {
        let settings = settings(|c| {
            c.name = Some("web.service.consul".to_owned());
            c.max_records = 50;
            c.family = [DnsFamily::Both, DnsFamily::PreferIpv4, DnsFamily::Ipv6][family];
            c.host = if by_name { DnsHost::Name } else { DnsHost::Address };
            c.timeout = s(1);
        });
        let mut rounds = rounds.into_iter();
        let (result, log) = drive(&settings, |ask| {
            let (which, changes, cut) = rounds.next()?;
            let mut bytes = GOOD[which].1.to_vec();
            if keep {
                // Its own question, longer or shorter than the one it was recorded with.
                let old = Name::skip(&bytes, 12, bytes.len()).unwrap() + 4;
                let new = Name::skip(&ask.query, 12, ask.query.len()).unwrap() + 4;
                bytes.splice(12..old, ask.query[12..new].iter().copied());
            }
            for (at, to) in changes {
                let length = bytes.len();
                bytes[at % length] = to;
            }
            bytes[..2].copy_from_slice(&ask.query[..2]);
            bytes.truncate(bytes.len() - cut.saturating_sub(2));
            Some(bytes)
        });
        prop_assert!(log.len() <= 50 * 2 * 6 * 9);
        if let Ok(answer) = result {
            prop_assert!(answer.instances.len() <= 50);
            prop_assert!(answer.ttl >= s(1) && answer.ttl <= s(3_600));
            prop_assert_eq!(answer.nothing.is_some(), answer.instances.is_empty());
            for instance in &answer.instances {
                prop_assert!(instance.address.is_http());
                let host = instance.address.host_and_port().unwrap().0;
                prop_assert!(!["0.0.0.0", "::", "255.255.255.255"].contains(&host));
            }
        }
    }
}
