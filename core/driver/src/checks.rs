//! Health checks between the services, which say whom to ask when, and the backgrounds, which
//! carry it out: refusing what cannot be carried out, and polling all services at little cost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use origin_core::config::{CheckKind, Policy};
use origin_core::job::{Check, Poll};
use origin_core::{Address, Config, ConfigError, Time};

use crate::custom::{CheckTarget, Slip};
use crate::hub::{Customs, Hub, Slot, lock};
use crate::runtime::Runtime;

/// Refuses what this adapter, or this client, cannot carry out: checks, and a shared cache.
pub(crate) fn possible<R: Runtime>(config: &Config, customs: &Customs) -> Result<(), ConfigError> {
    one::<R>("policy", &config.policy, customs)?;
    for (name, service) in &config.services {
        if let Some(own) = &service.policy {
            one::<R>(&format!("services.{name}.policy"), own, customs)?;
        }
    }
    Ok(())
}

fn one<R: Runtime>(path: &str, policy: &Policy, customs: &Customs) -> Result<(), ConfigError> {
    let name = policy.checks.custom.as_str();
    match policy.checks.kind {
        CheckKind::Grpc if !R::GRPC => Err(ConfigError::new(
            format!("{path}.checks.kind"),
            "grpc needs HTTP/2, which this adapter does not speak: use kind http or tcp, a custom \
             check, or an async adapter",
        )),
        CheckKind::Custom if !customs.contains_key(name) => {
            let known: Vec<&str> = customs.keys().map(|name| &**name).collect();
            let reason = match known.join(", ") {
                known if known.is_empty() => "and none is".to_owned(),
                known => format!("these are: {known}"),
            };
            let reason = format!("no check {name:?} is registered at the builder, {reason}");
            Err(ConfigError::new(format!("{path}.checks.custom"), reason))
        }
        _ => Ok(()),
    }
}

impl<R: Runtime> Hub<R> {
    /// The checks to carry out now, and when to ask again.
    pub(crate) fn poll_checks(&self, now: Time) -> (Vec<(Arc<Slot>, Check)>, Time) {
        let (mut found, mut next) = (Vec::new(), Time::NEVER);
        self.each_slot(|slot| {
            if !slot.checked.load(Ordering::Relaxed) {
                return;
            }
            let mut due = slot.check_due.load(Ordering::Acquire);
            if due <= now.as_nanos() {
                let mut service = lock(&slot.service);
                let at = loop {
                    match service.poll_check(now) {
                        Poll::Run(check) => found.push((slot.clone(), *check)),
                        Poll::Wait(at) => break at,
                    }
                };
                // Under the lock: a result that comes meanwhile must not be overwritten.
                due = at.as_nanos();
                slot.check_due.store(due, Ordering::Release);
            }
            next = next.min(Time::from_nanos(due));
        });
        (found, next)
    }

    /// Starts the custom check called `name`.
    pub(crate) fn start_custom(
        &self,
        slot: &Slot,
        name: &str,
        address: Address,
        limit: Duration,
        life: Weak<()>,
    ) -> Option<Arc<Slip>> {
        let check = self.customs.get(name)?.clone();
        // Twice: a check that has just been given up is about to end.
        let most = lock(&slot.service).rules().checks.max_concurrent.saturating_mul(2);
        let target = CheckTarget::of(slot.name.clone(), address, limit, life);
        Some(slot.threads.start(most, check, target))
    }
}
