//! The adapter against servers that misbehave: each way of failing is told as what it is, and
//! nothing is sent twice that must not be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use origin_blocking::core::call::Why;
use origin_blocking::core::outcome::{Fault, Outcome, Sent};
use origin_blocking::{Client, Error};
use origin_lab::{FaultServer, Mode, World, WorldSpec};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn world() -> World {
    World::start(WorldSpec::default()).unwrap()
}

fn client_of(world: &World) -> Client {
    Client::builder()
        .discovery(world.discovery_url())
        .local_cluster(world.local())
        .attempt_timeout(ms(400))
        .timeout(ms(5_000))
        .seed(7)
        .build()
        .unwrap()
}

/// A client of one server, without any repeating, so that what an attempt met is seen as it is.
fn once(url: &str) -> Client {
    Client::builder()
        .endpoint("lab", url)
        .configure(|config| {
            config.policy.retry.max_attempts = 1;
            config.policy.deadline.connect = Some(ms(300));
            config.limits.body = 1 << 20;
        })
        .attempt_timeout(ms(400))
        .build()
        .unwrap()
}

/// What the single attempt of a `GET` in that mode met, and how long it took.
fn met(mode: Mode) -> (Outcome, Duration) {
    let server = FaultServer::start().unwrap();
    server.set(mode);
    let began = Instant::now();
    let reply = once(&server.url()).service("lab").unwrap().get("/x").send();
    let took = began.elapsed();
    let outcome = match &reply {
        Ok(reply) => reply.report().attempts[0].outcome,
        Err(error) => error.failure().expect("a failed call").report.attempts[0].outcome,
    };
    (outcome, took)
}

fn failed(fault: Fault, sent: Sent) -> Outcome {
    Outcome::Failed { fault, sent }
}

#[test]
fn every_way_of_failing_is_told_apart() {
    let cases = [
        (Mode::Refuse, failed(Fault::Connect, Sent::Never)),
        (Mode::ResetBeforeHead, failed(Fault::Reset, Sent::Maybe)),
        (Mode::ResetMidBody { after: 100 }, failed(Fault::Reset, Sent::Maybe)),
        (Mode::CloseMidBody { after: 100 }, failed(Fault::Reset, Sent::Maybe)),
        (Mode::Garbage, failed(Fault::Protocol, Sent::Maybe)),
        (Mode::HugeHead { bytes: 80 << 10 }, failed(Fault::HeadTooLarge, Sent::Maybe)),
        (Mode::HugeHead { bytes: 4 << 20 }, failed(Fault::HeadTooLarge, Sent::Maybe)),
        (Mode::HugeHead { bytes: 60 << 10 }, Outcome::status(200)),
        (Mode::HugeBody { bytes: 1 << 20 }, Outcome::status(200)),
        (Mode::status(404), Outcome::status(404)),
        (Mode::status(503), Outcome::status(503)),
        (Mode::status(204), Outcome::status(204)),
        (Mode::Redirect { to: "http://127.0.0.1:9/".into(), code: 302 }, Outcome::status(302)),
        (Mode::Redirect { to: "http://127.0.0.1:9/".into(), code: 307 }, Outcome::status(307)),
    ];
    for (mode, expected) in cases {
        let (outcome, took) = met(mode.clone());
        assert_eq!(outcome, expected, "{mode:?}");
        assert!(took < ms(350), "{mode:?} took {took:?}");
    }
}

#[test]
fn a_body_beyond_the_limit_is_an_error_of_its_own() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::HugeBody { bytes: (1 << 20) + 1 });
    let error = once(&server.url()).service("lab").unwrap().get("/").send().unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 0x10_0000, .. }), "{error}");
}

#[test]
fn silence_ends_with_the_attempt_wherever_it_begins() {
    let cases = [
        Mode::HangOnAccept,
        Mode::HangBeforeHead,
        Mode::HangAfterHead,
        Mode::Drip { bytes: 1_000, every_ms: 20 },
    ];
    for mode in cases {
        let (outcome, took) = met(mode.clone());
        assert_eq!(outcome, failed(Fault::Timeout, Sent::Maybe), "{mode:?}");
        assert!((ms(390)..ms(550)).contains(&took), "{mode:?} took {took:?}");
    }
}

