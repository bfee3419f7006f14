//! Checking: a configuration that is zero where it must not be, out of range or contradictory is
//! refused with the field's name and the reason. What passes is compiled into [`Rules`], the
//! integer-only form that the machines read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    CacheConfig, ConcurrencyMode, Config, Mode, Policy, RateMode, ServiceConfig, conflict, field,
};
use crate::address::Address;
use crate::cache;
use crate::discovery::SourceKind;
use crate::discovery::delivery;
use crate::identity;
use crate::ops::secrets::SERVICE as SECRETS;
use crate::policy::balance::route::Routes;
use crate::policy::retryable::Retryable;
use crate::policy::{
    backoff, balance, breaker, budget, concurrency, health, hedge, latency, outlier, queue, rate,
    remaining, stall, throttle, tiers, timeout, tokens,
};
use crate::redis;
use crate::time::DurationText;
use crate::vault;

/// A refused configuration: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration refused: {field}: {reason}")]
pub struct ConfigError {
    /// The field as written in `origin.toml`, for example `policy.retry.max_attempts`.
    pub field: String,
    /// What is wrong, with the numbers.
    pub reason: String,
}

impl ConfigError {
    /// A refusal of `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> ConfigError {
        ConfigError { field: field.into(), reason: reason.into() }
    }
}

/// A set of HTTP status codes below 640, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusSet([u64; 10]);

impl StatusSet {
    /// The set of `codes`; codes of 640 and above are left out.
    #[must_use]
    pub fn of(codes: &[u16]) -> StatusSet {
        let mut set = StatusSet::default();
        for code in codes {
            if let Some(word) = set.0.get_mut(usize::from(code / 64)) {
                *word |= 1 << (code % 64);
            }
        }
        set
    }

    /// Whether `code` is in the set.
    #[must_use]
    pub fn has(&self, code: u16) -> bool {
        self.0.get(usize::from(code / 64)).is_some_and(|word| word >> (code % 64) & 1 == 1)
    }
}

/// A checked [`Policy`] in the form the machines use: integers only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the policy, documented there
pub struct Rules {
    pub total: Duration,
    pub attempt: Duration,
    pub connect: Duration,
    pub floor: Duration,
    pub max_attempts: u8,
    pub per_cluster: u8,
    pub per_endpoint: u8,
    pub retryable: Retryable,
    pub backoff: backoff::Settings,
    pub tokens: tokens::Settings,
    pub hedge: hedge::Settings,
    pub adaptive_timeout: timeout::Settings,
    pub latency: latency::Settings,
    pub propagate: Arc<remaining::Settings>,
    pub budget: budget::Settings,
    pub breaker: breaker::Settings,
    pub service_breaker: breaker::Settings,
    pub throttle: throttle::Settings,
    pub concurrency: concurrency::Settings,
    pub queue: queue::Settings,
    pub rate: rate::Settings,
    /// Whether anything guards the service as a whole.
    pub gated: bool,
    pub balance: balance::Settings,
    pub routes: Routes,
    pub failover: tiers::Settings,
    pub outlier: outlier::Settings,
    pub stall: stall::Settings,
    pub checks: health::Settings,
}

impl Default for Rules {
    #[allow(clippy::expect_used)] // a constant, and a test compiles it
    fn default() -> Self {
        Rules::of(&Policy::default(), "policy").expect("the default policy is right")
    }
}

const DEFAULT_ATTEMPT: Duration = Duration::from_secs(10);
const DEFAULT_CONNECT: Duration = Duration::from_secs(1);

