//! Discovery over real sockets: one fetch for many callers, none where none is needed, a source
//! that hangs or is gone, names it does not know.

use std::time::{Duration, Instant};

use origin_core::{Config, Error};
use origin_driver::Client;
use origin_lab::{Mode, World, WorldSpec};

use crate::subject::{Subject, begin, eventually, get, in_world, of, within};

on_every_runtime! {
    case_000_37_sixteen_first_callers_cause_one_fetch
    case_000_28_injected_services_are_never_looked_up
    case_000_19_one_document_serves_every_service
    case_000_26_a_hanging_source_costs_a_call_its_deadline_and_no_more
    case_000_39_an_unreachable_source_is_a_typed_error_that_names_it
    case_000_06_an_unknown_service_names_the_known_ones_and_reaches_nobody
    the_first_snapshot_is_there_shortly_after_the_first_call
    what_is_known_is_written_when_a_client_is_closed
    case_004_61_a_service_is_looked_up_anew_when_that_is_asked_for
    case_000_12_unreachable_everything_lists_each_candidate_with_its_reason
}

fn world() -> World {
    World::start(WorldSpec::default()).unwrap()
}

fn case_000_37_sixteen_first_callers_cause_one_fetch<S: Subject>() {
    let world = world();
    // Slow enough that all sixteen are there before the document is.
    world.registry().server().set(Mode::slow(150));
    let client = in_world::<S>(&world).build().unwrap();
    let results = S::together(16, |_| begin(&client, "billing", "/first"));
    for (result, _) in &results {
        assert_eq!(result.as_ref().unwrap().status, 200);
    }
    assert_eq!(world.registry().server().request_count(), 1);
    assert_eq!(world.service("billing").requests(), 16);
    // Nor afterwards: the document is fresh.
    get(&client, "billing", "/again").unwrap();
    assert_eq!(world.registry().server().request_count(), 1);
}

fn case_000_28_injected_services_are_never_looked_up<S: Subject>() {
    let world = world();
    let direct = world.server("billing", "gamma", 0).unwrap();
    let client = in_world::<S>(&world).endpoint("billing", direct.url()).build().unwrap();
    for _ in 0..5 {
        assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    }
    assert_eq!((direct.request_count(), world.all().requests()), (5, 5));
    assert_eq!(world.registry().server().stats().connections_accepted, 0);
    // Neither when it fails.
    direct.set(Mode::Refuse);
    assert!(get(&client, "billing", "/x").is_err());
    assert_eq!(world.registry().server().stats().connections_accepted, 0);
    // Another service of the same client is looked up.
    assert_eq!(get(&client, "storage", "/bucket/key").unwrap().status, 200);
    assert_eq!(world.registry().server().request_count(), 1);
    // And a client without discovery works, too.
    let direct = world.server("billing", "beta", 1).unwrap();
    let alone = Client::<S>::builder().endpoint("billing", direct.url()).build().unwrap();
    assert_eq!(get(&alone, "billing", "/x").unwrap().status, 200);
    assert!(alone.snapshot().discovery.is_empty());
}

fn case_004_61_a_service_is_looked_up_anew_when_that_is_asked_for<S: Subject>() {
    let world = world();
    let client = in_world::<S>(&world).build().unwrap();
    let asked = || world.registry().server().request_count();
    for _ in 0..3 {
        get(&client, "billing", "/x").unwrap();
    }
    assert_eq!(asked(), 1);
    client.service("billing").unwrap().rediscover();
    get(&client, "billing", "/x").unwrap();
    eventually("the source is asked again", || asked() == 2);
    // Without the source what was known is still used.
    world.registry().server().set(Mode::Refuse);
    client.service("billing").unwrap().rediscover();
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
}

/// A client that keeps what it knows in a file of its own, which is not there yet.
fn keeping<S: Subject>(world: &World, name: &str) -> (Client<S>, std::path::PathBuf) {
    let name = format!("origin-{name}-{}-{}.json", S::NAME, std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    let text = path.to_str().unwrap().to_owned();
    let keep = |c: &mut Config| c.discovery.as_mut().unwrap().snapshot.path = Some(text);
    (in_world::<S>(world).configure(keep).build().unwrap(), path)
}

fn the_first_snapshot_is_there_shortly_after_the_first_call<S: Subject>() {
    let world = world();
    let (client, path) = keeping::<S>(&world, "first");
    let _background = S::background(&client);
    get(&client, "billing", "/x").unwrap();
    // Well before the ten seconds that are between any two.
    within(Duration::from_secs(3), "it is written", || path.exists());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("billing"), "{text}");
    std::fs::remove_file(&path).unwrap();
}

fn what_is_known_is_written_when_a_client_is_closed<S: Subject>() {
    let world = world();
    let (client, path) = keeping::<S>(&world, "last");
    // A blocking client has nobody who would write it before; an async one has just written it,
    // and what comes now would have to wait for ten seconds.
    get(&client, "billing", "/x").unwrap();
    if S::ASYNC {
        within(Duration::from_secs(3), "it is written", || path.exists());
    }
    get(&client, "storage", "/bucket/key").unwrap();
    assert!(S::wait(S::there(|| client.close(Duration::from_secs(5)))).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("billing") && text.contains("storage"), "{text}");
    // Calls go on.
    assert_eq!(get(&client, "billing", "/y").unwrap().status, 200);
    std::fs::remove_file(&path).unwrap();
}

