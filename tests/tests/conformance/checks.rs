//! Active health checks over real sockets: who is asked, what an answer does to calls, and when
//! the asking begins and ends. The thresholds and waits themselves are proved in the core.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use origin_core::config::{CheckKind, ChecksConfig};
use origin_core::outcome::Fault;
use origin_core::policy::health::{Entry, Fail, ProbeOutcome, Status};
use origin_driver::{Builder, Client};
use origin_lab::{Answer, FaultServer, GrpcHealth, Mode, Serving, World, WorldSpec};

use crate::subject::{Subject, TOKIO, eventually, get, in_world, of, open};

on_every_runtime! {
    case_000_27_an_endpoint_that_says_it_is_unwell_is_avoided_and_used_again
    case_000_27_a_connection_that_is_refused_makes_unhealthy_before_any_call
    case_000_27_discovered_endpoints_are_checked_by_the_path_of_the_document
    case_000_27_checks_end_with_the_client
    case_x_05_an_endpoint_that_says_it_is_degraded_stays_in_use
    x_08_a_hanging_registry_and_a_hanging_endpoint_delay_nobody
    a_body_beyond_the_limit_is_a_failed_check
    why_there_is_no_connection_is_told_apart
}

on_every_async_runtime! {
    case_000_27_checks_begin_with_the_first_call
    case_000_27_checks_under_way_end_with_the_client
}

/// Checks that need no patience: what is unknown or changing is asked every 30 ms.
pub(crate) fn quick(kind: CheckKind) -> ChecksConfig {
    let interval = Duration::from_millis(500);
    ChecksConfig {
        kind,
        interval,
        // Enough for a busy machine.
        timeout: Some(interval),
        fast_interval: Some(Duration::from_millis(30)),
        no_traffic_interval: Some(interval),
        ..ChecksConfig::default()
    }
}

/// A client of `urls` as the service `billing`, which is checked that way.
pub(crate) fn checked<S: Subject>(checks: ChecksConfig, urls: &[String]) -> Builder<S> {
    let builder = Client::<S>::builder().seed(7).configure(|config| config.policy.checks = checks);
    urls.iter().fold(builder, |builder, url| builder.endpoint("billing", url))
}

/// What is known about the endpoint at `url`: the verdict and the latest results.
pub(crate) fn verdict<S: Subject>(client: &Client<S>, url: &str) -> (Status, Vec<Entry>) {
    let service = of(client, "billing");
    let endpoint = service.endpoints.iter().find(|e| &*e.address == url).unwrap();
    (endpoint.health, endpoint.checks.clone())
}

pub(crate) fn becomes<S: Subject>(client: &Client<S>, url: &str, status: Status) {
    eventually(&format!("{url} is {status}"), || verdict(client, url).0 == status);
}

/// An endpoint that answers every call with 200, whatever its health is.
struct TwoFaced {
    server: FaultServer,
    says: Arc<Mutex<Answer>>,
}

impl TwoFaced {
    fn new() -> TwoFaced {
        let says = Arc::new(Mutex::new(Answer::new(200)));
        let of_server = says.clone();
        let handler = move |request: &origin_lab::Request| match request.route() {
            "/health" => of_server.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            _ => Answer::new(200),
        };
        TwoFaced { server: FaultServer::with_handler(Arc::new(handler)).unwrap(), says }
    }

    fn say(&self, answer: Answer) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    fn checks(&self) -> u64 {
        self.server.stats().path("/health")
    }

    fn calls(&self) -> u64 {
        self.server.stats().path("/x")
    }
}