impl Rules {
    /// Checks `policy` and compiles it. `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(policy: &Policy, path: &str) -> Result<Rules, ConfigError> {
        let Policy { deadline, retry, budget, breaker, stall, checks, .. } = policy;
        let at = field::At(path);
        let total = at.span("deadline.total", deadline.total)?;
        let within = |name: &str, span: Option<Duration>, bounds: &[(&str, Option<Duration>)]| {
            let Some(span) = span else { return Ok(None) };
            for (bound, most) in bounds {
                at.ordered((name, span), (bound, most.unwrap_or(span)))?;
            }
            at.span(name, span).map(Some)
        };
        let of_total = ("deadline.total", Some(total));
        let attempt = within("deadline.attempt", deadline.attempt, &[of_total])?;
        let of_attempt = ("deadline.attempt", attempt);
        let connect = within("deadline.connect", deadline.connect, &[of_attempt, of_total])?;
        let floor = at.span("deadline.floor", deadline.floor)?;
        within("deadline.floor", Some(floor), &[of_total])?;
        let attempt = attempt.unwrap_or(DEFAULT_ATTEMPT).min(total);
        let few = |name: &str, count: u32| {
            let count = at.within(name, count, 1..=16)?;
            Ok(u8::try_from(count).unwrap_or(16))
        };
        let under = |name: &str| format!("{path}.{name}");
        let rules = Rules {
            total,
            attempt,
            connect: connect.unwrap_or(DEFAULT_CONNECT).min(attempt),
            floor,
            max_attempts: few("retry.max_attempts", retry.max_attempts)?,
            per_cluster: few("retry.attempts_per_cluster", retry.attempts_per_cluster)?,
            per_endpoint: few("retry.attempts_per_endpoint", retry.attempts_per_endpoint)?,
            retryable: Retryable::of(&retry.on, &under("retry.on"))?,
            backoff: backoff::Settings::of(&retry.backoff, &under("retry.backoff"))?,
            tokens: tokens::Settings::of(&retry.tokens, &under("retry.tokens"))?,
            hedge: hedge::Settings::of(&policy.hedge, &under("hedge"))?,
            adaptive_timeout: timeout::Settings::of(
                &policy.adaptive_timeout,
                &under("adaptive_timeout"),
            )?,
            latency: latency::Settings::of(&policy.latency, &under("latency"))?,
            propagate: remaining::Settings::of(&policy.propagate, &under("propagate"))?.into(),
            budget: budget::Settings::of(budget, &under("budget"))?,
            breaker: breaker::Settings::of(breaker, &under("breaker"))?,
            service_breaker: breaker::Settings::of(
                &policy.service_breaker,
                &under("service_breaker"),
            )?,
            throttle: throttle::Settings::of(&policy.throttle, &under("throttle"))?,
            concurrency: concurrency::Settings::of(&policy.concurrency, &under("concurrency"))?,
            queue: queue::Settings::of(&policy.queue, &under("queue"))?,
            rate: rate::Settings::of(&policy.rate, &under("rate"))?,
            gated: policy.service_breaker.mode != Mode::Disabled
                || policy.throttle.enabled
                || policy.concurrency.mode != ConcurrencyMode::Off
                || policy.rate.mode != RateMode::Off,
            balance: balance::Settings::of(&policy.balance, &under("balance"))?,
            routes: Routes::of(&policy.balance.routes, &under("balance.routes"))?,
            failover: tiers::Settings::of(&policy.failover, &under("failover"))?,
            outlier: outlier::Settings::of(&policy.outlier, &under("outlier"))?,
            stall: stall::Settings::of(stall, &under("stall"))?,
            checks: health::Settings::of(checks, &under("checks"))?,
        };
        conflict::check(policy, &rules, at)?;
        Ok(rules)
    }
}

impl Config {
    /// The rules of the service called `name`, with its profiles.
    ///
    /// # Errors
    /// The first refused field.
    #[allow(clippy::type_complexity)] // said in words above
    pub fn rules_for(&self, name: &str) -> Result<(Rules, Vec<(Arc<str>, Rules)>), ConfigError> {
        let own = self.services.get(name);
        let rules = match own.and_then(|own| own.policy.as_ref()) {
            Some(policy) => Rules::of(policy, &format!("services.{name}.policy"))?,
            None => Rules::of(&self.policy, "policy")?,
        };
        let mut profiles: BTreeMap<&String, &Policy> = self.profiles.iter().collect();
        profiles.extend(own.into_iter().flat_map(|own| &own.profiles));
        let compiled = profiles.into_iter().map(|(profile, policy)| {
            let rules = Rules::of(policy, &format!("profiles.{profile}"))?;
            Ok((Arc::from(profile.as_str()), rules))
        });
        Ok((rules, compiled.collect::<Result<_, ConfigError>>()?))
    }

