//! The frozen hash of keys and addresses, and rendezvous hashing.
//!
//! Affinity only works if all clients, and all versions of them, agree: the functions here are
//! part of the recorded behaviour and must never change (there is a test with their outputs).
//! They spread well and are fast; they do not resist an attacker who chooses keys, who could
//! only choose by which endpoint he is served, and that is what bounded load bounds.

use super::affinity::{Bound, Keyed};
use super::choose::{Choice, Nobody, STRETCH, Why};

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The largest list on which [`owner`] looks at every endpoint.
pub const MOST_RENDEZVOUS: u32 = STRETCH;

/// 64 bits of `bytes`: eight bytes at a time through one multiplication and one shift, both
/// invertible, so that texts of equal length that differ in one such word never collide before
/// the final mixing, which is invertible too.
#[must_use]
pub fn of(bytes: &[u8]) -> u64 {
    let step = |state: u64, word: u64| {
        let state = (state ^ word).wrapping_mul(MULTIPLIER);
        state ^ (state >> 32)
    };
    let mut state = mix(bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        state = step(state, word);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        state = step(state, word);
    }
    mix(state)
}

/// Mixes 64 bits so that each input bit changes each output bit with probability one half: the
/// output step of splitmix64 (Steele, Lea, Flood 2014). Invertible.
#[must_use]
#[inline]
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(MULTIPLIER);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// How much `endpoint` wants `key`: the highest score has it (rendezvous, or highest random
/// weight, hashing; Thaler and Ravishankar 1998).
#[must_use]
#[inline]
pub const fn score(key: u64, endpoint: u64) -> u64 {
    mix(key ^ endpoint)
}

/// The endpoint that wants `key` most, among those acceptable and within `bound`; all full, the
/// one that wants it most. When an endpoint leaves, exactly its own keys move, and evenly to all
/// others; when it returns, exactly those come back.
///
/// Looks at every position of the list, so the caller uses the ring above [`MOST_RENDEZVOUS`]
/// endpoints of a tier (not: ready ones; keys must not move because a breaker opened). Crossing
/// that limit moves most keys once; a fleet that may cross it is better off with the ring from
/// the beginning. There are hierarchical schemes in O(log n), but then a level that changes size
/// moves keys as well, and the ring already gives constant time with the same disruption.
/// Weights are not considered.
///
/// # Errors
/// [`Nobody`] when the list has none that is acceptable; positions beyond the limit are not
/// looked at.
#[inline]
pub fn owner<K: Keyed>(key: u64, bound: Bound, ready: &K) -> Result<Choice, Nobody> {
    let count = ready.count();
    if count == 0 {
        return Err(Nobody::Empty);
    }
    let looked = count.min(MOST_RENDEZVOUS);
    let mut best: Option<(u64, u32)> = None;
    let mut roomy: Option<(u64, u32)> = None;
    let mut top: Option<(u64, u32)> = None;
    let (mut passed, mut full) = (0, 0);
    let raise = |best: &mut Option<(u64, u32)>, score, position| {
        // The position only breaks a tie of 64 bits.
        if best.is_none_or(|best| best < (score, position)) {
            *best = Some((score, position));
        }
    };
    for position in 0..looked {
        let score = score(key, ready.hash(position));
        raise(&mut top, score, position);
        if ready.cost(position).is_none() {
            continue;
        }
        raise(&mut best, score, position);
        if bound.has_room(ready.outstanding(position)) {
            raise(&mut roomy, score, position);
        }
    }
    let Some((score, position)) = roomy.or(best) else {
        return Err(Nobody::Unacceptable { ready: count, looked });
    };
    if top == Some((score, position)) {
        return Ok(Choice { position, why: Why::Owner });
    }
    // Only a call that does not get the owner pays for saying why.
    for other in 0..looked {
        if (self::score(key, ready.hash(other)), other) > (score, position) {
            passed += 1;
            full += u32::from(ready.cost(other).is_some());
        }
    }
    Ok(Choice { position, why: Why::Next { passed, full } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn outputs_are_frozen() {
        let got = ["", "a", "http://10.0.0.1:80", "customer-4711", "12345678", "123456789"]
            .map(|text| of(text.as_bytes()));
        assert_eq!(
            got,
            [
                12_035_550_249_420_947_055,
                2_659_334_511_391_163_446,
                6_625_383_764_207_128_412,
                6_879_121_779_449_700_076,
                7_452_822_219_023_275_893,
                18_377_412_018_001_362_377
            ]
        );
        // splitmix64 of the reference implementation, seed 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(MULTIPLIER), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn one_bit_of_input_changes_half_of_the_output() {
        // 64 inputs × every bit of 13 bytes: 6 656 pairs, mean 32, deviation of the mean 0.05.
        let mut changed = 0;
        let mut least = 64;
        for n in 0..64_u64 {
            let mut bytes = *b"key-000000000";
            bytes[4..12].copy_from_slice(&mix(n).to_le_bytes());
            let before = of(&bytes);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let flipped = (before ^ of(&bytes)).count_ones();
                bytes[bit / 8] ^= 1 << (bit % 8);
                changed += flipped;
                least = least.min(flipped);
            }
        }
        assert!(changed.abs_diff(6_656 * 32) < 6_656 / 4, "{changed}");
        assert!(least >= 12, "{least}");
    }

    #[test]
    fn scores_spread_evenly() {
        let endpoints: Vec<u64> =
            (0..10).map(|n| of(format!("http://10.0.0.{n}:80").as_bytes())).collect();
        let mut owned = [0_u32; 10];
        for key in 0..100_000_u32 {
            let key = of(&key.to_le_bytes());
            let owner = (0..10).max_by_key(|n| score(key, endpoints[*n])).unwrap();
            owned[owner] += 1;
        }
        // 10 000 expected, deviation 95.
        assert!(owned.iter().all(|n| n.abs_diff(10_000) < 400), "{owned:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_hashed(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0_usize..40) {
            prop_assert_eq!(of(&bytes), of(&bytes.clone()));
            let cut = cut.min(bytes.len());
            if cut < bytes.len() {
                prop_assert_ne!(of(&bytes), of(&bytes[..cut]));
            }
        }
    }
}
