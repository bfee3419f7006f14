//! The token of a service account (000-21): read from its file at the start and every `poll`, and
//! ahead of the end that it names; given by the program otherwise.
//!
//! What replaces such files (a kubelet, an agent) may be late, and may be caught half-way. So only
//! what is whole is taken: one line of visible characters, not yet expired. Until then the token
//! before it is used on, up to its own end and not beyond: one that is known to be refused is not
//! shown to anybody.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::claims;
use super::files::Look;
use super::said::Said;
use crate::job::{JobOutcome, Poll};
use crate::outcome::Fault;
use crate::secret::Secret;
use crate::time::{Time, Wall};

/// Largest file that is read, in bytes.
pub const MOST: usize = 16 << 10;
/// How long reading it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long past its deadline a look may report.
const LATE: Duration = Duration::from_millis(500);
/// From one look to the next while there is no token, or while it is about to end.
const SOON: Duration = Duration::from_secs(1);
/// The same after a look that was given up.
const AGAIN: Duration = Duration::from_millis(50);

/// Which file, and how often it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    pub(super) path: Arc<str>,
    pub(super) poll: Duration,
}

/// What is wrong with the file of a token. Nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It is not there.
    Missing,
    /// It cannot be read.
    Unreadable,
    /// It was not read in time.
    Late,
    /// Nothing stands in it.
    Empty,
    /// It is no token: not one line, or not of visible ASCII characters.
    Malformed,
    /// It is larger than 16 KiB.
    TooLarge,
    /// It holds a token that has expired.
    Expired,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Missing => "is not there",
            Trouble::Unreadable => "cannot be read",
            Trouble::Late => "was not read in time",
            Trouble::Empty => "is empty",
            Trouble::Malformed => "holds no token (one line of visible ASCII characters)",
            Trouble::TooLarge => "is larger than 16 KiB",
            Trouble::Expired => "holds a token that has expired",
        })
    }
}

impl Trouble {
    /// What a call needs that cannot be made for it.
    #[must_use]
    pub const fn need(self) -> &'static str {
        match self {
            Trouble::Missing => "a service-account token; identity.token_file is not there",
            Trouble::Unreadable => "a service-account token; identity.token_file cannot be read",
            Trouble::Late => "a service-account token; identity.token_file was not read in time",
            Trouble::Empty => "a service-account token; identity.token_file is empty",
            Trouble::Malformed => {
                "a service-account token; identity.token_file does not hold one line of visible \
                 ASCII characters"
            }
            Trouble::TooLarge => "a service-account token; identity.token_file is above 16 KiB",
            Trouble::Expired => "a service-account token that has not expired; give a new one",
        }
    }
}

#[derive(Clone)]
struct Held {
    token: Secret,
    until: Option<Wall>,
    since: Wall,
}

impl Held {
    fn is_over(&self, wall: Wall) -> bool {
        self.until.is_some_and(|until| wall >= until)
    }
}

/// The machine.
#[derive(Clone)]
pub struct Keeper {
    settings: Option<Settings>,
    held: Option<Held>,
    taken: u64,
    out: Option<(u64, Time)>,
    next_id: u64,
    due: Time,
    trouble: Option<Trouble>,
    /// Whether the file was looked at since there is no token.
    looked: bool,
    last_doubt: Option<Time>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.is_some();
        write!(f, "Keeper({:?}, held: {held}, {:?})", self.settings, self.trouble)
    }
}

/// The token in the content of a file.
fn whole(content: &[u8]) -> Result<Secret, Trouble> {
    if content.len() > MOST {
        return Err(Trouble::TooLarge);
    }
    let text = core::str::from_utf8(content).map_err(|_| Trouble::Malformed)?.trim();
    if text.is_empty() {
        return Err(Trouble::Empty);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Trouble::Malformed);
    }
    Secret::new(text).ok_or(Trouble::Empty)
}

impl Keeper {
    /// For the token in a file, or for one that the program gives.
    #[must_use]
    pub fn new(settings: Option<Settings>) -> Keeper {
        Keeper {
            due: if settings.is_some() { Time::ZERO } else { Time::NEVER },
            settings,
            held: None,
            taken: 0,
            out: None,
            next_id: 0,
            trouble: None,
            looked: false,
            last_doubt: None,
        }
    }

