//! The catalogue: which services there are, where their instances are registered, which nodes and
//! datacenters. It says nothing about health; that is in [`super::health`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde::Deserialize;

use super::error::ConsulError;
use super::health::{Answer, Place, Weights, shared, tell_apart};
use super::name::{ServiceName, datacenter};
use super::settings::Settings;
use super::wire::{Api, Class, Cursor, MOST, Many, Query, open, or_empty, or_empty_map};
use crate::discovery::Condition;

/// `GET /v1/catalog/services`: all services with their tags.
///
/// # Errors
/// Settings without an agent.
pub fn services(api: &Api<'_>, cursor: Option<Cursor>) -> Result<Request<Bytes>, ConsulError> {
    api.read("/v1/catalog/services", Query::default(), None, cursor)
}

/// The services of a reply, with their tags.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_services(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<BTreeMap<Arc<str>, Vec<Arc<str>>>, ConsulError> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Tags(#[serde(deserialize_with = "or_empty")] Vec<Arc<str>>);
    let what = "the list of services";
    let raw: BTreeMap<Arc<str>, Tags> = open(settings, what, status, body)?;
    if raw.len() > MOST {
        return Err(ConsulError::TooMany { what: what.into(), most: MOST });
    }
    Ok(raw.into_iter().map(|(name, tags)| (name, tags.0)).collect())
}

/// `GET /v1/catalog/service/{name}`: where a service is registered, whatever its health.
///
/// # Errors
/// A datacenter that cannot be one.
pub fn service(
    api: &Api<'_>,
    name: &ServiceName,
    dc: Option<&str>,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    if let Some(dc) = dc {
        datacenter(dc).map_err(|reason| ConsulError::field("datacenter", reason))?;
    }
    let mut query = Query::default();
    for tag in &api.settings.tags {
        query.pair("tag", tag);
    }
    query.maybe("filter", api.settings.filter.as_deref());
    query.maybe("near", api.settings.near.as_deref());
    api.read(&format!("/v1/catalog/service/{name}"), query, dc, cursor)
}

#[derive(Deserialize)]
struct RawInstance<'a> {
    #[serde(borrow, default, rename = "Node")]
    node: Cow<'a, str>,
    #[serde(borrow, default, rename = "Address")]
    address: Cow<'a, str>,
    #[serde(borrow, default, rename = "Datacenter")]
    datacenter: Option<Cow<'a, str>>,
    #[serde(rename = "ServiceID")]
    id: Arc<str>,
    #[serde(borrow, default, rename = "ServiceAddress")]
    service_address: Option<Cow<'a, str>>,
    #[serde(default, rename = "ServicePort")]
    port: i64,
    #[serde(default, rename = "ServiceTags", deserialize_with = "or_empty")]
    tags: Vec<Arc<str>>,
    #[serde(default, rename = "ServiceMeta", deserialize_with = "or_empty_map")]
    meta: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(default, rename = "ServiceWeights", deserialize_with = "or_empty")]
    weights: Weights,
}

/// The registered instances of a reply; their condition is unknown.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_service(settings: &Settings, status: u16, body: &[u8]) -> Result<Answer, ConsulError> {
    let raw: Many<RawInstance<'_>> = open(settings, "the instances of a service", status, body)?;
    let mut answer = Answer::default();
    let (mut nodes, mut seen) = (Vec::new(), Vec::new());
    for raw in raw.0 {
        let host = raw.service_address.filter(|a| !a.is_empty()).unwrap_or(raw.address);
        let cluster = shared(&mut seen, raw.datacenter.as_deref().unwrap_or("consul"));
        let place = Place { id: raw.id, host: &host, port: raw.port, cluster, connect: false };
        let unknown = Condition::Unknown;
        match place.instance(settings, raw.tags, raw.meta, unknown, raw.weights.passing) {
            Some(instance) => {
                answer.instances.push(instance);
                nodes.push(shared(&mut seen, &raw.node));
            }
            None => answer.left_out = answer.left_out.saturating_add(1),
        }
    }
    tell_apart(&mut answer.instances, &nodes);
    Ok(answer)
}

/// `GET /v1/catalog/nodes`.
///
/// # Errors
/// Settings without an agent.
pub fn nodes(api: &Api<'_>, cursor: Option<Cursor>) -> Result<Request<Bytes>, ConsulError> {
    api.read("/v1/catalog/nodes", Query::default(), None, cursor)
}

