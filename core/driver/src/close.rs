//! The orderly end of a client: what others should know of it, and what the next run should.
//! What that is the machines say; here it is carried out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use origin_core::Time;
use origin_core::job::{Job, Poll};
use origin_core::redis::knowledge::Exchange;

use crate::client::Client;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;

impl<R: Runtime> Client<R> {
    /// Ends the client in an orderly way, for all its clones, and waits for that up to `within`.
    ///
    /// Other nodes are told that its word on open breakers counts no more, the snapshot of
    /// discovery is written if something is not in it, and so is what was learnt (`state.path`), leases of secrets and a Vault token that the
    /// client logged in for are given back (calls that need one fail from now on), and everything beside calls ends: refreshes,
    /// health checks, watches (they yield nothing more), callbacks, the background. Yields whether
    /// all of that was done; if not, the rest is left undone.
    ///
    /// Calls go on, as those of a client without a background do, so that requests under way can
    /// be finished first or afterwards; connections are closed with the last clone. Own
    /// registrations stay: take them back before, with
    /// [`Consul::leave_all`](crate::Consul::leave_all).
    ///
    /// **Dropping the last clone does none of this.** It ends everything at once and sends
    /// nothing: a word on a breaker then counts until its interval ends or `redis.breakers.ttl`
    /// is over, and the snapshot is what was last written.
    pub fn close(&self, within: Duration) -> R::Reply<bool> {
        let until = self.hub.runtime.now().plus(within);
        self.hub.begin_to_close();
        R::close(self.hub.clone(), until)
    }
}

/// What is to be done before a client ends.
pub(crate) struct Last {
    pub(crate) words: Vec<(Arc<Slot>, Exchange)>,
    pub(crate) jobs: Vec<Job>,
    /// When to ask again; `None`: nothing is left.
    pub(crate) again: Option<Time>,
}

impl<R: Runtime> Hub<R> {
    /// Whether nothing goes on beside calls any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn begin_to_close(&self) {
        self.closing.store(true, Ordering::Release);
        self.each_slot(|slot| {
            let mut service = lock(&slot.service);
            service.say_farewell();
            slot.told(&mut service, &self.news);
            drop(service);
            slot.watchers.end();
        });
        if let Some(directory) = &self.directory {
            lock(directory).finish();
        }
        if let Some(vault) = &self.vault {
            vault.close(self.runtime.now());
        }
        if let Some(kept) = &self.kept {
            lock(kept).end(self.runtime.now());
        }
        self.news.notify(usize::MAX);
    }

    /// What is to be done now before the end.
    pub(crate) fn last(&self, now: Time) -> Last {
        let (words, next) = self.poll_sharing(now);
        let mut again = next;
        let mut jobs = Vec::new();
        if let Some(directory) = &self.directory {
            let mut directory = lock(directory);
            directory.calendar(now, self.runtime.wall());
            again = loop {
                match directory.poll_last(now) {
                    Poll::Run(job) => jobs.push(*job),
                    Poll::Wait(at) => break again.min(at),
                }
            };
        }
        let mut revoked = true;
        if let Some(vault) = &self.vault {
            again = loop {
                match vault.poll(now) {
                    Poll::Run(job) => jobs.push(*job),
                    Poll::Wait(at) => break again.min(at),
                }
            };
            revoked = vault.is_closed();
        }
        let mut written = true;
        if let Some(kept) = &self.kept {
            match self.poll_kept(now) {
                Poll::Run(job) => {
                    again = again.min(job.deadline);
                    jobs.push(*job);
                }
                Poll::Wait(at) => again = again.min(at),
            }
            written = lock(kept).is_over();
        }
        let mut all =
            written && revoked && jobs.is_empty() && words.is_empty() && again == Time::NEVER;
        self.each_slot(|slot| all &= lock(&slot.service).has_left());
        Last { words, jobs, again: (!all).then_some(again) }
    }

    /// Ends what is still under way beside calls.
    pub(crate) fn end_background(&self) {
        self.closed.notify(usize::MAX);
        self.news.notify(usize::MAX);
    }
}