#[test]
fn connecting_has_a_limit_of_its_own_and_sends_nothing() {
    // A listener whose queue is full: further handshakes get no answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, ms(100)) {
        queue.push(stream);
        assert!(queue.len() < 10_000);
    }
    let outcome_of = |client: Client| {
        let began = Instant::now();
        let error = client.service("lab").unwrap().get("/").send().unwrap_err();
        (error.failure().unwrap().report.attempts[0].outcome, began.elapsed())
    };
    let url = format!("http://{address}");
    let (outcome, took) = outcome_of(once(&url));
    assert_eq!(outcome, failed(Fault::ConnectTimeout, Sent::Never));
    assert!((ms(290)..ms(390)).contains(&took), "{took:?}");
    // TLS counts as connecting: here nobody ever answers the handshake.
    let silent = FaultServer::start().unwrap();
    silent.set(Mode::HangOnAccept);
    let tls = silent.url().replace("http:", "https:");
    let (outcome, took) = outcome_of(once(&tls));
    assert_eq!(outcome, failed(Fault::ConnectTimeout, Sent::Never));
    assert!((ms(290)..ms(390)).contains(&took), "{took:?}");
}

#[test]
fn an_attempt_that_ends_while_connecting_has_sent_nothing() {
    let silent = FaultServer::start().unwrap();
    silent.set(Mode::HangOnAccept);
    let client = once(&silent.url().replace("http:", "https:"));
    let began = Instant::now();
    let call = client.service("lab").unwrap().post("/").attempt_timeout(ms(100));
    let error = call.body("x").send().unwrap_err();
    let outcome = error.failure().unwrap().report.attempts[0].outcome;
    assert_eq!(outcome, failed(Fault::Timeout, Sent::Never));
    assert!(began.elapsed() < ms(200), "{:?}", began.elapsed());
}

#[test]
fn tls_that_is_none_and_names_that_are_none() {
    use std::io::Write;
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    for (url, fault) in [
        (format!("https://{address}"), Fault::Tls),
        ("http://no-such-host.invalid:80".to_owned(), Fault::Resolve),
    ] {
        let client = once(&url);
        let error = client.service("lab").unwrap().get("/").timeout(ms(5_000)).send().unwrap_err();
        let outcome = error.failure().unwrap().report.attempts[0].outcome;
        assert_eq!(outcome, failed(fault, Sent::Never), "{url}: {error}");
    }
    let wrong = Client::builder()
        .endpoint("lab", "https://127.0.0.1:1")
        .roots(origin_blocking::Roots::Pem(b"no certificate".to_vec()))
        .build()
        .unwrap_err();
    assert!(wrong.to_string().contains("roots"), "{wrong}");
}

#[test]
fn a_name_is_looked_up() {
    let server = FaultServer::start().unwrap();
    let url = format!("http://localhost:{}", server.addr().port());
    let reply = once(&url).service("lab").unwrap().get("/").send().unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(server.requests()[0].header("host"), Some(&*url.replace("http://", "")));
}

#[test]
fn a_truncated_body_without_length_is_not_taken_for_a_whole_one() {
    use std::io::Write;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        for reset in [true, false] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1];
            stream.read_exact(&mut head).unwrap();
            if !reset {
                // All of it, so that closing sends a FIN and not a reset.
                stream.set_read_timeout(Some(ms(100))).unwrap();
                while stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").unwrap();
            thread::sleep(ms(50));
            // Dropped with unread input: the kernel sends a reset.
        }
    });
    let client = once(&url);
    let lab = client.service("lab").unwrap();
    let error = lab.get("/").send().unwrap_err();
    let outcome = error.failure().unwrap().report.attempts[0].outcome;
    assert_eq!(outcome, failed(Fault::Reset, Sent::Maybe));
    assert_eq!(lab.get("/").send().unwrap().text(), "half");
    served.join().unwrap();
}

#[test]
fn a_slow_reader_does_not_stretch_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Takes a little of it again and again, so that every single write makes progress.
        let mut chunk = vec![0; 200 << 10];
        while stream.read(&mut chunk).is_ok_and(|count| count > 0) {
            thread::sleep(ms(50));
        }
    });
    let client = once(&url);
    let began = Instant::now();
    let put = client.service("lab").unwrap().put("/big").body(vec![b'x'; 64 << 20]);
    let error = put.send().unwrap_err();
    assert_eq!(error.attempts(), 1);
    assert!(began.elapsed() < ms(600), "{:?}", began.elapsed());
    drop(client);
    served.join().unwrap();
}

