//! The desk: the client's token and its leases as jobs. It joins the machines that say *when*
//! something is asked of Vault ([`Keeper`], [`Leases`]) to the codec that says *how*, and it is
//! the one place where the token is kept; a driver carries out exchanges and reads files.
//!
//! Of several nodes one is used until it fails; then the next one, at once. What goes out goes to
//! the nodes of the settings, or to those that the driver names, and to nobody else: a redirect is
//! an answer here ("not this node"), never followed.
//!
//! The token of the moment is [`Desk::token`]: the present one until its last second, whatever is
//! under way. Nothing here is serialised, and `Debug` shows no token.

mod answer;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::rules::Rules;
use super::event::{AskId, Event, Trouble, What};
use super::keeper::{self, How, Keeper, Stage};
use super::lease::{self, Lease, LeaseId};
use super::leases::{self, Deed, Leases};
use super::settings::{Auth, Settings};
use super::wire::{Api, Exchange};
use super::{VaultError, auth};
use crate::address::Address;
use crate::job::{Job, JobId, JobOutcome, Poll, Work, mark};
use crate::notice::{self, Notices};
use crate::ops::secrets::SERVICE;
use crate::rng::Pcg32;
use crate::secret::Secret;
use crate::time::Time;

/// Marks the numbers of its jobs: those of discovery count up from zero, those of registrations
/// and of what is followed in Consul have one of the two bits above.
const OWN: u64 = mark::VAULT;
const MARKS: u64 = mark::ALL;

#[derive(Clone, Debug)]
enum Who {
    Keeper(What),
    Lease(Deed),
}

#[derive(Clone, Debug)]
struct Out {
    id: JobId,
    ask: AskId,
    who: Who,
    node: usize,
    deadline: Time,
}

