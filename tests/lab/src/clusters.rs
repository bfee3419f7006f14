//! A whole world on loopback: a registry, clusters, instances, services. One
//! server per service instance, because that is what breaks one at a time.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bridge::{self, Speaks};
use crate::document::{Document, Place, Role};
use crate::mode::Mode;
use crate::registry::Registry;
use crate::server::{FaultServer, Handler};
use crate::services::{billing, secrets};
use crate::store::{Store, storage};

/// The token that the `secrets` service of every world accepts.
pub const DEMO_TOKEN: &str = "demo-token";

/// One cluster of a world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name.
    pub name: String,
    /// Its region, for people.
    pub region: String,
    /// Its part in failover.
    pub role: Role,
    /// Instances of each service.
    pub instances: usize,
    /// Milliseconds every healthy answer takes: the distance to the cluster.
    #[serde(default)]
    pub latency_ms: u64,
}

/// What a world consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldSpec {
    /// The clusters in document order.
    pub clusters: Vec<ClusterSpec>,
    /// The services. `storage`, `secrets`, `metadata-stamping` and `onextree`
    /// behave as such, every other name answers as [`billing`] does.
    pub services: Vec<String>,
    /// The cluster that the client is meant to be in.
    pub local: String,
}

impl Default for WorldSpec {
    /// Clusters alpha (primary), beta (backup, the local one) and gamma
    /// (backup) with two instances each; services billing, storage, secrets.
    fn default() -> WorldSpec {
        let cluster = |name: &str, region: &str, role| ClusterSpec {
            name: name.to_owned(),
            region: region.to_owned(),
            role,
            instances: 2,
            latency_ms: 0,
        };
        WorldSpec {
            clusters: vec![
                cluster("alpha", "frankfurt", Role::Primary),
                cluster("beta", "amsterdam", Role::Backup),
                cluster("gamma", "paris", Role::Backup),
            ],
            services: ["billing", "storage", "secrets"].map(String::from).to_vec(),
            local: "beta".to_owned(),
        }
    }
}

impl WorldSpec {
    /// The same world with only these services.
    #[must_use]
    pub fn only(mut self, services: &[&str]) -> WorldSpec {
        self.services = services.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// The same world with healthy answers of one cluster taking that long.
    #[must_use]
    pub fn latency(mut self, cluster: &str, latency_ms: u64) -> WorldSpec {
        for spec in &mut self.clusters {
            if spec.name == cluster {
                spec.latency_ms = latency_ms;
            }
        }
        self
    }
}

/// A running world. Dropping it stops every server in it.
#[derive(Debug)]
pub struct World {
    spec: WorldSpec,
    registry: Registry,
    placed: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    service: String,
    cluster: String,
    index: usize,
    server: FaultServer,
}

impl World {
    /// Starts every instance and the registry that names them.
    ///
    /// # Errors
    /// As [`FaultServer::start`].
    pub fn start(spec: WorldSpec) -> io::Result<World> {
        let shared = Shared { store: Arc::default(), bridge: bridge::handlers(Speaks::Clients) };
        let mut placed = Vec::new();
        for cluster in &spec.clusters {
            for service in &spec.services {
                for index in 0..cluster.instances {
                    let instance = format!("{}-{service}-{index}", cluster.name);
                    let handler = handler(cluster, service, &instance, &shared);
                    placed.push(Placed {
                        service: service.clone(),
                        cluster: cluster.name.clone(),
                        index,
                        server: FaultServer::named_with_handler(&cluster.name, &instance, handler)?,
                    });
                }
            }
        }
        let registry = Registry::start(&document(&spec, &placed))?;
        Ok(World { spec, registry, placed })
    }

    /// What the world was started from.
    #[must_use]
    pub fn spec(&self) -> &WorldSpec {
        &self.spec
    }

    /// The name of the local cluster.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.spec.local
    }

    /// The URL of the registry document.
    #[must_use]
    pub fn discovery_url(&self) -> String {
        self.registry.url()
    }

    /// The registry, to break it or to publish something else.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The document as the world started with it: a base for `publish`.
    #[must_use]
    pub fn document(&self) -> Document {
        document(&self.spec, &self.placed)
    }

    /// Every server of a cluster; empty if there is no such cluster.
    #[must_use]
    pub fn cluster(&self, cluster: &str) -> Group<'_> {
        self.group(|placed| placed.cluster == cluster)
    }

    /// The servers of one instance of a cluster, one per service.
    #[must_use]
    pub fn instance(&self, cluster: &str, index: usize) -> Group<'_> {
        self.group(|placed| placed.cluster == cluster && placed.index == index)
    }

    /// Every server of a service, in all clusters.
    #[must_use]
    pub fn service(&self, service: &str) -> Group<'_> {
        self.group(|placed| placed.service == service)
    }

    /// Every server except the registry.
    #[must_use]
    pub fn all(&self) -> Group<'_> {
        self.group(|_| true)
    }

    /// One server.
    #[must_use]
    pub fn server(&self, service: &str, cluster: &str, index: usize) -> Option<&FaultServer> {
        self.placed
            .iter()
            .find(|placed| {
                placed.service == service && placed.cluster == cluster && placed.index == index
            })
            .map(|placed| &placed.server)
    }

    /// The cluster and instance index behind an address, for a client that
    /// only knows where it connected to.
    #[must_use]
    pub fn locate(&self, addr: std::net::SocketAddr) -> Option<(&str, usize)> {
        self.placed
            .iter()
            .find(|placed| placed.server.addr() == addr)
            .map(|placed| (placed.cluster.as_str(), placed.index))
    }

    fn group(&self, wanted: impl Fn(&Placed) -> bool) -> Group<'_> {
        let servers = self
            .placed
            .iter()
            .filter(|placed| wanted(placed))
            .map(|placed| &placed.server)
            .collect();
        Group { servers }
    }
}

