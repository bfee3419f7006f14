//! When the discovery document is fetched, by whom, and what is used meanwhile.
//!
//! - Fresh: nobody fetches. With a background task, it refreshes ahead of expiry.
//! - Expired: the background refreshes while calls go on with what they have. Without a
//!   background, one call carries the refresh (for a second at most), the others go on.
//! - The source fails: back off, keep serving the old document, say so; up to `max_stale`.
//! - Nothing yet: one call fetches, the others wait for it.
//!
//! One fetch at a time, always; it is a lease, so a driver that dies costs only its deadline. A
//! malformed document is a failed fetch and never replaces a good one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::document::{BadDocument, Document};
use super::plan::Candidate;
use crate::address::Address;
use crate::config::{ConfigError, DiscoveryConfig};
use crate::headers;
use crate::job::{Asker, Job, JobId, JobOutcome, Poll, Work};
use crate::notice::{Event, Notices};
use crate::outcome::Fault;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// A document is never fetched more often than this on account of its own `max-age`.
const MIN_TTL: Duration = Duration::from_secs(1);
/// What a call that already has a document spends on fetching a newer one.
const CARRY: Duration = Duration::from_secs(1);
/// How long past its deadline a job may report: timers fire in any order.
const LATE: Duration = Duration::from_millis(500);
/// How late a background may be before calls stop relying on it.
const GRACE: Duration = Duration::from_secs(2);
/// Redirects followed, on the same host only.
const MOST_HOPS: u8 = 3;

/// Why there is no document, or no newer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryError {
    /// The exchange failed.
    #[error("{0}")]
    Fault(Fault),
    /// The source answered with a status that carries no document.
    #[error("answered {0}")]
    Status(u16),
    /// The source redirects to another host, in circles, or nowhere.
    #[error("answered {0} with a redirect that is not followed; configure the final URL")]
    Redirect(u16),
    /// The document was refused.
    #[error("the document was refused: {0}")]
    Document(BadDocument),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    document: Arc<Document>,
    fetched: Time,
    fresh_until: Time,
    etag: Option<String>,
    said_stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    id: JobId,
    deadline: Time,
}

/// What the directory knows about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// No document yet.
    Pending,
    /// These endpoints, in failover order.
    Found(Vec<Candidate>),
    /// The document does not name it; it names these.
    Absent(Vec<Arc<str>>),
    /// No document can be had.
    Failed {
        /// Why.
        error: DiscoveryError,
        /// Failures in a row.
        failures: u32,
        /// No try before this.
        next_try: Time,
    },
}

/// The fetched document and the schedule of fetching it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    config: DiscoveryConfig,
    source: Address,
    local: Option<Arc<str>>,
    held: Option<Held>,
    lease: Option<Lease>,
    detour: Option<(String, u8)>,
    failures: u32,
    error: Option<DiscoveryError>,
    next_try: Time,
    /// Until when a background task has promised to look after refreshes.
    attended_until: Time,
    next_id: u64,
    rng: Pcg32,
    notices: Notices,
}

impl Directory {
    /// A directory that has fetched nothing.
    ///
    /// # Errors
    /// A URL that is not an absolute HTTP URL.
    pub fn new(
        config: DiscoveryConfig,
        local: Option<Arc<str>>,
        seed: u64,
    ) -> Result<Directory, ConfigError> {
        let source = Address::parse(&config.url)
            .ok()
            .filter(Address::is_http)
            .ok_or_else(|| ConfigError::new("discovery.url", "is not an absolute http URL"))?;
        Ok(Directory {
            config,
            source,
            local,
            held: None,
            lease: None,
            detour: None,
            failures: 0,
            error: None,
            next_try: Time::ZERO,
            attended_until: Time::ZERO,
            next_id: 0,
            rng: Pcg32::new(seed, u64::MAX >> 1),
            notices: Notices::new(None),
        })
    }

    /// What to do now. The answer to a background is binding: it must ask again at that time.
    pub fn poll_job(&mut self, now: Time, asker: Asker) -> Poll {
        let due = self.due_for(now, asker).max(self.next_try);
        if let Some(lease) = self.lease
            && now < lease.deadline.plus(LATE)
        {
            let ends = lease.deadline.plus(LATE);
            // A background looks again before a document that comes meanwhile can be due.
            let again = if asker == Asker::Background { now.plus(MIN_TTL / 2) } else { ends };
            return self.wait(ends.min(again), asker);
        }
        if now < due {
            return self.wait(due, asker);
        }
        let mut deadline = now.plus(self.config.timeout);
        if let Asker::Call(until) = asker {
            let patience = if self.held.is_some() && self.config.cache {
                // It has something to work with, and needs time to do it.
                now.plus(CARRY.min(now.until(until) / 2))
            } else {
                Time::NEVER
            };
            deadline = deadline.min(until).min(patience);
            if deadline <= now {
                return Poll::Wait(due.max(now.plus(Duration::from_nanos(1))));
            }
        } else {
            self.attended_until = deadline.plus(GRACE);
        }
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.lease = Some(Lease { id, deadline });
        let max_body = self.config.max_bytes;
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = self.uri();
        *request.headers_mut() = self.headers();
        Poll::Run(Box::new(Job { id, work: Work::Http { request, max_body }, deadline }))
    }

