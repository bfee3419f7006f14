//! The token of a service account (000-21): read from its file and again when it is rotated, sent
//! to the services that are named and to nobody else, and missed in clear words.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use origin_core::config::IdentityConfig;
use origin_core::identity::token::Trouble;
use origin_core::{Config, Error};
use origin_driver::{Builder, Client};
use origin_lab::{Answer, FaultServer, Mode, World, WorldSpec};

use crate::own_identity::Volume;
use crate::rotation::under_load;
use crate::subject::{Subject, begin, eventually, get, in_world};

on_every_runtime! {
    case_000_21_the_token_goes_to_the_services_named_and_nowhere_else
    case_000_21_the_first_calls_wait_for_the_file_and_each_attempt_carries_it
    case_000_21_a_token_rotated_a_hundred_times_under_load_fails_no_call
    case_000_21_a_refused_token_is_read_again_at_once
    case_000_21_what_is_wrong_with_the_file_is_said_and_nothing_is_sent
    case_000_21_a_token_of_the_program_is_held_to_the_same
}

const PLANTED: &str = "pl4nted-t0ken";

fn named(volume: &Volume, services: &[&str]) -> IdentityConfig {
    IdentityConfig {
        token_file: volume.path("token"),
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        poll: Duration::from_millis(100),
        ..IdentityConfig::default()
    }
}

fn with<S: Subject>(builder: Builder<S>, identity: IdentityConfig) -> Builder<S> {
    builder.configure(|config: &mut Config| config.identity = Some(identity))
}

/// A client of one server, called `lab`, that tries once.
fn to<S: Subject>(url: &str, identity: IdentityConfig) -> Builder<S> {
    let builder = Client::<S>::builder()
        .endpoint("lab", url)
        .timeout(Duration::from_secs(10))
        .configure(|config| config.policy.retry.max_attempts = 1)
        .seed(7);
    with(builder, identity)
}

/// What each request of this server had as `Authorization`.
fn shown(server: &FaultServer) -> Vec<Option<String>> {
    let requests = server.requests();
    requests.iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect()
}

fn case_000_21_the_token_goes_to_the_services_named_and_nowhere_else<S: Subject>() {
    let world = World::start(WorldSpec::default()).unwrap();
    let volume = Volume::new(S::NAME);
    volume.put(&[("token", &format!("{PLANTED}\n"))]);
    let client = with(in_world::<S>(&world), named(&volume, &["billing"]))
        .configure(|config| config.policy.retry.max_attempts = 4)
        .build()
        .unwrap();
    let bearer = format!("Bearer {PLANTED}");
    // On the way around failures, too.
    world.service("billing").servers()[2].set(Mode::status(503));
    for _ in 0..5 {
        get(&client, "billing", "/x").unwrap();
        get(&client, "storage", "/bucket/key").unwrap();
        get(&client, "secrets", "/v1/raw").unwrap();
    }
    let mut carried = 0;
    for server in world.service("billing").servers() {
        for header in shown(server) {
            assert_eq!(header.as_deref(), Some(&*bearer));
            carried += 1;
        }
    }
    assert!(carried >= 5, "{carried}");
    for service in ["storage", "secrets"] {
        for server in world.service(service).servers() {
            assert!(shown(server).iter().all(Option::is_none));
        }
    }
    for seen in world.registry().server().requests() {
        assert!(!format!("{seen:?}").contains(PLANTED), "{seen:?}");
    }
    // A redirect is an answer: nobody else is asked.
    let other = FaultServer::start().unwrap();
    let moved = format!("{}/x", other.url());
    let home =
        FaultServer::with_handler(Arc::new(move |_| Answer::new(307).header("Location", &moved)));
    let home = home.unwrap();
    let client = to::<S>(&home.url(), named(&volume, &["lab"])).build().unwrap();
    assert_eq!(get(&client, "lab", "/").unwrap().status(), 307);
    assert_eq!((shown(&home), other.request_count()), (vec![Some(bearer)], 0));
    // What the caller says counts.
    let own = client.service("lab").unwrap().get("/").header("Authorization", "Basic eDp5");
    S::wait(own.send()).unwrap();
    assert_eq!(shown(&home)[1].as_deref(), Some("Basic eDp5"));
    // Nothing that is printed has it.
    let (snapshot, notices) = (client.snapshot(), client.notices());
    let text = serde_json::to_string(&snapshot).unwrap();
    let text = format!("{text} {snapshot:?} {notices:?} {client:?} {:?}", client.config());
    assert!(!text.contains(PLANTED), "{text}");
    let token = snapshot.identity.token.unwrap();
    assert_eq!((token.held, token.taken, token.trouble), (true, 1, None));
}

