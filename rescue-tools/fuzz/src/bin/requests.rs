//! What a client asks for after its login: variables, command lines, destinations of a forwarded port.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rescue_tools::sshd::forward;
use rescue_tools::sshd::login::{Task, Wishes};
use rescue_tools::sshd::permissions::{Destination, Forwarding};

fuzz_target!(|input: (&str, &str, u16, Vec<u8>)| {
    let (name, value, port, line) = input;
    let mut wishes = Wishes::default();
    for _ in 0..40 {
        if wishes.set(name, value) {
            assert!(!name.contains(['=', '\0']) && name != "PATH" && !value.contains('\0'));
        }
    }
    let (_, original) = Task::Command(line).forced(Some("true"));
    assert!(original.is_some());
    forward::addresses(value, port);
    if let Ok(to) = Destination::parse(name) {
        Forwarding { allowed: true, to: vec![to] }.permits(value, port);
    }
});
