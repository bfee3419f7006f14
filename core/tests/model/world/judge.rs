//! What must be so in every state, whatever led to it: the machine's account of itself compared
//! with the world's.

use origin_core::Time;
use origin_core::notice;
use origin_core::policy::tiers::{Cause, Change};

use super::{Out, Variant, World, place};
use crate::walk::{CallFacts, MOST, Walk, mix, relative};

impl World {
    /// Takes in the changes of the first choice.
    pub(super) fn listen(&mut self) {
        for notice in self.service.notices().since(self.notices) {
            let notice::Event::Tier { change, .. } = &notice.event else { continue };
            let kind = match change {
                Change::Failover { .. } => 0,
                Change::Failback { cause: Cause::Free | Cause::Waited { .. }, .. } => 1,
                Change::Failback { .. } => 2,
                _ => continue,
            };
            self.switches.push((notice.at, kind));
        }
        self.notices = self.service.notices().count();
    }

    /// Reads the state, judges it, and returns its key.
    pub fn key(&mut self, v: &Variant) -> u64 {
        let mut walk = Walk::new(self.now, v.profile);
        let mut key = walk.service(&self.service);
        let mut calls: [u64; 4] = [0; 4];
        let mut seen = [CallFacts::default(); 4];
        let now = self.now.as_nanos();
        for (n, track) in self.calls.iter().enumerate() {
            let mut own = walk.call(&track.call);
            for out in &track.outs {
                let at = out.map_or(1, |out| relative(out.at.as_nanos(), now, 0));
                own = mix(own, at);
            }
            own = mix(own, relative(track.wake.as_nanos(), now, 0));
            own = mix(own, u64::from(self.wakes(track)) << 1 | u64::from(track.left));
            calls[n] = own;
            seen[n] = walk.call;
        }
        let alive = self.calls.len();
        calls[..alive].sort_unstable();
        calls[..alive].iter().for_each(|own| key = mix(key, *own));
        if let Some((hold, _)) = v.hold {
            let span = hold.as_nanos() as u64 * 3;
            self.switches.retain(|(at, _)| now - at.as_nanos() <= span);
            for (at, kind) in &self.switches {
                key = mix(key, now - at.as_nanos());
                key = mix(key, u64::from(*kind));
            }
        } else {
            self.switches.clear();
        }
        self.facts = walk.facts;
        self.judge(v, &seen[..alive]);
        let tick = self.tick();
        self.begun.retain(|at| at + 10 > tick);
        self.repeats.retain(|at| at + 10 > tick);
        key
    }

    fn judge(&self, v: &Variant, seen: &[CallFacts]) {
        let f = &self.facts;
        let outs = || self.calls.iter().flat_map(|track| track.outs.iter().flatten());
        let mut ready = [(0_u64, 0_u64); MOST];
        let mut tiers = [0_u64; MOST];
        for (n, e) in f.endpoints.iter().take(f.count).enumerate() {
            let live = outs().filter(|out| place(out.to) == n).count() as u64;
            assert_eq!((e.watched, e.loaded), (live, live), "attempts out at {n}: {e:?}");
            tiers[e.tier as usize] += live;
            let counted = |out: &&Out| place(out.to) == n && out.generation == e.breaker.generation;
            if e.breaker.phase == 2 {
                let live = outs().filter(counted).count() as u64;
                assert_eq!(e.breaker.out, live, "permits of {n}: {e:?}");
                assert!(e.breaker.out <= v.permits, "too many probes at {n}: {e:?}");
                let waits = e.breaker.out > 0;
                assert_eq!(e.breaker.until != u64::MAX, waits, "half-open for ever at {n}: {e:?}");
            }
            if e.breaker.phase == 1 {
                let now = self.now.as_nanos();
                assert!(e.breaker.until > now && e.breaker.until != u64::MAX, "{n}: {e:?}");
                assert_eq!(e.list, u64::MAX, "an open endpoint is offered: {e:?}");
            }
            if e.breaker.phase == 0 {
                assert_eq!(e.list, 0, "a closed endpoint is not offered: {e:?}");
            }
            ready[e.tier as usize].0 += u64::from(e.list == 0);
            ready[e.tier as usize].1 += u64::from(e.list == 1);
        }
        for (n, tier) in f.tiers.iter().take(f.tier_count).enumerate() {
            assert_eq!(tier.watched, tiers[n], "attempts out in cluster {n}");
            assert_eq!((tier.healthy, tier.degraded), ready[n], "health of cluster {n}");
        }
        // The split of the load.
        let shares: u64 = f.tiers.iter().take(f.tier_count).map(|tier| tier.share).sum();
        assert_eq!(shares + f.kept + f.shed, 100, "the split does not sum up: {f:?}");
        let usable = ready.iter().any(|(healthy, degraded)| healthy + degraded > 0);
        assert!(!(f.idle && usable), "idle though somebody is usable: {f:?}");
        let below: u64 = f.tiers.iter().take(f.tier_count).skip(1).map(|tier| tier.share).sum();
        assert!(below <= v.max_spill, "{below} % spill: {f:?}");
        self.judge_calls(v, seen);
        self.judge_switches(v);
        // The budget, exactly.
        let tick = self.tick();
        let recent = |list: &[u64]| list.iter().filter(|at| **at + 10 > tick).count() as u64;
        assert_eq!(f.repeats, recent(&self.repeats), "repeats that are paid");
        assert!(v.warm || f.calls == recent(&self.begun), "calls that earn");
    }

