//! The wire types of the timer service: generated from the `.proto` files beside this crate, for its server and its
//! clients. The kernel does not know them.
#![forbid(unsafe_code)]
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

/// The native package.
pub mod v2 {
    tonic::include_proto!("minoots.v2");
}

/// The package of the service before this one; new clients use [`v2`].
pub mod v1 {
    tonic::include_proto!("minoots.timer.v1");
}

/// Every definition, as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/minoots.bin"));
