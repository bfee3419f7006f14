//! Secrets against a real server: RustyVault, over TLS and mutual TLS, sealed and unsealed. What it
//! lacks of Vault (version 2, renewal, leases, health) is asked of the stand-in, in the conformance
//! suite.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use origin_core::Error;
use origin_core::config::vault::{AppRoleConfig, CertAuthConfig, TokenFileConfig};
use origin_core::config::{KvVersion, VaultAuth, VaultConfig};
use origin_core::outcome::Fault;
use origin_core::vault::event::{Event as Said, Trouble};
use origin_core::vault::keeper::Stage;
use origin_core::vault::{Next, VaultError};
use origin_driver::{Builder, Client, Identity, Roots};
use origin_servers::vault::{self, Setup, Tls, Vault};
use serde_json::json;

use crate::subject::{Subject, eventually};

on_every_runtime! {
    case_000_23_secrets_are_read_written_listed_and_deleted
    case_000_23_logins_over_tls_and_mutual_tls
    a_server_that_cannot_resume_sessions_costs_no_attempt
    case_000_23_a_token_revoked_in_mid_flight_fails_no_call_of_a_real_server
    case_000_23_a_token_file_is_followed_and_no_call_fails
    case_000_23_a_sealed_server_is_said_to_be_sealed_and_gone_on_with
    case_000_23_wrong_credentials_are_said_to_be_wrong
}

const VALUE: &str = "pl4nted-value";

/// What must not be printed, and everything that was.
#[derive(Default)]
struct Book {
    secrets: Vec<String>,
    printed: String,
}

impl Book {
    fn plant(&mut self, secret: &str) {
        assert!(secret.len() >= 8, "too short to be looked for");
        self.secrets.push(secret.to_owned());
    }

    fn error(&mut self, error: &Error) {
        let mut text =
            format!("{error} {error:?} {}", error.vault().map_or("", |e| e.next().text()));
        if let Some(failure) = error.failure() {
            text.push_str(&failure.report.explain());
        }
        self.printed.push_str(&text);
    }

    /// Everything that a client shows of itself, and that none of the secrets is in it.
    fn close<S: Subject>(mut self, clients: &[&Client<S>]) {
        for client in clients {
            let notices: Vec<String> = client.notices().iter().map(ToString::to_string).collect();
            let snapshot = serde_json::to_string(&client.snapshot()).unwrap();
            let config = serde_json::to_string(&client.config()).unwrap();
            self.printed.push_str(&format!(
                "{client:?} {:?} {notices:?} {snapshot} {config} {:?}",
                client.secrets(),
                client.tls_failures()
            ));
        }
        assert!(self.printed.len() > 200 && !self.secrets.is_empty());
        for secret in &self.secrets {
            let at = self.printed.find(secret.as_str());
            assert!(at.is_none(), "a secret is printed, at {at:?}");
        }
    }
}

