//! A caller for tests: answers every request from a script, and keeps what was sent.

use std::sync::{Arc, Mutex};

use http::StatusCode;

use super::{Caller, Flow, Step};
use crate::error::Error;
use crate::request::{Report, Request, Response};

type Script = dyn Fn(&Request) -> (u16, String) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Fake {
    script: Arc<Script>,
    sent: Arc<Mutex<Vec<Request>>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn new(script: impl Fn(&Request) -> (u16, String) + Send + Sync + 'static) -> Fake {
        Fake { script: Arc::new(script), sent: Arc::default() }
    }

    /// What was sent since the last look.
    pub(crate) fn sent(&self) -> Vec<Request> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// The only request sent since the last look, as a line.
    pub(crate) fn line(&self) -> String {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        let body = String::from_utf8(sent[0].body.to_vec()).unwrap();
        format!("{} {} {body}", sent[0].method, sent[0].path).trim_end().to_owned()
    }
}

impl Caller for Fake {
    type Reply<T: Send + 'static> = Result<T, Error>;

    fn run<F: Flow>(&self, mut flow: F) -> Result<F::Output, Error> {
        let mut reply = None;
        for _ in 0..10 {
            let request = match flow.next(reply)? {
                Step::Done(value) => return Ok(value),
                Step::Send(request) => request,
            };
            let (status, body) = (self.script)(&request);
            self.sent.lock().unwrap().push(request);
            reply = Some(Response {
                status: StatusCode::from_u16(status).unwrap(),
                headers: http::HeaderMap::new(),
                body: body.into(),
                report: Report { service: flow.service().into(), ..Report::default() },
            });
        }
        panic!("the flow does not end");
    }
}
