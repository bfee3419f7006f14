//! `origin register` and `origin deregister`: a service at the agent of Consul, for scripts that
//! start one which cannot do that itself.

use std::time::Duration;

use origin_blocking::core::config::{
    CheckStatus, ConsulCheckConfig, ConsulCheckKind, IdRule, RegistrationConfig,
};
use origin_blocking::{Background, Client};

use crate::exit::{self, Refusal};
use crate::settings::Where;
use crate::{signal, span, text};

/// What is checked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// The agent requests --path.
    Http,
    /// The agent connects.
    Tcp,
    /// This command reports for as long as it runs; needs --keep.
    Ttl,
    /// Nothing.
    None,
}

/// The command line of `origin register`.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// Name of the service: a-z, 0-9 and inner hyphens.
    name: String,
    /// Its port.
    #[arg(long)]
    port: u16,
    /// Where it is reached. Default: the address of the agent's node.
    #[arg(long, value_name = "HOST", default_value = "")]
    address: String,
    /// Its id. Default: name, address if one is given, and port.
    #[arg(long)]
    id: Option<String>,
    /// A label. Can be repeated.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Metadata. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    /// What is checked.
    #[arg(long, value_enum, default_value = "http")]
    check: Check,
    /// Path of the HTTP check.
    #[arg(long, default_value = "/health")]
    path: String,
    /// From one check to the next.
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "10s")]
    interval: Duration,
    /// What it counts as until it was checked once.
    #[arg(long, value_name = "STATUS", value_parser = ["passing", "warning", "critical"])]
    status: Option<String>,
    /// Stay, report for a TTL check, register again what the agent forgets, and deregister when
    /// this is ended by a signal.
    #[arg(long)]
    keep: bool,
    /// How long the agent is waited for.
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "10s")]
    wait: Duration,
    #[command(flatten)]
    place: Where,
}

/// The command line of `origin deregister`.
#[derive(Debug, clap::Args)]
pub(crate) struct Deregister {
    /// Id of the registration at the agent, as `register` prints it.
    id: String,
    /// How long the agent is waited for.
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "10s")]
    wait: Duration,
    #[command(flatten)]
    place: Where,
}

fn late(wait: Duration) -> Refusal {
    Refusal::Unusable(
        format!("the agent has not answered within {wait:?}"),
        "see whether Consul can be reached; --wait gives it longer",
    )
}

pub(crate) fn register(args: &Register) -> Result<u8, Refusal> {
    let config = args.config()?;
    signal::heed();
    let client = client(&args.place)?;
    let consul = client.consul()?;
    let _background = background(&client)?;
    let registered = consul.register(&config)?;
    if !wait(args.wait, |within| registered.wait(within))? {
        return Ok(told_late(args.wait));
    }
    text::print(format!("{}\n", text::clean(registered.id())).as_bytes())?;
    if args.keep {
        while !signal::came_within(Duration::from_secs(1)) {}
        registered.leave(args.wait)?;
        exit::warn(&format!("{} is deregistered", registered.id()));
    }
    Ok(exit::OK)
}

pub(crate) fn deregister(args: &Deregister) -> Result<u8, Refusal> {
    signal::heed();
    let client = client(&args.place)?;
    let consul = client.consul()?;
    let _background = background(&client)?;
    // An agent lets an unknown id go as well; who gives a wrong one should hear of it.
    let known = consul.agent().services()?;
    if !known.keys().any(|id| **id == *args.id) {
        exit::say(
            &format!("no service with the id {:?} is registered at this agent", args.id),
            "ask the agent it was registered at; `origin register` prints the id",
        );
        return Ok(exit::UNKNOWN_SERVICE);
    }
    if !wait(args.wait, |within| consul.remove_foreign(&args.id, within))? {
        return Ok(told_late(args.wait));
    }
    Ok(exit::OK)
}

/// A client that knows an agent.
fn client(place: &Where) -> Result<Client, Refusal> {
    let config = place.read()?.config;
    let consul = config.discovery.as_ref().and_then(|one| one.consul.as_ref());
    if consul.is_none_or(|consul| !consul.enabled) {
        return Err(Refusal::Usage(
            "no agent of Consul is known".to_owned(),
            "give --consul URL (or ORIGIN_CONSUL), or [discovery.consul] in a file",
        ));
    }
    Ok(place.builder(config)?.build()?)
}

fn told_late(wait: Duration) -> u8 {
    let _ = late(wait).told();
    exit::DEADLINE
}

fn background(client: &Client) -> Result<Background, Refusal> {
    client.background().map_err(|error| {
        Refusal::Unusable(format!("a thread cannot start: {error}"), "free some memory")
    })
}

/// Waits in short pieces, so that a signal ends it.
fn wait(
    within: Duration,
    mut goal: impl FnMut(Duration) -> Result<bool, origin_blocking::Error>,
) -> Result<bool, Refusal> {
    let began = std::time::Instant::now();
    loop {
        let left = within.saturating_sub(began.elapsed());
        if goal(left.min(Duration::from_millis(200)))? {
            return Ok(true);
        }
        if left.is_zero() || signal::came() {
            return Ok(false);
        }
    }
}

impl Register {
    fn config(&self) -> Result<RegistrationConfig, Refusal> {
        if self.check == Check::Ttl && !self.keep {
            return Err(Refusal::Usage(
                "a TTL check needs somebody who reports".to_owned(),
                "add --keep, or check by http or tcp",
            ));
        }
        let status = self.status.as_deref().map(|word| match word {
            "passing" => CheckStatus::Passing,
            "warning" => CheckStatus::Warning,
            _ => CheckStatus::Critical,
        });
        let check = |kind| ConsulCheckConfig {
            path: self.path.clone(),
            interval: self.interval,
            timeout: ConsulCheckConfig::default().timeout.min(self.interval),
            status,
            ..ConsulCheckConfig::of(kind)
        };
        let mut config = RegistrationConfig {
            name: self.name.clone(),
            // Ids are the agent's own, so name and port tell apart what is on its node.
            id: match &self.id {
                Some(id) => IdRule::Given(id.clone()),
                None if self.address.is_empty() => {
                    IdRule::Given(format!("{}-{}", self.name, self.port))
                }
                None => IdRule::HostPort,
            },
            address: self.address.clone(),
            port: self.port,
            tags: self.tag.clone(),
            checks: match self.check {
                Check::Http => vec![check(ConsulCheckKind::Http)],
                Check::Tcp => vec![check(ConsulCheckKind::Tcp)],
                Check::Ttl => vec![check(ConsulCheckKind::Ttl)],
                Check::None => Vec::new(),
            },
            ..RegistrationConfig::default()
        };
        for meta in &self.meta {
            let (key, value) = meta.split_once('=').ok_or_else(|| {
                Refusal::Usage("a --meta has no =".to_owned(), "write --meta KEY=VALUE")
            })?;
            config.meta.insert(key.to_owned(), value.to_owned());
        }
        Ok(config)
    }
}
