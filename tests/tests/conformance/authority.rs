//! A certificate authority of the test's own, and HTTPS servers with its certificates: one thread
//! per connection, HTTP/1.1, answering with the name of the client they see.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use origin_driver::{Identity, Roots};
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use rustls::{StreamOwned, SupportedProtocolVersion, version};

static AUTHORITIES: AtomicU64 = AtomicU64::new(0);

/// Vouches for servers and clients.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: Vec<u8>,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each of another name, or one would be taken for the other with a wrong key.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::Pem(self.pem().into_bytes())
    }

    /// A certificate for these names, addresses and URIs.
    pub(crate) fn leaf(&self, names: &[&str]) -> Leaf {
        self.made(names, |_| {})
    }

    /// The same for a while only, from one second since 1970 to another.
    pub(crate) fn leaf_between(&self, names: &[&str], from: Duration, to: Duration) -> Leaf {
        self.made(names, |params| {
            let start = rcgen::date_time_ymd(1970, 1, 1);
            (params.not_before, params.not_after) = (start + from, start + to);
        })
    }

    fn made(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|n| n.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uris = uris.into_iter().map(|uri| SanType::URI(Ia5String::try_from(uri).unwrap()));
        params.subject_alt_names.extend(uris);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        }
    }

    fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add(self.issuer.der().clone()).unwrap();
        store
    }
}

impl Leaf {
    pub(crate) fn identity(&self) -> Identity {
        Identity::pem(self.pem.as_str(), self.key_pem.as_str())
    }
}

/// How a server is set up.
#[derive(Clone)]
pub(crate) struct Setup<'a> {
    pub(crate) leaf: Leaf,
    /// Who has to vouch for clients; nobody asks them otherwise.
    pub(crate) clients: Option<&'a Authority>,
    pub(crate) alpn: &'a [&'a str],
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    /// Whether connections are kept after an answer.
    pub(crate) keep: bool,
}

/// TLS 1.3 and 1.2, each alone.
pub(crate) const EACH_VERSION: [&[&SupportedProtocolVersion]; 2] =
    [&[&version::TLS13], &[&version::TLS12]];

impl<'a> Setup<'a> {
    pub(crate) fn of(leaf: Leaf) -> Setup<'a> {
        Setup { leaf, clients: None, alpn: &[], versions: rustls::ALL_VERSIONS, keep: true }
    }

    pub(crate) fn requiring(leaf: Leaf, clients: &'a Authority) -> Setup<'a> {
        Setup { clients: Some(clients), ..Setup::of(leaf) }
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.store());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf.key.clone()));
        let mut config = builder.with_single_cert(vec![self.leaf.der.clone()], key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.session_storage = Arc::new(Noted(ServerSessionMemoryCache::new(256)));
        Arc::new(config)
    }
}

thread_local! {
    /// Whether the client of this thread has offered a session.
    static OFFERED: Cell<bool> = const { Cell::new(false) };
}

/// Sessions, with a note of who offers one.
#[derive(Debug)]
struct Noted(Arc<ServerSessionMemoryCache>);

impl StoresServerSessions for Noted {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let known = self.0.get(key);
        OFFERED.set(OFFERED.get() || known.is_some());
        known
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let known = self.0.take(key);
        OFFERED.set(OFFERED.get() || known.is_some());
        known
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// What a server does about a session that it is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnOffer {
    /// It goes on with it.
    #[default]
    Resume,
    /// It breaks off with the alert `internal_error`, as OpenSSL without a session id context.
    Break,
    /// It closes without a word.
    Close,
    /// It breaks off in any case, offered one or not.
    BreakAll,
}

/// A server on loopback, until the process ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    config: RwLock<(Arc<ServerConfig>, bool)>,
    /// Clients by their certificates.
    known: Mutex<BTreeMap<Vec<u8>, String>>,
    /// Open connections by client.
    open: Mutex<BTreeMap<String, u64>>,
    accepted: AtomicU64,
    resumed: AtomicU64,
    broken: AtomicU64,
    requests: AtomicU64,
    on_offer: Mutex<OnOffer>,
    /// Whether one that refuses a client does not wait for it to have heard.
    abrupt: AtomicBool,
}

