//! A crowd: many clients, each with its own [`Service`] and seed, in front of a few endpoints of
//! limited capacity. What makes an overload outlive its cause (metastability, HotOS'21) is here:
//! requests wait in line, first come first served, and an endpoint works through them all,
//! also those whose caller has given up. [`World`](super::World) has one client and looks at
//! every decision of it; this has many and keeps counts per second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use origin_core::call::{AttemptId, Why};
use origin_core::config::breaker::Mode as BreakerMode;
use origin_core::config::{Policy, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Role, plan};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::rng::Pcg32;
use origin_core::{
    Action, Address, Call, CallSpec, ConfigError, EndpointId, Event as Input, Service, Time,
    Verdict,
};

use super::queue::Queue;

/// What happens to the endpoints for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// They stand still. What comes meanwhile waits in line and is worked through afterwards.
    Freeze,
    /// They answer nothing, and what came until they are back is lost, as in a restart.
    Restart,
    /// They refuse connections.
    Refuse,
}

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The seed.
    pub seed: u64,
    /// The policy of every client.
    pub policy: Policy,
    /// Clients.
    pub clients: u32,
    /// Time between two calls of a client, on average.
    pub gap: Duration,
    /// Endpoints, all in one cluster.
    pub endpoints: u32,
    /// Requests an endpoint works on at the same time.
    pub workers: u32,
    /// Offered load in percent of the capacity; how long a request takes follows from it.
    pub load: u32,
    /// What happens.
    pub trigger: Trigger,
    /// When it begins.
    pub begin: Duration,
    /// How long it lasts.
    pub outage: Duration,
    /// How long is looked at afterwards.
    pub after: Duration,
}

/// What was counted in one second. Calls are counted in the second they began in, answers and
/// attempts when they happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Calls begun.
    pub calls: u32,
    /// Of those, how many were answered in the end.
    pub answered: u32,
    /// Answers that came in this second.
    pub answers: u32,
    /// Attempts sent.
    pub attempts: u32,
    /// Of those, how many an endpoint worked on for nobody.
    pub wasted: u32,
    /// Calls of this second that ended because the retry budget was spent.
    pub over_budget: u32,
    /// Calls of this second that were refused because every breaker was open.
    pub refused: u32,
}

/// What a run came to, second by second.
#[derive(Clone, Debug)]
pub struct Tale {
    /// The seconds, from the start.
    pub seconds: Vec<Second>,
    /// The seconds of the trigger.
    pub trigger: (usize, usize),
    /// Decisions made.
    pub steps: u64,
}

impl Crowd {
    /// `clients` clients with a call every `gap`, 80 % load, 30 s of standing still.
    #[must_use]
    pub fn new(seed: u64, clients: u32, gap: Duration) -> Crowd {
        Crowd {
            seed,
            policy: policy(),
            clients,
            gap,
            endpoints: 4,
            workers: 10,
            load: 80,
            trigger: Trigger::Freeze,
            begin: Duration::from_secs(12),
            outage: Duration::from_secs(30),
            after: Duration::from_secs(120),
        }
    }

    /// Mean time a request takes at an endpoint.
    #[must_use]
    pub fn work(&self) -> Duration {
        self.gap * self.endpoints * self.workers * self.load / 100 / self.clients
    }

    /// Runs it.
    ///
    /// # Errors
    /// A policy that is refused.
    pub fn run(&self) -> Result<Tale, ConfigError> {
        let rules = Rules::of(&self.policy, "policy")?;
        let mut run = Run::new(self, &rules);
        run.to(Time::ZERO.plus(self.begin + self.outage + self.after));
        Ok(run.tale())
    }
}

/// The default policy with the deadlines of a service that answers within tens of milliseconds.
#[must_use]
pub fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.deadline.total = Duration::from_secs(5);
    policy.deadline.attempt = Some(Duration::from_secs(1));
    policy
}

/// The same with nothing that holds back: `attempts` attempts per call, wherever, with the same
/// waits between them.
#[must_use]
pub fn naive(attempts: u32) -> Policy {
    let mut policy = policy();
    policy.retry.max_attempts = attempts;
    policy.retry.attempts_per_cluster = attempts;
    policy.retry.attempts_per_endpoint = attempts;
    policy.budget.enabled = false;
    policy.breaker.mode = BreakerMode::Disabled;
    policy.stall.enabled = false;
    policy.outlier.enabled = false;
    policy
}

