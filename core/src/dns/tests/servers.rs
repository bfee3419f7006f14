//! One lookup against servers that behave, and that do not.

use super::*;
use crate::config::{DnsFamily, DnsHost, DnsRecords, DnsTransport};
use crate::job::JobOutcome;

fn two() -> Vec<Rr> {
    vec![rr("web.x", 30, srv(10, 60, 81, "a.x")), rr("web.x", 20, srv(20, 1, 82, "b.x"))]
}

fn brought() -> Vec<Rr> {
    vec![rr("a.x", 40, ip("10.0.0.1")), rr("b.x", 10, ip("10.0.0.2"))]
}

#[test]
fn case_003_16_case_001_130_one_answer_is_enough_when_it_brings_the_addresses() {
    let settings = settings(|_| {});
    let (result, log) =
        drive(&settings, |ask| Some(reply(&ask.query, 0, [&two(), &[], &brought()])));
    let answer = result.unwrap();
    assert_eq!(addresses(&answer), ["http://10.0.0.1:81", "http://10.0.0.2:82"]);
    assert_eq!((answer.ttl, answer.nothing), (s(10), None));
    let clusters: Vec<&str> = answer.instances.iter().map(|i| &*i.cluster).collect();
    assert_eq!((clusters, log), (vec!["srv-10", "srv-20"], vec!["Srv web.x @1".to_owned()]));
}

#[test]
fn case_003_16_a_name_that_does_not_exist_is_an_empty_list() {
    let settings = settings(|_| {});
    for (code, head, nothing, ttl) in [
        (3, vec![rr("x", 600, D::Soa(12))], Nothing::NoName, 12),
        (3, vec![rr("x", 7, D::Soa(9_999))], Nothing::NoName, 7),
        (3, vec![rr("x", 9_999, D::Soa(9_999))], Nothing::NoName, 30),
        (3, vec![rr("x", 0, D::Soa(0))], Nothing::NoName, 1),
        (3, vec![], Nothing::NoName, 5),
        (0, vec![rr("x", 600, D::Soa(12))], Nothing::NoRecords, 12),
        (0, vec![], Nothing::NoRecords, 5),
    ] {
        let (result, log) =
            drive(&settings, |ask| Some(reply(&ask.query, code, [&[], &head, &[]])));
        let answer = result.unwrap();
        assert_eq!((answer.instances.len(), log.len()), (0, 1));
        assert_eq!((answer.nothing, answer.ttl), (Some(nothing), s(ttl)), "{code} {head:?}");
    }
}

#[test]
fn a_target_of_only_a_dot_is_decidedly_not_available() {
    // Also with a port to fall back to: the records say no (RFC 2782).
    let settings = settings(|c| c.port = Some(80));
    let none = [rr("web.x", 60, srv(0, 0, 0, "."))];
    let (result, log) = drive(&settings, |ask| Some(reply(&ask.query, 0, [&none, &[], &[]])));
    assert_eq!((result.unwrap().nothing, log.len()), (Some(Nothing::Unavailable), 1));
}

#[test]
fn targets_without_address_are_looked_up_and_some_may_fail() {
    let zone = |ask: &Ask| {
        let answer = |rr: Vec<Rr>| Some(reply(&ask.query, 0, [&rr, &[], &[]]));
        match asked(ask) {
            (_, Kind::Srv) => answer(vec![
                rr("web.x", 60, srv(0, 1, 80, "a.x")),
                rr("web.x", 60, srv(0, 1, 80, "b.x")),
                rr("web.x", 60, srv(0, 1, 80, "c.x")),
                rr("web.x", 60, srv(0, 1, 80, "d.x")),
            ]),
            (name, Kind::A) if name == "a.x" => answer(vec![rr("a.x", 50, ip("10.0.0.1"))]),
            (name, Kind::Aaaa) if name == "b.x" => answer(vec![rr("b.x", 50, ip("2001:db8::1"))]),
            (name, _) if name == "c.x" => None,
            (name, _) if name == "d.x" => Some(reply(&ask.query, 3, [&[], &[], &[]])),
            _ => answer(vec![]),
        }
    };
    let mut settings = settings(|c| (c.timeout, c.total, c.tries) = (s(1), s(60), 1));
    let (result, log) = drive(&settings, zone);
    let answer = result.unwrap();
    assert_eq!(addresses(&answer), ["http://10.0.0.1:80", "http://[2001:db8::1]:80"]);
    assert_eq!(answer.missing, Missing { failed: 1, without: 1, beyond: 0 });
    // Soon again, as something is missing.
    assert_eq!(answer.ttl, s(5));
    // No such name holds for both families; who answered last is asked first.
    let c = ["A c.x @1", "A c.x @2", "Aaaa c.x @1", "Aaaa c.x @2"];
    let expected = ["Srv web.x @1", "A a.x @1", "A b.x @1", "Aaaa b.x @1"];
    assert_eq!(log, [&expected[..], &c, &["A d.x @1"]].concat());

    settings.max_lookups = 1;
    let (result, log) = drive(&settings, zone);
    assert_eq!(result.unwrap().missing, Missing { failed: 0, without: 0, beyond: 3 });
    assert_eq!(log.len(), 2);
    // Nothing left because of the bound is no empty list.
    settings.max_lookups = 0;
    let (result, _) = drive(&settings, zone);
    let trouble = Trouble::TooManyTargets(0);
    assert_eq!(result, Err(DnsError::NoTargets { targets: 4, trouble }));
}

