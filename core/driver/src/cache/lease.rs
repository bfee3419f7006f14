//! Fetching on behalf of others, and waiting for who does.

use std::sync::Arc;

use event_listener::Event;
use origin_core::Time;
use origin_core::cache::answer::Record;
use origin_core::cache::{Answer, Fill, Join, Key, NotStored, Progress, Target, Ticket};

use super::plan::Plan;
use super::second::Second;
use crate::flight::Flight;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;

/// The right to fetch on behalf of others. Dropped, it says that nothing came of it.
pub(crate) struct Lease<R: Runtime> {
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
    key: Key,
    ticket: Option<Ticket>,
    /// Where the fetch began in the order of the second level.
    order: u64,
    /// What the second level has, which is good enough only if the call fails.
    pub(super) spare: Option<Record>,
}

impl<R: Runtime> Lease<R> {
    pub(super) fn new(flight: &Flight<R>, key: Key, ticket: Ticket) -> Lease<R> {
        let (hub, slot) = (flight.hub.clone(), flight.slot.clone());
        let order = hub.second.as_ref().map_or(0, Second::order);
        Lease { hub, slot, key, ticket: Some(ticket), order, spare: None }
    }

    /// Stores what came, here; `None` when something was brought before.
    pub(super) fn fill(&mut self, fill: Fill<Answer>) -> Option<Result<(), NotStored>> {
        let ticket = self.ticket.take()?;
        let memory = &self.slot.memory;
        // Those in force, should the cache have been switched off meanwhile.
        let settings = memory.settings();
        let now = self.hub.runtime.now();
        let filled = lock(&memory.store).fill(now, &self.key, &ticket, fill, &settings);
        if filled.waiting > 0 {
            memory.filled.notify(usize::MAX);
        }
        Some(filled.stored)
    }

    /// The same for what the peer has said, which goes to the second level as well if others may
    /// have it (`shared`).
    pub(super) fn store(&mut self, fill: Fill<Answer>, shared: bool, plan: &Plan) {
        let hub = self.hub.clone();
        let Some(second) = hub.second.as_ref().filter(|_| plan.settings.is_shared()) else {
            self.fill(fill);
            return;
        };
        let failed = matches!(fill, Fill::Failed);
        let (put, negative) = match &fill {
            Fill::Found(put) => (Some(put), false),
            Fill::Absent(put) => (Some(put), true),
            Fill::Unstorable | Fill::Failed => (None, false),
        };
        let wall = hub.runtime.wall();
        let record = put
            .filter(|_| shared)
            .and_then(|put| Record::of(self.key, put, negative, wall, &plan.settings));
        let stored = self.fill(fill);
        let overtaken = matches!(stored, Some(Err(NotStored::Older | NotStored::Invalidated)));
        match record.filter(|_| matches!(stored, Some(Ok(())))) {
            Some(record) => second.keep(record, self.order, &plan.settings),
            // The peer has said something else than is there, or may be.
            None if !failed && !overtaken && (plan.skip || self.spare.is_some()) => {
                second.invalidate(Target::Key(self.key), &plan.settings);
            }
            None => (),
        }
    }
}

impl<R: Runtime> Drop for Lease<R> {
    fn drop(&mut self) {
        let _ = self.fill(Fill::Failed);
    }
}

/// A place among those who wait for somebody else's answer, given up when dropped.
pub(crate) struct Place {
    slot: Arc<Slot>,
    join: Option<Join>,
}

impl Place {
    pub(super) fn new(slot: Arc<Slot>, join: Join) -> Place {
        Place { slot, join: Some(join) }
    }

    /// To listen to before asking for [`Place::progress`].
    pub(crate) fn filled(&self) -> &Event {
        &self.slot.memory.filled
    }

    pub(crate) fn progress(&mut self, now: Time) -> Progress {
        let Some(join) = &self.join else { return Progress::Gone };
        let progress = lock(&self.slot.memory.store).progress(now, join);
        if !matches!(progress, Progress::Waiting(_)) {
            self.join = None;
        }
        progress
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(join) = self.join.take() {
            lock(&self.slot.memory.store).leave(&join);
        }
    }
}
