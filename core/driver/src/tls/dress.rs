//! What a connection to a target is made with: whose certificates count for it, and whom it has to
//! be. Here is the wall between the realms: a target has one, and nothing of another is used for it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use origin_core::ConfigError;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use super::{Present, parse, verifier};
use crate::expect::{Expect, Target, Verify};
use crate::hub::lock;
use crate::identity::Identity;
use crate::realm::{Credentials, Place, Realm, RealmChange};
use crate::roots::Roots;

/// Sessions kept for targets that prove their host name.
const SESSIONS: usize = 256;
/// Sessions kept per other expectation: those of one service, as a rule.
const SESSIONS_EACH: usize = 32;

/// Credentials of one realm, read.
#[derive(Clone)]
pub(super) struct Party {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
}

/// What a connection is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dress {
    pub(super) realm: Realm,
    pub(super) expect: Expect,
}

/// What all connections of one dress share.
#[derive(Clone)]
pub(super) struct Wardrobe {
    pub(super) config: ClientConfig,
    pub(super) sessions: Arc<ClientSessionMemoryCache>,
}

/// The certificates for the agents. Where they name no roots, those of the application count.
pub(super) fn agents(
    these: &Credentials,
    own: &Party,
    provider: &CryptoProvider,
) -> Result<Party, ConfigError> {
    let at = |error: ConfigError| {
        let field = match error.field.as_str() {
            "roots" => "ca",
            "identity.key" => "key",
            _ => "cert",
        };
        ConfigError::new(format!("discovery.consul.tls.{field}"), error.reason)
    };
    let roots = match &these.roots {
        Some(roots) => Arc::new(parse::roots(roots).map_err(at)?),
        None => own.roots.clone(),
    };
    let identity = these.identity.as_ref().map(|one| parse::identity(one, provider));
    Ok(Party { roots, identity: identity.transpose().map_err(at)? })
}

impl Party {
    pub(super) fn of(
        roots: &Roots,
        identity: Option<&Identity>,
        provider: &CryptoProvider,
    ) -> Result<Party, ConfigError> {
        Ok(Party {
            roots: Arc::new(parse::roots(roots)?),
            identity: identity.map(|own| parse::identity(own, provider)).transpose()?,
        })
    }

    /// Whether these are the very ones.
    fn same(&self, other: &Party) -> bool {
        let identity = match (&self.identity, &other.identity) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        Arc::ptr_eq(&self.roots, &other.roots) && identity
    }

    pub(super) fn config(
        &self,
        provider: &Arc<CryptoProvider>,
        http2: bool,
        expect: &Expect,
    ) -> Result<ClientConfig, ConfigError> {
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
        Ok(config)
    }
}

impl Present {
    /// How to connect to a target.
    ///
    /// # Errors
    /// Why nobody can, for operators.
    pub(super) fn dress(&self, target: &Target) -> Result<Dress, &'static str> {
        let expect = self.expect.of_target(target);
        if self.agents.is_some() && self.agent_targets.contains(target) {
            return Ok(Dress { realm: Realm::Agents, expect });
        }
        let service = match self.places.get(target) {
            None => return Ok(Dress { realm: Realm::Own, expect }),
            Some(Place::Contested) => {
                return Err("consul names this address for two services of the mesh");
            }
            Some(Place::Service(service)) => service,
        };
        let Some((_, trust_domain)) = &self.mesh else {
            return Err("there is no certificate of the mesh, or it has expired");
        };
        // What the application says of this very target wins, but not over whose it is.
        if expect.verify.is_id() {
            return Ok(Dress { realm: Realm::Mesh, expect });
        }
        let (trust_domain, service) = (trust_domain.clone(), service.clone());
        let expect = Expect::of(Verify::Spiffe { trust_domain, service }).http1_only();
        Ok(Dress { realm: Realm::Mesh, expect })
    }

    fn party(&self, realm: Realm) -> Option<&Party> {
        match realm {
            Realm::Own => Some(&self.own),
            // Without certificates for them agents are servers like any other.
            Realm::Agents => Some(self.agents.as_ref().unwrap_or(&self.own)),
            Realm::Mesh => self.mesh.as_ref().map(|(party, _)| party),
        }
    }

    /// Whether a change of the realms changes anything; certificates for agents aside.
    pub(super) fn differs(&self, realm: Option<&RealmChange>) -> bool {
        match realm {
            None | Some(RealmChange::Agents(_)) => false,
            Some(RealmChange::Mesh(None)) => self.mesh.is_some(),
            Some(RealmChange::Mesh(Some(_))) => true,
            Some(RealmChange::Places(places)) => *places != *self.places,
        }
    }

    /// Whether connections to a target are still what they were.
    pub(super) fn same_for(&self, before: &Present, target: &Target) -> bool {
        let (dress, earlier) = (self.dress(target), before.dress(target));
        let realm = |dress: &Result<Dress, _>| dress.as_ref().ok().map(|dress| dress.realm);
        let same = match (realm(&dress), realm(&earlier)) {
            (Some(a), Some(b)) => match (self.party(a), before.party(b)) {
                (Some(party), Some(other)) => party.same(other),
                _ => false,
            },
            (a, b) => a == b,
        };
        same && dress == earlier
    }

    /// Takes over the configurations that still hold: the same certificates, and what is still
    /// expected. Their sessions go on.
    pub(super) fn keep_configs(&mut self, before: &Present) {
        let expected: BTreeSet<&Expect> = self.expect.iter().map(|(_, _, each)| each).collect();
        let mut configs = lock(&before.configs).clone();
        configs.retain(|(realm, expect), _| {
            let same = match (self.party(*realm), before.party(*realm)) {
                (Some(party), Some(other)) => party.same(other),
                _ => false,
            };
            let known = match (realm, &expect.verify) {
                (Realm::Mesh, Verify::Spiffe { service, .. }) => {
                    let place = Place::Service(service.clone());
                    self.places.values().any(|known| *known == place)
                }
                _ => *expect == Expect::default() || expected.contains(expect),
            };
            same && known
        });
        self.configs = configs.into();
    }

    pub(super) fn wardrobe(
        &self,
        provider: &Arc<CryptoProvider>,
        http2: bool,
        dress: &Dress,
    ) -> Result<Wardrobe, ConfigError> {
        let key = (dress.realm, dress.expect.clone());
        if let Some(shared) = lock(&self.configs).get(&key) {
            return Ok(shared.clone());
        }
        let party = self.party(dress.realm);
        let party = party.ok_or_else(|| ConfigError::new("tls", "there is no certificate"))?;
        let config = party.config(provider, http2, &dress.expect)?;
        let plain = dress.expect == Expect::default();
        let sessions = if plain { SESSIONS } else { SESSIONS_EACH };
        let sessions = Arc::new(ClientSessionMemoryCache::new(sessions));
        // Two connections that came here at once share one configuration.
        Ok(lock(&self.configs).entry(key).or_insert(Wardrobe { config, sessions }).clone())
    }
}
