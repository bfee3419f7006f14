//! Every operation of every typed client, by name, against peers that mean harm, on every runtime:
//! heads and bodies without end, what is no text, JSON of another shape, errors inside a 200,
//! credentials that are refused, texts that look like paths. The list is `core/tests/operations`,
//! which the core holds against arbitrary bytes; here are the sockets and the HTTP libraries.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use origin_core::Error;
use origin_core::Secret;
use origin_core::config::{Limits, Mode as Breaking};
use origin_core::ops::secrets::Secrets;
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};

use crate::hostile::{Script, Wire};
use crate::operations::{Input, Operation, Reads, SERVICES, Text, Waits, all};
use crate::subject::Subject;

on_every_runtime! {
    case_x_11_heads_and_bodies_without_end_are_errors_of_every_operation
    case_x_11_another_shape_is_an_error_of_every_operation
    case_000_45_refused_credentials_are_errors_and_shown_by_none
    case_001_92_no_error_of_any_operation_repeats_what_a_server_says
    case_002_50_any_text_arrives_where_it_was_put
    case_001_51_every_operation_has_an_id_of_its_own
}

/// What the server says, and the tokens and passwords of the list begin so.
const PLANTED: &str = "pl4nted";
/// Largest body in this room, so that one without end is soon too large.
const BODY: u64 = 32 << 10;

impl<S: Subject> Waits for Client<S> {
    fn wait<T: Send + 'static>(&self, reply: S::Reply<T>) -> Result<T, Error> {
        S::wait(reply)
    }
}

/// A client that goes to `url` for everything, once, and lets nothing be broken.
fn client<S: Subject>(url: &str) -> Client<S> {
    SERVICES
        .iter()
        .fold(Client::<S>::builder(), |builder, name| builder.endpoint(*name, url))
        .timeout(Duration::from_secs(8))
        .configure(|config| {
            config.limits = Limits { body: BODY, ..Limits::default() };
            config.policy.retry.max_attempts = 1;
            config.policy.breaker.mode = Breaking::Disabled;
            config.policy.outlier.enabled = false;
        })
        .build()
        .unwrap()
}

fn operations<S: Subject>() -> Vec<Operation<Client<S>>> {
    all::<Client<S>>()
}

fn printed(error: &Error) -> String {
    format!("{error} {error:?} {}", error.advice())
}

fn a_bearable_error(what: &str, error: &Error) {
    let printed = printed(error);
    assert!(!printed.contains(PLANTED), "{what}: {printed}");
    assert!(printed.len() < 6_000, "{what}: an error of {} bytes", printed.len());
}

