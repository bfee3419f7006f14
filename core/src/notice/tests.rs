use super::*;

#[test]
fn events_are_logged_under_the_name_they_are_written_with() {
    let handler = Handler::ConfigUpdate;
    let (reason, retry_in) = ("no".into(), Duration::ZERO);
    let events = [
        Event::Reconfigured,
        Event::Failover { from: "a".into(), to: "b".into(), reason: Outcome::status(503) },
        Event::ServiceWatchError { handler, number: 1, reason, retry_in },
    ];
    for event in events {
        let text = serde_json::to_value(&event).unwrap();
        assert_eq!(text["event"], event.name());
    }
    let what = registry::Event::RegistrationsHeld { waiting: 2 };
    let event = Event::Registry { what };
    let text = serde_json::to_value(&event).unwrap();
    assert_eq!(
        (&text["event"], &text["what"]["event"]),
        (&"registry".into(), &event.name().into())
    );
    assert_eq!(serde_json::from_value::<Event>(text).unwrap(), event);
}

#[test]
fn the_ring_is_bounded_and_its_order_is_visible() {
    let mut notices = Notices::new(Some("billing".into()));
    for n in 0..1_000 {
        notices.push(Time::from_millis(n), Event::DiscoveryStale { age: Duration::from_secs(n) });
    }
    assert_eq!(notices.count(), 1_000);
    let kept: Vec<u64> = notices.since(0).map(|n| n.seq).collect();
    assert_eq!(kept, (1_000 - KEPT as u64..1_000).collect::<Vec<_>>());
    assert_eq!(notices.since(999).count(), 1);
    assert!(notices.since(999).all(|n| n.to_string().starts_with("billing: ")));
}

