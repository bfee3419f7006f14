//! Intentions: who may call whom over Connect. Listed and written by id, as Consul 1.8 has it,
//! or by their two names (1.9 and later; 1.8.7 takes the word `exact` for an id and answers 500).
//!
//! [`decide`] answers the question here, by Consul's own rule: the most specific one decides,
//! the destination counting more than the source; without any, the default of the cluster.

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use serde::{Deserialize, Serialize};

use super::connect::short_list;
use super::error::ConsulError;
use super::name::ServiceName;
use super::settings::Settings;
use super::wire::{Api, Class, Many, Query, done, encode, open};
use crate::config::{ConfigError, MeshConfig};

/// What an intention says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The call is allowed.
    Allow,
    /// It is not. Also what cannot be judged here: permissions by path (1.9 and later), which
    /// have no single answer.
    #[serde(other)]
    Deny,
}

/// One intention. `*` stands for every service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Intention {
    /// Its id; empty where it is not written yet.
    #[serde(rename = "ID", default, skip_serializing_if = "str::is_empty")]
    pub id: Arc<str>,
    /// Who calls.
    pub source_name: Arc<str>,
    /// Who is called.
    pub destination_name: Arc<str>,
    /// What it says; one without an action denies.
    #[serde(default = "deny")]
    pub action: Verdict,
}

const fn deny() -> Verdict {
    Verdict::Deny
}

impl Intention {
    /// That `source` may call `destination`, or may not. `*` is everybody.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn new(source: &str, destination: &str, action: Verdict) -> Result<Intention, ConsulError> {
        for name in [source, destination] {
            if name != "*" {
                ServiceName::new(name)?;
            }
        }
        Ok(Intention {
            id: "".into(),
            source_name: source.into(),
            destination_name: destination.into(),
            action,
        })
    }

    /// How specific it is, as a number of Consul: 9, 8, 6 or 5.
    #[must_use]
    pub fn precedence(&self) -> u8 {
        match (&*self.source_name != "*", &*self.destination_name != "*") {
            (true, true) => 9,
            (false, true) => 8,
            (true, false) => 6,
            (false, false) => 5,
        }
    }

    fn matches(&self, source: &str, destination: &str) -> bool {
        let fits = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        fits(&self.source_name, source) && fits(&self.destination_name, destination)
    }
}

/// Whether `source` may call `destination`; `otherwise` is the default of the cluster, which is
/// to deny where ACLs do. Two that say the opposite with the same precedence deny.
#[must_use]
pub fn decide(
    intentions: &[Intention],
    source: &str,
    destination: &str,
    otherwise: Verdict,
) -> Verdict {
    let fitting = intentions.iter().filter(|one| one.matches(source, destination));
    let first = fitting.min_by_key(|one| (Reverse(one.precedence()), one.action == Verdict::Allow));
    first.map_or(otherwise, |one| one.action)
}

/// What a service's mesh settings come to (003-35): nobody but those it allows may call it.
/// Empty when intentions are switched off.
///
/// # Errors
/// A name that cannot be one, with its field below `path`.
pub fn wanted(
    service: &ServiceName,
    mesh: &MeshConfig,
    path: &str,
) -> Result<Vec<Intention>, ConfigError> {
    if !mesh.intentions {
        return Ok(Vec::new());
    }
    let refuse = |index: usize, e: ConsulError| {
        ConfigError::new(format!("{path}.allow[{index}]"), e.to_string())
    };
    if mesh.allow.len() > 256 {
        return Err(ConfigError::new(format!("{path}.allow"), "has more than 256 entries"));
    }
    let mut all = Vec::with_capacity(mesh.allow.len() + 1);
    for (index, source) in mesh.allow.iter().enumerate() {
        all.push(
            Intention::new(source, service.as_str(), Verdict::Allow)
                .map_err(|e| refuse(index, e))?,
        );
    }
    if !mesh.allow.iter().any(|source| source == "*") {
        all.push(Intention {
            id: "".into(),
            source_name: "*".into(),
            destination_name: service.shared(),
            action: Verdict::Deny,
        });
    }
    Ok(all)
}

