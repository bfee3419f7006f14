//! When the snapshot is read and written: read once, before anything is written; written at once
//! when everything is known for the first time, then when something changed, never more often
//! than `every`, and again after `refresh` though nothing did. A write that fails is tried again,
//! ever more rarely. What stands in it is in the parent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BadSnapshot, Kept, Restored};
use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, SnapshotConfig};
use crate::discovery::file::{file_path, reached};
use crate::job::{Job, JobId, JobOutcome, Poll, Work};
use crate::outcome::Fault;
use crate::time::{DurationText, Time, Wall};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// How long reading or writing may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long past its deadline a job may report.
const LATE: Duration = Duration::from_millis(500);
/// Reading is tried so often; a start does not wait for a disk that does not answer.
const MOST_READS: u8 = 3;
const REREAD: Duration = Duration::from_millis(200);
/// Longest wait after failed writes, or `every` if that is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A checked [`SnapshotConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    path: Option<Arc<str>>,
    every: Duration,
    refresh: Duration,
    max_age: Duration,
    skew: Duration,
    most: usize,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &SnapshotConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let every = at.within("every", config.every, second..=WEEK)?;
        let max_age = at.within("max_age", config.max_age, minute..=YEAR)?;
        let refresh = at.within("refresh", config.refresh, second..=YEAR)?;
        at.ordered(("every", every), ("refresh", refresh))?;
        if refresh > max_age / 2 {
            let (refresh, half) = (DurationText(refresh), DurationText(max_age / 2));
            let reason = format!("{refresh} exceeds half of {path}.max_age, {half}");
            return Err(at.refuse("refresh", reason));
        }
        Ok(Settings {
            path: file_path(at, config.path.as_deref())?,
            every,
            refresh,
            max_age,
            skew: at.span_or_zero("skew", config.skew)?,
            most: at.within("max_bytes", config.max_bytes, 1024..=1 << 30)?,
        })
    }

    /// Whether nothing is kept.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        self.path.is_none()
    }

    pub(super) const fn most(&self) -> usize {
        self.most
    }

    pub(super) const fn max_age(&self) -> Duration {
        self.max_age
    }

    pub(super) const fn skew(&self) -> Duration {
        self.skew
    }
}

impl Default for Settings {
    /// The compiled default: nothing is kept.
    fn default() -> Self {
        let config = SnapshotConfig::default();
        Settings {
            path: None,
            every: config.every,
            refresh: config.refresh,
            max_age: config.max_age,
            skew: config.skew,
            most: config.max_bytes,
        }
    }
}

/// What went wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepProblem {
    /// What is in it cannot be used, or what should go into it is too much.
    Snapshot(BadSnapshot),
    /// It cannot be read or written, as the system says it.
    Impossible(Arc<str>),
    /// Another failure: it took too long, or it is too large.
    Fault(Fault),
}

impl fmt::Display for KeepProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepProblem::Snapshot(bad) => write!(f, "the snapshot cannot be used: {bad}"),
            KeepProblem::Impossible(why) => write!(f, "the snapshot file: {why}"),
            KeepProblem::Fault(Fault::BodyTooLarge) => {
                f.write_str("the snapshot file exceeds max_bytes")
            }
            KeepProblem::Fault(Fault::Timeout) => f.write_str("the snapshot file took too long"),
            KeepProblem::Fault(fault) => write!(f, "the snapshot file: {fault}"),
        }
    }
}

/// What a job brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The result of a job that is not expected any more, or that is tried again.
    Ignored,
    /// A snapshot to start from. Sources that have answered meanwhile know better.
    Restored(Box<Restored>),
    /// There is no file: a first start.
    Nothing,
    /// Written.
    Written,
    /// The file cannot be used or written.
    Trouble(KeepProblem),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: JobId,
    deadline: Time,
    /// Of a write: since when there was something to write.
    since: Option<Time>,
}

