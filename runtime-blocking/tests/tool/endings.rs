//! How commands end: by a pipe that closes, by a signal, and with which number.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

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