/// A file that is gone with the test.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(content: &str) -> SecretFile {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("origin-real-vault-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        SecretFile(path)
    }

    /// Another content, at once and as a whole.
    fn put(&self, content: &str) {
        let next = self.0.with_extension("next");
        fs::write(&next, content).unwrap();
        fs::rename(next, &self.0).unwrap();
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn approle(role_id: &str, secret_id: &SecretFile) -> VaultAuth {
    VaultAuth::Approle(AppRoleConfig {
        role_id: role_id.to_owned(),
        secret_id_file: Some(secret_id.0.display().to_string()),
        ..AppRoleConfig::default()
    })
}

fn cert(name: &str) -> VaultAuth {
    VaultAuth::Cert(CertAuthConfig { name: Some(name.to_owned()), ..CertAuthConfig::default() })
}

fn builder<S: Subject>(vault: &Vault, auth: VaultAuth) -> Builder<S> {
    let mut config = VaultConfig { auth, ..VaultConfig::default() };
    config.mounts.insert("secret".into(), KvVersion::V1);
    config.timeout = Duration::from_secs(5);
    config.token.backoff = Duration::from_secs(1);
    let builder = Client::<S>::builder()
        .endpoint("secrets", vault.url())
        .timeout(Duration::from_secs(10))
        .seed(7)
        .configure(|all| all.vault = Some(config));
    match &vault.papers {
        Some(papers) => builder.roots(Roots::file(&papers.authority).unwrap()),
        None => builder,
    }
}

/// With the certificate of the server's own authority.
fn known<S: Subject>(vault: &Vault, auth: VaultAuth) -> Builder<S> {
    let papers = vault.papers.as_ref().unwrap();
    let identity = Identity::files(&papers.client, &papers.client_key).unwrap();
    builder(vault, auth).identity(identity)
}

fn read<S: Subject>(client: &Client<S>) -> Result<String, Error> {
    let secret = S::wait(client.secrets().get_secret("secret/app"))?;
    Ok(secret.get("k").unwrap_or_default().to_owned())
}

fn stage<S: Subject>(client: &Client<S>) -> Stage {
    client.snapshot().vault.unwrap().stage
}

fn data(value: &str) -> serde_json::Map<String, serde_json::Value> {
    json!({ "k": value }).as_object().unwrap().clone()
}

fn fill(vault: &Vault) {
    vault.write("secret/app", &json!({ "k": VALUE })).unwrap();
}

fn case_000_23_secrets_are_read_written_listed_and_deleted<S: Subject>() {
    let Some(vault) = vault::start(&Setup::default()) else { return };
    let mut book = Book::default();
    let token = vault.token(600).unwrap();
    [&*token, VALUE, vault.root()].iter().for_each(|secret| book.plant(secret));
    let client = builder::<S>(&vault, VaultAuth::Given).vault_token(&token).build().unwrap();
    let secrets = client.secrets();
    let kv = secrets.kv("secret");
    for path in ["app", "team/db", "team/sp ace/\u{fc}%?#"] {
        assert_eq!(S::wait(kv.write(path, &data(VALUE))).unwrap(), None, "no versions here");
        assert_eq!(S::wait(kv.read(path)).unwrap().data["k"], VALUE);
    }
    assert_eq!(read(&client).unwrap(), VALUE);
    let list = |path: &str| {
        let keys = S::wait(kv.list(path)).unwrap();
        keys.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(list(""), ["app", "team/"]);
    assert_eq!(list("team"), ["db", "sp ace/"]);
    assert!(list("nothing").is_empty());
    S::wait(kv.delete("team/db")).unwrap();
    S::wait(kv.delete("team/db")).unwrap(); // what was wanted is so
    let error = S::wait(kv.read("team/db")).unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::NotFound));
    book.error(&error);
    let error = S::wait(secrets.get_secret("secret/team/db")).unwrap_err();
    assert_eq!(error.status(), Some(404));
    let error = S::wait(secrets.kv("nowhere").read("app")).unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::NotFound));
    // What it is about itself.
    let own = S::wait(secrets.token()).unwrap();
    assert_eq!((own.ttl, own.renewable), (Duration::from_secs(600), false));
    let seal = S::wait(secrets.seal_status()).unwrap();
    assert!(!seal.sealed && (seal.threshold, seal.shares) == (1, 1));
    // It has no health check, and says so of renewing with a 500.
    let error = S::wait(secrets.health()).unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::NotFound));
    book.close(&[&client]);
}

