//! Checks of the application's own: functions and programs, well-behaved and not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use origin_core::config::{CheckKind, ChecksConfig};
use origin_core::outcome::Fault;
use origin_core::policy::health::{Fail, ProbeOutcome, Status};
use origin_driver::{CheckTarget, command_check};
use origin_lab::FaultServer;

use crate::checks::{becomes, checked, quick, verdict};
use crate::subject::{Subject, eventually, get};

on_every_runtime! {
    case_000_27_a_custom_check_decides_by_its_exit_code
    case_003_07_a_program_is_asked_about_each_endpoint
    a_program_that_hangs_is_killed_at_its_timeout_and_with_the_client
    a_check_that_hangs_fails_and_a_bounded_number_of_threads_hang_with_it
    a_check_that_panics_says_nothing_about_the_endpoint
    x_09_a_name_that_nobody_has_registered_is_refused
}

fn own(name: &str) -> ChecksConfig {
    ChecksConfig { custom: name.to_owned(), ..quick(CheckKind::Custom) }
}

/// Programs take longer than sockets.
fn patient(name: &str) -> ChecksConfig {
    let interval = Duration::from_secs(5);
    ChecksConfig {
        interval,
        timeout: Some(interval),
        no_traffic_interval: Some(interval),
        // Always at the fast pace.
        healthy_threshold: 1000,
        unhealthy_threshold: 1,
        ..own(name)
    }
}

fn case_000_27_a_custom_check_decides_by_its_exit_code<S: Subject>() {
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    let urls: Vec<String> = servers.iter().map(FaultServer::url).collect();
    let answer = Arc::new(AtomicI32::new(2));
    let targets = Arc::new(Mutex::new(BTreeSet::new()));
    let (says, seen, first) = (answer.clone(), targets.clone(), urls[0].clone());
    let check = move |target: &CheckTarget| {
        assert!(target.left() > Duration::ZERO && target.left() <= Duration::from_millis(500));
        let place = (target.host().unwrap().to_owned(), target.port().unwrap());
        seen.lock().unwrap().insert((target.service().to_owned(), place));
        Some(if target.address() == first { says.load(Ordering::Relaxed) } else { 0 })
    };
    let client = checked::<S>(own("mine"), &urls).check("mine", check).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    becomes(&client, &urls[1], Status::Healthy);
    let (_, history) = verdict(&client, &urls[0]);
    let two = ProbeOutcome::Fail(Fail::Exit(2));
    assert!(history.iter().all(|entry| entry.outcome == two), "{history:?}");
    for _ in 0..10 {
        get(&client, "billing", "/x").unwrap();
    }
    assert_eq!((servers[0].request_count(), servers[1].request_count()), (0, 10));
    answer.store(1, Ordering::Relaxed);
    becomes(&client, &urls[0], Status::Degraded);
    answer.store(0, Ordering::Relaxed);
    becomes(&client, &urls[0], Status::Healthy);
    let expected: BTreeSet<_> = servers
        .iter()
        .map(|server| ("billing".to_owned(), ("127.0.0.1".to_owned(), server.addr().port())))
        .collect();
    assert_eq!(*targets.lock().unwrap(), expected);
}

fn case_003_07_a_program_is_asked_about_each_endpoint<S: Subject>() {
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    let urls: Vec<String> = servers.iter().map(FaultServer::url).collect();
    let script = format!(
        "test \"$ORIGIN_SERVICE $ORIGIN_HOST\" = 'billing 127.0.0.1' || exit 3; \
         test \"$ORIGIN_ADDRESS\" = \"http://$ORIGIN_HOST:$ORIGIN_PORT\" || exit 4; \
         test $ORIGIN_PORT = {} && exit 1; read line; echo noise; exit 2",
        servers[0].addr().port()
    );
    let check = command_check("sh", ["-c", script.as_str()]);
    let client = checked::<S>(patient("program"), &urls).check("program", check).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Degraded);
    becomes(&client, &urls[1], Status::Unhealthy);
    let (_, history) = verdict(&client, &urls[1]);
    assert_eq!(history[0].outcome, ProbeOutcome::Fail(Fail::Exit(2)));
    drop((_background, client));
    let check = command_check("/no/such/program", [""; 0]);
    let client = checked::<S>(patient("program"), &urls).check("program", check).build().unwrap();
    let _background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    let (_, history) = verdict(&client, &urls[0]);
    assert_eq!(history[0].outcome, ProbeOutcome::Fail(Fail::Exit(127)));
}

/// Programs that sleep for so long.
fn sleeping(seconds: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap();
    let line = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read(entry.ok()?.path().join("cmdline")).ok()
    };
    let wanted = format!("sleep\0{seconds}\0");
    entries.filter_map(line).filter(|line| line.as_slice() == wanted.as_bytes()).count()
}

