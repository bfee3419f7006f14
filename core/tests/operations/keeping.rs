//! Storage, secrets and the other Origin vault. Pieces of downloads are the runtimes' and not here.

use std::time::Duration;

use origin_core::Secret;
use origin_core::config::KvVersion;
use origin_core::ops::origin_vault::{Credentials, OriginVault, Wallet};
use origin_core::ops::secrets::Secrets;
use origin_core::ops::storage::Storage;
use origin_core::s3::{GetOptions, ListOptions, PutOptions};
use origin_core::vault::LeaseId;
use origin_core::vault::kv::{Change, Data};

use super::{Operation, Waits, operations};

/// The token of every client that has one. It is a secret: no text may have it.
pub(crate) const TOKEN: &str = "pl4nted-token";

fn storage_of<C: Waits>(caller: &C) -> Storage<C> {
    Storage::new(caller.clone(), Default::default())
}

const PAGE: (u16, &str) = (
    200,
    "<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>\
     <Contents><Key>k</Key><Size>1</Size></Contents></ListBucketResult>",
);

pub(super) fn storage<C: Waits>() -> Vec<Operation<C>> {
    operations! { "storage";
        "Storage.get_object" Bytes Path (200, "bytes"), [],
            |c, i| storage_of(c).get_object("bucket", i.text);
        "Storage.get_object_with" Bytes Path (200, "bytes"), [],
            |c, i| storage_of(c).get_object_with("bucket", i.text, &GetOptions::default());
        "Storage.head_object" Status Path (200, ""), [],
            |c, i| storage_of(c).head_object("bucket", i.text, &GetOptions::default());
        "Storage.put_object" Status Path (200, ""), [],
            |c, i| storage_of(c).put_object("bucket", i.text, &b"x"[..]);
        "Storage.put_object_with" Status Path (200, ""), [],
            |c, i| storage_of(c).put_object_with("bucket", i.text, &b"x"[..], &PutOptions::default());
        "Storage.delete_object" Status Path (204, ""), [],
            |c, i| storage_of(c).delete_object("bucket", i.text);
        "Storage.list_page" Fields Elsewhere PAGE, [],
            |c, i| storage_of(c).list_page("bucket", &ListOptions::prefix(i.text), None);
        "Storage.list_objects" Fields Elsewhere PAGE, [],
            |c, i| storage_of(c).list_objects("bucket", &ListOptions::prefix(i.text), 100);
    }
}

fn secrets_of<C: Waits>(caller: &C) -> Secrets<C> {
    Secrets::new(caller.clone(), Secret::new(TOKEN))
}

fn data() -> Data {
    [("k".to_owned(), "v".into())].into_iter().collect()
}

fn lease(text: &str) -> LeaseId {
    LeaseId::new(text).or_else(|_| LeaseId::new("database/creds/app/x")).unwrap()
}

