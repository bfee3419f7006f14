//! Stand-ins for the services of DesignSynapse, written from contracts §4: one that speaks as the
//! platform's client code expects (§4.4), and four as the servers really are (§4.5), with their
//! routes, slashes, media types, tokens and shapes of errors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use origin_lab::{Answer, FaultServer, Request};
use serde_json::{Map, Value, json};

/// What signs in.
pub(crate) const PASSWORD: &str = "pl4nted-pass word&ü";
/// What signing in yields.
pub(crate) const TOKEN: &str = "pl4nted-token";

/// What a server keeps, by collection and id.
#[derive(Default)]
struct Shelf(BTreeMap<String, BTreeMap<i64, Value>>);

impl Shelf {
    fn add(&mut self, collection: &str, body: &[u8], more: Value) -> Value {
        let kept = self.0.entry(collection.to_owned()).or_default();
        let id = 1 + kept.len() as i64;
        let mut value = json!({"id": id, "added_later": [{"by": "a newer server"}]});
        lay(&mut value, serde_json::from_slice(body).unwrap());
        lay(&mut value, more);
        kept.insert(id, value.clone());
        value
    }

    fn all(&self, collection: &str) -> Vec<Value> {
        self.0.get(collection).into_iter().flat_map(|kept| kept.values().cloned()).collect()
    }

    /// `GET`, `PUT` or `PATCH`, and `DELETE` of one thing.
    fn one(&mut self, collection: &str, id: &str, request: &Request) -> Answer {
        let kept = self.0.entry(collection.to_owned()).or_default();
        let Ok(id) = id.parse() else { return unprocessable() };
        let Some(value) = kept.get_mut(&id) else {
            return detail(404, "Not Found");
        };
        match request.method.as_str() {
            "DELETE" => {
                kept.remove(&id);
                Answer::new(204)
            }
            "GET" => Answer::json(200, value),
            _ => {
                lay(value, serde_json::from_slice(&request.body).unwrap());
                Answer::json(200, value)
            }
        }
    }
}

fn lay(on: &mut Value, fields: Value) {
    if let (Value::Object(on), Value::Object(fields)) = (on, fields) {
        on.extend(fields);
    }
}

/// The three shapes of errors.
fn detail(status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({"detail": text}))
}

fn unprocessable() -> Answer {
    let one = json!({"loc": ["query", "limit"], "msg": "out of range", "type": "value_error"});
    Answer::json(422, &json!({"detail": [one]}))
}

fn envelope(status: u16, code: &str) -> Answer {
    let said = "SELECT * FROM users WHERE password = 'pl4nted-row'";
    Answer::json(status, &json!({"message": said, "error_code": code, "details": null}))
}

fn bearer(request: &Request) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}

fn number(request: &Request, name: &str) -> Option<usize> {
    let mut pairs = request.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == name)?.1.parse().ok()
}

/// The parts of the path below `/api/v1`, the last one empty for a slash at the end.
fn parts(request: &Request) -> Option<Vec<String>> {
    let path = request.route().strip_prefix("/api/v1/")?;
    Some(path.split('/').map(str::to_owned).collect())
}

/// Where the same is with a slash, as Starlette says it.
fn slash(request: &Request) -> Answer {
    let host = request.header("host").unwrap_or_default();
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = format!("http://{host}{}/{query}", request.route());
    Answer::new(307).header("Location", &to)
}