fn case_000_21_the_first_calls_wait_for_the_file_and_each_attempt_carries_it<S: Subject>() {
    let volume = Volume::new(S::NAME);
    volume.put(&[("token", "one")]);
    // The first request of two of the paths is an error, which is repeated.
    let failed = Arc::new(Mutex::new(BTreeSet::from(["/0".to_owned(), "/1".to_owned()])));
    let server = FaultServer::with_handler(Arc::new(move |request| {
        Answer::text(if failed.lock().unwrap().remove(&request.path) { 503 } else { 200 }, "")
    }));
    let server = server.unwrap();
    let client = to::<S>(&server.url(), named(&volume, &["lab"]))
        .configure(|config| config.policy.retry.max_attempts = 3)
        .build()
        .unwrap();
    let paths: Vec<String> = (0..16).map(|number| format!("/{number}")).collect();
    for (reply, _) in S::together(16, |number| begin(&client, "lab", &paths[number])) {
        assert_eq!(reply.unwrap().status(), 200);
    }
    assert_eq!(shown(&server), vec![Some("Bearer one".to_owned()); 18]);
}

/// A server that answers a bearer of `t{n}` with `n`, if that is one of the latest: what is on its
/// way while it is replaced is good for a while.
fn checking(newest: &Arc<AtomicU64>, overlap: u64) -> FaultServer {
    let newest = newest.clone();
    FaultServer::with_handler(Arc::new(move |request| {
        let newest = newest.load(Ordering::SeqCst);
        let number = request.header("authorization").and_then(|text| text.strip_prefix("Bearer t"));
        match number.and_then(|number| number.parse::<u64>().ok()) {
            Some(number) if (newest.saturating_sub(overlap)..=newest).contains(&number) => {
                Answer::text(200, &number.to_string())
            }
            _ => Answer::text(401, "who are you?"),
        }
    }))
    .unwrap()
}

fn case_000_21_a_token_rotated_a_hundred_times_under_load_fails_no_call<S: Subject>() {
    const TIMES: u64 = 100;
    let newest = Arc::new(AtomicU64::new(0));
    let (server, volume) = (checking(&newest, 10), Volume::new(S::NAME));
    volume.put(&[("token", "t0\n")]);
    let client = to::<S>(&server.url(), named(&volume, &["lab"])).build().unwrap();
    under_load(&client, |load| {
        load.more(8);
        for number in 1..=TIMES {
            // As whoever issues them does: those before it live a little longer.
            newest.store(number, Ordering::SeqCst);
            // Half of the time the file is caught while it is written.
            if number % 2 == 0 {
                volume.put(&[("token", "")]);
            }
            volume.put(&[("token", &format!("t{number}\n"))]);
            let taken = || client.snapshot().identity.token.unwrap().taken > number;
            eventually("the new one is taken", || load.is_over() || taken());
            load.stands(number);
        }
    });
    assert_eq!(client.snapshot().identity.token.unwrap().taken, TIMES + 1);
}

