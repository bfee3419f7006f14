//! Projects, their comments, and who they belong to.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::ids;
use super::wire::{Fields, list, nullable};
use crate::error::Error;
use crate::ops::Caller;

client! {
    /// The project service. It answers 406 to an `Accept` that does not name its media type, so
    /// that one goes along. Comments need a token: [`Projects::bearer`].
    Projects, "project-service", ["accept": "application/vnd.design-synapse.v1+json"], "/", "/"
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Paging {
    /// How many are left out before it. Default 0.
    pub skip: u64,
    /// How many at most. Default 100; the published server takes 1–1000.
    pub limit: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Paging { skip: 0, limit: 100 }
    }
}

/// How far a project is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectStatus {
    /// Begun.
    Draft,
    /// At work.
    InProgress,
    /// Looked at.
    Review,
    /// Done.
    Completed,
    /// Put away.
    Archived,
    /// A word that is not known here.
    #[serde(untagged)]
    Other(String),
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Who it belongs to.
    #[serde(default)]
    pub owner_id: Option<i64>,
    /// What it is.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether everybody may see it.
    #[serde(default)]
    pub is_public: Option<bool>,
    /// How far it is.
    #[serde(default)]
    pub status: Option<ProjectStatus>,
    /// Its version: a number or a text, the sources do not say.
    #[serde(default)]
    pub version: Option<Value>,
    /// What others keep with it.
    #[serde(default, deserialize_with = "nullable")]
    pub project_metadata: Fields,
    /// When it was made, as the server writes it.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was last changed.
    #[serde(default)]
    pub updated_at: Option<String>,
    /// Whether it is put away.
    #[serde(default)]
    pub is_archived: Option<bool>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

impl Project {
    /// Whether it belongs to this user. One without an owner belongs to nobody.
    #[must_use]
    pub fn is_owned_by(&self, user_id: i64) -> bool {
        self.owner_id == Some(user_id)
    }
}

/// The usual fields of a new project. Any other body that serializes does as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewProject {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who it will belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<i64>,
    /// Whether everybody may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_public: Option<bool>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ProjectStatus>,
    /// What you keep with it.
    #[serde(skip_serializing_if = "Fields::is_empty")]
    pub project_metadata: Fields,
}

/// A comment on a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its id.
    pub id: i64,
    /// What it says.
    pub content: String,
    /// The comment it answers.
    #[serde(default)]
    pub parent_id: Option<i64>,
    /// Who wrote it.
    #[serde(default)]
    pub author_id: Option<i64>,
    /// What it is about.
    #[serde(default)]
    pub project_id: Option<i64>,
    /// When it was written, as the server writes it.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was last changed.
    #[serde(default)]
    pub updated_at: Option<String>,
    /// The answers to it.
    #[serde(default, deserialize_with = "nullable")]
    pub replies: Vec<Comment>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A comment to be written. Any other body that serializes does as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewComment {
    /// What it says.
    pub content: String,
    /// The comment it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<i64>,
}

impl<C: Caller> Projects<C> {
    /// A project.
    pub fn get(&self, project_id: i64) -> C::Reply<Project> {
        let operation = self.0.api.get("get", "/projects/{project_id}");
        ids(operation, &[("project_id", project_id)]).read()
    }

    /// Projects. Both numbers are always sent.
    pub fn list(&self, paging: Paging) -> C::Reply<Vec<Project>> {
        let operation = self.0.api.get("list", self.0.way("/projects", "/projects/"));
        operation.query("skip", paging.skip).query("limit", paging.limit).with(list)
    }

