//! An outage, from calm to calm, while a client keeps calling: one local instance answers 503, the
//! whole local cluster refuses, the primary accepts and never answers, all recover.
//!
//! ```sh
//! cargo run --release -p origin-tokio --example outage_tokio -- --duration 20 --rate 200 --svg outage.svg
//! ```
#![allow(clippy::print_stdout, reason = "what it prints is its purpose")]

/// What it does is the same on every async runtime.
#[path = "../../tests/lab/outage_async.rs"]
mod scenario;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    scenario::main()
}

/// All that is special to this runtime.
mod runtime {
    use std::future::Future;
    use std::time::Duration;

    pub(crate) use origin_tokio::{Client, Error, Upstream};
    use tokio::task::JoinHandle;

    pub(crate) const NAME: &str = "tokio";

    pub(crate) fn block_on<T>(
        work: impl Future<Output = Result<T, Box<dyn std::error::Error>>>,
    ) -> Result<T, Box<dyn std::error::Error>> {
        tokio::runtime::Runtime::new()?.block_on(work)
    }

    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(work)
    }

    pub(crate) async fn join(task: JoinHandle<()>) {
        // A call that panicked has printed why and left no sample.
        let _ = task.await;
    }

    pub(crate) async fn sleep(span: Duration) {
        tokio::time::sleep(span).await;
    }
}