/// The desk. See the module.
#[derive(Clone)]
pub struct Desk {
    rules: Rules,
    keeper: Keeper,
    leases: Leases,
    /// The token, and what the file of the token last held.
    token: Option<Secret>,
    /// Since when there is this one.
    since: Time,
    /// The latest time it was told. Who reads the clock and then waits for its turn brings an
    /// older one, at which what has been made due meanwhile would not be due yet.
    seen: Time,
    /// What the next login takes: a secret id or a JWT.
    credential: Option<Secret>,
    nodes: Vec<Address>,
    node: usize,
    out: Vec<Out>,
    next: u64,
    closing: bool,
    /// Whether a call waits to hear whether the token is still good.
    doubted: bool,
    /// Why the last exchange for the token failed, if it did.
    trouble: Option<Trouble>,
    notices: Notices,
    rng: Pcg32,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, leases, nodes) = (self.keeper.stage(), self.leases.len(), self.nodes.len());
        f.debug_struct("Desk")
            .field("stage", &stage)
            .field("leases", &leases)
            .field("nodes", &nodes)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// A desk under these rules. Equal seeds renew at equal points.
    #[must_use]
    pub fn new(rules: Rules, seed: u64) -> Desk {
        let mut keeper = Keeper::new(&rules.keeper);
        let given = rules.given.clone();
        let (token, credential) = match rules.vault.auth() {
            Auth::Given | Auth::Env(_) => (given, None),
            _ => (None, given),
        };
        let nodes = rules.vault.urls().to_vec();
        keeper.nodes(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
        Desk {
            rules,
            keeper,
            leases: Leases::default(),
            token,
            since: Time::ZERO,
            seen: Time::ZERO,
            credential,
            nodes,
            node: 0,
            out: Vec::new(),
            next: 0,
            closing: false,
            doubted: false,
            trouble: None,
            notices: Notices::new(Some(SERVICE.into())),
            rng: Pcg32::new(seed, 0x7661_756c_7400),
        }
    }

    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.rules.vault
    }

    /// The endpoints of the service, in the order to be asked; without effect where the settings
    /// name nodes of their own.
    pub fn nodes(&mut self, nodes: &[Address]) {
        if !self.rules.vault.urls().is_empty() || self.nodes == nodes {
            return;
        }
        self.nodes = nodes.iter().filter(|node| node.is_http()).cloned().collect();
        self.node = 0;
        self.keeper.nodes(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
    }

    /// Whether it waits for [`Desk::nodes`].
    #[must_use]
    pub fn needs_nodes(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The token to be sent now; `None`: there is none.
    #[must_use]
    pub fn token(&self, now: Time) -> Option<&Secret> {
        self.token.as_ref().filter(|_| self.keeper.holds(now))
    }

    /// Whether a call had better wait: an exchange is under way that brings a token, or says
    /// whether the present one is still good. What it waits for ends by itself, after
    /// `vault.timeout` at the latest; a try that lies in the future is not waited for.
    #[must_use]
    pub fn is_waited_for(&self, now: Time) -> bool {
        let good = self.token(now).is_some();
        let keeper = |who: &Who| matches!(who, Who::Keeper(_));
        // A renewal, or another look at the file, is nothing to wait for.
        (!good || self.doubted) && !self.closing && self.out.iter().any(|out| keeper(&out.who))
    }

    /// `now`, or the latest time there was.
    fn see(&mut self, now: Time) -> Time {
        self.seen = self.seen.max(now);
        self.seen
    }

    fn take(&mut self, now: Time, token: Secret) {
        if self.token.as_ref() != Some(&token) {
            self.since = now;
        }
        self.token = Some(token);
    }

    /// Why there is no token, where one was asked for.
    #[must_use]
    pub fn trouble(&self, now: Time) -> Option<Trouble> {
        let nobody = self.nodes.is_empty() && self.rules.keeper.how != How::Given;
        let trouble = self.trouble.or(nobody.then_some(Trouble::NoNode));
        trouble.filter(|_| self.token(now).is_none() && self.rules.vault.enabled())
    }

    /// The program gives another token.
    pub fn give(&mut self, now: Time, token: Secret) {
        let now = self.see(now);
        self.take(now, token);
        self.keeper.given(now);
        self.out.retain(|out| matches!(out.who, Who::Lease(_)));
    }

    /// A call was answered 403 with the token of the moment.
    pub fn doubt(&mut self, now: Time) {
        let now = self.see(now);
        self.doubted |= self.keeper.doubt(now);
    }

    /// Looks after the lease of a secret from now on. `false`: there are too many.
    #[must_use]
    pub fn adopt(&mut self, now: Time, lease: &Lease) -> bool {
        self.leases.adopt(now, lease, &self.rules.leases, &mut self.rng)
    }

    /// Gives a lease back. `false`: it is not held here.
    pub fn release(&mut self, now: Time, id: &LeaseId) -> bool {
        self.leases.release(now, id)
    }

    /// The client is closed: leases are given back first, then the token if it was logged in for.
    pub fn close(&mut self, now: Time) {
        let now = self.see(now);
        self.closing = true;
        self.leases.close(now, &self.rules.leases);
        if self.leases.is_empty() || self.nodes.is_empty() {
            self.leases.forget();
            self.close_keeper(now);
        }
    }

    fn close_keeper(&mut self, now: Time) {
        // Once: what it has asked since is still awaited.
        if self.keeper.is_closing() {
            return;
        }
        self.keeper.close(now, &self.rules.keeper);
        self.out.retain(|out| matches!(out.who, Who::Lease(_)));
    }

    /// Whether everything that closing takes is done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.keeper.is_closed() && self.leases.is_empty()
    }

    /// Where the token stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.keeper.stage()
    }

    /// The leases.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The next job, if one is due; else when to ask again, unless something is told before.
    pub fn poll(&mut self, now: Time) -> Poll {
        let now = self.see(now);
        if !self.rules.vault.enabled() {
            return Poll::Wait(Time::NEVER);
        }
        self.out.retain(|out| now < out.deadline.plus(super::event::LATE));
        if self.closing && (self.leases.is_empty() || self.token(now).is_none()) {
            // Without a token the leases cannot be given back: they end by themselves.
            self.leases.forget();
            self.close_keeper(now);
        }
        // Without a token, and with nobody to ask, there is nothing to do for either.
        let idle = self.token.is_none() && self.rules.keeper.how == How::Given;
        let mut next = Time::NEVER;
        if !idle && !self.nodes.is_empty() {
            match self.keeper.poll(now, &self.rules.keeper, &mut self.rng) {
                keeper::Poll::Wait(at) => next = at,
                keeper::Poll::Ask(asked) => {
                    let work = self.keepers_work(asked.what);
                    return self.issue(
                        now,
                        asked.id,
                        Who::Keeper(asked.what),
                        asked.deadline,
                        work,
                    );
                }
            }
        }
        if self.token(now).is_none() || self.nodes.is_empty() {
            return Poll::Wait(next);
        }
        match self.leases.poll(now, &self.rules.leases, &mut self.rng) {
            leases::Poll::Wait(at) => Poll::Wait(next.min(at)),
            leases::Poll::Ask(asked) => {
                let work = self.leases_work(&asked.lease, asked.deed);
                self.issue(now, asked.id, Who::Lease(asked.deed), asked.deadline, work)
            }
        }
    }

    fn issue(
        &mut self,
        now: Time,
        ask: AskId,
        who: Who,
        deadline: Time,
        work: Result<Work, VaultError>,
    ) -> Poll {
        let id = JobId(OWN | (self.next & !MARKS));
        self.next = self.next.wrapping_add(1);
        let out = Out { id, ask, who, node: self.node, deadline };
        match work {
            Ok(work) => {
                self.out.push(out);
                Poll::Run(Box::new(Job { id, work, deadline }))
            }
            // A token that cannot be a header, say; said so that it is tried rarely.
            Err(error) => {
                let read = answer::Read::failed(Trouble::of(&error), &out.who);
                self.settle(now, &out, read);
                Poll::Wait(now.plus(super::schedule::FLOOR))
            }
        }
    }

    fn keepers_work(&self, what: What) -> Result<Work, VaultError> {
        let settings = &self.rules.vault;
        let own = || {
            let token = self.token.as_ref().ok_or(VaultError::NoToken)?;
            Ok::<_, VaultError>(Api::with(settings, token))
        };
        let exchange = match what {
            What::Read => {
                let path = settings.auth().file().cloned();
                let path = path.ok_or_else(|| VaultError::field("auth", "there is no file"))?;
                return Ok(Work::Read { path, most: Secret::MOST });
            }
            What::LogIn => auth::login(settings, self.credential.as_ref())?,
            What::LookUp => auth::look_up(&own()?)?,
            What::Renew => auth::renew(&own()?, settings.token().increment())?,
            What::Revoke => auth::revoke(&own()?)?,
        };
        self.work(&exchange)
    }

    fn leases_work(&self, id: &LeaseId, deed: Deed) -> Result<Work, VaultError> {
        let settings = &self.rules.vault;
        let token = self.token.as_ref().ok_or(VaultError::NoToken)?;
        let api = Api::with(settings, token);
        self.work(&match deed {
            Deed::Renew => lease::renew(&api, id, settings.leases().increment())?,
            Deed::Revoke => lease::revoke(&api, id)?,
        })
    }

    fn work(&self, exchange: &Exchange) -> Result<Work, VaultError> {
        let node = self.nodes.get(self.node).or_else(|| self.nodes.first());
        let node = node.ok_or_else(|| VaultError::field("urls", "there is no node to ask"))?;
        let max_body = self.rules.vault.max_bytes();
        Ok(Work::Http { request: exchange.at(node)?, max_body })
    }

    /// Takes what came of a job; `false`: it is not one of its own, or not under way any more.
    pub fn done(&mut self, now: Time, id: JobId, outcome: &JobOutcome) -> bool {
        let now = self.see(now);
        let Some(at) = self.out.iter().position(|out| out.id == id) else { return false };
        let out = self.out.swap_remove(at);
        let read = match out.who {
            Who::Keeper(what) => answer::keeper(&self.rules.vault, what, outcome),
            Who::Lease(deed) => answer::lease(&self.rules.vault, deed, outcome),
        };
        self.settle(now, &out, read);
        true
    }

    /// Whether a job of this number is one of its own.
    #[must_use]
    pub const fn owns(id: JobId) -> bool {
        id.0 & MARKS == OWN
    }

    fn settle(&mut self, now: Time, out: &Out, read: answer::Read) {
        let answer::Read { keeper, lease, token } = read;
        // Only once for several exchanges that found the same node gone.
        let failed = match (&keeper, &lease) {
            (Some(keeper::Answer::Failed(trouble)), _)
            | (_, Some(leases::Answer::Failed(trouble))) => trouble.elsewhere(),
            _ => false,
        };
        if failed && out.node == self.node {
            self.node = (self.node + 1).checked_rem(self.nodes.len()).unwrap_or(0);
        }
        if let (Who::Keeper(what), Some(answer)) = (&out.who, &keeper) {
            self.doubted &= self.is_replacing(*what, answer);
        }
        if let Some(answer) = lease {
            self.leases.done(now, out.ask, answer, &self.rules.leases, &mut self.rng);
        }
        let Some(mut answer) = keeper else { return };
        self.trouble = match &answer {
            keeper::Answer::Failed(trouble) => Some(*trouble),
            _ => None,
        };
        if let Some(token) = token {
            match (&out.who, self.rules.keeper.how) {
                (Who::Keeper(What::Read), How::File { .. }) => {
                    if self.token.as_ref() == Some(&token) {
                        answer = keeper::Answer::Same;
                    } else {
                        self.take(now, token);
                    }
                }
                (Who::Keeper(What::Read), _) => self.credential = Some(token),
                _ => self.take(now, token),
            }
        }
        self.keeper.done(now, out.ask, answer, &self.rules.keeper, &mut self.rng);
    }

    /// Whether a doubted token is still in doubt after this: a renewal says nothing of it, and one
    /// that may not even look at itself is replaced, which ends with a login or another file.
    /// RustyVault, and Vault of old, say no more than that of a token they do not know.
    fn is_replacing(&self, what: What, answer: &keeper::Answer) -> bool {
        use keeper::Answer;
        match (what, answer, self.rules.keeper.how) {
            (What::Renew | What::Revoke, ..) => true,
            (What::LookUp, Answer::Failed(Trouble::Denied), how) => how != How::Given,
            (What::Read, Answer::Fresh, How::Login { .. }) => true,
            _ => false,
        }
    }

    /// Takes what happened, oldest first. It is among the notices in either case.
    #[must_use]
    pub fn take_events(&mut self) -> Vec<(Time, Event)> {
        let mut events = self.keeper.events().take();
        events.extend(self.leases.events().take());
        events.sort_by_key(|(at, _)| *at);
        for (at, event) in &events {
            self.notices.push(*at, notice::Event::Vault { what: event.clone() });
        }
        events
    }

    /// What happened of late.
    pub fn notices(&mut self) -> &Notices {
        let _ = self.take_events();
        &self.notices
    }
}

/// The content of a file, as a token.
fn content(bytes: Option<&Bytes>) -> Option<Secret> {
    bytes.and_then(|bytes| Secret::read(bytes))
}

/// What a driver shows of it: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// How the token is had.
    pub auth: Arc<str>,
    /// Where it stands.
    pub stage: Stage,
    /// Since when there is this one, if there is one.
    #[serde(default)]
    pub since: Option<Time>,
    /// When it ends; [`Time::NEVER`]: not known, or never.
    pub until: Option<Time>,
    /// Why the last exchange for it failed, if it did.
    pub trouble: Option<Trouble>,
    /// Leases held.
    pub leases: usize,
}

impl Desk {
    /// Where everything stands.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            auth: self.rules.vault.auth().word().into(),
            stage: self.keeper.stage(),
            since: self.keeper.until().map(|_| self.since),
            until: self.keeper.until(),
            trouble: self.trouble,
            leases: self.leases.len(),
        }
    }
}
