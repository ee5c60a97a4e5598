//! The question `tracking` in the command protocol of chronyd (version 6), and its answer.
//!
//! ```text
//! request   0  version  1  type 1  4  command  6  attempt  8  sequence  20  zeros up to the length of the answer
//! answer    0  version  1  type 2  4  command  6  reply  8  status  16  sequence  28  body
//! body      0  reference id  4  address (20 bytes)  24  stratum  26  leap  28  reference time (12 bytes)
//!          40  current correction  44  last offset  48  rms offset  52  frequency  56  residual  60  skew
//!          64  root delay  68  root dispersion  72  update interval        each a chrony float
//! ```

/// UDP port of the commands.
pub const COMMAND_PORT: u16 = 323;
/// Bytes of the answer, and so of the request: chronyd never answers with more than it was asked.
pub const MESSAGE_SIZE: usize = 104;

const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const TRACKING_COMMAND: u16 = 33;
const TRACKING_REPLY: u16 = 5;

/// How chronyd stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tracking {
    /// Whom it follows.
    pub reference_id: [u8; 4],
    /// Its stratum.
    pub stratum: u16,
    /// Leap: 0 none, 1 insert, 2 delete, 3 not synchronized.
    pub leap: u16,
    /// What it would add to the system clock, in seconds.
    pub current_correction: f64,
    /// Seconds.
    pub root_delay: f64,
    /// Seconds.
    pub root_dispersion: f64,
}

/// Why there is no [`Tracking`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Not an answer to this question: go on waiting.
    NotOurs,
    /// chronyd refused; its status code.
    Status(u16),
    /// A number that is no number.
    NoNumber,
}

/// The question.
pub fn request(sequence: u32) -> [u8; MESSAGE_SIZE] {
    let mut b = [0; MESSAGE_SIZE];
    b[0] = VERSION;
    b[1] = REQUEST;
    b[4..6].copy_from_slice(&TRACKING_COMMAND.to_be_bytes());
    b[8..12].copy_from_slice(&sequence.to_be_bytes());
    b
}

/// Reads the answer to the question with this number.
pub fn read(bytes: &[u8], sequence: u32) -> Result<Tracking, Fault> {
    let b: &[u8; 28] = bytes.first_chunk().ok_or(Fault::NotOurs)?;
    let short = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
    let number = u32::from_be_bytes([b[16], b[17], b[18], b[19]]);
    if b[0] != VERSION || b[1] != REPLY || short(4) != TRACKING_COMMAND || number != sequence {
        return Err(Fault::NotOurs);
    }
    if short(8) != 0 {
        return Err(Fault::Status(short(8)));
    }
    let body: &[u8; MESSAGE_SIZE - 28] = bytes[28..].first_chunk().ok_or(Fault::NotOurs)?;
    if short(6) != TRACKING_REPLY {
        return Err(Fault::NotOurs);
    }
    let word = |at: usize| [body[at], body[at + 1], body[at + 2], body[at + 3]];
    let seconds = |at: usize| {
        let x = float(u32::from_be_bytes(word(at)));
        // A year is beyond whatever a clock in use needs.
        if x.abs() <= 3.2e7 { Ok(x) } else { Err(Fault::NoNumber) }
    };
    Ok(Tracking {
        reference_id: word(0),
        stratum: u16::from_be_bytes([body[24], body[25]]),
        leap: u16::from_be_bytes([body[26], body[27]]),
        current_correction: seconds(40)?,
        root_delay: seconds(64)?,
        root_dispersion: seconds(68)?,
    })
}

/// chrony's float: a signed exponent of 7 bits, then a signed coefficient of 25 bits with its point at the top.
fn float(bits: u32) -> f64 {
    let exponent = (bits as i32 >> 25) - 25;
    let coefficient = (bits << 7) as i32 >> 7;
    f64::from(coefficient) * f64::from(exponent).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inverse of [`float`], for positive and negative numbers of middling size.
    fn bits(x: f64) -> u32 {
        let exponent = if x == 0.0 { 0 } else { x.abs().log2().ceil() as i32 + 2 };
        let coefficient = (x * f64::from(25 - exponent).exp2()).round() as i32;
        (exponent as u32) << 25 | coefficient as u32 & 0x01ff_ffff
    }

    fn answer(sequence: u32) -> Vec<u8> {
        let mut b = request(sequence).to_vec();
        b[1] = REPLY;
        b[6..8].copy_from_slice(&TRACKING_REPLY.to_be_bytes());
        b[8..12].fill(0);
        b[16..20].copy_from_slice(&sequence.to_be_bytes());
        b[28..32].copy_from_slice(&[192, 0, 2, 1]);
        b[53] = 3;
        b[68..72].copy_from_slice(&bits(-0.25).to_be_bytes());
        b[92..96].copy_from_slice(&bits(0.001).to_be_bytes());
        b[96..100].copy_from_slice(&bits(0.0005).to_be_bytes());
        b
    }

    #[test]
    fn floats() {
        for x in [0.0, 1.0, -1.0, 0.25, -0.001, 1e-9, 37.5, -12345.0] {
            let got = float(bits(x));
            assert!((got - x).abs() <= x.abs() * 1e-6, "{x} came back as {got}");
        }
        assert!(float(u32::MAX).is_finite() && float(0x7fff_ffff).is_finite());
    }

    #[test]
    fn a_tracking_report_is_read() {
        let t = read(&answer(9), 9).unwrap();
        assert_eq!((t.reference_id, t.stratum, t.leap), ([192, 0, 2, 1], 3, 0));
        assert!((t.current_correction + 0.25).abs() < 1e-8 && (t.root_delay - 0.001).abs() < 1e-9, "{t:?}");
        assert!((t.root_dispersion - 0.0005).abs() < 1e-9);
    }

    #[test]
    fn whatever_else_is_refused() {
        let check = |change: &dyn Fn(&mut Vec<u8>), want: Fault| {
            let mut b = answer(9);
            change(&mut b);
            assert_eq!(read(&b, 9), Err(want), "{b:?}");
        };
        check(&|b| b.truncate(27), Fault::NotOurs);
        check(&|b| b.truncate(103), Fault::NotOurs);
        check(&|b| b[0] = 5, Fault::NotOurs);
        check(&|b| b[1] = 1, Fault::NotOurs);
        check(&|b| b[7] = 6, Fault::NotOurs);
        check(&|b| b[19] = 8, Fault::NotOurs);
        check(&|b| b[9] = 2, Fault::Status(2));
        check(&|b| b[68..72].copy_from_slice(&0x7eff_ffff_u32.to_be_bytes()), Fault::NoNumber);
    }
}
