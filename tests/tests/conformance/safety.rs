//! What must not happen twice: a request that is not safe to repeat, once a server has it.

use std::time::Duration;

use origin_core::config::EndpointConfig;
use origin_core::outcome::{Outcome, Sent};
use origin_core::rng::Pcg32;
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};

use crate::subject::Subject;

on_every_runtime! {
    case_000_46_a_post_is_received_once_at_most_whatever_goes_wrong
    case_000_46_marked_idempotent_it_is_repeated
}

const SEQUENCES: u32 = 200;

struct Stage {
    servers: Vec<FaultServer>,
}

impl Stage {
    fn start() -> Stage {
        let named = |name| FaultServer::named(name, name).unwrap();
        Stage { servers: ["near", "middle", "far"].map(named).into() }
    }

    /// A client that would repeat whatever it may: no breaker and no budget holds it back.
    fn client<S: Subject>(&self, attempt: Duration) -> Client<S> {
        let endpoints = self.servers.iter().zip(["near", "middle", "far"]).map(|(server, name)| {
            EndpointConfig { cluster: name.into(), ..EndpointConfig::at(server.url()) }
        });
        Client::<S>::builder()
            .local_cluster("near")
            .configure(|config| {
                let service = config.services.entry("orders".into()).or_default();
                service.endpoints = endpoints.collect();
                config.policy.breaker.mode = origin_core::config::Mode::Disabled;
                config.policy.budget.enabled = false;
                config.policy.retry.max_attempts = 8;
                config.policy.retry.backoff.base = Duration::from_millis(1);
                config.policy.retry.backoff.max = Duration::from_millis(2);
            })
            .timeout(Duration::from_secs(5))
            .attempt_timeout(attempt)
            .seed(46)
            .build()
            .unwrap()
    }

    /// How often servers have received all of a request for that path.
    fn received(&self, path: &str) -> u64 {
        self.servers.iter().map(|server| server.stats().path(path)).sum()
    }
}

fn fault(rng: &mut Pcg32, depth: u32) -> Mode {
    match rng.below(if depth == 0 { 18 } else { 12 }) {
        0 | 1 => Mode::Ok,
        2 => Mode::status(500),
        3 => Mode::status_with(503, "Retry-After", "0"),
        4 => Mode::ResetBeforeHead,
        5 => Mode::ResetMidBody { after: u64::from(rng.below(2000)) },
        6 => Mode::CloseMidBody { after: u64::from(rng.below(2000)) },
        7 => Mode::Garbage,
        8 => Mode::HugeHead { bytes: 1 << 20 },
        9 if depth == 0 => Mode::HangOnAccept,
        9 => Mode::HangBeforeHead,
        10 => Mode::HangAfterHead,
        11 => Mode::Redirect { to: "/elsewhere".into(), code: 307 },
        12 => Mode::Sequence((0..3).map(|_| fault(rng, 1)).collect()),
        13 => Mode::flaky(2, fault(rng, 1)),
        _ => Mode::Refuse,
    }
}

fn case_000_46_a_post_is_received_once_at_most_whatever_goes_wrong<S: Subject>() {
    let stage = Stage::start();
    let client = stage.client::<S>(Duration::from_millis(60));
    let orders = client.service("orders").unwrap();
    let mut rng = Pcg32::new(46, 0);
    let (mut answered, mut failed, mut moved) = (0, 0, 0);
    for sequence in 0..SEQUENCES {
        let modes: Vec<Mode> = (0..3).map(|_| fault(&mut rng, 0)).collect();
        for (server, mode) in stage.servers.iter().zip(&modes) {
            server.set(mode.clone());
            if rng.below(4) == 0 {
                // Connections in the pool are stale, and nobody has noticed yet.
                server.close_connections();
            }
        }
        let path = format!("/orders/{sequence}");
        let body = vec![b'o'; rng.below(20_000) as usize];
        let result = S::wait(orders.post(&path).body(body).send());
        let report = match &result {
            Ok(response) => &response.report,
            Err(error) => &error.failure().unwrap().report,
        };
        let context = || format!("{path} with {modes:?}: {result:?}");
        // A server that is still reading has not received it.
        std::thread::sleep(Duration::from_millis(2));
        let received = stage.received(&path);
        assert!(received <= 1, "received {received} times: {}", context());
        // Only what never left was sent again.
        for attempt in report.attempts.iter().rev().skip(1) {
            assert!(
                matches!(attempt.outcome, Outcome::Failed { sent: Sent::Never, .. }),
                "repeated after {:?}: {}",
                attempt.outcome,
                context()
            );
        }
        let sent = |outcome: Outcome| !matches!(outcome, Outcome::Failed { sent: Sent::Never, .. });
        if !report.attempts.iter().any(|attempt| sent(attempt.outcome)) {
            assert_eq!(received, 0, "it said that nothing was sent: {}", context());
        }
        match &result {
            Ok(_) => {
                assert_eq!(received, 1, "who has answered? {}", context());
                answered += 1;
            }
            Err(_) => failed += 1,
        }
        moved += u32::from(report.attempts.len() > 1);
    }
    assert!(
        answered > 40 && failed > 40 && moved > 5,
        "{answered} answered, {failed} failed, {moved} in another cluster"
    );
    // What a server got late it got once, too.
    std::thread::sleep(Duration::from_millis(100));
    for sequence in 0..SEQUENCES {
        assert!(stage.received(&format!("/orders/{sequence}")) <= 1, "{sequence}");
    }
}

fn case_000_46_marked_idempotent_it_is_repeated<S: Subject>() {
    let stage = Stage::start();
    let client = stage.client::<S>(Duration::from_millis(500));
    let orders = client.service("orders").unwrap();
    for (number, mode) in
        (0..).zip([Mode::status(503), Mode::ResetBeforeHead, Mode::HangBeforeHead])
    {
        stage.servers[0].set(mode.clone());
        // Connections that the change has killed are seen as such before they are used.
        std::thread::sleep(Duration::from_millis(30));
        let path = format!("/orders/{number}");
        let plain = S::wait(orders.post(&path).body("x").send());
        let attempts = match &plain {
            Ok(response) => response.report.attempts.len(),
            Err(error) => error.attempts(),
        };
        assert_eq!((attempts, stage.received(&path)), (1, 1), "{mode:?}: {plain:?}");
        let marked = S::wait(orders.post(&path).body("x").idempotent(true).send()).unwrap();
        assert_eq!(marked.status, 200, "{mode:?}");
        let clusters: Vec<_> = marked.report.attempts.iter().map(|a| &*a.cluster).collect();
        if mode == Mode::HangBeforeHead {
            // Its silence has just cost an attempt: it is not asked again at once.
            assert_eq!((clusters, stage.received(&path)), (vec!["middle"], 2));
        } else {
            assert_eq!((clusters, stage.received(&path)), (vec!["near", "middle"], 3), "{mode:?}");
        }
    }
}
