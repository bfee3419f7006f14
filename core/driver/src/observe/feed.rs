//! Reading the rings of all machines of a client from where one left off, and the subscription for
//! applications. A reader that is slow loses what falls out of a ring and is told how much; no
//! machine waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use event_listener::Listener;
use origin_core::Time;
use origin_core::notice::Notice;

use super::bell::{Bell, Noted, Speaks};
use crate::client::Client;
use crate::hub::{Hub, lock};
use crate::runtime::Runtime;

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A notice.
    Notice(Notice),
    /// Notices of one machine that fell out of its ring before they were read.
    Missed {
        /// The service; `None`: discovery, or what else is about the client as a whole.
        service: Option<Arc<str>>,
        /// How many.
        count: u64,
    },
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Notice(notice) => notice.fmt(f),
            Heard::Missed { service: Some(service), count } => {
                write!(f, "{service}: {count} notices were not read in time")
            }
            Heard::Missed { service: None, count } => {
                write!(f, "{count} notices were not read in time")
            }
        }
    }
}

/// How far the machines of a client were read: those that are not services, then services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    machines: [u64; 9],
    services: BTreeMap<Arc<str>, u64>,
}

/// What was read, in the order in which it happened.
#[derive(Default)]
struct Read {
    all: Vec<(Time, Heard)>,
    /// Whether only the end is looked for.
    skip: bool,
}

impl Read {
    /// Reads one machine on from `at`.
    fn machine<T: Speaks>(&mut self, machine: &Noted<T>, at: &mut u64, service: Option<&Arc<str>>) {
        // Without its lock, as long as it has said nothing.
        if machine.count() <= *at {
            return;
        }
        let mut machine = lock(machine);
        let said = machine.said();
        let from = std::mem::replace(at, said.count());
        if self.skip {
            return;
        }
        let mut news = said.since(from).peekable();
        let first = news.peek().map_or(said.count(), |notice| notice.seq);
        // The time of a notice may be before that of the one before; their order stays.
        let mut time = news.peek().map_or(Time::ZERO, |notice| notice.at);
        if let Some(count) = first.checked_sub(from).filter(|count| *count > 0) {
            self.all.push((time, Heard::Missed { service: service.cloned(), count }));
        }
        for notice in news {
            time = time.max(notice.at);
            self.all.push((time, Heard::Notice(notice.clone())));
        }
    }
}

impl<R: Runtime> Hub<R> {
    /// What was said since `cursor`, which moves to the end. Each machine is locked for as long as
    /// copying takes, one after the other.
    pub(crate) fn hear(&self, cursor: &mut Cursor) -> Vec<Heard> {
        self.read_on(cursor, false)
    }

    /// The end of what was said until now.
    fn heard_all(&self) -> Cursor {
        let mut cursor = Cursor::default();
        let _ = self.read_on(&mut cursor, true);
        cursor
    }

    fn read_on(&self, cursor: &mut Cursor, skip: bool) -> Vec<Heard> {
        let mut read = Read { all: Vec::new(), skip };
        let Cursor {
            machines: [directory, second, following, desk, vault, agents, own, storage, kept],
            services,
        } = cursor;
        if let Some(machine) = &self.directory {
            read.machine(machine, directory, None);
        }
        if let Some(machine) = &self.second {
            read.machine(machine.machine(), second, None);
        }
        if let Some(machine) = &self.following {
            read.machine(machine.machine(), following, None);
        }
        if let Some(machine) = &self.desk {
            read.machine(machine.machine(), desk, None);
            read.machine(&machine.agents.service, agents, Some(&machine.agents.name));
        }
        if let Some(machine) = &self.vault {
            read.machine(machine.machine(), vault, None);
        }
        read.machine(&self.own.desk, own, None);
        read.machine(&self.storage.rotation, storage, None);
        if let Some(machine) = &self.kept {
            read.machine(machine, kept, None);
        }
        let slots: Vec<_> = {
            let slots = self.read_slots();
            let moved = slots.values().filter(|slot| {
                slot.service.count() > services.get(&slot.name).copied().unwrap_or(0)
            });
            moved.cloned().collect()
        };
        for slot in slots {
            let at = services.entry(slot.name.clone()).or_insert(0);
            read.machine(&slot.service, at, Some(&slot.name));
        }
        read.all.sort_by_key(|(at, _)| *at);
        read.all.into_iter().map(|(_, heard)| heard).collect()
    }
}

/// Everything a client has to say from now on, for the application: each notice once, in order. It
/// keeps its place and nothing else: a subscriber that sleeps delays no call, and what falls out
/// of the rings meanwhile (256 notices of each machine are kept) is told as [`Heard::Missed`].
/// It does not keep the client.
///
/// In an async program `while let Some(heard) = feed.next().await`; in a blocking one
/// `for heard in feed`, or [`NoticeFeed::next_within`].
pub struct NoticeFeed<R: Runtime> {
    hub: Weak<Hub<R>>,
    bell: Arc<Bell>,
    cursor: Cursor,
    ready: std::vec::IntoIter<Heard>,
}

impl<R: Runtime> fmt::Debug for NoticeFeed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoticeFeed").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl<R: Runtime> Client<R> {
    /// Subscribes to its notices, from now on. What was before is in [`Client::notices`].
    #[must_use]
    pub fn notice_feed(&self) -> NoticeFeed<R> {
        NoticeFeed {
            hub: Arc::downgrade(&self.hub),
            bell: self.hub.bell.clone(),
            cursor: self.hub.heard_all(),
            ready: Vec::new().into_iter(),
        }
    }
}

impl<R: Runtime> NoticeFeed<R> {
    /// Begins with the notices that are kept instead of the next one.
    #[must_use]
    pub fn from_the_start(self) -> Self {
        NoticeFeed { cursor: Cursor::default(), ..self }
    }

    /// The next one, if it is there.
    pub fn try_next(&mut self) -> Option<Heard> {
        if self.ready.len() == 0 {
            self.ready = self.hub.upgrade()?.hear(&mut self.cursor).into_iter();
        }
        self.ready.next()
    }

    /// Waits for the next one. `None` when the client is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let moved = self.bell.moved.listen();
            if let Some(heard) = self.try_next() {
                return Some(heard);
            }
            if self.hub.strong_count() == 0 {
                return None;
            }
            moved.await;
        }
    }

    /// The same, blocking the thread for at most `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Option<Heard> {
        let moved = self.bell.moved.listen();
        if let Some(heard) = self.try_next() {
            return Some(heard);
        }
        if self.hub.strong_count() == 0 {
            return None;
        }
        moved.wait_timeout(limit)?;
        self.try_next()
    }

    fn block(&mut self) -> Option<Heard> {
        loop {
            let moved = self.bell.moved.listen();
            if let Some(heard) = self.try_next() {
                return Some(heard);
            }
            if self.hub.strong_count() == 0 {
                return None;
            }
            moved.wait();
        }
    }
}

/// Blocks the thread until the next one, and ends with the client.
impl<R: Runtime> IntoIterator for NoticeFeed<R> {
    type Item = Heard;
    type IntoIter = Blocking<R>;

    fn into_iter(self) -> Blocking<R> {
        Blocking(self)
    }
}

/// [`NoticeFeed`] as an iterator that blocks.
#[derive(Debug)]
pub struct Blocking<R: Runtime>(NoticeFeed<R>);

impl<R: Runtime> Iterator for Blocking<R> {
    type Item = Heard;

    fn next(&mut self) -> Option<Heard> {
        self.0.block()
    }
}
