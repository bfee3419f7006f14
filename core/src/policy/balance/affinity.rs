//! Affinity: calls with the same key go to the same endpoint, as long as it is ready and not
//! overloaded. Two orders exist: rendezvous ([`super::hash::owner`], exact, for small tiers) and
//! the ring here.
//!
//! *The ring* (Karger 1997, as ketama and Envoy's ring hash): every endpoint stands at up to 128
//! points of a circle of 2⁶⁴, and a key belongs to the point that follows it. The points are
//! sorted, and a directory of their leading bits says where to begin, so finding a point takes
//! constant time on average, as in Maglev's table (Eisenbud 2016). Maglev balances better, but
//! moves keys between endpoints that stay; on the ring only the keys of the endpoint that left
//! move, exactly, and its unevenness (a standard deviation of 9 % at 128 points) is what the
//! bound on load is for anyway.
//!
//! *Bounded load* (Mirrokni, Thorup, Zadimoghaddam 2018): an endpoint that carries
//! ⌈c × (outstanding in all + 1) / n⌉ attempts takes no more; the key goes on to the next on the
//! circle. With c = 1.25 the fullest has at most a quarter more than the mean, whatever the keys.
//!
//! At most 64 points are visited. If none of them will do, the call is balanced like one without
//! a key: affinity is a preference, an answer is a promise.

use serde::{Deserialize, Serialize};

use super::choose::{self, Choice, Nobody, Ready, STRETCH, Why};
use super::hash;
use crate::rng::Pcg32;

/// Points of an endpoint on the ring, at most.
pub const POINTS: u32 = 128;
/// ... and at least, in fleets so large that the points in all would exceed [`MOST_POINTS`].
const FEWEST_POINTS: u32 = 8;
/// Points in all, up to 131 072 endpoints: 16 MiB.
const MOST_POINTS: u32 = 1 << 20;

/// A list whose endpoints can be found by key.
pub trait Keyed: Ready {
    /// The position of `endpoint` (a number given to [`Ring::build`]), while it is ready.
    fn position(&self, endpoint: u32) -> Option<u32>;
    /// Attempts outstanding at `position`.
    fn outstanding(&self, position: u32) -> u32;
    /// The hash of the address at `position`; see [`hash::of`].
    fn hash(&self, position: u32) -> u64;
}

/// How much an endpoint may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bound {
    /// `count × 1000`.
    share: u64,
    /// `c in permille × (outstanding + 1)`; 0: no bound.
    room: u64,
}

impl Bound {
    /// The bound for `outstanding` attempts at `count` endpoints in all: those that are ready, as
    /// they must be able to carry everything. `permille` is c × 1000; 0 means none.
    #[must_use]
    #[inline]
    pub fn new(permille: u32, outstanding: u64, count: u32) -> Bound {
        Bound {
            share: u64::from(count) * 1_000,
            room: outstanding.saturating_add(1).saturating_mul(u64::from(permille)),
        }
    }

    /// No bound.
    #[must_use]
    pub const fn none() -> Bound {
        Bound { share: 0, room: 0 }
    }

    /// Whether an endpoint with `outstanding` attempts takes one more:
    /// `outstanding + 1 ≤ ⌈room / share⌉`, without the division.
    #[must_use]
    #[inline]
    pub const fn has_room(&self, outstanding: u32) -> bool {
        self.room == 0 || (outstanding as u128 * self.share as u128) < self.room as u128
    }
}

/// The points of all endpoints of a tier. Built when endpoints or weights change, in
/// O(points × log points); 12 bytes a point and 2 to 4 for its directory.
///
/// ```
/// use origin_core::policy::balance::affinity::{Member, Ring};
/// use origin_core::policy::balance::hash;
///
/// let members = [(0, "http://10.0.0.1:80"), (1, "http://10.0.0.2:80"), (2, "http://10.0.0.3:80")]
///     .map(|(endpoint, address)| Member { endpoint, hash: hash::of(address.as_bytes()), weight: 1 });
/// let ring = Ring::build(&members);
/// let key = hash::of(b"customer 4711");
/// let owner = ring.owner(key).unwrap();
/// // Without somebody else, the key stays where it was.
/// let rest: Vec<Member> =
///     members.into_iter().filter(|m| m.endpoint != (owner + 1) % 3).collect();
/// assert_eq!(Ring::build(&rest).owner(key), Some(owner));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ring {
    /// Sorted.
    points: Vec<u64>,
    /// Who stands at each point.
    owners: Vec<u32>,
    /// For each value of the leading bits: the first point with that or a larger value.
    directory: Vec<u32>,
    /// 64 - leading bits.
    shift: u32,
}

