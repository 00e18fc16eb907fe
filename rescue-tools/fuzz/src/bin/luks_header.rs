//! What cryptsetup says of a LUKS2 header, which repeats the JSON that is written there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::unlock::header;

fuzz_target!(|json: &[u8]| {
    let _ = header::parse(json);
});
