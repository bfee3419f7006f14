//! Mutual TLS with a real server that asks for certificates (`ssl_verify_client on`): with one, with
//! none, with one of another authority; by TLS 1.2 and by TLS 1.3 alone; HTTP/2 where it is spoken;
//! and certificates exchanged on disk while calls go on.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use origin_core::config::IdentityConfig;
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_driver::Client;

use crate::Nginx;
use crate::authority::{Authority, Leaf};
use crate::subject::{Subject, eventually, get};

on_every_runtime! {
    nginx_knows_us_by_our_certificate_and_refuses_everybody_else
    nginx_meets_each_new_certificate_and_no_call_fails
}

const TLS: Outcome = Outcome::Failed { fault: Fault::Tls, sent: Sent::Never };

/// A server of `ours` that lets in whom `ours` vouches for, and answers with what it saw.
fn start(ours: &Authority, protocols: &str) -> Option<Nginx> {
    let leaf = ours.leaf(&["localhost"]);
    let files = [("ca.pem", &*ours.pem()), ("cert.pem", &*leaf.pem), ("key.pem", &*leaf.key_pem)];
    Nginx::configured(&files, |directory: &Path, port| {
        let dir = directory.display();
        format!(
            r#"
daemon off; master_process off; pid {dir}/pid;
events {{ worker_connections 256; }}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    ssl_protocols {protocols};
    ssl_client_certificate {dir}/ca.pem; ssl_verify_client on;
    location / {{
      return 200 "$ssl_client_verify $ssl_protocol $server_protocol $ssl_client_serial";
    }}
  }}
}}
"#
        )
    })
}

/// The files of an identity, in the directory of the server, which ends with it.
fn put(nginx: &Nginx, leaf: &Leaf) -> IdentityConfig {
    let at = |name: &str| nginx.directory.join(name).display().to_string();
    for (name, text) in [("own.pem", &leaf.pem), ("own-key.pem", &leaf.key_pem)] {
        std::fs::write(at("new"), text).unwrap();
        std::fs::rename(at("new"), at(name)).unwrap();
    }
    IdentityConfig {
        ca: at("ca.pem"),
        cert: at("own.pem"),
        key: at("own-key.pem"),
        poll: Duration::from_millis(100),
        ..IdentityConfig::default()
    }
}

fn client<S: Subject>(nginx: &Nginx, identity: IdentityConfig) -> Client<S> {
    Client::<S>::builder()
        .endpoint("lab", format!("https://localhost:{}", nginx.port))
        .timeout(Duration::from_secs(10))
        .configure(|config| {
            config.policy.retry.max_attempts = 1;
            config.identity = Some(identity);
        })
        .build()
        .unwrap()
}

fn nginx_knows_us_by_our_certificate_and_refuses_everybody_else<S: Subject>() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for version in ["TLSv1.2", "TLSv1.3"] {
        let Some(nginx) = start(&ours, version) else { return };
        let identity = put(&nginx, &ours.leaf(&["client"]));
        let known = client::<S>(&nginx, identity.clone());
        // HTTP/2 is negotiated where the adapter speaks it.
        let http = if S::ASYNC { "HTTP/2.0" } else { "HTTP/1.1" };
        let text = get(&known, "lab", "/").unwrap().text();
        assert!(text.starts_with(&format!("SUCCESS {version} {http}")), "{text}");
        // It knows our certificate by the number that the snapshot shows.
        let serial = known.snapshot().identity.certificate.unwrap().serial.to_uppercase();
        let seen = text.split(' ').next_back().unwrap();
        assert_eq!(seen.trim_start_matches('0'), serial.trim_start_matches('0'));
        // Nobody: nginx shakes hands all the same, and says so in HTTP.
        let nobody = IdentityConfig { cert: String::new(), key: String::new(), ..identity };
        let reply = get(&client::<S>(&nginx, nobody), "lab", "/").unwrap();
        assert_eq!(reply.status(), 400);
        assert!(reply.text().contains("No required SSL certificate was sent"), "{}", reply.text());
        // Of another authority: the same, in other words, or no handshake.
        let stranger = client::<S>(&nginx, put(&nginx, &theirs.leaf(&["client"])));
        match get(&stranger, "lab", "/") {
            Ok(reply) => {
                assert_eq!(reply.status(), 400);
                assert!(reply.text().contains("The SSL certificate error"), "{}", reply.text());
            }
            Err(error) => {
                let attempts = &error.failure().unwrap().report.attempts;
                assert_eq!(attempts[0].outcome, TLS);
            }
        }
    }
}

fn nginx_meets_each_new_certificate_and_no_call_fails<S: Subject>() {
    let ours = Authority::new();
    let Some(nginx) = start(&ours, "TLSv1.2 TLSv1.3") else { return };
    let client = client::<S>(&nginx, put(&nginx, &ours.leaf(&["client"])));
    let calls = AtomicU64::new(0);
    for _ in 0..5 {
        put(&nginx, &ours.leaf(&["client"]));
        let before = client.snapshot().identity.exchanged;
        eventually("the new one is met", || {
            let all = S::together(4, |_| client.service("lab").unwrap().get("/").send());
            let mut met = false;
            let serial = client.snapshot().identity.certificate.unwrap().serial.to_uppercase();
            for (reply, _) in all {
                let text = reply.unwrap().text();
                assert!(text.starts_with("SUCCESS"), "{text}");
                met |= text.ends_with(serial.trim_start_matches('0'));
                calls.fetch_add(1, Ordering::Relaxed);
            }
            met && client.snapshot().identity.exchanged > before
        });
    }
    assert!(calls.load(Ordering::Relaxed) >= 20);
}
