//! RustyVault, a server with the API of Vault: plain, over TLS or over mutual TLS; initialised
//! with one share and unsealed. What it has of Vault and what it lacks: `tests/facts/vault.rs`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, Client};
use crate::pki::Papers;
use crate::process::Process;
use crate::room::Room;
use crate::{attempts, must, ports, tools};

/// Who has to prove what on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Nobody anything: plain HTTP.
    #[default]
    None,
    /// The server; a client may show a certificate.
    Server,
    /// Both.
    Mutual,
}

/// How the server is to be. The default: plain HTTP. It writes to its directory in any case, and
/// has everything after a restart, sealed.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Who has to prove what.
    pub tls: Tls,
}

/// A running RustyVault. The key-value engine, version 1, is mounted at `secret`.
pub struct Vault {
    /// The process: to pause, kill, restart.
    pub process: Process,
    /// Its certificates, with TLS.
    pub papers: Option<Papers>,
    address: SocketAddr,
    root: String,
    key: String,
}

/// What logs an application in.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name: not a secret.
    pub role_id: String,
    /// Its password.
    pub secret_id: String,
}

/// Starts one, initialises and unseals it; `None` where RustyVault is not installed.
///
/// # Panics
/// It does not start; or it is not installed, under `CI=true`.
#[must_use]
pub fn start(setup: &Setup) -> Option<Vault> {
    let program = tools::need("rvault")?;
    Some(must("rvault", attempts(|| launch(&program, setup))))
}

fn launch(program: &Path, setup: &Setup) -> io::Result<Vault> {
    let room = Arc::new(Room::new("vault")?);
    let port = ports::free(&[Ipv4Addr::LOCALHOST], 1)?[0];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let papers = match setup.tls {
        Tls::None => None,
        _ => Some(Papers::issue(&room, &["localhost", "127.0.0.1"])?),
    };
    let config = config(&room, address, setup.tls, papers.as_ref());
    let file = room.write("rvault.hcl", config)?;
    let client = client(address, papers.as_ref()).patience(Duration::from_secs(2));
    let probe = move || client.get("/v1/sys/init").is_ok_and(|answer| answer.status == 200);
    let args = vec!["server".into(), "--config".into(), file.into()];
    let mut process = Process::start(&room, "rvault", program, args, probe)?;
    process.ready()?;
    let mut vault = Vault { process, papers, address, root: String::new(), key: String::new() };
    let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
    let answer = vault.anonymous().put("/v1/sys/init", shares)?;
    vault.root = text(&answer, &["root_token"])?;
    vault.key = answer.json()["keys"][0].as_str().unwrap_or_default().to_owned();
    vault.unseal()?;
    Ok(vault)
}

fn config(room: &Room, address: SocketAddr, tls: Tls, papers: Option<&Papers>) -> String {
    let directory = room.path().display();
    let listener = papers.map_or_else(
        || "tls_disable = \"true\"".to_owned(),
        |papers| {
            let (server, key) = (papers.server.display(), papers.server_key.display());
            let (authority, both) = (papers.authority.display(), tls == Tls::Mutual);
            format!(
                "tls_disable = \"false\"\n  tls_cert_file = \"{server}\"\n  \
                 tls_key_file = \"{key}\"\n  tls_client_ca_file = \"{authority}\"\n  \
                 tls_disable_client_certs = \"false\"\n  \
                 tls_require_and_verify_client_cert = \"{both}\""
            )
        },
    );
    let scheme = if papers.is_some() { "https" } else { "http" };
    format!(
        "storage \"file\" {{\n  path = \"{directory}/data\"\n}}\n\
         listener \"tcp\" {{\n  address = \"{address}\"\n  {listener}\n}}\n\
         api_addr = \"{scheme}://{address}\"\nlog_level = \"warn\"\n\
         work_dir = \"{directory}/\"\npid_file = \"{directory}/rvault.pid\"\n"
    )
}

fn client(address: SocketAddr, papers: Option<&Papers>) -> Client {
    let client = Client::new(address);
    match papers {
        Some(papers) => client.over(papers.as_client()),
        None => client,
    }
}

/// The text at `path` of an answer. What is there instead is not repeated: it may hold a token.
fn text(answer: &Answer, path: &[&str]) -> io::Result<String> {
    let body = answer.json();
    let found = path.iter().fold(&body, |value, key| &value[*key]);
    let missing = || io::Error::other(format!("no {}: {}", path.join("."), answer.status));
    found.as_str().map(str::to_owned).ok_or_else(missing)
}