impl Server {
    pub(crate) fn start(setup: &Setup<'_>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            config: RwLock::new((setup.config(), setup.keep)),
            known: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            on_offer: Mutex::default(),
            requests: AtomicU64::new(0),
            abrupt: AtomicBool::new(false),
        });
        let server = Server { port, shared: shared.clone() };
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || serve(&shared, tcp));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Closes at once where it refuses a client: what is still on its way is answered with a reset.
    pub(crate) fn be_abrupt(&self) {
        self.shared.abrupt.store(true, Ordering::SeqCst);
    }

    /// Uses another setup for new connections.
    pub(crate) fn present(&self, setup: &Setup<'_>) {
        *self.shared.config.write().unwrap() = (setup.config(), setup.keep);
    }

    /// Answers this client with its name.
    pub(crate) fn know(&self, leaf: &Leaf, name: &str) {
        self.shared.known.lock().unwrap().insert(leaf.der.to_vec(), name.to_owned());
    }

    /// Connections that are open to a client.
    pub(crate) fn open(&self, name: &str) -> u64 {
        self.shared.open.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that began with the session of an earlier one.
    pub(crate) fn resumed(&self) -> u64 {
        self.shared.resumed.load(Ordering::SeqCst)
    }

    /// Does this with sessions that it is offered from now on.
    pub(crate) fn on_offer(&self, what: OnOffer) {
        *self.shared.on_offer.lock().unwrap() = what;
    }

    /// Handshakes that it broke off by that.
    pub(crate) fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::SeqCst)
    }

    /// Connections that were made and are no more.
    pub(crate) fn closed(&self) -> u64 {
        self.accepted() - self.shared.open.lock().unwrap().values().sum::<u64>()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

fn serve(shared: &Shared, mut tcp: TcpStream) {
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    let (config, keep) = shared.config.read().unwrap().clone();
    let mut connection = ServerConnection::new(config).unwrap();
    let on_offer = *shared.on_offer.lock().unwrap();
    if on_offer != OnOffer::Resume && breaks_off(&mut connection, &mut tcp, on_offer) {
        shared.broken.fetch_add(1, Ordering::SeqCst);
        return;
    }
    if connection.complete_io(&mut tcp).is_err() || connection.is_handshaking() {
        // Tells why, and stays until the client has gone: a reset would overtake the alert.
        while connection.wants_write() && connection.write_tls(&mut tcp).is_ok() {}
        if shared.abrupt.load(Ordering::SeqCst) {
            return;
        }
        let _ = tcp.set_read_timeout(Some(Duration::from_secs(2)));
        let mut rest = [0; 4096];
        while tcp.read(&mut rest).is_ok_and(|count| count > 0) {}
        return;
    }
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        shared.resumed.fetch_add(1, Ordering::SeqCst);
    }
    let seen = connection.peer_certificates().and_then(|chain| chain.first().cloned());
    let name = match seen {
        None => "nobody".to_owned(),
        Some(leaf) => {
            let known = shared.known.lock().unwrap();
            known.get(&*leaf).cloned().unwrap_or_else(|| "a stranger".to_owned())
        }
    };
    *shared.open.lock().unwrap().entry(name.clone()).or_default() += 1;
    answer(shared, StreamOwned::new(connection, tcp), &name, keep);
    *shared.open.lock().unwrap().entry(name).or_default() -= 1;
}

/// Hears the client out and breaks off, if so it is to be; nothing has been written otherwise.
fn breaks_off(connection: &mut ServerConnection, tcp: &mut TcpStream, on_offer: OnOffer) -> bool {
    OFFERED.set(false);
    while !connection.wants_write() {
        let read = matches!(connection.read_tls(tcp), Ok(1..));
        if !read || connection.process_new_packets().is_err() {
            return false;
        }
    }
    if !OFFERED.take() && on_offer != OnOffer::BreakAll {
        return false;
    }
    if on_offer != OnOffer::Close {
        // A record of TLS 1.2, as all alerts of this moment are: fatal, `internal_error`.
        tcp.write_all(&[21, 3, 3, 0, 2, 2, 80]).unwrap();
    }
    true
}

fn answer(
    shared: &Shared,
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    name: &str,
    keep: bool,
) {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
            if head.starts_with(b"PRI") {
                // HTTP/2: this is a proxy in front of a server that does not speak it.
                return;
            }
        }
        shared.requests.fetch_add(1, Ordering::SeqCst);
        if head.starts_with(b"GET /slow") {
            thread::sleep(Duration::from_millis(300));
        }
        head.clear();
        let (length, close) = (name.len(), if keep { "" } else { "Connection: close\r\n" });
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{close}\r\n{name}");
        if stream.write_all(text.as_bytes()).is_err() || !keep {
            stream.conn.send_close_notify();
            let _ = stream.flush();
            return;
        }
    }
}
