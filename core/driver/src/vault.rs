//! The client's token for Vault (`vault::desk`) among the machines of a client: who asks it what is
//! due, who is told, and how a call waits for a token. When there is one, when it is renewed and
//! what is worth waiting for is decided in the core.

use std::sync::Arc;

use origin_core::discovery::directory::Resolution;
use origin_core::job::{JobId, JobOutcome, Poll};
use origin_core::metrics::EventCount;
use origin_core::notice::Notice;
use origin_core::ops::secrets::{SERVICE, Secrets};
use origin_core::vault::desk::{Desk, Rules, View};
use origin_core::vault::event::Trouble;
use origin_core::vault::{Lease, LeaseId, Tokens};
use origin_core::{Address, Config, ConfigError, Secret, Time};

use crate::client::Client;
use crate::hub::{Hub, Slot, lock};
use crate::observe::bell::{Bell, Noted};
use crate::runtime::Runtime;

/// The desk of a client whose configuration has `[vault]`.
pub(crate) struct Vault {
    desk: Noted<Desk>,
}

/// What a call that needs a token has to do before it goes on.
pub(crate) enum Wait {
    /// Nothing: go on.
    No,
    /// Carry this out, or have it carried out.
    Carry(Box<origin_core::job::Job>),
    /// Wait for news, until then at most.
    News(Time),
}

impl Vault {
    /// `None` where Vault is not configured. `given` is the token that the program gave.
    pub(crate) fn new(
        config: &Config,
        seed: u64,
        given: Option<&Secret>,
        bell: &Arc<Bell>,
    ) -> Result<Option<Vault>, ConfigError> {
        let Some(vault) = &config.vault else { return Ok(None) };
        let rules = Rules::of(vault, "vault", |name| std::env::var(name).ok())?;
        let rules = match given {
            None => rules,
            Some(token) => rules.given(token.clone(), "vault")?,
        };
        Ok(Some(Vault { desk: Noted::new(Desk::new(rules, seed), bell) }))
    }

    pub(crate) fn machine(&self) -> &Noted<Desk> {
        &self.desk
    }

    /// Whether it has to be told where the service is.
    pub(crate) fn needs_nodes(&self) -> bool {
        let desk = lock(&self.desk);
        desk.settings().enabled() && desk.needs_nodes()
    }

    pub(crate) fn poll(&self, now: Time) -> Poll {
        lock(&self.desk).poll(now)
    }

    pub(crate) fn done(&self, now: Time, id: JobId, outcome: &JobOutcome) {
        lock(&self.desk).done(now, id, outcome);
    }

    /// Discovery, or the configuration, says where a service is.
    pub(crate) fn resolved(&self, service: &str, resolution: &Resolution) {
        if let (SERVICE, Resolution::Found(found)) = (service, resolution) {
            let nodes: Vec<Address> = found.iter().map(|each| each.address.clone()).collect();
            lock(&self.desk).nodes(&nodes);
        }
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        lock(&self.desk).notices().since(0).cloned().collect()
    }

    pub(crate) fn events(&self) -> Vec<EventCount> {
        lock(&self.desk).notices().counts().collect()
    }

    pub(crate) fn view(&self) -> View {
        lock(&self.desk).view()
    }

    pub(crate) fn close(&self, now: Time) {
        lock(&self.desk).close(now);
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.desk).is_closed()
    }
}

impl<R: Runtime> Hub<R> {
    /// What a call on `slot` that needs a token waits for at this moment.
    pub(crate) fn await_token(&self, slot: &Slot, now: Time) -> Wait {
        let Some(vault) = &self.vault else { return Wait::No };
        if vault.needs_nodes() {
            // They come with the same fetch for which the call itself would wait.
            let pending = |_, resolution: &Resolution, _| matches!(resolution, Resolution::Pending);
            return match self.resolve_with(slot, pending) {
                Some(true) => Wait::News(Time::NEVER),
                _ => Wait::No,
            };
        }
        let mut desk = lock(&vault.desk);
        match desk.poll(now) {
            Poll::Run(job) => Wait::Carry(job),
            Poll::Wait(at) if desk.is_waited_for(now) => Wait::News(at),
            Poll::Wait(_) => Wait::No,
        }
    }

    /// How the desk stands, for a snapshot.
    pub(crate) fn vault_view(&self) -> Option<View> {
        self.vault.as_ref().map(Vault::view)
    }
}

/// The token of the moment, for calls.
struct Ring<R: Runtime>(Arc<Hub<R>>);

impl<R: Runtime> Ring<R> {
    fn with<T>(&self, look: impl FnOnce(&mut Desk, Time) -> T) -> Option<T> {
        let vault = self.0.vault.as_ref()?;
        Some(look(&mut lock(&vault.desk), self.0.runtime.now()))
    }

    /// The same where it may make something due.
    fn change<T>(&self, change: impl FnOnce(&mut Desk, Time) -> T) -> Option<T> {
        let result = self.with(change);
        self.0.news.notify(usize::MAX);
        result
    }
}

impl<R: Runtime> Tokens for Ring<R> {
    fn token(&self) -> Option<Secret> {
        self.with(|desk, now| desk.token(now).cloned()).flatten()
    }

    fn doubted(&self) {
        self.change(Desk::doubt);
    }

    fn trouble(&self) -> Option<Trouble> {
        self.with(|desk, now| desk.trouble(now)).flatten()
    }

    fn adopt(&self, lease: &Lease) -> bool {
        let adopted = self.change(|desk, now| desk.adopt(now, lease)).unwrap_or(false);
        if adopted {
            R::attend(&self.0);
        }
        adopted
    }

    fn release(&self, id: &LeaseId) -> bool {
        self.change(|desk, now| desk.release(now, id)).unwrap_or(false)
    }
}

impl<R: Runtime> Client<R> {
    /// Secrets (Vault): the service `secrets`. With `[vault]` in the configuration the client gets
    /// its token by itself and keeps it alive; a call waits for the first one. Otherwise it is the
    /// one given to the builder; without, calls say so.
    #[must_use]
    pub fn secrets(&self) -> Secrets<Client<R>> {
        match &self.hub.vault {
            None => Secrets::new(self.clone(), self.hub.token.clone()),
            Some(vault) => {
                let settings = lock(&vault.desk).settings().clone();
                Secrets::with(self.clone(), settings, Box::new(Ring(self.hub.clone())))
            }
        }
    }
}
