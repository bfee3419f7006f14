//! Every family there is, in one table: its name, what it is, its labels, whose it is. What is not
//! here cannot be shown, and nothing can be shown under other labels.

use crate::config::Dialect;

/// What the numbers of a family do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They rise from the start of the client on.
    Counter,
    /// They rise and fall.
    Gauge,
    /// They count durations in buckets.
    Histogram,
}

impl Kind {
    /// The word of the text formats.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What becomes of two numbers under the same labels, as when services are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    Most,
    Least,
}

/// One family of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name; of a counter of ours it ends in `_total`.
    pub name: &'static str,
    /// What its numbers do.
    pub kind: Kind,
    /// One line about it.
    pub help: &'static str,
    /// Its labels, in order. Every series has all of them.
    pub labels: &'static [&'static str],
    /// Whose it is; `None`: ours, always shown.
    pub dialect: Option<Dialect>,
    pub(crate) fold: Fold,
}

macro_rules! families {
    ($($id:ident $kind:ident $fold:ident $name:literal [$($label:literal)*] $dialect:expr, $help:literal;)*) => {
        /// Names a family: its place in [`FAMILIES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Id { $($id),* }

        /// All families, in the order in which they are shown.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[$($label),*],
            dialect: $dialect,
            fold: Fold::$fold,
        }),*];
    };
}

const STANDARD: Option<Dialect> = Some(Dialect::Standard);
const MODULE: Option<Dialect> = Some(Dialect::Module);
const MESH: Option<Dialect> = Some(Dialect::Mesh);

