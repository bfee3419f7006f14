//! The stage of real sockets: a fault server per endpoint, a registry, and a client on one of the
//! runtimes. `origin_tests::scenario::play` walks through the steps and compares.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use origin_core::call::Choice;
use origin_core::outcome::Outcome;
use origin_core::snapshot::Snapshot;
use origin_core::{Error, Response};
use origin_driver::Client;
use origin_lab::{Answer, FaultServer, Mode};
use origin_tests::scenario::{CallStep, Observed, PublishStep, Scenario, Stage};

use crate::subject::{Subject, story};

/// One attempt as the decision trace has it: where, why, what came of it.
pub(crate) type Decision = (Arc<str>, Choice, Outcome);

/// A scenario set up over real sockets.
pub(crate) struct Real<S: Subject> {
    client: Client<S>,
    scenario: Scenario,
    servers: BTreeMap<String, Vec<FaultServer>>,
    registry: FaultServer,
    document: Arc<RwLock<String>>,
    /// The attempts of each call, in the order the calls were made.
    pub(crate) trace: Vec<Vec<Decision>>,
}

impl<S: Subject> Real<S> {
    /// Starts the servers in their first modes and builds the client.
    pub(crate) fn set_up(scenario: &Scenario) -> Result<Real<S>, String> {
        let mut servers = BTreeMap::new();
        for cluster in &scenario.clusters {
            let mut started = Vec::new();
            for (index, mode) in cluster.endpoints.iter().enumerate() {
                let name = format!("{}-{index}", cluster.name);
                let server = FaultServer::named(&cluster.name, &name).map_err(|e| e.to_string())?;
                server.set(mode.clone());
                started.push(server);
            }
            servers.insert(cluster.name.clone(), started);
        }
        let address = |cluster: &str, index: usize| address_in(&servers, cluster, index);
        let document = Arc::new(RwLock::new(scenario.document(&PublishStep::default(), &address)));
        let registry = registry(document.clone()).map_err(|e| e.to_string())?;
        registry.set(scenario.registry.clone());
        let config = scenario.config(&format!("{}/api/v1/services", registry.url()), &address);
        let client = Client::<S>::builder().config(config).build().map_err(|e| e.to_string())?;
        let (scenario, trace) = (scenario.clone(), Vec::new());
        Ok(Real { client, scenario, servers, registry, document, trace })
    }

    /// What the client has to say, for a scenario that failed.
    pub(crate) fn story(&self) -> String {
        story(&self.client.snapshot(), &self.client.notices())
    }

    fn note(&mut self, result: &Result<Response, Error>, took: Duration) -> Observed {
        let report = match result {
            Ok(response) => Some(&response.report),
            Err(error) => error.failure().map(|failure| &failure.report),
        };
        let attempts = report.into_iter().flat_map(|report| &report.attempts);
        self.trace.push(attempts.map(|a| (a.cluster.clone(), a.why, a.outcome)).collect());
        Observed::of(result, took)
    }
}

fn address_in(servers: &BTreeMap<String, Vec<FaultServer>>, cluster: &str, index: usize) -> String {
    let server = servers.get(cluster).and_then(|servers| servers.get(index));
    server.map(FaultServer::url).unwrap_or_default()
}

/// A registry that serves the text as nginx would: with a validator and a `max-age`.
fn registry(document: Arc<RwLock<String>>) -> std::io::Result<FaultServer> {
    FaultServer::with_handler(Arc::new(move |request| {
        let text = document.read().unwrap_or_else(PoisonError::into_inner).clone();
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let etag = format!("\"{hash:016x}\"");
        let answer = match request.has_match(&etag) {
            true => Answer::new(304),
            false => Answer::bytes(200, "application/json", text),
        };
        answer.header("ETag", &etag).header("Cache-Control", "max-age=300")
    }))
}

/// The call of a step, as a reply of its runtime.
fn call<S: Subject>(client: &Client<S>, step: &CallStep) -> S::Reply<Response> {
    let upstream = match client.service(&step.service) {
        Ok(upstream) => upstream,
        Err(error) => return S::ready(Err(error)),
    };
    let mut request = upstream.request(step.method.parse().unwrap(), &step.path);
    if let Some(idempotent) = step.idempotent {
        request = request.idempotent(idempotent);
    }
    if let Some(total) = step.total {
        request = request.timeout(total);
    }
    request.send()
}

impl<S: Subject> Stage for Real<S> {
    fn call(&mut self, step: &CallStep) -> Vec<Observed> {
        let count = step.count as usize;
        if step.together {
            let results = S::together(count, |_| call(&self.client, step));
            return results.iter().map(|(result, took)| self.note(result, *took)).collect();
        }
        let one = |_| {
            let began = Instant::now();
            let result = S::wait(call(&self.client, step));
            let took = began.elapsed();
            self.note(&result, took)
        };
        (0..count).map(one).collect()
    }

    fn set(&mut self, cluster: &str, endpoint: Option<usize>, mode: &Mode) {
        let servers = self.servers.get(cluster).into_iter().flatten().enumerate();
        for (_, server) in servers.filter(|(index, _)| endpoint.is_none_or(|only| only == *index)) {
            server.set(mode.clone());
        }
        // Connections killed by the change are seen as such before the next call uses them.
        thread::sleep(Duration::from_millis(30));
    }

    fn registry(&mut self, mode: &Mode) {
        self.registry.set(mode.clone());
        thread::sleep(Duration::from_millis(30));
    }

    fn publish(&mut self, publish: &PublishStep) {
        let address = |cluster: &str, index: usize| address_in(&self.servers, cluster, index);
        let text = self.scenario.document(publish, &address);
        *self.document.write().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn advance(&mut self, span: Duration) {
        thread::sleep(span);
    }

    fn snapshot(&mut self) -> Snapshot {
        self.client.snapshot()
    }

    fn address(&self, cluster: &str, endpoint: usize) -> String {
        address_in(&self.servers, cluster, endpoint)
    }

    fn requests(&self, cluster: &str, endpoint: usize) -> u64 {
        let server = self.servers.get(cluster).and_then(|servers| servers.get(endpoint));
        server.map_or(0, FaultServer::request_count)
    }

    fn discovery_requests(&self) -> u64 {
        self.registry.request_count()
    }

    fn slack(&self) -> Duration {
        Duration::from_millis(750)
    }
}
