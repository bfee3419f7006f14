//! Consul's API over TLS with client certificates.

use std::sync::Arc;

use origin_servers::Room;
use origin_servers::consul::{self, Setup};
use origin_servers::http::Client;
use origin_servers::pki::Papers;

#[test]
fn the_api_is_there_only_for_certificates_of_its_authority() {
    let Some(agent) = consul::start(&Setup { tls: true, ..Setup::default() }) else { return };
    eprintln!("consul over TLS ready in {:?}", agent.process.ready_in());
    assert_eq!(agent.http().get("/v1/agent/self").unwrap().status, 200);
    assert!(agent.url().starts_with("https://localhost:"));

    let papers = agent.papers.as_ref().unwrap();
    let anonymous = Client::new(agent.address()).over(papers.anonymous());
    assert!(anonymous.get("/v1/agent/self").is_err(), "without a certificate");

    let room = Arc::new(Room::new("strangers").unwrap());
    let strangers = Papers::issue(&room, &["localhost"]).unwrap();
    let stranger = Client::new(agent.address()).over(strangers.as_client());
    assert!(stranger.get("/v1/agent/self").is_err(), "they do not know each other");

    let plain = Client::new(agent.address()).get("/v1/agent/self").unwrap();
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("Client sent an HTTP request to an HTTPS server."));
}