    /// Makes a project.
    pub fn create<B: Serialize + ?Sized>(&self, fields: &B) -> C::Reply<Project> {
        self.creation(fields).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn create_with_key<B: Serialize + ?Sized>(
        &self,
        fields: &B,
        key: &str,
    ) -> C::Reply<Project> {
        self.creation(fields).idempotency_key(key).read()
    }

    fn creation<B: Serialize + ?Sized>(&self, fields: &B) -> crate::ops::rest::Operation<C> {
        self.0.api.post("create", self.0.way("/projects", "/projects/")).json(fields)
    }

    /// Changes a project.
    pub fn update<B: Serialize + ?Sized>(&self, project_id: i64, fields: &B) -> C::Reply<Project> {
        let operation = self.0.api.put("update", "/projects/{project_id}").json(fields);
        ids(operation, &[("project_id", project_id)]).read()
    }

    /// Says how far a project is. Saying it twice changes nothing, so it may be repeated.
    pub fn set_status(&self, project_id: i64, status: &ProjectStatus) -> C::Reply<Project> {
        let operation = self.0.api.patch("set status", "/projects/{project_id}/status");
        let operation = operation.json(&json!({"status": status})).idempotent(true);
        ids(operation, &[("project_id", project_id)]).read()
    }

    /// Removes a project.
    pub fn delete(&self, project_id: i64) -> C::Reply<()> {
        let operation = self.0.api.delete("delete", "/projects/{project_id}");
        ids(operation, &[("project_id", project_id)]).nothing()
    }

    /// Whether the project belongs to the user: the project is loaded and its owner compared
    /// (002-46). `false` when it is another's, nobody's, or not there: nobody owns what does not
    /// exist. A server that will not say (401, 403, 5xx) is an error, not a no.
    pub fn is_owner(&self, user_id: i64, project_id: i64) -> C::Reply<bool> {
        let operation = self.0.api.get("get", "/projects/{project_id}");
        ids(operation, &[("project_id", project_id)]).with(move |response| {
            match response.status.as_u16() {
                404 => Ok(false),
                _ => Ok(response.ok()?.json::<Project>()?.is_owned_by(user_id)),
            }
        })
    }

    /// Whether the user is a member of the project: 2xx is yes, 403 and 404 are no, anything else is
    /// an error.
    pub fn is_member(&self, project_id: i64, user_id: i64) -> C::Reply<bool> {
        let operation = self.0.api.get("is member", "/projects/{project_id}/members/{user_id}");
        ids(operation, &[("project_id", project_id), ("user_id", user_id)]).with(|response| {
            match response.status.as_u16() {
                200..300 => Ok(true),
                403 | 404 => Ok(false),
                _ => Err(Error::of_status(response)),
            }
        })
    }

    fn comments_path(&self) -> &'static str {
        self.0.way("/projects/{project_id}/comments", "/projects/{project_id}/comments/")
    }

    /// The comments on a project.
    pub fn comments(&self, project_id: i64) -> C::Reply<Vec<Comment>> {
        let operation = self.0.api.get("comments", self.comments_path());
        ids(operation, &[("project_id", project_id)]).with(list)
    }

    /// Comments on a project.
    pub fn add_comment<B: Serialize + ?Sized>(
        &self,
        project_id: i64,
        comment: &B,
    ) -> C::Reply<Comment> {
        let operation = self.0.api.post("add comment", self.comments_path()).json(comment);
        ids(operation, &[("project_id", project_id)]).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn add_comment_with_key<B: Serialize + ?Sized>(
        &self,
        project_id: i64,
        comment: &B,
        key: &str,
    ) -> C::Reply<Comment> {
        let operation = self.0.api.post("add comment", self.comments_path()).json(comment);
        ids(operation, &[("project_id", project_id)]).idempotency_key(key).read()
    }

    /// One comment.
    pub fn comment(&self, project_id: i64, comment_id: i64) -> C::Reply<Comment> {
        let operation = self.0.api.get("comment", COMMENT);
        ids(operation, &[("project_id", project_id), ("comment_id", comment_id)]).read()
    }

    /// Changes a comment.
    pub fn update_comment<B: Serialize + ?Sized>(
        &self,
        project_id: i64,
        comment_id: i64,
        comment: &B,
    ) -> C::Reply<Comment> {
        let operation = self.0.api.put("update comment", COMMENT).json(comment);
        ids(operation, &[("project_id", project_id), ("comment_id", comment_id)]).read()
    }

    /// Removes a comment.
    pub fn delete_comment(&self, project_id: i64, comment_id: i64) -> C::Reply<()> {
        let operation = self.0.api.delete("delete comment", COMMENT);
        ids(operation, &[("project_id", project_id), ("comment_id", comment_id)]).nothing()
    }
}

/// The path of one comment, the same on both sides.
const COMMENT: &str = "/projects/{project_id}/comments/{comment_id}";
