//! One conformance suite over real sockets for all runtimes: tokio, async-std, smol and blocking.
//!
//! The scenario files that the simulator plays in virtual time are played here by real clients
//! against servers that misbehave; what needs code rather than data follows in rooms of its own.
//! A test is one function over `Subject` and appears once per runtime, as
//! `room::requirement::runtime`.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use] // on_every_runtime, on_every_async_runtime
extern crate origin_tests;

#[path = "conformance/subject.rs"]
mod subject;

#[path = "conformance/authority.rs"]
mod authority;

#[path = "conformance/abreast.rs"]
mod abreast;
#[path = "conformance/bodies.rs"]
mod bodies;
#[path = "conformance/bridge.rs"]
mod bridge;
#[path = "conformance/bridge_more.rs"]
mod bridge_more;
#[path = "conformance/cache.rs"]
mod cache;
#[path = "conformance/cache_edges.rs"]
mod cache_edges;
#[path = "conformance/certificates.rs"]
mod certificates;
#[path = "conformance/checks.rs"]
mod checks;
#[path = "conformance/credentials.rs"]
mod credentials;
#[path = "conformance/custom_checks.rs"]
mod custom_checks;
#[path = "conformance/design_more.rs"]
mod design_more;
#[path = "conformance/design_synapse.rs"]
mod design_synapse;
#[path = "conformance/discovery.rs"]
mod discovery;
#[path = "conformance/drops.rs"]
mod drops;
#[path = "conformance/grpc_checks.rs"]
mod grpc_checks;
#[path = "conformance/hostile.rs"]
mod hostile;
#[path = "conformance/hostile_operations.rs"]
mod hostile_operations;
#[path = "conformance/kept_state.rs"]
mod kept_state;
// Every operation by name; the core goes through the same list.
#[path = "conformance/large.rs"]
mod large;
#[path = "../../core/tests/operations/mod.rs"]
mod operations;
#[path = "conformance/origin_vault.rs"]
mod origin_vault;
#[path = "conformance/own_identity.rs"]
mod own_identity;
#[path = "conformance/pools.rs"]
mod pools;
#[path = "conformance/rotation.rs"]
mod rotation;
#[path = "conformance/safety.rs"]
mod safety;
#[path = "conformance/scenarios.rs"]
mod scenarios;
#[path = "conformance/service_token.rs"]
mod service_token;
#[path = "conformance/sessions.rs"]
mod sessions;
#[path = "conformance/soak.rs"]
mod soak;
#[path = "conformance/stage.rs"]
mod stage;
#[path = "conformance/storage_keys.rs"]
mod storage_keys;
#[path = "conformance/synapse.rs"]
mod synapse;
#[path = "conformance/tokens.rs"]
mod tokens;
#[path = "conformance/typed.rs"]
mod typed;
#[path = "conformance/vault.rs"]
mod vault;
#[path = "conformance/vault_standin.rs"]
mod vault_standin;
#[path = "conformance/vault_tls.rs"]
mod vault_tls;
#[path = "conformance/watches.rs"]
mod watches;
#[path = "conformance/watches_bounded.rs"]
mod watches_bounded;
