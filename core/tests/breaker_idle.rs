//! A half-open breaker that nobody asks: the backup after an outage, while the local cluster
//! answers everything. It must stay there to be asked, however long that takes.
#![allow(clippy::unwrap_used)] // test code

mod common;

use common::{Bench, outcome, rules};
use origin_core::CallSpec;
use origin_core::notice::Event;

const REFUSED: u8 = 7;
const SPEC: CallSpec = CallSpec { idempotent: Some(true), streamed: false, ..CallSpec::DEFAULT };

/// One call, each attempt of which meets what `meets` says of its cluster.
fn call(bench: &mut Bench, meets: impl Fn(&str) -> u8) -> Vec<String> {
    let call = bench.begin(SPEC);
    while let Some((cluster, _)) = bench.calls[call].path.last().cloned() {
        if !bench.finish(call, outcome(meets(&cluster))) {
            break;
        }
    }
    bench.calls[call].path.iter().map(|(cluster, _)| cluster.to_string()).collect()
}

#[test]
fn case_000_16_an_idle_half_open_endpoint_stays_available() {
    let mut bench = Bench::new(&[1, 1], rules(|p| p.breaker.failures = Some(1)));
    // An outage of both; then the first cluster is back and serves for ten minutes.
    call(&mut bench, |_| REFUSED);
    bench.pass(2_000);
    for _ in 0..600 {
        bench.pass(1_000);
        assert_eq!(call(&mut bench, |_| 0), ["c0"]);
    }
    let notices = bench.service.notices();
    let opened =
        notices.since(0).filter(|n| matches!(n.event, Event::BreakerOpened { .. })).count();
    assert_eq!(opened, 2, "it opens again although nobody has asked it");
    // Whenever the first one fails now, the second is there.
    assert_eq!(call(&mut bench, |cluster| if cluster == "c0" { REFUSED } else { 0 }), ["c0", "c1"]);
}

#[test]
fn a_lost_probe_still_opens_it_again() {
    let mut bench = Bench::new(&[1], rules(|p| p.breaker.failures = Some(1)));
    call(&mut bench, |_| REFUSED);
    bench.pass(2_000);
    let lost = bench.begin(SPEC);
    bench.pass(31_000);
    assert_eq!(bench.service.snapshot(bench.now).endpoints[0].breaker.word(), "open");
    bench.abandon(lost);
}
