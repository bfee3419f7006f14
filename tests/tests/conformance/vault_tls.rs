//! The client's token over TLS and out of discovery, and its last second. The servers are the
//! stand-in, which speaks plain HTTP, behind a front that speaks TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use origin_core::config::{DiscoveryConfig, VaultAuth, VaultConfig};
use origin_core::notice;
use origin_core::outcome::Fault;
use origin_core::vault::VaultError;
use origin_core::vault::event::{Event, Gone, Trouble};
use origin_core::vault::keeper::Stage;
use origin_driver::Client;
use origin_lab::{Document, FaultServer, Place, Registry, Role};
use rustls::{ServerConnection, StreamOwned};

use crate::authority::{Authority, Setup};
use crate::subject::{Subject, eventually, get, within};
use crate::vault::{Folder, approle, config, filled, read};

on_every_runtime! {
    case_000_23_logins_and_renewals_go_over_mutual_tls_as_calls_do
    case_000_23_the_old_token_is_served_until_its_last_second
    case_000_23_the_registry_says_where_the_token_is_had_and_nobody_else_gets_it
}

/// TLS in front of a node, until the process ends. Yields its URL.
fn front(setup: &Setup<'_>, node: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = setup.config();
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let session = ServerConnection::new(config.clone()).unwrap();
            thread::spawn(move || pass(StreamOwned::new(session, tcp), node));
        }
    });
    format!("https://localhost:{port}")
}

/// Requests one way and answers the other, until either end has enough.
fn pass(mut client: StreamOwned<ServerConnection, TcpStream>, node: SocketAddr) -> Option<()> {
    let mut node = TcpStream::connect(node).ok()?;
    loop {
        let request = message(&mut client)?;
        node.write_all(&request).ok()?;
        let answer = message(&mut node)?;
        client.write_all(&answer).ok()?;
        client.flush().ok()?;
    }
}

