//! What a client follows in Consul besides services, as jobs: who it is in the mesh
//! ([`Membership`]), the defaults that operators have written for services and proxies
//! ([`Defaults`]), and the files of TLS towards the agents ([`Files`]). Each is a machine of its own
//! and is there only where it is switched on; this joins them to the codec, as the
//! [registry](super::registry) does for registrations. A driver carries the jobs out, brings back
//! what came of them, and puts in force what it is told.
//!
//! Of several agents one is asked at a time, the next one when it does not answer.

pub mod defaults;
mod news;

use std::sync::Arc;
use std::time::Duration;

pub use self::defaults::Defaults;
pub use self::news::{News, Said};
use super::ask::{LATE, Trouble};
use super::connect::membership::{self, InForce, Membership, Part};
use super::entries::{self, Suggestion};
use super::error::ConsulError;
use super::settings::{Settings, Tokens};
use super::wire::{Api, Cursor, Head};
use super::{connect, watch};
use crate::config::{ConfigError, ConsulConfig};
use crate::identity::files::{self, Files};
use crate::job::{Job, JobId, JobOutcome, Poll, Work, mark};
use crate::notice::{Event, Notices};
use crate::outcome::Fault;
use crate::rng::Pcg32;
use crate::time::{Time, Wall};

/// Marks the numbers of its jobs, beside the mark of the registry.
const OWN: u64 = mark::FOLLOWED;
const MARKS: u64 = mark::ALL;

/// The settings of all that is followed.
#[derive(Clone, Debug)]
pub struct Rules {
    consul: Settings,
    tokens: Tokens,
    membership: Option<membership::Settings>,
    defaults: Option<watch::Settings>,
    files: Option<files::Settings>,
}

impl Rules {
    /// Checks `config`, which stands at `path`, and compiles it; `variable` reads an environment
    /// variable, for tokens. `None`: nothing is followed.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn of(
        config: &ConsulConfig,
        path: &str,
        variable: impl FnMut(&str) -> Option<String>,
    ) -> Result<Option<Rules>, ConfigError> {
        let consul = Settings::of(config, path)?;
        let tokens = Tokens::of(&consul, variable)?;
        let field = format!("{path}.connect");
        let watched = watch::Settings::of(&config.watch, &format!("{path}.watch"))?;
        let membership = membership::Settings::of(&config.connect, watched, &field)?;
        let defaults = config.defaults.then_some(watched);
        let files = match consul.over_tls() {
            true => Some(config.tls.files(&format!("{path}.tls"))?),
            false => None,
        };
        let any = membership.is_some() || defaults.is_some() || files.is_some();
        Ok(any.then_some(Rules { consul, tokens, membership, defaults, files }))
    }
}

/// Why something could not be read, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What an agent or the system said.
    pub reason: Arc<str>,
    /// Time until the next try.
    pub retry_in: Duration,
}

#[derive(Clone, Debug)]
enum What {
    Membership(membership::Asked),
    Defaults(defaults::Asked),
    Files(u64),
}

#[derive(Clone, Debug)]
struct Out {
    id: JobId,
    deadline: Time,
    agent: usize,
    what: What,
}

/// All that is followed.
///
/// ```
/// use origin_core::config::ConsulConfig;
/// use origin_core::consul::followed::{Followed, Rules};
/// use origin_core::job::Poll;
/// use origin_core::{Time, Wall};
///
/// let config = ConsulConfig { defaults: true, ..ConsulConfig::at("http://127.0.0.1:8500") };
/// let rules = Rules::of(&config, "discovery.consul", |_| None)?.unwrap();
/// let now = Time::from_millis(1);
/// let mut followed = Followed::new(now, rules, None, 42);
/// let Poll::Run(job) = followed.poll(now, Wall(1_800_000_000)) else { panic!() };
/// assert!(job.http().unwrap().uri().path().ends_with("/v1/config/service-defaults"));
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Followed {
    rules: Rules,
    membership: Option<Membership>,
    defaults: Option<Defaults>,
    files: Option<Files>,
    out: Vec<Out>,
    agent: usize,
    next: u64,
    rng: Pcg32,
    notices: Notices,
}

impl Followed {
    /// What `rules` say is followed from now on; `used` is the digest of the files of TLS that
    /// are in use ([`files::Content::digest`]).
    #[must_use]
    pub fn new(now: Time, rules: Rules, used: Option<u64>, seed: u64) -> Followed {
        let files = rules.files.as_ref().map(|set| Files::new(now, used.unwrap_or(0), set));
        Followed {
            membership: rules.membership.as_ref().map(Membership::new),
            defaults: rules.defaults.as_ref().map(Defaults::new),
            files,
            rules,
            out: Vec::new(),
            agent: 0,
            next: 0,
            rng: Pcg32::new(seed, 0x666f_6c6c_6f77_6564),
            notices: Notices::new(None),
        }
    }

    /// Whether a job of this number is one of its own.
    #[must_use]
    pub const fn owns(id: JobId) -> bool {
        id.0 & MARKS == OWN
    }

