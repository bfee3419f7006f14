//! The frozen random generator: PCG32 (O'Neill 2014, XSH-RR 64/32), seeded, with one stream per
//! call. Its output for a seed is part of the recorded behaviour and must never change.

use serde::{Deserialize, Serialize};

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// A small deterministic random generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pcg32 {
    state: u64,
    increment: u64,
}

impl Pcg32 {
    /// The generator for `(seed, stream)`. Different streams of one seed do not overlap in
    /// practice, so the jitter of one call does not depend on what other calls drew.
    #[must_use]
    pub const fn new(seed: u64, stream: u64) -> Pcg32 {
        let increment = (stream << 1) | 1;
        // The reference initialisation: step, add the seed, step.
        let state = increment.wrapping_add(seed).wrapping_mul(MULTIPLIER).wrapping_add(increment);
        Pcg32 { state, increment }
    }

    /// The next 32 uniformly distributed bits.
    #[must_use]
    pub fn bits(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        // The truncation to the low 32 bits is the definition of XSH-RR.
        #[allow(clippy::cast_possible_truncation)]
        let shifted = (((old >> 18) ^ old) >> 27) as u32;
        #[allow(clippy::cast_possible_truncation)]
        let rotation = (old >> 59) as u32;
        shifted.rotate_right(rotation)
    }

    /// A number in `0..bound`; 0 when `bound` is 0. Multiply-shift (Lemire 2019) without the
    /// rejection step: the bias is below 2⁻³² × bound, which no policy here can notice.
    #[must_use]
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(bound)) >> 32) as u32
    }

    /// A number in `0..=most`, for 64-bit ranges (nanoseconds).
    #[must_use]
    pub fn up_to(&mut self, most: u64) -> u64 {
        let wide = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        ((u128::from(wide) * (u128::from(most) + 1)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn output_is_the_reference_output() {
        // First outputs of the PCG32 reference program for seed 42, stream 54.
        let mut rng = Pcg32::new(42, 54);
        let got: Vec<u32> = (0..6).map(|_| rng.bits()).collect();
        assert_eq!(
            got,
            [0xa15c_02b7, 0x7b47_f409, 0xba1d_3330, 0x83d2_f293, 0xbfa4_784b, 0xcbed_606e]
        );
    }

    proptest! {
        #[test]
        fn stays_in_range(seed: u64, stream: u64, bound in 1_u32.., most: u64) {
            let mut rng = Pcg32::new(seed, stream);
            for _ in 0..20 {
                prop_assert!(rng.below(bound) < bound);
                prop_assert!(rng.up_to(most) <= most);
            }
            prop_assert_eq!(rng.below(0), 0);
        }
    }
}
