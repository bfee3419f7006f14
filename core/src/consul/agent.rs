//! What is asked of the agent itself: registering and deregistering, reports of TTL checks,
//! members, its own services, maintenance.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use serde::{Deserialize, Serialize};

use super::error::ConsulError;
use super::name;
use super::registration::Registration;
use super::settings::Settings;
use super::wire::{Api, Class, MOST, Many, Query, open, or_empty, or_empty_map};
use crate::config::CheckStatus;
use crate::ops::segment;

pub use super::wire::done;

/// Longest note that goes with a report, in bytes; the rest is cut off.
const NOTE: usize = 512;

/// `PUT /v1/agent/service/register`: adds a service or replaces the one with this id, its checks
/// included; without that switch Consul 1.8.7 keeps checks the new registration does not name.
/// The reply is read with [`done`].
///
/// # Errors
/// Settings without an agent.
pub fn register(api: &Api<'_>, service: &Registration) -> Result<Request<Bytes>, ConsulError> {
    let query = Query::default().with("replace-existing-checks", "true");
    let body = service.body().to_vec();
    api.request(Method::PUT, Class::Service, "/v1/agent/service/register", query, Some(body))
}

/// `PUT /v1/agent/service/deregister/{id}`. Consul 1.8.7 answers 200 for an unknown id
/// (500 with ACLs on), later versions 404: [`parse_deregister`].
///
/// # Errors
/// An id that cannot be one.
pub fn deregister(api: &Api<'_>, id: &str) -> Result<Request<Bytes>, ConsulError> {
    let path = format!("/v1/agent/service/deregister/{}", checked(id)?);
    api.request(Method::PUT, Class::Service, &path, Query::default(), None)
}

/// Whether the service was there: `false` when the agent does not know it, which is as good.
///
/// # Errors
/// Any other status that is no success.
pub fn parse_deregister(status: u16, body: &[u8]) -> Result<bool, ConsulError> {
    match done(status, body) {
        Err(ConsulError::NotFound(_)) => Ok(false),
        other => other.map(|()| true),
    }
}

/// `PUT /v1/agent/check/{pass,warn,fail}/{id}`: the report of a TTL check. An agent that has
/// forgotten the check (it was restarted) says so: [`ConsulError::UnknownCheck`].
///
/// # Errors
/// An id that cannot be one.
pub fn beat(
    api: &Api<'_>,
    check: &str,
    status: CheckStatus,
    note: &str,
) -> Result<Request<Bytes>, ConsulError> {
    let word = match status {
        CheckStatus::Passing => "pass",
        CheckStatus::Warning => "warn",
        CheckStatus::Critical => "fail",
    };
    let mut query = Query::default();
    query.maybe("note", Some(short(note)).filter(|note| !note.is_empty()));
    let path = format!("/v1/agent/check/{word}/{}", checked(check)?);
    api.request(Method::PUT, Class::Service, &path, query, None)
}

/// `PUT /v1/agent/check/update/{id}`: the same, the note in the body.
///
/// # Errors
/// An id that cannot be one.
pub fn update(
    api: &Api<'_>,
    check: &str,
    status: CheckStatus,
    output: &str,
) -> Result<Request<Bytes>, ConsulError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Update<'a> {
        status: &'static str,
        output: &'a str,
    }
    let path = format!("/v1/agent/check/update/{}", checked(check)?);
    let body = Update { status: status.word(), output: short(output) };
    api.put(Class::Service, &path, Query::default(), &body)
}

/// `PUT /v1/agent/service/maintenance/{id}`: takes a service out of use without removing it, or
/// back.
///
/// # Errors
/// An id that cannot be one.
pub fn maintenance(
    api: &Api<'_>,
    id: &str,
    on: bool,
    reason: &str,
) -> Result<Request<Bytes>, ConsulError> {
    let path = format!("/v1/agent/service/maintenance/{}", checked(id)?);
    maintain(api, Class::Service, &path, on, reason)
}

/// `PUT /v1/agent/maintenance`: the same for the whole node.
///
/// # Errors
/// Settings without an agent.
pub fn node_maintenance(
    api: &Api<'_>,
    on: bool,
    reason: &str,
) -> Result<Request<Bytes>, ConsulError> {
    maintain(api, Class::Agent, "/v1/agent/maintenance", on, reason)
}

fn maintain(
    api: &Api<'_>,
    class: Class,
    path: &str,
    on: bool,
    reason: &str,
) -> Result<Request<Bytes>, ConsulError> {
    let mut query = Query::default().with("enable", if on { "true" } else { "false" });
    query.maybe("reason", Some(short(reason)).filter(|reason| !reason.is_empty()));
    api.request(Method::PUT, class, path, query, None)
}

