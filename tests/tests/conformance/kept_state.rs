//! What was learnt of endpoints, kept in a file over a restart (`state.path`): written by the
//! background and when the client is closed, used by the next one, and no harm whatever stands
//! there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use origin_core::learned::Learned;
use origin_core::policy::breaker::State;
use origin_driver::{Builder, Client};
use origin_lab::{FaultServer, Mode};

use crate::subject::{Subject, eventually, get, of};

on_every_runtime! {
    case_000_30_an_open_breaker_is_still_open_after_a_restart
    case_000_30_the_background_writes_and_a_client_that_is_dropped_has_left_something
    case_000_30_whatever_stands_in_the_file_a_client_starts_and_says_so
    case_000_30_a_folder_that_is_gone_is_said_once_and_no_call_fails
}

const SOON: Duration = Duration::from_secs(5);

/// A folder of its own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("origin-state-{name}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn to<S: Subject>(server: &FaultServer, folder: &Folder) -> Builder<S> {
    let path = folder.file().display().to_string();
    Client::<S>::builder().endpoint("lab", server.url()).timeout(SOON).seed(7).configure(
        move |config| {
            config.policy.retry.max_attempts = 1;
            config.policy.breaker.failures = Some(2);
            config.policy.breaker.open = Duration::from_secs(60);
            config.policy.breaker.open_max = Duration::from_secs(60);
            config.state.path = Some(path);
            config.state.every = Duration::from_secs(1);
            config.state.max_bytes = 64 << 10;
        },
    )
}

fn is_open<S: Subject>(client: &Client<S>) -> bool {
    matches!(of(client, "lab").endpoints[0].breaker, State::Open { .. })
}

fn told<S: Subject>(client: &Client<S>, name: &str) -> Vec<String> {
    let notices = client.notices();
    let of = notices.iter().filter(|notice| notice.event.log_name() == name);
    of.map(ToString::to_string).collect()
}

fn case_000_30_an_open_breaker_is_still_open_after_a_restart<S: Subject>() {
    let (server, folder) = (FaultServer::start().unwrap(), Folder::new(S::NAME));
    let first = to::<S>(&server, &folder).build().unwrap();
    server.set(Mode::status(503));
    for _ in 0..2 {
        let _ = get(&first, "lab", "/");
    }
    assert!(is_open(&first));
    assert!(S::wait(S::there(|| first.close(SOON))).unwrap(), "it was written");
    drop(first);
    server.set(Mode::Ok);
    let asked = server.request_count();

    let second = to::<S>(&server, &folder).build().unwrap();
    assert_eq!(told(&second, "state_restored").len(), 1, "{:?}", second.notices());
    assert!(is_open(&second));
    assert!(get(&second, "lab", "/").unwrap_err().is_circuit_open());
    assert_eq!(server.request_count(), asked, "nothing was sent");
    assert_eq!(folder.names(), ["state.json"], "nothing is left beside it");
}

fn case_000_30_the_background_writes_and_a_client_that_is_dropped_has_left_something<S: Subject>() {
    let (server, folder) = (FaultServer::start().unwrap(), Folder::new(S::NAME));
    let client = to::<S>(&server, &folder).build().unwrap();
    let background = S::background(&client);
    get(&client, "lab", "/").unwrap();
    eventually("it is written", || folder.file().exists());
    drop((background, client));
    let text = std::fs::read(folder.file()).unwrap();
    let learned: Learned = serde_json::from_slice(&text).unwrap();
    assert!(learned.services["lab"].endpoints[0].latency_us.is_some(), "{learned:?}");
}

fn case_000_30_whatever_stands_in_the_file_a_client_starts_and_says_so<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let old = "{\"at\": 1000, \"services\": {}}".to_owned();
    let large = format!("{{\"at\": 1000, \"x\": \"{}\"}}", "y".repeat(100 << 10));
    for (content, why) in [
        (String::new(), "line 1"),
        ("not json".to_owned(), "line 1"),
        ("[".repeat(50_000), "line 1"),
        (old, "s ago"),
        (large, "exceeds"),
    ] {
        let folder = Folder::new(S::NAME);
        std::fs::write(folder.file(), &content).unwrap();
        let client = to::<S>(&server, &folder).build().unwrap();
        let told = told(&client, "state_refused");
        assert!(told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), content, "left as it is");
        get(&client, "lab", "/").unwrap();
        // The next write makes it good again.
        assert!(S::wait(S::there(|| client.close(SOON))).unwrap());
        let next = to::<S>(&server, &folder).build().unwrap();
        assert!(next.notices().iter().all(|it| it.event.log_name() != "state_refused"));
    }
}

fn case_000_30_a_folder_that_is_gone_is_said_once_and_no_call_fails<S: Subject>() {
    let (server, folder) = (FaultServer::start().unwrap(), Folder::new(S::NAME));
    let client = to::<S>(&server, &folder).build().unwrap();
    let background = S::background(&client);
    std::fs::remove_dir_all(&folder.0).unwrap();
    get(&client, "lab", "/").unwrap();
    eventually("it is said", || !told(&client, "state_failed").is_empty());
    get(&client, "lab", "/").unwrap();
    std::fs::create_dir_all(&folder.0).unwrap();
    eventually("it is written", || folder.file().exists());
    eventually("that is said", || !told(&client, "state_recovered").is_empty());
    assert_eq!(told(&client, "state_failed").len(), 1, "{:?}", client.notices());
    drop(background);
}
