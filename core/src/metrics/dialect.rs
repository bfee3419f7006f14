//! From a snapshot to a page: the families of others, under their names and labels, as far as what
//! they mean is counted here. One definition of each, also where its source has several.

use std::borrow::Cow;

use super::family::Id;
use super::fill::{REGISTRATIONS, durations, endpoints, health, known, named, together, usable};
use super::page::{Page, Value};
use super::{Histogram, OTHER, Phase};
use crate::config::MetricsConfig;
use crate::snapshot::{ServiceSnapshot, Snapshot, ratio};

use Value::{Count, Millionths};

/// Calls have no names of operations here; this stands for all of them.
const CALL: &str = "call";

pub(super) fn fill<'a>(page: &mut Page<'a>, snapshot: &'a Snapshot, settings: &MetricsConfig) {
    for (name, service) in named(snapshot, settings) {
        let out: u64 = service.endpoints.iter().map(|e| u64::from(e.outstanding)).sum();
        for (address, e) in endpoints(service, settings) {
            let (labels, up) = ([name, address], Count(u64::from(usable(e))));
            page.add(Id::StdHealth, [name, address, &e.cluster], up.clone());
            page.add(Id::LbRequests, labels, Count(e.attempts));
            page.add(Id::LbErrors, labels, Count(e.failed_attempts));
            page.add(Id::LbActive, labels, Count(e.outstanding.into()));
            page.add(Id::LbHealth, labels, up);
            let share = ratio(e.outstanding.into(), out).unwrap_or(0);
            page.add(Id::LbLoad, labels, Millionths(share.into()));
            let score = match (usable(e), e.suspect || e.consecutive_failures > 0) {
                (false, _) => 0,
                (true, true) => 500_000,
                (true, false) => 1_000_000,
            };
            page.add(Id::LbScore, labels, Millionths(score));
            page.add(Id::LbCircuit, labels, state(e.breaker.into()));
        }
        let well = service.endpoints.iter().filter(|e| usable(e)).count() as u64;
        for id in [Id::ModInstances, Id::MeshHealthy, Id::LbInstances] {
            page.add(id, [name], Count(well));
        }
        if let Some(cache) = &service.cache {
            page.add(Id::StdCache, [name, "hit"], Count(cache.hits));
            page.add(Id::StdCache, [name, "miss"], Count(cache.misses));
        }
        if service.discovered {
            // A call looks up what is known; only those that had to wait did not find it.
            let cached = service.calls.saturating_sub(service.counted.parked);
            page.add(Id::ModLookups, [name, "true"], Count(cached));
            let at_once = Cow::Owned(Histogram::at_once(cached));
            page.add(Id::ModTime, [name, "true"], Value::Durations(at_once));
        }
        mesh(page, name, service);
    }
    for source in &snapshot.discovery {
        let about = known(snapshot, settings, source.service.as_ref());
        page.add(Id::StdLatency, [about, "lookup"], durations(&source.took));
        page.add(Id::ModLookups, [about, "false"], Count(source.answers + source.watched));
        page.add(Id::ModTime, [about, "false"], durations(&source.took));
        for (error, count) in &source.errors {
            page.add(Id::ModErrors, [about, "lookup", error], Count(*count));
        }
    }
    for event in &snapshot.events {
        let about = event.service.as_deref().unwrap_or(OTHER);
        match REGISTRATIONS.iter().position(|(name, _)| *name == event.event) {
            Some(0) => {
                page.add(Id::ModRegistrations, [about], Count(event.count));
                page.add(Id::MeshRegistrations, [about], Count(event.count));
            }
            Some(1) => {
                page.add(Id::ModErrors, [about, "register", "refused"], Count(event.count));
                page.add(Id::MeshRegistrationFailures, [about, "refused"], Count(event.count));
            }
            _ => (),
        }
    }
}

/// A breaker in the numbers of the mesh.
fn state<'a>(phase: Phase) -> Value<'a> {
    Count(match phase {
        Phase::Open => 0,
        Phase::HalfOpen => 1,
        Phase::Closed => 2,
    })
}

/// What is told of instances as a whole.
fn balanced<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    let all = service.endpoints.len() as u64;
    let well = service.endpoints.iter().filter(|e| usable(e)).count() as u64;
    if let Some(score) = ratio(well, all) {
        page.add(Id::LbServiceScore, [name], Millionths(score.into()));
    }
    for fault in ["resolve", "connect", "connect_timeout", "tls"] {
        if let Some(count) = service.counted.faults.get(fault) {
            page.add(Id::LbConnectionErrors, [name, fault], Count(*count));
        }
    }
    let to = |phase: Phase| {
        let moves = service.breaker_moves.iter();
        Count(moves.filter(|(_, to, _)| *to == phase).map(|(.., count)| count).sum())
    };
    page.add(Id::LbBreaks, [name], to(Phase::Open));
    page.add(Id::LbRecoveryAttempts, [name], to(Phase::HalfOpen));
    page.add(Id::LbRecoveries, [name], to(Phase::Closed));
}

fn mesh<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    let counted = &service.counted;
    let state = state(together(service));
    page.add(Id::MeshState, [name], state.clone());
    page.add(Id::MeshBreaker, [name], state);
    for (status, calls, took) in [
        ("success", service.answered, &counted.answered),
        ("failure", service.failed, &counted.failed),
    ] {
        page.add(Id::MeshRequests, [name, status], Count(calls));
        page.add(Id::MeshCalls, [name, CALL, status], Count(calls));
        page.add(Id::MeshTime, [name, status], durations(took));
        page.add(Id::MeshCallTime, [name, CALL], durations(took));
    }
    let refused = ["refused", "service_breaker"].iter().filter_map(|why| counted.reasons.get(*why));
    page.add(Id::MeshRejected, [name], Count(refused.sum()));
    for (fault, count) in &counted.faults {
        page.add(Id::MeshFailures, [name, fault], Count(*count));
    }
    if let Some(count) = counted.statuses.get("5xx") {
        page.add(Id::MeshFailures, [name, "5xx"], Count(*count));
    }
    for moves in [&service.breaker_moves, &service.own_breaker_moves] {
        for (from, to, count) in moves.iter() {
            page.add(Id::MeshMoves, [name, from.word(), to.word()], Count(count));
        }
    }
    let ended = service.answered + service.failed;
    let rate = ratio(service.failed, ended).unwrap_or(0);
    page.add(Id::MeshErrorRate, [name], Millionths(rate.into()));
    page.add(Id::MeshRecovery, [name], durations(&service.breaker_recoveries));
    page.add(Id::RetryTime, [name, CALL], durations(&counted.repeated));
    balanced(page, name, service);
    for (attempt, count) in &counted.repeats {
        page.add(Id::RetryAttempts, [name, CALL, attempt], Count(*count));
    }
    for (attempt, count) in &counted.answered_by {
        page.add(Id::RetrySuccess, [name, CALL, attempt], Count(*count));
    }
    page.add(Id::RetryFailure, [name, CALL, "exhausted"], Count(counted.failed_after_retry));
    for (result, count) in &counted.checks {
        page.add(Id::HcTotal, [name, result], Count(*count));
    }
    if let Some(count) = counted.checks.get("fail") {
        page.add(Id::HcFailures, [name], Count(*count));
    }
    if let Some(value) = health(service.health) {
        page.add(Id::HcStatus, [name], value);
    }
}