    /// Looks at the calendar; to be called before [`Followed::poll`].
    pub fn elapsed(&mut self, now: Time, wall: Wall) -> News {
        let mut news = News::default();
        if let (Some(machine), Some(set)) = (&mut self.membership, &self.rules.membership) {
            news.certificates = machine.tick(now, wall, set);
        }
        self.hear();
        news
    }

    /// The next exchange for a call, which can do without all but certificates of the mesh, and
    /// cannot wait for changes.
    pub fn poll_missing(&mut self, now: Time) -> Poll {
        self.out.retain(|out| now < out.deadline.plus(LATE));
        let due = match (&mut self.membership, &self.rules.membership) {
            (Some(machine), Some(set)) => machine.poll_missing(now, set, &mut self.rng),
            _ => Poll::Wait(Time::NEVER),
        };
        match due {
            Poll::Run(asked) => {
                self.issue(now, What::Membership(*asked), asked.query.deadline, None)
            }
            Poll::Wait(at) => Poll::Wait(at),
        }
    }

    /// The next exchange, if one is due; else when to ask again.
    pub fn poll(&mut self, now: Time, wall: Wall) -> Poll {
        self.out.retain(|out| now < out.deadline.plus(LATE));
        let (rules, rng) = (&self.rules, &mut self.rng);
        let mut next = Time::NEVER;
        let mut due: Option<(What, Time)> = None;
        if let (Some(machine), Some(set)) = (&mut self.membership, &rules.membership) {
            match machine.poll(now, wall, set, rng) {
                Poll::Run(asked) => due = Some((What::Membership(*asked), asked.query.deadline)),
                Poll::Wait(at) => next = next.min(at),
            }
        }
        if let (None, Some(machine), Some(set)) = (&due, &mut self.defaults, &rules.defaults) {
            match machine.poll(now, set, rng) {
                Poll::Run(asked) => due = Some((What::Defaults(*asked), asked.query.deadline)),
                Poll::Wait(at) => next = next.min(at),
            }
        }
        let mut path = None;
        if let (None, Some(machine), Some(set)) = (&due, &mut self.files, &rules.files) {
            match machine.poll(now, set) {
                Poll::Run(look) => {
                    due = Some((What::Files(look.id), look.deadline));
                    path = Some(look.path);
                }
                Poll::Wait(at) => next = next.min(at),
            }
        }
        match due {
            Some((what, deadline)) => self.issue(now, what, deadline, path),
            None => Poll::Wait(next),
        }
    }

    fn issue(&mut self, now: Time, what: What, deadline: Time, path: Option<Arc<str>>) -> Poll {
        let work = match (&what, path) {
            (_, Some(path)) => Ok(Work::Read { path, most: files::MOST }),
            (What::Membership(asked), None) => self.certificates(asked),
            (What::Defaults(asked), None) => self.entries(asked),
            (What::Files(_), None) => Err(ConsulError::field("path", "there is none")),
        };
        let id = JobId(OWN | self.next);
        self.next = (self.next + 1) & !MARKS;
        let out = Out { id, deadline, agent: self.agent, what };
        match work {
            Ok(work) => {
                self.out.push(out);
                Poll::Run(Box::new(Job { id, work, deadline }))
            }
            // Cannot happen with settings that were checked; its lease ends by itself.
            Err(_) => Poll::Wait(deadline.plus(LATE).max(now)),
        }
    }

