//! The records of an NTS key exchange (RFC 8915 section 4).
//!
//! ```text
//!  0  critical(1) type(15)      2  length of the body      4  body
//! ```

use std::fmt;

/// The protocol that TLS negotiates by ALPN.
pub const ALPN: &[u8] = b"ntske/1";
/// TCP port of a key exchange.
pub const NTSKE_PORT: u16 = 4460;
/// The label for the TLS exporter.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-network-time-security";
/// NTPv4 in the list of protocols.
const PROTOCOL_NTPV4: u16 = 0;
/// AEAD_AES_SIV_CMAC_256.
pub const AEAD_AES_SIV_CMAC_256: u16 = 15;
/// Cookies that are kept; a server sends no more.
pub const MAX_COOKIES: usize = 8;
/// A longer cookie could not be sent in one datagram together with what else belongs there.
pub const MAX_COOKIE: usize = 1024;
/// An answer that has not ended after so many bytes is refused.
pub const MAX_ANSWER: usize = 65_536;

const CRITICAL: u16 = 0x8000;
const END_OF_MESSAGE: u16 = 0;
const NEXT_PROTOCOL: u16 = 1;
const ERROR: u16 = 2;
const WARNING: u16 = 3;
const AEAD_ALGORITHM: u16 = 4;
const NEW_COOKIE: u16 = 5;
const SERVER: u16 = 6;
const PORT: u16 = 7;

/// The context for the TLS exporter (section 5.1): NTPv4, the algorithm, and whose key it is.
pub fn exporter_context(is_server_to_client: bool) -> [u8; 5] {
    [0, PROTOCOL_NTPV4 as u8, 0, AEAD_AES_SIV_CMAC_256 as u8, u8::from(is_server_to_client)]
}

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Whoever does not know the type must not go on.
    pub is_critical: bool,
    /// What it is.
    pub kind: u16,
    /// Its content.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `bytes` and what follows it; `None` when it is not whole yet.
    pub fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[k0, k1, l0, l1], rest) = bytes.split_first_chunk()?;
        let kind = u16::from_be_bytes([k0, k1]);
        let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        Some((Self { is_critical: kind & CRITICAL != 0, kind: kind & !CRITICAL, body }, rest))
    }

    /// Appends it to `out`; a body of more than 65535 bytes is cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let body = &self.body[..self.body.len().min(usize::from(u16::MAX))];
        let kind = self.kind & !CRITICAL | if self.is_critical { CRITICAL } else { 0 };
        out.extend(kind.to_be_bytes());
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
    }
}

/// What we send: NTPv4 with AEAD_AES_SIV_CMAC_256.
pub fn request() -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, body) in [
        (NEXT_PROTOCOL, &PROTOCOL_NTPV4.to_be_bytes()[..]),
        (AEAD_ALGORITHM, &AEAD_AES_SIV_CMAC_256.to_be_bytes()),
        (END_OF_MESSAGE, &[]),
    ] {
        Record { is_critical: true, kind, body }.write(&mut out);
    }
    out
}

/// What the key exchange brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Cookies, each for one request; at least one.
    pub cookies: Vec<Vec<u8>>,
    /// The NTP server, where it is another host than that of the key exchange.
    pub server: Option<String>,
    /// Its UDP port, where it is not 123.
    pub port: Option<u16>,
}

/// Why an answer is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The end is not there yet: read on.
    Incomplete,
    /// Over [`MAX_ANSWER`] bytes without an end.
    TooLong,
    /// An error record with this code.
    Error(u16),
    /// A warning record with this code; none is defined, so what it means is unknown.
    Warning(u16),
    /// A critical record of this type, which nobody here knows.
    UnknownCritical(u16),
    /// A record of this type with an impossible body, or twice.
    BadRecord(u16),
    /// The server does not do NTPv4.
    NoProtocol,
    /// The server does not do AEAD_AES_SIV_CMAC_256.
    NoAlgorithm,
    /// No cookie that could be used.
    NoCookie,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => write!(f, "the answer ends too early"),
            Self::TooLong => write!(f, "the answer does not end within {MAX_ANSWER} bytes"),
            Self::Error(0) => write!(f, "the server does not know a record that we sent (error 0)"),
            Self::Error(1) => write!(f, "the server calls our request bad (error 1)"),
            Self::Error(2) => write!(f, "the server has an internal error (error 2); try another server"),
            Self::Error(code) => write!(f, "the server reports error {code}"),
            Self::Warning(code) => write!(f, "the server sends a warning of unknown meaning ({code})"),
            Self::UnknownCritical(kind) => {
                write!(f, "the answer has a critical record of unknown type {kind}")
            }
            Self::BadRecord(kind) => write!(f, "the answer has a malformed record of type {kind}"),
            Self::NoProtocol => write!(f, "the server does not offer NTPv4; choose another server"),
            Self::NoAlgorithm => {
                write!(f, "the server does not offer AEAD_AES_SIV_CMAC_256; choose another server")
            }
            Self::NoCookie => write!(f, "the server gave no cookie that can be used"),
        }
    }
}