#[test]
fn the_server_that_answered_is_asked_first_from_then_on() {
    let settings = settings(|_| {});
    let (result, log) =
        drive(&settings, |ask| match (ask.server.ip().to_string().as_str(), asked(ask)) {
            ("10.9.9.1", _) => None,
            (_, (_, Kind::Srv)) => Some(reply(&ask.query, 0, [&two(), &[], &[]])),
            (_, (name, _)) => {
                Some(reply(&ask.query, 0, [&[rr(&name, 60, ip("10.0.0.1"))], &[], &[]]))
            }
        });
    assert_eq!(result.unwrap().instances.len(), 2);
    assert_eq!(log, ["Srv web.x @1", "Srv web.x @2", "A a.x @2", "A b.x @2"]);
}

/// Servers turn the order round with every answer: with more targets than may be looked up, it is
/// always the same ones that are, those of the first tier before others.
#[test]
fn which_targets_are_left_out_does_not_depend_on_the_order_of_an_answer() {
    let settings = settings(|c| c.max_lookups = 3);
    let mut records: Vec<Rr> = (0..9)
        .map(|n| rr("web.x", 60, srv(u16::from(n % 2 == 0), 1, 80, &format!("t{n}.x"))))
        .collect();
    for _ in 0..9 {
        records.rotate_left(1);
        let (result, _) = drive(&settings, |ask| match asked(ask) {
            (_, Kind::Srv) => Some(reply(&ask.query, 0, [&records, &[], &[]])),
            (name, _) => {
                let ip = ip(&format!("10.0.0.{}", &name[1..2]));
                Some(reply(&ask.query, 0, [&[rr(&name, 60, ip)], &[], &[]]))
            }
        });
        let answer = result.unwrap();
        assert_eq!(addresses(&answer), ["1", "3", "5"].map(|n| format!("http://10.0.0.{n}:80")));
        assert_eq!(answer.missing.beyond, 6);
    }
}

#[test]
fn when_no_target_can_be_had_it_is_an_error_and_not_an_empty_list() {
    let settings = settings(|_| {});
    let (result, _) = drive(&settings, |ask| match asked(ask) {
        (_, Kind::Srv) => Some(reply(&ask.query, 0, [&two(), &[], &[]])),
        (name, _) if name == "a.x" => Some(reply(&ask.query, 3, [&[], &[], &[]])),
        _ => Some(reply(&ask.query, 2, [&[], &[], &[]])),
    });
    assert_eq!(result, Err(DnsError::NoTargets { targets: 1, trouble: Trouble::Code(2) }));
}

