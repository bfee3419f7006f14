//! `services`, `status`, `top --once` and `watch`: the state of an own client and of another process.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use origin_lab::{Document, Mode, Place, Role};
use serde_json::Value;

use crate::bench::{Bounded, Room, Served, at, code, origin, text, with_input, world};

#[test]
fn services_are_listed_as_a_table_and_as_json() {
    let world = world();
    let output = at(&world, &["services"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("billing  6          beta (2), alpha (2), gamma (2)"), "{told}");
    let output = at(&world, &["services", "storage", "--json"]).output().unwrap();
    let out: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(out["services"].as_array().unwrap().len(), 1);
    assert_eq!(out["services"][0]["endpoints"][0]["cluster"], "beta");
    let output = at(&world, &["services", "--long", "billing"]).output().unwrap();
    assert_eq!(text(&output.stdout).lines().count(), 7);
    let output = at(&world, &["services", "biling"]).output().unwrap();
    assert_eq!(code(&output), 2);
    world.registry().server().set(Mode::Refuse);
    assert_eq!(code(&at(&world, &["services"]).output().unwrap()), 7);
}

#[test]
fn the_exit_code_of_status_is_the_worst_health() {
    let world = world();
    let status = |more: &[&str]| {
        let output = at(&world, &[&["status"], more].concat()).output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, errors) = status(&[]);
    assert_eq!(code, 0, "{table}{errors}");
    assert!(table.contains("billing  healthy  -            6/6"), "{table}");
    let (_, long, _) = status(&["--long"]);
    assert_eq!(long.lines().count(), 19, "{long}");

    world.server("billing", "beta", 0).unwrap().set(Mode::status(503));
    let (code, table, _) = status(&["--wait", "8s"]);
    assert_eq!(code, 9, "{table}");
    assert!(table.contains("5/6") && table.contains("1 unhealthy"), "{table}");
    // The others are as they were.
    assert_eq!(status(&["storage"]).0, 0);

    world.service("billing").set(Mode::Refuse);
    let (code, table, _) = status(&["--wait", "8s"]);
    assert_eq!(code, 10, "{table}");
    assert!(table.contains("billing  unhealthy"), "{table}");
    assert_eq!(status(&["biling"]).0, 2);
    world.registry().server().set(Mode::status(500));
    assert_eq!(status(&["--wait", "1s"]).0, 7);
}

#[test]
fn the_state_of_another_process_is_read_from_a_file_a_pipe_or_a_url() {
    let served = Served::start();
    let url = served.told["snapshot"].as_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let output = origin(arguments).output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    let (code_, table, errors) = run(&["status", "billing", "--from", &url]);
    assert_eq!(code_, 0, "{table}{errors}");
    assert!(table.contains("healthy  beta"), "{table}");
    // Services that the other process has not called are no trouble of it.
    let (code_, json, _) = run(&["status", "--json", "--from", &url]);
    assert_eq!(code_, 0, "{json}");
    let room = Room::new();
    let file = room.file("snapshot.json", &json);
    for from in [&url, &file] {
        let (code, frame, errors) = run(&["top", "--once", "--from", from]);
        assert_eq!(code, 0, "{errors}");
        assert_eq!(frame.lines().count(), 24, "{frame}");
        assert!(frame.starts_with("origin top  5 services") && !frame.contains('\x1b'), "{frame}");
    }
    let piped = with_input(origin(&["status", "billing", "--from", "-"]), json.as_bytes());
    assert_eq!((code(&piped), text(&piped.stderr)), (0, String::new()));
    // Whoever is not there, or speaks of something else, is told apart.
    let broken = room.file("broken.json", "{\"at\": 1}");
    for (from, expected) in
        [("/no/such/file", 1), (&*broken, 8), ("http://127.0.0.1:9/snapshot", 3)]
    {
        for command in [&["status"][..], &["top", "--once"]] {
            let (code, out, errors) = run(&[command, &["--from", from]].concat());
            assert_eq!((code, out), (expected, String::new()), "{from}: {errors}");
            assert_eq!(errors.lines().count(), 2, "{errors}");
        }
    }
}

#[test]
fn a_watch_prints_a_line_per_change() {
    let world = world();
    let mut child = at(&world, &["watch", "billing", "-n", "2", "--set", "discovery.ttl=200ms"])
        .args(["--set", "discovery.negative_ttl=100ms", "--set", "discovery.refresh_ahead=100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _bounded = Bounded::of(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("billing version 1: 6 endpoints +http"), "{first}");
    // One instance goes away; more at once would be kept in reserve until the registry insists.
    let url = |cluster, index| world.server("billing", cluster, index).unwrap().url();
    let place = |cluster, count| {
        let urls: Vec<String> = (0..count).map(|index| url(cluster, index)).collect();
        Place::new(cluster, &urls, "/health")
    };
    let places = vec![place("alpha", 2), place("beta", 2), place("gamma", 1)];
    let document = Document::new()
        .cluster("alpha", "", &url("alpha", 0), Role::Primary)
        .cluster("beta", "", &url("beta", 0), Role::Backup)
        .cluster("gamma", "", &url("gamma", 0), Role::Backup)
        .service("billing", "", places);
    world.registry().publish(&document);
    let second = lines.next().unwrap().unwrap();
    assert_eq!(second, format!("billing version 2: 5 endpoints -{} (gamma)", url("gamma", 1)));
    assert!(child.wait().unwrap().success());
    assert_eq!(code(&at(&world, &["watch", "biling"]).output().unwrap()), 2);
    world.registry().server().set(Mode::Refuse);
    assert_eq!(code(&at(&world, &["watch", "billing"]).output().unwrap()), 7);
}
