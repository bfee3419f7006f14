//! Documents for operators: ACL policies, the agent's configuration, and the certificate files a
//! client reads (003-40…47). Rendered here so that what the standard asks for exists once and is
//! tested, instead of in a wiki.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::ConsulError;
use super::name;
use super::wire::{Api, Class, Query};
use crate::config::ConfigError;
use crate::config::consul::ConsulTlsConfig;
use crate::job::{JobOutcome, Work};
use crate::secret::Secret;

/// What a policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing.
    Deny,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl Access {
    const fn word(self) -> &'static str {
        match self {
            Access::Deny => "deny",
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// An ACL policy of the kinds the standard has: one rule each for services, nodes and, where it
/// is wanted, keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AclPolicy {
    /// Its name: letters, digits, `-` and `_`, at most 128.
    pub name: Arc<str>,
    /// Rules: kind of resource, prefix, access.
    rules: Vec<(Arc<str>, Arc<str>, Access)>,
}

impl AclPolicy {
    /// Registration (003-43): writes all services and nodes. The token of the standard's
    /// registrars; one service alone is [`AclPolicy::registration_of`].
    #[must_use]
    pub fn registration() -> AclPolicy {
        AclPolicy::both("registration", "", Access::Write)
    }

    /// Registration of one service: writes it, reads nodes. What a single program needs.
    #[must_use]
    pub fn registration_of(service: &super::ServiceName) -> AclPolicy {
        let mut policy = AclPolicy::both(&format!("register-{service}"), "", Access::Read);
        policy.rules.push(("service".into(), service.shared(), Access::Write));
        policy
    }

    /// Discovery (003-43): reads all services and nodes.
    #[must_use]
    pub fn discovery() -> AclPolicy {
        AclPolicy::both("discovery", "", Access::Read)
    }

    fn both(name: &str, prefix: &str, access: Access) -> AclPolicy {
        let rule = |kind: &str| (kind.into(), prefix.into(), access);
        AclPolicy { name: name.into(), rules: vec![rule("service_prefix"), rule("node_prefix")] }
    }

    /// The same with access to the keys below `prefix`.
    #[must_use]
    pub fn with_keys(mut self, prefix: &super::kv::Key, access: Access) -> AclPolicy {
        self.rules.push(("key_prefix".into(), prefix.as_str().into(), access));
        self
    }

    /// As HCL, the form of Consul's documentation.
    #[must_use]
    pub fn hcl(&self) -> String {
        let mut text = String::new();
        for (kind, prefix, access) in &self.rules {
            // Writing to a String cannot fail. Quoted as JSON, which is how HCL quotes, but for
            // its interpolation; keys may contain `${`.
            let quoted = Value::from(&**prefix).to_string().replace("${", "$${");
            let _ = writeln!(text, "{kind} {quoted} {{\n  policy = \"{}\"\n}}", access.word());
        }
        text
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut all: Map<String, Value> = Map::new();
        for (kind, prefix, access) in &self.rules {
            let of_kind = all.entry(&**kind).or_insert_with(|| json!({}));
            if let Some(of_kind) = of_kind.as_object_mut() {
                of_kind.insert((**prefix).to_owned(), json!({ "policy": access.word() }));
            }
        }
        all.into()
    }

    /// `PUT /v1/acl/policy`: creates it. The reply is read with [`super::agent::done`].
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn create(&self, api: &Api<'_>) -> Result<Request<Bytes>, ConsulError> {
        let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if self.name.is_empty() || self.name.len() > 128 || !self.name.bytes().all(fine) {
            return Err(ConsulError::field(
                "policy",
                "its name consists of letters, digits, '-' and '_'",
            ));
        }
        let body = json!({ "Name": self.name, "Rules": self.json().to_string() });
        api.put(Class::Agent, "/v1/acl/policy", Query::default(), &body)
    }
}

/// The configuration of an agent as the standard wants it. [`Default`] is all of it but the
/// gossip key, which has to be made (`consul keygen`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Name of the datacenter.
    pub datacenter: Arc<str>,
    /// The gossip key: 16, 24 or 32 bytes in base64 (003-45).
    pub gossip_key: Option<Secret>,
    /// Certificates (003-47).
    pub tls: ConsulTlsConfig,
    /// The token the agent uses itself.
    pub agent_token: Option<Secret>,
    /// Whether connections of clients need a certificate too. Default `true`.
    pub https_only: bool,
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig {
            datacenter: "dc1".into(),
            gossip_key: None,
            tls: ConsulTlsConfig::default(),
            agent_token: None,
            https_only: true,
        }
    }
}

