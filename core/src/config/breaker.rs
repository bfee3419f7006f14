//! The breaker as a person writes it. What each condition means to the machine, and which system
//! it follows, is in [`crate::policy::breaker`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether a breaker acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decides and refuses.
    #[default]
    Enforce,
    /// Decides and reports, marked as shadow, but refuses nothing: to see what a configuration
    /// would do before it does it.
    Shadow,
    /// Decides nothing and counts nothing.
    Disabled,
}

/// What ends half-open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HalfOpenBy {
    /// `half_open_successes` close it, `half_open_failures` open it again, whichever is first.
    #[default]
    Counts,
    /// `half_open_permits` attempts in all; when their results (or `minimum_calls` of them, if
    /// that is fewer) are in, `failure_rate` and `slow_rate` decide on those alone.
    Rates,
}

/// One breaker per endpoint. It opens when any of its conditions holds; each can be `"off"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// `"enforce"` (default), `"shadow"` or `"disabled"`.
    pub mode: Mode,
    /// Consecutive failures that open it, 1–1 000 000, or `"off"`. Default 5.
    #[serde(with = "off::count")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::OrOff<u32>"))]
    pub failures: Option<u32>,
    /// Finished calls, since creation or reset, before `failures` can open it. Default 1.
    pub minimum_throughput: u32,
    /// Share of failures in a window that opens it (reached or exceeded), above 0 up to 1, kept
    /// to 10⁻⁶, or `"off"`. Default 0.5.
    #[serde(with = "off::rate")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::OrOff<f64>"))]
    pub failure_rate: Option<f64>,
    /// Share of slow calls in a window that opens it (reached or exceeded), above 0 up to 1, or
    /// `"off"`. Default `"off"`.
    #[serde(with = "off::rate")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::OrOff<f64>"))]
    pub slow_rate: Option<f64>,
    /// A call that takes this long or longer is slow, whether it succeeds or fails. Slow calls
    /// are counted also when `slow_rate` is off. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub slow_call: Duration,
    /// The rates are taken over the results of the last such span, or `"off"`. Default 10 s.
    #[serde(with = "off::span")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "crate::config::schema::OrOff<crate::config::schema::Span>")
    )]
    pub window: Option<Duration>,
    /// Parts of `window`: results leave it one part at a time. 1–100, default 10.
    pub window_buckets: u32,
    /// The rates are taken over this many last results, 1–10 000, or `"off"` (default). With
    /// `window` as well, each of the two windows can open it.
    #[serde(with = "off::count")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::OrOff<u32>"))]
    pub window_calls: Option<u32>,
    /// Results in a window before its rates are known. 1–1 000 000, default 20.
    pub minimum_calls: u32,
    /// First open interval. Doubles with every opening that follows too soon. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub open: Duration,
    /// Longest open interval, before jitter. Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub open_max: Duration,
    /// An open interval is stretched by a random share of itself up to this, 0–1. Default 0.2.
    pub jitter: f64,
    /// Each such span of being closed takes one doubling back. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub decay: Duration,
    /// Attempts let through at the same time while half-open. Default 1.
    pub half_open_permits: u32,
    /// Successes in half-open that close it. Default 1.
    pub half_open_successes: u32,
    /// Failures in half-open that open it again. Default 1: the first one does.
    pub half_open_failures: u32,
    /// What ends half-open: `"counts"` (default), the two fields above, or `"rates"`.
    pub half_open_by: HalfOpenBy,
    /// Longest time that permits may be out while half-open; then it opens again. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub half_open_max: Duration,
}

impl Default for BreakerConfig {
    /// Five failures in a row, as the contracts say, or half of at least 20 calls in ten seconds.
    ///
    /// Failures in a row are slow to see an endpoint that fails in part: one that fails every
    /// second call never has a run of two, one that fails half of them at random takes 62 calls to
    /// show a run of five.
    /// So a rate stands beside it. Linkerd opens below 80 % success, Polly at 10 % failures of
    /// 100; both turn a partial outage into a full one where every endpoint is hit alike
    /// (dotnet/extensions#7686). Below half, most calls still get through and retries mend the
    /// rest; from half on, leaving the endpoint saves more calls than it costs. Twenty calls keep
    /// chance out: an endpoint that fails one call in ten shows ten failures of twenty once in
    /// 140 000 times.
    fn default() -> Self {
        BreakerConfig {
            mode: Mode::Enforce,
            failures: Some(5),
            minimum_throughput: 1,
            failure_rate: Some(0.5),
            slow_rate: None,
            slow_call: Duration::from_secs(5),
            window: Some(Duration::from_secs(10)),
            window_buckets: 10,
            window_calls: None,
            minimum_calls: 20,
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(60),
            jitter: 0.2,
            decay: Duration::from_secs(30),
            half_open_permits: 1,
            half_open_successes: 1,
            half_open_failures: 1,
            half_open_by: HalfOpenBy::Counts,
            half_open_max: Duration::from_secs(30),
        }
    }
}

