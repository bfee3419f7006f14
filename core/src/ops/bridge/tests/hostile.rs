//! Answers that nobody should give.

use super::*;

/// What an operation makes of an answer that comes in any state.
fn any<T: Data>(body: &[u8]) -> Option<T> {
    let words = [Word::Success, Word::Partial];
    let read = read::<T>(body, &words).ok()?;
    assert!(words.contains(&read.1));
    Some(read.0)
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_and_nothing_else(body: Vec<u8>) {
        let _ = (any::<Hash>(&body), any::<Stamp>(&body), any::<Validation>(&body));
        let _ = (any::<Batch>(&body), any::<Intelligence>(&body), any::<Knowledge>(&body));
        let _ = (any::<Seen>(&body), any::<Anything>(&body), Health::read(&body));
        let _ = Problem::all(&Said::of(&Bytes::from(body)));
    }

    #[test]
    fn what_is_read_is_never_half_filled(
        names in prop::collection::vec(
            prop::sample::select(vec!["hash", "file_hash", "stamps_found", "is_valid", "total",
                "successful_items", "failed", "results", "nodes", "intelligence", "patterns",
                "validation_result", "stamp_id", "version", "metadata"]), 0..8),
        values in prop::collection::vec(prop::sample::select(vec![
            json!(null), json!(1), json!(-1), json!(1.5), json!(""), json!("x"), json!(true),
            json!([]), json!([1]), json!({}), json!(["p"])]), 8),
    ) {
        let data: serde_json::Map<String, Value> =
            names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value)).collect();
        let text = success(&Value::Object(data.clone()));
        let body = text.as_bytes();
        let has = |name: &str, is: fn(&Value) -> bool| data.get(name).is_some_and(is);
        let name = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        if let Some(hash) = any::<Hash>(body) {
            prop_assert!(!hash.hash.is_empty());
            prop_assert!(has("hash", name) || has("file_hash", name));
        }
        if let Some(stamp) = any::<Stamp>(body) {
            prop_assert!(!stamp.file_hash.is_empty());
        }
        if any::<Validation>(body).is_some() {
            prop_assert!(has("stamps_found", Value::is_u64));
            prop_assert!(has("validation_result", Value::is_boolean) || has("is_valid", Value::is_boolean));
        }
        if any::<Batch>(body).is_some() {
            prop_assert!(has("total", Value::is_u64) && has("failed", Value::is_u64));
        }
        prop_assert!(any::<Knowledge>(body).is_none() || data.contains_key("results"));
        prop_assert!(any::<Seen>(body).is_none() || data.contains_key("nodes"));
        prop_assert!(any::<Intelligence>(body).is_none() || data.contains_key("intelligence"));
        // An array is no object, though it has as many parts.
        let listed = json!({"status": "success", "data": data.values().collect::<Vec<_>>()});
        prop_assert!(any::<Hash>(listed.to_string().as_bytes()).is_none());
    }
}

#[test]
fn seeds_of_the_fuzzer_are_read_without_harm() {
    // Deep nesting and an envelope around an envelope.
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(any::<Hash>(deep.as_bytes()).is_none());
    let wrapped = json!({"detail": {"status": "success", "data": {"hash": HEX}}});
    assert_eq!(any::<Hash>(wrapped.to_string().as_bytes()).unwrap().hash, HEX);
    let twice = json!({"detail": {"detail": {"status": "success", "data": {"hash": HEX}}}});
    assert!(any::<Hash>(twice.to_string().as_bytes()).is_none());
}
