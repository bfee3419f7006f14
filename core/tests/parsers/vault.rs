//! Replies of Vault, and of the other Origin vault. Every reply is given to every parser of its
//! part of the API, as a success and as failures: a proxy may answer anything to anything.

use std::fmt::Debug;

use origin_core::config::KvVersion;
use origin_core::ops::origin_vault::{self, Entry, KillSwitch};
use origin_core::vault::{
    Settings, VaultError, auth as of_auth, health as of_health, kv as of_kv, lease,
};

use super::{Verdict, in_proportion, judged};

/// Successes, those that some parsers know, and failures.
const STATUSES: [u16; 9] = [200, 204, 307, 400, 403, 404, 429, 500, 503];

/// Whether `parse` reads it as a success; as other statuses it only must not panic.
fn tried<T: Debug + PartialEq>(
    bytes: &[u8],
    parse: impl Fn(&Settings, u16, &[u8]) -> Result<T, VaultError>,
) -> Verdict {
    let settings = Settings::default();
    for status in STATUSES {
        let read = parse(&settings, status, bytes);
        let _ = judged(&read, bytes);
        if let Ok(read) = &read {
            in_proportion(format!("{read:?}").len(), bytes);
            assert_eq!(parse(&settings, status, bytes).as_ref(), Ok(read));
        }
    }
    judged(&parse(&settings, 200, bytes), bytes)
}

/// `Ok` if any of them read it.
fn any(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
    verdicts.iter().find(|verdict| verdict.is_ok()).unwrap_or(&verdicts[0]).clone()
}

pub(super) fn auth(_: &str, bytes: &[u8]) -> Verdict {
    any([
        tried(bytes, of_auth::parse_login),
        tried(bytes, of_auth::parse_renew),
        tried(bytes, of_auth::parse_own),
        tried(bytes, lease::parse_renew),
        tried(bytes, lease::parse_look_up),
    ])
}

pub(super) fn kv(_: &str, bytes: &[u8]) -> Verdict {
    any([
        tried(bytes, |s, status, body| of_kv::parse_read(s, KvVersion::V1, status, body)),
        tried(bytes, |s, status, body| of_kv::parse_read(s, KvVersion::V2, status, body)),
        tried(bytes, |s, status, body| of_kv::parse_write(s, KvVersion::V2, status, body)),
        tried(bytes, of_kv::parse_list).and_then(|()| match bytes.is_empty() {
            true => Err(String::new()),
            false => Ok(()),
        }),
        tried(bytes, of_kv::parse_metadata),
    ])
}

pub(super) fn health(_: &str, bytes: &[u8]) -> Verdict {
    any([tried(bytes, of_health::parse_health), tried(bytes, of_health::parse_seal)])
}

/// Whatever it is, it has a type and repeats nothing.
pub(super) fn error(_: &str, bytes: &[u8]) -> Verdict {
    for status in [200, 307, 400, 403, 404, 412, 429, 472, 473, 500, 501, 503] {
        let error = VaultError::of(status, bytes);
        let _ = judged(&Err::<(), _>(error), bytes);
    }
    Ok(())
}

/// The session, an entry and the kill switch.
pub(super) fn origin(_: &str, bytes: &[u8]) -> Verdict {
    let session = judged(&origin_vault::parse_session(bytes), bytes);
    let plain = |read: bool| if read { Ok(()) } else { Err("it is none".to_owned()) };
    any([
        session,
        plain(serde_json::from_slice::<Entry>(bytes).is_ok()),
        plain(serde_json::from_slice::<KillSwitch>(bytes).is_ok()),
    ])
}
