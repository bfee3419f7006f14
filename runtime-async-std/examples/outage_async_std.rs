//! An outage, from calm to calm, while a client keeps calling: one local instance answers 503, the
//! whole local cluster refuses, the primary accepts and never answers, all recover.
//!
//! ```sh
//! cargo run --release -p origin-async-std --example outage_async_std -- --duration 20 --rate 200 --svg outage.svg
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

    use async_std::task::{self, JoinHandle};

    pub(crate) use origin_async_std::{Client, Error, Upstream};

    pub(crate) const NAME: &str = "async-std";

    pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
        task::block_on(work)
    }

    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        task::spawn(work)
    }

    pub(crate) async fn join(task: JoinHandle<()>) {
        task.await;
    }

    pub(crate) async fn sleep(span: Duration) {
        task::sleep(span).await;
    }
}
