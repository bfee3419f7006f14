//! The configuration that the contracts ask for with these two services, as far as nobody has said
//! otherwise: where they are, how calls are repeated and broken, what is remembered.

use super::{stamping, tree};
use crate::config::{CacheConfig, Config, EndpointConfig, Policy};

/// Variable of the stamping service's base URL.
pub const STAMPING_URL_VARIABLE: &str = "METADATA_STAMPING_SERVICE_URL";
/// Variable of `OnexTree`'s base URL.
pub const TREE_URL_VARIABLE: &str = "ONEXTREE_SERVICE_URL";
/// Base URL of the stamping service, where none is given.
pub const STAMPING_URL: &str = "http://localhost:8053";
/// Base URL of `OnexTree`, where none is given.
pub const TREE_URL: &str = "http://localhost:8054";

/// Fills in what is missing for the two services:
///
/// - their endpoints, if they have none: what `variable` says of [`STAMPING_URL_VARIABLE`] and
///   [`TREE_URL_VARIABLE`]; without that, and without discovery, the usual ones on this machine;
/// - their policies, if they have none of their own: the preset `omninode`, which is 3 attempts
///   after 1 s and 2 s within 30 s and a breaker that opens after 5 failures for 60 s;
/// - the cache of `OnexTree`, if nothing is said of one: 1 000 answers for 300 s, and when there
///   are more a fifth goes at once.
///
/// ```
/// use origin_core::Config;
/// use origin_core::ops::bridge::configure;
///
/// let mut config = Config::default();
/// configure(&mut config, |_| None);
/// assert_eq!(config.services["onextree"].endpoints[0].address, "http://localhost:8054");
/// assert!(config.check().is_ok());
/// ```
pub fn configure(config: &mut Config, mut variable: impl FnMut(&str) -> Option<String>) {
    let discovered = config.discovery.is_some();
    let cached = config.cache.is_some();
    let mut fill = |name: &str, key: &str, usual: &str| {
        let service = config.services.entry(name.to_owned()).or_default();
        if service.endpoints.is_empty() {
            let given = variable(key).filter(|url| !url.trim().is_empty());
            let usual = (!discovered).then(|| usual.to_owned());
            if let Some(url) = given.or(usual) {
                let url = url.trim().trim_end_matches('/');
                service.endpoints.push(EndpointConfig::at(url));
            }
        }
        if service.policy.is_none() {
            service.policy = Policy::preset("omninode");
        }
        if name == tree::SERVICE && service.cache.is_none() && !cached {
            service.cache = Some(CacheConfig::default());
        }
    };
    fill(stamping::SERVICE, STAMPING_URL_VARIABLE, STAMPING_URL);
    fill(tree::SERVICE, TREE_URL_VARIABLE, TREE_URL);
}
