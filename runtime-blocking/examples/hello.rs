//! The ten lines to begin with, against a world on loopback that it starts itself.
#![allow(clippy::print_stdout, reason = "an example shows what it got")]

use origin_blocking::Client;
use origin_lab::{World, WorldSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let world = World::start(WorldSpec::default())?;
    let client =
        Client::builder().discovery(world.discovery_url()).local_cluster("beta").build()?;
    let billing = client.service("billing")?;
    println!("{}", billing.get("/invoices/7").send()?.text());
    // The local cluster goes away, and the next cluster answers.
    world.cluster("beta").set(origin_lab::Mode::Refuse);
    println!("{}", billing.get("/invoices/7").send()?.report());
    Ok(())
}
