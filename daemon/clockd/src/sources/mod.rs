//! Where measurements come from.

pub(crate) mod ntp;
