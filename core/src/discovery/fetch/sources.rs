//! The settings of all sources, checked, and what only the machine it runs on can tell.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError, DiscoveryConfig};
use crate::consul::{self, Tokens, watch};
use crate::discovery::{Surroundings, file};
use crate::dns;
use crate::metrics::Bounds;

/// Consul as a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::discovery) struct ConsulSource {
    pub settings: consul::Settings,
    pub watch: watch::Settings,
    /// The same for a service beyond those whose queries are held back.
    pub polled: watch::Settings,
    /// Not kept with the rest: they are secrets.
    #[serde(skip)]
    pub tokens: Tokens,
}

impl ConsulSource {
    pub(super) fn watching(&self, hold: bool) -> &watch::Settings {
        if hold { &self.watch } else { &self.polled }
    }
}

impl PartialEq for ConsulSource {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.watch == other.watch
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::discovery) struct Sources {
    pub config: DiscoveryConfig,
    pub local: Option<Arc<str>>,
    pub file: Option<file::Settings>,
    pub consul: Option<ConsulSource>,
    pub dns: Option<dns::Settings>,
    /// How the time that answers take is counted.
    pub bounds: Bounds,
}

impl Sources {
    pub(in crate::discovery) fn of(
        config: &Config,
        discovery: &DiscoveryConfig,
        around: &Surroundings,
    ) -> Result<Sources, ConfigError> {
        let file = match &discovery.file.path {
            Some(_) => Some(file::Settings::of(&discovery.file, "discovery.file")?),
            None => None,
        };
        let consul = match &discovery.consul {
            Some(consul) if consul.enabled => {
                let consul =
                    &consul.surrounded("discovery.consul", |name| around.variable(name))?;
                let settings = consul::Settings::of(consul, "discovery.consul")?;
                let watch = watch::Settings::of(&consul.watch, "discovery.consul.watch")?;
                let tokens = Tokens::of(&settings, |name| around.variable(name))?;
                Some(ConsulSource { settings, watch, polled: watch.polling(), tokens })
            }
            _ => None,
        };
        let dns = match &discovery.dns {
            Some(dns) => {
                let mut settings = dns::Settings::of(dns, "discovery.dns")?;
                if settings.wants_system() {
                    let text = around.resolv_conf.as_deref().unwrap_or_default();
                    settings.system(&dns::resolv_conf(text));
                }
                Some(settings)
            }
            None => None,
        };
        let local = config.local_cluster.as_deref().map(Arc::from);
        let bounds = config.metrics.check("metrics")?;
        Ok(Sources { config: discovery.clone(), local, file, consul, dns, bounds })
    }
}
