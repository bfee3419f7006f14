//! Leases of secrets that engines make on demand: renewing, revoking and looking them up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Unreadable, VaultError};
use super::settings::Settings;
use super::wire::{Api, Envelope, Exchange, data, open, or_default};

/// Longest lease id, in bytes.
pub const MOST_ID: usize = 1_024;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Its id: what it is renewed and revoked by.
    pub id: LeaseId,
    /// How long it lasts from when it was asked for.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// The id of a lease: the path that was read, and a random part. Whoever has it and a token may
/// revoke it, so only the path is printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(Arc<str>);

impl LeaseId {
    /// Checks an id.
    ///
    /// # Errors
    /// One that is empty, longer than [`MOST_ID`] or has control characters.
    pub fn new(text: &str) -> Result<LeaseId, VaultError> {
        let bad = |reason: &str| Err(VaultError::field("lease_id", reason));
        match text {
            "" => bad("must not be empty"),
            _ if text.len() > MOST_ID => bad("is too long"),
            _ if text.chars().any(char::is_control) => bad("has control characters"),
            _ => Ok(LeaseId(text.into())),
        }
    }

    /// The path that it belongs to, for people.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.rsplit_once('/').map_or("…", |(path, _)| path)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({}/…)", self.path())
    }
}

/// What Vault knows about a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Description {
    /// How long it still lasts.
    pub ttl: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

#[derive(Serialize)]
struct Named<'a> {
    lease_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    increment: Option<u64>,
}

/// `POST /v1/sys/leases/renew`.
///
/// # Errors
/// A token that cannot be sent.
pub fn renew(
    api: &Api<'_>,
    id: &LeaseId,
    increment: Option<Duration>,
) -> Result<Exchange, VaultError> {
    let increment = increment.map(|span| span.as_secs().max(1));
    api.post("sys/leases/renew", &Named { lease_id: &id.0, increment })
}

/// `POST /v1/sys/leases/revoke`. Revoking one that is gone is a success.
///
/// # Errors
/// A token that cannot be sent.
pub fn revoke(api: &Api<'_>, id: &LeaseId) -> Result<Exchange, VaultError> {
    api.post("sys/leases/revoke", &Named { lease_id: &id.0, increment: None })
}

/// `POST /v1/sys/leases/lookup`.
///
/// # Errors
/// A token that cannot be sent.
pub fn look_up(api: &Api<'_>, id: &LeaseId) -> Result<Exchange, VaultError> {
    api.post("sys/leases/lookup", &Named { lease_id: &id.0, increment: None })
}

/// The lease of a reply to [`renew`], or of any other that has one; `None` where it has none.
pub(super) fn of<D, A>(envelope: &Envelope<D, A>) -> Result<Option<Lease>, VaultError> {
    if envelope.lease_id.is_empty() {
        return Ok(None);
    }
    let id = LeaseId::new(&envelope.lease_id)
        .map_err(|_| VaultError::unreadable("a lease", Unreadable::Shape))?;
    let duration = Duration::from_secs(envelope.lease_duration);
    Ok(Some(Lease { id, duration, renewable: envelope.renewable }))
}

/// The lease of a reply to [`renew`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_renew(settings: &Settings, status: u16, body: &[u8]) -> Result<Lease, VaultError> {
    let what = "the renewed lease";
    let envelope: Envelope<serde::de::IgnoredAny> = open(settings, what, status, body)?;
    of(&envelope)?.ok_or_else(|| VaultError::unreadable(what, Unreadable::Missing))
}

#[derive(Deserialize)]
struct Raw {
    ttl: u64,
    #[serde(default, deserialize_with = "or_default")]
    renewable: bool,
}

/// What a reply to [`look_up`] says.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_look_up(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Description, VaultError> {
    let raw: Raw = data(settings, "the lease", status, body)?;
    Ok(Description { ttl: Duration::from_secs(raw.ttl), renewable: raw.renewable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn requests_and_replies_are_as_documented() {
        let (s, token) = (Settings::default(), Secret::new("t").unwrap());
        let api = Api::with(&s, &token);
        let id = LeaseId::new("database/creds/app/x7Q").unwrap();
        assert_eq!(
            (id.path(), format!("{id:?}")),
            ("database/creds/app", "LeaseId(database/creds/app/…)".into())
        );
        let exchange = renew(&api, &id, Some(Duration::from_secs(90))).unwrap();
        assert_eq!(exchange.path(), "/v1/sys/leases/renew");
        assert_eq!(
            &exchange.body()[..],
            br#"{"lease_id":"database/creds/app/x7Q","increment":90}"#
        );
        assert_eq!(revoke(&api, &id).unwrap().path(), "/v1/sys/leases/revoke");
        assert_eq!(look_up(&api, &id).unwrap().path(), "/v1/sys/leases/lookup");
        let body = br#"{"lease_id":"database/creds/app/x7Q","renewable":true,"lease_duration":90,"data":null,"auth":null}"#;
        let lease = parse_renew(&s, 200, body).unwrap();
        assert_eq!(
            (&lease.id, lease.duration, lease.renewable),
            (&id, Duration::from_secs(90), true)
        );
        let body = br#"{"data":{"id":"database/creds/app/x7Q","expire_time":"2026-01-01T00:00:00Z","renewable":true,"ttl":7}}"#;
        assert_eq!(parse_look_up(&s, 200, body).unwrap().ttl, Duration::from_secs(7));
        assert_eq!(
            parse_renew(&s, 400, br#"{"errors":["lease not found"]}"#),
            Err(VaultError::LeaseRefused)
        );
        for bad in [&b"{}"[..], br#"{"lease_id":""}"#, br#"{"lease_id":"a\nb"}"#, b"[]"] {
            assert!(parse_renew(&s, 200, bad).is_err());
        }
        for bad in ["", "a\nb", &"x".repeat(MOST_ID + 1)] {
            assert!(LeaseId::new(bad).is_err());
        }
    }
}
