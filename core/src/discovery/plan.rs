//! Failover order: local cluster, then the primary, then every backup in the order of the
//! document; no cluster twice (000-08…12).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::document::MOST_CLUSTERS;
use super::{Condition, Instance, Role};
use crate::address::Address;
use crate::config::{ConfigError, ServiceConfig};

/// What a cluster is to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The cluster this program runs in.
    Local,
    /// The primary, where that is not the local one.
    Primary,
    /// Any other.
    Backup,
}

/// One endpoint a service may be called at. A list of these is in failover order: clusters in
/// order of preference, the endpoints of one cluster next to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Name of its cluster.
    pub cluster: Arc<str>,
    /// What that cluster is to this client.
    pub place: Place,
    /// Where it is.
    pub address: Address,
    /// Path that answers whether it is healthy, if known.
    pub health: Option<Arc<str>>,
    /// What its source thinks of it.
    pub condition: Condition,
    /// Its share of the calls, where the balancer heeds weights. Usually 1.
    pub weight: u32,
    /// What is known about it, for routes: zone, version.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
}

impl Candidate {
    /// An endpoint of which nothing more is known.
    #[must_use]
    pub fn new(cluster: Arc<str>, place: Place, address: Address) -> Candidate {
        let (condition, metadata) = (Condition::Unknown, BTreeMap::new());
        Candidate { cluster, place, address, health: None, condition, weight: 1, metadata }
    }
}

/// The clusters in order of preference. The first one with role primary is the primary; a second
/// one, or one without a known role, is a backup. A name that occurs twice counts once.
pub(super) fn order(clusters: &[(Arc<str>, Role)], local: Option<&str>) -> Vec<(Arc<str>, Place)> {
    let mut ordered: Vec<(Arc<str>, Place)> = Vec::with_capacity(clusters.len());
    let mut take = |name: &Arc<str>, place| {
        if !ordered.iter().any(|(seen, _)| seen == name) {
            ordered.push((name.clone(), place));
        }
    };
    if let Some((name, _)) = clusters.iter().find(|(name, _)| Some(&**name) == local) {
        take(name, Place::Local);
    }
    if let Some((name, _)) = clusters.iter().find(|(_, role)| *role == Role::Primary) {
        take(name, Place::Primary);
    }
    for (name, _) in clusters {
        take(name, Place::Backup);
    }
    ordered
}

/// Instances as candidates, in failover order: by the clusters they name, in the order in which
/// these appear.
#[must_use]
pub fn candidates(instances: &[Instance], local: Option<&str>) -> Vec<Candidate> {
    let mut clusters: Vec<(Arc<str>, Role)> = Vec::new();
    for instance in instances {
        // Clusters beyond the bound are no use to anybody: no failover order is that long.
        let known = clusters.iter().any(|(name, _)| *name == instance.cluster);
        if !known && clusters.len() < MOST_CLUSTERS {
            clusters.push((instance.cluster.clone(), instance.role));
        }
    }
    let mut found = Vec::with_capacity(instances.len());
    for (cluster, place) in order(&clusters, local) {
        for instance in instances.iter().filter(|instance| instance.cluster == cluster) {
            found.push(Candidate {
                health: instance.health.clone(),
                condition: instance.condition,
                weight: instance.weight,
                metadata: instance.metadata.clone(),
                ..Candidate::new(cluster.clone(), place, instance.address.clone())
            });
        }
    }
    found
}

/// The endpoints of a service that configuration knows, in the same order.
///
/// # Errors
/// The first address that is none, by its field.
pub fn configured(
    name: &str,
    service: &ServiceConfig,
    local: Option<&str>,
) -> Result<Vec<Candidate>, ConfigError> {
    let clusters: Vec<(Arc<str>, Role)> =
        service.endpoints.iter().map(|e| (e.cluster.as_str().into(), e.role)).collect();
    let mut found = Vec::with_capacity(service.endpoints.len());
    for (cluster, place) in order(&clusters, local) {
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            if *endpoint.cluster != *cluster {
                continue;
            }
            let field = || format!("services.{name}.endpoints[{index}].address");
            let address = Address::parse(&endpoint.address)
                .map_err(|e| ConfigError::new(field(), e.to_string()))?;
            let tag =
                |(key, value): (&String, &String)| (key.as_str().into(), value.as_str().into());
            found.push(Candidate {
                weight: endpoint.weight,
                metadata: endpoint.metadata.iter().map(tag).collect(),
                ..Candidate::new(cluster.clone(), place, address)
            });
        }
    }
    Ok(found)
}

/// Injected endpoints in the same order, as if a document had named them.
#[must_use]
pub fn injected(endpoints: &[(Arc<str>, Role, Address)], local: Option<&str>) -> Vec<Candidate> {
    let clusters: Vec<(Arc<str>, Role)> =
        endpoints.iter().map(|(name, role, _)| (name.clone(), *role)).collect();
    let mut found = Vec::with_capacity(endpoints.len());
    for (cluster, place) in order(&clusters, local) {
        for (_, _, address) in endpoints.iter().filter(|(name, _, _)| *name == cluster) {
            let address = address.clone();
            found.push(Candidate::new(cluster.clone(), place, address));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No cluster twice, none lost; local first if known; at most one primary, ahead of all
        /// backups; backups in document order.
        #[test]
        fn order_holds(names in proptest::collection::vec((0_u8..12, any::<bool>()), 0..20), local in 0_u8..14) {
            let clusters: Vec<(Arc<str>, Role)> = names.iter()
                .map(|(n, p)| (Arc::from(n.to_string()), if *p { Role::Primary } else { Role::Backup })).collect();
            let local = local.to_string();
            let got = order(&clusters, Some(&local));
            let mut unique: Vec<&Arc<str>> = clusters.iter().map(|(n, _)| n).collect();
            unique.sort();
            unique.dedup();
            let mut names: Vec<&Arc<str>> = got.iter().map(|(n, _)| n).collect();
            names.sort();
            prop_assert_eq!(names, unique);
            let places: Vec<Place> = got.iter().map(|(_, p)| *p).collect();
            prop_assert!(places.is_sorted());
            prop_assert!(places.iter().filter(|p| **p == Place::Primary).count() <= 1);
            prop_assert_eq!(places.first() == Some(&Place::Local), clusters.iter().any(|(n, _)| **n == *local));
            let first = |n: &Arc<str>| clusters.iter().position(|(m, _)| m == n);
            let backups: Vec<_> = got.iter().filter(|(_, p)| *p == Place::Backup).map(|(n, _)| first(n)).collect();
            prop_assert!(backups.is_sorted());
        }
    }
}
