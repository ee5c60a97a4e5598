//! What must hold for any bytes taken as an answer under NTS, and for any fields that a server seals.

use chronotick_ntp::exchange::Bogus;
use chronotick_ntp::extension::{self, COOKIE, Field, UNIQUE_IDENTIFIER};
use chronotick_ntp::nts_packet::{Keys, Randomness, authenticate, open_answer, seal_request};
use chronotick_ntp::nts_record::{MAX_COOKIE, MAX_COOKIES};
use chronotick_ntp::packet::PACKET_SIZE;

const KEYS: Keys = Keys { client_to_server: [1; 32], server_to_client: [2; 32] };
const RANDOM: Randomness =
    Randomness { nonce: 0x0123_4567_89ab_cdef, unique_id: [3; 32], aead_nonce: [4; 16] };

/// `data`: a packet; and the same bytes as what a server encrypts.
pub(crate) fn check(data: &[u8]) {
    forged(data);
    sealed(data);
    let cookie = &data[..data.len().min(MAX_COOKIE)];
    let request = seal_request(&KEYS, &RANDOM, cookie, MAX_COOKIES);
    let fields = extension::fields(&request[PACKET_SIZE..], 16);
    assert_eq!(request.len(), PACKET_SIZE + fields.map(|f| 4 + f.body.len()).sum::<usize>());
}

/// Nobody can make an answer without the key.
fn forged(data: &[u8]) {
    for min in [4, 16] {
        let mut rest = data;
        while let Some((field, after)) = Field::split(rest, min) {
            assert_eq!(field.body.len() + 4 + after.len(), rest.len());
            rest = after;
        }
    }
    let fault = open_answer(&KEYS, &RANDOM, data).expect_err("without the key");
    assert!(!fault.to_string().is_empty());
    // With the right header in front, the fields are looked at.
    let ours = [&header()[..], data].concat();
    let fault = open_answer(&KEYS, &RANDOM, &ours).expect_err("without the key");
    assert!(!matches!(fault, Bogus::Short | Bogus::Mode(_) | Bogus::Version(_) | Bogus::Origin));
}

fn header() -> Vec<u8> {
    let mut b = vec![0; PACKET_SIZE];
    b[0] = 4 << 3 | 4;
    b[1] = 1;
    b[24..32].copy_from_slice(&RANDOM.nonce.to_be_bytes());
    extension::write(&mut b, UNIQUE_IDENTIFIER, &RANDOM.unique_id);
    b
}

/// Whatever the server encrypts is taken apart without harm, and no byte of it can be changed unnoticed.
fn sealed(data: &[u8]) {
    let fields = &data[..data.len().min(4096)];
    let mut packet = header();
    authenticate(&KEYS.server_to_client, &mut packet, &RANDOM.aead_nonce, fields);
    let cookies = open_answer(&KEYS, &RANDOM, &packet).expect("sealed with the right key");
    let want: Vec<Vec<u8>> = extension::fields(fields, 4)
        .filter(|f| f.kind == COOKIE && (1..=MAX_COOKIE).contains(&f.body.len()))
        .map(|f| f.body.to_vec())
        .collect();
    assert_eq!(cookies, want);
    let at = data.iter().fold(0usize, |sum, &b| sum.wrapping_mul(31).wrapping_add(usize::from(b)));
    // The padding after the sealed part, at most three bytes, is the only thing that nobody protects.
    let protected = packet.len() - fields.len().next_multiple_of(4) + fields.len();
    let at = at % protected;
    packet[at] ^= 0x10;
    assert!(open_answer(&KEYS, &RANDOM, &packet).is_err(), "byte {at} was changed");
}
