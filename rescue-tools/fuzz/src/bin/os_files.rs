//! Files of a disk's own system that a boot reads: crypttab, fstab, a kernel's version, a command line.
#![no_main]

use init::cmdline::CommandLine;
use libfuzzer_sys::fuzz_target;
use rescue_tools::boot::{crypttab, kernel};
use rescue_tools::mount::fstab;

fuzz_target!(|text: &str| {
    let _ = crypttab::parse(text);
    let _ = fstab::parse(text);
    let _ = kernel::newer(text, text);
    let _ = CommandLine::parse(text);
});
