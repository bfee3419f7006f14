//! The queue against a list that is sorted and searched, over every short sequence and many long
//! ones; the leases by their table.

use proptest::prelude::*;

use super::*;

const ALL: [Priority; 3] = [Priority::Sheddable, Priority::Normal, Priority::Critical];

fn settings(change: impl FnOnce(&mut QueueConfig)) -> Settings {
    let mut config = QueueConfig { enabled: true, ..QueueConfig::default() };
    change(&mut config);
    Settings::of(&config, "q").unwrap()
}

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// A waiting caller of the model; times in milliseconds.
#[derive(Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    priority: Priority,
    entered: u64,
    latest: u64,
    age_end: u64,
    standing: bool,
}

impl Waiter {
    fn end(&self) -> u64 {
        self.latest.min(self.age_end)
    }
}

/// The rules as one would write them down: a plain list in the order of arrival, and the fate of
/// everybody who is no longer in it.
struct Model {
    queue: WaitQueue,
    settings: Settings,
    now: u64,
    filled: u64,
    list: Vec<Waiter>,
    fates: Vec<(Ticket, Shed, u32)>,
    entered: u32,
}

impl Model {
    fn new(settings: Settings) -> Model {
        let queue = WaitQueue::new(&settings);
        Model { queue, settings, now: 1_000, filled: 0, list: vec![], fates: vec![], entered: 0 }
    }

    fn span(&self, span: Duration) -> u64 {
        u64::try_from(span.as_millis()).unwrap()
    }

    /// Those whose time is over are out when nobody of their priority is in front of them.
    fn expire(&mut self) {
        for priority in ALL {
            while let Some(at) = self.list.iter().position(|w| w.priority == priority)
                && self.list[at].end() <= self.now
            {
                let _ = self.out(at);
            }
        }
    }

    fn out(&mut self, at: usize) -> Shed {
        let w = self.list.remove(at);
        let waited = Duration::from_millis(w.end() - w.entered);
        let reason = if w.latest < w.age_end {
            Shed::Deadline { waited }
        } else {
            Shed::Aged { waited, standing: w.standing }
        };
        self.fates.push((w.ticket, reason, self.entered));
        reason
    }

    fn enter(&mut self, priority: Priority, patience: u64) {
        let latest = self.now + patience;
        let got = self.queue.enter(ms(self.now), priority, ms(latest), &self.settings);
        self.expire();
        if self.list.is_empty() {
            self.filled = self.now;
        }
        if patience == 0 {
            assert_eq!(got, Err(Shed::Deadline { waited: Duration::ZERO }));
            return;
        }
        let waiting = self.list.len() as u32;
        if waiting == self.settings.capacity {
            let lowest = self.list.iter().map(|w| w.priority).min().unwrap();
            if lowest >= priority {
                assert_eq!(got, Err(Shed::Full { waiting, capacity: waiting }));
                return;
            }
            let at = self.list.iter().rposition(|w| w.priority == lowest).unwrap();
            let out = self.list.remove(at);
            self.fates.push((out.ticket, Shed::Displaced { by: priority }, self.entered));
        }
        // The age bound: `target`, once the queue stands for this priority; until then as long
        // as it does not, and never longer than `max_wait`.
        let intervals = 1 + ALL.iter().position(|p| *p == priority).unwrap() as u64;
        let stands = self.filled + intervals * self.span(self.settings.interval);
        let longest = self.now + self.span(self.settings.max_wait);
        let short = if stands <= self.now { self.now } else { stands };
        let short = short.max(self.now + self.span(self.settings.target));
        let ticket = got.unwrap();
        assert!(self.fates.iter().all(|(t, ..)| *t != ticket), "a ticket was given twice");
        let (age_end, standing) = (short.min(longest), short < longest);
        let entered = self.now;
        self.entered += 1;
        self.list.push(Waiter { ticket, priority, entered, latest, age_end, standing });
    }

