//! TLS for the adapters that use rustls directly: an explicit provider (ring), TLS 1.2 and 1.3,
//! HTTP/2 by ALPN. rustls types stay inside the adapters.

use std::sync::Arc;

use origin_core::ConfigError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::roots::{Identity, Roots};

/// The client configuration that trusts `roots`. `alpn` sets what is offered; connectors that set
/// it themselves pass nothing.
///
/// # Errors
/// Roots that hold no certificate, or an unreadable one.
pub fn client_config(roots: &Roots, alpn: &[&[u8]]) -> Result<ClientConfig, ConfigError> {
    client_config_as(roots, None, alpn)
}

/// The same, showing `identity` to servers that ask for a certificate.
///
/// # Errors
/// Also an identity that holds no certificate or no key, or a key of a kind that is not known.
pub fn client_config_as(
    roots: &Roots,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, ConfigError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Pem(pem) => {
            for certificate in certificates(pem, "roots")? {
                store.add(certificate).map_err(|e| {
                    ConfigError::new("roots", format!("a certificate is not usable: {e}"))
                })?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError::new("tls", e.to_string()))?
        .with_root_certificates(store);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(&identity.chain, "identity")?;
            // The errors are not repeated: what they quote could be part of the key.
            let refused = |reason: &str| ConfigError::new("identity", reason);
            let key = PrivateKeyDer::from_pem_slice(&identity.key);
            let key = key.map_err(|_| refused("the PEM text holds no private key"))?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|_| refused("the private key is not usable with the certificate"))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &[u8], field: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| ConfigError::new(field, "the PEM text is not valid"))?;
    if found.is_empty() {
        return Err(ConfigError::new(field, "the PEM text holds no certificate"));
    }
    Ok(found)
}
