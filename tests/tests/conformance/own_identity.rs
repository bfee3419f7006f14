//! Who the client is, from files (`[identity]`): certificate, key and authorities exchanged on disk
//! while calls go on, and what is said of those that cannot be used. The token of the service
//! account has a room of its own: `service_token.rs`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use origin_core::Config;
use origin_core::config::IdentityConfig;
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_driver::{Builder, Client, Roots};

use crate::authority::{Authority, EACH_VERSION, Leaf, Server, Setup};
use crate::certificates::{outcome, reason, to};
use crate::rotation::under_load;
use crate::subject::{Subject, eventually, get};

on_every_runtime! {
    case_003_47_files_exchanged_a_hundred_times_under_load_fail_no_call
    case_003_47_files_that_cannot_be_used_are_told_of_and_change_nothing
    case_003_47_what_is_wrong_with_the_files_is_said_at_build
    case_003_46_each_way_to_be_refused_has_words_of_its_own
    a_certificate_is_warned_of_ahead_and_seen_in_the_snapshot
}

const TLS: Outcome = Outcome::Failed { fault: Fault::Tls, sent: Sent::Never };

/// A folder whose content is exchanged as a whole, as a kubelet does it: everything is behind one
/// link, which is replaced.
pub(crate) struct Volume {
    folder: PathBuf,
    version: AtomicU64,
}

