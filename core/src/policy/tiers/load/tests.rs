//! The published tables of Envoy as facts, a reference model for the sum of everything else, and
//! bad input. "Docs" are the pages "Priority levels", "Degraded endpoints" and "Panic threshold";
//! "code" is `load_balancer_impl` and its test. Where they differ we follow the code.

use proptest::prelude::*;

use super::*;
use crate::config::FailoverConfig;

fn envoy() -> Settings {
    let config = FailoverConfig { over_provisioning: 140, ..FailoverConfig::default() };
    Settings::of(&config, "p").unwrap()
}

fn percent(healthy: &[u32]) -> Vec<TierHealth> {
    healthy.iter().map(|percent| TierHealth::of(*percent, 100)).collect()
}

fn split(tiers: &[TierHealth], settings: &Settings) -> (Vec<u8>, Vec<u8>, Vec<bool>) {
    let loads = Loads::of(tiers, Standing::default(), settings);
    let shares = loads.shares();
    (
        shares.iter().map(|s| s.healthy).collect(),
        shares.iter().map(|s| s.degraded).collect(),
        shares.iter().map(|s| s.panic).collect(),
    )
}

fn tier(healthy: u32, degraded: u32, total: u32, excluded: u32) -> TierHealth {
    TierHealth { healthy, degraded, total, excluded, weights: None }
}

#[test]
fn envoy_docs_priority_levels() {
    for (healthy, traffic) in [
        (vec![100, 100], vec![100, 0]),
        (vec![72, 100], vec![100, 0]),
        (vec![71, 100], vec![99, 1]),
        (vec![50, 100], vec![70, 30]),
        (vec![25, 100], vec![35, 65]),
        (vec![0, 100], vec![0, 100]),
        (vec![72, 72], vec![100, 0]),
        (vec![71, 71], vec![99, 1]),
        (vec![50, 50], vec![70, 30]),
        (vec![25, 25], vec![50, 50]),
        (vec![100, 100, 100], vec![100, 0, 0]),
        (vec![72, 72, 100], vec![100, 0, 0]),
        (vec![71, 71, 100], vec![99, 1, 0]),
        (vec![50, 50, 100], vec![70, 30, 0]),
        (vec![25, 100, 100], vec![35, 65, 0]),
        (vec![25, 25, 100], vec![35, 35, 30]),
    ] {
        assert_eq!(split(&percent(&healthy), &envoy()).0, traffic, "{healthy:?}");
    }
    // Docs: 36/36/28. Code: 35 + 35 + 28 of 98, rounded down, the 2 left over to the first; and
    // that only with panic off, for otherwise all three panic and share by numbers.
    let calm = Settings { panic_threshold: 0, ..envoy() };
    assert_eq!(split(&percent(&[25, 25, 20]), &calm).0, [37, 35, 28]);
    assert_eq!(split(&percent(&[25, 25, 20]), &envoy()).0, [34, 33, 33]);
    // Docs: health {20, 30} becomes the priority load {40 %, 60 %}; again without panic.
    let exact = Settings { over_provisioning: 100, ..calm };
    assert_eq!(split(&percent(&[20, 30]), &exact).0, [40, 60]);
}

#[test]
fn envoy_docs_panic_threshold() {
    let (no, yes) = (false, true);
    for (healthy, traffic, panic) in [
        ([72, 100], [100, 0], [no, no]),
        ([71, 100], [99, 1], [no, no]),
        ([25, 100], [35, 65], [no, no]),
        ([0, 100], [0, 100], [no, no]),
        ([72, 72], [100, 0], [no, no]),
        ([71, 71], [99, 1], [no, no]),
        ([50, 60], [70, 30], [no, no]),
        ([25, 25], [50, 50], [yes, yes]),
        // Docs: 7/93. Code: 7 and 91 of 98 are 7 and 92 rounded down, the 1 left over to the first.
        ([5, 65], [8, 92], [yes, no]),
    ] {
        let (got, _, in_panic) = split(&percent(&healthy), &envoy());
        assert_eq!((got, in_panic), (traffic.to_vec(), panic.to_vec()), "{healthy:?}");
    }
    // Total panic goes by the number of endpoints: 2 and 8 are 20 % and 80 %.
    let (got, _, panic) = split(&[TierHealth::of(0, 2), TierHealth::of(1, 8)], &envoy());
    assert_eq!((got, panic), (vec![20, 80], vec![yes, yes]));
}