#[test]
fn requests_arrive_as_they_were_asked_for() {
    let server = FaultServer::start().unwrap();
    let client = once(&server.url());
    let lab = client.service("lab").unwrap();
    let head_of = |request: origin_blocking::RequestBuilder| {
        server.reset_counts();
        assert_eq!(request.send().unwrap().status(), 200);
        let seen = server.requests().pop().unwrap();
        let names = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
        let mut names: Vec<String> = names.collect();
        names.sort();
        // Every request carries its ids; the rest is what was asked for.
        let ids = ["x-correlation-id", "x-request-id", "traceparent"];
        assert!(ids.iter().all(|id| names.iter().any(|name| name == id)), "{names:?}");
        names.retain(|name| !ids.contains(&name.as_str()));
        (names.join(" "), seen)
    };
    // Nothing of ureq's own: no user agent, accept, accept-encoding.
    assert_eq!(head_of(lab.get("/a?b=c%20d")).0, "host");
    assert_eq!(head_of(lab.get("/a?b=c%20d")).1.path, "/a?b=c%20d");
    assert_eq!(head_of(lab.head("/")).0, "host");
    assert_eq!(head_of(lab.delete("/")).0, "host");
    let (names, seen) = head_of(lab.post("/").header("X-One", "1").header("x-one", "2"));
    assert_eq!(
        (&*names, seen.header("content-length")),
        ("content-length host x-one x-one", Some("0"))
    );
    let (names, seen) = head_of(lab.post("/").json(&[1, 2]));
    assert_eq!((&*names, seen.body_len), ("content-length content-type host", 5));
    // A length that is not the body's own would leave the connection out of step.
    let (_, seen) = head_of(lab.put("/").header("Content-Length", "500").body("four"));
    assert_eq!((seen.body_len, seen.header("content-length")), (4, Some("4")));
    let (_, seen) = head_of(lab.get("/").header("User-Agent", "mine").body("with a body"));
    assert_eq!((seen.body_len, seen.header("user-agent")), (11, Some("mine")));
    let brew = lab.request("BREW".parse().unwrap(), "/pot");
    assert_eq!(head_of(brew).1.method, "BREW");
    assert_eq!(server.stats().connections_open, 1);
}

#[test]
fn discovery_failover_and_back_again() {
    let world = world();
    let client = client_of(&world);
    let billing = client.service("billing").unwrap();
    let cluster_of = |billing: &origin_blocking::Upstream| {
        let reply = billing.get("/invoices/7").send().unwrap();
        assert_eq!(reply.status(), 200);
        let last = reply.report().attempts.last().unwrap();
        assert_eq!(reply.headers()["x-origin-cluster"], *last.cluster);
        (last.cluster.to_string(), reply.report().attempts.len())
    };
    assert_eq!(cluster_of(&billing), ("beta".to_owned(), 1));
    world.cluster("beta").set(Mode::Refuse);
    assert_eq!(cluster_of(&billing).0, "alpha");
    world.cluster("beta").set(Mode::Ok);
    world.instance("beta", 0).set(Mode::status(503));
    assert_eq!(cluster_of(&billing).0, "beta");
    let secret = client.secrets().get_secret("app/db").unwrap_err();
    assert!(matches!(secret, Error::Credential { .. }), "{secret}");
    assert!(!client.storage().get_object("bucket", "a key").unwrap().bytes.is_empty());
    let unknown = client.service("biling").unwrap_err();
    assert!(matches!(unknown, Error::UnknownService { .. }), "{unknown}");
    assert_eq!(world.registry().server().stats().path("/api/v1/services"), 1);
}

#[test]
fn hanging_and_breaking_endpoints_are_left_for_others() {
    for mode in [
        Mode::HangBeforeHead,
        Mode::HangAfterHead,
        Mode::Drip { bytes: 1_000, every_ms: 20 },
        Mode::ResetBeforeHead,
        Mode::ResetMidBody { after: 10 },
        Mode::CloseMidBody { after: 10 },
        Mode::Garbage,
    ] {
        let world = world();
        world.cluster("beta").set(mode.clone());
        let client = client_of(&world);
        let reply = client.service("billing").unwrap().get("/").send().unwrap();
        let last = reply.report().attempts.last().unwrap();
        assert_eq!((reply.status().as_u16(), &*last.cluster), (200, "alpha"), "{mode:?}");
    }
}

