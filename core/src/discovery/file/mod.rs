//! A file of services that is read again when it changes, and the static list of the
//! configuration in the same form ([`Listing`]).
//!
//! It serves where no registry is: a file that a person edits, that a deployment mounts, or that
//! a template program renders. Prometheus' file discovery is the model. What it protects against
//! is the file: one that cannot be read, has vanished or is malformed never replaces a good one,
//! and says so once. And a file that is just being written is not taken for a short one: the
//! first half of a TOML list is a valid list. So a new content counts only when a second look,
//! `settle` later, finds it unchanged. It is looked at, not watched: a notification of the kernel
//! does not cross a network file system, and a rename under a mount is easily missed.
//!
//! Contents are compared by a hash of their bytes, and what is read by its value, so that an
//! edited comment changes nothing for anybody. Off, without a `path`, there is no job.

mod content;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, FileConfig};
use crate::job::{Job, JobId, JobOutcome, Poll, Work};
use crate::outcome::Fault;
use crate::policy::balance::hash;
use crate::time::{Time, nanos};
pub use content::{BadFile, Content, EntryFault, Listing};

/// How long reading may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long past its deadline a job may report.
const LATE: Duration = Duration::from_millis(500);
/// After so many contents in a row that did not settle the last one is read as it is.
const MOST_UNSETTLED: u8 = 8;

/// A checked [`FileConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    path: Option<Arc<str>>,
    poll: u64,
    settle: u64,
    most: usize,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &FileConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let poll = at.within("poll", config.poll, Duration::from_millis(10)..=WEEK)?;
        let settle = at.span_or_zero("settle", config.settle)?;
        at.ordered(("settle", settle), ("poll", poll))?;
        Ok(Settings {
            path: file_path(at, config.path.as_deref())?,
            poll: nanos(poll),
            settle: nanos(settle),
            most: at.within("max_bytes", config.max_bytes, 64..=1 << 30)?,
        })
    }

    /// Whether there is no file.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        self.path.is_none()
    }
}

impl Default for Settings {
    /// The compiled default: no file.
    fn default() -> Self {
        Settings { path: None, poll: 5_000_000_000, settle: 200_000_000, most: 8 << 20 }
    }
}

/// Checks the path of a file. Whether it exists is not for the core to know.
pub(super) fn file_path(at: At<'_>, path: Option<&str>) -> Result<Option<Arc<str>>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    if path.is_empty() {
        return Err(at.refuse("path", "is empty; leave it out instead"));
    }
    if path.len() > 4096 || path.contains('\0') {
        return Err(at.refuse("path", "has 1 to 4096 bytes and no zero byte"));
    }
    Ok(Some(path.into()))
}

/// Why the file could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileProblem {
    /// It is not there.
    Missing,
    /// It cannot be read, as the system says it.
    Unreadable(Arc<str>),
    /// Reading it failed in another way: it took too long, or it is too large.
    Fault(Fault),
    /// It was refused.
    Bad(BadFile),
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileProblem::Missing => f.write_str("the file is not there"),
            FileProblem::Unreadable(why) => write!(f, "the file cannot be read: {why}"),
            FileProblem::Fault(Fault::BodyTooLarge) => f.write_str("the file exceeds max_bytes"),
            FileProblem::Fault(Fault::Timeout) => f.write_str("reading the file took too long"),
            FileProblem::Fault(fault) => write!(f, "the file cannot be read: {fault}"),
            FileProblem::Bad(bad) => write!(f, "the file was refused: {bad}"),
        }
    }
}

/// What a look at the file brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// The result of a job that is not expected any more.
    Ignored,
    /// What it says is known.
    Same,
    /// There was a problem, and now it says again what was in use all the time.
    Recovered,
    /// It has changed; whether it is complete shows in a moment.
    Settling,
    /// It says something new: [`FileSource::content`].
    Changed,
    /// It cannot be used: [`FileSource::problem`]. Said once per problem.
    Trouble,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    content: Arc<Content>,
    digest: u64,
    confirmed: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: JobId,
    deadline: Time,
}

/// The file and the schedule of looking at it.
///
/// ```
/// use origin_core::Time;
/// use origin_core::config::FileConfig;
/// use origin_core::discovery::file::{FileSource, Heard, Settings};
/// use origin_core::job::{JobOutcome, Poll};
///
/// let config = FileConfig { path: Some("services.json".into()), ..FileConfig::default() };
/// let settings = Settings::of(&config, "file")?;
/// let now = Time::ZERO;
/// let mut file = FileSource::new();
/// let Poll::Run(job) = file.poll(now, &settings) else { panic!() };
/// let text = br#"{"services": {"s": {"endpoints": {"a": "http://10.0.0.1:80"}}}}"#;
/// let heard = file.done(now, job.id, JobOutcome::Content(Some(text[..].into())), &settings);
/// assert_eq!(heard, Heard::Changed);
/// let (instances, _) = file.content().unwrap().instances("s", None).unwrap();
/// assert_eq!(instances[0].address.as_str(), "http://10.0.0.1:80");
/// assert!(matches!(file.poll(now, &settings), Poll::Wait(_)));
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSource {
    held: Option<Held>,
    /// Hash of a content that was seen once, and how many in a row did not settle.
    seen: Option<u64>,
    unsettled: u8,
    /// Hash of the content that was refused last, so that it is refused once.
    refused: Option<u64>,
    problem: Option<FileProblem>,
    lease: Option<Lease>,
    next: Time,
    looked: Time,
    next_id: u64,
}

