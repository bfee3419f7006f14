//! Reads a whole service and its calls through `serde`: the canonical key of a state, and the
//! facts that the judge needs and no public method tells.
//!
//! The key leaves out what cannot influence a decision (names, counters that only grow, notices,
//! random state) and makes times relative to now; a time that has passed is as good as now where
//! only "has it passed" is asked. Numbers of generations and tickets become "present" or "stale".
//! Where that merges states which are not quite equal, fewer are walked on from; every state that
//! is judged is a real one.
//!
//! What is read goes into `facts`; the part that `serde` asks for is in `reader`.

mod facts;
mod reader;

use origin_core::{Call, Service, Time};
use serde::ser::Serialize;

pub use facts::{BreakerFacts, CallFacts, EndpointFacts, Facts, MOST, Profile};

/// How a number enters the key.
#[derive(Clone, Copy)]
enum As {
    Itself,
    Skipped,
    /// Into the facts only.
    Noted,
    /// Relative to now; the past up to this age.
    Time(u64),
    Capped(u64),
    Magnitude,
}

pub struct Walk {
    key: u64,
    now: u64,
    profile: Profile,
    mode: As,
    last: u64,
    variant: u64,
    breaker: BreakerFacts,
    watch_out: u64,
    troubled: bool,
    slots: [(u64, u64); 10],
    slot: usize,
    serials: [(u64, bool); 16],
    places: usize,
    index: u64,
    in_pass: bool,
    shares: usize,
    healths: usize,
    loads: usize,
    pub facts: Facts,
    pub call: CallFacts,
}

impl Walk {
    pub fn new(now: Time, profile: Profile) -> Walk {
        Walk {
            key: 0x9e37_79b9_7f4a_7c15,
            now: now.as_nanos(),
            profile,
            mode: As::Itself,
            last: 0,
            variant: 0,
            breaker: BreakerFacts::default(),
            watch_out: 0,
            troubled: false,
            slots: [(0, 0); 10],
            slot: 0,
            serials: [(0, false); 16],
            places: 0,
            index: 0,
            in_pass: false,
            shares: 0,
            healths: 0,
            loads: 0,
            facts: Facts::default(),
            call: CallFacts::default(),
        }
    }

    /// The part of the key that is the service, with the facts.
    pub fn service(&mut self, service: &Service) -> u64 {
        service.serialize(&mut *self).unwrap();
        self.key
    }

    /// The part that is one call. The service has to be walked before.
    pub fn call(&mut self, call: &Call) -> u64 {
        self.key = 0x51_7cc1_b727_220a;
        self.call = CallFacts::default();
        call.serialize(&mut *self).unwrap();
        self.key
    }

    pub fn add(&mut self, x: u64) {
        self.key = mix(self.key, x);
    }

    fn number(&mut self, x: u64) {
        self.last = x;
        let x = match self.mode {
            As::Skipped | As::Noted => return,
            As::Itself => x,
            As::Time(past) => relative(x, self.now, past),
            As::Capped(most) => x.min(most),
            As::Magnitude => u64::from(u64::BITS - x.leading_zeros()),
        };
        self.add(x);
    }

