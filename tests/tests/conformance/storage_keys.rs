//! Credentials of storage in files that somebody exchanges under a client that runs. Whether
//! signatures are right, the servers of `tests/storage.rs` judge.

use std::time::Duration;

use origin_core::Error;
use origin_core::config::StorageConfig;
use origin_core::notice::Event;
use origin_core::s3::rotation;
use origin_driver::Client;
use origin_lab::FaultServer;

use crate::subject::{Subject, eventually};
use crate::vault::Folder;

on_every_runtime! {
    credentials_of_storage_exchanged_in_their_files_sign_what_is_sent_next
}

/// The access keys that requests were signed for, in order.
fn signed(server: &FaultServer) -> Vec<String> {
    let requests = server.requests();
    let key = requests.iter().map(|request| {
        let header = request.header("authorization").unwrap_or_default();
        let key = header.split_once("Credential=").and_then(|(_, rest)| rest.split_once('/'));
        key.map_or("", |(key, _)| key).to_owned()
    });
    key.collect()
}

fn said<S: Subject>(client: &Client<S>) -> Vec<rotation::Event> {
    let events = client.notices().into_iter().filter_map(|notice| match notice.event {
        Event::Storage { what } => Some(what),
        _ => None,
    });
    events.collect()
}

fn credentials_of_storage_exchanged_in_their_files_sign_what_is_sent_next<S: Subject>() {
    let (server, folder) = (FaultServer::start().unwrap(), Folder::new("storage"));
    let access_key_file = Some(folder.put("key", "first\n"));
    let secret = folder.put("secret", "pl4nted-1\n");
    let config = StorageConfig {
        access_key_file,
        secret_key_file: Some(secret.clone()),
        poll: Duration::from_secs(1),
        ..StorageConfig::default()
    };
    let client = Client::<S>::builder()
        .endpoint("storage", server.url())
        .configure(|all| all.storage = Some(config))
        .seed(7)
        .build()
        .unwrap();
    let _background = S::background(&client);
    // Handles that were made before sign with the new ones, too.
    let storage = client.storage();
    let get = || -> Result<(), Error> { S::wait(storage.get_object("bucket", "key")).map(drop) };
    get().unwrap();
    folder.put("key", "second");
    folder.put("secret", "pl4nted-2");
    eventually("the new ones sign", || {
        get().unwrap();
        signed(&server).last().is_some_and(|key| key == "second")
    });
    // A half that is gone, as in the middle of an exchange, changes nothing.
    std::fs::remove_file(&secret).unwrap();
    eventually("it is said", || {
        let missing = |event: &rotation::Event| matches!(event, rotation::Event::Unreadable { .. });
        said(&client).last().is_some_and(missing)
    });
    get().unwrap();
    folder.put("key", "third");
    folder.put("secret", "pl4nted-3");
    eventually("the third ones sign", || {
        get().unwrap();
        signed(&server).last().is_some_and(|key| key == "third")
    });
    let mut order = signed(&server);
    order.dedup();
    assert_eq!(order, ["first", "second", "third"]);
    let shown = format!("{storage:?} {client:?} {:?} {:?}", client.snapshot(), client.config());
    assert!(!shown.contains("pl4nted") && !format!("{:?}", said(&client)).contains("pl4nted"));
}
