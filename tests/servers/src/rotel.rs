//! rotel, a collector of OpenTelemetry: takes spans over OTLP and writes each into its log.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::process::Process;
use crate::room::Room;
use crate::{attempts, must, ports, tools};

/// A running collector.
pub struct Rotel {
    /// The process: to pause, kill, restart. What it got is in its log.
    pub process: Process,
    http: SocketAddr,
}

/// Starts one and waits until it takes connections; `None` where rotel is not installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start() -> Option<Rotel> {
    let program = tools::need("rotel-agent")?;
    Some(must("rotel", attempts(|| launch(&program))))
}

fn launch(program: &Path) -> io::Result<Rotel> {
    let room = Arc::new(Room::new("rotel")?);
    let free = ports::free(&[Ipv4Addr::LOCALHOST], 2)?;
    let [grpc, http] = [free[0], free[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let args: Vec<OsString> = [
        "start".into(),
        "--otlp-grpc-endpoint".into(),
        grpc.to_string(),
        "--otlp-http-endpoint".into(),
        http.to_string(),
        "--pid-file".into(),
        room.file("rotel.pid").display().to_string(),
        "--exporter".into(),
        "blackhole".into(),
        "--debug-log".into(),
        "traces".into(),
        "--debug-log-verbosity".into(),
        "detailed".into(),
    ]
    .map(|arg: String| OsString::from(arg))
    .to_vec();
    let probe = move || TcpStream::connect_timeout(&http, Duration::from_secs(1)).is_ok();
    let mut process = Process::start(&room, "rotel", program, args, probe)?;
    process.ready()?;
    Ok(Rotel { process, http })
}

/// A span that it got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// As lower-case hexadecimal digits.
    pub trace: String,
    /// As lower-case hexadecimal digits.
    pub id: String,
    /// That of the span above it; empty: none.
    pub parent: String,
    /// What else is said of it.
    pub text: String,
}

impl Rotel {
    /// Where it takes OTLP over HTTP: the address before `/v1/traces`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The spans it got so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        spans(&self.process.log())
    }
}

/// What stands between a line `Span #n` and the next one.
fn spans(log: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        if line.starts_with("Span #") {
            spans.push(Span::default());
        }
        // Of the program itself, or of another group of spans.
        inside = line.starts_with("Span #") || inside && !line.starts_with("ResourceSpans");
        let Some(span) = spans.last_mut().filter(|_| inside) else { continue };
        let value = |name: &str| {
            let (found, value) = line.strip_prefix("    ")?.split_once(':')?;
            (found.trim() == name).then(|| value.trim().to_owned())
        };
        for (name, field) in [
            ("Name", &mut span.name),
            ("Trace ID", &mut span.trace),
            ("ID", &mut span.id),
            ("Parent ID", &mut span.parent),
        ] {
            if let Some(value) = value(name).filter(|_| field.is_empty()) {
                *field = value;
            }
        }
        span.text.push_str(line);
        span.text.push('\n');
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_span_by_span() {
        let log = "INFO Starting\nResourceSpans #0\n     -> service.name: Str(shop)\nSpan #0\n    \
                   Trace ID       : aa\n    Parent ID      : bb\n    ID             : cc\n    Name  \
                   : GET\nAttributes:\n     -> url.full: Str(http://h/x)\nSpan #1\n    Trace ID : \
                   aa\n    Parent ID      : \n    ID   : bb\n    Name : call\nResourceSpans #0\nx";
        let spans = spans(log);
        let ids: Vec<_> = spans.iter().map(|s| (&*s.name, &*s.id, &*s.parent)).collect();
        assert_eq!(ids, [("GET", "cc", "bb"), ("call", "bb", "")]);
        assert!(spans[0].text.contains("url.full: Str(http://h/x)"));
        assert!(!spans[1].text.contains('x'));
    }
}
