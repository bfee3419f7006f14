//! The places of lines and spans in a build without the feature `tracing`: nothing is said there.

use http::Uri;
use origin_core::call::{AttemptId, Choice};
use origin_core::ops::Remark;
use origin_core::outcome::Outcome;
use origin_core::request::Ids;
use origin_core::{Error, Request, Time};

use crate::hub::Hub;
use crate::runtime::Runtime;

#[derive(Default)]
pub(crate) struct Voice {}

#[derive(Default)]
pub(crate) struct Sight {}

#[allow(dead_code)] // nobody looks at it here
pub(crate) struct Going<'a> {
    pub(crate) attempt: AttemptId,
    pub(crate) of: u8,
    pub(crate) uri: &'a Uri,
    pub(crate) cluster: &'a str,
    pub(crate) why: Choice,
}

impl Voice {
    pub(crate) fn finish(&mut self) {}
}

impl<R: Runtime> Hub<R> {
    pub(crate) fn speak(&self) {}

    pub(crate) fn speak_late(&self, _: Time) {}
}

impl Sight {
    pub(crate) fn open(&mut self, _: &str, _: &Request) {}

    pub(crate) fn is_open(&self) -> bool {
        false
    }

    pub(crate) fn attempt(&mut self, _: &str, _: &Request, _: &Going<'_>) {}

    pub(crate) fn within<T>(&self, _: AttemptId, then: impl FnOnce() -> T) -> T {
        then()
    }

    pub(crate) fn sent(&self, _: &str, _: &Request, _: &Ids, _: &Going<'_>) {}

    pub(crate) fn ended(&mut self, _: &str, _: &Request, _: &Ids, _: AttemptId, _: Outcome) {}

    pub(crate) fn repeated(&self, _: &str, _: &Ids, _: (AttemptId, Outcome), _: (Time, Time)) {}

    pub(crate) fn answered(&mut self, _: Option<Outcome>, _: usize) {}

    pub(crate) fn failed(&mut self, _: &Error) {}
}

pub(crate) fn remark(_: Option<Remark>) {}
