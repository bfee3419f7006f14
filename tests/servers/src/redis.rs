//! A Redis server: with a password, over TLS with client certificates, with a memory limit.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::pki::Papers;
use crate::ports;
use crate::process::Process;
use crate::resp::{Link, Value};
use crate::room::Room;
use crate::{attempts, must, tools};

/// How the server is to be. The default: no password, no TLS, no limit, forgets when it ends.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What `AUTH` expects.
    pub password: Option<String>,
    /// TLS only, and only with a certificate by the test's authority.
    pub tls: bool,
    /// As `maxmemory` takes it (`2mb`); the least recently used keys go (`allkeys-lru`).
    pub max_memory: Option<String>,
    /// Writes every change to its directory, and has it after a restart.
    pub durable: bool,
}

/// A running Redis.
pub struct Redis {
    /// The process: to pause, kill, restart.
    pub process: Process,
    /// Its certificates, with TLS.
    pub papers: Option<Papers>,
    address: SocketAddr,
    password: Option<String>,
}

/// Starts one and waits until it answers `PING`; `None` where Redis is not installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start(setup: &Setup) -> Option<Redis> {
    let program = tools::need("redis-server")?;
    Some(must("redis", attempts(|| launch(&program, setup))))
}

fn launch(program: &Path, setup: &Setup) -> io::Result<Redis> {
    let room = Arc::new(Room::new("redis")?);
    let port = ports::free(&[Ipv4Addr::LOCALHOST], 1)?[0];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let papers = match setup.tls {
        true => Some(Papers::issue(&room, &["localhost", "127.0.0.1"])?),
        false => None,
    };
    // The password in a file: arguments can be read by everybody on the machine.
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        "protected-mode yes".to_owned(),
        "save \"\"".to_owned(),
        format!("appendonly {}", if setup.durable { "yes" } else { "no" }),
        "appendfsync always".to_owned(),
        format!("dir {}", room.path().display()),
    ];
    if let Some(papers) = &papers {
        lines.push(format!("port 0\ntls-port {port}\ntls-auth-clients yes"));
        lines.push(format!("tls-cert-file {}", papers.server.display()));
        lines.push(format!("tls-key-file {}", papers.server_key.display()));
        lines.push(format!("tls-ca-cert-file {}", papers.authority.display()));
    } else {
        lines.push(format!("port {port}"));
    }
    if let Some(limit) = &setup.max_memory {
        lines.push(format!("maxmemory {limit}\nmaxmemory-policy allkeys-lru"));
    }
    if let Some(password) = &setup.password {
        lines.push(format!("requirepass {password}"));
    }
    let file = room.write("redis.conf", lines.join("\n") + "\n")?;

    let tls = papers.as_ref().map(Papers::as_client);
    let password = setup.password.clone();
    let probe = move || {
        let link = open(address, tls.as_ref(), password.as_deref(), Duration::from_secs(1));
        link.and_then(|mut link| link.call(&["PING"])).is_ok_and(|pong| pong != loading())
    };
    let mut process = Process::start(&room, "redis", program, vec![file.into()], probe)?;
    process.ready()?;
    Ok(Redis { process, papers, address, password: setup.password.clone() })
}

/// What a server says while it reads what it had written.
fn loading() -> Value {
    Value::Refused("LOADING Redis is loading the dataset in memory".to_owned())
}

fn open(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    password: Option<&str>,
    patience: Duration,
) -> io::Result<Link> {
    let mut link = Link::open(address, tls, patience)?;
    if let Some(password) = password {
        link.call(&["AUTH", password])?;
    }
    Ok(link)
}

impl Redis {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address with scheme and password, as clients take it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.papers.is_some() { "rediss" } else { "redis" };
        let host = if self.papers.is_some() { "localhost" } else { "127.0.0.1" };
        let user = self.password.as_ref().map_or_else(String::new, |word| format!(":{word}@"));
        format!("{scheme}://{user}{host}:{}/", self.address.port())
    }

    /// A connection with everything that is needed to be let in.
    ///
    /// # Errors
    /// No connection.
    pub fn link(&self) -> io::Result<Link> {
        let tls = self.papers.as_ref().map(Papers::as_client);
        open(self.address, tls.as_ref(), self.password.as_deref(), Duration::from_secs(5))
    }

    /// One command over a connection of its own.
    ///
    /// # Errors
    /// No connection, no reply in time, or no RESP.
    pub fn call(&self, words: &[&str]) -> io::Result<Value> {
        self.link()?.call(words)
    }
}
