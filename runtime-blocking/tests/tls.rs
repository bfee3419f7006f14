//! TLS with a private authority: it is trusted when told to be, and what is wrong with a
//! certificate or a connection is told apart.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use origin_blocking::core::outcome::{Fault, Outcome, Sent};
use origin_blocking::{Client, Error, Roots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Roots {
        Roots::Pem(self.0.pem().into_bytes())
    }

    /// A server for `name` that answers every request with `answer`, keeps the connection if the
    /// answer has a length, and closes it without a farewell otherwise.
    fn serve(&self, name: &str, answer: &'static str) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                thread::spawn(move || {
                    let mut stream = StreamOwned::new(connection, tcp);
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                        if stream.write_all(answer.as_bytes()).is_err()
                            || !answer.contains("Content-Length")
                        {
                            return;
                        }
                    }
                });
            }
        });
        format!("https://localhost:{port}")
    }
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";

fn client(url: &str, roots: Roots) -> Client {
    Client::builder()
        .endpoint("lab", url)
        .roots(roots)
        .configure(|config| config.policy.retry.max_attempts = 1)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

fn outcome(client: &Client) -> Outcome {
    match client.service("lab").unwrap().get("/").send() {
        Ok(reply) => reply.report().attempts[0].outcome,
        Err(error) => error.failure().unwrap().report.attempts[0].outcome,
    }
}

#[test]
fn a_private_authority_is_trusted_when_told() {
    let authority = Authority::new();
    let url = authority.serve("localhost", ANSWER);
    let client = client(&url, authority.roots());
    for _ in 0..3 {
        let reply = client.service("lab").unwrap().get("/").send().unwrap();
        assert_eq!(reply.text(), "secret");
    }
}

#[test]
fn what_is_not_trusted_is_not_sent_anything() {
    let authority = Authority::new();
    let never = Outcome::Failed { fault: Fault::Tls, sent: Sent::Never };
    let url = authority.serve("localhost", ANSWER);
    assert_eq!(outcome(&client(&url, Roots::WebPki)), never);
    assert_eq!(outcome(&client(&url, Authority::new().roots())), never);
    let elsewhere = authority.serve("elsewhere.example", ANSWER);
    assert_eq!(outcome(&client(&elsewhere, authority.roots())), never);
}

#[test]
fn a_connection_cut_without_farewell_is_not_the_end_of_a_body() {
    let authority = Authority::new();
    let url = authority.serve("localhost", "HTTP/1.1 200 OK\r\n\r\nhal");
    let broken = Outcome::Failed { fault: Fault::Reset, sent: Sent::Maybe };
    assert_eq!(outcome(&client(&url, authority.roots())), broken);
}

#[test]
fn roots_that_are_none_are_refused_at_build() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "nothing", broken] {
        let error = Client::builder()
            .endpoint("lab", "https://localhost")
            .roots(Roots::Pem(pem.into()))
            .build()
            .unwrap_err();
        assert!(Error::from(error).to_string().contains("roots"));
    }
}