#[test]
fn envoy_docs_degraded_endpoints() {
    for (healthy, degraded, traffic) in
        [(100, 0, (100, 0)), (71, 29, (99, 1)), (71, 0, (100, 0)), (25, 65, (35, 65))]
    {
        let (h, d, _) = split(&[tier(healthy, degraded, 100, 0)], &envoy());
        assert_eq!((h[0], d[0]), traffic, "{healthy}/{degraded}");
    }
    // 5/0/95: everything to the healthy 5 %, and the tier panics.
    let (h, _, panic) = split(&[tier(5, 0, 100, 0)], &envoy());
    assert_eq!((h[0], panic[0]), (100, true));
}

/// Rows of Envoy's own test (`GentleFailover`, `GentleFailoverWithExtraLevels`, `PrioritySelection`
/// and `WeightedPriorityHealth*` in `load_balancer_impl_base_test`): healthy, degraded, total,
/// excluded per tier; load of healthy, load of degraded endpoints, everyone in panic or none.
#[test]
#[allow(clippy::type_complexity)]
fn envoy_code_rows() {
    let rows: [(&[(u32, u32, u32, u32)], &[u8], &[u8], Option<bool>); 16] = [
        (&[(2, 0, 4, 0), (2, 0, 4, 0)], &[70, 30], &[0, 0], Some(false)),
        (&[(1, 0, 4, 3), (1, 0, 5, 0)], &[100, 0], &[0, 0], Some(false)),
        (&[(0, 0, 4, 4), (1, 0, 4, 0)], &[50, 50], &[0, 0], Some(true)),
        (&[(0, 0, 4, 1), (1, 0, 6, 2)], &[40, 60], &[0, 0], Some(true)),
        (&[(0, 0, 1, 0), (0, 0, 1, 0)], &[50, 50], &[0, 0], Some(true)),
        (&[(0, 0, 1, 0), (0, 0, 2, 0)], &[34, 66], &[0, 0], Some(true)),
        (&[(1, 0, 4, 0), (1, 0, 4, 0), (1, 0, 4, 0)], &[35, 35, 30], &[0, 0, 0], None),
        (&[(1, 0, 5, 0), (1, 0, 5, 0), (1, 0, 5, 0)], &[34, 33, 33], &[0, 0, 0], Some(true)),
        (&[(0, 0, 5, 0), (0, 0, 5, 0), (4, 0, 5, 0)], &[0, 0, 100], &[0, 0, 0], Some(false)),
        (&[(0, 0, 5, 0), (0, 0, 5, 0), (2, 0, 5, 0)], &[34, 33, 33], &[0, 0, 0], Some(true)),
        (&[(0, 5, 5, 0), (2, 2, 5, 0), (2, 0, 5, 0)], &[0, 56, 44], &[0, 0, 0], Some(false)),
        (&[(0, 0, 5, 0), (0, 0, 3, 0), (0, 0, 2, 0)], &[50, 30, 20], &[0, 0, 0], Some(true)),
        (&[(0, 0, 5, 0), (2, 0, 6, 0), (1, 0, 3, 0)], &[37, 42, 21], &[0, 0, 0], Some(true)),
        (&[(0, 1, 5, 0), (0, 5, 5, 0), (1, 0, 5, 0)], &[0, 0, 28], &[28, 44, 0], None),
        (&[(0, 0, 5, 0), (0, 2, 5, 0), (0, 1, 5, 0)], &[34, 33, 33], &[0, 0, 0], Some(true)),
        (&[(0, 0, 0, 0), (0, 0, 6, 0), (0, 0, 3, 0)], &[0, 67, 33], &[0, 0, 0], Some(true)),
    ];
    for (tiers, healthy, degraded, panic) in rows {
        let tiers: Vec<_> = tiers.iter().map(|(h, d, t, e)| tier(*h, *d, *t, *e)).collect();
        let (h, d, p) = split(&tiers, &envoy());
        assert_eq!((h.as_slice(), d.as_slice()), (healthy, degraded), "{tiers:?}");
        if let Some(panic) = panic {
            assert!(p.iter().all(|p| *p == panic), "{tiers:?}");
        }
    }
    // With the threshold at 0 nobody panics, and the rounding goes to the first degraded tier.
    let calm = Settings { panic_threshold: 0, ..envoy() };
    let (h, d, _) = split(&[tier(0, 0, 5, 0), tier(0, 2, 5, 0), tier(0, 1, 5, 0)], &calm);
    assert_eq!((h, d), (vec![0, 0, 0], vec![0, 67, 33]));
    // Comment in the code: 10/20/10 % healthy, 20/10/0 % degraded.
    let (h, d, _) =
        split(&[tier(10, 20, 100, 0), tier(20, 10, 100, 0), tier(10, 0, 100, 0)], &calm);
    assert_eq!((h, d), (vec![16, 28, 14], vec![28, 14, 0]));
    let exact = Settings { over_provisioning: 100, ..envoy() };
    let weighted = |healthy, degraded, total| TierHealth {
        weights: Some(Weights { healthy, degraded, total }),
        ..tier(1, 1, 4, 0)
    };
    let (h, d, _) = split(&[weighted(4, 3, 10), weighted(1, 9, 10)], &exact);
    assert_eq!((h, d), (vec![40, 10], vec![30, 20]));
}

