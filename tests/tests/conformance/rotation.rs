//! Certificates exchanged while calls go on: no call fails, none goes out as the one before, and
//! connections of the one before come to an end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use origin_core::outcome::{Fault, Outcome, Sent};
use origin_driver::{Client, Expect, Expectations, Identity, Roots, TlsChange, Verify};

use crate::authority::{Authority, EACH_VERSION, Leaf, Server, Setup};
use crate::certificates::{outcome, to};
use crate::subject::{Subject, begin, eventually, get};

on_every_runtime! {
    an_identity_is_exchanged_under_load_without_a_failed_call
    an_authority_is_exchanged_under_load_without_a_failed_call
    a_request_under_way_is_finished_as_who_it_began
    sessions_are_resumed_but_never_as_somebody_else
    other_expectations_hold_for_connections_that_are_open
    targets_come_and_go_without_disturbing_others
    what_cannot_be_used_changes_nothing
}

const TLS: Outcome = Outcome::Failed { fault: Fault::Tls, sent: Sent::Never };

/// What callers and the test tell each other.
#[derive(Default)]
pub(crate) struct Load {
    over: AtomicBool,
    /// The identity that calls begun from now on must have, by its number.
    generation: AtomicU64,
    calls: AtomicU64,
}

impl Load {
    /// Lets so many more calls end, half of them or more begun after this.
    pub(crate) fn more(&self, count: u64) {
        let enough = self.calls.load(Ordering::SeqCst) + count;
        eventually("calls go on", || {
            self.over.load(Ordering::SeqCst) || self.calls.load(Ordering::SeqCst) >= enough
        });
    }

    /// Calls begun from now on must be of this generation, or a later one.
    pub(crate) fn stands(&self, generation: u64) {
        self.generation.store(generation, Ordering::SeqCst);
    }

    /// Whether a caller has failed.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Ends the load also when its thread fails.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Calls from four threads until `change` is done. Each must succeed at its only attempt, as a
/// generation that was in force while it ran.
pub(crate) fn under_load<S: Subject>(client: &Client<S>, change: impl FnOnce(&Load)) {
    let load = Load::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _over = Over(&load);
                while !load.over.load(Ordering::SeqCst) {
                    let before = load.generation.load(Ordering::SeqCst);
                    let reply = get(client, "lab", "/").unwrap();
                    let seen: u64 = reply.text().parse().unwrap();
                    assert!(seen >= before, "sent as {seen}, when {before} was in force");
                    load.calls.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _over = Over(&load);
        change(&load);
    });
}

fn an_identity_is_exchanged_under_load_without_a_failed_call<S: Subject>() {
    let ours = Authority::new();
    for versions in EACH_VERSION {
        let leaf = ours.leaf(&["localhost"]);
        let server = Server::start(&Setup { versions, ..Setup::requiring(leaf, &ours) });
        let generations: Vec<Leaf> = (0..8)
            .map(|number| {
                let leaf = ours.leaf(&["client"]);
                server.know(&leaf, &number.to_string());
                leaf
            })
            .collect();
        let client = to::<S>(&server.url(), ours.roots())
            .identity(generations[0].identity())
            .build()
            .unwrap();
        under_load(&client, |load| {
            load.more(8);
            for (number, leaf) in (0..).zip(&generations).skip(1) {
                client.set_identity(leaf.identity()).unwrap();
                load.generation.store(number, Ordering::SeqCst);
                load.more(8);
            }
        });
        // Also those that were idle when it was replaced.
        eventually("connections of earlier identities end", || {
            (0..7).all(|number: u64| server.open(&number.to_string()) == 0)
        });
    }
}

fn an_authority_is_exchanged_under_load_without_a_failed_call<S: Subject>() {
    // As a Consul CA rotation: new roots first, with the old ones; then leaves of the new one.
    let (old, new) = (Authority::new(), Authority::new());
    let server = Server::start(&Setup::requiring(old.leaf(&["localhost"]), &old));
    let (first, second) = (old.leaf(&["client"]), new.leaf(&["client"]));
    server.know(&first, "0");
    server.know(&second, "1");
    let client = to::<S>(&server.url(), old.roots()).identity(first.identity()).build().unwrap();
    under_load(&client, |load| {
        load.more(8);
        client.set_roots(Roots::Pem((old.pem() + &new.pem()).into_bytes())).unwrap();
        load.more(8);
        // The server asks for the new authority's from here on; open connections stay.
        server.present(&Setup::requiring(new.leaf(&["localhost"]), &new));
        let change = TlsChange::new().roots(new.roots()).identity(second.identity());
        client.set_tls(change).unwrap();
        load.generation.store(1, Ordering::SeqCst);
        load.more(8);
    });
    eventually("connections of the old authority end", || server.open("0") == 0);
    // The old one is not trusted any more.
    server.present(&Setup::requiring(old.leaf(&["localhost"]), &new));
    client.set_identity(new.leaf(&["client"]).identity()).unwrap();
    assert_eq!(outcome(get(&client, "lab", "/")), TLS);
}

