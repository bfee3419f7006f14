//! Designs: what the design service makes, checks, improves and keeps. The platform's client code has
//! no client for it, so there is one way only, that of the server.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use super::client::ids;
use super::form::Upload;
use super::wire::{Fields, list, nullable};
use crate::ops::Caller;
use crate::ops::rest::Operation;

client! {
    /// The design service. It wants a token: [`Designs::bearer`]. What a model has to think about can
    /// take long; a 504 says that it took too long.
    Designs, "design-service", ["accept": "application/json"], "/health", "/ready"
}

/// A design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Design {
    /// Its id.
    pub id: i64,
    /// Its project.
    #[serde(default)]
    pub project_id: Option<i64>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is.
    #[serde(default)]
    pub description: Option<String>,
    /// `residential`, `commercial`, …
    #[serde(default)]
    pub building_type: Option<String>,
    /// `draft`, `validated`, …
    #[serde(default)]
    pub status: Option<String>,
    /// Its version.
    #[serde(default)]
    pub version: Option<i64>,
    /// What else the server says: specification, areas, addresses of pictures, …
    #[serde(flatten)]
    pub other: Fields,
}

/// The fields of a new design. Any other body that serializes does as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewDesign {
    /// Its project.
    pub project_id: i64,
    /// Its name.
    pub name: String,
    /// What it shall be, in words.
    pub description: String,
    /// `residential`, `commercial`, …
    pub building_type: String,
    /// What it has to satisfy.
    pub requirements: Fields,
    /// Whether pictures are made, too.
    pub generate_visuals: bool,
}

/// Which designs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DesignFilter<'a> {
    /// Only of this project.
    pub project_id: Option<i64>,
    /// Only of this type.
    pub building_type: Option<&'a str>,
    /// Only in this state.
    pub status: Option<&'a str>,
    /// How many at most. Default 50; the server gives up to 100.
    pub limit: u32,
    /// How many are left out before them. Default 0.
    pub offset: u64,
}

impl Default for DesignFilter<'_> {
    fn default() -> Self {
        let (project_id, building_type, status) = (None, None, None);
        DesignFilter { project_id, building_type, status, limit: 50, offset: 0 }
    }
}

/// The making of pictures, begun or looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visuals {
    /// The task that makes them, for [`Designs::task`].
    #[serde(default)]
    pub task_id: Option<String>,
    /// `pending`, `processing`, `completed` or `failed`.
    #[serde(default)]
    pub status: Option<String>,
    /// The same, where the server calls it so.
    #[serde(default)]
    pub visual_generation_status: Option<String>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

impl Visuals {
    /// How far they are, whatever it is called.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.status.as_deref().or(self.visual_generation_status.as_deref())
    }
}

/// The outcome of a check against building codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// Its id.
    pub id: i64,
    /// Whether the design complies.
    pub is_compliant: bool,
    /// Against what.
    #[serde(default)]
    pub rule_set: Option<String>,
    /// What does not comply.
    #[serde(default, deserialize_with = "nullable")]
    pub violations: Vec<Value>,
    /// What might not.
    #[serde(default, deserialize_with = "nullable")]
    pub warnings: Vec<Value>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A proposal to improve a design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Optimization {
    /// Its id.
    pub id: i64,
    /// The design.
    #[serde(default)]
    pub design_id: Option<i64>,
    /// `cost`, `structural` or `sustainability`.
    #[serde(default)]
    pub optimization_type: Option<String>,
    /// What is proposed.
    #[serde(default)]
    pub title: Option<String>,
    /// `suggested`, `applied` or `rejected`.
    #[serde(default)]
    pub status: Option<String>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A file of a design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesignFile {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub filename: String,
    /// `pdf`, `dwg`, `dxf`, `png`, `jpg` or `ifc`.
    #[serde(default)]
    pub file_type: Option<String>,
    /// Its size in bytes.
    #[serde(default)]
    pub file_size: Option<u64>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A comment on a design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesignComment {
    /// Its id.
    pub id: i64,
    /// What it says.
    pub content: String,
    /// Who wrote it.
    #[serde(default)]
    pub created_by: Option<i64>,
    /// What else the server says: a position, moments, whether it was changed.
    #[serde(flatten)]
    pub other: Fields,
}

/// A task that goes on after its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub task_id: String,
    /// `PENDING`, `PROGRESS`, `SUCCESS`, `FAILURE`, `RETRY` or `REVOKED`.
    pub state: String,
    /// What came of it, once it is done.
    #[serde(default)]
    pub result: Option<Value>,
    /// How much is done, in per cent.
    #[serde(default)]
    pub progress: Option<Number>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

impl Task {
    /// Whether nothing will come after this.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "SUCCESS" | "FAILURE" | "REVOKED")
    }
}

/// A design as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its media type, where the server says.
    pub content_type: Option<String>,
    /// Its content.
    pub bytes: Bytes,
}

