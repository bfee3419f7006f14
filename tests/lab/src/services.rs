//! The services of a world as handlers: plain invoices, an object store, and
//! a secret store. They do just enough for a client to tell right from wrong;
//! how they break is not their business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::lock;
use crate::registry::etag_of;
use crate::server::Handler;

/// More objects than this are refused: a load test must not fill the memory.
const OBJECT_LIMIT: usize = 1024;

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

/// An object store spoken to by path: `GET`, `HEAD`, `PUT` and `DELETE` of
/// `/{bucket}/{key}`, and lists of what was stored (`?list-type=2` with
/// `prefix`, `max-keys`, `start-after` and `continuation-token`). Handlers that share the map are replicas of each other.
///
/// An object that was never stored reads as a deterministic text, so that a
/// demonstration needs no preparation; keys that begin with `missing` do not
/// exist.
#[must_use]
pub fn storage(objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>) -> Handler {
    Arc::new(move |request| {
        let route = request.route();
        if route.starts_with("/minio/health/") || route == "/health" {
            return Answer::new(200);
        }
        let bucket = route.trim_start_matches('/');
        let listed = request.query().is_some_and(|query| query.contains("list-type=2"));
        if request.method == "GET" && listed && !bucket.is_empty() && !bucket.contains('/') {
            return list(&lock(&objects), bucket, request.query().unwrap_or_default());
        }
        let Some((bucket, key)) = bucket.split_once('/') else {
            return no_such("NoSuchBucket", route);
        };
        if bucket.is_empty() || key.is_empty() {
            return no_such("NoSuchKey", route);
        }
        match request.method.as_str() {
            "GET" | "HEAD" => read_object(&objects, request, bucket, key),
            "PUT" => {
                let mut objects = lock(&objects);
                if objects.len() >= OBJECT_LIMIT && !objects.contains_key(route) {
                    return xml(507, "InsufficientStorage", route);
                }
                let etag = etag_of(&request.body);
                objects.insert(route.to_owned(), request.body.clone());
                Answer::new(200).header("ETag", &etag)
            }
            "DELETE" => {
                lock(&objects).remove(route);
                Answer::new(204)
            }
            _ => xml(405, "MethodNotAllowed", route),
        }
    })
}

/// A page of the keys in a bucket. Keys are kept as they stood in the path,
/// percent-encoded, which is how `encoding-type=url` wants them back.
fn list(objects: &BTreeMap<String, Vec<u8>>, bucket: &str, query: &str) -> Answer {
    let ask = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decode(value))
    };
    if ask("delimiter").is_some() {
        return xml(501, "NotImplemented", bucket);
    }
    let most = ask("max-keys").and_then(|text| text.parse().ok()).unwrap_or(1000).min(1000);
    let prefix = ask("prefix").unwrap_or_default();
    let after = ask("continuation-token").or_else(|| ask("start-after")).unwrap_or_default();
    let begin = format!("/{bucket}/");
    let mut found: Vec<(String, &str, &Vec<u8>)> = objects
        .range(begin.clone()..)
        .take_while(|(route, _)| route.starts_with(&begin))
        .map(|(route, body)| (decode(&route[begin.len()..]), &route[begin.len()..], body))
        .filter(|(key, _, _)| key.starts_with(&prefix) && *key > after)
        .collect();
    found.sort();
    let cut = found.len() > most;
    found.truncate(most);
    let next = found
        .last()
        .filter(|_| cut)
        .map(|(_, encoded, _)| format!("<NextContinuationToken>{encoded}</NextContinuationToken>"));
    let rows: String = found
        .iter()
        .map(|(_, encoded, body)| {
            let (size, tag) = (body.len(), etag_of(body).replace('"', "&quot;"));
            format!(
                "<Contents><Key>{encoded}</Key><Size>{size}</Size><ETag>{tag}</ETag></Contents>"
            )
        })
        .collect();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult>\
         <EncodingType>url</EncodingType><IsTruncated>{cut}</IsTruncated>{rows}{}\
         </ListBucketResult>",
        next.unwrap_or_default()
    );
    Answer::bytes(200, "application/xml", body)
}

