//! The second level against a Redis of a few commands.

use std::collections::BTreeMap;

use ::http::HeaderMap;
use bytes::Bytes;

use super::super::answer::{BadRecord, Record};
use super::super::shared::{Purge, Step, get, overflow, read, set};
use super::*;
use crate::redis::{Command, Reply};
use crate::time::Wall;

pub(super) const NOW: Wall = Wall(1_700_000_000);

/// Strings without expiry, sorted sets, and the commands that are used.
#[derive(Default)]
pub(super) struct Redis {
    pub(super) texts: BTreeMap<Bytes, Bytes>,
    sets: BTreeMap<Bytes, BTreeMap<Bytes, u64>>,
    lives: BTreeMap<Bytes, u64>,
}

impl Redis {
    pub(super) fn run(&mut self, commands: &[Command]) -> Vec<Reply> {
        commands.iter().map(|command| self.one(&command.0)).collect()
    }

    fn sorted(&self, name: &Bytes) -> Vec<(u64, Bytes)> {
        let set = self.sets.get(name).cloned().unwrap_or_default();
        let mut members: Vec<(u64, Bytes)> = set.into_iter().map(|(m, s)| (s, m)).collect();
        members.sort();
        members
    }

    fn one(&mut self, words: &[Bytes]) -> Reply {
        let number = |word: &Bytes| std::str::from_utf8(word).unwrap().parse::<i64>().unwrap();
        let count = |count: usize| Reply::Number(i64::try_from(count).unwrap());
        let low = |set: &[(u64, Bytes)], last: i64| {
            let length = i64::try_from(set.len()).unwrap();
            usize::try_from((length + last + 1).max(0)).unwrap()
        };
        match &words[0][..] {
            b"GET" => self.texts.get(&words[1]).map_or(Reply::Nil, |v| Reply::Text(v.clone())),
            b"SET" => {
                assert_eq!((&words[3][..], words.len()), (&b"PX"[..], 5));
                self.lives.insert(words[1].clone(), u64::try_from(number(&words[4])).unwrap());
                self.texts.insert(words[1].clone(), words[2].clone());
                Reply::Text("OK".into())
            }
            b"DEL" => {
                count(words[1..].iter().filter(|key| self.texts.remove(*key).is_some()).count())
            }
            b"ZADD" => {
                let score = u64::try_from(number(&words[2])).unwrap();
                self.sets.entry(words[1].clone()).or_default().insert(words[3].clone(), score);
                Reply::Number(1)
            }
            b"ZREM" => {
                let set = self.sets.entry(words[1].clone()).or_default();
                count(words[2..].iter().filter(|member| set.remove(*member).is_some()).count())
            }
            b"ZREMRANGEBYSCORE" => {
                assert!(words[2] == "-inf" && words[3].starts_with(b"("));
                let now = u64::try_from(number(&words[3].slice(1..))).unwrap();
                self.sets.entry(words[1].clone()).or_default().retain(|_, score| *score >= now);
                Reply::Number(0)
            }
            b"ZRANGE" => {
                let set = self.sorted(&words[1]);
                let end = low(&set, number(&words[3]));
                Reply::List(set[..end].iter().map(|(_, m)| Reply::Text(m.clone())).collect())
            }
            b"ZREMRANGEBYRANK" => {
                let set = self.sorted(&words[1]);
                for (_, member) in &set[..low(&set, number(&words[3]))] {
                    self.sets.entry(words[1].clone()).or_default().remove(member);
                }
                Reply::Number(0)
            }
            b"ZSCAN" => {
                let set = self.sorted(&words[1]);
                let from = usize::try_from(number(&words[2])).unwrap();
                let to = (from + 500).min(set.len());
                let next = if to < set.len() { to } else { 0 };
                let members = set[from..to].iter().flat_map(|(score, member)| {
                    [Reply::Text(member.clone()), Reply::Text(score.to_string().into())]
                });
                Reply::List(vec![
                    Reply::Text(next.to_string().into()),
                    Reply::List(members.collect()),
                ])
            }
            b"EXPIRE" => Reply::Number(1),
            other => panic!("{other:?}"),
        }
    }

