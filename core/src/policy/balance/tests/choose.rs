//! The picks: always acceptable, found when there is one, cheap, and in proportion.

use proptest::prelude::*;

use crate::policy::balance::choose::{
    self, Choice, Nobody, Ready, STRETCH, Why, cheapest, drawn, in_turn, least_outstanding, uniform,
};
use crate::policy::balance::weights::Weights;
use crate::rng::Pcg32;

/// A list by plain values; the cost of one that is not acceptable is `None`.
struct List {
    costs: Vec<Option<u64>>,
    weights: Vec<u32>,
    compiled: Weights,
}

impl List {
    fn of(costs: Vec<Option<u64>>) -> List {
        let weights = vec![1; costs.len()];
        List { costs, compiled: Weights::build(&weights), weights }
    }

    fn weighing(costs: Vec<Option<u64>>, weights: Vec<u32>) -> List {
        List { costs, compiled: Weights::build(&weights), weights }
    }

    fn acceptable(&self, position: u32) -> bool {
        self.costs.get(position as usize).is_some_and(Option::is_some)
    }

    fn any(&self) -> bool {
        self.costs.iter().any(Option::is_some)
    }
}

impl Ready for List {
    fn count(&self) -> u32 {
        u32::try_from(self.costs.len()).unwrap()
    }
    fn cost(&self, position: u32) -> Option<u64> {
        self.costs.get(position as usize).copied().flatten()
    }
    fn even(&self) -> bool {
        self.compiled.even()
    }
    fn weight(&self, position: u32) -> u32 {
        if self.even() { 1 } else { self.weights[position as usize] }
    }
    fn draw(&self, rng: &mut Pcg32) -> Option<u32> {
        Some(self.compiled.draw(rng))
    }
}

fn all(list: &List, cursor: &mut u32, rng: &mut Pcg32) -> [Result<Choice, Nobody>; 5] {
    [
        cheapest(list, rng),
        least_outstanding(list, rng),
        in_turn(list, cursor, rng),
        drawn(list, rng),
        uniform(list, rng),
    ]
}

/// Picks of each position.
fn counts(
    list: &List,
    picks: u32,
    mut pick: impl FnMut(&List) -> Result<Choice, Nobody>,
) -> Vec<u32> {
    let mut counts = vec![0; list.costs.len()];
    for _ in 0..picks {
        counts[pick(list).unwrap().position as usize] += 1;
    }
    counts
}

#[test]
fn exhaustive_over_all_small_lists() {
    // Every set of acceptable ones among up to 8, several weights and seeds.
    for count in 0..=8_u32 {
        for mask in 0..1_u32 << count {
            let costs: Vec<Option<u64>> =
                (0..count).map(|n| (mask >> n & 1 == 1).then_some(u64::from(n * 7 % 5))).collect();
            let least = costs.iter().flatten().min().copied();
            let weights = (0..count).map(|n| n % 3).collect();
            for list in [List::of(costs.clone()), List::weighing(costs, weights)] {
                let mut rng = Pcg32::new(u64::from(mask), u64::from(count));
                for mut cursor in [0, 3, u32::MAX] {
                    for choice in all(&list, &mut cursor, &mut rng) {
                        match choice {
                            Ok(choice) => assert!(list.acceptable(choice.position)),
                            Err(Nobody::Empty) => assert_eq!(count, 0),
                            Err(Nobody::Unacceptable { ready, looked }) => {
                                assert!(!list.any() && ready == count && looked >= count);
                            }
                        }
                    }
                }
                if let (true, Some(least)) = (list.even(), least) {
                    let Why::Cheapest { cost, compared } = cheapest(&list, &mut rng).unwrap().why
                    else {
                        panic!()
                    };
                    assert_eq!((cost, compared), (least, mask.count_ones()), "all are compared");
                }
            }
        }
    }
}

