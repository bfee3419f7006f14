//! A small fleet around one fake Redis: honest nodes are the shipped machine, the bad ones write
//! whatever they like.

use proptest::prelude::*;

use super::record::{Record, encode};
use super::*;
use crate::config::RedisConfig;
use crate::job::{JobOutcome, Poll};
use crate::outcome::Fault;
use crate::redis::fake::{Fake, Held};
use crate::redis::link::Change;
use crate::redis::{self, Command};
use crate::time::Wall;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn settings(change: impl FnOnce(&mut KnowledgeConfig)) -> redis::Settings {
    let mut config = RedisConfig::default();
    config.breakers.mode = KnowledgeMode::Advise;
    change(&mut config.breakers);
    redis::Settings::of(&config, "redis").unwrap()
}

struct Node {
    knowledge: Knowledge,
    rng: Pcg32,
    /// Seconds that its calendar is ahead.
    ahead: u64,
}

impl Node {
    fn new(name: &str) -> Node {
        let seed = record::endpoint("", name);
        Node { knowledge: Knowledge::new("web", name).unwrap(), rng: Pcg32::new(seed, 0), ahead: 0 }
    }
    /// Carries out whatever is due now.
    fn run(&mut self, redis: &mut Fake, settings: &redis::Settings) -> Vec<Event> {
        let (now, wall) = (ms(redis.ms), Wall(1_000 + self.ahead + redis.ms / 1_000));
        let mut events = vec![];
        for _ in 0..5 {
            match self.knowledge.poll(now, wall, settings, &mut self.rng) {
                Poll::Wait(until) => {
                    assert!(until > now, "a busy loop");
                    return events;
                }
                Poll::Run(exchange) => {
                    let outcome = JobOutcome::Replies(redis.run(&exchange.commands));
                    let done = self.knowledge.done(
                        now,
                        wall,
                        exchange.id,
                        outcome,
                        settings,
                        &mut self.rng,
                    );
                    events.extend(done.events);
                }
            }
        }
        panic!("more than a look, a word and a reading at once");
    }
    fn open(&mut self, redis: &Fake, endpoint: u64, millis: u64, settings: &redis::Settings) {
        let until = ms(redis.ms + millis);
        self.knowledge.report(ms(redis.ms), endpoint, Own::Open { until }, &settings.knowledge);
    }
    fn advice(&self, redis: &Fake, endpoint: u64, settings: &redis::Settings) -> Advice {
        self.knowledge.advice(ms(redis.ms), endpoint, None, &settings.knowledge)
    }
}

fn fleet(count: usize) -> Vec<Node> {
    (0..count).map(|n| Node::new(&format!("n{n}"))).collect()
}

/// Time passes, and everybody does what he has to.
fn pass(nodes: &mut [Node], redis: &mut Fake, settings: &redis::Settings, millis: u64) {
    let end = redis.ms + millis;
    while redis.ms < end {
        redis.ms = (redis.ms + 250).min(end);
        for node in &mut *nodes {
            let _ = node.run(redis, settings);
        }
    }
}

#[test]
fn a_quorum_of_others_advises_and_one_does_not() {
    let settings = settings(|_| {});
    let (mut nodes, mut redis) = (fleet(5), Fake { ms: 10_000, ..Fake::default() });
    pass(&mut nodes, &mut redis, &settings, 6_000);
    assert!(nodes.iter().all(|node| node.knowledge.board().live() == 5));
    nodes[0].open(&redis, 7, 60_000, &settings);
    nodes[1].open(&redis, 7, 60_000, &settings);
    pass(&mut nodes, &mut redis, &settings, 7_000);
    // Half of five is three: two are too few.
    assert!(nodes.iter().all(|node| node.advice(&redis, 7, &settings) == Advice::None));
    nodes[2].open(&redis, 7, 60_000, &settings);
    pass(&mut nodes, &mut redis, &settings, 7_000);
    for (n, node) in nodes.iter().enumerate() {
        // Those who found out themselves are told by two others only, and need no advice.
        let told = matches!(node.advice(&redis, 7, &settings), Advice::Avoid { by: 3, of: 5, .. });
        assert_eq!(told, n > 2, "{n}");
    }
    // An own success counts for more, while it is recent.
    let now = ms(redis.ms);
    let advice = |success| nodes[4].knowledge.advice(now, 7, Some(success), &settings.knowledge);
    assert_eq!(advice(now), Advice::None);
    assert_eq!(advice(ms(redis.ms - 9_999)), Advice::None);
    assert_ne!(advice(ms(redis.ms - 10_000)), Advice::None);
    assert_ne!(advice(ms(redis.ms + 1)), Advice::None);
}

