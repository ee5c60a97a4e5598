//! Network Time Security (RFC 8915): the key exchange over TLS, and the source that asks with its cookies.

pub(crate) mod key_exchange;
pub(crate) mod server;
