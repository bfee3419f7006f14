//! Who this client is to servers that ask for a certificate. Plain data: no TLS library shows in
//! it, and the key shows nowhere.
//!
//! What is in it is looked at when it is put to use (`Builder::build`, `Client::set_identity`),
//! because reading certificates takes a TLS library. What is wrong is then said with the file.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use origin_core::ConfigError;
use serde::{Deserialize, Serialize};

use crate::roots::Roots;

/// The largest certificate or key file that is read. Real ones have a few kilobytes; a bundle of
/// all public authorities has about 200.
const LARGEST: u64 = 1 << 20;

/// A certificate chain, the client's own certificate first, and the private key that belongs to
/// it. `Debug` prints sizes and file names, never the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub(crate) chain: Chain,
    pub(crate) key: Piece,
}

/// Bytes and where they came from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) bytes: Arc<[u8]>,
    /// The file, for errors.
    pub(crate) file: Option<Arc<str>>,
    pub(crate) form: Form,
}

/// How bytes are to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Pem,
    Der,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Chain {
    Pem(Piece),
    Der(Vec<Arc<[u8]>>),
}

impl Identity {
    /// From PEM text: the chain, and the key as PKCS#8, PKCS#1 or SEC1 (`EC PRIVATE KEY`, which
    /// Consul writes). Both may be the same text. Other sections are passed over.
    #[must_use]
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Identity {
        let piece = |bytes: Vec<u8>| Piece { bytes: bytes.into(), file: None, form: Form::Pem };
        Identity { chain: Chain::Pem(piece(chain.into())), key: piece(key.into()) }
    }

    /// From DER: the certificates of the chain in order, and the key as PKCS#8, PKCS#1 or SEC1.
    #[must_use]
    pub fn der(chain: impl IntoIterator<Item = Vec<u8>>, key: impl Into<Vec<u8>>) -> Identity {
        let key = Piece { bytes: key.into().into(), file: None, form: Form::Der };
        Identity { chain: Chain::Der(chain.into_iter().map(Into::into).collect()), key }
    }

    /// From two PEM files, which may be the same. They are read now; to follow a change, read them
    /// again and give the result to `Client::set_identity`.
    ///
    /// # Errors
    /// A file that cannot be read or is larger than 1 MiB, by its name; the field is
    /// `identity.chain` or `identity.key`.
    pub fn files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Identity, ConfigError> {
        let chain = Chain::Pem(Piece::file("identity.chain", chain.as_ref())?);
        Ok(Identity { chain, key: Piece::file("identity.key", key.as_ref())? })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.chain {
            Chain::Pem(Piece { file: Some(file), .. }) => write!(f, "Identity({file}, key …)"),
            Chain::Pem(piece) => write!(f, "Identity({} bytes, key …)", piece.bytes.len()),
            Chain::Der(chain) => write!(f, "Identity({} certificates, key …)", chain.len()),
        }
    }
}

impl Piece {
    /// The content of a PEM file.
    pub(crate) fn file(field: &str, path: &Path) -> Result<Piece, ConfigError> {
        let name = path.display();
        let refused = |why: &dyn fmt::Display| ConfigError::new(field, format!("{name}: {why}"));
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|e| refused(&e))?;
        if bytes.len() as u64 > LARGEST {
            return Err(refused(&format_args!("larger than {LARGEST} bytes")));
        }
        let file = Some(name.to_string().into());
        Ok(Piece { bytes: bytes.into(), file, form: Form::Pem })
    }
}

/// The three files of a client in a mesh of its own authority. The defaults are where a Consul
/// agent keeps them (003-47).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The authorities that vouch for servers. Default `/etc/consul/ca.pem`.
    pub ca: String,
    /// The client's certificate, and what is between it and the authority. Default
    /// `/etc/consul/cert.pem`.
    pub cert: String,
    /// Its key. Default `/etc/consul/key.pem`.
    pub key: String,
}

impl Default for TlsFiles {
    fn default() -> TlsFiles {
        let at = |name: &str| format!("/etc/consul/{name}.pem");
        TlsFiles { ca: at("ca"), cert: at("cert"), key: at("key") }
    }
}

impl TlsFiles {
    /// Reads all three.
    ///
    /// # Errors
    /// The first file that cannot be read: the field is `{path}.ca`, `{path}.cert` or
    /// `{path}.key`, the reason begins with the name of the file.
    pub fn read(&self, path: &str) -> Result<(Roots, Identity), ConfigError> {
        let read =
            |field: &str, name: &str| Piece::file(&format!("{path}.{field}"), Path::new(name));
        let roots = Roots::of(read("ca", &self.ca)?);
        let chain = Chain::Pem(read("cert", &self.cert)?);
        Ok((roots, Identity { chain, key: read("key", &self.key)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_003_47_the_default_files_are_those_of_a_consul_agent() {
        let files = TlsFiles::default();
        let all = [files.ca, files.cert, files.key];
        assert_eq!(all, ["/etc/consul/ca.pem", "/etc/consul/cert.pem", "/etc/consul/key.pem"]);
    }

    #[test]
    fn case_003_47_what_cannot_be_read_is_named_with_its_field() {
        let folder = std::env::temp_dir().join(format!("origin-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name).display().to_string();
        std::fs::write(at("ca.pem"), "ca").unwrap();
        std::fs::write(at("cert.pem"), "cert").unwrap();
        std::fs::write(at("large.pem"), vec![b'x'; LARGEST as usize + 1]).unwrap();
        let files = |ca: &str, cert: &str, key: &str| {
            TlsFiles { ca: at(ca), cert: at(cert), key: at(key) }.read("consul.tls").unwrap_err()
        };
        for (error, field, name) in [
            (files("none.pem", "cert.pem", "key.pem"), "consul.tls.ca", "none.pem"),
            (files("ca.pem", "large.pem", "key.pem"), "consul.tls.cert", "large.pem"),
            // A folder.
            (files("ca.pem", "cert.pem", "."), "consul.tls.key", "."),
        ] {
            assert_eq!(error.field, field);
            assert!(error.reason.starts_with(&at(name)), "{error}");
        }
        let error = Identity::files(at("cert.pem"), at("no-key.pem")).unwrap_err();
        assert_eq!(error.field, "identity.key");
        assert!(error.reason.contains("no-key.pem"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn nothing_prints_the_key() {
        for identity in [
            Identity::pem("chain", "SECRET"),
            Identity::der([b"chain".to_vec()], b"SECRET".to_vec()),
        ] {
            let text = format!("{identity:?} {identity:#?}");
            assert!(!text.contains("SECRET") && !text.contains("83, 69"), "{text}");
        }
    }
}