/// `GET /v1/connect/intentions`.
///
/// # Errors
/// Settings without an agent.
pub fn list(api: &Api<'_>) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Service, "/v1/connect/intentions", Query::default())
}

/// The reply to [`list`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_list(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Intention>, ConsulError> {
    let what = "the list of intentions";
    short_list(what, open::<Many<Intention>>(settings, what, status, body)?)
}

/// `POST /v1/connect/intentions`: adds one (Consul 1.8; deprecated later). One that is there
/// already is [`ConsulError::Exists`].
///
/// # Errors
/// Settings without an agent.
pub fn create(api: &Api<'_>, intention: &Intention) -> Result<Request<Bytes>, ConsulError> {
    let body = encode(&body(intention))?;
    api.request(Method::POST, Class::Agent, "/v1/connect/intentions", Query::default(), Some(body))
}

/// The id of the reply to [`create`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_created(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Arc<str>, ConsulError> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "ID")]
        id: Arc<str>,
    }
    open::<Raw>(settings, "the new intention", status, body).map(|raw| raw.id)
}

/// `PUT /v1/connect/intentions/{id}`: changes one (Consul 1.8).
///
/// # Errors
/// One without an id.
pub fn change(api: &Api<'_>, intention: &Intention) -> Result<Request<Bytes>, ConsulError> {
    let path = by_id(&intention.id)?;
    api.put(Class::Agent, &path, Query::default(), &body(intention))
}

/// `DELETE /v1/connect/intentions/{id}` (Consul 1.8). The reply is read with
/// [`super::agent::done`].
///
/// # Errors
/// An id that cannot be one.
pub fn delete(api: &Api<'_>, id: &str) -> Result<Request<Bytes>, ConsulError> {
    api.request(Method::DELETE, Class::Agent, &by_id(id)?, Query::default(), None)
}

fn by_id(id: &str) -> Result<String, ConsulError> {
    let fine = id.len() == 36 && id.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    if !fine {
        return Err(ConsulError::field("intention id", "is a UUID"));
    }
    Ok(format!("/v1/connect/intentions/{id}"))
}

/// `PUT /v1/connect/intentions/exact`: adds or changes the one between these two (Consul 1.9 and
/// later).
///
/// # Errors
/// Settings without an agent.
pub fn put_exact(api: &Api<'_>, intention: &Intention) -> Result<Request<Bytes>, ConsulError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Exact {
        source_type: &'static str,
        action: Verdict,
    }
    let body = Exact { source_type: "consul", action: intention.action };
    api.put(
        Class::Agent,
        "/v1/connect/intentions/exact",
        names(&intention.source_name, &intention.destination_name),
        &body,
    )
}

/// `DELETE /v1/connect/intentions/exact` (Consul 1.9 and later).
///
/// # Errors
/// Settings without an agent.
pub fn delete_exact(api: &Api<'_>, intention: &Intention) -> Result<Request<Bytes>, ConsulError> {
    let query = names(&intention.source_name, &intention.destination_name);
    api.request(Method::DELETE, Class::Agent, "/v1/connect/intentions/exact", query, None)
}

/// Whether writing by names was understood; `false`: this Consul is older than 1.9, write by id.
///
/// # Errors
/// Any other status that is no success.
pub fn parse_exact(status: u16, body: &[u8]) -> Result<bool, ConsulError> {
    let text = String::from_utf8_lossy(body.get(..512).unwrap_or(body));
    if matches!(status, 404 | 405) || status >= 400 && text.contains("UUID must be") {
        return Ok(false);
    }
    done(status, body).map(|()| true)
}

/// `GET /v1/connect/intentions/check`: what the servers make of it.
///
/// # Errors
/// A name that cannot be one.
pub fn check(
    api: &Api<'_>,
    source: &ServiceName,
    destination: &ServiceName,
) -> Result<Request<Bytes>, ConsulError> {
    let query = names(source.as_str(), destination.as_str());
    api.get(Class::Service, "/v1/connect/intentions/check", query)
}

