//! A script in Rust: collects invoices, signs the report off with a key from Vault, stamps it and
//! stores it. What a part of the system does meanwhile (an instance down, a whole cluster) is not
//! its business.
//!
//! ```sh
//! cargo origin demo --serve      # in another shell; prints the two variables
//! ORIGIN_DISCOVERY=… ORIGIN_LOCAL_CLUSTER=beta cargo run -p origin-blocking --example report
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it got")]

use std::error::Error;

use origin_blocking::Client;
use origin_blocking::bridge::{NewStamp, Stamping};

fn main() -> Result<(), Box<dyn Error>> {
    let discovery = std::env::var("ORIGIN_DISCOVERY")?;
    let mut builder =
        Client::builder().discovery(discovery).vault_token_from_env("VAULT_CLIENT_TOKEN");
    if let Ok(local) = std::env::var("ORIGIN_LOCAL_CLUSTER") {
        builder = builder.local_cluster(local);
    }
    println!("{}", report(&builder.build()?, 1..=5)?);
    Ok(())
}

/// Writes the report of these invoices; yields where it is and its stamp.
pub(crate) fn report(
    client: &Client,
    invoices: std::ops::RangeInclusive<u32>,
) -> Result<String, Box<dyn Error>> {
    let billing = client.service("billing")?;
    let mut report = String::new();
    for number in invoices {
        let reply = billing.get(&format!("/invoices/{number}")).send()?.ok()?;
        report.push_str(&format!("{number}\t{}\n", reply.text()));
    }
    // The key itself goes nowhere: only that there was one.
    let key = client.secrets().get_secret("app/report-key")?;
    let signer = key.get("value").ok_or("the key has no field `value`")?;
    report.push_str(&format!("signed with a key of {} characters\n", signer.len()));

    let storage = client.storage();
    storage.put_object("reports", "invoices.tsv", report.clone().into_bytes())?;
    let stored = storage.get_object("reports", "invoices.tsv")?;

    let stamping = Stamping::new(client.clone());
    let hash = stamping.generate_hash(&stored.bytes, None)?.hash;
    let new = NewStamp::new(hash, "reports/invoices.tsv", stored.bytes.len() as u64);
    let stamp = stamping.create_stamp(&new.with("kind", "report"), None)?;
    Ok(format!("reports/invoices.tsv: {} bytes, {}", stored.bytes.len(), stamp.file_hash))
}
