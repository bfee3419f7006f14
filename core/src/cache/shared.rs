//! The second level: which commands Redis gets, and what is made of its replies.
//!
//! An entry is `{namespace}:{key in 64 hexadecimal digits}`. What can be found otherwise is in
//! sorted sets with the time of expiry as score: `{namespace}:tag:{tag}` holds the keys of a tag,
//! `{namespace}:index` all keys, each with its path behind it. Every write removes what has
//! expired from them; more than `index_entries` are deleted together with the entries they lead
//! to ([`overflow`]), because an entry that invalidation cannot find is worse than none.
//!
//! Answers on their way in another program when something is invalidated here can still be
//! written by it afterwards; those live until they expire. Nothing in Redis is believed: see
//! [`super::answer`].

use std::time::Duration;

use bytes::Bytes;

use super::answer::{BadRecord, Record};
use super::{Key, Settings, Target};
use crate::redis::{Command, Reply};
use crate::time::Wall;

/// Longest that an index is kept without being written to: longer than anything it leads to.
const INDEX_LIFE: u64 = 15 * 24 * 3_600;
/// Members that are read, and keys that are deleted, by one command.
const PAGE: usize = 500;
/// Deleting commands in one job.
const AT_ONCE: usize = 16;
/// What a record may be heavier than `max_entry_bytes`: lengths, digests, tags.
const FRAME: usize = 64 << 10;
/// Commands that each index takes.
const PER_INDEX: usize = 5;

fn entry(settings: &Settings, hex: &[u8]) -> Vec<u8> {
    [settings.namespace.as_bytes(), b":", hex].concat()
}

fn all(settings: &Settings) -> Vec<u8> {
    [settings.namespace.as_bytes(), b":index"].concat()
}

fn tagged(settings: &Settings, tag: &str) -> Vec<u8> {
    [settings.namespace.as_bytes(), b":tag:", tag.as_bytes()].concat()
}

/// Asks for the answer of `key`. The reply goes to [`read`].
#[must_use]
pub fn get(key: &Key, settings: &Settings) -> Vec<Command> {
    vec![Command::new(&[b"GET", &entry(settings, key.hex().as_bytes())])]
}

/// What the reply to [`get`] holds.
///
/// # Errors
/// [`BadRecord`]: worth a warning, and as good as nothing there.
pub fn read(
    replies: &[Reply],
    key: &Key,
    wall: Wall,
    settings: &Settings,
) -> Result<Option<Record>, BadRecord> {
    match replies {
        [Reply::Nil] => Ok(None),
        [Reply::Text(bytes)] => {
            let most = usize::try_from(settings.max_entry).unwrap_or(usize::MAX);
            Record::decode(bytes, key, wall, most.saturating_add(FRAME)).map(Some)
        }
        _ => Err(BadRecord::NotOurs),
    }
}

/// Stores `record`: indexes first, so that there is never an entry that they do not lead to.
/// Empty when there is nothing to store. The replies go to [`overflow`].
#[must_use]
pub fn set(record: &Record, wall: Wall, settings: &Settings) -> Vec<Command> {
    let keep = record.keep_for(wall, settings);
    let heavy = u64::from(record.answer.weight()) > settings.max_entry;
    let Some(bytes) = record.encode().filter(|_| !keep.is_zero() && !heavy) else {
        return Vec::new();
    };
    let hex = record.key.hex();
    let until = wall.0.saturating_add(keep.as_secs()).saturating_add(1).to_string();
    let mut commands = Vec::with_capacity((record.tags.len() + 1) * PER_INDEX + 1);
    let now = format!("({}", wall.0);
    // All but the last ones.
    let beyond = format!("-{}", u64::from(settings.index_entries) + 1);
    let life = INDEX_LIFE.to_string();
    let mut index = |name: &[u8], member: &[u8]| {
        commands.push(Command::new(&[b"ZREMRANGEBYSCORE", name, b"-inf", now.as_bytes()]));
        commands.push(Command::new(&[b"ZADD", name, until.as_bytes(), member]));
        commands.push(Command::new(&[b"ZRANGE", name, b"0", beyond.as_bytes()]));
        commands.push(Command::new(&[b"ZREMRANGEBYRANK", name, b"0", beyond.as_bytes()]));
        commands.push(Command::new(&[b"EXPIRE", name, life.as_bytes()]));
    };
    let member = [hex.as_bytes(), record.scope.as_deref().unwrap_or("").as_bytes()].concat();
    index(&all(settings), &member);
    for tag in &record.tags {
        index(&tagged(settings, tag), hex.as_bytes());
    }
    let millis = keep.max(Duration::from_millis(1)).as_millis().to_string();
    let key = entry(settings, hex.as_bytes());
    commands.push(Command(vec![
        Bytes::from_static(b"SET"),
        key.into(),
        bytes,
        Bytes::from_static(b"PX"),
        millis.into(),
    ]));
    commands
}

