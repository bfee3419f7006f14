//! What holds of every operation of every typed client (issue 5, X-11, 001-92): the list in
//! `operations/` names all that the sources have; each reads a good answer, refuses one that is cut
//! off or lacks what it needs, bears any bytes, repeats nothing that a server says, and puts any
//! text where it belongs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)] // test code

#[path = "operations/mod.rs"]
mod operations;

use std::collections::BTreeSet;
use std::path::Path;

use operations::fake::Fake;
use operations::{Input, Operation, Reads, Text};
use origin_core::Error;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What no text of an error may hold.
const PLANTED: &str = "pl4nted";

/// An operation answered so, and what came of it.
fn answered(operation: &Operation<Fake>, status: u16, body: &[u8]) -> Result<String, Error> {
    (operation.run)(&Fake::new(status, body), &Input::PLAIN)
}

/// Everything an error can be printed as.
fn printed(error: &Error) -> String {
    format!("{error} {error:?} {}", error.advice())
}

/// The methods of the clients in a source file: what they return is a reply.
fn methods(file: &str, found: &mut BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut client = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\nimpl<").into_iter().chain(rest.find("    pub fn ")).min() {
        rest = &rest[at + 1..];
        let head = &rest[..rest.find('{').unwrap_or(rest.len())];
        if rest.starts_with("impl<") {
            let name = head.split_once("> ").map_or("", |(_, name)| name);
            client = name.split('<').next().unwrap_or_default().to_owned();
        } else if head.contains("-> C::Reply<") {
            let name = head.trim_start().trim_start_matches("pub fn ");
            let name: String =
                name.chars().take_while(|c| *c == '_' || c.is_alphanumeric()).collect();
            found.insert(format!("{client}.{name}"));
        }
    }
}

#[test]
fn the_list_has_every_operation_that_the_sources_have() {
    let mut found = BTreeSet::new();
    for file in [
        "storage.rs",
        "secrets.rs",
        "origin_vault.rs",
        "bridge/stamping.rs",
        "bridge/tree.rs",
        "bridge/published.rs",
        "bridge/pipeline.rs",
        "design/user.rs",
        "design/project.rs",
        "design/knowledge.rs",
        "design/designs.rs",
    ] {
        methods(file, &mut found);
    }
    // Made by a macro.
    for client in ["Users", "Projects", "Knowledge", "Designs", "Analytics", "Marketplace"] {
        found.extend(["health", "ready"].map(|name| format!("{client}.{name}")));
    }
    let all = operations::all::<Fake>();
    let listed: BTreeSet<String> = all.iter().map(|one| one.name.to_owned()).collect();
    assert_eq!(listed.len(), all.len(), "a name occurs twice");
    assert_eq!(listed, found);
    assert!(all.iter().all(|one| operations::SERVICES.contains(&one.service)));
}

#[test]
fn a_good_answer_is_read_by_each() {
    for one in operations::all::<Fake>() {
        let (status, body) = one.good;
        let read = answered(&one, status, body.as_bytes());
        assert!(read.is_ok(), "{}: {read:?}", one.name);
    }
}

#[test]
fn case_002_05_a_status_that_says_no_is_an_error_of_each() {
    for one in operations::all::<Fake>() {
        for status in [400, 401, 409, 422, 429, 500, 502] {
            // With the body of a success, which must not be believed.
            let read = answered(&one, status, one.good.1.as_bytes());
            // The health check of Vault knows 429 as a standby.
            let code = one.name == "Secrets.health" && status == 429;
            let never = one.reads == Reads::Anything || code;
            assert_eq!(read.is_ok(), never, "{} of {status}: {read:?}", one.name);
        }
    }
}

#[test]
fn an_error_in_an_answer_of_200_is_an_error_of_each_that_reads_one() {
    let bodies = [
        json!({"status": "error", "data": null, "error": PLANTED, "message": PLANTED}),
        json!({"detail": {"status": "error", "error": [{"code": "C", "message": PLANTED}]}}),
        json!({"message": PLANTED, "error_code": "INTERNAL"}),
        json!({"errors": [PLANTED]}),
        json!({"success": false, "error": PLANTED}),
    ];
    for one in operations::all::<Fake>() {
        for body in &bodies {
            match answered(&one, 200, body.to_string().as_bytes()) {
                Err(error) => assert!(!printed(&error).contains(PLANTED), "{error:?}"),
                // A word other than success is "there is none" there.
                Ok(said) if one.name == "Stamping.get_stamp" => assert_eq!(said, "None"),
                Ok(said) => assert_ne!(one.reads, Reads::Fields, "{}: {said}", one.name),
            }
        }
    }
}

