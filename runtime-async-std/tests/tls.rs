//! TLS with a private authority, on async-std and on smol: HTTP/2 and HTTP/1.1 by ALPN, and a
//! clear fault for each thing that can be wrong with a certificate or a handshake.
#![cfg(any(feature = "async-std", feature = "smol"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[macro_use]
mod common;

use std::convert::Infallible;
use std::net::{Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use common::Client;
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::{ServerConfig, crypto};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use origin_async_std::core::outcome::{Fault, Outcome, Sent};
use origin_async_std::{Error, Executor, Response, Roots, Task};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use smol_hyper::rt::FuturesIo;

on_both!(
    http_2_is_negotiated_and_one_connection_carries_many_calls,
    http_1_is_spoken_where_http_2_is_not,
    ip_addresses_are_verified,
    wrong_name_and_unknown_authority_are_tls_faults_and_nothing_was_sent,
    a_stalled_handshake_is_cut_by_the_connect_limit,
    a_handshake_broken_off_is_a_connect_fault,
);

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server that answers with the HTTP version it was asked in.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    fn roots(&self) -> Roots {
        Roots::Pem(self.issuer.pem().into_bytes())
    }

    fn serve<E: Executor>(&self, name: &str, alpn: &[&str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.serve_on::<E>(listener, name, alpn)
    }

    fn serve_on<E: Executor>(&self, listener: TcpListener, name: &str, alpn: &[&str]) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        E::default().spawn(Box::pin(async move {
            let listener = Async::new(listener).unwrap();
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                E::default().spawn(Box::pin(answer::<E>(acceptor.clone(), tcp)));
            }
        }));
        Server { port, connections }
    }
}

#[derive(Clone)]
struct Spawner<E>(E);

impl<E: Executor, F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner<E> {
    fn execute(&self, task: F) {
        let task: Task = Box::pin(task);
        self.0.spawn(task);
    }
}

async fn answer<E: Executor>(acceptor: TlsAcceptor, tcp: Async<std::net::TcpStream>) {
    let Ok(tls) = acceptor.accept(tcp).await else { return };
    let http_2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = FuturesIo::new(tls);
    let version = service_fn(|request: http::Request<Incoming>| async move {
        let version = Bytes::from(format!("{:?}", request.version()));
        Ok::<_, Infallible>(http::Response::new(Full::new(version)))
    });
    if http_2 {
        let server = hyper::server::conn::http2::Builder::new(Spawner(E::default()));
        let _ = server.serve_connection(io, version).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, version).await;
    }
}

fn client<E: Executor>(address: &str, roots: Roots) -> Client<E> {
    Client::<E>::builder()
        .endpoint("secure", address)
        .roots(roots)
        .configure(|c| c.policy.retry.max_attempts = 1)
        .connect_timeout(Duration::from_millis(400))
        .build()
        .unwrap()
}

async fn get<E: Executor>(address: &str, roots: Roots) -> Result<Response, Error> {
    client::<E>(address, roots).service("secure").unwrap().get("/").send().await
}

fn fault(result: Result<Response, Error>) -> Outcome {
    result.unwrap_err().failure().unwrap().report.attempts[0].outcome
}

fn never_sent(fault: Fault) -> Outcome {
    Outcome::Failed { fault, sent: Sent::Never }
}

async fn http_2_is_negotiated_and_one_connection_carries_many_calls<E: Executor>() {
    let authority = Authority::new();
    let server = authority.serve::<E>("localhost", &["h2", "http/1.1"]);
    let client = client::<E>(&server.url("localhost"), authority.roots());
    let secure = client.service("secure").unwrap();
    assert_eq!(secure.get("/").send().await.unwrap().text(), "HTTP/2.0");
    for _ in 0..10 {
        let both = futures_lite::future::zip(secure.get("/").send(), secure.get("/").send()).await;
        assert_eq!(both.0.unwrap().text(), "HTTP/2.0");
        assert_eq!(both.1.unwrap().text(), "HTTP/2.0");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

async fn http_1_is_spoken_where_http_2_is_not<E: Executor>() {
    let authority = Authority::new();
    for alpn in [&["http/1.1"][..], &[]] {
        let server = authority.serve::<E>("localhost", alpn);
        let client = client::<E>(&server.url("localhost"), authority.roots());
        let secure = client.service("secure").unwrap();
        for _ in 0..3 {
            assert_eq!(secure.get("/").send().await.unwrap().text(), "HTTP/1.1");
            // Its connection goes back to the pool a moment after the answer.
            Timer::after(Duration::from_millis(50)).await;
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }
}

async fn ip_addresses_are_verified<E: Executor>() {
    let authority = Authority::new();
    let server = authority.serve::<E>("127.0.0.1", &["h2"]);
    let reply = get::<E>(&server.url("127.0.0.1"), authority.roots()).await.unwrap();
    assert_eq!(reply.text(), "HTTP/2.0");
    let error = get::<E>(&server.url("localhost"), authority.roots()).await;
    assert_eq!(fault(error), never_sent(Fault::Tls));
    // A system without IPv6 has nothing more to show.
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let server = authority.serve_on::<E>(listener, "::1", &["h2"]);
    let reply = get::<E>(&server.url("[::1]"), authority.roots()).await.unwrap();
    assert_eq!(reply.text(), "HTTP/2.0");
}

async fn wrong_name_and_unknown_authority_are_tls_faults_and_nothing_was_sent<E: Executor>() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let alpn = &["h2", "http/1.1"];
    for (server, roots) in [
        (ours.serve::<E>("other.example", alpn), ours.roots()),
        (theirs.serve::<E>("localhost", alpn), ours.roots()),
        (ours.serve::<E>("localhost", alpn), Roots::WebPki),
    ] {
        let error = get::<E>(&server.url("localhost"), roots).await;
        assert_eq!(fault(error), never_sent(Fault::Tls));
    }
}

async fn a_stalled_handshake_is_cut_by_the_connect_limit<E: Executor>() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let began = Instant::now();
    let error = get::<E>(&address, Roots::WebPki).await;
    assert_eq!(fault(error), never_sent(Fault::ConnectTimeout));
    let took = began.elapsed();
    assert!((400..1_500).contains(&took.as_millis()), "{took:?}");
}

async fn a_handshake_broken_off_is_a_connect_fault<E: Executor>() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let closer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    assert_eq!(fault(get::<E>(&address, Roots::WebPki).await), never_sent(Fault::Connect));
    closer.join().unwrap();
}
