//! State is data: written as JSON in the middle of anything and read back, every machine goes on
//! with the same decisions.
#![allow(clippy::unwrap_used)] // test code

mod common;

use bytes::Bytes;
use common::{At, Bench, candidates, outcome, rules};
use http::HeaderMap;
use origin_core::config::{Config, DiscoveryConfig};
use origin_core::discovery::Directory;
use origin_core::discovery::directory::Resolution;
use origin_core::job::{Asker, JobOutcome, Poll};
use origin_core::outcome::Fault;
use origin_core::{CallSpec, Time};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

type Script = Vec<(u8, prop::sample::Index, u8, u64)>;

fn script() -> impl Strategy<Value = Script> {
    let step = (0_u8..6, any::<prop::sample::Index>(), 0_u8..12, 0_u64..700);
    prop::collection::vec(step, 1..60)
}

fn play(bench: &mut Bench, script: &Script) {
    for (action, which, what, ms) in script {
        let number = which.index(bench.calls.len().max(1));
        match action {
            0 => {
                bench.begin(CallSpec { idempotent: Some(*what > 2), ..CallSpec::default() });
            }
            1..=3 if number < bench.calls.len() => {
                bench.finish(number, outcome(*what));
            }
            _ => {
                bench.pass(*ms);
                for number in 0..bench.calls.len() {
                    bench.wake(number);
                }
            }
        }
    }
}

/// Writes and reads everything. What discovery knows is told to the service anew after that, as
/// a driver does; here to both, because being told sorts what is ready.
fn restore(bench: &mut Bench, sizes: &[usize]) -> Bench {
    let told = |bench: &mut Bench| {
        bench.service.resolve(bench.now, Resolution::Absent(Vec::new()));
        bench.service.resolve(bench.now, Resolution::Found(candidates(sizes)));
    };
    let mut copy = bench.clone();
    copy.service = again(&bench.service);
    for track in &mut copy.calls {
        track.call = again(&track.call);
    }
    told(bench);
    told(&mut copy);
    copy
}

proptest! {
    #[test]
    fn services_and_calls_go_on_as_they_were(
        sizes in prop::collection::vec(0_usize..4, 1..4), before in script(), after in script(),
        failures in 1_u32..5,
    ) {
        let mut bench = Bench::new(&sizes, rules(|p| p.breaker.failures = Some(failures)));
        play(&mut bench, &before);
        let mut copy = restore(&mut bench, &sizes);
        prop_assert_eq!(&copy.service, &bench.service);
        bench.log.clear();
        copy.log.clear();
        play(&mut bench, &after);
        play(&mut copy, &after);
        prop_assert_eq!(&copy.log, &bench.log);
        prop_assert_eq!(&copy.service, &bench.service);
        let at = |bench: &Bench| -> Vec<At> { bench.calls.iter().map(|t| t.at).collect() };
        prop_assert_eq!(at(&copy), at(&bench));
    }

    #[test]
    fn directories_go_on_as_they_were(script in prop::collection::vec((0_u8..6, 0_u64..4_000), 1..60), cut in 0_usize..60) {
        let config = DiscoveryConfig { ttl: std::time::Duration::from_secs(5),
            refresh_ahead: std::time::Duration::from_secs(1), ..DiscoveryConfig::at("http://r/") };
        let config = Config { discovery: Some(config), local_cluster: Some("a".into()), ..Config::default() };
        let mut directory = Directory::new(&config, 9, &Default::default()).unwrap().unwrap();
        let _ = directory.resolve(Time::ZERO, "s");
        let mut copy = directory.clone();
        let (mut now, mut open) = (Time::ZERO, None);
        for (number, (action, ms)) in script.into_iter().enumerate() {
            if number == cut {
                copy = again(&directory);
            }
            let ask = |d: &mut Directory, asker: Asker<'_>| match d.poll_job(now, asker) {
                Poll::Run(job) => Ok((job.id, job.http().unwrap().uri().to_string(), job.deadline)),
                Poll::Wait(until) => Err(until),
            };
            match action {
                0 | 1 => {
                    let asker = if action == 0 { Asker::Background } else { Asker::Call { service: "s", until: now.plus(std::time::Duration::from_secs(9)) } };
                    let asked = ask(&mut directory, asker);
                    prop_assert_eq!(&ask(&mut copy, asker), &asked);
                    open = asked.ok().or(open);
                }
                2 | 3 => if let Some((id, ..)) = open.take() {
                    let body = Bytes::from_static(br#"{"services":{"s":{"endpoints":{"a":"http://a"}}}}"#);
                    let outcome = if action == 2 { JobOutcome::Failed(Fault::Reset) }
                        else { JobOutcome::Answered { status: 200, headers: HeaderMap::new(), body } };
                    let moved = directory.job_done(now, id, outcome.clone());
                    prop_assert_eq!(copy.job_done(now, id, outcome), moved);
                },
                _ => now = now.plus(std::time::Duration::from_millis(ms)),
            }
            prop_assert_eq!(directory.resolve(now, "s"), copy.resolve(now, "s"));
        }
        prop_assert_eq!(copy, directory);
    }
}
