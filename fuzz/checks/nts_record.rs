//! What must hold for any bytes taken as the answer of an NTS key exchange.

use chronotick_ntp::nts_record::{Answer, Fault, MAX_ANSWER, MAX_COOKIE, MAX_COOKIES, Record};

/// `data`: what the server sent.
pub(crate) fn check(data: &[u8]) {
    let mut rest = data;
    let mut written = Vec::new();
    while let Some((record, after)) = Record::split(rest) {
        assert!(after.len() < rest.len(), "a record has at least its header");
        assert!(record.kind < 0x8000);
        record.write(&mut written);
        rest = after;
    }
    assert_eq!([&written, rest].concat(), data, "what was read is written back, byte for byte");

    match Answer::read(data) {
        Ok(answer) => {
            assert!((1..=MAX_COOKIES).contains(&answer.cookies.len()));
            assert!(answer.cookies.iter().all(|c| (1..=MAX_COOKIE).contains(&c.len())));
            assert!(answer.port != Some(0));
            if let Some(server) = &answer.server {
                assert!(server.is_ascii() && !server.contains(char::is_whitespace) && !server.is_empty());
            }
            // What follows the end of the message changes nothing.
            assert_eq!(Answer::read(&[data, &[0x80, 2, 0, 2, 0, 1]].concat()), Ok(answer));
        }
        Err(Fault::Incomplete) => assert!(data.len() < MAX_ANSWER),
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            // More bytes do not mend it.
            assert_eq!(Answer::read(&[data, &[0x80, 0, 0, 0]].concat()), Err(fault));
        }
    }
}