#[test]
fn a_change_is_told_at_once_but_not_more_often_than_the_gap() {
    let settings = settings(|k| k.listen = Duration::ZERO);
    let (mut node, mut redis) = (Node::new("a"), Fake { ms: 10_000, ..Fake::default() });
    node.run(&mut redis, &settings);
    let mut told = 0;
    for n in 0..100_u64 {
        redis.ms += 10;
        node.open(&redis, n % 3, 60_000 + n, &settings);
        let before = redis.keys.clone();
        node.run(&mut redis, &settings);
        told += u32::from(redis.keys != before);
    }
    // One second: at 500 ms and at 1000 ms.
    assert_eq!(told, 2);
    // What did not change is not told.
    redis.ms += 600;
    node.run(&mut redis, &settings);
    let until = node.knowledge.own[&1];
    node.knowledge.report(ms(redis.ms), 1, Own::Open { until }, &settings.knowledge);
    redis.ms += 600;
    let wait = node.knowledge.poll(ms(redis.ms), Wall(1_000), &settings, &mut node.rng);
    assert!(matches!(wait, Poll::Wait(_)), "{wait:?}");
}

/// Polled every millisecond, as by a background: how many commands it sent in `millis`.
fn follow(nodes: &mut [Node], redis: &mut Fake, settings: &redis::Settings, millis: u64) -> usize {
    let mut commands = 0;
    for _ in 0..millis {
        redis.ms += 1;
        for node in nodes.iter_mut() {
            let before = redis.commands;
            node.run(redis, settings);
            commands += redis.commands - before;
        }
    }
    commands
}

#[test]
fn news_travel_in_no_time_however_rare_the_exchanges() {
    // The exchanges are so rare that everything below is the work of news.
    let settings = settings(|k| {
        (k.share, k.every, k.ttl) = (0.0, Duration::from_secs(600), Duration::from_secs(1_800));
    });
    let (mut nodes, mut redis) = (fleet(4), Fake { ms: 10_000, ..Fake::default() });
    follow(&mut nodes, &mut redis, &settings, 1_500);
    for node in &mut nodes[..2] {
        node.open(&redis, 1, 60_000, &settings);
    }
    // A look every 250 ms.
    follow(&mut nodes, &mut redis, &settings, 251);
    let avoids = |nodes: &[Node], redis: &Fake| nodes[3].advice(redis, 1, &settings);
    assert!(matches!(avoids(&nodes, &redis), Advice::Avoid { by: 2, of: 4, .. }));
    follow(&mut nodes, &mut redis, &settings, 1_000);
    nodes[0].knowledge.report(ms(redis.ms), 1, Own::Closed, &settings.knowledge);
    follow(&mut nodes, &mut redis, &settings, 251);
    assert_eq!(avoids(&nodes, &redis), Advice::None);
    // Nothing new: a look per 250 ms and node, and no more.
    follow(&mut nodes, &mut redis, &settings, 2_000);
    assert!(follow(&mut nodes, &mut redis, &settings, 5_000) <= 4 * 20);
}

#[test]
fn a_storm_of_news_costs_an_exchange_per_gap() {
    let settings = settings(|_| {});
    let (mut nodes, mut redis) = (fleet(1), Fake { ms: 10_000, ..Fake::default() });
    let told = |redis: &Fake| redis.keys.get(&b"origin:breaker:web:n0"[..]).cloned();
    let (mut before, mut times) = (None, 0);
    for n in 0..10_000_u64 {
        redis.ms += 1;
        // Somebody who changes the mark all the time.
        redis.put("origin:breakers:web:turn", n.to_string().as_bytes(), Some(60_000));
        nodes[0].run(&mut redis, &settings);
        times += u32::from(told(&redis) != before);
        before = told(&redis);
    }
    assert!((19..=23).contains(&times), "{times}");
}

