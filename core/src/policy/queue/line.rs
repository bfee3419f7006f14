//! The places of the queue: one list per priority through one vector. Entering, leaving and
//! going are constant time and allocate nothing. What a lease is worth is not decided here.

use serde::{Deserialize, Serialize};

use super::{PRIORITIES, Priority, Shed, Ticket};
use crate::time::Time;

/// No place.
const NONE: u32 = u32::MAX;

/// A caller in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) priority: Priority,
    pub(super) entered: Time,
    /// When its lease ends, and by what.
    pub(super) end: Time,
    pub(super) by_deadline: bool,
    pub(super) standing: bool,
}

impl Entry {
    /// Why it is shed when its lease has ended; the same whenever that is noticed.
    pub(super) fn reason(&self) -> Shed {
        let waited = self.end.since(self.entered);
        if self.by_deadline {
            Shed::Deadline { waited }
        } else {
            Shed::Aged { waited, standing: self.standing }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum State {
    Waiting(Entry),
    /// Free, and how the last one who had the place lost it.
    Free(Shed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Place {
    state: State,
    serial: u32,
    before: u32,
    after: u32,
}

/// The ends of a list of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NONE, last: NONE };

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Line {
    /// Twice as many as may wait: a place is used again as late as possible, so that who lost it
    /// still finds out why.
    places: Vec<Place>,
    /// By priority, lowest first.
    lists: [List; PRIORITIES],
    free: List,
    waiting: u32,
}

impl Line {
    pub(super) fn new(capacity: u32) -> Line {
        let mut line = Line { places: vec![], lists: [EMPTY; PRIORITIES], free: EMPTY, waiting: 0 };
        line.reserve(capacity);
        line
    }

    pub(super) fn reserve(&mut self, capacity: u32) {
        let more = (capacity as usize * 2).saturating_sub(self.places.len());
        self.places.reserve_exact(more);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> (usize, usize) {
        (self.places.capacity(), size_of::<Place>())
    }

    pub(super) fn len(&self) -> u32 {
        self.waiting
    }

    /// The entry of a ticket, or how it was lost.
    pub(super) fn find(&self, ticket: Ticket) -> Result<&Entry, Shed> {
        match self.places.get(ticket.index as usize) {
            Some(place) if place.serial == ticket.serial => match &place.state {
                State::Waiting(entry) => Ok(entry),
                State::Free(reason) => Err(*reason),
            },
            _ => Err(Shed::Gone),
        }
    }

    /// A place at the end of its priority. The caller keeps the line within `capacity`.
    pub(super) fn push(&mut self, entry: Entry, capacity: u32) -> Ticket {
        let state = State::Waiting(entry);
        let index = if self.free.first == NONE || self.places.len() < capacity as usize * 2 {
            self.places.push(Place { state, serial: 0, before: NONE, after: NONE });
            (self.places.len() - 1) as u32
        } else {
            let index = self.free.first;
            unlink(&mut self.places, &mut self.free, index);
            index
        };
        let place = &mut self.places[index as usize];
        place.state = state;
        place.serial = place.serial.wrapping_add(1);
        let ticket = Ticket { index, serial: place.serial };
        append(&mut self.places, &mut self.lists[entry.priority as usize], index);
        self.waiting += 1;
        ticket
    }

    /// Takes a waiting ticket out; nothing happens to any other.
    pub(super) fn remove(&mut self, ticket: Ticket, reason: Shed) {
        if self.find(ticket).is_ok() {
            self.shed(ticket.index, reason);
        }
    }

    /// Whether the ticket is one of the first `count`, highest priority first. Ended leases do
    /// not count; there are none but those of lost callers.
    pub(super) fn among_first(&self, ticket: Ticket, now: Time, mut count: u32) -> bool {
        for list in self.lists.iter().rev() {
            let mut index = list.first;
            while let Some(place) = self.places.get(index as usize) {
                if count == 0 {
                    return false;
                }
                if index == ticket.index {
                    return true;
                }
                let live = matches!(&place.state, State::Waiting(entry) if entry.end > now);
                count -= u32::from(live);
                index = place.after;
            }
        }
        false
    }

    /// Sheds the newest of the lowest priority that is below `priority`.
    pub(super) fn shed_newest_below(&mut self, priority: Priority, reason: Shed) -> bool {
        let below = self.lists.iter().take(priority as usize).find(|list| list.last != NONE);
        let Some(last) = below.map(|list| list.last) else { return false };
        self.shed(last, reason);
        true
    }

    /// Sheds the newest of the lowest priority.
    pub(super) fn shed_newest(&mut self, reason: Shed) {
        if let Some(list) = self.lists.iter().find(|list| list.last != NONE) {
            self.shed(list.last, reason);
        }
    }

    /// Sheds those in front whose lease has ended. Ages end in the order of arrival, so what is
    /// left further back are callers' own deadlines, and these callers come by themselves.
    pub(super) fn shed_ended(&mut self, now: Time) {
        for priority in 0..PRIORITIES {
            while let Some(place) = self.places.get(self.lists[priority].first as usize)
                && let State::Waiting(entry) = &place.state
                && entry.end <= now
            {
                let reason = entry.reason();
                self.shed(self.lists[priority].first, reason);
            }
        }
    }

    fn shed(&mut self, index: u32, reason: Shed) {
        let place = &mut self.places[index as usize];
        let State::Waiting(entry) = place.state else { return };
        place.state = State::Free(reason);
        unlink(&mut self.places, &mut self.lists[entry.priority as usize], index);
        append(&mut self.places, &mut self.free, index);
        self.waiting -= 1;
    }
}

fn append(places: &mut [Place], list: &mut List, index: u32) {
    let last = std::mem::replace(&mut list.last, index);
    places[index as usize].before = last;
    places[index as usize].after = NONE;
    match places.get_mut(last as usize) {
        Some(place) => place.after = index,
        None => list.first = index,
    }
}

fn unlink(places: &mut [Place], list: &mut List, index: u32) {
    let Place { before, after, .. } = places[index as usize];
    match places.get_mut(before as usize) {
        Some(place) => place.after = after,
        None => list.first = after,
    }
    match places.get_mut(after as usize) {
        Some(place) => place.before = before,
        None => list.last = before,
    }
}
