//! The time from a time server: SNTP (RFC 4330; RFC 5905, section 14), one question and one answer. The answer is outside input,
//! and nobody vouches for it: it sets the clock and nothing else, never to before the floor ([`super::clock`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::dns::resolver::Resolver;
use super::http::causes;
use super::pace;

/// RFC 5905, section 7.2.
pub const PORT: u16 = 123;
const LENGTH: usize = 48;
/// From NTP's epoch, 1900, to Unix', in seconds.
const UNIX_EPOCH: u64 = 2_208_988_800;
const WAIT: Duration = Duration::from_secs(5);
const TRIES: usize = 2;

/// Why there is no time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SntpError {
    /// Not an answer to our question: somebody else's, or damaged.
    #[error("it is no answer to our question")]
    NotOurs,
    /// A kiss-o'-death (RFC 4330, section 8): the server wants us to go, with its four letters.
    #[error("the server does not want to be asked ({0})")]
    Kiss(String),
    /// The server's own clock is not set.
    #[error("the server's own clock is not set")]
    Unsynchronized,
    /// No answer.
    #[error("{0}")]
    Network(String),
}

/// A question. In the place of our time stands a number that only we know: the server sends it back, so nobody else can answer.
pub fn question(number: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    // No leap warning, version 4, mode 3: client.
    packet[0] = 0b00_100_011;
    packet[40..].copy_from_slice(&number.to_be_bytes());
    packet
}

/// The server's time when it sent this, since 1970.
///
/// # Errors
/// [`SntpError::NotOurs`], [`SntpError::Kiss`] or [`SntpError::Unsynchronized`].
pub fn read(packet: &[u8], number: u64) -> Result<Duration, SntpError> {
    let header = packet.first_chunk::<LENGTH>().ok_or(SntpError::NotOurs)?;
    let [first, stratum, ..] = *header;
    let (leap, version, mode) = (first >> 6, first >> 3 & 7, first & 7);
    let origin = header.get(24..32).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    if origin != Some(number) || mode != 4 || !(1..=4).contains(&version) {
        return Err(SntpError::NotOurs);
    }
    if stratum == 0 {
        let code = header.get(12..16).unwrap_or_default().iter().filter(|byte| byte.is_ascii_alphanumeric());
        let code: String = code.map(|byte| char::from(*byte)).collect();
        // chrony's server, without a clock to go by, gives no letters.
        return Err(if code.is_empty() { SntpError::Unsynchronized } else { SntpError::Kiss(code) });
    }
    let transmit = header.get(40..48).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    if leap == 3 || stratum > 15 || transmit == 0 {
        return Err(SntpError::Unsynchronized);
    }
    since_1970(transmit).ok_or(SntpError::Unsynchronized)
}

/// RFC 4330, section 3: the highest bit says whether it is before or after February 2036.
fn since_1970(stamp: u64) -> Option<Duration> {
    let seconds = stamp >> 32;
    let era = if seconds & 0x8000_0000 == 0 { 1 << 32 } else { 0 };
    let nanoseconds = ((stamp & 0xffff_ffff) * 1_000_000_000) >> 32;
    Some(Duration::new((seconds + era).checked_sub(UNIX_EPOCH)?, nanoseconds as u32))
}

