//! Invalidation: by key, tag, path, prefix, or all of it; and what it does to answers that are on
//! their way. Such an answer may be older than what made it invalid, so it is handed to whoever
//! fetched it and not stored.

use std::borrow::Borrow;
use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::Marks;
use super::store::Store;

/// Invalidations that are remembered for answers on their way.
const REMEMBERED: usize = 256;

/// What is to be invalidated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target<K> {
    /// One key.
    Key(K),
    /// All entries with this tag.
    Tag(Arc<str>),
    /// All entries about exactly this path, whatever their query.
    Path(Arc<str>),
    /// All entries about a path that begins so.
    Prefix(Arc<str>),
    /// All entries.
    All,
}

impl<K: Eq> Target<K> {
    pub(super) fn means<Q>(&self, key: &Q, scope: Option<&str>, tags: &[Arc<str>]) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        match self {
            Target::Key(own) => own.borrow() == key,
            Target::Tag(tag) => tags.contains(tag),
            Target::Path(path) => scope == Some(&**path),
            Target::Prefix(prefix) => scope.is_some_and(|scope| scope.starts_with(&**prefix)),
            Target::All => true,
        }
    }
}

/// The latest invalidations, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Recent<K> {
    list: VecDeque<(u64, Target<K>)>,
    /// Of those that are not in the list any more, the latest.
    forgotten: u64,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Recent { list: VecDeque::new(), forgotten: 0 }
    }
}

impl<K: Eq> Recent<K> {
    pub(super) fn note(&mut self, order: u64, target: Target<K>) {
        if matches!(target, Target::All) {
            self.list.clear();
        }
        if self.list.len() >= REMEMBERED
            && let Some((order, _)) = self.list.pop_front()
        {
            self.forgotten = order;
        }
        self.list.push_back((order, target));
    }

    /// Whether something asked for at `order` has been invalidated since. Where that is not
    /// known any more, it has been.
    pub(super) fn voids<Q>(
        &self,
        order: u64,
        key: &Q,
        scope: Option<&str>,
        tags: &[Arc<str>],
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let later = self.list.iter().rev().take_while(|(at, _)| *at > order);
        order < self.forgotten
            || later.into_iter().any(|(_, target)| target.means(key, scope, tags))
    }
}

/// Which entries are about a path or have a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Places {
    scopes: BTreeSet<(Arc<str>, u32)>,
    tags: BTreeSet<(Arc<str>, u32)>,
}

impl Places {
    pub(super) fn insert(&mut self, at: u32, marks: Option<&Marks>) {
        let Some(marks) = marks else { return };
        self.scopes.extend(marks.scope.iter().map(|scope| (scope.clone(), at)));
        self.tags.extend(marks.tags.iter().map(|tag| (tag.clone(), at)));
    }

    pub(super) fn remove(&mut self, at: u32, marks: Option<&Marks>) {
        let Some(marks) = marks else { return };
        if let Some(scope) = &marks.scope {
            self.scopes.remove(&(scope.clone(), at));
        }
        for tag in &marks.tags {
            self.tags.remove(&(tag.clone(), at));
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Places::default();
    }

    fn exactly(set: &BTreeSet<(Arc<str>, u32)>, name: &Arc<str>) -> Vec<u32> {
        set.range((name.clone(), 0)..=(name.clone(), u32::MAX)).map(|(_, at)| *at).collect()
    }

    fn under(&self, prefix: &Arc<str>) -> Vec<u32> {
        let from = self.scopes.range((prefix.clone(), 0)..);
        from.take_while(|(scope, _)| scope.starts_with(&**prefix)).map(|(_, at)| *at).collect()
    }
}

impl<K: Hash + Eq, V> Store<K, V> {
    /// Removes what is meant, and keeps answers on their way from being stored if they are meant.
    /// Returns how many entries were removed.
    pub fn invalidate(&mut self, target: Target<K>) -> u32 {
        self.order = self.order.saturating_add(1);
        let before = self.slab.count();
        let meant = match &target {
            Target::Key(key) => self.find(key).into_iter().collect(),
            Target::Tag(tag) => Places::exactly(&self.places.tags, tag),
            Target::Path(path) => Places::exactly(&self.places.scopes, path),
            Target::Prefix(prefix) => self.places.under(prefix),
            Target::All => {
                self.forget_all();
                Vec::new()
            }
        };
        for at in meant {
            self.drop_entry(at);
        }
        self.recent.note(self.order, target);
        let removed = before - self.slab.count();
        self.counters.invalidated += u64::from(removed);
        removed
    }
}
