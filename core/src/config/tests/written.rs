//! What is written is what is read: in the words of the documentation, and back again.

use std::time::Duration;

use proptest::prelude::*;

use super::anything::random;
use crate::config::backoff::Jitter;
use crate::config::*;
use crate::rng::Pcg32;

/// Each configuration in the words of `origin.toml` (as JSON), and what is misspelt.
#[test]
fn policies_are_written_as_documented() {
    fn reads<T: serde::de::DeserializeOwned + Default + PartialEq + std::fmt::Debug>(
        text: &str,
    ) -> T {
        assert_eq!(serde_json::from_str::<T>("{}").unwrap(), T::default());
        assert!(serde_json::from_str::<T>(r#"{"misspelt": 1}"#).is_err());
        serde_json::from_str(text).unwrap()
    }
    let hedge: HedgeConfig = reads(r#"{"enabled": true, "delay": "30ms", "max_ratio": 0.05}"#);
    assert_eq!((hedge.delay, hedge.max_extra), (Some(Duration::from_millis(30)), 1));
    let timeout: AdaptiveTimeoutConfig = reads(r#"{"enabled": true, "min": "10ms"}"#);
    assert!((timeout.factor - 1.5).abs() < 1e-9);
    let latency: LatencyConfig = reads(r#"{"window": "30s"}"#);
    assert_eq!(latency.window, Duration::from_secs(30));
    let backoff: BackoffConfig =
        reads(r#"{"jitter": "decorrelated", "pushback": "exact", "throttled_base": "1s"}"#);
    assert_eq!((backoff.jitter, backoff.pushback), (Jitter::Decorrelated, PushbackRule::Exact));
    let tokens: TokensConfig = reads(r#"{"mode": "throttle", "capacity": 10, "gain": 0.1}"#);
    assert_eq!(tokens, TokensConfig::grpc(10, 0.1));
    let classes: ClassesConfig =
        reads(r#"{"faults": ["connect", "timeout"], "methods": ["GET", "POST"]}"#);
    assert_eq!(classes.methods, [MethodClass::Get, MethodClass::Post]);
    let propagate: PropagateConfig = reads(r#"{"header": {"custom": "x-left-ms"}}"#);
    assert_eq!(propagate.header, DeadlineHeader::Custom("x-left-ms".to_owned()));
    let propagate: PropagateConfig = reads(r#"{"header": "grpc_timeout"}"#);
    assert_eq!(propagate.header, DeadlineHeader::GrpcTimeout);
}

/// The text of a value of `origin.toml`, on one line.
#[cfg(feature = "toml")]
fn text(value: &toml::Value) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    match value {
        toml::Value::Table(table) => {
            let entries: Vec<String> = table
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted(key), text(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        toml::Value::Array(list) => {
            format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        toml::Value::String(value) => quoted(value),
        toml::Value::Integer(value) => value.to_string(),
        toml::Value::Boolean(value) => value.to_string(),
        toml::Value::Float(value) => format!("{value:?}"),
        toml::Value::Datetime(_) => unreachable!("no configuration has one"),
    }
}

/// The text of a whole file.
#[cfg(feature = "toml")]
fn file(config: &Config) -> String {
    let table = toml::Table::try_from(config).unwrap();
    table.iter().map(|(key, value)| format!("{key} = {}\n", text(value))).collect()
}

/// Secrets are never written; what else there is has to come back.
fn without_secrets(mut config: Config) -> Config {
    if let Some(redis) = &mut config.redis {
        redis.password = None;
        redis.url = crate::redis::RedisUrl::new("redis://localhost:6379/0");
    }
    if let Some(storage) = &mut config.storage {
        (storage.secret_key, storage.session_token) = (None, None);
    }
    let consul = config.discovery.as_mut().and_then(|discovery| discovery.consul.as_mut());
    if let Some(consul) = consul {
        (consul.agent_token, consul.service_token) = (None, None);
    }
    config
}

/// JSON has no word for what is not a number.
fn finite(config: &Config) -> bool {
    let shown = format!("{config:?}");
    !["NaN", ": inf", ": -inf", "(inf)", "(-inf)"].iter().any(|word| shown.contains(word))
}

proptest! {
    #[test]
    fn any_configuration_survives_json_and_toml(seed: u64, percent in 0_u64..30) {
        let config: Option<Config> = random(&mut Pcg32::new(seed, 5), percent);
        if let Some(config) = config.filter(finite).map(without_secrets) {
            let json = serde_json::to_string(&config).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Config>(&json).unwrap(), &config, "{}", json);
            #[cfg(feature = "toml")]
            {
                let text = file(&config);
                prop_assert_eq!(&Config::from_toml(&text).unwrap(), &config, "{}", text);
            }
        }
    }
}

#[test]
fn presets_and_defaults_survive_json_and_toml() {
    for (name, _) in PRESETS {
        let policy = Policy::preset(name).unwrap();
        let profiles = [((*name).to_owned(), policy.clone())].into();
        let config = Config { policy, profiles, ..Config::default() };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config, "{name}");
        #[cfg(feature = "toml")]
        assert_eq!(Config::from_toml(&file(&config)).unwrap(), config, "{name}");
    }
}

/// The generator makes configurations with services, profiles and endpoints, and most are finite.
#[test]
fn random_configurations_have_parts() {
    let (mut services, mut profiles, mut read) = (0, 0, 0);
    for seed in 0..2_000 {
        let config: Option<Config> = random(&mut Pcg32::new(seed, 5), 12);
        if let Some(config) = config.filter(finite).map(without_secrets) {
            services += config.services.len();
            profiles += config.profiles.len();
            read += 1;
        }
    }
    assert!(read > 10 && services > 5 && profiles > 5, "{read}, {services}, {profiles}");
}