fn case_000_23_logins_over_tls_and_mutual_tls<S: Subject>() {
    for tls in [Tls::Server, Tls::Mutual] {
        let Some(vault) = vault::start(&Setup { tls }) else { return };
        let mut book = Book::default();
        fill(&vault);
        let role = vault.approle("app", 600).unwrap();
        let papers = vault.papers.clone().unwrap();
        let authority = fs::read_to_string(&papers.authority).unwrap();
        vault.cert("app", &authority, 600).unwrap();
        let key = fs::read_to_string(&papers.client_key).unwrap();
        book.plant(&role.secret_id);
        book.plant(key.lines().nth(1).unwrap());
        let file = SecretFile::new(&format!("{}\n", role.secret_id));

        let by_cert = known::<S>(&vault, cert("app")).build().unwrap();
        assert_eq!(read(&by_cert).unwrap(), VALUE, "{tls:?}");
        let role_id = &role.role_id;
        let by_role = match tls {
            Tls::Mutual => known::<S>(&vault, approle(role_id, &file)),
            _ => builder::<S>(&vault, approle(role_id, &file)),
        };
        let by_role = by_role.build().unwrap();
        assert_eq!(read(&by_role).unwrap(), VALUE, "{tls:?}");
        for client in [&by_cert, &by_role] {
            let id = S::wait(client.secrets().get_secret("auth/token/lookup-self")).unwrap();
            book.plant(id.get("id").unwrap());
            let view = client.snapshot().vault.unwrap();
            assert_eq!((view.stage, view.trouble), (Stage::Held, None));
            assert!(view.until.is_some_and(|until| until > client.snapshot().at));
        }

        // Without a certificate there is no login by one, and over mutual TLS no connection.
        let nobody = builder::<S>(&vault, cert("app")).build().unwrap();
        let error = read(&nobody).unwrap_err();
        let Error::Vault { error: why, .. } = &error else { panic!("{error:?}") };
        match (tls, &**why) {
            (Tls::Mutual, VaultError::Unavailable { why: Trouble::Fault(Fault::Tls) }) => {}
            (Tls::Server, VaultError::Unavailable { why: Trouble::Refused(400) }) => {}
            _ => panic!("{tls:?}: {error:?}"),
        }
        book.error(&error);
        // A server of another authority is not talked to.
        let strange = Client::<S>::builder().endpoint("secrets", vault.url()).seed(7);
        let config = VaultConfig { auth: approle(role_id, &file), ..VaultConfig::default() };
        let strange = strange.configure(|all| all.vault = Some(config)).build().unwrap();
        let error = read(&strange).unwrap_err();
        let tls_fault = VaultError::Unavailable { why: Trouble::Fault(Fault::Tls) };
        assert_eq!(error.vault(), Some(&tls_fault), "{error:?}");
        book.error(&error);
        book.close(&[&by_cert, &by_role, &nobody, &strange]);
    }
}

/// It asks for certificates and has no session id context, so that it breaks off when it is offered
/// a session: that is made good below the call, however many connections there are.
fn a_server_that_cannot_resume_sessions_costs_no_attempt<S: Subject>() {
    let Some(vault) = vault::start(&Setup { tls: Tls::Mutual }) else { return };
    let mut book = Book::default();
    fill(&vault);
    let token = vault.token(600).unwrap();
    book.plant(&token);
    let client = known::<S>(&vault, VaultAuth::Given)
        .vault_token(&token)
        .configure(|all| {
            all.limits.idle_connections = 0;
            all.policy.retry.max_attempts = 1;
        })
        .build()
        .unwrap();
    for _ in 0..16 {
        assert_eq!(read(&client).unwrap(), VALUE);
    }
    let failures = client.tls_failures();
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(failure.reason.contains("offered a session (InternalError)"), "{failure}");
    // Offers are made to the 2nd connection, the 6th and the 15th; the lookup may be one more.
    assert!((2..=3).contains(&failure.count), "{failure}");
    book.close(&[&client]);
}

fn case_000_23_a_token_revoked_in_mid_flight_fails_no_call_of_a_real_server<S: Subject>() {
    let Some(vault) = vault::start(&Setup::default()) else { return };
    let mut book = Book::default();
    fill(&vault);
    let role = vault.approle("app", 600).unwrap();
    book.plant(&role.secret_id);
    let file = SecretFile::new(&role.secret_id);
    let client = builder::<S>(&vault, approle(&role.role_id, &file)).build().unwrap();
    let _background = S::background(&client);
    let first = token(&client);
    under_load(&client, |some| {
        some(20);
        vault.revoke(&first).unwrap();
        some(20);
    });
    let second = token(&client);
    assert_ne!(first, second, "exchanged by another login");
    let again = |event: &Said| matches!(event, Said::TokenAcquired { again: true, .. });
    let events: Vec<Said> = events(&client);
    assert_eq!(events.iter().filter(|event| again(event)).count(), 1, "{events:?}");
    [&first, &second].iter().for_each(|token| book.plant(token));
    book.close(&[&client]);
}