/// Whether the call of the reply to [`check`] is allowed.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_check(settings: &Settings, status: u16, body: &[u8]) -> Result<bool, ConsulError> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "Allowed")]
        allowed: bool,
    }
    open::<Raw>(settings, "the intention check", status, body).map(|raw| raw.allowed)
}

/// `GET /v1/connect/intentions/match`: those whose destination is `service`, most specific first.
///
/// # Errors
/// Settings without an agent.
pub fn matching(api: &Api<'_>, service: &ServiceName) -> Result<Request<Bytes>, ConsulError> {
    let query = Query::default().with("by", "destination").with("name", service.as_str());
    api.get(Class::Service, "/v1/connect/intentions/match", query)
}

/// The intentions of the reply to [`matching`] for `service`.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_matching(
    settings: &Settings,
    service: &ServiceName,
    status: u16,
    body: &[u8],
) -> Result<Vec<Intention>, ConsulError> {
    let what = "the matching intentions";
    let raw: std::collections::BTreeMap<Arc<str>, Many<Intention>> =
        open(settings, what, status, body)?;
    let found = raw.into_iter().find(|(name, _)| **name == *service.as_str());
    found.map_or(Ok(Vec::new()), |(_, many)| short_list(what, many))
}

fn names(source: &str, destination: &str) -> Query {
    Query::default().with("source", source).with("destination", destination)
}