    /// What becomes of a field.
    fn rule(&self, of: &str, field: &str) -> As {
        use As::{Capped, Itself, Magnitude, Noted, Skipped, Time};
        let Profile { stall, hedge, windows, closed, age, .. } = self.profile;
        let only = |yes: bool, what: As| if yes { what } else { Skipped };
        match of {
            "Service" => match field {
                "pool" | "budget" | "tokens" | "hedge" | "tiers" | "gate" => Itself,
                _ => Skipped,
            },
            "Pool" => only(matches!(field, "endpoints" | "loads" | "tiers" | "dirty"), Itself),
            "Endpoint" => {
                only(matches!(field, "tier" | "breaker" | "watch" | "health" | "listed"), Itself)
            }
            "Load" => only(field == "out", Itself),
            "Breaker" => match field {
                "phase" | "failing" | "force" => Itself,
                "windows" => only(windows, Itself),
                "openings" => Capped(2),
                "generation" | "run" => Noted,
                _ => Skipped,
            },
            "Watch" => match field {
                "out" => Itself,
                "quiet_since" => only(stall && self.watch_out > 0, Time(500_000_000)),
                "since" => only(stall && self.troubled, Time(1_000_000_000)),
                "probe_at" => only(stall && self.troubled, Time(0)),
                "waited_nanos" | "mean_nanos" | "deviation_nanos" | "peak_nanos" => {
                    only(stall, Magnitude)
                }
                _ => only(stall, Itself),
            },
            "Tier" => match field {
                "at" => Time(age),
                "watch" | "lists" | "usability" | "seen" | "again" | "fresh" => Itself,
                _ => Skipped,
            },
            "Probes" | "Phase" => match field {
                "until" => Time(0),
                "since" => Time(closed),
                _ => Itself,
            },
            "Budget" => only(matches!(field, "slots" | "tick"), Noted),
            "Hedge" => {
                only(matches!(field, "slots" | "copies"), if hedge { Capped(8) } else { Noted })
            }
            "Slot" => Noted,
            "Gate" => only(matches!(field, "breaker" | "concurrency" | "queue"), Itself),
            "Concurrency" => only(matches!(field, "limit" | "in_flight" | "credit"), Itself),
            "WaitQueue" if field == "filled" => only(self.facts.waiting > 0, Time(age)),
            "Place" if field == "serial" => Noted,
            "Entry" => match field {
                "priority" => Itself,
                "end" => Time(0),
                _ => Skipped,
            },
            "Tiers" => match field {
                "health" | "first_choice" | "loads" => Itself,
                "due" => Noted,
                _ => Skipped,
            },
            "HoldDown" if field == "full_at" => Time(0),
            "Call" => match field {
                "rng" | "asked" | "abreast" | "taken" | "unresolved" => Skipped,
                "deadline" => Time(0),
                "held" => Noted,
                _ => Itself,
            },
            "Live" if field == "sent_at" => only(stall, Time(500_000_000)),
            "Permit" | "Ticket" | "EndpointId" => Noted,
            "Copies" => match field {
                "next" => Time(0),
                _ => Itself,
            },
            "Backoff" => Capped(1_000_000_000),
            _ => self.mode,
        }
    }