#[test]
fn what_may_have_taken_effect_is_not_sent_twice() {
    let posted = |mode: Mode| {
        let world = world();
        world.cluster("beta").set(mode);
        let billing = client_of(&world).service("billing").unwrap();
        let result = billing.post("/pay").body("7").send();
        (result, world.all().requests())
    };
    for mode in [Mode::ResetBeforeHead, Mode::HangBeforeHead, Mode::ResetMidBody { after: 5 }] {
        let (result, requests) = posted(mode.clone());
        let error = result.unwrap_err();
        assert_eq!(requests, 1, "{mode:?}: {error}");
        assert!(!error.is_retryable() || error.is_timeout(), "{mode:?}: {error}");
    }
    // Nothing left this machine: repeating is safe.
    let (result, requests) = posted(Mode::Refuse);
    assert_eq!(result.unwrap().status(), 200);
    assert_eq!(requests, 1);
    // And where the caller says that repeating is safe, it is done.
    let world = world();
    world.cluster("beta").set(Mode::ResetBeforeHead);
    let billing = client_of(&world).service("billing").unwrap();
    assert_eq!(billing.post("/pay").idempotent(true).send().unwrap().status(), 200);
}

#[test]
fn a_connection_the_server_closed_meanwhile_costs_no_attempt() {
    let server = FaultServer::start().unwrap();
    let client = once(&server.url());
    let lab = client.service("lab").unwrap();
    for _ in 0..20 {
        assert_eq!(lab.post("/").send().unwrap().report().attempts.len(), 1);
    }
    assert_eq!(server.stats().connections_accepted, 1);
    for round in 2..12 {
        server.close_connections();
        // The FIN has to arrive before it can be noticed.
        thread::sleep(ms(20));
        assert_eq!(lab.post("/").send().unwrap().report().attempts.len(), 1);
        assert_eq!(server.stats().connections_accepted, round);
    }
}

#[test]
fn streams_are_read_as_they_come() {
    let server = FaultServer::start().unwrap();
    let client = once(&server.url());
    let lab = client.service("lab").unwrap();
    server.set(Mode::HugeBody { bytes: 300_000 });
    let mut reply = lab.get("/").send_streaming().unwrap();
    assert_eq!(reply.status, 200);
    let mut whole = Vec::new();
    assert_eq!(reply.body.read_to_end(&mut whole).unwrap(), 300_000);
    // Read to the end: the connection is used again.
    lab.get("/").send_streaming().unwrap();
    assert_eq!(server.stats().connections_accepted, 1);

    // The head is limited by the attempt, the body by the whole call.
    server.set(Mode::Drip { bytes: 30, every_ms: 20 });
    let mut reply = lab.get("/").send_streaming().unwrap();
    whole.clear();
    assert_eq!(reply.body.read_to_end(&mut whole).unwrap(), 30);
    let began = Instant::now();
    let mut reply = lab.get("/").timeout(ms(300)).send_streaming().unwrap();
    let error = reply.body.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), Fault::Timeout.text());
    assert!((ms(290)..ms(400)).contains(&began.elapsed()), "{:?}", began.elapsed());
    server.set(Mode::HangBeforeHead);
    let began = Instant::now();
    let error = lab.get("/").send_streaming().unwrap_err();
    assert_eq!(error.failure().unwrap().why, Why::Exhausted, "{error}");
    assert!((ms(390)..ms(500)).contains(&began.elapsed()), "{:?}", began.elapsed());

    server.set(Mode::ResetMidBody { after: 10_000 });
    let mut reply = lab.get("/").send_streaming().unwrap();
    let error = reply.body.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), Fault::Reset.text());
    assert_eq!(reply.body.read(&mut [0; 8]).unwrap(), 0);
    server.set(Mode::HugeBody { bytes: 2 << 20 });
    let mut reply = lab.get("/").send_streaming().unwrap();
    let error = reply.body.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), Fault::BodyTooLarge.text());
}

/// 000-37: many first callers, one fetch.
#[test]
fn case_000_37_threads_share_one_client_and_one_fetch() {
    let world = world();
    world.registry().server().set(Mode::slow(100));
    let client = client_of(&world);
    let barrier = Arc::new(std::sync::Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (client, barrier) = (client.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                let billing = client.service("billing").unwrap();
                for _ in 0..50 {
                    assert_eq!(billing.get("/").send().unwrap().status(), 200);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(world.registry().server().stats().path("/api/v1/services"), 1);
    assert_eq!(world.all().requests(), 400);
    let accepted: u64 =
        world.all().servers().iter().map(|server| server.stats().connections_accepted).sum();
    assert!(accepted <= 16, "{accepted} connections for 8 threads and 2 endpoints");
}

#[test]
fn clients_are_shared_and_bodies_travel() {
    fn travels<T: Send + 'static>() {}
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Client>();
    shared::<origin_blocking::Upstream>();
    travels::<origin_blocking::Body>();
}