/// The schedule of the snapshot file.
///
/// ```
/// use origin_core::config::SnapshotConfig;
/// use origin_core::discovery::kept::{Heard, Keeper, Kept, Settings};
/// use origin_core::job::{JobOutcome, Poll, Work};
/// use origin_core::{Time, Wall};
///
/// let path = Some("/var/lib/app/discovery.json".to_owned());
/// let settings = Settings::of(&SnapshotConfig { path, ..SnapshotConfig::default() }, "snapshot")?;
/// let (now, mut keeper) = (Time::ZERO, Keeper::new());
/// let kept = || Kept { written: Wall(9), ..Kept::default() };
/// // First it is read, and there is none.
/// let Poll::Run(read) = keeper.poll(now, &settings, kept) else { panic!() };
/// let none = JobOutcome::Content(None);
/// assert_eq!(keeper.done(now, Wall(9), read.id, none, None, &settings), Heard::Nothing);
/// // Then everything is known, and it is written at once.
/// keeper.changed(now);
/// keeper.complete();
/// let Poll::Run(write) = keeper.poll(now, &settings, kept) else { panic!() };
/// assert!(matches!(write.work, Work::Write { .. }));
/// let heard = keeper.done(now, Wall(9), write.id, JobOutcome::Written, None, &settings);
/// assert_eq!(heard, Heard::Written);
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// Whether reading is over, by success or not.
    read: bool,
    reads: u8,
    complete: bool,
    /// Whether this is the end: what is not in the file yet is written now.
    last: bool,
    /// Since when there is something to write.
    dirty: Option<Time>,
    /// When a write was last begun.
    began: Option<Time>,
    /// Whether a write has ever succeeded.
    written: bool,
    failures: u32,
    not_before: Time,
    lease: Option<Lease>,
    problem: Option<KeepProblem>,
    next_id: u64,
}

impl Keeper {
    /// A keeper that has not read yet.
    #[must_use]
    pub fn new() -> Keeper {
        Keeper::default()
    }

    /// What is to be kept has changed: call it when a list really differs, not when it was
    /// merely confirmed. What a snapshot restored is not a change.
    pub fn changed(&mut self, now: Time) {
        self.dirty = Some(self.dirty.map_or(now, |since| since.min(now)));
    }

    /// Every service that is wanted is known now: what is kept from here on is worth keeping at
    /// once. The file is read first even so: it may know services that nobody asked for yet, and
    /// those are carried on ([`Kept::carry`]).
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Whether [`Keeper::complete`] was called.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The program ends: what is not in the file yet is written now, in one try, however short ago
    /// something was.
    pub fn finish(&mut self) {
        self.last = self.dirty.is_some();
    }

    /// Whether a file that was to be written at the end is being written or waits for it.
    #[must_use]
    pub fn finishing(&self) -> bool {
        self.last || self.lease.is_some_and(|lease| lease.since.is_some())
    }

    /// What to do now. One job at a time; its ids are unique within this keeper. `kept` is called
    /// only for a write.
    pub fn poll(&mut self, now: Time, settings: &Settings, kept: impl FnOnce() -> Kept) -> Poll {
        let Some(path) = &settings.path else { return Poll::Wait(Time::NEVER) };
        if let Some(lease) = self.lease {
            let ends = lease.deadline.plus(LATE);
            if !reached(ends, now) {
                return Poll::Wait(ends);
            }
            // It never came back.
            self.lost(now, lease, settings);
        }
        self.no_later_than(now, settings);
        let due = self.due(settings);
        if !reached(due, now) {
            return Poll::Wait(due);
        }
        let mut since = None;
        let work = if self.read {
            since = Some(self.dirty.take().unwrap_or(now));
            (self.began, self.last) = (Some(now), false);
            match kept().encode(settings) {
                Ok(content) => Work::Write { path: path.clone(), content },
                Err(bad) => {
                    let _ = self.write_failed(now, since, KeepProblem::Snapshot(bad), settings);
                    return Poll::Wait(self.due(settings));
                }
            }
        } else {
            Work::Read { path: path.clone(), most: settings.most }
        };
        let id = JobId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let deadline = now.plus(TIMEOUT);
        self.lease = Some(Lease { id, deadline, since });
        Poll::Run(Box::new(Job { id, work, deadline }))
    }

    fn due(&self, settings: &Settings) -> Time {
        if self.last && self.read {
            return Time::ZERO;
        }
        let due = match (self.read, self.dirty, self.began) {
            (false, ..) => Time::ZERO,
            (true, Some(_), Some(began)) => began.plus(settings.every),
            (true, Some(_), None) if self.complete => Time::ZERO,
            (true, Some(since), None) => since.plus(settings.every),
            (true, None, Some(began)) => began.plus(settings.refresh),
            (true, None, None) => Time::NEVER,
        };
        due.max(self.not_before)
    }

    /// A clock that went back must not put anything off for longer than it would be anyway.
    fn no_later_than(&mut self, now: Time, settings: &Settings) {
        self.began = self.began.map(|began| began.min(now));
        self.dirty = self.dirty.map(|since| since.min(now));
        self.not_before = self.not_before.min(now.plus(LONGEST_WAIT.max(settings.every)));
    }

