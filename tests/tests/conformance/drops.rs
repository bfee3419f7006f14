//! What is dropped gives back what it held: calls, streamed bodies, clients.

use std::thread;
use std::time::Duration;

use origin_driver::Client;
use origin_lab::{Mode, World, WorldSpec};

use crate::subject::{Subject, eventually, get, in_world, of, open, within};

on_every_async_runtime! {
    case_x_14_five_hundred_dropped_calls_under_load_leak_nothing
    case_x_14_a_dropped_probe_leaves_its_permit_to_the_next_call
    case_x_14_a_dropped_first_call_does_not_take_discovery_with_it
}

on_every_runtime! {
    case_x_14_streamed_bodies_dropped_half_way_leak_nothing
    case_x_15_a_dropped_client_ends_its_background_and_its_connections
    case_x_15_the_background_lives_as_long_as_the_last_clone
}

fn world() -> World {
    World::start(WorldSpec::default().only(&["billing"])).unwrap()
}

/// Connections that are open to any server but the registry.
fn connections(world: &World) -> u64 {
    open(world.all().servers().iter().copied())
}

fn nothing_is_out<S: Subject>(client: &Client<S>) {
    let service = of(client, "billing");
    assert!(service.endpoints.iter().all(|e| e.outstanding == 0), "{service:?}");
    assert_eq!(service.calls, service.answered + service.failed + service.abandoned, "{service:?}");
}

fn case_x_14_five_hundred_dropped_calls_under_load_leak_nothing<S: Subject>() {
    const DROPPED: u64 = 500;
    let world = world();
    let client = in_world::<S>(&world)
        .configure(|config| config.limits.idle_timeout = Duration::from_millis(100))
        .build()
        .unwrap();
    get(&client, "billing", "/first").unwrap();
    // Calls are dropped before, during and after connecting, and while they wait for an answer.
    world.cluster("beta").set(Mode::flaky(2, Mode::HangBeforeHead));
    world.cluster("alpha").set(Mode::slow(15));
    let dropped: u64 = thread::scope(|scope| {
        let load: Vec<_> = (0..2)
            .map(|_| {
                let client = client.clone();
                scope.spawn(move || {
                    for _ in 0..50 {
                        let call = client.service("billing").unwrap().get("/load");
                        // Whatever comes of it: attempts of this load hang, too.
                        let _ = S::wait(call.timeout(Duration::from_millis(40)).send());
                    }
                })
            })
            .collect();
        let droppers: Vec<_> = (0..20_u64)
            .map(|dropper| {
                let client = client.clone();
                scope.spawn(move || {
                    let drop_one = |number: u64| {
                        let billing = client.service("billing").unwrap();
                        let call = billing.get("/dropped").send();
                        let span = Duration::from_micros((dropper * 25 + number) * 37 % 12_000);
                        u64::from(S::wait_at_most(call, span).is_none())
                    };
                    (0..DROPPED / 20).map(drop_one).sum::<u64>()
                })
            })
            .collect();
        for thread in load {
            thread.join().unwrap();
        }
        droppers.into_iter().map(|dropper| dropper.join().unwrap()).sum()
    });
    assert!(dropped > 100, "hardly any call was dropped: {dropped}");
    nothing_is_out(&client);
    let service = of(&client, "billing");
    assert!(service.abandoned <= dropped, "{} of {dropped}", service.abandoned);
    assert!(service.abandoned > 50, "{} of {dropped}", service.abandoned);
    // What was dropped while it was answered closed its connection, the rest became idle.
    eventually("all connections are closed", || connections(&world) == 0);
    world.all().set(Mode::Ok);
    thread::sleep(Duration::from_millis(30));
    assert_eq!(get(&client, "billing", "/after").unwrap().status, 200);
}

