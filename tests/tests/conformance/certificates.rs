//! Who is who, over real TLS: what a server has to prove (a host name, a given name, a SPIFFE id),
//! who the client is to servers that ask, and what is said when it does not fit.

use std::time::Duration;

use origin_core::Error;
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_driver::{Builder, Client, Expect, Identity, Roots, TlsFiles, Verify};

use crate::authority::{Authority, EACH_VERSION, Server, Setup};
use crate::subject::{Subject, get};

on_every_runtime! {
    case_003_46_servers_are_who_they_are_reached_as
    case_003_46_a_name_of_its_own_is_verified_instead_of_the_address
    a_server_that_asks_is_shown_who_we_are
    a_server_that_refuses_us_is_a_tls_fault_and_nothing_was_sent
    a_refusal_is_heard_by_who_is_still_writing
    a_workload_is_known_by_its_spiffe_id_alone
    a_proxy_that_accepts_http_2_in_vain_is_offered_http_1_only
    case_003_47_what_is_wrong_with_a_file_is_said_with_its_name
    names_that_no_certificate_can_have_are_refused_at_build
}

pub(crate) const TLS: Outcome = Outcome::Failed { fault: Fault::Tls, sent: Sent::Never };

/// A client of one server that tries once.
pub(crate) fn to<S: Subject>(url: &str, roots: Roots) -> Builder<S> {
    Client::<S>::builder()
        .endpoint("lab", url)
        .roots(roots)
        .timeout(Duration::from_secs(10))
        .configure(|config| config.policy.retry.max_attempts = 1)
        .seed(7)
}

pub(crate) fn outcome(result: Result<origin_core::Response, Error>) -> Outcome {
    match result {
        Ok(reply) => reply.report.attempts[0].outcome,
        Err(error) => error.failure().unwrap().report.attempts[0].outcome,
    }
}

/// Why the last handshake failed.
pub(crate) fn reason<S: Subject>(client: &Client<S>) -> String {
    client.tls_failures().last().map(ToString::to_string).unwrap_or_default()
}

fn case_003_46_servers_are_who_they_are_reached_as<S: Subject>() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = Server::start(&Setup::of(ours.leaf(&["localhost", "127.0.0.1"])));
    let client = to::<S>(&good.url(), ours.roots()).build().unwrap();
    assert_eq!(get(&client, "lab", "/").unwrap().text(), "nobody");
    assert_eq!(client.tls_failures(), []);
    let by_address = format!("https://127.0.0.1:{}", good.port);
    let client = to::<S>(&by_address, ours.roots()).build().unwrap();
    assert_eq!(get(&client, "lab", "/").unwrap().text(), "nobody");
    for (leaf, said) in [
        (ours.leaf(&["other.example"]), "other.example"),
        (ours.leaf(&["127.0.0.1"]), "not valid for name"),
        (ours.leaf(&["spiffe://d/localhost"]), "not valid for name"),
        (theirs.leaf(&["localhost"]), "UnknownIssuer"),
    ] {
        let server = Server::start(&Setup::of(leaf));
        let client = to::<S>(&server.url(), ours.roots()).build().unwrap();
        for count in 1..=3 {
            assert_eq!(outcome(get(&client, "lab", "/")), TLS);
            let failures = client.tls_failures();
            assert_eq!((failures.len(), failures[0].count), (1, count));
            assert_eq!((&*failures[0].host, failures[0].port), ("localhost", server.port));
            assert!(reason(&client).contains(said), "{}", reason(&client));
        }
        assert_eq!(server.requests(), 0);
    }
}

fn case_003_46_a_name_of_its_own_is_verified_instead_of_the_address<S: Subject>() {
    let ours = Authority::new();
    // As `consul tls cert create -server` names servers.
    let server = Server::start(&Setup::of(ours.leaf(&["server.dc1.consul"])));
    let url = format!("https://127.0.0.1:{}", server.port);
    let named = |name: &str| {
        let expect = Expect::of(Verify::Name(name.into()));
        to::<S>(&url, ours.roots()).expect("127.0.0.1", server.port, expect).build().unwrap()
    };
    assert_eq!(get(&named("server.dc1.consul"), "lab", "/").unwrap().text(), "nobody");
    let before = server.requests();
    for client in [named("server.dc2.consul"), named("127.0.0.1")] {
        assert_eq!(outcome(get(&client, "lab", "/")), TLS);
        assert!(reason(&client).contains("server.dc1.consul"), "{}", reason(&client));
    }
    // Without the expectation, and with one for another port.
    let plain = to::<S>(&url, ours.roots()).build().unwrap();
    assert_eq!(outcome(get(&plain, "lab", "/")), TLS);
    let expect = Expect::of(Verify::Name("server.dc1.consul".into()));
    let elsewhere = to::<S>(&url, ours.roots()).expect("127.0.0.1", 1, expect).build().unwrap();
    assert_eq!(outcome(get(&elsewhere, "lab", "/")), TLS);
    assert_eq!(server.requests(), before);
}

