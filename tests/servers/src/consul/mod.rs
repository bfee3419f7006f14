//! Consul: one agent (with access control, with mTLS, with a memory of its own), or a cluster of
//! three servers and a client agent, if wanted with a second datacenter.
//!
//! Written for Consul 1.8.7, which has the older words for some things: the first token is the
//! `master` token, and intentions are addressed by their id.

mod access;
mod agent;
mod cluster;
mod config;

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

pub use access::Token;
pub use agent::Agent;
pub use cluster::{Cluster, ClusterSetup, cluster};

use crate::pki::Papers;
use crate::room::Room;
use crate::{attempts, must, tools, uuid};
use config::{Plan, Ports, Role};

/// How a single agent is to be. The default: a server in development mode in `dc1`, plain HTTP,
/// no access control.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Access control, denying by default; [`Agent::http`] then asks with the master token.
    pub acl: bool,
    /// HTTPS only, and only with a certificate by the test's authority.
    pub tls: bool,
    /// Not in development mode: the catalogue, the keys and the agent's own registrations
    /// survive a restart. Takes about a second longer to start.
    pub durable: bool,
    /// Further configuration, as Consul takes it in a file; wins over the harness's.
    pub extra: Option<Value>,
}

/// Starts an agent on 127.0.0.1 and waits until its node is in the catalogue; `None` where
/// Consul is not installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start(setup: &Setup) -> Option<Agent> {
    let program = tools::need("consul")?;
    Some(must("consul", attempts(|| single(&program, setup))))
}

fn single(program: &Path, setup: &Setup) -> io::Result<Agent> {
    let room = Arc::new(Room::new("consul")?);
    let address = Ipv4Addr::LOCALHOST;
    let papers = match setup.tls {
        true => Some(Papers::issue(&room, &["localhost", "127.0.0.1", "server.dc1.consul"])?),
        false => None,
    };
    let plan = Plan {
        node: "node1",
        address,
        datacenter: "dc1",
        role: if setup.durable { Role::Server { expect: 1 } } else { Role::Development },
        ports: Ports::choose(&[address])?,
        master: setup.acl.then(uuid).transpose()?,
        papers,
        extra: setup.extra.clone(),
    };
    let mut agent = Agent::launch(program, &room, plan)?;
    agent.process.ready()?;
    Ok(agent)
}
