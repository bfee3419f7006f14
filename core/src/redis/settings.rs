//! A checked [`RedisConfig`]: everything but the password, integers only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value::Bounds;
use super::{Keys, Server, Tls, knowledge, level, link};
use crate::config::field::{At, at_least_one};
use crate::config::{ConfigError, RedisConfig};
use crate::time::nanos;

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Where Redis is and what is done with it. Free of secrets: how to log in is
/// [`RedisConfig::login`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Where it is.
    pub server: Server,
    /// Files for TLS.
    pub tls: Tls,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The namespace.
    pub keys: Keys,
    /// When it is left alone.
    pub link: link::Settings,
    /// The second level of discovery.
    pub level: level::Settings,
    /// Shared breaker knowledge.
    pub knowledge: knowledge::Settings,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error. Does no lookup
    /// in the environment.
    ///
    /// # Errors
    /// The first field that is out of range or contradicts another. Never repeats a URL.
    pub fn of(config: &RedisConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let (server, _) = config.url.parse().map_err(|bad| at.refuse("url", bad.to_string()))?;
        let secure = matches!(server, Server::Tcp { tls: true, .. });
        let file = |field: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(_) if !secure => Err(at.refuse(field, "needs a url that begins with rediss://")),
            Some(text) if text.is_empty() => Err(at.refuse(field, "must not be empty")),
            Some(text) => Ok(Some(text.as_str().into())),
        };
        let ca = file("ca", &config.ca)?;
        let client = match (
            file("client_certificate", &config.client_certificate)?,
            file("client_key", &config.client_key)?,
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(at.refuse("client_key", "is missing beside client_certificate"));
            }
            (None, Some(_)) => {
                return Err(at.refuse("client_certificate", "is missing beside client_key"));
            }
        };
        if config.username.as_ref().is_some_and(|user| user.chars().any(char::is_control)) {
            return Err(at.refuse("username", "contains control characters"));
        }
        if config.password_env.as_ref().is_some_and(String::is_empty) {
            return Err(at.refuse("password_env", "must not be empty"));
        }
        let ten = Duration::from_secs(10);
        let timeout = at.within("timeout", config.timeout, MS..=ten)?;
        let connect_timeout = at.within("connect_timeout", config.connect_timeout, MS..=ten)?;
        at.ordered(("connect_timeout", connect_timeout), ("timeout", timeout))?;
        let hour = Duration::from_secs(3_600);
        at.within("backoff_max", config.backoff_max, MS..=hour)?;
        at.within("backoff", config.backoff, MS..=hour)?;
        at.ordered(("backoff", config.backoff), ("backoff_max", config.backoff_max))?;
        at.within("skew", config.skew, Duration::ZERO..=hour)?;
        let keys = Keys::of(&config.prefix, &format!("{path}.prefix"))?;
        let level = Settings::level(config, &format!("{path}.discovery"))?;
        let knowledge =
            knowledge::Settings::of(&config.breakers, config.skew, &format!("{path}.breakers"))?;
        Ok(Settings {
            enabled: config.enabled,
            server,
            tls: Tls { ca, client },
            connect_timeout,
            keys,
            link: link::Settings {
                backoff: at_least_one(config.backoff),
                backoff_max: at_least_one(config.backoff_max),
                timeout: at_least_one(timeout),
            },
            level: level::Settings { enabled: level.enabled && config.enabled, ..level },
            knowledge: if config.enabled { knowledge } else { knowledge.off() },
        })
    }

    fn level(config: &RedisConfig, path: &str) -> Result<level::Settings, ConfigError> {
        let at = At(path);
        let level = &config.discovery;
        at.within("ttl", level.ttl, Duration::from_secs(1)..=DAY)?;
        at.within("negative_ttl", level.negative_ttl, Duration::ZERO..=DAY)?;
        at.ordered(("negative_ttl", level.negative_ttl), ("ttl", level.ttl))?;
        Ok(level::Settings {
            enabled: level.enabled,
            ttl: nanos(level.ttl),
            negative_ttl: nanos(level.negative_ttl),
            skew: config.skew,
            bounds: Bounds {
                bytes: at.within("max_value", level.max_value, 1 << 10..=16 << 20)?,
                instances: at.within("max_instances", level.max_instances, 1..=100_000)?,
                foreign: level.foreign,
            },
        })
    }
}

