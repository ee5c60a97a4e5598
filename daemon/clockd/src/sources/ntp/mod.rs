//! NTP version 4 over UDP: codec, exchange, and the thread that asks one server.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod packet;
