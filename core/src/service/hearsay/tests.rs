//! A fleet of services around one fake Redis: each node calls, and hears and tells through it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::call::{Action, Call, CallSpec, Event as Step, Verdict, Why};
use crate::config::{
    BalanceKind, KnowledgeConfig, KnowledgeMode, Mode, Policy, RedisConfig, Rules,
};
use crate::discovery::directory::Resolution;
use crate::error::Skip;
use crate::outcome::{Fault, Outcome, Sent};
use crate::policy::breaker::State;
use crate::pool::tests::{candidates, consistent};
use crate::redis::fake::Fake;
use crate::service::Order;

const BAD: &str = "http://10.0.0.0:80";
const GOOD: &str = "http://10.0.0.1:80";

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn settings(change: impl FnOnce(&mut KnowledgeConfig)) -> redis::Settings {
    let mut config = RedisConfig::default();
    config.breakers.mode = KnowledgeMode::Advise;
    change(&mut config.breakers);
    redis::Settings::of(&config, "redis").unwrap()
}

fn rules(change: impl FnOnce(&mut Policy)) -> Rules {
    let mut policy = Policy::default();
    policy.outlier.enabled = false;
    // So that calls go on to a bad endpoint until its breaker opens.
    policy.balance.kind = BalanceKind::Random;
    policy.stall.enabled = false;
    (policy.breaker.open, policy.breaker.jitter) = (Duration::from_secs(30), 0.0);
    change(&mut policy);
    Rules::of(&policy, "policy").unwrap()
}

struct Node {
    service: Service,
    calls: u64,
}

impl Node {
    fn new(number: u64, sizes: &[usize], rules: Rules, settings: &redis::Settings) -> Node {
        let mut service = Service::new("web".into(), rules, number);
        service.resolve(ms(1), Resolution::Found(candidates(sizes)));
        service.share(ms(1), Some(settings), &format!("n{number}")).unwrap();
        Node { service, calls: 0 }
    }

