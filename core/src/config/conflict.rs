//! Contradictions between the policies of a service: something is switched on that can never
//! work, because another policy rules it out. They are refused, with both fields and the numbers.
//!
//! What is wrong in one field, or among the fields of one policy, is refused by that policy's own
//! `Settings::of`; what works but will surprise is a warning of [`super::lint`].

use super::field::At;
use super::{ConfigError, Policy, Rules};
use crate::time::DurationText;

/// Refuses what can never work.
pub(super) fn check(policy: &Policy, rules: &Rules, at: At<'_>) -> Result<(), ConfigError> {
    if let Some(rate) = policy.expected_rate {
        at.within("expected_rate", rate, 1e-6..=1e9)?;
    }
    queue(policy, rules, at)?;
    hedge(policy, at)?;
    adaptive_timeout(policy, rules, at)
}

/// Only a call without a slot waits, and without a limit every call has one.
fn queue(policy: &Policy, rules: &Rules, at: At<'_>) -> Result<(), ConfigError> {
    if policy.queue.enabled && rules.concurrency.is_off() {
        let reason = format!(
            "nobody would ever wait: {}.concurrency.mode is off, and only a call without a slot \
             queues",
            at.0
        );
        return Err(at.refuse("queue.enabled", reason));
    }
    Ok(())
}

/// A copy is an attempt, and it has to go out before the call ends.
fn hedge(policy: &Policy, at: At<'_>) -> Result<(), ConfigError> {
    let hedge = &policy.hedge;
    if !hedge.enabled {
        return Ok(());
    }
    if policy.retry.max_attempts == 1 {
        let reason = format!(
            "no copy can ever be sent: it is an attempt, and {}.retry.max_attempts is 1",
            at.0
        );
        return Err(at.refuse("hedge.enabled", reason));
    }
    let total = policy.deadline.total;
    let (field, delay) = match hedge.delay {
        Some(delay) => ("hedge.delay", delay),
        None => ("hedge.min_delay", hedge.min_delay),
    };
    if delay >= total {
        let reason = format!(
            "no copy can ever be sent: after {} the {}.deadline.total of {} is over",
            DurationText(delay),
            at.0,
            DurationText(total)
        );
        return Err(at.refuse(field, reason));
    }
    Ok(())
}

/// It only ever shortens the attempt timeout, and not below its own `min`.
fn adaptive_timeout(policy: &Policy, rules: &Rules, at: At<'_>) -> Result<(), ConfigError> {
    let adaptive = &policy.adaptive_timeout;
    if adaptive.enabled && adaptive.min >= rules.attempt {
        let reason = format!(
            "nothing would ever be shortened: {} is not below the attempt timeout of {}",
            DurationText(adaptive.min),
            DurationText(rules.attempt)
        );
        return Err(at.refuse("adaptive_timeout.min", reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(change: impl FnOnce(&mut Policy)) -> String {
        let mut policy = Policy::default();
        change(&mut policy);
        let refused = Rules::of(&policy, "policy").unwrap_err();
        format!("{}: {}", refused.field, refused.reason)
    }

    /// One nanosecond decides.
    #[test]
    fn each_begins_exactly_where_nothing_works_any_more() {
        let (total, ns) = (Duration::from_secs(30), Duration::from_nanos(1));
        let text = refused(|p| (p.hedge.enabled, p.hedge.delay) = (true, Some(total)));
        let words = "policy.hedge.delay: no copy can ever be sent: after 30s the \
                     policy.deadline.total of 30s is over";
        assert_eq!(text, words);
        let mut policy = Policy::default();
        (policy.hedge.enabled, policy.hedge.delay) = (true, Some(total - ns));
        assert!(Rules::of(&policy, "policy").is_ok());
        let adaptive = |min| {
            move |p: &mut Policy| {
                p.adaptive_timeout.enabled = true;
                (p.adaptive_timeout.min, p.adaptive_timeout.max) = (min, total);
            }
        };
        let text = refused(adaptive(Duration::from_secs(10)));
        assert!(text.ends_with("10s is not below the attempt timeout of 10s"), "{text}");
        let mut policy = Policy::default();
        adaptive(Duration::from_secs(10) - ns)(&mut policy);
        assert!(Rules::of(&policy, "policy").is_ok());
        for rate in [f64::NAN, 0.0, -1.0, f64::INFINITY, 1e-7] {
            let text = refused(|p| p.expected_rate = Some(rate));
            assert!(text.starts_with("policy.expected_rate: "), "{text}");
        }
    }
}
