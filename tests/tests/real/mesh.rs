//! Consul Connect: who we are and who they are by Consul's certificates, exchanged under load; and
//! TLS towards the agents themselves.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use origin_core::Error;
use origin_core::consul::followed::Said;
use origin_core::consul::intention::{Intention, Verdict};
use origin_core::notice::Event;
use origin_driver::Builder;
use origin_lab::{FaultServer, Mode};
use origin_servers::consul::{self, Agent, Setup};
use serde_json::{Value, json};

use crate::catalogue::{self, known, register};
use crate::mesh_server::{MeshServer, rotate};
use crate::subject::{Subject, Tokio, eventually, get, story, within};

on_every_runtime! {
    case_003_35_a_call_over_connect_shows_and_proves_who_is_who
    case_003_35_an_authority_is_rotated_under_load_without_a_failed_call
    case_003_46_agents_are_asked_over_tls_as_somebody
    case_003_36_37_defaults_of_consul_are_followed_while_it_runs
}

/// A client that is `ours` in the mesh and looks `service` up there.
fn member<S: Subject>(agent: &Agent, ours: &str, services: &[&str]) -> Builder<S> {
    let builder = catalogue::client::<S>(&agent.url(), |consul| {
        consul.connect.enabled = true;
        consul.connect.service = ours.to_owned();
    });
    builder.configure(|config| {
        for service in services {
            let service = config.services.entry((*service).to_owned()).or_default();
            service.lookup.connect = true;
        }
    })
}

fn case_003_35_a_call_over_connect_shows_and_proves_who_is_who<S: Subject>() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let (web, liar) = (MeshServer::start(&agent, "web"), MeshServer::start(&agent, "other"));
    web.register(&agent, "web", "web1");
    // Registered as `api`, whose certificate it does not have.
    liar.register(&agent, "api", "api1");
    let client = member::<S>(&agent, "caller", &["web", "api"]).build().unwrap();
    let _background = S::background(&client);
    let reply = get(&client, "web", "/x").unwrap_or_else(|e| {
        panic!("{e}\n{:?}\n{}", client.tls_failures(), story(&client.snapshot(), &client.notices()))
    });
    assert!(reply.text().contains(".consul/ns/default/dc/dc1/svc/caller"), "{}", reply.text());
    assert_eq!(known(&client, "web"), [format!("https://127.0.0.1:{}", web.port)]);

    let error = get(&client, "api", "/x").unwrap_err();
    assert!(matches!(error, Error::Refused(_) | Error::Exhausted(_)), "{error}");
    assert_eq!(liar.requests(), 0);
    let failures = client.tls_failures();
    let failure = failures.iter().find(|failure| failure.port == liar.port).unwrap();
    assert!(
        failure.reason.contains("svc/api") && failure.reason.contains("svc/other"),
        "{failure}"
    );

    // The roots of the mesh vouch for nobody outside of it: the same server by its address.
    let url = format!("https://127.0.0.1:{}", web.port);
    let outside = member::<S>(&agent, "caller", &[]).endpoint("plain", url).build().unwrap();
    let _background = S::background(&outside);
    eventually("its certificate is there", || {
        outside.notices().iter().any(|notice| in_force(&notice.event))
    });
    assert!(get(&outside, "plain", "/x").is_err());
    let failure = outside.tls_failures().pop().unwrap();
    assert!(failure.reason.contains("none of our roots"), "{failure}");

    // Intentions are asked for by whoever serves; here the calls.
    let consul = client.consul().unwrap();
    let intentions = consul.intentions();
    assert!(S::wait(intentions.check("caller", "web")).unwrap());
    S::wait(intentions.create(&Intention::new("caller", "web", Verdict::Deny).unwrap())).unwrap();
    eventually("it is denied", || !S::wait(intentions.check("caller", "web")).unwrap());
    let shown = format!("{:?} {:?} {client:?}", client.snapshot(), client.notices());
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

fn in_force(event: &Event) -> bool {
    let said = match event {
        Event::Consul { what: Said::Connect(said) } => said.to_string(),
        _ => return false,
    };
    said.contains("in force")
}