fn case_x_11_heads_and_bodies_without_end_are_errors_of_every_operation<S: Subject>() {
    let endless = |head: &str| Script::Repeated {
        head: format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n").into(),
        piece: b"{\"pl4nted\": [".repeat(400),
        total: 1 << 30,
        end: Vec::new(),
    };
    let peers = [
        ("10 MB of headers", Script::headers(10 << 20)),
        ("a body until the end", endless("Connection: close\r\n")),
        ("chunks without end", Script::chunked(1 << 30)),
        ("no HTTP", Script::Bytes(vec![0xff; 512])),
        ("half an answer", Script::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".into())),
    ];
    for (what, script) in peers {
        let peer = Wire::start(script);
        let client = client::<S>(&peer.url());
        for one in operations::<S>() {
            // The answer to `HEAD` has no body, whatever its head says.
            let headless = one.name == "Storage.head_object" && what != "no HTTP";
            let what = format!("{} and {what}", one.name);
            let began = Instant::now();
            let result = (one.run)(&client, &Input::PLAIN);
            assert!(began.elapsed() < Duration::from_secs(8), "{what}: {:?}", began.elapsed());
            match result {
                Ok(_) if headless || one.reads == Reads::Anything => (),
                Ok(said) => panic!("{what}: {said}"),
                Err(error) => {
                    a_bearable_error(&what, &error);
                    let ours = matches!(error, Error::Request { .. } | Error::Config(_));
                    assert!(!ours, "{what}: {error}");
                }
            }
        }
        let stuck = client.snapshot();
        let stuck = stuck.services.iter().flat_map(|service| &service.endpoints);
        assert_eq!(stuck.map(|endpoint| endpoint.outstanding).sum::<u32>(), 0, "{what}");
    }
}

/// JSON, text and bytes that are no answer to anything.
fn shapes() -> Vec<Vec<u8>> {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let wide = format!("{{\"data\":{}", "{\"data\":".repeat(2_000));
    vec![
        Vec::new(),
        b"7".to_vec(),
        b"\"pl4nted\"".to_vec(),
        b"[[7]]".to_vec(),
        b"{\"data\": \"pl4nted\", \"status\": [\"pl4nted\"".to_vec(),
        b"\xff\xfe{\"pl4nted\":1}".to_vec(),
        b"<html>pl4nted</html>".to_vec(),
        deep.into(),
        wide.into(),
        br#"{"status":"error","data":null,"error":"pl4nted","message":"pl4nted"}"#.to_vec(),
        br#"{"detail":[{"loc":["pl4nted"],"msg":"pl4nted","type":"pl4nted"}]}"#.to_vec(),
    ]
}

fn case_x_11_another_shape_is_an_error_of_every_operation<S: Subject>() {
    let peer = Wire::start(Script::Bytes(Vec::new()));
    let client = client::<S>(&peer.url());
    for shape in shapes() {
        peer.set(Script::document(&shape));
        // What any object is good for must at least be one.
        let object =
            serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&shape).is_ok();
        for one in operations::<S>() {
            let shown = String::from_utf8_lossy(&shape[..shape.len().min(60)]);
            let what = format!("{} and {shown}", one.name);
            match (one.reads, (one.run)(&client, &Input::PLAIN)) {
                // A role may be its name alone.
                (_, Ok(_))
                    if one.name.starts_with("Users.create_role")
                        && shape.first() == Some(&b'"') => {}
                (Reads::Fields, Ok(said)) if said != "None" => panic!("{what}: {said}"),
                (Reads::Object, Ok(said)) if !object => panic!("{what}: {said}"),
                (Reads::Maybe, Ok(said)) if !object && !shape.is_empty() => {
                    panic!("{what}: {said}")
                }
                (_, Ok(_)) => (),
                (_, Err(error)) => a_bearable_error(&what, &error),
            }
        }
    }
}

fn case_000_45_refused_credentials_are_errors_and_shown_by_none<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server.url());
    // Wrong, expired and revoked look alike from here: 401 or 403, and words about it.
    for (code, words) in [
        (401, r#"{"detail":"pl4nted-token has expired","error_code":"AUTHENTICATION_ERROR"}"#),
        (403, r#"{"errors":["pl4nted-token was revoked"]}"#),
        (403, "<Error><Code>InvalidAccessKeyId</Code><Message>pl4nted-token</Message></Error>"),
    ] {
        server.set(Mode::Status { code, headers: Vec::new(), body: words.to_owned() });
        for one in operations::<S>() {
            let before = server.request_count();
            match (one.run)(&client, &Input::PLAIN) {
                // "No" is the answer there.
                Ok(said) if one.name == "Projects.is_member" => assert_eq!(said, "false"),
                Ok(said) => assert_eq!(one.reads, Reads::Anything, "{}: {said}", one.name),
                Err(error) => {
                    a_bearable_error(one.name, &error);
                    assert!(!error.is_retryable() || error.is_unavailable(), "{}", one.name);
                }
            }
            // Nobody tries a refused credential on and on.
            assert!(server.request_count() - before <= 3, "{}", one.name);
        }
    }
    let all = format!("{client:?} {:?} {:?}", client.snapshot(), client.notices());
    assert!(!all.contains(PLANTED), "{all}");
    // None at all, or one that cannot be sent: nothing is.
    let before = server.request_count();
    assert!(Secret::new(" \n").is_none());
    for token in [None, Secret::new("pl4nted\u{7}token")] {
        let secrets = Secrets::new(client.clone(), token);
        let errors = [
            S::wait(secrets.get_secret("a/b")).unwrap_err(),
            S::wait(secrets.kv("kv").read("a")).unwrap_err(),
        ];
        for error in errors {
            a_bearable_error("no token", &error);
            assert!(matches!(error, Error::Credential { .. } | Error::Vault { .. }), "{error:?}");
        }
    }
    assert_eq!(server.request_count(), before);
}

fn case_001_92_no_error_of_any_operation_repeats_what_a_server_says<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server.url());
    let at = "postgres://admin:pl4nted@db/x";
    for code in [301, 400, 404, 409, 422, 429, 500, 503] {
        for body in [
            format!(r#"{{"message":"{at}","error_code":"{at}","detail":{{"error":"{at}"}}}}"#),
            format!("<Error><Code>{at}</Code><Message>{at}</Message></Error>"),
        ] {
            let header = |name: &str| (name.to_owned(), at.to_owned());
            let headers = ["X-Error", "Server", "WWW-Authenticate"].map(header).to_vec();
            server.set(Mode::Status { code, headers, body });
            for one in operations::<S>() {
                if let Err(error) = (one.run)(&client, &Input::PLAIN) {
                    a_bearable_error(&format!("{} of {code}", one.name), &error);
                }
            }
        }
    }
    let told: String = client.notices().iter().map(ToString::to_string).collect();
    let all = format!("{:?} {told}", client.snapshot());
    assert!(!all.contains(PLANTED), "{all}");
}

