//! Names and answers that mean harm, on a terminal that fails the test if it is steered.

use std::process::Command;

use origin_lab::{Document, Mode, Place, Registry, Role, World, WorldSpec};
use serde_json::Value;

use crate::bench::{Room, at, origin, text, with_input, world};
use crate::pty::{Pty, USUAL, shown};

/// What a registry can call a cluster: no control characters, but text that turns around, hides, has
/// no end, is wide, and marks upon marks.
const CLUSTER: &str = "evil\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}漢字漢字漢字a\u{301}\u{301}";
/// What a server can put into a header: bytes that one terminal or another takes for controls.
const HEADER: &str = "evil \u{9b}2J \u{9d}0;owned\u{9c} \u{202e} 漢";
/// What it can put into a body.
const BODY: &str = "evil\x1b[2J\x1b]0;owned\x07\x1b[1;1H\r\x08\x7f\u{9b}2J\u{202e}\u{85}";

/// A world in which the local cluster has a name that means harm, and does not answer calls.
fn hostile() -> (World, Registry) {
    let world = World::start(WorldSpec::default()).unwrap();
    let mut document = Document::new().cluster(CLUSTER, HEADER, "", Role::Primary).cluster(
        "gamma",
        "",
        "",
        Role::Backup,
    );
    for service in ["billing", "storage", "secrets"] {
        let place = |name: &str, cluster: &str| {
            let urls = [world.server(service, cluster, 0).unwrap().url()];
            let health = match service {
                "storage" => "/minio/health/live",
                "secrets" => "/v1/sys/health",
                _ => "/health",
            };
            Place::new(name, &urls, health)
        };
        let places = vec![place(CLUSTER, "alpha"), place("gamma", "gamma")];
        document = document.service(service, HEADER, places);
    }
    (world, Registry::start(&document).unwrap())
}

#[test]
fn a_hostile_registry_cannot_steer_the_terminal() {
    let (world, registry) = hostile();
    let command = |arguments: &[&str]| {
        let mut command = origin(arguments);
        command.env("ORIGIN_DISCOVERY", registry.url());
        command.env("VAULT_CLIENT_TOKEN", origin_lab::DEMO_TOKEN);
        command
    };
    for arguments in [
        &["services"][..],
        &["services", "--long"],
        &["services", "--json"],
        &["services", "--color", "always", "nobody"],
        &["status"],
        &["status", "--long"],
        &["status", "--json", "billing"],
        &["watch", "billing", "-n", "1"],
        &["watch", "billing", "-n", "1", "--json"],
        &["top", "--once", "--size", "200x60"],
        &["call", "billing", "/", "--explain"],
        &["call", "billing", "/", "--json"],
    ] {
        let (code, screen, _) = Pty::start(&command(arguments), (200, 100)).end();
        assert_eq!(code, if arguments.contains(&"nobody") { 2 } else { 0 }, "{}", screen.text());
        // Where there is a place for the name.
        let silent = arguments.contains(&"nobody") || arguments == ["status"];
        let seen = screen.text().contains("evil") || silent;
        assert!(seen, "{arguments:?}: {}", screen.text());
    }
    // Where the cluster fails, its name is in the reasons, in the report and in the notices.
    world.cluster("alpha").set(Mode::Refuse);
    for arguments in [
        &["call", "billing", "/", "--explain"][..],
        &["call", "billing", "/", "--json", "-X", "POST"],
        &["status", "--long"],
        &["object", "get", "b", "k"],
    ] {
        let (_, screen, _) = Pty::start(&command(arguments), (200, 100)).end();
        let seen = screen.text().contains("evil") || arguments.contains(&"object");
        assert!(seen, "{arguments:?}: {}", screen.text());
    }
    for size in [USUAL, (200, 60), (40, 8)] {
        let mut top = Pty::start(&command(&["top", "--interval", "50ms"]), size);
        let screen = top.until("degraded");
        assert!(screen.alternate && screen.lines()[0].starts_with("origin top"), "{size:?}");
        let last = screen.lines().pop().unwrap();
        assert!(last.starts_with(" q quit"), "{size:?}: {}", screen.text());
        top.press("q");
        assert_eq!(top.end().0, 0);
    }
}