    /// Polls the caller that is `index`-th in order of arrival.
    fn poll(&mut self, index: usize, free: u32) {
        let Some(waiter) = self.list.get(index).cloned() else { return };
        let got = self.queue.poll(ms(self.now), waiter.ticket, free);
        self.expire();
        let Some(at) = self.list.iter().position(|w| w.ticket == waiter.ticket) else {
            let fate = self.fates.iter().find(|(t, ..)| *t == waiter.ticket).unwrap().1;
            assert_eq!(got, Turn::Shed { reason: fate });
            return;
        };
        if waiter.end() <= self.now {
            assert_eq!(got, Turn::Shed { reason: self.out(at) });
            return;
        }
        let in_front = |(n, w): &(usize, &Waiter)| {
            let before = w.priority == waiter.priority && *n < at;
            w.end() > self.now && (w.priority > waiter.priority || before)
        };
        if (self.list.iter().enumerate().filter(in_front).count() as u32) < free {
            assert_eq!(got, Turn::Go);
            self.list.remove(at);
            self.fates.push((waiter.ticket, Shed::Gone, self.entered));
        } else {
            assert_eq!(got, Turn::Wait { until: ms(waiter.end()) });
        }
    }

    fn leave(&mut self, index: usize) {
        if index < self.list.len() {
            let ticket = self.list.remove(index).ticket;
            self.queue.leave(ticket);
            self.queue.leave(ticket);
            self.fates.push((ticket, Shed::Gone, self.entered));
        }
    }

    /// Everybody's answer, whoever they are and were, and the length.
    fn check(&mut self) {
        let mut look = self.queue.clone();
        self.expire();
        look.line.shed_ended(ms(self.now));
        for w in &self.list {
            let got = look.clone().poll(ms(self.now), w.ticket, 0);
            assert_eq!(got == Turn::Wait { until: ms(w.end()) }, w.end() > self.now);
        }
        for (ticket, fate, entered) in &self.fates {
            let got = look.poll(ms(self.now), *ticket, 9);
            // A place is not used again before everybody else's.
            let forgotten = self.entered - entered > self.settings.capacity
                && got == Turn::Shed { reason: Shed::Gone };
            assert!(got == Turn::Shed { reason: *fate } || forgotten, "{got:?} {fate:?}");
        }
        assert_eq!(look.len() as usize, self.list.len());
        assert!(look.len() <= self.settings.capacity);
    }
}

#[test]
fn every_short_sequence_equals_the_list() {
    let settings = settings(|c| {
        c.capacity = 2;
        c.max_wait = Duration::from_millis(100);
        c.target = Duration::from_millis(20);
        c.interval = Duration::from_millis(40);
    });
    let acts: [fn(&mut Model); 10] = [
        |m| m.enter(Priority::Sheddable, 1_000),
        |m| m.enter(Priority::Normal, 1_000),
        |m| m.enter(Priority::Critical, 1_000),
        |m| m.enter(Priority::Normal, 30),
        |m| m.poll(0, 1),
        |m| m.poll(1, 1),
        |m| m.poll(1, 2),
        |m| m.leave(0),
        |m| m.now += 20,
        |m| m.now += 45,
    ];
    for code in 0..10_usize.pow(6) {
        let (mut model, mut left) = (Model::new(settings), code);
        for _ in 0..6 {
            acts[left % 10](&mut model);
            left /= 10;
        }
        model.check();
    }
}

#[test]
fn leases_by_priority_and_by_how_long_the_queue_has_been_filled() {
    // max_wait 1 s, target 50 ms, interval 1 s: what may be waited by who enters after …
    let settings = settings(|_| ());
    let table = [
        (0, [1_000, 1_000, 1_000]),
        (500, [500, 1_000, 1_000]),
        (980, [50, 1_000, 1_000]),
        (1_000, [50, 1_000, 1_000]),
        (1_700, [50, 300, 1_000]),
        (2_000, [50, 50, 1_000]),
        (2_990, [50, 50, 50]),
        (60_000, [50, 50, 50]),
    ];
    for (after, expect) in table {
        for (priority, expect) in ALL.into_iter().zip(expect) {
            let now = ms(5_000 + after);
            let entry = lease(now, ms(5_000), priority, Time::NEVER, &settings);
            assert_eq!(now.until(entry.end).as_millis(), expect, "{after} {priority:?}");
            assert_eq!(entry.standing, expect < 1_000);
        }
    }
}

