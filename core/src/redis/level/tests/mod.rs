//! The level against a fake Redis that any number of clients share, and against the worst one.

mod anything;

use super::*;
use crate::address::Address;
use crate::config::{RedisConfig, SharedLevelConfig};
use crate::discovery::Role;
use crate::outcome::Fault;
use crate::redis::Variant;
use crate::redis::fake::Fake;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn instances(ports: &[u16]) -> Vec<Instance> {
    let one = |port| {
        let address = Address::parse(&format!("http://10.0.0.1:{port}")).unwrap();
        Instance::new("alpha".into(), Role::Primary, address)
    };
    ports.iter().copied().map(one).collect()
}

fn entry(name: &str, tag: &str) -> Entry {
    Entry::new(name, &Variant { tag: Some(tag.into()), ..Variant::default() }).unwrap()
}

/// One client with a Redis that has a clock of its own, which runs with the client's.
struct Client {
    level: Level,
    settings: crate::redis::Settings,
    rng: Pcg32,
    /// Seconds that its calendar is off.
    off: u64,
}

impl Client {
    fn new(config: &RedisConfig) -> Client {
        // Half a minute, as the contract of the Datapunk module has it.
        let mut config = config.clone();
        config.discovery.ttl = Duration::from_secs(30);
        let settings = crate::redis::Settings::of(&config, "redis").unwrap();
        Client { level: Level::default(), settings, rng: Pcg32::new(1, 0), off: 1_000_000 }
    }
    fn wall(&self, redis: &Fake) -> Wall {
        Wall(self.off + redis.ms / 1_000)
    }
    fn get(&mut self, redis: &mut Fake, entry: &Entry) -> Answer {
        let now = ms(redis.ms);
        match self.level.ask(now, entry, &self.settings) {
            Err(miss) => Answer { found: Err(miss), events: vec![] },
            Ok(ask) => {
                let outcome = JobOutcome::Replies(redis.run(&ask.commands));
                self.level.answered(
                    now,
                    self.wall(redis),
                    ask,
                    outcome,
                    &self.settings,
                    &mut self.rng,
                )
            }
        }
    }
    fn put(
        &mut self,
        redis: &mut Fake,
        entry: &Entry,
        list: &[Instance],
        life: u64,
    ) -> Result<Vec<Event>, NotStored> {
        let (now, wall) = (ms(redis.ms), self.wall(redis));
        let expires = ms(redis.ms + life);
        let store = self.level.store(now, wall, entry, list, now, expires, &self.settings)?;
        let outcome = JobOutcome::Replies(redis.run(&store.commands));
        Ok(self.level.stored(now, store, outcome, &self.settings, &mut self.rng))
    }
    fn drop(&mut self, redis: &mut Fake, name: &str) -> (Invalidated, usize) {
        let now = ms(redis.ms);
        let mut invalidation = self.level.invalidate(now, name, &self.settings).unwrap();
        for exchanges in 0.. {
            match self.level.next(now, &mut invalidation, &self.settings) {
                Next::Ended(how) => return (how, exchanges),
                Next::Run(pass, commands) => {
                    let outcome = JobOutcome::Replies(redis.run(&commands));
                    let _ = self.level.invalidated(
                        now,
                        &mut invalidation,
                        pass,
                        outcome,
                        &self.settings,
                        &mut self.rng,
                    );
                }
            }
        }
        unreachable!()
    }
}

fn pair() -> (Client, Client, Fake) {
    let config = RedisConfig::default();
    (Client::new(&config), Client::new(&config), Fake { ms: 50_000, ..Fake::default() })
}

