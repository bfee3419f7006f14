//! Watching a service over real sockets: a registry that changes its document, and who is told.
//!
//! The addresses in these documents are never called.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use origin_core::config::DeliveryConfig;
use origin_core::discovery::delivery::{Handler, MOST};
use origin_core::{Config, Error};
use origin_driver::blocking::Background;
use origin_driver::{Client, Update};
use origin_lab::{Document, Mode, Place, Registry, Role};

use crate::subject::{Subject, eventually};

on_every_runtime! {
    case_004_55_the_first_update_is_the_present_state
    case_004_50_each_change_is_delivered_and_no_news_is_not
    case_004_76_a_burst_gives_few_updates_and_the_final_state_last
    case_004_64_what_changed_while_the_source_was_down_is_delivered
    case_004_66_a_failing_callback_is_given_the_update_again
    case_004_66_that_a_callback_fails_and_recovers_is_a_notice_each_once
    case_004_76_how_changes_are_gathered_is_configured_and_can_change
    case_003_18_three_kinds_of_handlers_and_one_failing_stops_no_other
    case_004_67_one_call_at_a_time_and_never_backwards
    case_x_15_a_dropped_guard_ends_its_callback
    case_x_15_a_dropped_client_ends_watches_and_callbacks
    case_x_15_a_closed_client_ends_watches_callbacks_and_the_background
    case_004_50_what_cannot_be_watched_is_refused
}

/// Long enough for a busy machine; nothing waits for its end.
const SOON: Duration = Duration::from_secs(10);
/// For what must not come.
const QUIET: Duration = Duration::from_millis(200);

/// A document with so many instances of billing.
fn listing(instances: usize) -> Document {
    let urls: Vec<String> = (1..=instances).map(|n| format!("http://127.0.0.1:{n}")).collect();
    let document = nobody();
    document.service("billing", "Invoices", vec![Place::new("alpha", &urls, "/health")])
}

/// A document that does not name billing.
fn nobody() -> Document {
    let document = Document::new().last_updated("2026-01-01T00:00:00Z");
    document.cluster("alpha", "frankfurt", "http://127.0.0.1:9", Role::Primary)
}

/// A client that asks every 30 ms or so.
fn client<S: Subject>(registry: &Registry) -> (Client<S>, Option<Background>) {
    let restless = |config: &mut Config| {
        let discovery = config.discovery.as_mut().unwrap();
        discovery.ttl = Duration::from_millis(40);
        discovery.refresh_ahead = Duration::from_millis(10);
        discovery.backoff = Duration::from_millis(20);
        discovery.backoff_max = Duration::from_millis(40);
        discovery.removal.enabled = false;
    };
    let client =
        Client::<S>::builder().discovery(registry.url()).seed(7).configure(restless).build();
    let client = client.unwrap();
    let background = S::background(&client);
    (client, background)
}

fn count(update: &Update) -> usize {
    update.endpoints.len()
}

/// Hardly any gathering, and quick repetitions.
fn quick() -> DeliveryConfig {
    DeliveryConfig { backoff: Duration::from_millis(20), ..DeliveryConfig::immediate() }
}

fn follow<S: Subject>(
    client: &Client<S>,
    kind: Handler,
    callback: impl FnMut(&Update) -> Result<(), origin_driver::CallbackError> + Send + 'static,
) -> origin_driver::Subscription<S> {
    S::there(|| client.on_change_with("billing", kind, &quick(), callback)).unwrap()
}

fn case_004_55_the_first_update_is_the_present_state<S: Subject>() {
    let registry = Registry::start(&listing(2)).unwrap();
    let (client, _background) = client::<S>(&registry);
    // Before anything is known: as soon as it is.
    let mut watch = S::there(|| client.watch("billing")).unwrap();
    let first = S::update(&mut watch, SOON).unwrap();
    assert_eq!((&*first.service, first.version, count(&first)), ("billing", 1, 2));
    assert_eq!(&*first.endpoints[1].cluster, "alpha");
    // The source goes on being asked, and nothing has changed.
    let asked = registry.server().request_count();
    eventually("it is asked", || registry.server().request_count() > asked + 3);
    assert_eq!(S::update(&mut watch, QUIET), None);
    // Known already: at once, and the same.
    let mut second = S::there(|| client.watch("billing")).unwrap();
    let update = S::update(&mut second, SOON).unwrap();
    assert_eq!((update.version, &update.endpoints), (1, &first.endpoints));
    assert!(update.age >= QUIET && update.delay < update.age, "{update:?}");
}

