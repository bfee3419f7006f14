//! The session with the other Origin vault, which the handles of one client share. How one logs in
//! and when a session is over is decided in the core.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use origin_core::Secret;
use origin_core::ops::origin_vault::{Credentials, OriginVault, Session, Wallet};

use crate::client::Client;
use crate::hub::{Hub, lock};
use crate::runtime::Runtime;

/// Who logs in, and the session.
#[derive(Default)]
pub(crate) struct Purse {
    credentials: Option<Credentials>,
    session: Mutex<Session>,
}

impl Purse {
    pub(crate) fn of(credentials: Option<Credentials>) -> Purse {
        Purse { credentials, session: Mutex::default() }
    }
}

struct Pocket<R: Runtime>(Arc<Hub<R>>);

impl<R: Runtime> Wallet for Pocket<R> {
    fn token(&self) -> Option<Secret> {
        lock(&self.0.purse.session).token(self.0.runtime.now()).cloned()
    }

    fn keep(&self, token: Secret, life: Duration) {
        lock(&self.0.purse.session).keep(self.0.runtime.now(), token, life);
    }
}

impl<R: Runtime> Client<R> {
    /// The other Origin vault: the service `origin-vault`, with a session of its own that all
    /// handles of this client share. Who logs in is said to the builder; without, calls say so.
    #[must_use]
    pub fn origin_vault(&self) -> OriginVault<Client<R>> {
        let credentials = self.hub.purse.credentials.clone();
        OriginVault::new(self.clone(), credentials, Box::new(Pocket(self.hub.clone())))
    }
}