impl FileSource {
    /// A source that has not looked yet.
    #[must_use]
    pub fn new() -> FileSource {
        FileSource::default()
    }

    /// What to do now. One look at a time; the ids of its jobs are unique within this source.
    pub fn poll(&mut self, now: Time, settings: &Settings) -> Poll {
        let Some(path) = &settings.path else { return Poll::Wait(Time::NEVER) };
        if let Some(lease) = self.lease {
            let ends = lease.deadline.plus(LATE);
            if !reached(ends, now) {
                return Poll::Wait(ends);
            }
        }
        // A clock that went back must not stop the looking.
        if now < self.looked {
            (self.looked, self.next) = (now, now);
        }
        if !reached(self.next, now) {
            return Poll::Wait(self.next);
        }
        let id = JobId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let deadline = now.plus(TIMEOUT);
        self.lease = Some(Lease { id, deadline });
        self.looked = now;
        let work = Work::Read { path: path.clone(), most: settings.most };
        Poll::Run(Box::new(Job { id, work, deadline }))
    }

    /// Takes the result of a look. One of an earlier lease is ignored.
    pub fn done(
        &mut self,
        now: Time,
        id: JobId,
        outcome: JobOutcome,
        settings: &Settings,
    ) -> Heard {
        if self.lease.is_none_or(|lease| lease.id != id) {
            return Heard::Ignored;
        }
        self.lease = None;
        self.looked = now;
        self.next = now.plus(Duration::from_nanos(settings.poll));
        match outcome {
            JobOutcome::Content(Some(bytes)) => self.read(now, &bytes, settings),
            JobOutcome::Content(None) => self.trouble(FileProblem::Missing),
            JobOutcome::Impossible(why) => {
                let why: String = why.chars().take(256).collect();
                self.trouble(FileProblem::Unreadable(why.into()))
            }
            JobOutcome::Failed(fault) => self.trouble(FileProblem::Fault(fault)),
            JobOutcome::Dropped => {
                self.next = now;
                Heard::Same
            }
            _ => self.trouble(FileProblem::Fault(Fault::Protocol)),
        }
    }

    fn read(&mut self, now: Time, bytes: &Bytes, settings: &Settings) -> Heard {
        let digest = hash::of(bytes);
        if let Some(held) = self.held.as_mut().filter(|held| held.digest == digest) {
            held.confirmed = now;
            return self.as_before();
        }
        // At the start something is better than nothing; after that it must hold still.
        let known = self.seen == Some(digest) || self.refused == Some(digest);
        if settings.settle > 0 && !known {
            self.seen = Some(digest);
            self.next = now.plus(Duration::from_nanos(settings.settle));
            self.unsettled = self.unsettled.saturating_add(1);
            if self.held.is_some() && self.unsettled < MOST_UNSETTLED {
                return Heard::Settling;
            }
        }
        if self.refused == Some(digest) && matches!(self.problem, Some(FileProblem::Bad(_))) {
            self.unsettled = 0;
            return Heard::Same;
        }
        let path = settings.path.as_deref().unwrap_or_default();
        match Content::parse(bytes, path, settings.most) {
            Err(bad) => {
                self.refused = Some(digest);
                self.unsettled = 0;
                self.trouble(FileProblem::Bad(bad))
            }
            Ok(content) => {
                let before = self.held.take().map(|held| held.content);
                let same = before.as_deref() == Some(&content);
                let content = before.filter(|_| same).unwrap_or_else(|| Arc::new(content));
                self.held = Some(Held { content, digest, confirmed: now });
                let heard = self.as_before();
                if same { heard } else { Heard::Changed }
            }
        }
    }

    /// The file is good and says what is held.
    fn as_before(&mut self) -> Heard {
        let heard = if self.problem.is_some() { Heard::Recovered } else { Heard::Same };
        (self.seen, self.refused, self.problem, self.unsettled) = (None, None, None, 0);
        heard
    }

    fn trouble(&mut self, problem: FileProblem) -> Heard {
        if self.problem.as_ref() == Some(&problem) {
            return Heard::Same;
        }
        self.problem = Some(problem);
        Heard::Trouble
    }

    /// Applies other settings: another file is read at once, and until it was, what the former
    /// one said stays in use.
    pub fn retune(&mut self, now: Time, before: &Settings, after: &Settings) {
        if before.path != after.path {
            self.lease = None;
            (self.seen, self.refused, self.problem, self.unsettled) = (None, None, None, 0);
            // The same bytes under another name may mean something else.
            if let Some(held) = &mut self.held {
                held.digest = !held.digest;
            }
        }
        if after.path.is_none() {
            self.held = None;
        }
        self.next = self.next.min(now);
    }

    /// What the file said when it was last good.
    #[must_use]
    pub fn content(&self) -> Option<&Arc<Content>> {
        self.held.as_ref().map(|held| &held.content)
    }

    /// Why the file cannot be used now; what it said before stays in use.
    #[must_use]
    pub const fn problem(&self) -> Option<&FileProblem> {
        self.problem.as_ref()
    }

    /// How long ago the file was last seen to say what is in use.
    #[must_use]
    pub fn age(&self, now: Time) -> Option<Duration> {
        self.held.as_ref().map(|held| now.since(held.confirmed))
    }
}

/// Whether `at` has come; what is due never does not come, even at the end of time.
pub(super) fn reached(at: Time, now: Time) -> bool {
    at <= now && at < Time::NEVER
}
