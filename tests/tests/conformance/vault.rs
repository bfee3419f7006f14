//! The client's token for Vault, over real sockets and against the stand-in: had by the first call
//! that needs it, renewed ahead of its end, replaced when it is refused, given back at the end; and
//! no call fails for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use origin_core::Error;
use origin_core::config::vault::{AppRoleConfig, TokenFileConfig};
use origin_core::config::{KvVersion, VaultAuth, VaultConfig};
use origin_core::vault::VaultError;
use origin_core::vault::event::Trouble;
use origin_core::vault::health::Condition;
use origin_core::vault::keeper::Stage;
use origin_driver::{Builder, Client};
use origin_lab::Mode;
use serde_json::json;

use crate::subject::{Subject, eventually};
use crate::vault_standin::Vault;

on_every_runtime! {
    case_000_23_the_first_calls_wait_for_one_login
    case_000_23_a_token_is_renewed_ahead_and_replaced_when_that_is_refused
    case_000_23_a_token_revoked_in_mid_flight_fails_no_call
    case_000_23_a_token_file_rotated_under_load_fails_no_call
    case_000_23_sealed_nodes_are_passed_over_and_named_when_all_are
    case_000_23_versions_and_leases_and_the_end
    case_000_03_what_cannot_be_meant_is_refused_before_anything_is_sent
}

/// A folder of its own, gone with the test.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir();
        let path = path.join(format!("origin-vault-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Puts a file there, as a whole; yields its path.
    pub(crate) fn put(&self, name: &str, content: &str) -> String {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn approle(folder: &Folder) -> VaultAuth {
    VaultAuth::Approle(AppRoleConfig {
        role_id: "app".into(),
        secret_id_file: Some(folder.put("secret-id", "right\n")),
        ..AppRoleConfig::default()
    })
}

pub(crate) fn config(auth: VaultAuth) -> VaultConfig {
    let mut config = VaultConfig { auth, ..VaultConfig::default() };
    config.mounts.insert("secret".into(), KvVersion::V2);
    config.timeout = Duration::from_secs(5);
    config.token.backoff = Duration::from_secs(1);
    config
}

fn builder<S: Subject>(vault: &Vault, config: VaultConfig) -> Builder<S> {
    let nodes = vault.nodes.iter().map(origin_lab::FaultServer::url);
    let builder = nodes.fold(Client::<S>::builder(), |b, url| b.endpoint("secrets", url));
    builder.timeout(Duration::from_secs(10)).seed(7).configure(|all| all.vault = Some(config))
}

pub(crate) fn filled(nodes: usize) -> Vault {
    let vault = Vault::start(nodes);
    let secret = json!({ "data": { "k": "v" }, "metadata": { "version": 1 } });
    vault.with(|state| state.secrets.insert("/v1/secret/data/app".into(), secret));
    vault
}

pub(crate) fn read<S: Subject>(client: &Client<S>) -> Result<String, Error> {
    let secret = S::wait(client.secrets().get_secret("secret/app"))?;
    Ok(secret.get("k").unwrap_or_default().to_owned())
}

/// Reads from four threads while `change` runs; each read must succeed.
fn under_load<S: Subject>(client: &Client<S>, change: impl FnOnce()) -> usize {
    let (over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let read = read(client);
                        assert!(matches!(read.as_deref(), Ok("v")), "{read:?}");
                        reads.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(5));
                    }
                })
            })
            .collect();
        change();
        over.store(true, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    reads.into_inner()
}

fn case_000_23_the_first_calls_wait_for_one_login<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("first"));
    let client = builder::<S>(&vault, config(approle(&folder))).build().unwrap();
    assert_eq!(vault.with(|state| state.book.len()), 0, "nothing is sent before it is needed");
    let calls = S::together(16, |_| client.secrets().get_secret("secret/app"));
    for call in calls {
        assert_eq!(call.0.unwrap().get("k"), Some("v"));
    }
    assert_eq!(vault.logins(), 1);
    let view = client.snapshot().vault.unwrap();
    assert_eq!((view.stage, &*view.auth, view.trouble), (Stage::Held, "approle", None));
    assert!(view.until.is_some_and(|until| until > client.snapshot().at));
    // What needs no token waits for none.
    let none = builder::<S>(&vault, config(VaultAuth::Given)).build().unwrap();
    assert_eq!(S::wait(none.secrets().health()).unwrap().condition, Condition::Active);
    let error = S::wait(none.secrets().get_secret("secret/app")).unwrap_err();
    assert!(matches!(error, Error::Credential { .. }), "{error:?}");
}

fn case_000_23_a_token_is_renewed_ahead_and_replaced_when_that_is_refused<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("renewed"));
    vault.with(|state| state.lease = 6);
    let client = builder::<S>(&vault, config(approle(&folder))).build().unwrap();
    let _background = S::background(&client);
    let renew = "POST /v1/auth/token/renew-self";
    let reads = under_load(&client, || {
        // Between one and two seconds of the six.
        eventually("a renewal", || vault.asked(renew) >= 1);
        assert_eq!(vault.logins(), 1);
        vault.with(|state| state.refuse_renewals = true);
        eventually("another login", || vault.logins() >= 2);
    });
    assert!(reads > 10, "{reads}");
    let said: Vec<String> = client.notices().iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|line| line.starts_with("secrets: vault: ")), "{said:?}");
}

