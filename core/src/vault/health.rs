//! How a node is: the health check with its codes, and the state of the seal.
//!
//! The status of the health check is its message: 200 active, 429 standby, 472 the active node of
//! a disaster recovery secondary, 473 a performance standby, 501 not initialised, 503 sealed. A
//! load balancer wants that; a client does not, because its own policies would take a standby for
//! overloaded and a sealed node for broken before anybody has read the answer. So the request asks
//! for 200 in all cases and reads the body; servers that do not know how answer with their codes,
//! which are understood as well.

use http::Method;
use serde::{Deserialize, Serialize};

use super::error::{Unreadable, VaultError};
use super::settings::Settings;
use super::wire::{Api, Exchange, json, open_plain, or_default};

/// What a node can do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It answers everything.
    Active,
    /// It answers reads.
    PerformanceStandby,
    /// It sends callers to the active one.
    Standby,
    /// It waits for a disaster.
    RecoverySecondary,
    /// It answers nothing until somebody unseals it.
    Sealed,
    /// It was never set up.
    NotInitialised,
}

impl Condition {
    /// Whether it answers the reading of a secret.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Condition::Active | Condition::PerformanceStandby)
    }

    /// Whether another node may be better.
    #[must_use]
    pub const fn elsewhere(self) -> bool {
        !matches!(self, Condition::Active)
    }
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    /// What it can do.
    pub condition: Condition,
    /// Its version; empty where it does not say.
    pub version: String,
    /// The name of its cluster; empty where it does not say.
    pub cluster: String,
    /// Its clock, in seconds since 1970; 0 where it does not say.
    pub time: u64,
}

/// The state of the seal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seal {
    /// Whether it is sealed.
    pub sealed: bool,
    /// Whether it was ever set up.
    #[serde(default, deserialize_with = "or_default")]
    pub initialized: bool,
    /// Shares needed to unseal it.
    #[serde(rename = "t", default, deserialize_with = "or_default")]
    pub threshold: u64,
    /// Shares there are.
    #[serde(rename = "n", default, deserialize_with = "or_default")]
    pub shares: u64,
    /// Shares given so far.
    #[serde(default, deserialize_with = "or_default")]
    pub progress: u64,
    /// Its version; empty where it does not say.
    #[serde(default, deserialize_with = "or_default")]
    pub version: String,
}

/// `GET /v1/sys/health`, answered with 200 whatever the condition.
///
/// # Errors
/// None with an anonymous [`Api`]; it carries no token and needs none.
pub fn health(api: &Api<'_>) -> Result<Exchange, VaultError> {
    let query = "?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200\
                 &drsecondarycode=200&performancestandbycode=200";
    api.request(Method::GET, "sys/health", query, None)
}

/// `GET /v1/sys/seal-status`.
///
/// # Errors
/// None with an anonymous [`Api`]; it carries no token and needs none.
pub fn seal_status(api: &Api<'_>) -> Result<Exchange, VaultError> {
    api.get("sys/seal-status")
}

#[derive(Default, Deserialize)]
struct Raw {
    initialized: bool,
    sealed: bool,
    #[serde(default, deserialize_with = "or_default")]
    standby: bool,
    #[serde(default, deserialize_with = "or_default")]
    performance_standby: bool,
    #[serde(default, deserialize_with = "or_default")]
    replication_dr_mode: String,
    #[serde(default, deserialize_with = "or_default")]
    server_time_utc: u64,
    #[serde(default, deserialize_with = "or_default")]
    version: String,
    #[serde(default, deserialize_with = "or_default")]
    cluster_name: String,
}

/// How the node is that answered [`health`]. A code says it without a body (a `HEAD`); a 200 only
/// with one.
///
/// # Errors
/// A status that is none of the health check, and a 200 that cannot be read.
pub fn parse_health(settings: &Settings, status: u16, body: &[u8]) -> Result<Health, VaultError> {
    let what = "the health of the node";
    let by_code = match status {
        429 => Some(Condition::Standby),
        472 => Some(Condition::RecoverySecondary),
        473 => Some(Condition::PerformanceStandby),
        501 => Some(Condition::NotInitialised),
        503 => Some(Condition::Sealed),
        _ => None,
    };
    let raw: Result<Raw, VaultError> = json(settings, what, body);
    let (raw, condition) = match (by_code, raw) {
        // Any 503 of a proxy is not a seal: without a body of the health check it says nothing.
        (Some(Condition::Sealed), Err(_)) => return Err(VaultError::of(status, body)),
        (Some(condition), raw) => (raw.unwrap_or_default(), condition),
        (None, _) if !(200..300).contains(&status) => return Err(VaultError::of(status, body)),
        (None, Err(error)) => return Err(error),
        (None, Ok(raw)) => {
            let condition = match &raw {
                Raw { initialized: false, .. } => Condition::NotInitialised,
                Raw { sealed: true, .. } => Condition::Sealed,
                Raw { replication_dr_mode, .. } if replication_dr_mode == "secondary" => {
                    Condition::RecoverySecondary
                }
                Raw { performance_standby: true, .. } => Condition::PerformanceStandby,
                Raw { standby: true, .. } => Condition::Standby,
                _ => Condition::Active,
            };
            (raw, condition)
        }
    };
    if raw.version.len() > 256 || raw.cluster_name.len() > 1_024 {
        return Err(VaultError::unreadable(what, Unreadable::Shape));
    }
    Ok(Health {
        condition,
        version: raw.version,
        cluster: raw.cluster_name,
        time: raw.server_time_utc,
    })
}

