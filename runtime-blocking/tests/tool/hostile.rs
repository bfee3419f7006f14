//! Names and answers that mean harm.

use serde_json::Value;

use crate::bench::{Room, at, origin, text, world};

/// What a peer says of itself cannot steer the terminal.
#[test]
fn hostile_names_are_shown_and_not_obeyed() {
    let world = world();
    let json = at(&world, &["status", "--json"]).output().unwrap().stdout;
    let mut snapshot: Value = serde_json::from_slice(&json).unwrap();
    let hostile = "\x1b[2J\x1b]0;owned\x07\u{202e}evil\r\n";
    snapshot["services"][0]["name"] = hostile.into();
    snapshot["services"][0]["endpoints"][0]["cluster"] = hostile.into();
    snapshot["services"][0]["endpoints"][0]["address"] = hostile.into();
    snapshot["discovery"][0]["source"] = hostile.into();
    let room = Room::new();
    let file = room.file("hostile.json", &snapshot.to_string());
    for command in [
        &["status"][..],
        &["status", "--long"],
        &["services"],
        &["services", "--long"],
        &["top", "--once", "--size", "200x60"],
    ] {
        let output = origin(command).args(["--from", &file]).output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!told.contains(steers), "{command:?}: {told:?}");
        assert!(told.contains("evil"), "{command:?}: {told}");
    }
    let unknown = at(&world, &["call", "x\x1b[31m", "/"]).output().unwrap();
    assert!(!text(&unknown.stderr).contains('\x1b'), "{}", text(&unknown.stderr));
}