fn case_004_50_each_change_is_delivered_and_no_news_is_not<S: Subject>() {
    let registry = Registry::start(&listing(2)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let mut watch = S::there(|| client.watch_with("billing", &quick())).unwrap();
    assert_eq!(S::update(&mut watch, SOON).map(|update| count(&update)), Some(2));
    for (version, instances) in [(2, 3), (3, 1), (4, 5)] {
        registry.publish(&listing(instances));
        let update = S::update(&mut watch, SOON).unwrap();
        assert_eq!((update.version, count(&update)), (version, instances));
    }
    // Another document with the same list.
    registry.publish(&listing(5).environment("staging"));
    assert_eq!(S::update(&mut watch, QUIET), None);
    // Nobody is left, which is a state like any other; and then somebody is.
    registry.publish(&nobody());
    assert_eq!(S::update(&mut watch, SOON).map(|update| count(&update)), Some(0));
    registry.publish(&listing(1));
    let update = S::update(&mut watch, SOON).unwrap();
    assert_eq!((update.version, count(&update)), (6, 1));
}

fn case_004_76_a_burst_gives_few_updates_and_the_final_state_last<S: Subject>() {
    const SETTLE: Duration = Duration::from_millis(500);
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let gathering = DeliveryConfig { settle: SETTLE, max_delay: SOON, ..DeliveryConfig::default() };
    let updates = Arc::new(Mutex::new(Vec::new()));
    let log = updates.clone();
    let gathered = move |update: &Update| {
        log.lock().unwrap().push(update.clone());
        Ok(())
    };
    let kind = Handler::LoadBalancerUpdate;
    let gathered = S::there(|| client.on_change_with("billing", kind, &gathering, gathered));
    let gathered = gathered.unwrap();
    let mut each = S::there(|| client.watch_with("billing", &quick())).unwrap();
    let mut versions = vec![S::update(&mut each, SOON).unwrap().version];
    eventually("the first state is there", || gathered.status().delivered == Some(1));
    for instances in 2..=12 {
        registry.publish(&listing(instances));
        versions.push(S::update(&mut each, SOON).unwrap().version);
    }
    assert_eq!(versions, (1..=12).collect::<Vec<_>>());
    eventually("the last state arrives", || gathered.status().delivered == Some(12));
    let updates = updates.lock().unwrap();
    let last = updates.last().unwrap();
    assert_eq!((last.version, count(last)), (12, 12));
    // One, if the machine has time; those in between were skipped, and counted.
    assert!(updates.len() <= 4, "{} updates of 11 changes", updates.len() - 1);
    assert_eq!(gathered.status().counts.skipped, 12 - updates.len() as u64);
    // The news was held back, and says so.
    assert!(last.delay >= SETTLE && last.delay >= last.age, "{last:?}");
}

fn case_004_64_what_changed_while_the_source_was_down_is_delivered<S: Subject>() {
    let registry = Registry::start(&listing(2)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let mut watch = S::there(|| client.watch("billing")).unwrap();
    assert_eq!(S::update(&mut watch, SOON).map(|update| count(&update)), Some(2));
    registry.server().set(Mode::Refuse);
    registry.publish(&listing(3));
    // An outage is no news: what was known is still the best there is.
    assert_eq!(S::update(&mut watch, 2 * QUIET), None);
    registry.server().set(Mode::Ok);
    let update = S::update(&mut watch, SOON).unwrap();
    assert_eq!((update.version, count(&update)), (2, 3));
}

fn case_004_66_a_failing_callback_is_given_the_update_again<S: Subject>() {
    let registry = Registry::start(&listing(2)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = calls.clone();
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let subscription = follow(&client, Handler::ConfigUpdate, move |update| {
        let mut log = log.lock().unwrap();
        log.push((update.version, count(update)));
        let calls = log.len();
        drop(log);
        match calls {
            _ if is_well.load(Ordering::Relaxed) => Ok(()),
            2 => resume_unwind(Box::new("that of the test")),
            _ => Err("the disk is full".into()),
        }
    });
    eventually("it has failed", || subscription.status().failures >= 3);
    let status = subscription.status();
    assert_eq!((status.delivered, status.newest), (None, Some(1)));
    assert_eq!(status.last_error.as_deref(), Some("the disk is full"));
    assert!(status.behind > Duration::ZERO && !status.over);
    assert!(calls.lock().unwrap().iter().all(|call| *call == (1, 2)));
    // A newer state takes its place; when the callback is well, it is told of that.
    registry.publish(&listing(3));
    eventually("the newer one is tried", || calls.lock().unwrap().contains(&(2, 3)));
    well.store(true, Ordering::Relaxed);
    eventually("it is delivered", || subscription.status().delivered == Some(2));
    let status = subscription.status();
    assert_eq!((status.failures, status.behind), (0, Duration::ZERO));
    assert!(status.counts.failed >= 3 && status.counts.delivered == 1, "{status:?}");
    // 004-63: how long the news took, failures included.
    assert!(status.took.oldest >= Duration::from_millis(60), "{status:?}");
    assert_eq!(calls.lock().unwrap().last(), Some(&(2, 3)));
    assert_eq!(format!("{subscription:?}"), "Subscription(billing, config_update)");
}

fn case_004_66_that_a_callback_fails_and_recovers_is_a_notice_each_once<S: Subject>() {
    let registry = Registry::start(&listing(2)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let _sound = follow(&client, Handler::MetricsUpdate, |_| Ok(()));
    let failing =
        follow(&client, Handler::ConfigUpdate, move |_| match is_well.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the disk is full".into()),
        });
    let told = || -> Vec<String> {
        let notices = client.notices();
        let watch = notices.iter().filter(|notice| notice.event.name().contains("_watch_"));
        watch.map(|notice| format!("{} {notice}", notice.event.name())).collect()
    };
    eventually("it has failed often", || failing.status().failures >= 4);
    assert_eq!(
        told(),
        ["service_watch_error billing: callback 2 (config_update) failed: the disk is full; \
          called again in 20ms"]
    );
    well.store(true, Ordering::Relaxed);
    eventually("it is delivered", || failing.status().delivered == Some(1));
    eventually("it is said", || told().len() == 2);
    let (last, failed) = (told().pop().unwrap(), failing.status().counts.failed);
    let begins = "service_watch_recovered billing: callback 2 (config_update) succeeded";
    assert!(last.starts_with(&format!("{begins} after {failed} failures in a row")), "{last}");
    // Again, with a panic.
    let shown = client.snapshot().notices;
    assert!(shown.iter().any(|notice| notice.event.name() == "service_watch_error"));
    let _panics = follow(&client, Handler::LoadBalancerUpdate, |_| {
        resume_unwind(Box::new("that of the test"))
    });
    eventually("the panic is said", || {
        told().iter().any(|told| {
            told.contains("callback 3 (load_balancer_update) failed: it panicked: that")
        })
    });
}

fn case_004_76_how_changes_are_gathered_is_configured_and_can_change<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let hour = Duration::from_secs(3_600);
    let slow = DeliveryConfig { settle: hour, max_delay: hour, ..DeliveryConfig::default() };
    let with = |delivery: &DeliveryConfig, own: Option<&DeliveryConfig>| {
        let mut config = client.config();
        config.discovery.as_mut().unwrap().delivery = delivery.clone();
        config.services.entry("billing".to_owned()).or_default().delivery = own.cloned();
        config
    };
    client.reconfigure(with(&slow, None)).unwrap();
    let mut follows = S::there(|| client.watch("billing")).unwrap();
    let mut own = S::there(|| client.watch_with("billing", &quick())).unwrap();
    // The first state at once, as ever.
    assert_eq!(S::update(&mut follows, SOON).map(|update| count(&update)), Some(1));
    assert_eq!(S::update(&mut own, SOON).map(|update| count(&update)), Some(1));
    registry.publish(&listing(2));
    assert_eq!(S::update(&mut own, SOON).map(|update| count(&update)), Some(2));
    assert_eq!(S::update(&mut follows, QUIET), None);
    // What is gathered is told as soon as the settings allow, also to one that waits already; those
    // of the service win.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| S::update(&mut follows, 4 * SOON));
        thread::sleep(QUIET);
        client.reconfigure(with(&slow, Some(&quick()))).unwrap();
        assert_eq!(waiting.join().unwrap().map(|update| count(&update)), Some(2));
    });
    // Settings of one's own stay.
    client.reconfigure(with(&slow, None)).unwrap();
    registry.publish(&listing(3));
    assert_eq!(S::update(&mut own, SOON).map(|update| count(&update)), Some(3));
    assert_eq!(S::update(&mut follows, QUIET), None);
    let wrong = DeliveryConfig { backoff: Duration::ZERO, ..DeliveryConfig::default() };
    let refused = client.reconfigure(with(&wrong, None)).unwrap_err();
    assert_eq!(refused.field, "discovery.delivery.backoff");
    let refused = client.reconfigure(with(&slow, Some(&wrong))).unwrap_err();
    assert_eq!(refused.field, "services.billing.delivery.backoff");
    let mut other = client.config();
    other.discovery.as_mut().unwrap().ttl = hour;
    assert_eq!(client.reconfigure(other).unwrap_err().field, "discovery");
}

