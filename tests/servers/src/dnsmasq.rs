//! dnsmasq: SRV records and addresses from its arguments, no upstream servers.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::dns::{self, Kind, Srv};
use crate::ports;
use crate::process::Process;
use crate::room::Room;
use crate::{attempts, must, tools};

/// What the server knows. It refuses every other name.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Names with their SRV records.
    pub services: Vec<(String, Srv)>,
    /// Hosts with their addresses.
    pub hosts: Vec<(String, Ipv4Addr)>,
}

/// A running dnsmasq; every record lives 1 s.
pub struct Dnsmasq {
    /// The process: to pause, kill, restart.
    pub process: Process,
    address: SocketAddr,
}

/// Starts one and waits until it answers; `None` where dnsmasq is not installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start(setup: &Setup) -> Option<Dnsmasq> {
    let program = tools::need("dnsmasq")?;
    Some(must("dnsmasq", attempts(|| launch(&program, setup))))
}

fn launch(program: &Path, setup: &Setup) -> io::Result<Dnsmasq> {
    let room = Arc::new(Room::new("dnsmasq")?);
    let port = ports::free(&[Ipv4Addr::LOCALHOST], 1)?[0];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let probe = move || dns::ask(address, "ready.test", Kind::A, false).is_ok_and(|a| a.code == 0);
    let mut process = Process::start(&room, "dnsmasq", program, args(port, setup), probe)?;
    process.ready()?;
    Ok(Dnsmasq { process, address })
}

fn args(port: u16, setup: &Setup) -> Vec<OsString> {
    let mut args: Vec<OsString> = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--local-ttl=1",
        "--cache-size=0",
        "--log-queries",
        "--log-facility=-",
        "--pid-file=",
        // Started as root it would become another user of another group, and at that the kernel
        // forgets that it is to end with us.
        "--user=root",
        "--group=root",
        "--host-record=ready.test,127.0.0.1",
    ]
    .map(OsString::from)
    .to_vec();
    args.push(format!("--port={port}").into());
    for (name, Srv { priority, weight, port, target }) in &setup.services {
        args.push(format!("--srv-host={name},{target},{port},{priority},{weight}").into());
    }
    for (name, address) in &setup.hosts {
        args.push(format!("--host-record={name},{address}").into());
    }
    args
}

impl Dnsmasq {
    /// Where it listens, over UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Restarts it, on the same port, with other records.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub fn restart_with(&mut self, setup: &Setup) -> io::Result<()> {
        self.process.set_args(args(self.address.port(), setup));
        self.process.restart()
    }
}
