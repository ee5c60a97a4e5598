//! `minoots.timer.v1`: the service of the system before this one, on the wire as it was.

mod convert;
mod service;

pub(super) use minoots_proto::v1;
pub(super) use service::Horology;
