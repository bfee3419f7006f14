//! What came of a job, and which services have to be looked at again because of it.

use std::sync::Arc;

use super::{Directory, FeedId, Moved};
use crate::discovery::feed::Shared;
use crate::discovery::memory::Heard;
use crate::job::{JobId, JobOutcome};
use crate::redis::level::Hit;
use crate::time::Time;

impl Directory {
    /// Takes the result of a job. A result of an earlier lease is ignored.
    pub fn job_done(&mut self, now: Time, id: JobId, outcome: JobOutcome) -> Moved {
        self.asked.give_back(now, id);
        self.held.give_back(now, id);
        let mut heard = Vec::new();
        let told = self.memory.done(now, id, outcome, &mut self.rng, &mut heard);
        for event in heard {
            self.notices.push(now, event);
        }
        let outcome = match told {
            Heard::NotMine(outcome) => outcome,
            Heard::Chore => return Moved { services: Vec::new(), more: false },
            Heard::Restored => {
                return Moved { services: self.listed.keys().cloned().collect(), more: true };
            }
            Heard::Level(feed_id, found) => return self.level_done(now, id, feed_id, found),
        };
        let mut shared = shared!(self);
        let mut feeds = self.feeds.iter_mut();
        let Some((feed_id, feed)) = feeds.find(|(_, feed)| feed.leased(id)) else {
            return Moved::default();
        };
        let feed_id = *feed_id;
        let news = feed.done(now, outcome, &mut shared);
        if !news.moved {
            return Moved::default();
        }
        let mut more = news.more;
        if let Some(asked) = news.asked {
            // Half a list that was taken for want of a whole one is not for others.
            if now >= self.trust.held_until() {
                self.memory.store(asked, feed, &self.sources);
            }
            more |= now >= self.attended_until && self.memory.has_chores();
            for service in self.of_feed(feed_id) {
                if let Some(listing) = self.listed.get_mut(&service) {
                    listing.answered = true;
                }
            }
        }
        Moved { services: self.of_feed(feed_id), more }
    }

    fn level_done(&mut self, now: Time, id: JobId, feed_id: FeedId, found: Option<Hit>) -> Moved {
        let mut shared = shared!(self);
        let Some(feed) = self.feeds.get_mut(&feed_id).filter(|feed| feed.leased(id)) else {
            return Moved::default();
        };
        feed.level_done();
        let filled =
            found.is_some_and(|hit| feed.fill(now, hit.instances, hit.fresh_until, &mut shared));
        Moved { services: self.of_feed(feed_id), more: !filled }
    }

    /// Services whose endpoints time alone has changed: to be resolved again.
    #[must_use]
    pub fn elapsed(&mut self, now: Time) -> Vec<Arc<str>> {
        if now < self.recheck {
            return Vec::new();
        }
        let mut moved = Vec::new();
        self.recheck = Time::NEVER;
        for (service, listing) in &mut self.listed {
            if listing.guard.tick(now, true, &self.guard) > 0 {
                moved.push(service.clone());
            }
            self.recheck = self.recheck.min(listing.guard.due(true, &self.guard));
        }
        moved
    }

    /// The services that hear of a feed.
    fn of_feed(&self, id: FeedId) -> Vec<Arc<str>> {
        let one = self.feeds.get(&id).and_then(|feed| feed.service.clone());
        match one {
            Some(one) => vec![one],
            None => self.listed.keys().cloned().collect(),
        }
    }
}
