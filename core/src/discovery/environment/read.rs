//! From variables to addresses: which variables matter, what their values must be, and which of
//! them wins. What the registry is, is in the parent.
//!
//! For one service, strongest first: `_URL`; `_HOST`, `_PORT` and `_PROTOCOL`, each with its
//! default; the pair that Kubernetes sets (only with `scan`); the default. A URL with a path of
//! its own keeps it, one without gets the base path. Values are trimmed, and an empty one counts
//! as unset. A value that is wrong is never repeated in the error: it may be a password in the
//! wrong place.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Environment, MOST_SERVICES, Origin, Protocol, SERVICES, Settings};
use crate::address::Address;
use crate::config::{ConfigError, check_service_name};

/// Variables beyond this many are left out when scanning.
const MOST_VARIABLES: usize = 4 * MOST_SERVICES;
/// Longest name of a variable that is looked at, in bytes.
const LONGEST_NAME: usize = 160;
/// Bytes of a value that are looked at; all that are valid are shorter.
const LONGEST_VALUE: usize = 4_096;

/// The endings that mean something.
const HOST: &str = "HOST";
const PORT: &str = "PORT";
const PROTOCOL: &str = "PROTOCOL";
const URL: &str = "URL";
const ENDINGS: [&str; 4] = [HOST, PORT, PROTOCOL, URL];

