//! What the configuration refuses, by field, and what it compiles to.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{BalanceConfig, BalanceKind, RouteConfig};
use crate::policy::balance::{Balancer, Endpoint, Settings};
use crate::rng::Pcg32;
use crate::time::Time;

fn refused(change: impl FnOnce(&mut BalanceConfig)) -> String {
    let mut config = BalanceConfig::default();
    change(&mut config);
    Settings::of(&config, "b").unwrap_err().field
}

#[test]
fn defaults_compile_to_themselves() {
    assert_eq!(Settings::of(&BalanceConfig::default(), "b").unwrap(), Settings::default());
    assert_eq!(Settings::default().load_permille, 1_250);
}

#[test]
fn every_parameter_out_of_range_names_its_field() {
    let wrong = [f64::NAN, f64::INFINITY, -1.0, f64::MAX];
    for span in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        assert_eq!(refused(|c| c.decay = span), "b.decay");
    }
    for factor in [0, 101, u32::MAX] {
        assert_eq!(refused(|c| c.failure_factor = factor), "b.failure_factor");
    }
    for span in [Duration::ZERO, Duration::from_secs(3601), Duration::MAX] {
        assert_eq!(refused(|c| c.failure_penalty = span), "b.failure_penalty");
    }
    assert_eq!(refused(|c| c.slow_start.window = Duration::MAX), "b.slow_start.window");
    for value in wrong.into_iter().chain([0.0, 0.09, 10.1]) {
        assert_eq!(refused(|c| c.slow_start.aggression = value), "b.slow_start.aggression");
    }
    for value in wrong.into_iter().chain([0.0, 1.1]) {
        assert_eq!(refused(|c| c.slow_start.min_weight = value), "b.slow_start.min_weight");
    }
    for value in wrong.into_iter().chain([1.0, 0.5, 101.0]) {
        assert_eq!(refused(|c| c.load_bound = value), "b.load_bound");
    }
    assert_eq!(refused(|c| c.subset = u32::MAX), "b.subset");
    let nameless = BTreeMap::from([(String::new(), RouteConfig::default())]);
    assert_eq!(refused(|c| c.routes = nameless), "b.routes.");
}

#[test]
fn slow_start_without_weights_is_a_contradiction() {
    let mut config = BalanceConfig::default();
    config.slow_start.window = Duration::from_secs(30);
    for (kind, fine) in [
        (BalanceKind::P2c, true),
        (BalanceKind::LeastOutstanding, true),
        (BalanceKind::Weighted, true),
        (BalanceKind::RoundRobin, false),
        (BalanceKind::Random, false),
        (BalanceKind::Ring, false),
        (BalanceKind::Rendezvous, false),
    ] {
        config.kind = kind;
        match Settings::of(&config, "b") {
            Ok(_) => assert!(fine, "{kind:?}"),
            Err(error) => {
                assert!(!fine, "{kind:?}");
                assert_eq!(error.field, "b.slow_start.window");
                assert!(error.reason.contains(kind.word()) && error.reason.contains("30s"));
            }
        }
    }
}

#[cfg(feature = "toml")]
#[test]
fn toml_names_are_the_words() {
    for kind in
        ["p2c", "least_outstanding", "round_robin", "weighted", "random", "rendezvous", "ring"]
    {
        let text = format!("kind = \"{kind}\"\nload_bound = 1.5\n[slow_start]\nwindow = \"30s\"\n");
        let config: BalanceConfig = toml::from_str(&text).unwrap();
        assert_eq!(config.kind.word(), kind);
        assert_eq!(config.slow_start.window, Duration::from_secs(30));
    }
    assert!(toml::from_str::<BalanceConfig>("knd = \"p2c\"").is_err());
}

#[test]
fn unchecked_values_are_harmless() {
    // The machines never see these, because the check refuses them; if they did, nothing panics.
    for number in [0.0, 1.0, -1.0, f64::MAX, f64::NAN, f64::INFINITY] {
        for span in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for count in [0, 1, u32::MAX] {
                let mut config = BalanceConfig {
                    decay: span,
                    failure_factor: count,
                    failure_penalty: span,
                    load_bound: number,
                    subset: count,
                    ..BalanceConfig::default()
                };
                config.slow_start.window = span;
                config.slow_start.aggression = number;
                config.slow_start.min_weight = number;
                for kind in super::balancer::KINDS {
                    config.kind = kind;
                    let settings = Settings::compile(&config);
                    let endpoints = [1, count, 0].map(|weight| Endpoint { hash: 1, weight });
                    let mut balancer = Balancer::new(Time::NEVER, &endpoints, &settings);
                    let mut rng = Pcg32::new(1, 1);
                    for now in [Time::ZERO, Time::NEVER, Time::from_nanos(1), Time::NEVER] {
                        for failed in [false, true] {
                            let choice =
                                balancer.pick_where(now, Some(7), |_| true, &settings, &mut rng);
                            let index = choice.unwrap().position;
                            balancer.done(index, now, Duration::MAX, failed, &settings);
                            balancer.done(index, now, Duration::ZERO, failed, &settings);
                            balancer.returned(index, now, &settings);
                        }
                    }
                }
            }
        }
    }
}
