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
//! what had been verified before.

mod failures;
mod parse;
mod verifier;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use origin_core::ConfigError;
use origin_core::outcome::Fault;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

pub use failures::{cause, is_refusal};

use crate::expect::{Expect, Expectations, Target, Verify, target};
use crate::hub::lock;
use crate::identity::Identity;
use crate::roots::Roots;
use crate::runtime::Options;
use crate::secure::{TlsChange, TlsFailure};

/// Targets whose connections are remembered one by one. Beyond, every change of expectations
/// makes a new pool.
const DIALED: usize = 4096;
/// Sessions kept for targets that prove their host name.
const SESSIONS: usize = 256;
/// Sessions kept per other expectation: those of one service, as a rule.
const SESSIONS_EACH: usize = 32;

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
}

struct Given {
    roots: Roots,
    identity: Option<Identity>,
}

/// What holds at one moment.
struct Present {
    expect: Expectations,
    roots: Arc<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
    /// A configuration per expectation, made with the first connection that needs it.
    configs: Mutex<BTreeMap<Expect, Arc<ClientConfig>>>,
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
}

impl Watch {
    /// Remembers why a handshake with the target failed, for [`TlsFailure`].
    pub fn note(&self, error: &rustls::Error) {
        lock(&self.tls.failures).note(&self.target, error);
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
    let present = Present {
        expect: Expectations::default(),
        roots: Arc::new(parse::roots(roots)?),
        identity: identity.map(|own| parse::identity(own, &provider)).transpose()?,
        configs: Mutex::default(),
    };
    let mut config = ClientConfig::clone(&*present.config(&provider, false, &Expect::default())?);
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
        let Options { roots, identity, expect, .. } = options;
        check(expect)?;
        let present = Present {
            expect: expect.clone(),
            roots: Arc::new(parse::roots(roots)?),
            identity: identity.as_ref().map(|own| parse::identity(own, &provider)).transpose()?,
            configs: Mutex::default(),
        };
        // What rustls might refuse, it refuses now and not with the first connection.
        present.config(&provider, http2, &Expect::default())?;
        Ok(Arc::new(Tls {
            provider,
            http2,
            given: Mutex::new(Given { roots: roots.clone(), identity: identity.clone() }),
            present: RwLock::new(Arc::new(present)),
            dialed: Mutex::default(),
            failures: Mutex::default(),
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
        let expect = present.expect.of_target(&target);
        let name = match &expect.verify {
            Verify::Name(name) => name,
            _ => &target.0,
        };
        let name = server_name(name).ok_or(Fault::Tls)?;
        let config = present.config(&self.provider, self.http2, &expect).map_err(|_| Fault::Tls)?;
        Ok(Secured { config, name, watch: Watch { tls: self.clone(), target } })
    }

    /// Puts a change in force, as a whole or not at all. `renew` is called if connections that
    /// were made before must not be used any more; no other change is made meanwhile.
    ///
    /// # Errors
    /// What cannot be used. Nothing has changed then.
    pub fn change(&self, change: TlsChange, renew: impl FnOnce()) -> Result<(), ConfigError> {
        let mut given = lock(&self.given);
        let present = self.present();
        let TlsChange { identity, roots, expect } = change;
        let identity = identity.filter(|other| *other != given.identity);
        let roots = roots.filter(|other| *other != given.roots);
        let expect = expect.filter(|other| *other != present.expect);
        let anew = identity.is_some() || roots.is_some();
        if !anew && expect.is_none() {
            return Ok(());
        }
        let mut next = Present {
            expect: expect.unwrap_or_else(|| present.expect.clone()),
            roots: present.roots.clone(),
            identity: present.identity.clone(),
            configs: Mutex::default(),
        };
        check(&next.expect)?;
        if let Some(roots) = &roots {
            next.roots = Arc::new(parse::roots(roots)?);
        }
        if let Some(identity) = &identity {
            let own = identity.as_ref().map(|own| parse::identity(own, &self.provider));
            next.identity = own.transpose()?;
        }
        if !anew {
            // The same identity and roots: sessions of what is still expected go on.
            let expected: BTreeSet<_> = next.expect.iter().map(|(_, _, each)| each).collect();
            let mut configs = lock(&present.configs).clone();
            configs.retain(|each, _| *each == Expect::default() || expected.contains(each));
            next.configs = Mutex::new(configs);
        }
        next.config(&self.provider, self.http2, &Expect::default())?;
        // From here on nothing can fail.
        let next = Arc::new(next);
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        given.roots = roots.unwrap_or_else(|| given.roots.clone());
        given.identity = identity.unwrap_or_else(|| given.identity.clone());
        let mut dialed = lock(&self.dialed);
        let stale = anew
            || dialed.len() > DIALED
            || next.expect.differences(&present.expect).any(|target| dialed.contains(target));
        if stale {
            dialed.clear();
        }
        drop(dialed);
        lock(&self.failures).clear();
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

impl Present {
    fn config(
        &self,
        provider: &Arc<CryptoProvider>,
        http2: bool,
        expect: &Expect,
    ) -> Result<Arc<ClientConfig>, ConfigError> {
        if let Some(config) = lock(&self.configs).get(expect) {
            return Ok(config.clone());
        }
        let refused = |e: &dyn fmt::Display| ConfigError::new("tls", e.to_string());
        let verifier: Arc<dyn ServerCertVerifier> = if expect.verify.is_id() {
            Arc::new(verifier::Workload {
                roots: self.roots.clone(),
                algorithms: provider.signature_verification_algorithms,
                verify: expect.verify.clone(),
            })
        } else {
            WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider.clone())
                .build()
                .map_err(|e| refused(&e))?
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| refused(&e))?
            // Not dangerous: both verify whole chains, one of them is rustls's own.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone())))
            }
            None => builder.with_no_client_auth(),
        };
        let both: [&[u8]; 2] = [b"h2", b"http/1.1"];
        let offered = if http2 && !expect.http1_only { &both[..] } else { &both[1..] };
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        let plain = *expect == Expect::default();
        let sessions = if plain { SESSIONS } else { SESSIONS_EACH };
        config.resumption = Resumption::in_memory_sessions(sessions);
        // Two connections that came here at once share one configuration.
        Ok(lock(&self.configs).entry(expect.clone()).or_insert_with(|| Arc::new(config)).clone())
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
