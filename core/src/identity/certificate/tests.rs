use proptest::prelude::*;

use super::*;

/// Made by OpenSSL: a SPIFFE id beside a DNS name, times as `UTCTime`.
const WORKLOAD: &[u8] = include_bytes!("../../../tests/corpus/certificate/good-workload.pem");
/// No subject, no extensions to speak of, an end as `GeneralizedTime`.
const BEYOND: &[u8] = include_bytes!("../../../tests/corpus/certificate/good-beyond-2049.pem");

fn der(pem: &[u8]) -> Vec<u8> {
    let text = core::str::from_utf8(pem).unwrap();
    let lines: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

#[test]
fn what_a_certificate_says_is_what_openssl_says() {
    let leaf = Leaf::pem(WORKLOAD).unwrap();
    assert_eq!(leaf.subject.as_deref(), Some("billing client"));
    assert_eq!(leaf.spiffe_id.as_deref(), Some("spiffe://origin/ns/a/sa/b"));
    assert_eq!(&*leaf.serial, "a1b2c3");
    assert_eq!((leaf.not_before, leaf.not_after), (Wall(1795276131), Wall(1796140131)));
    assert_eq!((leaf.life(), leaf.name()), (10 * 86_400, "spiffe://origin/ns/a/sa/b"));
    let leaf = Leaf::pem(BEYOND).unwrap();
    assert_eq!((leaf.subject.as_ref(), leaf.spiffe_id.as_ref()), (None, None));
    assert_eq!((leaf.name(), leaf.not_after), ("07", Wall(2659276227)));
    // The first one counts, whatever else stands there.
    let both = [b"# a key\n-----BEGIN X-----\nAA==\n-----END X-----\n", WORKLOAD, BEYOND].concat();
    assert_eq!(Leaf::pem(&both), Leaf::pem(WORKLOAD));
    assert_eq!(Leaf::der(&der(WORKLOAD)), Leaf::pem(WORKLOAD));
}

#[test]
fn what_is_no_certificate_is_none() {
    let half = WORKLOAD.split_at(300).0;
    for none in [&b""[..], b"text", b"\xff\xfe", half, b"-----BEGIN CERTIFICATE-----"] {
        assert_eq!(Leaf::pem(none), None);
    }
    let all = der(WORKLOAD);
    for length in 0..all.len() {
        assert_eq!(Leaf::der(&all[..length]), None, "{length}");
    }
}

proptest! {
    /// Neither any bytes nor a certificate with any byte changed are more than not understood.
    #[test]
    fn any_bytes_are_survived(
        bytes: Vec<u8>,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let _ = (Leaf::pem(&bytes), Leaf::der(&bytes));
        let mut all = der(WORKLOAD);
        for (at, byte) in changes {
            let at = at.index(all.len());
            all[at] = byte;
        }
        if let Some(leaf) = Leaf::der(&all) {
            prop_assert!(leaf.serial.len() <= 2 * SERIAL);
            let names = [leaf.subject, leaf.spiffe_id];
            for name in names.into_iter().flatten() {
                prop_assert!(name.chars().count() <= SHOWN);
                prop_assert!(!name.chars().any(char::is_control));
            }
        }
    }
}