fn a_server_that_asks_is_shown_who_we_are<S: Subject>() {
    let ours = Authority::new();
    let own = ours.leaf(&["client.dc1.consul"]);
    for versions in EACH_VERSION {
        let leaf = ours.leaf(&["localhost"]);
        let server = Server::start(&Setup { versions, ..Setup::requiring(leaf, &ours) });
        server.know(&own, "dc1");
        for identity in [
            own.identity(),
            Identity::der([own.der.to_vec()], own.key.clone()),
            // Key and certificate in one text, in any order.
            Identity::pem(own.key_pem.clone() + &own.pem, own.pem.clone() + &own.key_pem),
        ] {
            let client = to::<S>(&server.url(), ours.roots()).identity(identity).build().unwrap();
            assert_eq!(get(&client, "lab", "/").unwrap().text(), "dc1");
        }
        // One that does not ask is shown nothing, and does not mind.
        let open = Server::start(&Setup::of(ours.leaf(&["localhost"])));
        let client = to::<S>(&open.url(), ours.roots()).identity(own.identity()).build().unwrap();
        assert_eq!(get(&client, "lab", "/").unwrap().text(), "nobody");
    }
}

fn a_server_that_refuses_us_is_a_tls_fault_and_nothing_was_sent<S: Subject>() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for versions in EACH_VERSION {
        for alpn in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
            let leaf = ours.leaf(&["localhost"]);
            let setup = Setup { versions, alpn, ..Setup::requiring(leaf, &ours) };
            let server = Server::start(&setup);
            // Without a certificate, and with one that the server does not know the authority of.
            for identity in [None, Some(theirs.leaf(&["client"]).identity())] {
                let told =
                    if identity.is_some() { "refused our certificate" } else { "certificate" };
                // Fewer calls of one client than open a breaker, and many in all: there are races.
                let clients = [0; 5].map(|_| {
                    let builder = to::<S>(&server.url(), ours.roots());
                    match identity.clone() {
                        Some(identity) => builder.identity(identity).build().unwrap(),
                        None => builder.build().unwrap(),
                    }
                });
                for client in clients.iter().flat_map(|client| [client; 4]) {
                    let outcome = outcome(get(client, "lab", "/"));
                    assert_eq!(outcome, TLS, "{versions:?} {alpn:?} {}", reason(client));
                    assert!(reason(client).contains(told), "{}", reason(client));
                }
            }
            assert_eq!(server.requests(), 0);
        }
    }
}

/// The server has closed before all is written: it answers with a reset, which must not hide what
/// it said before.
fn a_refusal_is_heard_by_who_is_still_writing<S: Subject>() {
    let ours = Authority::new();
    for alpn in [&[][..], &["h2", "http/1.1"]] {
        let leaf = ours.leaf(&["localhost"]);
        let server = Server::start(&Setup { alpn, ..Setup::requiring(leaf, &ours) });
        server.be_abrupt();
        let much = vec![7_u8; 8 << 20];
        for _ in 0..20 {
            let client = to::<S>(&server.url(), ours.roots()).build().unwrap();
            let upstream = client.service("lab").unwrap();
            let outcome = outcome(S::wait(upstream.post("/").body(much.clone()).send()));
            assert_eq!(outcome, TLS, "{alpn:?} {}", reason(&client));
        }
        assert_eq!(server.requests(), 0);
    }
}