fn case_000_27_an_endpoint_that_says_it_is_unwell_is_avoided_and_used_again<S: Subject>() {
    let (sick, well) = (TwoFaced::new(), TwoFaced::new());
    sick.say(Answer::new(503));
    let urls = [sick.server.url(), well.server.url()];
    let client = checked::<S>(quick(CheckKind::Http), &urls).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    becomes(&client, &urls[1], Status::Healthy);
    // No call was needed for that, and the history says what happened (004-03).
    assert_eq!((sick.calls(), well.calls()), (0, 0));
    let (_, history) = verdict(&client, &urls[0]);
    let bad = ProbeOutcome::Fail(Fail::Status(503));
    assert!(history.iter().all(|entry| entry.outcome == bad), "{history:?}");
    assert!(history.iter().map(|entry| entry.count).sum::<u32>() >= 3, "{history:?}");
    assert!(sick.checks() >= 3);
    let (_, history) = verdict(&client, &urls[1]);
    assert_eq!(history[0].outcome, ProbeOutcome::Pass);
    // It would answer calls, and gets none.
    for _ in 0..30 {
        assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    }
    assert_eq!((sick.calls(), well.calls()), (0, 30));
    sick.say(Answer::new(204));
    becomes(&client, &urls[0], Status::Healthy);
    eventually("it is called again", || {
        get(&client, "billing", "/x").unwrap();
        sick.calls() > 0
    });
    let (_, history) = verdict(&client, &urls[0]);
    let good = history.iter().filter(|e| e.outcome == ProbeOutcome::Pass).map(|e| e.count);
    assert!(good.sum::<u32>() >= 2, "{history:?}");
    let said = client.notices().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(said.contains("unhealthy, was unknown: 3 checks failed in a row"), "{said}");
    assert!(said.contains("healthy, was unhealthy: 2 checks passed in a row"), "{said}");
    // Asked as the contract has it.
    let seen = sick.server.requests();
    let check = seen.iter().find(|seen| seen.path == "/health").unwrap();
    let host = urls[0].strip_prefix("http://");
    assert_eq!((check.method.as_str(), check.header("host")), ("GET", host));
    assert_eq!(check.header("user-agent"), Some("origin-health-check"));
    let hosts = check.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    assert_eq!(hosts.count(), 1);
}

fn case_000_27_a_connection_that_is_refused_makes_unhealthy_before_any_call<S: Subject>() {
    let (down, up) = (TwoFaced::new(), TwoFaced::new());
    down.server.set(Mode::Refuse);
    let urls = [down.server.url(), up.server.url()];
    let client = checked::<S>(quick(CheckKind::Tcp), &urls).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    becomes(&client, &urls[1], Status::Healthy);
    let (_, history) = verdict(&client, &urls[0]);
    let refused = ProbeOutcome::Fail(Fail::Fault(Fault::Connect));
    assert!(history.iter().all(|entry| entry.outcome == refused), "{history:?}");
    for _ in 0..10 {
        let response = get(&client, "billing", "/x").unwrap();
        assert_eq!(response.report.attempts.len(), 1, "{}", response.report);
    }
    down.server.set(Mode::Ok);
    becomes(&client, &urls[0], Status::Healthy);
    // Nothing was sent on those connections, and none of them stays.
    assert_eq!((down.server.request_count(), up.calls()), (0, 10));
    eventually("connections are closed", || open([&down.server]) == 0);
}

fn case_000_27_discovered_endpoints_are_checked_by_the_path_of_the_document<S: Subject>() {
    let world = World::start(WorldSpec::default().only(&["billing", "storage"])).unwrap();
    let build = || {
        in_world::<S>(&world)
            .configure(|config| config.policy.checks = quick(CheckKind::Http))
            .build()
            .unwrap()
    };
    let (client, other) = (build(), build());
    let _backgrounds = (S::background(&client), S::background(&other));
    // One that is asked for before there is a document, and one after.
    client.service("billing").unwrap();
    eventually("there is a document", || other.snapshot().discovery[0].age.is_some());
    other.service("storage").unwrap();
    for (client, service, path) in
        [(&client, "billing", "/health"), (&other, "storage", "/minio/health/live")]
    {
        eventually("every endpoint is healthy", || {
            let endpoints = of(client, service).endpoints;
            !endpoints.is_empty() && endpoints.iter().all(|e| e.health == Status::Healthy)
        });
        for server in world.service(service).servers() {
            let stats = server.stats();
            assert!(stats.path(path) > 0 && stats.path(path) == stats.requests, "{stats:?}");
        }
    }
    world.cluster("beta").set(Mode::status(503));
    eventually("those of one cluster are not", || {
        let endpoints = of(&client, "billing").endpoints;
        endpoints.iter().all(|e| (&*e.cluster == "beta") == (e.health == Status::Unhealthy))
    });
    // Its own cluster is `beta`: without checks the first attempt would go there.
    let response = get(&client, "billing", "/x").unwrap();
    assert_eq!(response.report.attempts.len(), 1, "{}", response.report);
    assert_ne!(&*response.report.attempts[0].cluster, "beta");
}

