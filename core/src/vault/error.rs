//! What can be wrong with a call to Vault, as a type that says what to do next. Nothing of what
//! Vault wrote is repeated, not even in part: its messages name paths, policies and hosts. They
//! are searched for a few known phrases, which become variants.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::Trouble;

/// As much of an error body is looked at.
const LOOK: usize = 4_096;

/// What went wrong with a call to Vault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VaultError {
    /// Ours: a part of the request cannot be sent. Nothing was sent.
    #[error("the request to vault cannot be made: {field}: {reason}")]
    Field {
        /// Which part.
        field: Arc<str>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// Ours: there is no token. Nothing was sent.
    #[error(
        "there is no vault token: set VAULT_CLIENT_TOKEN, call vault_token() on the builder, or configure vault.auth"
    )]
    NoToken,
    /// Ours: there is no token yet, or no more: the client could not get one. Nothing was sent.
    #[error("there is no vault token: {why}")]
    Unavailable {
        /// Why not.
        why: Trouble,
    },
    /// 403: the token may not do this. Older versions say the same of a token they do not know.
    #[error("vault denies permission")]
    Denied,
    /// 403: Vault does not know the token: revoked, expired or mistyped.
    #[error("vault does not know the token: it is revoked, expired or mistyped")]
    InvalidToken,
    /// 400, 401, 403 or a success without a token, to a login: the credentials are wrong.
    #[error("vault refuses the login ({status})")]
    LoginRefused {
        /// The status.
        status: u16,
    },
    /// 404: there is nothing, or this engine does not know the path.
    #[error("vault has nothing there")]
    NotFound,
    /// 404 with a body: the version was there and is deleted.
    #[error("version {version} is {}", if *destroyed { "destroyed" } else { "deleted; it can be undeleted" })]
    Deleted {
        /// The version.
        version: u64,
        /// Whether nothing brings it back.
        destroyed: bool,
    },
    /// 400: the version is not the one that the write was made for.
    #[error("the secret has changed in the meantime: check-and-set does not match its version")]
    Conflict,
    /// 400: the mount or the secret demands a version with every write.
    #[error("this secret is written with check-and-set only: give the version it replaces")]
    CasRequired,
    /// 400: Vault does not know the lease, or it is over.
    #[error("vault does not know the lease, or it cannot be renewed")]
    LeaseRefused,
    /// 400, 405, 413 and the like, of RustyVault also a 500: Vault does not take the request, whenever it is repeated.
    #[error("vault refuses the request ({status})")]
    Refused {
        /// The status.
        status: u16,
    },
    /// 503: the node is sealed. Somebody has to unseal it; others may be open.
    #[error("this vault node is sealed")]
    Sealed,
    /// 501: nobody has initialised the cluster.
    #[error("this vault is not initialised")]
    NotInitialised,
    /// 307, 472, 473, or 429 of the health check: a node that does not answer this; another does.
    #[error("this vault node is a standby ({status})")]
    Standby {
        /// The status.
        status: u16,
    },
    /// 412: the node is behind what the token has already seen.
    #[error("this vault node is not up to date yet")]
    Behind,
    /// 429: asked too often.
    #[error("vault asks to be called less often")]
    TooOften,
    /// Theirs: any other status.
    #[error("vault answered {status}")]
    Failed {
        /// The status.
        status: u16,
    },
    /// Theirs: a reply with more bytes than allowed.
    #[error("the reply of vault has {bytes} bytes, more than vault.max_bytes of {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Theirs: a reply that cannot be understood.
    #[error("{what} of vault cannot be read: {why} (line {line}, column {column})")]
    Unreadable {
        /// What was read.
        what: Arc<str>,
        /// Why not.
        why: Unreadable,
        /// Line of the first offence; 0 where it has none.
        line: usize,
        /// Column of it.
        column: usize,
    },
}

/// Why a reply cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// Cut off, not JSON, or nested too deeply.
    #[error("it is not valid JSON")]
    NotJson,
    /// JSON of another shape.
    #[error("it has another shape than expected")]
    Shape,
    /// What was asked for is not in it.
    #[error("what was asked for is missing")]
    Missing,
    /// A token that cannot be sent as a header.
    #[error("its token cannot be a header")]
    Token,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Correct the request.
    Correct,
    /// Give the client a token, or the token another policy.
    Permit,
    /// Log in again: the token is of no use any more.
    LogIn,
    /// Correct the credentials of the login.
    Credentials,
    /// Read again and decide anew.
    ReadAgain,
    /// Ask another node.
    Elsewhere,
    /// Ask again later.
    Later,
    /// Nothing: it is as it is.
    Accept,
}

