//! The options of a key, and lists of addresses by themselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::sshd::address_list::AddressList;
use rescue_tools::sshd::key_options::KeyOptions;

fuzz_target!(|input: (u128, &str)| {
    let (address, text) = input;
    let (old, new) = ((address as u32).to_be_bytes().into(), address.to_be_bytes().into());
    let parsed = KeyOptions::parse(text).ok().and_then(|options| options.from);
    for list in parsed.into_iter().chain(AddressList::from_patterns(text)).chain(AddressList::from_networks(text)) {
        list.contains(old);
        list.contains(new);
    }
});