/// SERVFAIL, REFUSED, silence, referrals and nonsense: the next server, then the next try.
#[test]
fn what_is_no_answer_goes_to_the_next_server() {
    let settings = settings(|c| (c.timeout, c.total) = (s(1), s(60)));
    let servfail = |ask: &Ask| Some(reply(&ask.query, 2, [&[], &[], &[]]));
    let refused = |ask: &Ask| Some(reply(&ask.query, 5, [&[], &[], &[]]));
    let referral = |ask: &Ask| {
        let mut bytes = reply(&ask.query, 0, [&[], &[rr("x", 9, D::Ns("ns.y".into()))], &[]]);
        bytes[2] &= !0x04;
        Some(bytes)
    };
    let circle = |ask: &Ask| {
        let records =
            [rr("web.x", 9, D::Cname("b.x".into())), rr("b.x", 9, D::Cname("web.x".into()))];
        Some(reply(&ask.query, 0, [&records, &[], &[]]))
    };
    let contradiction = |ask: &Ask| Some(reply(&ask.query, 3, [&two(), &[], &[]]));
    let other_id = |ask: &Ask| {
        let mut bytes = reply(&ask.query, 0, [&two(), &[], &brought()]);
        bytes[1] ^= 1;
        Some(bytes)
    };
    let other_name = |ask: &Ask| {
        let mut bytes = reply(&ask.query, 0, [&two(), &[], &brought()]);
        bytes[13] = b'v';
        Some(bytes)
    };
    let other_kind = |ask: &Ask| {
        let mut bytes = reply(&ask.query, 0, [&[], &[], &[]]);
        let end = bytes.len();
        bytes[end - 3] = 28;
        Some(bytes)
    };
    let echo = |ask: &Ask| Some(ask.query.to_vec());
    let short = |ask: &Ask| Some(reply(&ask.query, 0, [&two(), &[], &[]])[..40].to_vec());
    type Server<'a> = &'a dyn Fn(&Ask) -> Option<Vec<u8>>;
    let cases: [(Server<'_>, Trouble); 11] = [
        (&servfail, Trouble::Code(2)),
        (&refused, Trouble::Code(5)),
        (&referral, Trouble::Referral),
        (&circle, Trouble::Aliases(8)),
        (&contradiction, Trouble::Message(BadMessage::Contradiction)),
        (&other_id, Trouble::NotOurs),
        (&other_name, Trouble::NotOurs),
        (&other_kind, Trouble::NotOurs),
        (&echo, Trouble::NotOurs),
        (&short, Trouble::Message(BadMessage::Short)),
        (&|_| None, Trouble::Fault(Fault::Timeout)),
    ];
    for (bad, trouble) in cases {
        let (result, log) = drive(&settings, |ask| match ask.server.ip().to_string().as_str() {
            "10.9.9.1" => bad(ask),
            _ => Some(reply(&ask.query, 0, [&two(), &[], &brought()])),
        });
        assert_eq!(result.unwrap().instances.len(), 2, "{trouble}");
        assert_eq!(log, ["Srv web.x @1", "Srv web.x @2"], "{trouble}");
        let (result, log) = drive(&settings, |ask| bad(ask));
        let server = settings.servers()[1];
        assert_eq!(result, Err(DnsError::NoAnswer { asked: 6, server, trouble }));
        assert_eq!(log.len(), 6, "three times two servers");
    }
}

#[test]
fn cut_answers_are_asked_for_again_over_tcp_with_the_same_question() {
    let settings = settings(|_| {});
    let mut queries = Vec::new();
    let (result, log) = drive(&settings, |ask| {
        queries.push(ask.query.clone());
        // Cut, with counts that promise more than there is.
        let mut cut = reply(&ask.query, 0x10, [&two()[..1], &[], &[]]);
        cut[7] = 77;
        Some(if ask.tcp { reply(&ask.query, 0, [&two(), &[], &brought()]) } else { cut })
    });
    assert_eq!(result.unwrap().instances.len(), 2);
    assert_eq!(log, ["Srv web.x @1", "Srv web.x @1 tcp"]);
    assert_eq!(queries[0], queries[1]);
    let (result, log) = drive(&settings, |ask| Some(reply(&ask.query, 0x10, [&[], &[], &[]])));
    assert!(matches!(result, Err(DnsError::NoAnswer { trouble: Trouble::Truncated, .. })));
    assert_eq!(log.len(), 12);
}

#[test]
fn consul_is_asked_over_tcp_from_the_start_unless_told_otherwise() {
    let of = |form, transport| settings(|c| (c.form, c.transport) = (form, transport));
    for (form, transport, tcp) in [
        (DnsForm::Consul, DnsTransport::Auto, true),
        (DnsForm::Consul, DnsTransport::Udp, false),
        (DnsForm::Plain, DnsTransport::Auto, false),
        (DnsForm::Plain, DnsTransport::Tcp, true),
    ] {
        let (_, log) =
            drive(&of(form, transport), |ask| Some(reply(&ask.query, 3, [&[], &[], &[]])));
        assert_eq!(log[0].ends_with("tcp"), tcp);
    }
}

/// Draft dns0x20: the case is repeated by an answer, and if it is not, TCP decides.
#[test]
fn case_is_mixed_and_checked() {
    let settings = settings(|c| c.mix_case = true);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let mut lookup = Lookup::new(Time::ZERO, &settings, "web", &mut Pcg32::new(seed, 1));
        let Step::Ask(ask) = lookup.next(Time::ZERO, &settings) else { panic!() };
        assert_eq!(asked(&ask), ("web.x".to_owned(), Kind::Srv));
        seen.insert(ask.query.to_vec());
    }
    assert_eq!(seen.len(), 20, "ids and case differ");
    let cases: std::collections::BTreeSet<_> = seen.iter().map(|query| &query[12..]).collect();
    assert!(cases.len() > 5, "{}", cases.len());
    let (result, log) = drive(&settings, |ask| {
        let mut query = ask.query.to_vec();
        query[13..16].iter_mut().for_each(|letter| *letter ^= 0x20);
        Some(reply(&query, 0, [&two(), &[], &brought()]))
    });
    assert_eq!(result.unwrap().instances.len(), 2);
    assert_eq!(log, ["Srv web.x @1", "Srv web.x @1 tcp"]);
}

