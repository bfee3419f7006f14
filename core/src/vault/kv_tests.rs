//! The key-value engine: requests as the public API documentation has them, replies of both
//! versions (the second is written from that documentation), and any bytes.

use proptest::prelude::*;

use super::*;
use crate::config::VaultConfig;
use crate::secret::Secret;

const V1: &[u8] = include_bytes!("../../tests/corpus/vault_kv/v1.json");
const V2: &[u8] = include_bytes!("../../tests/corpus/vault_kv/v2.json");
const GONE: &[u8] = include_bytes!("../../tests/corpus/vault_kv/v2-deleted.json");
const KEYS: &[u8] = include_bytes!("../../tests/corpus/vault_kv/keys.json");
const METADATA: &[u8] = include_bytes!("../../tests/corpus/vault_kv/metadata.json");
const LEASED: &[u8] = include_bytes!("../../tests/corpus/vault_kv/leased.json");

fn shown(exchange: Result<Exchange, VaultError>) -> String {
    let exchange = exchange.unwrap();
    let body = String::from_utf8(exchange.body().to_vec()).unwrap();
    format!("{} {} {body}", exchange.method(), exchange.path()).trim_end().to_owned()
}

#[test]
fn requests_are_as_documented() {
    let (s, token) = (Settings::default(), Secret::new("t").unwrap());
    let api = Api::with(&s, &token);
    let one = Mount::new("secret", KvVersion::V1).unwrap();
    let two = Mount::new("team/kv", KvVersion::V2).unwrap();
    let data: Data = [("k".to_owned(), "v".into())].into_iter().collect();
    assert_eq!(shown(one.read(&api, "a b/c", 0)), "GET /v1/secret/a%20b/c");
    assert_eq!(shown(two.read(&api, "a", 0)), "GET /v1/team/kv/data/a");
    assert_eq!(shown(two.read(&api, "a", 3)), "GET /v1/team/kv/data/a?version=3");
    assert_eq!(shown(one.write(&api, "a", &data, None)), r#"POST /v1/secret/a {"k":"v"}"#);
    assert_eq!(
        shown(two.write(&api, "a", &data, None)),
        r#"POST /v1/team/kv/data/a {"data":{"k":"v"}}"#
    );
    assert_eq!(
        shown(two.write(&api, "a", &data, Some(0))),
        r#"POST /v1/team/kv/data/a {"options":{"cas":0},"data":{"k":"v"}}"#
    );
    assert_eq!(shown(one.delete(&api, "a")), "DELETE /v1/secret/a");
    assert_eq!(shown(two.delete(&api, "a")), "DELETE /v1/team/kv/data/a");
    assert_eq!(shown(one.list(&api, "")), "LIST /v1/secret");
    assert_eq!(shown(one.list(&api, "a/")), "LIST /v1/secret/a");
    assert_eq!(shown(two.list(&api, "")), "LIST /v1/team/kv/metadata");
    assert_eq!(shown(two.list(&api, "a")), "LIST /v1/team/kv/metadata/a");
    assert_eq!(shown(two.metadata(&api, "a")), "GET /v1/team/kv/metadata/a");
    assert_eq!(shown(two.forget(&api, "a")), "DELETE /v1/team/kv/metadata/a");
    for (change, word) in
        [(Change::Delete, "delete"), (Change::Undelete, "undelete"), (Change::Destroy, "destroy")]
    {
        let expected = format!(r#"POST /v1/team/kv/{word}/a {{"versions":[1,2]}}"#);
        assert_eq!(shown(two.change(&api, change, "a", &[1, 2])), expected);
    }
    let query = VaultConfig { list: crate::config::VaultList::Query, ..VaultConfig::default() };
    let query = Settings::of(&query, "vault").unwrap();
    assert_eq!(shown(one.list(&Api::with(&query, &token), "a")), "GET /v1/secret/a?list=true");
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_field_before_anything_is_sent() {
    let (s, token) = (Settings::default(), Secret::new("t").unwrap());
    let api = Api::with(&s, &token);
    let one = Mount::new("secret", KvVersion::V1).unwrap();
    let two = Mount::new("kv", KvVersion::V2).unwrap();
    let field = |refused: Result<Exchange, VaultError>| match refused.unwrap_err() {
        VaultError::Field { field, .. } => field.to_string(),
        other => panic!("{other}"),
    };
    assert_eq!(field(one.read(&api, "a", 1)), "mount");
    assert_eq!(field(one.write(&api, "a", &Data::new(), Some(1))), "cas");
    assert_eq!(field(one.metadata(&api, "a")), "mount");
    assert_eq!(field(two.read(&api, "../x", 0)), "path");
    assert_eq!(field(two.delete(&api, "")), "path");
    for versions in [&[][..], &[0], &[1; 101]] {
        assert_eq!(field(two.change(&api, Change::Delete, "a", versions)), "versions");
    }
    assert!(Mount::new("", KvVersion::V1).is_err() && Mount::new("/a", KvVersion::V1).is_err());
}

#[test]
fn case_000_replies_of_both_versions() {
    let s = Settings::default();
    let one = parse_read(&s, KvVersion::V1, 200, V1).unwrap();
    assert_eq!((one.data["user"].as_str(), one.lease_seconds), (Some("u"), 5));
    assert!(one.lease.is_none() && one.version.is_none());
    let two = parse_read(&s, KvVersion::V2, 200, V2).unwrap();
    assert_eq!(two.data["password"].as_str(), Some("pl4nted-value"));
    assert_eq!(two.version.as_ref().map(|v| v.version), Some(3));
    assert!(!format!("{two:?}").contains("pl4nted"), "{two:?}");
    let leased = parse_read(&s, KvVersion::V1, 200, LEASED).unwrap();
    assert_eq!(
        leased.lease.as_ref().map(|l| (l.id.path(), l.renewable)),
        Some(("database/creds/app", true))
    );
    assert_eq!(parse_list(&s, 200, KEYS).unwrap().len(), 3);
    assert!(parse_list(&s, 404, b"").unwrap().is_empty());
    assert!(parse_list(&s, 200, br#"{"data":{"keys":null}}"#).unwrap().is_empty());
    let metadata = parse_metadata(&s, 200, METADATA).unwrap();
    assert_eq!((metadata.current_version, metadata.versions.len()), (3, 3));
    assert!(metadata.versions[&1].destroyed);
    assert_eq!(metadata.custom["owner"], "billing");
}

#[test]
fn case_000_44_absent_deleted_and_conflict_are_different_things() {
    let s = Settings::default();
    let read = |status, body| parse_read(&s, KvVersion::V2, status, body).unwrap_err();
    assert_eq!(read(404, GONE), VaultError::Deleted { version: 2, destroyed: false });
    assert_eq!(read(404, br#"{"errors":[]}"#), VaultError::NotFound);
    assert_eq!(read(404, b"<html>"), VaultError::NotFound);
    assert_eq!(parse_read(&s, KvVersion::V1, 404, b"").unwrap_err(), VaultError::NotFound);
    // A soft-deleted version in a 200 is never an empty secret.
    assert_eq!(
        read(200, br#"{"data":{"data":null,"metadata":{"version":4}}}"#),
        VaultError::Deleted { version: 4, destroyed: false }
    );
    let cas = br#"{"errors":["check-and-set parameter did not match the current version"]}"#;
    assert_eq!(parse_write(&s, KvVersion::V2, 400, cas), Err(VaultError::Conflict));
    let written = br#"{"data":{"created_time":"2026-01-01T00:00:00Z","deletion_time":"","destroyed":false,"version":1}}"#;
    assert_eq!(parse_write(&s, KvVersion::V2, 200, written).unwrap().unwrap().version, 1);
    assert_eq!(parse_write(&s, KvVersion::V1, 204, b""), Ok(None));
    assert_eq!(parse_answer(&s, 204, b""), Ok(None));
    // A list is no object with its fields in that order.
    for body in [&br#"{"data":[1,2,3]}"#[..], br#"["","",0]"#] {
        assert!(parse_metadata(&s, 200, body).is_err());
        assert!(parse_write(&s, KvVersion::V2, 200, body).is_err());
        assert!(parse_answer(&s, 200, body).is_err());
    }
    // An error envelope inside a success is no secret.
    for body in
        [&br#"{"errors":["x"]}"#[..], b"{}", br#"{"data":null}"#, b"[]", b"", br#"{"data":[]}"#]
    {
        assert!(parse_read(&s, KvVersion::V1, 200, body).is_err());
        assert!(parse_read(&s, KvVersion::V2, 200, body).is_err());
        assert!(parse_write(&s, KvVersion::V2, 200, body).is_err());
        assert!(parse_metadata(&s, 200, body).is_err());
        assert!(parse_list(&s, 200, body).is_err());
    }
}

#[test]
fn sizes_are_bounded() {
    let config = VaultConfig { max_bytes: 1_024, ..VaultConfig::default() };
    let s = Settings::of(&config, "vault").unwrap();
    let large = format!(r#"{{"data":{{"k":"{}"}}}}"#, "x".repeat(2_000));
    let error = parse_read(&s, KvVersion::V1, 200, large.as_bytes()).unwrap_err();
    assert!(matches!(error, VaultError::TooLarge { most: 1_024, .. }), "{error}");
    let deep = format!(r#"{{"data":{}"#, "{\"a\":".repeat(1_000));
    assert!(parse_read(&Settings::default(), KvVersion::V1, 200, deep.as_bytes()).is_err());
}

proptest! {
    /// What Vault would answer for a secret is read as that secret.
    #[test]
    fn secrets_round_trip(keys in proptest::collection::btree_map(".{1,12}", ".{0,20}", 0..6), version in 1_u64..) {
        let data: Data = keys.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
        let body = serde_json::json!({"data": {"data": data, "metadata": {"version": version}}});
        let got = parse_read(&Settings::default(), KvVersion::V2, 200, body.to_string().as_bytes()).unwrap();
        prop_assert_eq!((&got.data, got.version.unwrap().version), (&data, version));
        let body = serde_json::json!({"data": data});
        let got = parse_read(&Settings::default(), KvVersion::V1, 200, body.to_string().as_bytes()).unwrap();
        prop_assert_eq!(got.data, data);
    }

    /// A byte changed anywhere: either the same shape of answer or a typed error, never a panic,
    /// and what was cut off is never half a secret.
    #[test]
    fn mutated_and_cut_replies_are_survived(at in 0_usize..4_000, byte: u8, status in prop_oneof![Just(200_u16), Just(404), any::<u16>()]) {
        let s = Settings::default();
        for reply in [V1, V2, GONE, KEYS, METADATA, LEASED].map(<[u8]>::trim_ascii_end) {
            let mut body = reply.to_vec();
            let at = at % body.len();
            let cut = &reply[..at];
            for version in [KvVersion::V1, KvVersion::V2] {
                prop_assert!(parse_read(&s, version, 200, cut).is_err());
            }
            body[at] = byte;
            for version in [KvVersion::V1, KvVersion::V2] {
                let _ = (parse_read(&s, version, status, &body), parse_write(&s, version, status, &body));
            }
            let _ = (parse_list(&s, status, &body), parse_metadata(&s, status, &body), parse_answer(&s, status, &body));
        }
    }
}
