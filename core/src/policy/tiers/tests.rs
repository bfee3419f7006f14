//! The parts together: what an operator reads when a cluster fails, flaps and comes back, and that
//! the changes told are exactly the changes made.

use proptest::prelude::*;

use super::*;
use crate::config::{FailoverConfig, OverCap};

fn s(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

struct Bench {
    tiers: Tiers,
    settings: Settings,
}

impl Bench {
    fn new(count: usize, change: impl FnOnce(&mut FailoverConfig)) -> Bench {
        let mut config = FailoverConfig::default();
        change(&mut config);
        let settings = Settings::of(&config, "p").unwrap();
        Bench { tiers: Tiers::new(s(0), count, &settings), settings }
    }

    fn health(&mut self, now: u64, health: &[(u32, u32)]) -> Vec<Change> {
        let health: Vec<_> = health.iter().map(|(h, t)| TierHealth::of(*h, *t)).collect();
        let mut changes = vec![];
        self.tiers.update_all(s(now), &health, &self.settings, |change| changes.push(change));
        changes
    }

    fn tick(&mut self, now: u64) -> Vec<Change> {
        let mut changes = vec![];
        self.tiers.tick(s(now), &self.settings, |change| changes.push(change));
        changes
    }

    fn loads(&self) -> Vec<u8> {
        self.tiers.loads().shares().iter().map(|share| share.healthy).collect()
    }
}

#[test]
fn case_000_09_the_primary_only_after_the_local_cluster_failed() {
    let mut b = Bench::new(2, |_| ());
    assert_eq!(b.health(0, &[(4, 4), (4, 4)]), []);
    assert_eq!(b.health(1, &[(2, 4), (4, 4)]), []);
    assert_eq!(b.loads(), [100, 0]);
    let cause = Cause::Lost;
    let lost = Change::Failover { from: 0, to: 1, cause, health: TierHealth::of(0, 4) };
    assert_eq!(b.health(5, &[(0, 4), (4, 4)]), [lost]);
    let line =
        "failover from tier 0 to 1: the tier in use became unusable (0 of 4 endpoints healthy)";
    assert_eq!(lost.to_string(), line);
    assert_eq!(b.loads(), [0, 100]);
    let back =
        Change::Failback { from: 1, to: 0, cause: Cause::Free, after: Duration::from_secs(4) };
    assert_eq!(b.health(9, &[(4, 4), (4, 4)]), [back]);
}

#[test]
fn a_flapping_cluster_is_held_back_and_the_line_says_so() {
    let mut b = Bench::new(2, |config| config.free_failbacks = 0);
    let (up, down) = ([(2, 2), (2, 2)], [(0, 2), (2, 2)]);
    let _ = b.health(0, &up);
    let _ = b.health(1, &down);
    assert_eq!(
        b.health(2, &up),
        [Change::Held { tier: 0, until: s(12), wait: Duration::from_secs(10) }]
    );
    assert_eq!((b.loads(), b.tiers.active()), (vec![0, 100], Some(1)));
    let line = b.tiers.explain(0, &b.settings).to_string();
    assert_eq!(
        line,
        "tier 1: tier 0 is held back, 100 % of the load go here; tier 0 is held back until 12000 ms"
    );
    assert_eq!((b.health(3, &up), b.tick(11)), (vec![], vec![]), "told once");
    assert_eq!(b.tiers.due(), s(12));
    let cause = Cause::Waited { usable_for: Duration::from_secs(10) };
    let back = Change::Failback { from: 1, to: 0, cause, after: Duration::from_secs(11) };
    assert_eq!(b.tick(12), [back]);
    // While held, it helps out where the other cannot carry everything.
    let _ = b.health(13, &down);
    let _ = b.health(14, &[(2, 2), (2, 5)]);
    assert_eq!(b.loads(), [20, 80]);
}

#[test]
fn spill_cap_and_panic_are_told_when_they_begin_and_end() {
    let mut b = Bench::new(2, |config| (config.over_provisioning, config.max_spill) = (140, 40));
    let _ = b.health(0, &[(4, 4), (4, 4)]);
    let spilling = Change::Spilling { tier: 1, percent: 30, active_can: 70 };
    assert_eq!(b.health(1, &[(2, 4), (4, 4)]), [spilling]);
    let capped = Change::Capped { percent: 25, max_spill: 40 };
    assert_eq!(b.health(2, &[(1, 4), (4, 4)]), [capped]);
    let ends = [Change::SpillEnded { tier: 1 }, Change::Capped { percent: 0, max_spill: 40 }];
    assert_eq!(b.health(3, &[(4, 4), (4, 4)]), ends);
    let mut b = Bench::new(1, |_| ());
    let _ = b.health(0, &[(4, 4)]);
    assert_eq!(b.health(1, &[(1, 4)]), [Change::Panic { tier: 0, on: true, usable: 25 }]);
    assert_eq!(b.tiers.pick(0).unwrap().pass, Pass::Any);
    assert_eq!(b.health(2, &[(2, 4)]), [Change::Panic { tier: 0, on: false, usable: 50 }]);
}

#[test]
fn unknown_health_is_waited_for_or_tried_but_never_refused() {
    let unknown = TierHealth { excluded: 3, ..TierHealth::of(0, 3) };
    let mut b = Bench::new(2, |config| config.init_grace = Duration::from_secs(10));
    let news = [unknown, TierHealth::of(3, 3)];
    b.tiers.update_all(s(0), &news, &b.settings, |_| ());
    let first = b.tiers.pick(99).unwrap();
    assert_eq!((first.tier, first.why), (0, Why::Unproven { percent: 100 }));
    assert_eq!(b.tick(10).len(), 1);
    assert_eq!(b.loads(), [0, 100]);
    let mut strict = Bench::new(2, |config| config.enabled = false);
    strict.tiers.update_all(s(0), &[TierHealth::of(0, 1), unknown], &strict.settings, |_| ());
    assert_eq!(strict.tiers.pick(0).unwrap().tier, 1);
    let mut failing = Bench::new(1, |config| config.fail_on_panic = true);
    failing.tiers.update_all(s(0), &[unknown], &failing.settings, |_| ());
    assert_eq!(failing.tiers.pick(0).unwrap().pass, Pass::Any);
}

#[test]
fn degraded_endpoints_are_the_first_choice_only_where_nobody_is_healthy() {
    let mut b = Bench::new(3, |_| ());
    let degraded = TierHealth { degraded: 4, ..TierHealth::of(0, 4) };
    let healthy = TierHealth::of(4, 4);
    let mut update = |health: [TierHealth; 3]| {
        let mut changes = vec![];
        b.tiers.update_all(s(1), &health, &b.settings, |change| changes.push(change));
        (b.tiers.active(), b.tiers.pick(99).map(|choice| (choice.tier, choice.pass)), changes.len())
    };
    assert_eq!(update([healthy; 3]), (Some(0), Ok((0, Pass::Healthy)), 0));
    assert_eq!(update([degraded, degraded, healthy]), (Some(2), Ok((2, Pass::Healthy)), 1));
    assert_eq!(update([degraded; 3]), (Some(0), Ok((0, Pass::Degraded)), 1));
    // Still the first choice, and yet without load: 1 of 1 000 is 0 %.
    let few = TierHealth::of(1, 1_000);
    assert_eq!(update([few, healthy, degraded]), (Some(0), Ok((1, Pass::Healthy)), 1));
    // What spilled becomes the first choice and loses its load in one step: no end is told.
    assert_eq!(update([degraded, few, healthy]).2, 2);
}

#[test]
fn no_tiers_and_many_are_survived() {
    let mut b = Bench::new(0, |_| ());
    assert_eq!((b.tiers.pick(0), b.tiers.active()), (Err(Refusal::NoEndpoints), None));
    assert_eq!(b.tiers.explain(7, &b.settings).to_string(), "no tier: there are no endpoints");
    let _ = b.health(1, &[(1, 1); 200]);
    assert_eq!((b.loads().len(), b.tiers.active()), (MOST_TIERS, Some(0)));
    let _ = b.health(2, &[(0, 1), (1, 1)]);
    assert_eq!((b.loads(), b.tiers.active()), (vec![0, 100], Some(1)));
}

#[test]
fn changes_are_machine_readable() {
    let change =
        Change::Failover { from: 0, to: 1, cause: Cause::Lost, health: TierHealth::of(0, 4) };
    let json = serde_json::to_string(&change).unwrap();
    assert!(json.starts_with(r#"{"change":"failover","from":0,"to":1,"cause":"lost""#), "{json}");
    assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), change);
    let why = serde_json::to_string(&Why::Spilled { percent: 30, first: 70 }).unwrap();
    assert_eq!(why, r#"{"spilled":{"percent":30,"first":70}}"#);
}

proptest! {
    /// Whoever only hears the changes knows the state; the loads are those of the calculation
    /// alone; a snapshot goes on as the original would have.
    #[test]
    fn the_changes_told_are_the_changes_made(
        script in proptest::collection::vec(
            (0_u64..8, 0_usize..4, 0_u32..4, 0_u32..3, 0_u32..4, 0_u32..3), 1..80,
        ),
        factor in 100_u32..250, spill in 0_u32..=100, keep: bool, free in 0_u32..3,
    ) {
        let mut b = Bench::new(4, |config| {
            (config.over_provisioning, config.max_spill, config.free_failbacks) = (factor, spill, free);
            if keep { config.over_cap = OverCap::Keep }
        });
        let _ = b.health(0, &[(3, 3), (3, 3), (3, 3), (3, 3)]);
        let (mut active, mut held, mut spilling, mut panic, mut capped) = (0_u8, 0_u64, 0_u64, 0_u64, false);
        let mut now = 0;
        for (wait, tier, healthy, degraded, down, excluded) in script {
            now += wait;
            let mut changes = vec![];
            b.tiers.tick(s(now), &b.settings, |change| changes.push(change));
            let health = TierHealth { degraded, excluded, ..TierHealth::of(healthy, healthy + degraded + down + excluded) };
            b.tiers.update(s(now), tier, health, &b.settings, |change| changes.push(change));
            for change in changes {
                match change {
                    Change::Failover { from, to, .. } | Change::Failback { from, to, .. } => {
                        prop_assert_eq!(from, active);
                        prop_assert_eq!(from < to, matches!(change, Change::Failover { .. }));
                        active = to;
                        spilling &= !(1 << to);
                    }
                    Change::Held { tier, until, .. } => {
                        prop_assert!(until > s(now));
                        held |= 1 << tier;
                    }
                    Change::Spilling { tier, percent, .. } => {
                        prop_assert!(spilling >> tier & 1 == 0 && percent > 0);
                        spilling |= 1 << tier;
                    }
                    Change::SpillEnded { tier } => {
                        prop_assert!(spilling >> tier & 1 == 1);
                        spilling &= !(1 << tier);
                    }
                    Change::Panic { tier, on, .. } => {
                        prop_assert_eq!(panic >> tier & 1 == 0, on);
                        panic ^= 1 << tier;
                    }
                    Change::Capped { percent, .. } => {
                        prop_assert_eq!(capped, percent == 0);
                        capped = percent > 0;
                    }
                }
            }
            prop_assert_eq!(b.tiers.active(), Some(active));
            let standing = b.tiers.standing();
            prop_assert_eq!(standing.held & !held, 0, "a hold that nobody was told of");
            held = standing.held;
            let loads = Loads::of(b.tiers.health(), standing, &b.settings);
            prop_assert_eq!(b.tiers.loads(), &loads);
            for (tier, share) in loads.shares().iter().enumerate() {
                let has = share.healthy + share.degraded > 0;
                prop_assert_eq!(spilling >> tier & 1 == 1, has && tier != usize::from(active));
                prop_assert_eq!(panic >> tier & 1 == 1, share.panic && !share.empty);
            }
            prop_assert_eq!(capped, loads.kept() + loads.shed() > 0);
            let json = serde_json::to_string(&b.tiers).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Tiers>(&json).unwrap(), &b.tiers);
        }
    }
}