/// What all instances of a service have in common: they are replicas of each
/// other.
struct Shared {
    store: Arc<Mutex<Store>>,
    bridge: (Handler, Handler),
}

fn handler(cluster: &ClusterSpec, service: &str, instance: &str, shared: &Shared) -> Handler {
    let plain = match service {
        "storage" => storage(Arc::clone(&shared.store)),
        "metadata-stamping" => Arc::clone(&shared.bridge.0),
        "onextree" => Arc::clone(&shared.bridge.1),
        "secrets" => secrets(DEMO_TOKEN, &cluster.name),
        other => billing(other, &cluster.name, instance),
    };
    if cluster.latency_ms == 0 {
        return plain;
    }
    let distance = Duration::from_millis(cluster.latency_ms);
    Arc::new(move |request| plain(request).after(distance))
}

fn document(spec: &WorldSpec, placed: &[Placed]) -> Document {
    let addresses = |service: Option<&str>, cluster: &str| -> Vec<String> {
        placed
            .iter()
            .filter(|place| place.cluster == cluster)
            .filter(|place| service.is_none_or(|name| place.service == name))
            .map(|place| place.server.url())
            .collect()
    };
    let mut document = Document::new();
    for cluster in &spec.clusters {
        let entrance = addresses(None, &cluster.name);
        let entrance = entrance.first().map_or("", String::as_str);
        document = document.cluster(&cluster.name, &cluster.region, entrance, cluster.role);
    }
    for service in &spec.services {
        let (description, health) = match service.as_str() {
            "storage" => ("Object storage", "/minio/health/live"),
            "secrets" => ("Secrets management", "/v1/sys/health"),
            "billing" => ("Invoices", "/health"),
            "metadata-stamping" => ("Metadata stamps", "/health"),
            "onextree" => ("Knowledge of the tree", "/health"),
            _ => ("A service of the laboratory", "/health"),
        };
        let places = spec
            .clusters
            .iter()
            .map(|cluster| {
                let found = addresses(Some(service), &cluster.name);
                Place::new(&cluster.name, &found, health)
            })
            .collect();
        document = document.service(service, description, places);
    }
    document
}

/// Some servers of a world, treated alike.
#[derive(Debug, Clone)]
pub struct Group<'w> {
    servers: Vec<&'w FaultServer>,
}

impl<'w> Group<'w> {
    /// Sets the mode of every server; tells how many there were, so that a
    /// misspelt name does not go unnoticed.
    pub fn set(&self, mode: Mode) -> usize {
        for server in &self.servers {
            server.set(mode.clone());
        }
        self.servers.len()
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[&'w FaultServer] {
        &self.servers
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Complete requests that reached any of them.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.servers.iter().map(|server| server.request_count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::fetch;
    use serde_json::Value;

    #[test]
    fn the_default_world_is_what_its_document_says() {
        let world = World::start(WorldSpec::default()).unwrap();
        assert_eq!(world.all().servers().len(), 18);
        let (status, _, body) = fetch(world.registry().server().addr(), "/api/v1/services", "");
        assert_eq!(status, 200);
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["clusters"][0]["role"], "primary");
        let addresses = value["services"]["billing"]["endpoints"]["beta"].as_array().unwrap();
        for (index, address) in addresses.iter().enumerate() {
            let server = world.server("billing", "beta", index).unwrap();
            assert_eq!(address.as_str().unwrap(), server.url());
            assert_eq!(world.locate(server.addr()), Some(("beta", index)));
            let (status, head, _) = fetch(server.addr(), "/invoices/7", "");
            assert_eq!(status, 200);
            assert!(head.contains("X-Origin-Cluster: beta\r\n"), "{head}");
        }
        let object = world.server("storage", "gamma", 1).unwrap();
        assert!(!fetch(object.addr(), "/bucket/key", "").2.is_empty());
        let vault = world.server("secrets", "alpha", 0).unwrap();
        assert_eq!(fetch(vault.addr(), "/v1/x", "").0, 403);
        let token = format!("X-Vault-Token: {DEMO_TOKEN}\r\n");
        assert_eq!(fetch(vault.addr(), "/v1/x", &token).0, 200);
    }

    #[test]
    fn groups_break_what_they_name_and_nothing_else() {
        let spec = WorldSpec::default().only(&["billing"]).latency("beta", 1);
        let world = World::start(spec).unwrap();
        assert_eq!(world.instance("beta", 0).set(Mode::status(503)), 1);
        assert_eq!(world.cluster("nowhere").set(Mode::Refuse), 0);
        let status = |cluster: &str, index| {
            let server = world.server("billing", cluster, index).unwrap();
            fetch(server.addr(), "/", "").0
        };
        assert_eq!((status("beta", 0), status("beta", 1)), (503, 200));
        assert_eq!(status("alpha", 0), 200);
        assert_eq!(world.cluster("beta").requests(), 2);
        world.all().set(Mode::Ok);
        assert_eq!(status("beta", 0), 200);
    }
}
