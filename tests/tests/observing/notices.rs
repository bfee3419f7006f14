//! Notices as lines: each once, in order, with its fields; repeats bounded, changes of state never
//! left out; and nothing that a hostile name, or a subscriber, could do with them.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use origin_core::config::EndpointConfig;
use origin_core::notice::Event;
use origin_driver::{Client, Heard};
use origin_lab::{FaultServer, Mode};
use tracing::Level;

use crate::capture::{Line, during};
use crate::subject::{Subject, get};

on_every_runtime! {
    case_x_10_every_notice_is_logged_exactly_once_and_repeats_are_bounded
    case_000_20_a_failover_is_logged_with_from_to_and_cause
    hostile_names_stay_on_their_line
    a_subscriber_may_call_the_client_and_may_panic
}

mod case_003_75_discovery_is_logged_as_a_component {
    // Async clients fetch on threads where this test's subscriber is not.
    on_runtimes! { case_003_75_discovery_is_logged_as_a_component: on_blocking Blocking }
}

fn notices(lines: Vec<Line>) -> Vec<Line> {
    lines.into_iter().filter(|line| line.fields.contains_key("event")).collect()
}

fn case_x_10_every_notice_is_logged_exactly_once_and_repeats_are_bounded<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let build = |repeats| {
        Client::<S>::builder()
            .endpoint("billing", server.url())
            .configure(|config| {
                config.policy.retry.max_attempts = 1;
                config.policy.breaker.open = Duration::from_millis(30);
                config.log.repeats = repeats;
                config.log.window = Duration::from_secs(3600);
            })
            .build()
            .unwrap()
    };
    // All of them: what is logged is what the rings have, in their order.
    let play = |client: &Client<S>| {
        server.set(Mode::ResetBeforeHead);
        for _ in 0..40 {
            let _ = get(client, "billing", "/x");
        }
        server.set(Mode::Ok);
        crate::subject::eventually("it is closed again", || get(client, "billing", "/x").is_ok());
    };
    during(|seen| {
        let client = build(0);
        play(&client);
        let lines = notices(seen.lines());
        let kept = client.notices();
        let told: Vec<_> = kept.iter().map(|n| n.to_string()).collect();
        let logged: Vec<_> = lines.iter().map(|line| line.text.clone()).collect();
        assert_eq!(logged, told);
        let named = |name: &str| lines.iter().filter(|line| line.event() == name).count();
        let breaker = client.snapshot();
        assert!(named("breaker_opened") >= 1, "{breaker:?}");
        assert_eq!(named("breaker_closed"), 1);
        let opened = lines.iter().find(|line| line.event() == "breaker_opened").unwrap();
        assert_eq!((opened.level, &*opened.target), (Level::WARN, "origin::service"));
        assert_eq!(opened.field("service"), Some("billing"));
        assert_eq!(opened.field("cluster"), Some("static"));
        assert_eq!(opened.field("endpoint"), Some(&*server.url()));
        assert!(opened.field("reason").is_some());
    });
    // Few: every change of state is there all the same, and the rest is counted at the end.
    during(|seen| {
        let client = build(1);
        play(&client);
        let lines = notices(seen.lines());
        let count = |name: &str| lines.iter().filter(|line| line.event() == name).count();
        let kept = client.notices();
        let of = |is: &dyn Fn(&Event) -> bool| kept.iter().filter(|n| is(&n.event)).count();
        let issues = of(&|event| matches!(event, Event::ConnectionIssue { .. }));
        assert!(issues > 1);
        assert_eq!(count("connection_issue"), 1);
        assert_eq!(count("breaker_opened"), of(&|e| matches!(e, Event::BreakerOpened { .. })));
        assert_eq!(count("breaker_closed"), of(&|e| matches!(e, Event::BreakerClosed { .. })));
        drop(client);
        crate::subject::eventually("the client has ended", || {
            let rest = notices(seen.lines());
            let line = rest.iter().find(|line| line.field("reason") == Some("connection_issue"));
            let Some(line) = line else { return !S::ASYNC };
            let expected = format!("billing: {} more connection_issue suppressed", issues - 1);
            assert_eq!((line.event(), &line.text), ("suppressed", &expected));
            true
        });
    });
}