/// `Option` in the form of a file: a value, or the word `off`. A plain `Option` cannot be used,
/// because TOML has no null and a missing field is the default, which may well be a value.
mod off {
    use std::fmt;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};

    const WORD: &str = "off";

    /// What stands in the file.
    enum Raw {
        Off,
        Whole(u64),
        Number(f64),
        Text(String),
    }

    struct Reader(&'static str);

    impl Visitor<'_> for Reader {
        type Value = Raw;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} or \"off\"", self.0)
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<Raw, E> {
            Ok(Raw::Whole(value))
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<Raw, E> {
            u64::try_from(value)
                .map(Raw::Whole)
                .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
        }
        fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
            Ok(Raw::Number(value))
        }
        fn visit_str<E: Error>(self, value: &str) -> Result<Raw, E> {
            Ok(if value == WORD { Raw::Off } else { Raw::Text(value.to_owned()) })
        }
    }

    fn unfit<T, E: Error>(raw: &Raw, expected: &'static str) -> Result<T, E> {
        let found = match raw {
            Raw::Off => Unexpected::Str(WORD),
            Raw::Whole(value) => Unexpected::Unsigned(*value),
            Raw::Number(value) => Unexpected::Float(*value),
            Raw::Text(text) => Unexpected::Str(text),
        };
        Err(E::invalid_value(found, &Reader(expected)))
    }

    /// A whole number or `off`.
    pub(super) mod count {
        use super::{Deserializer, Raw, Reader, WORD, unfit};
        use serde::Serializer;

        const EXPECTED: &str = "a whole number";

        #[allow(clippy::ref_option)] // the signature serde asks for
        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<u32>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => to.serialize_u32(*value),
                None => to.serialize_str(WORD),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<u32>, D::Error> {
            match from.deserialize_any(Reader(EXPECTED))? {
                Raw::Off => Ok(None),
                Raw::Whole(value) => match u32::try_from(value) {
                    Ok(value) => Ok(Some(value)),
                    Err(_) => unfit(&Raw::Whole(value), EXPECTED),
                },
                raw => unfit(&raw, EXPECTED),
            }
        }
    }

    /// A number or `off`.
    pub(super) mod rate {
        use super::{Deserializer, Raw, Reader, WORD, unfit};
        use serde::Serializer;

        const EXPECTED: &str = "a share from 0 to 1";

        #[allow(clippy::ref_option)] // the signature serde asks for
        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<f64>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => to.serialize_f64(*value),
                None => to.serialize_str(WORD),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<f64>, D::Error> {
            match from.deserialize_any(Reader(EXPECTED))? {
                Raw::Off => Ok(None),
                Raw::Number(value) => Ok(Some(value)),
                // The range is checked with all others; here only the kind of value counts.
                Raw::Whole(value) => Ok(Some(f64::from(u32::try_from(value).unwrap_or(u32::MAX)))),
                raw => unfit(&raw, EXPECTED),
            }
        }
    }

    /// A duration or `off`.
    pub(super) mod span {
        use std::time::Duration;

        use super::{Deserializer, Error, Raw, Reader, WORD, unfit};
        use serde::Serializer;

        const EXPECTED: &str = "a duration such as \"10s\"";

        #[allow(clippy::ref_option)] // the signature serde asks for
        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<Duration>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(span) => to.collect_str(&crate::time::DurationText(*span)),
                None => to.serialize_str(WORD),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Duration>, D::Error> {
            match from.deserialize_any(Reader(EXPECTED))? {
                Raw::Off => Ok(None),
                Raw::Text(text) => {
                    crate::time::parse_duration(&text).map(Some).map_err(D::Error::custom)
                }
                raw => unfit(&raw, EXPECTED),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_a_word_and_everything_round_trips() {
        let text = r#"{"failures":"off","failure_rate":1,"slow_rate":0.25,"window":"off",
            "window_calls":100,"mode":"shadow","half_open_by":"rates"}"#;
        let config: BreakerConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.failures, config.window, config.window_calls), (None, None, Some(100)));
        assert_eq!((config.failure_rate, config.slow_rate), (Some(1.0), Some(0.25)));
        assert_eq!((config.mode, config.half_open_by), (Mode::Shadow, HalfOpenBy::Rates));
        for config in [config, BreakerConfig::default()] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<BreakerConfig>(&text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn what_is_neither_a_value_nor_off_is_refused() {
        for text in [
            r#"{"failures":-1}"#,
            r#"{"failures":4294967296}"#,
            r#"{"failures":2.5}"#,
            r#"{"failures":"5"}"#,
            r#"{"failures":"Off"}"#,
            r#"{"failures":null}"#,
            r#"{"failure_rate":"half"}"#,
            r#"{"failure_rate":-1}"#,
            r#"{"window":10}"#,
            r#"{"window":"10"}"#,
            r#"{"mode":"on"}"#,
            r#"{"enabled":false}"#,
        ] {
            assert!(serde_json::from_str::<BreakerConfig>(text).is_err(), "{text}");
        }
        let error = serde_json::from_str::<BreakerConfig>(r#"{"failures":-1}"#).unwrap_err();
        assert!(error.to_string().contains("a whole number or \"off\""), "{error}");
    }

    #[cfg(feature = "toml")]
    #[test]
    fn off_is_written_like_any_value_in_toml() {
        let text = "failures = \"off\"\nwindow_calls = 50\nfailure_rate = 1\n";
        let config: BreakerConfig = toml::from_str(text).unwrap();
        assert_eq!((config.failures, config.window_calls), (None, Some(50)));
    }
}
