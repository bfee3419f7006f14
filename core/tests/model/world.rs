//! One state of the model: a service, its live calls, the time; the inputs that are possible in
//! it; and a plain account of what the machine did with them. What is judged in each state is in
//! `judge`, what must come of it in `ends`.

mod ends;
mod judge;

use std::time::Duration;

use origin_core::call::{AttemptId, Choice};
use origin_core::config::Rules;
use origin_core::discovery::directory::Resolution;
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Action, Call, CallSpec, EndpointId, Event, Service, Time, Verdict};

use crate::common::candidates;
use crate::walk::{Facts, MOST, Profile, Walk};

/// What is explored.
#[derive(Clone)]
pub struct Variant {
    pub name: &'static str,
    pub sizes: &'static [usize],
    pub rules: Rules,
    /// Calls that may be alive at the same time.
    pub alive: usize,
    /// Kinds of calls that may begin, with the stream of their randomness.
    pub kinds: Vec<(CallSpec, u64)>,
    pub outcomes: &'static [u8],
    pub abreast: u8,
    pub step: Duration,
    pub profile: Profile,
    /// The limit on calls in flight moves.
    pub adaptive: bool,
    /// Answered calls per endpoint before it begins, so that stalls can be told.
    pub warm: bool,
    /// Longest time in which what is out must have come back, without results.
    pub patience: Duration,
    pub hold: Option<(Duration, u32)>,
    pub max_spill: u64,
    pub permits: u64,
}

/// An input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A call of this kind begins.
    Begin(u8),
    /// This attempt of this call ends so.
    Finish(u8, u8, u8),
    /// A call that is due is woken.
    Wake(u8),
    /// The caller drops the call.
    Abandon(u8),
    /// Time passes to the next point at which something is due.
    Next,
    /// Time passes, whatever is due: the driver is late.
    Step,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    id: AttemptId,
    to: EndpointId,
    at: Time,
    /// The breaker's generation it was sent under.
    generation: u64,
}

#[derive(Clone, Debug)]
struct Track {
    call: Call,
    spec: CallSpec,
    deadline: Time,
    outs: [Option<Out>; 3],
    wake: Time,
    /// Parked at this epoch.
    parked: Option<u64>,
    sent: u8,
    /// An attempt may have left.
    left: bool,
    /// The second in which the repeat was paid that it waits for.
    held: Option<u64>,
}

#[derive(Clone)]
pub struct World {
    service: Service,
    calls: Vec<Track>,
    now: Time,
    pub facts: Facts,
    begun: Vec<u64>,
    repeats: Vec<u64>,
    counts: (u64, u64),
    notices: u64,
    /// When the first choice changed, and how: 0 down, 1 up by an allowance, 2 up otherwise.
    switches: Vec<(Time, u8)>,
}

pub fn outcome(n: u8) -> Outcome {
    let failed = |fault, sent| Outcome::Failed { fault, sent };
    match n {
        0 => Outcome::status(200),
        1 => Outcome::status(503),
        2 => Outcome::status(429),
        3 => failed(Fault::Connect, Sent::Never),
        4 => failed(Fault::Timeout, Sent::Maybe),
        _ => Outcome::status(404),
    }
}

/// The outcome that is reported when the time of an attempt is over, and only then.
pub const TIMEOUT: u8 = 4;

fn id(index: usize) -> EndpointId {
    let value = serde_json::json!({ "index": index, "generation": index + 1 });
    serde_json::from_value(value).unwrap()
}

thread_local! {
    static IDS: [EndpointId; MOST] = std::array::from_fn(id);
}

fn place(of: EndpointId) -> usize {
    IDS.with(|ids| ids.iter().position(|id| *id == of)).expect("an endpoint of the model")
}

impl World {
    pub fn new(v: &Variant) -> World {
        let mut service = Service::new("m".into(), v.rules.clone(), 11);
        service.resolve(Time::ZERO, Resolution::Found(candidates(v.sizes)));
        let mut world = World {
            service,
            calls: Vec::new(),
            now: Time::ZERO,
            facts: Facts::default(),
            begun: Vec::new(),
            repeats: Vec::new(),
            counts: (0, 0),
            notices: 0,
            switches: Vec::new(),
        };
        for n in 0..v.sizes.iter().sum() {
            assert!(world.service.address(id(n)).is_some(), "endpoint {n} has another name");
        }
        if v.warm {
            world.warm(v);
        }
        world.key(v);
        world
    }

