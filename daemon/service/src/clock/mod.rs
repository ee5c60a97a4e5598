//! The kernel's clock.
