//! Many services at one agent of Consul: how few connections they take.

use super::*;

#[test]
fn case_003_72_many_services_share_the_connections_of_an_agent() {
    const MANY: usize = 300;
    let mut d = directory(|config| {
        consul(config);
        let discovery = config.discovery.as_mut().unwrap();
        let consul = discovery.consul.as_mut().unwrap();
        (discovery.max_requests, consul.max_watches) = (5, 7);
        consul.watch.poll = Duration::from_secs(2);
    });
    let names: Vec<String> = (0..MANY).map(|n| format!("s{n}")).collect();
    for name in &names {
        assert_eq!(d.resolve(at(0), name), Resolution::Pending);
    }
    // Each exchange takes 20 ms; queries that are held back end with their wait.
    let (mut out, mut most, mut now): (Vec<(u64, Job)>, (usize, usize), u64) = (vec![], (0, 0), 0);
    let held = |job: &Job| uri(job).contains("index=");
    while now < 60_000 {
        let mut next = loop {
            match d.poll_job(at(now), Asker::Background) {
                Poll::Run(job) => out.push((now + if held(&job) { 250_000 } else { 20 }, *job)),
                Poll::Wait(until) => break until.as_millis().max(now + 1),
            }
        };
        let holds = out.iter().filter(|(_, job)| held(job)).count();
        most = (most.0.max(out.len() - holds), most.1.max(holds));
        next = out.iter().map(|(done, _)| *done).min().unwrap_or(next).min(next);
        now = next;
        for (_, job) in out.extract_if(.., |(done, _)| *done <= now) {
            let _ = d.job_done(at(now), job.id, answer(200, 7, &instances(&[80])));
        }
    }
    // The first query of a watch, which is not held back, has a place among those that are.
    assert!(most.0 <= 5 + 7 && most.1 == 7, "{most:?}");
    // Nobody starves: each exchange 20 ms, five at once, 300 services: 1.2 s and the poll.
    for feed in d.snapshot(at(now)) {
        let (service, age) = (feed.service.unwrap(), feed.age.unwrap());
        assert!(
            feed.failures == 0 && (feed.watching || age.as_millis() < 4_000),
            "{service} {age:?}"
        );
    }
    assert_eq!(d.snapshot(at(now)).iter().filter(|feed| feed.watching).count(), 7);
}
