//! Tests of configurations as a whole: every field at its worst, any policy at all, and what is
//! written and read back.

mod anything;
mod bad_input;
mod written;
