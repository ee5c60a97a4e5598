//! The clock page.
