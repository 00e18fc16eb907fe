//! A name server's answer, to addresses.
#![no_main]

use init::pid1::dns::message::{Family, Question};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for family in [Family::V4, Family::V6] {
        let Some(question) = Question::new(0, "a.example", family) else { return };
        let _ = question.read(bytes);
        // Past the checks that random bytes seldom pass: the question as it was asked, then records.
        let mut answer = question.encode();
        let count = bytes.first().copied().unwrap_or(0);
        answer.splice(2..8, [0x81, 0x80, 0, 1, 0, count]);
        answer.extend(bytes.get(1..).unwrap_or_default());
        let _ = question.read(&answer);
    }
});
