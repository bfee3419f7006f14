//! tokio: hyper's own TCP connector, nothing else.

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::{
    Failed, Get, IDLE, KEPT, Length, PATH, Pair, Raw, SERVICE, Side, Threads, config, failed,
    origin_get, worker,
};

pub(super) struct Tokio {
    runtime: tokio::runtime::Runtime,
    raw: Raw<HttpConnector>,
    origin: origin_tokio::Upstream,
}

origin_get!(origin_tokio::Upstream);

impl Tokio {
    pub(super) fn new(url: &str, threads: Threads) -> Result<Tokio, Failed> {
        let mut builder = match threads {
            Threads::Several => tokio::runtime::Builder::new_multi_thread(),
            Threads::One => tokio::runtime::Builder::new_current_thread(),
        };
        let runtime = builder.enable_all().build().map_err(failed)?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(IDLE)
            .build(tcp);
        let origin = origin_tokio::Client::builder().config(config()).endpoint(SERVICE, url);
        let origin = origin.build().map_err(failed)?.service(SERVICE).map_err(failed)?;
        Ok(Tokio { runtime, raw: Raw { client, url: format!("{url}{PATH}") }, origin })
    }

    fn drive<G: Get>(&self, client: &G, concurrent: usize, length: Length) -> Result<u64, Failed> {
        self.runtime.block_on(async {
            let workers: Vec<_> =
                (0..concurrent).map(|_| tokio::spawn(worker(client.clone(), length))).collect();
            let mut done = 0;
            for worker in workers {
                done += worker.await.map_err(failed)??;
            }
            Ok(done)
        })
    }
}

impl Pair for Tokio {
    fn round(&self, side: Side, concurrent: usize, length: Length) -> Result<u64, Failed> {
        match side {
            Side::Raw => self.drive(&self.raw, concurrent, length),
            Side::Origin => self.drive(&self.origin, concurrent, length),
        }
    }
}
