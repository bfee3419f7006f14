//! Ring, rendezvous and bounded load.

use proptest::prelude::*;

use crate::policy::balance::affinity::{Bound, Keyed, Member, POINTS, Ring};
use crate::policy::balance::choose::{Nobody, Ready, Why};
use crate::policy::balance::hash;
use crate::rng::Pcg32;

fn members(count: u32) -> Vec<Member> {
    let member = |endpoint: u32| Member {
        endpoint,
        hash: hash::of(format!("http://10.{}.{}.1:80", endpoint / 256, endpoint % 256).as_bytes()),
        weight: 1,
    };
    (0..count).map(member).collect()
}

fn key(n: u32) -> u64 {
    hash::of(format!("customer-{n}").as_bytes())
}

/// A tier by plain values.
struct Tier {
    hashes: Vec<u64>,
    ready: Vec<bool>,
    out: Vec<u32>,
}

impl Tier {
    fn of(members: &[Member]) -> Tier {
        Tier {
            hashes: members.iter().map(|member| member.hash).collect(),
            ready: vec![true; members.len()],
            out: vec![0; members.len()],
        }
    }
}

impl Ready for Tier {
    fn count(&self) -> u32 {
        u32::try_from(self.hashes.len()).unwrap()
    }
    fn cost(&self, position: u32) -> Option<u64> {
        let ready = self.ready.get(position as usize)?;
        ready.then(|| u64::from(self.out[position as usize]))
    }
}

impl Keyed for Tier {
    fn position(&self, endpoint: u32) -> Option<u32> {
        Some(endpoint)
    }
    fn outstanding(&self, position: u32) -> u32 {
        self.out[position as usize]
    }
    fn hash(&self, position: u32) -> u64 {
        self.hashes[position as usize]
    }
}

#[test]
fn the_ring_is_what_a_binary_search_finds() {
    for count in [1, 2, 3, 10, 300] {
        let members = members(count);
        let ring = Ring::build(&members);
        assert_eq!(ring.len(), (POINTS * count) as usize);
        let mut points: Vec<(u64, u32)> = Vec::new();
        for member in &members {
            let mut place = member.hash;
            for _ in 0..POINTS {
                place = hash::mix(place);
                points.push((place, member.endpoint));
            }
        }
        points.sort_unstable();
        let edges = points.iter().flat_map(|(at, _)| [at.wrapping_sub(1), *at, at.wrapping_add(1)]);
        for key in edges.chain((0..2_000).map(key)).chain([0, u64::MAX]) {
            let at = points.partition_point(|(point, _)| *point < key) % points.len();
            assert_eq!(ring.owner(key), Some(points[at].1));
        }
        assert_eq!(ring.from(7).count(), ring.len());
    }
}

#[test]
fn keys_are_spread_within_what_128_points_allow() {
    let ring = Ring::build(&members(100));
    let mut owned = vec![0_u32; 100];
    for n in 0..200_000 {
        owned[ring.owner(key(n)).unwrap() as usize] += 1;
    }
    // 2 000 expected; the arcs of 128 points deviate by 1 / √128 = 8.8 %, 177.
    let squares: u64 = owned.iter().map(|n| u64::from(n.abs_diff(2_000)).pow(2)).sum();
    assert!((100 * 130_u64.pow(2)..100 * 225_u64.pow(2)).contains(&squares), "{squares}");
    assert!(owned.iter().all(|n| n.abs_diff(2_000) < 700), "{owned:?}");
}

#[test]
fn weights_scale_the_points() {
    let mut list = members(10);
    for member in &mut list {
        member.weight = member.endpoint % 3; // 0, 1, 2
    }
    let ring = Ring::build(&list);
    let mut owned = [0_u32; 3];
    (0..90_000).for_each(|n| owned[ring.owner(key(n)).unwrap() as usize % 3] += 1);
    assert_eq!(owned[0], 0);
    assert!(owned[1].abs_diff(30_000) < 4_000 && owned[2].abs_diff(60_000) < 4_000, "{owned:?}");
    list.iter_mut().for_each(|member| member.weight = 0);
    assert_eq!(Ring::build(&list).len(), 10 * POINTS as usize);
}

#[test]
fn empty_and_tiny_rings() {
    for ring in [Ring::default(), Ring::build(&[])] {
        assert!(ring.is_empty());
        assert_eq!((ring.owner(0), ring.owner(u64::MAX)), (None, None));
        let nobody = ring.pick(1, Bound::none(), &Tier::of(&[]), &mut Pcg32::new(1, 1));
        assert_eq!(nobody, Err(Nobody::Empty));
    }
    let nobody = hash::owner(1, Bound::none(), &Tier::of(&[]));
    assert_eq!(nobody, Err(Nobody::Empty));
    // Very many endpoints have fewer points each, so the ring stays within its memory.
    let ring = Ring::build(&members(20_000));
    assert_eq!(ring.len(), 20_000 * 52);
}

/// Keys whose owner differs, and keys that changed although their owner is still there.
fn moved(before: &Ring, after: &Ring, gone: u32, keys: u32) -> (u32, u32) {
    let mut moved = (0, 0);
    for n in 0..keys {
        let (old, new) = (before.owner(key(n)).unwrap(), after.owner(key(n)).unwrap());
        moved.0 += u32::from(old != new);
        moved.1 += u32::from(old != new && old != gone);
    }
    moved
}

