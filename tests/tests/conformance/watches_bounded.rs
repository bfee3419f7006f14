//! Names that nobody knows, watched or asked for before a source has answered: they must not fill
//! memory, nor keep the room of those that are used.

use origin_core::Config;
use origin_driver::Client;
use origin_lab::{Document, Mode, Registry};

use crate::subject::Subject;

on_every_runtime! {
    case_x_15_names_that_nobody_knows_share_a_bounded_room
}

fn case_x_15_names_that_nobody_knows_share_a_bounded_room<S: Subject>() {
    let registry = Registry::start(&Document::new()).unwrap();
    // It never says which names there are.
    registry.server().set(Mode::HangBeforeHead);
    let most = |config: &mut Config| config.discovery.as_mut().unwrap().max_services = 3;
    let builder = Client::<S>::builder().discovery(registry.url());
    let client = builder.configure(most).build().unwrap();
    let watch = |name: &str| S::there(|| client.watch(name));
    for number in 0..20 {
        drop(watch(&format!("nobody-{number}")).unwrap());
    }
    let known = client.snapshot().services.len();
    assert!(known <= 3, "{known} services");
    let held: Vec<_> = (0..3).map(|number| watch(&format!("held-{number}")).unwrap()).collect();
    let error = watch("one-more").map(drop).unwrap_err().to_string();
    assert!(error.contains("discovery.max_services"), "{error}");
    drop(held);
    drop(watch("one-more").unwrap());
}
