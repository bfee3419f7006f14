//! Discovery and secrets against the real thing: Consul, Redis, RustyVault, BIND and dnsmasq on
//! loopback, calls answered by the laboratory's servers. The facts about these servers that the
//! client relies on are in `tests/servers`; here is what comes of them. Each test ends what it
//! started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[macro_use] // on_every_runtime, on_every_async_runtime
extern crate origin_tests;

#[path = "conformance/subject.rs"]
#[allow(dead_code)] // shared with the conformance suite, which uses all of it
mod subject;

#[path = "real/agents.rs"]
mod agents;
#[path = "real/answers.rs"]
mod answers;
#[path = "real/breakers.rs"]
mod breakers;
#[path = "real/catalogue.rs"]
mod catalogue;
#[path = "real/chaos.rs"]
mod chaos;
#[path = "real/consistency.rs"]
mod consistency;
#[path = "real/consul.rs"]
mod consul;
#[path = "real/dns.rs"]
mod dns;
#[path = "real/files.rs"]
mod files;
#[path = "real/many.rs"]
mod many;
#[path = "real/mesh.rs"]
mod mesh;
#[path = "real/mesh_server.rs"]
mod mesh_server;
#[path = "real/redis.rs"]
mod redis;
#[path = "real/vault.rs"]
mod vault;