impl Default for Settings {
    #[allow(clippy::expect_used)] // a constant, and a test compiles it
    fn default() -> Self {
        Settings::of(&RedisConfig::default(), "redis").expect("the default configuration is right")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{KnowledgeConfig, KnowledgeMode, SharedLevelConfig};
    use crate::redis::RedisUrl;
    use crate::secret::Secret;

    fn refused(change: impl FnOnce(&mut RedisConfig)) -> String {
        let mut config = RedisConfig::default();
        change(&mut config);
        Settings::of(&config, "redis").unwrap_err().field
    }

    #[test]
    fn every_field_is_checked_and_named() {
        let s = Duration::from_secs;
        assert!(Settings::default().enabled);
        assert_eq!(refused(|c| c.url = RedisUrl::new("http://x")), "redis.url");
        assert_eq!(refused(|c| c.ca = Some("/ca.pem".into())), "redis.ca");
        assert_eq!(refused(|c| c.username = Some("a\n".into())), "redis.username");
        assert_eq!(refused(|c| c.password_env = Some(String::new())), "redis.password_env");
        let tls = || RedisUrl::new("rediss://x");
        assert_eq!(refused(|c| (c.url, c.ca) = (tls(), Some(String::new()))), "redis.ca");
        let half = |c: &mut RedisConfig| (c.url, c.client_key) = (tls(), Some("k".into()));
        assert_eq!(refused(half), "redis.client_certificate");
        let half = |c: &mut RedisConfig| (c.url, c.client_certificate) = (tls(), Some("k".into()));
        assert_eq!(refused(half), "redis.client_key");
        for bad in [Duration::ZERO, s(11), Duration::MAX] {
            assert_eq!(refused(|c| c.timeout = bad), "redis.timeout");
        }
        assert_eq!(refused(|c| c.connect_timeout = s(1)), "redis.connect_timeout");
        assert_eq!(refused(|c| c.backoff = Duration::ZERO), "redis.backoff");
        assert_eq!(refused(|c| c.backoff = s(31)), "redis.backoff");
        assert_eq!(refused(|c| c.backoff_max = Duration::MAX), "redis.backoff_max");
        assert_eq!(refused(|c| c.skew = Duration::MAX), "redis.skew");
        assert_eq!(refused(|c| c.prefix = "x".into()), "redis.prefix");
        let level = |change: fn(&mut SharedLevelConfig)| refused(|c| change(&mut c.discovery));
        assert_eq!(level(|l| l.ttl = Duration::ZERO), "redis.discovery.ttl");
        assert_eq!(level(|l| l.ttl = Duration::MAX), "redis.discovery.ttl");
        assert_eq!(level(|l| l.negative_ttl = l.ttl * 2), "redis.discovery.negative_ttl");
        assert_eq!(level(|l| l.max_value = 0), "redis.discovery.max_value");
        assert_eq!(level(|l| l.max_value = usize::MAX), "redis.discovery.max_value");
        assert_eq!(level(|l| l.max_instances = 0), "redis.discovery.max_instances");
        let shared = |change: fn(&mut KnowledgeConfig)| refused(|c| change(&mut c.breakers));
        assert_eq!(shared(|k| k.quorum = 0), "redis.breakers.quorum");
        assert_eq!(
            shared(|k| (k.mode, k.quorum) = (KnowledgeMode::Advise, 1)),
            "redis.breakers.quorum"
        );
        assert_eq!(shared(|k| k.quorum = u32::MAX), "redis.breakers.quorum");
        for share in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            assert_eq!(refused(|c| c.breakers.share = share), "redis.breakers.share");
        }
        assert_eq!(shared(|k| k.ttl = k.every * 2), "redis.breakers.ttl");
        assert_eq!(shared(|k| k.ttl = Duration::MAX), "redis.breakers.ttl");
        assert_eq!(shared(|k| k.every = Duration::ZERO), "redis.breakers.every");
        assert_eq!(shared(|k| k.gap = Duration::ZERO), "redis.breakers.gap");
        assert_eq!(shared(|k| k.gap = k.every * 2), "redis.breakers.gap");
        assert_eq!(shared(|k| k.listen = k.ttl * 100), "redis.breakers.listen");
        assert_eq!(shared(|k| k.listen = Duration::from_nanos(1)), "redis.breakers.listen");
        assert_eq!(shared(|k| k.own_evidence = Duration::MAX), "redis.breakers.own_evidence");
        assert_eq!(shared(|k| k.probe_interval = Duration::ZERO), "redis.breakers.probe_interval");
        assert_eq!(shared(|k| k.max_nodes = 0), "redis.breakers.max_nodes");
        assert_eq!(shared(|k| k.max_endpoints = 513), "redis.breakers.max_endpoints");
        let strict =
            |c: &mut RedisConfig| (c.breakers.mode, c.breakers.quorum) = (KnowledgeMode::Strict, 1);
        let mut config = RedisConfig::default();
        strict(&mut config);
        assert!(Settings::of(&config, "redis").is_ok());
    }

    #[test]
    fn off_means_everything_is_off() {
        let mut config = RedisConfig { enabled: false, ..RedisConfig::default() };
        config.breakers.mode = KnowledgeMode::Advise;
        let settings = Settings::of(&config, "redis").unwrap();
        assert!(!settings.level.enabled && settings.knowledge.is_off());
    }

