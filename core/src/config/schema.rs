//! The JSON schema of `origin.toml`, for editors and for checks before a roll-out. Derived from the
//! configuration types themselves, so that a field cannot be missing in it; here is only how the
//! forms are described that serde cannot see: spans as texts, and numbers that can be `"off"`.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Config, PRESETS};

impl Config {
    /// The JSON schema (draft 2020-12) of an `origin.toml`, with the documentation and the default
    /// of every field. What it accepts can still be refused by [`Config::check`]: bounds, and what
    /// is contradictory, are not in it.
    #[must_use]
    pub fn schema() -> Value {
        let mut schema = schemars::schema_for!(Config).to_value();
        // Not a field: `from_toml` takes it out before serde sees it.
        let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        if let Some(Value::Object(fields)) = schema.pointer_mut("/$defs/Policy/properties") {
            let preset = json_schema!({
                "description": "The preset that what is written here is laid on.",
                "enum": names,
            });
            fields.insert("preset".to_owned(), preset.to_value());
        }
        schema
    }
}

/// A span of time as text.
pub(super) struct Span;

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A span of time: 250ms, 1m30s, 2h. Units: ns, us, ms, s, m, h, d.",
            "pattern": "^([0-9]+(ns|us|µs|ms|s|m|h|d))+$",
        })
    }
}

/// A value, or the word `"off"`.
pub(super) struct OrOff<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_off", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [value, { "const": "off" }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of a configuration as it is serialised stands in the schema.
    fn covered(schema: &Value, at: &Value, value: &Value, path: &str) {
        let at = match at.get("$ref").and_then(Value::as_str) {
            Some(to) => schema.pointer(to.trim_start_matches('#')).expect(path),
            None => at,
        };
        let Value::Object(fields) = value else { return };
        let Some(known) = at.get("properties") else { return };
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            let field = known.get(name).unwrap_or_else(|| panic!("{path} is not in the schema"));
            assert!(field.get("description").is_some(), "{path} says nothing of itself");
            covered(schema, field, value, &path);
        }
    }

    #[test]
    fn every_field_is_there_with_its_words_and_default() {
        let schema = Config::schema();
        let whole = serde_json::to_value(Config::default()).unwrap();
        covered(&schema, &schema, &whole, "");
        let text = schema.to_string();
        assert!(!text.contains("secs"), "a span is a text");
        let breaker = schema.pointer("/$defs/BreakerConfig/properties").unwrap();
        assert!(breaker["open_max"]["default"].is_string(), "{breaker}");
        assert_eq!(schema["additionalProperties"], false);
        let preset = schema.pointer("/$defs/Policy/properties/preset/enum").unwrap();
        assert_eq!(preset.as_array().unwrap().len(), PRESETS.len());
    }
}
