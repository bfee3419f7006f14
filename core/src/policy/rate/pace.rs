//! The interval between permits as an exact fraction of a nanosecond, and what a burst is worth.

use serde::{Deserialize, Serialize};

use super::MICRO;

/// One permit every `whole + rest / of` nanoseconds; a burst may run `slack + slack_rest / of`
/// ahead of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Pace {
    pub(super) whole: u64,
    pub(super) rest: u64,
    pub(super) of: u64,
    pub(super) slack: u64,
    pub(super) slack_rest: u64,
}

impl Pace {
    /// `rate` millionths of a permit per `per` nanoseconds, up to `burst` at once.
    pub(super) fn of(per: u64, rate: u64, burst: u64) -> Pace {
        let of = u128::from(rate.max(1));
        let span = u128::from(per) * u128::from(MICRO);
        let burst = span.saturating_mul(u128::from(burst.saturating_sub(1)));
        Pace {
            whole: narrow(span / of),
            rest: narrow(span % of),
            of: narrow(of),
            slack: narrow(burst / of),
            slack_rest: narrow(burst % of),
        }
    }

    /// The point one interval after `due + rest / of`.
    #[inline]
    pub(super) fn after(&self, due: u64, rest: u64) -> (u64, u64) {
        // Both parts are below `of`, which is at most 10¹⁵.
        let sum = rest + self.rest;
        let carry = u64::from(sum >= self.of);
        (due.saturating_add(self.whole).saturating_add(carry), sum - carry * self.of)
    }

    /// The point one interval before it.
    pub(super) fn before(&self, due: u64, rest: u64) -> (u64, u64) {
        let carry = u64::from(rest < self.rest);
        let due = due.saturating_sub(self.whole).saturating_sub(carry);
        (due, rest + carry * self.of - self.rest)
    }

    /// A debt of `nanos` at the pace `old`, in nanoseconds at this one. At most a thousandth too
    /// much (at a million a second, less at any other rate), never too little.
    pub(super) fn scaled(&self, nanos: u64, old: &Pace) -> u64 {
        let scaled = u128::from(nanos) * (u128::from(self.whole) + 1);
        narrow(scaled.div_ceil(u128::from(old.whole.max(1))))
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