/// As Consul 1.8 wants it; it wants to be told that the source is one of its own.
fn body(intention: &Intention) -> serde_json::Value {
    serde_json::json!({
        "SourceName": intention.source_name, "DestinationName": intention.destination_name,
        "SourceType": "consul", "Action": intention.action,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consul::Tokens;

    const LIST: &[u8] = include_bytes!("../../tests/corpus/consul_connect/intentions.json");
    const MATCH: &[u8] = include_bytes!("../../tests/corpus/consul_connect/match.json");
    const CHECK: &[u8] = include_bytes!("../../tests/corpus/consul_connect/check.json");

    fn one(source: &str, destination: &str, action: Verdict) -> Intention {
        Intention::new(source, destination, action).unwrap()
    }

    /// Read from and decided like a Consul 1.8.7: a -> web is denied, everybody else is allowed.
    #[test]
    fn real_replies_and_the_same_decision() {
        let s = Settings::default();
        let all = parse_list(&s, 200, LIST).unwrap();
        assert_eq!(all.iter().map(Intention::precedence).collect::<Vec<_>>(), [9, 8]);
        assert_eq!(all[0].id.len(), 36);
        assert_eq!(parse_check(&s, 200, CHECK), Ok(false));
        let web = ServiceName::new("web").unwrap();
        assert_eq!(parse_matching(&s, &web, 200, MATCH).unwrap(), all);
        assert_eq!(decide(&all, "a", "web", Verdict::Allow), Verdict::Deny);
        assert_eq!(decide(&all, "b", "web", Verdict::Deny), Verdict::Allow);
        assert_eq!(decide(&all, "b", "other", Verdict::Deny), Verdict::Deny);
        assert!(parse_check(&s, 200, b"{}").is_err(), "never allowed by default");
        // By path (1.9 and later): no action, permissions instead.
        let l7 = br#"[{"SourceName":"a","DestinationName":"web","Permissions":[]},{"SourceName":"b","DestinationName":"web","Action":"odd"}]"#;
        assert!(parse_list(&s, 200, l7).unwrap().iter().all(|i| i.action == Verdict::Deny));
    }

    #[test]
    fn case_003_35_what_the_mesh_settings_come_to() {
        let web = ServiceName::new("web").unwrap();
        let mesh = |allow: &[&str]| MeshConfig {
            intentions: true,
            allow: allow.iter().map(|a| (*a).to_owned()).collect(),
            ..MeshConfig::default()
        };
        assert!(wanted(&web, &MeshConfig::default(), "m").unwrap().is_empty());
        let two = wanted(&web, &mesh(&["a"]), "m").unwrap();
        assert_eq!(two, [one("a", "web", Verdict::Allow), one("*", "web", Verdict::Deny)]);
        assert_eq!(wanted(&web, &mesh(&["*"]), "m").unwrap().len(), 1);
        assert_eq!(wanted(&web, &mesh(&["a", "B"]), "m").unwrap_err().field, "m.allow[1]");
        assert_eq!(decide(&two, "a", "web", Verdict::Deny), Verdict::Allow);
        assert_eq!(decide(&two, "b", "web", Verdict::Allow), Verdict::Deny);
    }

    #[test]
    fn requests() {
        let (s, t) = (Settings::default(), Tokens::default());
        let api = Api::new(&s, &t);
        let line = |r: Result<Request<Bytes>, ConsulError>| {
            let r = r.unwrap();
            format!(
                "{} {} {}",
                r.method(),
                r.uri().path_and_query().unwrap(),
                String::from_utf8_lossy(r.body())
            )
        };
        let id = "6383fe03-d2ff-7df7-ed24-749cec6b4f87";
        let mut deny = one("*", "web", Verdict::Deny);
        let body =
            r#"{"Action":"deny","DestinationName":"web","SourceName":"*","SourceType":"consul"}"#;
        assert_eq!(line(create(&api, &deny)), format!("POST /v1/connect/intentions {body}"));
        assert!(change(&api, &deny).is_err());
        deny.id = id.into();
        assert_eq!(line(change(&api, &deny)), format!("PUT /v1/connect/intentions/{id} {body}"));
        assert_eq!(line(delete(&api, id)), format!("DELETE /v1/connect/intentions/{id} "));
        assert!(delete(&api, "exact").is_err());
        let exact = "/v1/connect/intentions/exact?source=%2A&destination=web";
        assert_eq!(
            line(put_exact(&api, &deny)),
            format!("PUT {exact} {{\"SourceType\":\"consul\",\"Action\":\"deny\"}}")
        );
        assert_eq!(line(delete_exact(&api, &deny)), format!("DELETE {exact} "));
        let old = b"Bad request: failed intention lookup: index error: UUID must be 36 characters";
        assert_eq!(parse_exact(400, old), Ok(false));
        assert_eq!(parse_exact(500, old), Ok(false));
        assert_eq!(parse_exact(500, b"No cluster leader"), Err(ConsulError::NoLeader));
        assert_eq!(parse_exact(200, b"true"), Ok(true));
        assert!(parse_exact(403, b"Permission denied").unwrap_err().is_permission());
        assert_eq!(
            &*parse_created(&s, 200, format!("{{\"ID\":\"{id}\"}}").as_bytes()).unwrap(),
            id
        );
        assert!(matches!(
            parse_created(&s, 500, b"duplicate intention found"),
            Err(ConsulError::Exists(_))
        ));
    }

    proptest! {
        /// Against the rule written down as four looks, the most specific first.
        #[test]
        fn the_most_specific_decides(rules in proptest::collection::btree_map((0_u8..3, 0_u8..3), any::<bool>(), 0..9), source in 1_u8..3, destination in 1_u8..3, otherwise: bool) {
            let word = |n: u8| if n == 0 { "*".to_owned() } else { format!("s{n}") };
            let verdict = |allow: bool| if allow { Verdict::Allow } else { Verdict::Deny };
            let all: Vec<_> = rules.iter().map(|((s, d), allow)| one(&word(*s), &word(*d), verdict(*allow))).collect();
            let looks = [(source, destination), (0, destination), (source, 0), (0, 0)];
            let expected = looks.iter().find_map(|key| rules.get(key)).copied().unwrap_or(otherwise);
            let got = decide(&all, &word(source), &word(destination), verdict(otherwise));
            prop_assert_eq!(got, verdict(expected));
        }

        #[test]
        fn mutated_replies_are_survived(at in 0_usize..3_000, byte: u8) {
            for reply in [LIST, MATCH, CHECK] {
                let mut body = reply.to_vec();
                let at = at % body.len();
                body[at] = byte;
                let (s, web) = (Settings::default(), ServiceName::new("web").unwrap());
                let _ = (parse_list(&s, 200, &body), parse_matching(&s, &web, 200, &body), parse_check(&s, 200, &body));
            }
        }
    }
}
