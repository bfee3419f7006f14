//! The tool on a terminal: what is seen at 80x24, what keys do, that the terminal is given back, and
//! where there are colours.

use std::fs;
use std::process::Stdio;

use origin_lab::Mode;

use crate::bench::{Room, at, code, origin, signal, text, world};
use crate::pty::{Besides, Pty, USUAL, shown};

const TOP: [&str; 3] = ["top", "--interval", "50ms"];

#[test]
fn top_fills_a_plain_terminal_and_obeys_keys() {
    let world = world();
    let mut top = Pty::start(&at(&world, &TOP), USUAL);
    let screen = top.until("3 healthy");
    assert!(screen.alternate && !screen.cursor && screen.colours);
    let lines = screen.lines();
    assert!(lines[0].starts_with("origin top  3 services"), "{lines:#?}");
    assert_eq!(lines[23], " q quit  j/k or arrows service  p pause  r refresh");
    // What is as wide as the terminal is there to its last column.
    let title = lines.iter().find(|line| line.starts_with("  CLUSTER ")).unwrap();
    assert!(title.len() == 80 && title.ends_with(" TREND"), "{title}");
    assert!(lines[3].starts_with("> billing"), "{lines:#?}");
    top.press("j");
    top.until("> secrets");
    top.press("\x1b[B");
    top.until("> storage");
    top.press("k");
    top.until("> secrets");
    top.press("p");
    top.until("PAUSED");
    assert!(!top.is_given_back());
    top.press("q");
    let (code, screen, _) = top.end();
    assert_eq!(code, 0);
    assert!(!screen.alternate && screen.cursor);
}

/// Also one that is smaller than what there is to say.
#[test]
fn top_is_cut_to_the_terminal() {
    let world = world();
    for size in [(40, 8), (20, 5), (200, 60)] {
        let mut top = Pty::start(&at(&world, &TOP), size);
        let screen = top.until("origin top");
        assert!(screen.lines()[0].starts_with("origin top"), "{size:?}: {}", screen.text());
        top.press("q");
        assert_eq!(top.end().0, 0);
    }
}

#[test]
fn whatever_ends_top_and_watch_the_terminal_is_as_it_was() {
    let world = world();
    for (command, first) in [(&TOP[..], "q quit"), (&["watch", "billing"], "version 1")] {
        for name in ["ctrl-c", "-INT", "-TERM", "-HUP"] {
            let mut running = Pty::start(&at(&world, command), USUAL);
            running.until(first);
            match name {
                "ctrl-c" => running.press("\x03"),
                name => signal(&running.child, name),
            }
            let (code, screen, _) = running.end();
            assert_eq!(code, 0, "{command:?} by {name}");
            assert!(!screen.alternate && screen.cursor, "{command:?} by {name}");
        }
    }
}

/// Also when the state cannot be had: nothing was opened then.
#[test]
fn a_refusal_of_top_is_read_on_an_untouched_terminal() {
    let (code, screen, bytes) = shown(&origin(&["top", "--from", "/no/such/file"]));
    assert_eq!(code, 1);
    assert!(screen.text().starts_with("origin: /no/such/file: "), "{}", screen.text());
    assert!(!bytes.contains('\x1b'), "{bytes:?}");
}

#[test]
fn colours_are_there_where_somebody_sees_them_or_asks_for_them() {
    let world = world();
    let painted = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = at(&world, arguments);
        let (code, screen, _) = shown(command.envs(environment.iter().copied()));
        assert_eq!(code, 0, "{arguments:?}: {}", screen.text());
        screen.colours
    };
    let no_color = ("NO_COLOR", "1");
    for command in [&["services"][..], &["status"], &["--help"], &["call", "--help"]] {
        let with = |more: &[&'static str]| [command, more].concat();
        assert!(painted(command, &[]), "{command:?}");
        assert!(painted(command, &[("NO_COLOR", "")]), "an empty one says nothing: {command:?}");
        assert!(!painted(command, &[no_color]), "{command:?}");
        assert!(!painted(command, &[("TERM", "dumb")]), "{command:?}");
        assert!(!painted(&with(&["--color", "never"]), &[]), "{command:?}");
        assert!(!painted(&with(&["--color=auto"]), &[no_color]), "{command:?}");
        // Who asks for them at the keys means it more than who has set a variable some day.
        assert!(painted(&with(&["--color", "always"]), &[no_color]), "{command:?}");
        // Elsewhere.
        for (more, colours) in [(&[][..], false), (&["--color=always"], true)] {
            let output = at(&world, &with(more)).output().unwrap();
            assert_eq!(text(&output.stdout).contains('\x1b'), colours, "{command:?} {more:?}");
        }
    }
    assert_eq!(code(&origin(&["services", "--color", "blue"]).output().unwrap()), 1);
}

