//! From SRV records and addresses to instances: priorities become clusters, weights become
//! shares (RFC 2782).

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::settings::Settings;
use crate::address::Address;
use crate::config::{DnsHost, DnsScheme};
use crate::discovery::{Instance, Role};

/// Priorities beyond this many share the last cluster: no failover order is that long.
const MOST_CLUSTERS: usize = 64;
/// A weight times this stays below the largest share there is.
const MOST_PARTS: u32 = 12;
/// The largest share, as for configured endpoints.
const MOST_WEIGHT: u32 = 1_000_000;

/// One SRV record, or what stands for it where only addresses were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Which of the targets.
    pub(super) target: u32,
}

/// Where an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host<'a> {
    Ip(IpAddr),
    Name(&'a Name),
}

/// Whether something can be listening there.
pub(super) fn usable(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// The instances, in a fixed order, and how many there are beyond `max_records`.
///
/// Each priority is a cluster `srv-<priority>`, the lowest one the primary; addresses without SRV
/// are the cluster `dns`. Shares are the weights; a weight of 0 beside others is a share of 1,
/// which is what the selection of RFC 2782 gives one such record. A target with several addresses
/// divides its share among them. An address that occurs twice counts in the cluster tried first.
pub(super) fn instances(
    settings: &Settings,
    srv: bool,
    records: &[Srv],
    targets: &[(&Name, &[IpAddr])],
) -> (Vec<Instance>, u32) {
    let mut records = records.to_vec();
    records.sort_unstable();
    let mut priorities: Vec<u16> = records.iter().map(|record| record.priority).collect();
    priorities.dedup();
    priorities.truncate(MOST_CLUSTERS);
    let rank = |priority: u16| {
        priorities.binary_search(&priority).unwrap_or(priorities.len().saturating_sub(1))
    };
    let addresses = |record: &Srv| targets.get(record.target as usize).map_or(&[][..], |t| t.1);
    let parts = records.iter().map(|record| addresses(record).len()).fold(1, common);

    let mut found: BTreeMap<(Host<'_>, u16), (usize, u32)> = BTreeMap::new();
    for record in records.iter().filter(|record| record.port > 0) {
        let Some((name, ips)) = targets.get(record.target as usize) else { continue };
        let (rank, weight) = (rank(record.priority), u32::from(record.weight).max(1));
        let mut add = |host, share: u32| {
            let known = found.entry((host, record.port)).or_insert((rank, 0));
            if known.0 == rank {
                known.1 = known.1.saturating_add(share).min(MOST_WEIGHT);
            }
        };
        if settings.host == DnsHost::Name {
            add(Host::Name(name), weight);
            continue;
        }
        let count = u32::try_from(ips.len()).unwrap_or(u32::MAX).max(1);
        for ip in *ips {
            add(Host::Ip(*ip), (weight * parts / count).max(1));
        }
    }

    let mut sorted: Vec<_> = found.into_iter().collect();
    sorted.sort_by_key(|((host, port), (rank, _))| (*rank, *host, *port));
    let most = settings.max_records as usize;
    let mut over = u32::try_from(sorted.len().saturating_sub(most)).unwrap_or(u32::MAX);
    let clusters: Vec<Arc<str>> = priorities
        .iter()
        .map(|priority| if srv { format!("srv-{priority}").into() } else { "dns".into() })
        .collect();
    let tags: Vec<Arc<str>> = settings.tag.iter().cloned().collect();
    let scheme = match settings.scheme {
        DnsScheme::Http => "http",
        DnsScheme::Https => "https",
    };
    let mut instances = Vec::with_capacity(sorted.len().min(most));
    for ((host, port), (rank, weight)) in sorted.into_iter().take(most) {
        let text = match host {
            Host::Ip(IpAddr::V6(ip)) => format!("{scheme}://[{ip}]:{port}"),
            Host::Ip(IpAddr::V4(ip)) => format!("{scheme}://{ip}:{port}"),
            Host::Name(name) => format!("{scheme}://{name}:{port}"),
        };
        let (Ok(address), Some(cluster)) = (Address::parse(&text), clusters.get(rank)) else {
            over = over.saturating_add(1);
            continue;
        };
        let role = if rank == 0 { Role::Primary } else { Role::Backup };
        let plain = Instance::new(cluster.clone(), role, address);
        instances.push(Instance { weight, tags: tags.clone(), ..plain });
    }
    (instances, over)
}

/// The least common multiple of two numbers of addresses, up to [`MOST_PARTS`].
fn common(one: u32, count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX).clamp(1, MOST_PARTS);
    (1..=MOST_PARTS).find(|n| n % one == 0 && n % count == 0).unwrap_or(MOST_PARTS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::DnsConfig;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn shown(
        config: &DnsConfig,
        records: &[(u16, u16, u16, u32)],
        targets: &[&[IpAddr]],
    ) -> Vec<String> {
        let settings = Settings::of(config, "dns").unwrap();
        let records: Vec<Srv> = records
            .iter()
            .map(|&(priority, weight, port, target)| Srv { priority, weight, port, target })
            .collect();
        let names: Vec<Name> =
            (0..targets.len()).map(|n| Name::parse(&format!("t{n}.x")).unwrap()).collect();
        let targets: Vec<(&Name, &[IpAddr])> = names.iter().zip(targets.iter().copied()).collect();
        let (instances, _) = instances(&settings, true, &records, &targets);
        let text = |i: &Instance| format!("{} {:?} {} {}", i.cluster, i.role, i.address, i.weight);
        instances.iter().map(text).collect()
    }

    #[test]
    fn case_003_16_priorities_are_tiers_and_weights_are_shares() {
        let records = [(20, 5, 80, 2), (10, 60, 80, 0), (10, 40, 80, 1)];
        let targets: [&[IpAddr]; 3] = [&[ip(1)], &[ip(2)], &[ip(3)]];
        assert_eq!(
            shown(&DnsConfig::default(), &records, &targets),
            [
                "srv-10 Primary http://10.0.0.1:80 60",
                "srv-10 Primary http://10.0.0.2:80 40",
                "srv-20 Backup http://10.0.0.3:80 5",
            ]
        );
    }

    /// RFC 2782: with weights 0 and w the former is selected with probability 1 / (w + 1).
    #[test]
    fn weight_zero_is_small_and_all_zero_is_equal() {
        let targets: [&[IpAddr]; 2] = [&[ip(1)], &[ip(2)]];
        let weights = |a, b| {
            let lines = shown(&DnsConfig::default(), &[(0, a, 80, 0), (0, b, 80, 1)], &targets);
            lines
                .iter()
                .map(|l| l.rsplit(' ').next().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(weights(0, 99), "1 99");
        assert_eq!(weights(0, 0), "1 1");
        assert_eq!(weights(65_535, 1), "65535 1");
    }

    #[test]
    fn names_have_shares_too_and_tiers_beyond_64_are_one() {
        let named = DnsConfig { host: DnsHost::Name, ..DnsConfig::default() };
        assert_eq!(
            shown(&named, &[(0, 0, 80, 0), (0, 7, 80, 1)], &[&[], &[]]),
            ["srv-0 Primary http://t0.x:80 1", "srv-0 Primary http://t1.x:80 7"]
        );
        let records: Vec<_> = (0..100).map(|n| (n, 1, 1_000 + n, 0)).collect();
        let lines = shown(&DnsConfig::default(), &records, &[&[ip(1)]]);
        assert_eq!(lines.len(), 100);
        assert_eq!(lines[63], "srv-63 Backup http://10.0.0.1:1063 1");
        assert!(lines[63..].iter().all(|line| line.starts_with("srv-63 ")));
    }

    #[test]
    fn several_addresses_divide_the_share_and_the_same_one_counts_once() {
        let two: [&[IpAddr]; 2] = [&[ip(1), ip(2)], &[ip(3)]];
        let records = [(0, 1, 80, 0), (0, 1, 80, 1)];
        let lines = shown(&DnsConfig::default(), &records, &two);
        assert_eq!(
            lines,
            [
                "srv-0 Primary http://10.0.0.1:80 1",
                "srv-0 Primary http://10.0.0.2:80 1",
                "srv-0 Primary http://10.0.0.3:80 2",
            ]
        );
        let same: [&[IpAddr]; 3] = [&[ip(1)], &[ip(1)], &[ip(1)]];
        let records = [(0, 3, 80, 0), (0, 4, 80, 1), (1, 9, 80, 2)];
        assert_eq!(
            shown(&DnsConfig::default(), &records, &same),
            ["srv-0 Primary http://10.0.0.1:80 7"]
        );
    }

    #[test]
    fn what_nobody_can_call_is_left_out() {
        for text in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"] {
            assert!(!usable(text.parse().unwrap()), "{text}");
        }
        let targets: [&[IpAddr]; 1] = [&[ip(1)]];
        assert!(shown(&DnsConfig::default(), &[(0, 0, 0, 0), (0, 0, 80, 7)], &targets).is_empty());
    }

    proptest! {
        /// Whatever the records: no address twice, clusters in order, at most 64, the first the
        /// primary and only it, weights in range, and the order of records does not matter.
        #[test]
        fn invariants(
            records in proptest::collection::vec((0_u16..200, any::<u16>(), 0_u16..4, 0_u32..5), 0..150),
            most in 1_u32..50,
            counts in proptest::collection::vec(0_usize..20, 4),
        ) {
            let all: Vec<IpAddr> = (0..20).map(ip).collect();
            let names: Vec<Name> = (0..4).map(|n| Name::parse(&format!("t{n}")).unwrap()).collect();
            let targets: Vec<(&Name, &[IpAddr])> =
                names.iter().zip(counts.iter().map(|n| &all[..*n])).collect();
            let mut list: Vec<Srv> = records.iter()
                .map(|&(priority, weight, port, target)| Srv { priority, weight, port, target }).collect();
            let settings = Settings::of(&DnsConfig { max_records: most, ..DnsConfig::default() }, "d").unwrap();
            let (got, over) = instances(&settings, true, &list, &targets);
            prop_assert!(got.len() <= most as usize);
            let mut seen: Vec<&str> = got.iter().map(|i| i.address.as_str()).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), got.len());
            let mut clusters: Vec<&str> = got.iter().map(|i| &*i.cluster).collect();
            clusters.dedup();
            let distinct: std::collections::BTreeSet<&str> = clusters.iter().copied().collect();
            prop_assert_eq!(distinct.len(), clusters.len());
            prop_assert!(clusters.len() <= 64);
            let lowest = list.iter().map(|r| r.priority).min().map(|p| format!("srv-{p}"));
            for i in &got {
                prop_assert_eq!(i.role == Role::Primary, Some(&*i.cluster) == lowest.as_deref());
                prop_assert!((1..=1_000_000).contains(&i.weight));
            }
            list.reverse();
            prop_assert_eq!(instances(&settings, true, &list, &targets), (got, over));
        }
    }
}