#[test]
fn a_queue_that_stands_sheds_low_priorities_and_keeps_waits_short() {
    // 50 calls a second are served, 100 arrive, of each priority a third. Whoever is woken polls.
    let settings = settings(|c| c.capacity = 1_000);
    let mut queue = WaitQueue::new(&settings);
    let mut waiting: Vec<(Ticket, usize, u64)> = vec![];
    let (mut went, mut offered, mut longest) = ([0_u32; 3], [0_u32; 3], 0);
    for now in (0..20_000_u64).step_by(10) {
        let class = (now / 10 % 3) as usize;
        offered[class] += u32::from(now >= 5_000);
        let latest = ms(now + 30_000);
        let ticket = queue.enter(ms(now), ALL[class], latest, &settings).unwrap();
        waiting.push((ticket, class, now));
        let mut free = u32::from(now % 20 == 0);
        waiting.retain(|(ticket, class, entered)| match queue.poll(ms(now), *ticket, free) {
            Turn::Go => {
                free = 0;
                if now >= 5_000 {
                    went[*class] += 1;
                    longest = longest.max(now - entered);
                }
                false
            }
            Turn::Wait { .. } => true,
            Turn::Shed { .. } => false,
        });
    }
    let share = |n: usize| went[n] * 100 / offered[n];
    assert_eq!(share(2), 100, "{went:?} of {offered:?}");
    assert!((35..60).contains(&share(1)) && share(0) < 10, "{went:?} of {offered:?}");
    assert!(longest <= 50, "{longest}");
}

#[test]
fn a_lost_ticket_blocks_nobody_for_longer_than_its_lease() {
    let settings = settings(|_| ());
    let mut queue = WaitQueue::new(&settings);
    let lost = queue.enter(ms(0), Priority::Critical, ms(300), &settings).unwrap();
    let waits = queue.enter(ms(0), Priority::Normal, ms(9_000), &settings).unwrap();
    assert_eq!(queue.poll(ms(299), waits, 1), Turn::Wait { until: ms(1_000) });
    assert_eq!(queue.poll(ms(300), waits, 1), Turn::Go);
    let reason = Shed::Deadline { waited: Duration::from_millis(300) };
    assert_eq!(queue.poll(ms(5_000), lost, 1), Turn::Shed { reason });
    assert_eq!(reason.to_string(), "deadline after 300ms in the queue");
}

#[test]
fn off_and_retune() {
    let (off, on) = (Settings::default(), settings(|c| c.capacity = 4));
    let mut queue = WaitQueue::new(&off);
    assert_eq!(queue.enter(ms(0), Priority::Critical, ms(9), &off), Err(Shed::Off));
    queue.retune(&on);
    let mut enter = |p| queue.enter(ms(0), p, ms(9_000), &on).unwrap();
    let tickets = [Priority::Normal, Priority::Sheddable, Priority::Critical, Priority::Normal]
        .map(&mut enter);
    queue.retune(&settings(|c| c.capacity = 2));
    let mut answer = |n: usize| queue.poll(ms(1), tickets[n], 0);
    let shed = |waiting| Turn::Shed { reason: Shed::Full { waiting, capacity: 2 } };
    assert_eq!((answer(1), answer(3)), (shed(4), shed(3)));
    assert_eq!(answer(0), Turn::Wait { until: ms(1_000) });
    assert_eq!(answer(2), Turn::Wait { until: ms(1_000) });
    queue.retune(&off);
    assert!(queue.is_empty());
    assert_eq!(queue.poll(ms(1), tickets[2], 9), Turn::Shed { reason: Shed::Off });
}