    /// What is remembered of the answers of the service called `name`. Never anything of
    /// `secrets`, whatever holds for the others.
    ///
    /// # Errors
    /// The first refused field.
    pub fn cache_for(&self, name: &str) -> Result<cache::Settings, ConfigError> {
        let off = || {
            let off = CacheConfig { enabled: false, ..CacheConfig::default() };
            cache::Settings::of(&off, "cache")
        };
        match self.services.get(name).and_then(|own| own.cache.as_ref()) {
            Some(own) => {
                let path = format!("services.{name}.cache");
                if own.enabled && name == SECRETS {
                    let reason = "secrets are never cached; leave it out";
                    return Err(ConfigError::new(path, reason));
                }
                cache::Settings::of(own, &path)
            }
            None if name == SECRETS => off(),
            None => self.cache.as_ref().map_or_else(off, |all| cache::Settings::of(all, "cache")),
        }
    }

    /// Answers cannot be shared without a Redis to keep them in.
    fn check_sharing(&self) -> Result<(), ConfigError> {
        let own = self.services.iter().map(|(name, service)| {
            (format!("services.{name}.cache.shared.enabled"), service.cache.as_ref())
        });
        for (field, cache) in own.chain([("cache.shared.enabled".to_owned(), self.cache.as_ref())])
        {
            let shared = cache.is_some_and(|cache| cache.enabled && cache.shared.enabled);
            if shared && self.redis.is_none() {
                return Err(ConfigError::new(field, "needs a Redis server; configure [redis]"));
            }
        }
        Ok(())
    }

    /// Whether a service can be reached over Connect: by Consul, as somebody.
    fn connectable(&self, path: &str, service: &ServiceConfig) -> Result<(), ConfigError> {
        let refuse =
            |field: &str, reason: &str| Err(ConfigError::new(format!("{path}.{field}"), reason));
        let discovery = self.discovery.as_ref();
        let consul = discovery.and_then(|discovery| discovery.consul.as_ref());
        if !consul.is_some_and(|consul| consul.enabled && consul.connect.enabled) {
            let reason = "needs discovery.consul.connect, to be somebody in the mesh";
            return refuse("connect", reason);
        }
        if !service.endpoints.is_empty() {
            return refuse("connect", "its endpoints are configured and are not looked up");
        }
        if service.lookup.order.iter().any(|kind| *kind != SourceKind::Consul) {
            return refuse(
                "order",
                "names another source, and only Consul knows who is in the mesh",
            );
        }
        Ok(())
    }

    /// How those who watch the service called `name` are told of changes.
    ///
    /// # Errors
    /// The first refused field.
    pub fn delivery_for(&self, name: &str) -> Result<delivery::Settings, ConfigError> {
        match self.services.get(name).and_then(|own| own.delivery.as_ref()) {
            Some(own) => delivery::Settings::of(own, &format!("services.{name}.delivery")),
            None => match &self.discovery {
                Some(all) => delivery::Settings::of(&all.delivery, "discovery.delivery"),
                None => Ok(delivery::Settings::default()),
            },
        }
    }

