//! What the tool says of itself: help, the manual, completions, docs/TOOL.md; and the examples.

use std::fs;
use std::process::Command;

use crate::bench::{Served, code, origin, text};

#[path = "../../examples/report.rs"]
#[allow(dead_code, reason = "its `main` is for the command line")]
mod report;

#[test]
fn colours_are_for_terminals_only_and_help_is_whole() {
    let output = origin(&["--help"]).output().unwrap();
    let help = text(&output.stdout);
    for command in [
        "call",
        "services",
        "status",
        "top",
        "watch",
        "register",
        "deregister",
        "object",
        "secret",
        "stamp",
        "check-config",
        "demo",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command}: {help}");
        let page = origin(&["man", command]).output().unwrap();
        assert!(code(&page) == 0 && text(&page.stdout).contains(".SH NAME"), "{command}");
    }
    assert!(help.contains("ORIGIN__POLICY__DEADLINE__TOTAL") && help.contains("Exit codes"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = origin(&["completions", shell]).output().unwrap();
        assert!(code(&output) == 0 && text(&output.stdout).contains("check-config"), "{shell}");
    }
    let page = text(&origin(&["man"]).output().unwrap().stdout);
    assert!(page.contains(".TH origin 1") && page.contains("Exit codes"), "{page}");
    assert_eq!(code(&origin(&["man", "nope"]).output().unwrap()), 1);
}

#[test]
fn both_examples_do_their_work_against_the_served_demo() {
    let served = Served::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/report.sh");
    let mut command = served.at(Command::new("sh"));
    let output = command.arg(script).env("ORIGIN", env!("CARGO_BIN_EXE_origin")).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("stamp-0  "), "{}", text(&output.stdout));

    let told = |field: &str| served.told[field].as_str().unwrap();
    let client = origin_blocking::Client::builder()
        .discovery(told("discovery"))
        .local_cluster(told("local"))
        .vault_token(told("vault_token"))
        .build()
        .unwrap();
    let done = report::report(&client, 1..=5).unwrap();
    assert!(done.starts_with("reports/invoices.tsv: ") && done.len() > 80, "{done}");
    let listed = served.at(origin(&["object", "ls", "reports"])).output().unwrap();
    assert!(text(&listed.stdout).ends_with("  invoices.tsv\n"), "{}", text(&listed.stdout));
}

/// What docs/TOOL.md says is what the tool has: its commands, and its exit codes in the same words.
#[test]
fn the_page_of_the_tool_has_every_command_and_exit_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/TOOL.md");
    let page = fs::read_to_string(page).unwrap();
    let help = text(&origin(&["--help"]).output().unwrap().stdout);
    let words = |text: &str| text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let (codes, _) = codes.split_once("\n\n").unwrap();
    let mut rows = Vec::new();
    for line in codes.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(' ').map(|(first, rest)| (first.parse::<u8>(), rest)) {
            Some((Ok(code), rest)) => rows.push(format!("| {code} | {}", rest.trim())),
            // The second line of a code.
            _ => rows.last_mut().unwrap().push_str(&format!(" {line}")),
        }
    }
    assert_eq!(rows.len(), 11);
    for row in rows {
        assert!(page.lines().any(|line| words(line) == words(&format!("{row} |"))), "{row}");
    }
    let (_, commands) = help.split_once("Commands:").unwrap();
    for line in commands.lines().skip(1).take_while(|line| line.starts_with("  ")) {
        let command = line.split_whitespace().next().unwrap();
        let known =
            page.contains(&format!("`{command}`")) || page.contains(&format!("`{command} "));
        assert!(known || command == "help", "{command} is not in the page");
    }
}
