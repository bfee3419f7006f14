//! The checked and compiled [`DnsConfig`].

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::form::{Parts, fill, templates};
use super::name::{Name, check_label};
use super::resolv::{MOST_DOMAINS, MOST_DOTS, ResolvConf};
use crate::config::field::At;
use crate::config::{
    ConfigError, DnsConfig, DnsFamily, DnsForm, DnsHost, DnsRecords, DnsScheme, DnsTransport,
};
use crate::time::nanos;

const MOST_SERVERS: usize = 16;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A checked [`DnsConfig`], integers only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Empty until the system's are known.
    pub(super) servers: Vec<SocketAddr>,
    pub(super) form: DnsForm,
    pub(super) own_template: bool,
    pub(super) name: Arc<str>,
    pub(super) address_name: Arc<str>,
    pub(super) domain: Arc<str>,
    pub(super) datacenter: Option<Arc<str>>,
    pub(super) tag: Option<Arc<str>>,
    pub(super) records: DnsRecords,
    pub(super) port: Option<u16>,
    pub(super) scheme: DnsScheme,
    pub(super) host: DnsHost,
    pub(super) family: DnsFamily,
    /// TCP from the start.
    pub(super) tcp: bool,
    pub(super) timeout: u64,
    pub(super) total: u64,
    pub(super) tries: u32,
    pub(super) min_ttl: u64,
    pub(super) max_ttl: u64,
    pub(super) negative_ttl: u64,
    pub(super) max_negative_ttl: u64,
    pub(super) max_records: u32,
    pub(super) max_lookups: u32,
    pub(super) edns: u16,
    pub(super) mix_case: bool,
    pub(super) search: Vec<Arc<str>>,
    pub(super) ndots: u8,
    own_search: bool,
    own_ndots: bool,
    of_system: bool,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is out of range, unreadable or contradicts another.
    pub fn of(config: &DnsConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        if config.servers.len() > MOST_SERVERS {
            let reason = format!("{} servers are more than {MOST_SERVERS}", config.servers.len());
            return Err(at.refuse("servers", reason));
        }
        for (index, text) in config.servers.iter().enumerate() {
            if server(text, config.form).is_none() {
                let shown: String = text.chars().take(64).collect();
                let reason = format!("{shown:?} is not an IP address with or without a port");
                return Err(at.refuse(format_args!("servers[{index}]"), reason));
            }
        }
        let labels = [("datacenter", &config.datacenter), ("tag", &config.tag)];
        for (field, text) in labels.into_iter().filter_map(|(f, text)| Some((f, text.as_ref()?))) {
            check_label(text).map_err(|bad| at.refuse(field, bad.to_string()))?;
        }
        if let Some(domain) = config.domain.as_ref().filter(|domain| !domain.is_empty()) {
            Name::parse(domain).map_err(|bad| at.refuse("domain", bad.to_string()))?;
        }
        let search = config.search.as_deref().unwrap_or(&[]);
        if search.len() > MOST_DOMAINS {
            let reason = format!("{} domains are more than {MOST_DOMAINS}", search.len());
            return Err(at.refuse("search", reason));
        }
        for (index, domain) in search.iter().enumerate() {
            let field = format_args!("search[{index}]");
            Name::parse(domain).map_err(|bad| at.refuse(field, bad.to_string()))?;
        }
        if config.port == Some(0) {
            return Err(at.refuse("port", "0 is outside 1–65535"));
        }
        if config.records == DnsRecords::Address && config.port.is_none() {
            return Err(at.refuse("port", "is required where records is \"address\""));
        }
        at.span_up_to("timeout", config.timeout, Duration::from_secs(60))?;
        at.span_up_to("total", config.total, Duration::from_secs(600))?;
        at.ordered(("timeout", config.timeout), ("total", config.total))?;
        at.within("tries", config.tries, 1..=10)?;
        at.within("min_ttl", config.min_ttl, SECOND..=DAY)?;
        at.within("max_ttl", config.max_ttl, SECOND..=DAY * 7)?;
        at.ordered(("min_ttl", config.min_ttl), ("max_ttl", config.max_ttl))?;
        at.within("negative_ttl", config.negative_ttl, SECOND..=DAY)?;
        at.within("max_negative_ttl", config.max_negative_ttl, SECOND..=DAY)?;
        let negative = (("negative_ttl", config.negative_ttl), config.max_negative_ttl);
        at.ordered(negative.0, ("max_negative_ttl", negative.1))?;
        at.within("max_records", config.max_records, 1..=65_535)?;
        at.within("max_lookups", config.max_lookups, 0..=4_096)?;
        if config.edns != 0 {
            at.within("edns", config.edns, 512..=4_096)?;
        }
        if let Some(ndots) = config.ndots {
            at.within("ndots", u16::from(ndots), 0..=u16::from(MOST_DOTS))?;
        }
        let settings = Settings::compile(config);
        let parts = Parts {
            service: "s",
            tag: config.tag.as_deref().unwrap_or(""),
            datacenter: config.datacenter.as_deref().unwrap_or(""),
            domain: &settings.domain,
        };
        for (field, template) in
            [("name", &settings.name), ("address_name", &settings.address_name)]
        {
            let unknown = |name: String| {
                let name: String = name.chars().take(64).collect();
                at.refuse(
                    field,
                    format!("{{{name}}} is not {{service}}, {{tag}}, {{dc}} or {{domain}}"),
                )
            };
            let text = fill(template, parts).map_err(unknown)?;
            Name::parse(&text).map_err(|bad| at.refuse(field, bad.to_string()))?;
        }
        Ok(settings)
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &DnsConfig) -> Settings {
        let (name, address_name) = templates(config.form);
        let own = config.name.as_deref();
        let address_name = config.address_name.as_deref().or(own).unwrap_or(address_name);
        let consul = matches!(config.form, DnsForm::Consul | DnsForm::Short);
        let domain = config.domain.as_deref().unwrap_or(if consul { "consul" } else { "" });
        let ttl = |span: Duration| nanos(span).max(nanos(SECOND));
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        Settings {
            servers: config.servers.iter().filter_map(|text| server(text, config.form)).collect(),
            form: config.form,
            own_template: own.is_some(),
            name: own.unwrap_or(name).into(),
            address_name: address_name.into(),
            domain: domain.strip_suffix('.').unwrap_or(domain).into(),
            datacenter: text(&config.datacenter),
            tag: text(&config.tag),
            records: config.records,
            port: config.port,
            scheme: config.scheme,
            host: config.host,
            family: config.family,
            tcp: match config.transport {
                DnsTransport::Auto => config.form == DnsForm::Consul,
                DnsTransport::Udp => false,
                DnsTransport::Tcp => true,
            },
            timeout: nanos(config.timeout).max(1),
            total: nanos(config.total).max(1),
            tries: config.tries.clamp(1, 10),
            min_ttl: ttl(config.min_ttl),
            max_ttl: ttl(config.max_ttl).max(ttl(config.min_ttl)),
            negative_ttl: ttl(config.negative_ttl),
            max_negative_ttl: ttl(config.max_negative_ttl).max(ttl(config.negative_ttl)),
            max_records: config.max_records.clamp(1, 65_535),
            max_lookups: config.max_lookups.min(4_096),
            edns: config.edns,
            mix_case: config.mix_case,
            search: config.search.iter().flatten().map(|domain| domain.as_str().into()).collect(),
            ndots: config.ndots.unwrap_or(1).min(MOST_DOTS),
            own_search: config.search.is_some(),
            own_ndots: config.ndots.is_some(),
            of_system: config.servers.is_empty(),
        }
    }

    /// Whether the servers are the system's, to be given by [`Settings::system`] before anything
    /// can be asked, and again whenever they change.
    #[must_use]
    pub fn wants_system(&self) -> bool {
        self.of_system
    }

    /// Takes the servers of the system, and its search list unless there is an own one. Without
    /// effect when the servers are configured.
    pub fn system(&mut self, conf: &ResolvConf) {
        if !self.of_system {
            return;
        }
        self.servers = conf.servers.iter().copied().take(MOST_SERVERS).collect();
        if !self.own_search {
            self.search = conf.search.iter().take(MOST_DOMAINS).cloned().collect();
        }
        if !self.own_ndots {
            self.ndots = conf.ndots.min(MOST_DOTS);
        }
    }

    /// The servers, in order of preference.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&DnsConfig::default())
    }
}

/// `ip`, `ip:port` or `[ip]:port`; nobody listens on port 0.
fn server(text: &str, form: DnsForm) -> Option<SocketAddr> {
    let port = if form == DnsForm::Consul { 8_600 } else { 53 };
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
    alone.or_else(|| text.parse().ok()).filter(|server| server.port() > 0)
}
