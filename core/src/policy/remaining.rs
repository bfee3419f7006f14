//! The remaining deadline, told to the endpoint and read from a caller.
//!
//! A server that does not know its caller's deadline works on answers that nobody waits for, most
//! of all when it is overloaded. What is told is what this attempt has: the attempt timeout, or
//! what is left of the call if that is less, so it shrinks from attempt to attempt. (Envoy once
//! told the configured timeout every time, envoy#13196; with 250 ms in all and 100 ms per attempt
//! the third attempt has 50 ms.) gRPC and Envoy each have a header; others get one in
//! milliseconds under a name of their choice. All are rounded down, because a server that stops a
//! little early wastes nothing; only what would become 0 is sent as 1, because 0 means "no limit"
//! to Envoy.
//!
//! Reading is opt-in, as Envoy's `respect_expected_rq_timeout` is, and capped. Both are off by
//! default.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::At;
use crate::config::{ConfigError, DeadlineHeader, PropagateConfig, TraceRule};
use crate::time::nanos;
use crate::told::Usual;

/// The forms of a deadline on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `grpc-timeout`.
    Grpc,
    /// `x-envoy-expected-rq-timeout-ms`, where 0 is "no limit".
    Envoy,
    /// Whole milliseconds.
    Millis,
}

/// The compiled [`PropagateConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Form and lower-case name of the deadline header.
    deadline: Option<(Form, Box<str>)>,
    attempt: Option<Box<str>>,
    correlation: Option<Box<str>>,
    request: Option<Box<str>>,
    #[serde(default)]
    trace: TraceRule,
    accept: bool,
    accept_max: Duration,
    #[serde(skip)]
    usual: Usual,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// A name that is no header name, one name for two things, or a cap of zero or above 7 days.
    pub fn of(config: &PropagateConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let custom = match &config.header {
            DeadlineHeader::Custom(name) => Some(name),
            _ => None,
        };
        let named = |name| Some(name).filter(|name: &&String| !name.is_empty());
        let mut before: Vec<(String, &str)> = Vec::new();
        for (field, name) in [
            ("header", custom),
            ("attempt_header", config.attempt_header.as_ref()),
            ("correlation_header", named(&config.correlation_header)),
            ("request_header", named(&config.request_header)),
        ] {
            let Some(name) = name else { continue };
            at.header(field, name)?;
            let name = name.to_ascii_lowercase();
            if let Some((_, other)) = before.iter().find(|(known, _)| *known == name) {
                return Err(at.refuse(field, format!("{name} is what {other} names")));
            }
            before.push((name, field));
        }
        at.span("accept_max", config.accept_max)?;
        if config.accept && config.header == DeadlineHeader::Off {
            return Err(at.refuse("accept", "which header is accepted? header is off"));
        }
        Ok(Settings::compile(config))
    }

    fn compile(config: &PropagateConfig) -> Settings {
        let deadline = match &config.header {
            DeadlineHeader::Off => None,
            DeadlineHeader::GrpcTimeout => Some((Form::Grpc, "grpc-timeout".into())),
            DeadlineHeader::Envoy => Some((Form::Envoy, "x-envoy-expected-rq-timeout-ms".into())),
            DeadlineHeader::Custom(name) => Some((Form::Millis, name.to_ascii_lowercase().into())),
        };
        let attempt = config.attempt_header.as_ref().map(|name| name.to_ascii_lowercase().into());
        let named = |name: &String| {
            Some(name).filter(|name| !name.is_empty()).map(|name| name.to_ascii_lowercase().into())
        };
        Settings {
            deadline,
            attempt,
            correlation: named(&config.correlation_header),
            request: named(&config.request_header),
            trace: config.trace,
            accept: config.accept,
            accept_max: config.accept_max,
            usual: Usual::of(&config.correlation_header, &config.request_header),
        }
    }

    /// Form and name of the deadline header, if the remaining time is told.
    #[must_use]
    pub fn deadline_header(&self) -> Option<(Form, &str)> {
        self.deadline.as_ref().map(|(form, name)| (*form, &**name))
    }

    /// Name of the attempt header, if the number is told.
    #[must_use]
    pub fn attempt_header(&self) -> Option<&str> {
        self.attempt.as_deref()
    }

    /// Names of the headers for the ids of what a call belongs to, and of the call itself.
    #[must_use]
    pub fn id_headers(&self) -> (Option<&str>, Option<&str>) {
        (self.correlation.as_deref(), self.request.as_deref())
    }

    /// A map with the names of what every attempt is told.
    pub(crate) fn usual(&self) -> &Usual {
        &self.usual
    }

    /// Whether attempts say to which trace they belong.
    #[must_use]
    pub const fn trace(&self) -> TraceRule {
        self.trace
    }

    /// What a received value of the deadline header is worth: the span a caller has left, capped.
    /// `None` where deadlines are not accepted and for anything unreadable.
    #[must_use]
    pub fn accepted(&self, value: &[u8]) -> Option<Duration> {
        let (form, _) = self.deadline.as_ref()?;
        if !self.accept {
            return None;
        }
        form.parse(value).map(|span| span.min(self.accept_max))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&PropagateConfig::default())
    }
}

