//! Another configuration for a client that runs. What each policy keeps is decided in the core
//! (`Service::reconfigure`); here is which fields cannot change, and who is told.

use std::sync::Arc;

use origin_core::config::{DeliveryConfig, DiscoveryConfig};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::plan::configured;
use origin_core::{Config, ConfigError};

use crate::checks;
use crate::followed::Ruled;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;
use crate::signing::Begun;

impl<R: Runtime> Hub<R> {
    /// Puts another configuration in force, as a whole or not at all.
    pub(crate) fn reconfigure(&self, next: Config) -> Result<(), ConfigError> {
        next.check()?;
        checks::possible::<R>(&next, &self.customs)?;
        let now = self.runtime.now();
        let mut present = self.write_config();
        fixed(&present, &next, self.seed)?;
        let storage = Begun::new(now, &next)?;
        let slots: Vec<Arc<Slot>> = self.read_slots().values().cloned().collect();
        // Everything that can be refused is refused before anything changes.
        let mut news = Vec::with_capacity(slots.len());
        for slot in slots {
            let ruled = self.rules_for(&next, &slot.name)?;
            let cache = next.cache_for(&slot.name)?;
            let delivery = next.delivery_for(&slot.name)?;
            let own = next.services.get(&*slot.name);
            let before = present.services.get(&*slot.name);
            let moved = own.map(|own| &own.endpoints) != before.map(|own| &own.endpoints);
            let endpoints = match own.filter(|_| moved && !slot.discovered) {
                Some(own) => Some(configured(&slot.name, own, next.local_cluster.as_deref())?),
                None => None,
            };
            news.push((slot, ruled, endpoints, cache, delivery));
        }
        for slot in self.agents() {
            let (rules, profiles) = next.rules_for(&slot.name)?;
            lock(&slot.service).reconfigure(now, rules, profiles);
        }
        for (slot, ruled, endpoints, cache, delivery) in news {
            let Ruled { rules, profiles, suggested } = ruled;
            slot.watchers.retune(delivery);
            slot.memory.retune(now, cache);
            slot.checks_on(rules.checks.on());
            let mut service = lock(&slot.service);
            service.reconfigure(now, rules, profiles);
            slot.told(&mut service, &self.news);
            if let Some(endpoints) = endpoints {
                let resolution = Resolution::Found(endpoints);
                if let Some(vault) = &self.vault {
                    vault.resolved(&slot.name, &resolution);
                }
                service.resolve(now, resolution);
            }
            drop(service);
            slot.moved.notify(usize::MAX);
            if let Some(suggested) = suggested {
                self.tell_suggested(now, &slot.name, suggested);
            }
        }
        self.set_max_body(next.limits.body);
        self.storage.replace(storage);
        *present = Arc::new(next);
        drop(present);
        self.news.notify(usize::MAX);
        self.speak();
        Ok(())
    }
}

/// What was built from the configuration and stays: connections, discovery, the random seed.
fn fixed(present: &Config, next: &Config, seed: u64) -> Result<(), ConfigError> {
    let fixed = |field: &str| {
        Err(ConfigError::new(field, "cannot change while the client runs; build another client"))
    };
    let kept = |config: &Config| {
        // Of discovery, only how changes are told of can change.
        config
            .discovery
            .clone()
            .map(|discovery| DiscoveryConfig { delivery: DeliveryConfig::default(), ..discovery })
    };
    if kept(next) != kept(present) {
        return fixed("discovery");
    }
    if next.redis != present.redis {
        return fixed("redis");
    }
    if next.vault != present.vault {
        return fixed("vault");
    }
    if next.identity != present.identity {
        return fixed("identity");
    }
    if next.metrics.buckets != present.metrics.buckets {
        return fixed("metrics.buckets");
    }
    if next.local_cluster != present.local_cluster {
        return fixed("local_cluster");
    }
    if next.seed.is_some_and(|other| other != seed) {
        return fixed("seed");
    }
    if next.policy.deadline.connect != present.policy.deadline.connect {
        return fixed("policy.deadline.connect");
    }
    let (mine, other) = (&present.limits, &next.limits);
    for (field, same) in [
        ("limits.head", mine.head == other.head),
        ("limits.idle_connections", mine.idle_connections == other.idle_connections),
        ("limits.idle_timeout", mine.idle_timeout == other.idle_timeout),
    ] {
        if !same {
            return fixed(field);
        }
    }
    for (name, service) in &next.services {
        if service.lookup.connect && !present.services.contains_key(name) {
            return fixed(&format!("services.{name}.lookup.connect"));
        }
    }
    for (name, service) in &present.services {
        let injected = |s: &origin_core::config::ServiceConfig| !s.endpoints.is_empty();
        if injected(service) != next.services.get(name).is_some_and(injected) {
            return fixed(&format!("services.{name}.endpoints"));
        }
        // Who is in the mesh and who is not is a matter of safety: not to be passed over.
        let meshed = |s: &origin_core::config::ServiceConfig| s.lookup.connect;
        if meshed(service) != next.services.get(name).is_some_and(meshed) {
            return fixed(&format!("services.{name}.lookup.connect"));
        }
    }
    Ok(())
}