impl Answer {
    /// Reads an answer up to its end of message.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let mut answer = Self::default();
        let (mut protocol, mut algorithm) = (None, None);
        let mut rest = bytes;
        loop {
            let Some((record, after)) = Record::split(rest) else {
                return Err(if bytes.len() >= MAX_ANSWER { Fault::TooLong } else { Fault::Incomplete });
            };
            rest = after;
            let bad = Fault::BadRecord(record.kind);
            let number = || match record.body {
                &[high, low] => Ok(u16::from_be_bytes([high, low])),
                _ => Err(bad.clone()),
            };
            match record.kind {
                END_OF_MESSAGE if record.body.is_empty() => break,
                END_OF_MESSAGE => return Err(bad),
                ERROR => return Err(Fault::Error(number()?)),
                WARNING => return Err(Fault::Warning(number()?)),
                NEXT_PROTOCOL => set(&mut protocol, record.body, bad)?,
                AEAD_ALGORITHM => set(&mut algorithm, record.body, bad)?,
                NEW_COOKIE => {
                    let usable = (1..=MAX_COOKIE).contains(&record.body.len());
                    if usable && answer.cookies.len() < MAX_COOKIES {
                        answer.cookies.push(record.body.to_vec());
                    }
                }
                SERVER => {
                    let host = host(record.body).ok_or(bad.clone())?;
                    set(&mut answer.server, host, bad)?;
                }
                PORT => match number()? {
                    0 => return Err(bad),
                    port => set(&mut answer.port, port, bad)?,
                },
                kind if record.is_critical => return Err(Fault::UnknownCritical(kind)),
                _ => {}
            }
        }
        if protocol != Some(&PROTOCOL_NTPV4.to_be_bytes()[..]) {
            return Err(Fault::NoProtocol);
        }
        if algorithm != Some(&AEAD_AES_SIV_CMAC_256.to_be_bytes()[..]) {
            return Err(Fault::NoAlgorithm);
        }
        if answer.cookies.is_empty() {
            return Err(Fault::NoCookie);
        }
        Ok(answer)
    }
}

/// Once only.
fn set<T>(place: &mut Option<T>, value: T, twice: Fault) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

