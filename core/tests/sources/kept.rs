//! What is known of discovery, kept over a restart: when a snapshot is written, and that it is used.

use super::*;

#[test]
fn a_restart_during_an_outage_of_the_registry_finds_its_services() {
    let keeping = |c: &mut Config| {
        consul(c);
        c.discovery.as_mut().unwrap().snapshot.path = Some("/var/lib/app/discovery.json".into());
    };
    let mut d = directory(keeping);
    let _ = d.resolve(at(0), "web");
    let read = run(&mut d, 0, Asker::Background);
    assert!(matches!(read.work, Work::Read { .. }));
    let _ = d.job_done(at(0), read.id, JobOutcome::Content(None));
    let job = run(&mut d, 0, Asker::Background);
    let _ = d.job_done(at(1), job.id, answer(200, 7, &instances(&[80])));
    assert_eq!(found(&mut d, 1, "web").len(), 1);
    let mut content = None;
    let mut now = 1;
    while content.is_none() {
        match d.poll_job(at(now), Asker::Background) {
            Poll::Wait(until) => now = until.as_millis() + 1,
            Poll::Run(job) => {
                let outcome = match job.work {
                    Work::Write { content: bytes, .. } => {
                        content = Some(bytes);
                        JobOutcome::Written
                    }
                    _ => JobOutcome::Failed(Fault::Connect),
                };
                let _ = d.job_done(at(now), job.id, outcome);
            }
        }
        assert!(now < 60_000, "nothing is written");
    }
    // The next run: the registry is down.
    let mut d = directory(keeping);
    d.calendar(at(0), Wall(1_700_003_600));
    let _ = d.resolve(at(0), "web");
    let read = run(&mut d, 0, call("web"));
    let moved = d.job_done(at(0), read.id, JobOutcome::Content(content));
    assert!(moved.more && moved.services == ["web".into()]);
    assert_eq!(found(&mut d, 0, "web"), ["http://10.0.0.1:80"]);
    let job = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(1), job.id, JobOutcome::Failed(Fault::Connect));
    assert_eq!(found(&mut d, 1, "web"), ["http://10.0.0.1:80"]);
    // What the source says wins as soon as it says something.
    let job = run(&mut d, 60_000, call("web"));
    let _ = d.job_done(at(60_000), job.id, answer(200, 7, &instances(&[81])));
    assert_eq!(found(&mut d, 60_000, "web"), ["http://10.0.0.1:81"]);
}

/// Read, and nothing there; who is asked for this service, and when a snapshot is written.
fn keeping(change: impl FnOnce(&mut Config)) -> Directory {
    let mut d = directory(|c| {
        consul(c);
        c.discovery.as_mut().unwrap().snapshot.path = Some("/var/lib/app/discovery.json".into());
        change(c);
    });
    let _ = d.resolve(at(0), "web");
    let read = run(&mut d, 0, Asker::Background);
    assert!(matches!(read.work, Work::Read { .. }));
    let _ = d.job_done(at(0), read.id, JobOutcome::Content(None));
    d
}

/// The writes among the jobs that are due now.
fn writes(d: &mut Directory, now: u64) -> Vec<Job> {
    let mut writes = Vec::new();
    while let Poll::Run(job) = d.poll_job(at(now), Asker::Background) {
        if matches!(job.work, Work::Write { .. }) {
            writes.push(*job);
        }
    }
    writes
}

#[test]
fn the_first_snapshot_is_written_once_every_wanted_service_is_known() {
    let mut d = keeping(|_| ());
    let _ = d.resolve(at(0), "api");
    let (web, api) = (run(&mut d, 0, call("web")), run(&mut d, 0, call("api")));
    let _ = d.job_done(at(5), web.id, answer(200, 7, &instances(&[80])));
    let _ = d.resolve(at(5), "web");
    assert_eq!(writes(&mut d, 5).len(), 0, "one is not known yet");
    // That a source has no answer is an answer: it is not waited for.
    let _ = d.job_done(at(20), api.id, JobOutcome::Failed(Fault::Connect));
    let _ = d.resolve(at(20), "api");
    let written = writes(&mut d, 20);
    assert_eq!(written.len(), 1);
    let _ = d.job_done(at(21), written[0].id, JobOutcome::Written);
    // From then on not more often than every ten seconds.
    let _ = d.resolve(at(30), "other");
    let other = run(&mut d, 30, call("other"));
    let _ = d.job_done(at(31), other.id, answer(200, 7, &instances(&[82])));
    let _ = d.resolve(at(31), "other");
    assert_eq!(writes(&mut d, 10_019).len(), 0);
    assert_eq!(writes(&mut d, 10_020).len(), 1);
}

#[test]
fn what_is_not_in_the_snapshot_at_the_end_is_written_then() {
    let mut d = keeping(|_| ());
    d.finish();
    assert!(matches!(d.poll_last(at(0)), Poll::Wait(Time::NEVER)), "nothing is known");
    // Nobody but calls looks after it: they write nothing.
    let web = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(5), web.id, answer(200, 7, &instances(&[80])));
    let _ = d.resolve(at(5), "web");
    assert!(matches!(d.poll_last(at(5)), Poll::Wait(Time::NEVER)), "this is not the end");
    d.finish();
    let Poll::Run(write) = d.poll_last(at(5)) else { panic!("it is not in the file") };
    assert!(matches!(write.work, Work::Write { .. }));
    let Poll::Wait(until) = d.poll_last(at(6)) else { panic!("twice") };
    assert!(until < Time::NEVER, "it is under way");
    let _ = d.job_done(at(7), write.id, JobOutcome::Written);
    assert!(matches!(d.poll_last(at(7)), Poll::Wait(Time::NEVER)));
    d.finish();
    assert!(matches!(d.poll_last(at(8)), Poll::Wait(Time::NEVER)), "it is in the file");
    // A disk that fails is not waited for.
    let mut d = keeping(|_| ());
    let web = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(5), web.id, answer(200, 7, &instances(&[80])));
    let _ = d.resolve(at(5), "web");
    d.finish();
    let Poll::Run(write) = d.poll_last(at(5)) else { panic!("it is not in the file") };
    let _ = d.job_done(at(7), write.id, JobOutcome::Impossible("no space".into()));
    assert!(matches!(d.poll_last(at(7)), Poll::Wait(Time::NEVER)));
}