const VISUALS: &str = "/designs/{design_id}/generate-visuals";
const VALIDATE: &str = "/designs/{design_id}/validate";
const OPTIMIZE: &str = "/designs/{design_id}/optimize";
const COMMENTS: &str = "/designs/{design_id}/comments";

impl<C: Caller> Designs<C> {
    /// What makes something of a design.
    fn of_design(&self, name: &'static str, path: &str, design_id: i64) -> Operation<C> {
        ids(self.0.api.post(name, path), &[("design_id", design_id)])
    }

    /// Has a design made. See [`NewDesign`].
    pub fn create<B: Serialize + ?Sized>(&self, fields: &B) -> C::Reply<Design> {
        self.0.api.post("create", "/designs/").json(fields).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn create_with_key<B: Serialize + ?Sized>(
        &self,
        fields: &B,
        key: &str,
    ) -> C::Reply<Design> {
        self.0.api.post("create", "/designs/").json(fields).idempotency_key(key).read()
    }

    /// Designs.
    pub fn list(&self, filter: DesignFilter<'_>) -> C::Reply<Vec<Design>> {
        let operation = self.0.api.get("list", "/designs/");
        let operation = operation.query_if("project_id", filter.project_id);
        let operation = operation.query_if("building_type", filter.building_type);
        let operation = operation.query_if("status", filter.status);
        operation.query("limit", filter.limit).query("offset", filter.offset).with(list)
    }

    /// A design.
    pub fn get(&self, design_id: i64) -> C::Reply<Design> {
        ids(self.0.api.get("get", "/designs/{design_id}"), &[("design_id", design_id)]).read()
    }

    /// Changes a design.
    pub fn update<B: Serialize + ?Sized>(&self, design_id: i64, fields: &B) -> C::Reply<Design> {
        let operation = self.0.api.put("update", "/designs/{design_id}").json(fields);
        ids(operation, &[("design_id", design_id)]).read()
    }

    /// Removes a design.
    pub fn delete(&self, design_id: i64) -> C::Reply<()> {
        let operation = self.0.api.delete("delete", "/designs/{design_id}");
        ids(operation, &[("design_id", design_id)]).nothing()
    }

    /// How far its pictures are.
    pub fn visual_status(&self, design_id: i64) -> C::Reply<Visuals> {
        let operation = self.0.api.get("visual status", "/designs/{design_id}/visual-status");
        ids(operation, &[("design_id", design_id)]).read()
    }

    /// Has pictures made: `visual_types`, `size`, `quality`, `priority`. The answer, 202, comes before
    /// they are there. While some are being made it is 409, an error.
    pub fn generate_visuals<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        wishes: &B,
    ) -> C::Reply<Visuals> {
        self.of_design("generate visuals", VISUALS, design_id).json(wishes).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn generate_visuals_with_key<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        wishes: &B,
        key: &str,
    ) -> C::Reply<Visuals> {
        let operation = self.of_design("generate visuals", VISUALS, design_id).json(wishes);
        operation.idempotency_key(key).read()
    }

