//! The compiled settings of Consul, and which token is sent.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::connect::membership;
use super::{name, watch};
use crate::address::Address;
use crate::config::consul::{TemplateConfig, TokenSource};
use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, Consistency, ConsulConfig, InstanceScheme};
use crate::secret::Secret;

/// A checked [`ConsulConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    pub(super) enabled: bool,
    pub(super) agents: Vec<Address>,
    agent_token: Option<TokenSource>,
    service_token: Option<TokenSource>,
    pub(super) datacenter: Option<Arc<str>>,
    fallback: Vec<Arc<str>>,
    pub(super) tags: Vec<Arc<str>>,
    pub(super) filter: Option<Arc<str>>,
    pub(super) near: Option<Arc<str>>,
    pub(super) consistency: Consistency,
    pub(super) max_stale: Duration,
    pub(super) max_age: Duration,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) passing_only: bool,
    timeout: Duration,
    pub(super) scheme: InstanceScheme,
    pub(super) health_meta: Option<Arc<str>>,
    pub(super) max_bytes: usize,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn of(config: &ConsulConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        if config.urls.is_empty() || config.urls.len() > 16 {
            return Err(
                at.refuse("urls", format!("{} agents; it takes 1\u{2013}16", config.urls.len()))
            );
        }
        for (index, url) in config.urls.iter().enumerate() {
            let field = format!("urls[{index}]");
            let address = Address::parse(url).map_err(|e| at.refuse(&field, e.to_string()))?;
            if !address.is_http() {
                return Err(at.refuse(field, "must begin with http:// or https://"));
            }
        }
        let few = [
            ("fallback_datacenters", config.fallback_datacenters.len()),
            ("tags", config.tags.len()),
        ];
        for (field, count) in few {
            at.within(field, count, 0..=16)?;
        }
        if let Some(name) = &config.datacenter {
            name::datacenter(name).map_err(|reason| at.refuse("datacenter", reason))?;
        }
        for (index, name) in config.fallback_datacenters.iter().enumerate() {
            let field = format!("fallback_datacenters[{index}]");
            name::datacenter(name).map_err(|reason| at.refuse(&field, reason))?;
            let before = &config.fallback_datacenters[..index];
            if before.contains(name) || config.datacenter.as_ref() == Some(name) {
                return Err(at.refuse(field, format!("{name:?} stands there twice")));
            }
        }
        for (index, tag) in config.tags.iter().enumerate() {
            name::tag(tag).map_err(|reason| at.refuse(format!("tags[{index}]"), reason))?;
        }
        for (field, text, most) in [("filter", &config.filter, 2_048), ("near", &config.near, 256)]
        {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
                return Err(at.refuse(
                    field,
                    format!("has 1\u{2013}{most} bytes, none of them control characters"),
                ));
            }
        }
        at.span("timeout", config.timeout)?;
        at.span("max_stale", config.max_stale)?;
        at.span("max_age", config.max_age)?;
        config.stale_if_error.map_or(Ok(Duration::ZERO), |span| at.span("stale_if_error", span))?;
        if config.consistency == Consistency::Cached && config.max_age < Duration::from_secs(1) {
            return Err(at.refuse("max_age", "is counted in whole seconds; it takes at least 1s"));
        }
        if config.health_meta.len() > 128 {
            return Err(at.refuse("health_meta", "a key of metadata has at most 128 characters"));
        }
        at.within("max_bytes", config.max_bytes, 1_024..=1 << 30)?;
        for (field, source) in
            [("agent_token", &config.agent_token), ("service_token", &config.service_token)]
        {
            source
                .as_ref()
                .map_or(Ok(()), |source| check_source(source))
                .map_err(|reason| at.refuse(field, reason))?;
        }
        at.within("templates", config.templates.len(), 0..=64)?;
        for (index, one) in config.templates.iter().enumerate() {
            check_template(
                one,
                config.templates.get(..index).unwrap_or(&[]),
                &format!("{path}.templates[{index}]"),
            )?;
        }
        if config.urls.iter().any(|url| url.starts_with("https")) {
            config.tls.files(&format!("{path}.tls"))?;
        }
        let watch = watch::Settings::of(&config.watch, &format!("{path}.watch"))?;
        membership::Settings::of(&config.connect, watch, &format!("{path}.connect"))?;
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &ConsulConfig) -> Settings {
        let all = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        Settings {
            enabled: config.enabled,
            agents: config.urls.iter().filter_map(|url| Address::parse(url).ok()).collect(),
            agent_token: config.agent_token.clone(),
            service_token: config.service_token.clone(),
            datacenter: config.datacenter.as_deref().map(Into::into),
            fallback: all(&config.fallback_datacenters),
            tags: all(&config.tags),
            filter: config.filter.as_deref().map(Into::into),
            near: config.near.as_deref().map(Into::into),
            consistency: config.consistency,
            max_stale: config.max_stale,
            max_age: config.max_age,
            stale_if_error: config.stale_if_error,
            passing_only: config.passing_only,
            timeout: config.timeout,
            scheme: config.scheme,
            health_meta: Some(config.health_meta.as_str())
                .filter(|key| !key.is_empty())
                .map(Into::into),
            max_bytes: config.max_bytes,
        }
    }

    /// Whether Consul is not to be asked.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        !self.enabled
    }

    /// The same with one agent at the root of its host, for requests whose agent is chosen, and
    /// joined to its URL, by whoever sends them.
    pub(crate) fn anywhere(&self) -> Settings {
        let agents = Address::parse("http://consul").into_iter().collect();
        Settings { agents, ..self.clone() }
    }

    /// How many agents there are, at least one where the settings were checked.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Agent number `agent`, counted around.
    #[must_use]
    pub fn agent(&self, agent: usize) -> Option<&Address> {
        self.agents.get(agent.checked_rem(self.agents.len())?)
    }

    /// Whether any agent is asked over TLS.
    #[must_use]
    pub fn over_tls(&self) -> bool {
        self.agents.iter().any(|agent| agent.as_str().starts_with("https"))
    }

    /// How answers are narrowed besides service, datacenter and tag, as text; for cache keys.
    #[must_use]
    pub fn narrowed(&self) -> Option<Arc<str>> {
        let mut text = self.tags.join(",");
        if let Some(filter) = &self.filter {
            text.push(';');
            text.push_str(filter);
        }
        if !self.passing_only {
            text.push_str(";any");
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// The datacenters to ask, in failover order; `None` is that of the agent.
    pub fn datacenters(&self) -> impl Iterator<Item = Option<&Arc<str>>> {
        std::iter::once(self.datacenter.as_ref()).chain(self.fallback.iter().map(Some))
    }

    /// Whether this datacenter is one of those to fall back to.
    pub(super) fn is_fallback(&self, datacenter: &str) -> bool {
        self.fallback.iter().any(|name| **name == *datacenter)
    }

    /// Deadline of one request, for a blocking one on top of its wait.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Largest reply, in bytes: the `max_body` of the job.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Oldest answer without contact to the leader that is taken; `None` unless reads are stale.
    #[must_use]
    pub fn max_stale(&self) -> Option<Duration> {
        (self.consistency == Consistency::Stale).then_some(self.max_stale)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&ConsulConfig::default())
    }
}