    /// Checks everything. Machines are only ever built from a configuration that passed.
    ///
    /// # Errors
    /// The first refused field, by its path in `origin.toml`.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_said()?;
        if self.says_where() {
            return Ok(());
        }
        Err(ConfigError::new(
            "discovery",
            "neither a discovery URL nor any service endpoint is configured",
        ))
    }

    /// Whether it says of any service where it is: by discovery or by endpoints.
    #[must_use]
    pub fn says_where(&self) -> bool {
        self.discovery.is_some() || self.services.values().any(|s| !s.endpoints.is_empty())
    }

    /// Checks what it says, and not whether that is enough for a client: of a file that holds
    /// policies only, and gets the rest elsewhere.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn check_said(&self) -> Result<(), ConfigError> {
        let policy = Rules::of(&self.policy, "policy")?;
        if self.local_cluster.as_deref().is_some_and(str::is_empty) {
            return Err(ConfigError::new("local_cluster", "is empty; leave it out instead"));
        }
        if let Some(discovery) = &self.discovery {
            discovery.check()?;
        }
        if let Some(redis) = &self.redis {
            redis::Settings::of(redis, "redis")?;
        }
        if let Some(storage) = &self.storage {
            storage.check("storage")?;
        }
        if let Some(own) = &self.vault {
            vault::Settings::of(own, "vault")?;
        }
        if let Some(own) = &self.identity {
            identity::Rules::of(own, "identity")?;
        }
        if let Some(all) = &self.cache {
            cache::Settings::of(all, "cache")?;
        }
        self.log.compile("log")?;
        self.state.check("state")?;
        self.metrics.check("metrics")?;
        self.check_sharing()?;
        for (name, service) in &self.services {
            let path = format!("services.{name}");
            service_name(name).map_err(|reason| ConfigError::new(&path, reason))?;
            self.cache_for(name)?;
            self.delivery_for(name)?;
            if let Some(discovery) = &self.discovery {
                discovery.sources(&format!("{path}.lookup.order"), &service.lookup.order)?;
            }
            if service.lookup.connect {
                self.connectable(&format!("{path}.lookup"), service)?;
            }
            for (index, endpoint) in service.endpoints.iter().enumerate() {
                let field = format!("{path}.endpoints[{index}].address");
                let address = Address::parse(&endpoint.address)
                    .map_err(|e| ConfigError::new(&field, e.to_string()))?;
                if !address.is_http() {
                    return Err(ConfigError::new(&field, "is not an http or https address"));
                }
            }
            for (profile, policy) in &service.profiles {
                Rules::of(policy, &format!("{path}.profiles.{profile}"))?;
            }
            if let Some(own) = &service.policy {
                let own = Rules::of(own, &format!("{path}.policy"))?;
                if own.attempt < policy.connect {
                    return Err(ConfigError::new(
                        format!("{path}.policy.deadline.attempt"),
                        format!(
                            "{} is shorter than the client's policy.deadline.connect of {}: an \
                             attempt on a new connection could never tell which of the two failed",
                            DurationText(own.attempt),
                            DurationText(policy.connect)
                        ),
                    ));
                }
            }
        }
        for (profile, policy) in &self.profiles {
            Rules::of(policy, &format!("profiles.{profile}"))?;
        }
        let limits = &self.limits;
        if limits.body == 0 {
            return Err(ConfigError::new("limits.body", "must be at least 1 byte"));
        }
        if !(8192..=1 << 24).contains(&limits.head) {
            return Err(ConfigError::new("limits.head", "must be between 8 KiB and 16 MiB"));
        }
        field::At("limits").span("idle_timeout", limits.idle_timeout).map(drop)
    }
}

/// Checks the name of a service that was not in the configuration.
///
/// # Errors
/// A name that cannot be one.
pub fn check_service_name(name: &str) -> Result<(), ConfigError> {
    service_name(name).map_err(|reason| ConfigError::new("service name", reason))
}