    /// Checks a design against building codes: `validation_type`, `rule_set`.
    pub fn validate<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        against: &B,
    ) -> C::Reply<Validation> {
        self.of_design("validate", VALIDATE, design_id).json(against).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn validate_with_key<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        against: &B,
        key: &str,
    ) -> C::Reply<Validation> {
        let operation = self.of_design("validate", VALIDATE, design_id).json(against);
        operation.idempotency_key(key).read()
    }

    /// The checks of a design.
    pub fn validations(&self, design_id: i64) -> C::Reply<Vec<Validation>> {
        let operation = self.0.api.get("validations", "/designs/{design_id}/validations");
        ids(operation, &[("design_id", design_id)]).with(list)
    }

    /// Has improvements proposed: `optimization_types`.
    pub fn optimize<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        wishes: &B,
    ) -> C::Reply<Vec<Optimization>> {
        self.of_design("optimize", OPTIMIZE, design_id).json(wishes).with(list)
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn optimize_with_key<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        wishes: &B,
        key: &str,
    ) -> C::Reply<Vec<Optimization>> {
        let operation = self.of_design("optimize", OPTIMIZE, design_id).json(wishes);
        operation.idempotency_key(key).with(list)
    }

    /// The improvements proposed for a design.
    pub fn optimizations(&self, design_id: i64) -> C::Reply<Vec<Optimization>> {
        let operation = self.0.api.get("optimizations", "/designs/{design_id}/optimizations");
        ids(operation, &[("design_id", design_id)]).with(list)
    }

    /// Makes a new version of the design with this improvement.
    pub fn apply_optimization(&self, optimization_id: i64) -> C::Reply<Design> {
        self.application(optimization_id).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn apply_optimization_with_key(&self, optimization_id: i64, key: &str) -> C::Reply<Design> {
        self.application(optimization_id).idempotency_key(key).read()
    }

    fn application(&self, optimization_id: i64) -> Operation<C> {
        let path = "/optimizations/{optimization_id}/apply";
        let operation = self.0.api.post("apply optimization", path);
        ids(operation, &[("optimization_id", optimization_id)])
    }

    /// The files of a design.
    pub fn files(&self, design_id: i64) -> C::Reply<Vec<DesignFile>> {
        let operation = self.0.api.get("files", "/designs/{design_id}/files");
        ids(operation, &[("design_id", design_id)]).with(list)
    }

    /// Adds a file to a design.
    pub fn upload_file(&self, design_id: i64, upload: &Upload<'_>) -> C::Reply<DesignFile> {
        self.uploading(design_id, upload).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn upload_file_with_key(
        &self,
        design_id: i64,
        upload: &Upload<'_>,
        key: &str,
    ) -> C::Reply<DesignFile> {
        self.uploading(design_id, upload).idempotency_key(key).read()
    }

    fn uploading(&self, design_id: i64, upload: &Upload<'_>) -> Operation<C> {
        let (boundary, form) = upload.form();
        self.of_design("upload file", "/designs/{design_id}/files", design_id)
            .body("multipart/form-data", form)
            .header(CONTENT_TYPE.as_str(), &format!("multipart/form-data; boundary={boundary}"))
    }

    /// The content of a file, collected up to `limits.body`.
    pub fn download_file(&self, file_id: i64) -> C::Reply<Bytes> {
        let operation = self.0.api.get("download file", "/files/{file_id}/download");
        let operation = operation.header("accept", "*/*");
        ids(operation, &[("file_id", file_id)]).with(|response| Ok(response.ok()?.body))
    }

    /// Removes a file.
    pub fn delete_file(&self, file_id: i64) -> C::Reply<()> {
        let operation = self.0.api.delete("delete file", "/files/{file_id}");
        ids(operation, &[("file_id", file_id)]).nothing()
    }

    /// The comments on a design, oldest first.
    pub fn comments(&self, design_id: i64) -> C::Reply<Vec<DesignComment>> {
        let operation = self.0.api.get("comments", "/designs/{design_id}/comments");
        ids(operation, &[("design_id", design_id)]).with(list)
    }

    /// Comments on a design: `content`, `position_x`, `position_y`, `position_z`.
    pub fn add_comment<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        comment: &B,
    ) -> C::Reply<DesignComment> {
        self.of_design("add comment", COMMENTS, design_id).json(comment).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn add_comment_with_key<B: Serialize + ?Sized>(
        &self,
        design_id: i64,
        comment: &B,
        key: &str,
    ) -> C::Reply<DesignComment> {
        let operation = self.of_design("add comment", COMMENTS, design_id).json(comment);
        operation.idempotency_key(key).read()
    }

    /// Changes a comment.
    pub fn update_comment<B: Serialize + ?Sized>(
        &self,
        comment_id: i64,
        comment: &B,
    ) -> C::Reply<DesignComment> {
        let operation = self.0.api.put("update comment", "/comments/{comment_id}").json(comment);
        ids(operation, &[("comment_id", comment_id)]).read()
    }

    /// Removes a comment.
    pub fn delete_comment(&self, comment_id: i64) -> C::Reply<()> {
        let operation = self.0.api.delete("delete comment", "/comments/{comment_id}");
        ids(operation, &[("comment_id", comment_id)]).nothing()
    }

    /// A design as a file: `json`, `pdf` or `ifc`. It is made anew for everyone who asks, so asking
    /// may be repeated.
    pub fn export(&self, design_id: i64, format: &str) -> C::Reply<Export> {
        let operation = self.0.api.post("export", "/designs/{design_id}/export");
        let operation = operation.json(&json!({"format": format})).idempotent(true);
        let operation = operation.header("accept", "*/*");
        ids(operation, &[("design_id", design_id)]).with(|response| {
            let response = response.ok()?;
            let content_type = response.headers.get(CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok());
            Ok(Export { content_type: content_type.map(str::to_owned), bytes: response.body })
        })
    }

    /// How far a task is. The server answers 408 or 503 while it cannot say.
    pub fn task(&self, task_id: &str) -> C::Reply<Task> {
        self.0.api.get("task", "/tasks/{task_id}").segment("task_id", task_id).read()
    }
}