/// What has to be deleted after [`set`] because an index was full; usually nothing.
#[must_use]
pub fn overflow(replies: &[Reply], settings: &Settings) -> Vec<Command> {
    let mut keys = Vec::new();
    for replies in replies.chunks_exact(PER_INDEX) {
        if let Reply::List(members) = &replies[2] {
            keys.extend(members.iter().filter_map(|member| Some(parts(member)?.0)));
        }
    }
    keys.chunks(PAGE).map(|keys| delete(keys.iter().copied(), settings)).collect()
}

/// The digits of a key and the path behind them; `None` for what is not a member of ours.
fn parts(member: &Reply) -> Option<(&[u8], &str)> {
    let Reply::Text(member) = member else { return None };
    let (hex, scope) = member.split_at_checked(64)?;
    Key::from_hex(hex)?;
    Some((hex, std::str::from_utf8(scope).ok()?))
}

fn delete<'a>(keys: impl Iterator<Item = &'a [u8]>, settings: &Settings) -> Command {
    let keys = keys.map(|hex| Bytes::from(entry(settings, hex)));
    Command(std::iter::once(Bytes::from_static(b"DEL")).chain(keys).collect())
}

/// Invalidation in the second level, in steps: run the commands, bring the replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    target: Target<Key>,
    /// Members found, to be deleted.
    found: Vec<Bytes>,
    /// Members read so far; `None` once all of them are.
    read: Option<usize>,
    removed: u64,
}

/// What a [`Purge`] wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// These commands; their replies go to [`Purge::step`].
    Run(Vec<Command>),
    /// Nothing more: so many entries are gone.
    Done(u64),
    /// Redis refused. What is left expires by itself.
    Refused,
}

impl Purge {
    /// Begins; the commands are the first ones to run.
    #[must_use]
    pub fn new(target: Target<Key>, settings: &Settings) -> (Purge, Vec<Command>) {
        let mut purge = Purge { target, found: Vec::new(), read: Some(0), removed: 0 };
        let commands = match &purge.target {
            Target::Key(key) => {
                let hex = key.hex();
                vec![delete(std::iter::once(hex.as_bytes()), settings)]
            }
            _ => vec![purge.page(b"0", settings)],
        };
        if matches!(purge.target, Target::Key(_)) {
            purge.read = None;
        }
        (purge, commands)
    }

    fn index(&self, settings: &Settings) -> Vec<u8> {
        match &self.target {
            Target::Tag(tag) => tagged(settings, tag),
            _ => all(settings),
        }
    }

    /// The next members, from where a scan is. A scan returns whatever is there all the time it
    /// takes, which reading by position does not while others write.
    fn page(&self, from: &[u8], settings: &Settings) -> Command {
        let page = PAGE.to_string();
        Command::new(&[b"ZSCAN", &self.index(settings), from, b"COUNT", page.as_bytes()])
    }

    fn means(&self, scope: &str) -> bool {
        match &self.target {
            Target::Path(path) => scope == &**path,
            Target::Prefix(prefix) => scope.starts_with(&**prefix),
            Target::Key(_) | Target::Tag(_) | Target::All => true,
        }
    }

    /// What the replies lead to.
    pub fn step(&mut self, replies: &[Reply], settings: &Settings) -> Step {
        if let Some(read) = self.read {
            let [Reply::List(page)] = replies else { return Step::Refused };
            let [Reply::Text(next), Reply::List(members)] = &page[..] else { return Step::Refused };
            // Each member is followed by its score.
            for member in members.iter().step_by(2) {
                if let (Reply::Text(bytes), Some((_, scope))) = (member, parts(member))
                    && self.means(scope)
                {
                    self.found.push(bytes.clone());
                }
            }
            // An index that grows while it is read, or lies, ends somewhere all the same.
            let read = read.saturating_add(members.len() / 2).saturating_add(1);
            let most = (settings.index_entries as usize).saturating_mul(2).saturating_add(PAGE);
            if &next[..] != b"0" && read < most {
                self.read = Some(read);
                return Step::Run(vec![self.page(next, settings)]);
            }
            self.read = None;
        } else {
            if replies.iter().any(|reply| matches!(reply, Reply::Refused(_))) {
                return Step::Refused;
            }
            // Every deletion is followed by one from the index.
            for reply in replies.iter().step_by(2) {
                if let Reply::Number(count) = reply {
                    let count = u64::try_from(*count).unwrap_or(0);
                    self.removed = self.removed.saturating_add(count);
                }
            }
        }
        if self.found.is_empty() {
            return Step::Done(self.removed);
        }
        let index = self.index(settings);
        let mut commands = Vec::new();
        while !self.found.is_empty() && commands.len() < 2 * AT_ONCE {
            let page: Vec<Bytes> = self.found.drain(..self.found.len().min(PAGE)).collect();
            commands.push(delete(page.iter().map(|member| &member[..64]), settings));
            let words = [Bytes::from_static(b"ZREM"), index.clone().into()];
            commands.push(Command(words.into_iter().chain(page).collect()));
        }
        Step::Run(commands)
    }
}