#[test]
fn case_004_40_41_42_a_list_is_shared_and_lives_no_longer_than_at_first() {
    let (mut one, mut two, mut redis) = pair();
    let web = entry("web", "");
    assert_eq!(two.get(&mut redis, &web).found, Err(Miss::Absent));
    assert_eq!(one.put(&mut redis, &web, &instances(&[80, 81]), 30_000), Ok(vec![]));
    redis.ms += 12_345;
    let hit = two.get(&mut redis, &web).found.unwrap();
    assert_eq!(hit.instances, instances(&[80, 81]));
    assert!(hit.fresh_until <= ms(80_000) && hit.fresh_until > ms(78_000), "{hit:?}");
    // What another level takes over from here and writes back expires no later.
    let life = hit.fresh_until.as_millis() - redis.ms;
    assert!(two.put(&mut redis, &web, &hit.instances, life).is_ok());
    redis.ms = 79_999;
    assert!(!matches!(one.get(&mut redis, &web).found, Ok(hit) if hit.fresh_until > ms(80_000)));
    redis.ms = 80_000;
    assert_eq!(one.get(&mut redis, &web).found, Err(Miss::Absent));
    // The source's own expiry is shorter than ours.
    assert!(one.put(&mut redis, &web, &instances(&[1]), 700).is_ok());
    redis.ms += 700;
    assert_eq!(one.get(&mut redis, &web).found, Err(Miss::Absent));
    assert_eq!(one.put(&mut redis, &web, &instances(&[1]), 0), Err(NotStored::Expired));
    let counts = two.level.counts();
    assert_eq!((counts.hits, counts.misses, counts.stored), (1, 1, 1));
}

#[test]
fn time_on_the_way_is_taken_off() {
    let (mut one, mut two, mut redis) = pair();
    let web = entry("web", "");
    one.put(&mut redis, &web, &instances(&[80]), 30_000).unwrap();
    let ask = two.level.ask(ms(50_000), &web, &two.settings).unwrap();
    let outcome = JobOutcome::Replies(redis.run(&ask.commands));
    // The answer takes 200 ms: what Redis said counts from when it was asked.
    let answer =
        two.level.answered(ms(50_200), Wall(1_000_050), ask, outcome, &two.settings, &mut two.rng);
    assert_eq!(answer.found.unwrap().fresh_until, ms(80_000));
}

#[test]
fn case_004_84_a_list_without_or_with_a_strange_life_is_not_believed() {
    let (mut one, mut two, mut redis) = pair();
    let web = entry("web", "");
    one.put(&mut redis, &web, &instances(&[80]), 30_000).unwrap();
    let key = b"origin:service:discovery:web".to_vec();
    let good = redis.keys[&key].clone();
    redis.keys.get_mut(&key).unwrap().1 = None;
    assert_eq!(two.get(&mut redis, &web).found, Err(Miss::Mistrusted(Mistrust::Endless)));
    redis.keys.get_mut(&key).unwrap().1 = Some(50_000 + 30_001);
    let long = Mistrust::TooLong { left_ms: 30_001, most_ms: 30_000 };
    assert_eq!(two.get(&mut redis, &web).found, Err(Miss::Mistrusted(long)));
    // Somebody renews the key for ever: the calendar ends it.
    for (later, ends) in [(10, true), (29, true), (30, false), (35, false)] {
        redis.ms = 50_000 + later * 1_000;
        redis.keys.insert(key.clone(), (good.0.clone(), Some(redis.ms + 30_000)));
        let found = two.get(&mut redis, &web).found;
        match found {
            Ok(hit) => assert!(ends && hit.fresh_until <= ms(81_000), "{hit:?}"),
            Err(miss) => assert!(!ends && miss == Miss::Expired, "{miss:?}"),
        }
    }
    redis.ms = 90_000;
    redis.keys.insert(key, (good.0, Some(redis.ms + 30_000)));
    let behind = Miss::Mistrusted(Mistrust::Behind { by_s: 10 });
    assert_eq!(two.get(&mut redis, &web).found, Err(behind));
    // A clock that is wrong by more than the skew is said.
    one.off += 100;
    one.put(&mut redis, &web, &instances(&[80]), 30_000).unwrap();
    let found = two.get(&mut redis, &web).found;
    assert!(matches!(found, Err(Miss::Mistrusted(Mistrust::Ahead { .. }))), "{found:?}");
}

