//! What happens when. Events of one instant come in an order drawn from the seed: a driver that
//! works only if its timers fire in the order they were set is a driver that does not work.

use std::collections::BTreeMap;

use origin_core::Time;
use origin_core::rng::Pcg32;

/// An ordered queue of events in time.
#[derive(Debug)]
pub(super) struct Queue<E> {
    events: BTreeMap<(Time, u32, u64), E>,
    next: u64,
    rng: Pcg32,
}

impl<E> Queue<E> {
    pub(super) fn new(seed: u64) -> Queue<E> {
        Queue { events: BTreeMap::new(), next: 0, rng: Pcg32::new(seed, 0x9e3e) }
    }

    /// Puts an event in. One that never comes is forgotten.
    pub(super) fn push(&mut self, at: Time, event: E) {
        if at == Time::NEVER {
            return;
        }
        self.events.insert((at, self.rng.bits(), self.next), event);
        self.next += 1;
    }

    /// When the next event is.
    pub(super) fn due(&self) -> Option<Time> {
        self.events.first_key_value().map(|((at, _, _), _)| *at)
    }

    /// Takes the next event out.
    pub(super) fn pop(&mut self) -> Option<(Time, E)> {
        self.events.pop_first().map(|((at, _, _), event)| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_and_the_seed_shuffles_within_an_instant() {
        let order = |seed| -> Vec<u32> {
            let mut queue = Queue::new(seed);
            for n in 0..8 {
                queue.push(Time::from_millis(7), n);
            }
            queue.push(Time::from_millis(6), 100);
            queue.push(Time::NEVER, 200);
            std::iter::from_fn(|| queue.pop().map(|(_, n)| n)).collect()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_eq!((order(1)[0], order(1).len()), (100, 9));
    }
}
