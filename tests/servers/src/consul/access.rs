//! Tokens and what they may do.

use std::io;

use serde_json::json;

use super::Agent;
use crate::uuid;

/// A token and the name by which it is revoked.
#[derive(Clone, Debug)]
pub struct Token {
    /// What requests carry.
    pub secret: String,
    /// What names it in the API.
    pub accessor: String,
}

impl Agent {
    /// A new token under a policy of its own with these rules, such as
    /// `service_prefix "" { policy = "read" }`.
    ///
    /// # Errors
    /// Consul refuses the rules, or has no access control.
    pub fn token(&self, rules: &str) -> io::Result<Token> {
        let name = format!("test-{}", uuid()?);
        self.done("/v1/acl/policy", json!({ "Name": name, "Rules": rules }))?;
        let answer = self.http().put("/v1/acl/token", json!({ "Policies": [{ "Name": name }] }))?;
        let body = answer.json();
        match (body["SecretID"].as_str(), body["AccessorID"].as_str()) {
            (Some(secret), Some(accessor)) => {
                Ok(Token { secret: secret.to_owned(), accessor: accessor.to_owned() })
            }
            _ => Err(io::Error::other(format!("no token: {} {}", answer.status, answer.text()))),
        }
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// Consul refuses.
    pub fn revoke(&self, token: &Token) -> io::Result<()> {
        let path = format!("/v1/acl/token/{}", token.accessor);
        let answer = self.http().ask("DELETE", &path, "")?;
        match answer.status {
            200 => Ok(()),
            status => Err(io::Error::other(format!("{path}: {status} {}", answer.text()))),
        }
    }
}