/// How long an attempt may take: `per_attempt`, or what remains of the call. `None` when that is
/// less than `floor` or nothing, and the attempt should not be started.
///
/// ```
/// use std::time::Duration;
/// use origin_core::policy::remaining::{Form, limit};
///
/// let ms = Duration::from_millis;
/// // 250 ms in all, 100 ms per attempt; two attempts took their 100 ms.
/// let third = limit(ms(100), ms(50), ms(1)).unwrap();
/// assert_eq!(Form::Envoy.text(third).unwrap().as_str(), "50");
/// assert_eq!(Form::Grpc.text(third).unwrap().as_str(), "50000000n");
/// assert_eq!(limit(ms(100), ms(0), ms(1)), None);
/// ```
#[must_use]
pub fn limit(per_attempt: Duration, remaining: Duration, floor: Duration) -> Option<Duration> {
    let limit = per_attempt.min(remaining);
    (!limit.is_zero() && limit >= floor).then_some(limit)
}

/// A header value of at most 20 characters, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text {
    bytes: [u8; 20],
    start: u8,
}

impl Text {
    /// `number` in decimal, with `unit` behind it.
    #[allow(clippy::cast_possible_truncation)] // a digit
    fn of(mut number: u64, unit: Option<u8>) -> Text {
        let mut text = Text { bytes: [b'0'; 20], start: 20 };
        let mut put = |byte: u8| {
            text.start = text.start.saturating_sub(1);
            text.bytes[usize::from(text.start)] = byte;
        };
        unit.into_iter().for_each(&mut put);
        loop {
            put(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                return text;
            }
        }
    }

    /// The number of an attempt.
    #[must_use]
    pub fn attempt(number: u32) -> Text {
        Text::of(u64::from(number), None)
    }

    /// The value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or(&[])
    }

    /// The value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The units of `grpc-timeout`, finest first, in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];
/// The most that eight digits can say.
const EIGHT_DIGITS: u64 = 99_999_999;

impl Form {
    /// The value that tells `span`, rounded down but not to 0; `None` for a span of zero, which
    /// no attempt is started with.
    ///
    /// `grpc-timeout` uses the finest unit that eight digits suffice for, so it loses less than
    /// a ten-millionth, or with minutes and hours (spans of three years and more) one unit.
    #[must_use]
    pub fn text(self, span: Duration) -> Option<Text> {
        let span = nanos(span);
        if span == 0 {
            return None;
        }
        if self == Form::Grpc {
            let fits = UNITS.iter().find(|(_, scale)| span / scale <= EIGHT_DIGITS);
            // 2⁶⁴ ns are five million hours: the last unit always fits.
            let (unit, scale) = fits.unwrap_or(&UNITS[5]);
            return Some(Text::of(span / scale, Some(*unit)));
        }
        Some(Text::of((span / 1_000_000).max(1), None))
    }