#[test]
fn who_leaves_is_not_heard_from_then_on() {
    let rare = |k: &mut KnowledgeConfig| {
        (k.share, k.every, k.ttl) = (0.0, Duration::from_secs(600), Duration::from_secs(1_800));
    };
    let settings = settings(rare);
    let (mut nodes, mut redis) = (fleet(4), Fake { ms: 10_000, ..Fake::default() });
    for node in &mut nodes[..2] {
        node.open(&redis, 1, 600_000, &settings);
    }
    follow(&mut nodes, &mut redis, &settings, 2_000);
    assert_ne!(nodes[3].advice(&redis, 1, &settings), Advice::None);
    // In the middle of an exchange: that one is waited for, or it would be told again.
    nodes[0].open(&redis, 2, 600_000, &settings);
    redis.ms += 1_000;
    let (now, wall) = (ms(redis.ms), Wall(1_012));
    let node = &mut nodes[0];
    let Poll::Run(last) = node.knowledge.poll(now, wall, &settings, &mut node.rng) else {
        panic!("there is something to tell");
    };
    node.knowledge.leave();
    let wait = node.knowledge.poll(now, wall, &settings, &mut node.rng);
    assert!(matches!(wait, Poll::Wait(_)) && !node.knowledge.has_left());
    let outcome = JobOutcome::Replies(redis.run(&last.commands));
    let _ = node.knowledge.done(now, wall, last.id, outcome, &settings, &mut node.rng);
    follow(&mut nodes, &mut redis, &settings, 251);
    assert!(nodes[0].knowledge.has_left());
    assert_eq!(nodes[3].advice(&redis, 1, &settings), Advice::None);
    assert_eq!(nodes[3].knowledge.board().live(), 3);
    assert!(!redis.keys.contains_key(&b"origin:breaker:web:n0"[..]));
    // It has nothing to say any more, whatever happens to it.
    nodes[0].open(&redis, 3, 600_000, &settings);
    follow(&mut nodes, &mut redis, &settings, 2_000);
    assert!(!redis.keys.contains_key(&b"origin:breaker:web:n0"[..]));
    // Without Redis it is over at once.
    let node = &mut nodes[1];
    node.knowledge.leave();
    let now = ms(redis.ms);
    let Poll::Run(leave) = node.knowledge.poll(now, wall, &settings, &mut node.rng) else {
        panic!("it has something to take back");
    };
    let failed = JobOutcome::Failed(Fault::Timeout);
    let _ = node.knowledge.done(now, wall, leave.id, failed, &settings, &mut node.rng);
    assert!(node.knowledge.has_left());
}

#[test]
fn words_end_with_the_breaker_with_the_node_and_with_redis() {
    let settings = settings(|k| k.share = 0.0);
    let (mut nodes, mut redis) = (fleet(4), Fake { ms: 10_000, ..Fake::default() });
    for node in &mut nodes[..3] {
        node.open(&redis, 1, 12_000, &settings);
        node.open(&redis, 2, 600_000, &settings);
        node.open(&redis, 3, 600_000, &settings);
    }
    pass(&mut nodes, &mut redis, &settings, 6_000);
    let avoids = |nodes: &[Node], redis: &Fake, endpoint| {
        nodes[3].advice(redis, endpoint, &settings) != Advice::None
    };
    assert!([1, 2, 3].iter().all(|endpoint| avoids(&nodes, &redis, *endpoint)));
    for node in &mut nodes[..3] {
        node.knowledge.report(ms(redis.ms), 3, Own::Closed, &settings.knowledge);
    }
    pass(&mut nodes, &mut redis, &settings, 6_100);
    // The first turned half-open by itself, the third was closed.
    assert_eq!([1, 2, 3].map(|endpoint| avoids(&nodes, &redis, endpoint)), [false, true, false]);
    // Two leave: one takes its word back, the other just ends. Two are needed, one is left.
    redis.run(&nodes[0].knowledge.farewell(&settings));
    let (mut few, left) = (nodes.split_off(2), redis.ms);
    pass(&mut few, &mut redis, &settings, 24_000);
    assert!(few[1].advice(&redis, 2, &settings) != Advice::None, "within its time to live");
    pass(&mut few, &mut redis, &settings, 12_000);
    assert_eq!(few[1].advice(&redis, 2, &settings), Advice::None);
    assert_eq!(few[1].knowledge.board().live(), 2);
    // The name of the one that ended is out of the index.
    let index = &redis.keys[&b"origin:breakers:web"[..]].0;
    assert!(matches!(index, Held::Set(set) if set.len() == 2), "{index:?} {left}");
}

