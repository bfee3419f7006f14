//! Tests of the retry tokens: the tables of gRPC and AWS, and enumeration against a signed sum.

use proptest::prelude::*;

use super::*;

fn settings(config: &TokensConfig) -> Settings {
    Settings::of(config, "tokens").unwrap()
}

/// gRPC's own table (grpc `test/core/client_channel/retry_throttle_test.cc`, "Basic"): 4
/// tokens, so the threshold is 2; a failure takes 1, a success brings 1.6.
#[test]
fn throttling_as_in_grpc() {
    let settings = settings(&TokensConfig::grpc(4, 1.6));
    let mut tokens = Tokens::new(&settings);
    for (success, left, retry) in [
        (false, 3_000, true),
        (true, 4_000, true), // not above the maximum
        (false, 3_000, true),
        (false, 2_000, false), // at the threshold
        (false, 1_000, false),
        (false, 0, false),
        (false, 0, false), // not below zero
        (true, 1_600, false),
        (true, 3_200, true),
        (false, 2_200, true),
        (false, 1_200, false),
        (true, 2_800, true),
        (false, 1_800, false),
        (true, 3_400, true),
        (false, 2_400, true),
    ] {
        if success {
            tokens.on_success(None, &settings)
        } else {
            tokens.on_failure(&settings)
        }
        assert_eq!(tokens.available(), left);
        assert_eq!(tokens.try_take(After::Failure, &settings).is_ok(), retry, "at {left}");
        assert_eq!(tokens.available(), left, "asking takes nothing");
    }
}

/// The same file, "Replacement": 3 of 4 tokens become 7.5 of 10; a failure of 7.5 leaves 6.5.
#[test]
fn a_new_capacity_keeps_the_share_as_in_grpc() {
    let old = settings(&TokensConfig::grpc(4, 1.0));
    let new = settings(&TokensConfig::grpc(10, 3.0));
    let mut tokens = Tokens::new(&old);
    tokens.on_failure(&old);
    tokens.retune(&new);
    assert_eq!(tokens.available(), 7_500);
    for (left, retry) in [(6_500, true), (5_500, true), (4_500, false), (3_500, false)] {
        tokens.on_failure(&new);
        let may = tokens.try_take(After::Failure, &new).is_ok();
        assert_eq!((tokens.available(), may), (left, retry));
    }
    tokens.on_success(None, &new);
    assert_eq!(tokens.available(), 6_500);
}

/// The retry cases of the AWS SDKs (smithy-python and botocore test suites), by their rule
/// 2.0: 5 for a retry. And by 2.1: 14, and 5 after throttling.
#[test]
fn quota_as_in_the_aws_sdks() {
    let old = settings(&TokensConfig::aws_2_0());
    let left = |tokens: &Tokens| tokens.available() / ONE;
    // Two failures, then success: the last retry's tokens come back.
    let mut tokens = Tokens::new(&old);
    let mut last = None;
    for expect in [495, 490] {
        last = Some(tokens.try_take(After::Failure, &old).unwrap());
        assert_eq!(left(&tokens), expect);
    }
    tokens.on_success(last, &old);
    assert_eq!(left(&tokens), 495);
    // A quota of 5 pays for one retry.
    let few = settings(&TokensConfig { capacity: 10, ..TokensConfig::aws_2_0() });
    let mut tokens = Tokens { left: 5_000, of: 10_000 };
    assert!(tokens.try_take(After::Timeout, &few).is_err(), "a timeout costs 10");
    assert!(tokens.try_take(After::Failure, &few).is_ok());
    let empty = tokens.try_take(After::Failure, &few).unwrap_err();
    assert_eq!(empty, Empty { have: 0, need: 5_000 });
    assert_eq!(empty.to_string(), "0 retry tokens are left, 5 are needed");
    // A success without a retry brings 1, up to the capacity.
    let new = settings(&TokensConfig::aws());
    let mut tokens = Tokens::new(&new);
    tokens.on_success(None, &new);
    assert_eq!(left(&tokens), 500);
    let first = tokens.try_take(After::Failure, &new).unwrap();
    assert_eq!(left(&tokens), 486);
    let second = tokens.try_take(After::Throttling, &new).unwrap();
    assert_eq!(left(&tokens), 481);
    tokens.on_success(None, &new);
    assert_eq!(left(&tokens), 482);
    tokens.on_success(Some(second), &new);
    assert_eq!(left(&tokens), 487);
    tokens.refund(first, &new);
    assert_eq!(left(&tokens), 500, "never above the capacity");
}

#[test]
fn off_allows_everything_and_takes_nothing() {
    let off = Settings::default();
    let mut tokens = Tokens::new(&off);
    for _ in 0..2_000 {
        tokens.on_failure(&off);
        assert!(tokens.try_take(After::Timeout, &off).is_ok());
    }
    assert_eq!(tokens.available(), 500_000);
}