fn case_000_21_a_refused_token_is_read_again_at_once<S: Subject>() {
    let newest = Arc::new(AtomicU64::new(1));
    let (server, volume) = (checking(&newest, 0), Volume::new(S::NAME));
    volume.put(&[("token", "t1")]);
    // It would be looked at tomorrow.
    let identity = IdentityConfig { poll: Duration::from_secs(86_400), ..named(&volume, &["lab"]) };
    let client = to::<S>(&server.url(), identity).build().unwrap();
    assert_eq!(get(&client, "lab", "/").unwrap().text(), "1");
    newest.store(7, Ordering::SeqCst);
    volume.put(&[("token", "t7")]);
    assert_eq!(get(&client, "lab", "/").unwrap().status(), 401);
    eventually("the new one is used", || {
        thread::sleep(Duration::from_millis(10));
        get(&client, "lab", "/").unwrap().text() == "7"
    });
}

fn case_000_21_what_is_wrong_with_the_file_is_said_and_nothing_is_sent<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let large = "a".repeat((16 << 10) + 1);
    for (content, trouble, said) in [
        (None, Trouble::Missing, "token_file is not there"),
        (Some(""), Trouble::Empty, "token_file is empty"),
        (Some("two\nlines"), Trouble::Malformed, "one line of visible ASCII"),
        (Some(&*large), Trouble::TooLarge, "above 16 KiB"),
        // `{"exp":1}`
        (Some("e30.eyJleHAiOjF9.c2ln"), Trouble::Expired, "has not expired"),
    ] {
        let volume = Volume::new(S::NAME);
        volume.put(&content.map(|text| ("token", text)).into_iter().collect::<Vec<_>>());
        let client = to::<S>(&server.url(), named(&volume, &["lab"]))
            .endpoint("open", server.url())
            .build()
            .unwrap();
        let error = get(&client, "lab", "/").unwrap_err();
        let clear = matches!(&error, Error::Credential { service, what }
            if &**service == "lab" && what.contains(said));
        assert!(clear, "{error}");
        assert_eq!(client.snapshot().identity.token.unwrap().trouble, Some(trouble));
        let told: Vec<String> = client.notices().iter().map(ToString::to_string).collect();
        let about = told.iter().filter(|line| line.contains(&volume.path("token"))).count();
        assert_eq!(about, 1, "{told:?}");
        assert_eq!(server.request_count(), 0);
        // Services that need none do not wait for it.
        get(&client, "open", "/").unwrap();
        assert_eq!(shown(&server), [None]);
        // As soon as there is one it is used.
        volume.put(&[("token", "good")]);
        eventually("it is used", || get(&client, "lab", "/").is_ok());
        assert_eq!(shown(&server)[1].as_deref(), Some("Bearer good"));
        server.reset_counts();
    }
}

fn case_000_21_a_token_of_the_program_is_held_to_the_same<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let volume = Volume::new(S::NAME);
    let memory = || IdentityConfig { token_file: String::new(), ..named(&volume, &["lab"]) };
    let client = to::<S>(&server.url(), memory()).service_token(" one\n").build().unwrap();
    get(&client, "lab", "/").unwrap();
    client.set_service_token("two").unwrap();
    get(&client, "lab", "/").unwrap();
    for (text, said) in [("", "empty"), ("a\nb", "one line"), ("e30.eyJleHAiOjF9.c2ln", "expired")]
    {
        let error = client.set_service_token(text).unwrap_err();
        assert!(error.field == "service_token" && error.reason.contains(said), "{error}");
    }
    get(&client, "lab", "/").unwrap();
    let expected = ["Bearer one", "Bearer two", "Bearer two"];
    assert_eq!(shown(&server), expected.map(|text| Some(text.to_owned())));
    // What cannot be meant.
    let nobody = IdentityConfig { services: Vec::new(), ..memory() };
    let field = |builder: Builder<S>| builder.build().unwrap_err().field;
    assert_eq!(field(to(&server.url(), nobody).service_token("x")), "identity.services");
    assert_eq!(field(to(&server.url(), memory())), "identity.services");
    assert_eq!(field(to(&server.url(), memory()).service_token("a\nb")), "service_token");
    let both = to::<S>(&server.url(), named(&volume, &["lab"])).service_token("x");
    assert_eq!(field(both), "identity.token_file");
}