fn a_program_that_hangs_is_killed_at_its_timeout_and_with_the_client<S: Subject>() {
    if !cfg!(target_os = "linux") {
        return; // where programs cannot be counted in this way
    }
    // A number that no other test, and no other runtime, sleeps for.
    let seconds = format!("{}.{}", 86_400 + S::NAME.len(), std::process::id());
    let server = FaultServer::start().unwrap();
    let urls = [server.url()];
    let check = || command_check("sleep", [seconds.as_str()]);
    let client = checked::<S>(own("slow"), &urls).check("slow", check()).build().unwrap();
    let background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    drop((background, client));
    eventually("the last one is killed", || sleeping(&seconds) == 0);
    // And long before its timeout when the client goes.
    let day = Duration::from_secs(86_400);
    let checks = ChecksConfig {
        interval: day,
        timeout: Some(day),
        no_traffic_interval: Some(day),
        ..own("slow")
    };
    let client = checked::<S>(checks, &urls).check("slow", check()).build().unwrap();
    let background = S::background(&client);
    eventually("it runs", || sleeping(&seconds) == 1);
    drop((background, client));
    eventually("it is killed", || sleeping(&seconds) == 0);
}

fn a_check_that_hangs_fails_and_a_bounded_number_of_threads_hang_with_it<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let urls = [server.url()];
    let (begun, over) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(())));
    let (count, wait) = (begun.clone(), over.clone());
    let held = over.lock().unwrap();
    let interval = Duration::from_millis(40);
    let checks = ChecksConfig {
        interval,
        timeout: Some(interval),
        no_traffic_interval: Some(interval),
        max_concurrent: 2,
        ..own("stuck")
    };
    let check = move |_: &CheckTarget| {
        count.fetch_add(1, Ordering::Relaxed);
        drop(wait.lock());
        Some(0)
    };
    let client = checked::<S>(checks, &urls).check("stuck", check).build().unwrap();
    let background = S::background(&client);
    becomes(&client, &urls[0], Status::Unhealthy);
    let (_, history) = verdict(&client, &urls[0]);
    let late = ProbeOutcome::Fail(Fail::Fault(Fault::Timeout));
    assert!(history.iter().all(|entry| entry.outcome == late), "{history:?}");
    // Twice `max_concurrent`, and not one more, however long it lasts.
    eventually("the bound is reached", || begun.load(Ordering::Relaxed) == 4);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(begun.load(Ordering::Relaxed), 4);
    // As soon as they end, all is well again.
    drop(held);
    becomes(&client, &urls[0], Status::Healthy);
    drop((background, client));
}

fn a_check_that_panics_says_nothing_about_the_endpoint<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let urls = [server.url()];
    let times = Arc::new(AtomicU32::new(0));
    let count = times.clone();
    let check = move |_: &CheckTarget| match count.fetch_add(1, Ordering::Relaxed) {
        // Quietly: without the message of the hook.
        0 | 1 => std::panic::resume_unwind(Box::new("no answer")),
        _ => Some(0),
    };
    let client = checked::<S>(own("broken"), &urls).check("broken", check).build().unwrap();
    let _background = S::background(&client);
    eventually("it has panicked", || times.load(Ordering::Relaxed) >= 2);
    becomes(&client, &urls[0], Status::Healthy);
    let (_, history) = verdict(&client, &urls[0]);
    assert_eq!(history[0].outcome, ProbeOutcome::Pass, "{history:?}");
}

fn x_09_a_name_that_nobody_has_registered_is_refused<S: Subject>() {
    let urls = ["http://127.0.0.1:9".to_owned()];
    let error = checked::<S>(own("mine"), &urls).build().unwrap_err();
    assert_eq!(error.field, "policy.checks.custom");
    assert!(error.reason.contains("\"mine\""), "{error}");
    let error = checked::<S>(own("mine"), &urls).check("other", |_| Some(0)).build().unwrap_err();
    assert!(error.reason.contains("these are: other"), "{error}");
    let of_service = |config: &mut origin_core::Config| {
        let mut policy = config.policy.clone();
        policy.checks = own("mine");
        config.services.get_mut("billing").unwrap().policy = Some(policy);
    };
    let builder = checked::<S>(ChecksConfig::default(), &urls).configure(of_service);
    let error = builder.build().unwrap_err();
    assert_eq!(error.field, "services.billing.policy.checks.custom");
    // Switched off, it is not wanted.
    let off = ChecksConfig { kind: CheckKind::Off, ..own("mine") };
    assert!(checked::<S>(off, &urls).build().is_ok());
}
