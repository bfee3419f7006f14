//! The stall of the comparison: the local cluster accepts and never answers for three seconds,
//! 200 requests a second, 250 ms attempt timeout, 600 requests. What others need for it is in the
//! issue's table; what Origin needs is counted here.

use std::time::Duration;

use origin_core::config::{DiscoveryConfig, Policy};
use origin_core::outcome::{Fault, Outcome};
use origin_core::{CallSpec, Config, ConfigError, Time};
use origin_lab::Mode;

use super::net::{Latency, Network, REGISTRY, Server};
use super::outage::{address, document};
use super::world::{Load, Turn, World};

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Stall {
    /// The seed.
    pub seed: u64,
    /// The policy of the client.
    pub policy: Policy,
    /// Latency of healthy answers.
    pub latency: Latency,
    /// Calls per second.
    pub per_second: u32,
    /// Whether the driver can wake a waiting call.
    pub background: bool,
    /// Endpoints of each cluster.
    pub endpoints: usize,
    /// How long the local cluster hangs; zero: not at all.
    pub hang: Duration,
}

/// What a stall cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Calls during the stall.
    pub calls: usize,
    /// Calls that failed.
    pub failed: usize,
    /// Calls slower than 50 ms.
    pub slow: usize,
    /// Attempts that brought nothing.
    pub wasted: usize,
    /// From the end of the stall until the local cluster answers a call.
    pub back: Duration,
}

const BEGIN: Time = Time::from_millis(2_000);

impl Stall {
    /// The scenario of the comparison.
    #[must_use]
    pub fn new(seed: u64) -> Stall {
        let mut policy = Policy::default();
        policy.deadline.total = Duration::from_secs(5);
        policy.deadline.attempt = Some(Duration::from_millis(250));
        policy.deadline.connect = Some(Duration::from_millis(250));
        Stall {
            seed,
            policy,
            latency: Latency::millis(1, 2),
            per_second: 200,
            background: true,
            endpoints: 2,
            hang: Duration::from_secs(3),
        }
    }

    /// Runs it: two seconds of calm, the stall, three seconds of calm.
    ///
    /// # Errors
    /// A policy that is refused.
    pub fn run(&self) -> Result<(World, Cost), ConfigError> {
        let mut network = Network::new(self.seed);
        for cluster in ["alpha", "beta", "gamma"] {
            for instance in 0..self.endpoints {
                network.add(&address(cluster, instance), Server::new(self.latency));
            }
        }
        network.publish(document(self.endpoints));
        let config = Config {
            local_cluster: Some("beta".into()),
            discovery: Some(DiscoveryConfig::at(REGISTRY)),
            policy: self.policy.clone(),
            ..Config::default()
        };
        let mut world = World::new(config, self.seed, network, self.background)?;
        let healed = BEGIN.plus(self.hang);
        let hanging = if self.hang.is_zero() { 0 } else { self.endpoints };
        for instance in 0..hanging {
            let to = address("beta", instance);
            world.plan(BEGIN, Turn::Server(to.clone(), Mode::HangBeforeHead));
            world.plan(healed, Turn::Server(to, Mode::Ok));
        }
        let end = healed.plus(Duration::from_secs(3));
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
        let cost = cost(&world, healed);
        Ok((world, cost))
    }
}

fn cost(world: &World, healed: Time) -> Cost {
    let during = || world.done().iter().filter(|d| d.began >= BEGIN && d.began < healed);
    let lost = |outcome: &Outcome| {
        matches!(
            outcome,
            Outcome::Failed { fault: Fault::Timeout | Fault::Stalled | Fault::Outrun, .. }
        )
    };
    let local_again = world.done().iter().filter(|done| {
        done.ended >= healed
            && done.is_ok()
            && done.attempts.last().is_some_and(|attempt| &*attempt.cluster == "beta")
    });
    Cost {
        calls: during().count(),
        failed: during().filter(|done| !done.is_ok()).count(),
        slow: during().filter(|done| done.elapsed() > Duration::from_millis(50)).count(),
        wasted: during().flat_map(|done| &done.attempts).filter(|a| lost(&a.outcome)).count(),
        back: local_again.map(|done| done.ended.since(healed)).min().unwrap_or(Duration::MAX),
    }
}