#[test]
fn case_x_09_every_number_at_its_ends() {
    let field = |change: &dyn Fn(&mut TokensConfig)| {
        let mut config = TokensConfig::aws();
        change(&mut config);
        let compiled = Settings::compile(&config); // total
        let mut tokens = Tokens { left: u32::MAX, of: 0 };
        tokens.retune(&compiled);
        assert!(tokens.available() <= compiled.capacity);
        Settings::of(&config, "t").err().map(|e| e.field)
    };
    let refused = |name: &str| Some(format!("t.{name}"));
    for n in [0, u32::MAX] {
        assert_eq!(field(&|c| c.capacity = n), refused("capacity"));
    }
    assert_eq!(field(&|c| *c = TokensConfig::grpc(1_001, 1.0)), refused("capacity"));
    for n in [501, u32::MAX] {
        assert_eq!(field(&|c| c.cost = n), refused("cost"));
        assert_eq!(field(&|c| c.cost_timeout = n), refused("cost_timeout"));
        assert_eq!(field(&|c| c.cost_throttled = n), refused("cost_throttled"));
    }
    for gain in [0.0, f64::NAN, f64::INFINITY, -1.0, 0.0005, 0.1234, 1_000.5] {
        assert_eq!(field(&|c| c.gain = gain), refused("gain"), "{gain}");
    }
    for gain in [0.001, 0.1, 0.3, 0.999, 1.6, 2.007, 1_000.0] {
        assert_eq!(field(&|c| c.gain = gain), None, "{gain}");
    }
    assert_eq!(field(&|c| c.cost = 0), None, "a free retry is a wish, not a mistake");
    assert_eq!(settings(&TokensConfig::default()), Settings::default());
    assert!(size_of::<Tokens>() <= 8);
}

const ACTIONS: usize = 6;

/// Does one thing to the bucket and to the model: a signed sum held within its ends.
fn act(
    action: usize,
    settings: &Settings,
    config: &TokensConfig,
    tokens: &mut Tokens,
    model: &mut i64,
    last: &mut Option<Taken>,
) -> Result<(), String> {
    let full = i64::from(config.capacity) * 1_000;
    let quota = config.mode == TokensMode::Quota;
    #[allow(clippy::cast_possible_truncation)]
    let gain = (config.gain * 1_000.0).round() as i64;
    match action {
        0..3 => {
            let (after, price) = [
                (After::Failure, config.cost),
                (After::Timeout, config.cost_timeout),
                (After::Throttling, config.cost_throttled),
            ][action];
            let price = i64::from(price) * 1_000;
            let may = if quota { *model >= price } else { *model * 2 > full };
            let got = tokens.try_take(after, settings);
            if got.is_ok() != may {
                return Err(format!("granted {got:?} with {model} of {full}"));
            }
            if may {
                *model -= if quota { price } else { 0 };
                *last = got.ok();
            }
        }
        3 => {
            tokens.on_failure(settings);
            *model -= if quota { 0 } else { 1_000 };
        }
        4 => {
            tokens.on_success(None, settings);
            *model += gain;
        }
        _ => {
            let back = last.map_or(gain, |t| if quota { i64::from(t.thousandths) } else { gain });
            tokens.on_success(last.take(), settings);
            *model += back;
        }
    }
    *model = (*model).clamp(0, full);
    if i64::from(tokens.available()) == *model {
        Ok(())
    } else {
        Err(format!("{tokens:?} {model}"))
    }
}

/// Every sequence of up to seven actions on small buckets of both kinds.
#[test]
fn all_short_sequences_equal_the_model() {
    let mut sequences = 0_u32;
    for config in [
        TokensConfig {
            capacity: 7,
            cost: 3,
            cost_timeout: 5,
            cost_throttled: 1,
            ..TokensConfig::aws()
        },
        TokensConfig {
            capacity: 3,
            cost: 3,
            cost_timeout: 2,
            cost_throttled: 0,
            gain: 0.4,
            ..TokensConfig::aws()
        },
        TokensConfig::grpc(4, 1.6),
        TokensConfig::grpc(3, 0.5),
    ] {
        let settings = settings(&config);
        for code in 0..ACTIONS.pow(7) {
            let mut tokens = Tokens::new(&settings);
            let (mut model, mut last, mut rest) = (i64::from(config.capacity) * 1_000, None, code);
            for _ in 0..7 {
                let action = rest % ACTIONS;
                rest /= ACTIONS;
                act(action, &settings, &config, &mut tokens, &mut model, &mut last)
                    .unwrap_or_else(|e| panic!("{config:?}, sequence {code}: {e}"));
            }
            sequences += 1;
        }
    }
    assert_eq!(sequences, 4 * 279_936);
}

proptest! {
    #[test]
    fn long_sequences_equal_the_model_and_the_bucket_always_refills(
        grpc: bool, capacity in 1_u32..1_000, costs in any::<(prop::sample::Index, prop::sample::Index)>(),
        gain in 1_u32..5_000, actions in proptest::collection::vec(0..ACTIONS, 0..400),
    ) {
        let gain = f64::from(gain) / 1_000.0;
        let share = |index: &prop::sample::Index| u32::try_from(index.index(capacity as usize + 1)).unwrap();
        let config = if grpc { TokensConfig::grpc(capacity, gain) } else {
            let (cost, cost_timeout) = (share(&costs.0), share(&costs.1));
            TokensConfig { capacity, cost, cost_timeout, cost_throttled: 0, gain, ..TokensConfig::aws() }
        };
        let settings = settings(&config);
        let mut tokens = Tokens::new(&settings);
        let (mut model, mut last) = (i64::from(capacity) * 1_000, None);
        for action in actions {
            act(action, &settings, &config, &mut tokens, &mut model, &mut last)
                .map_err(TestCaseError::fail)?;
            prop_assert!(tokens.available() <= settings.capacity);
        }
        // However empty: successes without retries bring retries back (c.11).
        let successes = settings.capacity.div_ceil(settings.gain);
        (0..successes).for_each(|_| tokens.on_success(None, &settings));
        for after in [After::Failure, After::Timeout, After::Throttling] {
            let mut tokens = tokens;
            prop_assert!(tokens.try_take(after, &settings).is_ok());
        }
    }
}
