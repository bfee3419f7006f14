//! The calendar of one certificate: a word ahead of its end, a word at its end, each once. It goes
//! by the clock on the wall, which may jump; a word that was said is not said again.

use std::time::Duration;

use super::certificate::Leaf;
use super::said::Said;
use crate::time::{Time, Wall};

/// What of a certificate has been said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Expiry {
    leaf: Option<Leaf>,
    warned: bool,
    expired: bool,
}

impl Expiry {
    pub(super) fn new(leaf: Option<Leaf>) -> Expiry {
        Expiry { leaf, ..Expiry::default() }
    }

    pub(super) const fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }

    /// What is to be said at `wall`, if anything; `warning` in seconds.
    pub(super) fn tick(&mut self, wall: Wall, warning: u64) -> Option<Said> {
        let leaf = self.leaf.as_ref()?;
        let left = leaf.not_after.0.saturating_sub(wall.0);
        // It holds to the end of that second.
        if wall > leaf.not_after && !self.expired {
            (self.warned, self.expired) = (true, true);
            return Some(Said::Expired { name: leaf.name().into(), serial: leaf.serial.clone() });
        }
        if left <= warning.min(leaf.life() / 10) && !self.warned {
            self.warned = true;
            let (name, serial) = (leaf.name().into(), leaf.serial.clone());
            return Some(Said::Expiring { name, serial, left: Duration::from_secs(left) });
        }
        None
    }

    /// When it will have something to say.
    pub(super) fn due(&self, now: Time, wall: Wall, warning: u64) -> Time {
        let Some(leaf) = &self.leaf else { return Time::NEVER };
        let at = |second: u64| now.plus(Duration::from_secs(second.saturating_sub(wall.0)));
        match (self.warned, self.expired) {
            (_, true) => Time::NEVER,
            (true, false) => at(leaf.not_after.0.saturating_add(1)),
            _ => at(leaf.not_after.0.saturating_sub(warning.min(leaf.life() / 10))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn leaf(days: u64) -> Leaf {
        Leaf {
            subject: Some("app".into()),
            spiffe_id: None,
            serial: "2a".into(),
            not_before: Wall(1_000 * DAY),
            not_after: Wall((1_000 + days) * DAY),
        }
    }

    #[test]
    fn a_certificate_is_warned_of_once_and_once_more_when_it_is_over() {
        let mut expiry = Expiry::new(Some(leaf(90)));
        let mut said = Vec::new();
        let (mut wall, mut looks) = (Wall(1_000 * DAY), 0);
        // Only when it says that something is due.
        loop {
            let due = expiry.due(Time::ZERO, wall, DAY);
            if due == Time::NEVER {
                break;
            }
            wall = Wall(wall.0 + due.as_millis() / 1_000);
            said.extend(expiry.tick(wall, DAY).map(|what| (wall.0, what.to_string())));
            looks += 1;
            assert!(looks < 4, "{said:?}");
        }
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0].0, 1_089 * DAY);
        assert!(said[0].1.contains("app") && said[0].1.contains("1d"), "{said:?}");
        assert_eq!(said[1].0, 1_090 * DAY + 1);
        assert!(said[1].1.contains("has expired"), "{said:?}");
        // Nothing is said twice, wherever the clock jumps.
        assert_eq!(expiry.tick(Wall(1_000 * DAY), DAY), None);
        assert_eq!(expiry.tick(Wall(2_000 * DAY), DAY), None);
    }

    #[test]
    fn a_short_life_is_warned_of_in_its_last_tenth_and_a_dead_one_not_at_all() {
        let mut expiry = Expiry::new(Some(leaf(1)));
        assert_eq!(expiry.tick(Wall(1_001 * DAY - DAY / 10 - 1), DAY), None);
        assert!(matches!(
            expiry.tick(Wall(1_001 * DAY - DAY / 10), DAY),
            Some(Said::Expiring { .. })
        ));
        let mut expiry = Expiry::new(Some(leaf(1)));
        assert!(matches!(expiry.tick(Wall(1_002 * DAY), DAY), Some(Said::Expired { .. })));
        assert_eq!(expiry.tick(Wall(1_002 * DAY), DAY), None);
        assert_eq!(Expiry::new(None).due(Time::ZERO, Wall(0), DAY), Time::NEVER);
    }
}