#[test]
fn many_free_slots_are_handed_out_from_the_front() {
    let settings = settings(|_| ());
    let mut queue = WaitQueue::new(&settings);
    let mut enter = |_| queue.enter(ms(0), Priority::Normal, ms(900), &settings).unwrap();
    let tickets: Vec<Ticket> = (0..40).map(&mut enter).collect();
    let wait = Turn::Wait { until: ms(900) };
    assert_eq!(queue.poll(ms(1), tickets[31], 39), Turn::Go);
    assert_eq!(queue.poll(ms(1), tickets[32], 38), Turn::Go);
    assert_eq!(queue.poll(ms(1), tickets[38], 37), wait, "further than a poll looks");
    assert_eq!(queue.poll(ms(1), tickets[39], 38), Turn::Go, "enough for all");
    assert_eq!(queue.poll(ms(1), tickets[0], 0), wait);
}

#[test]
fn nothing_is_allocated_after_the_beginning() {
    let settings = settings(|c| c.capacity = 8);
    let mut queue = WaitQueue::new(&settings);
    assert_eq!(queue.line.memory(), (16, 48));
    for now in 0..1_000 {
        if let Ok(ticket) = queue.enter(ms(now), ALL[now as usize % 3], ms(now + 5), &settings) {
            let _ = queue.poll(ms(now), ticket, u32::from(now % 2 == 0));
        }
    }
    assert_eq!(queue.line.memory(), (16, 48));
    queue.retune(&self::settings(|c| c.capacity = 32));
    assert_eq!(queue.line.memory(), (64, 48));
}

#[test]
fn x_09_every_field_is_checked_by_name() {
    type Case = (&'static str, fn(&mut QueueConfig));
    let cases: [Case; 7] = [
        ("capacity", |c| c.capacity = 0),
        ("capacity", |c| c.capacity = u32::MAX),
        ("max_wait", |c| c.max_wait = Duration::ZERO),
        ("max_wait", |c| c.max_wait = Duration::MAX),
        ("target", |c| c.target = Duration::ZERO),
        ("target", |c| c.target = Duration::from_secs(2)),
        ("interval", |c| c.interval = Duration::ZERO),
    ];
    for (field, change) in cases {
        let mut config = QueueConfig::default();
        change(&mut config);
        assert_eq!(Settings::of(&config, "p.q").unwrap_err().field, format!("p.q.{field}"));
    }
    assert_eq!(Settings::of(&QueueConfig::default(), "q").unwrap(), Settings::default());
}

proptest! {
    #[test]
    fn long_sequences_equal_the_list(
        capacity in 1_u32..12, max_wait in 1_u64..300, target in 1_u64..300, interval in 1_u64..300,
        script in proptest::collection::vec((0_u8..8, 0_usize..3, 0_u64..400, 0_usize..12, 0_u32..4), 1..200),
    ) {
        let mut model = Model::new(settings(|c| {
            c.capacity = capacity;
            c.max_wait = Duration::from_millis(max_wait);
            c.target = Duration::from_millis(target.min(max_wait));
            c.interval = Duration::from_millis(interval);
        }));
        for (action, class, millis, index, free) in script {
            match action {
                0..3 => model.enter(ALL[class], millis),
                3..5 => model.poll(index, free),
                5 => model.leave(index),
                _ => model.now += millis / 8,
            }
            model.check();
        }
    }

    #[test]
    fn any_input_is_survived(
        capacity: u32, spans: [u64; 3],
        script in proptest::collection::vec((0_u8..6, prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], any::<u64>(), any::<u32>()), 1..100),
    ) {
        let config = QueueConfig {
            enabled: true,
            capacity: capacity % 8,
            max_wait: Duration::from_nanos(spans[0]),
            target: Duration::from_nanos(spans[1]),
            interval: Duration::from_nanos(spans[2]),
        };
        let settings = Settings::compile(&config);
        let mut queue = WaitQueue::new(&settings);
        let mut tickets = vec![Ticket { index: u32::MAX, serial: 0 }];
        for (action, now, latest, number) in script {
            let time = Time::from_nanos(now);
            let ticket = tickets[number as usize % tickets.len()];
            match action {
                0..3 => {
                    let priority = ALL[usize::from(action)];
                    tickets.extend(queue.enter(time, priority, Time::from_nanos(latest), &settings));
                }
                3 => { let _ = queue.poll(time, ticket, number); }
                4 => queue.leave(ticket),
                _ => queue.retune(&settings),
            }
            prop_assert!(queue.len() <= settings.capacity);
        }
    }
}
