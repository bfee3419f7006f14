//! The verification of servers that prove a SPIFFE id instead of a host name.
//!
//! The chain is verified as always (rustls-webpki: signatures, validity, usage for servers,
//! constraints). Then the certificate must have exactly one URI, as X.509-SVID demands, and it must
//! be the expected one. The host name is not looked at: in a mesh it is an address of the moment.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::expect::Verify;

/// Bytes of a foreign URI that are repeated to the operator.
const SHOWN: usize = 200;

/// Verifies a chain, and that it ends in the workload expected.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) verify: Verify,
}

impl ServerCertVerifier for Workload {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut uris = certificate.valid_uri_names();
        match (uris.next(), uris.next()) {
            (Some(uri), None) if self.verify.admits(uri) => Ok(ServerCertVerified::assertion()),
            (first, second) => {
                let presented = match (first, second) {
                    (None, _) => Presented::Nothing,
                    (Some(uri), None) => Presented::Another(shown(uri)),
                    _ => Presented::Several,
                };
                let stranger = Stranger { expected: self.verify.clone(), presented };
                let error = CertificateError::Other(OtherError(Arc::new(stranger)));
                Err(Error::InvalidCertificate(error))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The beginning of a URI, printable.
fn shown(uri: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    uri.chars().take(SHOWN).map(printable).collect()
}

/// A certificate of the right authority that names somebody else.
#[derive(Debug)]
pub(super) struct Stranger {
    expected: Verify,
    presented: Presented,
}

#[derive(Debug)]
enum Presented {
    Nothing,
    Another(String),
    Several,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, but the certificate ", self.expected)?;
        match &self.presented {
            Presented::Nothing => f.write_str("has no SPIFFE id"),
            Presented::Another(uri) => write!(f, "is for {uri:?}"),
            Presented::Several => f.write_str("has several URIs, which a SPIFFE id must not"),
        }
    }
}

impl std::error::Error for Stranger {}
