//! Remembered answers in the blocking loop: the plain twin of `asynchronous.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_listener::Listener;
use origin_core::cache::{Invalidated, Progress, Warming};
use origin_core::{Error, Request, Response};

use super::{Carrying, Lease, Look, Place, Plan, Purging, Settled};
use crate::blocking::{BlockingRuntime, call, collected};
use crate::carry::Limit;
use crate::flight::Flight;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Warmed;
use crate::thread::helper;

/// Most threads for warming a cache.
const MOST_THREADS: u32 = 64;

/// One call to a service whose answers are remembered.
pub(crate) fn remembering<R: BlockingRuntime>(flight: &mut Flight<R>) -> Result<Response, Error> {
    let Some(plan) = Plan::of(flight) else {
        let response = collected(flight)?;
        flight.outdate(response.status, &response.headers);
        carry_on(&flight.hub);
        return Ok(response);
    };
    flight.start();
    let mut look = plan.look(flight);
    loop {
        look = match look {
            Look::Answer(response) => return Ok(response),
            Look::Renew(response, lease) => {
                let (hub, slot) = (flight.hub.clone(), flight.slot.clone());
                let mut anew = Flight::new(hub, slot, flight.request.clone());
                // Without a thread it is dropped, and the next caller tries.
                let _ = helper(move || {
                    let _ = fetch(&mut anew, &plan, lease);
                });
                return Ok(response);
            }
            Look::Fetch(lease) => return fetch(flight, &plan, lease),
            Look::Wait(mut place) => {
                let progress = wait(flight, &mut place);
                match plan.waited(flight, progress) {
                    Some(look) => look,
                    None => plan.look(flight),
                }
            }
        };
    }
}

/// Makes the call, asking whether what is kept still holds, and stores what it brings.
fn fetch<R: BlockingRuntime>(
    flight: &mut Flight<R>,
    plan: &Plan,
    mut lease: Lease<R>,
) -> Result<Response, Error> {
    let found = plan.errand(flight).and_then(|errand| {
        let hub = &flight.hub;
        let limit = Limit::within(hub.runtime.now().until(errand.deadline));
        let outcome = hub.carrier.carry(errand.work(), &limit);
        errand.finish(outcome)
    });
    if let Some(response) = plan.heard(flight, &mut lease, found) {
        return Ok(response);
    }
    let mut kept = plan.conditions(flight, &lease);
    loop {
        let result = collected(flight);
        match plan.settle(flight, &mut lease, kept.take(), result) {
            Settled::Done(result) => {
                carry_on(&flight.hub);
                return result;
            }
            Settled::Again => (),
        }
    }
}

/// Waits for somebody else's answer, until the deadline of this call at most.
fn wait<R: BlockingRuntime>(flight: &Flight<R>, place: &mut Place) -> Progress {
    let deadline = flight.deadline();
    loop {
        let filled = place.filled().listen();
        let now = flight.hub.runtime.now();
        match place.progress(now) {
            Progress::Waiting(at) if now < deadline => {
                let span = now.until(at.min(deadline)).min(Duration::from_secs(3600));
                let _ = filled.wait_timeout(span);
            }
            progress => return progress,
        }
    }
}

/// Makes these requests so that their answers are remembered, on at most `at_once` threads.
///
/// # Errors
/// None: failed ones are counted.
pub fn warm<R: BlockingRuntime>(
    hub: &Arc<Hub<R>>,
    slot: &Arc<Slot>,
    requests: Vec<Option<Request>>,
    at_once: u32,
) -> Result<Warmed, Error> {
    let threads = requests.len().min(at_once.clamp(1, MOST_THREADS) as usize);
    let warming = Mutex::new(Warming::new(requests, at_once));
    let work = || {
        loop {
            // Bound, so that the guard does not live through the call.
            let next = lock(&warming).next();
            let Some(request) = next else { return };
            let result = request.map(|request| call(hub.clone(), slot.clone(), request));
            let success = |result: Result<Response, Error>| {
                result.is_ok_and(|response| response.status.is_success())
            };
            lock(&warming).done(result.is_some_and(success));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Fewer threads take longer, no more.
            let thread = std::thread::Builder::new().name("origin-helper".into());
            let _ = thread.spawn_scoped(scope, work);
        }
        work();
    });
    let warming = lock(&warming);
    Ok(Warmed { warmed: warming.warmed(), failed: warming.failed() })
}

/// Has the second level written to, if anything waits for that, on a thread beside the caller.
/// Without a thread it is done with the next call.
pub(crate) fn carry_on<R: BlockingRuntime>(hub: &Arc<Hub<R>>) {
    if let Some(mut carrying) = Carrying::begin(hub) {
        let _ = helper(move || while one(&mut carrying) {});
    }
}

/// Carries one chore out, if there is one.
fn one<R: BlockingRuntime>(carrying: &mut Carrying<R>) -> bool {
    let Some((work, deadline)) = carrying.next() else { return false };
    let hub = &carrying.hub;
    let limit = Limit::within(hub.runtime.now().until(deadline));
    let outcome = hub.carrier.carry(work, &limit);
    carrying.finish(outcome);
    true
}

/// Waits until the second level has heard of an invalidation.
///
/// # Errors
/// None.
pub fn purge<R: BlockingRuntime>(
    hub: &Arc<Hub<R>>,
    purging: &Purging,
) -> Result<Invalidated, Error> {
    loop {
        let news = hub.news.listen();
        if let Some(result) = hub.purged(purging) {
            return Ok(result);
        }
        if let Some(mut carrying) = Carrying::begin(hub) {
            while hub.purged(purging).is_none() && one(&mut carrying) {}
            drop(carrying);
            carry_on(hub);
        } else {
            let span = hub.runtime.now().until(purging.until).min(Duration::from_secs(3600));
            let _ = news.wait_timeout(span);
        }
    }
}
