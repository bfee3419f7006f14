//! Tokens: sent to the service they are for and to no other, not along a redirect, and printed
//! nowhere. Each test plants a secret and looks for it in everything.

use std::fmt::Debug;
use std::time::Duration;

use origin_core::config::vault::AppRoleConfig;
use origin_core::config::{
    ConsulConfig, DiscoveryConfig, RedisConfig, StorageConfig, TokenSource, VaultAuth, VaultConfig,
};
use origin_core::redis::RedisUrl;
use origin_core::{Config, Error, Secret};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode, World, WorldSpec};

use crate::authority::Authority;
use crate::subject::{Subject, get, in_world};
use crate::vault_standin::Vault;

on_every_runtime! {
    case_000_22_the_vault_token_goes_to_secrets_and_nowhere_else
    case_x_13_a_redirect_takes_no_credentials_along
    case_000_45_no_token_is_printed_anywhere
    case_000_45_what_a_user_puts_into_a_request_is_not_printed
    case_000_45_every_kind_of_credential_stays_where_it_belongs
    case_000_03_without_a_token_the_call_that_needs_it_says_so
}

const PLANTED: &str = "pl4nted-t0ken";

fn world() -> World {
    let world = World::start(WorldSpec::default()).unwrap();
    // Any token is good enough: it is looked at here, not there.
    world.service("secrets").set(Mode::Body {
        content_type: "application/json".into(),
        etag: None,
        cache_control: None,
        body: "{\"data\":{\"password\":\"v4lue\"}}".into(),
    });
    world
}

/// How often the secret stands in anything these servers were sent.
fn planted_in<'a>(servers: impl IntoIterator<Item = &'a FaultServer>) -> usize {
    let requests = servers.into_iter().flat_map(FaultServer::requests);
    requests.filter(|request| format!("{request:?}").contains(PLANTED)).count()
}

fn case_000_22_the_vault_token_goes_to_secrets_and_nowhere_else<S: Subject>() {
    let world = world();
    let client = in_world::<S>(&world).vault_token(PLANTED).build().unwrap();
    let everything = |client: &Client<S>| {
        get(client, "billing", "/x").unwrap();
        S::wait(client.storage().get_object("bucket", "key")).unwrap();
        assert_eq!(
            S::wait(client.secrets().get_secret("app/db")).unwrap().get("password"),
            Some("v4lue")
        );
        // A raw call to the service is the user's own: it carries what the user put in.
        get(client, "secrets", "/v1/raw").unwrap();
    };
    everything(&client);
    // On the way around failures, too.
    world.service("secrets").servers()[2].set(Mode::status(503));
    world.service("secrets").servers()[3].set(Mode::ResetBeforeHead);
    world.service("billing").servers()[2].set(Mode::status(503));
    world.service("storage").servers()[3].set(Mode::Refuse);
    for _ in 0..5 {
        everything(&client);
    }
    let mut with_token = 0;
    for server in world.service("secrets").servers() {
        for request in server.requests() {
            let expected = (request.path == "/v1/app/db").then_some(PLANTED);
            assert_eq!(request.header("x-vault-token"), expected, "{request:?}");
            let others = request.headers.iter().filter(|(name, value)| {
                !name.eq_ignore_ascii_case("x-vault-token") && value.contains(PLANTED)
            });
            assert_eq!(others.count(), 0, "{request:?}");
            assert!(!request.path.contains(PLANTED));
            with_token += usize::from(expected.is_some());
        }
    }
    assert!(with_token >= 6, "{with_token}");
    for service in ["billing", "storage"] {
        assert!(world.service(service).requests() >= 6);
        assert_eq!(planted_in(world.service(service).servers().iter().copied()), 0, "{service}");
    }
    assert_eq!(planted_in([world.registry().server()]), 0);
}

fn case_x_13_a_redirect_takes_no_credentials_along<S: Subject>() {
    let world = world();
    let stranger = FaultServer::start().unwrap();
    let client = in_world::<S>(&world).vault_token(PLANTED).build().unwrap();
    for code in [301, 302, 303, 307, 308] {
        let to = format!("{}/v1/app/db", stranger.url());
        world.service("secrets").set(Mode::Redirect { to, code });
        let error = S::wait(client.secrets().get_secret("app/db")).unwrap_err();
        assert_eq!(error.status(), Some(code), "{error}");
        assert!(matches!(error, Error::Status { .. }), "{error:?}");
        // A raw call gets the redirect as the response it is.
        let upstream = client.service("secrets").unwrap();
        let call = upstream.get("/v1/app/db").header("x-vault-token", PLANTED).send();
        assert_eq!(S::wait(call).unwrap().status.as_u16(), code);
    }
    // Nor is the discovery document taken from another host.
    let to = format!("{}/api/v1/services", stranger.url());
    world.registry().server().set(Mode::Redirect { to, code: 302 });
    let lost = in_world::<S>(&world).vault_token(PLANTED).build().unwrap();
    let error = get(&lost, "billing", "/x").unwrap_err();
    assert!(error.to_string().contains("redirect that is not followed"), "{error}");
    assert_eq!(stranger.stats().connections_accepted, 0);
}

