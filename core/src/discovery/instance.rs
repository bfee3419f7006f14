//! What a discovery source says about one instance of a service, the same for all sources. How
//! instances become candidates in failover order is in [`super::plan`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Role;
use crate::address::Address;

/// What a source thinks of an instance.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing is known; used like a good one.
    #[default]
    Unknown,
    /// All its checks pass.
    Passing,
    /// It works, and something is wrong: used when no better one is left.
    Warning,
    /// It does not work.
    Critical,
}

/// One instance of a service as a source names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Names it within its source: Consul's service id; elsewhere the address.
    pub id: Arc<str>,
    /// The cluster (datacenter, priority class) it belongs to.
    pub cluster: Arc<str>,
    /// What the source says that cluster is. The local cluster is recognised by its name.
    #[serde(default)]
    pub role: Role,
    /// Where it is.
    pub address: Address,
    /// Path that answers whether it is healthy, if the source knows one.
    #[serde(default)]
    pub health: Option<Arc<str>>,
    /// What the source thinks of it.
    #[serde(default)]
    pub condition: Condition,
    /// Its share of the calls, where the balancer heeds weights. Usually 1.
    pub weight: u32,
    /// Labels, in the order of the source.
    #[serde(default)]
    pub tags: Vec<Arc<str>>,
    /// What is known about it, for routes: zone, version.
    #[serde(default)]
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
}

impl Instance {
    /// An instance of which nothing more is known; its id is its address.
    #[must_use]
    pub fn new(cluster: Arc<str>, role: Role, address: Address) -> Instance {
        Instance {
            id: address.as_str().into(),
            cluster,
            role,
            address,
            health: None,
            condition: Condition::Unknown,
            weight: 1,
            tags: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }
}