fn start(
    answer: impl Fn(&mut Shelf, &Request, &[&str]) -> Answer + Send + Sync + 'static,
    root: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> FaultServer {
    let shelf = Mutex::new(Shelf::default());
    let handler = move |request: &Request| match parts(request) {
        Some(parts) => {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            answer(&mut shelf.lock().unwrap(), request, &parts)
        }
        None => root(request),
    };
    FaultServer::with_handler(Arc::new(handler)).unwrap()
}

fn health_and_ready(request: &Request) -> Answer {
    match request.route() {
        "/health" => Answer::json(200, &json!({"status": "healthy"})),
        "/ready" => Answer::json(503, &json!({"status": "not_ready", "checks": {"db": false}})),
        _ => detail(404, "Not Found"),
    }
}

fn session() -> Value {
    json!({"access_token": TOKEN, "refresh_token": "pl4nted-refresh", "token_type": "bearer",
        "roles": ["architect"]})
}

/// All services as the platform's client code expects them. Nothing asks for a token.
pub(crate) fn as_clients_expect() -> FaultServer {
    let answer = |shelf: &mut Shelf, request: &Request, parts: &[&str]| {
        let body = request.body.as_slice();
        match (request.method.as_str(), parts) {
            ("POST", ["auth", "login"]) => {
                let given: Value = serde_json::from_slice(body).unwrap();
                if given["password"] != PASSWORD {
                    // A careless server.
                    return detail(401, &format!("wrong password: {}", given["password"]));
                }
                Answer::json(200, &json!({"access_token": TOKEN, "user_id": 7}))
            }
            ("POST", [list @ ("users" | "projects" | "resources" | "citations")]) => {
                Answer::json(201, &shelf.add(list, body, Value::Null))
            }
            ("GET", ["users", _, "roles"]) => {
                Answer::json(200, &json!([{"id": 1, "name": "admin"}]))
            }
            ("GET", ["projects"]) => {
                let (Some(skip), Some(limit)) = (number(request, "skip"), number(request, "limit"))
                else {
                    return unprocessable();
                };
                let all = shelf.all("projects");
                Answer::json(200, &all.into_iter().skip(skip).take(limit).collect::<Vec<_>>())
            }
            ("GET", ["search"]) => {
                let hit = json!({"id": 1, "title": request.query(), "score": 0.5});
                Answer::json(200, &json!({"results": [hit]}))
            }
            ("POST", ["projects", project, "comments"]) => {
                let more = json!({"project_id": project.parse::<i64>().unwrap()});
                Answer::json(201, &shelf.add("comments", body, more))
            }
            ("GET", ["projects", _, "comments"]) => Answer::json(200, &shelf.all("comments")),
            ("GET", ["projects", _, "resources"]) => Answer::json(200, &shelf.all("resources")),
            ("GET", ["projects", _, "recommendations"]) => Answer::json(200, &json!([{"id": 1}])),
            ("GET", ["projects", _, "members", user]) => match *user {
                "7" => Answer::new(204),
                "8" => envelope(403, "AUTHORIZATION_ERROR"),
                "500" => envelope(500, "DATABASE_ERROR"),
                _ => detail(404, "Not Found"),
            },
            (_, [list @ ("users" | "projects" | "resources"), id]) => shelf.one(list, id, request),
            _ => detail(404, "Not Found"),
        }
    };
    start(answer, health_and_ready)
}

/// The user service as it is.
pub(crate) fn user_service() -> FaultServer {
    let answer = |shelf: &mut Shelf, request: &Request, parts: &[&str]| {
        if !matches!(request.header("accept-version"), Some("v1" | "v2")) {
            return detail(406, "Not Acceptable");
        }
        let body = request.body.as_slice();
        match (request.method.as_str(), parts) {
            ("POST", ["token"]) => {
                let form =
                    request.header("content-type") == Some("application/x-www-form-urlencoded");
                let right: &[u8] = b"username=a%40b&password=pl4nted-pass%20word%26%C3%BC";
                match (form, body == right) {
                    (false, _) => unprocessable(),
                    (_, false) => detail(401, "Incorrect username or password"),
                    _ => Answer::json(200, &session()),
                }
            }
            ("POST", ["token", "refresh"]) if body == br#"{"refresh_token":"pl4nted-refresh"}"# => {
                Answer::json(200, &session())
            }
            _ if bearer(request) != Some(TOKEN) => envelope(401, "AUTHENTICATION_ERROR"),
            ("GET", ["roles"]) => Answer::json(200, &shelf.all("roles")),
            ("POST", ["roles"]) => Answer::json(201, &shelf.add("roles", body, Value::Null)),
            ("POST" | "DELETE", ["users", "7", "roles", "lead architect"]) => unprocessable(),
            ("POST" | "DELETE", ["users", "7", "roles", "lead%20architect"]) => {
                Answer::json(200, &json!(["lead architect"]))
            }
            ("GET", ["users", "me", "roles"]) => Answer::json(200, &json!(["architect"])),
            ("GET", ["users", "me", "profile"]) => Answer::json(200, &json!({"bio": "b"})),
            ("PUT" | "PATCH", ["users", "me", "profile"]) => {
                Answer::bytes(200, "application/json", body)
            }
            _ => detail(404, "Not Found"),
        }
    };
    start(answer, |request| match request.route() {
        "/" => Answer::json(200, &json!({"status": "degraded"})),
        _ => detail(404, "Not Found"),
    })
}

