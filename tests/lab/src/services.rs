//! The services of a world as handlers: plain invoices and a secret store; the
//! object store is in `store`. They do just enough for a client to tell right
//! from wrong; how they break is not their business.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::Answer;
use crate::server::Handler;

/// Answers every path with JSON naming cluster, instance, method and path;
/// `/health` says healthy.
#[must_use]
pub fn billing(service: &str, cluster: &str, instance: &str) -> Handler {
    let (service, cluster, instance) =
        (service.to_owned(), cluster.to_owned(), instance.to_owned());
    Arc::new(move |request| {
        if request.route() == "/health" {
            return Answer::json(200, &json!({"status": "healthy"}));
        }
        Answer::json(
            200,
            &json!({
                "service": service,
                "cluster": cluster,
                "instance": instance,
                "method": request.method,
                "path": request.path,
            }),
        )
    })
}

/// A secret store like Vault's KV version 1: `GET /v1/{path}` with the right
/// `X-Vault-Token` gives the envelope with `data`, without it 403. Paths that
/// contain `missing` do not exist. `/v1/sys/health` needs no token;
/// `/v1/auth/token/lookup-self` and `renew-self` answer for the token.
#[must_use]
pub fn secrets(token: &str, cluster: &str) -> Handler {
    let (token, cluster) = (token.to_owned(), cluster.to_owned());
    Arc::new(move |request| {
        let Some(path) = request.route().strip_prefix("/v1/") else {
            return Answer::json(404, &json!({"errors": []}));
        };
        if path == "sys/health" {
            return Answer::json(
                200,
                &json!({
                    "initialized": true, "sealed": false, "standby": false,
                    "performance_standby": false, "version": "1.12.1",
                    "cluster_name": cluster,
                }),
            );
        }
        if request.header("x-vault-token") != Some(token.as_str()) {
            return Answer::json(403, &json!({"errors": ["permission denied"]}));
        }
        match (request.method.as_str(), path) {
            ("GET", "auth/token/lookup-self") => Answer::json(
                200,
                &envelope(json!({"ttl": 3600, "renewable": true, "type": "service"})),
            ),
            ("POST" | "PUT", "auth/token/renew-self") => {
                let mut reply = envelope(Value::Null);
                reply["auth"] = json!({"lease_duration": 3600, "renewable": true});
                Answer::json(200, &reply)
            }
            ("GET", path) if path.is_empty() || path.contains("missing") => {
                Answer::json(404, &json!({"errors": []}))
            }
            ("GET", path) => Answer::json(
                200,
                &envelope(json!({"value": format!("secret of {path}"), "cluster": cluster})),
            ),
            _ => Answer::json(405, &json!({"errors": ["unsupported operation"]})),
        }
    })
}

fn envelope(data: Value) -> Value {
    json!({
        "request_id": "00000000-0000-4000-8000-000000000000",
        "lease_id": "",
        "renewable": false,
        "lease_duration": 2_764_800,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;

    fn ask(handler: &Handler, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        handler(&Request {
            method: method.into(),
            path: path.into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: b"new".to_vec(),
        })
    }

    #[test]
    fn secrets_need_the_token() {
        let vault = secrets("t", "beta");
        let denied = ask(&vault, "GET", "/v1/a/b", &[("X-Vault-Token", "wrong")]);
        assert_eq!(denied.status, 403);
        assert_eq!(denied.body, b"{\"errors\":[\"permission denied\"]}");
        let given = ask(&vault, "GET", "/v1/a/b", &[("x-vault-token", "t")]);
        let value: Value = serde_json::from_slice(&given.body).unwrap();
        assert_eq!(value["data"]["value"], "secret of a/b");
        let absent = ask(&vault, "GET", "/v1/missing", &[("x-vault-token", "t")]);
        assert_eq!((absent.status, absent.body), (404, b"{\"errors\":[]}".to_vec()));
        assert_eq!(ask(&vault, "GET", "/v1/sys/health", &[]).status, 200);
        let renewed = ask(&vault, "POST", "/v1/auth/token/renew-self", &[("x-vault-token", "t")]);
        let value: Value = serde_json::from_slice(&renewed.body).unwrap();
        assert_eq!(value["auth"]["lease_duration"], 3600);
    }
}
