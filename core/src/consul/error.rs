//! What can be wrong with a call to Consul, as a type: whether it is ours, whether asking again
//! can help, and whether the agent is to blame. Nothing here repeats a body as it came.
//!
//! Consul says what it means in plain text beside a status that often means nothing (500 for a
//! filter that cannot be read, for an unknown datacenter and for a missing leader alike), so the
//! text is looked at. The phrases are those of 1.8.7, seen from a running agent, and those of
//! later versions as documented. An unknown text falls back to its status.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::BadName;

/// Longest phrase kept of what a server said, in bytes.
const PHRASE: usize = 160;
/// As much of a body is looked at.
const LOOK: usize = 2_048;

/// What went wrong with a call to Consul.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConsulError {
    /// Ours: the service cannot be called that. Nothing was sent.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Ours: another part of the request cannot be sent. Nothing was sent.
    #[error("the request to consul cannot be made: {field}: {reason}")]
    Field {
        /// Which part.
        field: Arc<str>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// 403: the token may not do this, or there is none. Asking again with it does not help.
    #[error("consul denies permission: {0}; give the token a policy that allows it")]
    Denied(Phrase),
    /// 403: Consul does not know the token: mistyped, revoked or expired.
    #[error("consul does not know the token: it is mistyped, revoked or expired")]
    UnknownToken,
    /// 500: the servers have no leader at the moment; a stale read still works.
    #[error("consul has no leader at the moment")]
    NoLeader,
    /// 500: the datacenter is unknown or cannot be reached from this agent.
    #[error("consul has no path to that datacenter")]
    NoPath,
    /// 404: it is not there.
    #[error("consul has no such thing: {0}")]
    NotFound(Phrase),
    /// The agent does not know the check that was to be updated: it has forgotten the service.
    #[error("the agent does not know this check; register the service again")]
    UnknownCheck,
    /// The thing is there already (an intention between these two, say).
    #[error("consul has this already: {0}")]
    Exists(Phrase),
    /// 429: asked too often.
    #[error("consul asks to be called less often")]
    TooOften,
    /// Ours, found by the server: 400, 405, 413, or a 500 that complains about the request.
    #[error("consul refuses the request ({status}): {phrase}")]
    Refused {
        /// The status.
        status: u16,
        /// The field it complains about, where it names one.
        field: Option<Arc<str>>,
        /// What it said.
        phrase: Phrase,
    },
    /// Theirs: any other status.
    #[error("consul answered {status}: {phrase}")]
    Failed {
        /// The status.
        status: u16,
        /// What it said.
        phrase: Phrase,
    },
    /// Theirs: a reply with more bytes than allowed.
    #[error("the reply of consul has {bytes} bytes, more than consul.max_bytes of {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Theirs: a reply with more entries than allowed.
    #[error("{what} has more than {most} entries")]
    TooMany {
        /// What was read.
        what: Arc<str>,
        /// The limit.
        most: usize,
    },
    /// Theirs: a reply that cannot be understood.
    #[error("{what} cannot be read: {why} (line {line}, column {column})")]
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
    /// Base64 was expected.
    #[error("a value is not base64")]
    Base64,
    /// Certificates or a key were expected.
    #[error("a certificate or key is not PEM")]
    Pem,
    /// A SPIFFE id was expected.
    #[error("an identity is not a SPIFFE id of Consul")]
    Spiffe,
    /// A point in time was expected.
    #[error("a time is not RFC 3339")]
    Time,
}

