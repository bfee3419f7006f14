//! A path with places for arguments: `/users/{id}/roles`. Arguments are percent-encoded as one
//! segment, whatever is in them.

use crate::ops::segment;

/// Fills the places of `path`, or says which one has no argument.
pub(super) fn fill(path: &str, arguments: &[(&'static str, String)]) -> Result<String, String> {
    let mut text = String::with_capacity(path.len() + 16);
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((name, after)) = behind.split_once('}') else {
            return Err(format!("the path {path:?} has a '{{' without its '}}'"));
        };
        let Some((_, value)) = arguments.iter().find(|(known, _)| *known == name) else {
            return Err(format!("the path {path:?} has a place {name:?}, which was not given"));
        };
        if value.is_empty() {
            return Err(format!("{name} must not be empty"));
        }
        text.push_str(before);
        text.push_str(&segment(value));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_filled_or_named() {
        let two = [("id", "7".to_owned()), ("role", "a/b ü".to_owned())];
        assert_eq!(
            fill("/users/{id}/roles/{role}", &two).unwrap(),
            "/users/7/roles/a%2Fb%20%C3%BC"
        );
        assert_eq!(fill("/plain", &two).unwrap(), "/plain");
        for (path, named) in [("/x/{other}", "\"other\""), ("/x/{id", "without its")] {
            let error = fill(path, &two).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        assert_eq!(fill("/x/{id}", &[("id", String::new())]).unwrap_err(), "id must not be empty");
    }

    proptest! {
        #[test]
        fn an_argument_stays_in_its_segment(value in "\\PC{1,40}") {
            let filled = fill("/a/{x}/b", &[("x", value.clone())]).unwrap();
            let parts: Vec<&str> = filled.split('/').collect();
            prop_assert_eq!(parts.len(), 4, "{}", filled);
            prop_assert!(parts[2] != "." && parts[2] != "..");
            let back = percent_encoding::percent_decode_str(parts[2]).decode_utf8().unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