/// Everything printed so far, to be searched.
#[derive(Default)]
struct Printed(Vec<String>);

impl Printed {
    fn debug(&mut self, value: &impl Debug) {
        self.0.push(format!("{value:?}"));
        self.0.push(format!("{value:#?}"));
    }

    fn error(&mut self, error: &Error) {
        self.debug(error);
        self.0.push(format!("{error} {} {:?}", error.advice(), error.failure()));
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            self.0.push(format!("{inner} {inner:?}"));
            source = inner.source();
        }
    }

    fn client<S: Subject>(&mut self, client: &Client<S>) {
        self.debug(client);
        self.debug(&client.config());
        self.debug(&client.secrets());
        self.debug(&client.storage());
        self.debug(&client.snapshot());
        self.0.push(serde_json::to_string(&client.snapshot()).unwrap());
        self.0.push(serde_json::to_string(&client.config()).unwrap());
        for notice in client.notices() {
            self.debug(&notice);
            self.0.push(notice.to_string());
        }
        self.debug(&client.service("secrets").ok());
    }

    fn has_none_of(&self, secrets: &[&str]) {
        assert!(self.0.len() > 20);
        for text in &self.0 {
            for secret in secrets {
                assert!(!text.contains(secret), "{secret:?} in {text}");
            }
        }
    }
}

fn case_000_45_no_token_is_printed_anywhere<S: Subject>() {
    let world = world();
    let mut printed = Printed::default();
    let builder =
        in_world::<S>(&world).vault_token(PLANTED).attempt_timeout(Duration::from_secs(1));
    printed.debug(&builder);
    let client = builder.build().unwrap();
    let secret = S::wait(client.secrets().get_secret("app/db")).unwrap();
    printed.debug(&secret);
    // Every way a call with the token can fail, the token in the answer included.
    let body = |body: String| Mode::Body {
        content_type: "application/json".into(),
        etag: Some(format!("\"{PLANTED}\"")),
        cache_control: None,
        body,
    };
    for mode in [
        Mode::status(403),
        Mode::status_with(500, "X-Echo", PLANTED),
        Mode::status_with(429, "Retry-After", PLANTED),
        Mode::Redirect { to: format!("http://127.0.0.1:9/{PLANTED}"), code: 302 },
        body(format!("{{\"data\": {PLANTED}")),
        body(format!("{{\"data\": \"{PLANTED}\"}}")),
        body(format!("{{\"{PLANTED}\": 1}}")),
        Mode::ResetBeforeHead,
        Mode::CloseMidBody { after: 5 },
        Mode::Garbage,
        Mode::HugeHead { bytes: 1 << 20 },
        Mode::HugeBody { bytes: 1 << 30 },
        Mode::HangBeforeHead,
        Mode::Refuse,
    ] {
        world.service("secrets").set(mode.clone());
        // A client of its own, so that no breaker answers instead of the server.
        let client = in_world::<S>(&world)
            .vault_token(PLANTED)
            .timeout(Duration::from_millis(150))
            .attempt_timeout(Duration::from_millis(100))
            .build()
            .unwrap();
        let error = S::wait(client.secrets().get_secret("app/db")).unwrap_err();
        printed.error(&error);
        if let Some(failure) = error.failure() {
            printed.debug(&failure.report);
            printed.0.push(failure.report.explain());
        }
        printed.client(&client);
    }
    // A token that cannot be a header.
    let odd =
        in_world::<S>(&world).vault_token(&format!("{PLANTED}\u{1}\n{PLANTED}")).build().unwrap();
    printed.error(&S::wait(odd.secrets().get_secret("app/db")).unwrap_err());
    printed.client(&odd);
    printed.client(&client);
    printed.has_none_of(&[PLANTED, "v4lue"]);
}

