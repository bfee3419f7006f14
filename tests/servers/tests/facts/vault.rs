//! RustyVault: what it has of Vault, in whose words it refuses, and what it lacks.

use std::time::Duration;

use origin_servers::eventually;
use origin_servers::vault::{self, Setup, Tls};
use serde_json::json;

#[test]
fn the_key_value_engine_is_that_of_version_1() {
    let Some(vault) = vault::start(&Setup::default()) else { return };
    eprintln!("rvault ready in {:?}", vault.process.ready_in());
    vault.write("secret/app/db", &json!({ "user": "u" })).unwrap();
    let root = vault.http();
    let read = root.get("/v1/secret/app/db").unwrap();
    assert_eq!((read.status, &read.json()["data"]), (200, &json!({ "user": "u" })));
    assert_eq!(read.json()["lease_duration"], 3_600, "it leases what nobody revokes");
    let listed = root.ask("LIST", "/v1/secret/app", "").unwrap().json();
    assert_eq!(listed["data"]["keys"], json!(["db"]));
    let nothing = root.ask("LIST", "/v1/secret/none/", "").unwrap();
    assert_eq!((nothing.status, &nothing.json()["data"]["keys"]), (200, &json!([])), "not 404");
    assert_eq!(root.ask("DELETE", "/v1/secret/app/db", "").unwrap().status, 204);
    let gone = root.get("/v1/secret/app/db").unwrap();
    assert_eq!((gone.status, gone.body.len()), (404, 0));
    // What is not there, is not asked of it by any test: these need the stand-in.
    let renewed = root.ask("POST", "/v1/auth/token/renew-self", "{}").unwrap();
    assert_eq!(renewed.status, 500);
    assert!(renewed.text().contains("Logical backend path not supported."), "{}", renewed.text());
    assert_eq!(root.get("/v1/sys/health").unwrap().status, 404);
    assert_eq!(root.get("/v1/secret/?list=true").unwrap().status, 404);
}

#[test]
fn its_refusals_say_error_and_not_errors() {
    let Some(vault) = vault::start(&Setup::default()) else { return };
    let said = |answer: origin_servers::http::Answer| {
        (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let path = "/v1/secret/app/db";
    let refused = said(vault.anonymous().get(path).unwrap());
    assert_eq!(refused, (400, "Request client token is missing.".into()));
    assert_eq!(said(vault.http_as("wrong").get(path).unwrap()), (403, "Permission denied.".into()));
    // A revoked token is refused as one that never was, also to a look at itself.
    let token = vault.token(30).unwrap();
    let own = vault.http_as(&token).get("/v1/auth/token/lookup-self").unwrap();
    assert_eq!((own.status, &own.json()["data"]["ttl"]), (200, &json!(30)));
    vault.revoke(&token).unwrap();
    let own = vault.http_as(&token).get("/v1/auth/token/lookup-self").unwrap();
    assert_eq!(said(own), (403, "Permission denied.".into()));
    let role = vault.approle("app", 60).unwrap();
    let login = |secret: &str| {
        let body = json!({ "role_id": role.role_id, "secret_id": secret });
        vault.anonymous().ask("POST", "/v1/auth/approle/login", &body.to_string()).unwrap()
    };
    assert_eq!(login(&role.secret_id).json()["auth"]["lease_duration"], 60);
    assert_eq!(said(login("wrong")), (400, "invalid secret id".into()));
}

#[test]
fn sealed_it_answers_503_and_a_restart_seals_it() {
    let Some(mut vault) = vault::start(&Setup::default()) else { return };
    vault.write("secret/app/db", &json!({ "user": "u" })).unwrap();
    vault.seal().unwrap();
    for path in ["/v1/secret/app/db", "/v1/auth/token/lookup-self"] {
        let answer = vault.http().get(path).unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["error"], "RustyVault is sealed.");
    }
    vault.unseal().unwrap();
    assert_eq!(vault.http().get("/v1/secret/app/db").unwrap().status, 200);
    vault.process.restart().unwrap();
    assert_eq!(vault.http().get("/v1/secret/app/db").unwrap().status, 503);
    vault.unseal().unwrap();
    let read = || vault.http().get("/v1/secret/app/db").is_ok_and(|answer| answer.status == 200);
    assert!(eventually(Duration::from_secs(5), read));
}

#[test]
fn over_mutual_tls_nobody_is_let_in_without_a_certificate() {
    let Some(vault) = vault::start(&Setup { tls: Tls::Mutual }) else { return };
    let papers = vault.papers.as_ref().unwrap();
    let plain = origin_servers::http::Client::new(vault.address());
    assert!(plain.clone().over(papers.anonymous()).get("/v1/sys/init").is_err());
    assert!(plain.get("/v1/sys/init").is_err());
    let authority = std::fs::read_to_string(&papers.authority).unwrap();
    vault.cert("app", &authority, 60).unwrap();
    let login = |name: &str| {
        let body = json!({ "name": name }).to_string();
        vault.anonymous().ask("POST", "/v1/auth/cert/login", &body).unwrap()
    };
    let granted = login("app");
    assert_eq!(granted.json()["auth"]["lease_duration"], 60, "{}", granted.status);
    let refused = login("other");
    assert_eq!(refused.status, 400, "{}", refused.text());
}
