//! NTP version 4 over UDP: names of servers, one exchange, and the sources that ask a server or a pool.

pub(crate) mod address;
#[cfg(test)]
mod attack_tests;
pub(crate) mod claims;
pub(crate) mod pool;
pub(crate) mod server;
#[expect(
    unsafe_code,
    reason = "the kernel's receive times come in control messages, which rustix does not read"
)]
pub(crate) mod stamp;
pub(crate) mod transport;
