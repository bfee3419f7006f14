//! Remembered answers in the async loop.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::future::or;
use origin_core::cache::{Invalidated, Progress, Warming};
use origin_core::{Error, Request, Response};

use super::{Carrying, Lease, Look, Place, Plan, Purging, Settled};
use crate::asynchronous::{AsyncRuntime, Whole, call, drive, response};
use crate::background::attend;
use crate::carry;
use crate::flight::Flight;
use crate::hub::{Hub, Slot};
use crate::runtime::Warmed;

/// The same for a service whose answers are remembered.
pub(crate) async fn remembering<R: AsyncRuntime>(
    flight: &mut Flight<R>,
) -> Result<Response, Error> {
    let Some(plan) = Plan::of(flight) else {
        let (answer, _) = drive(flight, Whole::Collect).await?;
        flight.outdate(answer.status(), answer.headers());
        carry_on(&flight.hub);
        return Ok(response(flight, answer));
    };
    flight.start();
    if flight.hub.is_alone() {
        attend(&flight.hub);
    }
    let mut look = plan.look(flight);
    loop {
        look = match look {
            Look::Answer(response) => return Ok(response),
            Look::Renew(response, lease) => {
                let (hub, slot) = (flight.hub.clone(), flight.slot.clone());
                let mut anew = Flight::new(hub, slot, flight.request.clone());
                flight.hub.runtime.spawn(async move {
                    // Whoever asks next learns what came of it.
                    let _ = fetch(&mut anew, &plan, lease).await;
                });
                return Ok(response);
            }
            Look::Fetch(lease) => return fetch(flight, &plan, lease).await,
            Look::Wait(mut place) => {
                let progress = wait(flight, &mut place).await;
                match plan.waited(flight, progress) {
                    Some(look) => look,
                    None => plan.look(flight),
                }
            }
        };
    }
}

/// Makes the call, asking whether what is kept still holds, and stores what it brings.
async fn fetch<R: AsyncRuntime>(
    flight: &mut Flight<R>,
    plan: &Plan,
    mut lease: Lease<R>,
) -> Result<Response, Error> {
    let mut found = None;
    if let Some(errand) = plan.errand(flight) {
        let (runtime, carrier) = (&*flight.hub.runtime, flight.hub.carrier.clone());
        let outcome = carry::aside(runtime, carrier, errand.work(), errand.deadline).await;
        found = errand.finish(outcome);
    }
    if let Some(response) = plan.heard(flight, &mut lease, found) {
        return Ok(response);
    }
    let mut kept = plan.conditions(flight, &lease);
    loop {
        let driven = drive(flight, Whole::Collect).await;
        let result = driven.map(|(answer, _)| response(flight, answer));
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
async fn wait<R: AsyncRuntime>(flight: &Flight<R>, place: &mut Place) -> Progress {
    let (runtime, deadline) = (&flight.hub.runtime, flight.deadline());
    loop {
        let filled = place.filled().listen();
        let now = runtime.now();
        match place.progress(now) {
            Progress::Waiting(at) if now < deadline => {
                or(filled, runtime.sleep_until(at.min(deadline))).await;
            }
            progress => return progress,
        }
    }
}

/// Makes these requests so that their answers are remembered, `at_once` at a time.
///
/// # Errors
/// None: failed ones are counted.
pub async fn warm<R: AsyncRuntime>(
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    requests: Vec<Option<Request>>,
    at_once: u32,
) -> Result<Warmed, Error> {
    let mut warming = Warming::new(requests, at_once);
    let mut out = Vec::new();
    loop {
        while let Some(request) = warming.next() {
            let Some(request) = request else {
                warming.done(false);
                continue;
            };
            out.push(Box::pin(call(hub.clone(), slot.clone(), request)));
        }
        if out.is_empty() {
            return Ok(Warmed { warmed: warming.warmed(), failed: warming.failed() });
        }
        let any = poll_fn(|context| {
            for (place, call) in out.iter_mut().enumerate() {
                if let Poll::Ready(result) = call.as_mut().poll(context) {
                    return Poll::Ready((place, result));
                }
            }
            Poll::Pending
        });
        let (place, result) = any.await;
        drop(out.swap_remove(place));
        warming.done(result.is_ok_and(|response| response.status.is_success()));
    }
}

/// Has the second level written to, if anything waits for that, and nobody wait for it.
pub(crate) fn carry_on<R: AsyncRuntime>(hub: &Arc<Hub<R>>) {
    if let Some(mut carrying) = Carrying::begin(hub) {
        hub.runtime.spawn(async move { while one(&mut carrying).await {} });
        // For what Redis does not take now.
        if hub.is_alone() {
            attend(hub);
        }
    }
}

/// Carries one chore out, if there is one.
async fn one<R: AsyncRuntime>(carrying: &mut Carrying<R>) -> bool {
    let Some((work, deadline)) = carrying.next() else { return false };
    let (runtime, carrier) = (carrying.hub.runtime.clone(), carrying.hub.carrier.clone());
    let outcome = carry::aside(&*runtime, carrier, work, deadline).await;
    carrying.finish(outcome);
    true
}

/// Waits until the second level has heard of an invalidation, which goes on without that.
pub fn purge<R: AsyncRuntime>(
    hub: Arc<Hub<R>>,
    purging: Purging,
) -> impl Future<Output = Result<Invalidated, Error>> + Send {
    carry_on(&hub);
    async move {
        loop {
            let news = hub.news.listen();
            if let Some(result) = hub.purged(&purging) {
                return Ok(result);
            }
            // Whoever was to do it may have had no runtime.
            if let Some(mut carrying) = Carrying::begin(&hub) {
                while hub.purged(&purging).is_none() && one(&mut carrying).await {}
                drop(carrying);
                carry_on(&hub);
            } else {
                or(news, hub.runtime.sleep_until(purging.until)).await;
            }
        }
    }
}
