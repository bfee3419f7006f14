//! TLS with a private authority: HTTP/2 by ALPN, and a clear fault for each thing that can be
//! wrong with a certificate or a handshake.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use origin_tokio::core::outcome::{Fault, Outcome, Sent};
use origin_tokio::{Client, Error, Expect, Identity, Roots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SerialNumber};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
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

    /// Client number `number`.
    fn identity(&self, number: u32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(u64::from(number) + 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::pem(certificate.pem(), key.serialize_pem())
    }

    /// A server for `name` that answers with the HTTP version it was asked in, and with the number
    /// of the client if it has one.
    async fn serve(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut clients = rustls::RootCertStore::empty();
        clients.add(self.issuer.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(clients.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let seen = tls.get_ref().1.peer_certificates().map(|chain| {
                        let leaf = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
                        leaf.serial().last().copied().unwrap_or_default() - 1
                    });
                    let answer = service_fn(move |request: http::Request<Incoming>| async move {
                        let mut text = format!("{:?}", request.version());
                        if let Some(number) = seen {
                            text.push_str(&format!(" {number}"));
                        }
                        // What gRPC says at the end, for who asks for it.
                        let asked = request.uri().path() == "/trailers";
                        let trailers = asked.then(|| {
                            let mut trailers = http::HeaderMap::new();
                            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                            Ok::<_, std::convert::Infallible>(trailers)
                        });
                        let body = Full::new(Bytes::from(text));
                        Ok::<_, std::convert::Infallible>(http::Response::new(
                            body.with_trailers(std::future::ready(trailers)),
                        ))
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(tls), answer).await;
                });
            }
        });
        format!("https://localhost:{port}")
    }
}

fn client(address: &str, roots: Roots) -> Client {
    Client::builder()
        .endpoint("secure", address)
        .roots(roots)
        .configure(|c| c.policy.retry.max_attempts = 1)
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap()
}

fn fault(error: &Error) -> Outcome {
    error.failure().unwrap().report.attempts[0].outcome
}

#[tokio::test]
async fn http_2_is_negotiated_and_one_connection_carries_many_calls() {
    let authority = Authority::new();
    let client = client(&authority.serve("localhost").await, authority.roots());
    let secure = client.service("secure").unwrap();
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(secure.get("/").send())).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().text(), "HTTP/2.0");
    }
}

#[tokio::test]
async fn trailers_of_http_2_are_passed_on() {
    let authority = Authority::new();
    let client = client(&authority.serve("localhost").await, authority.roots());
    let secure = client.service("secure").unwrap();
    let answer = secure.get("/trailers").send().await.unwrap();
    assert_eq!(answer.text(), "HTTP/2.0");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(secure.get("/").send().await.unwrap().trailers, None);
}

#[cfg(feature = "tower")]
#[tokio::test]
async fn trailers_of_http_2_come_out_of_the_tower_service() {
    use origin_tokio::tower::Outgoing;
    use tower_service::Service as _;

    let authority = Authority::new();
    let client = client(&authority.serve("localhost").await, authority.roots());
    let mut service = Outgoing::to(&client, "secure");
    for (path, trailers) in [("/trailers", Some("0")), ("/", None)] {
        let request = http::Request::get(format!("http://any{path}")).header("te", "trailers");
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let body = service.call(request).await.unwrap().into_body();
        let whole = body.collect().await.unwrap();
        let told = whole.trailers().and_then(|all| all.get("grpc-status"));
        assert_eq!(told.map(|status| status.to_str().unwrap()), trailers);
        assert_eq!(whole.to_bytes(), "HTTP/2.0");
    }
}

