//! Where the next attempt of a call goes: clusters in failover order; within a cluster the pool's
//! choice among the ready; suspects after everything sound; at most `attempts_per_cluster` in a
//! cluster while another is untried; endpoints that were tried only when nothing else is left, and
//! not more than `attempts_per_endpoint` times.

use super::{Call, Choice};
use crate::pool::Want;
use crate::service::Service;
use crate::time::Time;

impl Call {
    /// Where the next attempt should go.
    pub(super) fn pick(&mut self, service: &Service, now: Time) -> Option<(u32, Choice)> {
        let (pool, rules) = (&service.pool, self.rules(service));
        let tiers = pool.tiers.len();
        let first = self.attempts == 0;
        // The last attempts are kept for clusters that have not been tried.
        let current = self.tier as usize;
        let ahead = || (current + 1..tiers).filter(|tier| pool.ready(*tier) > 0).count();
        let left = usize::from(self.most(service).saturating_sub(self.attempts));
        let stay = first || (self.in_tier < rules.per_cluster && left > ahead());
        let start = if first { 0 } else { current + usize::from(!stay) };
        for want in [Want::Fresh, Want::Untried] {
            for tier in (start..tiers).chain(0..start.min(tiers)) {
                if let Some(index) = pool.choose(tier, now, rules, &self.tried, want, &mut self.rng)
                {
                    let choice = match (first, tier == current) {
                        (true, _) if tier == 0 => Choice::Preferred,
                        (true, _) => Choice::Spill,
                        (false, true) => Choice::OtherEndpoint,
                        (false, false) => Choice::Failover,
                    };
                    return Some((index, choice));
                }
            }
        }
        if self.repeats + 1 >= rules.per_endpoint {
            return None;
        }
        for want in [Want::Sound, Want::Any] {
            for tier in 0..tiers {
                if let Some(index) = pool.choose(tier, now, rules, &self.tried, want, &mut self.rng)
                {
                    return Some((index, Choice::Again));
                }
            }
        }
        None
    }

    /// Where an attempt could go while another is out: only to a sound endpoint that the call has
    /// not been at; in the same cluster first.
    pub(super) fn pick_beside(&mut self, service: &Service, now: Time) -> Option<u32> {
        let (pool, rules) = (&service.pool, self.rules(service));
        let (tiers, current) = (pool.tiers.len(), self.tier as usize);
        (current..tiers)
            .chain(0..current.min(tiers))
            .find_map(|tier| pool.choose(tier, now, rules, &self.tried, Want::Fresh, &mut self.rng))
    }
}
