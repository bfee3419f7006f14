//! Certificates and keys from what the application gave, with errors that say where it came from
//! and what is wrong with it, and never what is in it.

use std::sync::Arc;

use origin_core::ConfigError;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::identity::{Chain, Form, Identity, Piece};
use crate::roots::Roots;

/// The trust anchors of `roots`: at least one, and every one usable.
pub(super) fn roots(roots: &Roots) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    let (file, all) = match roots {
        Roots::WebPki => {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(store);
        }
        Roots::Pem(pem) => (None, certificates("roots", None, pem)?),
        Roots::File { name, pem } => (Some(&**name), certificates("roots", Some(name), pem)?),
        Roots::Der(all) => (None, all.iter().map(|der| der.clone().into()).collect()),
    };
    for certificate in all {
        store
            .add(certificate)
            .map_err(|e| refused("roots", file, &format!("a certificate is not usable: {e}")))?;
    }
    if store.is_empty() {
        return Err(refused("roots", file, "there is no certificate"));
    }
    Ok(store)
}

/// The chain and the key of `identity`, which belong together.
pub(super) fn identity(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, ConfigError> {
    let (file, chain) = match &identity.chain {
        Chain::Pem(Piece { bytes, file, .. }) => {
            let file = file.as_deref();
            (file, certificates("identity.chain", file, bytes)?)
        }
        Chain::Der(all) => (None, all.iter().map(|der| der.to_vec().into()).collect()),
    };
    if chain.is_empty() {
        return Err(refused("identity.chain", file, "there is no certificate"));
    }
    for certificate in &chain {
        webpki::EndEntityCert::try_from(certificate).map_err(|e| {
            refused("identity.chain", file, &format!("a certificate is not usable: {e}"))
        })?;
    }
    let file = identity.key.file.as_deref();
    let key = key(&identity.key)?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
        let reason = match e {
            rustls::Error::InconsistentKeys(_) => {
                "the key does not belong to the first certificate of the chain".to_owned()
            }
            e => format!("the key is not usable: {e}"),
        };
        refused("identity.key", file, &reason)
    })?;
    Ok(Arc::new(certified))
}

fn key(piece: &Piece) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let refused = |reason| refused("identity.key", piece.file.as_deref(), reason);
    match piece.form {
        Form::Der => PrivateKeyDer::try_from(piece.bytes.to_vec())
            .map_err(|_| refused("the DER is no key as PKCS#8, PKCS#1 or SEC1")),
        Form::Pem => PrivateKeyDer::from_pem_slice(&piece.bytes).map_err(|e| match e {
            pem::Error::NoItemsFound => refused(
                "there is no key as PKCS#8, PKCS#1 or SEC1 (an encrypted one cannot be used)",
            ),
            _ => refused("the PEM text is not valid"),
        }),
    }
}

fn certificates(
    field: &str,
    file: Option<&str>,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| refused(field, file, "the PEM text is not valid"))?;
    if found.is_empty() {
        return Err(refused(field, file, "the PEM text holds no certificate"));
    }
    Ok(found)
}

fn refused(field: &str, file: Option<&str>, reason: &str) -> ConfigError {
    let reason = file.map_or_else(|| reason.to_owned(), |file| format!("{file}: {reason}"));
    ConfigError::new(field, reason)
}
