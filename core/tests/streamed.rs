//! Streamed answers: their heads say nothing about their endpoint, the ends of their bodies do.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

mod common;

use common::{At, Bench, outcome, rules};
use origin_core::call::{Ticket, Verdict};
use origin_core::outcome::Fault;
use origin_core::{CallSpec, Time};

const SPEC: CallSpec = CallSpec { idempotent: Some(true), streamed: true, ..CallSpec::DEFAULT };

fn head(bench: &mut Bench) -> Ticket {
    let call = bench.begin(SPEC);
    bench.finish(call, outcome(0));
    match bench.calls[call].at {
        At::Over(Verdict::Answered(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

fn word(bench: &mut Bench, now: Time) -> &'static str {
    bench.service.snapshot(now).endpoints[0].breaker.word()
}

#[test]
fn bodies_that_always_break_open_the_breaker() {
    let mut bench = Bench::new(&[1], rules(|p| p.breaker.failures = Some(3)));
    for broken in 1..=3 {
        let ticket = head(&mut bench);
        let now = bench.now;
        bench.service.body_done(now, ticket, Err(Fault::Reset));
        assert_eq!(word(&mut bench, now), if broken < 3 { "closed" } else { "open" });
    }
    assert_eq!(bench.service.snapshot(bench.now).failed_attempts, 3);
}

#[test]
fn a_body_that_ends_well_closes_a_half_open_breaker_and_its_head_alone_does_not() {
    let mut bench = Bench::new(&[1], rules(|p| p.breaker.failures = Some(1)));
    let ticket = head(&mut bench);
    let now = bench.now;
    bench.service.body_done(now, ticket, Err(Fault::Timeout));
    bench.pass(2_000);
    let ticket = head(&mut bench);
    let now = bench.now;
    assert_eq!(word(&mut bench, now), "half_open");
    bench.service.body_done(now, ticket, Ok(()));
    assert_eq!(word(&mut bench, now), "closed");
}
