//! A typed client for a service of one's own: the dozen lines in the middle are all it takes.
//! Runs by itself: it starts a small service on loopback first.
//!
//! ```sh
//! cargo run -p origin-blocking --example own_client
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it got")]

use std::sync::Arc;

use origin_blocking::core::ops::Caller;
use origin_blocking::core::ops::rest::Api;
use origin_blocking::{Client, Error};
use origin_lab::{Answer, FaultServer, Request};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Serialize, Deserialize)]
struct Invoice {
    #[serde(default)]
    id: u64,
    article: String,
}

/// The client. `C` is whoever calls: the blocking client here, an async one elsewhere.
#[derive(Clone)]
struct Invoices<C>(Api<C>);

impl<C: Caller> Invoices<C> {
    fn new(caller: C) -> Self {
        Invoices(Api::new(caller, "invoices").prefix("/api/v1"))
    }

    fn get(&self, id: u64) -> C::Reply<Option<Invoice>> {
        self.0.get("get invoice", "/invoices/{id}").segment("id", id).maybe()
    }

    fn create(&self, invoice: &Invoice, key: &str) -> C::Reply<Invoice> {
        self.0.post("create invoice", "/invoices").json(invoice).idempotency_key(key).read()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = FaultServer::with_handler(Arc::new(serve))?;
    let client = Client::builder().endpoint("invoices", server.url()).build()?;
    let invoices = Invoices::new(client);
    println!("{:?}", invoices.get(7)?);
    println!("{:?}", invoices.get(8)?);
    let ordered = Invoice { id: 0, article: "lamp".to_owned() };
    println!("{:?}", invoices.create(&ordered, "order-4711")?);
    let refused = Invoice { id: 0, article: String::new() };
    match invoices.create(&refused, "order-4712") {
        Err(error @ Error::Status { .. }) => println!("{error}; {}", error.advice()),
        other => println!("{other:?}"),
    }
    Ok(())
}

/// The service: one invoice, and whatever is created.
fn serve(request: &Request) -> Answer {
    match (request.path.as_str(), serde_json::from_slice::<Invoice>(&request.body)) {
        ("/api/v1/invoices/7", _) => Answer::json(200, &json!({"id": 7, "article": "chair"})),
        ("/api/v1/invoices", Ok(new)) if !new.article.is_empty() => {
            Answer::json(201, &Invoice { id: 9, ..new })
        }
        ("/api/v1/invoices", _) => {
            Answer::json(422, &json!({"error_code": "VALIDATION_ERROR", "message": "no article"}))
        }
        _ => Answer::new(404),
    }
}
