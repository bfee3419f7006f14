//! Origin on async-std.
