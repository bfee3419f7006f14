//! Attempts side by side on real sockets: hedges and rescues, their losers given back; limits of a
//! service with calls that wait; what endpoints are told; another configuration while it runs.

use std::time::Duration;

use origin_core::call::{Choice, Why};
use origin_core::config::{ConcurrencyMode, DeadlineHeader, EndpointConfig};
use origin_core::error::Error;
use origin_core::outcome::{Fault, Outcome};
use origin_core::policy::breaker::State;
use origin_core::service::Order;
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};

use crate::subject::{Subject, of};

on_every_async_runtime! {
    a_hedge_is_answered_and_the_loser_given_back
    calls_at_a_silent_endpoint_are_rescued
}

on_every_runtime! {
    calls_beyond_the_limit_wait_or_are_refused
    endpoints_are_told_the_time_that_is_left
    a_running_client_takes_another_configuration
    case_001_30_and_31_orders_to_a_breaker
}

fn servers() -> Vec<FaultServer> {
    ["near", "far"].map(|name| FaultServer::named(name, name).unwrap()).into()
}

fn client<S: Subject>(
    servers: &[FaultServer],
    change: impl FnOnce(&mut origin_core::Config),
) -> Client<S> {
    let endpoints = servers.iter().zip(["near", "far"]).map(|(server, name)| EndpointConfig {
        cluster: name.into(),
        ..EndpointConfig::at(server.url())
    });
    let endpoints: Vec<_> = endpoints.collect();
    Client::<S>::builder()
        .local_cluster("near")
        .configure(|config| {
            config.services.entry("orders".into()).or_default().endpoints = endpoints;
            change(config);
        })
        .timeout(Duration::from_secs(10))
        .seed(3)
        .build()
        .unwrap()
}

fn get<S: Subject>(client: &Client<S>, path: &str) -> Result<origin_core::Response, Error> {
    S::wait(client.service("orders").unwrap().get(path).send())
}

fn nothing_is_out<S: Subject>(client: &Client<S>) {
    let service = of(client, "orders");
    assert!(service.endpoints.iter().all(|e| e.outstanding == 0), "{service:?}");
}

fn a_hedge_is_answered_and_the_loser_given_back<S: Subject>() {
    let servers = servers();
    servers[0].set(Mode::slow(3_000));
    let client = client::<S>(&servers, |config| {
        config.policy.hedge.enabled = true;
        config.policy.hedge.delay = Some(Duration::from_millis(50));
    });
    for n in 0..3 {
        let reply = get(&client, &format!("/{n}")).unwrap();
        let choices: Vec<_> = reply.report.attempts.iter().map(|a| a.why).collect();
        assert_eq!(choices.len(), 2, "{:?}", reply.report);
        assert!(choices.contains(&Choice::Hedge), "{:?}", reply.report);
        let outrun = reply.report.attempts.iter().any(|a| {
            &*a.cluster == "near"
                && matches!(a.outcome, Outcome::Failed { fault: Fault::Outrun, .. })
        });
        assert!(outrun, "{:?}", reply.report);
        nothing_is_out(&client);
    }
    // A call that is not safe to repeat waits for its one answer.
    let post = client.service("orders").unwrap().post("/once").body("x");
    let reply = S::wait(post.send()).unwrap();
    assert_eq!(reply.report.attempts.len(), 1, "{:?}", reply.report);
}

fn calls_at_a_silent_endpoint_are_rescued<S: Subject>() {
    let servers = servers();
    let client = client::<S>(&servers, |config| {
        config.policy.deadline.attempt = Some(Duration::from_secs(8));
        // Far above any hiccup of a busy machine.
        config.policy.stall.floor = Duration::from_millis(300);
    });
    for n in 0..30 {
        assert_eq!(get(&client, &format!("/warm/{n}")).unwrap().status, 200);
    }
    servers[0].set(Mode::HangBeforeHead);
    let orders = client.service("orders").unwrap();
    let replies = S::together(4, |n| orders.get(&format!("/silent/{n}")).send());
    let mut rescued = 0;
    for reply in replies {
        let reply = reply.0.unwrap();
        assert_eq!(reply.status, 200);
        rescued += usize::from(reply.report.attempts.iter().any(|a| a.why == Choice::Rescue));
    }
    assert!(rescued >= 2, "{rescued} of four were moved");
    nothing_is_out(&client);
    assert!(of(&client, "orders").endpoints.iter().any(|e| e.suspect), "it is avoided");
}

