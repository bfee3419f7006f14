//! Where the commands that show a state take it from: a client of their own that asks endpoints how
//! they are, or what another process says of itself, as a file or at a URL. And how a state is read:
//! one word for a service, one for an endpoint.

use std::fs;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use origin_blocking::core::policy::breaker::State as Breaker;
use origin_blocking::core::policy::health::Status;
use origin_blocking::core::snapshot::{EndpointSnapshot, ServiceSnapshot};
use origin_blocking::{Background, Client, Health, Snapshot, Upstream};

use crate::exit::Refusal;
use crate::settings::{Where, check_health, known};
use crate::{signal, span};

/// How often an own client is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// The service that stands for another process.
const OTHER: &str = "snapshot";

/// The flags that say whose state it is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Whose {
    /// The state of another process: its snapshot as JSON, in a file, at a URL, or - for stdin.
    /// Without it a client of this command's own asks every endpoint how it is.
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) from: Option<String>,
    /// How long discovery and the first health checks are waited for.
    #[arg(long, value_name = "SPAN", value_parser = span::parse, default_value = "5s")]
    pub(crate) wait: Duration,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Whose state it is.
pub(crate) enum Source {
    Own { client: Client, _background: Background },
    Url { upstream: Upstream, path: String },
    File(String),
}

impl Whose {
    /// Opens the source; an own client has begun to look around then.
    pub(crate) fn open(&self) -> Result<Source, Refusal> {
        match self.from.as_deref() {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                let after = url.find("://").map_or(0, |at| at + 3);
                let path = url.get(after..).and_then(|rest| rest.find('/')).map(|at| at + after);
                let (base, path) = url.split_at(path.unwrap_or(url.len()));
                let builder = self.place.builder(origin_blocking::Config::default())?;
                let client = builder.endpoint(OTHER, base).timeout(self.wait).build()?;
                let path = if path.is_empty() { "/" } else { path }.to_owned();
                Ok(Source::Url { upstream: client.service(OTHER)?, path })
            }
            Some(file) => Ok(Source::File(file.to_owned())),
            None => {
                let mut config = self.place.read()?.config;
                known(&config)?;
                check_health(&mut config);
                let consul = config.discovery.as_ref().and_then(|one| one.consul.as_ref());
                let consul = consul.is_some_and(|consul| consul.enabled);
                let client = self.place.builder(config)?.build()?;
                let _background = client.background().map_err(|error| {
                    Refusal::Unusable(format!("a thread cannot start: {error}"), "free some memory")
                })?;
                // Consul is asked about one service at a time; here all of them are wanted.
                if consul {
                    for name in client.consul()?.catalogue().services()?.keys() {
                        let _ = client.service(name);
                    }
                }
                Ok(Source::Own { client, _background })
            }
        }
    }
}

impl Source {
    /// The state now.
    pub(crate) fn look(&self) -> Result<Snapshot, Refusal> {
        match self {
            Source::Own { client, .. } => {
                let snapshot = client.snapshot();
                // Those that nobody has asked for are not checked.
                for service in &snapshot.services {
                    let _ = client.service(&service.name);
                }
                Ok(snapshot)
            }
            Source::Url { upstream, path } => {
                let reply = upstream.get(path).send()?.ok()?;
                parse(reply.bytes(), path)
            }
            Source::File(name) if name == "-" => {
                let mut bytes = Vec::new();
                let read = io::stdin().lock().read_to_end(&mut bytes);
                read.map_err(|error| Refusal::file("stdin", &error))?;
                parse(&bytes, "stdin")
            }
            Source::File(name) => {
                let bytes = fs::read(name).map_err(|error| Refusal::file(name, &error))?;
                parse(&bytes, name)
            }
        }
    }

    /// The state as soon as it is complete, or after so long. An own client knows nothing before
    /// discovery has answered and every endpoint was checked once.
    pub(crate) fn settled(&self, within: Duration) -> Result<Snapshot, Refusal> {
        let began = Instant::now();
        loop {
            let snapshot = self.look()?;
            let own = matches!(self, Source::Own { .. });
            let over = !own || is_settled(&snapshot) || began.elapsed() >= within;
            if over || signal::came_within(LOOK) {
                return Ok(snapshot);
            }
        }
    }
}

/// How much of a state is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Discovery has answered, or failed.
    Discovered,
    /// Every endpoint has said how it is as well.
    Settled,
}

/// What was asked for.
pub(crate) struct Picked {
    /// With these services only.
    pub(crate) snapshot: Snapshot,
    /// The first that was asked for and is not known.
    unknown: Option<String>,
}

