//! Durations on the command line: `250ms`, `1m30s`, or whole seconds.

use std::time::Duration;

use origin_blocking::core::time::parse_duration;

/// Reads a duration longer than zero.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let span = if bare { parse_duration(&format!("{text}s")) } else { parse_duration(text) };
    match span {
        Ok(span) if span.is_zero() => Err("it must be longer than zero".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_need_no_unit() {
        assert_eq!(parse("20"), Ok(Duration::from_secs(20)));
        assert_eq!(parse("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse("1m5s"), Ok(Duration::from_secs(65)));
        for wrong in ["", "0", "0ms", "-1", "1.5", "soon", "99999999999999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
