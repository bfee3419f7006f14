//! Discovery against the real thing: Consul, Redis, BIND and dnsmasq on loopback, calls answered by
//! the laboratory's servers. The facts about these servers that the client relies on are in
//! `tests/servers`; here is what comes of them. Each test ends what it started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

/// Makes a test per runtime of each function over `Subject`.
macro_rules! on_every_runtime {
    ($($name:ident)*) => { $(
        mod $name {
            use crate::subject::{AsyncStd, Blocking, Smol, Tokio};

            #[test]
            fn on_tokio() {
                super::$name::<Tokio>();
            }

            #[test]
            fn on_async_std() {
                super::$name::<AsyncStd>();
            }

            #[test]
            fn on_smol() {
                super::$name::<Smol>();
            }

            #[test]
            fn on_blocking() {
                super::$name::<Blocking>();
            }
        }
    )* };
}

#[path = "conformance/subject.rs"]
#[allow(dead_code)] // shared with the conformance suite, which uses all of it
mod subject;

#[path = "real/breakers.rs"]
mod breakers;
#[path = "real/catalogue.rs"]
mod catalogue;
#[path = "real/chaos.rs"]
mod chaos;
#[path = "real/consul.rs"]
mod consul;
#[path = "real/dns.rs"]
mod dns;
#[path = "real/mesh.rs"]
mod mesh;
#[path = "real/mesh_server.rs"]
mod mesh_server;
#[path = "real/redis.rs"]
mod redis;
