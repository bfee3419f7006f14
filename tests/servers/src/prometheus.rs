//! Prometheus, scraping what a test serves once a second; and `promtool`, which checks pages and
//! rules.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::http::Client;
use crate::process::Process;
use crate::room::Room;
use crate::{attempts, must, ports, tools};

/// A running Prometheus.
pub struct Prometheus {
    /// The process: to pause, kill, restart.
    pub process: Process,
    address: SocketAddr,
}

/// Starts one that scrapes `/metrics` of `targets` every second, and waits until it answers; `None`
/// where it is not installed. The first scrape comes some seconds later.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start(targets: &[SocketAddr]) -> Option<Prometheus> {
    let program = tools::need("prometheus")?;
    Some(must("prometheus", attempts(|| launch(&program, targets))))
}

fn launch(program: &Path, targets: &[SocketAddr]) -> io::Result<Prometheus> {
    let room = Arc::new(Room::new("prometheus")?);
    let port = ports::free(&[Ipv4Addr::LOCALHOST], 1)?[0];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - job_name: test\n  static_configs: [{{targets: [{}]}}]\n",
        targets.join(", ")
    );
    let file = room.write("prometheus.yml", config)?;
    let args: Vec<OsString> = vec![
        format!("--config.file={}", file.display()).into(),
        format!("--storage.tsdb.path={}", room.file("data").display()).into(),
        format!("--web.listen-address={address}").into(),
    ];
    let probe = move || Client::new(address).get("/-/ready").is_ok_and(|a| a.status == 200);
    let mut process = Process::start(&room, "prometheus", program, args, probe)?;
    process.ready()?;
    Ok(Prometheus { process, address })
}

impl Prometheus {
    /// What it answers to an expression now: the values of all series, in its order.
    ///
    /// # Errors
    /// No answer, or the expression is wrong.
    pub fn query(&self, expression: &str) -> io::Result<Vec<f64>> {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        let query: String = expression.bytes().map(escape).collect();
        let answer = Client::new(self.address).get(&format!("/api/v1/query?query={query}"))?;
        let json = answer.json();
        let wrong = || io::Error::other(format!("{expression}: {}", answer.text()));
        let series = json["data"]["result"].as_array().ok_or_else(wrong)?;
        let value = |series: &serde_json::Value| series["value"][1].as_str()?.parse().ok();
        series.iter().map(|series| value(series).ok_or_else(wrong)).collect()
    }
}

/// Runs `promtool` in `directory` with `input`; what it said, as an error if it was not content.
/// `None` where it is not installed.
///
/// # Errors
/// It refused; everything it said.
///
/// # Panics
/// It is not installed, under `CI=true`; or it cannot be run.
#[must_use]
pub fn promtool(directory: &Path, words: &[&str], input: &str) -> Option<Result<String, String>> {
    let program = tools::need("promtool")?;
    let run = || {
        let mut child = Command::new(&program)
            .args(words)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = must("promtool", run());
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some(if output.status.success() { Ok(said) } else { Err(said) })
}
