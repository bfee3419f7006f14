//! Changing a service while it runs: other rules, and an operator's orders to breakers.
//!
//! What survives new rules, policy by policy:
//!
//! | policy | survives | does not |
//! |---|---|---|
//! | endpoints, attempts out, calls under way | all; a call goes on under the new rules | |
//! | breaker | state, open interval, totals; the newest results that fit the new windows | |
//! | budget, hedge share | what was spent and earned in the last ten seconds | |
//! | retry tokens | the share of the bucket that is filled | |
//! | stall, latency, balancer estimates | all | |
//! | load split, hold-down | health, clocks, first choice; retuned to the new settings | |
//! | outlier | counts, ejections; a switched-off detector returns all | |
//! | health checks | verdicts, runs, histories (cut to the new length) | probes of another kind |
//! | concurrency, rate | calls in flight; a learnt limit or rate, within its new bounds | |
//! | queue | who waits, with the time promised; the newest are shed if it becomes shorter | |
//! | throttle | the window | |
//! | shared knowledge | what was heard; what is told follows the breakers | |

use std::sync::Arc;

use super::{Service, reads_latency, transition};
use crate::config::Rules;
use crate::notice::Event;
use crate::policy::latency::Histogram;
use crate::policy::outlier::Detector;
use crate::pool::EndpointId;
use crate::time::Time;

/// An order to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Refuse everything for as long as the first open interval, then find out (001-31).
    Open,
    /// Refuse everything until told otherwise.
    KeepOpen,
    /// Let everything through until told otherwise.
    KeepClosed,
    /// Decide by results again.
    Resume,
    /// Closed, with fresh counts (001-30).
    Reset,
}

impl Service {
    /// Puts other rules in force. See the table at the top of this file for what survives.
    pub fn reconfigure(&mut self, now: Time, rules: Rules, profiles: Vec<(Arc<str>, Rules)>) {
        let before = std::mem::replace(&mut self.rules, rules);
        let rules = &self.rules;
        for index in 0..self.pool.endpoints.len() {
            let Some(Some(endpoint)) = self.pool.endpoints.get_mut(index) else { continue };
            if before.breaker != rules.breaker
                && let Some(change) = endpoint.breaker.retune(now, &rules.breaker)
            {
                let tier = &self.pool.tiers[endpoint.tier as usize];
                self.notices.push(now, transition(endpoint, tier, change));
            }
        }
        if before.service_breaker != rules.service_breaker
            && let Some(change) = self.gate.breaker.retune(now, &rules.service_breaker)
        {
            self.notices.push(now, Event::ServiceBreaker { change });
        }
        self.tokens.retune(&rules.tokens);
        self.gate.concurrency.retune(&rules.concurrency);
        self.gate.queue.retune(&rules.queue);
        self.gate.rate.retune(now, &rules.rate);
        self.checks.retune(now, &rules.checks, &mut self.rng);
        if before.outlier != rules.outlier {
            Detector::retune(&mut self.detector, now, &rules.outlier);
        }
        if reads_latency(rules) || profiles.iter().any(|(_, rules)| reads_latency(rules)) {
            let latency = &rules.latency;
            let kept = self.latency.get_or_insert_with(|| Box::new(Histogram::new(now, latency)));
            kept.retune(now, latency);
        } else {
            self.latency = None;
        }
        self.profiles = profiles;
        self.profiles.truncate(254);
        self.tell_all(now);
        self.pool.compile(&self.rules);
        self.reread_checks(now);
        self.pool.relist(now, &self.rules);
        self.retune_tiers(now);
        self.notices.push(now, Event::Reconfigured);
        // Who waits looks again, under the new rules.
        self.epoch += 1;
    }

    /// Gives an order to the breaker of one endpoint. `false` when it is not there any more.
    pub fn order(&mut self, now: Time, endpoint: EndpointId, order: Order) -> bool {
        let settings = &self.rules.breaker;
        let Some(known) = self.pool.get_mut(endpoint) else { return false };
        let breaker = &mut known.breaker;
        let before = breaker.state().into();
        let change = match order {
            Order::Open => Some(breaker.force_open(now, None, settings)),
            Order::KeepOpen => Some(breaker.force_open(now, Some(Time::NEVER), settings)),
            Order::KeepClosed => breaker.force_closed(now),
            Order::Resume => breaker.unforce(now, settings),
            Order::Reset => breaker.reset(now),
        };
        if let (Some(change), Some(known)) = (change, self.pool.get(endpoint)) {
            let tier = &self.pool.tiers[known.tier as usize];
            let (service, event) = (Some(self.name.clone()), transition(known, tier, change));
            self.notices.push_from(now, service, event, Some(before));
        }
        self.tell(now, endpoint.index);
        self.sync(now, endpoint.index);
        true
    }

    /// Gives an order to the breaker of the service as a whole.
    pub fn order_service(&mut self, now: Time, order: Order) {
        let settings = &self.rules.service_breaker;
        let breaker = &mut self.gate.breaker;
        let before = breaker.state().into();
        let change = match order {
            Order::Open => Some(breaker.force_open(now, None, settings)),
            Order::KeepOpen => Some(breaker.force_open(now, Some(Time::NEVER), settings)),
            Order::KeepClosed => breaker.force_closed(now),
            Order::Resume => breaker.unforce(now, settings),
            Order::Reset => breaker.reset(now),
        };
        if let Some(change) = change {
            let (service, event) = (Some(self.name.clone()), Event::ServiceBreaker { change });
            self.notices.push_from(now, service, event, Some(before));
        }
        // An order stands above a configuration that guards nothing, also above the next one.
        self.gate.ordered = !matches!(order, Order::Resume | Order::Reset);
    }

    /// The endpoints at this address; there may be one in each cluster.
    pub fn endpoints_at(&self, address: &str) -> impl Iterator<Item = EndpointId> {
        self.pool
            .iter()
            .filter(move |(_, _, e)| &*e.label == address)
            .filter_map(|(index, _, _)| self.pool.id(index))
    }
}
