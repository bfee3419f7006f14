//! What only the published servers have (contracts §3.4, §3.7): more checks, lists, transformers of
//! the stamping service; the making and the searching of trees. The clients' contract has none of
//! it, so there is one form. Where the contracts name fields these are typed; where they name none,
//! it is what the server says.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::data::Anything;
use super::envelope::{Bad, Data, Fields, Word, open, open_bare};
use super::stamping::{STAMP_NAMESPACE, Stamping, health};
use super::tree::OnexTree;
use crate::ops::Caller;

/// How well a content keeps to a protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProtocolCheck {
    /// Whether it does.
    pub is_valid: bool,
    /// The version it was held to.
    pub protocol_version: Option<String>,
    /// `full`, `partial` or `none`.
    pub compliance_level: Option<String>,
    /// What is wrong.
    pub issues: Vec<Value>,
    /// What could be better.
    pub recommendations: Vec<Value>,
}

impl Data for ProtocolCheck {
    fn of(mut fields: Fields) -> Result<ProtocolCheck, Bad> {
        let mut inner = Fields(fields.map(&["validation_result"])?);
        Ok(ProtocolCheck {
            is_valid: inner.truth(&["is_valid"])?.ok_or(Bad::Field("is_valid"))?,
            protocol_version: inner.text(&["protocol_version"])?,
            compliance_level: inner.text(&["compliance_level"])?,
            issues: inner.list(&["issues"])?,
            recommendations: inner.list(&["recommendations"])?,
        })
    }
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageOf {
    /// How many at most. Default 50; the server takes 1–1000.
    pub limit: u32,
    /// How many are left out before them. Default 0.
    pub offset: u64,
}

impl Default for PageOf {
    fn default() -> Self {
        PageOf { limit: 50, offset: 0 }
    }
}

/// Stamps of a namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stamps {
    /// How many there are in all.
    pub total_stamps: u64,
    /// Those of this page, as the server has them.
    pub stamps: Vec<Value>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

impl Data for Stamps {
    fn of(mut fields: Fields) -> Result<Stamps, Bad> {
        let mut pages = Fields(fields.map(&["pagination"])?);
        fields.need("stamps")?;
        Ok(Stamps {
            total_stamps: fields.count(&["total_stamps"])?.ok_or(Bad::Field("total_stamps"))?,
            stamps: fields.list(&["stamps"])?,
            has_more: pages.truth(&["has_more"])?.unwrap_or(false),
        })
    }
}

/// What the server has under names: its transformers, its schemas.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Named(pub Map<String, Value>);

impl Data for Named {
    fn of(fields: Fields) -> Result<Named, Bad> {
        Ok(Named(fields.0))
    }
}

impl<C: Caller> Stamping<C> {
    /// Holds a content against a protocol: `target_protocol`, as strictly as `validation_level`
    /// says. Without a namespace: [`STAMP_NAMESPACE`].
    pub fn validate_protocol(
        &self,
        content: &str,
        target_protocol: &str,
        validation_level: &str,
        namespace: Option<&str>,
    ) -> C::Reply<ProtocolCheck> {
        let body = json!({
            "content": content,
            "namespace": namespace.unwrap_or(STAMP_NAMESPACE),
            "target_protocol": target_protocol,
            "validation_level": validation_level,
        });
        let operation = self.api().post("validate_protocol", "/validate-protocol");
        operation.json(&body).idempotent(true).with(|response| {
            let accept = [Word::Success, Word::Partial];
            open("validate_protocol", &accept, response).map(|(check, ..)| check)
        })
    }

    /// The stamps of a namespace. The server keeps no list at present: its pages are empty.
    pub fn namespace_stamps(&self, namespace: &str, page: PageOf) -> C::Reply<Stamps> {
        self.api()
            .get("namespace_stamps", "/namespace/{namespace}")
            .segment("namespace", namespace)
            .query("limit", page.limit)
            .query("offset", page.offset)
            .with(|response| {
                open("namespace_stamps", &[Word::Success], response).map(|(stamps, ..)| stamps)
            })
    }

    /// Whether the server runs at all. It answers 200 also in trouble, so the word counts.
    pub fn live(&self) -> C::Reply<bool> {
        self.api().get("live", "/health/live").with(|response| {
            let health = health("live", response)?;
            Ok(["alive", "healthy", "ok", "success"].contains(&health.status()))
        })
    }

    /// Stamps by one of the server's transformers; what it takes and yields is the transformer's.
    /// Not repeated once it may have arrived.
    pub fn transform_stamp<B: Serialize + ?Sized>(&self, body: &B) -> C::Reply<Named> {
        let operation = self.api().post("transform_stamp", "/transform/stamp").json(body);
        operation.with(|response| {
            open("transform_stamp", &[Word::Success], response).map(|(named, ..)| named)
        })
    }

    /// Checks by one of the server's transformers.
    pub fn transform_validate<B: Serialize + ?Sized>(&self, body: &B) -> C::Reply<Named> {
        let operation = self.api().post("transform_validate", "/transform/validate").json(body);
        operation.idempotent(true).with(|response| {
            open("transform_validate", &[Word::Success, Word::Partial], response)
                .map(|(named, ..)| named)
        })
    }

    /// The server's transformers.
    pub fn transformers(&self) -> C::Reply<Named> {
        self.api().get("transformers", "/transformers").with(|response| {
            open("transformers", &[Word::Success], response).map(|(named, ..)| named)
        })
    }

