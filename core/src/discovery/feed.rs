//! One feed: what one source says, about all its services or about one, and the schedule of
//! asking it. What is asked and how answers are read is in [`super::fetch`]; who is asked first,
//! and what comes of several sources, in [`super::directory`].
//!
//! - Fresh: nobody asks. With a background, it asks ahead of expiry, or keeps a watch open.
//! - Expired: the background asks while calls go on with what there is. Without a background, one
//!   call carries the refresh (for a second at most), the others go on.
//! - The source fails: back off, keep what is held, say so; up to `max_stale`.
//! - Nothing yet: one call asks, the others wait for it.
//! - Held back (Consul is not whole, see `directory/trust.rs`): nobody asks as long as what is held
//!   can be used, and an answer that was on its way is set aside.
//!
//! One exchange at a time, always; it is a lease, so a driver that dies costs only its deadline.

mod view;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::view::Tally;
use super::directory::Places;
use super::fetch::{Ask, Data, Fetch, Progress, Sources, Want};
use super::{DiscoveryError, Instance, SourceKind};
use crate::config::DiscoveryConfig;
use crate::job::{Asker, JobId, JobOutcome, Work};
use crate::notice::{Event, Notices};
use crate::rng::Pcg32;
use crate::snapshot::Level;
use crate::time::{Time, nanos};

/// A source is never asked more often than this on account of a time to live it has named.
pub(super) const MIN_TTL: Duration = Duration::from_secs(1);
/// What a call that already has something to work with spends on fetching anew.
const CARRY: Duration = Duration::from_secs(1);
/// How long past its deadline a job may report: timers fire in any order.
const LATE: Duration = Duration::from_millis(500);

/// What a feed has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub data: Data,
    /// When its source last said so.
    pub fetched: Time,
    pub fresh_until: Time,
    /// Where it came from.
    pub level: Level,
    said_stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    id: JobId,
    asked: Time,
    deadline: Time,
    /// A question that the source answers when something changes.
    watch: bool,
}

/// What a feed wants of its asker.
#[allow(clippy::large_enum_variant)] // handed on at once
pub(super) enum Turn {
    Run { id: JobId, work: Work, deadline: Time },
    Wait(Time),
}

/// What an answer has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// What is held, or that there is nothing, has to be looked at again.
    pub moved: bool,
    /// Another exchange follows at once.
    pub more: bool,
    /// The source has answered; when it was asked.
    pub asked: Option<Time>,
}

/// A feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Feed {
    pub fetch: Fetch,
    /// The service it is about; `None`: everything its source knows.
    pub service: Option<Arc<str>>,
    held: Option<Held>,
    lease: Option<Lease>,
    /// Whether the shared level was asked since the source was.
    asked_level: bool,
    pub failures: u32,
    /// Since when it fails.
    failing_since: Time,
    pub error: Option<DiscoveryError>,
    pub next_try: Time,
    /// Until when its source is not believed.
    doubted_until: Time,
    tally: Tally,
}

/// What all feeds of a directory share.
pub(super) struct Shared<'a> {
    pub sources: &'a Sources,
    pub notices: &'a mut Notices,
    pub rng: &'a mut Pcg32,
    pub next_id: &'a mut u64,
    /// Places for exchanges of a background, and for queries that are held back.
    pub asked: &'a mut Places,
    pub held: &'a mut Places,
    /// Until when a background has promised to look after refreshes.
    pub attended_until: Time,
}

impl Feed {
    pub(super) fn new(fetch: Fetch, service: Option<Arc<str>>) -> Feed {
        Feed {
            fetch,
            service,
            held: None,
            lease: None,
            asked_level: false,
            failures: 0,
            failing_since: Time::ZERO,
            error: None,
            next_try: Time::ZERO,
            doubted_until: Time::ZERO,
            tally: Tally::default(),
        }
    }

    /// Its source is not believed before `until`, if that is Consul; whether that is new.
    pub(super) fn hold_back(&mut self, until: Time) -> bool {
        if self.kind() != SourceKind::Consul {
            return false;
        }
        let before = std::mem::replace(&mut self.doubted_until, until);
        before == Time::ZERO && until != Time::ZERO
    }

