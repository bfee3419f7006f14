//! Replies of the services of DesignSynapse.

use std::fmt::Debug;

use origin_core::Secret;
use origin_core::ops::design::{
    Citation, Comment, Design, DesignComment, DesignFile, Found, Optimization, Project, Resource,
    Resources, Role, Session, Task, User, Validation,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Verdict;

/// Reads it as a `T`, and what that is written as once more.
fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return false };
    let written = serde_json::to_vec(&value).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), value);
    true
}

/// Something of all that they send.
pub(super) fn any_reply(_: &str, bytes: &[u8]) -> Verdict {
    let session = serde_json::from_slice::<Session>(bytes);
    if let Ok(session) = &session {
        // Whatever the tokens are, and whatever else says the same: what is printed does not change.
        let mut other = session.clone();
        other.access_token = Secret::new("another").unwrap();
        other.refresh_token = session.refresh_token.as_ref().map(|_| other.access_token.clone());
        assert_eq!(format!("{session:?}"), format!("{other:?}"), "a session prints a token");
    }
    let known = [
        session.is_ok(),
        read::<User>(bytes),
        read::<Vec<Role>>(bytes),
        read::<Project>(bytes),
        read::<Vec<Project>>(bytes),
        read::<Comment>(bytes),
        read::<Resource>(bytes),
        read::<Resources>(bytes),
        read::<Found>(bytes),
        read::<Citation>(bytes),
        read::<Design>(bytes),
        read::<DesignComment>(bytes),
        read::<DesignFile>(bytes),
        read::<Validation>(bytes),
        read::<Optimization>(bytes),
        read::<Task>(bytes),
    ];
    if known.contains(&true) { Ok(()) } else { Err("it is none of them".to_owned()) }
}
