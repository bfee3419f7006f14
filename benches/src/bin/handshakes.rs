//! What a new connection costs: handshakes per second and the time until the answer, by version of
//! TLS, with and without a certificate of our own, with and without the session of an earlier
//! connection. The server closes after every answer, so that each call makes a connection.
//!
//! Client and server are on the same machine and share its cores: the figures are about the pair.

// A program that prints and may give up.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use origin_blocking::{Client, Identity, Roots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls::{SupportedProtocolVersion, version};

struct Papers {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: (CertificateDer<'static>, Vec<u8>),
    client: (String, String),
}

impl Papers {
    fn new() -> Papers {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let leaf = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let ((server, server_key), (client, client_key)) = (leaf("localhost"), leaf("client"));
        Papers {
            server: (server.der().clone(), server_key.serialize_der()),
            client: (client.pem(), client_key.serialize_pem()),
            authority,
        }
    }
}

#[derive(Default)]
struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
}

/// How a server is met: `None` is without TLS.
#[derive(Clone, Copy)]
struct Case {
    version: Option<&'static SupportedProtocolVersion>,
    mutual: bool,
    resumption: bool,
}

fn config(papers: &Papers, case: Case) -> Option<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[case.version?]).unwrap();
    let builder = if case.mutual {
        let mut roots = RootCertStore::empty();
        roots.add(papers.authority.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(papers.server.1.clone()));
    let mut config = builder.with_single_cert(vec![papers.server.0.clone()], key).unwrap();
    if !case.resumption {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Some(Arc::new(config))
}

fn serve(papers: &Papers, case: Case, counts: &Arc<Counts>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let scheme = if case.version.is_some() { "https" } else { "http" };
    let (config, counts) = (config(papers, case), counts.clone());
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let (config, counts) = (config.clone(), counts.clone());
            thread::spawn(move || {
                let _ = tcp.set_nodelay(true);
                match config {
                    None => answer(tcp),
                    Some(config) => secured(config, tcp, &counts),
                }
            });
        }
    });
    format!("{scheme}://localhost:{port}")
}

fn secured(config: Arc<ServerConfig>, mut tcp: TcpStream, counts: &Counts) {
    let mut connection = ServerConnection::new(config).unwrap();
    if connection.complete_io(&mut tcp).is_err() {
        return;
    }
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let count = if resumed { &counts.resumed } else { &counts.full };
    count.fetch_add(1, Ordering::Relaxed);
    answer(StreamOwned::new(connection, tcp));
}

fn answer(mut stream: impl Read + Write) {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let _ =
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let _ = stream.flush();
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let span = Duration::from_millis(if quick { 500 } else { 3_000 });
    let papers = Papers::new();
    println!("new connections, blocking adapter, 127.0.0.1; P-256 certificates; {span:?} each");
    println!(
        "{:<28} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "", "one: p50", "p99", "four: /s", "full", "resumed"
    );
    let mut cases = vec![Case { version: None, mutual: false, resumption: false }];
    for version in [&version::TLS12, &version::TLS13] {
        for mutual in [false, true] {
            for resumption in [false, true] {
                cases.push(Case { version: Some(version), mutual, resumption });
            }
        }
    }
    for case in cases {
        measure(&papers, case, span);
    }
}

fn measure(papers: &Papers, case: Case, span: Duration) {
    let counts = Arc::new(Counts::default());
    let url = serve(papers, case, &counts);
    let mut builder = Client::builder()
        .endpoint("lab", url)
        .roots(Roots::Pem(papers.authority.pem().into_bytes()));
    if case.mutual {
        let (chain, key) = papers.client.clone();
        builder = builder.identity(Identity::pem(chain, key));
    }
    let client = builder.build().unwrap();
    let lab = client.service("lab").unwrap();
    let call = || {
        let began = Instant::now();
        assert_eq!(lab.get("/").send().unwrap().status(), 200);
        began.elapsed()
    };
    for _ in 0..20 {
        call();
    }
    let (mut took, until) = (Vec::new(), Instant::now() + span);
    while Instant::now() < until {
        took.push(call());
    }
    took.sort_unstable();
    let at = |permille: usize| took[(took.len() - 1) * permille / 1_000].as_micros();
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    call();
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(span);
        over.store(true, Ordering::Relaxed);
    });
    let rate = calls.into_inner() as u128 * 1_000 / began.elapsed().as_millis().max(1);
    let name = match case.version {
        None => "no TLS".to_owned(),
        Some(version) => {
            let version = if version == &version::TLS12 { "1.2" } else { "1.3" };
            let mutual = if case.mutual { ", mutual" } else { "" };
            let resumption = if case.resumption { ", resumed" } else { "" };
            format!("TLS {version}{mutual}{resumption}")
        }
    };
    let (full, resumed) =
        (counts.full.load(Ordering::Relaxed), counts.resumed.load(Ordering::Relaxed));
    println!("{name:<28} {:>6}us {:>7}us {rate:>9} {full:>9} {resumed:>9}", at(500), at(990));
}