/// RFC 6891 §7: a server that does not know EDNS says FORMERR, and is asked without.
#[test]
fn a_server_without_edns_is_asked_without() {
    let settings = settings(|_| {});
    for code in [1, 4] {
        let (result, log) = drive(&settings, |ask| {
            let edns = ask.query[11] == 1;
            assert_eq!(ask.query.len(), 12 + 7 + 4 + if edns { 11 } else { 0 });
            let mut bare = reply(&ask.query, code, [&[], &[], &[]])[..12].to_vec();
            bare[5] = 0;
            Some(if edns { bare } else { reply(&ask.query, 0, [&two(), &[], &brought()]) })
        });
        assert_eq!((result.unwrap().instances.len(), log.len()), (2, 2));
    }
    let (result, log) = drive(&settings, |ask| Some(reply(&ask.query, 1, [&[], &[], &[]])));
    assert!(matches!(result, Err(DnsError::NoAnswer { trouble: Trouble::Code(1), .. })));
    assert_eq!(log.len(), 7);
}

#[test]
fn aliases_are_followed_within_an_answer_and_beyond_it() {
    let settings = settings(|c| (c.records, c.port) = (DnsRecords::Address, Some(80)));
    let (result, log) = drive(&settings, |ask| {
        let records = match asked(ask).0.as_str() {
            "web.x" => {
                vec![rr("web.x", 9, D::Cname("b.x".into())), rr("b.x", 3, D::Cname("c.y".into()))]
            }
            _ => vec![rr("c.y", 60, ip("10.0.0.1"))],
        };
        Some(reply(&ask.query, 0, [&records, &[], &[]]))
    });
    let answer = result.unwrap();
    assert_eq!((addresses(&answer), answer.ttl), (vec!["http://10.0.0.1:80"], s(3)));
    assert_eq!(log, ["A web.x @1", "A c.y @1"]);
    assert_eq!(&*answer.instances[0].cluster, "dns");
    // A chain that goes on for ever, one name per answer.
    let mut n = 0;
    let (result, log) = drive(&settings, |ask| {
        n += 1;
        let to = D::Cname(format!("n{n}.x"));
        Some(reply(&ask.query, 0, [&[rr(&asked(ask).0, 9, to)], &[], &[]]))
    });
    let trouble = Trouble::Aliases(8);
    assert!(matches!(result, Err(DnsError::NoAnswer { trouble: t, .. }) if t == trouble));
    assert!(log.len() < 30, "{}", log.len());
}

#[test]
fn addresses_follow_when_there_is_no_srv_and_a_port() {
    let mut settings = settings(|c| {
        (c.form, c.port) = (DnsForm::Rfc2782, Some(8080));
        c.search = Some(vec!["p.q".to_owned()]);
    });
    let zone = |ask: &Ask| match asked(ask) {
        (name, Kind::A) if name == "web.x.p.q" => {
            Some(reply(&ask.query, 0, [&[rr("web.x.p.q", 60, ip("10.0.0.7"))], &[], &[]]))
        }
        _ => Some(reply(&ask.query, 3, [&[], &[], &[]])),
    };
    let (result, log) = drive(&settings, zone);
    let found = result.unwrap();
    assert_eq!(addresses(&found), ["http://10.0.0.7:8080"]);
    let expected = ["Srv _web._tcp.x", "Srv _web._tcp.x.p.q", "A web.x", "A web.x.p.q"];
    assert_eq!(log, expected.map(|text| format!("{text} @1")));
    settings.port = None;
    let (result, log) = drive(&settings, zone);
    assert_eq!((result.unwrap().nothing, log.len()), (Some(Nothing::NoName), 2));
}