fn case_000_23_a_token_revoked_in_mid_flight_fails_no_call<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("revoked"));
    let client = builder::<S>(&vault, config(approle(&folder))).build().unwrap();
    let _background = S::background(&client);
    under_load(&client, || {
        eventually("a login", || vault.logins() == 1);
        thread::sleep(Duration::from_millis(100));
        vault.with(|state| state.tokens.clear());
        eventually("another login", || vault.logins() == 2);
        thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(vault.logins(), 2);
    // A path that is denied is looked at once, not again and again, and stays denied.
    vault.with(|state| state.tokens.clear());
    assert_eq!(read(&client).unwrap_err().status(), Some(403));
}

fn case_000_23_a_token_file_rotated_under_load_fails_no_call<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("file"));
    vault.with(|state| state.tokens.insert("t0".into()));
    let path = folder.put("token", "t0\n");
    let auth = VaultAuth::TokenFile(TokenFileConfig { path, poll: Duration::from_secs(1) });
    let client = builder::<S>(&vault, config(auth)).build().unwrap();
    let _background = S::background(&client);
    under_load(&client, || {
        for n in 1..4 {
            let (new, old) = (format!("t{n}"), format!("t{}", n - 1));
            vault.with(|state| state.tokens.insert(new.clone()));
            folder.put("token", &new);
            // As whoever writes such files does: the old one lives a little longer.
            let used = |state: &mut crate::vault_standin::State| {
                state.book.iter().any(|entry| entry.token.as_deref() == Some(&new))
            };
            eventually("the new token", || vault.with(used));
            thread::sleep(Duration::from_millis(100));
            vault.with(|state| state.tokens.remove(&old));
        }
    });
}

fn case_000_23_sealed_nodes_are_passed_over_and_named_when_all_are<S: Subject>() {
    let (vault, folder) = (filled(2), Folder::new("sealed"));
    vault.seal(0, true);
    let fresh = || builder::<S>(&vault, config(approle(&folder))).build().unwrap();
    let client = fresh();
    assert_eq!(read(&client).unwrap(), "v");
    // A node that cannot be used for another reason is not said to be sealed.
    vault.nodes[1].set(Mode::status(503));
    vault.seal(0, false);
    vault.nodes[0].set(Mode::status(503));
    let error = read(&client).unwrap_err();
    assert!(matches!(&error, Error::Exhausted(_)), "{error:?}");
    vault.nodes.iter().for_each(|node| node.set(Mode::Ok));
    vault.seal(0, true);
    vault.seal(1, true);
    let error = read(&client).unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::Sealed), "{error:?}");
    let Error::Vault { report: Some(report), .. } = &error else { panic!("{error:?}") };
    assert!(report.attempts.len() >= 2, "both were tried: {report:?}");
    // One that has no token yet says why, and tries again by itself.
    let late = fresh();
    let _background = S::background(&late);
    let error = read(&late).unwrap_err();
    let sealed = VaultError::Unavailable { why: Trouble::Sealed };
    assert!(matches!(&error, Error::Vault { error, .. } if **error == sealed), "{error:?}");
    vault.seal(0, false);
    vault.seal(1, false);
    eventually("a login after it was unsealed", || read(&late).is_ok());
}

fn case_000_23_versions_and_leases_and_the_end<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("end"));
    let client = builder::<S>(&vault, config(approle(&folder))).build().unwrap();
    let _background = S::background(&client);
    let secrets = client.secrets();
    let data = json!({ "k": "w" }).as_object().unwrap().clone();
    let written = S::wait(secrets.kv("secret").write("app", &data)).unwrap();
    assert_eq!(written.unwrap().version, 2);
    assert_eq!(read(&client).unwrap(), "w");
    S::wait(secrets.kv("plain").write("app", &data)).unwrap();
    assert_eq!(S::wait(secrets.kv("plain").read("app")).unwrap().data["k"], "w");
    let created = S::wait(secrets.create("database/creds/app")).unwrap();
    let lease = created.lease.unwrap();
    assert!(secrets.leases().keep(&lease));
    eventually("the lease is renewed", || vault.asked("POST /v1/sys/leases/renew") >= 1);
    assert_eq!(client.snapshot().vault.unwrap().leases, 1);
    let closed = S::wait(client.close(Duration::from_secs(5))).unwrap();
    assert!(closed, "{:?} {:?}", client.snapshot().vault, vault.with(|s| s.book.clone()));
    vault.with(|state| {
        assert!(state.leases.is_empty() && state.tokens.is_empty(), "{:?}", state.book);
        let order: Vec<&str> = state.book.iter().map(|entry| &*entry.line).collect();
        assert_eq!(
            order[order.len() - 2..],
            ["POST /v1/sys/leases/revoke", "POST /v1/auth/token/revoke-self"]
        );
    });
    assert_eq!(client.snapshot().vault.unwrap().stage, Stage::Closed);
    assert!(read(&client).is_err(), "the token was given back");
}

fn case_000_03_what_cannot_be_meant_is_refused_before_anything_is_sent<S: Subject>() {
    let (vault, folder) = (filled(1), Folder::new("refused"));
    let both = builder::<S>(&vault, config(approle(&folder))).vault_token("t");
    let error = both.build().unwrap_err();
    assert_eq!(error.field, "vault.auth");
    assert!(error.reason.contains("approle"), "{error}");
    let client = builder::<S>(&vault, config(approle(&folder))).build().unwrap();
    let mut other = client.config();
    other.vault = None;
    assert_eq!(client.reconfigure(other).unwrap_err().field, "vault");
    // The wrong credentials are said to be wrong.
    vault.with(|state| state.secret_id = "another".into());
    let error = read(&client).unwrap_err();
    let refused = VaultError::Unavailable { why: Trouble::Refused(400) };
    assert!(matches!(&error, Error::Vault { error, .. } if **error == refused), "{error:?}");
    assert_eq!(vault.with(|state| state.book.len()), 1);
}
