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
    use serde_json::json;

    use super::*;

    /// From a value to one in it.
    #[derive(Clone, Debug)]
    enum Step {
        Field(String),
        Entry,
        Item,
    }

    /// The fields that reading a configuration knows at this place, in its own words: what it says
    /// of one that it does not know.
    fn read_at(path: &[Step]) -> Option<Vec<String>> {
        let probe = path.iter().rev().fold(json!({"none such": 0}), |inner, step| match step {
            Step::Field(name) => json!({ name: inner }),
            Step::Entry => json!({ "any": inner }),
            Step::Item => json!([inner]),
        });
        let refusal = serde_json::from_value::<Config>(probe).unwrap_err().to_string();
        let (_, known) = refusal.split_once("unknown field `none such`, expected ")?;
        Some(known.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    }

    /// What the schema says of a value, in each of its forms.
    fn forms<'s>(schema: &'s Value, at: &'s Value) -> Vec<&'s Value> {
        if let Some(to) = at.get("$ref").and_then(Value::as_str) {
            return forms(schema, schema.pointer(to.trim_start_matches('#')).expect(to));
        }
        let several = ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| at.get(key)?.as_array());
        let several = several.flatten().flat_map(|one| forms(schema, one));
        std::iter::once(at).chain(several).collect()
    }

    /// Compares what is read with what the schema says, from here on; how many fields there are.
    fn compared(schema: &Value, at: &Value, path: &mut Vec<Step>) -> usize {
        let forms = forms(schema, at);
        let Some(read) = read_at(path) else {
            // Perhaps what is in it.
            let inner = [(Step::Entry, "additionalProperties"), (Step::Item, "items")];
            let within = |(step, key): (Step, &str), path: &mut Vec<Step>| {
                let one = forms.iter().find_map(|form| form.get(key).filter(|one| one.is_object()));
                path.push(step);
                let count = match (one, read_at(path)) {
                    (Some(one), _) => compared(schema, one, path),
                    (None, read) => {
                        assert!(read.is_none(), "{path:?} is read, and not in the schema");
                        0
                    }
                };
                path.pop();
                count
            };
            return match path.last() {
                Some(Step::Field(_)) => inner.into_iter().map(|one| within(one, path)).sum(),
                _ => 0,
            };
        };
        let tables: Vec<_> = forms.iter().filter_map(|form| form.get("properties")).collect();
        let [Value::Object(known)] = tables[..] else { panic!("{path:?}: {forms:?}") };
        let mut names: Vec<&str> =
            known.keys().map(String::as_str).filter(|name| *name != "preset").collect();
        let mut fields: Vec<&str> = read.iter().map(String::as_str).collect();
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields, "{path:?}");
        let mut count = 0;
        for name in &read {
            path.push(Step::Field(name.clone()));
            let field = &known[name];
            assert!(field.get("description").is_some(), "{path:?} says nothing of itself");
            count += 1 + compared(schema, field, path);
            path.pop();
        }
        count
    }

    #[test]
    fn the_schema_has_the_fields_that_are_read_and_no_others() {
        let schema = Config::schema();
        let fields = compared(&schema, &schema, &mut Vec::new());
        // Of the client, and again of its profiles, its services and their profiles.
        let policy = compared_policy(&schema);
        assert!(policy > 90 && fields > 4 * policy + 80, "{fields} fields, {policy} of a policy");
    }

    fn compared_policy(schema: &Value) -> usize {
        let policy = schema.pointer("/properties/policy").unwrap();
        compared(schema, policy, &mut vec![Step::Field("policy".to_owned())])
    }

    #[test]
    fn spans_and_presets_are_described() {
        let schema = Config::schema();
        let text = schema.to_string();
        assert!(!text.contains("secs"), "a span is a text");
        let breaker = schema.pointer("/$defs/BreakerConfig/properties").unwrap();
        assert!(breaker["open_max"]["default"].is_string(), "{breaker}");
        assert_eq!(schema["additionalProperties"], false);
        let preset = schema.pointer("/$defs/Policy/properties/preset/enum").unwrap();
        assert_eq!(preset.as_array().unwrap().len(), PRESETS.len());
    }
}
