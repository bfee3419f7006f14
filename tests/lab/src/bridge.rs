//! Stand-ins for the services of the `OmniNode` bridge, written from the contracts: one pair that
//! speaks as the clients' contract has it, one as the published servers do, with their quirks (two
//! names for a field, errors in answers of 200 or inside `detail`, `ok` for healthy, metrics that
//! are no JSON, operations that do not exist). The hash is none: 64 digits made of the content.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::{Answer, Request};
use crate::server::{FaultServer, Handler};
use serde_json::{Map, Value, json};

/// Where the published stamping server has its operations.
pub const PREFIX: &str = "/api/v1/metadata-stamping";
/// What no error of a client may repeat: a context of this name makes the tree say it.
pub const PLANTED: &str = "postgres://admin:hunter2@db/stamps";
/// How long the first of two requests waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose contract is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// The clients' contract.
    Clients,
    /// That of the published servers.
    Server,
}

#[derive(Default)]
struct State {
    stamps: BTreeMap<String, Value>,
    /// A hash and a question for intelligence wait for one another.
    meet: bool,
    arrived: [bool; 2],
    met: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

/// Both services.
#[derive(Debug)]
pub struct Bridge {
    /// The stamping service.
    pub stamping: FaultServer,
    /// The tree.
    pub tree: FaultServer,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrive(&self, who: usize) {
        let mut state = self.lock();
        if !state.meet {
            return;
        }
        state.arrived[who] = true;
        state.met |= state.arrived == [true, true];
        self.moved.notify_all();
        let waited = self.moved.wait_timeout_while(state, PATIENCE, |state| !state.met);
        drop(waited);
    }
}

impl Bridge {
    /// Starts both.
    ///
    /// # Errors
    /// As [`FaultServer::start`].
    pub fn start(speaks: Speaks) -> io::Result<Bridge> {
        let shared = Arc::new(Shared::default());
        let (stamping, tree) = handlers_of(speaks, &shared);
        Ok(Bridge {
            stamping: FaultServer::with_handler(stamping)?,
            tree: FaultServer::with_handler(tree)?,
            shared,
        })
    }

    /// From now on a hash and a question for intelligence are answered only when both have
    /// arrived, or after five seconds.
    pub fn let_them_meet(&self) {
        *self.shared.lock() = State { meet: true, ..State::default() };
    }

    /// Whether they were under way at the same time.
    #[must_use]
    pub fn have_met(&self) -> bool {
        self.shared.lock().met
    }
}

/// The stamping service and the tree as handlers, for a world. All instances that are given the same
/// handler are replicas: a stamp made at one is known to the others.
#[must_use]
pub fn handlers(speaks: Speaks) -> (Handler, Handler) {
    handlers_of(speaks, &Arc::default())
}

fn handlers_of(speaks: Speaks, shared: &Arc<Shared>) -> (Handler, Handler) {
    let (one, other) = (shared.clone(), shared.clone());
    (
        Arc::new(move |request: &Request| stamping(speaks, &one, request)),
        Arc::new(move |request: &Request| tree(speaks, &other, request)),
    )
}

fn success(data: &Value) -> Answer {
    Answer::json(200, &json!({"status": "success", "data": data, "error": null, "message": "done"}))
}

fn missing() -> Answer {
    Answer::json(404, &json!({"detail": "Not Found"}))
}

fn refuse(status: u16, code: &str) -> Answer {
    let error = json!([{"code": code, "field": null, "message": format!("at {PLANTED}")}]);
    let envelope = json!({"status": "error", "data": null, "error": error, "metadata": {}});
    Answer::json(status, &json!({ "detail": envelope }))
}

fn unprocessable(field: &str) -> Answer {
    let detail = json!([{"loc": ["body", field], "msg": "field required", "type": "missing"}]);
    Answer::json(422, &json!({ "detail": detail }))
}

fn hash_of(content: &[u8]) -> String {
    let hash = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}").repeat(4)
}

/// The one part of a form, if the form is sound.
fn part(request: &Request) -> Option<&[u8]> {
    let (media, boundary) = request.header("content-type")?.split_once("; boundary=")?;
    let (head, tail) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}--\r\n"));
    let inner = request.body.strip_prefix(head.as_bytes())?.strip_suffix(tail.as_bytes())?;
    let at = inner.windows(4).position(|four| four == b"\r\n\r\n")?;
    let lines = std::str::from_utf8(&inner[..at]).ok()?;
    let named = lines.contains("name=\"file\"; filename=\"data\"")
        && lines.contains("Content-Type: application/octet-stream");
    (media == "multipart/form-data" && named).then(|| &inner[at + 4..])
}