    /// The server's schemas.
    pub fn schemas(&self) -> C::Reply<Named> {
        self.api()
            .get("schemas", "/schemas")
            .with(|response| open("schemas", &[Word::Success], response).map(|(named, ..)| named))
    }
}

/// What is looked for in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueryKind {
    /// Whatever the text looks like.
    #[default]
    Auto,
    /// The ending of a name.
    Extension,
    /// A name.
    Name,
    /// A path.
    Path,
}

impl fmt::Display for QueryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QueryKind::Auto => "auto",
            QueryKind::Extension => "extension",
            QueryKind::Name => "name",
            QueryKind::Path => "path",
        })
    }
}

/// A kind of search other than `auto`, `extension`, `name` and `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a search is \"auto\", \"extension\", \"name\" or \"path\"")]
pub struct BadQueryKind;

impl FromStr for QueryKind {
    type Err = BadQueryKind;

    fn from_str(text: &str) -> Result<QueryKind, BadQueryKind> {
        match text {
            "auto" => Ok(QueryKind::Auto),
            "extension" => Ok(QueryKind::Extension),
            "name" => Ok(QueryKind::Name),
            "path" => Ok(QueryKind::Path),
            _ => Err(BadQueryKind),
        }
    }
}

/// A tree that was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// Files in it.
    pub total_files: u64,
    /// Directories in it.
    pub total_directories: u64,
    /// How large all of them are.
    pub total_size_mb: Option<f64>,
    /// How long it took.
    pub generation_time_ms: Option<f64>,
}

impl Data for Generated {
    fn of(mut fields: Fields) -> Result<Generated, Bad> {
        let mut count = |name| fields.count(&[name])?.ok_or(Bad::Field(name));
        Ok(Generated {
            total_files: count("total_files")?,
            total_directories: count("total_directories")?,
            total_size_mb: fields.number(&["total_size_mb"])?,
            generation_time_ms: fields.number(&["generation_time_ms"])?,
        })
    }
}

/// A file or directory of a tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Where it is.
    pub path: String,
    /// Its name.
    pub name: String,
    /// `file` or `directory`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The ending of its name.
    pub extension: Option<String>,
}

impl Data for Entry {
    fn of(mut fields: Fields) -> Result<Entry, Bad> {
        Ok(Entry {
            path: fields.text(&["path"])?.ok_or(Bad::Field("path"))?,
            name: fields.text(&["name"])?.ok_or(Bad::Field("name"))?,
            kind: fields.text(&["type"])?,
            size: fields.count(&["size"])?,
            extension: fields.text(&["extension"])?,
        })
    }
}

/// What a search of a tree found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// What it was taken for.
    pub query_type: Option<String>,
    /// What was found.
    pub results: Vec<Entry>,
    /// How many there are.
    pub count: u64,
    /// How long it took.
    pub execution_time_ms: Option<f64>,
}

impl Data for Found {
    fn of(mut fields: Fields) -> Result<Found, Bad> {
        fields.need("results")?;
        let results = fields.list(&["results"])?.into_iter().map(|one| match one {
            Value::Object(entry) => Entry::of(Fields(entry)),
            _ => Err(Bad::Field("results")),
        });
        let results = results.collect::<Result<Vec<_>, _>>()?;
        let found = u64::try_from(results.len()).unwrap_or(u64::MAX);
        Ok(Found {
            query_type: fields.text(&["query_type"])?,
            count: fields.count(&["count"])?.unwrap_or(found),
            execution_time_ms: fields.number(&["execution_time_ms"])?,
            results,
        })
    }
}

/// What the server knows of its tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TreeStats {
    /// Whether it has one.
    pub tree_loaded: bool,
    /// Numbers about it.
    pub statistics: Map<String, Value>,
}

impl Data for TreeStats {
    fn of(mut fields: Fields) -> Result<TreeStats, Bad> {
        Ok(TreeStats {
            tree_loaded: fields.truth(&["tree_loaded"])?.ok_or(Bad::Field("tree_loaded"))?,
            statistics: fields.map(&["statistics"])?,
        })
    }
}

impl<C: Caller> OnexTree<C> {
    /// What the server is: its version, whether it is ready or has no tree, what it offers.
    pub fn info(&self) -> C::Reply<Map<String, Value>> {
        self.api().get("info", "/").with(|response| {
            open::<Anything>("info", &[Word::Success], response).map(|(Anything(info), ..)| info)
        })
    }

    /// Has the tree of a project made, in place of any that is loaded. Making it twice yields the
    /// same, so it may be repeated.
    pub fn generate_tree(&self, project_root: &str) -> C::Reply<Generated> {
        let operation = self.api().post("generate_tree", "/generate").idempotent(true);
        let operation = operation.json(&json!({"project_root": project_root}));
        operation.with(|response| open_bare("generate_tree", response))
    }

    /// Looks for files: what the published server has in place of
    /// [`query_knowledge`](OnexTree::query_knowledge). A 400 says that there is no tree.
    pub fn query_tree(&self, query: &str, kind: QueryKind, limit: u32) -> C::Reply<Found> {
        let body = json!({"query": query, "query_type": kind.to_string(), "limit": limit});
        let operation = self.api().post("query_tree", "/query").json(&body).idempotent(true);
        operation.with(|response| open_bare("query_tree", response))
    }

    /// What the server knows of its tree.
    pub fn tree_stats(&self) -> C::Reply<TreeStats> {
        let operation = self.api().get("tree_stats", "/stats");
        operation.with(|response| open_bare("tree_stats", response))
    }
}