fn case_000_27_checks_end_with_the_client<S: Subject>() {
    let (server, hangs) = (TwoFaced::new(), TwoFaced::new());
    hangs.server.set(Mode::HangBeforeHead);
    let interval = Duration::from_millis(40);
    let checks = ChecksConfig {
        interval,
        timeout: Some(interval),
        no_traffic_interval: Some(interval),
        ..quick(CheckKind::Http)
    };
    let urls = [server.server.url(), hangs.server.url()];
    let client = checked::<S>(checks, &urls).build().unwrap();
    let clone = client.clone();
    let background = S::background(&client);
    eventually("it is checked", || server.checks() >= 5);
    drop(client);
    let before = server.checks();
    eventually("a clone keeps the checks", || server.checks() >= before + 5);
    drop(clone);
    if let Some(background) = background {
        eventually("the thread ends by itself", || background.is_over());
    }
    // Also those of checks that were under way.
    eventually("connections are closed", || open([&server.server, &hangs.server]) == 0);
    let after = (server.checks(), hangs.server.stats().connections_accepted);
    thread::sleep(Duration::from_millis(300));
    assert_eq!((server.checks(), hangs.server.stats().connections_accepted), after);
}

fn case_000_27_checks_under_way_end_with_the_client<S: Subject>() {
    let day = Duration::from_secs(86_400);
    let (http, grpc) = (TwoFaced::new(), GrpcHealth::start().unwrap());
    http.server.set(Mode::HangBeforeHead);
    grpc.set(Serving::Hang);
    for (kind, url) in [(CheckKind::Http, http.server.url()), (CheckKind::Grpc, grpc.url())] {
        let checks = ChecksConfig {
            interval: day,
            timeout: Some(day),
            no_traffic_interval: Some(day),
            ..quick(kind)
        };
        let client = checked::<S>(checks, &[url]).build().unwrap();
        S::background(&client);
        let open = || open([&http.server]) + grpc.connections_open();
        eventually("it is checked", || open() == 1 && http.checks() + grpc.checks() > 0);
        drop(client);
        eventually("the connection is closed", || open() == 0);
        http.server.reset_counts();
    }
}

fn case_x_05_an_endpoint_that_says_it_is_degraded_stays_in_use<S: Subject>() {
    let server = TwoFaced::new();
    server.say(Answer::new(200).header("X-Envoy-Degraded", "1"));
    let urls = [server.server.url()];
    let client = checked::<S>(quick(CheckKind::Http), &urls).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Degraded);
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    server.say(Answer::new(200));
    becomes(&client, &urls[0], Status::Healthy);
    drop((_background, client));
    // The same by the word in its body.
    server.say(Answer::bytes(200, "application/json", r#"{"status":"warning"}"#));
    let checks = ChecksConfig { read_body: true, ..quick(CheckKind::Http) };
    let client = checked::<S>(checks, &urls).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Degraded);
}

fn x_08_a_hanging_registry_and_a_hanging_endpoint_delay_nobody<S: Subject>() {
    let world = World::start(WorldSpec::default().only(&["billing"])).unwrap();
    world.registry().server().set(Mode::HangBeforeHead);
    let day = Duration::from_secs(86_400);
    let checks = ChecksConfig {
        interval: day,
        timeout: Some(day),
        no_traffic_interval: Some(day),
        // Never settled, so asked all the time.
        healthy_threshold: 1000,
        ..quick(CheckKind::Http)
    };
    for discovery in [false, true] {
        let (well, hangs) = (TwoFaced::new(), TwoFaced::new());
        hangs.server.set(Mode::HangBeforeHead);
        let mut builder = checked::<S>(checks.clone(), &[well.server.url(), hangs.server.url()]);
        if discovery {
            builder = builder
                .discovery(world.discovery_url())
                .configure(|config| config.discovery.as_mut().unwrap().timeout = day);
        }
        let client = builder.build().unwrap();
        let background = S::background(&client);
        let registry = world.registry().server();
        let asked = || registry.request_count() == u64::from(discovery);
        eventually("the registry is asked", asked);
        eventually("so is the endpoint that hangs", || hangs.server.request_count() == 1);
        let before = well.checks();
        eventually("and the other one many times", || well.checks() >= before + 10);
        assert!(asked() && hangs.server.request_count() == 1);
        // Nor do they delay the end: that would be a day.
        let began = Instant::now();
        drop((background, client));
        assert!(began.elapsed() < Duration::from_secs(5));
        if S::ASYNC {
            eventually("the fetch ends, too", || open([registry, &hangs.server]) == 0);
        }
    }
}

