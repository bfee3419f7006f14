//! `MetadataStampingService`: hashes and stamps for files.
//!
//! By default as the clients' contract has it (contracts §3.3): no path prefix, stamps are made of
//! hashes. [`Stamping::of_server`] speaks to the published server instead (§3.4): its prefix,
//! stamps made of texts, health and metrics in envelopes. Answers of either are read in both modes.
//! There are two default namespaces, one for hashes and one for stamps (001-09).

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::data::{Anything, Batch, Hash, MaybePartial, NewStamp, Stamp, Validation};
use super::envelope::{Bad, Data, Fields, Word, open, read, unreadable};
use super::health::{Health, Words};
use super::{multipart, refused};
use crate::correlation::Correlation;
use crate::error::Error;
use crate::ops::rest::Api;
use crate::ops::{Caller, Composer, Remark};
use crate::request::Response;
use crate::said::Said;

/// Name of the service in discovery and configuration.
pub const SERVICE: &str = "metadata-stamping";
/// Namespace of hashes, where none is given.
pub const HASH_NAMESPACE: &str = "default";
/// Namespace of stamps, where none is given.
pub const STAMP_NAMESPACE: &str = "omninode.services.metadata";
/// Where the published server has its operations.
pub const SERVER_PREFIX: &str = "/api/v1/metadata-stamping";

/// Whose contract is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dialect {
    #[default]
    Clients,
    Server,
}

/// The stamping service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stamping<C> {
    caller: C,
    api: Api<C>,
    dialect: Dialect,
    words: Words,
    repeat: bool,
}

impl<C: Caller> Stamping<C> {
    /// The service called [`SERVICE`], as reached by `caller`.
    pub fn new(caller: C) -> Stamping<C> {
        Stamping::at(caller, SERVICE)
    }

    /// The same under another name.
    pub fn at(caller: C, service: &str) -> Stamping<C> {
        let api = Api::new(caller.clone(), service)
            .header("user-agent", "omninode-bridge/MetadataStampingService")
            .header("accept", "application/json");
        let (dialect, words) = (Dialect::Clients, Words::default());
        Stamping { caller, api, dialect, words, repeat: false }
    }

    /// As the published server has it: below [`SERVER_PREFIX`], stamps made of
    /// [`NewStamp::content`].
    #[must_use]
    pub fn of_server(self) -> Stamping<C> {
        Stamping { api: self.api.prefix(SERVER_PREFIX), dialect: Dialect::Server, ..self }
    }

