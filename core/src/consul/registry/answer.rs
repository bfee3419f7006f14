//! What an outcome says to an ask.

use crate::consul::agent;
use crate::consul::agent::Life;
use crate::consul::ask::{Answer, Ask, Mark, Trouble};
use crate::consul::error::ConsulError;
use crate::consul::kv;
use crate::consul::settings::Settings;
use crate::job::JobOutcome;
use crate::policy::balance::hash;

/// The answer, or what the agent said instead.
pub(super) fn of(
    settings: &Settings,
    ask: &Ask,
    outcome: &JobOutcome,
) -> Result<Answer, ConsulError> {
    let (status, body) = match outcome {
        JobOutcome::Answered { status, body, .. } => (*status, &body[..]),
        JobOutcome::Failed(fault) => return Ok(Answer::Failed(Trouble::Fault(*fault))),
        JobOutcome::Dropped => return Ok(Answer::Failed(Trouble::Dropped)),
        _ => return Ok(Answer::Failed(Trouble::Malformed)),
    };
    match ask {
        Ask::Register(_) | Ask::Beat { .. } => agent::done(status, body).map(|()| Answer::Done),
        Ask::Deregister(_) => agent::parse_deregister(status, body).map(|known| match known {
            true => Answer::Done,
            false => Answer::Failed(Trouble::Unknown),
        }),
        Ask::Present => agent::parse_own(settings, status, body)
            .map(|own| Answer::Present(own.into_keys().collect())),
        Ask::Members => agent::parse_members(settings, status, body).map(|members| {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let alive = members.iter().filter(|member| member.life == Life::Alive).count();
            Answer::Members { alive: count(alive), all: count(members.len()) }
        }),
        Ask::Index(_) => kv::parse_get(settings, status, body).map(|entry| {
            let mark = |entry: kv::Entry| Mark {
                modified: entry.modify_index,
                value: hash::of(&entry.value),
            };
            Answer::Index(entry.map(mark))
        }),
    }
}

/// The same as the machines know it.
pub(in crate::consul) fn trouble(error: &ConsulError) -> Trouble {
    match error {
        ConsulError::Denied(_) | ConsulError::UnknownToken => Trouble::Forbidden,
        ConsulError::NotFound(_) | ConsulError::UnknownCheck => Trouble::Unknown,
        // An agent that refuses does so again, whatever the status.
        ConsulError::Refused { .. } | ConsulError::Exists(_) => Trouble::Status(400),
        ConsulError::TooOften => Trouble::Status(429),
        ConsulError::NoLeader | ConsulError::NoPath => Trouble::Status(500),
        ConsulError::Failed { status, .. } => Trouble::Status(*status),
        _ => Trouble::Malformed,
    }
}