    #[test]
    fn the_environment_names_host_and_port() {
        let with = |url: &str, variables: &[(&str, &str)]| {
            RedisConfig::at(url).with_environment(variables.iter().copied())
        };
        for (url, host, port, meaning) in [
            ("redis://a:1/2", "b", "7", "redis://b:7/2"),
            ("rediss://a:1", "", "7", "rediss://a:7/0"),
            ("redis://a:1", "b", " ", "redis://b:1/0"),
            ("redis://a", "::1", "", "redis://[::1]:6379/0"),
            ("redis://a", "[::1]", "", "redis://[::1]:6379/0"),
            ("unix:///x?db=3", "b", "", "redis://b:6379/3"),
            ("redis://a:1/2", "", "", "redis://a:1/2"),
        ] {
            let config =
                with(url, &[("REDIS_HOST", host), ("REDIS_PORT", port), ("X", "y")]).unwrap();
            assert_eq!(config.url.to_string(), meaning);
        }
        for (name, value) in [
            ("REDIS_PORT", "0"),
            ("REDIS_PORT", "x"),
            ("REDIS_PORT", "65536"),
            ("REDIS_HOST", "a:1"),
            ("REDIS_HOST", "u:p@a"),
            ("REDIS_HOST", "http://a"),
        ] {
            let error = with("redis://a", &[(name, value)]).unwrap_err();
            assert!(error.field.contains(name), "{error}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
        // The login of the URL survives.
        let config = with("redis://u:hunter2@a", &[("REDIS_HOST", "b")]).unwrap();
        let login = config.login("redis", |_| None).unwrap();
        assert_eq!(login.password, Secret::exact("hunter2"));
        assert_eq!(login.username.as_deref(), Some("u"));
    }

    #[test]
    fn passwords_come_from_three_places_and_go_nowhere() {
        let secret = |text| Secret::exact(text);
        let mut config = RedisConfig::at("redis://u:url-pw@a");
        let password = |config: &RedisConfig, variable: Option<&str>| {
            config.login("redis", |_| variable.map(str::to_owned)).map(|login| login.password)
        };
        assert_eq!(password(&config, None), Ok(secret("url-pw")));
        config.password = secret("field-pw");
        assert_eq!(password(&config, None), Ok(secret("field-pw")));
        config.password_env = Some("PW".into());
        assert_eq!(password(&config, Some("env-pw")), Ok(secret("env-pw")));
        assert_eq!(password(&config, Some("")), Ok(secret("field-pw")));
        let json = serde_json::to_string(&config).unwrap();
        let settings = Settings::of(&config, "redis").unwrap();
        let login = config.login("redis", |_| None).unwrap();
        let shown = format!("{config:?} {json} {settings:?} {login:?}");
        assert!(!shown.contains("-pw"), "{shown}");
        assert_eq!(serde_json::from_str::<RedisConfig>(&json).unwrap().password, None);
        // Nothing to log in with, and a half login.
        let none = RedisConfig { password_env: Some("PW".into()), ..RedisConfig::default() };
        assert_eq!(password(&none, None).unwrap_err().field, "redis.password_env");
        let half = RedisConfig { username: Some("u".into()), ..RedisConfig::default() };
        assert_eq!(password(&half, None).unwrap_err().field, "redis.username");
    }

    proptest! {
        /// Whatever the spans and counts: refused by name, or compiled to something bounded.
        #[test]
        fn any_numbers_are_refused_or_bounded(
            spans in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>(), 0..100_000_000_000_u64], 11),
            counts in proptest::collection::vec(prop_oneof![Just(0_usize), Just(1), Just(usize::MAX), 0..2_000_usize], 5),
            share: f64, strict: bool,
        ) {
            let span = |n: usize| Duration::from_nanos(spans[n]);
            let mut config = RedisConfig {
                connect_timeout: span(0), timeout: span(1), backoff: span(2), backoff_max: span(3), skew: span(4),
                ..RedisConfig::default()
            };
            config.discovery = SharedLevelConfig { ttl: span(5), negative_ttl: span(6), max_value: counts[0], max_instances: counts[1], ..config.discovery };
            config.breakers = KnowledgeConfig {
                mode: if strict { KnowledgeMode::Strict } else { KnowledgeMode::Advise }, share,
                quorum: u32::try_from(counts[2]).unwrap_or(u32::MAX), ttl: span(7), every: span(8), gap: span(9),
                own_evidence: span(10), max_nodes: counts[3], max_endpoints: counts[4], ..config.breakers
            };
            match Settings::of(&config, "redis") {
                Err(error) => prop_assert!(error.field.starts_with("redis.")),
                Ok(settings) => prop_assert!(settings.link.timeout > 0 && settings.level.bounds.bytes <= 16 << 20),
            }
        }
    }
}
