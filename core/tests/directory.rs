//! The directory as its users meet it: when a fetch is due, who carries it, what is used
//! meanwhile. Each named case is one requirement; the random script at the end holds them
//! together.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue};
use origin_core::Time;
use origin_core::config::{Config, DiscoveryConfig};
use origin_core::discovery::directory::{Moved, Resolution};
use origin_core::discovery::{Directory, Surroundings};
use origin_core::job::{Asker, Job, JobOutcome, Poll};
use origin_core::notice::Event;
use origin_core::outcome::Fault;
use proptest::prelude::*;

const GOOD: &str = r#"{"services":{"s":{"endpoints":{"a":"http://a"}}}}"#;
const SOURCE: &str = "http://registry:8080/api/v1/services";

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn call(until_ms: u64) -> Asker<'static> {
    Asker::Call { service: "s", until: at(until_ms) }
}

fn directory(change: impl FnOnce(&mut DiscoveryConfig)) -> Directory {
    let mut config = DiscoveryConfig::at(SOURCE);
    change(&mut config);
    let config = Config { discovery: Some(config), ..Config::default() };
    let mut directory = Directory::new(&config, 3, &Surroundings::default()).unwrap().unwrap();
    assert_eq!(directory.resolve(Time::ZERO, "s"), Resolution::Pending);
    directory
}