fn case_000_19_one_document_serves_every_service<S: Subject>() {
    let world = world();
    let client = in_world::<S>(&world).vault_token(origin_lab::DEMO_TOKEN).build().unwrap();
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    let object = S::wait(client.storage().get_object("bucket", "a/b c")).unwrap();
    assert_eq!(&object.bytes[..], b"object a/b%20c of bucket bucket\n".as_slice());
    let secret = S::wait(client.secrets().get_secret("app/db")).unwrap();
    assert_eq!(secret.get("value"), Some("secret of app/db"));
    assert_eq!(world.registry().server().request_count(), 1);
    let names: Vec<_> = client.snapshot().services.iter().map(|s| s.name.clone()).collect();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["billing", "secrets", "storage"]
    );
}

fn case_000_26_a_hanging_source_costs_a_call_its_deadline_and_no_more<S: Subject>() {
    const TOTAL: Duration = Duration::from_millis(500);
    // What a busy machine needs on top is less than the deadline once more; the next longer
    // limit, that of a fetch, is far beyond.
    const BOUND: Duration = Duration::from_millis(900);
    for mode in [Mode::HangBeforeHead, Mode::HangOnAccept, Mode::HangAfterHead] {
        let world = world();
        world.registry().server().set(mode.clone());
        let client = in_world::<S>(&world).build().unwrap();
        let billing = client.service("billing").unwrap();
        let results = S::together(4, |_| billing.get("/x").timeout(TOTAL).send());
        for (result, took) in results {
            let error = result.unwrap_err();
            assert!(
                matches!(error, Error::Discovery { .. } | Error::Deadline(_)),
                "{mode:?}: {error:?}"
            );
            assert!(error.is_unavailable());
            assert!(took >= Duration::from_millis(450), "{mode:?}: given up after {took:?}");
            assert!(took < BOUND, "{mode:?}: a deadline of {TOTAL:?} took {took:?}: {error}");
        }
        assert_eq!(world.all().requests(), 0);
    }
}

fn case_000_39_an_unreachable_source_is_a_typed_error_that_names_it<S: Subject>() {
    let world = world();
    let url = world.discovery_url();
    for (mode, reason) in [
        (Mode::Refuse, "connection refused"),
        (Mode::status(503), "answered 503"),
        (Mode::status(404), "answered 404"),
        (Mode::ResetBeforeHead, "connection broke"),
    ] {
        world.registry().server().set(mode);
        let quick = |config: &mut Config| {
            let discovery = config.discovery.as_mut().unwrap();
            discovery.backoff = Duration::from_millis(50);
            discovery.backoff_max = Duration::from_millis(100);
        };
        let client = in_world::<S>(&world).configure(quick).build().unwrap();
        let error = get(&client, "billing", "/x").unwrap_err();
        let Error::Discovery { source_url, retry_in, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*source_url, url);
        assert!(retry_in.is_some(), "{error}");
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains(reason), "{text}");
        assert!(error.is_retryable() && error.service() == Some("billing"));
        // The same client recovers as soon as the source does.
        world.registry().server().set(Mode::Ok);
        eventually("the source is asked again", || get(&client, "billing", "/x").is_ok());
    }
}

fn case_000_06_an_unknown_service_names_the_known_ones_and_reaches_nobody<S: Subject>() {
    let world = world();
    let client = in_world::<S>(&world).endpoint("ledger", "http://127.0.0.1:9").build().unwrap();
    let check = |error: Error| {
        let Error::UnknownService { service, known } = &error else { panic!("{error:?}") };
        assert_eq!(&**service, "biling");
        for name in ["billing", "secrets", "storage"] {
            assert!(known.iter().any(|known| &**known == name), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(!error.is_retryable());
    };
    // Before the document the name cannot be judged: the call finds out, with one fetch.
    check(get(&client, "biling", "/x").unwrap_err());
    assert_eq!(world.registry().server().request_count(), 1);
    // A name that was never used is refused on the spot, and makes no state.
    let services = client.snapshot().services.len();
    assert!(matches!(client.service("nosuch"), Err(Error::UnknownService { .. })));
    assert_eq!(client.snapshot().services.len(), services);
    check(get(&client, "biling", "/x").unwrap_err());
    assert_eq!(world.registry().server().request_count(), 1);
    assert_eq!(world.all().requests(), 0);
}

fn case_000_12_unreachable_everything_lists_each_candidate_with_its_reason<S: Subject>() {
    let world = world();
    let client = in_world::<S>(&world).build().unwrap();
    get(&client, "billing", "/x").unwrap();
    world.service("billing").set(Mode::Refuse);
    std::thread::sleep(Duration::from_millis(30));
    let deadline = Duration::from_secs(3);
    let began = Instant::now();
    let call = client.service("billing").unwrap().get("/x").timeout(deadline).send();
    let error = S::wait(call).unwrap_err();
    assert!(began.elapsed() < deadline + Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(matches!(error, Error::Exhausted(_)), "{error:?}");
    let failure = error.failure().unwrap();
    let text = error.to_string();
    for server in world.service("billing").servers() {
        let named = |endpoint: &str| endpoint == server.url();
        assert!(
            failure.report.attempts.iter().any(|a| named(&a.endpoint))
                || failure.skipped.iter().any(|s| named(&s.endpoint)),
            "{} is missing: {text}",
            server.url()
        );
        assert!(text.contains(&format!("{} (", server.url())), "{text}");
    }
    for attempt in &failure.report.attempts {
        assert_eq!(attempt.outcome.to_string(), "connection refused or unreachable");
    }
    // Again and again, until the breakers are open: then the error says so, at once.
    while of(&client, "billing").endpoints.iter().any(|e| e.breaker.word() == "closed") {
        assert!(get(&client, "billing", "/x").is_err());
    }
    let error = get(&client, "billing", "/x").unwrap_err();
    assert!(error.is_circuit_open(), "{error}");
    assert_eq!(error.failure().unwrap().skipped.len(), 6, "{error}");
    assert!(error.to_string().contains("breaker open for"), "{error}");
}