impl VaultError {
    /// What a reply that is no success means.
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> VaultError {
        let text = String::from_utf8_lossy(body.get(..LOOK).unwrap_or(body));
        let says = |what: &str| text.contains(what);
        match status {
            403 if says("invalid token") || says("bad token") || says("token not found") => {
                VaultError::InvalidToken
            }
            401 | 403 => VaultError::Denied,
            404 => VaultError::NotFound,
            400 if says("check-and-set parameter did not match") => VaultError::Conflict,
            400 if says("check-and-set parameter required") => VaultError::CasRequired,
            400 if says("lease not found")
                || says("lease is not renewable")
                || says("invalid lease") =>
            {
                VaultError::LeaseRefused
            }
            307 | 308 | 472 | 473 => VaultError::Standby { status },
            412 => VaultError::Behind,
            429 => VaultError::TooOften,
            501 => VaultError::NotInitialised,
            503 if says("sealed") => VaultError::Sealed,
            // As RustyVault says what Vault says by 404 and 405.
            500 if says("path not supported") => VaultError::Refused { status },
            500 if says("local node not active") => VaultError::Standby { status },
            400..=499 => VaultError::Refused { status },
            _ => VaultError::Failed { status },
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next(&self) -> Next {
        match self {
            VaultError::Field { .. } | VaultError::CasRequired | VaultError::Refused { .. } => {
                Next::Correct
            }
            VaultError::NoToken | VaultError::Denied => Next::Permit,
            VaultError::InvalidToken => Next::LogIn,
            VaultError::LoginRefused { .. } => Next::Credentials,
            VaultError::Conflict | VaultError::LeaseRefused => Next::ReadAgain,
            VaultError::NotFound | VaultError::Deleted { .. } => Next::Accept,
            VaultError::Sealed
            | VaultError::NotInitialised
            | VaultError::Standby { .. }
            | VaultError::Behind => Next::Elsewhere,
            VaultError::TooOften | VaultError::TooLarge { .. } | VaultError::Unreadable { .. } => {
                Next::Later
            }
            VaultError::Unavailable { why } => why.next(),
            VaultError::Failed { status } if *status >= 500 => Next::Elsewhere,
            VaultError::Failed { .. } => Next::Correct,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        matches!(self.next(), Next::Elsewhere | Next::Later)
    }

    /// Whether the token is the reason: there is none, it may not, or it is not known.
    #[must_use]
    pub const fn is_permission(&self) -> bool {
        matches!(self, VaultError::NoToken | VaultError::Denied | VaultError::InvalidToken)
    }

    /// A refusal of our own, before anything is sent.
    pub(crate) fn field(field: &str, reason: impl Into<Arc<str>>) -> VaultError {
        VaultError::Field { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unreadable(what: &str, why: Unreadable) -> VaultError {
        VaultError::Unreadable { what: what.into(), why, line: 0, column: 0 }
    }
}

impl Next {
    /// The same for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Next::Correct => "correct the request",
            Next::Permit => "give the client a token with a policy that allows it",
            Next::LogIn => "log in again, or give the client a new token",
            Next::Credentials => "correct the credentials of vault.auth",
            Next::ReadAgain => "read it again and decide anew",
            Next::Elsewhere => "ask another node; unseal this one if it is sealed",
            Next::Later => "ask again later",
            Next::Accept => "nothing: it is not there",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, text: &str) -> VaultError {
        VaultError::of(status, text.as_bytes())
    }

    /// The texts are those of the public API documentation and of Vault 1.12; the last two columns
    /// are contracts §7, row "000 get secret": sealed and 5xx fail over, 400, 403 and 404 do not.
    #[test]
    fn case_000_44_what_vault_says_has_a_type_and_a_next_step() {
        let cas = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
        for (status, text, expected, next, retried) in [
            (403, r#"{"errors":["permission denied"]}"#, VaultError::Denied, Next::Permit, false),
            (
                403,
                r#"{"errors":["permission denied","invalid token"]}"#,
                VaultError::InvalidToken,
                Next::LogIn,
                false,
            ),
            (404, r#"{"errors":[]}"#, VaultError::NotFound, Next::Accept, false),
            (400, cas, VaultError::Conflict, Next::ReadAgain, false),
            (
                400,
                r#"{"errors":["lease not found"]}"#,
                VaultError::LeaseRefused,
                Next::ReadAgain,
                false,
            ),
            (400, "", VaultError::Refused { status: 400 }, Next::Correct, false),
            (503, r#"{"errors":["Vault is sealed"]}"#, VaultError::Sealed, Next::Elsewhere, true),
            (503, "upstream", VaultError::Failed { status: 503 }, Next::Elsewhere, true),
            (501, "", VaultError::NotInitialised, Next::Elsewhere, true),
            (472, "", VaultError::Standby { status: 472 }, Next::Elsewhere, true),
            (473, "", VaultError::Standby { status: 473 }, Next::Elsewhere, true),
            (307, "", VaultError::Standby { status: 307 }, Next::Elsewhere, true),
            (412, "", VaultError::Behind, Next::Elsewhere, true),
            (429, "", VaultError::TooOften, Next::Later, true),
            (502, "", VaultError::Failed { status: 502 }, Next::Elsewhere, true),
            // RustyVault, which says `error` and not `errors`.
            (403, r#"{"error":"Permission denied."}"#, VaultError::Denied, Next::Permit, false),
            (
                503,
                r#"{"error":"RustyVault is sealed."}"#,
                VaultError::Sealed,
                Next::Elsewhere,
                true,
            ),
            (
                500,
                r#"{"error":"Logical backend path not supported."}"#,
                VaultError::Refused { status: 500 },
                Next::Correct,
                false,
            ),
            (302, "", VaultError::Failed { status: 302 }, Next::Correct, false),
        ] {
            let error = of(status, text);
            assert_eq!((&error, error.next(), error.retryable()), (&expected, next, retried));
        }
    }

    proptest! {
        /// Whatever Vault answers, none of it is in the error.
        #[test]
        fn an_answer_is_never_repeated(status: u16, token in "[A-Za-z0-9._-]{12,60}", around in "[a-z :'\"{}]{0,30}") {
            let error = of(status, &format!("{around}{token}{around}"));
            let shown = format!("{error} {error:?} {}", serde_json::to_string(&error).unwrap());
            prop_assert!(!shown.contains(&token) && shown.len() < 400);
        }

        #[test]
        fn any_bytes_are_survived(status: u16, body in proptest::collection::vec(any::<u8>(), 0..6_000)) {
            let _ = VaultError::of(status, &body).next().text();
        }
    }
}
