//! Mean and deviation of success rates in integers, exact but for the root.

use serde::{Deserialize, Serialize};

/// One, as a rate.
const ONE: u64 = 1_000_000_000;

/// A share of requests in 10⁻⁹. Shown as a percentage.
pub(super) fn rate(part: u32, all: u32) -> u64 {
    (u64::from(part) * ONE).checked_div(u64::from(all)).unwrap_or(0)
}

/// Sums over the endpoints that are judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) hosts: u32,
    sum: u64,
    squares: u128,
}

impl Sums {
    /// Adds one endpoint. 2³² of them do not overflow: each rate is at most 2³⁰.
    pub(super) fn add(&mut self, rate: u64) {
        self.hosts = self.hosts.saturating_add(1);
        self.sum = self.sum.saturating_add(rate);
        self.squares = self.squares.saturating_add(u128::from(rate) * u128::from(rate));
    }

    /// The line below which a rate is an outlier: mean − factor × population deviation.
    pub(super) fn line(&self, factor_permille: u32) -> Line {
        let hosts = u128::from(self.hosts.max(1));
        let sum = u128::from(self.sum);
        // n²σ² = n·Σx² − (Σx)²: no difference of rounded numbers, no division before the root.
        let spread = (hosts * self.squares).saturating_sub(sum * sum).isqrt();
        let reach = spread * u128::from(factor_permille) / 1_000;
        let in_rate = |scaled: u128| u64::try_from(scaled / hosts).unwrap_or(ONE);
        Line {
            scaled: sum.saturating_sub(reach),
            hosts,
            mean: in_rate(sum),
            deviation: in_rate(spread),
        }
    }
}

/// The line and how it came about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// The line × hosts: compared in this form, so that nothing is rounded.
    scaled: u128,
    hosts: u128,
    mean: u64,
    deviation: u64,
}

impl Line {
    pub(super) fn is_below(&self, rate: u64) -> bool {
        u128::from(rate) * self.hosts < self.scaled
    }

    pub(super) fn numbers(&self, rate: u64) -> RateNumbers {
        let line = u64::try_from(self.scaled / self.hosts).unwrap_or(ONE);
        RateNumbers {
            rate_ppm: ppm(rate),
            threshold_ppm: ppm(line),
            mean_ppm: ppm(self.mean),
            deviation_ppm: ppm(self.deviation),
        }
    }
}

/// The numbers behind an ejection by success rate, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateNumbers {
    /// Success rate of the endpoint.
    pub rate_ppm: u32,
    /// What it would have needed.
    pub threshold_ppm: u32,
    /// Mean success rate of the endpoints with enough requests.
    pub mean_ppm: u32,
    /// Their population standard deviation.
    pub deviation_ppm: u32,
}

fn ppm(rate: u64) -> u32 {
    u32::try_from(rate / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(rates: &[(u32, u32)]) -> Sums {
        let mut sums = Sums::default();
        rates.iter().for_each(|(good, all)| sums.add(rate(*good, *all)));
        sums
    }

    /// Comment in Envoy's `outlier_detection_impl`: 50, 100, 100, 100, 100 have mean 90, deviation
    /// 20 and, with the factor 1.9, threshold 52.
    #[test]
    fn envoy_example() {
        let line = sums(&[(100, 200), (200, 200), (200, 200), (200, 200), (200, 200)]).line(1_900);
        let expect = RateNumbers {
            rate_ppm: 500_000,
            threshold_ppm: 520_000,
            mean_ppm: 900_000,
            deviation_ppm: 200_000,
        };
        assert_eq!(line.numbers(rate(1, 2)), expect);
        assert!(line.is_below(519_999_999) && !line.is_below(520_000_000));
    }

    #[test]
    fn extremes() {
        assert_eq!((rate(0, 0), rate(u32::MAX, u32::MAX)), (0, ONE));
        assert!(!Sums::default().line(0).is_below(0));
        let full = Sums { hosts: u32::MAX, sum: u64::from(u32::MAX) * ONE, squares: 0 };
        let squares = u128::from(u32::MAX) * u128::from(ONE) * u128::from(ONE);
        let _ = Sums { squares, ..full }.line(u32::MAX).numbers(u64::MAX);
        let _ = full.line(u32::MAX).numbers(0);
    }

    proptest! {
        #[test]
        #[allow(clippy::cast_precision_loss)]
        fn equals_floating_point(
            rates in proptest::collection::vec((0_u32..=1_000, 1_u32..=1_000), 1..60), factor in 1_u32..4_000,
        ) {
            let rates: Vec<(u32, u32)> = rates.into_iter().map(|(good, all)| (good.min(all), all)).collect();
            let line = sums(&rates).line(factor);
            let xs: Vec<f64> = rates.iter().map(|(good, all)| f64::from(*good) / f64::from(*all)).collect();
            let n = xs.len() as f64;
            let mean = xs.iter().sum::<f64>() / n;
            let deviation = (xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            let threshold = mean - deviation * f64::from(factor) / 1e3;
            prop_assert!((line.mean as f64 / 1e9 - mean).abs() < 1e-8);
            prop_assert!((line.deviation as f64 / 1e9 - deviation).abs() < 1e-8);
            for ((good, all), x) in rates.iter().zip(&xs) {
                if (x - threshold).abs() > 1e-8 {
                    prop_assert_eq!(line.is_below(rate(*good, *all)), *x < threshold);
                }
            }
        }
    }
}
