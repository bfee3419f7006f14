//! What an agent is told in its configuration file.

use std::io;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::pki::Papers;
use crate::ports;
use crate::room::Room;

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A server alone, everything in memory, fast.
    Development,
    /// A server among so many, with its data on disk.
    Server { expect: u8 },
    /// No server: asks those of its datacenter.
    Client,
}

/// The ports of an agent; in a cluster the same on every address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// HTTP or HTTPS.
    pub api: u16,
    pub dns: u16,
    pub server: u16,
    pub lan: u16,
    pub wan: u16,
    pub grpc: u16,
}

impl Ports {
    pub(super) fn choose(addresses: &[Ipv4Addr]) -> io::Result<Ports> {
        let free = ports::free(addresses, 6)?;
        let [api, dns, server, lan, wan, grpc] = free[..] else {
            return Err(io::Error::other("six ports were asked for"));
        };
        Ok(Ports { api, dns, server, lan, wan, grpc })
    }
}

/// Everything an agent is.
pub(super) struct Plan {
    pub node: &'static str,
    pub address: Ipv4Addr,
    pub datacenter: &'static str,
    pub role: Role,
    pub ports: Ports,
    /// Access control with this token for everything.
    pub master: Option<String>,
    /// HTTPS only, with these.
    pub papers: Option<Papers>,
    pub extra: Option<Value>,
}

impl Plan {
    /// The configuration file.
    pub(super) fn config(&self, room: &Room) -> Value {
        let Plan { node, address, datacenter, ports, .. } = self;
        let (http, https) =
            if self.papers.is_some() { (-1, ports.api.into()) } else { (i32::from(ports.api), -1) };
        let mut config = json!({
            "node_name": node,
            "datacenter": datacenter,
            "bind_addr": address,
            "client_addr": address,
            "advertise_addr": address,
            "advertise_addr_wan": address,
            "ports": {
                "http": http, "https": https, "dns": ports.dns, "server": ports.server,
                "serf_lan": ports.lan, "serf_wan": ports.wan, "grpc": ports.grpc,
            },
            "connect": { "enabled": true },
            "dns_config": { "service_ttl": { "*": "1s" } },
            // Changes of a check's output are passed on at once, not after five minutes.
            "check_update_interval": "1s",
            "enable_local_script_checks": true,
            "disable_update_check": true,
            "disable_remote_exec": true,
            // Killed or stopped, it comes back: it does not take leave of the others.
            "leave_on_terminate": false,
            "skip_leave_on_interrupt": true,
            "log_level": "info",
        });
        if self.role != Role::Development {
            merge(
                &mut config,
                &json!({
                    "data_dir": room.file(node),
                    "server": self.role != Role::Client,
                    "performance": { "raft_multiplier": 1 },
                    // A fault is noticed in about a second.
                    "gossip_lan": {
                        "gossip_interval": "100ms", "probe_interval": "500ms",
                        "probe_timeout": "200ms", "suspicion_mult": 3,
                    },
                }),
            );
        }
        if let Role::Server { expect } = self.role {
            merge(&mut config, &json!({ "bootstrap_expect": expect }));
        }
        if let Some(papers) = &self.papers {
            merge(
                &mut config,
                &json!({
                    "verify_incoming": true,
                    "verify_outgoing": true,
                    "verify_server_hostname": true,
                    "ca_file": papers.authority,
                    "cert_file": papers.server,
                    "key_file": papers.server_key,
                }),
            );
        }
        if let Some(master) = &self.master {
            merge(
                &mut config,
                &json!({
                    "primary_datacenter": "dc1",
                    "acl": {
                        "enabled": true,
                        "default_policy": "deny",
                        "down_policy": "extend-cache",
                        // What an agent that is no server remembers of a token.
                        "token_ttl": "1s",
                        "policy_ttl": "1s",
                        "enable_token_replication": true,
                        "tokens": { "agent": master, "replication": master },
                    },
                }),
            );
            if self.role != Role::Client {
                merge(&mut config, &json!({ "acl": { "tokens": { "master": master } } }));
            }
        }
        if let Some(extra) = &self.extra {
            merge(&mut config, extra);
        }
        config
    }
}

/// Puts `extra` over `config`: objects key by key, anything else whole.
pub(super) fn merge(config: &mut Value, extra: &Value) {
    match (config, extra) {
        (Value::Object(config), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(config.entry(key).or_insert(Value::Null), value);
            }
        }
        (config, extra) => *config = extra.clone(),
    }
}
