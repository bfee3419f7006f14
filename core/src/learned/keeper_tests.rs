use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::learned::{LearnedEndpoint, LearnedService, MAX_AGE};
use crate::metrics::Phase;
use crate::outcome::Fault;
use crate::policy::health::Status;

const NOW: Time = Time::from_millis(1_000);
const WALL: Wall = Wall(1_000_000);

fn keeper() -> Keeper {
    let config = StateConfig { path: Some("/x/state".to_owned()), ..StateConfig::default() };
    Keeper::of(NOW, &config).unwrap()
}

fn learned(at: u64) -> Learned {
    let endpoint = LearnedEndpoint {
        cluster: "alpha".into(),
        address: "http://a:80".into(),
        breaker: Phase::Open,
        open_ms: 20_000,
        trip: None,
        openings: 1,
        latency_us: Some(1_500),
        health: Status::Unknown,
    };
    let service = LearnedService { active: Some("alpha".into()), endpoints: vec![endpoint] };
    Learned { at, services: BTreeMap::from([("billing".into(), service)]) }
}

fn written(poll: Poll) -> (JobId, Bytes) {
    let Poll::Run(job) = poll else { panic!("nothing is written: {poll:?}") };
    let Work::Write { path, content } = job.work else { panic!("{:?}", job.work) };
    assert_eq!(&*path, "/x/state");
    (job.id, content)
}

fn said(keeper: &Keeper) -> Vec<String> {
    keeper.notices().since(0).map(ToString::to_string).collect()
}

fn after(seconds: u64) -> Time {
    NOW.plus(Duration::from_secs(seconds))
}

#[test]
fn what_is_written_is_read_back() {
    let mut first = keeper();
    assert_eq!(first.due(), after(30));
    assert!(matches!(first.poll(after(29), &learned(5)), Poll::Wait(at) if at == after(30)));
    let (id, content) = written(first.poll(after(30), &learned(WALL.0)));
    assert!(Keeper::owns(id));
    assert!(matches!(first.poll(after(31), &learned(5)), Poll::Wait(_)), "one at a time");
    first.done(after(31), id, &JobOutcome::Written);
    assert_eq!(first.due(), after(60));
    let mut second = keeper();
    let read = JobOutcome::Content(Some(content));
    assert_eq!(second.restore(NOW, Wall(WALL.0 + 60), read), Some(learned(WALL.0)));
    assert_eq!(said(&second), ["what was learnt 1m ago of 1 endpoints of 1 services is used"]);
}

#[test]
fn a_lost_write_is_issued_again_and_its_late_result_is_nobodys() {
    let mut keeper = keeper();
    let (lost, _) = written(keeper.poll(after(30), &learned(1)));
    assert_eq!(keeper.due(), after(40));
    let (again, _) = written(keeper.poll(after(40), &learned(1)));
    keeper.done(after(41), lost, &JobOutcome::Impossible("late".into()));
    assert!(said(&keeper).is_empty());
    keeper.done(after(41), again, &JobOutcome::Written);
    assert_eq!(keeper.due(), after(70));
}

#[test]
fn failures_are_told_once_and_so_is_their_end() {
    let mut keeper = keeper();
    for n in 1..=3 {
        let (id, _) = written(keeper.poll(after(30 * n), &learned(1)));
        keeper.done(after(30 * n), id, &JobOutcome::Impossible("no room".into()));
    }
    let (id, _) = written(keeper.poll(after(120), &learned(1)));
    keeper.done(after(120), id, &JobOutcome::Written);
    let told = [
        "what is learnt cannot be written: no room",
        "what is learnt is written again after 3 failures",
    ];
    assert_eq!(said(&keeper), told);
}

#[test]
fn nothing_learnt_replaces_nothing() {
    let mut keeper = keeper();
    assert!(
        matches!(keeper.poll(after(30), &Learned::default()), Poll::Wait(at) if at == after(60))
    );
    keeper.end(after(31));
    assert!(!keeper.is_over());
    assert!(matches!(keeper.poll(after(31), &Learned::default()), Poll::Wait(Time::NEVER)));
    assert!(keeper.is_over());
}

#[test]
fn the_end_writes_once_more() {
    for outcome in [JobOutcome::Written, JobOutcome::Failed(Fault::Timeout), JobOutcome::Dropped] {
        let mut keeper = keeper();
        keeper.end(after(1));
        let (id, _) = written(keeper.poll(after(1), &learned(1)));
        assert!(!keeper.is_over());
        keeper.done(after(1), id, &outcome);
        assert!(keeper.is_over() && keeper.due() == Time::NEVER);
    }
}

#[test]
fn what_does_not_belong_there_is_refused_and_said() {
    let of = |text: &str| JobOutcome::Content(Some(Bytes::copy_from_slice(text.as_bytes())));
    let old = serde_json::to_string(&learned(WALL.0 - MAX_AGE.as_secs() - 1)).unwrap();
    let future = serde_json::to_string(&learned(WALL.0 + 3_600)).unwrap();
    for (read, reason) in [
        (of("{\"at\": \"s3cret\"}"), "line 1, column"),
        (of(""), "line 1, column 0"),
        (of(&"[".repeat(100_000)), "line 1, column"),
        (of(&old), "601 s ago"),
        (of(&future), "3600 s in the future"),
        (JobOutcome::Failed(Fault::BodyTooLarge), "exceeds"),
        (JobOutcome::Impossible("it is a folder".into()), "it is a folder"),
    ] {
        let mut keeper = keeper();
        assert_eq!(keeper.restore(NOW, WALL, read), None, "{reason}");
        let told = said(&keeper);
        assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
        assert!(!told[0].contains("s3cret"), "{told:?}");
    }
    let mut keeper = keeper();
    assert_eq!(keeper.restore(NOW, WALL, JobOutcome::Content(None)), None);
    assert!(said(&keeper).is_empty(), "a first run has nothing to say");
}

#[test]
fn what_is_too_large_is_not_written() {
    let config =
        StateConfig { path: Some("/x".to_owned()), max_bytes: 64, ..StateConfig::default() };
    let mut keeper = Keeper::of(NOW, &config).unwrap();
    assert!(matches!(keeper.poll(after(30), &learned(1)), Poll::Wait(at) if at == after(60)));
    assert!(said(&keeper)[0].contains("bytes are more than max_bytes"), "{:?}", said(&keeper));
}

proptest! {
    #[test]
    fn any_content_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), at: u64) {
        let mut keeper = keeper();
        let read = JobOutcome::Content(Some(bytes.into()));
        let _ = keeper.restore(NOW, Wall(at), read);
    }

    /// One byte of a good file changed: it is used, or refused and said.
    #[test]
    fn mutated_content_is_survived(place: prop::sample::Index, byte: u8) {
        let mut text = serde_json::to_vec(&learned(WALL.0)).unwrap();
        let place = place.index(text.len());
        text[place] = byte;
        let mut keeper = keeper();
        let read = JobOutcome::Content(Some(text.into()));
        let _ = keeper.restore(NOW, WALL, read);
        prop_assert_eq!(said(&keeper).len(), 1);
    }
}
