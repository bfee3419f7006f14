//! What an outcome says to the machine that asked for it.

use super::{Who, content};
use crate::job::JobOutcome;
use crate::outcome::Fault;
use crate::secret::Secret;
use crate::vault::event::{Trouble, What};
use crate::vault::leases::Deed;
use crate::vault::{Settings, VaultError, auth, keeper, lease, leases, wire};

/// The answer to whichever machine, and the token or credential that came with it.
pub(super) struct Read {
    pub keeper: Option<keeper::Answer>,
    pub lease: Option<leases::Answer>,
    pub token: Option<Secret>,
}

impl Read {
    /// The failure of what this machine has asked.
    pub(super) fn failed(trouble: Trouble, who: &Who) -> Read {
        match who {
            Who::Keeper(_) => Read::keeper(keeper::Answer::Failed(trouble), None),
            Who::Lease(_) => {
                Read { keeper: None, lease: Some(leases::Answer::Failed(trouble)), token: None }
            }
        }
    }

    fn keeper(answer: keeper::Answer, token: Option<Secret>) -> Read {
        Read { keeper: Some(answer), lease: None, token }
    }
}

/// The status and body of an answer, or why there is none.
fn answered(outcome: &JobOutcome) -> Result<(u16, &[u8]), Trouble> {
    match outcome {
        JobOutcome::Answered { status, body, .. } => Ok((*status, body)),
        JobOutcome::Failed(fault) => Err(Trouble::Fault(*fault)),
        JobOutcome::Dropped => Err(Trouble::Dropped),
        _ => Err(Trouble::Malformed),
    }
}

pub(super) fn keeper(settings: &Settings, what: What, outcome: &JobOutcome) -> Read {
    if what == What::Read {
        return match outcome {
            JobOutcome::Dropped => Read::keeper(keeper::Answer::Failed(Trouble::Dropped), None),
            JobOutcome::Failed(Fault::Timeout) => {
                Read::keeper(keeper::Answer::Failed(Trouble::LOST), None)
            }
            JobOutcome::Content(bytes) => match content(bytes.as_ref()) {
                Some(token) => Read::keeper(keeper::Answer::Fresh, Some(token)),
                None => Read::keeper(keeper::Answer::Failed(Trouble::NoFile), None),
            },
            _ => Read::keeper(keeper::Answer::Failed(Trouble::NoFile), None),
        };
    }
    let (status, body) = match answered(outcome) {
        Ok(answer) => answer,
        Err(trouble) => return Read::keeper(keeper::Answer::Failed(trouble), None),
    };
    let granted = |grant: auth::Grant| {
        // Every renewal of a token that may be used so many times would use it up.
        let renewable = grant.renewable && grant.uses == 0;
        (keeper::Answer::Granted { lease: grant.lease, renewable }, Some(grant.token))
    };
    let read: Result<(keeper::Answer, Option<Secret>), VaultError> = match what {
        What::LogIn => auth::parse_login(settings, status, body).map(granted),
        // The token stays: what a renewal repeats is the same one.
        What::Renew => {
            auth::parse_renew(settings, status, body).map(|grant| (granted(grant).0, None))
        }
        What::LookUp => auth::parse_own(settings, status, body).map(|own| {
            let renewable = own.renewable && own.uses == 0;
            (keeper::Answer::Granted { lease: own.ttl, renewable }, None)
        }),
        What::Revoke | What::Read => {
            wire::done(status, body).map(|()| (keeper::Answer::Revoked, None))
        }
    };
    match read {
        Ok((answer, token)) => Read::keeper(answer, token),
        Err(error) => Read::keeper(keeper::Answer::Failed(Trouble::of(&error)), None),
    }
}

pub(super) fn lease(settings: &Settings, deed: Deed, outcome: &JobOutcome) -> Read {
    let answer = answered(outcome).and_then(|(status, body)| match deed {
        Deed::Renew => lease::parse_renew(settings, status, body)
            .map(|lease| leases::Answer::Renewed {
                lease: lease.duration,
                renewable: lease.renewable,
            })
            .map_err(|error| Trouble::of(&error)),
        Deed::Revoke => match wire::done(status, body) {
            // Gone is as good as given back.
            Ok(()) | Err(VaultError::LeaseRefused) => Ok(leases::Answer::Revoked),
            Err(error) => Err(Trouble::of(&error)),
        },
    });
    let answer = answer.unwrap_or_else(leases::Answer::Failed);
    Read { keeper: None, lease: Some(answer), token: None }
}
