//! One operation being put together, and the ways to end it.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exchange::Exchange;
use super::{Rules, template};
use crate::cache::{Key, Wish};
use crate::error::Error;
use crate::ops::{Caller, Remark, encode_query};
use crate::request::{Request, Response};

/// One operation of an [`Api`](super::Api). A mistake on the way shows when it is run, as
/// [`Error::Request`], before anything is sent.
#[must_use = "it does nothing until it is ended by `read`, `maybe`, `nothing` or `with`"]
pub struct Operation<C> {
    caller: C,
    rules: Arc<Rules>,
    name: &'static str,
    method: Method,
    path: String,
    /// How many bytes of the path are the prefix.
    prefix: usize,
    arguments: Vec<(&'static str, String)>,
    query: String,
    /// Everything but the path.
    request: Request,
    mistake: Option<String>,
}

impl<C> fmt::Debug for Operation<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the arguments: they may be secret.
        write!(f, "Operation({}: {} {} {})", self.rules.service, self.name, self.method, self.path)
    }
}

impl<C: Caller> Operation<C> {
    pub(super) fn new(
        caller: C,
        rules: Arc<Rules>,
        name: &'static str,
        method: Method,
        path: &str,
    ) -> Operation<C> {
        let (path, prefix) = match path.strip_prefix("//") {
            Some(bare) => (format!("/{bare}"), 0),
            None => (format!("{}{path}", rules.prefix), rules.prefix.len()),
        };
        let mut request = Request::new(method.clone(), http::uri::PathAndQuery::from_static("/"));
        request.headers.clone_from(&rules.headers);
        request.correlation.clone_from(&rules.correlation);
        request.operation = Some(name);
        request.spec.total = rules.total;
        let mistake = rules.mistake.clone();
        let (arguments, query) = (Vec::new(), String::new());
        Operation { caller, rules, name, method, path, prefix, arguments, query, request, mistake }
    }

    /// Says that it cannot be made: nothing is sent, and running it yields [`Error::Request`] with
    /// this reason, or with the first of several.
    pub fn refuse(self, reason: impl Into<String>) -> Self {
        self.fault(reason)
    }

    /// Its path begins at the host, without the prefix and the base path of the endpoint, for what
    /// stands beside an API: `/health`.
    pub fn at_host(mut self) -> Self {
        self.request.at_host = true;
        self.path.drain(..std::mem::take(&mut self.prefix));
        self
    }

    fn fault(mut self, mistake: impl Into<String>) -> Self {
        self.mistake.get_or_insert(mistake.into());
        self
    }

    /// Fills the place `{name}` of the path.
    pub fn segment(mut self, name: &'static str, value: impl Display) -> Self {
        self.arguments.push((name, value.to_string()));
        self
    }

    /// Adds a parameter to the query, behind those before it.
    pub fn query(mut self, name: &str, value: impl Display) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(&encode_query(name));
        self.query.push('=');
        self.query.push_str(&encode_query(&value.to_string()));
        self
    }

    /// The same, if there is a value.
    pub fn query_if(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                self.request.headers.insert(name, value);
                self
            }
            // Not the value: it may be a secret.
            _ => self.fault("a header is not valid"),
        }
    }

    /// Adds `Authorization: Bearer`, which is printed nowhere.
    pub fn bearer(mut self, token: &str) -> Self {
        match HeaderValue::from_str(&format!("Bearer {token}")) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.request.headers.insert(http::header::AUTHORIZATION, value);
                self
            }
            Err(_) => self.fault("the token cannot be the value of a header"),
        }
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body("application/json", body),
            Err(_) => self.fault("the body cannot be written as JSON"),
        }
    }

    /// Sends a body of this media type.
    pub fn body(mut self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.request.body = body.into();
        self.request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        self
    }

    /// Says whether repeating it is safe, where the method does not tell.
    pub fn idempotent(mut self, yes: bool) -> Self {
        self.request.spec.idempotent = Some(yes);
        self
    }

    /// Sends this `Idempotency-Key` with every attempt, which makes repeating safe for a server
    /// that heeds it.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key).idempotent(true)
    }

    /// Deadline of this operation, instead of the policy's.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.request.spec.total = Some(total);
        self
    }

    /// The answer may be remembered, and a remembered one is as good, if the service has a cache:
    /// under the name of the operation and these parameters, in whatever order they are written.
    /// Who asks is not part of it, nor is the correlation id (001-53).
    pub fn remembered(mut self, parameters: &Value) -> Self {
        let Value::Object(fields) = parameters else {
            return self.fault("the parameters of a remembered operation must be a JSON object");
        };
        let operation = format!("{}/{}", self.rules.service, self.name);
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value));
        match Key::operation(&operation, fields) {
            Ok(key) => {
                let wish = self.request.wish.get_or_insert_default();
                (wish.cached, wish.key) = (true, Some(key));
                self
            }
            Err(error) => self.fault(error.to_string()),
        }
    }

    /// `false`: asks the service, whatever is remembered; the answer is remembered all the same.
    pub fn use_cache(mut self, yes: bool) -> Self {
        self.request.wish.get_or_insert_default().skip = !yes;
        self
    }

    /// More about how it is remembered.
    pub fn wish(mut self, change: impl FnOnce(&mut Wish)) -> Self {
        change(self.request.wish.get_or_insert_default());
        self
    }

    /// The request, or what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub fn into_request(self) -> Result<Request, Error> {
        let service = self.rules.service.clone();
        let refuse = |reason| Error::Request { service, reason };
        if let Some(mistake) = self.mistake {
            return Err(refuse(mistake));
        }
        let filled = match template::fill(&self.path, &self.arguments) {
            Ok(path) => path + &self.query,
            Err(reason) => return Err(refuse(reason)),
        };
        if !filled.starts_with('/') {
            return Err(refuse(format!("the path {:?} must begin with '/'", self.path)));
        }
        match filled.parse() {
            Ok(path) => Ok(Request { path, ..self.request }),
            Err(_) => Err(refuse("the path is not valid, or too long".to_owned())),
        }
    }

    /// Runs it; `read` makes something of the answer, whatever its status. Redirects within the
    /// service are followed before.
    pub fn with<T: Send + 'static>(
        self,
        read: impl FnOnce(Response) -> Result<T, Error> + Send + 'static,
    ) -> C::Reply<T> {
        self.with_remark(|response| Ok((read(response)?, None)))
    }

    /// The same, with what is worth a line in a log.
    pub fn with_remark<T: Send + 'static>(
        self,
        read: impl FnOnce(Response) -> Result<(T, Option<Remark>), Error> + Send + 'static,
    ) -> C::Reply<T> {
        let (caller, service) = (self.caller.clone(), self.rules.service.clone());
        caller.run(Exchange::new(service, self.into_request(), read))
    }

    /// Runs it and reads its JSON.
    ///
    /// Yields [`Error::Status`] for a status that is no success and [`Error::Decode`] for content
    /// of another shape.
    pub fn read<T: DeserializeOwned + Send + 'static>(self) -> C::Reply<T> {
        self.with(|response| response.ok()?.json())
    }

    /// The same; an answer of 404 is `None`.
    pub fn maybe<T: DeserializeOwned + Send + 'static>(self) -> C::Reply<Option<T>> {
        self.with(|response| match response.status.as_u16() {
            404 => Ok(None),
            _ => response.ok()?.json().map(Some),
        })
    }

    /// Runs it and needs nothing but a success, 204 or whatever.
    pub fn nothing(self) -> C::Reply<()> {
        self.with(|response| response.ok().map(drop))
    }
}