impl Picked {
    /// Whether nothing of it is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.unknown.is_some() && self.snapshot.services.is_empty()
    }

    /// Refuses what is not known, after the rest was shown.
    pub(crate) fn all_known(&self) -> Result<(), Refusal> {
        self.unknown.clone().map_or(Ok(()), |name| Err(Refusal::Unknown(name)))
    }
}

impl Whose {
    /// These services, or all if none is named.
    pub(crate) fn pick(&self, names: &[String], until: Until) -> Result<Picked, Refusal> {
        let source = self.open()?;
        let mut snapshot = match until {
            Until::Discovered => discovered(|| source.look(), self.wait)?,
            Until::Settled => source.settled(self.wait)?,
        };
        sighted(&snapshot)?;
        let unknown = names.iter().find(|name| snapshot.service(name).is_none()).cloned();
        if !names.is_empty() {
            snapshot.services.retain(|one| names.iter().any(|name| **name == *one.name));
        }
        Ok(Picked { snapshot, unknown })
    }
}

/// The state as soon as discovery has answered or failed, or after so long.
pub(crate) fn discovered(
    look: impl Fn() -> Result<Snapshot, Refusal>,
    within: Duration,
) -> Result<Snapshot, Refusal> {
    let began = Instant::now();
    loop {
        let snapshot = look()?;
        if told(&snapshot) || began.elapsed() >= within || signal::came_within(LOOK) {
            return Ok(snapshot);
        }
    }
}

fn told(snapshot: &Snapshot) -> bool {
    snapshot.discovery.iter().all(|source| source.level.is_some() || source.failures > 0)
}

fn parse(bytes: &[u8], name: &str) -> Result<Snapshot, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::Unusable(
            format!("{name}: is no snapshot: {error}"),
            "give what `serde_json::to_string(&client.snapshot())` or `origin status --json` makes",
        )
    })
}

/// Whether discovery has said something, and every endpoint was asked.
fn is_settled(snapshot: &Snapshot) -> bool {
    let endpoints = || snapshot.services.iter().flat_map(|service| &service.endpoints);
    told(snapshot) && endpoints().all(|endpoint| endpoint.health != Status::Unknown)
}

/// Refuses a state of which discovery knows nothing.
pub(crate) fn sighted(snapshot: &Snapshot) -> Result<(), Refusal> {
    let all = &snapshot.discovery;
    let known = all.iter().any(|source| source.level.is_some());
    if all.is_empty() || known {
        return Ok(());
    }
    let reasons = all.iter().map(|source| {
        let why = source.last_error.as_deref().unwrap_or("no answer yet");
        format!("{}: {why}", source.source)
    });
    Err(Refusal::Blind(reasons.collect::<Vec<_>>().join("; ")))
}

/// How a service is: what its calls have shown, or where there were none, what its checks say.
pub(crate) fn health_of(service: &ServiceSnapshot) -> Health {
    if service.health != Health::Unknown {
        return service.health;
    }
    let all = &service.endpoints;
    if all.is_empty() {
        return Health::Unhealthy;
    }
    let count = |status| all.iter().filter(|one| one.health == status).count();
    if count(Status::Unknown) == all.len() {
        return Health::Unknown;
    }
    if count(Status::Unhealthy) == all.len() {
        return Health::Unhealthy;
    }
    // A backup that nobody needs does not make a service degraded.
    let first = all.first().map(|one| &one.cluster);
    let well = |one: &&EndpointSnapshot| one.health == Status::Healthy;
    let preferred = all.iter().filter(|one| Some(&one.cluster) == first);
    if preferred.clone().count() == preferred.filter(well).count() {
        Health::Healthy
    } else {
        Health::Degraded
    }
}

/// A word for it.
pub(crate) const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
    }
}

/// Why an endpoint is not simply in use, the strongest reason first; `None`: it is.
pub(crate) fn trouble_of(endpoint: &EndpointSnapshot) -> Option<&'static str> {
    match endpoint.breaker {
        Breaker::Open { .. } => return Some("open"),
        Breaker::HalfOpen { out: 1.., .. } => return Some("probing"),
        Breaker::HalfOpen { .. } => return Some("half-open"),
        Breaker::Closed => {}
    }
    if endpoint.ejected_for.is_some() {
        return Some("ejected");
    }
    match endpoint.health {
        Status::Unhealthy => return Some("unhealthy"),
        Status::Degraded => return Some("degraded"),
        _ => {}
    }
    if endpoint.suspect {
        return Some("silent");
    }
    if endpoint.consecutive_failures > 0 {
        return Some("failing");
    }
    None
}