const SECRET: (u16, &str) = (200, r#"{"data":{"k":"v"},"lease_duration":60,"lease_id":""}"#);
const SECOND: (u16, &str) =
    (200, r#"{"data":{"data":{"k":"v"},"metadata":{"version":3,"created_time":"t"}}}"#);
const WRITTEN: (u16, &str) = (200, r#"{"data":{"version":4,"created_time":"t"}}"#);
const KEYS: (u16, &str) = (200, r#"{"data":{"keys":["a","b/"]}}"#);
const METADATA: (u16, &str) = (200, r#"{"data":{"current_version":3,"versions":{"3":{}}}}"#);
const RENEWED: (u16, &str) =
    (200, r#"{"lease_id":"database/creds/app/x","lease_duration":60,"renewable":true}"#);

pub(super) fn secrets<C: Waits>() -> Vec<Operation<C>> {
    operations! { "secrets";
        "Secrets.get_secret" Fields Path SECRET, ["/data"],
            |c, i| secrets_of(c).get_secret(i.text);
        "Secrets.create" Fields Path SECRET, ["/data"], |c, i| secrets_of(c).create(i.text);
        "Secrets.write" Maybe Path SECRET, [], |c, i| secrets_of(c).write(i.text, &data());
        "Secrets.token" Fields Nowhere (200, r#"{"data":{"ttl":60,"policies":["p"]}}"#),
            ["/data", "/data/ttl"], |c, _| secrets_of(c).token();
        "Secrets.health" Fields Nowhere
            (200, r#"{"initialized":true,"sealed":false,"version":"1"}"#),
            ["/initialized", "/sealed"], |c, _| secrets_of(c).health();
        "Secrets.seal_status" Fields Nowhere (200, r#"{"sealed":false,"t":3,"n":5}"#), ["/sealed"],
            |c, _| secrets_of(c).seal_status();
        "Kv.read" Fields Path SECOND, ["/data", "/data/data", "/data/metadata/version"],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).read(i.text);
        "Kv.read_version" Fields Path SECRET, ["/data"],
            |c, i| secrets_of(c).kv_of("kv", KvVersion::V1).read_version(i.text, 0);
        "Kv.write" Fields Path WRITTEN, ["/data", "/data/version"],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).write(i.text, &data());
        "Kv.write_if" Fields Path WRITTEN, ["/data", "/data/version"],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).write_if(i.text, &data(), 3);
        "Kv.delete" Status Path (204, ""), [],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).delete(i.text);
        "Kv.list" Fields Path KEYS, ["/data", "/data/keys"],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).list(i.text);
        "Kv.change" Status Path (204, ""), [],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2)
                .change(Change::Delete, i.text, &[1, 2]);
        "Kv.metadata" Fields Path METADATA, ["/data", "/data/current_version"],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).metadata(i.text);
        "Kv.forget" Status Path (204, ""), [],
            |c, i| secrets_of(c).kv_of("secret", KvVersion::V2).forget(i.text);
        "Leases.renew" Fields Elsewhere RENEWED, ["/lease_id"],
            |c, i| secrets_of(c).leases().renew(&lease(i.text), Some(Duration::from_secs(60)));
        "Leases.revoke" Status Elsewhere (204, ""), [],
            |c, i| secrets_of(c).leases().revoke(&lease(i.text));
        "Leases.look_up" Fields Elsewhere (200, r#"{"data":{"ttl":60,"renewable":true}}"#),
            ["/data", "/data/ttl"], |c, i| secrets_of(c).leases().look_up(&lease(i.text));
    }
}

/// A session that never ends.
struct Purse;

impl Wallet for Purse {
    fn token(&self) -> Option<Secret> {
        Secret::new(TOKEN)
    }

    fn keep(&self, _: Secret, _: Duration) {}
}

fn vault_of<C: Waits>(caller: &C) -> OriginVault<C> {
    let factor = Secret::new(TOKEN).unwrap();
    let factors = [("token".to_owned(), factor)].into();
    let credentials = Credentials { user_id: "u".to_owned(), factors };
    OriginVault::new(caller.clone(), credentials, Box::new(Purse))
}

pub(super) fn origin_vault<C: Waits>() -> Vec<Operation<C>> {
    operations! { "origin-vault";
        "OriginVault.list" Fields Elsewhere (200, r#"{"secrets":["a"],"count":1}"#), ["/secrets"],
            |c, i| vault_of(c).list(i.text);
        "OriginVault.get" Fields Path (200, r#"{"key":"k","value":"v"}"#), ["/key", "/value"],
            |c, i| vault_of(c).get(i.text);
        "OriginVault.put" Status Path (200, r#"{"key":"k","status":"success"}"#), [],
            |c, i| vault_of(c).put(i.text, "v");
        "OriginVault.delete" Status Path (200, r#"{"key":"k","status":"deleted"}"#), [],
            |c, i| vault_of(c).delete(i.text);
        "OriginVault.sync_kubernetes" Status Elsewhere (200, "{}"), [],
            |c, i| vault_of(c).sync_kubernetes(None, Some(i.text));
        "OriginVault.killswitch" Fields Nowhere (200, r#"{"active":true,"timestamp":"t"}"#),
            ["/active"], |c, _| vault_of(c).killswitch();
        "OriginVault.activate_killswitch" Status Nowhere (200, r#"{"status":"activated"}"#), [],
            |c, _| vault_of(c).activate_killswitch();
        "OriginVault.deactivate_killswitch" Status Elsewhere (200, "{}"), [],
            |c, i| vault_of(c).deactivate_killswitch(
                &Secret::new(i.text).unwrap_or_else(|| Secret::new("key").unwrap()));
    }
}
