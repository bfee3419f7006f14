//! One agent: its addresses, its API, its faults.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::config::{Plan, Role};
use crate::http::Client;
use crate::pki::Papers;
use crate::process::Process;
use crate::room::Room;

/// A Consul agent.
pub struct Agent {
    /// The process: to pause, kill, restart.
    pub process: Process,
    /// Its certificates, with TLS.
    pub papers: Option<Papers>,
    address: SocketAddr,
    dns: SocketAddr,
    node: &'static str,
    datacenter: &'static str,
    master: Option<String>,
}

impl Agent {
    /// Starts the process; not yet ready.
    pub(super) fn launch(program: &Path, room: &Arc<Room>, plan: Plan) -> io::Result<Agent> {
        let file = room.write(&format!("{}.json", plan.node), plan.config(room).to_string())?;
        let mut args = vec!["agent".into(), "-config-file".into(), file.into()];
        if plan.role == Role::Development {
            args.push("-dev".into());
        }
        let at = |port| SocketAddr::new(IpAddr::V4(plan.address), port);
        let (address, node, datacenter) = (at(plan.ports.api), plan.node, plan.datacenter);
        // A leader alone is too early: its own node is not in the catalogue yet. A client agent
        // is there when its gossip check is.
        let client = client(address, plan.papers.as_ref(), plan.master.as_deref());
        let client = client.patience(Duration::from_secs(2));
        let path = format!("/v1/health/node/{node}?dc={datacenter}");
        let probe = move || {
            client
                .get(&path)
                .is_ok_and(|answer| answer.status == 200 && answer.text().contains("serfHealth"))
        };
        let process = Process::start(room, node, program, args, probe)?;
        let (papers, master) = (plan.papers, plan.master);
        Ok(Agent { process, papers, address, dns: at(plan.ports.dns), node, datacenter, master })
    }

    /// Where its API listens: HTTP, with TLS HTTPS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its API as a base URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self.papers {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// Where its DNS listens, over UDP and TCP.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// The name of its node.
    #[must_use]
    pub fn node(&self) -> &'static str {
        self.node
    }

    /// Its datacenter.
    #[must_use]
    pub fn datacenter(&self) -> &'static str {
        self.datacenter
    }

    /// The token that may do everything, with access control.
    #[must_use]
    pub fn master(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// Its API, with everything that is needed to be let in.
    #[must_use]
    pub fn http(&self) -> Client {
        client(self.address, self.papers.as_ref(), self.master.as_deref())
    }

    /// Its API with this token; with none if it is empty.
    #[must_use]
    pub fn http_as(&self, token: &str) -> Client {
        client(self.address, self.papers.as_ref(), Some(token).filter(|token| !token.is_empty()))
    }

    /// Registers a service, as the agent's API takes it.
    ///
    /// # Errors
    /// It was refused, or the agent does not answer.
    pub fn register(&self, service: &Value) -> io::Result<()> {
        self.done("/v1/agent/service/register", service)
    }

    /// Sends a PUT that is to succeed.
    ///
    /// # Errors
    /// It was refused, or the agent does not answer.
    pub fn done(&self, path: &str, body: impl ToString) -> io::Result<()> {
        let answer = self.http().put(path, body)?;
        match answer.status {
            200 => Ok(()),
            status => Err(io::Error::other(format!("{path}: {status} {}", answer.text()))),
        }
    }
}

fn client(address: SocketAddr, papers: Option<&Papers>, token: Option<&str>) -> Client {
    let mut client = Client::new(address);
    if let Some(papers) = papers {
        client = client.over(papers.as_client());
    }
    if let Some(token) = token {
        client = client.with("X-Consul-Token", token);
    }
    client
}
