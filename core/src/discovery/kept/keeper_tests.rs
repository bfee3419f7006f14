//! The schedule: bounds that hold in every world.

use proptest::prelude::*;

use super::tests::{config, instance, kept, service, settings};
use super::*;
use crate::config::SnapshotConfig;
use crate::job::{JobOutcome, Poll, Work};
use crate::outcome::Fault;
use crate::time::Time;

const EVERY: Duration = Duration::from_secs(10);

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn nothing() -> Kept {
    kept(&[])
}

/// Polls, and reports at once.
fn turn(keeper: &mut Keeper, now: Time, outcome: JobOutcome) -> Option<(bool, Heard)> {
    let Poll::Run(job) = keeper.poll(now, &settings(), nothing) else { return None };
    let write = matches!(job.work, Work::Write { .. });
    Some((write, keeper.done(now, Wall(1_000), job.id, outcome, Some("alpha"), &settings())))
}

#[test]
fn it_is_read_first_and_written_when_complete_then_every_ten_seconds() {
    let mut keeper = Keeper::new();
    let bytes = kept(&[("s", service(&[instance("http://a")]))]).encode(&settings()).unwrap();
    keeper.changed(ms(0));
    let read = turn(&mut keeper, ms(0), JobOutcome::Content(Some(bytes)));
    let Some((false, Heard::Restored(restored))) = read else { panic!("{read:?}") };
    assert_eq!(restored.kept.services.len(), 1);
    // Not complete yet: the first change waits.
    assert_eq!(turn(&mut keeper, ms(9_999), JobOutcome::Written), None);
    keeper.complete();
    assert_eq!(turn(&mut keeper, ms(9_999), JobOutcome::Written), Some((true, Heard::Written)));
    assert!(keeper.written() && !keeper.behind());
    assert_eq!(turn(&mut keeper, ms(60_000), JobOutcome::Written), None, "nothing has changed");
    keeper.changed(ms(60_000));
    assert_eq!(turn(&mut keeper, ms(60_000), JobOutcome::Written), Some((true, Heard::Written)));
    keeper.changed(ms(60_001));
    assert_eq!(turn(&mut keeper, ms(69_999), JobOutcome::Written), None);
    assert_eq!(turn(&mut keeper, ms(70_000), JobOutcome::Written), Some((true, Heard::Written)));
    // A quiet hour later once more, so that it does not grow old.
    assert_eq!(turn(&mut keeper, ms(3_669_999), JobOutcome::Written), None);
    assert_eq!(turn(&mut keeper, ms(3_670_000), JobOutcome::Written), Some((true, Heard::Written)));
}

#[test]
fn a_change_during_a_write_is_written_after_it() {
    let (mut keeper, settings) = (Keeper::new(), settings());
    let _ = turn(&mut keeper, ms(0), JobOutcome::Content(None));
    keeper.complete();
    keeper.changed(ms(0));
    let Poll::Run(job) = keeper.poll(ms(0), &settings, nothing) else { panic!() };
    keeper.changed(ms(5));
    assert!(matches!(keeper.poll(ms(6), &settings, nothing), Poll::Wait(_)), "one at a time");
    let heard = keeper.done(ms(7), Wall(0), job.id, JobOutcome::Written, None, &settings);
    assert_eq!(heard, Heard::Written);
    assert!(keeper.behind());
    assert_eq!(turn(&mut keeper, ms(9_999), JobOutcome::Written), None);
    assert_eq!(turn(&mut keeper, ms(10_000), JobOutcome::Written), Some((true, Heard::Written)));
}