fn answer(status: u16, body: &str, headers: &[(http::HeaderName, &str)]) -> JobOutcome {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    JobOutcome::Answered { status, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn moved(moved: Moved) -> bool {
    !moved.services.is_empty()
}

fn run(directory: &mut Directory, now: u64, asker: Asker<'_>) -> Job {
    match directory.poll_job(at(now), asker) {
        Poll::Run(job) => *job,
        Poll::Wait(until) => panic!("{asker:?} at {now} ms is told to wait until {until:?}"),
    }
}

fn waits(directory: &mut Directory, now: u64, asker: Asker<'_>) -> Time {
    match directory.poll_job(at(now), asker) {
        Poll::Wait(until) => {
            assert!(until > at(now), "told at {now} ms to wait until {until:?}");
            until
        }
        Poll::Run(job) => panic!("{asker:?} at {now} ms is told to run {job:?}"),
    }
}

/// A directory that has taken its first document at zero, on behalf of a call.
fn loaded(
    change: impl FnOnce(&mut DiscoveryConfig),
    headers: &[(http::HeaderName, &str)],
) -> Directory {
    let mut d = directory(change);
    let job = run(&mut d, 0, call(30_000));
    assert!(moved(d.job_done(at(0), job.id, answer(200, GOOD, headers))));
    d
}

fn found(d: &mut Directory, now: u64) -> bool {
    matches!(d.resolve(at(now), "s"), Resolution::Found(_))
}

#[test]
fn case_000_15_no_fetch_at_299_seconds_and_one_after_300() {
    let mut d = loaded(|_| (), &[]);
    assert_eq!(waits(&mut d, 299_000, call(400_000)), at(300_000));
    let job = run(&mut d, 300_000, call(400_000));
    waits(&mut d, 300_000, call(400_000));
    assert!(moved(d.job_done(at(300_010), job.id, answer(200, GOOD, &[]))));
    assert_eq!(waits(&mut d, 300_010, call(400_000)), at(600_010));
}

#[test]
fn case_000_15_only_a_background_refreshes_ahead() {
    let mut d = loaded(|_| (), &[]);
    assert_eq!(waits(&mut d, 10, Asker::Background), at(270_000));
    waits(&mut d, 270_000, call(400_000));
    run(&mut d, 270_000, Asker::Background);
}

#[test]
fn max_age_shortens_and_never_lengthens() {
    for (header, due) in
        [("max-age=60", 60_000), ("max-age=900", 300_000), ("no-store", 1_000), ("x", 300_000)]
    {
        let mut d = loaded(|_| (), &[(CACHE_CONTROL, header)]);
        assert_eq!(waits(&mut d, 10, call(30_000)), at(due), "{header}");
    }
}

#[test]
fn a_304_renews_what_is_held_and_is_a_failure_without() {
    let mut d = loaded(|_| (), &[(ETAG, "\"v1\"")]);
    let job = run(&mut d, 300_000, call(400_000));
    assert_eq!(job.http().unwrap().headers().get(IF_NONE_MATCH).unwrap(), "\"v1\"");
    assert!(moved(d.job_done(at(300_000), job.id, answer(304, "", &[]))));
    assert_eq!(waits(&mut d, 300_000, call(400_000)), at(600_000));
    assert!(found(&mut d, 300_000));

    let mut d = directory(|_| ());
    let job = run(&mut d, 0, call(30_000));
    assert!(job.http().unwrap().headers().get(IF_NONE_MATCH).is_none());
    assert!(moved(d.job_done(at(1), job.id, answer(304, "", &[]))));
    assert!(matches!(d.resolve(at(1), "s"), Resolution::Failed { failures: 1, .. }));
}

#[test]
fn case_000_35_a_malformed_document_never_replaces_a_good_one() {
    let mut d = loaded(|_| (), &[]);
    for body in ["", "{", "<html>", "{}", "[]", "{\"services\":7}", "\u{feff}{}"] {
        let now = waits_until_due(&mut d);
        let job = run(&mut d, now, call(now + 60_000));
        assert!(moved(d.job_done(at(now), job.id, answer(200, body, &[]))));
        assert!(found(&mut d, now), "{body:?}");
    }
}

/// The millisecond after which a call may fetch.
fn waits_until_due(d: &mut Directory) -> u64 {
    d.call_due(Time::ZERO, "s").as_millis() + 1
}

#[test]
fn case_000_38_stale_data_is_used_with_one_notice() {
    let mut d = loaded(|_| (), &[]);
    for round in 0..10_u32 {
        let now = waits_until_due(&mut d);
        let job = run(&mut d, now, call(now + 60_000));
        assert!(moved(d.job_done(at(now), job.id, JobOutcome::Failed(Fault::Connect))));
        assert!(found(&mut d, now));
        assert_eq!(d.snapshot(at(now))[0].failures, round + 1);
    }
    let stale = |n: &&origin_core::notice::Notice| matches!(n.event, Event::DiscoveryStale { .. });
    assert_eq!(d.notices().since(0).filter(stale).count(), 1);
}

#[test]
fn case_000_38_stale_data_has_an_end() {
    let mut d = loaded(|c| c.max_stale = Duration::from_secs(10), &[]);
    for (now, usable) in [(305_000, true), (311_000, false)] {
        let now = now.max(waits_until_due(&mut d));
        let job = run(&mut d, now, call(now + 60_000));
        assert!(moved(d.job_done(at(now), job.id, JobOutcome::Failed(Fault::Connect))));
        assert_eq!(found(&mut d, now), usable, "{now}");
    }
}

/// A call that has something to work with is left the time to do it.
#[test]
fn case_000_38_carrying_a_refresh_leaves_time_for_the_call() {
    let mut d = loaded(|_| (), &[]);
    let job = run(&mut d, 300_000, call(300_600));
    assert!(job.deadline <= at(300_300), "all but {:?} is gone", job.deadline.until(at(300_600)));
}

#[test]
fn case_000_37_a_lost_lease_is_issued_again_and_its_late_result_ignored() {
    let mut d = directory(|_| ());
    let lost = run(&mut d, 0, call(30_000));
    let again_at = waits(&mut d, 1, call(30_000));
    assert!(again_at >= lost.deadline && again_at <= lost.deadline.plus(Duration::from_secs(2)));
    let Poll::Run(again) = d.poll_job(again_at, call(30_000)) else { panic!("not issued again") };
    assert_ne!(again.id, lost.id);
    let before = d.clone();
    assert!(!moved(d.job_done(again_at, lost.id, answer(200, GOOD, &[]))));
    assert_eq!(d, before);
    assert!(moved(d.job_done(again_at, again.id, answer(200, GOOD, &[]))));
}

/// The timer of the job and those of the calls that wait for it fire in the same instant, in any
/// order. A result that comes at its deadline is in time: the failure counts, and is backed off.
#[test]
fn case_000_39_a_timed_out_fetch_counts_also_when_a_waiting_call_asks_first() {
    let mut d = directory(|_| ());
    let job = run(&mut d, 0, call(30_000));
    let deadline = job.deadline.as_millis();
    let asked = d.poll_job(job.deadline, call(30_000));
    assert!(matches!(asked, Poll::Wait(_)), "the fetch is handed out again at once");
    assert!(moved(d.job_done(job.deadline, job.id, JobOutcome::Failed(Fault::Timeout))));
    assert_eq!(d.snapshot(job.deadline)[0].failures, 1);
    waits(&mut d, deadline + 1, call(30_000));
}

/// The first fetch is a call's as a rule. The background that asks meanwhile must not sleep
/// through the life of the document that comes of it.
#[test]
fn case_000_15_a_background_that_finds_a_fetch_under_way_looks_again_soon() {
    let mut d = directory(|c| {
        c.ttl = Duration::from_secs(1);
        c.refresh_ahead = Duration::from_millis(300);
    });
    let job = run(&mut d, 0, call(30_000));
    let next = waits(&mut d, 0, Asker::Background);
    assert!(moved(d.job_done(at(3), job.id, answer(200, GOOD, &[]))));
    assert!(next <= at(703), "asks next at {next:?}, the document is due at 703 ms");
}

#[test]
fn redirects_stay_on_the_host_and_end() {
    let to = |target: &str| answer(302, "", &[(LOCATION, target)]);
    let mut d = directory(|_| ());
    let mut job = run(&mut d, 0, call(30_000));
    for hop in ["/1", "http://registry:8080/2", "/3"] {
        assert!(moved(d.job_done(at(0), job.id, to(hop))));
        job = run(&mut d, 0, call(30_000));
        let uri = job.http().unwrap().uri();
        assert!(uri.to_string().ends_with(hop) && uri.host() == Some("registry"));
    }
    assert!(moved(d.job_done(at(0), job.id, to("/4"))));
    assert!(matches!(d.resolve(at(0), "s"), Resolution::Failed { .. }), "the fourth is too many");
    waits(&mut d, 1, call(30_000));
    for other in ["http://elsewhere/1", "https://registry:8080/1", "//elsewhere/1", "1", ""] {
        let mut d = directory(|_| ());
        let job = run(&mut d, 0, call(30_000));
        assert!(moved(d.job_done(at(0), job.id, to(other))));
        assert!(matches!(d.resolve(at(0), "s"), Resolution::Failed { .. }), "{other}");
    }
}

#[test]
fn x_15_when_the_background_is_gone_calls_carry_the_refresh_again() {
    let mut d = loaded(|_| (), &[]);
    assert_eq!(waits(&mut d, 0, Asker::Background), at(270_000));
    // It never asks. Calls leave the matter to it for a moment, then look after it themselves.
    waits(&mut d, 271_000, call(400_000));
    assert_eq!(waits(&mut d, 280_000, call(400_000)), at(300_000));
    run(&mut d, 300_000, call(400_000));
}

/// What a script can do to a directory.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Ask(bool, u64),
    End(u8),
    EndOld(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_u64..4_000).prop_map(Step::Pass),
        (any::<bool>(), 1_u64..9_000).prop_map(|(background, ms)| Step::Ask(background, ms)),
        (0_u8..9).prop_map(Step::End),
        (0_u8..9).prop_map(Step::EndOld),
    ];
    prop::collection::vec(step, 1..150)
}

