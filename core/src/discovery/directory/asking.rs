//! Whose turn it is: what a background or a call is given to ask, and when it asks again.

use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::Arc;

use super::{Directory, FeedId, GRACE};
use crate::config::Combine;
use crate::discovery::feed::{Shared, Turn};
use crate::discovery::listing::Link;
use crate::job::{Asker, Job, Poll};
use crate::time::Time;

impl Directory {
    /// What to do now. The answer to a background is binding: it must ask again at that time, and
    /// at once after it was given a job, since there may be more.
    pub fn poll_job(&mut self, now: Time, asker: Asker<'_>) -> Poll {
        let mut next = self.recheck;
        // What an earlier run knew is read before anything else; it is there in no time.
        if let Some(job) = self.memory.read_first(now, &mut self.next_id) {
            self.attend(asker, job.deadline);
            return Poll::Run(Box::new(job));
        }
        let due = match asker {
            Asker::Background => self.due_in_background(now, &mut next),
            Asker::Call { service, .. } => {
                // One that was forgotten for want of room is wanted again.
                if !self.listed.contains_key(service) {
                    self.list(now, service);
                }
                self.due_in(now, asker, service, &mut next)
            }
        };
        if self.memory.awaits_all() && self.knows_all() {
            self.memory.all_known();
        }
        // A call writes nothing down while somebody else does.
        let due = due.or_else(|| {
            let background = matches!(asker, Asker::Background);
            if !background && now < self.attended_until {
                return None;
            }
            let Directory { memory, listed, next_id, .. } = self;
            memory.chore(now, background, next_id, &mut next, listed)
        });
        if let Some(job) = due {
            self.attend(asker, job.deadline);
            return Poll::Run(Box::new(job));
        }
        self.attend(asker, next);
        Poll::Wait(next)
    }

    fn due_in_background(&mut self, now: Time, next: &mut Time) -> Option<Job> {
        for at in 0..self.wholes.len() {
            let id = self.wholes[at];
            if let Some(job) = self.turn(now, Asker::Background, id, next) {
                return Some(job);
            }
        }
        if self.order.iter().all(|kind| kind.is_whole()) {
            return None;
        }
        // From where it left off, so that of many services that are due each costs one look, and
        // not one at all those before it.
        let begin = self.turn_of.clone();
        let mut at = self.listed_from(begin.as_deref().map_or(Unbounded, Included));
        let mut around = false;
        loop {
            // Whoever gives a place back makes the background look again.
            if let (Some(asked), Some(held)) = (self.asked.full(now), self.held.full(now)) {
                *next = (*next).min(asked).min(held);
                return None;
            }
            let Some(service) = at else {
                if around || begin.is_none() {
                    return None;
                }
                (around, at) = (true, self.listed_from(Unbounded));
                continue;
            };
            if around && begin.as_ref().is_some_and(|begin| service >= *begin) {
                return None;
            }
            let job = self.due_in(now, Asker::Background, &service, next);
            if job.is_some() {
                self.turn_of = Some(service);
                return job;
            }
            at = self.listed_from(Excluded(&*service));
        }
    }

    fn listed_from(&self, from: Bound<&str>) -> Option<Arc<str>> {
        let mut names = self.listed.range::<str, _>((from, Unbounded));
        names.next().map(|(service, _)| service.clone())
    }

    /// The first job that is due for a service. Sources behind one that has an answer, or is being
    /// asked for its first, are left alone when the first answer is all that is wanted.
    fn due_in(
        &mut self,
        now: Time,
        asker: Asker<'_>,
        service: &str,
        next: &mut Time,
    ) -> Option<Job> {
        let listing = self.listed.get(service)?;
        let (name, combine) = (listing.name.clone(), listing.combine);
        let links = listing.chain.clone();
        for link in links.iter() {
            if let Link::Feeds(ids) = link {
                for id in ids.iter() {
                    let whole = self.wholes.contains(id);
                    if !(whole && matches!(asker, Asker::Background))
                        && let Some(job) = self.turn(now, asker, *id, next)
                    {
                        return Some(job);
                    }
                }
            }
            if combine == Combine::First && self.settles(now, link, &name) {
                break;
            }
        }
        None
    }

    fn turn(&mut self, now: Time, asker: Asker<'_>, id: FeedId, next: &mut Time) -> Option<Job> {
        let mut shared = shared!(self);
        let feed = self.feeds.get_mut(&id)?;
        let background = matches!(asker, Asker::Background);
        if feed.wants_level(now, asker, &shared) {
            if background && let Some(at) = shared.asked.full(now) {
                *next = (*next).min(at);
                return None;
            }
            if let Some((work, deadline)) = self.memory.ask(now, id, feed, &self.sources) {
                let until = match asker {
                    Asker::Call { until, .. } => deadline.min(until),
                    Asker::Background => deadline,
                };
                let job = feed.ask_level(now, until, &mut shared);
                if background {
                    shared.asked.take(job, until);
                }
                self.memory.asked(job);
                return Some(Job { id: job, work, deadline: until });
            }
            feed.skip_level();
        }
        match feed.turn(now, asker, &mut shared) {
            Turn::Run { id, work, deadline } => Some(Job { id, work, deadline }),
            Turn::Wait(at) => {
                *next = (*next).min(at);
                None
            }
        }
    }

    /// Whether sources behind this one need not be asked.
    fn settles(&self, now: Time, link: &Link, name: &str) -> bool {
        match link {
            Link::Environment => self.environment.as_ref().is_some_and(|e| e.get(name).is_some()),
            Link::Feeds(ids) => ids.first().and_then(|id| self.feeds.get(id)).is_some_and(|feed| {
                match feed.usable(now, &self.sources.config) {
                    Some(held) => held.data.knows(name),
                    None => feed.error.is_none(),
                }
            }),
        }
    }

    fn attend(&mut self, asker: Asker<'_>, until: Time) {
        if matches!(asker, Asker::Background) {
            self.attended_until = until.plus(GRACE);
        }
    }

    /// When a call on `service` should ask for a job; a cheap bound for drivers to keep.
    #[must_use]
    pub fn call_due(&self, now: Time, service: &str) -> Time {
        let Some(listing) = self.listed.get(service) else { return Time::NEVER };
        if self.memory.is_unread() {
            return now;
        }
        let mut due = listing.guard.due(true, &self.guard);
        let asker = Asker::Call { service, until: Time::NEVER };
        for link in listing.chain.iter() {
            if let Link::Feeds(ids) = link {
                for feed in ids.iter().filter_map(|id| self.feeds.get(id)) {
                    let at = feed.due_for(now, asker, &self.sources.config, self.attended_until);
                    due = due.min(at.max(feed.next_try));
                }
            }
            if listing.combine == Combine::First && self.settles(now, link, &listing.name) {
                break;
            }
        }
        due
    }
}
