//! TFTP's packets; of a request, also what is agreed on, and a session that is told what follows.
#![no_main]

use std::time::{Duration, Instant};

use http_boot::tftp::options::Agreed;
use http_boot::tftp::packet::Packet;
use http_boot::tftp::session::{Heard, Session, Wanted};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert_eq!(Packet::parse(&packet.to_bytes()).as_ref(), Ok(&packet));
    let Packet::Read(request) = packet else { return };
    let size = bytes.len() as u64 * 100;
    let agreed = Agreed::on(&request.options, size, 1468);
    assert!((8..=1468).contains(&agreed.block) && agreed.window >= 1);
    let mut now = Instant::now();
    let mut session = Session::new(&agreed, size, now);
    for pair in request.name.chunks(2) {
        match session.wanted() {
            Wanted::Nothing => {}
            Wanted::OptionAck => session.sent_option_ack(now),
            Wanted::Blocks { first, count } => {
                assert!(first >= 1 && first + count - 1 <= session.last());
                session.sent(count, now);
            }
        }
        now += Duration::from_millis(u64::from(pair[0]) * 10);
        session.expire(now);
        let said = pair.get(1).map_or(Heard::AskedAgain, |number| Heard::Ack(u16::from(*number)));
        session.hear(said, now);
    }
});