    /// When the next fetch is due for `asker`, failures aside.
    fn due_for(&self, now: Time, asker: Asker) -> Time {
        // Without cache every call asks; there is nothing to do ahead, not even the first time.
        if asker == Asker::Background && !self.config.cache {
            return Time::NEVER;
        }
        let Some(held) = &self.held else { return Time::ZERO };
        match asker {
            Asker::Background => {
                let ahead = nanos(self.config.refresh_ahead)
                    .min(nanos(held.fetched.until(held.fresh_until)) / 2);
                Time::from_nanos(held.fresh_until.as_nanos().saturating_sub(ahead))
            }
            Asker::Call(_) if self.config.cache && now < self.attended_until => self.attended_until,
            Asker::Call(_) => held.fresh_until,
        }
    }

    fn wait(&mut self, until: Time, asker: Asker) -> Poll {
        if asker == Asker::Background {
            self.attended_until = until.plus(GRACE);
        }
        Poll::Wait(until)
    }

    /// When a call should ask for a job; a cheap bound for drivers to keep.
    #[must_use]
    pub fn call_due(&self, now: Time) -> Time {
        self.due_for(now, Asker::Call(Time::NEVER)).max(self.next_try)
    }

    fn uri(&self) -> Uri {
        let detour = self.detour.as_ref().and_then(|(uri, _)| uri.parse().ok());
        detour.or_else(|| self.source.uri()).unwrap_or_default()
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
        let etag = self.held.as_ref().and_then(|held| held.etag.as_deref());
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        headers
    }

    /// Takes the result of a job. Returns whether services have to be resolved again: then their
    /// epochs move and parked calls wake. A result of an earlier lease is ignored.
    #[must_use]
    pub fn job_done(&mut self, now: Time, id: JobId, outcome: JobOutcome) -> bool {
        if self.lease.is_none_or(|lease| lease.id != id) {
            return false;
        }
        self.lease = None;
        let hops = self.detour.take().map_or(0, |(_, hops)| hops);
        match outcome {
            JobOutcome::Dropped => self.next_try = self.next_try.min(now),
            JobOutcome::Failed(fault) => self.failed(now, DiscoveryError::Fault(fault)),
            JobOutcome::Answered { status: 304, headers, .. } if self.held.is_some() => {
                self.renew(now, &headers);
            }
            JobOutcome::Answered { status: 200, headers, body } => {
                match Document::parse(&body, self.config.max_bytes) {
                    Ok(document) => self.take(now, document, &headers),
                    Err(bad) => self.failed(now, DiscoveryError::Document(bad)),
                }
            }
            JobOutcome::Answered { status: status @ (301 | 302 | 307 | 308), headers, .. } => {
                match self.same_host(&headers) {
                    Some(uri) if hops < MOST_HOPS => self.detour = Some((uri, hops + 1)),
                    _ => self.failed(now, DiscoveryError::Redirect(status)),
                }
            }
            JobOutcome::Answered { status, .. } => self.failed(now, DiscoveryError::Status(status)),
            _ => self.failed(now, DiscoveryError::Fault(Fault::Protocol)),
        }
        true
    }

    /// Whether the last result was a redirect, so that one more job finishes the fetch.
    #[must_use]
    pub fn redirected(&self) -> bool {
        self.detour.is_some()
    }

    /// The target of a redirect, if it stays on the host and scheme of the source.
    fn same_host(&self, headers: &HeaderMap) -> Option<String> {
        let target = headers.get(LOCATION)?.to_str().ok()?;
        let source = self.source.uri()?;
        let origin = format!("{}://{}", source.scheme_str()?, source.authority()?);
        let path = match target.strip_prefix(&origin) {
            Some(path) => path,
            None if target.starts_with('/') && !target.starts_with("//") => target,
            None => return None,
        };
        if !path.starts_with('/') || path.len() > 2048 {
            return None;
        }
        let uri: Uri = format!("{origin}{path}").parse().ok()?;
        Some(uri.to_string())
    }