    /// Every endpoint answers ten times, so that its silence means something.
    fn warm(&mut self, v: &Variant) {
        let mut answered = [0_u32; MOST];
        for round in 0..400 {
            if (0..v.sizes.iter().sum()).all(|n| answered[n] >= 12) {
                break;
            }
            let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
            let mut call = Call::new(spec, 5, round);
            self.counts = (self.counts.0 + 1, self.counts.1 + 1);
            self.begun.push(self.tick());
            let mut action = call.step(&mut self.service, self.now, Event::Begin);
            while let Action::Send { attempt, to, .. } = action {
                let n = place(to);
                // The first cluster is skipped once it is known.
                let first = answered[n] >= 12;
                answered[n] += 1;
                self.now = self.now.plus(Duration::from_millis(1));
                let what = outcome(if first { 3 } else { 0 });
                action = call.step(&mut self.service, self.now, Event::Finished(attempt, what));
            }
            assert!(matches!(action, Action::Done(_)), "{action:?}");
        }
        self.now = self.now.plus(v.patience);
        self.tick_service();
        self.begun.clear();
        self.notices = self.service.notices().count();
        // Long enough ago that neither budget nor breakers remember.
        self.now = Time::from_millis(20_000);
        self.tick_service();
    }

    fn tick(&self) -> u64 {
        self.now.as_millis() / 1_000
    }

    /// Lets the service see the time, by an event that does nothing else.
    fn tick_service(&mut self) {
        let mut ghost = Call::new(CallSpec::default(), 0, 0);
        let done = ghost.step(&mut self.service, self.now, Event::Abandoned);
        assert!(matches!(done, Action::Done(_)));
    }

    /// What can happen now.
    pub fn ops(&self, v: &Variant, ops: &mut Vec<Op>) {
        ops.clear();
        if self.calls.len() < v.alive {
            ops.extend((0..v.kinds.len()).map(|kind| Op::Begin(kind as u8)));
        }
        let mut due = false;
        for (n, track) in (0..).zip(&self.calls) {
            for (m, out) in (0..).zip(&track.outs) {
                let Some(out) = out else { continue };
                if out.at <= self.now {
                    ops.push(Op::Finish(n, m, TIMEOUT));
                    due = true;
                }
                if out.at >= self.now {
                    let early = v.outcomes.iter().filter(|o| **o != TIMEOUT);
                    ops.extend(early.map(|o| Op::Finish(n, m, *o)));
                }
            }
            if self.wakes(track) {
                ops.push(Op::Wake(n));
                due = true;
            }
            ops.push(Op::Abandon(n));
        }
        if !due && self.next() != Time::NEVER {
            ops.push(Op::Next);
        }
        ops.push(Op::Step);
    }

    fn wakes(&self, track: &Track) -> bool {
        let moved = track.parked.is_some_and(|epoch| epoch != self.service.epoch());
        track.wake <= self.now || moved
    }

    /// The next point in time at which something is due.
    fn next(&self) -> Time {
        let calls = self
            .calls
            .iter()
            .flat_map(|track| track.outs.iter().flatten().map(|out| out.at).chain([track.wake]));
        let known = self.facts.endpoints.iter().take(self.facts.count);
        let dues = known.map(|e| e.breaker.until);
        let dues = dues.chain([self.facts.tiers_due, self.facts.gate.until]);
        let later = |at: &Time| *at > self.now && *at != Time::NEVER;
        calls.chain(dues.map(Time::from_nanos)).filter(later).min().unwrap_or(Time::NEVER)
    }

    /// Does `op` and judges what comes of it.
    pub fn apply(&mut self, v: &Variant, op: Op) {
        match op {
            Op::Begin(kind) => self.begin(v, usize::from(kind)),
            Op::Finish(n, m, what) => self.finish(v, n.into(), m.into(), outcome(what)),
            Op::Wake(n) => self.step(v, n.into(), Event::Wake),
            Op::Abandon(n) => self.step(v, n.into(), Event::Abandoned),
            Op::Next => {
                self.now = self.next();
                self.tick_service();
            }
            Op::Step => {
                self.now = self.now.plus(v.step);
                self.tick_service();
            }
        }
        self.listen();
    }

    fn begin(&mut self, v: &Variant, kind: usize) {
        let (spec, stream) = v.kinds[kind];
        let total = spec.total.unwrap_or(v.rules.total);
        self.calls.push(Track {
            call: Call::new(spec, 5, stream).abreast(v.abreast),
            spec,
            deadline: self.now.plus(total),
            outs: [None; 3],
            wake: Time::NEVER,
            parked: None,
            sent: 0,
            left: false,
            held: None,
        });
        self.begun.push(self.tick());
        self.counts.0 += 1;
        self.step(v, self.calls.len() - 1, Event::Begin);
    }

    fn finish(&mut self, v: &Variant, n: usize, m: usize, what: Outcome) {
        let out = self.calls[n].outs[m].expect("it is out");
        let at = place(out.to);
        let before = self.facts.endpoints[at].breaker;
        let sent = self.calls[n].sent;
        self.step_with(v, n, Event::Finished(out.id, what), Some(m));
        if out.generation != before.generation {
            // A straggler: its result is of another state, and changes nothing.
            let mut walk = Walk::new(self.now, v.profile);
            walk.service(&self.service);
            let mut after = walk.facts.endpoints[at].breaker;
            if self.calls.get(n).is_some_and(|track| track.sent > sent) {
                (after.out, after.until) = (before.out, before.until);
            }
            assert_eq!(after, before, "a straggler counted");
        }
    }