impl Volume {
    pub(crate) fn new(name: &str) -> Volume {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("origin-volume-{name}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Volume { folder, version: AtomicU64::new(0) }
    }

    /// These files, and no others.
    pub(crate) fn put(&self, files: &[(&str, &str)]) {
        let version = self.version.fetch_add(1, Ordering::Relaxed).to_string();
        let content = self.folder.join(&version);
        std::fs::create_dir_all(&content).unwrap();
        for (name, text) in files {
            std::fs::write(content.join(name), text).unwrap();
        }
        let link = self.folder.join("..new");
        std::os::unix::fs::symlink(&version, &link).unwrap();
        std::fs::rename(link, self.folder.join("..data")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join("..data").join(name).display().to_string()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn put(volume: &Volume, ca: &str, leaf: &Leaf) {
    volume.put(&[("ca.pem", ca), ("cert.pem", &leaf.pem), ("key.pem", &leaf.key_pem)]);
}

fn identity(volume: &Volume) -> IdentityConfig {
    IdentityConfig {
        ca: volume.path("ca.pem"),
        cert: volume.path("cert.pem"),
        key: volume.path("key.pem"),
        poll: Duration::from_millis(100),
        ..IdentityConfig::default()
    }
}

fn from_files<S: Subject>(url: &str, volume: &Volume) -> Builder<S> {
    let identity = identity(volume);
    to::<S>(url, Roots::WebPki).configure(|config: &mut Config| config.identity = Some(identity))
}

fn told<S: Subject>(client: &Client<S>) -> String {
    let all: Vec<String> = client.notices().iter().map(ToString::to_string).collect();
    all.join("\n")
}

fn case_003_47_files_exchanged_a_hundred_times_under_load_fail_no_call<S: Subject>() {
    const TIMES: u64 = 100;
    let ours = Authority::new();
    let server = Server::start(&Setup::requiring(ours.leaf(&["localhost"]), &ours));
    let volume = Volume::new(S::NAME);
    let exchange = |number: u64| {
        let leaf = ours.leaf(&["client"]);
        server.know(&leaf, &number.to_string());
        put(&volume, &ours.pem(), &leaf);
    };
    exchange(0);
    // No background in the blocking client: there calls look after it.
    let client = from_files::<S>(&server.url(), &volume).build().unwrap();
    under_load(&client, |load| {
        load.more(8);
        for number in 1..=TIMES {
            exchange(number);
            eventually("the new one is used", || {
                load.is_over() || server.open(&number.to_string()) > 0
            });
            load.stands(number);
        }
    });
    let view = client.snapshot().identity;
    assert_eq!(view.exchanged, TIMES);
    eventually("connections of earlier ones end", || {
        (0..TIMES).all(|number| server.open(&number.to_string()) == 0)
    });
}

fn case_003_47_files_that_cannot_be_used_are_told_of_and_change_nothing<S: Subject>() {
    let ours = Authority::new();
    let server = Server::start(&Setup::requiring(ours.leaf(&["localhost"]), &ours));
    let (first, second) = (ours.leaf(&["client"]), ours.leaf(&["client"]));
    server.know(&first, "first");
    server.know(&second, "second");
    let volume = Volume::new(S::NAME);
    put(&volume, &ours.pem(), &first);
    let client = from_files::<S>(&server.url(), &volume).build().unwrap();
    let mixed = Leaf { key_pem: first.key_pem.clone(), ..second.clone() };
    let key = "identity.key: ".to_owned() + &volume.path("key.pem");
    let ca = "identity.ca: ".to_owned() + &volume.path("ca.pem");
    for (authority, leaf, said) in [
        (ours.pem(), &mixed, key + ": the key does not belong to the first certificate"),
        ("nothing".to_owned(), &second, ca + ": the PEM text holds no certificate"),
    ] {
        put(&volume, &authority, leaf);
        eventually("it is told", || {
            assert_eq!(get(&client, "lab", "/").unwrap().text(), "first");
            told(&client).contains(&said)
        });
    }
    // One that is missing is told of once, however often it is looked for.
    volume.put(&[("ca.pem", &ours.pem()), ("cert.pem", &second.pem)]);
    eventually("it is missed", || {
        assert_eq!(get(&client, "lab", "/").unwrap().text(), "first");
        told(&client).contains("key.pem\" is not there")
    });
    std::thread::sleep(Duration::from_millis(300));
    get(&client, "lab", "/").unwrap();
    assert_eq!(told(&client).matches("is not there").count(), 1);
    assert_eq!(client.snapshot().identity.exchanged, 0);
    put(&volume, &ours.pem(), &second);
    eventually("it is used", || get(&client, "lab", "/").unwrap().text() == "second");
    assert!(told(&client).contains("is in force"), "{}", told(&client));
    let text = format!("{:?} {}", client.snapshot(), told(&client));
    let secret = second.key_pem.lines().nth(1).unwrap();
    assert!(!text.contains(secret) && !text.contains("PRIVATE"));
}

fn case_003_47_what_is_wrong_with_the_files_is_said_at_build<S: Subject>() {
    let ours = Authority::new();
    let (own, other) = (ours.leaf(&["client"]), ours.leaf(&["other"]));
    let volume = Volume::new(S::NAME);
    let all = [("ca.pem", ours.pem()), ("cert.pem", own.pem.clone()), ("key.pem", own.key_pem)];
    let build = |change: &[(&str, Option<&str>)]| {
        let mut files: Vec<(&str, &str)> = all.iter().map(|(n, t)| (*n, t.as_str())).collect();
        for (name, text) in change {
            files.retain(|(other, _)| other != name);
            files.extend(text.map(|text| (*name, text)));
        }
        volume.put(&files);
        from_files::<S>("https://localhost:1", &volume).build().map(drop)
    };
    assert_eq!(build(&[]), Ok(()));
    for (change, field, said) in [
        (("ca.pem", None), "identity.ca", "No such file"),
        (("ca.pem", Some("x")), "identity.ca", "holds no certificate"),
        (("cert.pem", None), "identity.cert", "No such file"),
        (("cert.pem", Some("x")), "identity.cert", "holds no certificate"),
        (("key.pem", None), "identity.key", "No such file"),
        (("key.pem", Some("x")), "identity.key", "no key as PKCS#8"),
        (("key.pem", Some(&*other.key_pem)), "identity.key", "does not belong to the first"),
    ] {
        let error = build(&[change]).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.reason.contains(said) && error.reason.contains(change.0), "{error}");
    }
    // Two ways to say the same.
    volume.put(&all.each_ref().map(|(name, text)| (*name, text.as_str())));
    let builder = || from_files::<S>("https://localhost:1", &volume);
    let error = builder().identity(other.identity()).build().unwrap_err();
    assert_eq!(error.field, "identity.cert");
    assert_eq!(builder().roots(ours.roots()).build().unwrap_err().field, "identity.ca");
    // It cannot be another one later.
    let client = builder().build().unwrap();
    let error = client.reconfigure(Config { identity: None, ..client.config() }).unwrap_err();
    assert_eq!(error.field, "identity");
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn case_003_46_each_way_to_be_refused_has_words_of_its_own<S: Subject>() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let day = Duration::from_secs(86_400);
    let dead = |names: &[&str]| ours.leaf_between(names, now() - 9 * day, now() - day);
    for versions in EACH_VERSION {
        let good = ours.leaf(&["localhost"]);
        for (server, client, said) in [
            (ours.leaf(&["elsewhere.example"]), ours.leaf(&["client"]), "elsewhere.example"),
            (theirs.leaf(&["localhost"]), ours.leaf(&["client"]), "none of our roots vouches"),
            (dead(&["localhost"]), ours.leaf(&["client"]), "expired"),
            (good.clone(), theirs.leaf(&["client"]), "the server refused our certificate"),
            (good, dead(&["client"]), "CertificateExpired"),
        ] {
            let server = Server::start(&Setup { versions, ..Setup::requiring(server, &ours) });
            let volume = Volume::new(S::NAME);
            put(&volume, &ours.pem(), &client);
            let client = from_files::<S>(&server.url(), &volume).build().unwrap();
            assert_eq!(outcome(get(&client, "lab", "/")), TLS, "{versions:?} {said}");
            assert!(reason(&client).contains(said), "{said}: {}", reason(&client));
            assert_eq!(server.requests(), 0);
        }
    }
}

fn a_certificate_is_warned_of_ahead_and_seen_in_the_snapshot<S: Subject>() {
    let ours = Authority::new();
    let server = Server::start(&Setup::requiring(ours.leaf(&["localhost"]), &ours));
    let day = Duration::from_secs(86_400);
    let id = "spiffe://origin/ns/a/sa/b";
    // Two hours of two hundred days are left: within the day that is the default.
    let soon = ours.leaf_between(&["client", id], now() - 200 * day, now() + day / 12);
    let client = to::<S>(&server.url(), ours.roots()).identity(soon.identity()).build().unwrap();
    get(&client, "lab", "/").unwrap();
    let view = client.snapshot().identity;
    let leaf = view.certificate.unwrap();
    assert_eq!((leaf.spiffe_id.as_deref(), view.expired, view.exchanged), (Some(id), false, 0));
    let end = (now() + day / 12).as_secs();
    assert!((end - 60..=end).contains(&leaf.not_after.0), "{leaf:?}");
    let warned = |text: &str| told(&client).matches(text).count();
    assert_eq!(warned("expires in"), 1, "{}", told(&client));
    get(&client, "lab", "/").unwrap();
    assert_eq!(warned("expires in"), 1);
    // One that is over is told of, too; then a good one, and nothing more is said.
    let dead = ours.leaf_between(&["client"], now() - 9 * day, now() - day);
    client.set_identity(dead.identity()).unwrap();
    assert_eq!((warned("has expired"), client.snapshot().identity.expired), (1, true));
    client.set_identity(ours.leaf(&["client"]).identity()).unwrap();
    client.set_identity(None).unwrap();
    client.set_identity(None).unwrap();
    let view = client.snapshot().identity;
    assert_eq!((view.certificate, view.exchanged, view.expired), (None, 3, false));
    assert_eq!((warned("expires in"), warned("has expired"), warned("in force")), (1, 1, 3));
}