/// A node of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its name.
    #[serde(rename = "Node")]
    pub name: Arc<str>,
    /// Its id; empty for nodes registered from outside.
    #[serde(rename = "ID", default)]
    pub id: Arc<str>,
    /// Its address.
    pub address: Arc<str>,
    /// Its datacenter.
    #[serde(default)]
    pub datacenter: Arc<str>,
    /// Its metadata.
    #[serde(default, deserialize_with = "or_empty_map")]
    pub meta: BTreeMap<Arc<str>, Arc<str>>,
}

/// The nodes of a reply.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_nodes(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Node>, ConsulError> {
    open::<Many<Node>>(settings, "the list of nodes", status, body).map(|many| many.0)
}

/// `GET /v1/catalog/datacenters`: nearest first.
///
/// # Errors
/// Settings without an agent.
pub fn datacenters(api: &Api<'_>) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Service, "/v1/catalog/datacenters", Query::default())
}

/// The datacenters of a reply.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_datacenters(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Arc<str>>, ConsulError> {
    open::<Many<Arc<str>>>(settings, "the list of datacenters", status, body).map(|many| many.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consul::Tokens;

    const SERVICES: &[u8] = include_bytes!("../../tests/corpus/consul_catalogue/services.json");
    const WEB: &[u8] = include_bytes!("../../tests/corpus/consul_catalogue/service_web.json");
    const NODES: &[u8] = include_bytes!("../../tests/corpus/consul_catalogue/nodes.json");
    const DATACENTERS: &[u8] =
        include_bytes!("../../tests/corpus/consul_catalogue/datacenters.json");

    #[test]
    fn real_replies() {
        let s = Settings::default();
        let services = parse_services(&s, 200, SERVICES).unwrap();
        assert!(
            services["consul"].is_empty() && services["web"].iter().any(|t| &**t == "production")
        );
        let web = parse_service(&s, 200, WEB).unwrap();
        assert_eq!((web.instances.len(), web.left_out), (3, 1));
        assert_eq!(web.instances[0].address.as_str(), "https://127.0.0.1:8080");
        assert_eq!((web.instances[0].condition, web.instances[0].weight), (Condition::Unknown, 7));
        let nodes = parse_nodes(&s, 200, NODES).unwrap();
        assert_eq!(
            (&*nodes[0].name, &*nodes[0].address, &*nodes[0].datacenter),
            ("node1", "127.0.0.1", "dc1")
        );
        assert_eq!(parse_datacenters(&s, 200, DATACENTERS).unwrap(), ["dc1".into()]);
    }

    #[test]
    fn nulls_are_empty_and_wrong_types_are_errors() {
        let s = Settings::default();
        assert!(parse_services(&s, 200, br#"{"a":null}"#).unwrap()["a"].is_empty());
        assert!(parse_services(&s, 200, br#"{"a":["x",null]}"#).is_err());
        assert!(parse_nodes(&s, 200, b"null").unwrap().is_empty());
        assert!(parse_service(&s, 200, br#"[{"Node":null,"ServicePort":1}]"#).is_err());
        assert!(parse_datacenters(&s, 403, b"Permission denied").unwrap_err().is_permission());
    }

    #[test]
    fn requests() {
        let (s, t) = (Settings::default(), Tokens::default());
        let api = Api::new(&s, &t);
        let name = ServiceName::new("web").unwrap();
        let uri = |request: Result<Request<Bytes>, ConsulError>| {
            request.unwrap().uri().path_and_query().unwrap().to_string()
        };
        let cursor = Some(Cursor { index: 7, wait: std::time::Duration::from_secs(60) });
        assert_eq!(uri(services(&api, cursor)), "/v1/catalog/services?index=7&wait=1m");
        assert_eq!(uri(service(&api, &name, Some("dc2"), None)), "/v1/catalog/service/web?dc=dc2");
        assert_eq!(uri(nodes(&api, None)), "/v1/catalog/nodes");
        assert_eq!(uri(datacenters(&api)), "/v1/catalog/datacenters");
        assert!(service(&api, &name, Some("a/b"), None).is_err());
    }

    proptest! {
        #[test]
        fn mutated_replies_are_survived(edits in proptest::collection::vec((0_usize..10_000, any::<u8>()), 0..6)) {
            let s = Settings::default();
            for reply in [SERVICES, WEB, NODES, DATACENTERS] {
                let mut body = reply.to_vec();
                for (at, byte) in &edits {
                    let at = at % body.len();
                    body[at] = *byte;
                }
                let _ = (parse_services(&s, 200, &body), parse_service(&s, 200, &body));
                let _ = (parse_nodes(&s, 200, &body), parse_datacenters(&s, 200, &body));
            }
        }
    }
}
