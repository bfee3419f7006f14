//! A Redis for tests: the dozen commands that the core sends, with expiry by a clock that the
//! test moves. Not a model of what the core does: it knows nothing of services.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Command, Reply};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Text(Bytes),
    Set(BTreeSet<Vec<u8>>),
}

/// Keys, what they hold, and when they expire, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    pub(crate) keys: BTreeMap<Vec<u8>, (Held, Option<u64>)>,
    pub(crate) ms: u64,
    /// Every command is refused with this word.
    pub(crate) refuse: Option<&'static str>,
    /// Commands it was sent.
    pub(crate) commands: usize,
    /// All keys that any command named.
    pub(crate) touched: BTreeSet<Vec<u8>>,
}

impl Fake {
    pub(crate) fn put(&mut self, key: &str, text: &[u8], life: Option<u64>) {
        let held = Held::Text(Bytes::copy_from_slice(text));
        self.keys.insert(key.into(), (held, life.map(|life| self.ms + life)));
    }

    pub(crate) fn run(&mut self, commands: &[Command]) -> Vec<Reply> {
        commands.iter().map(|command| self.one(&command.0)).collect()
    }

    fn one(&mut self, words: &[Bytes]) -> Reply {
        let ms = self.ms;
        self.commands += 1;
        self.keys.retain(|_, (_, until)| until.is_none_or(|until| until > ms));
        if let Some(word) = self.refuse {
            return Reply::Refused(word.into());
        }
        let name = std::str::from_utf8(&words[0]).unwrap();
        let key = words[1].to_vec();
        self.touched.extend(match name {
            "DEL" => words[1..].iter().map(|key| key.to_vec()).collect(),
            _ => vec![key.clone()],
        });
        let number = |word: &Bytes| std::str::from_utf8(word).unwrap().parse::<u64>().unwrap();
        let wrong = || Reply::Refused("WRONGTYPE".into());
        match name {
            "SET" => {
                assert_eq!(&words[3][..], b"PX");
                let life = number(&words[4]);
                assert!(life > 0);
                self.keys.insert(key, (Held::Text(words[2].clone()), Some(ms + life)));
                Reply::Text("OK".into())
            }
            "PTTL" => Reply::Number(match self.keys.get(&key) {
                None => -2,
                Some((_, None)) => -1,
                Some((_, Some(until))) => i64::try_from(until - ms).unwrap(),
            }),
            "GETRANGE" => match self.keys.get(&key) {
                None => Reply::Text(Bytes::new()),
                Some((Held::Text(text), _)) => {
                    let end = usize::try_from(number(&words[3])).unwrap().saturating_add(1);
                    Reply::Text(text.slice(..end.min(text.len())))
                }
                Some(_) => wrong(),
            },
            "DEL" => {
                let gone = words[1..].iter().filter(|key| self.keys.remove(&key[..]).is_some());
                Reply::Number(i64::try_from(gone.count()).unwrap())
            }
            "PEXPIRE" => match self.keys.get_mut(&key) {
                None => Reply::Number(0),
                Some((_, until)) => {
                    *until = Some(ms + number(&words[2]));
                    Reply::Number(1)
                }
            },
            "SADD" => {
                let empty = || (Held::Set(BTreeSet::new()), None);
                match self.keys.entry(key).or_insert_with(empty) {
                    (Held::Set(set), _) => {
                        set.extend(words[2..].iter().map(|word| word.to_vec()));
                        Reply::Number(1)
                    }
                    _ => wrong(),
                }
            }
            "SREM" => match self.keys.get_mut(&key) {
                None => Reply::Number(0),
                Some((Held::Set(set), _)) => {
                    words[2..].iter().for_each(|word| {
                        set.remove(&word[..]);
                    });
                    if set.is_empty() {
                        self.keys.remove(&key);
                    }
                    Reply::Number(1)
                }
                Some(_) => wrong(),
            },
            "SRANDMEMBER" => match self.keys.get(&key) {
                None => Reply::List(vec![]),
                Some((Held::Set(set), _)) => {
                    let most = usize::try_from(number(&words[2])).unwrap();
                    let members = set.iter().take(most);
                    Reply::List(members.map(|m| Reply::Text(Bytes::copy_from_slice(m))).collect())
                }
                Some(_) => wrong(),
            },
            other => panic!("{other} is not in the fake"),
        }
    }
}