/// Asks a server for the time now, since 1970. It takes up to some tens of seconds.
///
/// # Errors
/// Any [`SntpError`], of the last of the name's addresses.
pub fn ask(server: &str, port: u16, resolver: &Resolver) -> Result<Duration, SntpError> {
    let mut last = SntpError::Network("it has no address".into());
    for address in addresses(server, resolver)? {
        match ask_address(SocketAddr::new(address, port)) {
            Ok(time) => return Ok(time),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn addresses(server: &str, resolver: &Resolver) -> Result<Vec<IpAddr>, SntpError> {
    let failed = |error: &dyn std::error::Error| SntpError::Network(causes(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    runtime.block_on(resolver.lookup(server)).map_err(|error| failed(&error))
}

fn ask_address(server: SocketAddr) -> Result<Duration, SntpError> {
    let failed = |error: std::io::Error| SntpError::Network(format!("{server}: {error}"));
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).map_err(failed)?;
    // Connected: nobody else is heard.
    socket.connect(server).map_err(failed)?;
    for _ in 0..TRIES {
        let number = pace::random();
        let sent = Instant::now();
        socket.send(&question(number)).map_err(failed)?;
        while let Some(left) = WAIT.checked_sub(sent.elapsed()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left)).map_err(failed)?;
            let mut packet = [0; 512];
            let length = match socket.recv(&mut packet) {
                Ok(length) => length,
                Err(error) if is_timeout(&error) => break,
                Err(error) => return Err(failed(error)),
            };
            match read(packet.get(..length).unwrap_or_default(), number) {
                // Half of the way there and back was the way back.
                Ok(time) => return Ok(time + sent.elapsed() / 2),
                Err(SntpError::NotOurs) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Err(SntpError::Network(format!("{server} does not answer")))
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock | Interrupted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBER: u64 = 0x0123_4567_89ab_cdef;

    fn answer(first: u8, stratum: u8, transmit: u64) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        (packet[0], packet[1]) = (first, stratum);
        packet[12..16].copy_from_slice(b"RATE");
        packet[24..32].copy_from_slice(&NUMBER.to_be_bytes());
        packet[40..].copy_from_slice(&transmit.to_be_bytes());
        packet
    }

    #[test]
    fn an_answer_is_read() {
        // 2026-11-28 00:00:00.5 UTC.
        let stamp = (1_795_824_000 + UNIX_EPOCH) << 32 | 0x8000_0000;
        let half_past = Duration::from_millis(1_795_824_000_500);
        assert_eq!(read(&answer(0x24, 1, stamp), NUMBER), Ok(half_past));
        // Version 3, and something behind it, as a key's signature would be.
        let mut longer = answer(0x1c, 15, stamp).to_vec();
        longer.extend([7; 20]);
        assert_eq!(read(&longer, NUMBER), Ok(half_past));
        // After 2036 the count begins anew.
        let later = read(&answer(0x24, 1, 5 << 32), NUMBER).unwrap();
        assert_eq!(super::super::clock::utc(later.as_secs()), "2036-02-07 06:28:21 UTC");
    }

    #[test]
    fn what_is_no_time_is_told_apart() {
        let stamp = 0xee00_0000 << 32;
        for (packet, number, error) in [
            (answer(0x24, 1, stamp), NUMBER + 1, SntpError::NotOurs),
            (answer(0x23, 1, stamp), NUMBER, SntpError::NotOurs),
            (answer(0x04, 1, stamp), NUMBER, SntpError::NotOurs),
            (answer(0xe4, 1, stamp), NUMBER, SntpError::Unsynchronized),
            (answer(0x24, 16, stamp), NUMBER, SntpError::Unsynchronized),
            (answer(0x24, 1, 0), NUMBER, SntpError::Unsynchronized),
            // In NTP's time before 1970.
            (answer(0x24, 1, 0x8000_0000 << 32), NUMBER, SntpError::Unsynchronized),
            (answer(0xe4, 0, 0), NUMBER, SntpError::Kiss("RATE".into())),
        ] {
            assert_eq!(read(&packet, number), Err(error), "{packet:x?}");
        }
        assert_eq!(read(&[0; 47], 0), Err(SntpError::NotOurs));
    }

    #[test]
    fn a_question_is_a_client_s_and_tells_nothing() {
        let packet = question(NUMBER);
        assert_eq!((packet[0], &packet[40..]), (0x23, &NUMBER.to_be_bytes()[..]));
        assert!(packet[1..40].iter().all(|byte| *byte == 0));
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), first: u8, stratum: u8, stamp: u64) {
            let _ = read(&bytes, NUMBER);
            let _ = read(&answer(first, stratum, stamp), NUMBER);
        }
    }
}