/// The segments of a path as they came, decoded.
fn segments(path: &str) -> Vec<String> {
    let path = path.split('?').next().unwrap_or_default();
    assert!(path.bytes().all(|b| (0x21..0x7f).contains(&b)), "{path}");
    let decode = |part: &str| {
        let mut bytes = Vec::new();
        let mut rest = part.as_bytes();
        while let [first, after @ ..] = rest {
            rest = after;
            if let (b'%', [high, low, behind @ ..]) = (first, after) {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = behind;
            } else {
                bytes.push(*first);
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    path.split('/').map(decode).collect()
}

fn case_002_50_any_text_arrives_where_it_was_put<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server.url());
    let texts = [
        "..".to_owned(),
        "../../x".to_owned(),
        "a%2e%2e%2fb 100%".to_owned(),
        "ünï → 🦀?b=c&d#e".to_owned(),
        "x".repeat(1_024),
    ];
    let mut arrived = 0;
    for one in operations::<S>() {
        let (code, body) = one.good;
        server.set(Mode::Status { code, headers: Vec::new(), body: body.to_owned() });
        let first = |input: &Input<'_>| {
            server.reset_counts();
            let result = (one.run)(&client, input);
            // Two may be under way at once, in whatever order.
            (result, server.requests().iter().map(|seen| segments(&seen.path)).min())
        };
        let (good, plain) = first(&Input::PLAIN);
        assert!(good.is_ok(), "{}: {good:?}", one.name);
        let plain = plain.unwrap();
        let place = plain.iter().position(|part| part == Input::PLAIN.text);
        for text in &texts {
            let (result, seen) = first(&Input { text, ..Input::PLAIN });
            let Some(seen) = seen else {
                let error = result.unwrap_err();
                let ours =
                    matches!(error, Error::Request { .. } | Error::Vault { report: None, .. });
                assert!(ours, "{}: {error:?}", one.name);
                continue;
            };
            match (one.text, place) {
                (Text::Segment, Some(place)) => assert_eq!(&seen[place], text, "{}", one.name),
                (Text::Path, Some(place)) => {
                    assert_eq!(&seen[place..].join("/"), text, "{}", one.name);
                }
                _ => assert_eq!(seen, plain, "{} with {text:?}", one.name),
            }
            arrived += 1;
        }
    }
    assert!(arrived > 400, "only {arrived} texts arrived");
}

fn case_001_51_every_operation_has_an_id_of_its_own<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server.url());
    let mut ids = BTreeSet::new();
    let all = operations::<S>();
    for one in &all {
        server.set(Mode::Status { code: one.good.0, headers: Vec::new(), body: one.good.1.into() });
        server.reset_counts();
        (one.run)(&client, &Input::PLAIN).unwrap();
        let sent: BTreeSet<String> = server
            .requests()
            .iter()
            .map(|seen| seen.header("x-correlation-id").unwrap_or_default().to_owned())
            .collect();
        // One for all its requests, as UUIDs are written.
        assert_eq!(sent.iter().map(String::len).collect::<Vec<_>>(), [36], "{}", one.name);
        ids.extend(sent);
    }
    assert_eq!(ids.len(), all.len());
}
