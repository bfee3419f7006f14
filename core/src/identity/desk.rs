//! The desk: what keeps an identity up to date, as jobs. It joins the machines that say when a file
//! is read to the jobs that read it, and it is the one place where the token is kept.
//!
//! Nothing here is serialised, and `Debug` shows neither a token nor a key.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::certificate::Leaf;
use super::expiry::Expiry;
use super::files::{self, Content, Files};
use super::said::{Said, TokenView, View};
use super::token::{self, Keeper, Trouble};
use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, IdentityConfig, check_service_name};
use crate::job::{Job, JobId, JobOutcome, Poll, Work, mark};
use crate::notice::{Event, Notices};
use crate::ops::secrets::SERVICE as SECRETS;
use crate::secret::Secret;
use crate::time::{Time, Wall};

/// Marks the numbers of its jobs: those of registrations, of what is followed in Consul and of
/// Vault have one of the three bits above.
const OWN: u64 = mark::IDENTITY;
const MARKS: u64 = mark::ALL;

/// A checked [`IdentityConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    files: Option<files::Settings>,
    token: Option<token::Settings>,
    services: BTreeSet<Arc<str>>,
    /// In seconds.
    warning: u64,
}

impl Default for Rules {
    fn default() -> Self {
        let IdentityConfig { warning, .. } = IdentityConfig::default();
        let (files, token, services) = (None, None, BTreeSet::new());
        Rules { files, token, services, warning: warning.as_secs() }
    }
}

impl Rules {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn of(config: &IdentityConfig, path: &str) -> Result<Rules, ConfigError> {
        let at = At(path);
        let IdentityConfig { ca, cert, key, token_file, services, poll, warning } = config;
        let files = files::Settings::of([ca, cert, key], *poll, path)?;
        at.within("warning", *warning, std::time::Duration::from_secs(1)..=WEEK)?;
        let mut named = BTreeSet::new();
        for (index, name) in services.iter().enumerate() {
            let field = format!("services[{index}]");
            check_service_name(name).map_err(|e| at.refuse(&field, e.reason))?;
            if name == SECRETS {
                let reason = "Vault takes a token of its own (`vault`), and would take this for it";
                return Err(at.refuse(&field, reason));
            }
            named.insert(Arc::from(name.as_str()));
        }
        if !token_file.is_empty() && named.is_empty() {
            let reason = "is empty: nobody would be sent the token of `token_file`";
            return Err(at.refuse("services", reason));
        }
        let path = (!token_file.is_empty()).then(|| Arc::from(token_file.as_str()));
        Ok(Rules {
            files: Some(files).filter(files::Settings::any),
            token: path.map(|path| token::Settings { path, poll: *poll }),
            services: named,
            warning: warning.as_secs(),
        })
    }

    /// Whether `service` is sent the token.
    #[must_use]
    pub fn names(&self, service: &str) -> bool {
        self.services.contains(service)
    }

    /// Whether any service is.
    #[must_use]
    pub fn names_any(&self) -> bool {
        !self.services.is_empty()
    }

    /// Whether the token is in a file.
    #[must_use]
    pub const fn reads_token(&self) -> bool {
        self.token.is_some()
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Files(u64),
    Token(u64),
}

/// The desk. See the [module](super).
#[derive(Clone)]
pub struct Desk {
    rules: Rules,
    files: Option<Files>,
    token: Keeper,
    expiry: Expiry,
    exchanged: u64,
    out: Vec<(JobId, What)>,
    next: u64,
    notices: Notices,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("rules", &self.rules)
            .field("leaf", &self.expiry.leaf())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// For an identity that is in force since now: the digest of its files ([`Content::digest`]),
    /// and its certificate.
    #[must_use]
    pub fn new(now: Time, rules: Rules, used: Option<u64>, leaf: Option<Leaf>) -> Desk {
        Desk {
            files: rules.files.as_ref().map(|set| Files::new(now, used.unwrap_or(0), set)),
            token: Keeper::new(rules.token.clone()),
            expiry: Expiry::new(leaf),
            rules,
            exchanged: 0,
            out: Vec::new(),
            next: 0,
            notices: Notices::new(None),
        }
    }

    /// Whether a job of this number is one of its own.
    #[must_use]
    pub const fn owns(id: JobId) -> bool {
        id.0 & MARKS == OWN
    }

    /// Whether `service` is sent the token.
    #[must_use]
    pub fn names(&self, service: &str) -> bool {
        self.rules.names(service)
    }

    /// The token, by the program.
    ///
    /// # Errors
    /// What is wrong with it; the one before is used on.
    pub fn give(&mut self, now: Time, wall: Wall, token: &Secret) -> Result<(), Trouble> {
        let said = self.token.give(wall, token)?;
        self.say(now, said);
        Ok(())
    }

    /// Looks at the calendar. [`Desk::poll`] does it, too.
    pub fn tick(&mut self, now: Time, wall: Wall) {
        let said = self.expiry.tick(wall, self.rules.warning);
        self.say(now, said);
        let said = self.token.tick(now, wall);
        self.say(now, said);
    }

