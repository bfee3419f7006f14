//! `object`, `secret` and `stamp`: what they read, what they write, and what they leave behind.

use std::fs;

use origin_lab::{Mode, World, WorldSpec};
use serde_json::Value;

use crate::bench::{Room, at, code, text, with_input, world};

#[test]
fn objects_go_to_storage_and_come_back() {
    let world = world();
    let room = Room::new();
    // More than one piece, and more than text.
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let put = with_input(at(&world, &["object", "put", "b", "dir/ä 1", "-"]), &content);
    assert_eq!(code(&put), 0, "{}", text(&put.stderr));
    let got = at(&world, &["object", "get", "b", "dir/ä 1"]).output().unwrap();
    assert_eq!((code(&got), got.stdout == content), (0, true));
    assert!(got.stderr.is_empty(), "no progress where no terminal is: {}", text(&got.stderr));
    let file = room.0.join("out");
    let to = file.display().to_string();
    let got = at(&world, &["object", "get", "b", "dir/ä 1", "-o", &to]).output().unwrap();
    assert_eq!((code(&got), fs::read(&file).unwrap() == content), (0, true));
    let listed = at(&world, &["object", "ls", "b", "dir/"]).output().unwrap();
    assert_eq!(text(&listed.stdout), "      300000  dir/ä 1\n");
    assert_eq!(code(&at(&world, &["object", "rm", "b", "dir/ä 1"]).output().unwrap()), 0);
    let listed = at(&world, &["object", "ls", "b", "--json"]).output().unwrap();
    assert_eq!((code(&listed), listed.stdout.len()), (0, 0));
    // What is not there leaves no file, whole or in part.
    let none = room.0.join("none");
    let to = none.display().to_string();
    let missing = at(&world, &["object", "get", "b", "missing", "-o", &to]).output().unwrap();
    assert_eq!(code(&missing), 5, "{}", text(&missing.stderr));
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 1);
    let no_file = at(&world, &["object", "put", "b", "k", "/no/such/file"]).output().unwrap();
    assert_eq!(code(&no_file), 1);
    // A body that breaks off half-way: the part that had come is removed.
    world.service("storage").set(Mode::CloseMidBody { after: 200_000 });
    let mut cut = at(&world, &["object", "get", "b", "k", "-o", &to, "--set", "storage.resumes=0"]);
    let cut = cut.output().unwrap();
    assert_eq!((code(&cut), cut.stdout.len()), (8, 0), "{}", text(&cut.stderr));
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 1, "{}", text(&cut.stderr));
    world.service("storage").set(Mode::Refuse);
    let down = at(&world, &["object", "get", "b", "k", "-o", &to]).output().unwrap();
    assert_eq!(code(&down), 3, "{}", text(&down.stderr));
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 1);
}

#[test]
fn a_secret_goes_to_stdout_and_nowhere_else() {
    let world = world();
    let get = |more: &[&str]| at(&world, &[&["secret", "get"], more].concat()).output().unwrap();
    let output = get(&["app/db", "--field", "value"]);
    assert_eq!((code(&output), text(&output.stdout)), (0, "secret of app/db".to_owned()));
    assert!(output.stderr.is_empty());
    let all: Value = serde_json::from_slice(&get(&["app/db"]).stdout).unwrap();
    assert_eq!(all["value"], "secret of app/db");
    let output = get(&["app/db", "--field", "nope"]);
    assert_eq!((code(&output), output.stdout.len()), (8, 0));
    assert!(!text(&output.stderr).contains("secret of app"), "{}", text(&output.stderr));
    assert_eq!(code(&get(&["missing"])), 5);
    let mut wrong = at(&world, &["secret", "get", "app/db"]);
    let output = wrong.env("VAULT_CLIENT_TOKEN", "planted-token").output().unwrap();
    assert_eq!(code(&output), 5);
    assert!(!text(&output.stderr).contains("planted-token"), "{}", text(&output.stderr));
    let mut none = at(&world, &["secret", "get", "app/db"]);
    assert_eq!(code(&none.env_remove("VAULT_CLIENT_TOKEN").output().unwrap()), 1);
}

#[test]
fn files_are_stamped_and_validated() {
    let spec = WorldSpec::default().only(&["metadata-stamping", "onextree"]);
    let world = World::start(spec).unwrap();
    let room = Room::new();
    let good = room.file("good.md", "some text");
    let bad = room.file("bad.md", "tampered text");
    let output = at(&world, &["stamp", &good, "--json", "-d", "kind=x"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let stamp: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hash = at(&world, &["stamp", "--hash", &good]).output().unwrap();
    let expected = format!("{}  {good}\n", stamp["hash"].as_str().unwrap());
    assert_eq!(text(&hash.stdout), expected);
    let output = at(&world, &["stamp", "--validate", &good]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let output = at(&world, &["stamp", "--validate", &good, &bad]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(text(&output.stdout).contains("NOT VALID"), "{}", text(&output.stdout));
    assert_eq!(code(&at(&world, &["stamp", "/no/such/file"]).output().unwrap()), 1);
}

/// The upload of a large object is one that others do not see in part, and `--only-new` holds for it.
#[test]
fn a_large_object_goes_in_parts_and_takes_no_place_that_is_taken() {
    let world = world();
    let content: Vec<u8> = (0..9_u32 << 20).map(|n| (n % 251) as u8).collect();
    let put = |more: &[&str]| {
        with_input(at(&world, &[&["object", "put", "b", "big", "-"], more].concat()), &content)
    };
    let first = put(&["--only-new"]);
    assert_eq!(code(&first), 0, "{}", text(&first.stderr));
    let parts = world.service("storage");
    assert!(parts.requests() >= 4, "begin, two parts, end: {}", parts.requests());
    let again = put(&["--only-new"]);
    assert_eq!(code(&again), 5, "{}", text(&again.stderr));
    let got = at(&world, &["object", "get", "b", "big"]).output().unwrap();
    assert!(got.stdout == content);
    let small = ["object", "put", "b", "big", "/dev/null", "--only-new"];
    assert_eq!(code(&at(&world, &small).output().unwrap()), 5);
}
