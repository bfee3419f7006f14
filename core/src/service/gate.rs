//! Whether a call may begin at all: the service's own breaker, throttling by success ratio, the
//! concurrency limit with its queue, the rate limit. In this order, because each is cheaper to
//! ask than the next is to give back. A call passes once, whatever it repeats afterwards, and
//! gives back what it holds when it ends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Service;
use crate::config::Rules;
use crate::notice::Event;
use crate::outcome::Class;
use crate::policy::breaker::{self, Breaker};
use crate::policy::concurrency::{Concurrency, Limited, Sample, Slot};
use crate::policy::queue::{Priority, Shed, Ticket, Turn, WaitQueue};
use crate::policy::rate::{RateLimit, RateLimited};
use crate::policy::throttle::{Throttle, Throttled};
use crate::policy::tiers;
use crate::snapshot::LimitsSnapshot;
use crate::time::Time;

/// The state of what guards a service as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Gate {
    pub(crate) breaker: Breaker,
    pub(crate) throttle: Throttle,
    pub(crate) concurrency: Concurrency,
    pub(crate) queue: WaitQueue,
    pub(crate) rate: RateLimit,
    /// An operator's order to the breaker is in force.
    pub(super) ordered: bool,
}

impl Gate {
    pub(crate) fn new(rules: &Rules) -> Gate {
        Gate {
            breaker: Breaker::new(Time::ZERO, &rules.service_breaker),
            throttle: Throttle::default(),
            concurrency: Concurrency::new(&rules.concurrency),
            queue: WaitQueue::new(&rules.queue),
            rate: RateLimit::new(&rules.rate),
            ordered: false,
        }
    }
}

/// Why a call was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overload {
    /// The service's own breaker is open, or its half-open permits are out.
    Breaker,
    /// Too few calls of late were accepted.
    Throttled(Throttled),
    /// The concurrency limit, and nobody waits.
    Concurrency(Limited),
    /// The queue before the concurrency limit.
    Queue(Shed),
    /// The rate limit.
    Rate(RateLimited),
    /// The cap on what may spill from the first cluster, or panic.
    Tiers(tiers::Refusal),
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overload::Breaker => f.write_str("the breaker of the service is open"),
            Overload::Throttled(why) => why.fmt(f),
            Overload::Concurrency(why) => why.fmt(f),
            Overload::Queue(why) => why.fmt(f),
            Overload::Rate(why) => why.fmt(f),
            Overload::Tiers(why) => why.fmt(f),
        }
    }
}

/// What a call holds while it is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Pass {
    slot: Option<Slot>,
    permit: Option<breaker::Permit>,
}

/// The answer of the gate.
pub(crate) enum Entry {
    /// In, from this time on.
    In(Pass, Time),
    /// In the queue, until then at most.
    Wait(Ticket, Time),
    /// Out; when it may be worth trying again.
    Out(Overload, Time),
}

impl Service {
    /// Whether there is anything to ask before a call begins.
    #[inline]
    pub(crate) fn is_gated(&self) -> bool {
        self.rules.gated || self.gate.ordered
    }

    /// A call asks to be let in; it can wait until `latest`.
    pub(crate) fn enter(&mut self, now: Time, priority: Priority, latest: Time) -> Entry {
        let (gate, rules) = (&mut self.gate, &self.rules);
        if !gate.breaker.would_admit(&rules.service_breaker) {
            let until = gate.breaker.due();
            return self.refused(now, Overload::Breaker, until);
        }
        if let Err(why) = gate.throttle.admit(now, &rules.throttle, &mut self.rng) {
            return self.refused(now, Overload::Throttled(why), Time::NEVER);
        }
        if rules.concurrency.is_off() {
            return self.admit_rate(now, latest, None);
        }
        // Who comes now must not overtake who waits.
        let full = match gate.concurrency.free(&rules.concurrency) > gate.queue.len() {
            true => match gate.concurrency.try_acquire(&rules.concurrency) {
                Ok(slot) => return self.admit_rate(now, latest, Some(slot)),
                Err(limited) => limited,
            },
            false => {
                Limited { limit: gate.concurrency.limit(), in_flight: gate.concurrency.in_flight() }
            }
        };
        match gate.queue.enter(now, priority, latest, &rules.queue) {
            Ok(ticket) => self.wait(now, ticket, latest),
            Err(Shed::Off) => self.refused(now, Overload::Concurrency(full), Time::NEVER),
            Err(shed) => self.refused(now, Overload::Queue(shed), Time::NEVER),
        }
    }