/// The answer to [`seal_status`].
///
/// # Errors
/// A status that is no success, and a reply that cannot be read.
pub fn parse_seal(settings: &Settings, status: u16, body: &[u8]) -> Result<Seal, VaultError> {
    open_plain(settings, "the state of the seal", status, body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACTIVE: &[u8] = include_bytes!("../../tests/corpus/vault_health/active.json");
    const SEAL: &[u8] = include_bytes!("../../tests/corpus/vault_health/seal-status.json");

    fn condition(status: u16, body: &[u8]) -> Condition {
        parse_health(&Settings::default(), status, body).unwrap().condition
    }

    /// Codes and fields of `/sys/health` in the public API documentation.
    #[test]
    fn case_000_codes_of_the_health_check() {
        for (status, expected) in [
            (200, Condition::Active),
            (429, Condition::Standby),
            (472, Condition::RecoverySecondary),
            (473, Condition::PerformanceStandby),
            (501, Condition::NotInitialised),
            (503, Condition::Sealed),
        ] {
            assert_eq!(condition(status, ACTIVE), expected, "{status}");
        }
        assert_eq!(condition(429, b""), Condition::Standby);
        for (fields, expected) in [
            (r#""initialized":true,"sealed":false"#, Condition::Active),
            (r#""initialized":true,"sealed":false,"standby":true"#, Condition::Standby),
            (
                r#""initialized":true,"sealed":false,"standby":true,"performance_standby":true"#,
                Condition::PerformanceStandby,
            ),
            (
                r#""initialized":true,"sealed":false,"replication_dr_mode":"secondary""#,
                Condition::RecoverySecondary,
            ),
            (r#""initialized":true,"sealed":true,"standby":true"#, Condition::Sealed),
            (r#""initialized":false,"sealed":true"#, Condition::NotInitialised),
        ] {
            assert_eq!(condition(200, format!("{{{fields}}}").as_bytes()), expected, "{fields}");
        }
        let health = parse_health(&Settings::default(), 200, ACTIVE).unwrap();
        assert_eq!((&*health.version, &*health.cluster), ("1.12.1", "vault-cluster-a"));
        assert!(Condition::PerformanceStandby.reads() && !Condition::Standby.reads());
    }

    #[test]
    fn what_says_nothing_is_no_health() {
        let s = Settings::default();
        for (status, body) in [
            (200, &b""[..]),
            (200, b"{}"),
            (200, b"<html>"),
            (502, ACTIVE),
            (404, b""),
            (503, b"no upstream"),
        ] {
            assert!(parse_health(&s, status, body).is_err(), "{status}");
        }
        assert_eq!(parse_health(&s, 503, b"Vault is sealed"), Err(VaultError::Sealed));
        let seal = parse_seal(&s, 200, SEAL).unwrap();
        assert_eq!((seal.sealed, seal.threshold, seal.shares, seal.progress), (true, 3, 5, 2));
        assert!(parse_seal(&s, 200, b"{}").is_err());
        let exchange = health(&Api::anonymous(&s)).unwrap();
        assert!(
            exchange.path().starts_with("/v1/sys/health?standbyok=true&"),
            "{}",
            exchange.path()
        );
    }

    proptest! {
        #[test]
        fn mutated_replies_are_survived(at in 0_usize..1_000, byte: u8, status: u16) {
            for reply in [ACTIVE, SEAL] {
                let mut body = reply.to_vec();
                let at = at % body.len();
                body[at] = byte;
                let s = Settings::default();
                let _ = (parse_health(&s, status, &body), parse_seal(&s, status, &body));
            }
        }
    }
}
