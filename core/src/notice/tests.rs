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