    /// Its source is believed again, and asked at once; whether it was not.
    pub(super) fn let_go(&mut self, now: Time) -> bool {
        if std::mem::take(&mut self.doubted_until) == Time::ZERO {
            return false;
        }
        // A query from before that is still out has found nothing new all the time.
        if self.lease_end(now).is_none() {
            self.fetch.forget(now);
            self.next_try = self.next_try.min(now);
            // Others may have shared what came of the split.
            self.asked_level = true;
            if let Some(held) = &mut self.held {
                held.fresh_until = held.fresh_until.min(now);
            }
        }
        true
    }

    /// Until when nothing is asked, since what is held is better than what would be answered.
    fn held_back(&self, now: Time, config: &DiscoveryConfig) -> Option<Time> {
        if now >= self.doubted_until {
            return None;
        }
        let held = self.held.as_ref().filter(|held| !held.data.is_empty())?;
        let oldest = held.fresh_until.plus(max_stale(config));
        (now <= oldest).then(|| self.doubted_until.min(oldest.plus(Duration::from_nanos(1))))
    }

    pub(super) fn kind(&self) -> SourceKind {
        self.fetch.kind()
    }

    /// The bound on waits for an answer that is out.
    fn lease_end(&self, now: Time) -> Option<(Time, bool)> {
        let lease = self.lease.filter(|lease| now < lease.deadline.plus(LATE))?;
        Some((lease.deadline.plus(LATE), lease.watch))
    }

    /// Whether job `id` is out for this feed.
    pub(super) fn leased(&self, id: JobId) -> bool {
        self.lease.is_some_and(|lease| lease.id == id)
    }

    /// What to do now for `asker`.
    pub(super) fn turn(&mut self, now: Time, asker: Asker<'_>, shared: &mut Shared<'_>) -> Turn {
        let config = &shared.sources.config;
        let due = self.due_for(now, asker, config, shared.attended_until).max(self.next_try);
        if let Some((ends, watch)) = self.lease_end(now) {
            return match asker {
                // A background looks again before what comes meanwhile can be due.
                Asker::Background if !watch => Turn::Wait(ends.min(now.plus(MIN_TTL / 2))),
                _ => Turn::Wait(ends),
            };
        }
        if now < due {
            return Turn::Wait(due);
        }
        let mut deadline = now.plus(config.timeout);
        if let Asker::Call { until, .. } = asker {
            let patience = if self.held.is_some() && config.cache {
                // It has something to work with, and needs time to do it.
                now.plus(CARRY.min(now.until(until) / 2))
            } else {
                Time::NEVER
            };
            deadline = deadline.min(until).min(patience);
            if deadline <= now {
                return Turn::Wait(due.max(now.plus(Duration::from_nanos(1))));
            }
        }
        // What is too old to be used is asked for anew: a watch would wait for a change.
        let background = matches!(asker, Asker::Background);
        let watch = background && self.fetch.watches() && self.usable(now, config).is_some();
        let hold = watch && shared.held.full(now).is_none();
        if background
            && !hold
            && let Some(at) = shared.asked.full(now)
        {
            return Turn::Wait(at);
        }
        let ask = match (watch, hold) {
            (false, _) => Ask::Now,
            (true, false) => Ask::Poll,
            (true, true) => Ask::Hold,
        };
        let places = if hold { &mut *shared.held } else { &mut *shared.asked };
        let mut run = |work, deadline: Time, watch| {
            let id = JobId(*shared.next_id);
            *shared.next_id += 1;
            self.lease = Some(Lease { id, asked: now, deadline, watch });
            if background {
                places.take(id, deadline.plus(LATE));
            }
            Turn::Run { id, work, deadline }
        };
        match self.fetch.want(now, ask, shared.sources, shared.rng) {
            Want::Exchange(work) => run(work, deadline, false),
            Want::Until { work, until } => run(work, deadline.min(until), false),
            Want::Watch { work, until, held } => run(work, until, held),
            Want::Later(at) => Turn::Wait(at.max(now.plus(Duration::from_nanos(1)))),
            Want::Failed(error) => {
                self.failed(now, error, shared);
                Turn::Wait(self.next_try)
            }
        }
    }

