//! Random zones served by a model of a server, and compared with resolving them by definition.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::config::DnsFamily;

/// Names are numbers, `n0` to `n9`; `n0` is where the service is looked for.
#[derive(Clone, Debug)]
struct Zone {
    alias: BTreeMap<u8, u8>,
    ips: BTreeMap<u8, BTreeSet<u8>>,
    srv: BTreeSet<(u16, u16, u16, u8)>,
    exists: BTreeSet<u8>,
}

fn zone() -> impl Strategy<Value = Zone> {
    let small = || 0_u8..10;
    let alias = proptest::collection::btree_map(small(), small(), 0..5);
    let ips = proptest::collection::btree_map(
        small(),
        proptest::collection::btree_set(1_u8..40, 1..4),
        0..8,
    );
    let srv = proptest::collection::btree_set((0_u16..3, 0_u16..5, 1_u16..4, small()), 0..8);
    let exists = proptest::collection::btree_set(small(), 0..10);
    (alias, ips, srv, exists).prop_map(|(mut alias, ips, srv, exists)| {
        // Only forwards, so that it ends: circles have a test of their own.
        alias.retain(|from, to| from < to);
        Zone { alias, ips, srv, exists }
    })
}

/// IPv4 below 20, IPv6 from there.
fn address(n: u8) -> IpAddr {
    if n < 20 {
        IpAddr::from([10, 0, 0, n])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)])
    }
}

fn text(name: u8) -> String {
    format!("n{name}.x")
}

impl Zone {
    fn end(&self, mut name: u8) -> u8 {
        while let Some(to) = self.alias.get(&name) {
            name = *to;
        }
        name
    }

    fn addresses(&self, name: u8) -> BTreeSet<IpAddr> {
        self.ips.get(&self.end(name)).into_iter().flatten().map(|n| address(*n)).collect()
    }

    fn wanted(&self, name: u8, family: DnsFamily) -> BTreeSet<IpAddr> {
        let (v4, v6): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) =
            self.addresses(name).into_iter().partition(IpAddr::is_ipv4);
        match family {
            DnsFamily::PreferIpv4 => {
                if v4.is_empty() {
                    v6
                } else {
                    v4
                }
            }
            DnsFamily::PreferIpv6 => {
                if v6.is_empty() {
                    v4
                } else {
                    v6
                }
            }
            DnsFamily::Ipv4 => v4,
            DnsFamily::Ipv6 => v6,
            DnsFamily::Both => v4.into_iter().chain(v6).collect(),
        }
    }

    /// By definition: every target's addresses, each in the lowest priority that names it.
    fn expected(&self, family: DnsFamily) -> BTreeMap<(IpAddr, u16), u16> {
        let mut found = BTreeMap::new();
        for (priority, _, port, target) in &self.srv {
            for ip in self.wanted(*target, family) {
                let known = found.entry((ip, *port)).or_insert(*priority);
                *known = (*known).min(*priority);
            }
        }
        found
    }

    /// The answer to a question: aliases on the way, records, and what is brought along of
    /// `bring` targets. `apart`: of aliases only the first, as if the rest were elsewhere.
    fn answer(&self, ask: &Ask, bring: u8, apart: bool) -> Vec<u8> {
        let (name, kind) = asked(ask);
        let name: u8 = name.trim_start_matches('n').trim_end_matches(".x").parse().unwrap();
        let (mut at, mut answers) = (name, Vec::new());
        while let Some(to) = self.alias.get(&at) {
            answers.push(rr(&text(at), 60, D::Cname(text(*to))));
            at = *to;
            if apart {
                return reply(&ask.query, 0, [&answers, &[], &[]]);
            }
        }
        let before = answers.len();
        let mut additional = Vec::new();
        if kind == Kind::Srv && at == self.end(0) {
            for (priority, weight, port, target) in &self.srv {
                answers.push(rr(&text(at), 60, srv(*priority, *weight, *port, &text(*target))));
                // Whole, or not at all: never an alias, and all families.
                if *target < bring && !self.alias.contains_key(target) {
                    let all = self.ips.get(target).into_iter().flatten();
                    additional.extend(all.map(|n| rr(&text(*target), 60, D::Ip(address(*n)))));
                }
            }
            additional.sort_by_key(|rr| format!("{rr:?}"));
            additional.dedup();
        }
        for n in self.ips.get(&at).into_iter().flatten() {
            if kind == if *n < 20 { Kind::A } else { Kind::Aaaa } {
                answers.push(rr(&text(at), 60, D::Ip(address(*n))));
            }
        }
        let empty = answers.len() == before;
        let known = self.ips.contains_key(&at) || self.exists.contains(&at) || at == self.end(0);
        let code = if empty && !known { 3 } else { 0 };
        let head = if empty { vec![rr("x", 60, D::Soa(60))] } else { vec![] };
        reply(&ask.query, code, [&answers, &head, &additional])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever the zone, however much the answers bring along, whichever of them are cut, late,
    /// forged or failures (fewer than there are turns): the list is the one by definition.
    #[test]
    fn lookups_find_what_is_there(
        zone in zone(),
        bring in 0_u8..11,
        apart in any::<bool>(),
        family in 0_usize..5,
        faults in proptest::collection::vec(0_u8..12, 300),
    ) {
        let family = [DnsFamily::PreferIpv4, DnsFamily::PreferIpv6, DnsFamily::Ipv4, DnsFamily::Ipv6, DnsFamily::Both][family];
        let settings = settings(|c| {
            c.name = Some("n0.x".to_owned());
            (c.family, c.mix_case, c.tries) = (family, true, 10);
            (c.timeout, c.total) = (s(1), s(600));
        });
        let (mut faults, mut row) = (faults.into_iter(), 0);
        let (result, _) = drive(&settings, |ask| {
            let fault = if row < 19 { faults.next().unwrap_or(9) } else { 9 };
            row += 1;
            match fault {
                0 => None,
                1 => Some(reply(&ask.query, 2, [&[], &[], &[]])),
                2 => Some(vec![]),
                3 => {
                    let mut forged = zone.answer(ask, bring, apart);
                    forged[0] ^= 0x55;
                    Some(forged)
                }
                4 if !ask.tcp => Some(reply(&ask.query, 0x10, [&[], &[], &[]])),
                _ => {
                    row = 0;
                    Some(zone.answer(ask, bring, apart))
                }
            }
        });
        let answer = result.unwrap();
        let found: BTreeMap<(IpAddr, u16), u16> = answer.instances.iter().map(|instance| {
            let (host, port) = instance.address.host_and_port().unwrap();
            let priority = instance.cluster.trim_start_matches("srv-").parse().unwrap();
            ((host.parse().unwrap(), port), priority)
        }).collect();
        prop_assert_eq!(found.len(), answer.instances.len());
        prop_assert_eq!(&found, &zone.expected(family));
        prop_assert_eq!(answer.missing.failed, 0);
        prop_assert_eq!(answer.nothing.is_some(), found.is_empty());
        let clusters: Vec<u16> = answer.instances.iter()
            .map(|i| i.cluster.trim_start_matches("srv-").parse().unwrap()).collect();
        prop_assert!(clusters.is_sorted());
    }
}