fn case_000_45_what_a_user_puts_into_a_request_is_not_printed<S: Subject>() {
    let world = world();
    let client = in_world::<S>(&world)
        .timeout(Duration::from_millis(150))
        .attempt_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let mut printed = Printed::default();
    let billing = client.service("billing").unwrap();
    let request = || {
        let request = billing.put("/invoices").query(&[("key", PLANTED)]);
        request.header("authorization", PLANTED).body(PLANTED)
    };
    printed.debug(&request());
    world.service("billing").set(Mode::Echo);
    let reply = S::wait(request().send()).unwrap();
    assert!(reply.text().contains(PLANTED), "the server got it");
    printed.debug(&reply);
    printed.debug(&reply.report);
    printed.error(&reply.json::<u32>().unwrap_err());
    printed.debug(&S::wait(request().send_streaming()).unwrap().body);
    for mode in [Mode::status(503), Mode::ResetBeforeHead, Mode::Garbage, Mode::HangBeforeHead] {
        world.service("billing").set(mode);
        printed.error(&S::wait(request().send()).unwrap_err());
        printed.client(&client);
    }
    // Mistakes are described, not quoted.
    printed
        .error(&S::wait(billing.get("/x").header("x-key", "pl4nted-t0ken\n").send()).unwrap_err());
    printed.error(&S::wait(billing.get(&format!("{PLANTED} x")).send()).unwrap_err());
    printed.has_none_of(&[PLANTED]);
}

fn case_000_03_without_a_token_the_call_that_needs_it_says_so<S: Subject>() {
    let world = world();
    for client in [
        in_world::<S>(&world).build().unwrap(),
        in_world::<S>(&world).vault_token("").build().unwrap(),
        in_world::<S>(&world).vault_token_from_env("ORIGIN_CONFORMANCE_UNSET").build().unwrap(),
    ] {
        let error = S::wait(client.secrets().get_secret("app/db")).unwrap_err();
        assert!(matches!(&error, Error::Credential { service, .. } if &**service == "secrets"));
        assert!(error.to_string().contains("VAULT_CLIENT_TOKEN"), "{error}");
        assert!(!error.is_retryable());
        // Nobody was asked anything for it.
        assert_eq!(world.all().requests(), 0);
        assert_eq!(world.registry().server().stats().connections_accepted, 0);
    }
    // Everything else works without.
    let client = in_world::<S>(&world).build().unwrap();
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    assert!(S::wait(client.storage().get_object("bucket", "key")).is_ok());
}

/// One secret of each kind, each with a mark of its own.
const SECRET_ID: &str = "pl4nted-secret-id";
const VAULT: &str = "pl4nted-vault.";
const STORAGE: &str = "pl4nted-storage-key";
const BEARER: &str = "pl4nted-bearer";
const CONSUL: &str = "pl4nted-consul";
const REDIS: &str = "pl4nted-redis";

/// What these servers were sent, in all.
fn book<'a>(servers: impl IntoIterator<Item = &'a FaultServer>) -> Vec<String> {
    let requests = servers.into_iter().flat_map(FaultServer::requests);
    requests.map(|request| format!("{request:?}")).collect()
}

fn count(book: &[String], secret: &str) -> usize {
    book.iter().filter(|line| line.contains(secret)).count()
}