    /// Another token, by the program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn give(&mut self, wall: Wall, token: &Secret) -> Result<Option<Said>, Trouble> {
        let token = whole(token.expose().as_bytes())?;
        let until = claims::end(token.expose());
        let held = Held { token, until, since: wall };
        if held.is_over(wall) {
            return Err(Trouble::Expired);
        }
        Ok(self.take(held))
    }

    fn take(&mut self, held: Held) -> Option<Said> {
        self.trouble = None;
        let same = self.held.as_ref().is_some_and(|before| before.token == held.token);
        let until = held.until;
        if same {
            return None;
        }
        self.held = Some(held);
        self.taken = self.taken.saturating_add(1);
        (self.taken > 1).then_some(Said::TokenExchanged { until })
    }

    /// Forgets a token whose end has come.
    pub fn tick(&mut self, now: Time, wall: Wall) -> Option<Said> {
        self.held.take_if(|held| held.is_over(wall))?;
        self.trouble.get_or_insert(Trouble::Expired);
        self.looked = false;
        if self.settings.is_some() {
            self.due = self.due.min(now);
        }
        Some(Said::TokenExpired)
    }

    /// When it has something to do: [`Keeper::tick`] or [`Keeper::poll`].
    #[must_use]
    pub fn due(&self, now: Time, wall: Wall) -> Time {
        let look = self.out.map_or(self.due, |(_, deadline)| deadline.plus(LATE));
        let until = self.held.as_ref().and_then(|held| held.until);
        let end = until.map_or(Time::NEVER, |until| {
            now.plus(Duration::from_secs(until.0.saturating_sub(wall.0)))
        });
        look.min(end)
    }

    /// The next look at the file, if it is due; else when to ask again.
    pub fn poll(&mut self, now: Time, wall: Wall) -> Poll<Look> {
        let Some(settings) = &self.settings else { return Poll::Wait(self.due(now, wall)) };
        if self.out.take_if(|(_, deadline)| now >= deadline.plus(LATE)).is_some() {
            // Lost; whoever waits for it is told.
            self.trouble.get_or_insert(Trouble::Late);
            self.looked = true;
        }
        // At the end of time nothing lies ahead, and everything would be due for ever.
        if self.out.is_some() || now < self.due || now == Time::NEVER {
            return Poll::Wait(self.due(now, wall));
        }
        let (id, deadline) = (self.next_id, now.plus(PATIENCE));
        self.next_id = self.next_id.wrapping_add(1);
        self.out = Some((id, deadline));
        Poll::Run(Box::new(Look { id, path: settings.path.clone(), deadline }))
    }

    /// Takes what came of a look. Yields what is to be said.
    pub fn done(&mut self, now: Time, wall: Wall, id: u64, outcome: JobOutcome) -> Option<Said> {
        self.out.take_if(|(out, _)| *out == id)?;
        let Settings { path, poll } = self.settings.clone()?;
        if matches!(outcome, JobOutcome::Dropped) {
            // Says nothing about the file: whoever asks next looks.
            self.due = now.plus(AGAIN);
            return None;
        }
        self.looked = true;
        let found = content(outcome).and_then(|bytes| whole(&bytes)).and_then(|token| {
            let held = Held { until: claims::end(token.expose()), token, since: wall };
            if held.is_over(wall) { Err(Trouble::Expired) } else { Ok(held) }
        });
        let said = match found {
            Ok(held) => self.take(held),
            Err(trouble) => {
                let first = self.trouble.replace(trouble) != Some(trouble);
                let kept = self.held.is_some();
                first.then_some(Said::TokenFailed { file: path, trouble, kept })
            }
        };
        self.due = now.plus(self.pause(wall, poll));
        said
    }

    /// From this look to the next. A token that ends is looked after more and more often, so that
    /// several looks lie ahead of its end, whatever `poll` is.
    fn pause(&self, wall: Wall, poll: Duration) -> Duration {
        let Some(held) = &self.held else { return poll.min(SOON) };
        let left = held.until.map(|until| until.0.saturating_sub(wall.0));
        left.map_or(poll, |left| poll.min((Duration::from_secs(left) / 4 * 3).max(SOON)))
    }

    /// A service has refused the token: the file is looked at now, once a second at most. Whether
    /// it is.
    pub fn doubt(&mut self, now: Time) -> bool {
        let soon = self.last_doubt.is_some_and(|last| now < last.plus(SOON));
        if soon || self.settings.is_none() {
            return false;
        }
        self.last_doubt = Some(now);
        self.due = self.due.min(now);
        true
    }

    /// The token of the moment.
    #[must_use]
    pub fn token(&self, wall: Wall) -> Option<&Secret> {
        self.held.as_ref().filter(|held| !held.is_over(wall)).map(|held| &held.token)
    }

    /// Since when it is used.
    #[must_use]
    pub fn since(&self) -> Option<Wall> {
        Some(self.held.as_ref()?.since)
    }

    /// When it says that it ends.
    #[must_use]
    pub fn until(&self) -> Option<Wall> {
        self.held.as_ref()?.until
    }

    /// Whether there is none, and the file has not been read since.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.held.is_none() && !self.looked && self.settings.is_some()
    }

    /// What was wrong with the file at the last look.
    #[must_use]
    pub const fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// Tokens taken so far.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }
}

fn content(outcome: JobOutcome) -> Result<Bytes, Trouble> {
    match outcome {
        JobOutcome::Content(Some(bytes)) => Ok(bytes),
        JobOutcome::Content(None) => Err(Trouble::Missing),
        JobOutcome::Failed(Fault::BodyTooLarge) => Err(Trouble::TooLarge),
        JobOutcome::Failed(Fault::Timeout) => Err(Trouble::Late),
        _ => Err(Trouble::Unreadable),
    }
}

#[cfg(test)]
mod tests;
