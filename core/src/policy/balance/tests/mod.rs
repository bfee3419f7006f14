//! Tests of the parts together; those of one part alone are beside it.

mod affinity;
mod balancer;
mod choose;
mod settings;
