//! The consolidated discovery document: hostile bytes in, a [`Document`] or a reason out.
//! Unknown fields are ignored, known ones must have their type. The content type is not looked
//! at: servers of this document are known to send a wrong one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::plan::{self, Candidate, Place, order};
use super::{Instance, Role};
use crate::address::Address;

/// Clusters beyond this many are refused: no failover order is that long.
pub const MOST_CLUSTERS: usize = 64;

/// Why bytes are not a document. Never repeats their content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadDocument {
    /// More bytes than allowed.
    #[error("it has {bytes} bytes, more than discovery.max_bytes of {most}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Not JSON, or cut off, or nested too deeply.
    #[error("it is not valid JSON (line {line}, column {column}){}", if *html { "; it looks like an HTML page" } else { "" })]
    NotJson {
        /// Line of the first offence.
        line: usize,
        /// Column of it.
        column: usize,
        /// Whether it looks like an HTML page.
        html: bool,
    },
    /// JSON, but not this document.
    #[error(
        "it is JSON of another shape (line {line}, column {column}); expected an object with \"services\" and \"clusters\""
    )]
    WrongShape {
        /// Line of the first offence.
        line: usize,
        /// Column of it.
        column: usize,
    },
    /// Too many clusters.
    #[error("it names {0} clusters, more than 64")]
    TooManyClusters(usize),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    clusters: Vec<RawCluster>,
    services: BTreeMap<Arc<str>, RawService>,
}

#[derive(Deserialize)]
struct RawCluster {
    name: Arc<str>,
    #[serde(default)]
    role: Role,
}

#[derive(Deserialize)]
struct RawService {
    #[serde(default)]
    endpoints: BTreeMap<Arc<str>, Addresses>,
    #[serde(default)]
    internal_endpoints: BTreeMap<Arc<str>, Addresses>,
    #[serde(default)]
    health_endpoints: BTreeMap<Arc<str>, String>,
}

/// One address, or several: a cluster with more than one instance (an extension of Origin).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Several(Vec<String>),
}

impl Addresses {
    fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Addresses::One(one) => std::slice::from_ref(one).iter(),
            Addresses::Several(several) => several.iter(),
        }
    }
}

/// A parsed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    clusters: Vec<(Arc<str>, Role)>,
    services: BTreeMap<Arc<str>, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    external: BTreeMap<Arc<str>, Addresses>,
    internal: BTreeMap<Arc<str>, Addresses>,
    health: BTreeMap<Arc<str>, String>,
}