fn stamping(speaks: Speaks, shared: &Shared, request: &Request) -> Answer {
    let server = speaks == Speaks::Server;
    let route = match (server, request.route().strip_prefix(PREFIX)) {
        (true, Some(route)) => route,
        (true, None) => {
            return match request.route() {
                "/health" => {
                    Answer::json(200, &json!({"status": "ok", "service": "metadata-stamping"}))
                }
                "/metrics" => Answer::text(200, "# HELP stamps_total x\nstamps_total 1\n"),
                _ => missing(),
            };
        }
        (false, _) => request.route(),
    };
    let body: Map<String, Value> = serde_json::from_slice(&request.body).unwrap_or_default();
    match (request.method.as_str(), route) {
        ("POST", "/hash") => {
            shared.arrive(0);
            let Some(content) = part(request) else { return unprocessable("file") };
            let name = if server { "file_hash" } else { "hash" };
            success(&json!({name: hash_of(content), "execution_time_ms": 0.4,
                "file_size_bytes": content.len(), "performance_grade": "A"}))
        }
        ("POST", "/stamp") => stamp(server, shared, &body),
        ("GET", route) if route.starts_with("/stamp/") => {
            let hash = &route["/stamp/".len()..];
            let hex = hash.len() == 64 && hash.bytes().all(|b| b"0123456789abcdef".contains(&b));
            match shared.lock().stamps.get(hash) {
                Some(row) => success(row),
                None if server && !hex => refuse(400, "INVALID_HASH_FORMAT"),
                None if server => refuse(404, "STAMP_NOT_FOUND"),
                None => Answer::json(404, &json!({"status": "error", "error": "no such stamp"})),
            }
        }
        ("POST", "/validate") => {
            let Some(content) = body.get("content").and_then(Value::as_str) else {
                return unprocessable("content");
            };
            let valid = !content.contains("tampered");
            match server {
                true => success(&json!({"success": true, "is_valid": valid, "stamps_found": 1,
                    "current_hash": hash_of(content.as_bytes()),
                    "validation_details": [{"stamp_type": "lightweight", "is_valid": valid}]})),
                false => success(&json!({"validation_result": valid, "stamps_found": 1,
                    "valid_stamps": u8::from(valid), "invalid_stamps": u8::from(!valid),
                    "details": [{}]})),
            }
        }
        ("POST", "/batch") => batch(server, &body),
        ("GET", "/metrics") if server => success(&json!({"hash_generation": {}, "database": {}})),
        ("GET", "/metrics") => Answer::json(200, &json!({"hashes": 7})),
        ("GET", "/health") if server => {
            success(&json!({"status": "healthy", "components": {}, "uptime_seconds": 1}))
        }
        ("GET", "/health") => Answer::json(200, &json!({"status": "healthy"})),
        ("POST", "/validate-protocol") if server => {
            let Some(content) = body.get("content").and_then(Value::as_str) else {
                return unprocessable("content");
            };
            let valid = !content.contains("tampered");
            let level = if valid { "full" } else { "none" };
            success(&json!({"validation_result": {"is_valid": valid, "protocol_version": "1.0",
                "compliance_level": level, "issues": [], "recommendations": []}}))
        }
        ("GET", route) if server && route.starts_with("/namespace/") => {
            let pages = json!({"limit": 50, "offset": 0, "total": 0, "has_more": false});
            success(&json!({"namespace": &route["/namespace/".len()..], "total_stamps": 0,
                "stamps": [], "pagination": pages}))
        }
        ("GET", "/health/live") if server => {
            success(&json!({"status": "alive", "uptime_seconds": 1, "timestamp": "t"}))
        }
        // Their errors come as answers of 200.
        ("POST", "/transform/stamp" | "/transform/validate") if server => {
            if body.get("transformer").is_none() {
                let error = json!({"status": "error", "data": null, "error": PLANTED});
                return Answer::json(200, &error);
            }
            success(&json!({"transformer": body["transformer"]}))
        }
        ("GET", "/transformers" | "/schemas") if server => success(&json!({"lines": "1"})),
        ("GET", "/health/ready") if server => {
            let data = json!({"components": {}, "overall_ready": false});
            Answer::json(200, &json!({"status": "partial", "data": data}))
        }
        _ => missing(),
    }
}

