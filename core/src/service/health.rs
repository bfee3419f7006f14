//! What the service believes of its endpoints and clusters, and tells: outlier ejection, and the
//! split of the load between clusters. Both are machines of their own in `policy/`; here they
//! meet the pool.

use super::Service;
use crate::notice::Event;
use crate::policy::outlier::Change;
use crate::policy::tiers::{self, TierHealth};
use crate::snapshot::ClusterSnapshot;
use crate::time::Time;

impl Service {
    /// Brings lists, timers and the split of the load in line with the endpoint at `index`.
    #[inline]
    pub(super) fn sync(&mut self, now: Time, index: u32) {
        self.pool.sync(now, index, &self.rules);
        self.retier(now);
    }

    /// Tells the split of the load which clusters have changed. Nothing in nearly every case.
    #[inline]
    pub(super) fn retier(&mut self, now: Time) {
        let dirty = self.pool.take_dirty();
        if dirty != 0 {
            self.retier_changed(now, dirty);
        }
    }

    #[inline(never)]
    fn retier_changed(&mut self, now: Time, dirty: u64) {
        let Service { tiers, pool, notices, rules, .. } = self;
        for (number, tier) in pool.tiers.iter().enumerate().take(64) {
            if dirty >> number & 1 == 1 {
                tiers.update(now, number, tier.health(), &rules.failover, |change| {
                    notices.push(now, tier_event(&pool.tiers, change));
                });
            }
        }
    }

    /// The clusters themselves have changed: what is known of one that stays moves with it.
    pub(super) fn retier_all(&mut self, now: Time) {
        let _ = self.pool.take_dirty();
        let health: Vec<TierHealth> = self.pool.tiers.iter().map(|tier| tier.health()).collect();
        let names: Vec<_> = self.pool.tiers.iter().map(|tier| tier.cluster.clone()).collect();
        let Service { tiers, pool, notices, rules, .. } = self;
        // Tiers are known by their position: with other clusters the first choice begins anew.
        if names != self.tier_names && !self.tier_names.is_empty() {
            *tiers = tiers::Tiers::new(now, health.len(), &rules.failover);
        }
        tiers.update_all(now, &health, &rules.failover, |change| {
            notices.push(now, tier_event(&pool.tiers, change));
        });
        self.tier_names = names;
    }

    /// The settings of the load split have changed.
    pub(super) fn retune_tiers(&mut self, now: Time) {
        let _ = self.pool.take_dirty();
        let Service { tiers, pool, notices, rules, .. } = self;
        let health: Vec<TierHealth> = pool.tiers.iter().map(|tier| tier.health()).collect();
        let mut tell = |change| notices.push(now, tier_event(&pool.tiers, change));
        tiers.retune(now, health.len(), &rules.failover, &mut tell);
        tiers.update_all(now, &health, &rules.failover, &mut tell);
    }

    /// The split of the load, for people.
    pub(super) fn split(&self, now: Time) -> Vec<ClusterSnapshot> {
        let shares = self.tiers.loads().shares();
        let describe = |(number, tier): (usize, &crate::pool::Tier)| {
            let share = shares.get(number).copied().unwrap_or_default();
            let health = tier.health();
            let held = self.tiers.held(number, &self.rules.failover);
            let explain = match number {
                0 => self.tiers.explain(0, &self.rules.failover).to_string(),
                _ => String::new(),
            };
            ClusterSnapshot {
                cluster: tier.cluster.clone(),
                healthy: health.healthy,
                degraded: health.degraded,
                total: health.total,
                percent: share.healthy + share.degraded,
                first_choice: self.tiers.active().is_some_and(|tier| usize::from(tier) == number),
                held_for: held.map(|until| now.until(until)),
                panic: share.panic && !share.empty,
                explain,
                stalled_for: tier.watch.troubled_for(now),
            }
        };
        self.pool.tiers.iter().enumerate().map(describe).collect()
    }

    /// Lets time act on outlier detection and on the split of the load.
    #[inline]
    pub(super) fn tick_health(&mut self, now: Time) {
        if self.tiers.due() <= now {
            let Service { tiers, pool, notices, rules, .. } = self;
            tiers.tick(now, &rules.failover, |change| {
                notices.push(now, tier_event(&pool.tiers, change));
            });
        }
        if self.detector.due() <= now {
            self.sweep(now);
        }
    }

    #[inline(never)]
    fn sweep(&mut self, now: Time) {
        let mut changes: Vec<(usize, Change)> = Vec::new();
        let Service { detector, pool, rules, rng, .. } = self;
        detector.sweep(now, pool, &rules.outlier, rng, |index, change| {
            changes.push((index, change));
        });
        for (index, change) in changes {
            let Ok(index) = u32::try_from(index) else { continue };
            self.outlier_changed(now, index, change);
        }
    }

    fn outlier_changed(&mut self, now: Time, index: u32, change: Change) {
        if let Some(Some(endpoint)) = self.pool.endpoints.get(index as usize) {
            let cluster = self.pool.tiers[endpoint.tier as usize].cluster.clone();
            let endpoint = endpoint.label.clone();
            self.notices.push(now, Event::Outlier { cluster, endpoint, change });
        }
        self.sync(now, index);
    }

    /// An active check has shown that the endpoint works: a passive ejection ends.
    pub(super) fn vouched(&mut self, now: Time, index: u32) {
        let Some(Some(endpoint)) = self.pool.endpoints.get_mut(index as usize) else { return };
        if let Some(change) = self.detector.uneject(&mut endpoint.outlier) {
            self.outlier_changed(now, index, change);
        }
    }
}

fn tier_event(tiers: &[crate::pool::Tier], change: tiers::Change) -> Event {
    let name = |tier: u8| tiers.get(usize::from(tier)).map(|tier| tier.cluster.clone());
    let cluster = match change {
        tiers::Change::Failover { to, .. } | tiers::Change::Failback { to, .. } => name(to),
        tiers::Change::Held { tier, .. }
        | tiers::Change::Spilling { tier, .. }
        | tiers::Change::SpillEnded { tier }
        | tiers::Change::Panic { tier, .. } => name(tier),
        tiers::Change::Capped { .. } => name(0),
    };
    Event::Tier { cluster: cluster.unwrap_or_else(|| "?".into()), change }
}
