//! The run of one operation: the request, redirects within the service, the reading of the answer.
//!
//! A server that wants a slash at the end of a path answers 307 with where it is (contracts §4.6).
//! Such a redirect is followed, with method and body, while it stays at the endpoint that answered;
//! what it takes along is meant for this service and goes nowhere else. 301, 302 and 303 are
//! followed for requests that only read: for others their meaning is disputed (RFC 9110 §15.4).

use std::sync::Arc;

use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::REDIRECTS;
use crate::address::Address;
use crate::error::Error;
use crate::ops::{Flow, Remark, Step};
use crate::request::{Request, Response};

pub(super) struct Exchange<F> {
    service: Arc<str>,
    first: Option<Result<Request, Error>>,
    /// The request that is out, for a redirect.
    sent: Option<Request>,
    left: u8,
    read: Option<F>,
    remark: Option<Remark>,
}

impl<F> Exchange<F> {
    pub(super) fn new(service: Arc<str>, request: Result<Request, Error>, read: F) -> Exchange<F> {
        let (first, read) = (Some(request), Some(read));
        Exchange { service, first, sent: None, left: REDIRECTS, read, remark: None }
    }
}

impl<T, F> Flow for Exchange<F>
where
    T: Send + 'static,
    F: FnOnce(Response) -> Result<(T, Option<Remark>), Error> + Send + 'static,
{
    type Output = T;

    fn service(&self) -> &str {
        &self.service
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<T>, Error> {
        let over = || Error::Request {
            service: self.service.clone(),
            reason: "the operation is over".to_owned(),
        };
        let Some(reply) = reply else {
            let request = self.first.take().ok_or_else(over)??;
            self.sent = Some(request.clone());
            return Ok(Step::Send(request));
        };
        if self.left > 0
            && let Some(sent) = &mut self.sent
            && let Some(path) = redirect(&sent.method, sent.at_host, &reply)
        {
            self.left -= 1;
            sent.path = path;
            // Whatever ids the first had are the whole operation's.
            sent.correlation = reply.report.ids.correlation;
            return Ok(Step::Send(sent.clone()));
        }
        let read = self.read.take().ok_or_else(over)?;
        let (value, remark) = read(reply)?;
        self.remark = remark;
        Ok(Step::Done(value))
    }

    fn remark(&mut self) -> Option<Remark> {
        self.remark.take()
    }
}

/// Where to go on, if that is at the endpoint that answered: below its base path, or anywhere at the
/// host for a request that was not below it either.
fn redirect(method: &Method, at_host: bool, reply: &Response) -> Option<PathAndQuery> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match reply.status.as_u16() {
        307 | 308 => (),
        301..=303 if reads => (),
        _ => return None,
    }
    let location: Uri = reply.headers.get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let answered = reply.report.attempts.last()?;
    let endpoint: Uri =
        Address::parse(&answered.endpoint).ok()?.join(&PathAndQuery::from_static("/"))?;
    if location.authority().is_some() {
        let same = |uri: &Uri| Some((uri.scheme()?.clone(), uri.host()?.to_owned(), port(uri)?));
        if same(&location)? != same(&endpoint)? {
            return None;
        }
    }
    let to = location.path_and_query()?.as_str();
    let base = if at_host { "" } else { endpoint.path().trim_end_matches('/') };
    let below = to.strip_prefix(base).filter(|below| below.starts_with('/'))?;
    below.parse().ok()
}

fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str()? {
        "https" => Some(443),
        _ => Some(80),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::call::Choice;
    use crate::outcome::Outcome;
    use crate::request::{AttemptReport, Report};

    fn reply(status: u16, location: &str, endpoint: &str) -> Response {
        let mut headers = HeaderMap::new();
        if let Ok(value) = location.parse() {
            headers.insert(LOCATION, value);
        }
        let attempt = AttemptReport {
            cluster: "c".into(),
            endpoint: endpoint.into(),
            why: Choice::Preferred,
            sent_after: Duration::ZERO,
            took: Duration::ZERO,
            outcome: Outcome::status(status),
        };
        let report = Report { attempts: vec![attempt], ..Report::default() };
        let status = StatusCode::from_u16(status).unwrap();
        Response { status, headers, body: bytes::Bytes::new(), trailers: None, report }
    }

    #[test]
    fn case_x_13_a_redirect_is_followed_within_the_endpoint_and_nowhere_else() {
        let at = "http://10.0.0.1:8003/base";
        let cases = [
            // A slash at the end, as the project service answers.
            ("POST", 307, "http://10.0.0.1:8003/base/projects/", Some("/projects/")),
            ("POST", 308, "/base/projects/?a=b", Some("/projects/?a=b")),
            ("GET", 302, "/base/x", Some("/x")),
            ("POST", 302, "/base/x", None),
            ("POST", 200, "/base/x", None),
            // Elsewhere: another host, port, scheme, or beside the base path.
            ("GET", 307, "http://10.0.0.2:8003/base/x", None),
            ("GET", 307, "http://10.0.0.1:8004/base/x", None),
            ("GET", 307, "https://10.0.0.1:8003/base/x", None),
            ("GET", 307, "//10.0.0.2/base/x", None),
            ("GET", 307, "/elsewhere", None),
            ("GET", 307, "/basement", None),
            ("GET", 307, "http://user:pw@10.0.0.2/base/x", None),
            ("GET", 307, "", None),
        ];
        for (method, status, location, to) in cases {
            let found = redirect(&method.parse().unwrap(), false, &reply(status, location, at));
            assert_eq!(
                found.as_ref().map(PathAndQuery::as_str),
                to,
                "{method} {status} {location}"
            );
        }
    }

    #[test]
    fn what_is_asked_at_the_host_may_go_on_anywhere_at_the_host_and_nowhere_else() {
        let to = |location| {
            let reply = reply(307, location, "http://10.0.0.1:8003/base");
            redirect(&Method::GET, true, &reply).map(|path| path.to_string())
        };
        assert_eq!(to("/health/").as_deref(), Some("/health/"));
        assert_eq!(to("http://10.0.0.1:8003/x").as_deref(), Some("/x"));
        assert_eq!(to("http://10.0.0.2:8003/x"), None);
    }

    #[test]
    fn redirects_in_a_circle_end() {
        let request = Request::new(Method::GET, PathAndQuery::from_static("/a"));
        let mut flow =
            Exchange::new("x".into(), Ok(request), |r: Response| Ok((r.status.as_u16(), None)));
        let mut sent = 0;
        let mut answer = None;
        let status = loop {
            match flow.next(answer).unwrap() {
                Step::Send(_) => sent += 1,
                Step::Done(status) => break status,
            }
            answer = Some(reply(307, "/a", "http://h:1"));
        };
        assert_eq!((status, sent), (307, 4));
        assert!(flow.next(Some(reply(200, "", "http://h:1"))).is_err());
    }
}