#[tokio::test]
async fn http_1_is_spoken_where_nothing_else_is_offered() {
    let authority = Authority::new();
    let address = authority.serve("localhost").await;
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let client = Client::builder()
        .endpoint("secure", address)
        .roots(authority.roots())
        .expect("localhost", port, Expect::default().http1_only())
        .build()
        .unwrap();
    let secure = client.service("secure").unwrap();
    for _ in 0..3 {
        assert_eq!(secure.get("/").send().await.unwrap().text(), "HTTP/1.1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_exchanged_over_http_2_without_a_failed_call() {
    let authority = Authority::new();
    let client = client(&authority.serve("localhost").await, authority.roots());
    client.set_identity(authority.identity(0)).unwrap();
    let present = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (secure, present) = (client.service("secure").unwrap(), present.clone());
            tokio::spawn(async move {
                while !present.1.load(Ordering::SeqCst) {
                    let before = present.0.load(Ordering::SeqCst);
                    let text = secure.get("/").send().await.unwrap().text();
                    let seen: u32 = text.strip_prefix("HTTP/2.0 ").unwrap().parse().unwrap();
                    assert!(seen >= before, "sent as {seen}, when {before} was in force");
                }
            })
        })
        .collect();
    for number in 1..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        client.set_identity(authority.identity(number)).unwrap();
        present.0.store(number, Ordering::SeqCst);
    }
    let last = client.service("secure").unwrap().get("/").send().await.unwrap();
    assert_eq!(last.text(), "HTTP/2.0 9");
    present.1.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn wrong_name_and_unknown_authority_are_tls_faults_and_nothing_was_sent() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = Outcome::Failed { fault: Fault::Tls, sent: Sent::Never };
    for (address, roots) in [
        (ours.serve("other.example").await, ours.roots()),
        (theirs.serve("localhost").await, ours.roots()),
        (ours.serve("localhost").await, Roots::WebPki),
    ] {
        let error =
            client(&address, roots).service("secure").unwrap().get("/").send().await.unwrap_err();
        assert_eq!(fault(&error), tls, "{error}");
    }
}

#[tokio::test]
async fn a_failing_handshake_is_told_once_and_so_is_its_end() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let client = client(&theirs.serve("localhost").await, ours.roots());
    let secure = client.service("secure").unwrap();
    let told = |name: &str| -> Vec<String> {
        let notices = client.notices();
        let of = notices.iter().filter(|notice| notice.event.log_name() == name);
        of.map(ToString::to_string).collect()
    };
    for _ in 0..2 {
        secure.get("/").send().await.unwrap_err();
    }
    let failed = told("handshake_failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("no TLS with https://localhost"), "{failed:?}");
    assert!(!failed[0].ends_with("the handshake failed"), "it says why: {failed:?}");
    client.set_roots(theirs.roots()).unwrap();
    secure.get("/").send().await.unwrap();
    let recovered = told("handshake_recovered");
    assert!(recovered.len() == 1 && recovered[0].contains("after 2 failed"), "{recovered:?}");
    assert_eq!(told("certificate_in_force").len(), 1, "exchanged by hand, told once");
    client.set_expectations(origin_tokio::Expectations::default()).unwrap();
    assert_eq!(told("expectations_in_force").len(), 0, "the same again changes nothing");
}

#[tokio::test]
async fn a_stalled_handshake_is_cut_by_the_connect_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let error = client(&address, Roots::WebPki)
        .service("secure")
        .unwrap()
        .get("/")
        .send()
        .await
        .unwrap_err();
    assert_eq!(fault(&error), Outcome::Failed { fault: Fault::ConnectTimeout, sent: Sent::Never });
}

#[tokio::test]
async fn names_and_ports_that_lead_nowhere_are_told_apart() {
    let error = client("http://no-such-host.invalid", Roots::WebPki)
        .service("secure")
        .unwrap()
        .get("/")
        .send()
        .await;
    let outcome = fault(&error.unwrap_err());
    assert_eq!(outcome, Outcome::Failed { fault: Fault::Resolve, sent: Sent::Never });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = client(&address, Roots::WebPki).service("secure").unwrap().get("/").send().await;
    assert_eq!(
        fault(&error.unwrap_err()),
        Outcome::Failed { fault: Fault::Connect, sent: Sent::Never }
    );
}

#[test]
fn roots_without_a_certificate_are_refused_at_build() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let built =
            Client::builder().endpoint("s", "https://s").roots(Roots::Pem(pem.into())).build();
        assert_eq!(built.unwrap_err().field, "roots", "{pem:?}");
    }
}
