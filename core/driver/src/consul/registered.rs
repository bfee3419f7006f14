//! One own registration, in the hands of the application.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use origin_core::consul::ask::Beat;
use origin_core::consul::registrar::Stage;

use super::{Consul, Goal};
use crate::runtime::Runtime;

/// A service that the application wants registered. Dropping this changes nothing: it stays so
/// until [`Registered::leave`], or [`Consul::leave_all`], or the end of the client.
pub struct Registered<R: Runtime> {
    consul: Consul<R>,
    id: Arc<str>,
}

impl<R: Runtime> Clone for Registered<R> {
    fn clone(&self) -> Self {
        Registered { consul: self.consul.clone(), id: self.id.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Registered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({}, {:?})", self.id, self.stage())
    }
}

impl<R: Runtime> Registered<R> {
    pub(super) fn new(consul: Consul<R>, id: Arc<str>) -> Registered<R> {
        Registered { consul, id }
    }

    /// Its id at the agent.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands; `None` when it was taken back.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.consul.read(|registry| registry.stage(&self.id)).flatten()
    }

    /// Waits until the agent has taken it, up to `within`. Yields whether it has; if not, it goes
    /// on in the background.
    ///
    /// Yields [`Error::Consul`](origin_core::Error::Consul) when the agent refuses it, for lack
    /// of permission say. Even then it stays wanted and is tried again, once per
    /// `discovery.consul.registrar.forbidden`: somebody may mend the token.
    pub fn wait(&self, within: Duration) -> R::Reply<bool> {
        self.consul.settle(Goal::Registered(self.id.clone()), within)
    }

    /// Says how the service is, for all its TTL checks: sent at once if that changed, and renewed
    /// until something else is said. Without this it is [`Beat::Pass`]. `false`: it has no TTL
    /// check, or was taken back.
    pub fn say(&self, beat: Beat, note: &str) -> bool {
        let say = |registry: &mut origin_core::consul::registry::Registry, now| {
            registry.say(now, &self.id, None, beat, note)
        };
        self.consul.registry(say).unwrap_or(false)
    }

    /// Takes it back, as [`Consul::deregister`] does.
    pub fn leave(&self, within: Duration) -> R::Reply<bool> {
        self.consul.deregister(&self.id, within)
    }
}