/// A whole message, by its length.
fn message(from: &mut impl Read) -> Option<Vec<u8>> {
    let (mut all, mut piece) = (Vec::new(), [0; 4_096]);
    let end = loop {
        if let Some(at) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match from.read(&mut piece) {
            Ok(count) if count > 0 => all.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Some(0), |text| text.trim().parse().ok())?;
    while all.len() < end + length {
        match from.read(&mut piece) {
            Ok(count) if count > 0 => all.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    Some(all)
}

fn events<S: Subject>(client: &Client<S>) -> Vec<Event> {
    let events = client.notices().into_iter().filter_map(|notice| match notice.event {
        notice::Event::Vault { what } => Some(what),
        _ => None,
    });
    events.collect()
}

const RENEW: &str = "POST /v1/auth/token/renew-self";

fn case_000_23_logins_and_renewals_go_over_mutual_tls_as_calls_do<S: Subject>() {
    let (vault, folder, ours) = (filled(1), Folder::new("tls"), Authority::new());
    vault.with(|state| state.lease = 6);
    let url = front(&Setup::requiring(ours.leaf(&["localhost"]), &ours), vault.nodes[0].addr());
    let own = ours.leaf(&["client"]).identity();
    let builder = || {
        Client::<S>::builder()
            .endpoint("secrets", &*url)
            .timeout(Duration::from_secs(10))
            .seed(7)
            .configure(|all| all.vault = Some(config(approle(&folder))))
    };
    let client = builder().roots(ours.roots()).identity(own.clone()).build().unwrap();
    let _background = S::background(&client);
    assert_eq!(read(&client).unwrap(), "v");
    eventually("a renewal", || vault.asked(RENEW) >= 2);
    assert_eq!((vault.logins(), read(&client).unwrap().as_str()), (1, "v"));
    let closed = S::wait(client.close(Duration::from_secs(5))).unwrap();
    assert!(closed && vault.asked("POST /v1/auth/token/revoke-self") == 1);
    // Who shows no certificate, or trusts another authority, sends no secret id at all.
    let before = vault.with(|state| state.book.len());
    for client in [
        builder().roots(ours.roots()).build().unwrap(),
        builder().roots(Authority::new().roots()).identity(own).build().unwrap(),
    ] {
        let error = read(&client).unwrap_err();
        let tls = VaultError::Unavailable { why: Trouble::Fault(Fault::Tls) };
        assert_eq!(error.vault(), Some(&tls), "{error:?}");
        assert!(!client.tls_failures().is_empty());
    }
    assert_eq!(vault.with(|state| state.book.len()), before);
}

fn case_000_23_the_old_token_is_served_until_its_last_second<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("last"));
    vault.with(|state| state.lease = 4);
    let client = Client::<S>::builder()
        .endpoint("secrets", vault.nodes[0].url())
        .timeout(Duration::from_secs(10))
        .seed(7)
        .configure(|all| all.vault = Some(config(approle(&folder))))
        .build()
        .unwrap();
    let _background = S::background(&client);
    assert_eq!(read(&client).unwrap(), "v");
    // From now on it is neither renewed nor replaced.
    vault.with(|state| {
        state.refuse_renewals = true;
        state.secret_id = "another".into();
    });
    let until = client.snapshot().vault.unwrap().until.unwrap();
    eventually("it is tried", || vault.asked(RENEW) >= 1 && vault.logins() >= 2);
    assert!(client.snapshot().at < until, "long before the end");
    let mut served = 0;
    let error = loop {
        let before = client.snapshot().at;
        match read(&client) {
            Ok(value) => {
                assert!(value == "v" && before < until, "{before:?} {until:?}");
                served += 1;
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => {
                assert!(client.snapshot().at >= until, "it could still be used");
                break error;
            }
        }
    };
    let why = Trouble::Refused(400);
    assert_eq!(error.vault(), Some(&VaultError::Unavailable { why }), "{error:?}");
    assert!(served > 20, "{served}");
    eventually("it is said", || events(&client).contains(&Event::TokenLost { why: Gone::Expired }));
    assert_eq!(client.snapshot().vault.unwrap().stage, Stage::None);
    // With the right secret id it goes on by itself, once a minute at most; a new client at once.
    let sent = |state: &mut crate::vault_standin::State| {
        let old = |entry: &&crate::vault_standin::Entry| entry.token.as_deref() == Some("hvs.1");
        state.book.iter().filter(old).count()
    };
    let before = vault.with(sent);
    assert!(read(&client).is_err());
    assert_eq!(vault.with(sent), before, "a token whose time is over goes nowhere");
}

fn document(secrets: &FaultServer, billing: &FaultServer) -> Document {
    let at = |server: &FaultServer| vec![Place::new("alpha", &[server.url()], "/health")];
    Document::new()
        .cluster("alpha", "here", &secrets.url(), Role::Primary)
        .service("secrets", "Vault", at(secrets))
        .service("billing", "Invoices", at(billing))
}

fn case_000_23_the_registry_says_where_the_token_is_had_and_nobody_else_gets_it<S: Subject>() {
    let (vault, folder) = (filled(2), Folder::new("registry"));
    let billing = FaultServer::start().unwrap();
    let registry = Registry::start(&document(&vault.nodes[0], &billing)).unwrap();
    vault.with(|state| state.lease = 6);
    let discovery = DiscoveryConfig {
        ttl: Duration::from_secs(1),
        refresh_ahead: Duration::from_millis(500),
        ..DiscoveryConfig::at(registry.url())
    };
    let auth: VaultAuth = approle(&folder);
    let client = Client::<S>::builder()
        .timeout(Duration::from_secs(10))
        .seed(7)
        .configure(|all| {
            all.vault = Some(VaultConfig { urls: Vec::new(), ..config(auth) });
            all.discovery = Some(discovery);
        })
        .build()
        .unwrap();
    // The first call finds the nodes, logs in there and reads there.
    assert_eq!(read(&client).unwrap(), "v");
    assert_eq!((vault.logins(), vault.nodes[1].request_count()), (1, 0));
    let _background = S::background(&client);
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    // Vault moves: renewals and calls follow it, with the token of before.
    let old = vault.nodes[0].request_count();
    registry.publish(&document(&vault.nodes[1], &billing));
    within(Duration::from_secs(15), "renewals at the new place", || {
        let renewed = |seen: &origin_lab::Seen| seen.path == "/v1/auth/token/renew-self";
        vault.nodes[1].requests().iter().any(renewed)
    });
    assert_eq!(read(&client).unwrap(), "v");
    assert_eq!(get(&client, "billing", "/y").unwrap().status, 200);
    assert_eq!(vault.logins(), 1);
    assert!(old >= 2 && billing.request_count() >= 2 && registry.server().request_count() >= 2);
    for server in [&billing, registry.server()] {
        for request in server.requests() {
            let all = format!("{request:?}").to_lowercase();
            assert!(!all.contains("hvs.") && !all.contains("x-vault"), "{}", request.path);
            assert!(!all.contains("right"), "{}", request.path);
        }
    }
}
