//! Where the tool takes its configuration from, and which of several wins: the defaults, then the
//! file, then the environment, then the command line. Each is a layer of the same keys, so that the
//! same mistakes are refused in all of them, and every value can be traced to who has said it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use origin_blocking::core::config::CheckKind;
use origin_blocking::{Builder, Client, Config, Identity, Roots};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::exit::Refusal;

/// The file that is read where none is named.
const USUAL: &str = "origin.toml";
/// What variables for any key begin with.
const PREFIX: &str = "ORIGIN__";
/// From one check of an endpoint to the next, where only this tool has asked for them.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) const ORDER: &str = "\
Configuration, from weak to strong:
  1  the defaults (`origin check-config --effective` shows them)
  2  a file: --config FILE, else $ORIGIN_CONFIG, else ./origin.toml if
     there is one
  3  the environment: ORIGIN__POLICY__DEADLINE__TOTAL=5s for any key,
     ORIGIN_DISCOVERY, ORIGIN_CONSUL and ORIGIN_LOCAL_CLUSTER for the
     usual ones
  4  the command line: --set policy.deadline.total=5s for any key,
     --discovery, --consul, --local and so on for the usual ones";

/// The flags that every command has which talks to services.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Where {
    /// Configuration file (or ORIGIN_CONFIG; else ./origin.toml if there is one).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any key of the configuration: --set policy.deadline.total=5s. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// URL of the discovery document (or ORIGIN_DISCOVERY).
    #[arg(long, value_name = "URL")]
    pub(crate) discovery: Option<String>,
    /// URL of a Consul agent (or ORIGIN_CONSUL). Can be repeated.
    #[arg(long, value_name = "URL")]
    consul: Vec<String>,
    /// Name of the cluster this machine is in: tried first (or ORIGIN_LOCAL_CLUSTER).
    #[arg(long, value_name = "NAME")]
    local: Option<String>,
    /// Trust the certificate authorities in this PEM file and no others.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate of this client, PEM; with --key.
    #[arg(id = "tls_cert", long = "cert", value_name = "FILE", requires = "tls_key")]
    cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(id = "tls_key", long = "key", value_name = "FILE", requires = "tls_cert")]
    key: Option<PathBuf>,
}

/// Who has said a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(String, usize),
    Variable(String),
    Flag(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(name, line) => write!(f, "{name}:{line}"),
            Source::Variable(name) => write!(f, "${name}"),
            Source::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One key of a layer above the file.
struct Said {
    source: Source,
    path: Vec<String>,
    value: Value,
}

/// The configuration as it came together.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// By key, who has said it last. Keys are as in `keys_of`.
    pub(crate) origins: BTreeMap<String, Source>,
}

