//! When a token ends, if it says so: the claim `exp` of a JWT (RFC 7519 §4.1.4). Nothing is
//! verified here. That is for whoever is shown the token; this is only for reading its successor
//! in time and for not sending one that is of no use.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::time::Wall;

/// The end of `token`; `None` when it is no JWT, or one without an end.
#[must_use]
pub fn end(token: &str) -> Option<Wall> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None; // encrypted, if anything
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&claims).ok()?;
    let Some(Value::Number(exp)) = claims.get("exp") else { return None };
    if let Some(seconds) = exp.as_u64() {
        return Some(Wall(seconds));
    }
    // `NumericDate` may have a fraction, which is cut off.
    let text = exp.to_string();
    let (seconds, fraction) = text.split_once('.')?;
    let plain = fraction.bytes().all(|c| c.is_ascii_digit());
    seconds.parse().ok().filter(|_| plain).map(Wall)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn case_000_21_a_jwt_says_when_it_ends() {
        assert_eq!(end(&jwt(r#"{"exp":1800000000,"sub":"a"}"#)), Some(Wall(1_800_000_000)));
        assert_eq!(end(&jwt(r#"{"sub":"a","exp":1800000000.75}"#)), Some(Wall(1_800_000_000)));
        for none in [
            "",
            "opaque",
            "a.b",
            "a.b.c",
            "a.b.c.d",
            "a.b.c.d.e",
            &jwt("{}"),
            &jwt(r#"{"exp":-1}"#),
            &jwt(r#"{"exp":1e300}"#),
            &jwt(r#"{"exp":"1800000000"}"#),
            &jwt(r#"[1]"#),
            &format!("{}.x", jwt(r#"{"exp":1}"#)),
        ] {
            assert_eq!(end(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: String, claims: String) {
            let _ = (end(&text), end(&jwt(&claims)));
        }
    }
}
