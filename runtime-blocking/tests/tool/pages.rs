//! What the tool says of itself: help, the manual, completions, docs/TOOL.md; and the examples.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::bench::{Served, code, origin, text, with_input};
use crate::pty::{Pty, USUAL};

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
    assert_eq!(code(&origin(&["man", "object", "nope"]).output().unwrap()), 1);
}

/// A command that another page names has a page, and it is one: whatever `man` complains of is said.
#[test]
fn every_page_of_the_manual_can_be_rendered() {
    let man = Command::new("man").arg("--version").output();
    let rendered = man.is_ok_and(|output| output.status.success());
    if !rendered {
        let _ = std::io::stderr().write_all(b"no `man` here: pages were not rendered\n");
    }
    let mut pages = vec![String::new()];
    while let Some(page) = pages.pop() {
        let words: Vec<&str> = page.split_whitespace().collect();
        let source = text(&origin(&[&["man"], &words[..]].concat()).output().unwrap().stdout);
        let name = [&["origin"], &words[..]].concat().join("-");
        assert!(source.contains(&format!(".TH {name} 1")), "{name}: {source}");
        // The pages that it names.
        for line in source.lines().filter(|line| line.ends_with("(1)")) {
            let below = line.replace("\\-", "-");
            let below = below.trim_end_matches("(1)").strip_prefix(&format!("{name}-")).unwrap();
            if below != "help" {
                pages.push(format!("{page} {below}"));
            }
        }
        if rendered {
            let mut command = Command::new("man");
            command
                .args(["--warnings=all", "-l", "-"])
                .env("MANWIDTH", "80")
                .env("LC_ALL", "C.UTF-8");
            let output = with_input(command, source.as_bytes());
            let complaints = text(&output.stderr);
            assert!(output.status.success() && complaints.is_empty(), "{name}: {complaints}");
            let shown = text(&output.stdout);
            assert!(shown.contains(&name), "{name}: {shown}");
            // The table of exit codes is one.
            let exit = "\n         2   discovery does not know the service\n";
            let has = ["origin", "origin-call", "origin-status"].contains(&&*name);
            assert_eq!(shown.contains(exit), has, "{name}: {shown}");
        }
    }
}

/// By bash itself: what is offered where something was begun.
#[test]
fn bash_completes_commands_options_and_values() {
    let script = text(&origin(&["completions", "bash"]).output().unwrap().stdout);
    let complete = |line: &str| {
        let ask = format!(
            "{script}\nCOMP_LINE='{line}'; COMP_WORDS=($COMP_LINE); \
             [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); \
             complete -p origin >&2; \
             _origin origin \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert!(output.status.success() && text(&output.stderr).contains("-F _origin origin"));
        text(&output.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("origin s"), ["services", "status", "secret", "stamp"]);
    assert_eq!(complete("origin call --e"), ["--endpoint", "--explain"]);
    assert_eq!(complete("origin register --check "), ["http", "tcp", "ttl", "none"]);
    assert_eq!(complete("origin services --color "), ["auto", "always", "never"]);
    for wanted in ["get", "put", "ls", "rm"] {
        assert!(complete("origin object ").iter().any(|word| word == wanted), "{wanted}");
    }
}

/// On a plain terminal no line of help is torn by its edge.
#[test]
fn help_fits_into_80_columns() {
    for command in [&["--help"][..], &["call", "--help"], &["top", "--help"], &["demo", "--help"]] {
        let (code, _, bytes) = Pty::start(&origin(command), USUAL).end();
        assert_eq!(code, 0);
        let long = bytes.lines().find(|line| {
            let colours = line.split('\x1b').skip(1).filter_map(|rest| rest.find('m'));
            line.chars().count() - colours.map(|end| end + 2).sum::<usize>() > 80
        });
        assert_eq!(long, None, "{command:?}");
    }
    // What a mistake is answered with says how it is to be written.
    let usage = text(&origin(&["call", "billing"]).output().unwrap().stderr);
    assert!(usage.contains("origin call [OPTIONS] <SERVICE> [METHOD] <PATH>"), "{usage}");
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
