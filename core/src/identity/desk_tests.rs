//! The desk: settings that cannot be meant, both machines side by side, and what is told.

use std::time::Duration;

use bytes::Bytes;

use super::*;

const WORKLOAD: &[u8] = include_bytes!("../../tests/corpus/certificate/good-workload.pem");
const NOW: Time = Time::ZERO;

fn config() -> IdentityConfig {
    IdentityConfig {
        ca: "ca.pem".into(),
        cert: "cert.pem".into(),
        key: "key.pem".into(),
        token_file: "token".into(),
        services: vec!["billing".into()],
        ..IdentityConfig::default()
    }
}

fn said(desk: &Desk) -> Vec<String> {
    desk.notices().since(0).map(ToString::to_string).collect()
}

#[test]
fn case_000_21_what_cannot_be_meant_is_refused_by_its_field() {
    assert!(Rules::of(&config(), "identity").is_ok());
    assert!(Rules::of(&IdentityConfig::default(), "identity").is_ok());
    let field = |change: fn(&mut IdentityConfig)| {
        let mut config = config();
        change(&mut config);
        Rules::of(&config, "identity").unwrap_err().field
    };
    assert_eq!(field(|c| c.key.clear()), "identity.cert");
    assert_eq!(field(|c| c.cert.clear()), "identity.cert");
    assert_eq!(field(|c| c.poll = Duration::ZERO), "identity.poll");
    assert_eq!(field(|c| c.warning = Duration::from_millis(999)), "identity.warning");
    assert_eq!(field(|c| c.services.clear()), "identity.services");
    assert_eq!(field(|c| c.services.push(String::new())), "identity.services[1]");
    // Vault takes `Authorization: Bearer` for its own token.
    assert_eq!(field(|c| c.services.push("secrets".into())), "identity.services[1]");
}

#[test]
fn both_are_read_side_by_side_and_told_apart() {
    let rules = Rules::of(&config(), "identity").unwrap();
    let leaf = Leaf::pem(WORKLOAD);
    let wall = Wall(leaf.as_ref().unwrap().not_before.0 + 60);
    let mut desk = Desk::new(NOW, rules, Some(1), leaf.clone());
    assert!(desk.names("billing") && !desk.names("storage"));
    assert_eq!(desk.bearer(wall), None);
    let mut read = Vec::new();
    let mut content = None;
    // Within the first minute: the token at once, the files twice.
    for second in 0..33 {
        let (now, wall) = (NOW.plus(Duration::from_secs(second)), Wall(wall.0 + second));
        while let Poll::Run(job) = desk.poll(now, wall) {
            assert!(Desk::owns(job.id));
            let Work::Read { path, most } = job.work else { panic!() };
            assert_eq!(most, if &*path == "token" { token::MOST } else { files::MOST });
            read.push((second, path.to_string()));
            let text = Bytes::from(format!("the-{path}"));
            let done = desk.done(now, wall, job.id, JobOutcome::Content(Some(text)));
            content = content.or(done);
        }
        assert!(desk.due(now, wall) > now);
    }
    let at = |second: u64, path: &str| (second, path.to_owned());
    let files = |second| ["ca.pem", "cert.pem", "key.pem"].map(|path| at(second, path)).to_vec();
    let expected = [vec![at(0, "token"), at(30, "token")], files(30), files(31)].concat();
    assert_eq!(read, expected);
    assert_eq!(content.unwrap().key.unwrap(), "the-key.pem");
    assert_eq!(desk.bearer(wall).unwrap(), "Bearer the-token");
    assert_eq!(said(&desk), [""; 0]);
    desk.refused(NOW, "cert.pem: no certificate".into());
    desk.in_force(NOW, wall, leaf);
    desk.in_force(NOW, Wall(u64::MAX), None);
    let said = said(&desk);
    assert!(said[0].contains("cannot be used: cert.pem: no certificate"), "{said:?}");
    assert!(said[1].contains("a1b2c3 (spiffe://origin/ns/a/sa/b) is in force"), "{said:?}");
    assert_eq!(said.len(), 3);
    let view = desk.view(wall);
    let token = view.token.unwrap();
    assert_eq!((view.certificate, view.exchanged, token.held), (None, 2, true));
    let shown = format!("{desk:?} {token:?} {}", serde_json::to_string(&token).unwrap());
    assert!(!shown.contains("the-token") && shown.contains("billing"), "{shown}");
}

#[test]
fn case_000_21_a_call_without_a_token_is_told_what_to_do() {
    let mut desk = Desk::new(NOW, Rules::of(&config(), "identity").unwrap(), None, None);
    assert!(desk.is_awaited());
    let Poll::Run(job) = desk.poll(NOW, Wall(1)) else { panic!() };
    assert!(desk.done(NOW, Wall(1), job.id, JobOutcome::Content(None)).is_none());
    assert!(!desk.is_awaited() && desk.need().contains("token_file is not there"));
    let told = said(&desk);
    assert!(told[0].contains("\"token\"") && told[0].contains("is not there"), "{told:?}");
    // A result that nobody waits for any more.
    assert!(desk.done(NOW, Wall(1), job.id, JobOutcome::Content(Some(Bytes::new()))).is_none());
}