    fn api(&self) -> Api<'_> {
        Api::new(&self.rules.consul, &self.rules.tokens).at(self.agent)
    }

    fn certificates(&self, asked: &membership::Asked) -> Result<Work, ConsulError> {
        let cursor = cursor(asked.query);
        let request = match (asked.part, &self.rules.membership) {
            (Part::Leaf, Some(set)) => connect::leaf(&self.api(), set.service(), cursor)?,
            _ => connect::roots(&self.api(), cursor)?,
        };
        Ok(Work::Http { request, max_body: self.rules.consul.max_bytes() })
    }

    fn entries(&self, asked: &defaults::Asked) -> Result<Work, ConsulError> {
        let request = entries::list(&self.api(), asked.kind, cursor(asked.query))?;
        Ok(Work::Http { request, max_body: self.rules.consul.max_bytes() })
    }

    /// Takes what came of a job, and yields what has changed by it.
    pub fn done(&mut self, now: Time, wall: Wall, id: JobId, outcome: JobOutcome) -> News {
        let Some(at) = self.out.iter().position(|out| out.id == id) else {
            return News::default();
        };
        let Out { what, agent, .. } = self.out.swap_remove(at);
        // A wait that ended without an answer says nothing about the agent.
        let gone = matches!(&outcome, JobOutcome::Failed(fault) if *fault != Fault::Timeout);
        if gone && agent == self.agent && !matches!(what, What::Files(_)) {
            let agents = self.rules.consul.agents();
            self.agent = self.agent.wrapping_add(1).checked_rem(agents).unwrap_or(0);
        }
        let mut news = News::default();
        match what {
            What::Membership(asked) => {
                let answer = self.read_certificates(&asked, &outcome);
                if let (Some(machine), Some(set)) = (&mut self.membership, &self.rules.membership) {
                    news.certificates = machine.done(now, wall, &asked, answer, set, &mut self.rng);
                }
            }
            What::Defaults(asked) => {
                let answer = self.read_entries(&outcome);
                if let (Some(machine), Some(set)) = (&mut self.defaults, &self.rules.defaults) {
                    match machine.done(now, &asked, answer, set, &mut self.rng) {
                        Ok(changed) => news.defaults = changed,
                        Err(Failure { reason, retry_in }) => {
                            self.say(now, Said::DefaultsFailed { reason, retry_in });
                        }
                    }
                }
            }
            What::Files(look) => {
                if let (Some(machine), Some(set)) = (&mut self.files, &self.rules.files) {
                    match machine.done(now, look, files::read(outcome), set) {
                        Ok(content) => news.files = content,
                        Err(reason) => self.say(now, Said::FilesFailed { reason }),
                    }
                }
            }
        }
        self.hear();
        news
    }

    fn read_certificates(
        &self,
        asked: &membership::Asked,
        outcome: &JobOutcome,
    ) -> membership::Answer {
        use membership::Answer;
        let (status, index, body) = match answered(outcome) {
            Ok(answered) => answered,
            Err(None) => return Answer::Silence,
            Err(Some((trouble, reason))) => return Answer::Failed(trouble, reason),
        };
        let consul = &self.rules.consul;
        let read = match asked.part {
            Part::Roots => {
                connect::parse_roots(consul, status, body).map(|roots| Answer::Roots(index, roots))
            }
            Part::Leaf => {
                connect::parse_leaf(consul, status, body).map(|leaf| Answer::Leaf(index, leaf))
            }
        };
        read.unwrap_or_else(|error| Answer::Failed(trouble(&error), error.to_string().into()))
    }

    fn read_entries(&self, outcome: &JobOutcome) -> defaults::Answer {
        use defaults::Answer;
        match answered(outcome) {
            // No entry of the kind, in some versions.
            Ok((404, index, _)) => Answer::Entries(index, Vec::new()),
            Ok((status, index, body)) => {
                let read = entries::parse_list(&self.rules.consul, status, body);
                read.map_or_else(
                    |error| Answer::Failed(trouble(&error), error.to_string().into()),
                    |entries| Answer::Entries(index, entries),
                )
            }
            Err(None) => Answer::Silence,
            Err(Some((trouble, reason))) => Answer::Failed(trouble, reason),
        }
    }

    /// Who this client is in the mesh, now; `None`: nobody yet, or not any more.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.membership.as_ref()?.in_force().cloned()
    }

    /// While it is nobody: why, if that is known.
    #[must_use]
    pub fn trouble(&self) -> Option<&membership::Cause> {
        self.membership.as_ref()?.trouble()
    }

    /// Whether it follows certificates of the mesh.
    #[must_use]
    pub const fn is_member(&self) -> bool {
        self.membership.is_some()
    }

    /// Certificates that were to be put in force cannot be used.
    pub fn refused(&mut self, now: Time, reason: Arc<str>) {
        if let Some(membership) = &mut self.membership {
            membership.refused(now, reason);
        }
        self.hear();
    }

    /// What the defaults in Consul mean for `service`; nothing, where they are not followed.
    #[must_use]
    pub fn suggestion(&self, service: &str) -> Suggestion {
        self.defaults.as_ref().map_or_else(Suggestion::default, |all| all.suggestion(service))
    }

    /// What they mean for a client as a whole: what all proxies are told.
    #[must_use]
    pub fn suggestion_for_all(&self) -> Suggestion {
        // No service is called this.
        self.suggestion("")
    }

    /// Tells operators something that only a driver knows.
    pub fn say(&mut self, now: Time, said: Said) {
        self.notices.push(now, Event::Consul { what: said });
    }

    /// What happened, oldest first.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }

    fn hear(&mut self) {
        for (at, said) in self.membership.iter_mut().flat_map(Membership::take_said) {
            self.notices.push(at, Event::Consul { what: Said::Connect(said) });
        }
    }
}

fn cursor(query: watch::Query) -> Option<Cursor> {
    query.index.map(|index| Cursor { index, wait: query.wait })
}

/// A reply's status, index and body; else why there is none, `None` for the end of a wait.
#[allow(clippy::type_complexity)] // said in words above
fn answered(
    outcome: &JobOutcome,
) -> Result<(u16, Option<u64>, &[u8]), Option<(Trouble, Arc<str>)>> {
    match outcome {
        JobOutcome::Answered { status, headers, body } => {
            Ok((*status, Head::of(headers).index, body))
        }
        JobOutcome::Failed(Fault::Timeout) => Err(None),
        JobOutcome::Failed(fault) => Err(Some((Trouble::Fault(*fault), fault.text().into()))),
        JobOutcome::Dropped => Err(Some((Trouble::Dropped, "given up by the driver".into()))),
        _ => Err(Some((Trouble::Malformed, "the answer is to another question".into()))),
    }
}

fn trouble(error: &ConsulError) -> Trouble {
    super::registry::trouble(error)
}

#[cfg(test)]
mod tests;
