//! The keeper: the life of the client's own token. It says when the token is had, looked up,
//! renewed and replaced, and how long the present one is used; it never sees the token itself.
//!
//! What it protects against: a program that runs for weeks on a token that lasts an hour. Clients
//! get three things wrong. They renew at the end, so that one slow node loses the token: here it
//! is renewed early, at a random point (see [`schedule`](super::schedule)). They throw the token
//! away when a renewal fails: here the old one is used until its last second, while renewals go on
//! with growing waits. And they renew for ever, though every token has a last day: a renewal that
//! yields less than half of what the token once had means that this day is near, and the client
//! logs in anew while the old token still works (Vault's `LifetimeWatcher` says so by ending).
//!
//! One thing is under way at a time, whoever waits for it. A node that is sealed or stands by is
//! left for the next at once; only when all have failed there is a wait. What a login needs from a
//! file is read before every login. A token in a file is read again every `poll`, and the new one
//! is used from that moment. A 403 met by a call ([`Keeper::doubt`]) makes it look at the token,
//! once a minute at most. It is switched off by `vault.enabled = false`.
//!
//! ```
//! use origin_core::rng::Pcg32;
//! use origin_core::time::Time;
//! use origin_core::vault::event::What;
//! use origin_core::vault::keeper::{Answer, How, Keeper, Poll, Settings};
//!
//! let settings = Settings::of(How::Login { reads: false }, &Default::default());
//! let (mut keeper, mut rng) = (Keeper::new(&settings), Pcg32::new(1, 1));
//! let Poll::Ask(asked) = keeper.poll(Time::ZERO, &settings, &mut rng) else { panic!() };
//! assert_eq!(asked.what, What::LogIn);
//! let lease = std::time::Duration::from_secs(3_600);
//! let granted = Answer::Granted { lease, renewable: true };
//! keeper.done(Time::ZERO, asked.id, granted, &settings, &mut rng);
//! assert!(keeper.holds(Time::ZERO));
//! // It is renewed after ten to twenty minutes.
//! let Poll::Wait(at) = keeper.poll(Time::ZERO, &settings, &mut rng) else { panic!() };
//! assert!((600_000..=1_200_000).contains(&at.as_millis()));
//! ```

#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{AskId, Event, Events, Gone, LATE, Trouble, What};
use crate::policy::backoff::Backoff;
use crate::rng::Pcg32;
use crate::time::Time;
pub use words::{Answer, Asked, How, Poll, Settings, Stage};