/// The project service as it is.
pub(crate) fn project_service() -> FaultServer {
    let acceptable = |request: &Request| {
        let accept = request.header("accept");
        accept.is_none_or(|accept| accept.contains("application/vnd.design-synapse.v1+json"))
    };
    let answer = move |shelf: &mut Shelf, request: &Request, parts: &[&str]| {
        if !acceptable(request) {
            return detail(406, "Not Acceptable");
        }
        let body = request.body.as_slice();
        match (request.method.as_str(), parts) {
            (_, ["projects"] | ["projects", _, "comments"]) => slash(request),
            ("POST", ["projects", ""]) => {
                let more = json!({"version": 1, "is_archived": false, "project_metadata": null});
                Answer::json(201, &shelf.add("projects", body, more))
            }
            ("GET", ["projects", ""]) => {
                let limit = number(request, "limit").unwrap_or(100);
                if !(1..=1000).contains(&limit) {
                    return unprocessable();
                }
                Answer::json(200, &shelf.all("projects"))
            }
            ("PATCH", ["projects", id, "status"]) | (_, ["projects", id]) => {
                shelf.one("projects", id, request)
            }
            (_, ["projects", _, "comments", ..]) if bearer(request) != Some(TOKEN) => {
                detail(401, "Not authenticated")
            }
            ("POST", ["projects", _, "comments", ""]) => {
                let more = json!({"author_id": 7, "replies": []});
                Answer::json(201, &shelf.add("comments", body, more))
            }
            ("GET", ["projects", _, "comments", ""]) => Answer::json(200, &shelf.all("comments")),
            (_, ["projects", _, "comments", id]) => shelf.one("comments", id, request),
            _ => detail(404, "Not Found"),
        }
    };
    start(answer, move |request| match request.route() {
        _ if !acceptable(request) => detail(406, "Not Acceptable"),
        "/" => Answer::json(200, &json!({"status": "healthy", "database": {"connected": true}})),
        _ => detail(404, "Not Found"),
    })
}

/// The knowledge service as it is.
pub(crate) fn knowledge_service() -> FaultServer {
    let answer = |shelf: &mut Shelf, request: &Request, parts: &[&str]| {
        let body = request.body.as_slice();
        match (request.method.as_str(), parts) {
            ("GET", ["health"]) => Answer::json(200, &json!({"status": "healthy"})),
            _ if bearer(request).is_none_or(|user| user.parse::<i64>().is_err()) => {
                detail(401, "Invalid authentication credentials")
            }
            (_, ["resources"] | ["citations"]) => slash(request),
            ("POST", [list @ ("resources" | "citations"), ""]) => {
                Answer::json(201, &shelf.add(list, body, Value::Null))
            }
            ("GET", ["resources", ""]) => {
                let items = shelf.all("resources");
                Answer::json(200, &json!({"total": 1, "page": 1, "limit": 20, "items": items}))
            }
            ("GET", ["resources", id]) => shelf.one("resources", id, request),
            ("GET", ["citations", "project" | "resource", _]) => {
                Answer::json(200, &shelf.all("citations"))
            }
            ("GET", ["search", "global"] | ["search", "project", _]) => {
                let size = number(request, "page_size");
                let hit = json!({"resource_id": 1, "relevance_score": 0.9});
                Answer::json(
                    200,
                    &json!({"total": 1, "page": 1, "page_size": size, "results": [hit]}),
                )
            }
            ("GET", ["search", "project", _, "recommendations"]) => {
                Answer::json(200, &json!([{"id": 1, "score": 1}]))
            }
            _ => detail(404, "Not Found"),
        }
    };
    start(answer, |_| detail(404, "Not Found"))
}