impl Tale {
    /// Attempts per call begun, over some seconds.
    #[must_use]
    pub fn amplification(&self, from: usize, to: usize) -> f64 {
        let (calls, attempts) = self.sum(from, to, |s| (s.calls, s.attempts));
        ratio(attempts, calls)
    }

    /// The share of the calls begun in some seconds that were answered.
    #[must_use]
    pub fn success(&self, from: usize, to: usize) -> f64 {
        let (calls, answered) = self.sum(from, to, |s| (s.calls, s.answered));
        ratio(answered, calls)
    }

    /// Answers per second.
    #[must_use]
    pub fn goodput(&self, from: usize, to: usize) -> f64 {
        let (seconds, answers) = self.sum(from, to, |s| (1, s.answers));
        ratio(answers, seconds)
    }

    /// The most attempts per call begun in any second of some.
    #[must_use]
    pub fn peak(&self, from: usize, to: usize) -> f64 {
        (from..to).map(|s| self.amplification(s, s + 1)).fold(0.0, f64::max)
    }

    /// Seconds from the end of the trigger until of the calls of each of five seconds in a row
    /// at least 95 % are answered; `None` if that does not come.
    #[must_use]
    pub fn recovery(&self) -> Option<usize> {
        let well = |s: usize| self.success(s, s + 1) >= 0.95;
        let healed = self.trigger.1;
        // Calls of the last seconds may still be under way.
        let last = self.seconds.len().saturating_sub(5 + 5);
        (healed..last).find(|s| (*s..*s + 5).all(well)).map(|s| s - healed)
    }

    fn sum(&self, from: usize, to: usize, of: fn(&Second) -> (u32, u32)) -> (u64, u64) {
        let to = to.min(self.seconds.len());
        self.seconds[from.min(to)..to]
            .iter()
            .map(of)
            .fold((0, 0), |(a, b), (c, d)| (a + u64::from(c), b + u64::from(d)))
    }
}

#[allow(clippy::cast_precision_loss)] // counts of a test
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// One endpoint: when each of its workers is free. The line before it needs no list: who comes
/// later is worked on later, so the end of the work is known when a request arrives.
struct Endpoint {
    free: BinaryHeap<Reverse<Time>>,
}

enum Event {
    Arrive(u32),
    Wake { slot: usize, serial: u64, turn: u32 },
    End { slot: usize, serial: u64, attempt: AttemptId, outcome: Outcome },
}

struct Flight {
    client: usize,
    serial: u64,
    /// Moves with every step, so that timers of an earlier one are known as such.
    turn: u32,
    second: usize,
    /// Parked since this epoch of its service.
    parked: Option<u64>,
    call: Call,
    /// Attempts it has given up, one bit each: their ends are of no interest.
    dropped: u32,
}

struct Run<'a> {
    crowd: &'a Crowd,
    now: Time,
    queue: Queue<Event>,
    rng: Pcg32,
    services: Vec<Service>,
    endpoints: Vec<Endpoint>,
    /// The same at every client: all are told of the endpoints in the same order.
    numbers: BTreeMap<EndpointId, usize>,
    addresses: Vec<String>,
    flights: Vec<Option<Flight>>,
    vacant: Vec<usize>,
    next: u64,
    outage: (Time, Time),
    seconds: Vec<Second>,
    steps: u64,
}

/// One way between a client and an endpoint.
const WAY: Duration = Duration::from_micros(500);