#[test]
fn a_failing_disk_is_tried_ever_more_rarely_and_not_forgotten() {
    let mut keeper = Keeper::new();
    let _ = turn(&mut keeper, ms(0), JobOutcome::Content(None));
    keeper.complete();
    keeper.changed(ms(0));
    let mut now = ms(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let full = JobOutcome::Impossible("no space left".into());
        let Some((true, Heard::Trouble(KeepProblem::Impossible(_)))) = turn(&mut keeper, now, full)
        else {
            panic!()
        };
        let Poll::Wait(until) = keeper.poll(now, &settings(), nothing) else { panic!() };
        waits.push(until.since(now).as_secs());
        now = until;
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    assert!(keeper.problem().is_some() && keeper.behind() && !keeper.written());
    assert_eq!(turn(&mut keeper, now, JobOutcome::Written), Some((true, Heard::Written)));
    assert_eq!((keeper.problem(), keeper.behind()), (None, false));
}

#[test]
fn too_much_to_write_is_a_problem_and_no_job() {
    let mut keeper = Keeper::new();
    let _ = turn(&mut keeper, ms(0), JobOutcome::Content(None));
    keeper.complete();
    keeper.changed(ms(0));
    let full = || kept(&[("s", service(&vec![instance("http://a"); 100_001]))]);
    let Poll::Wait(until) = keeper.poll(ms(0), &settings(), full) else { panic!() };
    assert_eq!(until, ms(10_000));
    let problem = KeepProblem::Snapshot(BadSnapshot::TooManyInstances(100_001));
    assert_eq!(keeper.problem(), Some(&problem));
}

#[test]
fn it_is_read_first_and_given_up_after_three_times() {
    let mut keeper = Keeper::new();
    let late = || JobOutcome::Failed(Fault::Timeout);
    assert_eq!(turn(&mut keeper, ms(0), late()), Some((false, Heard::Ignored)));
    assert_eq!(turn(&mut keeper, ms(199), late()), None);
    assert_eq!(turn(&mut keeper, ms(200), late()), Some((false, Heard::Ignored)));
    let last = turn(&mut keeper, ms(400), late());
    assert_eq!(last, Some((false, Heard::Trouble(KeepProblem::Fault(Fault::Timeout)))));
    assert_eq!(turn(&mut keeper, ms(99_999), late()), None, "nothing to write");
    // Also when all is known before it was looked at: it may know what nobody asked for yet.
    let mut keeper = Keeper::new();
    keeper.changed(ms(0));
    keeper.complete();
    assert_eq!(turn(&mut keeper, ms(0), JobOutcome::Content(None)), Some((false, Heard::Nothing)));
    assert_eq!(turn(&mut keeper, ms(0), JobOutcome::Written), Some((true, Heard::Written)));
    // A file that cannot be used is one that may be overwritten.
    let mut keeper = Keeper::new();
    let bad = turn(&mut keeper, ms(0), JobOutcome::Content(Some(b"rubbish"[..].into())));
    let problem = KeepProblem::Snapshot(BadSnapshot::NotASnapshot);
    assert_eq!(bad, Some((false, Heard::Trouble(problem))));
}

/// A clock that went back by an hour puts off a write by `every`, not by an hour.
#[test]
fn x_07_a_clock_that_goes_back_stops_nothing() {
    let mut keeper = Keeper::new();
    let late = ms(3_600_000);
    let _ = turn(&mut keeper, late, JobOutcome::Content(None));
    keeper.complete();
    keeper.changed(late);
    assert_eq!(turn(&mut keeper, late, JobOutcome::Written), Some((true, Heard::Written)));
    keeper.changed(ms(0));
    let Poll::Wait(until) = keeper.poll(ms(0), &settings(), nothing) else { panic!() };
    assert_eq!(until, ms(10_000));
}

#[test]
fn off_there_is_no_job_and_another_path_is_written_and_not_read() {
    let off = Settings::default();
    let mut keeper = Keeper::new();
    keeper.changed(ms(0));
    keeper.complete();
    assert!(matches!(keeper.poll(ms(0), &off, nothing), Poll::Wait(Time::NEVER)));
    let _ = turn(&mut keeper, ms(0), JobOutcome::Content(None));
    let _ = turn(&mut keeper, ms(0), JobOutcome::Written);
    let path = Some("other".to_owned());
    let other = Settings::of(&SnapshotConfig { path, ..config() }, "s").unwrap();
    keeper.retune(ms(1), &settings(), &other);
    let Poll::Run(job) = keeper.poll(ms(1), &other, nothing) else { panic!() };
    assert!(matches!(&job.work, Work::Write { path, .. } if &**path == "other"));
}

proptest! {
    /// Whatever changes when, whatever becomes of the jobs, and whoever polls how late: nothing
    /// is written before it was read; writes begin at least `every` apart; one job at a time;
    /// nothing is written without a change within `refresh`; and a change is in the file at the
    /// latest `every` and the backoff after the disk works again.
    #[test]
    fn in_any_world_the_bounds_hold(
        script in proptest::collection::vec((0_u8..8, 0_u64..15_000), 0..80),
    ) {
        let settings = settings();
        let (mut keeper, mut now) = (Keeper::new(), ms(0));
        let (mut out, mut began, mut read_over) = (None, None::<Time>, false);
        let (mut last_change, mut unsaved, mut lost_reads) = (None::<Time>, false, 0);
        for (action, pause) in script {
            now = now.plus(Duration::from_millis(pause));
            match action {
                0 | 1 => { keeper.changed(now); (last_change, unsaved) = (Some(now), true); }
                2 => keeper.complete(),
                3..=5 => {
                    // What is late by now is lost, and the third lost read is the last.
                    out = out.filter(|(_, write, deadline): &(_, bool, Time)| {
                        let lost = now >= deadline.plus(Duration::from_millis(500));
                        lost_reads += u32::from(lost && !write);
                        !lost
                    });
                    read_over |= lost_reads == 3;
                    let Poll::Run(job) = keeper.poll(now, &settings, nothing) else { continue };
                    prop_assert!(out.is_none(), "two jobs at a time");
                    let write = matches!(job.work, Work::Write { .. });
                    if write {
                        prop_assert!(read_over, "written unread");
                        if let Some(began) = began {
                            prop_assert!(now.since(began) >= EVERY);
                        }
                        let quiet = last_change.map_or(Duration::MAX, |at| now.since(at));
                        prop_assert!(last_change.is_some(), "nothing to write");
                        prop_assert!(unsaved || quiet >= EVERY);
                        began = Some(now);
                    } else {
                        prop_assert!(!read_over);
                    }
                    out = Some((job.id, write, job.deadline));
                },
                _ => if let Some((id, write, _)) = out.take() {
                    let outcome = match (action, write) {
                        (6, true) => JobOutcome::Written,
                        (6, false) => JobOutcome::Content(None),
                        (_, true) => JobOutcome::Failed(Fault::Timeout),
                        (_, false) => JobOutcome::Dropped,
                    };
                    let heard = keeper.done(now, Wall(1_000), id, outcome, None, &settings);
                    if heard == Heard::Written { unsaved = last_change > began; }
                    if heard == Heard::Nothing { read_over = true; }
                },
            }
            prop_assert!(!unsaved || keeper.behind(), "a change is lost");
        }
        // The disk works from here on.
        let end = now.plus(Duration::from_secs(600 + 11 + 3 * 11));
        loop {
            match keeper.poll(now, &settings, nothing) {
                Poll::Wait(until) if until > end => break,
                Poll::Wait(until) => now = until,
                Poll::Run(job) => {
                    let write = matches!(job.work, Work::Write { .. });
                    let outcome = if write { JobOutcome::Written } else { JobOutcome::Content(None) };
                    let _ = keeper.done(now, Wall(1_000), job.id, outcome, None, &settings);
                }
            }
        }
        prop_assert!(!keeper.behind());
    }

    #[test]
    fn odd_clocks_are_survived(times in proptest::collection::vec(
        prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>(), 0_u64..10_000_000_000], 0..30,
    )) {
        let (settings, mut keeper) = (settings(), Keeper::new());
        keeper.complete();
        for nanos in times {
            let now = Time::from_nanos(nanos);
            keeper.changed(now);
            if let Poll::Run(job) = keeper.poll(now, &settings, nothing) {
                let _ = keeper.done(now, Wall(nanos), job.id, JobOutcome::Written, None, &settings);
                let waits = matches!(keeper.poll(now, &settings, nothing), Poll::Wait(_));
                let read = matches!(job.work, Work::Read { .. });
                prop_assert!(waits || read, "a job must not be due again at once");
            }
        }
    }
}
