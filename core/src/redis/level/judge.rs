//! What the two replies of a lookup amount to: the remaining time and the text, each from another
//! program, and none of it believed without a check.

use std::time::Duration;

use super::{Ask, Hit, MILLI, Miss, Settings};
use crate::redis::Reply;
use crate::redis::link::{Failure, Refusal};
use crate::redis::value::{self, Mistrust};
use crate::time::{Time, Wall};

/// What the two replies of a lookup amount to.
pub(super) fn replies(
    now: Time,
    wall: Wall,
    ask: &Ask,
    replies: &[Reply],
    settings: &Settings,
) -> Result<Hit, Miss> {
    let [left, text] = replies else { return Err(Miss::Failed(Failure::Replies)) };
    if text.refusal().is_some_and(|word| Refusal::of(word) == Refusal::Value) {
        return Err(Miss::Mistrusted(Mistrust::WrongType));
    }
    let (Some(left), Some(text)) = (left.number(), text.bytes()) else {
        return Err(Miss::Failed(Failure::Replies));
    };
    // −2: no key; −1: one without a time to live. A range of nothing is the empty text.
    if left == -2 || text.is_empty() {
        return Err(Miss::Absent);
    }
    let left_ms = u64::try_from(left).map_err(|_| Miss::Mistrusted(Mistrust::Endless))?;
    let most_ms = settings.ttl / MILLI;
    if left_ms > most_ms {
        return Err(Miss::Mistrusted(Mistrust::TooLong { left_ms, most_ms }));
    }
    let decoded =
        value::decode(text, ask.entry.name(), &settings.bounds).map_err(Miss::Mistrusted)?;
    let mut life = Duration::from_millis(left_ms);
    if decoded.instances.is_empty() {
        if settings.negative_ttl == 0 {
            return Err(Miss::Absent);
        }
        life = life.min(Duration::from_nanos(settings.negative_ttl));
    }
    // Redis counted from some time after it was asked.
    let mut fresh_until = ask.asked.plus(life);
    if let Some(expires) = decoded.expires {
        let ttl = Duration::from_nanos(settings.ttl);
        let left = value::remaining(expires, wall, ttl, settings.skew).map_err(Miss::Mistrusted)?;
        fresh_until = fresh_until.min(now.plus(left.unwrap_or_default()));
    }
    if fresh_until <= now {
        return Err(Miss::Expired);
    }
    Ok(Hit { instances: decoded.instances, fresh_until })
}