proptest! {
    /// Up to the stretch one is always found; beyond it when half are acceptable, however they
    /// are arranged.
    #[test]
    fn one_is_found_whenever_there_is_one(
        seed: u64,
        count in 1_u32..400,
        kept in proptest::collection::vec(any::<bool>(), 400),
        block: bool,
        heavy in proptest::option::of(0_u32..9),
        mut cursor: u32,
    ) {
        let keep = |n: u32| if block { n >= count / 2 } else { kept[n as usize] };
        let costs: Vec<Option<u64>> =
            (0..count).map(|n| keep(n).then_some(u64::from(n % 13))).collect();
        let weights = (0..count).map(|n| heavy.map_or(1, |heavy| 1 + n % (heavy + 1))).collect();
        let list = List::weighing(costs, weights);
        let share = list.costs.iter().flatten().count() * 2 >= list.costs.len();
        for choice in all(&list, &mut cursor, &mut Pcg32::new(seed, 0)) {
            match choice {
                Ok(choice) => prop_assert!(list.acceptable(choice.position)),
                Err(_) => prop_assert!(!list.any() || (count > STRETCH && !share)),
            }
        }
        prop_assert!(cursor < count);
    }

    /// Of two, the cheaper; of many, never the one that is dearer than all others.
    #[test]
    fn the_cheaper_is_chosen(seed: u64, a: u64, b: u64, count in 9_u32..200, worst in 0_u32..200) {
        let mut rng = Pcg32::new(seed, 0);
        let two = List::of(vec![Some(a), Some(b)]);
        let choice = cheapest(&two, &mut rng).unwrap();
        prop_assert_eq!(two.cost(choice.position), Some(a.min(b)));
        let worst = worst % count;
        let many = List::of((0..count).map(|n| Some(if n == worst { 2 } else { 1 })).collect());
        for _ in 0..20 {
            prop_assert_ne!(cheapest(&many, &mut rng).unwrap().position, worst);
            prop_assert_ne!(least_outstanding(&many, &mut rng).unwrap().position, worst);
        }
    }
}

#[test]
fn two_choices_balance_as_published() {
    // Mitzenmacher 2001 (and Azar et al. 1994): n balls into n bins, n = 10 000. The fullest bin
    // has about ln n / ln ln n = 4.1 + O(1) by one choice, ln ln n / ln 2 = 3.2 by two.
    let fullest = |choices: u32| {
        let mut list = List::of(vec![Some(0); 10_000]);
        let mut rng = Pcg32::new(3, 0);
        for _ in 0..10_000 {
            let choice =
                if choices == 2 { cheapest(&list, &mut rng) } else { uniform(&list, &mut rng) };
            *list.costs[choice.unwrap().position as usize].as_mut().unwrap() += 1;
        }
        list.costs.iter().flatten().max().copied().unwrap()
    };
    let (one, two) = (fullest(1), fullest(2));
    assert!((6..=9).contains(&one), "{one}");
    assert!((3..=4).contains(&two), "{two}");
}

#[test]
fn ties_are_spread() {
    for count in [3_usize, 8, 9, 100] {
        let list = List::of(vec![Some(1); count]);
        let mut rng = Pcg32::new(9, 0);
        let expected = 60_000 / u32::try_from(count).unwrap();
        for got in counts(&list, 60_000, |list| cheapest(list, &mut rng)) {
            assert!(got.abs_diff(expected) * got.abs_diff(expected) < 25 * expected, "{got}");
        }
    }
}

#[test]
fn turns_are_exact() {
    let list = List::of(vec![Some(1), None, Some(1), Some(1)]);
    let (mut cursor, mut rng) = (0, Pcg32::new(1, 0));
    let got: Vec<(u32, Why)> = (0..5)
        .map(|_| in_turn(&list, &mut cursor, &mut rng).unwrap())
        .map(|choice| (choice.position, choice.why))
        .collect();
    let turn = |skipped| Why::Turn { skipped };
    assert_eq!(got, [(0, turn(0)), (2, turn(1)), (3, turn(0)), (0, turn(0)), (2, turn(1))]);
    // A shorter list than the cursor remembers.
    cursor = u32::MAX;
    assert_eq!(in_turn(&list, &mut cursor, &mut rng).unwrap().position, 0);
}

#[test]
fn weighted_draws_are_in_proportion_among_the_acceptable() {
    // 2 of 6 are out; the others keep 1 : 2 : 3 : 4.
    let costs = vec![Some(9), Some(1), None, Some(5), Some(7), None];
    let list = List::weighing(costs, vec![1, 2, 1_000, 3, 4, 50]);
    let mut rng = Pcg32::new(21, 0);
    // 95 % of the weight is out, so that a fifth of the calls come to the stretch.
    let got = counts(&list, 100_000, |list| drawn(list, &mut rng));
    for (got, expected) in got.iter().zip([10_000_u32, 20_000, 0, 30_000, 40_000, 0]) {
        assert!(got.abs_diff(expected) < 700, "{got} {expected}");
    }
}