fn stamp(server: bool, shared: &Shared, body: &Map<String, Value>) -> Answer {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let hash = if server {
        let Some(content) = text("content") else { return unprocessable("content") };
        hash_of(content.as_bytes())
    } else {
        let all = ["file_path", "file_size", "stamp_data", "namespace"];
        if let Some(name) = all.into_iter().find(|name| !body.contains_key(*name)) {
            return unprocessable(name);
        }
        let Some(hash) = text("file_hash") else { return unprocessable("file_hash") };
        hash.to_owned()
    };
    let mut state = shared.lock();
    let number = state.stamps.len();
    // Found by its content: a second request makes no second stamp.
    let row = state.stamps.entry(hash.clone()).or_insert_with(|| {
        json!({"stamp_id": format!("stamp-{number}"), "file_hash": hash,
            "stamped_content": "stamped", "stamp": "{}", "created_at": "2026-01-01T00:00:00Z",
            "op_id": format!("op-{number}"), "namespace": body.get("namespace"), "version": 1,
            "performance_metrics": {"performance_grade": "A"}})
    });
    success(row)
}

fn batch(server: bool, body: &Map<String, Value>) -> Answer {
    let items = body.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if items.is_empty() {
        return refuse(400, "EMPTY_BATCH_REQUEST");
    }
    let needed = if server { "content" } else { "file_hash" };
    let good = |item: &&Value| {
        item.get(needed).is_some() && item["file_path"] != "bad" && item["namespace"].is_string()
    };
    let (all, done) = (items.len(), items.iter().filter(good).count());
    let status = match done {
        0 => "error",
        done if done < all => "partial",
        _ => "success",
    };
    let results: Vec<Value> = items.iter().map(|item| json!({"success": good(&item)})).collect();
    let data = match server {
        true => json!({"total_items": all, "successful_items": done, "failed_items": all - done,
            "results": results, "overall_performance": {}}),
        false => json!({"total": all, "successful": done, "failed": all - done,
            "results": results}),
    };
    // 200 even when all have failed.
    Answer::json(200, &json!({"status": status, "data": data, "error": null}))
}

fn tree(speaks: Speaks, shared: &Shared, request: &Request) -> Answer {
    let body: Map<String, Value> = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    match (request.method.as_str(), request.route(), speaks) {
        ("GET", "/health", _) => {
            Answer::json(200, &json!({"status": "healthy", "tree_loaded": true, "total_files": 12}))
        }
        ("POST", "/intelligence", _) => {
            shared.arrive(1);
            let Some(context) = text("context") else { return unprocessable("context") };
            if context == "broken" {
                let error = json!({"status": "error", "data": null, "error": PLANTED});
                return Answer::json(200, &error);
            }
            success(&json!({
                "intelligence": {"analysis_type": "full", "confidence_score": "0.9",
                    "recommendations": context},
                "patterns": ["factory"],
                "relationships": [{"type": "imports"}],
                "metadata": {"tree_loaded": true, "analysis_time_ms": 1.5},
            }))
        }
        ("GET", "/", Speaks::Server) => {
            success(&json!({"service": "onextree", "version": "1", "status": "no_tree_loaded"}))
        }
        ("POST", "/generate", Speaks::Server) => match text("project_root") {
            Some("/missing") => Answer::json(400, &json!({"detail": "no such path"})),
            Some(_) => Answer::json(
                200,
                &json!({"success": true, "total_files": 12,
                "total_directories": 3, "total_size_mb": 0.5, "generation_time_ms": 1.5}),
            ),
            None => unprocessable("project_root"),
        },
        ("POST", "/query", Speaks::Server) => {
            let kind = body.get("query_type").cloned().unwrap_or_default();
            let Some(query) = text("query") else { return unprocessable("query") };
            let found = json!({"path": format!("src/{query}"), "name": query, "type": "file",
                "size": 7, "extension": "rs"});
            Answer::json(
                200,
                &json!({"success": true, "query": query, "query_type": kind,
                "results": [found], "count": 1, "execution_time_ms": 0.1}),
            )
        }
        ("GET", "/stats", Speaks::Server) => {
            Answer::json(200, &json!({"tree_loaded": true, "statistics": {"files": 12}}))
        }
        ("POST", "/knowledge/query", Speaks::Clients) => {
            success(&json!({"results": [text("query")], "paths": null, "metadata": {}}))
        }
        ("POST", "/tree/navigate", Speaks::Clients) => {
            let way = body.get("direction").cloned().unwrap_or_default();
            success(&json!({"nodes": [text("start_node")], "edges": [way], "metadata": {}}))
        }
        _ => missing(),
    }
}
