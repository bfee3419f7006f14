//! The lists of a pool stay exact, whatever happens to its endpoints.

use proptest::prelude::*;

use super::*;
use crate::Address;
use crate::config::BalanceKind;
use crate::outcome::Class;
use crate::policy::balance::route::RouteId;
use crate::policy::tiers::Pass;

pub(crate) fn candidates(sizes: &[usize]) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (tier, size) in sizes.iter().enumerate() {
        for n in 0..*size {
            found.push(Candidate::new(
                format!("c{tier}").into(),
                if tier == 0 { Place::Local } else { Place::Backup },
                Address::parse(&format!("http://10.{tier}.{}.{}:80", n / 250, n % 250)).unwrap(),
            ));
        }
    }
    found
}

const LISTS: [List; 5] = [List::Ready, List::Degraded, List::Probing, List::Barred, List::Advised];

pub(crate) fn consistent(pool: &Pool, rules: &Rules) -> Result<(), TestCaseError> {
    for (index, endpoint) in (0_u32..).zip(&pool.endpoints) {
        let Some(e) = endpoint else { continue };
        let tier = &pool.tiers[e.tier as usize];
        prop_assert!(tier.members.contains(&index));
        for list in LISTS {
            let here = tier.list(list).iter().filter(|member| **member == index).count();
            prop_assert_eq!(here, usize::from(e.belongs(&rules.breaker) == Some(list)));
        }
        if let Some((list, at)) = e.listed {
            prop_assert_eq!(tier.list(list)[at as usize], index);
        }
        prop_assert_eq!(pool.timers.contains(&(e.next(), index)), e.next() != Time::NEVER);
    }
    let members: usize = pool.tiers.iter().map(|tier| tier.members.len()).sum();
    prop_assert_eq!(members, pool.endpoints.iter().flatten().count());
    prop_assert_eq!(pool.loads.len(), pool.endpoints.len());
    let listed = pool.endpoints.iter().flatten().filter(|e| e.listed.is_some()).count();
    prop_assert_eq!(pool.listed as usize, listed);
    Ok(())
}

fn kinds() -> impl Strategy<Value = BalanceKind> {
    use BalanceKind::*;
    prop_oneof![
        Just(P2c),
        Just(LeastOutstanding),
        Just(RoundRobin),
        Just(Weighted),
        Just(Random),
        Just(Rendezvous),
        Just(Ring)
    ]
}

proptest! {
    /// Whatever happens to endpoints and lists of them, lists and timers stay exact, a choice is
    /// always allowed by its want, and one is found whenever there is one: with every balancer.
    #[test]
    fn lists_stay_exact(
        seed: u64, kind in kinds(), key: Option<u64>,
        script in proptest::collection::vec((0_u8..8, 0_usize..40, 0_u64..3_000), 1..80),
    ) {
        let mut policy = crate::config::Policy::default();
        policy.balance.kind = kind;
        let rules = Rules::of(&policy, "policy").unwrap();
        let mut rng = Pcg32::new(seed, 0);
        let mut pool = Pool::default();
        let mut now = Time::ZERO;
        pool.replace(now, &candidates(&[3, 12, 1]), &rules, seed);
        for (action, n, ms) in script {
            now = now.plus(std::time::Duration::from_millis(ms));
            pool.tick(now, &rules, &mut rng, |_, _, _| ());
            let index = u32::try_from(n % pool.endpoints.len().max(1)).unwrap();
            match action {
                0 => { pool.replace(now, &candidates(&[n % 4, n % 13, n % 2]), &rules, seed); }
                1 | 2 => if let Some(Some(e)) = pool.endpoints.get_mut(index as usize) {
                    for _ in 0..5 {
                        if let Ok(permit) = e.breaker.admit(now, &rules.breaker) {
                            let class = if action == 1 { Class::Failure } else { Class::Success };
                            let took = std::time::Duration::ZERO;
                            let _ = e.breaker.record(now, permit, class, took, &rules.breaker, &mut rng);
                        }
                    }
                    pool.sync(now, index, &rules);
                },
                3 => if let Some(Some(e)) = pool.endpoints.get_mut(index as usize) {
                    e.health = [Status::Unknown, Status::Healthy, Status::Degraded, Status::Unhealthy][n % 4];
                    pool.sync(now, index, &rules);
                },
                _ => {
                    let mut tried = Tried::default();
                    for tier in 0..pool.tiers.len() {
                        for pass in [Pass::Healthy, Pass::Degraded, Pass::Any] {
                            for want in [Want::Fresh, Want::Untried, Want::Any] {
                                let ask = Ask { now, rules: &rules, tried: &tried, want, key, route: RouteId::DEFAULT };
                                let choice = pool.choose(tier, pass, &ask, &mut rng);
                                let lists = match pass {
                                    Pass::Healthy => &LISTS[..1],
                                    Pass::Degraded => &LISTS[1..2],
                                    Pass::Any => &[List::Ready, List::Degraded, List::Barred][..],
                                };
                                let fits = |i: &u32| want == Want::Any || !tried.has(*i);
                                let mut allowed = lists.iter().flat_map(|list| pool.tiers[tier].list(*list)).filter(|i| fits(i));
                                match choice {
                                    Some(i) => {
                                        prop_assert!(allowed.any(|other| *other == i), "{:?} {:?}", pass, want);
                                        tried.add(i);
                                    }
                                    None => prop_assert_eq!(allowed.next(), None, "{:?} {:?}", pass, want),
                                }
                            }
                        }
                    }
                }
            }
            consistent(&pool, &rules)?;
        }
    }

    /// A kept endpoint keeps its id and its breaker; an id of a removed one finds nothing.
    #[test]
    fn ids_survive_replacement(before in 0_usize..20, after in 0_usize..20) {
        let rules = Rules::default();
        let mut pool = Pool::default();
        pool.replace(Time::ZERO, &candidates(&[before]), &rules, 7);
        let ids: Vec<_> = (0..before).map(|n| pool.id(n as u32).unwrap()).collect();
        let (added, removed) = pool.replace(Time::ZERO, &candidates(&[after]), &rules, 7);
        prop_assert_eq!(added, after.saturating_sub(before));
        prop_assert_eq!(removed, before.saturating_sub(after));
        for (n, id) in ids.iter().enumerate() {
            prop_assert_eq!(pool.get(*id).is_some(), n < after);
        }
        pool.replace(Time::ZERO, &candidates(&[before]), &rules, 7);
        for (n, id) in ids.iter().enumerate() {
            prop_assert_eq!(pool.get(*id).is_some(), n < after.min(before));
        }
    }
}