/// What `docs/OBSERVING.md` says of a name: its levels, and its target.
fn documented(name: &str) -> (String, String) {
    let page = include_str!("../../../docs/OBSERVING.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let quoted = format!("`{name}`");
    let row = cells.find(|cells| cells[1].contains(&quoted)).unwrap_or_else(|| {
        panic!("{name} is not documented");
    });
    // Of a row of pairs, `a` / `b`, the levels are pairs, too.
    let (names, levels) = (row[1].split(" / "), row[2].split(" / "));
    let pairs = levels.clone().count() > 1;
    let level = names.zip(levels).find(|(names, _)| names.contains(&quoted)).map(|(_, l)| l);
    let level = if pairs { level.unwrap() } else { row[2] };
    (level.to_owned(), row[3].to_owned())
}

#[test]
fn case_000_20_the_documented_names_levels_and_targets_are_those_of_the_lines() {
    use crate::policy::breaker::Transition;

    let (a, b): (Arc<str>, Arc<str>) = ("alpha".into(), "http://a".into());
    let (cluster, endpoint) = (a.clone(), b.clone());
    let at = |what: &dyn Fn(Arc<str>, Arc<str>) -> Event| what(cluster.clone(), endpoint.clone());
    let second = Duration::from_secs(1);
    let failed = |kept| Event::DiscoveryFailed {
        source: b.clone(),
        about: None,
        reason: "no".to_owned(),
        failures: 1,
        kept,
        retry_in: second,
    };
    let (service, id): (Arc<str>, Arc<str>) = ("api".into(), "api-1".into());
    let registered = registry::Event::ServiceRegistered { service, id: id.clone(), again: false };
    let events = [
        failed(false),
        failed(true),
        Event::DiscoveryLoaded { services: 1, changed: true },
        Event::DiscoveryLoaded { services: 1, changed: false },
        Event::DiscoveryStale { age: second },
        Event::SnapshotFailed { reason: "no".to_owned() },
        Event::AddressRefused { cluster: a.clone(), reason: "no".to_owned() },
        Event::EndpointsChanged { added: 1, removed: 0, total: 1 },
        Event::ClusterHealthCheckFailed { alive: 1, minimum: 2, error: None },
        Event::ClusterHealthy { alive: 2, minimum: 2, failed_for: second },
        Event::ServiceWatchError {
            handler: Handler::ConfigUpdate,
            number: 1,
            reason: "no".into(),
            retry_in: second,
        },
        at(&|cluster, endpoint| Event::ConnectionIssue { cluster, endpoint, fault: Fault::Reset }),
        at(&|cluster, endpoint| Event::BreakerHalfOpened { cluster, endpoint }),
        at(&|cluster, endpoint| Event::BreakerClosed { cluster, endpoint }),
        at(&|cluster, endpoint| Event::AdviceEnded { cluster, endpoint }),
        at(&|cluster, endpoint| Event::AdvisedAgainst {
            cluster,
            endpoint,
            by: 1,
            of: 2,
            refused: false,
        }),
        Event::ServiceBreaker { change: Transition::Closed { shadow: false } },
        Event::ServiceBreaker { change: Transition::HalfOpened { shadow: false } },
        Event::Failover { from: a.clone(), to: a.clone(), reason: Outcome::status(503) },
        Event::Switched { from: a.clone(), to: a.clone(), failback: false },
        Event::Switched { from: a.clone(), to: a.clone(), failback: true },
        Event::Shed { why: Overload::Breaker },
        Event::RetrySuppressed {
            cluster: a.clone(),
            reason: Outcome::status(503),
            by: Suppressed::Budget { available: 0 },
        },
        Event::Reconfigured,
        Event::Registry { what: registered },
        Event::Registry { what: registry::Event::RegistrationsHeld { waiting: 1 } },
        Event::Registry { what: registry::Event::DeregistrationRefused { id } },
        Event::Vault { what: vault::Event::TokenRenewed { lease: second } },
        Event::Vault { what: vault::Event::TokenLost { why: vault::Gone::Expired } },
        Event::Vault { what: vault::Event::TokenExpiring { left: second } },
        Event::Consul { what: followed::Said::FilesInForce },
        Event::Consul { what: followed::Said::FilesFailed { reason: "no".into() } },
        Event::SharedLevel { what: level::Event::WriteRefused { word: "OOM".into() } },
        Event::DiscoveryRecovered { source: b.clone(), about: None, failures: 2, lasted: second },
        Event::Stalled { cluster: a.clone(), endpoint: None, silence: second, usual: None },
        Event::StallEnded { cluster: a.clone(), endpoint: Some(b.clone()), lasted: second },
        at(&|cluster, endpoint| Event::HandshakeFailed { cluster, endpoint, reason: "no".into() }),
        at(&|cluster, endpoint| Event::HandshakeRecovered {
            cluster,
            endpoint,
            failures: 3,
            lasted: second,
        }),
        Event::Identity { what: identity::Said::Exchanged { leaf: None } },
        Event::Identity { what: identity::Said::Expected { targets: 1 } },
        Event::Identity {
            what: identity::Said::Expiring { name: a.clone(), serial: a.clone(), left: second },
        },
        Event::Identity { what: identity::Said::Expired { name: a.clone(), serial: a.clone() } },
        Event::Identity { what: identity::Said::FilesFailed { reason: "no".into() } },
        Event::Identity { what: identity::Said::FilesRefused { reason: "no".into() } },
        Event::Identity { what: identity::Said::TokenExchanged { until: None } },
        Event::Identity { what: identity::Said::TokenExpired },
        Event::State { what: keeper::Said::Restored { services: 1, endpoints: 2, age: second } },
        Event::State { what: keeper::Said::Refused { reason: "no".into() } },
        Event::State { what: keeper::Said::Failed { reason: "no".into() } },
        Event::State { what: keeper::Said::Recovered { failures: 1 } },
        Event::Storage { what: rotation::Event::Rotated },
        Event::Storage { what: rotation::Event::Unreadable { reason: "no".into() } },
        Event::Storage { what: rotation::Event::Refused { field: "x".into() } },
    ];
    for event in events {
        let (level, target) = documented(event.log_name());
        let mine = format!("{:?}", event.level()).to_lowercase();
        assert!(level.contains(&mine), "{event:?}: {mine} is not in {level:?}");
        assert!(target.contains(event.subject().target()), "{event:?}: {target}");
        let notice = Notice { seq: 0, at: Time::ZERO, service: None, event };
        let text = notice.to_string();
        assert!(!text.is_empty() && !text.contains("0.0") && !text.contains("1.0s"), "{text}");
        // Changes of state are never left out.
        let state = notice.event.log_name().contains("breaker");
        assert!(!(state && notice.event.is_repeating()));
    }
}

#[test]
fn case_004_18_what_fell_out_of_the_ring_is_still_counted() {
    let mut notices = Notices::new(None);
    let registered = |n: u64| Event::Registry {
        what: registry::Event::ServiceRegistered {
            service: if n.is_multiple_of(2) { "web" } else { "api" }.into(),
            id: "web-1".into(),
            again: false,
        },
    };
    for n in 0..1_000 {
        notices.push(Time::from_millis(n), registered(n));
        notices.push(Time::from_millis(n), Event::Reconfigured);
    }
    let count = |service: Option<&str>, event: &str| -> u64 {
        let mut counts = notices.counts();
        let found = counts.find(|c| c.service.as_deref() == service && c.event == event);
        found.map_or(0, |found| found.count)
    };
    assert_eq!(count(Some("web"), "service_registered"), 500);
    assert_eq!(count(Some("api"), "service_registered"), 500);
    assert_eq!(count(None, "reconfigured"), 1_000);
    assert_eq!(notices.counts().count(), 3);
}

#[test]
fn services_without_end_do_not_fill_memory() {
    let mut notices = Notices::new(None);
    for n in 0..5_000 {
        let what = registry::Event::ServiceRegistered {
            service: format!("s{n}").into(),
            id: "x".into(),
            again: false,
        };
        notices.push(Time::ZERO, Event::Registry { what });
    }
    assert!(notices.counts().count() <= 1_025);
    assert_eq!(notices.counts().map(|count| count.count).sum::<u64>(), 5_000);
}