fn a_workload_is_known_by_its_spiffe_id_alone<S: Subject>() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (right, wrong) = ("11111111-2222.consul", "33333333-4444.consul");
    let id =
        |domain: &str, service: &str| format!("spiffe://{domain}/ns/default/dc/dc1/svc/{service}");
    let web = id(right, "web");
    let expected = Verify::Spiffe { trust_domain: right.into(), service: "web".into() };
    let met = |leaf: crate::authority::Leaf, verify: &Verify| {
        let server = Server::start(&Setup::requiring(leaf, &ours));
        let own = ours.leaf(&["spiffe://11111111-2222.consul/ns/default/dc/dc1/svc/api"]);
        server.know(&own, "api");
        // An instance is found by its address; no certificate of a mesh names it.
        let url = format!("https://127.0.0.1:{}", server.port);
        let client = to::<S>(&url, ours.roots())
            .identity(own.identity())
            .expect("127.0.0.1", server.port, Expect::of(verify.clone()))
            .build()
            .unwrap();
        match get(&client, "lab", "/") {
            Ok(reply) => {
                assert_eq!(reply.text(), "api");
                Ok(())
            }
            error => {
                assert_eq!((outcome(error), server.requests()), (TLS, 0));
                Err(reason(&client))
            }
        }
    };
    let exact = Verify::Id(web.as_str().into());
    for verify in [&expected, &exact] {
        assert_eq!(met(ours.leaf(&[&web]), verify), Ok(()));
        // A name beside it is allowed and means nothing.
        assert_eq!(met(ours.leaf(&["web.example", &web]), verify), Ok(()));
        for (leaf, said) in [
            (ours.leaf(&[&id(right, "billing")]), "svc/billing"),
            (ours.leaf(&[&id(wrong, "web")]), wrong),
            (ours.leaf(&["127.0.0.1", "localhost"]), "has no SPIFFE id"),
            (ours.leaf(&[&web, &id(right, "billing")]), "several"),
            (ours.leaf(&[&id(right, "billing"), &web]), "several"),
            (theirs.leaf(&[&web]), "UnknownIssuer"),
        ] {
            let refused = met(leaf, verify).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
    assert_eq!(met(ours.leaf(&[&web.replace("dc1", "dc2")]), &expected), Ok(()));
    assert!(met(ours.leaf(&[&web.replace("dc1", "dc2")]), &exact).is_err());
}

fn a_proxy_that_accepts_http_2_in_vain_is_offered_http_1_only<S: Subject>() {
    let ours = Authority::new();
    let setup = Setup::of(ours.leaf(&["localhost"]));
    let server = Server::start(&Setup { alpn: &["h2", "http/1.1"], ..setup });
    let client = to::<S>(&server.url(), ours.roots())
        .expect("localhost", server.port, Expect::default().http1_only())
        .build()
        .unwrap();
    assert_eq!(get(&client, "lab", "/").unwrap().text(), "nobody");
    // It makes the difference, where HTTP/2 is spoken at all.
    let client = to::<S>(&server.url(), ours.roots()).build().unwrap();
    assert_eq!(get(&client, "lab", "/").is_err(), S::ASYNC);
}

fn case_003_47_what_is_wrong_with_a_file_is_said_with_its_name<S: Subject>() {
    let ours = Authority::new();
    let (own, other) = (ours.leaf(&["client"]), ours.leaf(&["other"]));
    let folder = std::env::temp_dir().join(format!("origin-{}-{}", S::NAME, std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name).display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    };
    let garbled = own.pem.replace("MII", "!!!");
    let good = TlsFiles {
        ca: write("ca.pem", &ours.pem()),
        cert: write("cert.pem", &own.pem),
        key: write("key.pem", &own.key_pem),
    };
    let build = |files: &TlsFiles| {
        let (roots, identity) = files.read("consul.tls").unwrap();
        to::<S>("https://localhost:1", roots).identity(identity).build().map(drop)
    };
    assert_eq!(build(&good), Ok(()));
    let files = |ca: &str, cert: &str, key: &str| TlsFiles {
        ca: if ca.is_empty() { good.ca.clone() } else { write("bad-ca.pem", ca) },
        cert: if cert.is_empty() { good.cert.clone() } else { write("bad-cert.pem", cert) },
        key: if key.is_empty() { good.key.clone() } else { write("bad-key.pem", key) },
    };
    for (files, field, file) in [
        (files("nothing", "", ""), "roots", "bad-ca.pem"),
        (files(&garbled, "", ""), "roots", "bad-ca.pem"),
        (files("", "nothing", ""), "identity.chain", "bad-cert.pem"),
        (files("", &garbled, ""), "identity.chain", "bad-cert.pem"),
        (files("", &own.key_pem, ""), "identity.chain", "bad-cert.pem"),
        (files("", "", "nothing"), "identity.key", "bad-key.pem"),
        (files("", "", &own.pem), "identity.key", "bad-key.pem"),
        (files("", "", &own.key_pem.replace("MIG", "MIA")), "identity.key", "bad-key.pem"),
        // A sound key, but not of this certificate.
        (files("", "", &other.key_pem), "identity.key", "bad-key.pem"),
    ] {
        let error = build(&files).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.reason.contains(file), "{error}");
        // What is in it is not repeated.
        let secret = own.key_pem.lines().nth(1).unwrap();
        assert!(!error.to_string().contains(&secret[8..24]), "{error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
    for (identity, field) in [
        (Identity::der([], own.key.clone()), "identity.chain"),
        (Identity::der([b"x".to_vec()], own.key.clone()), "identity.chain"),
        (Identity::der([own.der.to_vec()], b"x".to_vec()), "identity.key"),
    ] {
        let built = to::<S>("https://localhost:1", Roots::WebPki).identity(identity).build();
        assert_eq!(built.unwrap_err().field, field);
    }
    for roots in [Roots::Der(Vec::new()), Roots::Der(vec![b"x".to_vec()])] {
        assert_eq!(to::<S>("https://localhost:1", roots).build().unwrap_err().field, "roots");
    }
}

fn names_that_no_certificate_can_have_are_refused_at_build<S: Subject>() {
    for verify in [
        Verify::Name("".into()),
        Verify::Name("not a name".into()),
        Verify::Id("spiffe://domain".into()),
        Verify::Spiffe { trust_domain: "Domain".into(), service: "web".into() },
    ] {
        let built = to::<S>("https://localhost:1", Roots::WebPki)
            .expect("Web.Example", 8443, Expect::of(verify))
            .build();
        assert_eq!(built.unwrap_err().field, "expect.web.example:8443");
    }
}