/// The token that is used.
fn token<S: Subject>(client: &Client<S>) -> String {
    let own = S::wait(client.secrets().get_secret("auth/token/lookup-self")).unwrap();
    own.get("id").unwrap().to_owned()
}

/// Does this while four threads read; none of their calls may fail. `work` is given a way to wait
/// for so many more reads.
fn under_load<S: Subject>(client: &Client<S>, work: impl FnOnce(&dyn Fn(usize))) {
    let (over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let read = read(client);
                    if !matches!(read.as_deref(), Ok(VALUE)) {
                        over.store(true, Ordering::SeqCst);
                        panic!("{read:?}");
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        work(&|count| {
            let begun = reads.load(Ordering::SeqCst);
            let more =
                || over.load(Ordering::SeqCst) || reads.load(Ordering::SeqCst) > begun + count;
            eventually("more reads", more);
        });
        over.store(true, Ordering::SeqCst);
    });
}

fn case_000_23_a_token_file_is_followed_and_no_call_fails<S: Subject>() {
    let Some(vault) = vault::start(&Setup::default()) else { return };
    let mut book = Book::default();
    fill(&vault);
    let tokens = [(); 4].map(|()| vault.token(600).unwrap());
    tokens.iter().for_each(|token| book.plant(token));
    let file = SecretFile::new(&format!("{}\n", tokens[0]));
    let path = file.0.display().to_string();
    let auth = VaultAuth::TokenFile(TokenFileConfig { path, poll: Duration::from_secs(1) });
    let client = builder::<S>(&vault, auth).build().unwrap();
    let _background = S::background(&client);
    assert_eq!((read(&client).unwrap().as_str(), token(&client)), (VALUE, tokens[0].clone()));
    under_load(&client, |some| {
        for pair in tokens.windows(2).take(2) {
            file.put(&pair[1]);
            eventually("the new one is used", || token(&client) == pair[1]);
            vault.revoke(&pair[0]).unwrap();
            some(20);
        }
    });
    // A file that holds none changes nothing, and is told.
    file.put("\n");
    let view = || client.snapshot().vault.unwrap();
    eventually("it is told", || view().trouble.is_some());
    assert_eq!((token(&client), view().stage), (tokens[2].clone(), Stage::Held));
    // Nor does one that is gone; the next one is found, also where the old one is revoked at once.
    fs::remove_file(&file.0).unwrap();
    assert_eq!(read(&client).unwrap(), VALUE);
    file.put(&tokens[3]);
    vault.revoke(&tokens[2]).unwrap();
    eventually("the next one is used", || read(&client).is_ok_and(|value| value == VALUE));
    assert_eq!((token(&client), view().trouble), (tokens[3].clone(), None));
    let stays = S::wait(client.close(Duration::from_secs(5))).unwrap();
    let alive = vault.http_as(&tokens[3]).get("/v1/auth/token/lookup-self").unwrap();
    assert_eq!((stays, alive.status), (true, 200), "whose file it is gives it back");
    book.close(&[&client]);
}

fn events<S: Subject>(client: &Client<S>) -> Vec<Said> {
    let events = client.notices().into_iter().filter_map(|notice| match notice.event {
        origin_core::notice::Event::Vault { what } => Some(what),
        _ => None,
    });
    events.collect()
}

