//! A service of the mesh: HTTPS with a certificate by Consul's Connect, for clients that show one,
//! following its agent as a sidecar does. One thread per connection, HTTP/1.1, answering with the
//! SPIFFE id of the client that it sees.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use origin_servers::consul::Agent;
use origin_servers::http::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

pub(crate) struct MeshServer {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    config: RwLock<Arc<ServerConfig>>,
    requests: AtomicU64,
    over: AtomicBool,
}

impl Drop for MeshServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}

/// The certificate of `service` and the roots, as the agent gives them.
fn papers(http: &Client, service: &str) -> Option<(Value, Value)> {
    let leaf = http.get(&format!("/v1/agent/connect/ca/leaf/{service}")).ok()?;
    let roots = http.get("/v1/agent/connect/ca/roots").ok()?;
    (leaf.status == 200 && roots.status == 200).then(|| (leaf.json(), roots.json()))
}

fn config((leaf, roots): &(Value, Value)) -> Arc<ServerConfig> {
    let mut store = RootCertStore::empty();
    for root in roots["Roots"].as_array().unwrap() {
        let pem = root["RootCert"].as_str().unwrap();
        store.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone()).build();
    let text = |field: &str| leaf[field].as_str().unwrap().as_bytes().to_vec();
    let chain = CertificateDer::pem_slice_iter(&text("CertPEM")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&text("PrivateKeyPEM")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

impl MeshServer {
    /// Shows the certificate of `shown`, and follows the agent.
    pub(crate) fn start(agent: &Agent, shown: &str) -> MeshServer {
        let (http, shown) = (agent.http(), shown.to_owned());
        let mut present = papers(&http, &shown).unwrap();
        let shared = Arc::new(Shared {
            config: RwLock::new(config(&present)),
            requests: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = shared.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let shared = served.clone();
                thread::spawn(move || serve(&shared, tcp));
            }
        });
        let followed = shared.clone();
        thread::spawn(move || {
            while !followed.over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(50));
                let Some(next) = papers(&http, &shown) else { continue };
                if next != present {
                    *followed.config.write().unwrap() = config(&next);
                    present = next;
                }
            }
        });
        MeshServer { port, shared }
    }

    /// Registers it as a native instance of `service`.
    pub(crate) fn register(&self, agent: &Agent, service: &str, id: &str) {
        agent
            .register(&json!({
                "ID": id, "Name": service, "Address": "127.0.0.1", "Port": self.port,
                "Connect": { "Native": true },
                "Check": { "CheckID": format!("check-{id}"), "TTL": "1h", "Status": "passing" },
            }))
            .unwrap();
    }

    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

fn serve(shared: &Shared, mut tcp: TcpStream) {
    let config = shared.config.read().unwrap().clone();
    let mut connection = ServerConnection::new(config).unwrap();
    if connection.complete_io(&mut tcp).is_err() || connection.is_handshaking() {
        while connection.wants_write() && connection.write_tls(&mut tcp).is_ok() {}
        let _ = tcp.set_read_timeout(Some(Duration::from_secs(2)));
        let mut rest = [0; 4096];
        while tcp.read(&mut rest).is_ok_and(|count| count > 0) {}
        return;
    }
    let seen = connection.peer_certificates().and_then(|chain| chain.first().cloned());
    // The id stands in the certificate as plain text.
    let text = String::from_utf8_lossy(&seen.unwrap()).into_owned();
    let name = text.split_once("spiffe://").map_or("", |(_, rest)| rest);
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-./".contains(*c);
    let name: String = name.chars().take_while(plain).collect();
    let mut stream = StreamOwned::new(connection, tcp);
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
                _ => return,
            }
        }
        head.clear();
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let length = name.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// Gives Consul's authority another key, and so another root.
pub(crate) fn rotate(agent: &Agent) {
    let key = rcgen::KeyPair::generate().unwrap();
    let config = json!({
        "Provider": "consul",
        "Config": {
            "PrivateKey": sec1(&key), "RootCert": "", "LeafCertTTL": "72h",
            "RotationPeriod": "2160h",
        },
    });
    agent.done("/v1/connect/ca/configuration", config).unwrap();
}

/// A P-256 key as Consul 1.8 reads it (RFC 5915, with the curve named).
fn sec1(key: &rcgen::KeyPair) -> String {
    let pkcs8 = key.serialize_der();
    // PKCS#8 of P-256 has a fixed form: the private number stands at byte 36.
    let number = &pkcs8[36..68];
    let mut der = vec![0x30, 0x77, 2, 1, 1, 4, 32];
    der.extend_from_slice(number);
    der.extend_from_slice(&[0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    der.extend_from_slice(&[0xa1, 0x44, 3, 0x42, 0]);
    der.extend_from_slice(key.public_key_raw());
    base64_pem("EC PRIVATE KEY", &der)
}

fn base64_pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, three) in der.chunks(3).enumerate() {
        if number % 16 == 0 {
            text.push('\n');
        }
        let all = three.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let all = all << (8 * (3 - three.len()));
        for place in 0..4 {
            let sign = ALPHABET[(all >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { sign as char } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----{text}\n-----END {label}-----\n")
}