    fn purge(&mut self, target: Target<Key>, settings: &Settings) -> u64 {
        let (mut purge, mut commands) = Purge::new(target, settings);
        for _ in 0..100 {
            let replies = self.run(&commands);
            match purge.step(&replies, settings) {
                Step::Run(more) => commands = more,
                Step::Done(removed) => return removed,
                Step::Refused => panic!(),
            }
        }
        panic!("no end")
    }

    fn store(&mut self, name: &str, scope: &str, tags: &[&str], settings: &Settings) {
        let record = record(name, scope, tags);
        let replies = self.run(&set(&record, NOW, settings));
        let more = overflow(&replies, settings);
        self.run(&more);
    }
}

pub(super) fn record(name: &str, scope: &str, tags: &[&str]) -> Record {
    let answer = Answer::new(200, &HeaderMap::new(), Bytes::from(name.to_owned()));
    let tags = tags.iter().map(|tag| (*tag).into()).collect();
    let put = Put { scope: Some(scope.into()), tags, ..Put::new(answer, 1) };
    Record::of(Key::text(name), &put, false, NOW, &Settings::default()).unwrap()
}

fn found(redis: &mut Redis, name: &str, settings: &Settings) -> bool {
    let key = Key::text(name);
    let replies = redis.run(&get(&key, settings));
    read(&replies, &key, NOW, settings).unwrap().is_some()
}

#[test]
fn case_001_121_it_survives_a_restart() {
    let settings = settings(|c| c.stale_if_error = secs(60));
    let mut redis = Redis::default();
    redis.store("a", "s/a", &["t"], &settings);
    let key = Key::text("a");
    let name: Bytes = format!("origin:{key}").into();
    assert_eq!(redis.texts.keys().collect::<Vec<_>>(), [&name]);
    assert_eq!(redis.lives[&name], 360_000, "freshness, and what may be stale");
    // Another program, with nothing in it, five seconds later.
    let later = Wall(NOW.0 + 5);
    let record = read(&redis.run(&get(&key, &settings)), &key, later, &settings).unwrap().unwrap();
    let mut store: Store<Key, Answer> = Store::new(Time::ZERO, 1, &settings);
    store.insert(at(9), &key, record.put(later).unwrap(), &settings).unwrap();
    let Lookup::Fresh(answer, label) = store.lookup(at(9 + 294), &key, Time::NEVER, &settings)
    else {
        panic!()
    };
    assert_eq!((&answer.body[..], label.age, label.level), (&b"a"[..], secs(299), Level::Shared));
    assert!(matches!(store.lookup(at(9 + 295), &key, Time::NEVER, &settings), Lookup::Miss(_)));
    // Invalidated here by what it was stored with there.
    assert_eq!(store.invalidate(Target::Tag("t".into())), 1);
}

#[test]
fn case_001_122_invalidation_of_the_second_level() {
    let settings = Settings::default();
    let all = [
        ("a", "s/a", &["x"][..]),
        ("b", "s/a/b", &["x", "y"]),
        ("c", "s/c", &["y"]),
        ("d", "t/d", &[]),
    ];
    let cases = [
        (Target::Key(Key::text("a")), "bcd"),
        (Target::Key(Key::text("z")), "abcd"),
        (Target::Tag("x".into()), "cd"),
        (Target::Tag("z".into()), "abcd"),
        (Target::Path("s/a".into()), "bcd"),
        (Target::Prefix("s/a".into()), "cd"),
        (Target::Prefix("s/".into()), "d"),
        (Target::All, ""),
    ];
    for (target, left) in cases {
        let mut redis = Redis::default();
        for (name, scope, tags) in all {
            redis.store(name, scope, tags, &settings);
        }
        redis.texts.insert("origin:other".into(), "x".into());
        assert_eq!(redis.purge(target.clone(), &settings), 4 - left.len() as u64, "{target:?}");
        for (name, ..) in all {
            assert_eq!(
                found(&mut redis, name, &settings),
                left.contains(name),
                "{target:?} {name}"
            );
        }
        assert!(redis.texts.contains_key(&b"origin:other"[..]), "nobody else's");
    }
}

