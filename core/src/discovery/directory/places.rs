//! How many exchanges a background has out at the same time. A registry gives each of its clients
//! so many connections and closes what is beyond (Consul: 200 an address): a thousand services
//! that are due together take turns.
//!
//! A place is a lease as the job is: one that never comes back costs its deadline.

use serde::{Deserialize, Serialize};

use crate::job::JobId;
use crate::time::Time;

/// Places of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::discovery) struct Places {
    most: usize,
    taken: Vec<(JobId, Time)>,
}

impl Places {
    pub(super) fn new(most: u32) -> Places {
        Places { most: most as usize, taken: Vec::new() }
    }

    /// `None`: there is a place. Otherwise when there will be one at the latest.
    pub(in crate::discovery) fn full(&mut self, now: Time) -> Option<Time> {
        if self.taken.len() >= self.most {
            self.taken.retain(|(_, until)| now < *until);
        }
        if self.taken.len() < self.most {
            return None;
        }
        let first = self.taken.iter().map(|(_, until)| *until).min();
        Some(first.unwrap_or(Time::NEVER))
    }

    pub(in crate::discovery) fn take(&mut self, id: JobId, until: Time) {
        self.taken.push((id, until));
    }

    /// What comes back too late has lost its place already.
    pub(super) fn give_back(&mut self, now: Time, id: JobId) {
        let mut taken = self.taken.iter();
        if let Some(at) = taken.position(|(taken, until)| *taken == id && now < *until) {
            self.taken.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Never more than there are, whoever comes back and who does not; all of them again when
        /// all have come back or their time is over.
        #[test]
        fn never_more_than_there_are(
            most in 0_u32..5,
            steps in prop::collection::vec((0_u64..4, 0_u64..8, any::<bool>()), 0..200),
        ) {
            let mut places = Places::new(most);
            let mut out: Vec<(u64, Time)> = Vec::new();
            let mut now = Time::ZERO;
            for (id, (wait, lease, back)) in steps.into_iter().enumerate() {
                now = Time::from_millis(now.as_millis() + wait);
                if back && let Some((id, _)) = out.pop() {
                    places.give_back(now, JobId(id));
                }
                out.retain(|(_, until)| now < *until);
                let full = places.full(now);
                prop_assert_eq!(full.is_some(), out.len() >= most as usize);
                if let Some(at) = full.filter(|_| most > 0) {
                    prop_assert!(at > now);
                } else if most > 0 {
                    let until = Time::from_millis(now.as_millis() + lease);
                    places.take(JobId(id as u64), until);
                    out.push((id as u64, until));
                }
            }
        }
    }
}