impl Document {
    /// Reads a document of at most `most` bytes.
    ///
    /// # Errors
    /// [`BadDocument`]; nothing is allocated for what is not kept.
    pub fn parse(bytes: &[u8], most: usize) -> Result<Document, BadDocument> {
        if bytes.len() > most {
            return Err(BadDocument::TooLarge { bytes: bytes.len(), most });
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            if e.is_data() {
                return BadDocument::WrongShape { line, column };
            }
            let html = bytes.trim_ascii_start().first() == Some(&b'<');
            BadDocument::NotJson { line, column, html }
        })?;
        if raw.clusters.len() > MOST_CLUSTERS {
            return Err(BadDocument::TooManyClusters(raw.clusters.len()));
        }
        let services = raw.services.into_iter().map(|(name, service)| {
            let entry = Entry {
                external: service.endpoints,
                internal: service.internal_endpoints,
                health: service.health_endpoints,
            };
            (name, entry)
        });
        Ok(Document {
            clusters: raw.clusters.into_iter().map(|c| (c.name, c.role)).collect(),
            services: services.collect(),
        })
    }

    /// The names of all services, in order.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.services.keys()
    }

    /// Whether it names `service`.
    #[must_use]
    pub fn knows(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

    /// The instances of `service`, clusters in failover order, and what had to be left out. `None`
    /// when the document does not know the service.
    ///
    /// The local cluster is reached by its internal address (its external one if there is none),
    /// every other cluster by its external address: the internal ones are the same text in every
    /// cluster and always mean one's own.
    #[must_use]
    pub fn instances(
        &self,
        service: &str,
        local: Option<&str>,
    ) -> Option<(Vec<Instance>, Vec<Refused>)> {
        let entry = self.services.get(service)?;
        let mut found = Vec::new();
        let mut refused = Vec::new();
        // Clusters that only a service mentions come last, in the order of their names.
        let mut clusters = self.clusters.clone();
        let unlisted = entry.external.keys().chain(entry.internal.keys());
        for name in unlisted {
            if clusters.len() < MOST_CLUSTERS && !clusters.iter().any(|(known, _)| known == name) {
                clusters.push((name.clone(), Role::Backup));
            }
        }
        // Of several primaries only the first is one, also where it lacks this service.
        let primary = clusters.iter().position(|(_, role)| *role == Role::Primary);
        for (cluster, place) in order(&clusters, local) {
            let external = entry.external.get(&cluster);
            let addresses = match place {
                Place::Local => entry.internal.get(&cluster).or(external),
                _ => external,
            };
            let is_primary = primary.is_some_and(|at| clusters[at].0 == cluster);
            let role = if is_primary { Role::Primary } else { Role::Backup };
            let health: Option<Arc<str>> =
                entry.health.get(&cluster).map(|path| path.as_str().into());
            for text in addresses.into_iter().flat_map(Addresses::iter) {
                match Address::parse(text) {
                    Ok(address) => found.push(Instance {
                        health: health.clone(),
                        ..Instance::new(cluster.clone(), role, address)
                    }),
                    Err(e) => {
                        refused.push(Refused { cluster: cluster.clone(), reason: e.to_string() })
                    }
                }
            }
        }
        Some((found, refused))
    }

    /// The same as candidates.
    #[must_use]
    pub fn candidates(
        &self,
        service: &str,
        local: Option<&str>,
    ) -> Option<(Vec<Candidate>, Vec<Refused>)> {
        let (instances, refused) = self.instances(service, local)?;
        Some((plan::candidates(&instances, local), refused))
    }
}

