//! Whom to trust for server certificates. Plain data: no TLS library shows in it.

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