impl AgentConfig {
    /// The JSON for the agent's configuration folder: ACLs on, denying by default and going on
    /// with what is known while the servers cannot be reached (003-40, 003-41), gossip and RPC
    /// encrypted, both directions and the server's host name verified (003-45, 003-46). Contains
    /// the key and the token: whoever writes it must keep it secret.
    ///
    /// # Errors
    /// The field that is missing or cannot be meant.
    pub fn render(&self) -> Result<Bytes, ConfigError> {
        let refuse = |field: &str, reason: &str| ConfigError::new(format!("agent.{field}"), reason);
        name::datacenter(&self.datacenter).map_err(|reason| refuse("datacenter", reason))?;
        let key = self
            .gossip_key
            .as_ref()
            .ok_or_else(|| refuse("gossip_key", "is required; make one with consul keygen"))?;
        let bytes =
            STANDARD.decode(key.expose()).map_err(|_| refuse("gossip_key", "is not base64"))?;
        if !matches!(bytes.len(), 16 | 24 | 32) {
            return Err(refuse(
                "gossip_key",
                &format!("has {} bytes; it takes 16, 24 or 32", bytes.len()),
            ));
        }
        let files =
            [("tls.ca", &self.tls.ca), ("tls.cert", &self.tls.cert), ("tls.key", &self.tls.key)];
        if let Some((field, _)) = files.iter().find(|(_, path)| path.is_empty()) {
            return Err(refuse(field, "is required: RPC is encrypted and verified"));
        }
        let mut acl = json!({
            "enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
            "enable_token_persistence": true,
        });
        if let (Some(token), Some(acl)) = (&self.agent_token, acl.as_object_mut()) {
            acl.insert("tokens".to_owned(), json!({ "agent": token.expose() }));
        }
        let mut all = json!({
            "datacenter": self.datacenter,
            "encrypt": key.expose(), "encrypt_verify_incoming": true, "encrypt_verify_outgoing": true,
            "verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
            "ca_file": self.tls.ca, "cert_file": self.tls.cert, "key_file": self.tls.key,
            "acl": acl,
        });
        if let (true, Some(all)) = (self.https_only, all.as_object_mut()) {
            all.insert("ports".to_owned(), json!({ "http": -1, "https": 8501 }));
        }
        let text = serde_json::to_vec_pretty(&all)
            .map_err(|_| refuse("tls", "cannot be written as JSON"))?;
        Ok(text.into())
    }
}

/// The certificate files of a client, to be read by a driver and checked here (003-47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Field and path of each, with the label its PEM must have.
    files: Vec<(&'static str, Arc<str>, &'static str)>,
}

/// Largest certificate file, in bytes.
const LARGEST: usize = 1 << 20;

impl TlsFiles {
    /// The files of a configuration; a field that is empty has none.
    #[must_use]
    pub fn of(config: &ConsulTlsConfig) -> TlsFiles {
        let all = [
            ("ca", &config.ca, "CERTIFICATE"),
            ("cert", &config.cert, "CERTIFICATE"),
            ("key", &config.key, "PRIVATE KEY"),
        ];
        let there = all.into_iter().filter(|(_, path, _)| !path.is_empty());
        TlsFiles {
            files: there.map(|(field, path, label)| (field, path.as_str().into(), label)).collect(),
        }
    }

    /// What is to be read, in the order of [`TlsFiles::accept`].
    pub fn reads(&self) -> impl Iterator<Item = Work> {
        self.files.iter().map(|(_, path, _)| Work::Read { path: path.clone(), most: LARGEST })
    }

