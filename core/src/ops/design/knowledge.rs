//! Knowledge: resources, the search in them, citations and recommendations.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use super::client::ids;
use super::wire::{Fields, list, nullable};
use crate::ops::Caller;
use crate::ops::rest::Operation;
use crate::secret::Secret;

client! {
    /// The knowledge service. Its published server takes the number of a user for a token:
    /// [`Knowledge::acting_as`].
    Knowledge, "knowledge-service", ["accept": "application/json"], "/api/v1/health", "/api/v1/health"
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its id.
    pub id: i64,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// What it is about.
    #[serde(default)]
    pub description: Option<String>,
    /// `pdf`, `text`, `url` or `image`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Where its content is kept.
    #[serde(default)]
    pub storage_path: Option<String>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// Which resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceFilter<'a> {
    /// Only of this type.
    pub content_type: Option<&'a str>,
    /// Only on this topic.
    pub topic_id: Option<i64>,
    /// Which page, from 1; `None`: as the server likes.
    pub page: Option<u64>,
    /// How many on a page; `None`: as the server likes.
    pub limit: Option<u32>,
}

/// A page of resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// How many there are on all pages.
    #[serde(default)]
    pub total: Option<u64>,
    /// Which page this is.
    #[serde(default)]
    pub page: Option<u64>,
    /// How many are on a page.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Those on this one.
    #[serde(deserialize_with = "nullable")]
    pub items: Vec<Resource>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A search. The first three fields go to every server, the others to a published one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Search<'a> {
    /// What is searched for, any text.
    pub query: &'a str,
    /// How many results at most. Default 20; `page_size` of a published server.
    pub limit: u32,
    /// Only resources of this type.
    pub resource_type: Option<&'a str>,
    /// The lowest score of a result, in thousandths.
    pub min_score_permille: Option<u16>,
    /// What results are sorted by.
    pub sort_by: Option<&'a str>,
    /// Tags of a result, as the server writes them.
    pub tags: Option<&'a str>,
    /// Which page, from 1.
    pub page: Option<u64>,
}