impl<'a> Run<'a> {
    fn new(crowd: &'a Crowd, rules: &Rules) -> Run<'a> {
        let addresses: Vec<String> =
            (0..crowd.endpoints).map(|n| format!("http://10.0.0.{}:80", n + 1)).collect();
        let known: Vec<_> = addresses
            .iter()
            .filter_map(|address| Address::parse(address).ok())
            .map(|address| ("alpha".into(), Role::Primary, address))
            .collect();
        let found = Resolution::Found(plan::injected(&known, None));
        let services = (0..u64::from(crowd.clients)).map(|client| {
            let seed = crowd.seed << 32 | client;
            let mut service = Service::new("billing".into(), rules.clone(), seed);
            service.resolve(Time::ZERO, found.clone());
            service
        });
        let idle = || Endpoint { free: vec![Reverse(Time::ZERO); crowd.workers as usize].into() };
        let begin = Time::ZERO.plus(crowd.begin);
        let mut run = Run {
            crowd,
            now: Time::ZERO,
            queue: Queue::new(crowd.seed),
            rng: Pcg32::new(crowd.seed, 0xc0d),
            services: services.collect(),
            endpoints: (0..crowd.endpoints).map(|_| idle()).collect(),
            numbers: BTreeMap::new(),
            addresses,
            flights: Vec::new(),
            vacant: Vec::new(),
            next: 0,
            outage: (begin, begin.plus(crowd.outage)),
            seconds: Vec::new(),
            steps: 0,
        };
        for client in 0..crowd.clients {
            let first = run.draw(Duration::ZERO, crowd.gap);
            run.queue.push(Time::ZERO.plus(first), Event::Arrive(client));
        }
        run
    }

    /// A span between `least` and `most`.
    fn draw(&mut self, least: Duration, most: Duration) -> Duration {
        let spread = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        least + Duration::from_nanos(self.rng.up_to(spread))
    }

    fn to(&mut self, end: Time) {
        while let Some((at, event)) = self.queue.pop() {
            self.now = self.now.max(at);
            match event {
                // What is under way comes to its end; nothing new begins.
                Event::Arrive(_) if at >= end => (),
                Event::Arrive(client) => {
                    let gap = self.draw(self.crowd.gap / 2, self.crowd.gap * 3 / 2);
                    self.queue.push(at.plus(gap), Event::Arrive(client));
                    self.begin(client as usize);
                }
                Event::Wake { slot, serial, turn } => {
                    if self.flight(slot, serial).is_some_and(|flight| flight.turn == turn) {
                        self.step(slot, Input::Wake);
                    }
                }
                Event::End { slot, serial, attempt, outcome } => {
                    let dropped = |flight: &Flight| flight.dropped >> attempt.0 & 1 == 1;
                    if self.flight(slot, serial).is_some_and(|flight| !dropped(flight)) {
                        self.step(slot, Input::Finished(attempt, outcome));
                    }
                }
            }
        }
    }

    fn flight(&self, slot: usize, serial: u64) -> Option<&Flight> {
        self.flights.get(slot)?.as_ref().filter(|flight| flight.serial == serial)
    }

    fn second(&mut self, at: Time) -> &mut Second {
        let number = usize::try_from(at.as_millis() / 1_000).unwrap_or(0);
        if self.seconds.len() <= number {
            self.seconds.resize(number + 1, Second::default());
        }
        &mut self.seconds[number]
    }

    fn begin(&mut self, client: usize) {
        let serial = self.next;
        self.next += 1;
        let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
        let call = Call::new(spec, self.crowd.seed, serial).abreast(3);
        self.second(self.now).calls += 1;
        let second = usize::try_from(self.now.as_millis() / 1_000).unwrap_or(0);
        let flight = Flight { client, serial, turn: 0, second, parked: None, call, dropped: 0 };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        self.flights[slot] = Some(flight);
        self.step(slot, Input::Begin);
    }

    fn step(&mut self, slot: usize, mut input: Input) {
        loop {
            let Some(Some(flight)) = self.flights.get_mut(slot) else { return };
            let service = &mut self.services[flight.client];
            let epoch = service.epoch();
            flight.turn += 1;
            flight.parked = None;
            self.steps += 1;
            let action = flight.call.step(service, self.now, input);
            let (client, serial, turn, second) =
                (flight.client, flight.serial, flight.turn, flight.second);
            let moved = service.epoch() != epoch;
            if let Action::Park { epoch, .. } = action {
                flight.parked = Some(epoch);
            }
            if moved {
                self.rouse(client);
            }
            match action {
                Action::Send { attempt, to, deadline, wake, .. } => {
                    let (at, outcome) = self.send(client, to, deadline.at);
                    self.queue.push(at, Event::End { slot, serial, attempt, outcome });
                    self.queue.push(wake, Event::Wake { slot, serial, turn });
                    return;
                }
                Action::Park { until, .. } | Action::WaitUntil(until) => {
                    self.queue.push(until, Event::Wake { slot, serial, turn });
                    return;
                }
                Action::Cancel(attempt) => {
                    if let Some(Some(flight)) = self.flights.get_mut(slot) {
                        flight.dropped |= 1 << attempt.0;
                    }
                    input = Input::Wake;
                }
                Action::Done(verdict) => {
                    self.flights[slot] = None;
                    self.vacant.push(slot);
                    self.over(second, verdict);
                    return;
                }
            }
        }
    }

    /// The epoch of a service moved: its parked calls look.
    fn rouse(&mut self, client: usize) {
        let epoch = self.services[client].epoch();
        for (slot, flight) in self.flights.iter().enumerate() {
            if let Some(flight) = flight
                && flight.client == client
                && flight.parked.is_some_and(|since| since != epoch)
            {
                let (serial, turn) = (flight.serial, flight.turn);
                self.queue.push(self.now, Event::Wake { slot, serial, turn });
            }
        }
    }

    fn over(&mut self, second: usize, verdict: Verdict) {
        let now = self.now;
        match verdict {
            Verdict::Answered(_) => {
                self.second(now).answers += 1;
                self.seconds[second].answered += 1;
            }
            Verdict::Failed { why: Why::Budget, .. } => self.seconds[second].over_budget += 1,
            Verdict::Failed { why: Why::Refused, .. } => self.seconds[second].refused += 1,
            Verdict::Failed { .. } => (),
        }
    }

    /// An attempt is sent: how and when it ends for its caller. The endpoint may be busy with it
    /// for longer.
    fn send(&mut self, client: usize, to: EndpointId, deadline: Time) -> (Time, Outcome) {
        let now = self.now;
        self.second(now).attempts += 1;
        let number = match self.numbers.get(&to) {
            Some(number) => *number,
            None => {
                let address = self.services[client].address(to).map(|a| a.as_str().to_owned());
                let known = self.addresses.iter().position(|a| Some(a) == address.as_ref());
                let number = known.unwrap_or(0);
                self.numbers.insert(to, number);
                number
            }
        };
        let arrives = now.plus(WAY);
        let (begin, end) = self.outage;
        let during = arrives >= begin && arrives < end;
        let timeout = Outcome::Failed { fault: Fault::Timeout, sent: Sent::Maybe };
        if during && self.crowd.trigger == Trigger::Refuse {
            let refused = Outcome::Failed { fault: Fault::Connect, sent: Sent::Never };
            return (arrives.plus(WAY).min(deadline), refused);
        }
        if during && self.crowd.trigger == Trigger::Restart {
            return (deadline, timeout);
        }
        let mean = self.crowd.work();
        let work = self.draw(mean / 2, mean * 3 / 2);
        let endpoint = &mut self.endpoints[number];
        let free = endpoint.free.pop().map_or(arrives, |Reverse(free)| free);
        let mut start = free.max(arrives);
        if start >= begin && start < end {
            start = end;
        }
        let mut done = start.plus(work);
        if start < begin && done > begin {
            // The work rests meanwhile, or is lost with all that waits.
            done = match self.crowd.trigger {
                Trigger::Freeze => done.plus(self.crowd.outage),
                Trigger::Restart | Trigger::Refuse => {
                    endpoint.free.push(Reverse(end));
                    return (deadline, timeout);
                }
            };
        }
        endpoint.free.push(Reverse(done));
        let back = done.plus(WAY);
        if back <= deadline {
            return (back, Outcome::status(200));
        }
        self.second(now).wasted += 1;
        (deadline, timeout)
    }

    fn tale(self) -> Tale {
        let second = |span: Duration| usize::try_from(span.as_secs()).unwrap_or(0);
        let Crowd { begin, outage, after, .. } = self.crowd;
        let mut seconds = self.seconds;
        seconds.resize(second(*begin + *outage + *after), Second::default());
        let trigger = (second(*begin), second(*begin + *outage));
        Tale { seconds, trigger, steps: self.steps }
    }
}