impl Vault {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its API as a base URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self.papers {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Its API as nobody.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        client(self.address, self.papers.as_ref())
    }

    /// Its API with this token.
    #[must_use]
    pub fn http_as(&self, token: &str) -> Client {
        self.anonymous().with("X-Vault-Token", token)
    }

    /// Its API with the root token.
    #[must_use]
    pub fn http(&self) -> Client {
        self.http_as(&self.root)
    }

    /// Sends what is to succeed, as root.
    ///
    /// # Errors
    /// It was refused, or the server does not answer.
    pub fn done(&self, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
        let answer = self.http().ask(method, path, &body.to_string())?;
        match answer.status {
            200..=299 => Ok(answer),
            status => Err(io::Error::other(format!("{path}: {status} {}", answer.text()))),
        }
    }

    /// Seals it: from now on nothing can be had from it.
    ///
    /// # Errors
    /// It refuses.
    pub fn seal(&self) -> io::Result<()> {
        self.done("PUT", "/v1/sys/seal", &json!({})).map(drop)
    }

    /// Unseals it; also after a restart.
    ///
    /// # Errors
    /// It refuses.
    pub fn unseal(&self) -> io::Result<()> {
        let answer = self.anonymous().put("/v1/sys/unseal", json!({ "key": self.key }))?;
        match answer.json()["sealed"] {
            Value::Bool(false) => Ok(()),
            _ => Err(io::Error::other(format!("it stays sealed: {}", answer.status))),
        }
    }

    /// Mounts an engine of this kind.
    ///
    /// # Errors
    /// It refuses.
    pub fn mount(&self, path: &str, kind: &str) -> io::Result<()> {
        self.done("POST", &format!("/v1/sys/mounts/{path}"), &json!({ "type": kind })).map(drop)
    }

    /// Writes a secret of the key-value engine.
    ///
    /// # Errors
    /// It refuses.
    pub fn write(&self, path: &str, data: &Value) -> io::Result<()> {
        self.done("POST", &format!("/v1/{path}"), data).map(drop)
    }

    /// Switches a login on, where it is not yet.
    fn enable(&self, kind: &str) -> io::Result<()> {
        let there = self.done("GET", "/v1/sys/auth", &json!({}))?;
        if there.json().get(format!("{kind}/")).is_some() {
            return Ok(());
        }
        self.done("POST", &format!("/v1/sys/auth/{kind}"), &json!({ "type": kind })).map(drop)
    }

    /// A role of AppRole whose tokens last `ttl` seconds, with a new secret id.
    ///
    /// # Errors
    /// It refuses.
    pub fn approle(&self, name: &str, ttl: u32) -> io::Result<Role> {
        self.enable("approle")?;
        let role = format!("/v1/auth/approle/role/{name}");
        let rules = json!({
            "token_ttl": format!("{ttl}s"), "token_max_ttl": "1h", "token_policies": "default",
        });
        self.done("POST", &role, &rules)?;
        let id = self.done("GET", &format!("{role}/role-id"), &json!({}))?;
        let secret = self.done("POST", &format!("{role}/secret-id"), &json!({}))?;
        Ok(Role {
            role_id: text(&id, &["data", "role_id"])?,
            secret_id: text(&secret, &["data", "secret_id"])?,
        })
    }

    /// A role of certificate logins: whoever shows a certificate of this authority (PEM). Its
    /// tokens last `ttl` seconds.
    ///
    /// # Errors
    /// It refuses.
    pub fn cert(&self, name: &str, authority: &str, ttl: u32) -> io::Result<()> {
        self.enable("cert")?;
        self.done("POST", "/v1/auth/cert/config", &json!({}))?;
        let rules = json!({
            "certificate": authority, "token_ttl": format!("{ttl}s"), "token_policies": "default",
        });
        self.done("POST", &format!("/v1/auth/cert/certs/{name}"), &rules).map(drop)
    }

    /// A token that lasts `ttl` seconds, as is said of it.
    ///
    /// # Errors
    /// It refuses.
    pub fn token(&self, ttl: u32) -> io::Result<String> {
        let wish = json!({ "policies": ["default"], "ttl": format!("{ttl}s"), "renewable": true });
        text(&self.done("POST", "/v1/auth/token/create", &wish)?, &["auth", "client_token"])
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// It refuses.
    pub fn revoke(&self, token: &str) -> io::Result<()> {
        self.done("POST", &format!("/v1/auth/token/revoke/{token}"), &json!({})).map(drop)
    }
}