fn a_body_beyond_the_limit_is_a_failed_check<S: Subject>() {
    let server = TwoFaced::new();
    server.say(Answer::bytes(200, "text/plain", vec![b' '; 65 << 10]));
    let urls = [server.server.url()];
    let client = checked::<S>(quick(CheckKind::Http), &urls).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    let (_, history) = verdict(&client, &urls[0]);
    let large = ProbeOutcome::Fail(Fail::Fault(Fault::BodyTooLarge));
    assert!(history.iter().all(|entry| entry.outcome == large), "{history:?}");
}

/// An address whose queue of connections is full: further handshakes get no answer.
fn full() -> (tokio::net::TcpListener, Vec<std::net::TcpStream>) {
    let _tokio = TOKIO.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let mut queue = Vec::new();
    while let Ok(stream) = connect() {
        queue.push(stream);
        assert!(queue.len() < 100);
    }
    (listener, queue)
}

fn why_there_is_no_connection_is_told_apart<S: Subject>() {
    let (listener, _queue) = full();
    let urls = [
        format!("http://{}", listener.local_addr().unwrap()),
        "http://no-such-host.invalid:80".to_owned(),
        "http://[::1]:9".to_owned(),
    ];
    // Which limit ends first: that of connecting, or that of the check.
    for (connect, late) in [(350, Fault::ConnectTimeout), (900, Fault::Timeout)] {
        for kind in [CheckKind::Tcp, CheckKind::Http] {
            let client = checked::<S>(quick(kind), &urls)
                .connect_timeout(Duration::from_millis(connect))
                .build()
                .unwrap();
            let _background = S::background(&client);
            for (url, fault) in urls.iter().zip([late, Fault::Resolve, Fault::Connect]) {
                becomes(&client, url, Status::Unhealthy);
                let (_, history) = verdict(&client, url);
                let expected = ProbeOutcome::Fail(Fail::Fault(fault));
                // A busy machine may need longer than that for a lookup, now and then.
                let found = |entry: &Entry| entry.outcome == expected;
                assert!(history.iter().any(found), "{fault:?} is not in {history:?}");
            }
        }
    }
}

fn case_000_27_checks_begin_with_the_first_call<S: Subject>() {
    let server = TwoFaced::new();
    let urls = [server.server.url()];
    let build = |checks: ChecksConfig| checked::<S>(checks, &urls).build().unwrap();
    // Off by default: a call starts nothing.
    let client = build(ChecksConfig::default());
    get(&client, "billing", "/x").unwrap();
    let client = build(quick(CheckKind::Http));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.checks(), 0);
    get(&client, "billing", "/x").unwrap();
    becomes(&client, &urls[0], Status::Healthy);
}

/// What a blocking client has instead: no checks without a background, and their end with it.
#[test]
fn case_000_27_a_blocking_client_checks_only_in_its_background() {
    use origin_blocking::Blocking;
    let server = TwoFaced::new();
    let urls = [server.server.url()];
    let client = checked::<Blocking>(quick(CheckKind::Http), &urls).build().unwrap();
    get(&client, "billing", "/x").unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.checks(), 0);
    let background = client.background().unwrap();
    becomes(&client, &urls[0], Status::Healthy);
    drop(background);
    let seen = server.checks();
    server.say(Answer::new(503));
    thread::sleep(Duration::from_millis(700));
    // One may have been under way.
    assert!(server.checks() <= seen + 1);
    assert_eq!(verdict(&client, &urls[0]).0, Status::Healthy);
    let _second = client.background().unwrap();
    becomes(&client, &urls[0], Status::Unhealthy);
}

#[test]
fn case_x_15_an_idle_background_ends_with_its_blocking_client() {
    let urls = ["http://127.0.0.1:9".to_owned()];
    let builder = checked::<origin_blocking::Blocking>(ChecksConfig::default(), &urls);
    let client = builder.build().unwrap();
    let background = client.background().unwrap();
    assert!(!background.is_over());
    drop(client);
    eventually("the thread ends by itself", || background.is_over());
}