fn case_000_23_a_sealed_server_is_said_to_be_sealed_and_gone_on_with<S: Subject>() {
    let Some(mut vault) = vault::start(&Setup::default()) else { return };
    let mut book = Book::default();
    fill(&vault);
    let role = vault.approle("app", 600).unwrap();
    book.plant(&role.secret_id);
    let file = SecretFile::new(&role.secret_id);
    let fresh = || builder::<S>(&vault, approle(&role.role_id, &file)).build().unwrap();
    let client = fresh();
    assert_eq!(read(&client).unwrap(), VALUE);
    let late = fresh();
    vault.seal().unwrap();
    // With a token: the call is refused by the seal. Without: the login is.
    for _ in 0..3 {
        let errors = [
            read(&client).unwrap_err(),
            S::wait(client.secrets().kv("secret").read("app")).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.vault(), Some(&VaultError::Sealed), "{error:?}");
            assert_eq!(error.to_string(), "this vault node is sealed");
            assert!(error.is_retryable());
            book.error(&error);
        }
    }
    let _background = S::background(&late);
    let error = read(&late).unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::Unavailable { why: Trouble::Sealed }));
    assert!(error.to_string().contains("sealed"), "{error}");
    book.error(&error);
    assert!(S::wait(client.secrets().seal_status()).unwrap().sealed);
    vault.unseal().unwrap();
    eventually("it goes on with its token", || read(&client).is_ok());
    eventually("it logs in", || read(&late).is_ok());
    // A server that is started anew is sealed, and knows its tokens still.
    vault.process.restart().unwrap();
    eventually("sealed again", || {
        let error = read(&client).unwrap_err();
        error.vault() == Some(&VaultError::Sealed)
    });
    vault.unseal().unwrap();
    eventually("it goes on", || read(&client).is_ok());
    assert_eq!((stage(&client), stage(&late)), (Stage::Held, Stage::Held));
    book.close(&[&client, &late]);
}

fn case_000_23_wrong_credentials_are_said_to_be_wrong<S: Subject>() {
    let Some(vault) = vault::start(&Setup::default()) else { return };
    let mut book = Book::default();
    fill(&vault);
    let role = vault.approle("app", 600).unwrap();
    let wrong = SecretFile::new("pl4nted-wrong-secret-id");
    book.plant("pl4nted-wrong-secret-id");
    book.plant("pl4nted-wrong-token");
    let right = SecretFile::new(&role.secret_id);
    book.plant(&role.secret_id);
    let refused = VaultError::Unavailable { why: Trouble::Refused(400) };
    let mut clients = Vec::new();
    for (role_id, file) in [(&*role.role_id, &wrong), ("another-role", &right)] {
        let client = builder::<S>(&vault, approle(role_id, file)).build().unwrap();
        // Said at once, and not tried again with every call.
        for _ in 0..3 {
            let error = read(&client).unwrap_err();
            assert_eq!(error.vault(), Some(&refused), "{error:?}");
            assert_eq!(error.vault().map(VaultError::next), Some(Next::Credentials));
            book.error(&error);
        }
        let failed = |event: &&Said| matches!(event, Said::TokenFailed { .. });
        assert_eq!(events(&client).iter().filter(failed).count(), 1);
        clients.push(client);
    }
    // A token that is none, one that was revoked, one that is missing.
    let revoked = vault.token(600).unwrap();
    vault.revoke(&revoked).unwrap();
    book.plant(&revoked);
    for token in ["pl4nted-wrong-token", &revoked] {
        let client = builder::<S>(&vault, VaultAuth::Given).vault_token(token).build().unwrap();
        let error = S::wait(client.secrets().kv("secret").read("app")).unwrap_err();
        assert_eq!(error.vault(), Some(&VaultError::Denied), "{error:?}");
        book.error(&error);
        assert_eq!(read(&client).unwrap_err().status(), Some(403));
        clients.push(client);
    }
    let none = builder::<S>(&vault, VaultAuth::Given).build().unwrap();
    let error = S::wait(none.secrets().kv("secret").read("app")).unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::NoToken));
    clients.push(none);
    let clients: Vec<&Client<S>> = clients.iter().collect();
    book.close(&clients);
}
