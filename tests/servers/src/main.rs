//! `cargo run -p origin-servers -- redis --password secret`: starts a server, prints what it is
//! reached by as `KEY=VALUE` lines, and ends it on Ctrl-C.

// This is a program of the command line.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;

use origin_servers::consul::{self, Agent, ClusterSetup};
use origin_servers::dns::Srv;
use origin_servers::pki::Papers;
use origin_servers::vault::{self, Tls};
use origin_servers::{bind, dnsmasq, redis};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: cargo run -p origin-servers -- SERVER

  consul  [--acl] [--tls] [--durable]    one agent
  cluster [--acl] [--second]             three servers, a client agent, a second datacenter
  redis   [--password WORD] [--tls] [--max-memory 50mb] [--durable]
  vault   [--tls | --mtls]               RustyVault, unsealed
  bind                                   zone test., changed by nsupdate
  dnsmasq                                SRV records of _web._tcp.test

Prints KEY=VALUE lines when it is ready; Ctrl-C ends it. Missing servers: .ci/servers";

/// The words after the name of the server.
struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|word| word == name)?;
        (at + 1 < self.0.len()).then(|| self.0.drain(at..at + 2).nth(1)).flatten()
    }

    /// Whether nothing is left that nobody asked for.
    fn done(&self) -> bool {
        self.0.is_empty()
    }
}

fn main() -> ExitCode {
    let mut words = Words(std::env::args().skip(1).collect());
    let server = if words.0.is_empty() { String::new() } else { words.0.remove(0) };
    match server.as_str() {
        "consul" => {
            let setup = consul::Setup {
                acl: words.flag("--acl"),
                tls: words.flag("--tls"),
                durable: words.flag("--durable"),
                extra: None,
            };
            run(&words, || consul::start(&setup), |agent| show_agent("", agent))
        }
        "cluster" => {
            let setup = ClusterSetup { acl: words.flag("--acl"), second: words.flag("--second") };
            run(
                &words,
                || consul::cluster(&setup),
                |cluster| {
                    let all =
                        cluster.servers.iter().chain([&cluster.client]).chain(&cluster.second);
                    for agent in all {
                        show_agent(&format!("{}_", agent.node().to_uppercase()), agent);
                    }
                },
            )
        }
        "redis" => {
            let setup = redis::Setup {
                password: words.value("--password"),
                tls: words.flag("--tls"),
                max_memory: words.value("--max-memory"),
                durable: words.flag("--durable"),
            };
            run(
                &words,
                || redis::start(&setup),
                |redis| {
                    println!("URL={}", redis.url());
                    println!("ADDRESS={}", redis.address());
                    show_papers("", redis.papers.as_ref());
                    show("", redis.process.id(), redis.process.directory());
                },
            )
        }
        "vault" => {
            let (server, mutual) = (words.flag("--tls"), words.flag("--mtls"));
            let tls = match (server, mutual) {
                (_, true) => Tls::Mutual,
                (true, _) => Tls::Server,
                _ => Tls::None,
            };
            run(
                &words,
                || vault::start(&vault::Setup { tls }),
                |vault| {
                    println!("URL={}", vault.url());
                    println!("TOKEN={}", vault.root());
                    show_papers("", vault.papers.as_ref());
                    show("", vault.process.id(), vault.process.directory());
                },
            )
        }
        "bind" => run(&words, bind::start, |bind| {
            println!("ADDRESS={}", bind.address());
            println!("KEY={}", bind.key().display());
            show("", bind.process.id(), bind.process.directory());
        }),
        "dnsmasq" => {
            let web = |priority, weight, port, target| {
                ("_web._tcp.test".to_owned(), Srv::new(priority, weight, port, target))
            };
            let host = |name: &str, last| (name.to_owned(), Ipv4Addr::new(127, 0, 0, last));
            let setup = dnsmasq::Setup {
                services: vec![web(10, 60, 8001, "a.test"), web(20, 100, 8002, "b.test")],
                hosts: vec![host("a.test", 1), host("b.test", 2)],
            };
            run(
                &words,
                || dnsmasq::start(&setup),
                |dnsmasq| {
                    println!("ADDRESS={}", dnsmasq.address());
                    show("", dnsmasq.process.id(), dnsmasq.process.directory());
                },
            )
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// Starts, shows, waits to be told to end; the server ends when it is dropped.
fn run<S>(words: &Words, start: impl FnOnce() -> Option<S>, show: impl FnOnce(&S)) -> ExitCode {
    if !words.done() {
        return usage();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    // Listening to signals before there is anything to clean up after.
    let signals = runtime.block_on(async {
        Some((signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?))
    });
    let Some((mut interrupt, mut terminate)) = signals else { return ExitCode::FAILURE };
    let Some(server) = start() else { return ExitCode::FAILURE };
    show(&server);
    println!("READY=1");
    runtime.block_on(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    ExitCode::SUCCESS
}

fn show(prefix: &str, id: Option<u32>, directory: &Path) {
    println!("{prefix}PID={}", id.unwrap_or_default());
    println!("{prefix}DIR={}", directory.display());
}

fn show_agent(prefix: &str, agent: &Agent) {
    println!("{prefix}URL={}", agent.url());
    println!("{prefix}DNS={}", agent.dns());
    println!("{prefix}NODE={}", agent.node());
    println!("{prefix}DATACENTER={}", agent.datacenter());
    if let Some(token) = agent.master() {
        println!("{prefix}TOKEN={token}");
    }
    show_papers(prefix, agent.papers.as_ref());
    show(prefix, agent.process.id(), agent.process.directory());
}

fn show_papers(prefix: &str, papers: Option<&Papers>) {
    if let Some(papers) = papers {
        println!("{prefix}CA={}", papers.authority.display());
        println!("{prefix}CERT={}", papers.client.display());
        println!("{prefix}CERT_KEY={}", papers.client_key.display());
    }
}