    /// The span that a value tells. `None` for anything unreadable, and for Envoy's 0, which is
    /// no limit. Any other 0 is a deadline that has passed.
    #[must_use]
    pub fn parse(self, value: &[u8]) -> Option<Duration> {
        let (digits, scale) = match self {
            Form::Grpc => {
                let (unit, digits) = value.split_last()?;
                let (_, scale) = UNITS.iter().find(|(name, _)| name == unit)?;
                (digits, *scale)
            }
            Form::Envoy | Form::Millis => (value, 1_000_000),
        };
        let most = if self == Form::Grpc { 8 } else { 20 };
        if digits.is_empty() || digits.len() > most || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0_u64, |number, digit| {
            number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        });
        if number == 0 && self == Form::Envoy {
            return None;
        }
        Some(Duration::from_nanos(number.saturating_mul(scale)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Anchors b.14, envoy#13196: 250 ms in all, 100 ms per attempt, two retries.
    #[test]
    fn the_deadline_told_shrinks_with_each_attempt() {
        let mut remaining = MS(250);
        let mut told = vec![];
        while let Some(limit) = limit(MS(100), remaining, MS(1)) {
            told.push(Form::Envoy.text(limit).unwrap().to_string());
            remaining -= limit; // every attempt times out
        }
        assert_eq!(told, ["100", "100", "50"]);
        assert_eq!(limit(MS(100), MS(9), MS(10)), None, "below the floor");
        assert_eq!(limit(MS(100), MS(10), MS(10)), Some(MS(10)));
        assert_eq!(limit(MS(100), Duration::ZERO, Duration::ZERO), None);
    }

    #[test]
    fn texts() {
        let grpc = |nanos| Form::Grpc.text(Duration::from_nanos(nanos)).unwrap().to_string();
        assert_eq!(grpc(1), "1n");
        assert_eq!(grpc(99_999_999), "99999999n");
        assert_eq!(grpc(100_000_999), "100000u");
        assert_eq!(grpc(250_000_000), "250000u");
        assert_eq!(grpc(30_000_000_000), "30000000u");
        assert_eq!(grpc(100_000_000_000), "100000m");
        assert_eq!(grpc(86_400_000_000_000), "86400000m");
        assert_eq!(grpc(604_800_000_000_000), "604800S");
        assert_eq!(grpc(u64::MAX), "5124095H");
        let envoy = |nanos| Form::Envoy.text(Duration::from_nanos(nanos)).unwrap().to_string();
        assert_eq!(envoy(999_999), "1", "0 would be no limit");
        assert_eq!(envoy(1_999_999), "1");
        assert_eq!(envoy(u64::MAX), "18446744073709");
        for form in [Form::Grpc, Form::Envoy, Form::Millis] {
            assert_eq!(form.text(Duration::ZERO), None);
        }
        assert_eq!(Text::attempt(u32::MAX).as_str(), "4294967295");
        assert_eq!(Text::of(u64::MAX, None).as_str(), "18446744073709551615");
        assert!(size_of::<Text>() <= 24);
    }

    #[test]
    fn hostile_values_are_refused_or_bounded() {
        for bad in
            ["", "n", "1", "1s", "-1n", "+1n", " 1n", "1 n", "1.5S", "123456789n", "1nn", "١n"]
        {
            assert_eq!(Form::Grpc.parse(bad.as_bytes()), None, "{bad:?}");
        }
        for bad in ["", "-1", "+1", "1.5", " 1", "1ms", "0x1", "111111111111111111111"] {
            assert_eq!(Form::Envoy.parse(bad.as_bytes()), None, "{bad:?}");
            assert_eq!(Form::Millis.parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Form::Grpc.parse(b"0n"), Some(Duration::ZERO));
        assert_eq!(Form::Millis.parse(b"0"), Some(Duration::ZERO));
        assert_eq!(Form::Envoy.parse(b"0"), None);
        assert_eq!(Form::Grpc.parse(b"99999999H"), Some(Duration::from_nanos(u64::MAX)));
        assert_eq!(
            Form::Millis.parse(b"99999999999999999999"),
            Some(Duration::from_nanos(u64::MAX))
        );
    }

    #[test]
    fn reading_is_opt_in_and_capped() {
        let mut config =
            PropagateConfig { header: DeadlineHeader::Envoy, ..PropagateConfig::default() };
        let settings = |config: &PropagateConfig| Settings::of(config, "p").unwrap();
        assert_eq!(settings(&config).accepted(b"100"), None);
        config.accept = true;
        assert_eq!(settings(&config).accepted(b"100"), Some(MS(100)));
        assert_eq!(settings(&config).accepted(b"99999999999"), Some(Duration::from_secs(3600)));
        assert_eq!(settings(&config).accepted(b"soon"), None);
        assert_eq!(Settings::default().accepted(b"1"), None);
    }

    #[test]
    fn case_x_09_names_and_caps_are_checked() {
        let field = |change: &dyn Fn(&mut PropagateConfig)| {
            let mut config = PropagateConfig::default();
            change(&mut config);
            let _ = Settings::compile(&config); // total
            Settings::of(&config, "p").err().map(|e| e.field)
        };
        let refused = |name: &str| Some(format!("p.{name}"));
        let custom = |name: &str| DeadlineHeader::Custom(name.to_owned());
        for name in ["", "a b", "x:y", "\n"] {
            assert_eq!(field(&|c| c.header = custom(name)), refused("header"), "{name:?}");
            assert_eq!(field(&|c| c.attempt_header = Some(name.into())), refused("attempt_header"));
        }
        for span in [Duration::ZERO, Duration::MAX] {
            assert_eq!(field(&|c| c.accept_max = span), refused("accept_max"));
        }
        assert_eq!(field(&|c| c.accept = true), refused("accept"));
        let twice = |c: &mut PropagateConfig| {
            (c.header, c.attempt_header) = (custom("X-Left"), Some("x-left".into()));
        };
        assert_eq!(field(&twice), refused("attempt_header"));
        let named = PropagateConfig {
            header: custom("X-Deadline-Ms"),
            attempt_header: Some("X-Envoy-Attempt-Count".into()),
            ..PropagateConfig::default()
        };
        let named = Settings::of(&named, "p").unwrap();
        assert_eq!(named.deadline_header(), Some((Form::Millis, "x-deadline-ms")));
        assert_eq!(named.attempt_header(), Some("x-envoy-attempt-count"));
        assert_eq!(Settings::of(&PropagateConfig::default(), "p"), Ok(Settings::default()));
    }

    proptest! {
        /// What is read back is at most what was meant, and not much less.
        #[test]
        fn told_and_read_rounds_down(span in prop_oneof![1_u64..1 << 40, 1_u64..]) {
            let meant = Duration::from_nanos(span);
            let grpc = Form::Grpc.text(meant).unwrap();
            prop_assert!(grpc.as_bytes().len() <= 9);
            let read = nanos(Form::Grpc.parse(grpc.as_bytes()).unwrap());
            prop_assert!(read <= span && read > 0);
            let unit = UNITS.iter().find(|(name, _)| grpc.as_bytes().ends_with(&[*name])).unwrap().1;
            prop_assert!(span - read < unit);
            prop_assert!(unit == 1 || unit >= 60_000_000_000 || span / unit >= 99_999);
            for form in [Form::Envoy, Form::Millis] {
                let read = nanos(form.parse(form.text(meant).unwrap().as_bytes()).unwrap());
                prop_assert!(read == span.max(1_000_000) / 1_000_000 * 1_000_000);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for form in [Form::Grpc, Form::Envoy, Form::Millis] {
                let _ = form.parse(&bytes);
            }
        }
    }
}