    /// One call of one attempt: where it went, or why it did not.
    fn call(&mut self, now: u64, works: impl Fn(&str) -> bool) -> Result<String, Why> {
        let spec = CallSpec { max_attempts: 1, ..CallSpec::default() };
        let mut call = Call::new(spec, 7, self.calls);
        self.calls += 1;
        match call.step(&mut self.service, ms(now), Step::Begin) {
            Action::Send { attempt, to, .. } => {
                let label = self.service.label(to).unwrap().1;
                let outcome = match works(&label) {
                    true => Outcome::status(200),
                    false => Outcome::Failed { fault: Fault::Reset, sent: Sent::Maybe },
                };
                let end = call.step(&mut self.service, ms(now), Step::Finished(attempt, outcome));
                assert!(matches!(end, Action::Done(_)), "{end:?}");
                Ok(label.to_string())
            }
            Action::Done(Verdict::Failed { why, .. }) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    /// Calls until the breaker of an endpoint opens.
    fn open(&mut self, now: u64, endpoint: &str) {
        for _ in 0..1_000 {
            if matches!(self.breaker(now, endpoint), State::Open { .. }) {
                return;
            }
            let _ = self.call(now, |to| to != endpoint);
        }
        panic!("it does not open");
    }

    fn of(&mut self, now: u64, endpoint: &str) -> crate::snapshot::EndpointSnapshot {
        let snapshot = self.service.snapshot(ms(now));
        snapshot.endpoints.into_iter().find(|e| &*e.address == endpoint).unwrap()
    }

    fn breaker(&mut self, now: u64, endpoint: &str) -> State {
        self.of(now, endpoint).breaker
    }

    /// Whether others are heeded about it.
    fn heeds(&mut self, now: u64, endpoint: &str) -> bool {
        self.of(now, endpoint).advised_against.is_some_and(|advised| advised.heeded)
    }

    /// Carries out the exchanges that are due.
    fn exchange(&mut self, redis: &mut Fake, up: bool) {
        let (now, wall) = (ms(redis.ms), Wall(1_000 + redis.ms / 1_000));
        for _ in 0..5 {
            match self.service.poll_knowledge(now, wall) {
                Poll::Wait(until) => {
                    assert!(until > now, "a busy loop");
                    return;
                }
                Poll::Run(exchange) => {
                    let outcome = match up {
                        true => JobOutcome::Replies(redis.run(&exchange.commands)),
                        false => JobOutcome::Failed(Fault::Connect),
                    };
                    let _ = self.service.knowledge_done(now, wall, exchange.id, outcome);
                }
            }
        }
        panic!("more than two exchanges at once");
    }

    fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.service.notices().since(0).filter(|notice| which(&notice.event)).count()
    }
}

fn fleet(count: u64, sizes: &[usize], settings: &redis::Settings) -> (Vec<Node>, Fake) {
    let node = |number| Node::new(number, sizes, rules(|_| {}), settings);
    ((0..count).map(node).collect(), Fake { ms: 10_000, ..Fake::default() })
}

fn exchange(nodes: &mut [Node], redis: &mut Fake, millis: u64) {
    let end = redis.ms + millis;
    while redis.ms < end {
        redis.ms += 250;
        nodes.iter_mut().for_each(|node| node.exchange(redis, true));
    }
}

fn strict(k: &mut KnowledgeConfig) {
    (k.mode, k.quorum, k.share) = (KnowledgeMode::Strict, 1, 0.0);
}

#[test]
fn case_001_120_the_second_instance_rejects_after_the_first_opened() {
    let (mut nodes, mut redis) = fleet(2, &[1], &settings(strict));
    exchange(&mut nodes, &mut redis, 1_000);
    let now = redis.ms;
    // It works for the second one until the first finds out otherwise; that does not count.
    assert_eq!(nodes[1].call(now, |_| true), Ok(BAD.into()));
    assert!(!nodes[0].service.take_news());
    nodes[0].open(now, BAD);
    assert!(nodes[0].service.take_news(), "the driver is told to look");
    assert!(!nodes[0].service.take_news());
    exchange(&mut nodes, &mut redis, 250);
    // The first one tells at once; the second one asks within its interval.
    exchange(&mut nodes, &mut redis, 5_500);
    let now = redis.ms;
    let attempts = nodes[1].service.counts().attempts;
    assert_eq!(nodes[1].call(now, |_| true), Err(Why::Refused));
    assert_eq!(nodes[1].service.counts().attempts, attempts);
    let skipped: Vec<_> = nodes[1].service.refusals(ms(now)).collect();
    assert!(matches!(&skipped[..], [one] if one.why == Skip::Advised && !one.open_for.is_zero()));
    let seen = nodes[1].of(now, BAD);
    let advised = seen.advised_against.unwrap();
    assert_eq!((seen.breaker, advised.by, advised.of), (State::Closed, 1, 2));
    assert_eq!(nodes[1].count(|e| matches!(e, Event::AdvisedAgainst { refused: true, .. })), 1);
    // What it heard it does not tell: the word of the first ends with its own interval.
    let State::Open { until } = nodes[0].breaker(now, BAD) else { panic!("not open") };
    assert!(advised.ends_in <= ms(now).until(until));
    let end = until.as_millis() + 1;
    assert!(matches!(nodes[1].call(until.as_millis() - 100, |_| true), Err(Why::Refused)));
    assert_eq!(nodes[1].call(end, |_| true), Ok(BAD.into()));
    assert_eq!(nodes[1].count(|e| matches!(e, Event::AdviceEnded { .. })), 1);
}

#[test]
fn a_quorum_protects_from_one_bad_node() {
    let (mut nodes, mut redis) = fleet(5, &[2], &settings(|_| {}));
    // The network of one node is broken: everything is bad for it.
    for _ in 0..200 {
        let _ = nodes[0].call(redis.ms, |_| false);
    }
    assert!(matches!(nodes[0].breaker(redis.ms, BAD), State::Open { .. }));
    for _ in 0..20 {
        exchange(&mut nodes, &mut redis, 500);
        let now = redis.ms;
        for node in &mut nodes[1..] {
            assert!(node.of(now, BAD).advised_against.is_none());
            assert!(node.call(now, |_| true).is_ok());
        }
    }
    assert!(nodes[1..].iter().all(|n| n.count(|e| matches!(e, Event::AdvisedAgainst { .. })) == 0));
}

/// Three of four find an endpoint bad; the last one has not been there.
fn advised(change: impl FnOnce(&mut KnowledgeConfig), sizes: &[usize]) -> (Vec<Node>, Fake) {
    let (mut nodes, mut redis) = fleet(4, sizes, &settings(change));
    exchange(&mut nodes, &mut redis, 1_000);
    for node in &mut nodes[..3] {
        node.open(redis.ms, BAD);
    }
    exchange(&mut nodes, &mut redis, 6_000);
    assert!(nodes[3].heeds(redis.ms, BAD));
    (nodes, redis)
}

/// One address in two clusters, as behind a gateway: what is said of one is not said of the other.
#[test]
fn the_same_address_in_another_cluster_is_another_endpoint() {
    let sharing = settings(strict);
    let (mut nodes, mut redis) = fleet(2, &[1, 1], &sharing);
    let mut twice = candidates(&[1, 1]);
    twice[1].address = twice[0].address.clone();
    for node in &mut nodes {
        node.service.resolve(ms(redis.ms), Resolution::Found(twice.clone()));
    }
    nodes[0].open(redis.ms, BAD);
    exchange(&mut nodes, &mut redis, 1_000);
    let advised = |node: &mut Node| -> Vec<(String, bool)> {
        let seen = node.service.snapshot(ms(redis.ms)).endpoints;
        seen.iter().map(|e| (e.cluster.to_string(), e.advised_against.is_some())).collect()
    };
    assert_eq!(advised(&mut nodes[1]), [("c0".to_owned(), true), ("c1".to_owned(), false)]);
}

#[test]
fn an_endpoint_that_others_found_bad_gets_a_probe_per_interval_and_no_more() {
    let (mut nodes, mut redis) = advised(|_| {}, &[4]);
    let mut probes = Vec::new();
    let mut others = 0;
    for _ in 0..1_200 {
        redis.ms += 25;
        let now = redis.ms;
        // The three keep finding it bad.
        for node in &mut nodes[..3] {
            let _ = node.call(now, |to| to != BAD);
            node.exchange(&mut redis, true);
        }
        let heeded = nodes[3].heeds(now, BAD);
        let to = nodes[3].call(now, |to| to != BAD).unwrap();
        nodes[3].exchange(&mut redis, true);
        match to == BAD {
            true if heeded => probes.push(now),
            true => (),
            false => others += 1,
        }
    }
    assert!(others >= 1_000, "{others}");
    assert!((2..=7).contains(&probes.len()), "{probes:?}");
    assert!(probes.windows(2).all(|two| two[1] - two[0] >= 5_000), "{probes:?}");
}

#[test]
fn a_fleet_does_not_probe_at_once() {
    let (mut nodes, mut redis) = fleet(30, &[4], &settings(|k| k.share = 0.0));
    exchange(&mut nodes, &mut redis, 1_000);
    for node in &mut nodes[..3] {
        node.open(redis.ms, BAD);
    }
    let mut at = Vec::new();
    for _ in 0..220 {
        redis.ms += 50;
        nodes[..3].iter_mut().for_each(|node| node.exchange(&mut redis, true));
        for node in &mut nodes[3..] {
            let heeded = node.heeds(redis.ms, BAD);
            // Enough of them to find it bad by themselves would be too many.
            let to =
                if heeded { node.call(redis.ms, |to| to != BAD).unwrap() } else { GOOD.into() };
            node.exchange(&mut redis, true);
            at.extend((heeded && to == BAD).then_some(redis.ms));
        }
    }
    assert!(nodes[3..].iter_mut().all(|node| node.heeds(redis.ms, BAD)));
    assert!((27..=81).contains(&at.len()), "{at:?}");
    // Spread over the interval: in no twentieth of it more than a quarter of the nodes.
    let most = at.iter().map(|t| at.iter().filter(|u| (*t..t + 250).contains(*u)).count()).max();
    assert!(most <= Some(7), "{at:?}");
}

#[test]
fn a_wrong_hint_heals_by_a_probe() {
    let (mut nodes, mut redis) = advised(|k| k.ttl = Duration::from_secs(60), &[2]);
    let node = &mut nodes[3];
    let (mut probed, mut after) = (None, 0);
    for _ in 0..300 {
        redis.ms += 20;
        let to = node.call(redis.ms, |_| true).unwrap();
        match (to == BAD, probed) {
            (true, None) => probed = Some(redis.ms),
            (true, Some(_)) => after += 1,
            (false, _) => (),
        }
    }
    let probed = probed.unwrap();
    assert!(!node.heeds(redis.ms, BAD) && after > 20, "{probed} {after}");
    assert_eq!(node.count(|e| matches!(e, Event::AdviceEnded { .. })), 1);
    // Without further successes the others count again, if they still say so.
    if node.of(redis.ms + 10_001, BAD).advised_against.is_some() {
        assert!(node.heeds(redis.ms + 10_001, BAD));
    }
}

#[test]
fn without_redis_advice_ends_with_its_time() {
    let (mut nodes, mut redis) = advised(|_| {}, &[2]);
    let ends = nodes[3].of(redis.ms, BAD).advised_against.unwrap().ends_in;
    assert!(ends <= Duration::from_secs(30), "{ends:?}");
    let end = redis.ms + u64::try_from(ends.as_millis()).unwrap() + 1;
    while redis.ms < end {
        redis.ms += 250;
        nodes[3].exchange(&mut redis, false);
    }
    assert!(!nodes[3].heeds(redis.ms, BAD));
    assert!(nodes[3].of(redis.ms, BAD).advised_against.is_none());
    let lost = |e: &Event| matches!(e, Event::SharedKnowledge { .. });
    assert_eq!(nodes[3].count(lost), 1);
    let went: Vec<_> = (0..50).map(|_| nodes[3].call(redis.ms, |_| true).unwrap()).collect();
    assert!(went.iter().filter(|to| *to == BAD).count() > 5);
}

#[test]
fn advice_never_leaves_a_service_without_endpoints() {
    // One endpoint: without panic, with it, and where panic refuses calls.
    for (panic, fail) in [(0, false), (50, false), (50, true)] {
        let settings = settings(|_| {});
        let node = |number| {
            let rules = rules(|p| {
                (p.failover.panic_threshold, p.failover.fail_on_panic) = (panic, fail);
            });
            Node::new(number, &[1], rules, &settings)
        };
        let mut nodes: Vec<Node> = (0..4).map(node).collect();
        let mut redis = Fake { ms: 10_000, ..Fake::default() };
        for node in &mut nodes[..3] {
            node.open(redis.ms, BAD);
        }
        exchange(&mut nodes, &mut redis, 6_000);
        for _ in 0..20 {
            let now = redis.ms;
            assert!(nodes[3].heeds(now, BAD), "{panic} {fail}");
            assert_eq!(nodes[3].call(now, |_| false), Ok(BAD.into()), "{panic} {fail}");
            if matches!(nodes[3].breaker(now, BAD), State::Open { .. }) {
                break;
            }
        }
        // Its own breaker decides.
        assert!(matches!(nodes[3].breaker(redis.ms, BAD), State::Open { .. }));
    }
}

#[test]
fn what_a_person_forced_and_what_a_shadow_would_do_is_not_told() {
    let sharing = settings(strict);
    let told = |node: &mut Node, redis: &mut Fake| {
        node.exchange(redis, true);
        let mut second = Node::new(9, &[2], rules(|_| {}), &sharing);
        second.exchange(redis, true);
        second.of(redis.ms, BAD).advised_against.is_some()
    };
    let fake = || Fake { ms: 10_000, ..Fake::default() };
    let mut node = Node::new(1, &[2], rules(|_| {}), &sharing);
    let bad = node.service.endpoints_at(BAD).next().unwrap();
    for order in [Order::Open, Order::KeepOpen] {
        assert!(node.service.order(ms(10_000), bad, order));
        assert!(!told(&mut node, &mut fake()), "{order:?}");
    }
    let mut shadow = Node::new(2, &[2], rules(|p| p.breaker.mode = Mode::Shadow), &sharing);
    for _ in 0..200 {
        let _ = shadow.call(10_000, |to| to != BAD);
    }
    assert!(matches!(shadow.breaker(10_000, BAD), State::Open { .. }));
    assert!(!told(&mut shadow, &mut fake()));
    // In force it is told, and taken back when it no longer is.
    let enforced = rules(|_| {});
    shadow.service.reconfigure(ms(10_000), enforced, vec![]);
    let mut redis = Fake { ms: 11_000, ..Fake::default() };
    assert!(told(&mut shadow, &mut redis));
    let bad = shadow.service.endpoints_at(BAD).next().unwrap();
    assert!(shadow.service.order(ms(10_000), bad, Order::Reset));
    redis.ms += 1_000;
    assert!(!told(&mut shadow, &mut redis));
}

#[test]
fn switched_off_it_forgets_and_says_goodbye() {
    let (mut nodes, redis) = advised(|_| {}, &[2]);
    let node = &mut nodes[3];
    assert_eq!(node.service.farewell().len(), 3);
    node.service.share(ms(redis.ms), Some(&settings(|_| {}).clone()), "other").unwrap();
    assert!(node.heeds(redis.ms, BAD), "other settings forget nothing");
    node.service.share(ms(redis.ms), None, "n3").unwrap();
    assert!(!node.service.shares() && !node.heeds(redis.ms, BAD));
    assert!(node.service.farewell().is_empty());
    assert!(matches!(node.service.poll_knowledge(ms(redis.ms), Wall(0)), Poll::Wait(Time::NEVER)));
    assert!(node.service.share(ms(redis.ms), Some(&settings(|_| {})), "a:b").is_err());
    assert!(node.call(redis.ms, |to| to == GOOD).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever happens: lists and timers stay exact, time goes on, a call finds somebody whose
    /// breaker is closed (not strict), and every word is of an own breaker.
    #[test]
    fn lists_stay_exact(
        binding in any::<bool>(),
        steps in proptest::collection::vec((0..9_u8, 0..4_usize, 0..9_000_u64), 1..80),
    ) {
        let sharing = settings(|k| if binding { strict(k) } else { k.share = 0.0 });
        let (mut nodes, mut redis) = fleet(4, &[2, 1], &sharing);
        for (what, which, number) in steps {
            let node = &mut nodes[which];
            let now = redis.ms;
            match what {
                0 | 1 => redis.ms += number,
                2 => node.exchange(&mut redis, true),
                3 => node.exchange(&mut redis, false),
                4 | 5 => (0..12).for_each(|_| drop(node.call(now, |to| to != BAD))),
                6 => drop(node.call(now, |_| true)),
                7 => {
                    let sizes = [[2, 1], [1, 1], [2, 0], [3, 2]][number as usize % 4];
                    node.service.resolve(ms(now), Resolution::Found(candidates(&sizes)));
                }
                _ => drop(node.service.poll_knowledge(ms(now), Wall(number))),
            }
            let now = redis.ms;
            let snapshot = node.service.snapshot(ms(now));
            consistent(&node.service.pool, &node.service.rules)?;
            prop_assert!(node.service.pool.due() > ms(now));
            let closed = snapshot.endpoints.iter().any(|e| e.breaker == State::Closed);
            if closed && !binding {
                prop_assert!(node.call(now, |_| true).is_ok());
                consistent(&node.service.pool, &node.service.rules)?;
            }
        }
    }
}
