//! How the credentials of a client stand, for snapshots: gathered from whoever keeps each of them.
//! No value is looked at here.

use std::time::Duration;

use origin_core::Time;
use origin_core::config::consul::TokenSource;
use origin_core::config::{StorageConfig, VaultAuth};
use origin_core::snapshot::{
    CredentialKind as Kind, CredentialSnapshot, CredentialSource as Source,
};

use crate::hub::{Hub, lock};
use crate::identity::{Chain, Identity, Piece};
use crate::roots::Roots;
use crate::runtime::Runtime;

fn piece(piece: &Piece) -> Source {
    piece.file.clone().map_or(Source::Program, Source::File)
}

fn of_identity(identity: &Identity) -> Source {
    match &identity.chain {
        Chain::Pem(chain) => piece(chain),
        Chain::Der(_) => Source::Program,
    }
}

fn of_roots(roots: &Roots) -> Source {
    match roots {
        Roots::WebPki => Source::BuiltIn,
        Roots::File { name, .. } => Source::File(name.clone()),
        Roots::Pem(_) | Roots::Der(_) => Source::Program,
    }
}

fn of_vault(auth: &VaultAuth, word: &str) -> Source {
    match auth {
        VaultAuth::Given => Source::Program,
        VaultAuth::TokenEnv(name) => Source::Variable(name.as_str().into()),
        VaultAuth::TokenFile(file) => Source::File(file.path.as_str().into()),
        VaultAuth::Approle(_) | VaultAuth::Kubernetes(_) | VaultAuth::Cert(_) => {
            Source::Login(word.into())
        }
    }
}

/// Where the secret key is had, which is the secret of them.
fn of_storage(config: &StorageConfig) -> Source {
    match (&config.secret_key_env, &config.secret_key_file) {
        (Some(name), _) => Source::Variable(name.as_str().into()),
        (None, Some(path)) => Source::File(path.as_str().into()),
        (None, None) => Source::Configuration,
    }
}

fn of_consul(token: &TokenSource) -> Source {
    match token {
        TokenSource::Text(_) => Source::Configuration,
        TokenSource::Env(name) => Source::Variable(name.as_str().into()),
    }
}

impl<R: Runtime> Hub<R> {
    /// All of them, in the order of their kinds.
    pub(crate) fn credentials(&self, now: Time) -> Vec<CredentialSnapshot> {
        let (wall, config) = (self.runtime.wall(), self.config());
        let since = |at: Time| Some(now.since(at));
        let passed = |second: u64| Duration::from_secs(wall.0.saturating_sub(second));
        let left = |second: u64| Some(Duration::from_secs(second.saturating_sub(wall.0)));
        let mut all = Vec::new();
        let view = self.identity_view();
        {
            let force = lock(&self.own.force);
            if let Some(identity) = &force.identity {
                all.push(CredentialSnapshot {
                    kind: Kind::Certificate,
                    source: of_identity(identity),
                    held: !view.expired,
                    age: since(force.identity_since),
                    ends_in: view.certificate.as_ref().and_then(|leaf| left(leaf.not_after.0)),
                });
            }
            all.push(CredentialSnapshot {
                kind: Kind::Roots,
                source: of_roots(&force.roots),
                held: true,
                age: since(force.roots_since),
                ends_in: force.roots_until.and_then(|until| left(until.0)),
            });
        }
        if let Some(token) = view.token {
            all.push(CredentialSnapshot {
                kind: Kind::ServiceToken,
                source: token.file.map_or(Source::Program, Source::File),
                held: token.held,
                age: token.since.map(|since| passed(since.0)),
                ends_in: token.until.and_then(|until| left(until.0)),
            });
        }
        match (self.vault_view(), &config.vault) {
            (Some(token), Some(vault)) => all.push(CredentialSnapshot {
                kind: Kind::VaultToken,
                source: of_vault(&vault.auth, &token.auth),
                held: token.since.is_some(),
                age: token.since.and_then(since),
                ends_in: token.until.filter(|until| *until != Time::NEVER).map(|at| now.until(at)),
            }),
            // Without `[vault]` it is sent as it is, and nobody asks how long it lasts.
            _ if self.token.is_some() => all.push(CredentialSnapshot {
                kind: Kind::VaultToken,
                source: Source::Program,
                held: true,
                age: since(Time::ZERO),
                ends_in: None,
            }),
            _ => {}
        }
        if let (Some(storage), Some(in_use)) = (&config.storage, self.storage.in_use_since()) {
            all.push(CredentialSnapshot {
                kind: Kind::StorageKeys,
                source: of_storage(storage),
                held: true,
                age: since(in_use),
                ends_in: None,
            });
        }
        let consul = config.discovery.as_ref().and_then(|discovery| discovery.consul.as_ref());
        if let Some(consul) = consul.filter(|consul| consul.enabled) {
            let tokens = [
                (Kind::ConsulAgentToken, &consul.agent_token),
                (Kind::ConsulServiceToken, &consul.service_token),
            ];
            for (kind, token) in tokens {
                let Some(token) = token else { continue };
                // Read once, when the client was built; Consul says nowhere when it ends.
                all.push(CredentialSnapshot {
                    kind,
                    source: of_consul(token),
                    held: true,
                    age: since(Time::ZERO),
                    ends_in: None,
                });
            }
        }
        let mesh = self.following.as_ref().and_then(|all| all.read(|machine| machine.in_force()));
        if let Some(mesh) = mesh {
            all.push(CredentialSnapshot {
                kind: Kind::MeshCertificate,
                source: Source::Consul,
                held: mesh.leaf.valid_before > wall,
                age: Some(passed(mesh.leaf.valid_after.0)),
                ends_in: left(mesh.leaf.valid_before.0),
            });
        }
        all
    }
}
