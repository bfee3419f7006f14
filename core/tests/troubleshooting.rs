//! `docs/TROUBLESHOOTING.md` knows every error and every notice: their names are read from the
//! source, so that one that is added has no row until somebody writes what to do about it.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

const PAGE: &str = include_str!("../../docs/TROUBLESHOOTING.md");

/// First cells of all rows, as they stand.
fn named() -> Vec<&'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split(" | ").next().unwrap()).collect()
}

/// The variants of an enum, as they stand in its source.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let from = source.find(&format!("pub enum {name} {{")).unwrap_or_else(|| panic!("{name}"));
    let body = &source[from..from + source[from..].find("\n}").unwrap()];
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap()).collect()
}

/// The texts behind `=>` in a function, up to its end.
fn words<'a>(source: &'a str, function: &str) -> Vec<&'a str> {
    let from = source.find(&format!("fn {function}(")).unwrap_or_else(|| panic!("{function}"));
    let indent = source[..from].rsplit('\n').next().unwrap();
    let indent = &indent[..indent.len() - indent.trim_start().len()];
    let end = source[from..].find(&format!("\n{indent}}}\n")).unwrap();
    let texts = source[from..from + end].split('"').skip(1).step_by(2);
    texts.filter(|text| !text.is_empty()).collect()
}

#[test]
fn every_error_has_a_row() {
    let error = include_str!("../src/error.rs");
    let call = include_str!("../src/call/mod.rs");
    let gate = include_str!("../src/service/gate.rs");
    let discovery = include_str!("../src/discovery/mod.rs");
    let consul = include_str!("../src/consul/error.rs");
    let vault = include_str!("../src/vault/error.rs");
    let named = named();
    let mut missing = Vec::new();
    for (source, name, least) in [
        (error, "Error", 19),
        (error, "Skip", 4),
        (call, "Why", 13),
        (gate, "Overload", 6),
        (discovery, "DiscoveryError", 7),
        (consul, "ConsulError", 15),
        (vault, "VaultError", 20),
    ] {
        let variants = variants(source, name);
        assert!(variants.len() >= least, "{name} {variants:?}");
        for variant in variants {
            let quoted = format!("`{name}::{variant}`");
            if !named.iter().any(|cell| cell.contains(&quoted)) {
                missing.push(quoted);
            }
        }
    }
    for code in variants(include_str!("../src/s3/error.rs"), "Code") {
        let quoted = format!("`{code}`");
        if !named.iter().any(|cell| cell.contains(&quoted)) {
            missing.push(quoted);
        }
    }
    assert!(missing.is_empty(), "docs/TROUBLESHOOTING.md has no row for {missing:?}");
}

/// Texts without numbers in them stand there as they are printed.
#[test]
fn texts_are_as_printed() {
    let outcome = words(include_str!("../src/outcome.rs"), "text");
    assert!(outcome.len() >= 13, "{outcome:?}");
    let call = include_str!("../src/call/mod.rs");
    let why = &call[call.find("impl fmt::Display for Why").unwrap()..];
    let why = words(why, "fmt").into_iter().filter(|text| !text.contains('{'));
    let mut missing: Vec<&str> = outcome.into_iter().chain(why).collect();
    missing.retain(|text| !PAGE.contains(&format!("`{text}`")));
    assert!(missing.is_empty(), "docs/TROUBLESHOOTING.md does not say {missing:?}");
}

#[test]
fn every_notice_has_a_row() {
    let facts = include_str!("../src/notice/facts.rs");
    let text = include_str!("../src/notice/text.rs");
    let registry = include_str!("../src/consul/event.rs");
    let names = [
        words(facts, "log_name"),
        words(facts, "link_name"),
        words(text, "name"),
        words(registry, "name"),
    ]
    .concat();
    assert!(names.len() > 90, "{} names", names.len());
    let named = named();
    let mut missing = names;
    missing.retain(|name| !named.iter().any(|cell| cell.contains(&format!("`{name}`"))));
    assert!(missing.is_empty(), "docs/TROUBLESHOOTING.md has no row for {missing:?}");
}
