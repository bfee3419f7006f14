//! The PEM files of an identity (authorities, certificate, key), read again now and then (003-47): a
//! certificate that somebody renews on disk is used without a restart. One machine for whatever has
//! such files: the client itself ([`Desk`](super::Desk)) and Consul's agents
//! ([`followed`](crate::consul::followed)). Whether the content is any good is for the driver to say.
//!
//! Three files are never replaced in one instant, and a key that does not belong to its certificate
//! is of no use to anybody. So all are read in turn, and what differs from what is in use counts
//! when a second look finds the same. What cannot be read changes nothing and is told once.
//!
//! It holds the content of a key between looks, so it is neither printed nor serialised.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::ConfigError;
use crate::config::field::{At, WEEK};
use crate::job::JobOutcome;
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

/// Shortest span between two looks.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// Which files, and how often they are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    paths: [Option<Arc<str>>; 3],
    poll: Duration,
}

impl Settings {
    /// The files of the authorities, the certificate and the key, each empty for none, as they
    /// stand at `path`, and the span between two looks, 100 ms to 7 days.
    ///
    /// # Errors
    /// The first field that cannot be meant: `poll`, or `cert` without `key` and the reverse.
    pub fn of(
        [ca, cert, key]: [&str; 3],
        poll: Duration,
        path: &str,
    ) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("poll", poll, SHORTEST..=WEEK)?;
        if cert.is_empty() != key.is_empty() {
            let reason = "a certificate needs its key, and a key its certificate";
            return Err(at.refuse("cert", reason));
        }
        let path = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        Ok(Settings { paths: [path(ca), path(cert), path(key)], poll })
    }

    /// Whether there is any file.
    #[must_use]
    pub fn any(&self) -> bool {
        self.paths.iter().any(Option::is_some)
    }
}

/// The content of the files; `None` for one that is not configured.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Of the authority.
    pub ca: Option<Bytes>,
    /// The certificate.
    pub cert: Option<Bytes>,
    /// Its key.
    pub key: Option<Bytes>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(\u{2026})")
    }
}

impl Content {
    /// A number that differs when the content does.
    #[must_use]
    pub fn digest(&self) -> u64 {
        [&self.ca, &self.cert, &self.key].into_iter().fold(0, |sum: u64, part| {
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
pub struct Files {
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

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({:016x})", self.used)
    }
}

impl Files {
    /// For content that is in use since now, by its digest.
    #[must_use]
    pub fn new(now: Time, used: u64, settings: &Settings) -> Files {
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
    pub fn poll(&mut self, now: Time, settings: &Settings) -> crate::job::Poll<Look> {
        use crate::job::Poll;
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
        settings: &Settings,
    ) -> Result<Option<Content>, Arc<str>> {
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
        let content = Content { ca: one(), cert: one(), key: one() };
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

#[cfg(test)]
mod tests;