/// A host name or an address, as text that can be shown and looked up without harm.
fn host(body: &[u8]) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    let text = std::str::from_utf8(body).ok()?;
    ((1..=255).contains(&body.len()) && body.iter().all(|&b| is_plain(b))).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EPILOGUE: (bool, u16, &[u8]) = (true, END_OF_MESSAGE, &[]);
    const PROTOCOL: (bool, u16, &[u8]) = (true, NEXT_PROTOCOL, &[0, 0]);
    const ALGORITHM: (bool, u16, &[u8]) = (true, AEAD_ALGORITHM, &[0, 15]);
    const COOKIE: (bool, u16, &[u8]) = (false, NEW_COOKIE, b"cookie");

    fn bytes_of(records: &[(bool, u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(is_critical, kind, body) in records {
            Record { is_critical, kind, body }.write(&mut out);
        }
        out
    }

    #[test]
    fn our_request_byte_for_byte() {
        assert_eq!(request(), [0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0]);
    }

    #[test]
    fn the_contexts_of_the_exporter() {
        assert_eq!(exporter_context(false), [0, 0, 0, 15, 0]);
        assert_eq!(exporter_context(true), [0, 0, 0, 15, 1]);
    }

    #[test]
    fn answers() {
        let check = |records: &[(bool, u16, &[u8])], want: Result<Answer, Fault>| {
            assert_eq!(Answer::read(&bytes_of(records)), want, "{records:?}");
        };
        let plain = Answer { cookies: vec![b"cookie".to_vec()], ..Answer::default() };
        check(&[PROTOCOL, ALGORITHM, COOKIE, EPILOGUE], Ok(plain.clone()));
        check(&[PROTOCOL, ALGORITHM, COOKIE, (false, 99, b"?"), EPILOGUE, (true, 99, b"")], Ok(plain));
        check(
            &[PROTOCOL, ALGORITHM, (true, SERVER, b"ntp.example"), (true, PORT, &[4, 0]), COOKIE, EPILOGUE],
            Ok(Answer {
                cookies: vec![b"cookie".to_vec()],
                server: Some("ntp.example".into()),
                port: Some(1024),
            }),
        );
        check(&[PROTOCOL, ALGORITHM, COOKIE, (true, 99, b"?"), EPILOGUE], Err(Fault::UnknownCritical(99)));
        check(&[(true, ERROR, &[0, 1]), EPILOGUE], Err(Fault::Error(1)));
        check(&[(true, ERROR, &[1]), EPILOGUE], Err(Fault::BadRecord(ERROR)));
        check(&[PROTOCOL, (true, WARNING, &[0, 7]), EPILOGUE], Err(Fault::Warning(7)));
        check(&[PROTOCOL, ALGORITHM, COOKIE], Err(Fault::Incomplete));
        check(&[ALGORITHM, COOKIE, EPILOGUE], Err(Fault::NoProtocol));
        check(&[(true, NEXT_PROTOCOL, &[]), ALGORITHM, COOKIE, EPILOGUE], Err(Fault::NoProtocol));
        check(&[PROTOCOL, PROTOCOL, ALGORITHM, COOKIE, EPILOGUE], Err(Fault::BadRecord(NEXT_PROTOCOL)));
        check(&[PROTOCOL, COOKIE, EPILOGUE], Err(Fault::NoAlgorithm));
        check(&[PROTOCOL, (true, AEAD_ALGORITHM, &[0, 17]), COOKIE, EPILOGUE], Err(Fault::NoAlgorithm));
        check(&[PROTOCOL, ALGORITHM, EPILOGUE], Err(Fault::NoCookie));
        check(&[PROTOCOL, ALGORITHM, (false, NEW_COOKIE, &[]), EPILOGUE], Err(Fault::NoCookie));
        check(&[PROTOCOL, ALGORITHM, (true, PORT, &[0, 0])], Err(Fault::BadRecord(PORT)));
        check(&[PROTOCOL, (true, SERVER, b"a host")], Err(Fault::BadRecord(SERVER)));
        check(&[(true, END_OF_MESSAGE, b"x")], Err(Fault::BadRecord(END_OF_MESSAGE)));
    }

    #[test]
    fn no_more_than_eight_cookies_are_kept() {
        let mut records = vec![PROTOCOL, ALGORITHM];
        records.extend([COOKIE; 20]);
        records.push(EPILOGUE);
        assert_eq!(Answer::read(&bytes_of(&records)).unwrap().cookies.len(), MAX_COOKIES);
    }

    #[test]
    fn an_endless_answer_is_refused() {
        let long = bytes_of(&[(false, 99, &[0; 60_000]), (false, 99, &[0; 60_000])]);
        assert_eq!(Answer::read(&long[..1000]), Err(Fault::Incomplete));
        assert_eq!(Answer::read(&long), Err(Fault::TooLong));
    }

    proptest! {
        #[test]
        fn records_read_back(is_critical: bool, kind in 0u16..0x8000, body in prop::collection::vec(any::<u8>(), 0..64)) {
            let record = Record { is_critical, kind, body: &body };
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            prop_assert!((0..bytes.len()).all(|n| Record::split(&bytes[..n]).is_none()));
            bytes.push(7);
            prop_assert_eq!(Record::split(&bytes), Some((record, &[7u8][..])));
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(answer) = Answer::read(&bytes) {
                prop_assert!((1..=MAX_COOKIES).contains(&answer.cookies.len()));
            }
        }
    }
}