#[test]
fn case_004_46_garbage_is_a_miss_with_a_warning_and_overwritten() {
    let (mut one, mut two, mut redis) = pair();
    let web = entry("web", "");
    redis.put("origin:service:discovery:web", b"\x80\x03}q\x00.", Some(9_000));
    let answer = two.get(&mut redis, &web);
    assert!(matches!(answer.found, Err(Miss::Mistrusted(Mistrust::NotJson { .. }))));
    assert!(matches!(&answer.events[..], [Event::Mistrusted { times: 1, .. }]), "{answer:?}");
    // Warned of once a minute, however often it is met.
    for _ in 0..100 {
        assert!(two.get(&mut redis, &web).events.is_empty());
    }
    assert_eq!(two.level.counts().garbage, 101);
    redis.ms += 60_000;
    redis.run(&[Command::text(&["SADD", "origin:service:discovery:web", "a"])]);
    let answer = two.get(&mut redis, &web);
    assert_eq!(answer.found, Err(Miss::Mistrusted(Mistrust::WrongType)));
    assert!(matches!(&answer.events[..], [Event::Mistrusted { times: 101, .. }]), "{answer:?}");
    assert!(!two.level.is_lost());
    assert_eq!(one.put(&mut redis, &web, &instances(&[80]), 30_000), Ok(vec![]));
    assert!(two.get(&mut redis, &web).found.is_ok());
}

#[test]
fn a_list_too_large_is_cut_off_by_the_server_and_refused() {
    let config = RedisConfig {
        discovery: SharedLevelConfig { max_value: 1 << 10, ..SharedLevelConfig::default() },
        ..RedisConfig::default()
    };
    let (mut small, mut redis) = (Client::new(&config), Fake::default());
    redis.put("origin:service:discovery:web", &[b' '; 5_000], Some(9_000));
    let found = small.get(&mut redis, &entry("web", "")).found;
    assert_eq!(found, Err(Miss::Mistrusted(Mistrust::TooLarge { most: 1 << 10 })));
    let many = instances(&(1..100).collect::<Vec<_>>());
    let refused = small.put(&mut redis, &entry("web", ""), &many, 9_000);
    assert!(matches!(refused, Err(NotStored::Unwritable(Unwritable::TooLarge { .. }))));
}

#[test]
fn case_004_45_87_a_redis_that_is_gone_is_left_alone_and_said_once() {
    let (mut one, _, mut redis) = pair();
    let web = entry("web", "");
    let fail = |client: &mut Client, now: u64, fault| {
        let ask = client.level.ask(ms(now), &web, &client.settings).unwrap();
        assert_eq!(ask.deadline(), ms(now + 250));
        client.level.answered(
            ms(now),
            Wall(0),
            ask,
            JobOutcome::Failed(fault),
            &client.settings,
            &mut client.rng,
        )
    };
    let answer = fail(&mut one, 50_000, Fault::Timeout);
    assert_eq!(answer.found, Err(Miss::Failed(Failure::Fault(Fault::Timeout))));
    assert!(matches!(&answer.events[..], [Event::Link(Change::Lost { .. })]));
    // Not asked again within the backoff: no cost but a comparison. Nor written to.
    for _ in 0..1_000 {
        let answer = one.get(&mut redis, &web);
        assert!(matches!(answer.found, Err(Miss::Skipped(_))) && answer.events.is_empty());
    }
    assert!(matches!(
        one.put(&mut redis, &web, &instances(&[1]), 9_000),
        Err(NotStored::Skipped(_))
    ));
    assert!(redis.touched.is_empty());
    assert!(fail(&mut one, 52_000, Fault::Connect).events.is_empty());
    redis.ms = 60_000;
    let answer = one.get(&mut redis, &web);
    assert!(matches!(&answer.events[..], [Event::Link(Change::Recovered { skipped: 1_001, .. })]));
    let counts = one.level.counts();
    assert_eq!((counts.errors, counts.skipped, counts.misses), (2, 1_000, 1));
}