#[test]
fn without_redis_every_node_decides_alone() {
    let settings = settings(|_| {});
    let (mut nodes, mut redis) = (fleet(3), Fake { ms: 10_000, ..Fake::default() });
    for node in &mut nodes[..2] {
        node.open(&redis, 1, 600_000, &settings);
    }
    pass(&mut nodes, &mut redis, &settings, 6_000);
    assert!(nodes[2].advice(&redis, 1, &settings) != Advice::None);
    let mut lost = 0;
    for _ in 0..240 {
        redis.ms += 250;
        let (now, wall) = (ms(redis.ms), Wall(0));
        let node = &mut nodes[2];
        if let Poll::Run(exchange) = node.knowledge.poll(now, wall, &settings, &mut node.rng) {
            let failed = JobOutcome::Failed(Fault::Connect);
            let done =
                node.knowledge.done(now, wall, exchange.id, failed, &settings, &mut node.rng);
            lost += done.events.len();
            assert!(matches!(&done.events[..], [] | [Event::Link(Change::Lost { .. })]));
        }
    }
    assert_eq!((lost, nodes[2].advice(&redis, 1, &settings)), (1, Advice::None));
    // It comes back, the words with it.
    redis.ms += 30_000;
    pass(&mut nodes, &mut redis, &settings, 6_000);
    assert!(nodes[2].advice(&redis, 1, &settings) != Advice::None);
}

#[test]
fn case_001_120_strict_with_a_quorum_of_one_opens_with_the_first() {
    let strict = settings(|k| (k.mode, k.quorum, k.share) = (KnowledgeMode::Strict, 1, 0.0));
    let (mut nodes, mut redis) = (fleet(2), Fake { ms: 10_000, ..Fake::default() });
    nodes[0].open(&redis, 1, 20_000, &strict);
    nodes[0].run(&mut redis, &strict);
    nodes[1].run(&mut redis, &strict);
    let advice = nodes[1].advice(&redis, 1, &strict);
    assert_eq!(advice, Advice::Avoid { by: 1, of: 2, until: ms(30_000) });
    let (mut suspect, mut rng) = (Suspect::default(), Pcg32::new(1, 0));
    for _ in 0..1_000 {
        let admitted = suspect.admit(ms(29_999), advice, &strict.knowledge, &mut rng);
        assert_eq!(admitted, Admission::Held { until: ms(30_000) });
    }
    redis.ms = 30_000;
    assert_eq!(nodes[1].advice(&redis, 1, &strict), Advice::None);
}

#[test]
fn a_suspect_gets_one_probe_per_interval() {
    let settings = settings(|_| {}).knowledge;
    let avoid = Advice::Avoid { by: 2, of: 3, until: Time::NEVER };
    for seed in 0..20 {
        let (mut suspect, mut rng) = (Suspect::default(), Pcg32::new(seed, 0));
        let mut probes = vec![];
        for now in (10_000..40_000).step_by(50) {
            match suspect.admit(ms(now), avoid, &settings, &mut rng) {
                Admission::Probe => probes.push(now),
                Admission::Held { until } => assert!(until > ms(now) && until <= ms(now + 5_000)),
                Admission::Free => panic!("not free"),
            }
        }
        assert!((5..=6).contains(&probes.len()) && probes[0] <= 15_050, "{probes:?}");
        assert!(probes.windows(2).all(|pair| pair[1] - pair[0] == 5_000), "{probes:?}");
        assert_eq!(suspect.admit(ms(40_000), Advice::None, &settings, &mut rng), Admission::Free);
        assert_eq!(suspect, Suspect::default());
        // Whatever the clock does: one that went back does not keep probes away.
        for now in [u64::MAX, u64::MAX - 1, 0, u64::MAX, 5] {
            let _ = suspect.admit(Time::from_nanos(now), avoid, &settings, &mut rng);
        }
        let held = suspect.admit(Time::from_nanos(6), avoid, &settings, &mut rng);
        assert!(matches!(held, Admission::Held { until } if until <= ms(5_001)), "{held:?}");
    }
}

