//! After a call: what is asked about, what is stored, and what is served instead.

use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, Method, StatusCode, Uri};
use origin_core::cache::http::{ask, fits, judge, outdated, refreshed, scope};
use origin_core::cache::{Answer, Fill, Label, Reason, Target};
use origin_core::{Error, Report, Response};

use super::lease::Lease;
use super::plan::Plan;
use crate::flight::Flight;
use crate::hub::lock;
use crate::runtime::Runtime;

/// What came of a fetch.
#[allow(clippy::large_enum_variant)] // taken apart at once
pub(crate) enum Settled {
    Done(Result<Response, Error>),
    /// What was kept is of no use: [`Flight::again`], without conditions.
    Again,
}

impl Plan {
    /// What is kept and can be asked about; the request then asks.
    pub(crate) fn conditions<R: Runtime>(
        &self,
        flight: &mut Flight<R>,
        lease: &Lease<R>,
    ) -> Option<Answer> {
        if self.skip {
            return None;
        }
        let useful = |kept: &&Answer| {
            let validators = [ETAG, LAST_MODIFIED];
            validators.iter().any(|name| kept.headers.contains_key(name))
                && fits(kept, &flight.request.headers)
        };
        let store = lock(&flight.slot.memory.store);
        let kept = store.kept(&self.key).filter(useful).cloned();
        drop(store);
        let spare = || lease.spare.as_ref().map(|record| &record.answer);
        let kept = kept.or_else(|| spare().filter(useful).cloned())?;
        ask(&kept, &mut flight.request.headers);
        Some(kept)
    }

    /// Stores what the call brought and says what the caller gets: that, or what is remembered.
    pub(crate) fn settle<R: Runtime>(
        &self,
        flight: &mut Flight<R>,
        lease: &mut Lease<R>,
        kept: Option<Answer>,
        result: Result<Response, Error>,
    ) -> Settled {
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                lease.fill(Fill::Failed);
                let instead = self.instead(flight, lease, Reason::instead_of(&error));
                let Some((answer, label)) = instead else { return Settled::Done(Err(error)) };
                let mut response = flight.remembered(flight.hub.runtime.now(), answer, label);
                if let Some(failure) = error.failure() {
                    response.report.attempts.clone_from(&failure.report.attempts);
                }
                return Settled::Done(Ok(response));
            }
        };
        if let Some(kept) = kept {
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
                flight.request.headers.remove(name);
            }
            if response.status == StatusCode::NOT_MODIFIED {
                let Some(answer) = refreshed(&kept, &response.headers) else {
                    flight.again(response.report);
                    return Settled::Again;
                };
                response = Response { report: response.report, ..plain(answer) };
            }
        }
        let answer =
            Answer::new(response.status.as_u16(), &response.headers, response.body.clone());
        let (fill, shared) = self.judge(flight, &response.report, answer);
        lease.store(fill, shared, self);
        if response.status.is_server_error()
            && let Some((answer, label)) = self.instead(flight, lease, &[Reason::Error])
        {
            let report = Report { cache: Some(label), ..response.report };
            response = Response { report, ..plain(answer) };
        }
        Settled::Done(Ok(response))
    }

    fn judge<R: Runtime>(
        &self,
        flight: &Flight<R>,
        report: &Report,
        answer: Answer,
    ) -> (Fill<Answer>, bool) {
        let request = &flight.request;
        let wish = request.wish.as_deref();
        if wish.is_some_and(|wish| wish.refuses(answer.status, &answer.body)) {
            return (Fill::Failed, false);
        }
        // A key of its own says that it only reads, whatever its method.
        let reads = wish.is_some_and(|wish| wish.key.is_some());
        let exchange = origin_core::cache::http::Exchange {
            method: if reads { &Method::GET } else { &request.method },
            request: &request.headers,
            at: flight.hub.runtime.wall(),
            took: report.attempts.last().map_or(report.elapsed, |attempt| attempt.took),
        };
        let (mut fill, shared) = judge(&exchange, answer, &self.settings);
        let found = matches!(fill, Fill::Found(_));
        if let Fill::Found(put) | Fill::Absent(put) = &mut fill {
            put.scope = Some(scope(&flight.slot.name, request.path.path()));
            if let Some(wish) = wish {
                put.tags.clone_from(&wish.tags);
                if let Some(ttl) = wish.ttl.filter(|_| found) {
                    put.ttl = Some(put.ttl.map_or(ttl, |said| said.min(ttl)));
                }
            }
        }
        // Whom our token was shown to has answered us, and nobody else.
        (fill, shared && !flight.takes_bearer())
    }

    /// What may be served for one of these reasons; the first that allows it counts.
    fn instead<R: Runtime>(
        &self,
        flight: &Flight<R>,
        lease: &Lease<R>,
        reasons: &[Reason],
    ) -> Option<(Answer, Label)> {
        if self.skip {
            return None;
        }
        let now = flight.hub.runtime.now();
        let mut store = lock(&flight.slot.memory.store);
        let found = reasons.iter().find_map(|reason| {
            let fit = |answer: &Answer| fits(answer, &flight.request.headers);
            let found = store.on_failure_if(now, &self.key, *reason, fit, &self.settings);
            found.map(|(answer, label)| (answer.clone(), label))
        });
        drop(store);
        found.or_else(|| {
            let (spare, wall) = (lease.spare.as_ref()?, flight.hub.runtime.wall());
            let label = |reason: &Reason| spare.on_failure(wall, *reason, &self.settings);
            Some((spare.answer.clone(), reasons.iter().find_map(label)?))
        })
    }
}

/// A response without a report.
pub(super) fn plain(answer: Answer) -> Response {
    Response {
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK),
        headers: answer.headers,
        body: answer.body,
        trailers: None,
        report: Report::default(),
    }
}

impl<R: Runtime> Flight<R> {
    /// Forgets what this exchange has outdated: an unsafe request that succeeded.
    pub(crate) fn outdate(&self, status: StatusCode, headers: &HeaderMap) {
        let request = &self.request;
        // One with a key of its own only reads.
        let reads = request.wish.as_deref().is_some_and(|wish| wish.key.is_some());
        if reads || !self.slot.memory.is_on() {
            return;
        }
        let uri = Uri::from(request.path.clone());
        for path in outdated(&request.method, &uri, status.as_u16(), headers) {
            let _ = self.hub.forget(&self.slot, Target::Path(path.into()));
        }
    }
}