#[test]
fn refusals_of_writes_do_not_end_reading() {
    let (mut one, _, mut redis) = pair();
    let web = entry("web", "");
    redis.refuse = Some("OOM");
    let events = one.put(&mut redis, &web, &instances(&[1]), 9_000).unwrap();
    assert_eq!(events, [Event::WriteRefused { word: "OOM".into() }]);
    assert_eq!(one.put(&mut redis, &web, &instances(&[1]), 9_000), Ok(vec![]), "said once");
    redis.refuse = None;
    assert_eq!(one.get(&mut redis, &web).found, Err(Miss::Absent));
    one.put(&mut redis, &web, &instances(&[1]), 9_000).unwrap();
    redis.refuse = Some("READONLY");
    assert_eq!(one.put(&mut redis, &web, &instances(&[1]), 9_000).unwrap().len(), 1, "said again");
    // One that refuses everything is an outage.
    redis.refuse = Some("NOAUTH");
    let answer = one.get(&mut redis, &web);
    assert_eq!(answer.found, Err(Miss::Failed(Failure::Refused("NOAUTH".into()))));
    assert_eq!(answer.events.len(), 1);
}

#[test]
fn case_004_08_95_off_means_no_command_at_all() {
    for (whole, level) in [(false, true), (true, false)] {
        let config = RedisConfig {
            enabled: whole,
            discovery: SharedLevelConfig { enabled: level, ..SharedLevelConfig::default() },
            ..RedisConfig::default()
        };
        let (mut client, mut redis) = (Client::new(&config), Fake::default());
        let web = entry("web", "");
        assert_eq!(client.get(&mut redis, &web).found, Err(Miss::Off));
        assert_eq!(client.put(&mut redis, &web, &instances(&[1]), 9_000), Err(NotStored::Off));
        assert_eq!(client.drop(&mut redis, "web"), (Invalidated::All { deleted: 0 }, 0));
        assert!(redis.touched.is_empty());
    }
}

#[test]
fn an_empty_list_is_an_answer_for_a_short_time() {
    let (mut one, mut two, mut redis) = pair();
    let web = entry("web", "");
    one.put(&mut redis, &web, &[], 30_000).unwrap();
    let hit = two.get(&mut redis, &web).found.unwrap();
    assert_eq!((hit.instances.len(), hit.fresh_until), (0, ms(55_000)));
    // However long somebody made it live.
    redis.put("origin:service:discovery:web", b"[]", Some(30_000));
    assert_eq!(two.get(&mut redis, &web).found.unwrap().fresh_until, ms(55_000));
    two.settings.level.negative_ttl = 0;
    assert_eq!(two.get(&mut redis, &web).found, Err(Miss::Absent));
    assert_eq!(two.put(&mut redis, &web, &[], 30_000), Err(NotStored::Off));
}

#[test]
fn case_004_61_one_call_deletes_all_variants() {
    let (mut one, mut two, mut redis) = pair();
    // More than one portion, and neighbours that stay.
    for n in 0..700 {
        one.put(&mut redis, &entry("web", &format!("t{n}")), &instances(&[1]), 30_000).unwrap();
    }
    one.put(&mut redis, &entry("web", ""), &instances(&[1]), 30_000).unwrap();
    one.put(&mut redis, &entry("webb", "t1"), &instances(&[1]), 30_000).unwrap();
    assert_eq!(two.drop(&mut redis, "web"), (Invalidated::All { deleted: 701 }, 6));
    let left: Vec<_> = redis.keys.keys().map(|key| String::from_utf8_lossy(key)).collect();
    assert_eq!(left, ["origin:service:discovery:webb:none:t1", "origin:service:variants:webb"]);
    // And it may be filled again at once.
    redis.ms += 1;
    assert_eq!(two.get(&mut redis, &entry("web", "t1")).found, Err(Miss::Absent));
    two.put(&mut redis, &entry("web", "t1"), &instances(&[2]), 30_000).unwrap();
    assert!(two.get(&mut redis, &entry("web", "t1")).found.is_ok());
    assert!(one.get(&mut redis, &entry("web", "t1")).found.is_ok());
}

