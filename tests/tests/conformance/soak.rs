//! A short storm: many callers of all kinds, servers that break and recover at random. At the
//! end everything has been given back and the counts of client, callers and servers agree.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use origin_core::rng::Pcg32;
use origin_driver::Client;
use origin_lab::{Mode, World, WorldSpec};

use crate::subject::{Subject, eventually, get, in_world, of, open, story};

on_every_runtime! {
    case_x_14_after_a_storm_everything_is_given_back_and_the_counts_agree
}

const CALLERS: usize = 64;
const SPAN: Duration = Duration::from_secs(3);

/// What callers have seen.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    fn count<T, E>(&self, result: Option<&Result<T, E>>) {
        let counter = match result {
            Some(Ok(_)) => &self.answered,
            Some(Err(_)) => &self.failed,
            None => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn weather(rng: &mut Pcg32) -> Mode {
    match rng.below(16) {
        0 => Mode::Refuse,
        1 => Mode::status(503),
        2 => Mode::status_with(503, "Retry-After", "1"),
        3 => Mode::ResetBeforeHead,
        4 => Mode::CloseMidBody { after: 100 },
        5 => Mode::HangBeforeHead,
        6 => Mode::HangOnAccept,
        7 => Mode::HangAfterHead,
        8 => Mode::Garbage,
        9 => Mode::flaky(3, Mode::ResetMidBody { after: 10 }),
        10 => Mode::slow(20),
        11 => Mode::HugeBody { bytes: 100_000 },
        _ => Mode::Ok,
    }
}

fn caller<S: Subject>(client: &Client<S>, number: u64, until: Instant, tally: &Tally) {
    let mut rng = Pcg32::new(14, number);
    while Instant::now() < until {
        let billing = client.service("billing").unwrap();
        let path = format!("/{number}");
        let request = match rng.below(4) {
            0 => billing.post(&path).body("order"),
            _ => billing.get(&path),
        };
        if rng.below(6) == 0 {
            let streaming = S::wait(request.send_streaming());
            tally.count(Some(&streaming));
            if let Ok(mut streaming) = streaming {
                // Some are read to the end, some are not.
                let pieces = rng.below(3) * 100;
                for _ in 0..pieces {
                    if !matches!(S::chunk(&mut streaming.body), Ok(Some(_))) {
                        break;
                    }
                }
            }
        } else if S::ASYNC && rng.below(5) == 0 {
            let span = Duration::from_micros(u64::from(rng.below(15_000)));
            tally.count(S::wait_at_most(request.send(), span).as_ref());
        } else {
            tally.count(Some(&S::wait(request.send())));
        }
    }
}

fn case_x_14_after_a_storm_everything_is_given_back_and_the_counts_agree<S: Subject>() {
    let world = World::start(WorldSpec::default().only(&["billing"])).unwrap();
    let client = in_world::<S>(&world)
        .timeout(Duration::from_millis(800))
        .attempt_timeout(Duration::from_millis(120))
        .connect_timeout(Duration::from_millis(100))
        .configure(|config| {
            config.policy.breaker.open = Duration::from_millis(100);
            config.policy.breaker.open_max = Duration::from_millis(400);
            let discovery = config.discovery.as_mut().unwrap();
            discovery.ttl = Duration::from_millis(100);
            discovery.refresh_ahead = Duration::from_millis(20);
            discovery.timeout = Duration::from_millis(200);
        })
        .build()
        .unwrap();
    get(&client, "billing", "/first").unwrap();
    let tally = Tally { answered: 1.into(), ..Tally::default() };
    let until = Instant::now() + SPAN;
    thread::scope(|scope| {
        for number in 0..CALLERS as u64 {
            let (client, tally) = (&client, &tally);
            scope.spawn(move || caller(client, number, until, tally));
        }
        let mut rng = Pcg32::new(14, u64::from(u32::MAX));
        while Instant::now() < until {
            let servers = world.all();
            let one = rng.below(servers.servers().len() as u32) as usize;
            servers.servers()[one].set(weather(&mut rng));
            if rng.below(10) == 0 {
                world.registry().server().set(weather(&mut rng));
            }
            thread::sleep(Duration::from_millis(15));
        }
        world.all().set(Mode::Ok);
        world.registry().server().set(Mode::Ok);
    });
    // Requests that are on their way to a server arrive, or their connections are closed.
    thread::sleep(Duration::from_millis(200));
    let service = of(&client, "billing");
    let told = || story(&client.snapshot(), &[]);
    let [answered, failed, dropped] =
        [&tally.answered, &tally.failed, &tally.dropped].map(|n| n.load(Ordering::Relaxed));
    assert!(service.endpoints.iter().all(|e| e.outstanding == 0), "{}", told());
    assert_eq!(service.calls, service.answered + service.failed + service.abandoned, "{}", told());
    assert_eq!((service.answered, service.failed), (answered, failed), "{}", told());
    // A call that is dropped before it began is not counted by the client.
    assert!(service.abandoned <= dropped, "{dropped}: {}", told());
    let seen = world.all().requests();
    assert!(seen <= service.attempts, "servers have seen {seen}: {}", told());
    let by_endpoint: u64 = service.endpoints.iter().map(|e| e.attempts).sum();
    assert_eq!(by_endpoint, service.attempts, "{}", told());
    // It was a storm, and calls came through.
    assert!(service.calls > 500 && service.failed_attempts > 50 && answered > 100, "{}", told());
    assert!(!S::ASYNC || service.abandoned > 20, "{}", told());
    // After it, all is well again.
    eventually("every breaker closes", || {
        let _ = get(&client, "billing", "/after");
        of(&client, "billing").endpoints.iter().any(|e| e.breaker.word() == "closed")
    });
    drop(client);
    eventually("all connections are closed", || {
        open(world.all().servers().iter().copied()) + open([world.registry().server()]) == 0
    });
}