    fn step(&mut self, v: &Variant, n: usize, event: Event) {
        self.step_with(v, n, event, None);
    }

    fn step_with(&mut self, v: &Variant, n: usize, event: Event, ended: Option<usize>) {
        let (now, tick) = (self.now, self.tick());
        let track = &mut self.calls[n];
        let mut what = None;
        if let (Some(m), Event::Finished(_, outcome)) = (ended, event) {
            track.outs[m] = None;
            what = Some(outcome);
            track.left |= !matches!(outcome, Outcome::Failed { sent: Sent::Never, .. });
        }
        let alone = track.outs.iter().all(Option::is_none);
        let maybe =
            what.is_some_and(|o| !matches!(o, Outcome::Failed { sent: Sent::Never, .. })) && alone;
        let action = track.call.step(&mut self.service, now, event);
        (track.wake, track.parked) = (Time::NEVER, None);
        assert!(event != Event::Abandoned || matches!(action, Action::Done(_)));
        if what == Some(outcome(0)) {
            assert!(matches!(action, Action::Done(Verdict::Answered(_))), "{action:?} after 200");
        }
        match action {
            Action::Send { attempt, to, deadline, why, wake } => {
                track.sent += 1;
                assert_eq!(attempt.0, track.sent, "attempts are numbered");
                assert!(track.sent <= v.rules.max_attempts, "too many attempts");
                assert!(now < deadline.at, "sent when its time is over: {action:?}");
                assert!(deadline.at <= track.deadline, "sent beyond the deadline: {action:?}");
                let left = now.until(track.deadline);
                assert!(left >= v.rules.floor, "sent with {left:?} left: {action:?}");
                let idempotent = track.spec.idempotent == Some(true);
                let waits = track.outs.iter().any(Option::is_some);
                assert!(idempotent || !(track.left || waits), "unsafe repeat: {action:?}");
                assert!(wake > now, "woken at once: {action:?}");
                if why == Choice::Hedge || maybe {
                    assert!(track.held.is_none(), "paid twice");
                    self.repeats.push(tick);
                    Self::in_budget(v, &self.begun, &self.repeats, tick);
                }
                track.held = None;
                track.wake = wake;
                let free = track.outs.iter_mut().find(|out| out.is_none());
                let out = Out { id: attempt, to, at: deadline.at, generation: 0 };
                *free.expect("a place for it") = Some(out);
                let live = track.outs.iter().flatten().count();
                assert!(live <= usize::from(v.abreast), "{live} attempts at once");
                // The generation that it was admitted under.
                let mut walk = Walk::new(now, v.profile);
                walk.service(&self.service);
                let breaker = walk.facts.endpoints[place(to)].breaker;
                assert!(breaker.phase != 1, "sent to an open endpoint: {breaker:?}");
                let outs = &mut self.calls[n].outs;
                let out = outs.iter_mut().flatten().find(|out| out.id == attempt).unwrap();
                out.generation = breaker.generation;
            }
            Action::Cancel(id) => {
                let out = track.outs.iter_mut().find(|out| out.is_some_and(|out| out.id == id));
                *out.expect("cancels what is out") = None;
                track.left = true;
                assert!(track.held.is_none(), "paid twice");
                track.held = Some(tick);
                self.repeats.push(tick);
                Self::in_budget(v, &self.begun, &self.repeats, tick);
                track.wake = now;
            }
            Action::WaitUntil(until) => {
                assert!(until > now, "waits for what has passed");
                if alone {
                    assert!(until <= track.deadline, "waits beyond its deadline");
                }
                if maybe {
                    assert!(track.held.is_none(), "paid twice");
                    track.held = Some(tick);
                    self.repeats.push(tick);
                    Self::in_budget(v, &self.begun, &self.repeats, tick);
                }
                track.wake = until;
            }
            Action::Park { until, epoch } => {
                assert!(alone && track.sent == 0 && until > now && until <= track.deadline);
                assert_eq!(epoch, self.service.epoch());
                (track.wake, track.parked) = (until, Some(epoch));
            }
            Action::Done(_) => {
                let mut gone = self.calls.swap_remove(n);
                if let Some(paid) = gone.held
                    && let Some(at) = self.repeats.iter().position(|tick| *tick == paid)
                {
                    self.repeats.swap_remove(at);
                }
                self.counts.1 += 1;
                // Over is over: nothing that comes later may change anything.
                let again = gone.call.step(&mut self.service, now, Event::Abandoned);
                assert!(matches!(again, Action::Done(_)));
            }
        }
    }

    fn in_budget(v: &Variant, begun: &[u64], repeats: &[u64], tick: u64) {
        let recent = |list: &[u64]| list.iter().filter(|at| **at + 10 > tick).count() as u64;
        let earned = recent(begun) * v.rules.budget.ppm
            + u64::from(v.rules.budget.min_per_second) * 10_000_000;
        let spent = recent(repeats) * 1_000_000;
        assert!(!v.rules.budget.enabled || spent <= earned, "the budget is overdrawn");
    }
}