    /// What a field that was just read tells.
    fn note(&mut self, of: &str, field: &str) {
        let (last, facts) = (self.last, &mut self.facts);
        match (of, field) {
            ("Breaker", "generation") => self.breaker.generation = last,
            ("Breaker", "run") => self.breaker.run = last,
            ("Breaker", "failing") => {
                if last == 0 {
                    self.breaker.run = 0;
                }
                let run = self.breaker.run.min(4);
                self.add(run);
            }
            ("Probes" | "Phase", "until") => self.breaker.until = last,
            ("Probes", "out") => self.breaker.out = last,
            ("Probes", "successes") => self.breaker.successes = last,
            ("Probes", "failures") => self.breaker.failures = last,
            ("Endpoint", "tier") => {
                facts.endpoints[facts.count] = EndpointFacts { tier: last, ..Default::default() };
            }
            ("Endpoint", "breaker") => facts.endpoints[facts.count].breaker = self.breaker,
            ("Endpoint", "watch") => facts.endpoints[facts.count].watched = self.watch_out,
            ("Endpoint", "listed") => {
                facts.endpoints[facts.count].list =
                    if last == u64::MAX { u64::MAX } else { self.variant };
                facts.count += 1;
            }
            ("Watch", "out") => self.watch_out = last,
            ("Watch", "troubled") => self.troubled = last == 1,
            ("Load", "out") => {
                facts.endpoints[self.loads].loaded = last;
                self.loads += 1;
            }
            ("Tier", "watch") => {
                facts.tiers[facts.tier_count].watched = self.watch_out;
                facts.tier_count += 1;
            }
            ("TierHealth", "healthy") => {
                facts.tiers[self.healths].healthy = last;
                self.healths += 1;
            }
            ("TierHealth", "degraded") => facts.tiers[self.healths - 1].degraded = last,
            ("Share", "healthy") => {
                facts.tiers[self.shares].share = last;
                self.shares += 1;
            }
            ("Share", "degraded") => facts.tiers[self.shares - 1].share += last,
            ("Loads", "kept") => facts.kept = last,
            ("Loads", "shed") => facts.shed = last,
            ("Loads", "idle") => facts.idle = last == 1,
            ("HoldDown", "active") => facts.active = last,
            ("Tiers", "due") => facts.tiers_due = last,
            ("Gate", "breaker") => facts.gate = self.breaker,
            ("Concurrency", "limit") => facts.limit = last,
            ("Concurrency", "in_flight") => facts.in_flight = last,
            ("Line", "waiting") => facts.waiting = last,
            ("Place", "serial") => {
                if let Some(place) = self.serials.get_mut(self.places) {
                    place.0 = last;
                    self.places += 1;
                }
            }
            ("Slot", "calls") => self.slots[self.slot % 10].0 = last,
            ("Slot", "repeats") => {
                self.slots[self.slot % 10].1 = last;
                self.slot += 1;
            }
            ("Budget", "tick") => self.budget(last),
            ("Hedge", "copies") => facts.copies = last,
            ("Call", "held") => {
                self.call.held = last != u64::MAX;
                let held = u64::from(self.call.held);
                self.add(held);
            }
            ("EndpointId", "index") => {
                self.index = last;
                self.add(last);
            }
            ("Pass", "slot") => self.call.slot = last != u64::MAX,
            ("Permit", "generation") => {
                let stale = if self.in_pass {
                    self.call.permit = Some(last);
                    self.facts.gate.generation != last
                } else {
                    self.facts.endpoints[self.index as usize].breaker.generation != last
                };
                self.add(u64::from(stale));
            }
            ("Ticket", "index") => {
                self.index = last;
                self.add(last);
            }
            ("Ticket", "serial") => {
                let place = self.serials.get(self.index as usize).copied().unwrap_or_default();
                self.call.ticket = place == (last, true);
                let valid = u64::from(self.call.ticket);
                self.add(valid);
            }
            _ => (),
        }
    }

    fn budget(&mut self, tick: u64) {
        self.slot = 0;
        let present = self.now / 1_000_000_000;
        let (mut calls, mut repeats) = (0, 0);
        for age in 0..10_u64.min(tick + 1) {
            let slot = self.slots[((tick - age) % 10) as usize];
            if tick - age + 10 > present {
                (calls, repeats) = (calls + slot.0, repeats + slot.1);
                if self.profile.budget {
                    self.add(present - (tick - age));
                    self.add(slot.0 << 32 | slot.1);
                }
            }
        }
        (self.facts.calls, self.facts.repeats) = (calls, repeats);
        if self.profile.budget {
            self.add(self.now % 1_000_000_000 / 50_000_000);
        } else {
            let earned = calls * self.profile.ppm + self.profile.floor * 10_000_000;
            self.add((earned.saturating_sub(repeats * 1_000_000) / 1_000_000).min(3));
        }
    }
}

/// A point in time relative to `now`, with the past no older than `past`.
pub fn relative(at: u64, now: u64, past: u64) -> u64 {
    match at {
        u64::MAX => u64::MAX,
        at if at > now => at - now,
        at => (1 << 63) | (now - at).min(past),
    }
}

pub fn mix(key: u64, x: u64) -> u64 {
    let x = (x ^ key.rotate_left(23)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let x = (x ^ (x >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (x ^ (x >> 29)).wrapping_add(key.wrapping_mul(5))
}