fn case_000_20_a_failover_is_logged_with_from_to_and_cause<S: Subject>() {
    let (first, second) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    first.set(Mode::Refuse);
    let at = |server: &FaultServer, cluster: &str| EndpointConfig {
        cluster: cluster.to_owned(),
        ..EndpointConfig::at(server.url())
    };
    let client = Client::<S>::builder()
        .local_cluster("alpha")
        .configure(|config| {
            config.services.entry("billing".into()).or_default().endpoints =
                vec![at(&first, "alpha"), at(&second, "beta")];
        })
        .build()
        .unwrap();
    during(|seen| {
        get(&client, "billing", "/x").unwrap();
        let lines = notices(seen.lines());
        let failover: Vec<_> = lines.iter().filter(|line| line.event() == "failover").collect();
        assert_eq!(failover.len(), 1, "{lines:?}");
        let cause = "connection refused or unreachable";
        let text = format!("billing: failover of a call from alpha to beta: {cause}");
        assert_eq!((failover[0].level, &failover[0].text), (Level::WARN, &text));
        assert_eq!(failover[0].field("reason"), Some(cause));
        assert_eq!(lines.iter().filter(|line| line.event() == "connection_issue").count(), 1);
    });
}

fn case_003_75_discovery_is_logged_as_a_component<S: Subject>() {
    let registry = FaultServer::start().unwrap();
    registry.set(Mode::status(500));
    let client = Client::<S>::builder()
        .discovery(registry.url())
        .timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    during(|seen| {
        get(&client, "billing", "/x").unwrap_err();
        let lines = notices(seen.lines());
        let line = lines.iter().find(|line| line.event() == "service_discovery_failed").unwrap();
        assert_eq!((line.level, &*line.target), (Level::ERROR, "origin::discovery"));
        assert_eq!(line.field("component"), Some("service_discovery"));
        assert!(line.field("error").is_some());
    });
}

fn hostile_names_stay_on_their_line<S: Subject>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::Refuse);
    let cluster = "alpha\n2026-01-01 ERROR forged\u{1b}[2J\u{202e}";
    let client = Client::<S>::builder()
        .configure(|config| {
            let endpoint =
                EndpointConfig { cluster: cluster.to_owned(), ..EndpointConfig::at(server.url()) };
            config.services.entry("billing".into()).or_default().endpoints = vec![endpoint];
        })
        .build()
        .unwrap();
    during(|seen| {
        get(&client, "billing", "/x").unwrap_err();
        let lines = seen.lines();
        assert!(lines.iter().any(|line| line.text.contains(r"alpha\n2026-01-01 ERROR forged")));
        for line in lines {
            let mut all = line.fields.values().chain([&line.text]);
            assert!(all.all(|t| !t.chars().any(|c| c.is_control() || c == '\u{202e}')), "{line:?}");
        }
    });
}

/// What a subscriber does with the client, on the thread that speaks.
type Deed = Arc<dyn Fn() + Send + Sync>;

struct Busy(Mutex<Option<Deed>>);

impl tracing::Subscriber for Busy {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "origin::service"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        let deed = self.0.lock().unwrap().take();
        if let Some(deed) = deed {
            deed();
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

fn a_subscriber_may_call_the_client_and_may_panic<S: Subject>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::Refuse);
    let client = Client::<S>::builder()
        .endpoint("billing", server.url())
        .configure(|config| config.policy.retry.max_attempts = 1)
        .build()
        .unwrap();
    // It reads the state and gives orders, which make notices in turn, in the middle of a line.
    let done = Arc::new(OnceLock::new());
    let (inner, told) = (client.clone(), done.clone());
    let url = server.url();
    let deed: Deed = Arc::new(move || {
        let order = origin_core::service::Order::KeepOpen;
        let orders = inner.service("billing").unwrap().order(&url, order);
        told.set((inner.notices().len(), orders)).unwrap();
    });
    let busy = Busy(Mutex::new(Some(deed)));
    tracing::subscriber::with_default(busy, || get(&client, "billing", "/x").unwrap_err());
    assert!(done.get().is_some_and(|(notices, orders)| *notices > 0 && *orders == 1), "{done:?}");
    // A panic of a subscriber is the program's; the client goes on, and so does its log.
    let billing = client.service("billing").unwrap();
    billing.order(&server.url(), origin_core::service::Order::Reset);
    let panicking = Busy(Mutex::new(Some(Arc::new(|| panic!("a subscriber that panics")))));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tracing::subscriber::with_default(panicking, || get(&client, "billing", "/x"))
    }));
    assert!(outcome.is_err());
    let mut feed = client.notice_feed();
    during(|seen| {
        let _ = get(&client, "billing", "/x");
        assert!(!notices(seen.lines()).is_empty());
    });
    assert!(matches!(feed.try_next(), Some(Heard::Notice(_))));
}
