//! Where entries live: one vector, with places used again and two lists through them by number.
//! What the lists mean is told in `evict`.

use serde::{Deserialize, Serialize};

use super::index::NOWHERE;

/// Which of the two lists.
pub(super) type ListId = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Cell<T> {
    Free { next: u32 },
    Used { newer: u32, older: u32, list: ListId, item: T },
}

/// The ends of a list and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Ends {
    newest: u32,
    oldest: u32,
    count: u32,
}

const NONE: Ends = Ends { newest: NOWHERE, oldest: NOWHERE, count: 0 };

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Slab<T> {
    cells: Vec<Cell<T>>,
    free: u32,
    lists: [Ends; 2],
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Slab<T> {
        Slab { cells: Vec::new(), free: NOWHERE, lists: [NONE; 2] }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.lists[0].count + self.lists[1].count
    }

    pub(super) fn in_list(&self, list: ListId) -> u32 {
        self.lists[usize::from(list & 1)].count
    }

    /// Places, used and free.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.cells.len()).unwrap_or(NOWHERE)
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        match self.cells.get(at as usize) {
            Some(Cell::Used { item, .. }) => Some(item),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.cells.get_mut(at as usize) {
            Some(Cell::Used { item, .. }) => Some(item),
            _ => None,
        }
    }

    /// The one at the old end of a list.
    pub(super) fn oldest(&self, list: ListId) -> Option<u32> {
        Some(self.lists[usize::from(list & 1)].oldest).filter(|at| *at != NOWHERE)
    }

    /// Puts `item` at the new end of a list.
    pub(super) fn insert(&mut self, list: ListId, item: T) -> u32 {
        let cell = Cell::Used { newer: NOWHERE, older: NOWHERE, list, item };
        let at = self.free;
        let at = if let Some(place) = self.cells.get_mut(at as usize) {
            if let Cell::Free { next } = *place {
                self.free = next;
            }
            *place = cell;
            at
        } else {
            // A quarter more at a time: an entry is big, and caches stay full once they are.
            if self.cells.len() == self.cells.capacity() {
                self.cells.reserve_exact((self.cells.len() / 4).max(8));
            }
            self.cells.push(cell);
            self.places() - 1
        };
        self.link(at, list);
        at
    }

    /// Takes the one there out.
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        self.get(at)?;
        self.unlink(at);
        let free = Cell::Free { next: self.free };
        self.free = at;
        match std::mem::replace(self.cells.get_mut(at as usize)?, free) {
            Cell::Used { item, .. } => Some(item),
            Cell::Free { .. } => None,
        }
    }

    /// Moves the one there to the new end of a list.
    #[inline]
    pub(super) fn renew(&mut self, at: u32, list: ListId) {
        if self.lists[usize::from(list & 1)].newest != at && self.get(at).is_some() {
            self.unlink(at);
            self.link(at, list);
        }
    }

    /// Puts everything of list 1 behind the old end of list 0.
    pub(super) fn merge(&mut self) {
        let (mut at, mut older) = (self.lists[1].newest, self.lists[0].oldest);
        while let Some(Cell::Used { older: next, newer, list, .. }) =
            self.cells.get_mut(at as usize)
        {
            let next = *next;
            (*list, *newer) = (0, older);
            self.set_older(older, at);
            (older, at) = (at, next);
        }
        if self.lists[0].newest == NOWHERE {
            self.lists[0].newest = self.lists[1].newest;
        }
        self.lists[0] = Ends { oldest: older, count: self.count(), ..self.lists[0] };
        self.lists[1] = NONE;
    }

    fn set_older(&mut self, at: u32, to: u32) {
        if let Some(Cell::Used { older, .. }) = self.cells.get_mut(at as usize) {
            *older = to;
        }
    }

    #[inline]
    fn link(&mut self, at: u32, into: ListId) {
        let ends = &mut self.lists[usize::from(into & 1)];
        let before = ends.newest;
        ends.newest = at;
        ends.count += 1;
        if before == NOWHERE {
            ends.oldest = at;
        }
        if let Some(Cell::Used { newer, older, list, .. }) = self.cells.get_mut(at as usize) {
            (*newer, *older, *list) = (NOWHERE, before, into & 1);
        }
        if let Some(Cell::Used { newer, .. }) = self.cells.get_mut(before as usize) {
            *newer = at;
        }
    }

    #[inline]
    fn unlink(&mut self, at: u32) {
        let Some(Cell::Used { newer, older, list, .. }) = self.cells.get(at as usize) else {
            return;
        };
        let (newer, older, list) = (*newer, *older, usize::from(list & 1));
        if let Some(Cell::Used { older: back, .. }) = self.cells.get_mut(newer as usize) {
            *back = older;
        } else {
            self.lists[list].newest = older;
        }
        if let Some(Cell::Used { newer: back, .. }) = self.cells.get_mut(older as usize) {
            *back = newer;
        } else {
            self.lists[list].oldest = newer;
        }
        self.lists[list].count -= 1;
    }

    pub(super) fn clear(&mut self) {
        *self = Slab::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(slab: &Slab<u32>, list: ListId) -> Vec<u32> {
        let (mut found, mut at) = (vec![], slab.lists[usize::from(list)].newest);
        let mut back = NOWHERE;
        while let Some(Cell::Used { older, newer, list: own, item }) = slab.cells.get(at as usize) {
            assert_eq!((*newer, *own), (back, list));
            found.push(*item);
            (back, at) = (at, *older);
        }
        assert_eq!(slab.lists[usize::from(list)].oldest, back);
        found
    }

    proptest! {
        /// The lists are those that two vectors keep; places are used again.
        #[test]
        fn two_vectors(ops in proptest::collection::vec((0_u8..5, 0_u8..2, 0_usize..30), 0..200)) {
            let mut slab = Slab::new();
            let mut model: [Vec<(u32, u32)>; 2] = [vec![], vec![]];
            let mut most = 0;
            for (turn, (op, list, which)) in (0_u32..).zip(ops) {
                let all: Vec<u32> = model.iter().flatten().map(|(at, _)| *at).collect();
                let chosen = all.get(which % all.len().max(1)).copied();
                let take = |model: &mut [Vec<(u32, u32)>; 2], at| model.iter_mut().find_map(|list| {
                    let position = list.iter().position(|(other, _)| *other == at)?;
                    Some(list.remove(position))
                });
                match (op, chosen) {
                    (0 | 1, _) => {
                        let at = slab.insert(list, turn);
                        model[usize::from(list)].insert(0, (at, turn));
                    }
                    (2, Some(at)) => {
                        let item = take(&mut model, at).unwrap();
                        prop_assert_eq!(slab.remove(at), Some(item.1));
                        prop_assert_eq!(slab.remove(at), None);
                    }
                    (3, Some(at)) => {
                        // Already at the end of that list: stays.
                        let item = take(&mut model, at).unwrap();
                        slab.renew(at, list);
                        model[usize::from(list)].insert(0, item);
                    }
                    (4, _) if which == 0 => {
                        slab.merge();
                        let rest = std::mem::take(&mut model[1]);
                        model[0].extend(rest);
                    }
                    _ => {}
                }
                for list in 0..2 {
                    let items: Vec<u32> = model[usize::from(list)].iter().map(|(_, item)| *item).collect();
                    prop_assert_eq!(walk(&slab, list), items);
                    prop_assert_eq!(slab.in_list(list) as usize, model[usize::from(list)].len());
                    prop_assert_eq!(slab.oldest(list), model[usize::from(list)].last().map(|(at, _)| *at));
                }
                most = most.max(slab.count());
                prop_assert!(slab.places() <= most);
            }
        }
    }
}
