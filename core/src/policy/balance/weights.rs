//! Drawing in proportion to weights in constant time: the alias method (Walker 1977, Vose 1991).
//! The table is built when endpoints or weights change, in time and memory proportional to their
//! number (8 bytes each). It covers all endpoints of a tier, not only those ready: a draw that
//! is not ready is drawn again, which keeps the rest in proportion, and readiness changes far
//! more often than weights.
//!
//! Rejection against the largest weight would need no table, but as many draws as the largest
//! weight exceeds the mean; here the weights do not matter, only the share that is ready.

use serde::{Deserialize, Serialize};

use crate::rng::Pcg32;

/// The largest weight; larger ones count as this.
pub const MOST_WEIGHT: u32 = 1_000_000;

/// Weights compiled for drawing.
///
/// ```
/// use origin_core::policy::balance::weights::Weights;
/// use origin_core::rng::Pcg32;
///
/// let weights = Weights::build(&[3, 0, 1]);
/// let mut rng = Pcg32::new(1, 0);
/// let mut drawn = [0; 3];
/// for _ in 0..4_000 {
///     drawn[weights.draw(&mut rng) as usize] += 1;
/// }
/// assert!(drawn[0] > 2_900 && drawn[1] == 0 && drawn[2] > 900);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weights {
    /// Per column: up to which 32-bit ticket it is itself, and who it is otherwise. Empty when
    /// all weights are equal.
    columns: Vec<(u32, u32)>,
    count: u32,
}

impl Weights {
    /// Compiles `weights`. All zero means all equal, as if there were none: a mistake must not
    /// take a service down.
    #[must_use]
    pub fn build(weights: &[u32]) -> Weights {
        let count = u32::try_from(weights.len()).unwrap_or(u32::MAX);
        let weights = &weights[..count as usize];
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Weights::equal(count);
        }
        let capped = || weights.iter().map(|weight| (*weight).min(MOST_WEIGHT));
        // At most 10⁶ × 2³², and the scaled values below the same.
        let total: u64 = capped().map(u64::from).sum();
        let mut scaled: Vec<u64> = capped().map(|w| u64::from(w) * u64::from(count)).collect();
        let mut columns: Vec<(u32, u32)> = (0..count).map(|own| (u32::MAX, own)).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..count).partition(|i| scaled[*i as usize] < total);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            let has = scaled[poor as usize];
            // has < total, so the quotient is below 2³².
            let ticket = (u128::from(has) << 32) / u128::from(total);
            columns[poor as usize] = (u32::try_from(ticket).unwrap_or(u32::MAX), rich);
            let left = scaled[rich as usize] - (total - has);
            scaled[rich as usize] = left;
            if left < total {
                large.pop();
                small.push(rich);
            }
        }
        Weights { columns, count }
    }

    /// `count` equal weights.
    #[must_use]
    pub const fn equal(count: u32) -> Weights {
        Weights { columns: Vec::new(), count }
    }

    /// Whether all weights are equal.
    #[must_use]
    pub fn even(&self) -> bool {
        self.columns.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// One of `0..count`, each in proportion to its weight, exact to 2⁻³²; 0 of none.
    #[must_use]
    #[inline]
    pub fn draw(&self, rng: &mut Pcg32) -> u32 {
        let column = rng.below(self.count);
        match self.columns.get(column as usize) {
            Some((own, other)) if rng.bits() >= *own => *other,
            _ => column,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tickets of each, of `count × 2³²` in all.
    fn tickets(weights: &Weights) -> Vec<u64> {
        let mut tickets = vec![0_u64; weights.count as usize];
        for (column, (own, other)) in weights.columns.iter().enumerate() {
            tickets[column] += u64::from(*own);
            tickets[*other as usize] += (1 << 32) - u64::from(*own);
        }
        tickets
    }

    #[test]
    fn equal_weights_need_no_table() {
        for weights in [&[][..], &[0], &[7], &[0, 0, 0], &[5, 5], &[u32::MAX; 3]] {
            let weights = Weights::build(weights);
            assert!(weights.even());
            assert!(weights.draw(&mut Pcg32::new(1, 1)) < weights.count().max(1));
        }
    }

    #[test]
    fn extreme_weights_are_capped() {
        let weights = Weights::build(&[u32::MAX, MOST_WEIGHT, 1, 0]);
        let tickets = tickets(&weights);
        assert_eq!(tickets[0].abs_diff(tickets[1]) >> 8, 0);
        assert!(tickets[2] > 0 && tickets[3] == 0);
    }

    #[test]
    fn draws_follow_the_weights() {
        let weights = Weights::build(&[1, 2, 3, 4]);
        let mut rng = Pcg32::new(5, 0);
        let mut drawn = [0_u32; 4];
        (0..100_000).for_each(|_| drawn[weights.draw(&mut rng) as usize] += 1);
        for (got, expected) in drawn.iter().zip([10_000, 20_000, 30_000, 40_000_u32]) {
            assert!(got.abs_diff(expected) < 700, "{drawn:?}"); // 155 is the largest deviation
        }
    }

    proptest! {
        /// The table holds every weight's exact share, up to one ticket per column.
        #[test]
        fn shares_are_exact(list in proptest::collection::vec(0_u32..1_000_001, 2..60)) {
            let weights = Weights::build(&list);
            let total: u64 = list.iter().copied().map(u64::from).sum();
            if !weights.even() {
                let count = list.len() as u64;
                for (weight, tickets) in list.iter().zip(tickets(&weights)) {
                    let exact = ((u128::from(*weight) * u128::from(count)) << 32) / u128::from(total);
                    prop_assert!(u128::from(tickets).abs_diff(exact) <= u128::from(count) + 1);
                    prop_assert!(*weight > 0 || tickets == 0);
                }
            }
        }
    }
}
