//! TLS for the adapters: an explicit provider (ring), TLS 1.2 and 1.3, HTTP/2 by ALPN, client
//! certificates, and whom a server has to be. rustls types stay inside the adapters.
//!
//! One [`Tls`] per client. Everything in it can be exchanged while connections are made: each new
//! connection asks what holds at that moment. What it cannot exchange are connections that exist,
//! so a change says when an adapter has to begin a new pool and let the old one drain.
//!
//! Sessions are resumed only by connections of the same identity, roots and expectation: each
//! expectation has a rustls configuration of its own, with its own sessions, and all are made
//! anew when identity or roots change. A resumed session is not verified again, so it would keep
//! what had been verified before. A server that breaks off when it is offered one is connected to
//! once more, in full, before anybody hears of it.

mod dress;
mod failures;
mod parse;
mod sessions;
mod verifier;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use origin_core::ConfigError;
use origin_core::identity::resumption::Resumption;
use origin_core::outcome::Fault;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;

pub use failures::{cause, is_refusal};

use self::dress::{Dress, Party, Wardrobe};
use self::sessions::Sessions;
use crate::expect::{Expect, Expectations, Target, Verify, target};
use crate::hub::lock;
use crate::identity::Identity;
use crate::realm::{Credentials, Places, Realm, RealmChange, Realms};
use crate::roots::Roots;
use crate::runtime::Options;
use crate::secure::{TlsChange, TlsFailure};

/// Targets whose connections are remembered one by one. Beyond, every change of expectations
/// makes a new pool.
const DIALED: usize = 4096;

/// The TLS of one client, shared by all connections.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    /// Whether the adapter speaks HTTP/2.
    http2: bool,
    /// What the application gave. Locked over a whole change, so that changes follow each other.
    given: Mutex<Given>,
    present: RwLock<Arc<Present>>,
    dialed: Mutex<BTreeSet<Target>>,
    failures: Mutex<failures::Failures>,
    resumption: Mutex<Resumption>,
}

struct Given {
    roots: Roots,
    identity: Option<Identity>,
    /// Those for the agents.
    agents: Option<Credentials>,
}

/// What holds at one moment.
struct Present {
    expect: Expectations,
    own: Party,
    agents: Option<Party>,
    agent_targets: Arc<BTreeSet<Target>>,
    /// With the trust domain.
    mesh: Option<(Party, Arc<str>)>,
    places: Arc<Places>,
    /// A configuration per realm and expectation, made with the first connection that needs it.
    configs: Mutex<BTreeMap<(Realm, Expect), Wardrobe>>,
}

/// How to secure a connection to one target.
pub struct Secured {
    /// The configuration to use.
    pub config: Arc<ClientConfig>,
    /// The server name to give: it is sent (SNI) if it is a DNS name, and verified if the target
    /// has to prove a name.
    pub name: ServerName<'static>,
    /// Where failures of this connection are noted.
    pub watch: Watch,
}

/// A target as the failures of its connections are noted. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    tls: Arc<Tls>,
    target: Target,
    sessions: Arc<Sessions>,
}

impl Watch {
    /// Remembers why a handshake with the target failed, for [`TlsFailure`]. After one that did,
    /// ask [`Tls::once_more`].
    pub fn note(&self, error: &rustls::Error) {
        let reason = match self.sessions.broke(error) {
            true => failures::broken_session(error),
            false => failures::reason(error),
        };
        lock(&self.tls.failures).note(&self.target, reason);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({}:{})", self.target.0, self.target.1)
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secured({:?})", self.watch)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("http2", &self.http2).finish_non_exhaustive()
    }
}

/// The configuration for a protocol that is no HTTP: host names are verified, no protocol is
/// negotiated.
///
/// # Errors
/// Roots or an identity that cannot be used.
#[cfg(feature = "redis-tls")]
pub(crate) fn plain(
    roots: &Roots,
    identity: Option<&Identity>,
) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let party = Party::of(roots, identity, &provider)?;
    let mut config = party.config(&provider, false, &Expect::default())?;
    config.alpn_protocols.clear();
    Ok(config)
}