#[test]
fn families_and_names() {
    let zone = |ask: &Ask| {
        let records = match asked(ask).1 {
            Kind::Srv => vec![rr("web.x", 60, srv(0, 9, 443, "a.x"))],
            Kind::A => vec![rr("a.x", 60, ip("10.0.0.1"))],
            _ => vec![rr("a.x", 60, ip("2001:db8::1"))],
        };
        Some(reply(&ask.query, 0, [&records, &[], &[]]))
    };
    for (family, expected, asked) in [
        (DnsFamily::PreferIpv4, &["http://10.0.0.1:443"][..], 2),
        (DnsFamily::PreferIpv6, &["http://[2001:db8::1]:443"], 2),
        (DnsFamily::Ipv4, &["http://10.0.0.1:443"], 2),
        (DnsFamily::Ipv6, &["http://[2001:db8::1]:443"], 2),
        (DnsFamily::Both, &["http://10.0.0.1:443", "http://[2001:db8::1]:443"], 3),
    ] {
        let (result, log) = drive(&settings(|c| c.family = family), zone);
        assert_eq!(
            (addresses(&result.unwrap()), log.len()),
            (expected.to_vec(), asked),
            "{family:?}"
        );
    }
    let by_name =
        settings(|c| (c.host, c.scheme) = (DnsHost::Name, crate::config::DnsScheme::Https));
    let (result, log) = drive(&by_name, zone);
    assert_eq!((addresses(&result.unwrap()), log.len()), (vec!["https://a.x:443"], 1));
}

#[test]
fn the_time_for_the_whole_lookup_holds() {
    // Everything in vain: an error at the end of it, not later.
    let hurried = settings(|c| (c.timeout, c.total, c.tries) = (s(4), s(10), 10));
    let (result, log) = drive(&hurried, |_| None);
    assert!(
        matches!(result, Err(DnsError::NoAnswer { asked: 3, trouble: Trouble::OutOfTime, .. })),
        "{result:?}"
    );
    assert_eq!(log.len(), 3);
    // What was found until then is kept.
    let (result, _) = drive(&hurried, |ask| match asked(ask).1 {
        Kind::Srv => Some(reply(&ask.query, 0, [&two(), &[], &brought()[..1]])),
        _ => None,
    });
    let answer = result.unwrap();
    assert_eq!((addresses(&answer), answer.missing.failed), (vec!["http://10.0.0.1:81"], 1));
    // A denied family does not make a list empty when there was no time for the other one.
    let (result, _) = drive(&hurried, |ask| match asked(ask) {
        (_, Kind::Srv) => Some(reply(&ask.query, 0, [&two(), &[], &[]])),
        (_, Kind::A) => Some(reply(&ask.query, 0, [&[], &[], &[]])),
        _ => None,
    });
    assert!(matches!(result, Err(DnsError::NoTargets { targets: 2, .. })), "{result:?}");
}

#[test]
fn jobs_that_are_dropped_are_asked_again_and_strange_ones_end_it() {
    let settings = settings(|_| {});
    let mut lookup = Lookup::new(Time::ZERO, &settings, "web", &mut Pcg32::new(1, 1));
    let first = lookup.next(Time::ZERO, &settings);
    lookup.job_done(Time::ZERO, &settings, &JobOutcome::Dropped);
    assert_eq!(lookup.next(Time::ZERO, &settings), first);
    for _ in 0..6 {
        lookup.job_done(Time::ZERO, &settings, &JobOutcome::Written);
        let _ = lookup.next(Time::ZERO, &settings);
    }
    let Step::Done(Err(error)) = lookup.next(Time::ZERO, &settings) else { panic!() };
    let text = "6 questions were asked without an answer; last, 10.9.9.2:53: this adapter cannot ask DNS servers";
    assert_eq!(error.to_string(), text);
    let Step::Ask(ask) = first else { panic!() };
    assert!(matches!(ask.work(), Work::Dns { tcp: false, .. }));
}

#[test]
fn no_name_and_no_servers_are_said_before_anything_is_asked() {
    let mut rng = Pcg32::new(1, 1);
    let now = Time::ZERO;
    let none = Settings::default();
    assert!(none.wants_system());
    let mut lookup = Lookup::new(now, &none, "web", &mut rng);
    assert_eq!(lookup.next(now, &none), Step::Done(Err(DnsError::NoServers)));
    let some = settings(|_| {});
    let mut lookup = Lookup::new(now, &some, "web/../x", &mut rng);
    assert_eq!(lookup.next(now, &some), Step::Done(Err(DnsError::Name(BadName::Character))));
    // Servers taken away in the middle.
    let mut lookup = Lookup::new(now, &some, "web", &mut rng);
    assert!(matches!(lookup.next(now, &some), Step::Ask(_)));
    lookup.failed(&none, Fault::Connect);
    assert!(matches!(lookup.next(now, &none), Step::Done(Err(_))));
}
