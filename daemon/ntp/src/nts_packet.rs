//! NTP packets under NTS (RFC 8915 section 5): a sealed request, and the proof that an answer is the server's.

use crate::exchange::Bogus;
use crate::extension::{self, AUTHENTICATOR, COOKIE, COOKIE_PLACEHOLDER, Field, UNIQUE_IDENTIFIER};
use crate::nts_record::MAX_COOKIE;
use crate::packet::{MODE_SERVER, NtpTimestamp, PACKET_SIZE, Packet};
use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;
use std::fmt;

/// Bytes of a key of AEAD_AES_SIV_CMAC_256.
pub const KEY_SIZE: usize = 32;
/// Bytes of the nonce that we use.
pub const NONCE_SIZE: usize = 16;
/// Bytes of our unique identifiers.
pub const UNIQUE_ID_SIZE: usize = 32;
/// Requests longer than this might be fragmented, or dropped on the way.
const MAX_REQUEST: usize = 1232;

/// The keys of one association, each for one direction.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// For what we send.
    pub client_to_server: [u8; KEY_SIZE],
    /// For what the server sends.
    pub server_to_client: [u8; KEY_SIZE],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(secret)")
    }
}

/// What is random in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Randomness {
    /// The transmit timestamp.
    pub nonce: u64,
    /// Ties the answer to the request.
    pub unique_id: [u8; UNIQUE_ID_SIZE],
    /// For the authenticator.
    pub aead_nonce: [u8; NONCE_SIZE],
}

/// A request that spends `cookie` and asks for `wanted` cookies, of which one takes the place of the spent one. Fewer are
/// asked for where the packet would become too long.
pub fn seal_request(keys: &Keys, random: &Randomness, cookie: &[u8], wanted: usize) -> Vec<u8> {
    let mut packet = Packet::request(random.nonce).to_vec();
    extension::write(&mut packet, UNIQUE_IDENTIFIER, &random.unique_id);
    extension::write(&mut packet, COOKIE, cookie);
    let placeholder = vec![0; cookie.len()];
    let authenticator = 4 + 4 + NONCE_SIZE + 16;
    for _ in 1..wanted {
        if packet.len() + 4 + cookie.len().next_multiple_of(4) + authenticator > MAX_REQUEST {
            break;
        }
        extension::write(&mut packet, COOKIE_PLACEHOLDER, &placeholder);
    }
    authenticate(&keys.client_to_server, &mut packet, &random.aead_nonce, &[]);
    packet
}

/// Appends the authenticator over all of `packet`, with `fields` encrypted in it.
pub fn authenticate(key: &[u8; KEY_SIZE], packet: &mut Vec<u8>, nonce: &[u8; NONCE_SIZE], fields: &[u8]) {
    let sealed = Aes128Siv::new(&(*key).into())
        .encrypt([&packet[..], &nonce[..]], fields)
        .expect("two headers are fewer than the 126 that SIV takes");
    let mut body = Vec::with_capacity(4 + NONCE_SIZE + sealed.len() + 3);
    body.extend((NONCE_SIZE as u16).to_be_bytes());
    body.extend((sealed.len() as u16).to_be_bytes());
    body.extend(nonce);
    body.extend(sealed);
    extension::write(packet, AUTHENTICATOR, &body);
}