/// Every body that lacks one thing which an operation needs, or has it in another shape.
fn lacking(good: &str, needed: &str) -> Vec<Value> {
    let good: Value = serde_json::from_str(good).unwrap();
    let is = good.pointer(needed).unwrap_or_else(|| panic!("{needed} is not in {good}"));
    let kind = std::mem::discriminant(is);
    let others = [json!("x"), json!(7.5), json!(true), json!([7]), json!({"x": 1})];
    let mut bodies: Vec<Value> = others
        .into_iter()
        .filter(|other| std::mem::discriminant(other) != kind)
        .map(|other| {
            let mut body = good.clone();
            *body.pointer_mut(needed).unwrap() = other;
            body
        })
        .collect();
    let (parent, name) = needed.rsplit_once('/').unwrap();
    let mut without = good.clone();
    if let Some(Value::Object(fields)) = without.pointer_mut(parent) {
        fields.remove(name).unwrap();
        bodies.push(without);
    }
    bodies
}

#[test]
fn nothing_is_read_without_what_it_needs() {
    for one in operations::all::<Fake>() {
        for needed in one.needs {
            for body in lacking(one.good.1, needed) {
                // A role may be its name alone.
                if body.pointer("/0").is_some_and(Value::is_string) && one.name.ends_with("roles") {
                    continue;
                }
                let read = answered(&one, 200, body.to_string().as_bytes());
                assert!(read.is_err(), "{} without {needed}: {read:?} of {body}", one.name);
            }
        }
        let reads = one.reads == Reads::Fields && one.good.1.starts_with(['{', '[']);
        let free = ["Knowledge.recommendations"].contains(&one.name);
        assert!(!reads || free || !one.needs.is_empty(), "{} needs nothing?", one.name);
    }
}

#[test]
fn nothing_is_read_from_an_answer_that_is_cut_off() {
    for one in operations::all::<Fake>() {
        if !matches!(one.reads, Reads::Fields | Reads::Object | Reads::Maybe) {
            continue;
        }
        let body = one.good.1.as_bytes();
        for cut in 0..body.len() {
            let read = answered(&one, 200, &body[..cut]);
            let nothing = one.reads == Reads::Maybe && cut == 0;
            assert_eq!(read.is_ok(), nothing, "{} of {cut} bytes: {read:?}", one.name);
        }
        // Nor from one that goes on behind its end, nor from what is no text.
        for odd in [[body, b"{"].concat(), [b"\xff\xfe".as_slice(), body].concat(), vec![0x80; 64]]
        {
            assert!(answered(&one, 200, &odd).is_err(), "{}", one.name);
        }
    }
}

#[test]
fn case_001_92_nothing_a_server_says_is_in_an_error_of_any_operation() {
    let at = "postgres://admin:pl4nted@db/x";
    let bodies = [
        at.to_owned(),
        json!({"detail": at}).to_string(),
        json!({"detail": [{"loc": ["body", at], "msg": at, "type": at}]}).to_string(),
        json!({"message": at, "error_code": at, "details": {at: at}}).to_string(),
        json!({"status": at, "data": at, "error": {"code": at, "message": at}}).to_string(),
        json!({"errors": [at], "warnings": [at]}).to_string(),
        json!({"id": at, "data": {"hash": 7, at: at}, "name": [at], "keys": at}).to_string(),
        format!("<Error><Code>{at}</Code><Message>{at}</Message><Key>{at}</Key></Error>"),
        format!("<html><title>{at}</title></html>"),
        format!("\"{at}\""),
        format!("[\"{at}\"]"),
    ];
    for one in operations::all::<Fake>() {
        for status in [200, 204, 301, 400, 401, 403, 404, 409, 412, 422, 429, 472, 500, 501, 503] {
            for body in &bodies {
                if let Err(error) = answered(&one, status, body.as_bytes()) {
                    let printed = printed(&error);
                    assert!(!printed.contains(PLANTED), "{} of {status}: {printed}", one.name);
                    assert!(printed.len() < 4_096, "{}: {} bytes", one.name, printed.len());
                }
            }
        }
    }
}

/// Texts that somebody hands on as the name of something.
fn odd_texts() -> [String; 12] {
    [
        "..".to_owned(),
        ".".to_owned(),
        "../../etc/passwd".to_owned(),
        "a%2e%2e%2fb".to_owned(),
        "100%".to_owned(),
        "a b  c".to_owned(),
        "ünï→🦀".to_owned(),
        "a?b=c&d#e".to_owned(),
        "a\\b;c".to_owned(),
        "{id}".to_owned(),
        "x".repeat(1_024),
        "ü".repeat(512),
    ]
}

/// How many segments the path of a request has, and what each says.
fn segments(request: &origin_core::Request) -> Vec<String> {
    let path = request.path.path();
    assert!(path.bytes().all(|b| (0x21..0x7f).contains(&b)), "{path}");
    let parts = path.split('/').map(|part| {
        assert!(part != "." && part != "..", "{path}");
        percent_decode_str(part).decode_utf8().unwrap().into_owned()
    });
    parts.collect()
}

