//! The checks of a registration: what the agent is told to look at, checked before it is told.
//!
//! A check makes the agent send requests, or run programs, on behalf of whoever registers. So it
//! may look at the registered host and the agent's own machine only, unless it is said otherwise
//! (004-80), and programs have to be allowed (003-10). Times that Consul would silently raise are
//! refused: a configuration should mean what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use serde::Serialize;

use super::duration::Text;
use super::name;
use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, ConsulCheckConfig, ConsulCheckKind, RegistrationConfig};

/// One check as Consul reads it: the common part and exactly one target (003-07). Fields that are
/// not set are not sent; older versions refuse those they do not know.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Body {
    #[serde(rename = "CheckID")]
    pub(super) id: Arc<str>,
    name: String,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: BTreeMap<String, Vec<String>>,
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(rename = "GRPC", skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "std::ops::Not::not")]
    grpc_tls: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "std::ops::Not::not")]
    tls_skip_verify: bool,
    #[serde(rename = "TLSServerName", skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deregister_critical_service_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

/// Checks one check of `service` and compiles it.
pub(super) fn body(
    config: &ConsulCheckConfig,
    service: &RegistrationConfig,
    id: Arc<str>,
    path: &str,
) -> Result<Body, ConfigError> {
    let at = At(path);
    let second = Duration::from_secs(1);
    let passive = config.kind == ConsulCheckKind::Ttl;
    if passive {
        at.within("ttl", config.ttl, second..=WEEK)?;
    } else {
        at.within("interval", config.interval, second..=WEEK)?;
        at.span("timeout", config.timeout)?;
        at.ordered(("timeout", config.timeout), ("interval", config.interval))?;
    }
    if let Some(span) = config.deregister_after {
        at.within("deregister_after", span, Duration::from_secs(60)..=WEEK)?;
    }
    let word = match config.kind {
        ConsulCheckKind::Http => "http",
        ConsulCheckKind::Tcp => "tcp",
        ConsulCheckKind::Script => "script",
        ConsulCheckKind::Grpc => "grpc",
        ConsulCheckKind::Ttl => "ttl",
    };
    let named = config.name.clone().unwrap_or_else(|| format!("{word} check of {}", service.name));
    if named.is_empty() || named.len() > 256 || named.chars().any(char::is_control) {
        return Err(at.refuse("name", "has 1\u{2013}256 bytes, none of them control characters"));
    }
    let span = |span| (!passive).then(|| Text(span).to_string());
    let mut body = Body {
        id,
        name: named,
        http: None,
        method: None,
        header: BTreeMap::new(),
        tcp: None,
        grpc: None,
        grpc_tls: false,
        args: Vec::new(),
        ttl: passive.then(|| Text(config.ttl).to_string()),
        tls_skip_verify: false,
        tls_server_name: None,
        interval: span(config.interval),
        timeout: span(config.timeout),
        deregister_critical_service_after: config
            .deregister_after
            .map(|span| Text(span).to_string()),
        status: config.status.map(crate::config::CheckStatus::word),
    };
    match config.kind {
        ConsulCheckKind::Ttl => {}
        ConsulCheckKind::Script => body.args = script(config, service, at)?,
        ConsulCheckKind::Tcp => body.tcp = Some(target(config, service, at)?),
        ConsulCheckKind::Grpc => {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if config.service.len() > 256 || !config.service.chars().all(fine) {
                return Err(at.refuse("service", "is the name of a gRPC service, or empty"));
            }
            let mut grpc = target(config, service, at)?;
            if !config.service.is_empty() {
                grpc.push('/');
                grpc.push_str(&config.service);
            }
            body.grpc = Some(grpc);
            body.grpc_tls = config.tls;
            body.tls_skip_verify = config.tls_skip_verify;
        }
        ConsulCheckKind::Http => http(&mut body, config, service, at)?,
    }
    Ok(body)
}

fn http(
    body: &mut Body,
    config: &ConsulCheckConfig,
    service: &RegistrationConfig,
    at: At<'_>,
) -> Result<(), ConfigError> {
    let path = &config.path;
    if !path.starts_with('/') || path.starts_with("//") || path.parse::<PathAndQuery>().is_err() {
        return Err(at.refuse("path", "must begin with one / and be a path"));
    }
    let upper = config.method.bytes().all(|c| c.is_ascii_uppercase());
    if !upper || Method::from_bytes(config.method.as_bytes()).is_err() {
        return Err(at.refuse("method", "must be a method in upper case, such as GET"));
    }
    at.within("headers", config.headers.len(), 0..=16)?;
    for (header, value) in &config.headers {
        at.header("headers", header)?;
        let text = value.expose();
        if HeaderValue::from_str(text).is_err() {
            return Err(at.refuse("headers", format!("{header}: its value has control characters")));
        }
        body.header.insert(header.clone(), vec![text.to_owned()]);
    }
    if let Some(server) = &config.tls_server_name
        && name::host(server).is_none()
    {
        return Err(at.refuse("tls_server_name", "is not a host name"));
    }
    let target = target(config, service, at)?;
    body.http = Some(format!("{}://{target}{path}", config.scheme.word()));
    body.method = Some(config.method.clone());
    body.tls_skip_verify = config.tls_skip_verify;
    body.tls_server_name.clone_from(&config.tls_server_name);
    Ok(())
}

/// `host:port` of what is checked.
fn target(
    config: &ConsulCheckConfig,
    service: &RegistrationConfig,
    at: At<'_>,
) -> Result<String, ConfigError> {
    let own = Some(service.address.as_str()).filter(|host| !host.is_empty());
    let host = config.host.as_deref().or(own).unwrap_or("localhost");
    let text = name::host(host)
        .ok_or_else(|| at.refuse("host", "is neither a host name nor an IP address"))?;
    let here = own.is_some_and(|own| own.eq_ignore_ascii_case(host)) || is_loopback(host);
    if !here && !config.elsewhere {
        let reason =
            format!("{text} is not the registered host; set elsewhere = true if that is meant");
        return Err(at.refuse("host", reason));
    }
    let port = config.port.unwrap_or(service.port);
    if port == 0 {
        return Err(at.refuse("port", "must be between 1 and 65535"));
    }
    Ok(format!("{text}:{port}"))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<core::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn script(
    config: &ConsulCheckConfig,
    service: &RegistrationConfig,
    at: At<'_>,
) -> Result<Vec<String>, ConfigError> {
    if !service.allow_scripts {
        return Err(at.refuse("kind", "a check that runs a program needs allow_scripts = true"));
    }
    let fine = |arg: &String| !arg.contains('\0') && arg.len() <= 4_096;
    let program = config.args.first().is_some_and(|program| !program.is_empty());
    if !program || config.args.len() > 64 || !config.args.iter().all(fine) {
        return Err(at.refuse("args", "is a program and at most 63 arguments of 4096 bytes"));
    }
    Ok(config.args.clone())
}
