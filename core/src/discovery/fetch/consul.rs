//! Consul's catalogue, asked for one service in one datacenter: plainly, or by a blocking query
//! that waits for a change. The schedule of the blocking query is [`crate::consul::watch`]; here
//! its answers become instances.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ask, Data, Progress, Sources, Want, unexpected};
use crate::consul::ask::{AskId, Trouble};
use crate::consul::health::{self, Lookup};
use crate::consul::watch::{Change, Watch};
use crate::consul::{Api, ConsulError, Cursor, Head, ServiceName};
use crate::discovery::{DiscoveryError, Instance};
use crate::job::{JobOutcome, Poll, Work};
use crate::outcome::Fault;
use crate::redis::Variant;
use crate::rng::Pcg32;
use crate::time::{Rounded, Time};

/// What is asked of Consul about one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::discovery) struct ConsulFetch {
    name: Arc<str>,
    datacenter: Option<Arc<str>>,
    tag: Option<Arc<str>>,
    /// Whether its instances are reached over Connect.
    connect: bool,
    /// Which agent is asked: the next one after each failure.
    agent: usize,
    watch: Watch,
    /// The query of the watch that is out, and whether it may be held back.
    out: Option<(AskId, bool)>,
    next_try: Option<Time>,
}

impl ConsulFetch {
    /// `None`: no service can have this name in Consul.
    pub(in crate::discovery) fn new(
        name: &Arc<str>,
        datacenter: Option<Arc<str>>,
        tag: Option<Arc<str>>,
        sources: &Sources,
    ) -> Option<ConsulFetch> {
        let consul = sources.consul.as_ref()?;
        ServiceName::new(name).ok()?;
        Some(ConsulFetch {
            name: name.clone(),
            datacenter,
            tag,
            connect: false,
            agent: 0,
            watch: Watch::new(&consul.watch),
            out: None,
            next_try: None,
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The same for those of its instances that are reached over Connect, if `connect`.
    pub(in crate::discovery) fn over_connect(self, connect: bool) -> ConsulFetch {
        ConsulFetch { connect, ..self }
    }

    pub(super) fn target(&self, sources: &Sources) -> Arc<str> {
        let Some(consul) = &sources.consul else { return "consul".into() };
        let agent = consul.settings.agent(self.agent).map_or("consul", |agent| agent.as_str());
        match &self.datacenter {
            Some(datacenter) => format!("{agent} ({datacenter})").into(),
            None => agent.into(),
        }
    }

    pub(super) fn variant(&self, sources: &Sources) -> Variant {
        let dc = self.datacenter.clone();
        let mut also = sources.consul.as_ref().and_then(|consul| consul.settings.narrowed());
        if self.connect {
            also = Some(format!("{};connect", also.as_deref().unwrap_or_default()).into());
        }
        Variant { dc, tag: self.tag.clone(), also }
    }

    pub(super) fn want(&mut self, now: Time, ask: Ask, sources: &Sources, rng: &mut Pcg32) -> Want {
        let Some(consul) = &sources.consul else { return Want::Later(Time::NEVER) };
        self.out = None;
        if ask == Ask::Now {
            return match self.work(None, sources) {
                Ok(work) => Want::Exchange(work),
                Err(_) => Want::Later(Time::NEVER),
            };
        }
        let hold = ask == Ask::Hold;
        match self.watch.next(now, consul.watching(hold), rng) {
            Poll::Wait(at) => Want::Later(at),
            Poll::Run(query) => {
                let cursor = query.index.map(|index| Cursor { index, wait: query.wait });
                match self.work(cursor, sources) {
                    Ok(work) => {
                        self.out = Some((query.id, hold));
                        let held = cursor.is_some();
                        Want::Watch { work, until: query.deadline, held }
                    }
                    Err(_) => Want::Later(Time::NEVER),
                }
            }
        }
    }

    fn work(&self, cursor: Option<Cursor>, sources: &Sources) -> Result<Work, ConsulError> {
        let consul = sources.consul.as_ref().ok_or(ConsulError::NoLeader)?;
        let name = ServiceName::new(&self.name).map_err(ConsulError::from)?;
        let lookup = Lookup {
            datacenter: self.datacenter.as_deref(),
            tag: self.tag.as_deref(),
            cursor,
            connect: self.connect,
            ..Lookup::of(&name)
        };
        let api = Api::new(&consul.settings, &consul.tokens).at(self.agent);
        let request = health::request(&api, &lookup)?;
        Ok(Work::Http { request, max_body: consul.settings.max_bytes() })
    }

    pub(super) fn done(
        &mut self,
        now: Time,
        outcome: JobOutcome,
        held: Option<&Data>,
        sources: &Sources,
        rng: &mut Pcg32,
    ) -> Progress {
        let Some(consul) = &sources.consul else { return Progress::More };
        let timed_out = matches!(outcome, JobOutcome::Failed(Fault::Timeout));
        let (query, read) = (self.out.take(), self.read(outcome, sources));
        let Some((query, hold)) = query else {
            // What was asked beside the watch is news to it as well.
            self.watch.forget();
            return match read {
                Ok((instances, _)) => fresh(instances, sources),
                Err((error, _)) => self.failed(error),
            };
        };
        let (ttl, watching) = (sources.config.ttl, consul.watching(hold));
        match read {
            Ok((instances, head)) => {
                let digest = health::digest(&instances);
                let change = self.watch.answered(now, query, head.index, digest, watching);
                let differs = match held {
                    Some(Data::Instances(held)) => health::digest(held) != digest,
                    _ => true,
                };
                match change {
                    Change::Reset { .. } | Change::Ignored => Progress::Same { ttl },
                    _ if differs => fresh(instances, sources),
                    _ => Progress::Same { ttl },
                }
            }
            Err((error, trouble)) => {
                let change = if timed_out {
                    self.watch.timed_out(now, query, watching, rng)
                } else {
                    self.watch.failed(now, query, trouble, watching, rng)
                };
                match change {
                    Change::Failed { next_try, .. } => {
                        self.next_try = Some(next_try);
                        self.failed(error)
                    }
                    // A wait that ended without an answer: no change.
                    _ => Progress::Same { ttl },
                }
            }
        }
    }

    fn failed(&mut self, error: DiscoveryError) -> Progress {
        self.agent = self.agent.wrapping_add(1);
        Progress::Failed(error)
    }

    /// The instances of a reply, or what is wrong with it, for people and for the watch.
    #[allow(clippy::type_complexity)] // said in words above
    fn read(
        &self,
        outcome: JobOutcome,
        sources: &Sources,
    ) -> Result<(Vec<Instance>, Head), (DiscoveryError, Trouble)> {
        let JobOutcome::Answered { status, headers, body } = outcome else {
            let trouble = match &outcome {
                JobOutcome::Failed(fault) => Trouble::Fault(*fault),
                _ => Trouble::Fault(Fault::Protocol),
            };
            return Err((unexpected(outcome), trouble));
        };
        let Some(consul) = &sources.consul else {
            return Err((DiscoveryError::Status(status), Trouble::Status(status)));
        };
        let head = Head::of(&headers);
        let parse = if self.connect { health::parse_connect } else { health::parse };
        let answer = parse(&consul.settings, status, &body).map_err(|error| {
            let denied = matches!(error, ConsulError::Denied(_) | ConsulError::UnknownToken);
            let text: Arc<str> = error.to_string().into();
            match status {
                _ if denied => (DiscoveryError::Denied(text), Trouble::Forbidden),
                200 => (DiscoveryError::Reply(text), Trouble::Malformed),
                _ => (DiscoveryError::Reply(text), Trouble::Status(status)),
            }
        })?;
        let odd = |text: &str| {
            let text = format!("{text}; the answer is not believed").into();
            Err((DiscoveryError::Reply(text), Trouble::Malformed))
        };
        if let Some(excess) = head.too_stale(&consul.settings) {
            return odd(&format!(
                "the server has been without contact to the leader for {excess} too long",
                excess = Rounded(excess)
            ));
        }
        // A server that was left behind knows of nothing, and says so with the same words as one
        // that knows there is nothing.
        if answer.instances.is_empty() && head.known_leader == Some(false) {
            return odd("no instances, and the server knows no leader");
        }
        Ok((answer.instances, head))
    }

    pub(super) fn forget(&mut self, now: Time) {
        self.out = None;
        self.watch.forget();
        self.watch.refresh(now);
    }

    /// The job was given up.
    pub(super) fn dropped(&mut self, now: Time, sources: &Sources, rng: &mut Pcg32) {
        if let (Some((query, _)), Some(consul)) = (self.out.take(), &sources.consul) {
            let _ = self.watch.failed(now, query, Trouble::Dropped, &consul.watch, rng);
        }
    }

    pub(super) fn backoff(&mut self, now: Time) -> Option<Duration> {
        Some(now.until(self.next_try.take()?))
    }
}

/// An empty list is an answer, for a shorter time.
fn fresh(instances: Vec<Instance>, sources: &Sources) -> Progress {
    let config = &sources.config;
    let ttl = if instances.is_empty() { config.negative_ttl.min(config.ttl) } else { config.ttl };
    Progress::Fresh { data: Data::Instances(instances.into()), ttl }
}