/// An address that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The cluster it stands under.
    pub cluster: Arc<str>,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 1 << 20;

    fn sample() -> Document {
        Document::parse(include_bytes!("sample.json"), MOST).unwrap()
    }

    fn addresses(service: &str, local: Option<&str>) -> Vec<String> {
        let (found, _) = sample().candidates(service, local).unwrap();
        found.iter().map(|c| format!("{:?} {}", c.place, c.address)).collect()
    }

    #[test]
    fn case_000_08_to_11_order_and_addresses() {
        assert_eq!(
            addresses("storage", Some("beta")),
            [
                "Local http://minio.origin-system.svc.cluster.local:9000",
                "Primary https://minio.alpha.origin.internal",
                "Backup https://minio.gamma.origin.internal",
            ]
        );
    }

    #[test]
    fn case_000_10_local_primary_is_not_tried_twice() {
        assert_eq!(
            addresses("storage", Some("alpha")),
            [
                "Local http://minio.origin-system.svc.cluster.local:9000",
                "Backup https://minio.beta.origin.internal",
                "Backup https://minio.gamma.origin.internal",
            ]
        );
    }

    #[test]
    fn without_or_with_unknown_local_cluster_the_primary_is_first() {
        for local in [None, Some("omega")] {
            assert_eq!(
                addresses("identity", local)[0],
                "Primary https://keycloak.alpha.origin.internal/auth"
            );
        }
    }

    #[test]
    fn case_000_42_an_address_without_scheme_is_kept_but_is_not_http() {
        let (found, refused) = sample().candidates("database", Some("beta")).unwrap();
        assert_eq!((found.len(), refused.len()), (3, 0));
        assert!(found.iter().all(|c| !c.address.is_http()));
    }

    fn parse(text: &str) -> Result<Document, BadDocument> {
        Document::parse(text.as_bytes(), MOST)
    }

    #[test]
    fn case_000_41_odd_documents_have_defined_behaviour() {
        let order = |text: &str, local| -> Vec<String> {
            let (found, _) = parse(text).unwrap().candidates("s", local).unwrap();
            found.iter().map(|c| format!("{}:{:?}", c.cluster, c.place)).collect()
        };
        let services =
            r#""services":{"s":{"endpoints":{"a":"http://a","b":"http://b","c":"http://c"}}}"#;
        let with = |clusters: &str| format!("{{\"clusters\":[{clusters}],{services}}}");
        let two = with(
            r#"{"name":"a","role":"primary"},{"name":"b","role":"primary"},{"name":"c","role":"backup"}"#,
        );
        assert_eq!(order(&two, None), ["a:Primary", "b:Backup", "c:Backup"]);
        let none = with(r#"{"name":"c"},{"name":"b","role":"witness"}"#);
        assert_eq!(order(&none, Some("b")), ["b:Local", "c:Backup", "a:Backup"]);
        assert_eq!(order(&with(""), None), ["a:Backup", "b:Backup", "c:Backup"]);
        let twice = with(r#"{"name":"a","role":"primary"},{"name":"a","role":"backup"}"#);
        assert_eq!(order(&twice, None), ["a:Primary", "b:Backup", "c:Backup"]);
        let missing = r#"{"clusters":[{"name":"a"},{"name":"b"}],"services":{"s":{"endpoints":{"b":"http://b"}}}}"#;
        assert_eq!(order(missing, None), ["b:Backup"]);
        assert_eq!(order(r#"{"services":{"s":{}}}"#, Some("a")), Vec::<String>::new());
        assert!(parse(r#"{"services":{}}"#).unwrap().candidates("s", None).is_none());
    }

    #[test]
    fn several_instances_and_bad_addresses() {
        let text = r#"{"clusters":[{"name":"a"}],"services":{"s":{"endpoints":{"a":["http://x:1","http://x:0","http://x:2"]}}}}"#;
        let (found, refused) = parse(text).unwrap().candidates("s", None).unwrap();
        assert_eq!((found.len(), refused.len()), (2, 1));
        assert!(refused[0].reason.contains("port"));
    }

    #[test]
    fn case_000_43_unknown_fields_are_ignored() {
        assert!(
            parse(r#"{"x":[1],"clusters":[{"name":"a","zone":7}],"services":{"s":{"y":null}}}"#)
                .is_ok()
        );
    }

    #[test]
    fn case_000_35_x_11_hostile_documents_are_refused_by_kind() {
        let nested = format!("{{\"services\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for (text, html) in
            [("", false), ("{\"services\":{\"s\"", false), ("<html>404</html>", true)]
        {
            assert!(
                matches!(parse(text), Err(BadDocument::NotJson { html: h, .. }) if h == html),
                "{text}"
            );
        }
        // Too deep is refused by type or by depth, never by the stack.
        assert!(parse(&nested).is_err());
        let deep =
            format!("{{\"x\":{}{},\"services\":{{}}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&deep).is_ok(), "what is ignored is skipped without recursion");
        assert!(matches!(
            Document::parse(b"{\"services\":{\"\xff\":{}}}", MOST),
            Err(BadDocument::NotJson { .. })
        ));
        for wrong in [
            "{}",
            "[]",
            "7",
            "null",
            r#"{"services":[]}"#,
            r#"{"services":{"s":7}}"#,
            r#"{"services":{"s":{"endpoints":{"a":7}}}}"#,
            r#"{"clusters":{},"services":{}}"#,
            r#"{"clusters":[{"role":"primary"}],"services":{}}"#,
        ] {
            assert!(
                matches!(parse(wrong), Err(BadDocument::WrongShape { .. })),
                "{wrong}: {:?}",
                parse(wrong)
            );
        }
        assert!(matches!(
            Document::parse(&[b' '; 2_000], 1_000),
            Err(BadDocument::TooLarge { .. })
        ));
        let many = (0..65).map(|n| format!("{{\"name\":\"{n}\"}}")).collect::<Vec<_>>().join(",");
        assert_eq!(
            parse(&format!("{{\"clusters\":[{many}],\"services\":{{}}}}")),
            Err(BadDocument::TooManyClusters(65))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Document::parse(&bytes, MOST);
        }

        /// Every prefix of a good document is refused, and says so.
        #[test]
        fn truncation_is_refused(cut in 0_usize..3_000) {
            let whole = include_bytes!("sample.json");
            let cut = cut.min(whole.trim_ascii_end().len() - 1);
            prop_assert!(Document::parse(&whole[..cut], MOST).is_err());
        }
    }
}
