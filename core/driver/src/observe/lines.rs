//! The lines of a call, word for word those of contract 002 (§6.5), and the line about a hash of
//! contract 001. Each has the ids of its call as fields. Texts only: when they are written is in
//! `sight.rs`.

use std::fmt;
use std::time::Duration;

use http::{Method, Uri};
use origin_core::call::AttemptId;
use origin_core::correlation::Correlation;
use origin_core::notice::Plain;
use origin_core::ops::Remark;
use origin_core::request::Ids;

/// Whose line it is.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) service: &'a str,
    pub(super) ids: &'a Ids,
}

impl Whose<'_> {
    fn correlation(&self) -> Option<&str> {
        self.ids.correlation.as_ref().map(Correlation::as_str)
    }
}

/// A URI as it is shown: any value of its query may be a secret, so only the names are; a query
/// without names is left out whole, and so is whoever stands before the host.
pub(super) struct Shown<'a>(pub(super) &'a Uri);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.0.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        if let Some(authority) = self.0.authority() {
            let text = authority.as_str();
            write!(f, "{}", Plain(text.rsplit_once('@').map_or(text, |(_, host)| host)))?;
        }
        write!(f, "{}", Plain(self.0.path()))?;
        let pairs = self.0.query().into_iter().flat_map(|query| query.split('&'));
        for (n, pair) in pairs.enumerate() {
            let before = if n == 0 { '?' } else { '&' };
            match pair.split_once('=') {
                Some((name, _)) => write!(f, "{before}{}=***", Plain(name))?,
                None => write!(f, "{before}***")?,
            }
        }
        Ok(())
    }
}

macro_rules! line {
    ($level:ident, $whose:expr, { $($field:tt)* }, $($text:tt)+) => {{
        let whose: Whose<'_> = $whose;
        tracing::event!(
            target: "origin::call",
            tracing::Level::$level,
            correlation_id = whose.correlation(),
            request_id = whose.ids.request.as_ref().map(Correlation::as_str),
            trace_id = whose.ids.trace.map(tracing::field::display),
            service = whose.service,
            $($field)*
            $($text)+
        )
    }};
}

/// Before an attempt is sent.
pub(super) fn request(whose: Whose<'_>, method: &Method, uri: &Uri, attempt: AttemptId, of: u8) {
    let attempt = attempt.0;
    line!(INFO, whose, { attempt = i64::from(attempt), }, "Request: {method} {} (attempt {attempt}/{of})", Shown(uri));
}

/// When it was answered, whatever the status.
pub(super) fn response(
    whose: Whose<'_>,
    method: &Method,
    uri: &Uri,
    attempt: AttemptId,
    status: u16,
) {
    line!(
        INFO, whose, { attempt = i64::from(attempt.0), status = i64::from(status), },
        "Response: {method} {} - {status}", Shown(uri)
    );
}

/// When it failed in a way that may pass.
pub(super) fn transient(whose: Whose<'_>, attempt: AttemptId, cause: &dyn fmt::Display) {
    let attempt = attempt.0;
    let cause = Plain(cause);
    line!(WARN, whose, { attempt = i64::from(attempt), error = %cause, }, "Transient error on attempt {attempt}: {cause}");
}

/// When it is repeated, at once or after a while. Contract 002 has whole seconds; the field has
/// milliseconds.
pub(super) fn retrying(whose: Whose<'_>, wait: Duration) {
    let seconds = (wait + Duration::from_millis(500)).as_secs();
    let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    line!(INFO, whose, { wait_ms, }, "Retrying in {seconds}s...");
}

/// An operation that has succeeded has something to say (001-102).
pub(crate) fn remark(remark: Option<Remark>) {
    let Some(Remark { message, correlation, file_size, execution_time_ms }) = remark else {
        return;
    };
    tracing::info!(
        target: "origin::call",
        correlation_id = correlation.as_ref().map(Correlation::as_str),
        file_size = i64::try_from(file_size).unwrap_or(i64::MAX),
        execution_time_ms,
        "{message}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_query_is_shown() {
        for (uri, shown) in [
            ("http://h:1/a/b?token=s3cret&page=2", "http://h:1/a/b?token=***&page=***"),
            ("http://h/?s3cret", "http://h/?***"),
            ("http://user:s3cret@h:80/x", "http://h:80/x"),
            ("https://h/x?a==b&&c", "https://h/x?a=***&***&***"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ] {
            assert_eq!(Shown(&uri.parse().unwrap()).to_string(), shown);
        }
    }
}
