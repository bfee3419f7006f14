use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::consul::Tokens;

const ROOTS: &[u8] = include_bytes!("../../../tests/corpus/consul_connect/roots.json");
/// A real reply whose key was replaced by a text that is none.
const LEAF: &[u8] = include_bytes!("../../../tests/corpus/consul_connect/leaf.json");

#[test]
fn real_replies() {
    let s = Settings::default();
    let roots = parse_roots(&s, 200, ROOTS).unwrap();
    assert!(roots.trust_domain.ends_with(".consul"));
    assert_eq!((roots.certificates.len(), roots.intermediates.len()), (1, 0));
    // DER of a certificate is a sequence.
    assert_eq!(roots.certificates[0][0], 0x30);
    let leaf = parse_leaf(&s, 200, LEAF).unwrap();
    assert_eq!((leaf.chain.len(), leaf.chain[0][0]), (1, 0x30));
    assert_eq!(leaf.valid_before.0 - leaf.valid_after.0, 3 * 86_400);
    let (web, other) = (ServiceName::new("web").unwrap(), ServiceName::new("other").unwrap());
    assert!(leaf.belongs(&web, &roots) && !leaf.belongs(&other, &roots));
    assert!(leaf.key.expose().contains("EC PRIVATE KEY"));
    assert!(!format!("{leaf:?}").contains("PRIVATE KEY"));
}

#[test]
fn a_rotation_keeps_the_old_root_and_puts_the_active_one_first() {
    let one = |content: &str, active: bool| {
        let pem =
            format!("x\\n-----BEGIN CERTIFICATE-----\\n{content}\\n-----END CERTIFICATE-----\\n");
        format!("{{\"RootCert\":\"{pem}\",\"Active\":{active},\"IntermediateCerts\":null}}")
    };
    let body = format!(
        "{{\"TrustDomain\":\"T.consul\",\"Roots\":[{},{}]}}",
        one("AAAA", false),
        one("BBBB", true)
    );
    let roots = parse_roots(&Settings::default(), 200, body.as_bytes()).unwrap();
    assert_eq!(
        roots.certificates,
        [Bytes::from_static(&[4, 16, 65]), Bytes::from_static(&[0, 0, 0])]
    );
    assert_eq!(&*roots.trust_domain, "t.consul");
}

#[test]
fn what_cannot_be_trusted_is_refused() {
    let s = Settings::default();
    let why = |e: ConsulError| {
        if let ConsulError::Unreadable { why, .. } = e { why } else { panic!("{e}") }
    };
    let text = String::from_utf8(ROOTS.to_vec()).unwrap();
    let roots = |from: &str, to: &str| {
        why(parse_roots(&s, 200, text.replace(from, to).as_bytes()).unwrap_err())
    };
    assert_eq!(roots("-----END CERT", "-----END CRET"), Unreadable::Pem);
    assert_eq!(roots("MII", "M\u{fc}I"), Unreadable::Pem);
    assert_eq!(roots("\"TrustDomain\": \"6", "\"TrustDomain\": \"a b"), Unreadable::Spiffe);
    let none = br#"{"TrustDomain":"x","Roots":null}"#;
    assert_eq!(why(parse_roots(&s, 200, none).unwrap_err()), Unreadable::Pem);
    let text = String::from_utf8(LEAF.to_vec()).unwrap();
    let leaf = |from: &str, to: &str| {
        why(parse_leaf(&s, 200, text.replace(from, to).as_bytes()).unwrap_err())
    };
    assert_eq!(leaf("EC PRIVATE KEY", "PUBLIC KEY"), Unreadable::Pem);
    assert_eq!(leaf("spiffe://", "https://"), Unreadable::Spiffe);
    assert_eq!(leaf("ValidBefore\": \"2", "ValidBefore\": \"x"), Unreadable::Time);
    assert_eq!(leaf("PrivateKeyPEM", "Other"), Unreadable::Shape);
    assert!(parse_leaf(&s, 403, b"Permission denied").unwrap_err().is_permission());
}

#[test]
fn times() {
    let at = |text| rfc3339(text).map(|wall| wall.0);
    assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(at("2000-02-29T12:00:00Z"), Some(951_825_600));
    assert_eq!(at("2026-11-21T08:44:57.102194661Z"), Some(1_795_250_697));
    assert_eq!(at("2026-11-21T09:44:57+01:00"), Some(1_795_250_697));
    assert_eq!(at("1969-12-31T23:59:59Z"), Some(0));
    assert_eq!(at("0000-01-01T00:00:00Z"), Some(0));
    assert!(at("9999-12-31T23:59:60Z").is_some());
    for bad in [
        "",
        "x",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-21",
        "2026-11-21T08:44:57",
        "2026-11-21T24:00:00Z",
        "2026-11-21T08:44:57.Z",
        "2026-11-21T08:44:57+1:00",
        "2026-00-01T00:00:00Z",
        "\u{e4}026-11-21T08:44:57Z",
    ] {
        assert_eq!(at(bad), None, "{bad}");
    }
}

#[test]
fn requests() {
    let (s, t) = (Settings::default(), Tokens::default());
    let api = Api::new(&s, &t);
    let web = ServiceName::new("web").unwrap();
    let cursor = Some(Cursor { index: 9, wait: Duration::from_secs(60) });
    assert_eq!(
        leaf(&api, &web, cursor).unwrap().uri().path_and_query().unwrap(),
        "/v1/agent/connect/ca/leaf/web?index=9&wait=1m"
    );
    assert_eq!(
        roots(&api, None).unwrap().uri().path_and_query().unwrap(),
        "/v1/agent/connect/ca/roots"
    );
    let client = SpiffeId::new("t.consul", "dc1", "a").unwrap();
    let ask = authorize(&api, &web, &client, "01:0a").unwrap();
    let body: serde_json::Value = serde_json::from_slice(ask.body()).unwrap();
    assert_eq!(body["ClientCertURI"], "spiffe://t.consul/ns/default/dc/dc1/svc/a");
    assert!(authorize(&api, &web, &client, "x").is_err());
    assert_eq!(parse_authorized(&s, 200, br#"{"Authorized":false,"Reason":"x"}"#), Ok(false));
    assert!(parse_authorized(&s, 200, b"{}").is_err(), "never allowed by default");
}

proptest! {
    #[test]
    fn mutated_replies_are_survived(edits in proptest::collection::vec((0_usize..3_000, any::<u8>()), 0..5), cut in 0_usize..3_000) {
        for reply in [ROOTS, LEAF] {
            let mut body = reply.to_vec();
            for (at, byte) in &edits {
                let at = at % body.len();
                body[at] = *byte;
            }
            let s = Settings::default();
            let _ = (parse_roots(&s, 200, &body), parse_leaf(&s, 200, &body));
            body.truncate(cut);
            if let Err(e) = parse_leaf(&s, 200, &body) {
                let shown = format!("{e}{e:?}");
                prop_assert!(!shown.contains("dGhpcyBpcyBub3Q"));
            }
        }
    }

    #[test]
    fn any_time_is_survived(text in "[0-9TZ:.+ -]{0,40}|\\PC{0,30}") {
        let _ = rfc3339(&text);
    }
}