fn checked(id: &str) -> Result<String, ConsulError> {
    name::id(id).map_err(|reason| ConsulError::field("id", reason))?;
    Ok(segment(id))
}

fn short(note: &str) -> &str {
    let end = (0..=NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    note.get(..end.unwrap_or(0)).unwrap_or("")
}

/// `GET /v1/agent/self`.
///
/// # Errors
/// Settings without an agent.
pub fn myself(api: &Api<'_>) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Agent, "/v1/agent/self", Query::default())
}

/// What the agent says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Myself {
    /// Its datacenter.
    pub datacenter: Arc<str>,
    /// The name of its node.
    pub node_name: Arc<str>,
    /// Its version.
    #[serde(default)]
    pub version: Arc<str>,
    /// Whether it is a server.
    #[serde(default)]
    pub server: bool,
}

/// The reply to [`myself`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_self(settings: &Settings, status: u16, body: &[u8]) -> Result<Myself, ConsulError> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "Config")]
        config: Myself,
    }
    open::<Raw>(settings, "the description of the agent", status, body).map(|raw| raw.config)
}

/// `GET /v1/agent/members`: the nodes this agent knows of, for the split-brain check (003-55).
/// Without permission the list is empty, not refused.
///
/// # Errors
/// Settings without an agent.
pub fn members(api: &Api<'_>) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Agent, "/v1/agent/members", Query::default())
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// 1.
    Alive,
    /// 2: it announced that it leaves.
    Leaving,
    /// 3: it left.
    Left,
    /// 4: it is not reached any more.
    Failed,
    /// Anything else.
    Unknown,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Arc<str>,
    /// Its address.
    pub address: Arc<str>,
    /// How it is.
    pub life: Life,
    /// Whether it is a server.
    pub server: bool,
}

/// The reply to [`members`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_members(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Member>, ConsulError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        name: Arc<str>,
        #[serde(default)]
        addr: Arc<str>,
        status: i64,
        #[serde(default, deserialize_with = "or_empty")]
        tags: Tags,
    }
    #[derive(Default, Deserialize)]
    struct Tags {
        #[serde(default)]
        role: Arc<str>,
    }
    let raw: Many<Raw> = open(settings, "the list of members", status, body)?;
    let member = |raw: Raw| Member {
        name: raw.name,
        address: raw.addr,
        life: match raw.status {
            1 => Life::Alive,
            2 => Life::Leaving,
            3 => Life::Left,
            4 => Life::Failed,
            _ => Life::Unknown,
        },
        server: &*raw.tags.role == "consul",
    };
    Ok(raw.0.into_iter().map(member).collect())
}

/// `GET /v1/agent/services`: what is registered at this agent, to see whether it has forgotten
/// something. Without permission the list is empty, not refused.
///
/// # Errors
/// Settings without an agent.
pub fn services(api: &Api<'_>) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Service, "/v1/agent/services", Query::default())
}

/// A service registered at this agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Own {
    /// Its name.
    pub service: Arc<str>,
    /// Its address as registered.
    #[serde(default)]
    pub address: Arc<str>,
    /// Its port as registered.
    #[serde(default)]
    pub port: i64,
    /// Its tags.
    #[serde(default, deserialize_with = "or_empty")]
    pub tags: Vec<Arc<str>>,
    /// Its metadata.
    #[serde(default, deserialize_with = "or_empty_map")]
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
}

