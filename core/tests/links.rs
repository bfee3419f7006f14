//! The documentation holds together: links lead to files that are there and to headings that are in
//! them, and every page is found from its index.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)] // test code

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn in_folder(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

fn pages() -> Vec<PathBuf> {
    let mut pages = [in_folder("docs"), in_folder("docs/policies")].concat();
    pages.extend([root().join("README.md"), root().join("benches/README.md")]);
    pages.sort();
    pages
}

/// The text without blocks of code.
fn prose(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("```").step_by(2).collect()
}

/// Targets of `[…](target)`.
fn targets(text: &str) -> Vec<&str> {
    let ends = text.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The name of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let (mut broken, mut followed) = (Vec::new(), 0);
    for page in pages() {
        let text = prose(&page);
        for target in targets(&text).iter().filter(|target| !target.contains("://")) {
            followed += 1;
            let (file, heading) = target.split_once('#').unwrap_or((*target, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = to.exists()
                && (heading.is_empty()
                    || prose(&to).lines().any(|line| {
                        line.strip_prefix('#')
                            .is_some_and(|line| anchor(line.trim_start_matches('#')) == heading)
                    }));
            if !there {
                broken.push(format!("{}: {target}", page.file_name().unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(followed > 100, "{followed}");
}

#[test]
fn every_page_is_in_the_index() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in in_folder("docs") {
        let name = page.file_name().unwrap().to_str().unwrap();
        let listed = name == "README.md" || index.contains(&format!("({name})"));
        assert!(listed, "docs/README.md does not list {name}");
    }
}