    /// Whether the shared level should be asked before the source: it is due, and nobody has.
    pub(super) fn wants_level(&self, now: Time, asker: Asker<'_>, shared: &Shared<'_>) -> bool {
        let watching =
            matches!(asker, Asker::Background) && self.held.is_some() && self.fetch.watches();
        let config = &shared.sources.config;
        let due = || self.due_for(now, asker, config, shared.attended_until).max(self.next_try);
        self.service.is_some()
            && !self.asked_level
            && !watching
            && self.lease_end(now).is_none()
            && now >= due()
    }

    /// The shared level is being asked.
    pub(super) fn ask_level(
        &mut self,
        now: Time,
        deadline: Time,
        shared: &mut Shared<'_>,
    ) -> JobId {
        let id = JobId(*shared.next_id);
        *shared.next_id += 1;
        self.asked_level = true;
        self.lease = Some(Lease { id, asked: now, deadline, watch: false });
        id
    }

    /// It cannot be asked now.
    pub(super) fn skip_level(&mut self) {
        self.asked_level = true;
    }

    /// The shared level has answered.
    pub(super) fn level_done(&mut self) {
        self.lease = None;
    }

    /// When it is due to be asked for `asker`, failures aside.
    pub(super) fn due_for(
        &self,
        now: Time,
        asker: Asker<'_>,
        config: &DiscoveryConfig,
        attended_until: Time,
    ) -> Time {
        let cache = config.cache;
        let background = matches!(asker, Asker::Background);
        // Without cache every call asks; there is nothing to do ahead, not even the first time.
        if background && !cache {
            return Time::NEVER;
        }
        let Some(held) = &self.held else { return Time::ZERO };
        if let Some(until) = self.held_back(now, config) {
            return until;
        }
        if background {
            if self.fetch.watches() {
                return Time::ZERO;
            }
            let ahead =
                nanos(config.refresh_ahead).min(nanos(held.fetched.until(held.fresh_until)) / 2);
            return Time::from_nanos(held.fresh_until.as_nanos().saturating_sub(ahead));
        }
        if cache && now < attended_until {
            return attended_until;
        }
        held.fresh_until
    }

    /// Takes the result of its job.
    pub(super) fn done(&mut self, now: Time, outcome: JobOutcome, shared: &mut Shared<'_>) -> News {
        let Some(lease) = self.lease.take() else { return News::default() };
        let aside = self.held_back(now, &shared.sources.config).is_some();
        if aside || matches!(outcome, JobOutcome::Dropped) {
            self.fetch.dropped(now, shared.sources, shared.rng);
            self.next_try = self.next_try.min(now);
            return News { moved: true, ..News::default() };
        }
        let held = self.held.as_ref().map(|held| &held.data);
        let progress = self.fetch.done(now, outcome, held, shared.sources, shared.rng);
        if !matches!(progress, Progress::More) {
            self.asked_level = false;
        }
        match progress {
            Progress::Fresh { .. } | Progress::Same { .. } if lease.watch => {
                self.tally.watched += 1
            }
            Progress::Fresh { .. } | Progress::Same { .. } => {
                self.tally.answers += 1;
                self.tally.took.record(now.since(lease.asked), &shared.sources.bounds);
            }
            Progress::More | Progress::Failed(_) => (),
        }
        match progress {
            Progress::More => News { moved: true, more: true, asked: None },
            Progress::Fresh { data, ttl } => {
                self.take(now, data, ttl, Level::Source, shared);
                News { moved: true, more: false, asked: Some(lease.asked) }
            }
            Progress::Same { ttl } => {
                let ttl = if shared.sources.config.cache { ttl } else { Duration::ZERO };
                if let Some(held) = &mut self.held {
                    held.fetched = now;
                    held.fresh_until = now.plus(ttl);
                    held.said_stale = false;
                }
                self.recovered(now, shared);
                News { moved: true, more: false, asked: Some(lease.asked) }
            }
            Progress::Failed(error) => {
                self.failed(now, error, shared);
                News { moved: true, ..News::default() }
            }
        }
    }