fn case_003_18_three_kinds_of_handlers_and_one_failing_stops_no_other<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let failing = follow(&client, Handler::ConfigUpdate, |_| Err("no".into()));
    let panicking = follow(&client, Handler::MetricsUpdate, |_| {
        // A panic that is not printed.
        resume_unwind(Box::new("that of the test"))
    });
    let seen = Arc::new(AtomicU32::new(0));
    let last = seen.clone();
    let sound = follow(&client, Handler::LoadBalancerUpdate, move |update| {
        last.store(count(update) as u32, Ordering::Relaxed);
        Ok(())
    });
    for instances in 1..=4 {
        registry.publish(&listing(instances));
        let is = || seen.load(Ordering::Relaxed) as usize == instances;
        eventually("the sound one is told", is);
    }
    assert_eq!((sound.status().failures, sound.status().counts.failed), (0, 0));
    assert_eq!(sound.kind().word(), "load_balancer_update");
    for subscription in [&failing, &panicking] {
        eventually("both were told of the last state", || subscription.status().newest == Some(4));
        eventually("both have failed", || subscription.status().failures > 0);
    }
    eventually("it says why", || {
        panicking.status().last_error.as_deref() == Some("it panicked: that of the test")
    });
}

fn case_004_67_one_call_at_a_time_and_never_backwards<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let (busy, log) = (AtomicBool::new(false), Arc::new(Mutex::new(Vec::new())));
    let calls = log.clone();
    let _slow = follow(&client, Handler::LoadBalancerUpdate, move |update| {
        assert!(!busy.swap(true, Ordering::SeqCst), "two at a time");
        thread::sleep(Duration::from_millis(120));
        calls.lock().unwrap().push((update.version, count(update)));
        busy.store(false, Ordering::SeqCst);
        // Every other call fails, so that repetitions are between.
        match calls.lock().unwrap().len() % 2 {
            0 => Err("again".into()),
            _ => Ok(()),
        }
    });
    let mut watch = S::there(|| client.watch_with("billing", &quick())).unwrap();
    S::update(&mut watch, SOON).unwrap();
    for instances in 2..=8 {
        registry.publish(&listing(instances));
        S::update(&mut watch, SOON).unwrap();
    }
    eventually("the last state arrives", || log.lock().unwrap().last() == Some(&(8, 8)));
    let log = log.lock().unwrap();
    assert!(log.is_sorted(), "{log:?}");
    assert!(log.iter().all(|(version, count)| *version as usize == *count), "{log:?}");
}

