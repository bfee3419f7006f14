//! Whom to trust for server certificates, and which to show. Plain data: no TLS library shows in
//! it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use origin_core::identity::Leaf;
use origin_core::{ConfigError, Wall};

use crate::identity::Piece;

/// The certificate authorities that may vouch for a server.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's list, compiled in.
    #[default]
    WebPki,
    /// These certificates and no others, as PEM text.
    Pem(Vec<u8>),
    /// These certificates and no others, as DER.
    Der(Vec<Vec<u8>>),
    /// The certificates of a PEM file and no others; made by [`Roots::file`].
    #[non_exhaustive]
    File {
        /// The file, which errors name.
        name: Arc<str>,
        /// What it contained.
        pem: Arc<[u8]>,
    },
}

impl Roots {
    /// The certificates of a PEM file. It is read now; to follow a change, read it again and give
    /// the result to `Client::set_roots`.
    ///
    /// # Errors
    /// The file by its name, when it cannot be read or is larger than 1 MiB.
    pub fn file(path: impl AsRef<Path>) -> Result<Roots, ConfigError> {
        Ok(Roots::of(Piece::file("roots", path.as_ref())?))
    }

    /// When the first of them ends; `None` where that is not known.
    pub(crate) fn until(&self) -> Option<Wall> {
        match self {
            Roots::WebPki => None,
            Roots::Pem(pem) => Leaf::all(pem).map(|leaf| leaf.not_after).min(),
            Roots::File { pem, .. } => Leaf::all(pem).map(|leaf| leaf.not_after).min(),
            Roots::Der(all) => all.iter().filter_map(|der| Leaf::der(der)?.not_after.into()).min(),
        }
    }

    pub(crate) fn of(piece: Piece) -> Roots {
        Roots::File { name: piece.file.unwrap_or_default(), pem: piece.bytes }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Roots::WebPki => f.write_str("WebPki"),
            Roots::Pem(pem) => write!(f, "Pem({} bytes)", pem.len()),
            Roots::Der(all) => write!(f, "Der({} certificates)", all.len()),
            Roots::File { name, .. } => write!(f, "File({name})"),
        }
    }
}