/// Whether `name` can name a service: 1–128 visible ASCII characters without separators.
///
/// # Errors
/// What is wrong with it.
fn service_name(name: &str) -> Result<(), String> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 128 {
        return Err("a service name has 1 to 128 characters".to_owned());
    }
    if !name.bytes().all(fine) || name.starts_with('.') {
        return Err("a service name consists of letters, digits, '-', '_' and '.'".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DeliveryConfig, DiscoveryConfig, EndpointConfig, ServiceConfig};

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config =
            Config { discovery: Some(DiscoveryConfig::at("http://d:1/x")), ..Config::default() };
        config.check().unwrap();
        change(&mut config);
        config.check().unwrap_err().field
    }

    #[test]
    fn x_09_zero_and_contradiction_name_the_field() {
        let zero = Duration::ZERO;
        let s = Duration::from_secs;
        assert_eq!(refused(|c| c.policy.deadline.total = zero), "policy.deadline.total");
        assert_eq!(refused(|c| c.policy.deadline.attempt = Some(s(31))), "policy.deadline.attempt");
        assert_eq!(refused(|c| c.policy.deadline.connect = Some(s(31))), "policy.deadline.connect");
        assert_eq!(refused(|c| c.policy.deadline.total = s(8 * 86_400)), "policy.deadline.total");
        assert_eq!(refused(|c| c.policy.retry.max_attempts = 0), "policy.retry.max_attempts");
        assert_eq!(refused(|c| c.policy.retry.backoff.base = s(3)), "policy.retry.backoff.base");
        assert_eq!(refused(|c| c.policy.retry.on.statuses = vec![404]), "policy.retry.on.statuses");
        assert_eq!(refused(|c| c.policy.budget.ratio = f64::NAN), "policy.budget.ratio");
        assert_eq!(refused(|c| c.policy.budget.ratio = -0.1), "policy.budget.ratio");
        assert_eq!(refused(|c| c.policy.breaker.jitter = 1.5), "policy.breaker.jitter");
        assert_eq!(refused(|c| c.policy.breaker.open = s(61)), "policy.breaker.open");
        assert_eq!(refused(|c| c.policy.stall.floor = zero), "policy.stall.floor");
        assert_eq!(refused(|c| c.discovery = None), "discovery");
        let mut policies = Config::default();
        assert!(policies.check_said().is_ok() && !policies.says_where());
        policies.policy.deadline.total = zero;
        assert_eq!(policies.check_said().unwrap_err().field, "policy.deadline.total");
        assert_eq!(refused(|c| c.local_cluster = Some(String::new())), "local_cluster");
        assert_eq!(refused(|c| c.limits.body = 0), "limits.body");
        let ttl = |c: &mut Config, ttl| c.discovery.as_mut().unwrap().ttl = ttl;
        assert_eq!(refused(|c| ttl(c, zero)), "discovery.ttl");
        assert_eq!(refused(|c| ttl(c, s(30))), "discovery.refresh_ahead");
        let delivery = |c: &mut Config| c.discovery.as_mut().unwrap().delivery.backoff = zero;
        assert_eq!(refused(delivery), "discovery.delivery.backoff");
        let own = |c: &mut Config| {
            let mut own = DeliveryConfig::default();
            own.settle = own.max_delay * 2;
            let service = ServiceConfig { delivery: Some(own), ..ServiceConfig::default() };
            c.services.insert("billing".to_owned(), service);
        };
        assert_eq!(refused(own), "services.billing.delivery.settle");
        assert_eq!(
            refused(|c| c.discovery = Some(DiscoveryConfig::at("ftp://x"))),
            "discovery.url"
        );
        let with = |address: &str| ServiceConfig {
            endpoints: vec![EndpointConfig::at(address)],
            ..ServiceConfig::default()
        };
        assert_eq!(
            refused(|c| drop(c.services.insert("billing".into(), with("billing:80")))),
            "services.billing.endpoints[0].address"
        );
        assert_eq!(
            refused(|c| drop(c.services.insert("a/b".into(), with("http://b")))),
            "services.a/b"
        );
    }

    #[test]
    fn defaults_compile_to_themselves() {
        let rules = Rules::of(&Policy::default(), "policy").unwrap();
        assert_eq!(rules, Rules::default());
        assert_eq!(rules.attempt, Duration::from_secs(10));
        assert_eq!(rules.budget.ppm, 200_000);
        let set = StatusSet::of(&[503, 999]);
        assert!(set.has(503) && !set.has(501) && !set.has(999));
    }

    #[test]
    fn budget_ratios_are_exact() {
        for (ratio, ppm) in [(0.3, 300_000), (0.75, 750_000), (0.99, 990_000), (600.0, 600_000_000)]
        {
            let mut policy = Policy::default();
            policy.budget.ratio = ratio;
            assert_eq!(Rules::of(&policy, "p").unwrap().budget.ppm, ppm);
        }
    }

    #[cfg(feature = "toml")]
    #[test]
    fn toml_round_trips_and_names_typing_errors() {
        let text = "local_cluster = \"beta\"
[policy.deadline]
total = \"1m30s\"
attempt = \"250ms\"
";
        let config = Config::from_toml(text).unwrap();
        assert_eq!(config.policy.deadline.total, Duration::from_secs(90));
        assert_eq!(config.policy.deadline.attempt, Some(Duration::from_millis(250)));
        let error = Config::from_toml("[policy.retry]\nmax_attemps = 3\n").unwrap_err();
        assert!(error.to_string().contains("line"), "{error}");
    }
}
