//! What came of a call, in the form that expectations are compared with.

use std::sync::Arc;
use std::time::Duration;

use origin_core::call::Why;
use origin_core::outcome::Outcome;
use origin_core::snapshot::Snapshot;
use origin_core::{Error, Report, Response};

use super::{Count, EndpointState, ErrorKind, Expect, SERVICE, StateStep};

/// One attempt of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Cluster of its endpoint.
    pub cluster: Arc<str>,
    /// Its address.
    pub endpoint: Arc<str>,
    /// What it met.
    pub outcome: Outcome,
}

/// What came of one call.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The status of the answer, or the kind of the error.
    pub result: Result<u16, ErrorKind>,
    /// The reason within the error.
    pub why: Option<Why>,
    /// The attempts in order. Errors without a report have none.
    pub attempts: Vec<Attempted>,
    /// Clusters the error names, tried or skipped.
    pub named: Vec<Arc<str>>,
    /// From begin to end.
    pub elapsed: Duration,
    /// The error as people read it.
    pub text: String,
}

impl Observed {
    /// What a real driver returned, after `elapsed`.
    #[must_use]
    pub fn of(result: &Result<Response, Error>, elapsed: Duration) -> Observed {
        let report = match result {
            Ok(response) => Some(&response.report),
            Err(Error::Status { report, .. }) => Some(&**report),
            Err(error) => error.failure().map(|failure| &failure.report),
        };
        let failure = result.as_ref().err().and_then(Error::failure);
        let attempts = report.map(attempts).unwrap_or_default();
        let skipped = failure.into_iter().flat_map(|f| &f.skipped).map(|s| s.cluster.clone());
        Observed {
            result: match result {
                Ok(response) => Ok(response.status.as_u16()),
                Err(error) => Err(ErrorKind::of(error)),
            },
            why: failure.map(|failure| failure.why),
            named: attempts.iter().map(|a| a.cluster.clone()).chain(skipped).collect(),
            attempts,
            elapsed,
            text: result.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

fn attempts(report: &Report) -> Vec<Attempted> {
    let attempted = report.attempts.iter().map(|a| Attempted {
        cluster: a.cluster.clone(),
        endpoint: a.endpoint.clone(),
        outcome: a.outcome,
    });
    attempted.collect()
}

impl Count {
    /// Whether `number` is allowed.
    #[must_use]
    pub fn allows(self, number: u64) -> bool {
        match self {
            Count::Exactly(exactly) => number == exactly,
            Count::Within { at_least, at_most } => (at_least..=at_most).contains(&number),
        }
    }
}

/// Collects what does not fit.
struct Misfits(Vec<String>);

impl Misfits {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, expected: Option<T>, got: T) {
        if let Some(expected) = expected
            && expected != got
        {
            self.0.push(format!("{what}: expected {expected:?}, got {got:?}"));
        }
    }

    fn count(&mut self, what: &str, expected: Option<Count>, got: u64) {
        if let Some(expected) = expected
            && !expected.allows(got)
        {
            self.0.push(format!("{what}: expected {expected:?}, got {got}"));
        }
    }

    fn end(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0.join("; ")) }
    }
}

impl Expect {
    /// Compares what came of a call with what has to. `slack` is what a real clock may add.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub fn check(&self, got: &Observed, slack: Duration) -> Result<(), String> {
        let mut misfits = Misfits(Vec::new());
        misfits.same("status", self.status.map(Some), got.result.ok());
        misfits.same("error", self.error.map(Some), got.result.err());
        misfits.same("why", self.why.map(Some), got.why);
        misfits.count("attempts", self.attempts, got.attempts.len() as u64);
        let path: Vec<String> = got.attempts.iter().map(|a| a.cluster.to_string()).collect();
        misfits.same("cluster", self.cluster.as_ref().map(Some), path.last());
        misfits.same("path", self.path.as_ref(), &path);
        let last = got.attempts.last().map(|a| a.outcome.to_string());
        misfits.same("last", self.last.clone().map(Some), last);
        for name in &self.names {
            misfits.same(name, Some(true), got.named.iter().any(|n| **n == **name));
        }
        if self.no_sooner.is_some_and(|span| got.elapsed < span) {
            misfits.0.push(format!("took {:?}, too short", got.elapsed));
        }
        if self.no_later.is_some_and(|span| got.elapsed > span + slack) {
            misfits.0.push(format!("took {:?}, too long", got.elapsed));
        }
        misfits.end().map_err(|e| format!("{e}\n  in {got:?}"))
    }
}

/// What a runner knows besides the snapshot: addresses and the servers' own counts.
pub(super) struct Servers<'a> {
    pub(super) address: &'a dyn Fn(&str, usize) -> String,
    pub(super) requests: &'a dyn Fn(&str, usize) -> u64,
    pub(super) discovery_requests: u64,
}

impl StateStep {
    /// Compares a snapshot with what it has to show.
    pub(super) fn check(
        &self,
        snapshot: &Snapshot,
        clusters: &[&str],
        servers: &Servers<'_>,
    ) -> Result<(), String> {
        let mut misfits = Misfits(Vec::new());
        misfits.count("discovery requests", self.discovery_requests, servers.discovery_requests);
        let stale = snapshot.discovery.iter().any(|source| source.stale);
        misfits.same("stale", self.stale, stale);
        for (event, count) in &self.notices {
            let is = |notice: &&origin_core::notice::Notice| {
                serde_json::to_value(notice)
                    .is_ok_and(|value| value["event"].as_str() == Some(event.as_str()))
            };
            let found = snapshot.notices.iter().filter(is).count() as u64;
            misfits.count(event, Some(*count), found);
        }
        let Some(service) = snapshot.service(SERVICE) else {
            return misfits.end();
        };
        let of = |address: &Arc<str>| -> String {
            let is = |name: &&&str| (0..16).any(|n| *(servers.address)(name, n) == **address);
            clusters.iter().find(is).map_or_else(|| "?".to_owned(), |name| (*name).to_owned())
        };
        let named = |list: &[Arc<str>]| list.iter().map(of).collect::<Vec<_>>();
        misfits.same("health", self.health, service.health);
        misfits.same("active", self.active.as_deref().map(Some), service.active_cluster.as_deref());
        misfits.same("last_success", self.last_success, service.last_success.is_some());
        misfits.count("failed_attempts", self.failed_attempts, service.failed_attempts);
        misfits.count(
            "failed_since_success",
            self.failed_since_success,
            service.failed_since_success,
        );
        misfits.same("primary", self.primary.clone(), named(&service.primary));
        misfits.same("backups", self.backups.clone(), named(&service.backups));
        for expected in &self.endpoints {
            let EndpointState { cluster, endpoint, .. } = expected;
            let what = |part: &str| format!("{cluster}[{endpoint}] {part}");
            let requests = (servers.requests)(cluster, *endpoint);
            misfits.count(&what("requests"), expected.requests, requests);
            let address = (servers.address)(cluster, *endpoint);
            let Some(got) = service.endpoints.iter().find(|e| *e.address == *address) else {
                misfits.0.push(what("is not known to the client"));
                continue;
            };
            misfits.same(&what("breaker"), expected.breaker.as_deref(), got.breaker.word());
            misfits.same(&what("last_success"), expected.last_success, got.last_success.is_some());
            misfits.count(&what("failed_attempts"), expected.failed_attempts, got.failed_attempts);
        }
        misfits.end()
    }
}