#[test]
fn any_text_in_a_path_stays_where_it_was_put() {
    for one in operations::all::<Fake>() {
        let (status, body) = one.good;
        let fake = Fake::new(status, body);
        (one.run)(&fake, &Input::PLAIN).unwrap();
        let plain = segments(&fake.sent()[0]);
        let place = plain.iter().position(|part| part == Input::PLAIN.text);
        assert_eq!(
            place.is_some(),
            matches!(one.text, Text::Segment | Text::Path),
            "{}: {plain:?}",
            one.name
        );
        for text in odd_texts() {
            let input = Input { text: &text, ..Input::PLAIN };
            let result = (one.run)(&fake, &input);
            let Some(sent) = fake.sent().into_iter().next() else {
                // Refused before anything was sent, as a mistake of the caller's.
                let error = result.unwrap_err();
                let ours =
                    matches!(error, Error::Request { .. } | Error::Vault { report: None, .. });
                assert!(ours, "{}: {error:?}", one.name);
                continue;
            };
            let parts = segments(&sent);
            let Some(place) = place else {
                assert_eq!(parts, plain, "{} with {text:?}", one.name);
                continue;
            };
            match one.text {
                Text::Segment => assert_eq!(parts[place], text, "{}", one.name),
                // `/` parts segments there, and nothing else does.
                _ => assert_eq!(parts[place..].join("/"), text, "{}", one.name),
            }
        }
    }
}

/// Clients whose operations can be moved to other paths.
fn movable(name: &str) -> bool {
    let fixed = ["Storage.", "Secrets.", "Kv.", "Leases.", "OriginVault.", "Bridge."];
    !fixed.iter().any(|client| name.starts_with(client))
}

#[test]
fn case_002_44_every_operation_can_be_moved_to_another_path() {
    for one in operations::all::<Fake>().iter().filter(|one| movable(one.name)) {
        let fake = Fake::new(one.good.0, one.good.1);
        (one.run)(&fake, &Input::PLAIN).unwrap();
        let usual = fake.sent().remove(0);
        let name = usual.operation.unwrap();
        (one.run)(&fake, &Input { moved: Some((name, "/elsewhere")), ..Input::PLAIN }).unwrap();
        let sent = fake.sent().remove(0);
        assert_eq!((sent.path.path(), &sent.method), ("/elsewhere", &usual.method), "{}", one.name);
        assert_eq!(sent.body, usual.body, "{}", one.name);
    }
}

#[test]
fn what_makes_something_on_the_platform_has_a_form_with_a_key() {
    let all = operations::all::<Fake>();
    let sent = |one: &Operation<Fake>| {
        let fake = Fake::new(one.good.0, one.good.1);
        (one.run)(&fake, &Input::PLAIN).unwrap();
        fake.sent().remove(0)
    };
    let mut keyed = 0;
    for one in all.iter().filter(|one| one.service.ends_with("-service")) {
        let request = sent(one);
        if let Some(plain) = one.name.strip_suffix("_with_key") {
            let before = sent(all.iter().find(|other| other.name == plain).unwrap());
            assert_eq!((&request.path, &request.body), (&before.path, &before.body), "{plain}");
            assert_eq!(request.headers["idempotency-key"], "key", "{plain}");
            assert_eq!((request.spec.idempotent, before.spec.idempotent), (Some(true), None));
            keyed += 1;
            continue;
        }
        // A token for a refresh is the answer itself; it leaves nothing behind.
        let makes = request.method == http::Method::POST && request.spec.idempotent.is_none();
        let with_key = format!("{}_with_key", one.name);
        let has = all.iter().any(|other| other.name == with_key);
        assert_eq!(makes && one.name != "Users.refresh", has, "{}", one.name);
    }
    assert_eq!(keyed, 13);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// X-11, 001-92.
    #[test]
    fn any_bytes_are_borne_by_each_and_not_repeated(
        noise: Vec<u8>,
        status in prop::sample::select(vec![200_u16, 201, 204, 206, 307, 400, 403, 404, 429, 503]),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let planted = [b"pl4nted".as_slice(), &noise].concat();
        for one in operations::all::<Fake>() {
            // A good answer with some bytes changed, and cut, reaches further than noise.
            let mut near = one.good.1.as_bytes().to_vec();
            for (at, byte) in &flips {
                if !near.is_empty() {
                    let at = at.index(near.len());
                    near[at] = *byte;
                }
            }
            near.truncate(cut.index(near.len() + 1));
            for body in [&planted, &noise, &near] {
                if let Err(error) = answered(&one, status, body) {
                    let printed = printed(&error);
                    prop_assert!(!printed.contains(PLANTED), "{}: {printed}", one.name);
                }
            }
        }
    }
}
