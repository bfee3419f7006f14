//! Playing a scenario: the steps in order, each compared at once. Written on [`Stage`], so that
//! the simulator and every real driver are judged by the same lines.

use std::time::Duration;

use origin_core::snapshot::Snapshot;
use origin_lab::Mode;

use super::check::Servers;
use super::{CallStep, Observed, PublishStep, Scenario, Step};

/// What a runner has to be able to do. It is built from a [`Scenario`]: servers in their first
/// modes, the document published, the client built from [`Scenario::config`].
pub trait Stage {
    /// Makes the calls of the step, `together` or one after the other; one result for each.
    fn call(&mut self, step: &CallStep) -> Vec<Observed>;

    /// Changes the behaviour of one endpoint, or of all of its cluster.
    fn set(&mut self, cluster: &str, endpoint: Option<usize>, mode: &Mode);

    /// Changes the behaviour of the discovery server; [`Mode::Ok`] serves the document.
    fn registry(&mut self, mode: &Mode);

    /// Publishes a new document: [`Scenario::document`] makes it.
    fn publish(&mut self, publish: &PublishStep);

    /// Lets time pass.
    fn advance(&mut self, span: Duration);

    /// The client's snapshot.
    fn snapshot(&mut self) -> Snapshot;

    /// The address of an endpoint as the client was told; empty when there is none.
    fn address(&self, cluster: &str, endpoint: usize) -> String;

    /// Requests that arrived at an endpoint.
    fn requests(&self, cluster: &str, endpoint: usize) -> u64;

    /// Requests that arrived at the discovery server.
    fn discovery_requests(&self) -> u64;

    /// What its clock may add to a span: nothing in virtual time.
    fn slack(&self) -> Duration {
        Duration::ZERO
    }
}

/// Plays a scenario.
///
/// # Errors
/// The first step that went another way than expected, by its position from 1.
pub fn play(scenario: &Scenario, stage: &mut impl Stage) -> Result<(), String> {
    let clusters: Vec<&str> = scenario.clusters.iter().map(|c| c.name.as_str()).collect();
    for (number, step) in (1..).zip(&scenario.steps) {
        let failed = |e: String| format!("{}: step {number}: {e}", scenario.name);
        match step {
            Step::Call(call) => {
                let results = stage.call(call);
                if results.len() != call.count as usize {
                    return Err(failed(format!("{} results", results.len())));
                }
                for observed in &results {
                    call.expect.check(observed, stage.slack()).map_err(failed)?;
                }
            }
            Step::Set(set) => stage.set(&set.cluster, set.endpoint, &set.mode),
            Step::Registry(mode) => stage.registry(mode),
            Step::Publish(publish) => stage.publish(publish),
            Step::Advance(span) => stage.advance(*span),
            Step::State(state) => {
                let snapshot = stage.snapshot();
                let servers = Servers {
                    address: &|cluster, endpoint| stage.address(cluster, endpoint),
                    requests: &|cluster, endpoint| stage.requests(cluster, endpoint),
                    discovery_requests: stage.discovery_requests(),
                };
                state.check(&snapshot, &clusters, &servers).map_err(failed)?;
            }
        }
    }
    Ok(())
}