/// Many: in pages and pieces, and no more than the index may have.
#[test]
fn indexes_are_bounded_and_lead_to_everything() {
    let settings = settings(|c| c.shared.index_entries = 1_200);
    let mut redis = Redis::default();
    for n in 0..1_300 {
        redis.store(&n.to_string(), &format!("s/{n}"), &["t"], &settings);
    }
    let kept = redis.texts.len();
    assert_eq!(kept, 1_200, "what the index cannot lead to is gone");
    assert!(redis.sets.values().all(|set| set.len() <= 1_200));
    assert_eq!(redis.purge(Target::Prefix("s/".into()), &settings), 1_200);
    assert!(redis.texts.is_empty());
    // Expired members leave with the next write.
    let members = |redis: &Redis| redis.sets[&b"origin:tag:t"[..]].len();
    assert_eq!(members(&redis), 1_200);
    let later = Wall(NOW.0 + 302);
    let answer = Answer::new(200, &HeaderMap::new(), Bytes::new());
    let put = Put { tags: vec!["t".into()], ..Put::new(answer, 1) };
    let record = Record::of(Key::text("new"), &put, false, later, &settings).unwrap();
    redis.run(&set(&record, later, &settings));
    assert_eq!(members(&redis), 1, "those have expired");
}

/// Redis full of garbage: no panic, no entry, no endless loop.
#[test]
fn garbage_in_redis_is_no_trouble() {
    let settings = Settings::default();
    let key = Key::text("a");
    let read = |replies: &[Reply]| read(replies, &key, NOW, &settings);
    assert_eq!(read(&[Reply::Nil]), Ok(None));
    for bad in [
        Reply::Number(1),
        Reply::List(vec![]),
        Reply::Refused("WRONGTYPE".into()),
        Reply::Text("x".into()),
    ] {
        assert_eq!(read(&[bad]), Err(BadRecord::NotOurs));
    }
    assert_eq!(read(&[]), Err(BadRecord::NotOurs));
    let huge = Reply::Text(vec![0; (1 << 20) + (64 << 10) + 1].into());
    assert!(matches!(read(&[huge]), Err(BadRecord::TooLarge { .. })));
    let (mut purge, _) = Purge::new(Target::All, &settings);
    assert_eq!(purge.clone().step(&[Reply::Refused("WRONGTYPE".into())], &settings), Step::Refused);
    assert_eq!(purge.clone().step(&[], &settings), Step::Refused);
    // An index that never ends.
    let members = Reply::List(vec![Reply::Text("x".into()), Reply::Nil, Reply::Number(1)]);
    let page = [Reply::List(vec![Reply::Text("7".into()), members])];
    let steps = (0..100_000).take_while(|_| matches!(purge.step(&page, &settings), Step::Run(_)));
    assert!(steps.count() < 30_000);
    assert!(overflow(&vec![Reply::Nil; 11], &settings).is_empty());
    let mut garbage = vec![Reply::Nil; 5];
    garbage[2] = Reply::List(vec![Reply::Text("ü".repeat(40).into()), Reply::Number(3)]);
    assert!(overflow(&garbage, &settings).is_empty());
}

#[test]
fn nothing_to_store_is_no_command() {
    let settings = settings(|c| c.max_entry_bytes = 2_000);
    let mut heavy = record("a", "s", &[]);
    heavy.answer.body = vec![0; 3_000].into();
    assert!(set(&heavy, NOW, &settings).is_empty());
    let record = record("a", "s", &[]);
    assert!(set(&record, Wall(NOW.0 + 300), &settings).is_empty(), "expired");
}
