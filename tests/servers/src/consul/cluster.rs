//! Three servers and a client agent, if wanted with a second datacenter.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Agent;
use super::config::{Plan, Ports, Role};
use crate::room::Room;
use crate::{attempts, eventually, must, tools, uuid};

const SERVERS: [(&str, Ipv4Addr); 3] = [
    ("s1", Ipv4Addr::new(127, 0, 0, 2)),
    ("s2", Ipv4Addr::new(127, 0, 0, 3)),
    ("s3", Ipv4Addr::new(127, 0, 0, 4)),
];
const CLIENT: (&str, Ipv4Addr) = ("c1", Ipv4Addr::new(127, 0, 0, 5));
const SECOND: (&str, Ipv4Addr) = ("d1", Ipv4Addr::new(127, 0, 0, 6));

/// How a cluster is to be.
#[derive(Clone, Debug, Default)]
pub struct ClusterSetup {
    /// Access control, denying by default.
    pub acl: bool,
    /// A second datacenter, `dc2`, with one server, joined over the WAN.
    pub second: bool,
}

/// A cluster: every agent on an address of its own, 127.0.0.2 to .6, with the same ports.
/// After the loss of a leader, reads by default fail for two to four seconds. All of it survives
/// restarts.
pub struct Cluster {
    /// The servers `s1`, `s2`, `s3` of `dc1`.
    pub servers: Vec<Agent>,
    /// The client agent `c1` of `dc1`: what an application talks to.
    pub client: Agent,
    /// The server `d1` of `dc2`.
    pub second: Option<Agent>,
}

/// Starts a cluster and waits until every node is in the catalogue; `None` where Consul is not
/// installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn cluster(setup: &ClusterSetup) -> Option<Cluster> {
    let program = tools::need("consul")?;
    Some(must("consul cluster", attempts(|| start(&program, setup))))
}

fn start(program: &Path, setup: &ClusterSetup) -> io::Result<Cluster> {
    let room = Arc::new(Room::new("cluster")?);
    let addresses: Vec<Ipv4Addr> =
        SERVERS.iter().chain([&CLIENT, &SECOND]).map(|(_, address)| *address).collect();
    let ports = Ports::choose(&addresses)?;
    let master = setup.acl.then(uuid).transpose()?;
    let lan: Vec<String> =
        SERVERS.iter().map(|(_, address)| format!("{address}:{}", ports.lan)).collect();
    let join = json!({ "retry_join": lan, "retry_interval": "1s" });
    let launch = |(node, address), datacenter, role, extra: Value| {
        let master = master.clone();
        let extra = Some(extra);
        let plan = Plan { node, address, datacenter, role, ports, master, papers: None, extra };
        Agent::launch(program, &room, plan)
    };
    let server = Role::Server { expect: 3 };
    let mut servers = SERVERS
        .into_iter()
        .map(|place| launch(place, "dc1", server, join.clone()))
        .collect::<io::Result<Vec<_>>>()?;
    let mut client = launch(CLIENT, "dc1", Role::Client, join)?;
    for agent in servers.iter_mut().chain([&mut client]) {
        agent.process.ready()?;
    }
    // Only now: with access control a second datacenter asks the first for its beginnings, and
    // when that has no leader yet it waits five seconds before it asks again.
    let mut second = None;
    if setup.second {
        let wan = [format!("{}:{}", SERVERS[0].1, ports.wan)];
        let join = json!({ "retry_join_wan": wan, "retry_interval_wan": "1s" });
        let agent = second.insert(launch(SECOND, "dc2", Role::Server { expect: 1 }, join)?);
        agent.process.ready()?;
    }
    let cluster = Cluster { servers, client, second };
    if cluster.second.is_some() {
        // Each asks the other's: the datacenters know of each other.
        let known = |agent: &Agent, path: &str| {
            let answer = agent.http().get(path);
            answer.is_ok_and(|answer| answer.text().contains("serfHealth"))
        };
        let joined = eventually(Duration::from_secs(15), || {
            known(&cluster.client, "/v1/health/node/d1?dc=dc2")
                && cluster.second.iter().all(|d1| known(d1, "/v1/health/node/s1?dc=dc1"))
        });
        if !joined {
            return Err(io::Error::other("the datacenters did not find each other"));
        }
    }
    Ok(cluster)
}

impl Cluster {
    /// Which of the servers leads, as any of them says; `None` while there is no leader.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.servers.iter().find_map(|server| {
            let client = server.http().patience(Duration::from_secs(1));
            let answer = client.get("/v1/status/leader").ok()?.json();
            let address = answer.as_str()?.rsplit_once(':')?.0.to_owned();
            // A server that is down cannot lead, whatever the others still believe.
            self.servers.iter().position(|server| {
                server.process.id().is_some() && server.address().ip().to_string() == address
            })
        })
    }
}
