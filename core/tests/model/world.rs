//! One state of the model: a service, its live calls, the time; the inputs that are possible in
//! it; and the judge, which compares what the machine did with a plain account of its own.

use std::time::Duration;

use origin_core::call::{AttemptId, Choice};
use origin_core::config::Rules;
use origin_core::discovery::directory::Resolution;
use origin_core::notice;
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::policy::tiers::{Cause, Change};
use origin_core::{Action, Call, CallSpec, EndpointId, Event, Service, Time, Verdict};

use crate::common::candidates;
use crate::walk::{CallFacts, Facts, MOST, Profile, Walk, mix, relative};

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

    /// Takes in the changes of the first choice.
    fn listen(&mut self) {
        for notice in self.service.notices().since(self.notices) {
            let notice::Event::Tier { change, .. } = &notice.event else { continue };
            let kind = match change {
                Change::Failover { .. } => 0,
                Change::Failback { cause: Cause::Free | Cause::Waited { .. }, .. } => 1,
                Change::Failback { .. } => 2,
                _ => continue,
            };
            self.switches.push((notice.at, kind));
        }
        self.notices = self.service.notices().count();
    }

    /// Reads the state, judges it, and returns its key.
    pub fn key(&mut self, v: &Variant) -> u64 {
        let mut walk = Walk::new(self.now, v.profile);
        let mut key = walk.service(&self.service);
        let mut calls: [u64; 4] = [0; 4];
        let mut seen = [CallFacts::default(); 4];
        let now = self.now.as_nanos();
        for (n, track) in self.calls.iter().enumerate() {
            let mut own = walk.call(&track.call);
            for out in &track.outs {
                let at = out.map_or(1, |out| relative(out.at.as_nanos(), now, 0));
                own = mix(own, at);
            }
            own = mix(own, relative(track.wake.as_nanos(), now, 0));
            own = mix(own, u64::from(self.wakes(track)) << 1 | u64::from(track.left));
            calls[n] = own;
            seen[n] = walk.call;
        }
        let alive = self.calls.len();
        calls[..alive].sort_unstable();
        calls[..alive].iter().for_each(|own| key = mix(key, *own));
        if let Some((hold, _)) = v.hold {
            let span = hold.as_nanos() as u64 * 3;
            self.switches.retain(|(at, _)| now - at.as_nanos() <= span);
            for (at, kind) in &self.switches {
                key = mix(key, now - at.as_nanos());
                key = mix(key, u64::from(*kind));
            }
        } else {
            self.switches.clear();
        }
        self.facts = walk.facts;
        self.judge(v, &seen[..alive]);
        let tick = self.tick();
        self.begun.retain(|at| at + 10 > tick);
        self.repeats.retain(|at| at + 10 > tick);
        key
    }

    fn judge(&self, v: &Variant, seen: &[CallFacts]) {
        let f = &self.facts;
        let outs = || self.calls.iter().flat_map(|track| track.outs.iter().flatten());
        let mut ready = [(0_u64, 0_u64); MOST];
        let mut tiers = [0_u64; MOST];
        for (n, e) in f.endpoints.iter().take(f.count).enumerate() {
            let live = outs().filter(|out| place(out.to) == n).count() as u64;
            assert_eq!((e.watched, e.loaded), (live, live), "attempts out at {n}: {e:?}");
            tiers[e.tier as usize] += live;
            let counted = |out: &&Out| place(out.to) == n && out.generation == e.breaker.generation;
            if e.breaker.phase == 2 {
                let live = outs().filter(counted).count() as u64;
                assert_eq!(e.breaker.out, live, "permits of {n}: {e:?}");
                assert!(e.breaker.out <= v.permits, "too many probes at {n}: {e:?}");
                let waits = e.breaker.out > 0;
                assert_eq!(e.breaker.until != u64::MAX, waits, "half-open for ever at {n}: {e:?}");
            }
            if e.breaker.phase == 1 {
                let now = self.now.as_nanos();
                assert!(e.breaker.until > now && e.breaker.until != u64::MAX, "{n}: {e:?}");
                assert_eq!(e.list, u64::MAX, "an open endpoint is offered: {e:?}");
            }
            if e.breaker.phase == 0 {
                assert_eq!(e.list, 0, "a closed endpoint is not offered: {e:?}");
            }
            ready[e.tier as usize].0 += u64::from(e.list == 0);
            ready[e.tier as usize].1 += u64::from(e.list == 1);
        }
        for (n, tier) in f.tiers.iter().take(f.tier_count).enumerate() {
            assert_eq!(tier.watched, tiers[n], "attempts out in cluster {n}");
            assert_eq!((tier.healthy, tier.degraded), ready[n], "health of cluster {n}");
        }
        // The split of the load.
        let shares: u64 = f.tiers.iter().take(f.tier_count).map(|tier| tier.share).sum();
        assert_eq!(shares + f.kept + f.shed, 100, "the split does not sum up: {f:?}");
        let usable = ready.iter().any(|(healthy, degraded)| healthy + degraded > 0);
        assert!(!(f.idle && usable), "idle though somebody is usable: {f:?}");
        let below: u64 = f.tiers.iter().take(f.tier_count).skip(1).map(|tier| tier.share).sum();
        assert!(below <= v.max_spill, "{below} % spill: {f:?}");
        self.judge_calls(v, seen);
        self.judge_switches(v);
        // The budget, exactly.
        let tick = self.tick();
        let recent = |list: &[u64]| list.iter().filter(|at| **at + 10 > tick).count() as u64;
        assert_eq!(f.repeats, recent(&self.repeats), "repeats that are paid");
        assert!(v.warm || f.calls == recent(&self.begun), "calls that earn");
    }

    fn judge_calls(&self, v: &Variant, seen: &[CallFacts]) {
        let f = &self.facts;
        let on = !v.rules.concurrency.is_off();
        let mut inside = 0;
        let mut queued = 0;
        let mut permits = 0;
        for (track, seen) in self.calls.iter().zip(seen) {
            let live = track.outs.iter().flatten().count();
            assert_eq!(seen.lives as usize, live, "attempts out: {track:?}");
            assert_eq!(seen.held, track.held.is_some(), "held budget: {track:?}");
            // Where nothing guards the service, a call holds nothing of it.
            let inside_now = v.rules.gated && track.parked.is_none();
            assert_eq!(seen.pass, inside_now, "inside or not: {track:?}");
            assert_eq!(seen.slot, on && seen.pass);
            let waits = live > 0 || track.wake != Time::NEVER;
            assert!(waits, "nothing will ever move it: {track:?}");
            inside += u64::from(seen.slot);
            queued += u64::from(seen.ticket);
            permits += u64::from(f.gate.phase == 2 && seen.permit == Some(f.gate.generation));
        }
        assert_eq!(f.in_flight, inside, "calls in flight");
        assert_eq!(f.waiting, queued, "calls in the queue");
        assert_eq!(f.gate.out, permits, "permits of the service: {f:?}");
        if on {
            // An adaptive limit may fall below what is in flight.
            assert!(v.adaptive || f.in_flight <= f.limit, "{f:?}");
            // Free places and a queue: then somebody has been told.
            let told = self.calls.iter().any(|t| t.parked.is_some() && self.wakes(t));
            assert!(f.waiting == 0 || f.in_flight >= f.limit || told, "nobody was told: {f:?}");
        }
        let counts = self.service.counts();
        assert_eq!(counts.misuse, 0);
        let ended = counts.answered + counts.failed + counts.abandoned;
        assert_eq!((counts.calls, ended), self.counts, "{counts:?}");
    }

    /// The bound that `HoldDown` proves, over every window that ends now.
    fn judge_switches(&self, v: &Variant) {
        let Some((hold, free)) = v.hold else { return };
        for (from, (at, _)) in self.switches.iter().enumerate() {
            let later = &self.switches[from..];
            // One nanosecond more: the end is not part of a window.
            let span = self.now.since(*at).as_nanos() + 1;
            let failbacks = later.iter().filter(|(_, kind)| *kind == 1).count() as u128;
            let most = u128::from(free) + span.div_ceil(hold.as_nanos());
            assert!(failbacks <= most, "{failbacks} failbacks, {most} allowed: {later:?}");
            let up = later.iter().filter(|(_, kind)| *kind > 0).count();
            let n = self.facts.tier_count;
            assert!(later.len() < n * (up + 1), "switches: {later:?}");
        }
    }

    /// From here a driver that is never late ends every call by its deadline, whatever the
    /// attempts come to; then nothing is held, and after a while somebody is called again.
    pub fn drain(mut self, v: &Variant, answers: bool) {
        let latest = self.calls.iter().map(|t| t.deadline).max().unwrap_or(self.now);
        let latest = latest.max(self.now);
        for round in 0.. {
            assert!(round < 200, "does not end");
            let due = |track: &Track| {
                let out = track.outs.iter().flatten().map(|out| out.at).min();
                let wake = if self.wakes(track) { self.now } else { track.wake };
                wake.min(out.unwrap_or(Time::NEVER))
            };
            let first = self.calls.iter().enumerate().map(|(n, track)| (due(track), n)).min();
            let Some((at, n)) = first else { break };
            if answers && let Some(m) = self.calls[n].outs.iter().position(Option::is_some) {
                self.finish(v, n, m, outcome(0));
                self.key(v);
                continue;
            }
            if at > self.now {
                self.now = at;
                self.tick_service();
                self.key(v);
            }
            assert!(self.now <= latest, "a call outlives its deadline: {:?}", self.calls[n]);
            let over = |out: &Option<Out>| out.is_some_and(|out| out.at <= self.now);
            match self.calls[n].outs.iter().position(over) {
                Some(m) => self.finish(v, n, m, outcome(TIMEOUT)),
                None => self.step(v, n, Event::Wake),
            }
            self.key(v);
        }
        self.now = self.now.plus(v.patience);
        self.tick_service();
        self.tick_service();
        self.key(v);
        self.begin(v, 0);
        let sent = self.calls.first().is_some_and(|track| track.sent == 1);
        assert!(sent, "nobody is called after {:?}: {:?}", v.patience, self.facts);
    }

    /// Nothing comes back: time alone opens every endpoint for an attempt, one after the other.
    pub fn recover(&self, v: &Variant) {
        let mut closed = [false; MOST];
        let mut any = false;
        for (n, e) in self.facts.endpoints.iter().take(self.facts.count).enumerate() {
            closed[n] = e.list == u64::MAX;
            any |= closed[n];
        }
        if !any && self.facts.gate.phase == 0 {
            return;
        }
        let mut service = self.service.clone();
        let (mut facts, mut now) = (self.facts, self.now);
        let admits =
            |facts: &Facts| facts.gate.phase == 0 || facts.gate.out == 0 && facts.gate.phase == 2;
        let mut gate = admits(&facts);
        for _ in 0..8 {
            let known = facts.endpoints.iter().take(facts.count).enumerate();
            let due = known.filter(|(n, _)| closed[*n]).map(|(_, e)| e.breaker.until);
            let gate_due = if gate { u64::MAX } else { facts.gate.until };
            let Some(due) = due.chain([gate_due]).min().filter(|due| *due != u64::MAX) else {
                break;
            };
            now = now.max(Time::from_nanos(due));
            let mut ghost = Call::new(CallSpec::default(), 0, 0);
            let _ = ghost.step(&mut service, now, Event::Abandoned);
            let mut walk = Walk::new(now, v.profile);
            walk.service(&service);
            facts = walk.facts;
            for (n, e) in facts.endpoints.iter().take(facts.count).enumerate() {
                closed[n] &= e.list == u64::MAX;
            }
            gate |= admits(&facts);
        }
        assert!(closed.iter().all(|closed| !closed), "stuck: {facts:?}");
        assert!(gate, "the service is stuck: {facts:?}");
        assert!(now <= self.now.plus(v.patience), "stuck until {now:?}: {facts:?}");
    }
}