impl Where {
    /// Puts the layers together.
    pub(crate) fn read(&self) -> Result<Settings, Refusal> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let named = self.config.clone().or_else(|| variable("ORIGIN_CONFIG").map(PathBuf::from));
        let usual = || Some(PathBuf::from(USUAL)).filter(|path| path.is_file());
        let (mut table, mut origins) = (Table::new(), BTreeMap::new());
        if let Some(path) = named.or_else(usual) {
            let name = path.display().to_string();
            let text = read(&path)?;
            Config::from_toml(&text).map_err(|error| {
                // The place as editors and terminals understand it.
                let line = error.field.strip_prefix("origin.toml line ");
                let field = line.map_or(error.field.clone(), |line| format!("{name}:{line}"));
                Refusal::config(field, error.reason)
            })?;
            origins.extend(
                lines_of(&text)
                    .into_iter()
                    .map(|(key, line)| (key, Source::File(name.clone(), line))),
            );
            table = text.parse().map_err(|_| Refusal::config(name.clone(), "is not TOML"))?;
        }
        for Said { source, path, value } in self.said(variable)? {
            let key = key_of(&path);
            put(&mut table, &path, value)
                .and_then(|()| of_table(&table).map(drop))
                .map_err(|reason| Refusal::config(source.to_string(), reason))?;
            let below = format!("{key}.");
            origins.retain(|known, _| *known != key && !known.starts_with(&below));
            origins.insert(key, source);
        }
        let config = of_table(&table).map_err(|reason| Refusal::config("configuration", reason))?;
        Ok(Settings { config, origins })
    }

    /// What the environment says, then what the command line says.
    fn said(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Said>, Refusal> {
        let mut said = Vec::new();
        let mut variables: Vec<(String, String)> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        variables.sort();
        for (name, value) in variables {
            let path = name[PREFIX.len()..].to_lowercase().split("__").map(str::to_owned).collect();
            said.push(Said { source: Source::Variable(name), path, value: value_of(&value) });
        }
        let text = |value: &str| Value::String(value.to_owned());
        let list = |values: &[String]| Value::Array(values.iter().map(|one| text(one)).collect());
        let usual = |source, path: &[&str], value| {
            let path = path.iter().map(|part| (*part).to_owned()).collect();
            Said { source, path, value }
        };
        const DISCOVERY: &[&str] = &["discovery", "url"];
        const CONSUL: &[&str] = &["discovery", "consul", "urls"];
        const LOCAL: &[&str] = &["local_cluster"];
        let from = |name: &str| Source::Variable(name.to_owned());
        if let Some(url) = variable("ORIGIN_DISCOVERY") {
            said.push(usual(from("ORIGIN_DISCOVERY"), DISCOVERY, text(&url)));
        }
        if let Some(urls) = variable("ORIGIN_CONSUL") {
            let urls: Vec<String> = urls.split(',').map(|url| url.trim().to_owned()).collect();
            said.push(usual(from("ORIGIN_CONSUL"), CONSUL, list(&urls)));
        }
        if let Some(name) = variable("ORIGIN_LOCAL_CLUSTER") {
            said.push(usual(from("ORIGIN_LOCAL_CLUSTER"), LOCAL, text(&name)));
        }
        let flag = |name: &str| Source::Flag(name.to_owned());
        for one in &self.set {
            let (key, value) = one.split_once('=').ok_or_else(|| {
                // Not the text itself: without a key it may be anything.
                Refusal::Usage("a --set has no =".to_owned(), "write --set KEY=VALUE")
            })?;
            let source = Source::Flag(format!("--set {key}"));
            let path = path_of(key).ok_or_else(|| {
                Refusal::Usage(
                    format!("{key:?} is not a key"),
                    "write it as in origin.toml: policy.deadline.total",
                )
            })?;
            said.push(Said { source, path, value: value_of(value) });
        }
        if let Some(url) = &self.discovery {
            said.push(usual(flag("--discovery"), DISCOVERY, text(url)));
        }
        if !self.consul.is_empty() {
            said.push(usual(flag("--consul"), CONSUL, list(&self.consul)));
        }
        if let Some(name) = &self.local {
            said.push(usual(flag("--local"), LOCAL, text(name)));
        }
        Ok(said)
    }

    /// A builder of the client that this describes.
    pub(crate) fn builder(&self, config: Config) -> Result<Builder, Refusal> {
        let mut builder = Client::builder().config(config);
        if let Some(path) = &self.ca {
            let name = path.display().to_string();
            let pem = fs::read(path).map_err(|error| Refusal::file(&name, &error))?;
            builder = builder.roots(Roots::Pem(pem));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            builder = builder.identity(Identity::files(cert, key)?);
        }
        Ok(builder)
    }

    /// The same, of a client that has to know where services are.
    pub(crate) fn client(&self) -> Result<Builder, Refusal> {
        let Settings { config, .. } = self.read()?;
        known(&config)?;
        self.builder(config)
    }
}

/// Refuses a configuration that says of no service where it is.
pub(crate) fn known(config: &Config) -> Result<(), Refusal> {
    if config.says_where() {
        return Ok(());
    }
    Err(Refusal::Usage(
        "it is not known where services are".to_owned(),
        "give --discovery URL (or ORIGIN_DISCOVERY), --consul URL, --config FILE, or endpoints",
    ))
}

