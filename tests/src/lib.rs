//! The proof: scenarios that every driver and the simulator play alike, and the simulator that
//! runs whole clients in virtual time. And how a test becomes one per runtime.

pub use origin_lab::bridge;
mod runtimes;
pub mod scenario;
pub mod sim;