#[test]
fn the_screen_of_top_is_plain_without_colours() {
    let world = world();
    let mut top = Pty::start(at(&world, &TOP).env("NO_COLOR", "1"), USUAL);
    assert!(!top.until("3 healthy").colours);
    top.press("q");
    assert_eq!(top.end().0, 0);
}

/// A body that does not end its line would have the prompt, or the report, behind it.
#[test]
fn an_answer_ends_its_line_on_a_terminal_and_nowhere_else() {
    let world = world();
    let call = ["call", "billing", "/invoices/7", "--explain"];
    let (code, screen, _) = shown(&at(&world, &call));
    assert_eq!(code, 0);
    assert!(screen.lines().iter().any(|line| line.starts_with("billing: 1 attempt")), "{screen:?}");
    let piped = at(&world, &call).output().unwrap();
    assert!(text(&piped.stdout).ends_with('}'), "{}", text(&piped.stdout));

    let secret = ["secret", "get", "app/db", "--field", "value"];
    let (code, _, bytes) = shown(&at(&world, &secret));
    assert_eq!((code, &*bytes), (0, "secret of app/db\r\n"));
}

#[test]
fn the_demo_is_drawn_within_80_columns() {
    let demo = ["demo", "--duration", "2s", "--rate", "50"];
    let (_, screen, bytes) = shown(&origin(&demo));
    assert!(screen.colours, "{}", screen.text());
    assert!(bytes.contains("cluster ") && bytes.contains("latest: "), "{bytes}");
    let (_, screen, bytes) = shown(origin(&demo).env("NO_COLOR", "1"));
    assert!(!screen.colours && bytes.contains("\x1b[?7l"), "{bytes}");
}

/// A bar for people who wait, and for nobody else.
#[test]
fn long_transfers_show_how_far_they_are_on_a_terminal_only() {
    let world = world();
    let room = Room::new();
    // Three parts, each of which takes longer than people wait without a sign.
    let content: Vec<u8> = (0..20_u32 << 20).map(|n| (n % 251) as u8).collect();
    let (big, back) = (room.0.join("big"), room.0.join("back"));
    fs::write(&big, &content).unwrap();
    let (from, to) = (big.display().to_string(), back.display().to_string());
    world.service("storage").set(Mode::Slow { delay_ms: 1_500 });
    let put = ["object", "put", "b", "big", &from];
    let (code_, screen, bytes) = shown(&at(&world, &put));
    assert_eq!(code_, 0, "{}", screen.text());
    let part = |percent: &str| format!("big                      [{percent}");
    for percent in ["....................]   0% 0 B/s", "########............]  40% "] {
        assert!(bytes.contains(&part(percent)), "{percent}: {bytes:?}");
    }
    assert_eq!(screen.lines()[1], "", "it is wiped away: {}", screen.text());

    world.service("storage").set(Mode::Ok);
    let get = ["object", "get", "b", "big", "--output", &to];
    assert_eq!(code(&at(&world, &get).output().unwrap()), 0);
    assert!(fs::read(&back).unwrap() == content, "three parts are one object");
    world.service("storage").set(Mode::Slow { delay_ms: 1_500 });
    let (code_, screen, bytes) = shown(&at(&world, &get));
    assert_eq!((code_, &*screen.text()), (0, ""));
    assert!(bytes.contains("big                      0 B 0 B/s"), "{bytes:?}");

    // The content goes into a pipe, the bar to the terminal.
    let besides = Besides { stdout: Some(Stdio::null()), ..Besides::default() };
    let piped = ["object", "get", "b", "big"];
    let (code_, _, bytes) = Pty::start_besides(&at(&world, &piped), USUAL, besides).end();
    assert_eq!(code_, 0);
    assert!(bytes.contains("0 B/s"), "{bytes:?}");
    // Neither on one that can only print, nor where the content itself is on the terminal.
    let (_, _, bytes) = shown(at(&world, &get).env("TERM", "dumb"));
    assert_eq!(bytes, "");
    let (_, _, bytes) = shown(&at(&world, &["object", "get", "b", "small"]));
    assert_eq!(bytes, "object small of bucket b\r\n");
}

/// Whoever ends a transfer finds nothing of it.
#[test]
fn a_transfer_that_is_ended_leaves_nothing_behind() {
    let world = world();
    let room = Room::new();
    let to = room.0.join("out").display().to_string();
    world.service("storage").set(Mode::HugeBody { bytes: u64::MAX });
    let get = at(&world, &["object", "get", "b", "k", "-o", &to]);
    let mut running = Pty::start(&get, USUAL);
    running.until("/s");
    running.press("\x03");
    let (code, screen, _) = running.end();
    assert_eq!(code, 8, "{}", screen.text());
    assert!(screen.text().contains("origin: interrupted"), "{}", screen.text());
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 0);
}