/// One endpoint of a [`Ring`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The caller's number for it.
    pub endpoint: u32,
    /// The hash of its address; see [`hash::of`].
    pub hash: u64,
    /// Its weight; the heaviest has all its points, one of weight 0 none.
    pub weight: u32,
}

impl Ring {
    /// Places `members`. Where two points coincide the one with the smaller hash is first, so
    /// the order of the list does not matter. All weights 0 count as equal.
    #[must_use]
    pub fn build(members: &[Member]) -> Ring {
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
        let most = (MOST_POINTS / count).clamp(FEWEST_POINTS, POINTS);
        let top = members.iter().map(|member| member.weight).max().unwrap_or(0);
        let mut placed: Vec<(u64, u64, u32)> = Vec::new();
        for member in members {
            let points = match (top, member.weight) {
                (0, _) => u64::from(most),
                (_, 0) => 0,
                (top, own) => (u64::from(most) * u64::from(own) / u64::from(top)).max(1),
            };
            // A member with fewer points has the first ones of its full set, so that a change
            // of weight or of the fleet's size leaves the rest where it was.
            let mut place = member.hash;
            for _ in 0..points {
                place = hash::mix(place);
                placed.push((place, member.hash, member.endpoint));
            }
        }
        placed.sort_unstable();
        let length = u32::try_from(placed.len()).unwrap_or(u32::MAX);
        // One entry for one to two points; at least one bit, so that the shift is below 64.
        let bits = (length.max(2)).ilog2();
        let shift = 64 - bits;
        let mut directory = Vec::with_capacity(1 << bits);
        let mut next = 0_u32;
        for entry in 0..1_u64 << bits {
            while next < length && placed[next as usize].0 >> shift < entry {
                next += 1;
            }
            directory.push(next);
        }
        Ring {
            points: placed.iter().map(|(place, _, _)| *place).collect(),
            owners: placed.iter().map(|(_, _, endpoint)| *endpoint).collect(),
            directory,
            shift,
        }
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The endpoints from `key` on around the circle; an endpoint comes as often as it has
    /// points there.
    #[inline]
    pub fn from(&self, key: u64) -> impl Iterator<Item = u32> {
        let begin = match self.directory.get((key.checked_shr(self.shift).unwrap_or(0)) as usize) {
            Some(begin) => *begin as usize,
            None => 0,
        };
        let ahead = self.points[begin.min(self.points.len())..].iter();
        let at = begin + ahead.take_while(|point| **point < key).count();
        let at = if at < self.owners.len() { at } else { 0 };
        let (before, behind) = self.owners.split_at(at);
        behind.iter().chain(before).copied()
    }

    /// The endpoint that `key` belongs to, ready or not; `None` when nobody is on the ring.
    #[must_use]
    pub fn owner(&self, key: u64) -> Option<u32> {
        self.from(key).next()
    }

    /// The first endpoint from `key` on that is ready, acceptable and within `bound`; after 64
    /// points in vain the cheapest of two drawn ones.
    ///
    /// # Errors
    /// [`Nobody`], as from [`choose::cheapest`].
    #[inline]
    pub fn pick<K: Keyed>(
        &self,
        key: u64,
        bound: Bound,
        ready: &K,
        rng: &mut Pcg32,
    ) -> Result<Choice, Nobody> {
        let mut full = 0;
        for (passed, endpoint) in (0..STRETCH).zip(self.from(key)) {
            let Some(position) = ready.position(endpoint) else { continue };
            if ready.cost(position).is_none() {
                continue;
            }
            if bound.has_room(ready.outstanding(position)) {
                let why = if passed == 0 { Why::Owner } else { Why::Next { passed, full } };
                return Ok(Choice { position, why });
            }
            full += 1;
        }
        choose::cheapest(ready, rng)
    }
}