impl<'a> Search<'a> {
    /// A search for `query` with the defaults.
    #[must_use]
    pub const fn new(query: &'a str) -> Search<'a> {
        Search {
            query,
            limit: 20,
            resource_type: None,
            min_score_permille: None,
            sort_by: None,
            tags: None,
            page: None,
        }
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The results, best first.
    #[serde(deserialize_with = "nullable")]
    pub results: Vec<Recommendation>,
    /// How many there are on all pages.
    #[serde(default)]
    pub total: Option<u64>,
    /// Which page this is.
    #[serde(default)]
    pub page: Option<u64>,
    /// How many are on a page.
    #[serde(default)]
    pub page_size: Option<u64>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A resource that was found or is recommended, and how well it fits. The sources name no field of
/// it for sure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Its id.
    #[serde(default)]
    pub id: Option<i64>,
    /// The resource, where the server has another id for what it found.
    #[serde(default)]
    pub resource_id: Option<i64>,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// How well it fits, as the server counts.
    #[serde(default)]
    pub score: Option<Number>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

/// A citation of a resource in a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// Its id.
    pub id: i64,
    /// What is cited.
    #[serde(default)]
    pub resource_id: Option<i64>,
    /// Where.
    #[serde(default)]
    pub project_id: Option<i64>,
    /// In which words.
    #[serde(default)]
    pub context: Option<String>,
    /// What else the server says.
    #[serde(flatten)]
    pub other: Fields,
}

impl<C: Caller> Knowledge<C> {
    /// As this user: its number is the token that the published server wants. That proves nothing,
    /// and a server that wants proof is given another by [`Knowledge::bearer`].
    #[must_use]
    pub fn acting_as(self, user_id: i64) -> Self {
        match Secret::new(&user_id.to_string()) {
            Some(token) => self.bearer(&token),
            None => self,
        }
    }

    /// A resource.
    pub fn resource(&self, resource_id: i64) -> C::Reply<Resource> {
        let operation = self.0.api.get("resource", "/resources/{resource_id}");
        ids(operation, &[("resource_id", resource_id)]).read()
    }

    /// A page of resources, as the published server has them.
    pub fn resources(&self, filter: ResourceFilter<'_>) -> C::Reply<Resources> {
        let operation = self.0.api.get("resources", self.resources_path());
        let operation = operation.query_if("content_type", filter.content_type);
        let operation = operation.query_if("topic_id", filter.topic_id);
        operation.query_if("page", filter.page).query_if("limit", filter.limit).read()
    }

    fn resources_path(&self) -> &'static str {
        self.0.way("/resources", "/resources/")
    }

    /// Makes a resource of these fields: `title`, `description`, `content_type`, `storage_path`, …
    pub fn create_resource<B: Serialize + ?Sized>(&self, fields: &B) -> C::Reply<Resource> {
        self.0.api.post("create resource", self.resources_path()).json(fields).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn create_resource_with_key<B: Serialize + ?Sized>(
        &self,
        fields: &B,
        key: &str,
    ) -> C::Reply<Resource> {
        let operation = self.0.api.post("create resource", self.resources_path()).json(fields);
        operation.idempotency_key(key).read()
    }

    /// The resources of a project.
    pub fn project_resources(&self, project_id: i64) -> C::Reply<Vec<Resource>> {
        let operation = self.0.api.get("project resources", "/projects/{project_id}/resources");
        ids(operation, &[("project_id", project_id)]).with(list)
    }

    /// Searches everything. The query is any text and arrives as it is.
    pub fn search(&self, search: &Search<'_>) -> C::Reply<Found> {
        let operation = self.0.api.get("search", self.0.way("/search", "/search/global"));
        self.refine(operation, search).read()
    }

    /// Searches what belongs to a project, as the published server does.
    pub fn search_project(&self, project_id: i64, search: &Search<'_>) -> C::Reply<Found> {
        let operation = self.0.api.get("search project", "/search/project/{project_id}");
        ids(self.refine(operation, search), &[("project_id", project_id)]).read()
    }

    fn refine(&self, operation: Operation<C>, search: &Search<'_>) -> Operation<C> {
        let limit = if self.0.published { "page_size" } else { "limit" };
        let operation = operation.query("query", search.query).query(limit, search.limit);
        let operation = operation.query_if("resource_type", search.resource_type);
        if !self.0.published {
            return operation;
        }
        let score = search.min_score_permille.map(|score| score_text(score.min(1000)));
        let operation = operation.query_if("min_score", score).query_if("sort_by", search.sort_by);
        operation.query_if("tags", search.tags).query_if("page", search.page)
    }

    /// Cites a resource in a project.
    pub fn cite(&self, resource_id: i64, project_id: i64, context: &str) -> C::Reply<Citation> {
        self.citation(resource_id, project_id, context).read()
    }

    /// The same under an `Idempotency-Key`, so that it may be repeated.
    pub fn cite_with_key(
        &self,
        resource_id: i64,
        project_id: i64,
        context: &str,
        key: &str,
    ) -> C::Reply<Citation> {
        self.citation(resource_id, project_id, context).idempotency_key(key).read()
    }

    fn citation(&self, resource_id: i64, project_id: i64, context: &str) -> Operation<C> {
        let body: Value =
            json!({"resource_id": resource_id, "project_id": project_id, "context": context});
        let operation = self.0.api.post("cite", self.0.way("/citations", "/citations/"));
        // The ids are in the body; the same is asked of them.
        let both = [("resource_id", resource_id), ("project_id", project_id)];
        ids(operation.json(&body), &both)
    }

    /// The citations in a project, as the published server has them.
    pub fn project_citations(&self, project_id: i64) -> C::Reply<Vec<Citation>> {
        let operation = self.0.api.get("project citations", "/citations/project/{project_id}");
        ids(operation, &[("project_id", project_id)]).with(list)
    }

    /// The citations of a resource, as the published server has them.
    pub fn resource_citations(&self, resource_id: i64) -> C::Reply<Vec<Citation>> {
        let operation = self.0.api.get("resource citations", "/citations/resource/{resource_id}");
        ids(operation, &[("resource_id", resource_id)]).with(list)
    }

    /// What may help a project.
    pub fn recommendations(&self, project_id: i64) -> C::Reply<Vec<Recommendation>> {
        let path = self.0.way(
            "/projects/{project_id}/recommendations",
            "/search/project/{project_id}/recommendations",
        );
        let operation = self.0.api.get("recommendations", path);
        ids(operation, &[("project_id", project_id)]).with(list)
    }
}

/// Thousandths as a decimal fraction.
pub(super) fn score_text(permille: u16) -> String {
    format!("{}.{:03}", permille / 1000, permille % 1000)
}
