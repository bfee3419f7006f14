//! From a snapshot to a page: our own families. What exceeds the bounds of the settings is summed
//! up as `_other`.

use std::borrow::Cow;

use super::family::Id;
use super::page::{Page, Value};
use super::{CLASSES, Histogram, Moves, OTHER, Phase, REJECTIONS};
use crate::config::MetricsConfig;
use crate::policy::breaker::State;
use crate::policy::health::Status;
use crate::snapshot::{EndpointSnapshot, Health, ServiceSnapshot, Snapshot};
use crate::time::{Time, nanos};

use Value::{Count, Millionths};

/// What sources of discovery that know everything are about.
const ALL: &str = "_all";

pub(super) fn durations(histogram: &Histogram) -> Value<'_> {
    Value::Durations(Cow::Borrowed(histogram))
}

pub(super) fn span(span: std::time::Duration) -> Value<'static> {
    Value::Nanos(nanos(span))
}

fn flag(set: bool) -> Value<'static> {
    Count(u64::from(set))
}

/// The services that have series of their own go by their names, the others by one.
pub(super) fn named<'a>(
    snapshot: &'a Snapshot,
    settings: &MetricsConfig,
) -> impl Iterator<Item = (&'a str, &'a ServiceSnapshot)> {
    let most = settings.max_services;
    let name = move |at: usize, service: &'a ServiceSnapshot| {
        if at < most { &*service.name } else { OTHER }
    };
    snapshot.services.iter().enumerate().map(move |(at, service)| (name(at, service), service))
}

/// Under which name something about a service counts that is not in its own snapshot.
pub(super) fn known<'a>(
    snapshot: &'a Snapshot,
    settings: &MetricsConfig,
    name: Option<&'a std::sync::Arc<str>>,
) -> &'a str {
    let Some(name) = name else { return ALL };
    match snapshot.services.binary_search_by(|service| service.name.cmp(name)) {
        Ok(at) if at < settings.max_services => name,
        // Not told apart: a registry that names services without end must not fill a page.
        _ => OTHER,
    }
}

/// The same for the endpoints of one service.
pub(super) fn endpoints<'a>(
    service: &'a ServiceSnapshot,
    settings: &MetricsConfig,
) -> impl Iterator<Item = (&'a str, &'a EndpointSnapshot)> {
    let most = settings.max_endpoints;
    service
        .endpoints
        .iter()
        .enumerate()
        .map(move |(at, e)| (if at < most { &*e.address } else { OTHER }, e))
}

/// Whether an endpoint may be called.
pub(crate) fn usable(endpoint: &EndpointSnapshot) -> bool {
    !matches!(endpoint.breaker, State::Open { .. })
        && endpoint.ejected_for.is_none()
        && endpoint.health != Status::Unhealthy
}

/// 1, 0.5, 0 in millionths; `None` while nobody knows.
pub(super) fn health(health: Health) -> Option<Value<'static>> {
    match health {
        Health::Healthy => Some(Millionths(1_000_000)),
        Health::Degraded => Some(Millionths(500_000)),
        Health::Unhealthy => Some(Millionths(0)),
        Health::Unknown => None,
    }
}

fn breaker(state: State) -> Value<'static> {
    Count(match state {
        State::Closed => 0,
        State::HalfOpen { .. } => 1,
        State::Open { .. } => 2,
    })
}

/// Fills in everything of ours.
pub(super) fn fill<'a>(page: &mut Page<'a>, snapshot: &'a Snapshot, settings: &MetricsConfig) {
    page.add(Id::Build, [env!("CARGO_PKG_VERSION")], Count(1));
    for (name, service) in named(snapshot, settings) {
        calls(page, name, service);
        attempts(page, name, service);
        clusters(page, name, service);
        limits(page, name, service);
        cache(page, name, service);
        if let Some(at) = service.last_success {
            page.add(Id::LastSuccess, [name], span(snapshot.at.since(at)));
        }
        for (address, e) in endpoints(service, settings) {
            endpoint(page, [name, &e.cluster, address], e);
        }
    }
    discovery(page, snapshot, settings);
    events(page, snapshot, settings);
    if let Some(vault) = &snapshot.vault {
        page.add(Id::VaultLeases, [&vault.auth], Count(vault.leases as u64));
        if let Some(until) = vault.until.filter(|until| *until != Time::NEVER) {
            page.add(Id::VaultLeft, [&vault.auth], span(snapshot.at.until(until)));
        }
    }
}

