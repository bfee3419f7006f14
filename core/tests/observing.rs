//! The documents for those who look after a client name what there is: the table of families, the
//! dashboard, the alert rules.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::collections::BTreeSet;

use origin_core::metrics::{FAMILIES, Family, Kind};

const TABLE: &str = include_str!("../../docs/METRICS.md");
const DASHBOARD: &str = include_str!("../../docs/observing/dashboard.json");
const ALERTS: &str = include_str!("../../docs/observing/alerts.yml");

/// The family that a series in an expression is of.
fn family(series: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| match family.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| series.strip_suffix(end) == Some(family.name)),
        _ => family.name == series,
    })
}

/// Every series that `text` names, with the names of the labels it is asked for.
fn series(text: &str) -> Vec<(String, Vec<String>)> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("origin_") {
        let rest = &text[at..];
        let name = &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())];
        let after = &rest[name.len()..];
        let labels = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let labels = labels.map_or_else(Vec::new, |(labels, _)| {
            let names = labels.split(',').filter_map(|one| one.split(['=', '!']).next());
            names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        });
        found.push((name.to_owned(), labels));
    }
    found
}

fn check(expression: &str) {
    let named = series(expression);
    assert!(!named.is_empty(), "{expression} names no family");
    for (name, labels) in named {
        let known = family(&name).unwrap_or_else(|| panic!("{name} in {expression}"));
        for label in labels {
            let right = known.labels.contains(&label.as_str()) || label == "le";
            assert!(right, "{name} has no label {label}: {expression}");
        }
    }
    // What it is summed by, the families of the expression must have.
    for (at, _) in expression.match_indices(" by (") {
        let list = &expression[at + 5..];
        for label in list[..list.find(')').unwrap()].split(',').map(str::trim) {
            let known = |(name, _): &(String, _)| {
                family(name).is_some_and(|family| family.labels.contains(&label))
            };
            let right = ["le", "job"].contains(&label) || series(expression).iter().any(known);
            assert!(right, "by {label}: {expression}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut count = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array()).flatten() {
        check(target["expr"].as_str().unwrap());
        count += 1;
    }
    assert!(count > 20, "{count}");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    check(dashboard["templating"]["list"][1]["query"].as_str().unwrap());
}

#[test]
fn the_alerts_ask_for_what_there_is() {
    let mut rules = 0;
    for rule in ALERTS.split("- alert:").skip(1) {
        let expression = rule.split_once("expr:").unwrap().1;
        check(expression.split_once("labels:").unwrap().0);
        rules += 1;
    }
    assert!(rules > 10, "{rules}");
}

#[test]
fn the_table_names_every_family_once_as_it_is() {
    let rows: Vec<&str> = TABLE.lines().filter(|line| line.starts_with("| `")).collect();
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (family.name, family.kind.word(), labels.join(", "));
        let row = format!("| `{name}` | {kind} | {labels} | {} |", family.help);
        assert!(rows.contains(&row.as_str()), "missing in docs/METRICS.md:\n{row}");
    }
    assert_eq!(rows.len(), FAMILIES.len());
}

#[test]
fn an_expression_about_nothing_is_found() {
    for wrong in [
        "origin_nothing_total",
        "origin_calls_total{colour=\"x\"}",
        "up",
        "sum by (colour) (origin_calls_total)",
    ] {
        assert!(std::panic::catch_unwind(|| check(wrong)).is_err(), "{wrong}");
    }
}