#[test]
fn weight_zero_is_the_last_resort() {
    let mut rng = Pcg32::new(2, 0);
    let mut cursor = 0;
    let list = List::weighing(vec![Some(1), Some(9)], vec![0, 5]);
    for _ in 0..200 {
        assert_eq!(drawn(&list, &mut rng).unwrap().position, 1);
        assert_eq!(cheapest(&list, &mut rng).unwrap().position, 1);
        assert_eq!(least_outstanding(&list, &mut rng).unwrap().position, 1);
    }
    let list = List::weighing(vec![Some(3), None, Some(2)], vec![0, 5, 0]);
    for choice in all(&list, &mut cursor, &mut rng) {
        assert_ne!(choice.unwrap().position, 1, "weight 0 rather than nobody");
    }
    assert_eq!(cheapest(&list, &mut rng).unwrap().position, 2);
    assert_eq!(least_outstanding(&list, &mut rng).unwrap().position, 2);
    // Also in the stretch, where the one with the weight of all cannot be used.
    for costs in [vec![Some(1), Some(9), None], vec![Some(9), Some(1), None]] {
        let list = List::weighing(costs, vec![0, 1, 1_000_000]);
        for _ in 0..200 {
            assert_eq!(drawn(&list, &mut rng).unwrap().position, 1);
            assert_eq!(cheapest(&list, &mut rng).unwrap().position, 1);
            assert_eq!(least_outstanding(&list, &mut rng).unwrap().position, 1);
        }
    }
    // All zero are all equal.
    let list = List::weighing(vec![Some(1), Some(1)], vec![0, 0]);
    let got = counts(&list, 10_000, |list| drawn(list, &mut rng));
    assert!(got[0].abs_diff(5_000) < 250, "{got:?}");
}

#[test]
fn weights_act_at_rest_and_under_load() {
    let weights: Vec<u32> = (0..12).map(|n| if n < 6 { 1 } else { 3 }).collect();
    let mut rng = Pcg32::new(8, 0);
    // At rest all outstanding counts are 0: the shares follow the weights, 1 : 3.
    let list = List::weighing(vec![Some(0); 12], weights.clone());
    let got = counts(&list, 120_000, |list| least_outstanding(list, &mut rng));
    assert!(got.iter().zip(&weights).all(|(n, w)| n.abs_diff(5_000 * w) < 500), "{got:?}");
    // Under load the outstanding counts do: 2 400 that do not end.
    let mut list = list;
    for _ in 0..2_400 {
        let choice = least_outstanding(&list, &mut rng).unwrap();
        *list.costs[choice.position as usize].as_mut().unwrap() += 1;
    }
    for (out, weight) in list.costs.iter().zip(&weights) {
        assert!(
            out.unwrap().abs_diff(u64::from(100 * weight)) < 10 * u64::from(*weight),
            "{out:?}"
        );
    }
}

#[test]
fn a_pick_looks_at_a_bounded_number() {
    // Nobody acceptable in a list of 100 000: the number looked at is in the answer.
    let list = List::of(vec![None; 100_000]);
    let mut cursor = 99_990;
    for choice in all(&list, &mut cursor, &mut Pcg32::new(1, 0)) {
        let Err(Nobody::Unacceptable { ready, looked }) = choice else { panic!("{choice:?}") };
        assert!(ready == 100_000 && looked <= 32 + STRETCH);
    }
}

#[test]
fn reasons_are_one_plain_line() {
    let whys = [
        Why::Cheapest { cost: 5, compared: 2 },
        Why::Turn { skipped: 0 },
        Why::Turn { skipped: 3 },
        Why::Drawn { draw: 1 },
        Why::Found { among: 4 },
        Why::Owner,
        Why::Next { passed: 3, full: 1 },
    ];
    for why in whys {
        let (line, json) = (why.to_string(), serde_json::to_string(&why).unwrap());
        assert!(!line.contains('\n') && !line.is_empty());
        assert_eq!(serde_json::from_str::<Why>(&json).unwrap(), why);
    }
    assert_eq!(whys[0].to_string(), "cheapest of 2 compared, at a cost of 5");
    assert_eq!(serde_json::to_string(&whys[6]).unwrap(), r#"{"next":{"passed":3,"full":1}}"#);
    let nobody = Nobody::Unacceptable { ready: 9, looked: 9 };
    assert_eq!(nobody.to_string(), "of 9 endpoints none of the 9 looked at is acceptable");
    let _ = choose::Nobody::Empty.to_string();
}
