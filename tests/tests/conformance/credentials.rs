//! Every credential of a client stands in its snapshot: what it is, where it is had, how old it is and
//! when it ends. None of them stands there itself.

use std::time::{Duration, SystemTime};

use origin_core::Secret;
use origin_core::config::consul::TokenSource;
use origin_core::config::{ConsulConfig, DiscoveryConfig, IdentityConfig, StorageConfig};
use origin_core::snapshot::{CredentialKind as Kind, CredentialSource as Source};
use origin_driver::{Client, Roots};

use crate::authority::Authority;
use crate::subject::{Subject, eventually};
use crate::vault::{Folder, approle, config, filled, read};

on_every_runtime! {
    every_credential_is_shown_with_its_source_and_its_end
    what_is_not_configured_is_not_shown_but_whom_we_believe_is
}

/// `{}`, `{"exp":4102444800}` (the year 2100), and no signature.
const JWT: &str = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.pl4nted-jwt";
const HOUR: Duration = Duration::from_secs(3_600);

fn text(text: &str) -> Option<TokenSource> {
    Secret::new(text).map(TokenSource::Text)
}

fn every_credential_is_shown_with_its_source_and_its_end<S: Subject>() {
    let (vault, folder, ours) = (filled(1), Folder::new("all"), Authority::new());
    vault.with(|state| state.lease = 600);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let leaf = ours.leaf_between(&["client"], now - HOUR, now + 2 * HOUR);
    let in_2100 = (Duration::from_secs(4_102_444_800) - now).as_secs();
    let (cert, key) = (folder.put("cert", &leaf.pem), folder.put("key", &leaf.key_pem));
    let (ca, jwt) = (folder.put("ca", &ours.pem()), folder.put("jwt", JWT));
    let access = folder.put("access", "pl4nted-access");
    let secret = folder.put("secret", "pl4nted-secret");
    let client = Client::<S>::builder()
        .endpoint("secrets", vault.nodes[0].url())
        .timeout(Duration::from_secs(10))
        .configure(|all| {
            all.vault = Some(config(approle(&folder)));
            all.identity = Some(IdentityConfig {
                ca: ca.clone(),
                cert: cert.clone(),
                key,
                token_file: jwt.clone(),
                services: vec!["billing".to_owned()],
                ..IdentityConfig::default()
            });
            all.storage = Some(StorageConfig {
                access_key_file: Some(access),
                secret_key_file: Some(secret.clone()),
                ..StorageConfig::default()
            });
            let consul = ConsulConfig {
                // Nobody is there, and nobody has to be.
                urls: vec!["http://127.0.0.1:1".to_owned()],
                agent_token: text("pl4nted-agent"),
                // It is set everywhere.
                service_token: Some(TokenSource::Env("PATH".to_owned())),
                ..ConsulConfig::default()
            };
            all.discovery =
                Some(DiscoveryConfig { consul: Some(consul), ..DiscoveryConfig::default() });
        })
        .build()
        .unwrap();
    let _background = S::background(&client);
    assert_eq!(read(&client).unwrap(), "v");
    let token = || client.snapshot().identity.token.unwrap().held;
    eventually("the token of its file", token);
    let file = |path: &String| Source::File(path.as_str().into());
    let (hour, minute) = (HOUR.as_secs(), 60);
    let expected = [
        (Kind::Certificate, file(&cert), Some(2 * hour)),
        // `rcgen` lets authorities live for two thousand years.
        (Kind::Roots, file(&ca), None),
        (Kind::ServiceToken, file(&jwt), Some(in_2100)),
        (Kind::VaultToken, Source::Login("approle".into()), Some(10 * minute)),
        (Kind::StorageKeys, file(&secret), None),
        (Kind::ConsulAgentToken, Source::Configuration, None),
        (Kind::ConsulServiceToken, Source::Variable("PATH".into()), None),
    ];
    let snapshot = client.snapshot();
    let kinds: Vec<Kind> = snapshot.credentials.iter().map(|each| each.kind).collect();
    assert_eq!(kinds, expected.each_ref().map(|each| each.0));
    for (shown, (kind, source, ends_in)) in snapshot.credentials.iter().zip(&expected) {
        assert_eq!((&shown.source, shown.held), (source, true), "{kind:?}");
        assert!(shown.age.unwrap() < Duration::from_secs(minute), "{shown:?}");
        let left = shown.ends_in.map(|left| left.as_secs());
        match ends_in {
            Some(ends_in) => {
                let left = left.unwrap();
                assert!(*ends_in - minute < left && left <= *ends_in + 1, "{shown:?}");
            }
            None if *kind == Kind::Roots => assert!(left.unwrap() > 1_000 * 365 * 24 * hour),
            None => assert_eq!(left, None, "{kind:?}"),
        }
    }
    // No value is shown, of none of them, and in no other place of the snapshot.
    let all = format!("{snapshot:?} {}", serde_json::to_string(&snapshot).unwrap());
    let key = leaf.key_pem.lines().nth(1).unwrap();
    for value in ["pl4nted", "right", "hvs.", key, &std::env::var("PATH").unwrap()] {
        assert!(!all.contains(value), "{value} is shown");
    }
    // What the program exchanges has another source and another end.
    let next = ours.leaf_between(&["client"], now - HOUR, now + 5 * HOUR);
    client.set_identity(next.identity()).unwrap();
    let shown = client.snapshot().credentials.remove(0);
    assert_eq!((shown.kind, shown.source), (Kind::Certificate, Source::Program));
    assert!(shown.ends_in.unwrap() > 4 * HOUR, "{:?}", shown.ends_in);
}

fn what_is_not_configured_is_not_shown_but_whom_we_believe_is<S: Subject>() {
    let client = Client::<S>::builder().endpoint("lab", "http://127.0.0.1:1").build().unwrap();
    let shown = client.snapshot().credentials;
    let [roots] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!((roots.kind, &roots.source, roots.held), (Kind::Roots, &Source::BuiltIn, true));
    assert_eq!(roots.ends_in, None);
    // Of several authorities the first that ends counts; what has ended is shown as over.
    let ours = Authority::new();
    let day = Duration::from_secs(86_400);
    let old = ours.leaf_between(&["old"], day, 2 * day);
    let roots = Roots::Pem((ours.pem() + &old.pem).into_bytes());
    let builder = Client::<S>::builder().endpoint("lab", "http://127.0.0.1:1").roots(roots);
    let client = builder.vault_token("pl4nted").build().unwrap();
    let shown = client.snapshot().credentials;
    let kinds: Vec<_> = shown.iter().map(|each| (each.kind, each.source.clone())).collect();
    assert_eq!(kinds, [(Kind::Roots, Source::Program), (Kind::VaultToken, Source::Program)]);
    assert_eq!(shown[0].ends_in, Some(Duration::ZERO));
    assert!(!format!("{shown:?}").contains("pl4nted"));
}
