//! What is under way beside calls: a guard brings its result back, and says so when it is dropped
//! without one. (A call has its own guard: `flight.rs`.)

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use event_listener::Event;
use origin_core::job::{CheckId, CheckOutcome, Job, JobId, JobOutcome};

use crate::carry::Carrier;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;

/// A discovery job under way.
pub(crate) struct JobGuard<R: Runtime> {
    hub: Weak<Hub<R>>,
    id: Option<JobId>,
    pub(crate) carrier: Arc<Carrier>,
}

impl<R: Runtime> JobGuard<R> {
    pub(crate) fn new(hub: &Arc<Hub<R>>, job: &Job) -> JobGuard<R> {
        let carrier = hub.carrier.clone();
        JobGuard { hub: Arc::downgrade(hub), id: Some(job.id), carrier }
    }

    /// Returns whether the fetch was redirected and goes on.
    pub(crate) fn finish(&mut self, outcome: JobOutcome) -> bool {
        match (self.id.take(), self.hub.upgrade()) {
            (Some(id), Some(hub)) => hub.finish_job(id, outcome),
            _ => false,
        }
    }
}

impl<R: Runtime> Drop for JobGuard<R> {
    fn drop(&mut self) {
        self.finish(JobOutcome::Dropped);
    }
}

/// A health check under way.
pub(crate) struct CheckGuard<R: Runtime> {
    pub(crate) runtime: Arc<R>,
    pub(crate) slot: Arc<Slot>,
    news: Arc<Event>,
    id: Option<CheckId>,
}

impl<R: Runtime> CheckGuard<R> {
    pub(crate) fn new(hub: &Hub<R>, slot: Arc<Slot>, id: CheckId) -> CheckGuard<R> {
        let (runtime, news) = (hub.runtime.clone(), hub.news.clone());
        CheckGuard { runtime, slot, news, id: Some(id) }
    }

    /// Brings the result back, and wakes who waits for it.
    pub(crate) fn finish(&mut self, outcome: &CheckOutcome) {
        let Some(id) = self.id.take() else { return };
        let mut service = lock(&self.slot.service);
        let changed = service.check_done(self.runtime.now(), id, outcome);
        self.slot.check_due.store(0, Ordering::Release);
        drop(service);
        if changed {
            self.slot.moved.notify(usize::MAX);
        }
        self.news.notify(usize::MAX);
    }
}

impl<R: Runtime> Drop for CheckGuard<R> {
    fn drop(&mut self) {
        self.finish(&CheckOutcome::Dropped);
    }
}