fn check_template(
    one: &TemplateConfig,
    before: &[TemplateConfig],
    path: &str,
) -> Result<(), ConfigError> {
    let at = At(path);
    for (field, text) in [("source", &one.source), ("destination", &one.destination)] {
        if text.is_empty() || text.contains('\0') {
            return Err(at.refuse(field, "is required and names a file"));
        }
    }
    let taken =
        one.destination == one.source || before.iter().any(|b| b.destination == one.destination);
    if taken {
        return Err(at.refuse("destination", "is a template, or written by another one"));
    }
    at.within("period", one.period, Duration::from_secs(1)..=WEEK).map(drop)
}

fn check_source(source: &TokenSource) -> Result<(), &'static str> {
    match source {
        TokenSource::Text(token) if token.header().is_none() => Err("contains control characters"),
        TokenSource::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
            Err("does not name an environment variable")
        }
        _ => Ok(()),
    }
}

/// The tokens themselves, ready to be sent (003-42).
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    pub(super) agent: Option<HeaderValue>,
    pub(super) service: Option<HeaderValue>,
}

impl Tokens {
    /// The tokens of `settings`; `variable` reads an environment variable.
    ///
    /// # Errors
    /// A variable that is not set, or holds what cannot be a token. Calling Consul without a
    /// token that was asked for would look like services that do not exist.
    pub fn of(
        settings: &Settings,
        mut variable: impl FnMut(&str) -> Option<String>,
    ) -> Result<Tokens, ConfigError> {
        let mut read = |field: &str, source: &Option<TokenSource>| {
            let field = format!("consul.{field}");
            let (token, field) = match source {
                None => return Ok(None),
                Some(TokenSource::Text(token)) => (token.clone(), field),
                Some(TokenSource::Env(name)) => {
                    let shown = format!("{field}.env");
                    let text = variable(name).and_then(|text| Secret::new(&text));
                    let unset =
                        || ConfigError::new(&shown, format!("the variable {name:?} is not set"));
                    (text.ok_or_else(unset)?, shown)
                }
            };
            let header = token.header();
            header
                .map(Some)
                .ok_or_else(|| ConfigError::new(field, "the token contains control characters"))
        };
        Ok(Tokens {
            agent: read("agent_token", &settings.agent_token)?,
            service: read("service_token", &settings.service_token)?,
        })
    }
}

#[cfg(test)]
mod tests;