    /// Takes what another client has written into the shared level, unless what is held is better.
    pub(super) fn fill(
        &mut self,
        now: Time,
        instances: Vec<Instance>,
        fresh_until: Time,
        shared: &mut Shared<'_>,
    ) -> bool {
        let better = self.held.as_ref().is_none_or(|held| fresh_until > held.fresh_until);
        if better {
            self.asked_level = false;
            let data = Data::Instances(instances.into());
            self.take(now, data, now.until(fresh_until), Level::Shared, shared);
        }
        better
    }

    fn take(
        &mut self,
        now: Time,
        data: Data,
        ttl: Duration,
        level: Level,
        shared: &mut Shared<'_>,
    ) {
        let before = self.held.take();
        let changed = before.as_ref().is_none_or(|held| held.data != data);
        // The same content stays where it is: others hold it, too.
        let data = before.map(|held| held.data).filter(|_| !changed).unwrap_or(data);
        let services = data.len();
        let ttl = if shared.sources.config.cache { ttl } else { Duration::ZERO };
        let fresh_until = now.plus(ttl);
        self.held = Some(Held { data, fetched: now, fresh_until, level, said_stale: false });
        if level == Level::Source {
            self.recovered(now, shared);
        }
        if self.service.is_none() {
            shared.notices.push(now, Event::DiscoveryLoaded { services, changed });
        }
    }

    fn recovered(&mut self, now: Time, shared: &mut Shared<'_>) {
        let failures = std::mem::take(&mut self.failures);
        if failures > 0 {
            let source = self.fetch.target(shared.sources);
            let (about, lasted) = (self.service.clone(), now.since(self.failing_since));
            let event = Event::DiscoveryRecovered { source, about, failures, lasted };
            shared.notices.push(now, event);
        }
        self.error = None;
        self.next_try = now;
    }

    fn failed(&mut self, now: Time, error: DiscoveryError, shared: &mut Shared<'_>) {
        let config = &shared.sources.config;
        let base = nanos(config.backoff);
        // Who is not allowed will not be allowed at once: the longest wait from the first time.
        let doublings = if error.is_denied() { 32 } else { self.failures.min(32) };
        let step = base
            .saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX))
            .min(nanos(config.backoff_max));
        // Half fixed, half random: a failing source is never hammered, clients never in step.
        let random = Duration::from_nanos(step / 2 + shared.rng.up_to(step - step / 2));
        let retry_in = self.fetch.backoff(now).unwrap_or(random);
        if self.failures == 0 {
            self.failing_since = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.next_try = now.plus(retry_in);
        self.tally.errors[error.at()] += 1;
        self.error = Some(error.clone());
        let kept = self.usable(now, config).is_some();
        let event = Event::DiscoveryFailed {
            source: self.fetch.target(shared.sources),
            about: self.service.clone(),
            reason: error.to_string(),
            failures: self.failures,
            kept,
            retry_in,
        };
        shared.notices.push(now, event);
        if let Some(held) = &mut self.held
            && kept
            && now >= held.fresh_until
            && !held.said_stale
        {
            held.said_stale = true;
            let age = now.since(held.fetched);
            shared.notices.push(now, Event::DiscoveryStale { age });
        }
    }

    /// What is held, unless it is too old to be used.
    pub(super) fn usable(&self, now: Time, config: &DiscoveryConfig) -> Option<&Held> {
        let held = self.held.as_ref()?;
        // While its source is held back nobody would notice an error.
        let sure = self.error.is_none() && now >= self.doubted_until;
        (now <= held.fresh_until.plus(max_stale(config)) || sure).then_some(held)
    }

    /// What is held, however old.
    pub(super) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Forgets what it holds and asks anew; an answer on its way is not taken.
    pub(super) fn forget(&mut self, now: Time) {
        self.held = None;
        self.lease = None;
        self.fetch.forget(now);
        self.asked_level = false;
        self.next_try = self.next_try.min(now);
    }

    /// Asks anew; what it holds is used until there is an answer.
    pub(super) fn expire(&mut self, now: Time) {
        if let Some(held) = &mut self.held {
            held.fresh_until = held.fresh_until.min(now);
        }
        self.asked_level = false;
        self.next_try = self.next_try.min(now);
    }
}

/// How long what is held is used beyond its time while its source cannot be asked.
fn max_stale(config: &DiscoveryConfig) -> Duration {
    if config.cache { config.max_stale } else { Duration::ZERO }
}