#[test]
fn removing_one_moves_its_own_keys_only() {
    for count in [3_u32, 20, 200] {
        let all = members(count);
        let before = Ring::build(&all);
        for gone in [0, count / 2, count - 1] {
            let mut rest = all.clone();
            rest.remove(gone as usize);
            let (moved, needless) = moved(&before, &Ring::build(&rest), gone, 20_000);
            assert_eq!(needless, 0);
            assert!(moved <= 2 * 20_000 / count, "{moved} of 20 000 at {count}");
            assert!(moved > 0);
        }
    }
}

proptest! {
    #[test]
    fn rendezvous_moves_exactly_the_keys_of_the_one_that_left(
        seed: u64, count in 2_u32..=64, gone in 0_u32..64,
    ) {
        let gone = gone % count;
        let mut tier = Tier::of(&members(count));
        for n in 0..50_u32 {
            let key = hash::mix(seed ^ u64::from(n));
            tier.ready[gone as usize] = true;
            let before = hash::owner(key, Bound::none(), &tier).unwrap();
            prop_assert_eq!(before.why, Why::Owner);
            let best = (0..count).max_by_key(|i| hash::score(key, tier.hashes[*i as usize]));
            prop_assert_eq!(Some(before.position), best);
            tier.ready[gone as usize] = false;
            let after = hash::owner(key, Bound::none(), &tier).unwrap();
            prop_assert_ne!(after.position, gone);
            if before.position != gone {
                prop_assert_eq!(after.position, before.position);
            } else {
                prop_assert_eq!(after.why, Why::Next { passed: 1, full: 0 });
            }
        }
    }

    /// Mirrokni et al.: whatever the keys, nobody carries more than ⌈c × m / n⌉.
    #[test]
    fn load_stays_within_its_bound(
        seed: u64, count in 1_u32..40, permille in 1_001_u32..2_000, calls in 1_u32..400, keys in 1_u64..50,
        ring: bool,
    ) {
        let list = members(count);
        let built = Ring::build(&list);
        let mut tier = Tier::of(&list);
        let mut rng = Pcg32::new(seed, 0);
        for m in 1..=u64::from(calls) {
            let key = hash::mix(rng.up_to(keys));
            let bound = Bound::new(permille, m - 1, count);
            let choice = if ring {
                built.pick(key, bound, &tier, &mut rng)
            } else {
                hash::owner(key, bound, &tier)
            };
            let choice = choice.unwrap();
            let out = &mut tier.out[choice.position as usize];
            *out += 1;
            let most = (u64::from(permille) * m).div_ceil(1_000 * u64::from(count));
            let within = u64::from(*out) <= most;
            // Visiting 64 points may miss the endpoints that have room; then two are compared.
            prop_assert!(within || matches!(choice.why, Why::Cheapest { .. }), "{} > {}", out, most);
        }
    }

    #[test]
    fn room_is_the_formula(permille in 1_u32.., total in 0_u64..1 << 40, count in 1_u32.., out: u32) {
        let bound = Bound::new(permille, total, count);
        let most = (u128::from(permille) * (u128::from(total) + 1))
            .min(u128::from(u64::MAX))
            .div_ceil(1_000 * u128::from(count));
        prop_assert_eq!(bound.has_room(out), u128::from(out) < most);
    }

    /// Ready or not: the choice is acceptable, the same each time, and the first on the ring.
    #[test]
    fn the_next_on_the_ring_takes_over(
        n: u32, count in 1_u32..40, down in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let list = members(count);
        let ring = Ring::build(&list);
        let mut tier = Tier::of(&list);
        tier.ready.iter_mut().zip(&down).for_each(|(ready, down)| *ready = !down);
        let pick = |stream| ring.pick(key(n), Bound::none(), &tier, &mut Pcg32::new(1, stream));
        match pick(0) {
            Err(nobody) => prop_assert!(!tier.ready.contains(&true), "{nobody:?}"),
            Ok(choice) => {
                prop_assert!(tier.ready[choice.position as usize]);
                if let Why::Owner | Why::Next { .. } = choice.why {
                    prop_assert_eq!(pick(1), Ok(choice));
                    let first = ring.from(key(n)).find(|e| tier.ready[*e as usize]);
                    prop_assert_eq!(first, Some(choice.position));
                }
            }
        }
    }
}

#[test]
fn bounds_at_their_limits() {
    assert!(Bound::none().has_room(u32::MAX));
    assert!(Bound::new(0, u64::MAX, u32::MAX).has_room(u32::MAX), "0 means no bound");
    assert!(Bound::new(u32::MAX, u64::MAX, u32::MAX).has_room(0));
    assert!(!Bound::new(1_001, 0, u32::MAX).has_room(1));
    assert!(Bound::new(1_250, 0, 0).has_room(u32::MAX), "no endpoints, no bound");
}

#[test]
fn a_hot_key_spills_and_comes_back() {
    let list = members(10);
    let (ring, mut tier) = (Ring::build(&list), Tier::of(&list));
    let mut rng = Pcg32::new(1, 0);
    let mut pick = |tier: &Tier, total| {
        ring.pick(key(1), Bound::new(1_250, total, 10), tier, &mut rng).unwrap()
    };
    let owner = pick(&tier, 0);
    assert_eq!(owner.why, Why::Owner);
    tier.out[owner.position as usize] = 1;
    // ⌈1.25 × 2 / 10⌉ = 1: the second call of the same key goes on.
    let next = pick(&tier, 1);
    assert!(matches!(next.why, Why::Next { full, .. } if full > 0), "{next:?}");
    // ⌈1.25 × 9 / 10⌉ = 2: with more going on elsewhere it may stay.
    assert_eq!(pick(&tier, 8).position, owner.position);
    tier.out[owner.position as usize] = 0;
    assert_eq!(pick(&tier, 0), owner);
}
