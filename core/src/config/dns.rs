//! Discovery by DNS as a person writes it. The machine is [`crate::dns`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the name to ask for is made of the name of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsForm {
    /// Consul's: `{tag}.{service}.service.{dc}.{domain}`. A service may also be given by its full
    /// name, in this form or in the short one (`web.dc1.consul`); it is asked for in this one.
    #[default]
    Consul,
    /// The short form on the wire, `{service}.{dc}.{domain}`, which Consul itself does not
    /// answer: for zones that have such names.
    Short,
    /// RFC 2782: `_{service}._tcp.{domain}`, and `{service}.{domain}` for addresses.
    Rfc2782,
    /// `{service}.{domain}`.
    Plain,
}

/// Which records name the instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsRecords {
    /// SRV; where there are none and a `port` is set, A and AAAA.
    #[default]
    Auto,
    /// SRV only.
    Srv,
    /// A and AAAA only, with `port`.
    Address,
}

/// Which addresses are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsFamily {
    /// A; AAAA of hosts that have no A. Half the questions, and a host counts once.
    #[default]
    PreferIpv4,
    /// AAAA; A of hosts that have no AAAA.
    PreferIpv6,
    /// A only.
    Ipv4,
    /// AAAA only.
    Ipv6,
    /// Both, each an instance of its own.
    Both,
}

/// How questions travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsTransport {
    /// UDP, and TCP when an answer says that it is cut. In the form `consul` TCP from the start:
    /// Consul leaves out over UDP what does not fit, each time something else, and does not say
    /// so unless `enable_truncate` is set there (seen with 1.8.7: 19 of 60 instances). Where it is
    /// asked in another form, say `tcp`.
    #[default]
    Auto,
    /// UDP, and TCP when an answer says that it is cut, in every form.
    Udp,
    /// TCP only.
    Tcp,
}

/// What the address of an instance is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsHost {
    /// The IP address, looked up here.
    #[default]
    Address,
    /// The name that the SRV record gives, looked up when connecting: for `https`, where the
    /// certificate names it, and where instances are registered in Consul by host names, which
    /// it does not look up. A and AAAA lookups give the name that was asked for.
    Name,
}

/// The scheme of an instance's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DnsScheme {
    /// `http`.
    #[default]
    Http,
    /// `https`.
    Https,
}

/// Discovery by DNS. Switched off by not being there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// Servers in order of preference, at most 16: `ip` or `ip:port`; the port is 53, in the
    /// form `consul` 8600. Default empty: those of the system, which an adapter reads.
    pub servers: Vec<String>,
    /// How the name to ask for is made. Default `consul`.
    pub form: DnsForm,
    /// A template that replaces that of the form, of labels and `{service}`, `{tag}`, `{dc}` and
    /// `{domain}`. A label that comes out empty is left out; a dot at the end keeps the search
    /// list away. Default `None`.
    pub name: Option<String>,
    /// The template for A and AAAA. Default `None`: that of the form, or `name`.
    pub address_name: Option<String>,
    /// The domain. Default `None`: `consul` in the forms `consul` and `short`, else empty.
    pub domain: Option<String>,
    /// The datacenter, one label. Default `None`: the server's own.
    pub datacenter: Option<String>,
    /// Only instances with this tag, one label. Default `None`.
    pub tag: Option<String>,
    /// Which records name the instances. Default `auto`.
    pub records: DnsRecords,
    /// The port of instances found by A and AAAA. Default `None`: none are looked for.
    pub port: Option<u16>,
    /// `http` or `https`. Default `http`.
    pub scheme: DnsScheme,
    /// What addresses are made of: `address` or `name`. Default `address`.
    pub host: DnsHost,
    /// Which addresses are taken. Default `prefer_ipv4`.
    pub family: DnsFamily,
    /// How questions travel. Default `auto`.
    pub transport: DnsTransport,
    /// Time for the answer of one server, up to 60 s. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// Times that the whole list of servers is gone through for one question, 1–10. Default 3.
    pub tries: u32,
    /// Time for all questions of one lookup, up to 10 min. Default 15 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub total: Duration,
    /// An answer is used at least this long, 1 s to 1 d, whatever its TTL. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub min_ttl: Duration,
    /// An answer is used at most this long, 1 s to 7 d, whatever its TTL. Default 1 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_ttl: Duration,
    /// How long "there is no such name" is believed when the server does not say, and an answer
    /// of which something was missing; 1 s to 1 d. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub negative_ttl: Duration,
    /// How long it is believed at most, 1 s to 1 d. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_negative_ttl: Duration,
    /// Records used of one answer, and instances of one lookup, 1–65 535. Default 4096.
    pub max_records: u32,
    /// Targets of SRV records that are looked up because the answer did not bring their
    /// addresses, one after the other, 0–4096; the others are left out. Default 256.
    pub max_lookups: u32,
    /// Largest UDP answer that is asked for, 512–4096 bytes; 0 does without EDNS. Default 1232,
    /// which fits into every path without fragments (DNS flag day 2020).
    pub edns: u16,
    /// Whether names are asked for in mIxeD cAsE, which an answer must repeat: makes it harder
    /// to forge one. Default `true`.
    pub mix_case: bool,
    /// Domains that are tried for names without a dot at the end, at most 6. Default `None`:
    /// the system's when the servers are, else none.
    pub search: Option<Vec<String>>,
    /// Names with at least this many dots are tried as they are first, 0–15. Default `None`: the
    /// system's when the servers are, else 1.
    pub ndots: Option<u8>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            servers: Vec::new(),
            form: DnsForm::default(),
            name: None,
            address_name: None,
            domain: None,
            datacenter: None,
            tag: None,
            records: DnsRecords::default(),
            port: None,
            scheme: DnsScheme::default(),
            host: DnsHost::default(),
            family: DnsFamily::default(),
            transport: DnsTransport::default(),
            timeout: Duration::from_secs(5),
            tries: 3,
            total: Duration::from_secs(15),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(3_600),
            negative_ttl: Duration::from_secs(5),
            max_negative_ttl: Duration::from_secs(30),
            max_records: 4_096,
            max_lookups: 256,
            edns: 1_232,
            mix_case: true,
            search: None,
            ndots: None,
        }
    }
}

impl DnsConfig {
    /// The defaults for a Consul agent on this machine: `127.0.0.1:8600`.
    #[must_use]
    pub fn consul() -> Self {
        DnsConfig { servers: vec!["127.0.0.1:8600".to_owned()], ..DnsConfig::default() }
    }
}