/// Fewest seconds between two looks at a token that calls have doubted.
const DOUBTS: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Hold {
    until: Time,
    /// The longest lease it ever had.
    largest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Plan {
    Do(What),
    /// Say that it expires.
    Warn,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Out {
    asked: Asked,
    issued: Time,
    /// Beside the plan: a look at the file or at a doubted token.
    beside: bool,
}

/// The machine. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Keeper {
    hold: Option<Hold>,
    ever: bool,
    plan: Plan,
    at: Time,
    out: Option<Out>,
    /// When the file is looked at.
    look: Time,
    doubted: Option<Time>,
    last_doubt: Option<Time>,
    steps: Backoff,
    failures: u32,
    /// Nodes that have failed in this round, of so many.
    round: u32,
    nodes: u32,
    closing: bool,
    closed: bool,
    next: u64,
    events: Events,
}

impl Keeper {
    /// One that has to get its token, or with [`How::Given`] holds it from the start.
    #[must_use]
    pub fn new(settings: &Settings) -> Keeper {
        let given = settings.how == How::Given;
        let hold = Hold { until: Time::NEVER, largest: Duration::ZERO };
        let mut keeper = Keeper {
            hold: given.then_some(hold),
            ever: false,
            plan: Plan::Nothing,
            at: Time::ZERO,
            out: None,
            look: Time::NEVER,
            doubted: None,
            last_doubt: None,
            steps: Backoff::default(),
            failures: 0,
            round: 0,
            nodes: 1,
            closing: false,
            closed: false,
            next: 0,
            events: Events::default(),
        };
        keeper.plan = if given { Plan::Do(What::LookUp) } else { Keeper::first(settings) };
        keeper
    }

    /// The first step to a token.
    const fn first(settings: &Settings) -> Plan {
        match settings.how {
            How::Given => Plan::Nothing,
            How::File { .. } | How::Login { reads: true } => Plan::Do(What::Read),
            How::Login { reads: false } => Plan::Do(What::LogIn),
        }
    }

    /// How many nodes there are to turn to before a failure waits.
    pub fn nodes(&mut self, nodes: u32) {
        self.nodes = nodes.max(1);
    }

    /// Whether there is a token that can be used.
    #[must_use]
    pub fn holds(&self, now: Time) -> bool {
        self.hold.is_some_and(|hold| now < hold.until || hold.until == Time::NEVER)
    }

    /// When the present token ends; `None`: there is none, [`Time::NEVER`]: not known, or never.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        self.hold.map(|hold| hold.until)
    }

    /// Where the token stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let what = self.out.filter(|out| !out.beside).map(|out| out.asked.what);
        match (self.hold, what) {
            _ if self.closed => Stage::Closed,
            (Some(_), Some(What::Renew)) => Stage::Renewing,
            (Some(_), Some(What::LogIn | What::Read)) => Stage::Replacing,
            (Some(_), _) => Stage::Held,
            (None, Some(_)) => Stage::LoggingIn,
            (None, None) => Stage::None,
        }
    }

    /// A call was answered 403: the token is looked at, once a minute at most. Whether it is.
    pub fn doubt(&mut self, now: Time) -> bool {
        let soon = self.last_doubt.is_some_and(|last| now < last.plus(DOUBTS));
        let looked_at = !soon && !self.closing && self.hold.is_some();
        if looked_at {
            self.doubted = Some(now);
            self.last_doubt = Some(now);
        }
        looked_at
    }

    /// The program has given another token: it is held from now on.
    pub fn given(&mut self, now: Time) {
        if self.closing {
            return;
        }
        self.hold = Some(Hold { until: Time::NEVER, largest: Duration::ZERO });
        self.plan = Plan::Do(What::LookUp);
        (self.at, self.out, self.doubted) = (now, None, None);
        self.well();
    }

    /// The client is closed: a token that was had by a login is revoked, if that is wanted.
    pub fn close(&mut self, now: Time, settings: &Settings) {
        if self.closing {
            return;
        }
        self.closing = true;
        self.out = None;
        let own = matches!(settings.how, How::Login { .. }) && self.holds(now);
        self.closed = !(own && settings.times.revoke());
        self.plan = if self.closed { Plan::Nothing } else { Plan::Do(What::Revoke) };
        self.at = now;
        self.well();
    }

    /// Whether [`Keeper::close`] was called.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// What to do now, or when to ask again, unless something is told before.
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll {
        if self.closed {
            return Poll::Wait(Time::NEVER);
        }
        if let Some(out) = self.out
            && now >= out.asked.deadline.plus(LATE)
        {
            self.done(now, out.asked.id, Answer::Failed(Trouble::LOST), settings, rng);
            if self.closed {
                return Poll::Wait(Time::NEVER);
            }
        }
        let ends = self.expire(now, settings);
        if let Some(out) = self.out {
            return Poll::Wait(out.asked.deadline.plus(LATE).min(ends));
        }
        if !self.closing {
            if self.plan == Plan::Warn && now >= self.at {
                self.plan = Plan::Nothing;
                let left = now.until(ends);
                self.events.push(now, Event::TokenExpiring { left });
            }
            if self.doubted.take().is_some() {
                return self.issue(now, What::LookUp, true, settings);
            }
            if now >= self.look {
                return self.issue(now, What::Read, true, settings);
            }
        }
        match self.plan {
            Plan::Do(what) if now >= self.at => self.issue(now, what, false, settings),
            Plan::Do(_) | Plan::Warn => Poll::Wait(self.at.min(self.look).min(ends)),
            Plan::Nothing => Poll::Wait(self.look.min(ends)),
        }
    }

    /// Lets go of a token whose time is over. Yields when that is.
    fn expire(&mut self, now: Time, settings: &Settings) -> Time {
        let Some(hold) = self.hold else { return Time::NEVER };
        if hold.until == Time::NEVER || now < hold.until {
            return hold.until;
        }
        self.lose(now, Gone::Expired, settings);
        Time::NEVER
    }

    fn lose(&mut self, now: Time, why: Gone, settings: &Settings) {
        self.hold = None;
        self.doubted = None;
        self.events.push(now, Event::TokenLost { why });
        if self.closing {
            (self.plan, self.closed) = (Plan::Nothing, true);
        } else if !matches!(self.plan, Plan::Do(What::LogIn | What::Read)) {
            self.plan = Keeper::first(settings);
            self.at = now;
        }
    }

    fn issue(&mut self, now: Time, what: What, beside: bool, settings: &Settings) -> Poll {
        let id = AskId(self.next);
        self.next = self.next.wrapping_add(1);
        let asked = Asked { id, what, deadline: now.plus(settings.timeout) };
        self.out = Some(Out { asked, issued: now, beside });
        if what == What::Read
            && let How::File { poll } = settings.how
        {
            self.look = now.plus(poll);
        }
        Poll::Ask(asked)
    }

    /// Takes what came of something asked; `false`: it is not under way any more.
    pub fn done(
        &mut self,
        now: Time,
        id: AskId,
        answer: Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> bool {
        let Some(out) = self.out.take_if(|out| out.asked.id == id) else { return false };
        let fits = match answer {
            Answer::Fresh | Answer::Same => out.asked.what == What::Read,
            Answer::Revoked => out.asked.what == What::Revoke,
            Answer::Granted { .. } => {
                matches!(out.asked.what, What::LookUp | What::LogIn | What::Renew)
            }
            Answer::Failed(_) => true,
        };
        let answer = if fits { answer } else { Answer::Failed(Trouble::Malformed) };
        match answer {
            Answer::Fresh => {
                self.well();
                if let How::File { .. } = settings.how {
                    // Used from now on; how long it lasts is asked next.
                    self.hold = Some(Hold { until: Time::NEVER, largest: Duration::ZERO });
                    self.plan = Plan::Do(What::LookUp);
                } else {
                    self.plan = Plan::Do(What::LogIn);
                }
                self.at = now;
            }
            Answer::Same if out.beside => {}
            Answer::Same => self.fail(now, out, Trouble::OldFile, settings, rng),
            Answer::Granted { lease, renewable } => {
                self.grant(now, out, lease, renewable, settings, rng);
            }
            Answer::Revoked => {
                self.events.push(now, Event::TokenRevoked { error: None });
                (self.hold, self.plan, self.closed) = (None, Plan::Nothing, self.closing);
            }
            Answer::Failed(trouble) => self.fail(now, out, trouble, settings, rng),
        }
        true
    }

    fn grant(
        &mut self,
        now: Time,
        out: Out,
        lease: Duration,
        renewable: bool,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        self.well();
        let until = if lease.is_zero() { Time::NEVER } else { out.issued.plus(lease) };
        let before = match out.asked.what {
            What::LogIn => Duration::ZERO,
            _ => self.hold.map_or(Duration::ZERO, |hold| hold.largest),
        };
        let renewed = out.asked.what == What::Renew;
        self.hold = Some(Hold { until, largest: before.max(lease) });
        if out.beside {
            return; // a doubted token that is good: the plan stands
        }
        self.events.push(
            now,
            if renewed {
                Event::TokenRenewed { lease }
            } else {
                Event::TokenAcquired { lease, renewable, again: self.ever }
            },
        );
        self.ever = true;
        // Near the end of what it may ever have, another renewal brings nothing.
        let capped = renewed && lease < before / 2;
        let (plan, early) = match settings.how {
            _ if until == Time::NEVER => (Plan::Nothing, true),
            _ if renewable && !capped => (Plan::Do(What::Renew), true),
            How::Login { .. } => (Keeper::first(settings), capped),
            How::Given | How::File { .. } => (Plan::Warn, false),
        };
        self.plan = plan;
        self.at = match plan {
            Plan::Nothing => Time::NEVER,
            _ => settings.times.point(out.issued, lease, early, rng),
        };
    }

    fn fail(
        &mut self,
        now: Time,
        out: Out,
        trouble: Trouble,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let what = out.asked.what;
        let login = matches!(settings.how, How::Login { .. });
        match (what, trouble) {
            (What::LookUp | What::Renew, Trouble::Invalid) => {
                self.lose(now, Gone::Revoked, settings);
                return;
            }
            (What::LookUp, Trouble::Denied) if out.beside => {
                // It may not even look at itself: better a new one, where that is to be had.
                match settings.how {
                    How::Given => {}
                    How::File { .. } => self.look = now,
                    How::Login { .. } => (self.plan, self.at) = (Keeper::first(settings), now),
                }
                return;
            }
            _ if out.beside => return, // the file is looked at again by itself
            (What::LookUp, Trouble::Denied | Trouble::Refused(_)) => {
                self.plan = Plan::Nothing;
                self.ever = true;
                self.events.push(now, Event::TokenUnknown { error: trouble });
                return;
            }
            (What::Renew, Trouble::Denied | Trouble::Refused(_)) => {
                // Refused for good: the next one in time, the old one until its end.
                let left = self.left(now);
                self.tell(now, what, trouble, left, Duration::ZERO);
                self.plan = if login { Keeper::first(settings) } else { Plan::Warn };
                self.at = if login { now } else { settings.times.point(now, left, false, rng) };
                return;
            }
            _ => {}
        }
        self.round = self.round.saturating_add(1);
        if trouble.elsewhere() && self.round < self.nodes {
            self.at = now; // another node, at once
            return;
        }
        self.round = 0;
        if what == What::Revoke {
            self.events.push(now, Event::TokenRevoked { error: Some(trouble) });
            (self.plan, self.closed) = (Plan::Nothing, true);
            return;
        }
        let left = self.left(now);
        let known = self.hold.is_some_and(|hold| hold.until != Time::NEVER);
        let bound = (known && !left.is_zero()).then_some(left);
        let lasting = trouble.is_lasting();
        let wait = settings.times.pause(&mut self.steps, lasting, bound, rng);
        self.failures = self.failures.saturating_add(1);
        self.tell(now, what, trouble, left, wait);
        // A node may never be able to renew (some say so with a 500): half of the lease is for
        // renewing, the other half for another token.
        let late = self.hold.is_some_and(|hold| left < hold.largest / 2);
        if what == What::LogIn || (what == What::Renew && login && late) {
            self.plan = Keeper::first(settings);
        }
        self.at = now.plus(wait);
    }

    fn tell(&mut self, now: Time, what: What, error: Trouble, left: Duration, wait: Duration) {
        let failures = self.failures.max(1);
        let event = Event::TokenFailed { what, error, failures, left, retry_in: wait };
        self.events.push(now, event);
    }

    fn left(&self, now: Time) -> Duration {
        self.hold.map_or(Duration::ZERO, |hold| now.until(hold.until))
    }

    fn well(&mut self) {
        (self.steps, self.failures, self.round) = (Backoff::default(), 0, 0);
    }

    /// Whether everything that closing takes is done.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// What happened.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }
}
