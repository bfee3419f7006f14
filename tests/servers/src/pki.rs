//! A certificate authority for one test, a server certificate and a client certificate of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::room::Room;

/// PEM files of an authority and two certificates by it, and the same in memory.
///
/// Keys are P-256. The server's names are given, the client's is `client`; nothing expires.
#[derive(Clone, Debug)]
pub struct Papers {
    /// File of the authority's certificate.
    pub authority: PathBuf,
    /// File of the server's certificate.
    pub server: PathBuf,
    /// File of the server's key.
    pub server_key: PathBuf,
    /// File of the client's certificate.
    pub client: PathBuf,
    /// File of the client's key.
    pub client_key: PathBuf,
    with_client: Arc<ClientConfig>,
    without_client: Arc<ClientConfig>,
}

impl Papers {
    /// A new authority, and certificates for a server of these names (IP addresses count as
    /// such) and a client, as files in `room`.
    ///
    /// # Errors
    /// A name is none, or what the file system says.
    pub fn issue(room: &Room, server_names: &[&str]) -> io::Result<Papers> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority of one test");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let leaf = |names: &[&str], usage| -> io::Result<(String, String)> {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
            params.extended_key_usages = usage;
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let leaf = params.signed_by(&key, &authority).map_err(io::Error::other)?;
            Ok((leaf.pem(), key.serialize_pem()))
        };
        // Both: a Consul server shows its certificate to other servers as a client, too.
        let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (server, server_key) = leaf(server_names, both)?;
        let (client, client_key) = leaf(&["client"], vec![ExtendedKeyUsagePurpose::ClientAuth])?;

        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes());
        roots.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
        // Named, not the process's default: which one that is depends on who else is compiled in.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
            let builder =
                builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
            io::Result::Ok(builder.with_root_certificates(roots.clone()))
        };
        // Each exchange of the harness is a connection of its own, and not every server can take
        // a session up again that had a client certificate: RustyVault breaks it off.
        let alone = |mut config: ClientConfig| {
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        };
        let chain =
            vec![CertificateDer::from_pem_slice(client.as_bytes()).map_err(io::Error::other)?];
        let key = PrivateKeyDer::from_pem_slice(client_key.as_bytes()).map_err(io::Error::other)?;
        let with_client = builder()?.with_client_auth_cert(chain, key).map_err(io::Error::other)?;
        Ok(Papers {
            authority: room.write("ca.pem", authority.pem())?,
            server: room.write("server.pem", server)?,
            server_key: room.write("server.key", server_key)?,
            client: room.write("client.pem", client)?,
            client_key: room.write("client.key", client_key)?,
            with_client: alone(with_client),
            without_client: alone(builder()?.with_no_client_auth()),
        })
    }

    /// TLS that shows the client's certificate.
    #[must_use]
    pub fn as_client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.with_client)
    }

    /// TLS that trusts the authority and shows nothing.
    #[must_use]
    pub fn anonymous(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.without_client)
    }
}
