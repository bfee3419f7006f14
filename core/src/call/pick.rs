//! Where the next attempt of a call goes.
//!
//! The first one: to a half-open endpoint that waits to be tried in a cluster at least as
//! preferred as the one that gets the call; else to the cluster that the split of the load says
//! (`policy/tiers`), within it to the balancer's choice; else, if nothing there is sound, to the
//! next cluster that has something sound.
//!
//! Later ones: clusters in failover order from the present one on, at most `attempts_per_cluster`
//! in a cluster while another is untried; suspects after everything sound; endpoints that were
//! tried only when nothing else is left, and not more than `attempts_per_endpoint` times. Last of
//! all those that only other nodes found bad.

use super::{Call, Choice};
use crate::policy::balance::hash;
use crate::policy::tiers::{Pass, Refusal, Why};
use crate::pool::{Ask, Pool, Want};
use crate::rng::Pcg32;
use crate::service::Service;
use crate::time::Time;

/// Ready ones before degraded ones.
const PASSES: [Pass; 2] = [Pass::Healthy, Pass::Degraded];

impl Call {
    /// Where the next attempt should go.
    pub(super) fn pick(
        &mut self,
        service: &mut Service,
        now: Time,
    ) -> Result<(u32, Choice), Option<Refusal>> {
        let (abreast, first) = (self.spec, self.attempts == 0);
        let most = self.most(service);
        let Service { pool, tiers: split, .. } = service;
        let rules = &service.rules;
        if pool.nobody() {
            return Err(None);
        }
        let rng = &mut self.rng;
        let mut ask = Ask {
            now,
            rules,
            tried: &self.tried,
            want: Want::Fresh,
            // Mixed: a number that counts, as an identifier may, must not stay in one place.
            key: (abreast.affinity != 0).then(|| hash::mix(abreast.affinity)),
            route: abreast.route,
        };
        let tiers = pool.tiers.len();
        let mut refused = None;
        let mut preferred = 0;
        if first {
            // No draw where one cluster gets everything.
            let picked = split.sole().unwrap_or_else(|| split.pick(rng.below(100)));
            preferred = picked.map_or(tiers, |choice| usize::from(choice.tier));
            for tier in 0..(preferred + 1).min(tiers) {
                if let Some(index) = pool.probe(tier, &ask) {
                    return Ok((index, Choice::Probe));
                }
            }
            match picked {
                Ok(choice) => {
                    let tier = usize::from(choice.tier);
                    if let Some(index) = pool.choose(tier, choice.pass, &ask, rng) {
                        let why = match choice.why {
                            Why::First { .. } => Choice::Preferred,
                            why => Choice::Share(why),
                        };
                        return Ok((index, why));
                    }
                }
                // Nobody is healthy: whoever may be called at all is asked below.
                Err(Refusal::NoneUsable | Refusal::NoEndpoints) => preferred = 0,
                // What other nodes say is no reason to refuse a call.
                Err(_) if pool.has_advised() => preferred = 0,
                Err(refusal) => {
                    refused = Some(refusal);
                    return Err(refused);
                }
            }
        }
        // The last attempts are kept for clusters that have not been tried.
        let current = self.tier as usize;
        let ahead = || (current + 1..tiers).filter(|tier| pool.ready(*tier) > 0).count();
        let left = usize::from(most.saturating_sub(self.attempts));
        let stay = first || (self.in_tier < rules.per_cluster && left > ahead());
        let start = if first { preferred } else { current + usize::from(!stay) };
        for want in [Want::Fresh, Want::Untried] {
            ask.want = want;
            for tier in (start..tiers).chain(0..start.min(tiers)) {
                if let Some(index) = any(pool, tier, &ask, rng) {
                    let choice = match (first, tier == current) {
                        (true, _) if tier == 0 => Choice::Preferred,
                        (true, _) => Choice::Spill,
                        (false, true) => Choice::OtherEndpoint,
                        (false, false) => Choice::Failover,
                    };
                    return Ok((index, choice));
                }
            }
        }
        let again = self.repeats + 1 < rules.per_endpoint;
        for want in [Want::Sound, Want::Any].into_iter().filter(|_| again) {
            ask.want = want;
            for tier in 0..tiers {
                if let Some(index) = any(pool, tier, &ask, rng) {
                    return Ok((index, Choice::Again));
                }
            }
        }
        // What other nodes say must not leave a call without an endpoint.
        for want in [Want::Untried, Want::Any] {
            if want == Want::Any && !again {
                break;
            }
            ask.want = want;
            for tier in (start..tiers).chain(0..start.min(tiers)) {
                if let Some(index) = pool.advised(tier, &ask, rng) {
                    let choice = match (want, first, tier == current) {
                        (Want::Any, false, _) => Choice::Again,
                        (_, true, _) if tier == 0 => Choice::Preferred,
                        (_, true, _) => Choice::Spill,
                        (_, false, true) => Choice::OtherEndpoint,
                        (_, false, false) => Choice::Failover,
                    };
                    return Ok((index, choice));
                }
            }
        }
        Err(refused)
    }

    /// Where an attempt could go while another is out: only to a sound endpoint that the call has
    /// not been at; in the same cluster first.
    pub(super) fn pick_beside(&mut self, service: &mut Service, now: Time) -> Option<u32> {
        let Service { pool, rules, .. } = service;
        let (tiers, current) = (pool.tiers.len(), self.tier as usize);
        let ask = Ask {
            now,
            rules,
            tried: &self.tried,
            want: Want::Fresh,
            key: None,
            route: self.spec.route,
        };
        let rng = &mut self.rng;
        (current..tiers)
            .chain(0..current.min(tiers))
            .find_map(|tier| PASSES.into_iter().find_map(|pass| pool.choose(tier, pass, &ask, rng)))
    }
}

/// Whoever in `tier` may be called: healthy, degraded, or half-open.
fn any(pool: &mut Pool, tier: usize, ask: &Ask<'_>, rng: &mut Pcg32) -> Option<u32> {
    PASSES
        .into_iter()
        .find_map(|pass| pool.choose(tier, pass, ask, rng))
        .or_else(|| pool.probe(tier, ask))
}
