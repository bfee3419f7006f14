//! How commands end: by a pipe that closes, by a signal, and with which number.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use origin_lab::{Mode, World, WorldSpec};

use crate::bench::{Bounded, Room, Served, at, code, origin, signal, text, with_input, world};

/// Reads a line and closes the pipe: what `| head -1` does.
fn head(mut command: Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _bounded = Bounded::of(&child);
    let mut line = [0];
    let _ = child.stdout.take().unwrap().read(&mut line);
    let output = child.wait_with_output().unwrap();
    (code(&output), text(&output.stderr))
}

#[test]
fn a_pipe_that_closes_is_no_error_and_no_panic() {
    let world = world();
    let json = at(&world, &["status", "--json"]).output().unwrap().stdout;
    let room = Room::new();
    let file = room.file("snapshot.json", &text(&json));
    // One that goes on for ever ends with its reader.
    let top = origin(&["top", "--interval", "20ms", "--from", &file]);
    assert_eq!(head(top), (0, String::new()));
    let big: Vec<u8> = vec![b'x'; 4 << 20];
    let put = with_input(at(&world, &["object", "put", "b", "big", "-"]), &big);
    assert_eq!(code(&put), 0);
    assert_eq!(head(at(&world, &["object", "get", "b", "big"])), (0, String::new()));
    for command in [&["man"][..], &["completions", "bash"], &["check-config", "--schema"]] {
        assert_eq!(head(origin(command)), (0, String::new()), "{command:?}");
    }
}

/// Nobody reads at all, from the beginning.
#[test]
fn a_pipe_without_a_reader_is_no_error() {
    let world = world();
    let unread = |mut command: Command| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let _bounded = Bounded::of(&child);
        let output = child.wait_with_output().unwrap();
        (code(&output), text(&output.stderr))
    };
    let quiet = (0, String::new());
    for command in [
        &["services"][..],
        &["services", "--json"],
        &["status", "--long"],
        &["call", "billing", "/"],
        &["call", "billing", "/", "-i"],
        &["watch", "billing"],
        &["top", "--interval", "20ms"],
        &["object", "put", "b", "k", "/dev/null"],
        &["object", "ls", "b"],
        &["object", "get", "b", "k2"],
        &["secret", "get", "app/db"],
        &["check-config", "--effective"],
        &["demo", "--serve", "--duration", "1s"],
        &["--help"],
        &["man", "object", "get"],
        &["completions", "zsh"],
    ] {
        assert_eq!(unread(at(&world, command)), quiet, "{command:?}");
    }
    // A call that failed has failed, whoever reads of it.
    world.service("billing").set(Mode::status(404));
    assert_eq!(unread(at(&world, &["call", "billing", "/", "-i"])).0, 5);
    world.service("billing").set(Mode::Refuse);
    assert_eq!(unread(at(&world, &["call", "billing", "/", "--json"])).0, 3);
}

/// The numbers of docs/TOOL.md one by one, each by every command that can end with it.
#[test]
fn every_exit_code_is_what_the_page_says() {
    let world = World::start(WorldSpec::default().only(&EVERY)).unwrap();
    let room = Room::new();
    let (fine, odd) = (room.file("fine.md", "some text"), room.file("odd.md", "tampered text"));
    let surprising = "[policy.deadline]\ntotal = \"500ms\"\nattempt = \"250ms\"\n";
    let surprising = room.file("surprising.toml", surprising);
    let ends = |expected: i32, arguments: &[&str]| {
        let output = at(&world, arguments).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(code(&output), expected, "{arguments:?}: {told}");
        // One line on what happened, one on what to do about it; `clap` speaks at more length.
        let lines = told.lines().filter(|line| line.starts_with("  advice: ")).count();
        let words = expected == 0 || expected >= 9 || told.contains("--help") || lines == 1;
        assert!(words || arguments.contains(&"--validate"), "{arguments:?}: {told}");
    };
    let call = ["call", "billing", "/"];
    let with = |more: &[&'static str]| [&call[..], more].concat();
    for done in [
        &call[..],
        &["services"],
        &["status"],
        &["top", "--once"],
        &["watch", "billing", "-n", "1"],
        &["object", "put", "b", "k", &fine],
        &["object", "rm", "b", "k"],
        &["secret", "get", "app/db"],
        &["stamp", &fine],
        &["check-config", &surprising],
        &["--version"],
    ] {
        ends(0, done);
    }
    for wrong in [
        &[][..],
        &["nope"],
        &["call", "billing"],
        &["call", "billing", "no-slash"],
        &["services", "--set", "policy.nope=1"],
        &["status", "--config", "/no/such/file"],
        &["top", "--size", "1x1"],
        &["object", "put", "b", "k", "/no/such/file"],
        &["object", "put", "b", "k", "/"],
        &["stamp", "--validate", &odd],
        &["check-config", "--strict", &surprising],
        &["register", "ledger", "--port", "1"],
        &["deregister", "ledger"],
        &["man", "nope"],
        &["completions", "nope"],
        &["secret", "get", "app/db", "--token-env", "NOT_SET"],
    ] {
        if !wrong.contains(&"--strict") {
            ends(1, wrong);
        } else {
            assert_eq!(code(&at(&world, wrong).output().unwrap()), 1);
        }
    }
    for unknown in [
        &["call", "biling", "/"][..],
        &["services", "biling"],
        &["status", "biling"],
        &["watch", "biling"],
    ] {
        ends(2, unknown);
    }
    world.service("billing").set(Mode::Refuse);
    ends(3, &call);
    ends(10, &["status", "billing"]);
    ends(3, &["status", "--from", "http://127.0.0.1:9/"]);
    world.service("billing").set(Mode::HangBeforeHead);
    ends(4, &with(&["--timeout", "200ms"]));
    ends(9, &["status", "billing", "--wait", "100ms"]);
    world.service("billing").set(Mode::status(404));
    ends(5, &call);
    ends(5, &["object", "get", "b", "missing"]);
    ends(5, &["secret", "get", "missing"]);
    world.service("billing").set(Mode::status(500));
    ends(6, &call);
    ends(6, &with(&["-X", "POST"]));
    world.service("billing").set(Mode::HugeBody { bytes: 2 << 20 });
    ends(8, &with(&["--set", "limits.body=1000"]));
    ends(8, &["status", "--from", &fine]);
    world.service("billing").set(Mode::Ok);
    ends(8, &with(&["--output", "/no/such/directory/file"]));
    ends(8, &["secret", "get", "app/db", "--field", "nope"]);
    world.server("billing", world.local(), 0).unwrap().set(Mode::status(503));
    ends(9, &["status", "billing"]);
    world.registry().server().set(Mode::Refuse);
    for blind in [&call[..], &["services"], &["status"], &["watch", "billing"]] {
        ends(7, blind);
    }
}

const EVERY: [&str; 5] = ["billing", "storage", "secrets", "metadata-stamping", "onextree"];

#[test]
fn signals_end_what_goes_on_for_ever_in_good_order() {
    let world = world();
    let mut child = at(&world, &["watch", "billing"]).stdout(Stdio::piped()).spawn().unwrap();
    let _bounded = Bounded::of(&child);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut served = Served::start();
    signal(&served.child, "-TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}