    fn judge_calls(&self, v: &Variant, seen: &[CallFacts]) {
        let f = &self.facts;
        let on = !v.rules.concurrency.is_off();
        let mut inside = 0;
        let mut queued = 0;
        let mut permits = 0;
        for (track, seen) in self.calls.iter().zip(seen) {
            let live = track.outs.iter().flatten().count();
            assert_eq!(seen.lives as usize, live, "attempts out: {track:?}");
            assert_eq!(seen.held, track.held.is_some(), "held budget: {track:?}");
            // Where nothing guards the service, a call holds nothing of it.
            let inside_now = v.rules.gated && track.parked.is_none();
            assert_eq!(seen.pass, inside_now, "inside or not: {track:?}");
            assert_eq!(seen.slot, on && seen.pass);
            let waits = live > 0 || track.wake != Time::NEVER;
            assert!(waits, "nothing will ever move it: {track:?}");
            inside += u64::from(seen.slot);
            queued += u64::from(seen.ticket);
            permits += u64::from(f.gate.phase == 2 && seen.permit == Some(f.gate.generation));
        }
        assert_eq!(f.in_flight, inside, "calls in flight");
        assert_eq!(f.waiting, queued, "calls in the queue");
        assert_eq!(f.gate.out, permits, "permits of the service: {f:?}");
        if on {
            // An adaptive limit may fall below what is in flight.
            assert!(v.adaptive || f.in_flight <= f.limit, "{f:?}");
            // Free places and a queue: then somebody has been told.
            let told = self.calls.iter().any(|t| t.parked.is_some() && self.wakes(t));
            assert!(f.waiting == 0 || f.in_flight >= f.limit || told, "nobody was told: {f:?}");
        }
        let counts = self.service.counts();
        assert_eq!(counts.misuse, 0);
        let ended = counts.answered + counts.failed + counts.abandoned;
        assert_eq!((counts.calls, ended), self.counts, "{counts:?}");
    }

    /// The bound that `HoldDown` proves, over every window that ends now.
    fn judge_switches(&self, v: &Variant) {
        let Some((hold, free)) = v.hold else { return };
        for (from, (at, _)) in self.switches.iter().enumerate() {
            let later = &self.switches[from..];
            // One nanosecond more: the end is not part of a window.
            let span = self.now.since(*at).as_nanos() + 1;
            let failbacks = later.iter().filter(|(_, kind)| *kind == 1).count() as u128;
            let most = u128::from(free) + span.div_ceil(hold.as_nanos());
            assert!(failbacks <= most, "{failbacks} failbacks, {most} allowed: {later:?}");
            let up = later.iter().filter(|(_, kind)| *kind > 0).count();
            let n = self.facts.tier_count;
            assert!(later.len() < n * (up + 1), "switches: {later:?}");
        }
    }
}
