//! Certificates of a client that runs: exchanged while calls go on, and asked what is wrong with
//! them. Plain data: no TLS library shows in it.

use std::fmt;
use std::sync::Arc;

use origin_core::{Address, ConfigError, EndpointId, Time};

use crate::client::Client;
use crate::expect::{Expectations, target};
use crate::hub::{Hub, Slot, lock};
use crate::identity::Identity;
use crate::realm::RealmChange;
use crate::roots::Roots;
use crate::runtime::Runtime;

/// A change of identity, roots and expectations that takes effect as one: a rotation of an
/// authority brings new roots and a new certificate at once, and connections are exchanged once.
#[derive(Clone, Debug, Default)]
#[must_use = "it changes nothing until it is given to `Client::set_tls`"]
pub struct TlsChange {
    /// The identity from now on (`Some(None)`: none); `None` leaves it as it is.
    pub identity: Option<Option<Identity>>,
    /// The authorities from now on; `None` leaves them as they are.
    pub roots: Option<Roots>,
    /// What is expected from now on; `None` leaves it as it is.
    pub expect: Option<Expectations>,
    /// What Consul brings.
    pub(crate) realm: Option<RealmChange>,
}

impl TlsChange {
    /// Nothing changes.
    pub fn new() -> TlsChange {
        TlsChange::default()
    }

    /// Another identity, or none.
    pub fn identity(self, identity: impl Into<Option<Identity>>) -> TlsChange {
        TlsChange { identity: Some(identity.into()), ..self }
    }

    /// Other authorities.
    pub fn roots(self, roots: Roots) -> TlsChange {
        TlsChange { roots: Some(roots), ..self }
    }

    /// A change of what Consul brings.
    pub(crate) fn realm(realm: RealmChange) -> TlsChange {
        TlsChange { realm: Some(realm), ..TlsChange::default() }
    }

    /// Other expectations, all of them.
    pub fn expect(self, expect: Expectations) -> TlsChange {
        TlsChange { expect: Some(expect), ..self }
    }
}

/// Why a TLS handshake failed: the latest failure of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFailure {
    /// The host, as looked up.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// What was wrong, in words for an operator.
    pub reason: String,
    /// Failures of this target in all.
    pub count: u64,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsFailure { host, port, reason, count } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{host}{close}:{port}: {reason} ({count} so far)")
    }
}

impl<R: Runtime> Hub<R> {
    /// A handshake with an endpoint has failed: its service hears why, and tells it once.
    pub(crate) fn no_tls(&self, now: Time, slot: &Slot, endpoint: EndpointId) {
        let target = {
            let service = lock(&slot.service);
            let place = service.address(endpoint).and_then(Address::host_and_port);
            place.map(|(host, port)| target(host, port))
        };
        let Some((host, port)) = target else { return };
        let failures = self.runtime.tls_failures();
        let why = failures.iter().rev().find(|each| each.host == host && each.port == port);
        let reason = why.map_or("the handshake failed", |failure| &*failure.reason);
        lock(&slot.service).handshake_failed(now, endpoint, reason);
    }
}

impl<R: Runtime> Client<R> {
    /// Puts another identity in force while the client runs, or none. From the moment this
    /// returns no request is sent over a connection that was made with the one before; requests
    /// under way are finished on theirs, which is closed then. The same identity again changes
    /// nothing.
    ///
    /// # Errors
    /// [`ConfigError`] for what cannot be used, with the field (`identity.chain`, `identity.key`)
    /// and the file. Nothing has changed then.
    pub fn set_identity(&self, identity: impl Into<Option<Identity>>) -> Result<(), ConfigError> {
        self.set_tls(TlsChange::new().identity(identity))
    }

    /// Puts other authorities in force while the client runs, for connections as in
    /// [`Client::set_identity`]: none goes on that the new ones might not vouch for.
    ///
    /// # Errors
    /// [`ConfigError`] for what cannot be used. Nothing has changed then.
    pub fn set_roots(&self, roots: Roots) -> Result<(), ConfigError> {
        self.set_tls(TlsChange::new().roots(roots))
    }

    /// Puts other expectations of targets in force while the client runs. Connections are made
    /// anew only if there may be one to a target of which something else is expected now, so
    /// targets may come and go without disturbing others.
    ///
    /// # Errors
    /// [`ConfigError`] for names that no certificate can have; the field is
    /// `expect.{host}:{port}`. Nothing has changed then.
    pub fn set_expectations(&self, expect: Expectations) -> Result<(), ConfigError> {
        self.set_tls(TlsChange::new().expect(expect))
    }

    /// Several of these at once, as a whole or not at all.
    ///
    /// # Errors
    /// Those of [`Client::set_identity`], [`Client::set_roots`] and [`Client::set_expectations`].
    pub fn set_tls(&self, change: TlsChange) -> Result<(), ConfigError> {
        self.hub.secure(change)?;
        self.hub.speak();
        Ok(())
    }

    /// Why TLS handshakes failed: the latest failure of each of up to 64 targets, the most recent
    /// last. Calls report `Fault::Tls`; here is what an operator needs besides: the name that was
    /// presented, the certificate that has expired, the server that wants to know who we are.
    /// Empty again after every change of identity, roots or expectations.
    #[must_use]
    pub fn tls_failures(&self) -> Vec<TlsFailure> {
        self.hub.runtime.tls_failures()
    }
}