#[test]
fn by_default_nothing_leaves_while_half_is_healthy() {
    let settings = Settings::default();
    for (healthy, traffic) in [(100, 100), (51, 100), (50, 100), (49, 98), (25, 50), (0, 0)] {
        let (h, _, _) = split(&percent(&[healthy, 100]), &settings);
        assert_eq!(h, [traffic, 100 - traffic]);
    }
    let strict = FailoverConfig { enabled: false, ..FailoverConfig::default() };
    let strict = Settings::of(&strict, "p").unwrap();
    assert_eq!(split(&[TierHealth::of(1, 40_000_000), TierHealth::of(5, 5)], &strict).0, [100, 0]);
    assert_eq!(split(&percent(&[0, 1, 100]), &strict).0, [0, 100, 0]);
}

#[test]
fn a_held_tier_takes_only_what_others_cannot_carry() {
    let held = Standing { held: 0b01, trusted: 0 };
    let loads = |tiers: &[u32]| {
        let loads = Loads::of(&percent(tiers), held, &envoy());
        let got: Vec<u8> = loads.shares().iter().map(|s| s.healthy).collect();
        (got, loads.pick(99).unwrap().why)
    };
    assert_eq!(loads(&[100, 100]), (vec![0, 100], Why::HeldBack { percent: 100, held: 0 }));
    assert_eq!(loads(&[100, 60]).0, [16, 84]);
    assert_eq!(loads(&[100, 0]).0, [100, 0]);
}

#[test]
fn the_cap_sheds_or_keeps_and_gives_back_to_a_held_tier() {
    let shed = Settings { max_spill: 30, ..envoy() };
    let keep = Settings { over_cap: OverCap::Keep, ..shed };
    let loads = Loads::of(&percent(&[25, 100, 100]), Standing::default(), &shed);
    assert_eq!((loads.shares()[0].healthy, loads.shares()[1].healthy, loads.shed()), (35, 30, 35));
    assert_eq!(loads.pick(64).unwrap().tier, 1);
    let capped = Refusal::SpillCapped { percent: 35, max_spill: 30 };
    assert_eq!(loads.pick(65), Err(capped));
    let loads = Loads::of(&percent(&[25, 100, 100]), Standing::default(), &keep);
    let kept = loads.pick(65).unwrap();
    assert_eq!((kept.tier, kept.pass), (0, Pass::Any));
    assert_eq!(kept.why, Why::Kept { percent: 35, max_spill: 30 });
    // Held back but able: it takes what may not go below, so nothing is refused.
    let held = Standing { held: 1, trusted: 0 };
    let loads = Loads::of(&percent(&[100, 100]), held, &shed);
    assert_eq!((loads.shares()[0].healthy, loads.shares()[1].healthy, loads.shed()), (70, 30, 0));
    // No cap and a cap of nothing.
    let none = Settings { max_spill: 0, ..shed };
    assert_eq!(Loads::of(&percent(&[0, 100]), Standing::default(), &none).shed(), 100);
}