#[test]
fn case_004_85_no_foreign_key_is_touched_whatever_stands_in_the_index() {
    let (mut one, _, mut redis) = pair();
    let index = "origin:service:variants:web";
    redis.put("other:service:discovery:web", b"x", None);
    for member in ["../../other", "a:b", "other:service:discovery:web", "", "*", "a:b:c:d", "\n"] {
        redis.run(&[Command::text(&["SADD", index, member])]);
    }
    redis.touched.clear();
    let (how, _) = one.drop(&mut redis, "web");
    assert!(matches!(how, Invalidated::All { .. }), "{how:?}");
    assert!(redis.keys.contains_key(&b"other:service:discovery:web"[..]));
    assert!(!redis.keys.contains_key(index.as_bytes()), "the garbage is gone as well");
    let ours =
        |key: &Vec<u8>| key.starts_with(b"origin:service:discovery:web") || key == index.as_bytes();
    assert!(redis.touched.iter().all(ours), "{:?}", redis.touched);
    // An index that is no set is deleted, and the doubt stays.
    redis.put(index, b"x", None);
    redis.ms += 1;
    assert_eq!(one.drop(&mut redis, "web"), (Invalidated::Incomplete { deleted: 0 }, 2));
    assert!(!redis.keys.contains_key(index.as_bytes()));
    assert_eq!(one.get(&mut redis, &entry("web", "")).found, Err(Miss::Invalidated));
}

#[test]
fn what_was_invalidated_during_an_outage_is_not_believed_afterwards() {
    let (mut one, _, mut redis) = pair();
    let web = entry("web", "");
    one.put(&mut redis, &web, &instances(&[1]), 30_000).unwrap();
    let asked = one.level.ask(ms(50_000), &web, &one.settings).unwrap();
    let value = JobOutcome::Replies(redis.run(&asked.commands));
    redis.refuse = Some("LOADING");
    let (how, _) = one.drop(&mut redis, "web");
    assert!(matches!(how, Invalidated::Failed(_)));
    // A lookup that was under way meanwhile.
    let answer =
        one.level.answered(ms(50_001), Wall(1_000_050), asked, value, &one.settings, &mut one.rng);
    assert_eq!(answer.found, Err(Miss::Invalidated));
    // Redis is back, the old list still there.
    (redis.refuse, redis.ms) = (None, 60_000);
    assert_eq!(one.get(&mut redis, &web).found, Err(Miss::Invalidated));
    // What was asked for before is not written, what was asked for since is.
    let (now, wall) = (ms(60_000), Wall(1_000_060));
    let early =
        one.level.store(now, wall, &web, &instances(&[1]), ms(50_000), ms(70_000), &one.settings);
    assert_eq!(early.map(|_| ()), Err(NotStored::Invalidated));
    assert!(one.put(&mut redis, &web, &instances(&[2]), 30_000).is_ok());
    redis.ms = 80_001;
    assert_eq!(one.get(&mut redis, &web).found.unwrap().instances, instances(&[2]));
}

#[test]
fn more_invalidations_than_are_remembered_bar_everything() {
    let (mut one, _, mut redis) = pair();
    let late = entry("late", "");
    one.put(&mut redis, &late, &instances(&[1]), 30_000).unwrap();
    for n in 0..MOST_BARS + 1 {
        let _ = one.level.invalidate(ms(50_000), &format!("s{n}"), &one.settings).unwrap();
    }
    assert_eq!(one.level.bars.len(), MOST_BARS);
    assert_eq!(one.get(&mut redis, &late).found, Err(Miss::Invalidated));
    redis.ms = 80_001;
    assert_eq!(one.get(&mut redis, &late).found, Err(Miss::Absent));
    let _ = one.level.invalidate(ms(redis.ms), "s", &one.settings).unwrap();
    assert_eq!(one.level.bars.len(), 1);
}