/// Turns health checks on where nobody has: for commands that say how services are.
pub(crate) fn check_health(config: &mut Config) {
    let own = config.services.values_mut().filter_map(|service| service.policy.as_mut());
    for policy in own.chain([&mut config.policy]) {
        if policy.checks.kind == CheckKind::Off {
            policy.checks.kind = CheckKind::Http;
            policy.checks.interval = LOOK_AGAIN;
            policy.checks.no_traffic_interval = Some(LOOK_AGAIN);
            // Somebody waits for the answer; nobody is spared or burdened because of it.
            (policy.checks.healthy_threshold, policy.checks.unhealthy_threshold) = (1, 1);
        }
    }
}

fn read(path: &Path) -> Result<String, Refusal> {
    fs::read_to_string(path).map_err(|error| Refusal::file(&path.display().to_string(), &error))
}

fn of_table(table: &Table) -> Result<Config, String> {
    let text = toml::to_string(table).map_err(|error| error.to_string())?;
    Config::from_toml(&text).map_err(|error| error.reason)
}

/// A value as it stands in TOML; what is no TOML is a text.
fn value_of(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>().ok();
    // One that is written over several lines has said more than a value.
    let only = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("v"));
    only.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The parts of a key as TOML has it: `services."a.b".policy`.
fn path_of(key: &str) -> Option<Vec<String>> {
    let mut table: Table = format!("{key} = 0").parse().ok()?;
    let mut path = Vec::new();
    loop {
        let (name, value) = std::mem::take(&mut table).into_iter().next()?;
        path.push(name);
        match value {
            Value::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// The key of a path, as it is shown and compared.
pub(crate) fn key_of(path: &[String]) -> String {
    let bare = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        !part.is_empty() && part.chars().all(plain)
    };
    let parts = path.iter().map(|part| if bare(part) { part.clone() } else { format!("{part:?}") });
    parts.collect::<Vec<_>>().join(".")
}

fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Err("is empty".to_owned()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| format!("{first} is not a table"))?;
            put(inner, rest, value)
        }
    }
}

/// The line of every value in the file, by its key.
fn lines_of(text: &str) -> Vec<(String, usize)> {
    fn walk(
        table: &DeTable<'_>,
        path: &mut Vec<String>,
        text: &str,
        found: &mut Vec<(String, usize)>,
    ) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            match value.get_ref() {
                DeValue::Table(inner) => walk(inner, path, text, found),
                _ => found.push((key_of(path), line_at(text, name))),
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    if let Ok(document) = DeTable::parse(text) {
        walk(document.get_ref(), &mut Vec::new(), text, &mut found);
    }
    found
}

fn line_at<T>(text: &str, spanned: &Spanned<T>) -> usize {
    text.bytes().take(spanned.span().start).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_keys_are_read_as_in_the_file() {
        assert_eq!(value_of("5s"), Value::String("5s".into()));
        assert_eq!(value_of("3"), Value::Integer(3));
        assert_eq!(value_of("[502]"), Value::Array(vec![Value::Integer(502)]));
        assert_eq!(value_of("1\nw = 2"), Value::String("1\nw = 2".into()));
        assert_eq!(value_of(""), Value::String(String::new()));
        let path = path_of("services.\"a.b\".policy").unwrap();
        assert_eq!(path, ["services", "a.b", "policy"]);
        assert_eq!(key_of(&path), "services.\"a.b\".policy");
        assert_eq!((path_of(""), path_of("a..b"), path_of("a b")), (None, None, None));
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let text = "seed = 1\n\n[policy]\npreset = \"off\"\nretry.max_attempts = 2\n";
        let lines = lines_of(text);
        for wanted in [("seed", 1), ("policy.preset", 4), ("policy.retry.max_attempts", 5)] {
            assert!(lines.contains(&(wanted.0.to_owned(), wanted.1)), "{wanted:?} in {lines:?}");
        }
    }
}
