//! The simulator as a stage for scenarios.

use std::time::Duration;

use origin_core::snapshot::Snapshot;
use origin_core::{CallSpec, Time};
use origin_lab::Mode;

use super::net::{Latency, Network, REGISTRY, Server};
use super::record::Done;
use super::world::World;
use crate::scenario::{CallStep, Observed, PublishStep, Scenario, Source, Stage};

/// A simulated client with the servers of a scenario around it.
pub struct SimStage {
    scenario: Scenario,
    world: World,
}

fn address(cluster: &str, endpoint: usize) -> String {
    format!("http://{cluster}-{endpoint}.sim:80")
}

impl SimStage {
    /// Builds the servers and the client.
    ///
    /// # Errors
    /// A configuration that is refused.
    pub fn new(scenario: &Scenario, seed: u64, background: bool) -> Result<SimStage, String> {
        let mut network = Network::new(seed);
        for cluster in &scenario.clusters {
            for (index, mode) in cluster.endpoints.iter().enumerate() {
                let mut server = Server::new(Latency::millis(1, 1));
                server.set(mode.clone());
                network.add(&address(&cluster.name, index), server);
            }
        }
        network.registry().set(scenario.registry.clone());
        network.publish(scenario.document(&PublishStep::default(), &address));
        let config = scenario.config(REGISTRY, &address);
        let background = background && scenario.source == Source::Discovered;
        let world = World::new(config, seed, network, background).map_err(|e| e.to_string())?;
        Ok(SimStage { scenario: scenario.clone(), world })
    }

    /// The world, for its log and its violations.
    #[must_use]
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Lets things happen until all of `calls` are over.
    fn wait(&mut self, calls: &[u64]) -> Vec<Observed> {
        let under_way = |world: &World| calls.iter().any(|call| world.flights.contains_key(call));
        while under_way(&self.world) && self.world.queue.due().is_some() {
            self.world.turn();
        }
        let find = |call: &u64| self.world.done().iter().find(|done| done.call == *call);
        calls.iter().filter_map(find).map(observed).collect()
    }
}

fn observed(done: &Done) -> Observed {
    let tried = done.attempts.iter().map(|attempt| attempt.cluster.clone());
    // Not every error carries a report: then there are neither attempts nor a reason to see.
    let silent = matches!(
        done.result,
        Err(crate::scenario::ErrorKind::Discovery
            | crate::scenario::ErrorKind::UnknownService
            | crate::scenario::ErrorKind::TooLarge)
    );
    Observed {
        result: done.result,
        why: done.why.filter(|_| !silent),
        attempts: if silent { Vec::new() } else { done.attempts.clone() },
        named: tried.chain(done.skipped.iter().cloned()).collect(),
        elapsed: done.elapsed(),
        text: format!("{done:?}"),
    }
}

impl Stage for SimStage {
    fn call(&mut self, step: &CallStep) -> Vec<Observed> {
        let method: http::Method = step.method.parse().unwrap_or_default();
        let spec = CallSpec {
            idempotent: Some(step.idempotent.unwrap_or_else(|| method.is_idempotent())),
            total: step.total,
            ..CallSpec::default()
        };
        if step.together {
            let calls: Vec<u64> =
                (0..step.count).map(|_| self.world.call(&step.service, spec)).collect();
            return self.wait(&calls);
        }
        let one = |_| {
            let call = self.world.call(&step.service, spec);
            self.wait(&[call])
        };
        (0..step.count).flat_map(one).collect()
    }

    fn set(&mut self, cluster: &str, endpoint: Option<usize>, mode: &Mode) {
        let count = self.scenario.clusters.iter().find(|c| c.name == cluster);
        let count = count.map_or(0, |cluster| cluster.endpoints.len());
        for index in (0..count).filter(|index| endpoint.is_none_or(|only| only == *index)) {
            if let Some(server) = self.world.network().server(&address(cluster, index)) {
                server.set(mode.clone());
            }
        }
    }

    fn registry(&mut self, mode: &Mode) {
        self.world.network().registry().set(mode.clone());
    }

    fn publish(&mut self, publish: &PublishStep) {
        let document = self.scenario.document(publish, &address);
        self.world.network().publish(document);
    }

    fn advance(&mut self, span: Duration) {
        let until: Time = self.world.now().plus(span);
        self.world.run_until(until);
    }

    fn snapshot(&mut self) -> Snapshot {
        self.world.snapshot()
    }

    fn address(&self, cluster: &str, endpoint: usize) -> String {
        address(cluster, endpoint)
    }

    fn requests(&self, cluster: &str, endpoint: usize) -> u64 {
        self.world.network.requests(&address(cluster, endpoint))
    }

    fn discovery_requests(&self) -> u64 {
        self.world.network.registry_requests()
    }
}
