//! Powers of two and logarithms in fixed point, for decay and slow start: the same bits on every
//! machine, which floating point does not promise. Nothing here knows about endpoints.

/// One in Q32.
pub(super) const ONE: u64 = 1 << 32;

/// ln 2 in Q32, rounded to nearest.
const LN_2_Q32: u64 = 2_977_044_472;

/// log₂ e in Q62, rounded down.
const LOG2_E_Q62: u128 = 6_653_256_548_922_161_245;

/// The exponent that one nanosecond adds for a time constant of `tau` nanoseconds, in Q64:
/// `log₂ e / tau`, so that `2^-(rate × t) = e^(-t / tau)`. One division, at configuration time.
pub(super) fn rate(tau: u64) -> u64 {
    let rate = (LOG2_E_Q62 << 2) / u128::from(tau.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// `rate × span` in Q32; whole part above 2³² is as good as infinite and saturates.
pub(super) fn exponent(rate: u64, span: u64) -> u64 {
    let wide = (u128::from(rate) * u128::from(span)) >> 32;
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// `value × 2^-exponent`, exponent in Q32. Relative error below 3 × 10⁻⁷, plus one unit of
/// rounding.
pub(super) fn shrink(value: u64, exponent: u64) -> u64 {
    let whole = exponent >> 32;
    if whole >= 64 {
        return 0;
    }
    // The low half is the fraction.
    #[allow(clippy::cast_possible_truncation)]
    let scale = exp2_neg(exponent as u32);
    // At most 2³² × value >> 32, so it fits again.
    #[allow(clippy::cast_possible_truncation)]
    let scaled = ((u128::from(value) * u128::from(scale)) >> 32) as u64;
    scaled >> whole
}

/// `value × e^(-span / tau)` for the [`rate`] of tau, made for reading: along the chord of each
/// step, so with a relative error of at most `(ln 2 / 64)² / 8` = 1.5 × 10⁻⁵, always above, and
/// half the work of [`shrink`]. Not for keeping: the slope of a chord at its beginning is 0.5 %
/// too flat, which would add up over frequent answers.
#[inline]
pub(super) fn fade(value: u64, rate: u64, span: u64) -> u64 {
    let exponent = (u128::from(rate) * u128::from(span)) >> 32;
    if exponent >> 38 != 0 {
        return 0; // 64 halvings
    }
    #[allow(clippy::cast_possible_truncation)] // below 2³⁸
    let exponent = exponent as u64;
    let step = (exponent >> 26 & 63) as usize;
    let rest = exponent & ((1 << 26) - 1);
    let (high, low) = (TABLE[step], TABLE[step + 1]);
    let scale = high - (((high - low) * rest) >> 26);
    #[allow(clippy::cast_possible_truncation)] // at most the value
    let scaled = ((u128::from(value) * u128::from(scale)) >> 32) as u64;
    scaled >> (exponent >> 32)
}

/// `x^(power)` for `x` in Q32 within 0–1 and `power` in Q16; 0 stays 0 (also for power 0).
pub(super) fn power(x: u64, power: u32) -> u64 {
    if x == 0 {
        return 0;
    }
    let exponent = (u128::from(log2_neg(x.min(ONE))) * u128::from(power)) >> 16;
    shrink(ONE, u64::try_from(exponent).unwrap_or(u64::MAX))
}

/// `2^-fraction` in Q32, the fraction in Q32: a table of 64 steps, and within a step the first
/// three terms of the exponential series. The fourth is below `(ln 2 / 64)³ / 6` = 2.2 × 10⁻⁷.
fn exp2_neg(fraction: u32) -> u64 {
    let step = (fraction >> 26) as usize;
    let rest = u64::from(fraction & ((1 << 26) - 1));
    let linear = (rest * LN_2_Q32) >> 32;
    let series = ONE - linear + ((linear * linear) >> 33);
    // Both are at most one, the product of ones needs 65 bits.
    #[allow(clippy::cast_possible_truncation)]
    let product = ((u128::from(TABLE[step]) * u128::from(series)) >> 32) as u64;
    product
}

/// `-log₂ x` in Q32 for `x` in Q32, `0 < x ≤ 1`: the leading zeros are the whole part, then one
/// bit of fraction per squaring. 24 bits are more than slow start can show.
fn log2_neg(x: u64) -> u64 {
    let zeros = x.leading_zeros();
    // Mantissa in Q63, 1 ≤ m < 2.
    let mut mantissa = x << zeros;
    // log₂ x = 31 - zeros + log₂ m.
    let mut fraction = 0_u64;
    for bit in (8..32).rev() {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        // m² < 4, so in Q63 it has at most 65 bits: halve it when it reached 2.
        let halved = u32::from(square >> 64 != 0);
        fraction |= u64::from(halved) << bit;
        #[allow(clippy::cast_possible_truncation)] // below 2 after halving
        let next = (square >> halved) as u64;
        mantissa = next;
    }
    (u64::from(zeros) << 32).saturating_sub((31 << 32) + fraction)
}

/// `2^(-i/64)` in Q32 for i = 0–64.
static TABLE: [u64; 65] = table();

const fn table() -> [u64; 65] {
    const UNIT: u128 = 1 << 62;
    // 2^(-1/64) by six square roots of one half.
    let mut root = UNIT / 2;
    let mut n = 0;
    while n < 6 {
        root = (root << 62).isqrt();
        n += 1;
    }
    let mut table = [0; 65];
    let mut value = UNIT;
    let mut i = 0;
    while i < 65 {
        #[allow(clippy::cast_possible_truncation)] // at most 2³²
        let entry = ((value + (1 << 29)) >> 30) as u64;
        table[i] = entry;
        value = (value * root) >> 62;
        i += 1;
    }
    table
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_what_f64_says() {
        for (i, entry) in TABLE.iter().enumerate() {
            let exact = (-(i as f64) / 64.0).exp2() * ONE as f64;
            assert!((*entry as f64 - exact).abs() <= 0.6, "{i}");
        }
        assert_eq!((TABLE[0], TABLE[64]), (ONE, ONE / 2));
    }

    #[test]
    fn bad_input_is_survived() {
        for value in [0, 1, ONE, u64::MAX] {
            for other in [0, 1, ONE - 1, ONE, u64::MAX] {
                assert!(shrink(value, other) <= value);
                let _ = (rate(value), exponent(value, other));
                assert!(power(value, 0) <= ONE);
                assert!(power(value, u32::MAX) <= ONE);
            }
            assert_eq!((shrink(value, 0), fade(value, 0, u64::MAX)), (value, value));
            assert_eq!(fade(value, u64::MAX, u64::MAX), 0);
            assert_eq!(shrink(value, u64::MAX), 0);
        }
        assert_eq!((power(0, 0), power(ONE, 1 << 16), power(u64::MAX, 9)), (0, ONE, ONE));
    }

    proptest! {
        #[test]
        fn decay_is_what_f64_says(tau in 1_000_000_u64..700_000_000_000_000, span in 0_u64..1 << 52,
                                  value in 0_u64..1 << 50) {
            let got = shrink(value, exponent(rate(tau), span)) as f64;
            let exact = value as f64 * (-(span as f64) / tau as f64).exp();
            // The rate of a time constant of days has 16 significant bits.
            let error = 3e-7 + 2.7e-5 * (span as f64 / tau as f64);
            prop_assert!((got - exact).abs() <= exact * error + 1.0, "{} {}", got, exact);
            let (read, error) = (fade(value, rate(tau), span) as f64, error + 1.6e-5);
            prop_assert!((read - exact).abs() <= exact * error + 1.0, "{} {}", read, exact);
        }

        #[test]
        fn powers_are_what_f64_says(x in 1_u64..=ONE, tenths in 1_u32..100) {
            let q16 = tenths * 65_536 / 10;
            let got = power(x, q16) as f64 / ONE as f64;
            let exact = (x as f64 / ONE as f64).powf(f64::from(q16) / 65_536.0);
            prop_assert!((got - exact).abs() <= 2e-6, "{} {}", got, exact);
        }

        #[test]
        fn longer_is_never_more(value: u64, rate: u64, a: u64, b: u64) {
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(shrink(value, exponent(rate, a)) >= shrink(value, exponent(rate, b)));
            prop_assert!(fade(value, rate, a) >= fade(value, rate, b));
        }
    }
}