    /// Takes the result of a job; `wall` and `local` are for a snapshot that was read.
    pub fn done(
        &mut self,
        now: Time,
        wall: Wall,
        id: JobId,
        outcome: JobOutcome,
        local: Option<&str>,
        settings: &Settings,
    ) -> Heard {
        let Some(lease) = self.lease.filter(|lease| lease.id == id) else { return Heard::Ignored };
        self.lease = None;
        let (write, since) = (lease.since.is_some(), lease.since);
        match outcome {
            JobOutcome::Content(content) if !write => self.content(content, wall, local, settings),
            JobOutcome::Written if write => {
                (self.written, self.failures, self.problem) = (true, 0, None);
                self.not_before = Time::ZERO;
                Heard::Written
            }
            // Says nothing about the disk: a read is tried again at once, without counting.
            JobOutcome::Dropped if !write => Heard::Ignored,
            JobOutcome::Dropped => {
                self.lost(now, lease, settings);
                Heard::Ignored
            }
            outcome => {
                let problem = match outcome {
                    JobOutcome::Failed(fault) => KeepProblem::Fault(fault),
                    JobOutcome::Impossible(why) => {
                        KeepProblem::Impossible(why.chars().take(256).collect::<String>().into())
                    }
                    _ => KeepProblem::Fault(Fault::Protocol),
                };
                if write {
                    self.write_failed(now, since, problem, settings)
                } else {
                    self.read_failed(now, problem)
                }
            }
        }
    }

    fn content(
        &mut self,
        content: Option<Bytes>,
        wall: Wall,
        local: Option<&str>,
        settings: &Settings,
    ) -> Heard {
        self.read = true;
        let Some(bytes) = content else { return Heard::Nothing };
        match Kept::decode(&bytes, wall, local, settings) {
            Ok(restored) => Heard::Restored(Box::new(restored)),
            Err(bad) => self.trouble(KeepProblem::Snapshot(bad)),
        }
    }

    fn read_failed(&mut self, now: Time, problem: KeepProblem) -> Heard {
        self.reads = self.reads.saturating_add(1);
        self.read = self.reads >= MOST_READS;
        if self.read {
            return self.trouble(problem);
        }
        self.not_before = now.plus(REREAD);
        Heard::Ignored
    }

    fn write_failed(
        &mut self,
        now: Time,
        since: Option<Time>,
        problem: KeepProblem,
        settings: &Settings,
    ) -> Heard {
        // A refresh that failed is as urgent as a change.
        self.dirty = since.or(self.dirty);
        let factor = 1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX);
        let wait = settings.every.saturating_mul(factor).min(LONGEST_WAIT.max(settings.every));
        self.not_before = now.plus(wait);
        self.failures = self.failures.saturating_add(1);
        self.trouble(problem)
    }

    /// Nobody says what became of a job.
    fn lost(&mut self, now: Time, lease: Lease, settings: &Settings) {
        self.lease = None;
        if lease.since.is_some() {
            // It may have been written or not.
            self.dirty = lease.since.or(self.dirty);
            self.not_before = now.plus(settings.every);
        } else {
            let _ = self.read_failed(now, KeepProblem::Fault(Fault::Timeout));
        }
    }

    fn trouble(&mut self, problem: KeepProblem) -> Heard {
        self.problem = Some(problem.clone());
        Heard::Trouble(problem)
    }

    /// Applies other settings. Another file is not read; it is written as if everything had
    /// changed, if anything is known.
    pub fn retune(&mut self, now: Time, before: &Settings, after: &Settings) {
        if before.path != after.path {
            (self.lease, self.not_before, self.failures) = (None, Time::ZERO, 0);
            (self.written, self.problem) = (false, None);
            self.read = true;
            if self.began.take().is_some() || self.complete {
                self.changed(now);
            }
        }
    }

    /// What is wrong with the file; `None` after it was written.
    #[must_use]
    pub const fn problem(&self) -> Option<&KeepProblem> {
        self.problem.as_ref()
    }

    /// Whether a write has succeeded since the start.
    #[must_use]
    pub const fn written(&self) -> bool {
        self.written
    }

    /// Whether there is something that is not in the file yet.
    #[must_use]
    pub fn behind(&self) -> bool {
        self.dirty.is_some() || self.lease.is_some_and(|lease| lease.since.is_some())
    }
}