fn calls<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    let ended = service.answered + service.failed + service.abandoned;
    for (result, count) in [
        ("answered", service.answered),
        ("failed", service.failed),
        ("abandoned", service.abandoned),
    ] {
        page.add(Id::Calls, [name, result], Count(count));
    }
    page.add(Id::InProgress, [name], Count(service.calls.saturating_sub(ended)));
    let counted = &service.counted;
    page.add(Id::CallTime, [name, "answered"], durations(&counted.answered));
    page.add(Id::CallTime, [name, "failed"], durations(&counted.failed));
    for (reason, count) in &counted.reasons {
        page.add(Id::CallFailures, [name, reason], Count(*count));
        if REJECTIONS.contains(&&**reason) {
            page.add(Id::Rejections, [name, reason], Count(*count));
        }
    }
    if let Some(value) = health(service.health) {
        page.add(Id::Health, [name], value);
    }
    if service.discovered {
        page.add(Id::DiscoveryWaits, [name], Count(counted.parked));
    }
    if let Some(watches) = &service.watches {
        page.add(Id::Watches, [name], Count(watches.subscriptions.into()));
        page.add(Id::WatchBehind, [name], span(watches.behind));
        page.add(Id::WatchTook, [name], span(watches.took));
    }
}

fn attempts<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    let counted = &service.counted;
    page.add(Id::Attempts, [name], Count(service.attempts));
    for (id, words) in [
        (Id::Faults, &counted.faults),
        (Id::Responses, &counted.statuses),
        (Id::Suppressed, &counted.suppressed),
        (Id::Checks, &counted.checks),
    ] {
        for (word, count) in words {
            page.add(id, [name, word], Count(*count));
        }
    }
    page.add(Id::Retries, [name], Count(counted.retries));
    page.add(Id::Hedges, [name], Count(counted.hedges));
    page.add(Id::Rescues, [name], Count(counted.rescues));
    page.add(Id::Budget, [name], Count(service.budget));
}

fn clusters<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    for (cluster, tally) in &service.clusters {
        for (result, row) in CLASSES.iter().zip(&tally.attempts) {
            if row.count() > 0 {
                page.add(Id::AttemptTime, [name, cluster, result], durations(row));
            }
        }
        page.add(Id::Entered, [name, cluster], Count(tally.entered));
        page.add(Id::Left, [name, cluster], Count(tally.left));
        let over = tally.switched.saturating_sub(tally.failbacks);
        page.add(Id::Switches, [name, cluster, "failover"], Count(over));
        page.add(Id::Switches, [name, cluster, "failback"], Count(tally.failbacks));
    }
    for split in &service.split {
        let out = split.total.saturating_sub(split.healthy + split.degraded);
        for (state, count) in
            [("healthy", split.healthy), ("degraded", split.degraded), ("out", out)]
        {
            page.add(Id::ClusterEndpoints, [name, &split.cluster, state], Count(count.into()));
        }
        let labels = [name, &*split.cluster];
        page.add(Id::ClusterShare, labels, Millionths(u64::from(split.percent) * 10_000));
        page.add(Id::ClusterPanic, labels, flag(split.panic));
        let active = service.active_cluster.as_ref() == Some(&split.cluster);
        page.add(Id::ClusterActive, labels, flag(active));
    }
}

fn limits<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    let mut moves = |scope, moves: &Moves| {
        for (from, to, count) in moves.iter() {
            page.add(Id::BreakerMoves, [name, scope, from.word(), to.word()], Count(count));
        }
    };
    moves("endpoint", &service.breaker_moves);
    moves("service", &service.own_breaker_moves);
    page.add(Id::Recovery, [name], durations(&service.breaker_recoveries));
    page.add(Id::RepeatedTime, [name], durations(&service.counted.repeated));
    let limits = &service.limits;
    page.add(Id::OwnBreaker, [name], breaker(limits.breaker));
    if let Some(limit) = limits.limit {
        page.add(Id::Limit, [name], Count(limit.into()));
        page.add(Id::InFlight, [name], Count(limits.in_flight.into()));
        page.add(Id::Waiting, [name], Count(limits.waiting.into()));
    }
    let throttled = u64::from(limits.throttled_permille) * 1_000;
    page.add(Id::Throttled, [name], Millionths(throttled));
}

fn endpoint<'a>(page: &mut Page<'a>, labels: [&'a str; 3], e: &'a EndpointSnapshot) {
    page.add(Id::EndpointAttempts, labels, Count(e.attempts));
    page.add(Id::EndpointFailures, labels, Count(e.failed_attempts));
    page.add(Id::EndpointOut, labels, Count(e.outstanding.into()));
    page.add(Id::EndpointBreaker, labels, breaker(e.breaker));
    page.add(Id::EndpointUp, labels, flag(usable(e)));
    if let Some(latency) = e.latency {
        page.add(Id::EndpointLatency, labels, span(latency));
    }
}