/// The design service as it is.
pub(crate) fn design_service() -> FaultServer {
    let answer = |shelf: &mut Shelf, request: &Request, parts: &[&str]| {
        let body = request.body.as_slice();
        let check = json!({"is_compliant": false, "violations": [{"rule": 1}], "warnings": []});
        let proposal = json!({"id": 6, "design_id": 1, "title": "t", "status": "suggested"});
        let task = |state| json!({"task_id": "t-1", "state": state, "progress": 50.5});
        match (request.method.as_str(), parts) {
            _ if bearer(request) != Some(TOKEN) => envelope(401, "AUTHENTICATION_ERROR"),
            (_, ["designs"]) => slash(request),
            ("POST", ["designs", ""]) => {
                Answer::json(201, &shelf.add("designs", body, json!({"version": 1})))
            }
            ("GET", ["designs", ""]) => Answer::json(200, &shelf.all("designs")),
            ("GET", ["designs", _, "visual-status"]) => {
                Answer::json(200, &json!({"visual_generation_status": "pending"}))
            }
            ("POST", ["designs", _, "generate-visuals"]) => {
                let begun = !shelf.all("visuals").is_empty();
                shelf.add("visuals", b"{}", Value::Null);
                match begun {
                    true => envelope(409, "CONFLICT"),
                    false => Answer::json(202, &json!({"task_id": "t-1", "status": "pending"})),
                }
            }
            ("POST", ["designs", _, "validate"]) => {
                Answer::json(201, &shelf.add("validations", body, check))
            }
            ("GET", ["designs", _, "validations"]) => Answer::json(200, &shelf.all("validations")),
            (_, ["designs", _, "optimize" | "optimizations"]) => {
                Answer::json(200, &json!([proposal]))
            }
            ("POST", ["optimizations", "6", "apply"]) => {
                Answer::json(200, &json!({"id": 2, "version": 2}))
            }
            ("POST", ["designs", _, "files"]) => {
                let kind = request.header("content-type").unwrap_or_default();
                let Some((_, mark)) = kind.split_once("; boundary=") else {
                    return unprocessable();
                };
                let text = String::from_utf8_lossy(body);
                assert!(text.starts_with(&format!("--{mark}\r\n")) && text.contains("%PDF"));
                let file = json!({"filename": "plan.pdf", "file_type": "pdf"});
                Answer::json(201, &shelf.add("files", b"{}", file))
            }
            ("GET", ["designs", _, "files"]) => Answer::json(200, &shelf.all("files")),
            ("GET", ["files", "1", "download"]) => {
                Answer::bytes(200, "application/pdf", &b"%PDF \xff\x00"[..])
            }
            ("DELETE", ["files", id]) => shelf.one("files", id, request),
            ("POST", ["designs", _, "comments"]) => {
                Answer::json(201, &shelf.add("comments", body, json!({"created_by": 7})))
            }
            ("GET", ["designs", _, "comments"]) => Answer::json(200, &shelf.all("comments")),
            ("PUT" | "DELETE", ["comments", id]) => shelf.one("comments", id, request),
            ("POST", ["designs", _, "export"]) => {
                Answer::bytes(200, "application/x-step", &b"ISO-10303-21;"[..])
            }
            ("GET", ["tasks", "t-1"]) => Answer::json(200, &task("PROGRESS")),
            ("GET", ["tasks", _]) => detail(408, "Task status check timeout"),
            (_, ["designs", id]) => shelf.one("designs", id, request),
            _ => detail(404, "Not Found"),
        }
    };
    start(answer, health_and_ready)
}

/// The fields of a thing with a title.
pub(crate) fn titled(title: &str) -> Map<String, Value> {
    [("title".to_owned(), json!(title))].into_iter().collect()
}