    /// When it has something to do; nothing before.
    #[must_use]
    pub fn due(&self, now: Time, wall: Wall) -> Time {
        let files = self.files.as_ref().map_or(Time::NEVER, Files::due);
        let expiry = self.expiry.due(now, wall, self.rules.warning);
        files.min(expiry).min(self.token.due(now, wall))
    }

    /// The next file to read, if one is due; else when to ask again.
    pub fn poll(&mut self, now: Time, wall: Wall) -> Poll {
        self.tick(now, wall);
        // Calls wait for the token, nobody waits for the files.
        let wait = match self.token.poll(now, wall) {
            Poll::Run(look) => return self.issue(*look, token::MOST, What::Token),
            Poll::Wait(at) => at,
        };
        let wait = match (&mut self.files, &self.rules.files) {
            (Some(machine), Some(set)) => match machine.poll(now, set) {
                Poll::Run(look) => return self.issue(*look, files::MOST, What::Files),
                Poll::Wait(at) => wait.min(at),
            },
            _ => wait,
        };
        Poll::Wait(wait.min(self.expiry.due(now, wall, self.rules.warning)))
    }

    fn issue(&mut self, look: files::Look, most: usize, what: fn(u64) -> What) -> Poll {
        let files::Look { id: look, path, deadline } = look;
        let id = JobId(OWN | self.next);
        self.next = (self.next + 1) & !MARKS;
        let what = what(look);
        // One of each is out at a time; one that was lost is told by its number.
        self.out.retain(|(_, out)| core::mem::discriminant(out) != core::mem::discriminant(&what));
        self.out.push((id, what));
        Poll::Run(Box::new(Job { id, work: Work::Read { path, most }, deadline }))
    }

    /// Takes what came of a job. Yields files that have changed and hold still: to be put in force,
    /// which is told by [`Desk::in_force`] or [`Desk::refused`].
    #[must_use]
    pub fn done(
        &mut self,
        now: Time,
        wall: Wall,
        id: JobId,
        outcome: JobOutcome,
    ) -> Option<Content> {
        let at = self.out.iter().position(|(out, _)| *out == id)?;
        match self.out.swap_remove(at).1 {
            What::Token(look) => {
                let said = self.token.done(now, wall, look, outcome);
                self.say(now, said);
                None
            }
            What::Files(look) => {
                let (machine, set) = (self.files.as_mut()?, self.rules.files.as_ref()?);
                match machine.done(now, look, files::read(outcome), set) {
                    Ok(content) => content,
                    Err(reason) => {
                        self.say(now, Some(Said::FilesFailed { reason }));
                        None
                    }
                }
            }
        }
    }

    /// Another certificate is in force, or none, or only other authorities.
    pub fn in_force(&mut self, now: Time, wall: Wall, leaf: Option<Leaf>) {
        self.exchanged = self.exchanged.saturating_add(1);
        if leaf.as_ref() != self.expiry.leaf() {
            self.expiry = Expiry::new(leaf.clone());
        }
        self.say(now, Some(Said::Exchanged { leaf }));
        self.tick(now, wall);
    }

    /// Something else is expected of this many targets.
    pub fn expects(&mut self, now: Time, targets: usize) {
        self.say(now, Some(Said::Expected { targets }));
    }

    /// What was to be put in force cannot be used.
    pub fn refused(&mut self, now: Time, reason: Arc<str>) {
        self.say(now, Some(Said::FilesRefused { reason }));
    }

    /// `Authorization` for an attempt on a service that is named, with the token of the moment.
    #[must_use]
    pub fn bearer(&self, wall: Wall) -> Option<HeaderValue> {
        self.token.token(wall)?.bearer()
    }

    /// Whether there is a token at this moment.
    #[must_use]
    pub fn holds_token(&self, wall: Wall) -> bool {
        self.token.token(wall).is_some()
    }

    /// Whether there is none yet and its file has not been read: calls wait.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.token.is_awaited()
    }

    /// What a call needs that cannot be made for want of a token, and how to give it.
    #[must_use]
    pub fn need(&self) -> &'static str {
        match self.token.trouble() {
            Some(trouble) => trouble.need(),
            None if self.is_awaited() => Trouble::Late.need(),
            None => "a service-account token; set identity.token_file or give one to the builder",
        }
    }

    /// A service has refused the token: its file is looked at now. Whether it is.
    pub fn doubt(&mut self, now: Time) -> bool {
        self.token.doubt(now)
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self, wall: Wall) -> View {
        let leaf = self.expiry.leaf();
        let file = self.rules.token.as_ref().map(|token| token.path.clone());
        let has = file.is_some() || self.token.taken() > 0;
        View {
            certificate: leaf.cloned(),
            expired: leaf.is_some_and(|leaf| wall > leaf.not_after),
            exchanged: self.exchanged,
            token: has.then(|| TokenView {
                file,
                held: self.token.token(wall).is_some(),
                since: self.token.since(),
                until: self.token.until(),
                taken: self.token.taken(),
                trouble: self.token.trouble(),
                services: self.rules.services.iter().cloned().collect(),
            }),
        }
    }

    /// What happened, oldest first.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }

    fn say(&mut self, now: Time, said: Option<Said>) {
        if let Some(what) = said {
            self.notices.push(now, Event::Identity { what });
        }
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