impl Tls {
    /// TLS as the options say, for an adapter that speaks HTTP/2 or does not.
    ///
    /// # Errors
    /// Roots, an identity or expectations that cannot be used.
    pub fn new(options: &Options, http2: bool) -> Result<Arc<Tls>, ConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let Options { roots, identity, expect, realms, .. } = options;
        let Realms { agents, agent_targets } = realms;
        check(expect)?;
        let own = Party::of(roots, identity.as_ref(), &provider)?;
        let present = Present {
            expect: expect.clone(),
            agents: agents
                .as_ref()
                .map(|these| dress::agents(these, &own, &provider))
                .transpose()?,
            own,
            agent_targets: Arc::new(agent_targets.clone()),
            mesh: None,
            places: Arc::default(),
            configs: Mutex::default(),
        };
        // What rustls might refuse, it refuses now and not with the first connection.
        for realm in [Realm::Own, Realm::Agents] {
            present.wardrobe(&provider, http2, &Dress { realm, expect: Expect::default() })?;
        }
        Ok(Arc::new(Tls {
            provider,
            http2,
            given: Mutex::new(Given {
                roots: roots.clone(),
                identity: identity.clone(),
                agents: agents.clone(),
            }),
            present: RwLock::new(Arc::new(present)),
            dialed: Mutex::default(),
            failures: Mutex::default(),
            resumption: Mutex::default(),
        }))
    }

    /// How to secure a connection to `host` (as in the URL) and `port` at this moment.
    ///
    /// # Errors
    /// [`Fault::Tls`] for a host that no certificate can name.
    pub fn target(self: &Arc<Tls>, host: &str, port: u16) -> Result<Secured, Fault> {
        let target = target(host, port);
        {
            let mut dialed = lock(&self.dialed);
            if dialed.len() <= DIALED {
                dialed.insert(target.clone());
            }
        }
        // Read after it was noted: whoever exchanges it from now on sees the note.
        let present = self.present();
        let dress = present.dress(&target).map_err(|why| {
            lock(&self.failures).note(&target, why.to_owned());
            Fault::Tls
        })?;
        let name = match &dress.expect.verify {
            Verify::Name(name) => name,
            _ => &target.0,
        };
        let name = server_name(name).ok_or(Fault::Tls)?;
        let shared = present.wardrobe(&self.provider, self.http2, &dress);
        let Wardrobe { mut config, sessions } = shared.map_err(|_| Fault::Tls)?;
        let (tls, server) = (self.clone(), name.clone());
        let sessions = Arc::new(Sessions::new(sessions, tls.clone(), target.clone(), server));
        config.resumption = rustls::client::Resumption::store(sessions.clone());
        let watch = Watch { tls, target, sessions };
        Ok(Secured { config: Arc::new(config), name, watch })
    }

    /// Whether a connection to `host` (as in the URL) and `port` whose handshake failed just now
    /// is to be made once more, from the socket on: the server broke off because it was offered a
    /// session. Nothing had left. The next connection offers none.
    #[must_use]
    pub fn once_more(&self, host: &str, port: u16) -> bool {
        let (host, port) = target(host, port);
        lock(&self.resumption).once_more(&host, port)
    }

    /// Puts a change in force, as a whole or not at all. `renew` is called if connections that
    /// were made before must not be used any more; no other change is made meanwhile.
    ///
    /// # Errors
    /// What cannot be used. Nothing has changed then.
    pub fn change(&self, change: TlsChange, renew: impl FnOnce()) -> Result<(), ConfigError> {
        let mut given = lock(&self.given);
        let present = self.present();
        let TlsChange { identity, roots, expect, realm } = change;
        let identity = identity.filter(|other| *other != given.identity);
        let roots = roots.filter(|other| *other != given.roots);
        let expect = expect.filter(|other| *other != present.expect);
        let agents = match &realm {
            Some(RealmChange::Agents(these)) => Some(these.clone()),
            _ => None,
        };
        let agents = agents.filter(|other| given.agents.as_ref() != Some(other));
        let anew = identity.is_some() || roots.is_some();
        if !anew && expect.is_none() && agents.is_none() && !present.differs(realm.as_ref()) {
            return Ok(());
        }
        let mut next = Present {
            expect: expect.unwrap_or_else(|| present.expect.clone()),
            own: present.own.clone(),
            agents: present.agents.clone(),
            agent_targets: present.agent_targets.clone(),
            mesh: present.mesh.clone(),
            places: present.places.clone(),
            configs: Mutex::default(),
        };
        check(&next.expect)?;
        if let Some(roots) = &roots {
            next.own.roots = Arc::new(parse::roots(roots)?);
        }
        if let Some(identity) = &identity {
            let own = identity.as_ref().map(|own| parse::identity(own, &self.provider));
            next.own.identity = own.transpose()?;
        }
        // Without roots of their own, agents are vouched for by those of the application.
        let lent = given.agents.as_ref().filter(|these| roots.is_some() && these.roots.is_none());
        if let Some(these) = agents.as_ref().or(lent) {
            next.agents = Some(dress::agents(these, &next.own, &self.provider)?);
        }
        match realm {
            Some(RealmChange::Mesh(Some((these, domain)))) => {
                let roots = these.roots.as_ref().unwrap_or(&given.roots);
                let party = Party::of(roots, these.identity.as_ref(), &self.provider)?;
                next.mesh = Some((party, domain));
            }
            Some(RealmChange::Mesh(None)) => next.mesh = None,
            Some(RealmChange::Places(places)) => next.places = Arc::new(places),
            Some(RealmChange::Agents(_)) | None => {}
        }
        next.keep_configs(&present);
        for realm in [Realm::Own, Realm::Agents] {
            let dress = Dress { realm, expect: Expect::default() };
            next.wardrobe(&self.provider, self.http2, &dress)?;
        }
        // From here on nothing can fail.
        let next = Arc::new(next);
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        given.roots = roots.unwrap_or_else(|| given.roots.clone());
        given.identity = identity.unwrap_or_else(|| given.identity.clone());
        given.agents = agents.or_else(|| given.agents.clone());
        let mut dialed = lock(&self.dialed);
        let stale = anew
            || dialed.len() > DIALED
            || dialed.iter().any(|target| !next.same_for(&present, target));
        if stale {
            dialed.clear();
        }
        drop(dialed);
        lock(&self.failures).clear();
        lock(&self.resumption).forget();
        if stale {
            renew();
        }
        Ok(())
    }

    /// Why handshakes failed, the most recent last.
    #[must_use]
    pub fn failures(&self) -> Vec<TlsFailure> {
        lock(&self.failures).list()
    }

    fn present(&self) -> Arc<Present> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

/// Refuses expectations that no certificate can meet.
fn check(expect: &Expectations) -> Result<(), ConfigError> {
    expect.check()?;
    for (host, port, each) in expect.iter() {
        if let Verify::Name(name) = &each.verify
            && server_name(name).is_none()
        {
            let reason = format!("{name:?} is neither a DNS name nor an IP address");
            return Err(ConfigError::new(format!("expect.{host}:{port}"), reason));
        }
    }
    Ok(())
}