families! {
    Build Gauge Most "origin_build_info" ["version"] None, "Always 1; the version of the library.";
    Health Gauge Least "origin_service_health_ratio" ["service"] None, "1 healthy, 0.5 degraded, 0 unhealthy; absent while nobody has asked: no call, no check.";
    LastSuccess Gauge Most "origin_service_last_success_age_seconds" ["service"] None, "Time since an endpoint last answered with success; absent before the first.";
    Calls Counter Sum "origin_calls_total" ["service" "result"] None, "Calls that ended: answered, failed, abandoned by their caller.";
    InProgress Gauge Sum "origin_calls_in_progress" ["service"] None, "Calls that have begun and not ended.";
    CallTime Histogram Sum "origin_call_duration_seconds" ["service" "result"] None, "How long calls took, repeats and waits included.";
    CallFailures Counter Sum "origin_call_failures_total" ["service" "reason"] None, "Calls that ended in an error, by why.";
    Rejections Counter Sum "origin_rejections_total" ["service" "reason"] None, "Calls that were not let out: breakers, limits, nobody to ask.";
    Attempts Counter Sum "origin_attempts_total" ["service"] None, "Requests sent.";
    AttemptTime Histogram Sum "origin_attempt_duration_seconds" ["service" "cluster" "result"] None, "How long requests took that ended, by what they count as: success, failure, throttled, ignored.";
    Faults Counter Sum "origin_attempt_faults_total" ["service" "fault"] None, "Requests that met no answer, by what they met; stalled and outrun were given up.";
    Responses Counter Sum "origin_responses_total" ["service" "code"] None, "Answers, by the hundred of their status.";
    Retries Counter Sum "origin_retries_total" ["service"] None, "Requests repeated after a failure.";
    Hedges Counter Sum "origin_hedges_total" ["service"] None, "Second requests beside a slow one.";
    Rescues Counter Sum "origin_rescues_total" ["service"] None, "Requests instead of one whose endpoint had gone silent.";
    Suppressed Counter Sum "origin_retries_suppressed_total" ["service" "by"] None, "Repeats that were not paid for: by budget or tokens.";
    Budget Gauge Sum "origin_retry_budget_repeats" ["service"] None, "Repeats the retry budget would allow now.";
    Entered Counter Sum "origin_failovers_total" ["service" "cluster"] None, "Calls that went on in this cluster after a failure in another.";
    Left Counter Sum "origin_failovers_away_total" ["service" "cluster"] None, "Calls that went on elsewhere after a failure in this cluster.";
    Switches Counter Sum "origin_cluster_switches_total" ["service" "cluster" "direction"] None, "Times this became the cluster that answers: failover or failback.";
    ClusterEndpoints Gauge Sum "origin_cluster_endpoints" ["service" "cluster" "state"] None, "Endpoints: healthy, degraded, out.";
    ClusterShare Gauge Most "origin_cluster_load_ratio" ["service" "cluster"] None, "Share of first attempts that goes there.";
    ClusterActive Gauge Most "origin_cluster_active" ["service" "cluster"] None, "1 for the cluster that answered last.";
    ClusterPanic Gauge Most "origin_cluster_panic" ["service" "cluster"] None, "1 while too few endpoints may be used, so that all are.";
    BreakerMoves Counter Sum "origin_breaker_transitions_total" ["service" "scope" "from" "to"] None, "Changes of state of breakers, each once: of endpoints, of the service.";
    Recovery Histogram Sum "origin_breaker_recovery_seconds" ["service"] None, "How long breakers were not closed, from opening to closing.";
    RepeatedTime Histogram Sum "origin_repeated_call_duration_seconds" ["service"] None, "How long calls took that sent more than one request.";
    OwnBreaker Gauge Most "origin_service_breaker_state" ["service"] None, "The breaker of the service as a whole: 0 closed, 1 half-open, 2 open.";
    InFlight Gauge Sum "origin_concurrency_in_flight" ["service"] None, "Calls that hold a place of the concurrency limit.";
    Limit Gauge Sum "origin_concurrency_limit" ["service"] None, "The present concurrency limit; absent without one.";
    Waiting Gauge Sum "origin_queue_waiting" ["service"] None, "Calls that wait for a place.";
    Throttled Gauge Most "origin_throttled_ratio" ["service"] None, "Share of calls refused by throttling.";
    Checks Counter Sum "origin_health_checks_total" ["service" "result"] None, "Active health checks, by what came of them.";
    EndpointAttempts Counter Sum "origin_endpoint_attempts_total" ["service" "cluster" "endpoint"] None, "Requests sent to the endpoint.";
    EndpointFailures Counter Sum "origin_endpoint_failures_total" ["service" "cluster" "endpoint"] None, "Requests to the endpoint that failed.";
    EndpointOut Gauge Sum "origin_endpoint_outstanding" ["service" "cluster" "endpoint"] None, "Requests out.";
    EndpointLatency Gauge Most "origin_endpoint_latency_seconds" ["service" "cluster" "endpoint"] None, "Smoothed latency; absent before the first answer.";
    EndpointBreaker Gauge Most "origin_endpoint_breaker_state" ["service" "cluster" "endpoint"] None, "0 closed, 1 half-open, 2 open.";
    EndpointUp Gauge Least "origin_endpoint_usable" ["service" "cluster" "endpoint"] None, "0 while its breaker is open, it is ejected, or checks say that it is unhealthy.";
    CacheRequests Counter Sum "origin_cache_requests_total" ["service" "level" "result"] None, "Lookups of remembered answers.";
    CacheRatio Gauge Least "origin_cache_hit_ratio" ["service"] None, "Hits of all lookups in memory; absent without lookups.";
    CacheEntries Gauge Sum "origin_cache_entries" ["service"] None, "Remembered answers.";
    CacheBytes Gauge Sum "origin_cache_size_bytes" ["service"] None, "What they weigh.";
    CacheRemoved Counter Sum "origin_cache_removals_total" ["service" "reason"] None, "Remembered answers that left: for lack of room, expired, invalidated.";
    CacheStale Counter Sum "origin_cache_stale_served_total" ["service" "reason"] None, "Stale answers served, by why.";
    DiscoveryAnswers Counter Sum "origin_discovery_answers_total" ["source" "service" "operation"] None, "Answers of sources of discovery: to lookups, to watches.";
    DiscoveryErrors Counter Sum "origin_discovery_errors_total" ["source" "service" "error"] None, "Failures of sources of discovery.";
    DiscoveryTime Histogram Sum "origin_discovery_duration_seconds" ["source" "service"] None, "How long answers to lookups took.";
    DiscoveryAge Gauge Most "origin_discovery_age_seconds" ["source" "service"] None, "How old what is known is; absent before the first answer.";
    DiscoveryStale Gauge Most "origin_discovery_stale" ["source" "service"] None, "1 while what is known is past its time to live.";
    DiscoveryWaits Counter Sum "origin_discovery_waits_total" ["service"] None, "Calls that waited for discovery.";
    SharedLists Counter Sum "origin_discovery_shared_requests_total" ["result"] None, "Lookups of discovery in Redis.";
    Watches Gauge Sum "origin_watch_subscriptions" ["service"] None, "Subscriptions to the endpoints of the service.";
    WatchBehind Gauge Most "origin_watch_behind_seconds" ["service"] None, "For how long a change has not been understood by the subscription furthest behind.";
    WatchTook Gauge Most "origin_watch_propagation_seconds" ["service"] None, "How long the last change took from its source to the slowest subscription.";
    Registrations Counter Sum "origin_registrations_total" ["service" "result"] None, "Own registrations: registered, failed, deregistered, forgotten by the agent.";
    Notices Counter Sum "origin_notices_total" ["service" "event"] None, "Notices given, by name; what is logged is counted here.";
    VaultLeft Gauge Least "origin_vault_token_ttl_seconds" ["auth"] None, "How long the token for Vault lasts; absent when it has none, or for ever.";
    VaultLeases Gauge Sum "origin_vault_leases" ["auth"] None, "Leases held.";

    StdHealth Gauge Least "service_health" ["service" "instance" "dc"] STANDARD, "1 while the instance may be called, else 0.";
    StdLatency Histogram Sum "discovery_latency" ["service" "operation"] STANDARD, "Seconds that lookups of discovery took.";
    StdCache Counter Sum "cache_stats" ["service" "result"] STANDARD, "Lookups of remembered answers.";

    ModRegistrations Counter Sum "service_discovery_registrations_total" ["service"] MODULE, "Own registrations that the agent has taken.";
    ModLookups Counter Sum "service_discovery_lookups_total" ["service" "cached"] MODULE, "Lookups of endpoints: from what is known, and at the source.";
    ModErrors Counter Sum "service_discovery_errors_total" ["service" "operation" "error_type"] MODULE, "Failures of discovery.";
    ModTime Histogram Sum "service_discovery_duration_seconds" ["service" "cached"] MODULE, "How long lookups took; those from what is known take no time.";
    ModInstances Gauge Sum "service_discovery_healthy_instances" ["service"] MODULE, "Instances that may be called.";

    MeshState Gauge Least "circuit_breaker_state" ["service"] MESH, "0 open, 1 half-open, 2 closed.";
    MeshRequests Counter Sum "circuit_breaker_requests_total" ["service" "status"] MESH, "Calls that ended: success or failure.";
    MeshRejected Counter Sum "circuit_breaker_rejections_total" ["service"] MESH, "Calls that were refused by a breaker.";
    MeshFailures Counter Sum "circuit_breaker_failures_total" ["service" "error_type"] MESH, "Requests that failed.";
    MeshTime Histogram Sum "circuit_breaker_request_duration_seconds" ["service" "status"] MESH, "How long calls took.";
    MeshMoves Counter Sum "circuit_breaker_state_changes_total" ["service" "from_state" "to_state"] MESH, "Changes of state of breakers.";
    MeshErrorRate Gauge Most "circuit_breaker_error_rate" ["service"] MESH, "Calls that failed of those that ended.";
    MeshRecovery Histogram Sum "circuit_breaker_recovery_time_seconds" ["service"] MESH, "How long breakers were not closed, from opening to closing.";
    RetryAttempts Counter Sum "retry_attempts_total" ["service" "operation" "attempt"] MESH, "Requests beyond the first of a call, by their number.";
    RetrySuccess Counter Sum "retry_success_total" ["service" "operation" "attempts_needed"] MESH, "Calls answered after repeats.";
    RetryFailure Counter Sum "retry_failure_total" ["service" "operation" "error_type"] MESH, "Calls that failed after repeats.";
    RetryTime Histogram Sum "retry_duration_seconds" ["service" "operation"] MESH, "How long calls took that sent more than one request.";
    MeshRegistrations Counter Sum "mesh_service_registrations_total" ["service"] MESH, "Own registrations that the agent has taken.";
    MeshRegistrationFailures Counter Sum "mesh_registration_failures_total" ["service" "error_type"] MESH, "Own registrations that failed.";
    MeshCalls Counter Sum "mesh_service_calls_total" ["service" "operation" "status"] MESH, "Calls that ended: success or failure.";
    MeshCallTime Histogram Sum "mesh_call_duration_seconds" ["service" "operation"] MESH, "How long calls took.";
    MeshHealthy Gauge Sum "mesh_healthy_instances" ["service"] MESH, "Instances that may be called.";
    MeshBreaker Gauge Least "mesh_circuit_breaker_state" ["service"] MESH, "0 open, 1 half-open, 2 closed.";
    LbRequests Counter Sum "load_balancer_requests_total" ["service" "instance"] MESH, "Requests sent.";
    LbErrors Counter Sum "load_balancer_errors_total" ["service" "instance"] MESH, "Requests that failed.";
    LbActive Gauge Sum "load_balancer_active_connections" ["service" "instance"] MESH, "Requests out.";
    LbHealth Gauge Least "load_balancer_instance_health" ["service" "instance"] MESH, "1 while it may be called, else 0.";
    LbLoad Gauge Most "load_balancer_instance_load" ["service" "instance"] MESH, "Requests out there, of all of the service.";
    LbScore Gauge Least "load_balancer_instance_health_score" ["service" "instance"] MESH, "1 usable, 0.5 usable and not well, 0 not usable.";
    LbCircuit Gauge Least "load_balancer_circuit_state" ["service" "instance"] MESH, "0 open, 1 half-open, 2 closed.";
    LbServiceScore Gauge Least "load_balancer_service_health_score" ["service"] MESH, "Instances that may be called, of all.";
    LbConnectionErrors Counter Sum "load_balancer_connection_errors_total" ["service" "error_type"] MESH, "Requests for which there was no connection.";
    LbBreaks Counter Sum "load_balancer_circuit_breaks_total" ["service"] MESH, "Breakers of instances that opened.";
    LbRecoveryAttempts Counter Sum "load_balancer_recovery_attempts_total" ["service"] MESH, "Breakers of instances that let somebody find out.";
    LbRecoveries Counter Sum "load_balancer_recovery_success_total" ["service"] MESH, "Breakers of instances that closed.";
    LbInstances Gauge Sum "load_balancer_active_instances" ["service"] MESH, "Instances that may be called.";
    HcTotal Counter Sum "health_check_total" ["service" "status"] MESH, "Active health checks, by what came of them.";
    HcFailures Counter Sum "health_check_failures_total" ["service"] MESH, "Active health checks that failed.";
    HcStatus Gauge Least "service_health_status" ["service"] MESH, "1 healthy, 0.5 degraded, 0 unhealthy.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_there_once_and_can_be_a_name() {
        let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        let good = |c: char| c.is_ascii_lowercase() || c == '_';
        for family in FAMILIES {
            assert!(family.name.chars().all(good), "{}", family.name);
            assert!(family.labels.iter().all(|label| label.chars().all(good)));
            assert!(!family.labels.contains(&"le") && !family.help.contains(['\\', '\n', '"']));
            let own = family.dialect.is_none();
            assert_eq!(own, family.name.starts_with("origin_"), "{}", family.name);
            if own {
                let total = family.name.ends_with("_total");
                assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
            }
            // A series of a histogram must not have the name of another family.
            for end in ["_count", "_sum", "_bucket"] {
                assert!(!names.contains(format!("{}{end}", family.name).as_str()));
            }
        }
    }
}
