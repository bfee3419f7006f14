//! The consolidated registry document: what services exist in which cluster,
//! as the discovery endpoint publishes it. Serving it lives in `registry`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::calendar::rfc3339;

/// A cluster's part in failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Preferred after the local cluster.
    Primary,
    /// Tried last, in document order.
    Backup,
}

impl Role {
    /// The word used in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Backup => "backup",
        }
    }
}

/// Where a service is found in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The cluster's name.
    pub cluster: String,
    /// Addresses reachable from everywhere: one is written as a string,
    /// several as an array (an extension), none leaves the cluster out.
    pub endpoints: Vec<String>,
    /// Addresses reachable inside the cluster, written the same way.
    pub internal: Vec<String>,
    /// Path of the health check, appended to an address; none leaves it out.
    pub health: Option<String>,
}

impl Place {
    /// A place with the same addresses inside and outside.
    #[must_use]
    pub fn new(cluster: &str, endpoints: &[String], health: &str) -> Place {
        Place {
            cluster: cluster.to_owned(),
            endpoints: endpoints.to_vec(),
            internal: endpoints.to_vec(),
            health: Some(health.to_owned()),
        }
    }
}

/// One service of the document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its name, the key in the document.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// Where it runs, in the order written.
    pub places: Vec<Place>,
}

/// Builds a registry document.
///
/// ```
/// use origin_lab::{Document, Place, Role};
///
/// let json = Document::new()
///     .cluster("alpha", "frankfurt", "http://127.0.0.1:1", Role::Primary)
///     .service("billing", "Invoices", vec![
///         Place::new("alpha", &["http://127.0.0.1:1".into()], "/health"),
///     ])
///     .to_json();
/// assert!(json.contains("\"version\":\"1.0\""));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    environment: String,
    last_updated: String,
    clusters: Vec<(String, String, String, Role)>,
    services: Vec<ServiceEntry>,
}

impl Default for Document {
    fn default() -> Document {
        Document::new()
    }
}

impl Document {
    /// An empty production document, updated now.
    #[must_use]
    pub fn new() -> Document {
        Document {
            environment: "production".to_owned(),
            last_updated: rfc3339(SystemTime::now()),
            clusters: Vec::new(),
            services: Vec::new(),
        }
    }

    /// Replaces the environment's name.
    #[must_use]
    pub fn environment(mut self, name: &str) -> Document {
        self.environment = name.to_owned();
        self
    }

    /// Replaces the time of the last update (RFC 3339); a fixed one makes the
    /// entity tag reproducible.
    #[must_use]
    pub fn last_updated(mut self, moment: &str) -> Document {
        self.last_updated = moment.to_owned();
        self
    }

    /// Adds a cluster.
    #[must_use]
    pub fn cluster(mut self, name: &str, region: &str, endpoint: &str, role: Role) -> Document {
        let texts = (name.to_owned(), region.to_owned(), endpoint.to_owned());
        self.clusters.push((texts.0, texts.1, texts.2, role));
        self
    }

    /// Adds a service; one of the same name is replaced.
    #[must_use]
    pub fn service(mut self, name: &str, description: &str, places: Vec<Place>) -> Document {
        self.services.retain(|service| service.name != name);
        self.services.push(ServiceEntry {
            name: name.to_owned(),
            description: description.to_owned(),
            places,
        });
        self
    }

    /// The services added so far.
    #[must_use]
    pub fn services(&self) -> &[ServiceEntry] {
        &self.services
    }

    /// The document as compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let clusters: Vec<Value> = self
            .clusters
            .iter()
            .map(|(name, region, endpoint, role)| {
                json!({
                    "name": name,
                    "region": region,
                    "endpoint": endpoint,
                    "role": role.as_str(),
                })
            })
            .collect();
        let services: Map<String, Value> =
            self.services.iter().map(|service| (service.name.clone(), entry(service))).collect();
        json!({
            "version": "1.0",
            "environment": self.environment,
            "last_updated": self.last_updated,
            "clusters": clusters,
            "services": services,
        })
        .to_string()
    }
}

fn entry(service: &ServiceEntry) -> Value {
    let by_cluster = |value: &dyn Fn(&Place) -> Option<Value>| -> Map<String, Value> {
        service
            .places
            .iter()
            .filter_map(|place| Some((place.cluster.clone(), value(place)?)))
            .collect()
    };
    json!({
        "description": service.description,
        "endpoints": by_cluster(&|place| address(&place.endpoints)),
        "internal_endpoints": by_cluster(&|place| address(&place.internal)),
        "health_endpoints": by_cluster(&|place| place.health.clone().map(Value::from)),
    })
}

fn address(addresses: &[String]) -> Option<Value> {
    match addresses {
        [] => None,
        [one] => Some(one.clone().into()),
        several => Some(several.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_a_string_several_an_array_none_is_absent() {
        let nowhere = Place { cluster: "gamma".into(), ..Place::default() };
        let text = Document::new()
            .last_updated("2026-11-21T00:00:00Z")
            .cluster("alpha", "frankfurt", "http://a", Role::Primary)
            .cluster("beta", "amsterdam", "http://b", Role::Backup)
            .service(
                "billing",
                "Invoices",
                vec![
                    Place::new("alpha", &["http://a1".into()], "/health"),
                    Place::new("beta", &["http://b1".into(), "http://b2".into()], "/ok"),
                    nowhere,
                ],
            )
            .to_json();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            json!({
                "version": "1.0", "environment": "production",
                "last_updated": "2026-11-21T00:00:00Z",
                "clusters": [
                    {"name":"alpha","region":"frankfurt","endpoint":"http://a","role":"primary"},
                    {"name":"beta","region":"amsterdam","endpoint":"http://b","role":"backup"}],
                "services": {"billing": {
                    "description": "Invoices",
                    "endpoints": {"alpha":"http://a1","beta":["http://b1","http://b2"]},
                    "internal_endpoints": {"alpha":"http://a1","beta":["http://b1","http://b2"]},
                    "health_endpoints": {"alpha":"/health","beta":"/ok"}}}
            })
        );
    }

    #[test]
    fn a_service_of_the_same_name_is_replaced() {
        let document =
            Document::new().service("a", "old", Vec::new()).service("a", "new", Vec::new());
        assert_eq!(document.services().len(), 1);
        assert_eq!(document.services()[0].description, "new");
    }
}