fn outcome(n: u8) -> JobOutcome {
    match n {
        0 | 1 => answer(200, GOOD, &[(ETAG, "\"v\"")]),
        2 => answer(304, "", &[]),
        3 => answer(200, "{\"services\":", &[]),
        4 => answer(500, "", &[]),
        5 => answer(302, "", &[(LOCATION, "/x")]),
        6 => answer(302, "", &[(LOCATION, "http://elsewhere/")]),
        7 => JobOutcome::Dropped,
        _ => JobOutcome::Failed(Fault::Timeout),
    }
}

/// The wait that a failed fetch was followed by, in milliseconds.
fn retry_in(notice: &origin_core::notice::Notice) -> Option<u64> {
    match notice.event {
        Event::DiscoveryFailed { retry_in, .. } => u64::try_from(retry_in.as_millis()).ok(),
        _ => None,
    }
}

proptest! {
    /// Under any interleaving: one fetch at a time, no hot loop, failures backed off within their
    /// bounds, old results ignored, a good document never lost.
    #[test]
    fn any_interleaving_holds(steps in steps(), cache in prop::bool::weighted(0.8)) {
        let mut d = directory(|c| {
            c.cache = cache;
            c.ttl = Duration::from_secs(6);
            c.refresh_ahead = Duration::from_secs(2);
        });
        let mut now = 0_u64;
        let mut open: Option<Job> = None;
        let mut old: Vec<Job> = Vec::new();
        let (mut failed, mut good): (Option<(u64, u64)>, bool) = (None, false);
        for step in steps {
            match step {
                Step::Pass(ms) => now += ms,
                Step::Ask(background, ms) => {
                    let asker = if background { Asker::Background } else { call(now + ms) };
                    match d.poll_job(at(now), asker) {
                        Poll::Wait(until) => prop_assert!(until > at(now)),
                        Poll::Run(job) => {
                            prop_assert!(open.as_ref().is_none_or(|o| o.deadline <= at(now)));
                            prop_assert!(job.deadline > at(now));
                            if let Asker::Call { until, .. } = asker {
                                prop_assert!(job.deadline <= until);
                            }
                            if let Some((when, least)) = failed {
                                prop_assert!(now >= when + least, "no backoff at {now}");
                            }
                            old.extend(open.replace(*job));
                        }
                    }
                }
                Step::End(what) => if let Some(job) = open.take() {
                    // A driver reports no later than the deadline.
                    now = now.min(job.deadline.as_millis());
                    let before = d.snapshot(at(now))[0].failures;
                    prop_assert!(moved(d.job_done(at(now), job.id, outcome(what))));
                    let after = d.snapshot(at(now))[0].failures;
                    good |= what < 2;
                    if after > before {
                        // Half of the step at least, the whole at most.
                        let whole = (200_u64 << before.min(20)).min(30_000);
                        failed = Some((now, whole / 2));
                        let last = d.notices().since(0).filter_map(retry_in).last().unwrap();
                        prop_assert!((whole / 2..=whole).contains(&last), "{last} of {whole}");
                    } else if what != 7 {
                        failed = None;
                    }
                    old.push(job);
                },
                Step::EndOld(what) => if let Some(job) = old.pop() {
                    let before = d.clone();
                    prop_assert!(!moved(d.job_done(at(now), job.id, outcome(what))));
                    prop_assert_eq!(&d, &before);
                },
            }
            if good && cache {
                prop_assert!(found(&mut d, now), "the document is lost");
            }
            prop_assert_eq!(d.clone().resolve(at(now), "s"), d.resolve(at(now), "s"));
        }
    }
}