#[test]
fn a_hostile_answer_cannot_steer_the_terminal() {
    let world = world();
    let headers = vec![("X-Evil".to_owned(), HEADER.to_owned())];
    let answer = |code| Mode::Status { code, headers: headers.clone(), body: BODY.to_owned() };
    let seen = |command: &Command| {
        let (code, screen, _) = shown(command);
        assert!(screen.text().contains("evil"), "{command:?}: {}", screen.text());
        code
    };
    for (code, expected) in [(200, 0), (404, 5), (503, 6)] {
        world.service("billing").set(answer(code));
        let call = |more: &[&str]| at(&world, &[&["call", "billing", "/"], more].concat());
        assert_eq!(seen(&call(&["-X", "POST", "-i"])), expected);
        assert_eq!(seen(&call(&["-X", "POST", "--json", "--explain"])), expected);
    }
    // As it is for programs: only people are in danger.
    world.service("billing").set(answer(200));
    let piped = at(&world, &["call", "billing", "/"]).output().unwrap();
    assert_eq!(text(&piped.stdout), BODY);
    let json = at(&world, &["call", "billing", "/", "--json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["body"], &json["headers"]["x-evil"]), (&BODY.into(), &HEADER.into()));

    let key = "evil\u{1b}[2J\u{202e}\r\n";
    with_input(at(&world, &["object", "put", "b", key, "-"]), BODY.as_bytes());
    assert_eq!(seen(&at(&world, &["object", "ls", "b"])), 0);
    assert_eq!(seen(&at(&world, &["object", "ls", "b", "--json"])), 0);
    assert_eq!(seen(&at(&world, &["object", "get", "b", key])), 0);
    let secret = ["secret", "get", "app/evil\u{202e}", "--field", "value"];
    assert_eq!(seen(&at(&world, &secret)), 0);
    assert_eq!(seen(&at(&world, &secret[..3])), 0);
    world.service("secrets").set(answer(404));
    let (code, screen, _) = shown(&at(&world, &secret));
    assert_eq!(code, 5, "{}", screen.text());
    assert!(!screen.text().contains("Error::"), "{}", screen.text());
}

/// What another process says of itself may hold anything.
#[test]
fn a_hostile_snapshot_is_shown_and_not_obeyed() {
    let world = world();
    let json = at(&world, &["status", "--json"]).output().unwrap().stdout;
    let mut snapshot: Value = serde_json::from_slice(&json).unwrap();
    let service = &mut snapshot["services"][0];
    service["name"] = BODY.into();
    service["active_cluster"] = BODY.into();
    service["endpoints"][0]["cluster"] = BODY.into();
    service["endpoints"][0]["address"] = BODY.into();
    service["split"][0]["cluster"] = BODY.into();
    snapshot["discovery"][0]["source"] = BODY.into();
    snapshot["discovery"][0]["last_error"] = BODY.into();
    let notices = snapshot["notices"].as_array_mut().unwrap();
    notices.iter_mut().for_each(|notice| notice["service"] = BODY.into());
    let room = Room::new();
    let file = room.file("hostile.json", &snapshot.to_string());
    for command in [
        &["status"][..],
        &["status", "--long"],
        &["status", "--json"],
        &["services"],
        &["services", "--long"],
        &["services", "--json"],
        &["top", "--once", "--size", "200x60"],
        &["top", "--once"],
    ] {
        let mut command = origin(command);
        let command = command.args(["--from", &file]);
        let (_, screen, _) = Pty::start(command, (200, 200)).end();
        assert!(screen.text().contains("evil"), "{command:?}: {}", screen.text());
        let output = command.output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!told.contains(steers), "{command:?}: {told:?}");
    }
    let mut top = Pty::start(&origin(&["top", "--from", &file]), USUAL);
    top.until("q quit");
    top.press("q");
    assert_eq!(top.end().0, 0);
    let unknown = at(&world, &["call", "x\x1b[31m", "/"]).output().unwrap();
    assert!(!text(&unknown.stderr).contains('\x1b'), "{}", text(&unknown.stderr));
}