fn case_x_15_a_dropped_guard_ends_its_callback<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, _background) = client::<S>(&registry);
    let calls = Arc::new(AtomicU32::new(0));
    let held = calls.clone();
    let subscription = follow(&client, Handler::MetricsUpdate, move |_| {
        held.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    eventually("it is called", || calls.load(Ordering::Relaxed) == 1);
    drop(subscription);
    // The callback itself is gone, and what it held.
    eventually("its task or thread ends", || Arc::strong_count(&calls) == 1);
    registry.publish(&listing(2));
    thread::sleep(QUIET);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    // While it fails and waits for its repetition, too.
    let held = calls.clone();
    let subscription = follow(&client, Handler::MetricsUpdate, move |_| {
        held.fetch_add(1, Ordering::Relaxed);
        Err("no".into())
    });
    eventually("it has failed", || subscription.status().failures > 6);
    drop(subscription);
    eventually("its task or thread ends", || Arc::strong_count(&calls) == 1);
}

fn case_x_15_a_dropped_client_ends_watches_and_callbacks<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, background) = client::<S>(&registry);
    let calls = Arc::new(AtomicU32::new(0));
    let held = calls.clone();
    let subscription = follow(&client, Handler::MetricsUpdate, move |_| {
        held.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let mut watch = S::there(|| client.watch("billing")).unwrap();
    S::update(&mut watch, SOON).unwrap();
    eventually("it is called", || calls.load(Ordering::Relaxed) == 1);
    // Neither the guard nor the watch keeps the client; one that waits is woken.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| S::update(&mut watch, 4 * SOON));
        thread::sleep(QUIET);
        drop(client);
        eventually("the wait ends", || waiting.is_finished());
        assert_eq!(waiting.join().unwrap(), None);
    });
    eventually("its task or thread ends", || Arc::strong_count(&calls) == 1);
    assert!(subscription.status().over);
    drop(background);
    assert_eq!(S::update(&mut watch, SOON), None);
}

