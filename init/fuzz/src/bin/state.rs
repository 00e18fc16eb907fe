//! What boots leave each other on a disk; and a state is always written so that it reads back.
#![no_main]

use init::state::State;

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    if let Ok(state) = State::parse(json) {
        let again = state.clone().updated(&state);
        assert_eq!(State::parse(&serde_json::to_vec(&again).unwrap()), Ok(state));
    }
});
