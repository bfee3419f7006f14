//! Files kept rendered (003-17): when a template is read, asked for, rendered and compared, and
//! when its file is written.
//!
//! consul-template is the model, of which two rules are kept: a file is written as a whole and only
//! when its content would differ, so that whoever watches it is not woken for nothing; and while
//! anything is missing (Consul does not answer, a key is not there, the template was damaged by an
//! edit) the old file stays. It differs in asking once per period (60 s) instead of watching each
//! service and key: a rendering is for programs that are reloaded, and a poll has no state that
//! could be wrong. The template and the file are read anew each time: an edit of the one counts,
//! and an edit of the other is undone.
//!
//! One exchange a file at a time, four files at once, 4 096 questions and `max_bytes` of answers a
//! rendering. After a failure it is tried again after 5, 20, 45 … 180 s, or after the period if
//! that is shorter. While the split-brain check fails nothing is rendered. Off without
//! `discovery.consul.templates`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::gather::{self, Ask, MOST_ASKED};
use super::{BadTemplate, Data, LARGEST_OUTPUT, LARGEST_TEMPLATE, Template, Unrendered};
use crate::config::ConsulConfig;
use crate::consul::settings::{Settings as Consul, Tokens};
use crate::consul::wire::Api;
use crate::job::{Job, JobId, JobOutcome, Poll, Work};
use crate::outcome::Fault;
use crate::time::{Rounded, Time};

/// Files that are rendered at the same time.
const ABREAST: usize = 4;
/// How long a file may take to be read or written.
const FILES: Duration = Duration::from_secs(10);
/// How long past its deadline a job may report.
const LATE: Duration = Duration::from_millis(500);

/// The files of a checked configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct File {
    source: Arc<str>,
    destination: Arc<str>,
    period: Duration,
}

impl Settings {
    /// The files of `config`, which [`crate::consul::Settings::of`] has checked.
    #[must_use]
    pub fn of(config: &ConsulConfig) -> Settings {
        let file = |one: &crate::config::consul::TemplateConfig| File {
            source: one.source.as_str().into(),
            destination: one.destination.as_str().into(),
            period: one.period.max(Duration::from_secs(1)),
        };
        Settings { files: config.templates.iter().map(file).collect() }
    }
}

/// Why a file is not rendered. Nothing of it stands here but paths, and of the template the place
/// that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// There is no template.
    #[error("the template is not there")]
    NoTemplate,
    /// A file cannot be read or written, as the system says it.
    #[error("{0}")]
    File(Arc<str>),
    /// Reading or writing took too long, or the file is too large.
    #[error("a file cannot be read or written: {0}")]
    Fault(Fault),
    /// The template is no text.
    #[error("the template is not UTF-8")]
    NotText,
    /// The template was refused.
    #[error("the template was refused: {0}")]
    Template(BadTemplate),
    /// It needs a key that does not exist.
    #[error("there is no key {0:?}")]
    NoKey(Arc<str>),
    /// A key that is no text.
    #[error("the key {0:?} is not UTF-8")]
    KeyNotText(Arc<str>),
    /// It asks for more than is asked or written.
    #[error("it needs more than 4096 questions, or more bytes than are read or written")]
    TooMuch,
    /// Consul does not answer, or not usefully.
    #[error("consul: {0}")]
    Consul(Arc<str>),
}

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was written.
    Written {
        /// The file.
        file: Arc<str>,
        /// Its size.
        bytes: usize,
    },
    /// It cannot be rendered, and stays as it is. Said once for each reason.
    Failed {
        /// The file.
        file: Arc<str>,
        /// Why.
        why: Failure,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// It can be rendered again, to what is there.
    Recovered {
        /// The file.
        file: Arc<str>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Written { file, bytes } => write!(f, "{file} rendered: {bytes} bytes"),
            Event::Failed { file, why, retry_in } => {
                write!(
                    f,
                    "{file} cannot be rendered and stays: {why}; next try in {retry_in}",
                    retry_in = Rounded(*retry_in)
                )
            }
            Event::Recovered { file } => write!(f, "{file} can be rendered again; it is the same"),
        }
    }
}

