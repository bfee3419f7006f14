//! TLS for the adapters that use rustls directly: an explicit provider (ring), TLS 1.2 and 1.3,
//! HTTP/2 by ALPN. rustls types stay inside the adapters.

use std::sync::Arc;

use origin_core::ConfigError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::roots::Roots;

/// The client configuration that trusts `roots`. `alpn` sets what is offered; connectors that set
/// it themselves pass nothing.
///
/// # Errors
/// Roots that hold no certificate, or an unreadable one.
pub fn client_config(roots: &Roots, alpn: &[&[u8]]) -> Result<ClientConfig, ConfigError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Pem(pem) => {
            for certificate in certificates(pem)? {
                store.add(certificate).map_err(|e| {
                    ConfigError::new("roots", format!("a certificate is not usable: {e}"))
                })?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError::new("tls", e.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| ConfigError::new("roots", "the PEM text is not valid"))?;
    if found.is_empty() {
        return Err(ConfigError::new("roots", "the PEM text holds no certificate"));
    }
    Ok(found)
}
