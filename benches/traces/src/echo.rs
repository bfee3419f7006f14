//! An adapter without a network: every exchange is answered at once, so that what is counted is
//! what Origin does. The one in the documentation of `origin_driver`, for one endpoint.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use origin_driver::blocking::{self, BlockingRuntime, Body, Watch};
use origin_driver::core::cache::Invalidated;
use origin_driver::core::ops::Flow;
use origin_driver::core::ops::storage::Object;
use origin_driver::core::outcome::{Fault, Sent};
use origin_driver::core::s3::Uploaded;
use origin_driver::core::{ConfigError, Error, Request, Response, Time, Wall};
use origin_driver::{
    Download, Follower, Goal, Hub, Line, Options, Purging, Runtime, Slot, Streaming, Upload, Warmed,
};

/// Answers `ok`.
#[derive(Debug)]
pub(crate) struct Echo(Instant);

impl Runtime for Echo {
    const ABREAST: u8 = 1;
    const GRPC: bool = false;
    type Reply<T: Send + 'static> = Result<T, Error>;
    type Body = Body<Echo>;
    type Watch = Watch<Echo>;
    fn build(_: &Options) -> Result<Echo, ConfigError> {
        Ok(Echo(Instant::now()))
    }
    fn now(&self) -> Time {
        Time::ZERO.plus(self.0.elapsed())
    }
    fn wall(&self) -> Wall {
        Wall(0)
    }
    fn run<F: Flow>(hub: Arc<Hub<Echo>>, slot: Arc<Slot>, flow: F) -> Result<F::Output, Error> {
        blocking::run(&hub, &slot, flow)
    }
    fn call(hub: Arc<Hub<Echo>>, slot: Arc<Slot>, request: Request) -> Result<Response, Error> {
        blocking::call(hub, slot, request)
    }
    fn stream(
        hub: Arc<Hub<Echo>>,
        slot: Arc<Slot>,
        request: Request,
    ) -> Result<Streaming<Body<Echo>>, Error> {
        blocking::stream(hub, slot, request)
    }
    fn watch(hub: &Arc<Hub<Echo>>, line: Arc<Line>) -> Watch<Echo> {
        blocking::watch(hub, line)
    }
    fn follow(_: &Arc<Hub<Echo>>, follower: Follower<Echo>) -> io::Result<()> {
        blocking::follow(follower)
    }
    fn settle(hub: Arc<Hub<Echo>>, goal: Goal, until: Time) -> Result<bool, Error> {
        blocking::settle(&hub, &goal, until)
    }
    fn close(hub: Arc<Hub<Echo>>, until: Time) -> Result<bool, Error> {
        blocking::close(&hub, until)
    }
    fn warm(
        hub: Arc<Hub<Echo>>,
        slot: Arc<Slot>,
        requests: Vec<Option<Request>>,
        at_once: u32,
    ) -> Result<Warmed, Error> {
        blocking::warm(&hub, &slot, requests, at_once)
    }
    fn purge(hub: Arc<Hub<Echo>>, purging: Purging) -> Result<Invalidated, Error> {
        blocking::purge(&hub, &purging)
    }
    fn both<T: Send + 'static, U: Send + 'static>(
        first: impl FnOnce() -> Result<T, Error> + Send,
        second: impl FnOnce() -> Result<U, Error> + Send,
    ) -> Result<(T, U), Error> {
        blocking::both(first, second)
    }
    fn then<T: Send + 'static, U: Send + 'static>(
        reply: Result<T, Error>,
        next: impl FnOnce(Result<T, Error>) -> Result<U, Error> + Send + 'static,
    ) -> Result<U, Error> {
        next(reply)
    }
    fn ready<T: Send + 'static>(result: Result<T, Error>) -> Result<T, Error> {
        result
    }
    fn get(download: Download<Echo>) -> Result<Object, Error> {
        blocking::get(download)
    }
    fn finish(upload: Upload<Echo>) -> Result<Uploaded, Error> {
        blocking::finish(upload)
    }
    fn aside<T: Send + 'static>(
        _: &Arc<Hub<Echo>>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) {
        drop(work());
    }
}

impl BlockingRuntime for Echo {
    type Raw = Cursor<Vec<u8>>;
    fn sleep_until(&self, at: Time) {
        std::thread::sleep(self.now().until(at).min(Duration::from_secs(1)));
    }
    fn exchange(
        &self,
        request: http::Request<Bytes>,
        _head_by: Time,
        _body_by: Time,
    ) -> Result<http::Response<Cursor<Vec<u8>>>, (Fault, Sent)> {
        drop(request);
        Ok(http::Response::new(Cursor::new(b"ok".to_vec())))
    }
    fn connect(&self, _host: &str, _port: u16, _by: Time) -> Result<(), Fault> {
        Ok(())
    }
    fn body_fault(_: &io::Error) -> Fault {
        Fault::Reset
    }
}