fn a_request_under_way_is_finished_as_who_it_began<S: Subject>() {
    let ours = Authority::new();
    let server = Server::start(&Setup::requiring(ours.leaf(&["localhost"]), &ours));
    let (old, new) = (ours.leaf(&["client"]), ours.leaf(&["client"]));
    server.know(&old, "old");
    server.know(&new, "new");
    let client = to::<S>(&server.url(), ours.roots()).identity(old.identity()).build().unwrap();
    let slow = thread::scope(|scope| {
        let slow = scope.spawn(|| S::wait(begin(&client, "lab", "/slow")));
        eventually("the slow request is there", || server.requests() == 1);
        client.set_identity(new.identity()).unwrap();
        assert_eq!(get(&client, "lab", "/").unwrap().text(), "new");
        slow.join().unwrap()
    });
    assert_eq!(slow.unwrap().text(), "old");
    eventually("its connection ends with it", || server.open("old") == 0);
    assert_eq!(get(&client, "lab", "/").unwrap().text(), "new");
    // To be nobody again is a change, too; to be the same is none.
    let closed = server.closed();
    client.set_identity(new.identity()).unwrap();
    assert_eq!(get(&client, "lab", "/").unwrap().text(), "new");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(server.closed(), closed);
    client.set_identity(None).unwrap();
    assert_eq!(outcome(get(&client, "lab", "/")), TLS);
}

fn sessions_are_resumed_but_never_as_somebody_else<S: Subject>() {
    let ours = Authority::new();
    let id = |service: &str| format!("spiffe://d/ns/default/dc/dc1/svc/{service}");
    for versions in EACH_VERSION {
        let leaf = ours.leaf(&["localhost", &id("web")]);
        let setup = Setup { versions, keep: false, ..Setup::requiring(leaf, &ours) };
        let server = Server::start(&setup);
        let (old, new) = (ours.leaf(&["client"]), ours.leaf(&["client"]));
        server.know(&old, "old");
        server.know(&new, "new");
        let client = to::<S>(&server.url(), ours.roots()).identity(old.identity()).build().unwrap();
        let called = |name: &str| {
            for _ in 0..3 {
                assert_eq!(get(&client, "lab", "/").unwrap().text(), name);
            }
        };
        called("old");
        assert_eq!((server.accepted(), server.resumed()), (3, 2));
        client.set_identity(new.identity()).unwrap();
        called("new");
        assert_eq!((server.accepted(), server.resumed()), (6, 4));
        // A session that was begun for the host name says nothing about the workload.
        let expect = |service: &str| {
            let verify = Verify::Id(id(service).into());
            Expectations::new().with("localhost", server.port, Expect::of(verify))
        };
        client.set_expectations(expect("billing")).unwrap();
        assert_eq!(outcome(get(&client, "lab", "/")), TLS);
        client.set_expectations(expect("web")).unwrap();
        called("new");
        assert_eq!(server.resumed(), 6);
    }
}

fn other_expectations_hold_for_connections_that_are_open<S: Subject>() {
    let ours = Authority::new();
    let web = "spiffe://d/ns/default/dc/dc1/svc/web";
    let server = Server::start(&Setup::of(ours.leaf(&["localhost", web])));
    let client = to::<S>(&server.url(), ours.roots()).build().unwrap();
    let expect = |verify| Expectations::new().with("LOCALHOST", server.port, Expect::of(verify));
    let service = |name: &str| Verify::Spiffe { trust_domain: "d".into(), service: name.into() };
    get(&client, "lab", "/").unwrap();
    for (expected, good) in [
        (expect(service("billing")), false),
        (expect(service("web")), true),
        (expect(Verify::Name("elsewhere".into())), false),
        (expect(Verify::Id(web.into())), true),
        (expect(Verify::Id("spiffe://d/other".into())), false),
        (Expectations::new(), true),
    ] {
        client.set_expectations(expected.clone()).unwrap();
        for _ in 0..2 {
            let met = outcome(get(&client, "lab", "/"));
            assert_eq!(met, if good { Outcome::status(200) } else { TLS }, "{expected:?}");
        }
    }
}

fn targets_come_and_go_without_disturbing_others<S: Subject>() {
    let ours = Authority::new();
    let server = Server::start(&Setup::of(ours.leaf(&["localhost"])));
    let client = to::<S>(&server.url(), ours.roots()).build().unwrap();
    let mut expect = Expectations::new();
    for port in 1..50 {
        get(&client, "lab", "/").unwrap();
        let verify = Verify::Id(format!("spiffe://d/{port}").into());
        expect.set("localhost", port, Expect::of(verify));
        client.set_expectations(expect.clone()).unwrap();
    }
    client.set_expectations(Expectations::new()).unwrap();
    get(&client, "lab", "/").unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!((server.closed(), server.requests()), (0, 50));
}

fn what_cannot_be_used_changes_nothing<S: Subject>() {
    let ours = Authority::new();
    let (own, other) = (ours.leaf(&["client"]), ours.leaf(&["other"]));
    // For connections that are there, and for those to come.
    for keep in [true, false] {
        let setup = Setup::requiring(ours.leaf(&["localhost"]), &ours);
        let server = Server::start(&Setup { keep, ..setup });
        server.know(&own, "own");
        let client = to::<S>(&server.url(), ours.roots()).identity(own.identity()).build().unwrap();
        let mixed = Identity::pem(own.pem.as_str(), other.key_pem.as_str());
        let impossible =
            Expectations::new().with("localhost", 1, Expect::of(Verify::Name("a b".into())));
        for (change, field) in [
            (TlsChange::new().identity(mixed), "identity.key"),
            (TlsChange::new().identity(other.identity()).roots(Roots::Pem(Vec::new())), "roots"),
            (TlsChange::new().identity(None).expect(impossible), "expect.localhost:1"),
        ] {
            get(&client, "lab", "/").unwrap();
            assert_eq!(client.set_tls(change).unwrap_err().field, field);
            assert_eq!(get(&client, "lab", "/").unwrap().text(), "own");
        }
        thread::sleep(Duration::from_millis(50));
        assert!(!keep || server.closed() == 0);
    }
}