/// Also 000-22 and X-13.
fn case_000_45_every_kind_of_credential_stays_where_it_belongs<S: Subject>() {
    let vault = Vault::start(2);
    vault.with(|state| {
        (state.secret_id, state.prefix) = (SECRET_ID.into(), VAULT.into());
        state.secrets.insert("/v1/app/db".into(), serde_json::json!({ "password": "v4lue" }));
    });
    let start = || FaultServer::start().unwrap();
    let (billing, spare, storage, agent, stranger) = (start(), start(), start(), start(), start());
    let leaf = Authority::new().leaf(&["client"]);
    let key = leaf.key_pem.lines().nth(1).unwrap().to_owned();
    let mark: String = S::NAME.chars().filter(char::is_ascii_alphanumeric).collect();
    let file = std::env::temp_dir().join(format!("origin-planted-{mark}-{}", std::process::id()));
    std::fs::write(&file, SECRET_ID).unwrap();
    let auth = VaultAuth::Approle(AppRoleConfig {
        role_id: "app".into(),
        secret_id_file: Some(file.display().to_string()),
        ..AppRoleConfig::default()
    });
    let mut consul = ConsulConfig::at(agent.url());
    consul.service_token = Secret::new(CONSUL).map(TokenSource::Text);
    let config = Config {
        vault: Some(VaultConfig { auth, ..VaultConfig::default() }),
        storage: Some(StorageConfig {
            access_key: Some("user".into()),
            secret_key: Secret::new(STORAGE),
            ..StorageConfig::default()
        }),
        redis: Some(RedisConfig {
            url: RedisUrl::new("redis://127.0.0.1:9"),
            password: Secret::exact(REDIS),
            ..RedisConfig::default()
        }),
        discovery: Some(DiscoveryConfig {
            consul: Some(consul),
            ..DiscoveryConfig::at("http://127.0.0.1:9/")
        }),
        ..Config::default()
    };
    let builder = Client::<S>::builder()
        .config(config)
        .endpoint("secrets", vault.nodes[0].url())
        .endpoint("secrets", vault.nodes[1].url())
        .endpoint("billing", billing.url())
        .endpoint("billing", spare.url())
        .endpoint("storage", storage.url())
        .identity(leaf.identity())
        .timeout(Duration::from_millis(400))
        .attempt_timeout(Duration::from_millis(200))
        .seed(7);
    let mut printed = Printed::default();
    printed.debug(&builder);
    let client = builder.build().unwrap();
    let mut failed = 0;
    let mut everything = |printed: &mut Printed| {
        let upstream = client.service("billing").unwrap();
        let call = upstream.get("/x").header("authorization", &format!("Bearer {BEARER}"));
        printed.debug(&call);
        let calls = [
            S::wait(call.send()).map(drop),
            S::wait(client.storage().get_object("bucket", "key")).map(drop),
            S::wait(client.secrets().get_secret("app/db")).map(drop),
            S::wait(client.secrets().kv("kv").read("none")).map(drop),
            S::wait(client.secrets().token()).map(drop),
            S::wait(client.consul().unwrap().catalogue().services()).map(drop),
        ];
        for error in calls.into_iter().filter_map(Result::err) {
            failed += 1;
            printed.error(&error);
        }
        printed.debug(&client.consul().unwrap());
        printed.debug(&client.tls_failures());
        printed.client(&client);
    };
    everything(&mut printed);
    // Around failures, by failover, along redirects, without a token and with one that is refused.
    let to = format!("{}/v1/app/db", stranger.url());
    for mode in [
        Mode::status(503),
        Mode::status_with(403, "X-Echo", BEARER),
        Mode::Redirect { to, code: 307 },
        Mode::ResetBeforeHead,
        Mode::Garbage,
    ] {
        for server in [&vault.nodes[0], &billing, &storage, &agent] {
            server.set(mode.clone());
        }
        everything(&mut printed);
    }
    for server in [&vault.nodes[0], &billing, &storage, &agent] {
        server.set(Mode::Ok);
    }
    vault.with(|state| state.tokens.clear());
    everything(&mut printed);
    vault.seal(0, true);
    vault.seal(1, true);
    everything(&mut printed);
    S::wait(client.close(Duration::from_millis(500))).unwrap();
    everything(&mut printed);
    let _ = std::fs::remove_file(&file);
    assert!(failed > 10, "{failed}");
    printed.has_none_of(&[SECRET_ID, VAULT, STORAGE, BEARER, CONSUL, REDIS, &key, "v4lue"]);

    let all = [SECRET_ID, VAULT, STORAGE, BEARER, CONSUL, REDIS, &key];
    let servers = [
        ("secrets", book(&vault.nodes), Some(VAULT)),
        ("billing", book([&billing, &spare]), Some(BEARER)),
        ("storage", book([&storage]), None),
        ("consul", book([&agent]), Some(CONSUL)),
    ];
    for (name, book, own) in servers {
        assert!(book.len() >= 4, "{name}: {}", book.len());
        for secret in all {
            let seen = count(&book, secret);
            assert_eq!(seen > 0, own == Some(secret), "{secret} at {name}: {seen}");
        }
    }
    assert_eq!(stranger.stats().connections_accepted, 0);
    // What stands in bodies: the secret id in logins and nowhere else, the token in none.
    vault.with(|state| {
        assert!(!state.book.is_empty());
        for entry in &state.book {
            let login = entry.line == "POST /v1/auth/approle/login";
            assert_eq!(entry.body.contains(SECRET_ID), login, "{}", entry.line);
            let anonymous = login || entry.line == "GET /v1/sys/seal-status";
            assert_eq!(entry.token.is_some(), !anonymous, "{}", entry.line);
            assert!(!entry.body.contains(VAULT), "{}", entry.line);
        }
    });
}