/// Checks that `bytes` is the server's own answer to the request with these random numbers, and returns its new cookies.
/// What the packet says of the time is judged by [`evaluate`](crate::exchange::evaluate) after this.
pub fn open_answer(keys: &Keys, random: &Randomness, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Bogus> {
    let p = Packet::decode(bytes).ok_or(Bogus::Short)?;
    if p.mode != MODE_SERVER {
        return Err(Bogus::Mode(p.mode));
    }
    if p.version != 4 {
        return Err(Bogus::Version(p.version));
    }
    if p.origin != NtpTimestamp(random.nonce) {
        return Err(Bogus::Origin);
    }
    let is_nak = p.stratum == 0 && p.reference_id == *b"NTSN";
    let mut is_ours = false;
    let mut rest = &bytes[PACKET_SIZE..];
    while !rest.is_empty() {
        let before = &bytes[..bytes.len() - rest.len()];
        let (field, after) = Field::split(rest, 16).ok_or(Bogus::Extension)?;
        rest = after;
        match field.kind {
            UNIQUE_IDENTIFIER if field.body != random.unique_id => return Err(Bogus::UniqueId),
            UNIQUE_IDENTIFIER => is_ours = true,
            AUTHENTICATOR if !is_ours => return Err(Bogus::UniqueId),
            AUTHENTICATOR if !is_nak => {
                // What follows the authenticator is not authenticated, and nobody looks at it.
                return open(&keys.server_to_client, before, field.body);
            }
            _ => {}
        }
    }
    Err(if is_nak && is_ours { Bogus::NtsNak } else { Bogus::Unauthenticated })
}

fn open(key: &[u8; KEY_SIZE], before: &[u8], body: &[u8]) -> Result<Vec<Vec<u8>>, Bogus> {
    let (&[n0, n1, s0, s1], rest) = body.split_first_chunk().ok_or(Bogus::Extension)?;
    let nonce_length = usize::from(u16::from_be_bytes([n0, n1]));
    let sealed_length = usize::from(u16::from_be_bytes([s0, s1]));
    let (padded_nonce, rest) =
        rest.split_at_checked(nonce_length.next_multiple_of(4)).ok_or(Bogus::Extension)?;
    let nonce = &padded_nonce[..nonce_length];
    let sealed = rest.get(..sealed_length).ok_or(Bogus::Extension)?;
    if nonce.is_empty() {
        return Err(Bogus::Authenticator);
    }
    let opened =
        Aes128Siv::new(&(*key).into()).decrypt([before, nonce], sealed).map_err(|_| Bogus::Authenticator)?;
    let usable = |field: &Field<'_>| field.kind == COOKIE && (1..=MAX_COOKIE).contains(&field.body.len());
    Ok(extension::fields(&opened, 4).filter(usable).map(|field| field.body.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYS: Keys = Keys { client_to_server: [1; KEY_SIZE], server_to_client: [2; KEY_SIZE] };
    const RANDOM: Randomness = Randomness {
        nonce: 0x1234_5678_9abc_def0,
        unique_id: [3; UNIQUE_ID_SIZE],
        aead_nonce: [4; NONCE_SIZE],
    };

    /// What a server sends before the authenticator.
    fn header() -> Vec<u8> {
        let mut b = vec![0; PACKET_SIZE];
        b[0] = 4 << 3 | 4;
        b[1] = 2;
        b[24..32].copy_from_slice(&RANDOM.nonce.to_be_bytes());
        extension::write(&mut b, UNIQUE_IDENTIFIER, &RANDOM.unique_id);
        b
    }

    fn answer() -> Vec<u8> {
        let mut packet = header();
        let mut fields = Vec::new();
        extension::write(&mut fields, COOKIE, &[7; 100]);
        extension::write(&mut fields, COOKIE, &[8; 100]);
        authenticate(&KEYS.server_to_client, &mut packet, &[9; NONCE_SIZE], &fields);
        packet
    }

    #[test]
    fn a_request_can_be_opened_with_its_own_key_and_asks_for_cookies() {
        let cookie = [5; 100];
        let request = seal_request(&KEYS, &RANDOM, &cookie, 8);
        let kinds: Vec<u16> = extension::fields(&request[PACKET_SIZE..], 16).map(|f| f.kind).collect();
        assert_eq!(kinds[..2], [UNIQUE_IDENTIFIER, COOKIE]);
        assert_eq!(kinds[2..9], [COOKIE_PLACEHOLDER; 7]);
        assert_eq!(kinds[9..], [AUTHENTICATOR]);
        assert!(request.len() <= MAX_REQUEST && request.len().is_multiple_of(4));
        let before = &request[..request.len() - 40];
        assert_eq!(open(&KEYS.client_to_server, before, &request[before.len() + 4..]), Ok(Vec::new()));
        assert_eq!(
            open(&KEYS.server_to_client, before, &request[before.len() + 4..]),
            Err(Bogus::Authenticator)
        );
    }

    #[test]
    fn long_cookies_do_not_make_a_packet_too_long() {
        let request = seal_request(&KEYS, &RANDOM, &[5; 500], 8);
        assert!(request.len() <= MAX_REQUEST, "{}", request.len());
    }

    #[test]
    fn an_answer_brings_cookies() {
        assert_eq!(open_answer(&KEYS, &RANDOM, &answer()), Ok(vec![vec![7; 100], vec![8; 100]]));
        let mut longer = answer();
        extension::write(&mut longer, COOKIE, &[66; 100]);
        assert_eq!(open_answer(&KEYS, &RANDOM, &longer), Ok(vec![vec![7; 100], vec![8; 100]]));
    }

    #[test]
    fn whatever_is_not_the_servers_answer_is_bogus() {
        let check = |bytes: &[u8], want: Bogus| assert_eq!(open_answer(&KEYS, &RANDOM, bytes), Err(want));
        let changed = |at: usize| {
            let mut b = answer();
            b[at] ^= 1;
            b
        };
        check(&answer()[..47], Bogus::Short);
        check(&changed(0), Bogus::Mode(5));
        check(&changed(31), Bogus::Origin);
        // Anything in the header: stratum, root delay, timestamps.
        for at in [1, 4, 11, 40, 47] {
            check(&changed(at), Bogus::Authenticator);
        }
        check(&changed(60), Bogus::UniqueId);
        // Nonce, tag and cipher text.
        for at in [PACKET_SIZE + 36 + 8, PACKET_SIZE + 36 + 24, PACKET_SIZE + 36 + 60] {
            check(&changed(at), Bogus::Authenticator);
        }
        // Stripped: all extensions, or the authenticator alone.
        check(&answer()[..PACKET_SIZE], Bogus::Unauthenticated);
        check(&header(), Bogus::Unauthenticated);
        check(&answer()[..answer().len() - 4], Bogus::Extension);
        let mut without_id = header()[..PACKET_SIZE].to_vec();
        authenticate(&KEYS.server_to_client, &mut without_id, &[9; NONCE_SIZE], &[]);
        check(&without_id, Bogus::UniqueId);
        // An authenticator without a nonce, and with lengths that do not fit.
        for body in [&[0, 0, 0, 16][..], &[0, 16, 0xff, 0xff], &[0xff, 0xff, 0, 16], &[0, 0, 0, 0]] {
            let mut packet = header();
            extension::write(&mut packet, AUTHENTICATOR, &[body, &[0; 16]].concat());
            assert!(open_answer(&KEYS, &RANDOM, &packet).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_kiss_counts_only_when_it_answers_our_request() {
        let kiss = |code: &[u8; 4], length: usize| {
            let mut b = header();
            b[1] = 0;
            b[12..16].copy_from_slice(code);
            open_answer(&KEYS, &RANDOM, &b[..length])
        };
        let whole = header().len();
        assert_eq!(kiss(b"NTSN", whole), Err(Bogus::NtsNak));
        assert_eq!(kiss(b"NTSN", PACKET_SIZE), Err(Bogus::Unauthenticated), "without the unique identifier");
        assert_eq!(kiss(b"DENY", whole), Err(Bogus::Unauthenticated));
        assert_eq!(kiss(b"RATE", whole), Err(Bogus::Unauthenticated));
        let mut authenticated = header();
        authenticated[1] = 0;
        authenticated[12..16].copy_from_slice(b"RATE");
        authenticate(&KEYS.server_to_client, &mut authenticated, &[9; NONCE_SIZE], &[]);
        assert_eq!(open_answer(&KEYS, &RANDOM, &authenticated), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_change_of_an_answer_goes_unnoticed(at in 0usize..300, flip in 1u8..) {
            let mut bytes = answer();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            // The padding of the authenticator is the only thing that nobody protects; here there is none.
            prop_assert!(open_answer(&KEYS, &RANDOM, &bytes).is_err());
        }
    }
}