impl ConsulError {
    /// What a reply that is no success means.
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> ConsulError {
        let phrase = Phrase::of(body);
        let text = String::from_utf8_lossy(body.get(..LOOK).unwrap_or(body));
        let says = |what: &str| text.contains(what);
        let lost = says("Unknown check") || says("does not have associated TTL");
        match status {
            403 if says("ACL not found") => ConsulError::UnknownToken,
            401 if says("ACL support disabled") => {
                ConsulError::Refused { status, field: Some("acl".into()), phrase }
            }
            401 | 403 => ConsulError::Denied(phrase),
            404 if lost => ConsulError::UnknownCheck,
            404 => ConsulError::NotFound(phrase),
            429 => ConsulError::TooOften,
            500.. if lost => ConsulError::UnknownCheck,
            500.. if says("Permission denied") => ConsulError::Denied(phrase),
            500.. if says("ACL not found") => ConsulError::UnknownToken,
            500.. if says("No cluster leader") || says("No known Consul servers") => {
                ConsulError::NoLeader
            }
            500.. if says("No path to datacenter") => ConsulError::NoPath,
            500.. if says("Unknown service") => ConsulError::NotFound(phrase),
            500.. if says("duplicate intention") => ConsulError::Exists(phrase),
            500 if says("boolean expression evaluator") => {
                ConsulError::Refused { status, field: Some("filter".into()), phrase }
            }
            // From remote calls, unless `enable_script_checks` of the agent says otherwise.
            500 if says("Scripts are disabled") => {
                ConsulError::Refused { status, field: Some("Args".into()), phrase }
            }
            400..=499 => ConsulError::Refused { status, field: complaint(&text), phrase },
            _ => ConsulError::Failed { status, phrase },
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            ConsulError::NoLeader
            | ConsulError::NoPath
            | ConsulError::TooOften
            | ConsulError::TooLarge { .. }
            | ConsulError::TooMany { .. }
            | ConsulError::Unreadable { .. } => true,
            // Only what the server itself blames on itself.
            ConsulError::Failed { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether it speaks against the agent that answered: a refusal, a denial or a 404 does not,
    /// and leaves its breaker alone (003-44).
    #[must_use]
    pub const fn blames_the_agent(&self) -> bool {
        match self {
            ConsulError::NoLeader
            | ConsulError::TooLarge { .. }
            | ConsulError::TooMany { .. }
            | ConsulError::Unreadable { .. } => true,
            ConsulError::Failed { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the token is the reason: it may not, or is not known.
    #[must_use]
    pub const fn is_permission(&self) -> bool {
        matches!(self, ConsulError::Denied(_) | ConsulError::UnknownToken)
    }

    /// A refusal of our own, before anything is sent.
    pub(crate) fn field(field: &str, reason: impl Into<Arc<str>>) -> ConsulError {
        ConsulError::Field { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unreadable(what: &str, why: Unreadable) -> ConsulError {
        ConsulError::Unreadable { what: what.into(), why, line: 0, column: 0 }
    }
}

/// The field a 400 complains about, in the words of Consul 1.8.
fn complaint(text: &str) -> Option<Arc<str>> {
    const KNOWN: [(&str, &str); 10] = [
        ("Missing service name", "Name"),
        ("Invalid Service Meta", "Meta"),
        ("Invalid service address", "Address"),
        ("Invalid Weights", "Weights"),
        ("Invalid check", "Check"),
        ("Invalid wait time", "wait"),
        ("Invalid index", "index"),
        ("Missing value for enable", "enable"),
        ("ClientCertURI", "ClientCertURI"),
        ("conflicting semantics", "consistency"),
    ];
    if let Some((_, field)) = KNOWN.iter().find(|(start, _)| text.contains(start)) {
        return Some((*field).into());
    }
    let named = ["unknown field \"", "invalid config key \""];
    let (_, rest) = named.iter().find_map(|start| text.split_once(start))?;
    let (name, _) = rest.split_once('"')?;
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.len() <= 40 && name.chars().all(fine)).then(|| name.into())
}

/// What a server said, made safe to print: one line of at most 160 bytes, visible ASCII only. A
/// word that is long, or that mixes digits in and is longer than six characters, is left out:
/// tokens, accessor ids and keys look like that.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phrase(Arc<str>);

impl Phrase {
    /// The safe part of `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> Phrase {
        let body = body.get(..LOOK).unwrap_or(body);
        let mut phrase = String::new();
        let words = body.split(|c| !c.is_ascii_graphic()).filter(|word| !word.is_empty());
        for word in words {
            let longest = if word.iter().any(u8::is_ascii_digit) { 6 } else { 20 };
            let markup = word.contains(&b'<') || word.contains(&b'{');
            let shown = if markup || word.len() > longest {
                "*".into()
            } else {
                String::from_utf8_lossy(word)
            };
            if phrase.len() + 1 + shown.len() > PHRASE {
                break;
            }
            if !phrase.is_empty() {
                phrase.push(' ');
            }
            phrase.push_str(&shown);
        }
        if phrase.is_empty() {
            phrase.push_str("no reason given");
        }
        Phrase(phrase.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, text: &str) -> ConsulError {
        ConsulError::of(status, text.as_bytes())
    }

    /// The texts of a running Consul 1.8.7, with and without ACLs.
    #[test]
    fn case_003_44_what_consul_says_has_a_type() {
        let denied = of(403, "Permission denied: Missing service:write on x");
        assert!(
            matches!(&denied, ConsulError::Denied(p) if p.as_str().ends_with("service:write on x"))
        );
        assert!(denied.is_permission() && !denied.retryable() && !denied.blames_the_agent());
        assert_eq!(of(403, "ACL not found"), ConsulError::UnknownToken);
        assert_eq!(of(500, "rpc error making call: ACL not found"), ConsulError::UnknownToken);
        assert!(of(500, "rpc error making call: Permission denied").is_permission());
        assert_eq!(of(500, "No cluster leader"), ConsulError::NoLeader);
        assert_eq!(of(500, "No path to datacenter"), ConsulError::NoPath);
        assert_eq!(of(500, "Unknown check \"nope\""), ConsulError::UnknownCheck);
        assert_eq!(of(404, "Unknown check ID \"nope\""), ConsulError::UnknownCheck);
        let lost = "CheckID \"nope\" does not have associated TTL";
        assert_eq!(of(500, lost), ConsulError::UnknownCheck);
        assert!(matches!(of(404, "unknown service ID: nope"), ConsulError::NotFound(_)));
        assert!(matches!(of(500, "duplicate intention found"), ConsulError::Exists(_)));
        assert_eq!(of(429, ""), ConsulError::TooOften);
        // Deregistering an unknown id with ACLs on; without them 1.8.7 answers 200.
        let gone = of(500, "Unknown service {\"nope\" {}}");
        assert!(matches!(gone, ConsulError::NotFound(_)) && !gone.retryable());
        let off = of(401, "ACL support disabled");
        assert!(matches!(&off, ConsulError::Refused { field: Some(f), .. } if &**f == "acl"));
        let broken = of(500, "rpc error getting client: failed to get conn");
        assert!(broken.retryable() && broken.blames_the_agent());
        assert!(of(502, "").retryable() && !of(301, "").retryable());
    }

    #[test]
    fn a_refusal_names_the_field() {
        for (text, expected) in [
            ("Missing service name", Some("Name")),
            ("Request decode failed: json: unknown field \"Script\"", Some("Script")),
            ("Invalid Service Meta: Couldn't load metadata pair", Some("Meta")),
            ("Invalid Weights: Passing must be greater than 0", Some("Weights")),
            ("* invalid config key \"ConnectTimeout\"", Some("ConnectTimeout")),
            ("Invalid wait time", Some("wait")),
            ("unknown field \"a b\"", None),
            ("unknown field \"", None),
            ("", None),
        ] {
            let ConsulError::Refused { field, .. } = of(400, text) else { panic!("{text}") };
            assert_eq!(field.as_deref(), expected, "{text}");
        }
        let scripts = "Scripts are disabled on this agent from remote calls; to enable, configure";
        let ConsulError::Refused { field, .. } = of(500, scripts) else { panic!() };
        assert_eq!(field.as_deref(), Some("Args"));
        let filter = "Failed to create boolean expression evaluator: 1:6 (5): no match found";
        let ConsulError::Refused { field, .. } = of(500, filter) else { panic!() };
        assert_eq!(field.as_deref(), Some("filter"));
        assert!(!of(500, filter).retryable());
    }

    #[test]
    fn tokens_and_pages_are_not_repeated() {
        let token = "8c1a9a3f-6d1c-4b8e-9f0e-0123456789ab";
        let error = of(403, &format!("Permission denied: token {token} lacks x\n<html>y"));
        assert!(!format!("{error} {error:?}").contains("8c1a9a3f"), "{error}");
        assert_eq!(Phrase::of(b"<p>a</p> \x00\xff b").as_str(), "* b");
        assert_eq!(Phrase::of(b"").as_str(), "no reason given");
    }

    proptest! {
        #[test]
        fn any_answer_has_a_bounded_printable_reason(status: u16, body in proptest::collection::vec(any::<u8>(), 0..4_000)) {
            let shown = ConsulError::of(status, &body).to_string();
            prop_assert!(shown.len() < 320 && shown.bytes().all(|c| c == b' ' || c.is_ascii_graphic()));
        }

        /// A token in an answer, whatever stands around it, is not in the error.
        #[test]
        fn a_token_is_never_repeated(token in "[A-Za-z0-9+/_=-]{21,60}", before in "[a-z :'\"]{0,30}", after in "[a-z :'\"]{0,30}") {
            let error = ConsulError::of(403, format!("{before}{token}{after}").as_bytes());
            let shown = format!("{error}{error:?}");
            prop_assert!(!shown.contains(&token));
        }
    }
}
