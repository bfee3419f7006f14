//! BIND, authoritative for the zone `test.`, changed while it runs by dynamic updates.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::dns::{self, Kind, Srv};
use crate::ports;
use crate::process::Process;
use crate::room::Room;
use crate::{attempts, must, tools, uuid};

/// A running BIND. Its zone begins with `a.test.`, `b.test.` and `c.test.` at 127.0.0.1, .2 and
/// .3, every record living 1 s, negative answers too. What is updated survives a restart.
pub struct Bind {
    /// The process: to pause, kill, restart.
    pub process: Process,
    address: SocketAddr,
    key: PathBuf,
    nsupdate: PathBuf,
}

/// Starts one and waits until it answers; `None` where BIND is not installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start() -> Option<Bind> {
    let (named, nsupdate) = (tools::need("named")?, tools::need("nsupdate")?);
    Some(must("named", attempts(|| launch(&named, &nsupdate))))
}

fn launch(named: &Path, nsupdate: &Path) -> io::Result<Bind> {
    let room = Arc::new(Room::new("bind")?);
    let port = ports::free(&[Ipv4Addr::LOCALHOST], 1)?[0];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // 32 hexadecimal digits are base64, too.
    let secret = uuid()?.replace('-', "");
    let key = format!("key update {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n");
    let key = room.write("update.key", key)?;
    let directory = room.path().display();
    let file = room.write(
        "named.conf",
        format!(
            r#"
include "{key}";
options {{
    directory "{directory}";
    managed-keys-directory "{directory}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    allow-query {{ 127.0.0.0/8; }};
    recursion no;
    notify no;
    dnssec-validation no;
    minimal-responses yes;
    max-records-per-type 0;
}};
controls {{ }};
zone "test" {{
    type primary;
    file "{directory}/test.zone";
    allow-update {{ key update; }};
    check-names ignore;
}};
"#,
            key = key.display(),
        ),
    )?;
    room.write(
        "test.zone",
        "$TTL 1\n\
         @ SOA ns.test. root.test. (1 60 60 600 1)\n\
         @ NS ns.test.\n\
         ns A 127.0.0.1\n\
         a A 127.0.0.1\n\
         b A 127.0.0.2\n\
         c A 127.0.0.3\n",
    )?;
    let probe =
        move || dns::ask(address, "ns.test", Kind::A, true).is_ok_and(|a| !a.addresses.is_empty());
    let args = vec!["-g".into(), "-c".into(), file.into()];
    let mut process = Process::start(&room, "named", named, args, probe)?;
    process.ready()?;
    Ok(Bind { process, address, key, nsupdate: nsupdate.to_owned() })
}

impl Bind {
    /// Where it listens, over UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with the key for updates, as `nsupdate -k` takes it.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Applies one update, all of it or nothing: lines as `nsupdate` takes them, such as
    /// `add a.test. 1 A 127.0.0.1` or `del _web._tcp.test. SRV`. The server answers accordingly
    /// from when this returns. More than about 80 records at once may be refused.
    ///
    /// # Errors
    /// What `nsupdate` says.
    pub fn update<S: AsRef<str>>(&self, lines: &[S]) -> io::Result<()> {
        let mut child = Command::new(&self.nsupdate)
            .args(["-t", "5", "-k"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut script = format!("server 127.0.0.1 {}\nzone test.\n", self.address.port());
        for line in lines {
            script.push_str(&format!("update {}\n", line.as_ref()));
        }
        script.push_str("send\n");
        if let Some(mut input) = child.stdin.take() {
            input.write_all(script.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// Makes these, living 1 s each, the SRV records of a name, whatever there was; as many
    /// updates as needed.
    ///
    /// # Errors
    /// What `nsupdate` says.
    pub fn services(&self, name: &str, records: &[Srv]) -> io::Result<()> {
        let mut lines = vec![format!("del {name}. SRV")];
        for Srv { priority, weight, port, target } in records {
            lines.push(format!("add {name}. 1 SRV {priority} {weight} {port} {target}."));
        }
        for some in lines.chunks(80) {
            self.update(some)?;
        }
        Ok(())
    }
}
