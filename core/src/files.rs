//! Files that belong together, read again now and then: a certificate with its key, the halves of
//! a credential. Somebody renews them on disk, and they are used without a restart.
//!
//! Several files are never replaced in one instant, and a key that does not belong to its
//! certificate is of no use to anybody. So all are read in turn, and what differs from what is in
//! use counts when a second look finds the same. What cannot be read changes nothing and is told
//! once.
//!
//! It holds content between looks, so it is neither printed nor serialised. What the content means
//! is with those who use it: [`crate::identity::files`], [`crate::s3::rotation`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::job::{JobOutcome, Poll};
use crate::policy::balance::hash;
use crate::time::Time;

/// Largest file that is read, in bytes.
pub const MOST: usize = 1 << 20;
/// From the first look at a change to the second.
const SETTLE: Duration = Duration::from_secs(1);
/// How long reading a file may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long past its deadline a look may report.
const LATE: Duration = Duration::from_millis(500);

/// Which files, and from one look to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings<const N: usize> {
    /// Their paths; `None` for one that is not configured.
    pub paths: [Option<Arc<str>>; N],
    /// From one look at all of them to the next.
    pub poll: Duration,
}

/// The content of the files; `None` for one that is not configured.
#[derive(Clone, PartialEq, Eq)]
pub struct Content<const N: usize>(pub [Option<Bytes>; N]);

impl<const N: usize> fmt::Debug for Content<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(\u{2026})")
    }
}

impl<const N: usize> Content<N> {
    /// A number that differs when the content does.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, part| {
            sum.rotate_left(7) ^ part.as_ref().map_or(1, |bytes| hash::of(bytes))
        })
    }
}

/// A file to be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// To be given back.
    pub id: u64,
    /// Which file.
    pub path: Arc<str>,
    /// To be given up at this time.
    pub deadline: Time,
}

/// What came of reading a file: its content, `None` when there is none.
///
/// # Errors
/// Why it cannot be read, for people.
pub fn read(outcome: JobOutcome) -> Result<Option<Bytes>, Arc<str>> {
    match outcome {
        JobOutcome::Content(content) => Ok(content),
        JobOutcome::Impossible(reason) => Err(reason),
        JobOutcome::Failed(fault) => Err(fault.text().into()),
        _ => Err("given up by the driver".into()),
    }
}

/// The machine.
#[derive(Clone)]
pub struct Files<const N: usize> {
    /// What is in use.
    used: u64,
    /// What the look before found, if that is something else.
    seen: Option<u64>,
    /// What this look has found so far.
    found: Vec<Option<Bytes>>,
    out: Option<(u64, Time)>,
    next_id: u64,
    due: Time,
    failing: bool,
}

impl<const N: usize> fmt::Debug for Files<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({:016x})", self.used)
    }
}

impl<const N: usize> Files<N> {
    /// For content that is in use since now, by its digest.
    #[must_use]
    pub fn new(now: Time, used: u64, settings: &Settings<N>) -> Files<N> {
        Files {
            used,
            seen: None,
            found: Vec::new(),
            out: None,
            next_id: 0,
            due: now.plus(settings.poll),
            failing: false,
        }
    }

    /// When [`Files::poll`] has something to do.
    #[must_use]
    pub fn due(&self) -> Time {
        self.out.map_or(self.due, |(_, deadline)| deadline.plus(LATE))
    }

    /// The next file to read, if one is due; else when to ask again.
    pub fn poll(&mut self, now: Time, settings: &Settings<N>) -> Poll<Look> {
        if let Some((_, deadline)) = self.out {
            if now < deadline.plus(LATE) {
                return Poll::Wait(deadline.plus(LATE));
            }
            self.out = None;
            self.found.clear();
        }
        self.due = self.due.min(now.plus(settings.poll.max(SETTLE)));
        // At the end of time nothing lies ahead, and everything would be due for ever.
        if now < self.due || now == Time::NEVER {
            return Poll::Wait(self.due);
        }
        while let Some(path) = settings.paths.get(self.found.len()) {
            let Some(path) = path.clone() else {
                self.found.push(None);
                continue;
            };
            let (id, deadline) = (self.next_id, now.plus(PATIENCE));
            self.next_id = self.next_id.wrapping_add(1);
            self.out = Some((id, deadline));
            return Poll::Run(Box::new(Look { id, path, deadline }));
        }
        // Nothing is configured.
        self.found.clear();
        self.due = now.plus(settings.poll);
        Poll::Wait(self.due)
    }

    /// Takes what was read. Yields content that is new and holds still: to be put in force.
    ///
    /// # Errors
    /// A file that cannot be read, the first of a row.
    pub fn done(
        &mut self,
        now: Time,
        id: u64,
        read: Result<Option<Bytes>, Arc<str>>,
        settings: &Settings<N>,
    ) -> Result<Option<Content<N>>, Arc<str>> {
        if self.out.take_if(|(out, _)| *out == id).is_none() {
            return Ok(None);
        }
        let path = settings.paths.get(self.found.len()).and_then(Option::as_deref);
        let missing = || Arc::from(format!("{:?} is not there", path.unwrap_or_default()));
        match read.and_then(|content| content.ok_or_else(missing)) {
            Ok(bytes) => self.found.push(Some(bytes)),
            Err(reason) => {
                self.found.clear();
                self.seen = None;
                self.due = now.plus(settings.poll);
                let first = !std::mem::replace(&mut self.failing, true);
                return if first { Err(reason) } else { Ok(None) };
            }
        }
        while settings.paths.get(self.found.len()).is_some_and(Option::is_none) {
            self.found.push(None);
        }
        if self.found.len() < settings.paths.len() {
            return Ok(None);
        }
        let mut found = self.found.drain(..);
        let mut one = || found.next().flatten();
        let content = Content(std::array::from_fn(|_| one()));
        drop(found);
        self.failing = false;
        let digest = content.digest();
        if digest == self.used {
            (self.seen, self.due) = (None, now.plus(settings.poll));
            return Ok(None);
        }
        if self.seen.replace(digest) != Some(digest) {
            self.due = now.plus(SETTLE.min(settings.poll));
            return Ok(None);
        }
        // Also if it cannot be used: it would not be usable at the next look either.
        (self.used, self.seen, self.due) = (digest, None, now.plus(settings.poll));
        Ok(Some(content))
    }
}
