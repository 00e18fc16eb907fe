//! The kernel command line, to the plan and its explanation.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (explanation, understood) = init::explain::explain(text);
    assert!(understood || explanation.contains("not understood"));
});
