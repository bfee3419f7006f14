//! How long breakers were not closed: from their first opening to their closing, through every
//! half-open turn between. Told by the notices of their changes, so it cannot differ from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Bounds, Histogram, Phase};
use crate::time::Time;

/// Breakers watched at a time; the one that has been open longest makes room.
const MOST: usize = 1_024;

/// Cluster and address of an endpoint; none: the service as a whole.
type Place = Option<(Arc<str>, Arc<str>)>;

/// Breakers that are not closed, and how long it took of those that closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recoveries {
    /// Whose, and since when. Few at a time.
    open: Vec<(Place, Time)>,
    took: Histogram,
    bounds: Bounds,
}

impl Recoveries {
    /// Counts in these buckets.
    pub(crate) fn bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// A breaker changed. One that opens out of being closed begins anew: an endpoint of this name
    /// may have left meanwhile and come back.
    pub(crate) fn moved(
        &mut self,
        at: Time,
        place: Option<(&Arc<str>, &Arc<str>)>,
        from: Phase,
        to: Phase,
    ) {
        let same =
            |known: &Place| known.as_ref().map(|(cluster, address)| (cluster, address)) == place;
        let known = self.open.iter().position(|(known, _)| same(known));
        match (from, to, known) {
            (_, Phase::Closed, Some(known)) => {
                let (_, since) = self.open.remove(known);
                self.took.record(at.since(since), &self.bounds);
            }
            (Phase::Closed, Phase::Open, Some(known)) => self.open[known].1 = at,
            (_, Phase::Open, None) => {
                if self.open.len() >= MOST {
                    self.open.remove(0);
                }
                let place = place.map(|(cluster, address)| (cluster.clone(), address.clone()));
                self.open.push((place, at));
            }
            _ => (),
        }
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Histogram {
        self.took
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn from_the_first_opening_to_the_closing() {
        let mut all = Recoveries::default();
        let (cluster, address): (Arc<str>, Arc<str>) = ("alpha".into(), "http://a".into());
        let place = Some((&cluster, &address));
        let at = |s: u64| Time::ZERO.plus(Duration::from_secs(s));
        for (second, from, to) in [
            (10, Phase::Closed, Phase::Open),
            (12, Phase::Open, Phase::HalfOpen),
            (13, Phase::HalfOpen, Phase::Open),
            (15, Phase::Open, Phase::HalfOpen),
            (16, Phase::HalfOpen, Phase::Closed),
            // What closes without having opened says nothing.
            (17, Phase::HalfOpen, Phase::Closed),
            // It left open and came back closed.
            (20, Phase::Closed, Phase::Open),
            (30, Phase::Closed, Phase::Open),
            (31, Phase::HalfOpen, Phase::Closed),
        ] {
            all.moved(at(second), place, from, to);
        }
        let took = all.took();
        assert_eq!(took.count(), 2);
        assert_eq!(took.sum(), 7_000_000_000, "6 s and 1 s");
    }

    #[test]
    fn breakers_without_end_do_not_fill_memory() {
        let mut all = Recoveries::default();
        let cluster: Arc<str> = "alpha".into();
        for n in 0..5_000_u64 {
            let address: Arc<str> = n.to_string().into();
            all.moved(Time::ZERO, Some((&cluster, &address)), Phase::Closed, Phase::Open);
        }
        assert_eq!(all.open.len(), MOST);
    }
}