/// Percent-decoding; what is no UTF-8 afterwards is replaced.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn read_object(
    objects: &Mutex<BTreeMap<String, Vec<u8>>>,
    request: &Request,
    bucket: &str,
    key: &str,
) -> Answer {
    let stored = lock(objects).get(request.route()).cloned();
    let body = match stored {
        Some(body) => body,
        None if key.starts_with("missing") => return no_such("NoSuchKey", request.route()),
        None => format!("object {key} of bucket {bucket}\n").into_bytes(),
    };
    let etag = etag_of(&body);
    let answer = if request.has_match(&etag) {
        Answer::new(304)
    } else {
        Answer::bytes(200, "application/octet-stream", body)
    };
    answer.header("ETag", &etag)
}

fn no_such(code: &str, resource: &str) -> Answer {
    xml(404, code, resource)
}

fn xml(status: u16, code: &str, resource: &str) -> Answer {
    // The resource comes from the client: nothing of it may become markup.
    let resource: String =
        resource.chars().filter(|letter| !matches!(letter, '<' | '>' | '&')).collect();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>{code}</Message><Resource>{resource}</Resource></Error>"
    );
    Answer::bytes(status, "application/xml", body)
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
    fn objects_read_write_and_vanish() {
        let store = storage(Arc::default());
        let first = ask(&store, "GET", "/b/dir/k", &[]);
        assert_eq!(first.body, b"object dir/k of bucket b\n");
        assert_eq!(ask(&store, "PUT", "/b/dir/k", &[]).status, 200);
        let second = ask(&store, "GET", "/b/dir/k", &[]);
        assert_eq!(second.body, b"new");
        let tag = etag_of(b"new");
        let again = ask(&store, "GET", "/b/dir/k", &[("If-None-Match", &tag)]);
        assert_eq!(again.status, 304);
        assert_eq!(ask(&store, "DELETE", "/b/dir/k", &[]).status, 204);
        assert_eq!(ask(&store, "GET", "/b/dir/k", &[]).body, first.body);
        let absent = ask(&store, "GET", "/b/missing<x>", &[]);
        assert_eq!(absent.status, 404);
        let text = String::from_utf8(absent.body).unwrap();
        assert!(text.contains("<Code>NoSuchKey</Code>") && text.contains("/b/missingx"));
        assert_eq!(ask(&store, "GET", "/b", &[]).status, 404);
    }

    #[test]
    fn keys_are_listed_page_by_page() {
        let store = storage(Arc::default());
        for key in ["a/1", "a/%C3%A4", "a/2", "b/1"] {
            ask(&store, "PUT", &format!("/b/{key}"), &[]);
        }
        ask(&store, "PUT", "/other/x", &[]);
        let page = |query: &str| {
            let answer = ask(&store, "GET", &format!("/b?list-type=2{query}"), &[]);
            String::from_utf8(answer.body).unwrap()
        };
        let keys = |page: &str| {
            let rows = page.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            rows.map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&page("")), ["a/1", "a/2", "a/%C3%A4", "b/1"]);
        let first = page("&prefix=a%2F&max-keys=2");
        assert_eq!(keys(&first), ["a/1", "a/2"]);
        assert!(first.contains("<NextContinuationToken>a/2<"), "{first}");
        let second = page("&prefix=a%2F&max-keys=2&continuation-token=a%2F2");
        assert_eq!(keys(&second), ["a/%C3%A4"]);
        assert!(second.contains("<IsTruncated>false") && !second.contains("Continuation"));
    }

    #[test]
    fn an_object_store_is_bounded() {
        let store = storage(Arc::default());
        for number in 0..OBJECT_LIMIT {
            assert_eq!(ask(&store, "PUT", &format!("/b/{number}"), &[]).status, 200);
        }
        assert_eq!(ask(&store, "PUT", "/b/more", &[]).status, 507);
        assert_eq!(ask(&store, "PUT", "/b/1", &[]).status, 200);
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
