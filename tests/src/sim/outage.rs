//! The outage of the demonstration in virtual time: three clusters with two instances each, one
//! local instance answers 503, the whole local cluster refuses, the primary hangs as well, all
//! heals. The script is `origin_lab::Outage`, the same that the demonstration runs on sockets.

use std::time::Duration;

use origin_core::config::{DiscoveryConfig, Policy};
use origin_core::{CallSpec, Config, ConfigError, Time};
use origin_lab::Outage;

use super::net::{Latency, Network, REGISTRY, Server};
use super::world::{Load, Turn, World};

/// The clusters of the demonstration: alpha is the primary, beta the local one.
pub const CLUSTERS: [(&str, &str); 3] =
    [("alpha", "primary"), ("beta", "backup"), ("gamma", "backup")];

/// The address of an instance.
#[must_use]
pub fn address(cluster: &str, instance: usize) -> String {
    format!("http://{cluster}-{instance}.sim:80")
}

/// The policy of the demonstration.
#[must_use]
pub fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.deadline.total = Duration::from_secs(5);
    policy.deadline.attempt = Some(Duration::from_secs(1));
    policy.breaker.open = Duration::from_millis(500);
    policy.breaker.open_max = Duration::from_secs(2);
    policy
}

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The seed.
    pub seed: u64,
    /// The policy of the client.
    pub policy: Policy,
    /// Calls per second.
    pub per_second: u32,
    /// Latency of healthy answers.
    pub latency: Latency,
    /// The script.
    pub script: Outage,
}

impl Demo {
    /// The demonstration as it is shown: 20 seconds, 200 calls a second.
    #[must_use]
    pub fn new(seed: u64) -> Demo {
        Demo {
            seed,
            policy: policy(),
            per_second: 200,
            latency: Latency::millis(1, 2),
            script: Outage::default(),
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// A policy that is refused.
    pub fn run(&self) -> Result<World, ConfigError> {
        let mut network = Network::new(self.seed);
        for (cluster, _) in CLUSTERS {
            for instance in 0..2 {
                network.add(&address(cluster, instance), Server::new(self.latency));
            }
        }
        network.publish(document(2));
        let config = Config {
            local_cluster: Some(self.script.local.clone()),
            discovery: Some(DiscoveryConfig::at(REGISTRY)),
            policy: self.policy.clone(),
            ..Config::default()
        };
        let mut world = World::new(config, self.seed, network, true)?;
        for phase in &self.script.phases {
            let at = Time::ZERO.plus(phase.at);
            world.plan(at, Turn::Phase(phase.name.clone()));
            for action in &phase.actions {
                for instance in (0..2).filter(|n| action.instance.is_none_or(|only| only == *n)) {
                    let to = address(&action.cluster, instance);
                    world.plan(at, Turn::Server(to, action.mode.clone()));
                }
            }
        }
        let end = Time::ZERO.plus(self.script.duration);
        world.load(Load {
            service: "billing".into(),
            per_second: self.per_second,
            from: Time::ZERO,
            until: end,
            spec: CallSpec { idempotent: Some(true), ..CallSpec::default() },
            dropped_permille: 0,
        });
        world.run_until(end);
        world.settle(end.plus(Duration::from_secs(30)));
        Ok(world)
    }

    /// When the phase of this name begins; the end of the run if there is none.
    #[must_use]
    pub fn begin_of(&self, phase: &str) -> Time {
        let found = self.script.phases.iter().find(|p| p.name == phase);
        Time::ZERO.plus(found.map_or(self.script.duration, |phase| phase.at))
    }
}

pub(super) fn document(instances: usize) -> String {
    let clusters: Vec<_> = CLUSTERS
        .iter()
        .map(|(name, role)| serde_json::json!({ "name": name, "role": role }))
        .collect();
    let places: serde_json::Map<_, _> = CLUSTERS
        .iter()
        .map(|(name, _)| {
            let addresses: Vec<_> = (0..instances).map(|n| address(name, n)).collect();
            ((*name).to_owned(), serde_json::json!(addresses))
        })
        .collect();
    serde_json::json!({
        "clusters": clusters,
        "services": { "billing": { "endpoints": places, "internal_endpoints": places } },
    })
    .to_string()
}