fn case_003_35_an_authority_is_rotated_under_load_without_a_failed_call<S: Subject>() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let web = MeshServer::start(&agent, "web");
    web.register(&agent, "web", "web1");
    let client = member::<S>(&agent, "caller", &["web"]).build().unwrap();
    let _background = S::background(&client);
    get(&client, "web", "/x").unwrap();
    let serials = || {
        let notices = client.notices();
        notices.iter().filter(|notice| in_force(&notice.event)).count()
    };
    let before = serials();
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = || {
        while !over.load(Ordering::SeqCst) {
            get(&client, "web", "/y").unwrap_or_else(|e| {
                let failures = client.tls_failures();
                panic!("{e}\n{failures:?}\n{}", story(&client.snapshot(), &client.notices()))
            });
            calls.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    std::thread::scope(|scope| {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _over = Over(&over);
        let threads = [scope.spawn(load), scope.spawn(load)];
        let begun = Instant::now();
        rotate(&agent);
        // New roots at once; then a new certificate by them, some seconds later.
        within(Duration::from_secs(60), "both are exchanged", || {
            serials() >= before + 2 || threads.iter().any(|thread| thread.is_finished())
        });
        eprintln!("exchanged after {:?}, {} calls", begun.elapsed(), calls.load(Ordering::SeqCst));
        std::thread::sleep(Duration::from_secs(1));
        over.store(true, Ordering::SeqCst);
    });
    assert!(calls.load(Ordering::SeqCst) > 100);
}

/// Hands every connection to `port` on, from an address that the certificate does not name.
fn detour(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut from in listener.incoming().flatten() {
            let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let (mut back, mut forth) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    own
}

fn over_tls<S: Subject>(agent: &Agent, url: &str) -> Builder<S> {
    let papers = agent.papers.as_ref().unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    catalogue::client::<S>(url, |consul| {
        consul.tls.ca = text(&papers.authority);
        consul.tls.cert = text(&papers.client);
        consul.tls.key = text(&papers.client_key);
        consul.tls.poll = Duration::from_secs(1);
    })
}

/// Also 003-47: which file is missing is said when the client is built.
fn case_003_46_agents_are_asked_over_tls_as_somebody<S: Subject>() {
    let Some(agent) = consul::start(&Setup { tls: true, ..Setup::default() }) else { return };
    let server = FaultServer::start().unwrap();
    register(&agent, "web", "web1", &server);
    // The application's own roots are another matter: Mozilla's.
    let client = over_tls::<S>(&agent, &agent.url()).build().unwrap();
    let _background = S::background(&client);
    assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    let kv = client.consul().unwrap();
    let services = S::wait(kv.catalogue().services()).unwrap();
    assert!(services.iter().any(|(name, _)| &**name == "web"));

    // The agent's authority vouches for nobody else: the same server, as a service.
    let url = agent.url();
    let plain = over_tls::<S>(&agent, &url).endpoint("plain", detoured(&agent)).build().unwrap();
    assert!(get(&plain, "plain", "/v1/status/leader").is_err());
    let failure = plain.tls_failures().pop().unwrap();
    assert!(failure.reason.contains("none of our roots"), "{failure}");

    // A host name that the certificate does not have.
    let wrong = over_tls::<S>(&agent, &detoured(&agent)).build().unwrap();
    assert!(matches!(get(&wrong, "web", "/x"), Err(Error::Discovery { .. })));
    let failure = wrong.tls_failures().pop().unwrap();
    assert!(failure.reason.contains("not valid for name"), "{failure}");

    // Files that are not there, by their fields.
    for field in ["ca", "cert", "key"] {
        let missing = over_tls::<S>(&agent, &url).configure(|config| {
            let tls = &mut config.discovery.as_mut().unwrap().consul.as_mut().unwrap().tls;
            match field {
                "ca" => tls.ca = "/nowhere/ca.pem".into(),
                "cert" => tls.cert = "/nowhere/cert.pem".into(),
                _ => tls.key = "/nowhere/key.pem".into(),
            }
        });
        let error = missing.build().unwrap_err();
        assert_eq!(error.field, format!("discovery.consul.tls.{field}"));
        assert!(error.reason.contains("/nowhere/"), "{error}");
    }
}

fn detoured(agent: &Agent) -> String {
    format!("https://127.0.0.2:{}", detour(agent.address().port()))
}

/// The wrong files are replaced by the right ones while the client runs, one after the other.
#[test]
fn case_003_47_files_that_change_are_read_again() {
    let Some(agent) = consul::start(&Setup { tls: true, ..Setup::default() }) else { return };
    let server = FaultServer::start().unwrap();
    register(&agent, "web", "web1", &server);
    let papers = agent.papers.as_ref().unwrap();
    let folder = std::env::temp_dir().join(format!("origin-mesh-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name);
    let other = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    std::fs::copy(&papers.authority, at("ca.pem")).unwrap();
    std::fs::write(at("cert.pem"), other.cert.pem()).unwrap();
    std::fs::write(at("key.pem"), other.signing_key.serialize_pem()).unwrap();
    let client = over_tls::<Tokio>(&agent, &agent.url()).configure(|config| {
        let tls = &mut config.discovery.as_mut().unwrap().consul.as_mut().unwrap().tls;
        let text = |name: &str| folder.join(name).display().to_string();
        (tls.ca, tls.cert, tls.key) = (text("ca.pem"), text("cert.pem"), text("key.pem"));
    });
    let client = client.build().unwrap();
    assert!(get(&client, "web", "/x").is_err());
    // For a while certificate and key do not belong together: that is told and changes nothing.
    std::fs::copy(&papers.client, at("cert.pem")).unwrap();
    let said = |part: &str| client.notices().iter().any(|n| n.to_string().contains(part));
    eventually("the half is refused", || said("discovery.consul.tls.key"));
    std::fs::copy(&papers.client_key, at("key.pem")).unwrap();
    eventually("both are in force", || said("certificates towards consul are in force"));
    within(Duration::from_secs(20), "it is found", || get(&client, "web", "/x").is_ok());
    std::fs::remove_dir_all(folder).unwrap();
}

fn case_003_36_37_defaults_of_consul_are_followed_while_it_runs<S: Subject>() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let server = FaultServer::start().unwrap();
    register(&agent, "web", "web1", &server);
    let builder = catalogue::client::<S>(&agent.url(), |consul| consul.defaults = true);
    // The configuration says nothing of attempts, and so Consul may.
    let builder = builder.configure(|config| config.policy.deadline.attempt = None);
    let client = builder.build().unwrap();
    let _background = S::background(&client);
    assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
    server.set(Mode::slow(700));
    assert_eq!(get(&client, "web", "/slow").unwrap().status, 200);

    let entries = |ms: u64| {
        json!({
            "Kind": "proxy-defaults", "Name": "global",
            "Config": { "local_request_timeout_ms": ms, "local_connect_timeout_ms": 1000 },
        })
    };
    let put = |entry: Value| agent.done("/v1/config", entry).unwrap();
    let begun = Instant::now();
    put(entries(200));
    let said =
        |part: &str| client.notices().iter().filter(|n| n.to_string().contains(part)).count();
    eventually("the change is in force", || {
        said("defaults of consul for web: connect 1s attempt 200ms") == 1
    });
    eprintln!("other defaults in force after {:?}", begun.elapsed());
    assert!(get(&client, "web", "/slow").is_err());
    // A Consul that does not answer changes nothing; what it says afterwards holds again.
    put(json!({ "Kind": "service-resolver", "Name": "web", "ConnectTimeout": "500ms" }));
    eventually("so is another", || said("connect 500ms attempt 200ms") == 1);
    put(entries(5_000));
    eventually("and the next", || said("connect 500ms attempt 5s") == 1);
    assert_eq!(get(&client, "web", "/slow").unwrap().status, 200);
    // One notice for each change, and none for the entries of others.
    put(json!({ "Kind": "service-defaults", "Name": "other", "Protocol": "http" }));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(said("defaults of consul"), 3);

    // How long connections idle is a limit of the client as a whole. ureq looks at it when it
    // needs a connection again, hyper by itself. (Polled: a blocking query that is out keeps the
    // pool it began in, and what idles there.)
    if S::ASYNC {
        let other = FaultServer::start().unwrap();
        register(&agent, "idle", "idle1", &other);
        let polled = catalogue::client::<S>(&agent.url(), |consul| {
            consul.defaults = true;
            consul.watch.blocking = false;
            consul.watch.poll = Duration::from_millis(100);
        });
        let polled = polled.build().unwrap();
        get(&polled, "idle", "/x").unwrap();
        assert_eq!(crate::subject::open([&other]), 1);
        put(json!({
            "Kind": "proxy-defaults", "Name": "global",
            "Config": { "local_request_timeout_ms": 5000, "local_idle_timeout_ms": 200 },
        }));
        let told = || polled.notices().iter().any(|n| n.to_string().contains("idle 200ms"));
        eventually("that is another change", told);
        get(&polled, "idle", "/x").unwrap();
        eventually("idle ones are closed", || crate::subject::open([&other]) == 0);
    }

    // What the configuration says wins.
    let own = catalogue::client::<S>(&agent.url(), |consul| consul.defaults = true);
    let own = own.attempt_timeout(Duration::from_millis(300)).build().unwrap();
    let _background = S::background(&own);
    let _ = get(&own, "web", "/x");
    let told = |service: &str| {
        let start = format!("defaults of consul for {service}:");
        own.notices().iter().filter(|n| n.to_string().starts_with(&start)).count()
    };
    eventually("it is followed there, too", || told("web") > 0);
    // A service that is called for the first time when they are known is told of once.
    register(&agent, "late", "late1", &server);
    let _ = get(&own, "late", "/x");
    assert_eq!(told("late"), 1);
    assert!(get(&own, "web", "/slow").is_err());
}