fn case_x_15_a_closed_client_ends_watches_callbacks_and_the_background<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let (client, background) = client::<S>(&registry);
    let calls = Arc::new(AtomicU32::new(0));
    let held = calls.clone();
    let subscription = follow(&client, Handler::MetricsUpdate, move |_| {
        held.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let mut watch = S::there(|| client.watch("billing")).unwrap();
    S::update(&mut watch, SOON).unwrap();
    eventually("it is called", || calls.load(Ordering::Relaxed) == 1);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| S::update(&mut watch, 4 * SOON));
        thread::sleep(QUIET);
        assert!(S::wait(S::there(|| client.close(SOON))).unwrap());
        eventually("the wait ends", || waiting.is_finished());
        assert_eq!(waiting.join().unwrap(), None);
    });
    eventually("its task or thread ends", || Arc::strong_count(&calls) == 1);
    assert!(subscription.status().over);
    if let Some(background) = &background {
        eventually("the background ends", || background.is_over());
    }
    // Nobody looks after discovery any more, nor begins to.
    thread::sleep(QUIET);
    let asked = registry.server().request_count();
    let mut late = S::there(|| client.watch("billing")).unwrap();
    assert_eq!(S::update(&mut late, QUIET), None);
    thread::sleep(QUIET);
    assert_eq!(registry.server().request_count(), asked);
    // Again is no harm.
    assert!(S::wait(S::there(|| client.close(SOON))).unwrap());
}

fn case_004_50_what_cannot_be_watched_is_refused<S: Subject>() {
    let registry = Registry::start(&listing(1)).unwrap();
    let own = Client::<S>::builder().endpoint("ledger", "http://127.0.0.1:9");
    let own = own.discovery(registry.url()).build().unwrap();
    let refusal = |error: Error| error.to_string();
    let error = S::there(|| own.watch("ledger")).map(drop).unwrap_err();
    assert!(refusal(error).contains("services.ledger.endpoints"));
    let wrong = DeliveryConfig { settle: SOON, ..DeliveryConfig::default() };
    let error = S::there(|| own.watch_with("billing", &wrong)).map(drop).unwrap_err();
    assert!(refusal(error).contains("delivery.settle"));
    // A name that the document does not know, once there is one.
    let (client, _background) = client::<S>(&registry);
    let mut watches = vec![S::there(|| client.watch("billing")).unwrap()];
    S::update(&mut watches[0], SOON).unwrap();
    let error = S::there(|| client.watch("biling")).map(drop).unwrap_err();
    assert!(matches!(error, Error::UnknownService { .. }), "{error}");
    // A bound, which those that are dropped do not count for.
    while watches.len() < MOST {
        watches.push(S::there(|| client.watch("billing")).unwrap());
    }
    let error = S::there(|| client.watch("billing")).map(drop).unwrap_err();
    assert!(refusal(error).contains("64"));
    watches.pop();
    let _ = S::there(|| client.watch("billing")).unwrap();
}

/// Of the four, only tokio has places where no task can be started.
#[test]
fn case_x_15_a_callback_without_a_runtime_is_refused() {
    use crate::subject::Tokio;
    let registry = Registry::start(&listing(1)).unwrap();
    let client = Client::<Tokio>::builder().discovery(registry.url()).build().unwrap();
    let error = client.on_change("billing", Handler::MetricsUpdate, |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("no runtime is running here"), "{error}");
    // A watch needs none before it waits.
    let mut watch = client.watch("billing").unwrap();
    assert_eq!(Tokio::update(&mut watch, SOON).map(|update| count(&update)), Some(1));
}