/// What is done next for a file.
#[derive(Clone, Default)]
enum Step {
    #[default]
    Idle,
    Read,
    Gather(Box<Gather>),
    Compare(Bytes),
    Write(Bytes),
}

#[derive(Clone)]
struct Gather {
    template: Template,
    data: Data,
    open: VecDeque<Ask>,
    asked: usize,
    bytes: usize,
}

/// What is gathered and rendered may be secret.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Idle => "Idle",
            Step::Read => "Read",
            Step::Gather(_) => "Gather",
            Step::Compare(_) => "Compare",
            Step::Write(_) => "Write",
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Slot {
    due: Time,
    step: Step,
    /// The job that is out, and when it counts as lost.
    out: Option<(JobId, Time)>,
    failures: u32,
    why: Option<Failure>,
}

/// The files of a client, as jobs.
#[derive(Clone, Debug)]
pub struct Renderer {
    slots: Vec<Slot>,
    /// Which agent is asked: the next one after a failure.
    agent: usize,
    mark: u64,
    next: u64,
}

impl Renderer {
    /// Nothing is rendered yet. Its jobs have numbers with the bits of `mark`.
    #[must_use]
    pub(crate) fn new(settings: &Settings, mark: u64) -> Renderer {
        let slots = settings.files.iter().map(|_| Slot::default()).collect();
        Renderer { slots, agent: 0, mark, next: 0 }
    }

    /// The next exchange, if one is due. `held`: what Consul says is not to be believed now.
    pub fn poll(
        &mut self,
        now: Time,
        held: bool,
        settings: &Settings,
        consul: &Consul,
        tokens: &Tokens,
    ) -> Poll {
        let mut next = Time::NEVER;
        if held {
            for slot in &mut self.slots {
                (slot.step, slot.out) = (Step::Idle, None);
            }
            return Poll::Wait(next);
        }
        let busy = |slot: &Slot| !matches!(slot.step, Step::Idle);
        let mut active = self.slots.iter().filter(|slot| busy(slot)).count();
        for (at, file) in settings.files.iter().enumerate() {
            let Some(slot) = self.slots.get_mut(at) else { break };
            if let Some((_, ends)) = slot.out {
                if now < ends {
                    next = next.min(ends);
                    continue;
                }
                // Nobody brings it back; not the agent's fault.
                (slot.step, slot.out, slot.due) = (Step::Idle, None, now);
                active = active.saturating_sub(1);
            }
            if !busy(slot) {
                // A clock that went back must not stretch a wait.
                slot.due = slot.due.min(now.plus(file.period));
                if now < slot.due {
                    next = next.min(slot.due);
                    continue;
                }
                if active >= ABREAST {
                    continue;
                }
                slot.step = Step::Read;
            }
            let api = Api::new(consul, tokens).at(self.agent);
            let made = match &slot.step {
                Step::Idle => continue,
                Step::Read => {
                    Ok((Work::Read { path: file.source.clone(), most: LARGEST_TEMPLATE }, FILES))
                }
                Step::Compare(_) => {
                    Ok((Work::Read { path: file.destination.clone(), most: LARGEST_OUTPUT }, FILES))
                }
                Step::Write(content) => {
                    let (path, content) = (file.destination.clone(), content.clone());
                    Ok((Work::Write { path, content }, FILES))
                }
                Step::Gather(gather) => match gather.open.front() {
                    Some(ask) => gather::request(&api, ask).map(|request| {
                        let max_body = consul.max_bytes();
                        (Work::Http { request, max_body }, consul.timeout())
                    }),
                    None => continue,
                },
            };
            match made {
                Ok((work, within)) => {
                    let id = JobId(self.mark | self.next);
                    self.next = (self.next + 1) & !self.mark;
                    let deadline = now.plus(within);
                    slot.out = Some((id, deadline.plus(LATE)));
                    return Poll::Run(Box::new(Job { id, work, deadline }));
                }
                // What the parser lets through can be asked; if not, rarely.
                Err(_) => {
                    (slot.step, slot.due) = (Step::Idle, now.plus(file.period));
                    next = next.min(slot.due);
                }
            }
        }
        Poll::Wait(next)
    }

