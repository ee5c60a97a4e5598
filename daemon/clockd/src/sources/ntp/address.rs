//! The text that names a server: `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address.

use chronotick_ntp::nts_record::NTSKE_PORT;
use std::fmt;
use std::net::Ipv6Addr;

/// The port of NTP.
pub(crate) const NTP_PORT: u16 = 123;

/// A server as the user named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServerName {
    /// Host name or address, without brackets.
    pub(crate) host: String,
    /// UDP port; of a key exchange the TCP port.
    pub(crate) port: u16,
    /// The port that need not be written.
    usual_port: u16,
}

impl ServerName {
    /// An NTP server.
    pub(crate) fn new(host: String, port: Option<u16>) -> Self {
        Self { host, port: port.unwrap_or(NTP_PORT), usual_port: NTP_PORT }
    }

    /// Reads the text; the error says what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_for(text, NTP_PORT)
    }

    /// The same for a server of NTS key exchange.
    pub(crate) fn parse_nts(text: &str) -> Result<Self, String> {
        Self::parse_for(text, NTSKE_PORT)
    }

    fn parse_for(text: &str, usual_port: u16) -> Result<Self, String> {
        let bad =
            |why: &str| Err(format!("bad server {text:?}: {why}; write HOST, HOST:PORT or [IPV6]:PORT"));
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, after)) = rest.split_once(']') else { return bad("the bracket is not closed") };
            if host.parse::<Ipv6Addr>().is_err() {
                return bad("no IPv6 address in the brackets");
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return bad("unexpected text after the bracket"),
            }
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return bad("no host name");
        }
        if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
            return bad("more than one colon in a host name");
        }
        let port = match port.map(str::parse::<u16>) {
            None => usual_port,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return bad("the port is not a number from 1 to 65535"),
        };
        Ok(Self { host: host.to_owned(), port, usual_port })
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match (host.contains(':'), self.port == self.usual_port) {
            (true, true) => write!(f, "[{host}]"),
            (true, false) => write!(f, "[{host}]:{}", self.port),
            (false, true) => write!(f, "{host}"),
            (false, false) => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names() {
        let check = |text: &str, want: Option<(&str, u16)>| {
            let got = ServerName::parse(text);
            assert_eq!(got.as_ref().ok().map(|s| (s.host.as_str(), s.port)), want, "{text:?}: {got:?}");
        };
        check("pool.ntp.org", Some(("pool.ntp.org", 123)));
        check("127.0.0.1:11123", Some(("127.0.0.1", 11123)));
        check("[::1]:11123", Some(("::1", 11123)));
        check("[fe80::1]", Some(("fe80::1", 123)));
        check("::1", Some(("::1", 123)));
        check("", None);
        check(":123", None);
        check("host:", None);
        check("host:0", None);
        check("host:70000", None);
        check("a:b:c", None);
        check("[::1", None);
        check("[host]:1", None);
        check("[::1]x", None);
        check("two words", None);
    }

    #[test]
    fn a_printed_name_reads_back() {
        for text in ["pool.ntp.org", "10.0.0.1:5", "[::1]:11123", "[::1]"] {
            let name = ServerName::parse(text).unwrap();
            assert_eq!(name.to_string(), text);
        }
        let nts = ServerName::parse_nts("nts.example").unwrap();
        assert_eq!((nts.port, nts.to_string().as_str()), (4460, "nts.example"));
        assert_eq!(ServerName::parse_nts("[::1]:123").unwrap().to_string(), "[::1]:123");
    }
}