fn cache<'a>(page: &mut Page<'a>, name: &'a str, service: &'a ServiceSnapshot) {
    let Some(cache) = &service.cache else { return };
    page.add(Id::CacheRequests, [name, "memory", "hit"], Count(cache.hits));
    page.add(Id::CacheRequests, [name, "memory", "miss"], Count(cache.misses));
    if let Some(ratio) = cache.hit_ratio {
        page.add(Id::CacheRatio, [name], Millionths(ratio.into()));
    }
    page.add(Id::CacheEntries, [name], Count(cache.entries.into()));
    page.add(Id::CacheBytes, [name], Count(cache.bytes));
    for (reason, count) in
        [("room", cache.evicted), ("expired", cache.expired), ("invalidated", cache.invalidated)]
    {
        page.add(Id::CacheRemoved, [name, reason], Count(count));
    }
    let stale = &cache.stale;
    for (reason, count) in [
        ("revalidating", stale.revalidating),
        ("asked", stale.asked),
        ("error", stale.error),
        ("breaker_open", stale.breaker_open),
        ("budget_empty", stale.budget_empty),
        ("deadline_dying", stale.deadline_dying),
    ] {
        if count > 0 {
            page.add(Id::CacheStale, [name, reason], Count(count));
        }
    }
}

fn discovery<'a>(page: &mut Page<'a>, snapshot: &'a Snapshot, settings: &MetricsConfig) {
    for source in &snapshot.discovery {
        let labels = [source.kind.word(), known(snapshot, settings, source.service.as_ref())];
        let [kind, about] = labels;
        page.add(Id::DiscoveryAnswers, [kind, about, "lookup"], Count(source.answers));
        page.add(Id::DiscoveryAnswers, [kind, about, "watch"], Count(source.watched));
        for (error, count) in &source.errors {
            page.add(Id::DiscoveryErrors, [kind, about, error], Count(*count));
        }
        page.add(Id::DiscoveryTime, labels, durations(&source.took));
        page.add(Id::DiscoveryStale, labels, flag(source.stale));
        if let Some(age) = source.age {
            page.add(Id::DiscoveryAge, labels, span(age));
        }
    }
    if let Some(counts) = &snapshot.shared_lists {
        let counts = (counts.hits, counts.misses, counts.garbage, counts.errors, counts.skipped);
        for (result, count) in results(counts) {
            page.add(Id::SharedLists, [result], Count(count));
        }
    }
    if let Some(counts) = &snapshot.shared_answers {
        let counts = (counts.hits, counts.misses, counts.garbage, counts.errors, counts.skipped);
        for (result, count) in results(counts) {
            // Redis is one for all services, and counts so.
            page.add(Id::CacheRequests, [ALL, "redis", result], Count(count));
        }
    }
}

fn results(
    (hits, misses, garbage, errors, skipped): (u64, u64, u64, u64, u64),
) -> [(&'static str, u64); 5] {
    [("hit", hits), ("miss", misses), ("garbage", garbage), ("error", errors), ("skipped", skipped)]
}

/// What came of own registrations, by the notices about it.
pub(super) const REGISTRATIONS: [(&str, &str); 4] = [
    ("service_registered", "registered"),
    ("service_registration_failed", "failed"),
    ("service_deregistered", "deregistered"),
    ("service_forgotten", "forgotten"),
];

fn events<'a>(page: &mut Page<'a>, snapshot: &'a Snapshot, settings: &MetricsConfig) {
    for event in &snapshot.events {
        let about = known(snapshot, settings, event.service.as_ref());
        page.add(Id::Notices, [about, &event.event], Count(event.count));
        if let Some((_, result)) = REGISTRATIONS.iter().find(|(name, _)| *name == event.event) {
            // Own services are few, and not among those that are called.
            let about = event.service.as_deref().unwrap_or(ALL);
            page.add(Id::Registrations, [about, result], Count(event.count));
        }
    }
}

/// The state of a service as one word: its own breaker if that is not closed; else open when no
/// endpoint may be asked, half-open when some may be probed.
pub(super) fn together(service: &ServiceSnapshot) -> Phase {
    let own = Phase::from(service.limits.breaker);
    let states = || service.endpoints.iter().map(|e| Phase::from(e.breaker));
    if own != Phase::Closed || service.endpoints.is_empty() {
        return own;
    }
    if states().any(|state| state == Phase::Closed) {
        return Phase::Closed;
    }
    if states().any(|state| state == Phase::HalfOpen) { Phase::HalfOpen } else { Phase::Open }
}