fn case_x_14_a_dropped_probe_leaves_its_permit_to_the_next_call<S: Subject>() {
    let world = world();
    let server = world.server("billing", "beta", 0).unwrap();
    let client = Client::<S>::builder()
        .endpoint("billing", server.url())
        .configure(|config| {
            config.policy.retry.max_attempts = 1;
            config.policy.breaker.failures = Some(1);
            config.policy.breaker.open = Duration::from_millis(50);
        })
        .build()
        .unwrap();
    server.set(Mode::status(500));
    assert!(get(&client, "billing", "/x").is_err());
    assert_eq!(of(&client, "billing").endpoints[0].breaker.word(), "open");
    server.set(Mode::HangBeforeHead);
    for _ in 0..3 {
        eventually("it may be probed", || {
            of(&client, "billing").endpoints[0].breaker.word() == "half_open"
        });
        let probe = client.service("billing").unwrap().get("/probe").send();
        assert!(S::wait_at_most(probe, Duration::from_millis(40)).is_none());
        nothing_is_out(&client);
    }
    server.set(Mode::Ok);
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    assert_eq!(of(&client, "billing").endpoints[0].breaker.word(), "closed");
}

fn case_x_14_a_dropped_first_call_does_not_take_discovery_with_it<S: Subject>() {
    let world = world();
    world.registry().server().set(Mode::slow(200));
    let client = in_world::<S>(&world).build().unwrap();
    let results = thread::scope(|scope| {
        let first = scope.spawn(|| {
            let call = client.service("billing").unwrap().get("/first").send();
            S::wait_at_most(call, Duration::from_millis(60))
        });
        thread::sleep(Duration::from_millis(20));
        // These wait for the fetch of the first, which is dropped under them.
        let others = S::together(4, |_| client.service("billing").unwrap().get("/x").send());
        assert!(first.join().unwrap().is_none());
        others
    });
    for (result, took) in results {
        assert_eq!(result.unwrap().status, 200);
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    assert!(world.registry().server().request_count() <= 2);
    nothing_is_out(&client);
}

fn case_x_14_streamed_bodies_dropped_half_way_leak_nothing<S: Subject>() {
    let world = world();
    world.all().set(Mode::HugeBody { bytes: 8 << 20 });
    let client = in_world::<S>(&world).build().unwrap();
    for number in 0..40 {
        let call = client.service("billing").unwrap().get("/x").send_streaming();
        let mut streaming = S::wait(call).unwrap();
        if number % 2 == 0 {
            assert!(S::chunk(&mut streaming.body).unwrap().is_some());
        }
        drop(streaming);
    }
    nothing_is_out(&client);
    let service = of(&client, "billing");
    assert_eq!((service.answered, service.failed_attempts), (40, 0));
    eventually("their connections are closed", || connections(&world) == 0);
    assert_eq!(S::wait(client.service("billing").unwrap().head("/x").send()).unwrap().status, 200);
}

/// A client whose document is good for a moment only.
fn restless<S: Subject>(world: &World) -> Client<S> {
    in_world::<S>(world)
        .configure(|config| {
            let discovery = config.discovery.as_mut().unwrap();
            discovery.ttl = Duration::from_millis(40);
            discovery.refresh_ahead = Duration::from_millis(10);
        })
        .build()
        .unwrap()
}

fn case_x_15_a_dropped_client_ends_its_background_and_its_connections<S: Subject>() {
    let world = world();
    let registry = world.registry().server();
    let client = restless::<S>(&world);
    let results = S::together(8, |_| client.service("billing").unwrap().get("/x").send());
    assert!(results.iter().all(|(result, _)| result.is_ok()));
    if S::ASYNC {
        // Without any further call, the document is refreshed.
        eventually("the background refreshes", || registry.request_count() >= 4);
    }
    drop(client);
    eventually("connections to services are closed", || connections(&world) == 0);
    eventually("connections to the registry are closed", || open([registry]) == 0);
    let requests = registry.request_count();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(registry.request_count(), requests, "somebody still asks");
}

fn case_x_15_the_background_lives_as_long_as_the_last_clone<S: Subject>() {
    let world = world();
    let registry = world.registry().server();
    let client = restless::<S>(&world);
    get(&client, "billing", "/x").unwrap();
    // A handle on a service is a clone as well; so are typed clients.
    let (clone, upstream, storage) =
        (client.clone(), client.service("billing").unwrap(), client.storage());
    drop((client, clone));
    let before = registry.request_count();
    // The document is old after 40 ms, whoever looks after it.
    within(Duration::from_secs(2), "the document is refreshed", || {
        assert_eq!(S::wait(upstream.get("/x").send()).unwrap().status, 200);
        registry.request_count() > before + 1
    });
    drop(upstream);
    drop(storage);
    eventually("all connections are closed", || connections(&world) + open([registry]) == 0);
}