#[test]
fn forced_and_half_open_breakers_are_not_told() {
    let until = ms(5);
    assert_eq!(Own::of(&State::Open { until }), Own::Open { until });
    assert_eq!(Own::of(&State::Open { until: Time::NEVER }), Own::Closed);
    assert_eq!(Own::of(&State::Closed), Own::Closed);
}

#[test]
fn names_are_checked_before_anything_is_sent() {
    for (service, node) in
        [("", "a"), ("a:b", "a"), ("a", ""), ("a", "b:c"), ("a", "b c"), ("a", &"n".repeat(65))]
    {
        assert!(Knowledge::new(service, node).is_err(), "{service} {node}");
    }
}

#[test]
fn an_index_that_is_no_set_is_replaced() {
    let settings = settings(|_| {});
    let (mut nodes, mut redis) = (fleet(2), Fake { ms: 10_000, ..Fake::default() });
    redis.put("origin:breakers:web", b"garbage", None);
    pass(&mut nodes, &mut redis, &settings, 18_000);
    assert!(nodes.iter().all(|node| node.knowledge.board().live() == 2));
}

/// One node of three writes anything at all, under its own name and as its own record, and
/// anything into the index. Two honest ones say what they say.
#[derive(Clone, Debug)]
enum Lie {
    Record(Vec<(u64, u64)>, u64, u64),
    Bytes(Vec<u8>, Option<u64>),
    Index(Vec<u8>),
    Pass(u64),
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        4 => (proptest::collection::vec((0..4_u64, any::<u64>()), 0..4), 0..40_000_u64, 0..60_u64)
            .prop_map(|(open, life, wall)| Lie::Record(open, life, wall)),
        1 => (proptest::collection::vec(any::<u8>(), 0..20), proptest::option::of(1..50_000_u64)).prop_map(|(b, l)| Lie::Bytes(b, l)),
        1 => proptest::collection::vec(any::<u8>(), 0..9).prop_map(Lie::Index),
        4 => (100..9_000_u64).prop_map(Lie::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// With a quorum of two or more, one bad node never has anybody advised, whatever it writes.
    #[test]
    fn one_liar_opens_nobodys_breaker(lies in proptest::collection::vec(lie(), 0..20), quorum in 2..4_u32, share in 0..=1_u8) {
        let settings = settings(|k| (k.quorum, k.share) = (quorum, f64::from(share)));
        let (mut nodes, mut redis) = (fleet(2), Fake { ms: 10_000, ..Fake::default() });
        for lie in lies {
            match lie {
                Lie::Record(open, life_ms, wall) => {
                    let record = Record { expires: Wall(1_000 + redis.ms / 1_000 + wall), life_ms, open };
                    redis.put("origin:breaker:web:liar", &encode("web", "liar", &record), Some(life_ms.max(1)));
                    redis.run(&[Command::text(&["SADD", "origin:breakers:web", "liar"])]);
                }
                Lie::Bytes(bytes, life) => redis.put("origin:breaker:web:liar", &bytes, life),
                Lie::Index(member) => {
                    redis.run(&[Command::text(&["SADD", "origin:breakers:web"]).with(member)]);
                }
                Lie::Pass(millis) => pass(&mut nodes, &mut redis, &settings, millis),
            }
            for node in &nodes {
                for endpoint in 0..4 {
                    prop_assert_eq!(node.advice(&redis, endpoint, &settings), Advice::None);
                }
            }
        }
    }

    /// The board against counting: for each endpoint and time, how many distinct others say so.
    #[test]
    fn the_board_counts(
        words in proptest::collection::vec((0..6_u8, proptest::collection::vec((0..4_u64, 0..9_u64), 0..4)), 0..8),
        quorum in 2..4_u32, share in 0..=10_u8,
    ) {
        let settings = settings(|k| (k.quorum, k.share) = (quorum, f64::from(share) / 10.0)).knowledge;
        let peers: Vec<Peer> = words.iter().map(|(node, open)| Peer {
            node: node.to_string().into(),
            open: open.iter().map(|(endpoint, until)| (*endpoint, ms(*until))).collect(),
        }).collect();
        let mut board = Board::default();
        board.replace(peers, &settings);
        // A node counts once, with its first word; of an endpoint, with the one that ends first.
        let mut heard: Vec<(u8, Vec<(u64, u64)>)> = vec![];
        for (node, open) in words {
            if heard.iter().all(|(known, _)| *known != node) {
                heard.push((node, open));
            }
        }
        let live = heard.len() + 1;
        let need = (quorum as usize).max((live * usize::from(share)).div_ceil(10));
        prop_assert_eq!(board.live() as usize, live);
        for endpoint in 0..4 {
            for now in 0..10 {
                let says = |open: &[(u64, u64)]| {
                    open.iter().filter(|word| word.0 == endpoint).map(|word| word.1).min().is_some_and(|until| until > now)
                };
                let against = heard.iter().filter(|(_, open)| says(open)).count();
                let advice = board.advice(ms(now), endpoint, None, &settings);
                prop_assert_eq!(advice != Advice::None, against >= need, "{} {}", endpoint, now);
            }
        }
    }

    /// Clocks of calendars: within the skew they change nothing, beyond it nobody is heard; and
    /// the time a word counts never depends on them.
    #[test]
    fn calendars_cannot_prolong_a_word(ahead in 0..40_u64, millis in 1_000..60_000_u64) {
        let settings = settings(|k| k.share = 0.0);
        let (mut nodes, mut redis) = (fleet(3), Fake { ms: 10_000, ..Fake::default() });
        (nodes[0].ahead, nodes[1].ahead) = (ahead, ahead);
        for node in &mut nodes[..2] {
            node.open(&redis, 1, millis, &settings);
            node.run(&mut redis, &settings);
        }
        nodes[2].run(&mut redis, &settings);
        match nodes[2].advice(&redis, 1, &settings) {
            Advice::None => prop_assert!(ahead > 5),
            Advice::Avoid { until, .. } => {
                prop_assert!(ahead <= 6);
                prop_assert_eq!(until, ms(10_000 + millis.min(30_000)));
            }
        }
    }

    /// Any replies, any time, results that come twice or never.
    #[test]
    fn anything_is_survived(
        steps in proptest::collection::vec((0..4_u8, prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0..99_000_000_000_u64], proptest::collection::vec(0..6_u8, 0..9)), 0..30),
    ) {
        let settings = settings(|_| {});
        let (mut node, mut redis) = (Node::new("a"), Fake::default());
        for (what, time, words) in steps {
            let (now, wall) = (Time::from_nanos(time), Wall(time));
            node.knowledge.report(now, time, Own::Open { until: Time::from_nanos(time.wrapping_mul(3)) }, &settings.knowledge);
            let Poll::Run(exchange) = node.knowledge.poll(now, wall, &settings, &mut node.rng) else { continue };
            let outcome = match what {
                0 => JobOutcome::Dropped,
                1 => JobOutcome::Failed(Fault::Timeout),
                2 => JobOutcome::Replies(redis.run(&exchange.commands)),
                _ => {
                    let word = |word: &u8| match word {
                        0 => redis::Reply::Nil,
                        1 => redis::Reply::Number(-1),
                        2 => redis::Reply::Text("b".into()),
                        3 => redis::Reply::List(vec![redis::Reply::Text("b".into()), redis::Reply::Nil]),
                        4 => redis::Reply::Refused("WRONGTYPE".into()),
                        _ => redis::Reply::List(vec![redis::Reply::Text("\u{1}".into())]),
                    };
                    let mut replies: Vec<_> = words.iter().map(word).collect();
                    replies.resize(exchange.commands.len(), redis::Reply::List(vec![]));
                    JobOutcome::Replies(replies)
                }
            };
            let _ = node.knowledge.done(now, wall, exchange.id, outcome.clone(), &settings, &mut node.rng);
            prop_assert_eq!(node.knowledge.done(now, wall, exchange.id, outcome, &settings, &mut node.rng), Done::default());
            prop_assert!(node.knowledge.own.len() <= 256);
        }
    }
}