fn calls_beyond_the_limit_wait_or_are_refused<S: Subject>() {
    let servers = servers();
    servers[0].set(Mode::slow(150));
    servers[1].set(Mode::slow(150));
    for queue in [false, true] {
        let client = client::<S>(&servers, |config| {
            config.policy.stall.enabled = false;
            config.policy.concurrency.mode = ConcurrencyMode::Static;
            config.policy.concurrency.limit = 2;
            config.policy.queue.enabled = queue;
            config.policy.queue.max_wait = Duration::from_secs(8);
            config.policy.queue.target = Duration::from_secs(8);
        });
        let orders = client.service("orders").unwrap();
        let replies = S::together(6, |n| orders.get(&format!("/{queue}/{n}")).send());
        let (ok, refused): (Vec<_>, Vec<_>) =
            replies.into_iter().map(|reply| reply.0).partition(Result::is_ok);
        let service = of(&client, "orders");
        if queue {
            assert_eq!((ok.len(), refused.len()), (6, 0), "{refused:?}");
        } else {
            assert!(ok.len() >= 2 && !refused.is_empty(), "{} answered", ok.len());
            for error in refused {
                let error = error.unwrap_err();
                assert!(error.is_overloaded(), "{error}");
                assert!(matches!(error.failure().unwrap().why, Why::Overload(_)), "{error}");
            }
        }
        assert_eq!((service.limits.in_flight, service.limits.waiting), (0, 0));
    }
}

fn endpoints_are_told_the_time_that_is_left<S: Subject>() {
    let servers = servers();
    servers[0].set(Mode::status(503));
    servers[1].set(Mode::Echo);
    let client = client::<S>(&servers, |config| {
        config.policy.deadline.attempt = Some(Duration::from_secs(4));
        config.policy.propagate.header = DeadlineHeader::Custom("x-left-ms".into());
        config.policy.propagate.attempt_header = Some("x-attempt".into());
    });
    let reply = get(&client, "/told").unwrap();
    assert_eq!(reply.report.attempts.len(), 2, "{:?}", reply.report);
    let text = reply.text().to_lowercase();
    let value = |name: &str| {
        let at = text.find(name).unwrap_or_else(|| panic!("{name} is missing: {text}"));
        let digits = text[at + name.len()..].chars().skip_while(|c| !c.is_ascii_digit());
        digits.take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    assert_eq!(value("x-attempt"), 2);
    assert!((1..=4_000).contains(&value("x-left-ms")), "{text}");
}

fn a_running_client_takes_another_configuration<S: Subject>() {
    let servers = servers();
    servers[0].set(Mode::status(503));
    let client = client::<S>(&servers, |config| config.policy.retry.max_attempts = 1);
    assert!(get(&client, "/alone").is_err());
    let mut next = client.config();
    next.policy.retry.max_attempts = 4;
    client.reconfigure(next.clone()).unwrap();
    assert_eq!(get(&client, "/again").unwrap().status, 200);
    let failed = of(&client, "orders").endpoints[0].numbers.failure_count;
    assert!(failed >= 2, "what the breaker counted is kept: {failed}");
    // A refused one changes nothing.
    next.policy.breaker.open = Duration::ZERO;
    assert_eq!(client.reconfigure(next.clone()).unwrap_err().field, "policy.breaker.open");
    next.policy.breaker.open = Duration::from_secs(1);
    next.local_cluster = Some("far".into());
    assert_eq!(client.reconfigure(next).unwrap_err().field, "local_cluster");
    assert_eq!(client.config().policy.retry.max_attempts, 4);
}

fn case_001_30_and_31_orders_to_a_breaker<S: Subject>() {
    let servers = servers();
    let client = client::<S>(&servers, |_| ());
    let orders = client.service("orders").unwrap();
    assert_eq!(&*get(&client, "/").unwrap().report.attempts[0].cluster, "near");
    assert_eq!(orders.order(&servers[0].url(), Order::KeepOpen), 1);
    assert_eq!(&*get(&client, "/").unwrap().report.attempts[0].cluster, "far");
    assert!(matches!(of(&client, "orders").endpoints[0].breaker, State::Open { .. }));
    assert_eq!(orders.order(&servers[0].url(), Order::Reset), 1);
    assert_eq!(&*get(&client, "/").unwrap().report.attempts[0].cluster, "near");
    orders.order_service(Order::KeepOpen);
    let refused = get(&client, "/").unwrap_err();
    assert!(refused.is_circuit_open(), "{refused}");
    orders.order_service(Order::Resume);
    assert_eq!(get(&client, "/").unwrap().status, 200);
}