#[test]
fn refusals_say_why() {
    let pick = |tiers: &[TierHealth], settings: &Settings| {
        Loads::of(tiers, Standing::default(), settings).pick(0)
    };
    let failing = Settings { fail_on_panic: true, ..envoy() };
    let calm = Settings { panic_threshold: 0, ..envoy() };
    assert_eq!(pick(&[], &envoy()), Err(Refusal::NoEndpoints));
    assert_eq!(pick(&[TierHealth::default()], &envoy()), Err(Refusal::NoEndpoints));
    assert_eq!(pick(&percent(&[0, 0]), &calm), Err(Refusal::NoneUsable));
    let panic = Refusal::Panic { tier: 0, usable: 20, threshold: 50 };
    assert_eq!(pick(&percent(&[20, 20]), &failing), Err(panic));
    assert_eq!(
        panic.to_string(),
        "tier 0 is in panic: 20 % of its endpoints are usable, below 50 %"
    );
    // Availability of 1 in 1 000 rounds down to 0 %; the one endpoint is used all the same.
    let choice = pick(&[TierHealth::of(0, 9), TierHealth::of(1, 1_000)], &calm).unwrap();
    assert_eq!((choice.tier, choice.pass), (1, Pass::Healthy));
    let unknown = pick(&[tier(0, 0, 3, 3)], &calm).unwrap();
    assert_eq!((unknown.pass, unknown.why), (Pass::Any, Why::Unproven { percent: 100 }));
}

#[test]
fn how_many_more_healthy_endpoints() {
    let more =
        |tiers: &[TierHealth], draw| more_healthy(tiers, Standing::default(), draw, &envoy());
    // 2 of 4: 70 % stay. The call at 70 needs 3 of 4 (105 %).
    let tiers = [TierHealth::of(2, 4), TierHealth::of(4, 4)];
    assert_eq!((more(&tiers, 69), more(&tiers, 70)), (None, Some(1)));
    // 5 000 of 10 000, the last call: needs 71.43 %, that is 7 143.
    let tiers = [TierHealth::of(5_000, 10_000), TierHealth::of(1, 1)];
    assert_eq!(more(&tiers, 99), Some(2_143));
    assert_eq!(more(&[TierHealth::of(0, u32::MAX), TierHealth::of(1, 1)], 0), Some(30_678_338));
    assert_eq!(more(&[], 0), None);
    // 5 % and 65 %: one more gives the call at 8 to the first tier, but still in panic.
    assert_eq!(more(&percent(&[5, 65]), 8), Some(2));
}

/// The rules of §b.1 and b.2 once more, in the plainest form: no rounding tricks, no reuse.
fn model(tiers: &[TierHealth], settings: &Settings) -> (Vec<u64>, Vec<u64>) {
    let able = |count: u32, tier: &TierHealth| {
        let scaled = u64::from(settings.over_provisioning) * u64::from(count);
        scaled.checked_div(u64::from(tier.total - tier.excluded)).unwrap_or(0).min(100)
    };
    let healthy: Vec<u64> = tiers.iter().map(|t| able(t.healthy, t)).collect();
    let degraded: Vec<u64> = tiers.iter().map(|t| able(t.degraded, t)).collect();
    let whole = healthy.iter().chain(&degraded).sum::<u64>().min(100);
    let (mut h, mut d) = (vec![0; tiers.len()], vec![0; tiers.len()]);
    let panics = |t: &TierHealth| {
        let judged = u64::from(t.total - t.excluded);
        judged == 0
            || u64::from(t.healthy + t.degraded) * 100
                < u64::from(settings.panic_threshold) * judged
    };
    if whole < 100 && settings.panic_threshold > 0 && tiers.iter().all(panics) {
        let total: u64 = tiers.iter().map(|t| u64::from(t.total)).sum();
        for (load, tier) in h.iter_mut().zip(tiers) {
            *load = 100 * u64::from(tier.total) / total;
        }
        let first = tiers.iter().position(|t| t.total > 0).unwrap();
        h[first] += 100 - h.iter().sum::<u64>();
        return (h, d);
    }
    let mut left = 100;
    for (loads, able) in [(&mut h, &healthy), (&mut d, &degraded)] {
        for (load, able) in loads.iter_mut().zip(able) {
            *load = (able * 100).checked_div(whole).unwrap_or(0).min(left);
            left -= *load;
        }
    }
    match (healthy.iter().position(|a| *a > 0), degraded.iter().position(|a| *a > 0)) {
        (Some(first), _) => h[first] += left,
        (None, Some(first)) => d[first] += left,
        (None, None) => (),
    }
    (h, d)
}

