//! Warming: what a program will be asked for anyway is fetched before it is, a few at a time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A list of requests to be made at start, with a bound on how many at once. What a request is
/// only its owner knows; a failed one is not made again, because warming is no duty.
///
/// ```
/// use origin_core::cache::Warming;
///
/// let mut warming = Warming::new(["/a", "/b", "/c"], 2);
/// assert_eq!(warming.next(), Some("/a"));
/// assert_eq!(warming.next(), Some("/b"));
/// assert_eq!(warming.next(), None); // two are out
/// warming.done(true);
/// assert_eq!(warming.next(), Some("/c"));
/// warming.done(false);
/// warming.done(true);
/// assert!(warming.is_over());
/// assert_eq!((warming.warmed(), warming.failed()), (2, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Warming<R> {
    left: VecDeque<R>,
    at_once: u32,
    out: u32,
    warmed: u32,
    failed: u32,
}

impl<R> Warming<R> {
    /// These requests, in this order, `at_once` at a time (at least one).
    pub fn new(requests: impl IntoIterator<Item = R>, at_once: u32) -> Warming<R> {
        let left = requests.into_iter().collect();
        Warming { left, at_once: at_once.max(1), out: 0, warmed: 0, failed: 0 }
    }

    /// The next one to be made now, if any. Its end has to be reported.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // it goes on after `None`
    pub fn next(&mut self) -> Option<R> {
        if self.out >= self.at_once {
            return None;
        }
        let next = self.left.pop_front()?;
        self.out += 1;
        Some(next)
    }

    /// One ended, or was dropped.
    pub fn done(&mut self, warmed: bool) {
        self.out = self.out.saturating_sub(1);
        let count = if warmed { &mut self.warmed } else { &mut self.failed };
        *count = count.saturating_add(1);
    }

    /// Whether nothing is left and nothing out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left.is_empty() && self.out == 0
    }

    /// So many were fetched.
    #[must_use]
    pub const fn warmed(&self) -> u32 {
        self.warmed
    }

    /// So many could not be.
    #[must_use]
    pub const fn failed(&self) -> u32 {
        self.failed
    }
}
