//! Whom to trust for server certificates, and which to show. Plain data: no TLS library shows in
//! it.

use std::fmt;

/// The certificate authorities that may vouch for a server.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's list, compiled in.
    #[default]
    WebPki,
    /// These certificates and no others, as PEM text.
    Pem(Vec<u8>),
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Roots::WebPki => f.write_str("WebPki"),
            Roots::Pem(pem) => write!(f, "Pem({} bytes)", pem.len()),
        }
    }
}

/// A certificate of our own, for servers that ask for one, with its key.
#[derive(Clone)]
#[cfg_attr(not(feature = "rustls"), expect(dead_code, reason = "what reads it is not built"))]
pub struct Identity {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Identity {
    /// From PEM text: the certificate with those that lead to its authority behind it, and its
    /// private key (PKCS #8, SEC 1 or PKCS #1). Both are read when the client is built.
    #[must_use]
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Identity {
        Identity { chain: chain.into(), key: key.into() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} bytes, key …)", self.chain.len())
    }
}
