//! What the next run is left: when enough is known for the snapshot to be worth writing, and the
//! last write of a client that ends in an orderly way.

use super::Directory;
use crate::config::Combine;
use crate::discovery::listing::Link;
use crate::job::Poll;
use crate::time::Time;

impl Directory {
    /// Whether every service that is wanted has had an answer, be it that there is none.
    pub(super) fn knows_all(&self) -> bool {
        self.listed.values().all(|listing| {
            let found = listing.combine == Combine::First && !listing.guard.named().is_empty();
            found
                || listing.chain.iter().all(|link| match link {
                    Link::Environment => true,
                    // Of several datacenters the first decides, as everywhere.
                    Link::Feeds(ids) => {
                        let first = ids.first().and_then(|id| self.feeds.get(id));
                        first.is_none_or(|feed| feed.held().is_some() || feed.error.is_some())
                    }
                })
        })
    }

    /// The client is closed: what the snapshot does not say yet is written now.
    pub fn finish(&mut self) {
        self.memory.finish();
    }

    /// The last job of a directory that was told to [`Directory::finish`], if one is to be carried
    /// out; [`Poll::Wait`] with [`Time::NEVER`]: it is over.
    pub fn poll_last(&mut self, now: Time) -> Poll {
        let mut next = Time::NEVER;
        let Directory { memory, listed, next_id, .. } = self;
        if !memory.finishing() {
            return Poll::Wait(Time::NEVER);
        }
        match memory.write(now, next_id, &mut next, listed) {
            Some(job) => Poll::Run(Box::new(job)),
            None => Poll::Wait(next),
        }
    }
}