    /// The content of file number `index`, if it can be what it should be.
    ///
    /// # Errors
    /// What is wrong with it, with the field and the path; nothing of its content.
    pub fn accept(&self, index: usize, outcome: &JobOutcome) -> Result<Bytes, ConfigError> {
        let Some((field, path, label)) = self.files.get(index) else {
            return Err(ConfigError::new("consul.tls", "there is no such file"));
        };
        let refuse = |reason: &str| {
            Err(ConfigError::new(format!("consul.tls.{field}"), format!("{path}: {reason}")))
        };
        match outcome {
            JobOutcome::Content(Some(content)) => {
                let text = String::from_utf8_lossy(content);
                let begins = text.lines().any(|line| {
                    line.starts_with("-----BEGIN ")
                        && line.trim_end().ends_with(&format!("{label}-----"))
                });
                if begins { Ok(content.clone()) } else { refuse(&format!("has no {label} in PEM")) }
            }
            JobOutcome::Content(None) => refuse("there is no such file"),
            JobOutcome::Impossible(reason) => refuse(&format!("it cannot be read: {reason}")),
            _ => refuse("it cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::{ServiceName, Settings, Tokens};

    /// Both forms were accepted by a Consul 1.8.7.
    #[test]
    fn case_003_43_policies() {
        let registration = AclPolicy::registration();
        assert_eq!(
            registration.hcl(),
            "service_prefix \"\" {\n  policy = \"write\"\n}\nnode_prefix \"\" {\n  policy = \"write\"\n}\n"
        );
        let read = json!({"service_prefix": {"": {"policy": "read"}}, "node_prefix": {"": {"policy": "read"}}});
        assert_eq!(AclPolicy::discovery().json(), read);
        let one = AclPolicy::registration_of(&ServiceName::new("web").unwrap());
        assert_eq!(one.json()["service"], json!({"web": {"policy": "write"}}));
        let key = crate::consul::kv::Key::new("a/\"${x}").unwrap();
        let with = AclPolicy::discovery().with_keys(&key, Access::Deny);
        assert!(with.hcl().ends_with("key_prefix \"a/\\\"$${x}\" {\n  policy = \"deny\"\n}\n"));
        let (s, t) = (Settings::default(), Tokens::default());
        let sent = registration.create(&Api::new(&s, &t)).unwrap();
        let body: Value = serde_json::from_slice(sent.body()).unwrap();
        assert_eq!(body["Name"], "registration");
        let rules: Value = serde_json::from_str(body["Rules"].as_str().unwrap()).unwrap();
        assert_eq!(rules, registration.json());
    }

    #[test]
    fn case_003_40_41_45_46_47_agent_configuration() {
        let key = STANDARD.encode([7; 32]);
        let config = AgentConfig {
            gossip_key: Secret::new(&key),
            agent_token: Secret::new("s3cret"),
            ..AgentConfig::default()
        };
        let got: Value = serde_json::from_slice(&config.render().unwrap()).unwrap();
        assert_eq!(got["acl"]["default_policy"], "deny");
        assert_eq!(
            (&got["acl"]["enabled"], &got["acl"]["down_policy"]),
            (&json!(true), &json!("extend-cache"))
        );
        assert_eq!(
            (&got["acl"]["tokens"]["agent"], &got["encrypt"]),
            (&json!("s3cret"), &json!(key))
        );
        for on in [
            "encrypt_verify_incoming",
            "encrypt_verify_outgoing",
            "verify_incoming",
            "verify_outgoing",
            "verify_server_hostname",
        ] {
            assert_eq!(got[on], true, "{on}");
        }
        for (field, path) in [("ca_file", "ca"), ("cert_file", "cert"), ("key_file", "key")] {
            assert_eq!(got[field], format!("/etc/consul/{path}.pem"));
        }
        assert!(!format!("{config:?}").contains("s3cret"));
        let refused = |change: fn(&mut AgentConfig)| {
            let mut config = config.clone();
            change(&mut config);
            config.render().unwrap_err().field
        };
        assert_eq!(refused(|c| c.gossip_key = None), "agent.gossip_key");
        assert_eq!(refused(|c| c.gossip_key = Secret::new("AAAA")), "agent.gossip_key");
        assert_eq!(refused(|c| c.gossip_key = Secret::new("not base64")), "agent.gossip_key");
        assert_eq!(refused(|c| c.tls.key = String::new()), "agent.tls.key");
        assert_eq!(refused(|c| c.datacenter = "a b".into()), "agent.datacenter");
    }

    #[test]
    fn case_003_47_missing_and_unreadable_files_are_named() {
        let files = TlsFiles::of(&ConsulTlsConfig::default());
        let paths: Vec<_> = files
            .reads()
            .map(|w| if let Work::Read { path, .. } = w { path } else { panic!() })
            .collect();
        assert_eq!(
            paths.iter().map(|p| &**p).collect::<Vec<_>>(),
            ["/etc/consul/ca.pem", "/etc/consul/cert.pem", "/etc/consul/key.pem"]
        );
        let said = |index, outcome| files.accept(index, &outcome).unwrap_err().to_string();
        let missing = said(1, JobOutcome::Content(None));
        assert!(
            missing.contains("consul.tls.cert: /etc/consul/cert.pem: there is no such file"),
            "{missing}"
        );
        assert!(
            said(2, JobOutcome::Impossible("permission denied".into()))
                .contains("permission denied")
        );
        let swapped = Bytes::from_static(b"-----BEGIN CERTIFICATE-----\ns3cret\n");
        let wrong = said(2, JobOutcome::Content(Some(swapped.clone())));
        assert!(wrong.contains("no PRIVATE KEY") && !wrong.contains("s3cret"));
        assert_eq!(files.accept(0, &JobOutcome::Content(Some(swapped.clone()))).unwrap(), swapped);
        let key = Bytes::from_static(b"x\n-----BEGIN EC PRIVATE KEY-----\r\n");
        assert!(files.accept(2, &JobOutcome::Content(Some(key))).is_ok());
        assert!(files.accept(9, &JobOutcome::Dropped).is_err());
        let none = ConsulTlsConfig {
            cert: String::new(),
            key: String::new(),
            ..ConsulTlsConfig::default()
        };
        assert_eq!(TlsFiles::of(&none).reads().count(), 1);
    }
}