fn any_tier(most: u32) -> impl Strategy<Value = TierHealth> {
    (0..=most, 0..=most, 0..=most, 0..=most).prop_map(|(h, d, u, e)| {
        let total = h.saturating_add(d).saturating_add(u).saturating_add(e);
        tier(h, d, total, e)
    })
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (100_u32..400, 0_u8..=100, 0_u8..=100, any::<bool>()).prop_map(
        |(over_provisioning, panic_threshold, max_spill, keep)| Settings {
            over_provisioning,
            panic_threshold,
            max_spill,
            over_cap: if keep { OverCap::Keep } else { OverCap::Shed },
            ..Settings::default()
        },
    )
}

proptest! {
    #[test]
    fn equals_the_plain_rules(
        tiers in proptest::collection::vec(any_tier(40), 1..7), settings in any_settings(),
    ) {
        let settings = Settings { max_spill: 100, ..settings };
        prop_assume!(tiers.iter().any(|t| t.total > 0));
        let (h, d, _) = split(&tiers, &settings);
        let (mh, md) = model(&tiers, &settings);
        if mh.iter().chain(&md).sum::<u64>() == 100 {
            prop_assert_eq!(h.iter().map(|l| u64::from(*l)).collect::<Vec<_>>(), mh);
            prop_assert_eq!(d.iter().map(|l| u64::from(*l)).collect::<Vec<_>>(), md);
        }
    }

    /// Whatever comes in, the parts are 100 or nothing, the cap holds, no draw is without an
    /// answer, each draw occurs as often as its share says, and nothing depends on what was
    /// calculated before.
    #[test]
    fn the_parts_are_the_whole(
        tiers in proptest::collection::vec(
            prop_oneof![any_tier(12), any_tier(u32::MAX), (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>())
                .prop_map(|(h, d, t, e)| tier(h, d, t, e))],
            0..70,
        ),
        held: u64, trusted: u64, settings in any_settings(), weights: Option<(u64, u64, u64)>,
    ) {
        let mut tiers = tiers;
        if let (Some(tier), Some((healthy, degraded, total))) = (tiers.first_mut(), weights) {
            tier.weights = Some(Weights { healthy, degraded, total });
        }
        let standing = Standing { held, trusted };
        let mut loads = Loads::of(&percent(&[3, 0, 7]), Standing::default(), &envoy());
        loads.split(&tiers, standing, &settings);
        prop_assert_eq!(&loads, &Loads::of(&tiers, standing, &settings));
        let shares = loads.shares();
        let sum = shares.iter().map(|s| u32::from(s.healthy) + u32::from(s.degraded)).sum::<u32>()
            + u32::from(loads.kept()) + u32::from(loads.shed());
        let first = tiers.iter().take(MOST_TIERS).position(|t| t.total > 0);
        prop_assert_eq!(sum, if first.is_some() { 100 } else { 0 });
        let below: u32 = shares.iter().skip(first.unwrap_or(0) + 1)
            .map(|s| u32::from(s.healthy) + u32::from(s.degraded)).sum();
        prop_assert!(below <= u32::from(settings.max_spill));
        let picks: Vec<_> = (0..100).map(|draw| loads.pick(draw)).collect();
        let of_tier = |n: usize| picks.iter()
            .filter(|p| matches!(p, Ok(c) if usize::from(c.tier) == n && !matches!(c.why, Why::Kept { .. }))).count();
        if picks[0] != Err(Refusal::NoneUsable) {
            for (n, share) in shares.iter().enumerate() {
                prop_assert_eq!(of_tier(n), usize::from(share.healthy) + usize::from(share.degraded));
            }
        }
        prop_assert!(first.is_none() || !picks.contains(&Err(Refusal::NoEndpoints)));
        let _ = more_healthy(&tiers, standing, u32::MAX, &settings);
    }

    /// The number found is enough and one fewer is not.
    #[test]
    fn the_counterfactual_is_true(
        tiers in proptest::collection::vec(any_tier(30), 1..5), draw in 0_u32..100,
        settings in any_settings(),
    ) {
        let Some(more) = more_healthy(&tiers, Standing::default(), draw, &settings) else { return Ok(()) };
        let first = tiers.iter().position(|t| t.total > 0).unwrap();
        let stays = |more| {
            let mut tiers = tiers.clone();
            tiers[first] = tiers[first].healed(more);
            let loads = Loads::of(&tiers, Standing::default(), &settings);
            matches!(loads.pick(draw), Ok(Choice { tier, pass: Pass::Healthy, .. }) if usize::from(tier) == first)
        };
        prop_assert!(stays(more) && !stays(more - 1));
    }
}
