//! The sessions of one connection: those of its configuration, and what becomes of the offer of
//! one. rustls says neither whether it made an offer nor that a handshake broke because of it.
//! Whether there is an offer at all, and what follows from a break, is decided in
//! `origin_core::identity::resumption`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{Error, NamedGroup};

use super::Tls;
use crate::expect::Target;
use crate::hub::lock;

/// Where rustls finds the sessions for one connection, and puts those that it brings.
pub(super) struct Sessions {
    kept: Arc<ClientSessionMemoryCache>,
    tls: Arc<Tls>,
    target: Target,
    name: ServerName<'static>,
    /// Whether one may be offered.
    offers: bool,
    offered: AtomicBool,
    /// Whether the handshake is over.
    over: AtomicBool,
}

impl Sessions {
    pub(super) fn new(
        kept: Arc<ClientSessionMemoryCache>,
        tls: Arc<Tls>,
        target: Target,
        name: ServerName<'static>,
    ) -> Sessions {
        let offers = lock(&tls.resumption).offers(&target.0, target.1);
        let (offered, over) = (AtomicBool::new(false), AtomicBool::new(false));
        Sessions { kept, tls, target, name, offers, offered, over }
    }

    /// Whether the server broke off because of the session that it was offered, as far as can be
    /// told. Its sessions are forgotten then. One that had gone on to show a certificate had
    /// declined the session before.
    pub(super) fn broke(&self, error: &Error) -> bool {
        let certificate =
            matches!(error, Error::InvalidCertificate(_) | Error::NoCertificatesPresented);
        if certificate || !self.is_unanswered() || self.over.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.kept.remove_tls12_session(&self.name);
        while self.kept.take_tls13_ticket(&self.name).is_some() {}
        lock(&self.tls.resumption).broke_off(&self.target.0, self.target.1);
        true
    }

    /// Whether there was an offer, and no end of the handshake yet.
    fn is_unanswered(&self) -> bool {
        self.offered.load(Ordering::Acquire) && !self.over.load(Ordering::Acquire)
    }

    /// rustls says so with what it remembers at the end of a handshake.
    fn came_to_its_end(&self) {
        if self.is_unanswered() {
            lock(&self.tls.resumption).went_on(&self.target.0, self.target.1);
        }
        self.over.store(true, Ordering::Release);
    }

    /// Notes an offer.
    fn offer<T>(&self, session: impl FnOnce() -> Option<T>) -> Option<T> {
        let session = if self.offers { session() } else { None };
        self.offered.fetch_or(session.is_some(), Ordering::AcqRel);
        session
    }
}

impl Drop for Sessions {
    /// A ticket is used up by its offer, a session of TLS 1.2 is not: of a server that closes
    /// without a word when it is offered one, it would break every connection.
    fn drop(&mut self) {
        if self.is_unanswered() {
            self.kept.remove_tls12_session(&self.name);
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({}:{})", self.target.0, self.target.1)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        // The end of a handshake of TLS 1.3.
        self.came_to_its_end();
        self.kept.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        // That of TLS 1.2, which remembers the session it has taken up, too.
        self.came_to_its_end();
        self.kept.set_tls12_session(name, session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.offer(|| self.kept.tls12_session(name))
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.kept.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(name, ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.offer(|| self.kept.take_tls13_ticket(name))
    }
}
