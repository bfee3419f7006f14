//! What is fuzzed: one function for each parser of foreign bytes, which also checks what must hold
//! of anything that was read. The fuzzer (`fuzz/`) and the replay of the corpus (`corpus.rs`) run
//! the same ones.
//!
//! A target has the name of its folder of seeds, `core/tests/corpus/<target>/`. Whoever includes this
//! has `operations/` beside it at its root.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // test code

mod bridge;
mod cache;
mod consul;
mod design;
mod dns;
mod local;
mod operations;
mod redis;
mod s3;
mod vault;

use std::fmt::{Debug, Display};

use origin_core::Address;
use origin_core::discovery::Instance;

/// What became of an input: it was read, or the refusal as text.
pub(crate) type Verdict = Result<(), String>;

/// Reads an input. The name is that of its file: some parsers go by its ending.
pub(crate) type Parser = fn(name: &str, bytes: &[u8]) -> Verdict;

/// All of them, by name.
pub(crate) const TARGETS: [(&str, Parser); 32] = [
    ("bridge", bridge::answer),
    ("cache_control", cache::control),
    ("cache_record", cache::record),
    ("certificate", local::certificate),
    ("consul_agent", consul::agent),
    ("consul_catalogue", consul::catalogue),
    ("consul_connect", consul::connect),
    ("consul_entries", consul::entries),
    ("consul_error", consul::error),
    ("consul_health", consul::health),
    ("consul_kv", consul::kv),
    ("consul_template", consul::template),
    ("design_synapse", design::any_reply),
    ("dns", dns::message),
    ("dns_lookup", dns::lookup),
    ("document", local::document),
    ("environment", local::environment),
    ("kept", local::kept),
    ("operations", operations::any),
    ("origin_vault", vault::origin),
    ("origin_toml", local::origin_toml),
    ("redis_record", redis::record),
    ("redis_value", redis::value),
    ("resp", redis::reply),
    ("s3_error", s3::error),
    ("s3_list", s3::page),
    ("s3_upload", s3::upload),
    ("services_file", local::services_file),
    ("vault_auth", vault::auth),
    ("vault_error", vault::error),
    ("vault_health", vault::health),
    ("vault_kv", vault::kv),
];

/// The parser called `target`.
pub(crate) fn find(target: &str) -> Option<Parser> {
    TARGETS.iter().find(|(name, _)| *name == target).map(|(_, parser)| *parser)
}

/// A refusal as all the text that it can be printed as.
fn text(error: &(impl Display + Debug)) -> String {
    format!("{error} {error:?}")
}

/// A refusal is short, and repeats nothing of `input` that could be a secret: no word of eight or
/// more letters and digits mixed, as tokens and keys are. `hunter2` stands for a password.
fn discreet(refusal: &str, input: &[u8]) {
    assert!(refusal.len() <= 1_024, "a refusal of {} bytes", refusal.len());
    assert!(!refusal.contains("hunter2"), "it repeats a secret: {refusal}");
    // Looked for in the refusal first, which seldom has one and is short. Digits alone may be a
    // line or a length as well.
    let secret = |word: &&[u8]| {
        let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
        word.len() >= 8 && (1..word.len()).contains(&digits)
    };
    if !words(refusal.as_bytes()).any(|word| secret(&word)) {
        return;
    }
    for word in words(input).filter(secret) {
        let word = core::str::from_utf8(word).unwrap();
        assert!(!refusal.contains(word), "{word} is repeated: {refusal}");
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !byte.is_ascii_alphanumeric())
}

/// The verdict on a result whose refusal must be discreet.
fn judged<T>(result: &Result<T, impl Display + Debug>, input: &[u8]) -> Verdict {
    let Err(error) = result else { return Ok(()) };
    let refusal = text(error);
    discreet(&refusal, input);
    Err(refusal)
}

/// An instance can be called, and its address says the same when it is read again.
fn callable(instance: &Instance) {
    let address = &instance.address;
    assert_eq!(Address::parse(address.as_str()).as_ref(), Ok(address), "{instance:?}");
    assert!(address.uri().is_none_or(|uri| uri.authority().is_some()), "{instance:?}");
    // Credentials are refused; an `@` may only stand behind the host.
    let authority = address.uri().and_then(|uri| uri.authority().map(ToString::to_string));
    assert!(authority.is_none_or(|text| !text.contains('@')), "{instance:?}");
}

/// What was read takes no more room than a fixed multiple of its input.
fn in_proportion(debug: usize, input: &[u8]) {
    assert!(debug <= 65_536 + 64 * input.len(), "{debug} bytes of {}", input.len());
}