    fn take(&mut self, now: Time, document: Document, headers: &HeaderMap) {
        let before = self.held.take().map(|held| held.document);
        let changed = before.as_deref() != Some(&document);
        let services = document.services().len();
        let document = match before {
            Some(before) if !changed => before,
            _ => Arc::new(document),
        };
        self.held = Some(Held {
            document,
            fetched: now,
            fresh_until: now.plus(self.ttl(headers)),
            etag: headers::etag(headers),
            said_stale: false,
        });
        self.recovered(now);
        self.notices.push(now, Event::DiscoveryLoaded { services, changed });
    }

    fn renew(&mut self, now: Time, headers: &HeaderMap) {
        let ttl = self.ttl(headers);
        if let Some(held) = &mut self.held {
            held.fetched = now;
            held.fresh_until = now.plus(ttl);
            held.said_stale = false;
        }
        self.recovered(now);
    }

    fn recovered(&mut self, now: Time) {
        self.failures = 0;
        self.error = None;
        self.next_try = now;
    }

    /// `max-age` may shorten the configured time to live, not lengthen it.
    fn ttl(&self, headers: &HeaderMap) -> Duration {
        if !self.config.cache {
            return Duration::ZERO;
        }
        headers::max_age(headers)
            .map_or(self.config.ttl, |age| age.clamp(MIN_TTL.min(self.config.ttl), self.config.ttl))
    }

    fn failed(&mut self, now: Time, error: DiscoveryError) {
        let base = nanos(self.config.backoff);
        let step = base
            .saturating_mul(1_u64.checked_shl(self.failures.min(32)).unwrap_or(u64::MAX))
            .min(nanos(self.config.backoff_max));
        // Half fixed, half random: a failing source is never hammered, clients never in step.
        let retry_in = Duration::from_nanos(step / 2 + self.rng.up_to(step - step / 2));
        self.failures = self.failures.saturating_add(1);
        self.next_try = now.plus(retry_in);
        let kept = self.usable(now).is_some();
        let event = Event::DiscoveryFailed {
            reason: error.to_string(),
            failures: self.failures,
            kept,
            retry_in,
        };
        self.notices.push(now, event);
        self.error = Some(error);
        if let Some(held) = &mut self.held
            && kept
            && now >= held.fresh_until
            && !held.said_stale
        {
            held.said_stale = true;
            let age = now.since(held.fetched);
            self.notices.push(now, Event::DiscoveryStale { age });
        }
    }

    /// The document, unless it is too old to be used.
    fn usable(&self, now: Time) -> Option<&Held> {
        let max_stale = if self.config.cache { self.config.max_stale } else { Duration::ZERO };
        let held = self.held.as_ref()?;
        (now <= held.fresh_until.plus(max_stale) || self.error.is_none()).then_some(held)
    }

    /// What is known about `service` now.
    #[must_use]
    pub fn resolve(&mut self, now: Time, service: &str) -> Resolution {
        let Some(held) = self.usable(now) else {
            return match &self.error {
                Some(error) => Resolution::Failed {
                    error: error.clone(),
                    failures: self.failures,
                    next_try: self.next_try,
                },
                None => Resolution::Pending,
            };
        };
        let document = held.document.clone();
        let Some((found, refused)) = document.candidates(service, self.local.as_deref()) else {
            return Resolution::Absent(document.services().cloned().collect());
        };
        for refused in refused {
            let event = Event::AddressRefused { cluster: refused.cluster, reason: refused.reason };
            self.notices.push(now, event);
        }
        Resolution::Found(found)
    }

    /// The names in the present document, if there is one.
    #[must_use]
    pub fn services(&self) -> Option<Vec<Arc<str>>> {
        self.held.as_ref().map(|held| held.document.services().cloned().collect())
    }

    /// Its notices.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Its state, for people.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> crate::snapshot::DiscoverySnapshot {
        let held = self.held.as_ref();
        crate::snapshot::DiscoverySnapshot {
            source: self.source.as_str().to_owned(),
            age: held.map(|held| now.since(held.fetched)),
            fresh_for: held.map(|held| now.until(held.fresh_until)),
            stale: held.is_some_and(|held| now >= held.fresh_until),
            services: held.map_or(0, |held| held.document.services().len()),
            failures: self.failures,
            last_error: self.error.as_ref().map(ToString::to_string),
            fetching: self.lease.is_some_and(|lease| now < lease.deadline),
        }
    }

    /// The source, for errors.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.as_str()
    }
}