    /// What stands before every path. It may as well be part of the address of an endpoint.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Stamping<C> {
        Stamping { api: self.api.prefix(prefix), ..self }
    }

    /// Another path for one operation: see [`Api::path`]. Operations are called as their methods.
    #[must_use]
    pub fn path(self, operation: &str, path: &str) -> Stamping<C> {
        Stamping { api: self.api.path(operation, path), ..self }
    }

    /// The words by which the service says that it is healthy. Default `healthy` and `ok`.
    #[must_use]
    pub fn healthy_words<'a>(self, words: impl IntoIterator<Item = &'a str>) -> Stamping<C> {
        Stamping { words: Words::new(words), ..self }
    }

    /// Whether making a stamp may be repeated after it may have arrived: the service knows contents
    /// by their hash and makes no second stamp. Default `false`, for it does so only with a
    /// database. A batch is never repeated: it has no such check.
    #[must_use]
    pub fn deduplicates(self, yes: bool) -> Stamping<C> {
        Stamping { repeat: yes, ..self }
    }

    /// The same service, each call within this instead of what the policy says: for one call,
    /// `service.timeout(limit).health_check()`.
    #[must_use]
    pub fn timeout(&self, limit: Duration) -> Stamping<C> {
        Stamping { api: self.api.timeout(limit), ..self.clone() }
    }

    /// The same service, all operations on behalf of what has this id.
    #[must_use]
    pub fn correlated(&self, id: &Correlation) -> Stamping<C> {
        Stamping { api: self.api.correlated(id), ..self.clone() }
    }

    /// For operations that are not here.
    #[must_use]
    pub fn api(&self) -> &Api<C> {
        &self.api
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn wants_content(&self) -> bool {
        self.dialect == Dialect::Server
    }

    /// The hash of a content, which may be empty. Without a namespace: [`HASH_NAMESPACE`]. What
    /// comes says how many bytes were hashed, also where the service does not, and under which id.
    pub fn generate_hash(&self, content: &[u8], namespace: Option<&str>) -> C::Reply<Hash> {
        let (media, body) = multipart::file(content);
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.api
            .post("generate_hash", "/hash")
            .query("namespace", namespace.unwrap_or(HASH_NAMESPACE))
            .body("multipart/form-data", body)
            .header("content-type", &media)
            .idempotent(true)
            .with_remark(move |response| {
                let (hash, _, Response { report, .. }) =
                    open::<Hash>("generate_hash", &[Word::Success], response)?;
                let took = report.elapsed.as_secs_f64() * 1e3;
                let correlation = report.ids.correlation;
                let remark = Remark {
                    message: "Hash generation completed",
                    correlation: correlation.clone(),
                    file_size: size,
                    execution_time_ms: hash.execution_time_ms.unwrap_or(took),
                };
                let file_size_bytes = hash.file_size_bytes.or(Some(size));
                Ok((Hash { file_size_bytes, correlation_id: correlation, ..hash }, Some(remark)))
            })
    }

    /// Makes a stamp. Without a namespace: [`STAMP_NAMESPACE`]. Not repeated once it may have
    /// arrived, unless [`Stamping::deduplicates`] says that it may be.
    ///
    /// Yields [`Error::Request`], and sends nothing, for a stamp without what it needs.
    pub fn create_stamp(&self, stamp: &NewStamp, namespace: Option<&str>) -> C::Reply<Stamp> {
        let namespace = namespace.unwrap_or(STAMP_NAMESPACE);
        let operation = self.api.post("create_stamp", "/stamp");
        let operation = if self.repeat { operation.idempotent(true) } else { operation };
        let body = match self.dialect {
            Dialect::Clients => self.by_hash(stamp, namespace),
            Dialect::Server => self.by_content(stamp, namespace),
        };
        match body {
            Ok(body) => operation.json(&body).with(|response| {
                open("create_stamp", &[Word::Success], response).map(|(stamp, ..)| stamp)
            }),
            Err(error) => self.caller.run(refused(self.api.service(), error)),
        }
    }

    fn by_hash(&self, stamp: &NewStamp, namespace: &str) -> Result<Value, Error> {
        if stamp.file_hash.is_empty() {
            return Err(self.invalid("file_hash must not be empty"));
        }
        Ok(json!({
            "file_hash": stamp.file_hash,
            "file_path": stamp.file_path,
            "file_size": stamp.file_size,
            "content_type": stamp.content_type,
            "stamp_data": stamp.stamp_data,
            "namespace": namespace,
        }))
    }

    /// Stamp data becomes metadata; intelligence in it has a field of its own there.
    fn by_content(&self, stamp: &NewStamp, namespace: &str) -> Result<Value, Error> {
        let content = self.content(stamp)?;
        let mut metadata = stamp.stamp_data.clone();
        let intelligence = metadata.remove("intelligence");
        let mut body = json!({
            "content": content,
            "file_path": stamp.file_path,
            "options": {
                "stamp_type": "lightweight",
                "include_metadata": true,
                "validate_integrity": true,
            },
            "metadata": metadata,
            "protocol_version": "1.0",
            "namespace": namespace,
            "version": 1,
            "metadata_version": "0.1",
        });
        if let Some(intelligence) = intelligence
            && let Value::Object(body) = &mut body
        {
            body.insert("intelligence_data".to_owned(), intelligence);
        }
        Ok(body)
    }

    fn content<'a>(&self, stamp: &'a NewStamp) -> Result<&'a str, Error> {
        let content = stamp.content.as_deref();
        content.ok_or_else(|| self.invalid("the published server needs the content of a stamp"))
    }

    fn invalid(&self, reason: &str) -> Error {
        Error::Request { service: self.api.service().into(), reason: reason.to_owned() }
    }

    /// Checks the stamps in a content.
    pub fn validate_stamp(&self, content: &str, namespace: Option<&str>) -> C::Reply<Validation> {
        let mut body = Map::new();
        body.insert("content".to_owned(), content.into());
        if namespace.is_some() || self.dialect == Dialect::Clients {
            body.insert("namespace".to_owned(), namespace.into());
        }
        self.api
            .post("validate_stamp", "/validate")
            .json(&body)
            .idempotent(true)
            .with(|response| marked("validate_stamp", response).map(|(validation, _)| validation))
    }

    /// The stamp of a file by its hash. `None`: there is none, which the service says by 404, or by
    /// an envelope whose status is not `success`. The published server's 404 has a code for that;
    /// one without is an error there, for then the path is wrong.
    pub fn get_stamp(&self, file_hash: &str, namespace: Option<&str>) -> C::Reply<Option<Stamp>> {
        let (asked, coded) = (file_hash.to_owned(), self.dialect == Dialect::Server);
        self.api
            .get("get_stamp", "/stamp/{file_hash}")
            .segment("file_hash", file_hash)
            .query_if("namespace", namespace)
            .with(move |response| {
                if response.status.as_u16() == 404 {
                    let said = Said::of(&response.body);
                    let absent = said.code().is_some_and(|c| c.starts_with("STAMP_NOT_FOUND"));
                    return if absent || !coded {
                        Ok(None)
                    } else {
                        Err(Error::of_status(response))
                    };
                }
                let response = response.ok()?;
                match read::<Anything>(&response.body, &[Word::Success]) {
                    Ok((Anything(mut row), _)) => {
                        // A row of a database need not repeat what it was found by.
                        row.entry("file_hash").or_insert_with(|| asked.into());
                        let stamp = Stamp::of(Fields(row));
                        stamp.map(Some).map_err(|bad| unreadable("get_stamp", &response, &bad))
                    }
                    Err(Bad::Word(_)) => Ok(None),
                    Err(bad) => Err(unreadable("get_stamp", &response, &bad)),
                }
            })
    }

    /// Makes many stamps by one request, all in one namespace. A partial success is one; when
    /// nothing succeeded, that is an error (001-14). Never repeated once it may have arrived.
    ///
    /// Yields [`Error::Request`], and sends nothing, for no items or one without what it needs.
    pub fn batch_create_stamps(
        &self,
        items: &[NewStamp],
        namespace: Option<&str>,
    ) -> C::Reply<Batch> {
        match self.batch(items, namespace.unwrap_or(STAMP_NAMESPACE)) {
            Ok(body) => {
                let operation = self.api.post("batch_create_stamps", "/batch").idempotent(false);
                operation.json(&body).with(|response| {
                    let (batch, response) = marked::<Batch>("batch_create_stamps", response)?;
                    if batch.successful == 0 && batch.failed > 0 {
                        return Err(Error::rejected("batch_create_stamps", response));
                    }
                    Ok(batch)
                })
            }
            Err(error) => self.caller.run(refused(self.api.service(), error)),
        }
    }

    fn batch(&self, items: &[NewStamp], namespace: &str) -> Result<Value, Error> {
        if items.is_empty() {
            return Err(self.invalid("a batch needs at least one item"));
        }
        let numbered = items.iter().enumerate();
        let all = numbered.map(|(number, item)| match self.dialect {
            Dialect::Clients => self.by_hash(item, namespace),
            Dialect::Server => Ok(json!({
                "id": number.to_string(),
                "content": self.content(item)?,
                "file_path": item.file_path,
                "namespace": namespace,
                "metadata": item.stamp_data,
            })),
        });
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let mut body = json!({"items": all, "namespace": namespace});
        if self.dialect == Dialect::Server {
            body["protocol_version"] = "1.0".into();
        }
        Ok(body)
    }

    /// What the service counts; its own numbers, not those of this client. In the clients'
    /// contract the body as it is; the published server has it in an envelope.
    pub fn service_metrics(&self) -> C::Reply<Map<String, Value>> {
        let enveloped = self.dialect == Dialect::Server;
        self.api.get("service_metrics", "/metrics").with(move |response| {
            if enveloped {
                return open::<Anything>("service_metrics", &[Word::Success], response)
                    .map(|(Anything(metrics), ..)| metrics);
            }
            let response = response.ok()?;
            let read = super::envelope::object(&response.body);
            read.map_err(|bad| unreadable("service_metrics", &response, &bad))
        })
    }

    /// What the service says of its health. Whatever else comes is [`Error::is_unavailable`].
    pub fn health_check(&self) -> C::Reply<Health> {
        self.api.get("health_check", "/health").with(|response| health("health_check", response))
    }

    /// Whether the published server is ready for work: it answers 200 either way.
    pub fn ready(&self) -> C::Reply<bool> {
        let operation = self.api.get("ready", "/health/ready");
        operation.with(|response| health("ready", response).map(|health| health.is_ready()))
    }
}

impl<C: Composer> Stamping<C> {
    /// Whether the service can be reached and says that it is healthy. Never an error.
    pub fn validate_connection(&self) -> C::Reply<bool> {
        let (caller, words) = (self.caller.clone(), self.words.clone());
        self.caller.then(self.health_check(), move |health| {
            caller.ready(Ok(health.is_ok_and(|health| health.is(&words))))
        })
    }
}

/// Data that may be partial, and the response for an error.
fn marked<T: Data + MaybePartial>(
    operation: &'static str,
    response: Response,
) -> Result<(T, Response), Error> {
    let (data, word, response) = open::<T>(operation, &[Word::Success, Word::Partial], response)?;
    Ok((data.mark(word), response))
}

pub(super) fn health(operation: &'static str, response: Response) -> Result<Health, Error> {
    let read = response.ok().and_then(|response| {
        Health::read(&response.body).map_err(|bad| unreadable(operation, &response, &bad))
    });
    read.map_err(|error| Error::Health { error: Box::new(error) })
}

/// A content as text, for the published server.
pub(super) fn text(content: &Bytes) -> Option<String> {
    std::str::from_utf8(content).ok().map(str::to_owned)
}