/// The reply to [`services`], by id.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_own(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<BTreeMap<Arc<str>, Own>, ConsulError> {
    let what = "the services of the agent";
    let own: Option<BTreeMap<Arc<str>, Own>> = open(settings, what, status, body)?;
    let own = own.unwrap_or_default();
    if own.len() > MOST {
        return Err(ConsulError::TooMany { what: what.into(), most: MOST });
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::RegistrationConfig;
    use crate::consul::Tokens;

    const SELF: &[u8] = include_bytes!("../../tests/corpus/consul_agent/self.json");
    const MEMBERS: &[u8] = include_bytes!("../../tests/corpus/consul_agent/members.json");
    const SERVICES: &[u8] = include_bytes!("../../tests/corpus/consul_agent/services.json");

    #[test]
    fn real_replies() {
        let s = Settings::default();
        let me = parse_self(&s, 200, SELF).unwrap();
        assert_eq!(
            (&*me.datacenter, &*me.node_name, &*me.version, me.server),
            ("dc1", "node1", "1.8.7", true)
        );
        let members = parse_members(&s, 200, MEMBERS).unwrap();
        assert_eq!((members.len(), members[0].life, members[0].server), (1, Life::Alive, true));
        let own = parse_own(&s, 200, SERVICES).unwrap();
        assert_eq!((&*own["web1"].service, own["web1"].port), ("web", 8080));
        assert!(own["web2"].meta.is_empty());
    }

    #[test]
    fn odd_replies() {
        let s = Settings::default();
        let odd = parse_members(
            &s,
            200,
            br#"[{"Name":"n","Status":4,"Tags":null},{"Name":"m","Status":99}]"#,
        )
        .unwrap();
        assert_eq!(odd.iter().map(|m| m.life).collect::<Vec<_>>(), [Life::Failed, Life::Unknown]);
        assert!(
            parse_own(&s, 200, b"{}").unwrap().is_empty()
                && parse_own(&s, 200, b"null").unwrap().is_empty()
        );
        assert!(parse_members(&s, 200, b"[]").unwrap().is_empty());
        assert!(parse_members(&s, 200, br#"[{"Name":"n"}]"#).is_err(), "no status, no member");
        assert!(parse_self(&s, 403, b"Permission denied").unwrap_err().is_permission());
        assert_eq!(parse_deregister(200, b""), Ok(true));
        assert_eq!(parse_deregister(404, b"Unknown service ID \"x\""), Ok(false));
        assert_eq!(parse_deregister(500, b"Unknown service {\"x\" {}}"), Ok(false));
        assert!(parse_deregister(403, b"Permission denied").is_err());
        assert_eq!(done(500, b"Unknown check \"x\""), Err(ConsulError::UnknownCheck));
    }

    #[test]
    fn requests() {
        let (s, t) = (Settings::default(), Tokens::default());
        let api = Api::new(&s, &t);
        let line = |r: Result<Request<Bytes>, ConsulError>| {
            let r = r.unwrap();
            format!("{} {}", r.method(), r.uri().path_and_query().unwrap())
        };
        let service =
            Registration::of(&RegistrationConfig::module("api", "a", 1), "r", [0; 16]).unwrap();
        let sent = register(&api, &service).unwrap();
        assert_eq!(sent.body(), service.body());
        assert_eq!(sent.headers()["content-type"], "application/json");
        assert_eq!(line(Ok(sent)), "PUT /v1/agent/service/register?replace-existing-checks=true");
        assert_eq!(
            line(deregister(&api, "api-::1-80")),
            "PUT /v1/agent/service/deregister/api-%3A%3A1-80"
        );
        assert_eq!(line(beat(&api, "c", CheckStatus::Passing, "")), "PUT /v1/agent/check/pass/c");
        assert_eq!(
            line(beat(&api, "c", CheckStatus::Warning, "a b")),
            "PUT /v1/agent/check/warn/c?note=a%20b"
        );
        assert_eq!(line(beat(&api, "c", CheckStatus::Critical, "")), "PUT /v1/agent/check/fail/c");
        let updated = update(&api, "c", CheckStatus::Warning, "hm").unwrap();
        assert_eq!(&updated.body()[..], br#"{"Status":"warning","Output":"hm"}"#);
        assert_eq!(
            line(maintenance(&api, "x", true, "a b")),
            "PUT /v1/agent/service/maintenance/x?enable=true&reason=a%20b"
        );
        assert_eq!(
            line(node_maintenance(&api, false, "")),
            "PUT /v1/agent/maintenance?enable=false"
        );
        for (request, path) in
            [(myself(&api), "self"), (members(&api), "members"), (services(&api), "services")]
        {
            assert_eq!(line(request), format!("GET /v1/agent/{path}"));
        }
        for bad in ["", "..", "a/b", "a?b"] {
            assert!(
                deregister(&api, bad).is_err()
                    && beat(&api, bad, CheckStatus::Passing, "").is_err(),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn notes_are_cut_at_a_character(note in "\\PC{0,300}") {
            let cut = short(&note);
            prop_assert!(cut.len() <= NOTE && note.starts_with(cut));
            prop_assert!(cut.len() == note.len() || cut.len() + 4 > NOTE);
        }

        #[test]
        fn mutated_replies_are_survived(at in 0_usize..10_000, byte: u8) {
            for reply in [SELF, MEMBERS, SERVICES] {
                let mut body = reply.to_vec();
                let at = at % body.len();
                body[at] = byte;
                let s = Settings::default();
                let _ = (parse_self(&s, 200, &body), parse_members(&s, 200, &body), parse_own(&s, 200, &body));
            }
        }
    }
}
