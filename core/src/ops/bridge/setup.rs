//! The configuration that the contracts ask for with these two services, as far as nobody has said
//! otherwise: where they are, how long they may take, how calls are repeated and broken, what is
//! remembered.

use std::time::Duration;

use super::{stamping, tree};
use crate::config::{CacheConfig, Config, ConfigError, EndpointConfig, Policy};

/// Variable of the stamping service's base URL.
pub const STAMPING_URL_VARIABLE: &str = "METADATA_STAMPING_SERVICE_URL";
/// Variable of `OnexTree`'s base URL.
pub const TREE_URL_VARIABLE: &str = "ONEXTREE_SERVICE_URL";
/// Base URL of the stamping service, where none is given.
pub const STAMPING_URL: &str = "http://localhost:8053";
/// Base URL of `OnexTree`, where none is given.
pub const TREE_URL: &str = "http://localhost:8054";

/// Variable of the seconds that a call of the stamping service may take, repetitions included.
pub const STAMPING_TIMEOUT_VARIABLE: &str = "METADATA_STAMPING_CLIENT_TIMEOUT_SECONDS";
/// Variable of the seconds that a question for intelligence may take.
pub const INTELLIGENCE_TIMEOUT_VARIABLE: &str = "ONEXTREE_INTELLIGENCE_TIMEOUT_SECONDS";
/// Variable of the seconds that a health check of the stamping service may take.
pub const STAMPING_HEALTH_TIMEOUT_VARIABLE: &str = "METADATA_STAMPING_HEALTH_CHECK_TIMEOUT_SECONDS";
/// Variable of the seconds that a health check of `OnexTree` may take.
pub const TREE_HEALTH_TIMEOUT_VARIABLE: &str = "ONEXTREE_HEALTH_CHECK_TIMEOUT_SECONDS";

/// How long connecting may take where nobody says it.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest span that a variable may give.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is looked for of one service.
struct Wants {
    name: &'static str,
    url: (&'static str, &'static str),
    /// Variable of the limit of all its operations.
    timeout: Option<&'static str>,
    /// Operations with a limit of their own, and its variable.
    limited: &'static [(&'static str, &'static str)],
    cached: bool,
}

const BOTH: [Wants; 2] = [
    Wants {
        name: stamping::SERVICE,
        url: (STAMPING_URL_VARIABLE, STAMPING_URL),
        timeout: Some(STAMPING_TIMEOUT_VARIABLE),
        limited: &[("health_check", STAMPING_HEALTH_TIMEOUT_VARIABLE)],
        cached: false,
    },
    Wants {
        name: tree::SERVICE,
        url: (TREE_URL_VARIABLE, TREE_URL),
        timeout: None,
        limited: &[
            ("get_intelligence", INTELLIGENCE_TIMEOUT_VARIABLE),
            ("health_check", TREE_HEALTH_TIMEOUT_VARIABLE),
        ],
        cached: true,
    },
];

/// Fills in what is missing for the two services:
///
/// - their endpoints, if they have none: what `variable` says of [`STAMPING_URL_VARIABLE`] and
///   [`TREE_URL_VARIABLE`]; without that, and without discovery, the usual ones on this machine;
/// - their policies, if they have none of their own: the preset `omninode`, which is 3 attempts
///   after 1 s and 2 s within 30 s, a breaker that opens after 5 failures for 60 s, and 100 calls
///   at a time, while others wait; [`STAMPING_TIMEOUT_VARIABLE`] says another span than 30 s, and
///   one below a second is the limit of connecting as well, where that has none;
/// - profiles called `get_intelligence` and `health_check`, which those operations are under, where
///   [`INTELLIGENCE_TIMEOUT_VARIABLE`], [`STAMPING_HEALTH_TIMEOUT_VARIABLE`] and
///   [`TREE_HEALTH_TIMEOUT_VARIABLE`] name a span and there are no such profiles;
/// - the cache of `OnexTree`, if nothing is said of one: 1 000 answers for 300 s, and when there
///   are more a fifth goes at once.
///
/// ```
/// use origin_core::Config;
/// use origin_core::ops::bridge::configure;
///
/// let mut config = Config::default();
/// configure(&mut config, |_| None)?;
/// assert_eq!(config.services["onextree"].endpoints[0].address, "http://localhost:8054");
/// config.check()?;
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
///
/// # Errors
/// [`ConfigError`] that names the variable whose value is no number of seconds above 0 and up to a
/// day. An empty one counts as unset.
pub fn configure(
    config: &mut Config,
    mut variable: impl FnMut(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let discovered = config.discovery.is_some();
    let cached = config.cache.is_some();
    let mut shortest = None;
    for wants in &BOTH {
        let service = config.services.entry(wants.name.to_owned()).or_default();
        if service.endpoints.is_empty() {
            let (key, usual) = wants.url;
            let given = variable(key).filter(|url| !url.trim().is_empty());
            let usual = (!discovered).then(|| usual.to_owned());
            if let Some(url) = given.or(usual) {
                let url = url.trim().trim_end_matches('/');
                service.endpoints.push(EndpointConfig::at(url));
            }
        }
        if service.policy.is_none() {
            let limit = wants.timeout.map(|key| span(&mut variable, key)).transpose()?.flatten();
            service.policy = Policy::preset("omninode").map(|policy| {
                let mut policy = within(policy, limit);
                // Who has waited for a place still needs the time of an attempt.
                let wait = policy.deadline.total / 3 * 2;
                policy.queue.max_wait = policy.queue.max_wait.min(wait);
                policy.queue.target = policy.queue.target.min(wait);
                policy
            });
            shortest = limit.or(shortest);
        }
        for (operation, key) in wants.limited {
            if service.profiles.contains_key(*operation) {
                continue;
            }
            if let (limit @ Some(_), Some(policy)) = (span(&mut variable, key)?, &service.policy) {
                let profile = within(policy.clone(), limit);
                service.profiles.insert((*operation).to_owned(), profile);
            }
        }
        if wants.cached && service.cache.is_none() && !cached {
            service.cache = Some(CacheConfig::default());
        }
    }
    // Connecting has one limit for the whole client, and an attempt must not be shorter.
    let connect = &mut config.policy.deadline.connect;
    *connect = connect.or(shortest.filter(|limit| *limit < CONNECT));
    Ok(())
}

/// The seconds that a variable says.
fn span(
    mut variable: impl FnMut(&str) -> Option<String>,
    key: &str,
) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = variable(key).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let seconds = text.trim().parse().ok();
    let span = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match span.filter(|span| !span.is_zero() && *span <= LONGEST) {
        Some(span) => Ok(Some(span)),
        // Not the value: a variable may have got another's.
        None => Err(ConfigError::new(key, "must be a number of seconds, above 0 and up to 86400")),
    }
}

/// A policy whose calls end within this; no single part of them may take longer.
fn within(mut policy: Policy, limit: Option<Duration>) -> Policy {
    if let Some(limit) = limit {
        policy.deadline.total = limit;
        policy.deadline.attempt = Some(limit);
    }
    policy
}