type Refused = (&'static str, String);

impl Environment {
    /// Reads the registry from variables. Where a name occurs twice the first one counts, as for
    /// `getenv`. At most [`MOST_SERVICES`] services are found by scanning.
    ///
    /// # Errors
    /// A value of a built-in service that cannot be used, by the name of its variable.
    pub fn read<N: AsRef<str>, V: AsRef<str>>(
        settings: &Settings,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Environment, ConfigError> {
        let mut found = Environment {
            settings: settings.clone(),
            services: BTreeMap::new(),
            skipped: Vec::new(),
            unlisted: 0,
        };
        if settings.is_off() {
            return Ok(found);
        }
        let (own, others) = sort_out(settings, variables);
        for (name, prefix, port) in SERVICES {
            let values = Values::of(prefix, &own);
            if let Some((base, origin)) = values
                .built_in(settings, port)
                .map_err(|(end, reason)| ConfigError::new(format!("{prefix}{end}"), reason))?
            {
                found.insert(name.into(), base, origin);
            }
        }
        found.scan(&others);
        Ok(found)
    }

    /// The pairs of host and port among `others`. What cannot be used is skipped: it need not
    /// have been meant for this program.
    fn scan(&mut self, others: &BTreeMap<String, String>) {
        for key in others.keys() {
            let Some(prefix) = key.strip_suffix(HOST) else { continue };
            let values = Values::of(prefix, others);
            if values.host.is_none() || values.port.is_none() {
                continue;
            }
            let name = prefix.strip_suffix("_SERVICE_").unwrap_or(prefix);
            let name: Arc<str> = name.to_ascii_lowercase().replace('_', "-").into();
            if check_service_name(&name).is_err() {
                self.skip(key, "does not name a service");
                continue;
            }
            // Kubernetes' pair for a Service called like a built-in one: better than a default.
            let known = self.services.get(&name);
            if known.is_some_and(|known| known.origin > Origin::Scan) {
                continue;
            }
            if known.is_none() && self.services.len() >= MOST_SERVICES {
                self.skip(key, "is one service too many");
                continue;
            }
            let built_in = SERVICES.iter().any(|(built_in, ..)| *built_in == &*name);
            let settings = &self.settings;
            let base = if built_in { &settings.prefix } else { &settings.scan_prefix };
            match values.scanned(base) {
                Ok(base) => drop(self.insert(name, base, Origin::Scan)),
                Err((end, reason)) => self.skip(&format!("{prefix}{end}"), &reason),
            }
        }
    }
}

/// The variables that matter, trimmed: those of the built-in services, and the others that
/// scanning looks at.
fn sort_out<N: AsRef<str>, V: AsRef<str>>(
    settings: &Settings,
    variables: impl IntoIterator<Item = (N, V)>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut own, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in variables {
        let (name, value) = (name.as_ref(), value.as_ref().trim());
        if value.is_empty() || name.len() > LONGEST_NAME {
            continue;
        }
        let Some((prefix, end)) = name.rsplit_once("_SERVICE_") else { continue };
        if !ENDINGS.contains(&end) {
            continue;
        }
        let built_in =
            SERVICES.iter().any(|(_, own, _)| own.strip_suffix("_SERVICE_") == Some(prefix));
        let list = if built_in { &mut own } else { &mut others };
        if !built_in && (!settings.scan || list.len() >= MOST_VARIABLES) {
            continue;
        }
        let value: String = value.chars().take(LONGEST_VALUE).collect();
        list.entry(name.to_owned()).or_insert(value);
    }
    (own, others)
}

/// The values of one service.
struct Values<'a> {
    host: Option<&'a str>,
    port: Option<&'a str>,
    protocol: Option<&'a str>,
    url: Option<&'a str>,
}

impl<'a> Values<'a> {
    fn of(prefix: &str, variables: &'a BTreeMap<String, String>) -> Values<'a> {
        let get = |end: &str| variables.get(&format!("{prefix}{end}")).map(String::as_str);
        Values { host: get(HOST), port: get(PORT), protocol: get(PROTOCOL), url: get(URL) }
    }

    /// The base URL of a built-in service with this default port; `None` when it is not there.
    fn built_in(
        &self,
        settings: &Settings,
        default: u16,
    ) -> Result<Option<(Address, Origin)>, Refused> {
        if let Some(url) = self.url {
            let base = from_url(url, &settings.prefix).map_err(|why| (URL, why.to_owned()))?;
            return Ok(Some((base, Origin::Url)));
        }
        let protocol = self.protocol.map(protocol).transpose().map_err(|why| (PROTOCOL, why))?;
        let (linked, port) = match self.port {
            Some(text) => port(text).map_err(|why| (PORT, why))?,
            None => (None, default),
        };
        let host = match self.host.or(linked) {
            Some(text) => host(text)
                .map_err(|why| (if self.host.is_some() { HOST } else { PORT }, why.to_owned()))?,
            None if !settings.defaults => return Ok(None),
            None => "localhost".to_owned(),
        };
        let any = self.host.is_some() || self.port.is_some() || self.protocol.is_some();
        let origin = if any { Origin::Variables } else { Origin::Default };
        let base = base(protocol.unwrap_or_default(), &host, port, &settings.prefix)?;
        Ok(Some((base, origin)))
    }

    /// The base URL of a service that was found by its pair of host and port.
    fn scanned(&self, prefix: &str) -> Result<Address, Refused> {
        let protocol = self.protocol.map(protocol).transpose().map_err(|why| (PROTOCOL, why))?;
        let (_, port) = port(self.port.unwrap_or_default()).map_err(|why| (PORT, why))?;
        let host = host(self.host.unwrap_or_default()).map_err(|why| (HOST, why.to_owned()))?;
        // Nothing else says so: `KUBERNETES_SERVICE_PORT=443` is the case in every pod.
        let usual = if port == 443 { Protocol::Https } else { Protocol::Http };
        base(protocol.unwrap_or(usual), &host, port, prefix)
    }
}

fn base(protocol: Protocol, host: &str, port: u16, prefix: &str) -> Result<Address, Refused> {
    Address::parse(&format!("{}://{host}:{port}{prefix}", protocol.scheme()))
        .map_err(|bad| (HOST, bad.reason().to_owned()))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    for known in [Protocol::Http, Protocol::Https] {
        if text.eq_ignore_ascii_case(known.scheme()) {
            return Ok(known);
        }
    }
    Err("is neither http nor https".to_owned())
}

/// A port, and the host in front of it where Kubernetes wrote one (`tcp://10.0.0.11:8001`).
fn port(text: &str) -> Result<(Option<&str>, u16), String> {
    if let Some((host, port)) = text.strip_prefix("tcp://").and_then(|link| link.rsplit_once(':')) {
        return Ok((Some(host), number(port)?));
    }
    Ok((None, number(text)?))
}

fn number(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ if digits && text.len() <= 20 => Err(format!("{text} is outside 1–65535")),
        _ => Err("is not a port number of 1–65535".to_owned()),
    }
}

/// A host name or an IP address, as it stands in a URL: IPv6 gets its brackets.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    if text.contains("://") {
        return Err("is a URL, not a host name; a URL belongs into the variable that ends in _URL");
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if bare.is_some() || text.contains(':') {
        return match bare.unwrap_or(text).parse::<core::net::Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) if bare.is_none() && text.matches(':').count() == 1 => {
                Err("contains a port, which belongs into the variable that ends in _PORT")
            }
            Err(_) => Err("is not an IPv6 address"),
        };
    }
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if !(1..=253).contains(&text.len()) {
        return Err("has no length of 1 to 253 characters");
    }
    if !text.bytes().all(fine) || text.starts_with(['.', '-']) {
        return Err("is not a host name: those consist of letters, digits, '-', '_' and '.'");
    }
    Ok(text.to_owned())
}

/// The base URL that a whole URL gives: with a path, that is the base path.
fn from_url(text: &str, prefix: &str) -> Result<Address, &'static str> {
    let url = Address::parse(text).map_err(|bad| bad.reason())?;
    let Some(uri) = url.uri().filter(|_| url.is_http()) else {
        return Err("does not begin with http:// or https://");
    };
    if !uri.path().trim_end_matches('/').is_empty() || prefix.is_empty() {
        return Ok(url);
    }
    let host = text.trim_end_matches('/');
    Address::parse(&format!("{host}{prefix}")).map_err(|bad| bad.reason())
}

/// Variables as text, one `NAME=value` a line or separated by zero bytes: the output of `env`, or
/// `/proc/self/environ`. Lines without `=` and what is not UTF-8 are left out. No quoting.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    bytes
        .split(|byte| matches!(byte, b'\n' | 0))
        .filter_map(|line| core::str::from_utf8(line).ok()?.split_once('='))
}
