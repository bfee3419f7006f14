//! Origin for threads.