    /// Takes what came of a job. One that is not expected any more changes nothing.
    pub fn done(
        &mut self,
        now: Time,
        id: JobId,
        outcome: JobOutcome,
        settings: &Settings,
        consul: &Consul,
    ) -> Option<Event> {
        let is = |slot: &Slot| slot.out.is_some_and(|(out, _)| out == id);
        let at = self.slots.iter().position(is)?;
        let (slot, file) = (self.slots.get_mut(at)?, settings.files.get(at)?);
        slot.out = None;
        if matches!(outcome, JobOutcome::Dropped) {
            return None; // the same again
        }
        let asks = matches!(slot.step, Step::Gather(_));
        match slot.advance(outcome, consul) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                (slot.due, slot.failures) = (now.plus(file.period), 0);
                let file = file.destination.clone();
                match (bytes, slot.why.take()) {
                    (Some(bytes), _) => Some(Event::Written { file, bytes }),
                    (None, Some(_)) => Some(Event::Recovered { file }),
                    (None, None) => None,
                }
            }
            Err(why) => {
                if asks && matches!(why, Failure::Consul(_)) {
                    self.agent = self.agent.wrapping_add(1);
                }
                slot.failures = slot.failures.saturating_add(1);
                let step = Duration::from_secs(5).saturating_mul(slot.failures.min(6).pow(2));
                let retry_in = step.min(file.period);
                slot.due = now.plus(retry_in);
                let new = slot.why.as_ref() != Some(&why);
                slot.why = Some(why.clone());
                new.then(|| Event::Failed { file: file.destination.clone(), why, retry_in })
            }
        }
    }
}

impl Slot {
    /// One step on. `Some`: it is over, with the bytes that were written, if any were. After an
    /// error it is over too.
    fn advance(
        &mut self,
        outcome: JobOutcome,
        consul: &Consul,
    ) -> Result<Option<Option<usize>>, Failure> {
        match (std::mem::take(&mut self.step), outcome) {
            (Step::Read, JobOutcome::Content(None)) => Err(Failure::NoTemplate),
            (Step::Read, JobOutcome::Content(Some(bytes))) => {
                let text = std::str::from_utf8(&bytes).map_err(|_| Failure::NotText)?;
                let template = Template::parse(text).map_err(Failure::Template)?;
                let (data, open) = (Data::default(), VecDeque::new());
                self.render(Box::new(Gather { template, data, open, asked: 0, bytes: 0 }))
            }
            (Step::Gather(mut gather), outcome) => {
                if let Some(ask) = gather.open.pop_front() {
                    gather.bytes += gather::take(consul, ask, outcome, &mut gather.data)?;
                }
                gather.asked += 1;
                if gather.bytes > consul.max_bytes() {
                    return Err(Failure::TooMuch);
                }
                if gather.open.is_empty() {
                    return self.render(gather);
                }
                self.step = Step::Gather(gather);
                Ok(None)
            }
            (Step::Compare(new), JobOutcome::Content(there)) => {
                if there.as_ref() == Some(&new) {
                    return Ok(Some(None));
                }
                self.step = Step::Write(new);
                Ok(None)
            }
            (Step::Write(new), JobOutcome::Written) => Ok(Some(Some(new.len()))),
            (_, JobOutcome::Impossible(why)) => Err(Failure::File(why)),
            (_, JobOutcome::Failed(fault)) => Err(Failure::Fault(fault)),
            _ => Err(Failure::Fault(Fault::Protocol)),
        }
    }

    fn render(&mut self, mut gather: Box<Gather>) -> Result<Option<Option<usize>>, Failure> {
        match gather.template.render(&gather.data) {
            Ok(text) => self.step = Step::Compare(text.into()),
            Err(Unrendered::NoKey(key)) => return Err(Failure::NoKey(key)),
            Err(Unrendered::TooLarge) => return Err(Failure::TooMuch),
            Err(Unrendered::Missing(missing)) => {
                gather.open = gather::open(missing);
                if gather.asked + gather.open.len() > MOST_ASKED {
                    return Err(Failure::TooMuch);
                }
                self.step = Step::Gather(gather);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