    /// A call in the queue asks whether it is its turn.
    pub(crate) fn wait(&mut self, now: Time, ticket: Ticket, latest: Time) -> Entry {
        let (gate, rules) = (&mut self.gate, &self.rules);
        let free = gate.concurrency.free(&rules.concurrency);
        match gate.queue.poll(now, ticket, free) {
            Turn::Wait { until } => Entry::Wait(ticket, until.min(latest)),
            Turn::Shed { reason } => {
                // A place that was offered to this one is now for who is behind it.
                if free > 0 && !gate.queue.is_empty() {
                    self.epoch += 1;
                }
                self.refused(now, Overload::Queue(reason), Time::NEVER)
            }
            Turn::Go => match gate.concurrency.try_acquire(&rules.concurrency) {
                Ok(slot) => self.admit_rate(now, latest, Some(slot)),
                Err(limited) => self.refused(now, Overload::Concurrency(limited), Time::NEVER),
            },
        }
    }

    fn admit_rate(&mut self, now: Time, latest: Time, slot: Option<Slot>) -> Entry {
        let (gate, rules) = (&mut self.gate, &self.rules);
        let permit = match gate.rate.reserve(now, latest, &rules.rate) {
            Ok(permit) => permit,
            Err(why) => {
                self.free(now, slot, Sample::Ignored);
                return self.refused(now, Overload::Rate(why), why.until);
            }
        };
        let admitted = gate.breaker.admit(now, &rules.service_breaker).ok();
        Entry::In(Pass { slot, permit: admitted }, permit.at())
    }

    fn refused(&mut self, now: Time, why: Overload, until: Time) -> Entry {
        self.counts.shed += 1;
        // The first of a run: one notice tells of it, the counter tells how many.
        if self.shed_since_in == 0 {
            self.notices.push(now, Event::Shed { why });
        }
        self.shed_since_in = self.shed_since_in.saturating_add(1);
        Entry::Out(why, until)
    }

    /// A call that was let in has ended, after `took` in all.
    pub(crate) fn leave(
        &mut self,
        now: Time,
        pass: Pass,
        class: Class,
        sample: Sample,
        took: Duration,
    ) {
        self.shed_since_in = 0;
        self.free(now, pass.slot, sample);
        let (gate, rules) = (&mut self.gate, &self.rules);
        match class {
            Class::Success => gate.throttle.record(now, true, &rules.throttle),
            Class::Failure | Class::Throttled => gate.throttle.record(now, false, &rules.throttle),
            Class::Ignored => (),
        }
        if let Some(permit) = pass.permit {
            let settings = &rules.service_breaker;
            let change = gate.breaker.record(now, permit, class, took, settings, &mut self.rng);
            if let Some(change) = change {
                self.notices.push(now, Event::ServiceBreaker { change });
            }
        }
    }

    /// What the limits hold, for people.
    pub(super) fn limits(&self) -> LimitsSnapshot {
        let (gate, rules) = (&self.gate, &self.rules);
        LimitsSnapshot {
            breaker: gate.breaker.state(),
            in_flight: gate.concurrency.in_flight(),
            limit: (!rules.concurrency.is_off()).then(|| gate.concurrency.limit()),
            waiting: gate.queue.len(),
            throttled_permille: gate.throttle.permille(&rules.throttle),
            rate_milli: (!rules.rate.is_off()).then(|| gate.rate.rate_milli()),
            retry_tokens: self.tokens.available(),
            shed: self.counts.shed,
        }
    }

    fn free(&mut self, now: Time, slot: Option<Slot>, sample: Sample) {
        let Some(slot) = slot else { return };
        let (gate, rules) = (&mut self.gate, &self.rules);
        if let Some(change) = gate.concurrency.release(now, slot, sample, &rules.concurrency) {
            self.notices.push(now, Event::ConcurrencyLimit { change });
        }
        // Who waits should look again.
        if !self.gate.queue.is_empty() {
            self.epoch += 1;
        }
    }

    /// A call that waits in the queue is dropped.
    pub(crate) fn give_up_place(&mut self, ticket: Ticket) {
        self.gate.queue.leave(ticket);
        if !self.gate.queue.is_empty() {
            self.epoch += 1;
        }
    }
}
