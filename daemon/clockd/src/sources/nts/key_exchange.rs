//! The key exchange over TLS 1.3: keys and the first cookies.

use crate::sources::ntp::address::ServerName;
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::{Span, Timestamp};
use chronotick_ntp::nts_packet::{KEY_SIZE, Keys};
use chronotick_ntp::nts_record::{self, ALPN, Answer, EXPORTER_LABEL, Fault, exporter_context};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, Stream};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long each step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the whole exchange may take.
const TOTAL_TIMEOUT: Span = Span::from_secs(15);
/// 1 January 2026: a system clock that reads less was never set.
const PLAUSIBLE: Timestamp = Timestamp::from_secs(1_767_225_600);

/// What TLS needs, the same for all servers.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities of this machine, and those of `ca_file`. The error is for the user.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            let bad =
                |e: &dyn std::fmt::Display| format!("`nts_ca_file` {}: {e}; give a PEM file", path.display());
            let mut count = 0;
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
                roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
                count += 1;
            }
            if count == 0 {
                return Err(bad(&"there is no certificate in it"));
            }
        }
        if roots.is_empty() {
            return Err(
                "this machine trusts no certificate authority, so no NTS server can be believed: install \
                        ca-certificates, or set `nts_ca_file`"
                    .to_owned(),
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| format!("TLS 1.3 is not available: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each key exchange has keys of its own; nothing of the last one is kept.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

/// What a key exchange brings.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Exchanged {
    /// The keys for both directions.
    pub(crate) keys: Keys,
    /// At least one cookie.
    pub(crate) cookies: Vec<Vec<u8>>,
    /// Where NTP is to be asked.
    pub(crate) ntp: ServerName,
}

/// Exchanges keys with `name`. The error is for the user.
pub(crate) fn exchange_keys(name: &ServerName, tls: &Tls) -> Result<Exchanged, String> {
    check_system_clock(realtime())?;
    let deadline = boottime() + TOTAL_TIMEOUT;
    let host = rustls::pki_types::ServerName::try_from(name.host.clone())
        .map_err(|_| format!("{} is no name that a certificate could have", name.host))?;
    let mut socket = connect(name)?;
    let mut connection = ClientConnection::new(tls.0.clone(), host).map_err(|e| format!("TLS: {e}"))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|e| explain(&e, name))?;
        if boottime() > deadline {
            return Err(format!("{name}: the TLS handshake takes too long"));
        }
    }
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(format!("{name}: the server does not speak NTS key exchange; check its port"));
    }
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(&nts_record::request()).map_err(|e| explain(&e, name))?;
    stream.flush().map_err(|e| explain(&e, name))?;
    let mut bytes = Vec::new();
    let answer = loop {
        match Answer::read(&bytes) {
            Ok(answer) => break answer,
            Err(Fault::Incomplete) => {}
            Err(fault) => return Err(format!("{name}: {fault}")),
        }
        if boottime() > deadline {
            return Err(format!("{name}: the answer of the key exchange takes too long"));
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return Err(format!("{name}: {}", Fault::Incomplete)),
            Ok(length) => bytes.extend(&piece[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(explain(&e, name)),
        }
    };
    let key = |is_server_to_client| {
        connection
            .export_keying_material(
                [0; KEY_SIZE],
                EXPORTER_LABEL,
                Some(&exporter_context(is_server_to_client)),
            )
            .map_err(|e| format!("{name}: no keys can be taken from TLS: {e}"))
    };
    let keys = Keys { client_to_server: key(false)?, server_to_client: key(true)? };
    connection.send_close_notify();
    // The server may be gone already; it has told all that we need.
    let _ = connection.write_tls(&mut socket);
    let ntp = ServerName::new(answer.server.unwrap_or_else(|| name.host.clone()), answer.port);
    Ok(Exchanged { keys, cookies: answer.cookies, ntp })
}

/// Certificates are valid for a time, which a clock that was never set cannot tell.
fn check_system_clock(now: Timestamp) -> Result<(), String> {
    if now >= PLAUSIBLE {
        return Ok(());
    }
    let year = 1970 + now.as_ns().div_euclid(31_556_952_000_000_000);
    Err(format!(
        "the system clock says that it is the year {year}, so no certificate can be checked: set it to about the right \
         time first (as root: date -s), or name a server without NTS"
    ))
}

fn connect(name: &ServerName) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = (name.host.as_str(), name.port)
        .to_socket_addrs()
        .map_err(|e| format!("cannot find the address of {}: {e}", name.host))?
        .collect();
    let mut last = None;
    for address in addresses.iter().take(4) {
        match TcpStream::connect_timeout(address, STEP_TIMEOUT) {
            Ok(socket) => {
                let set = |e| format!("{name}: cannot set a timeout: {e}");
                socket.set_read_timeout(Some(STEP_TIMEOUT)).map_err(set)?;
                socket.set_write_timeout(Some(STEP_TIMEOUT)).map_err(set)?;
                return Ok(socket);
            }
            Err(e) => last = Some(e),
        }
    }
    Err(match last {
        Some(e) => format!("{name}: no NTS key exchange there (TCP port {}): {e}", name.port),
        None => format!("cannot find the address of {}", name.host),
    })
}

fn explain(error: &io::Error, name: &ServerName) -> String {
    let host = &name.host;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let certificate = match tls {
        Some(rustls::Error::InvalidCertificate(certificate)) => certificate,
        Some(other) => return format!("{name}: TLS failed: {other}"),
        None if error.kind() == io::ErrorKind::WouldBlock => {
            return format!("{name}: no answer within {} s", STEP_TIMEOUT.as_secs());
        }
        None => return format!("{name}: {error}"),
    };
    match certificate {
        CertificateError::UnknownIssuer => format!(
            "{name}: the certificate is refused: no authority that this machine trusts has signed it; if it is right, \
             name the authority's file with `nts_ca_file`"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{name}: the certificate is refused: it is for another name than {host}")
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => format!(
            "{name}: the certificate is refused: {certificate}; if the system clock is wrong, set it to about the right \
             time first"
        ),
        other => format!("{name}: the certificate is refused: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_cannot_check_certificates() {
        assert!(check_system_clock(Timestamp::from_secs(1_800_000_000)).is_ok());
        let message = check_system_clock(Timestamp::from_secs(86_400)).unwrap_err();
        assert!(message.contains("the year 1970") && message.contains("date -s"), "{message}");
        let message = check_system_clock(Timestamp::from_secs(1_750_000_000)).unwrap_err();
        assert!(message.contains("2025"), "{message}");
    }

    #[test]
    fn a_bad_file_of_authorities_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let check = |want: &str| {
            let message = Tls::new(Some(&path)).err().unwrap();
            assert!(message.contains("ca.pem") && message.contains(want), "{message}");
        };
        check("PEM");
        std::fs::write(&path, "hello").unwrap();
        check("no certificate");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        check("PEM");
    }
}
