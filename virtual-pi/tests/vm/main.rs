//! The vm tier: each test boots machines in QEMU. One program holds them all, so that a Pi that waits minutes for its cable does
//! so while others work; what came of the bad days and of chaos is shown in tables at the end.
#![allow(missing_docs, unreachable_pub, reason = "nobody uses it from outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

/// What a file has for this tier: `tests![a, b]` makes [`Test`]s of its functions. Those that it leaves out are dead code, which
/// the compiler reports.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

mod bad_days;
mod chaos;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod debian;
mod disks;
mod images;
mod install;
mod kernel_log;
mod linux;
mod machine;
mod network_boot;
mod page;
mod plan;
mod pressure;
mod ram_boot;
mod rescue;
mod runbooks;
#[path = "../site/mod.rs"]
mod site;
mod ssh;
mod tables;
mod turns;
mod unlock;
mod verbs;
mod watchdog;
#[path = "../../../http-boot/tests/webdriver/mod.rs"]
#[allow(dead_code, reason = "the other browser test uses more of it")]
mod webdriver;
mod write;

use std::time::Instant;

use libtest_mimic::{Arguments, Trial};

/// Those that take minutes by themselves: `make test LONG=1` runs them as well.
const LONG: [&str; 3] = [
    "pressure::a_thousand_connects_leave_memory_flat",
    "disks::damaged_file_systems_are_shown_and_repaired",
    "unlock::a_debian_on_an_encrypted_disk_boots_by_its_own_kernel",
];

/// Whether the whole file needs root: it makes network namespaces.
fn needs_root(name: &str) -> bool {
    name.starts_with("network_boot::")
}

/// A name, and what runs: it panics when something is not as expected.
pub type Test = (&'static str, fn());

/// In this order they begin: what takes long comes first, so that nothing long is alone at the end.
const FILES: [&[Test]; 21] = [
    unlock::TESTS,
    network_boot::TESTS,
    runbooks::TESTS,
    debian::TESTS,
    disks::TESTS,
    write::TESTS,
    ssh::TESTS,
    pressure::TESTS,
    verbs::TESTS,
    watchdog::TESTS,
    images::TESTS,
    install::TESTS,
    clock::TESTS,
    ram_boot::TESTS,
    rescue::TESTS,
    crash::TESTS,
    kernel_log::TESTS,
    page::TESTS,
    plan::TESTS,
    linux::TESTS,
    machine::TESTS,
];

fn main() {
    let files = FILES.iter().copied().flatten();
    let files = files.map(|&(name, run)| trial(name.trim_start_matches("vm::"), run));
    let trials = bad_days::trials().chain(files).chain(chaos::trials());
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(turns::most() + bad_days::WAITING);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: network_boot, as making network namespaces takes root");
    }
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    tables::print();
    conclusion.exit();
}

/// A test of libtest-mimic's, which reports a panic as a failure. It waits for its turn.
fn trial(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.into();
    let is_left_out =
        LONG.contains(&name.as_str()) || needs_root(&name) && !rustix::process::geteuid().is_root();
    let timed = named(name.clone(), run);
    let trial = Trial::test(name, || {
        let _turn = turns::take();
        timed();
        Ok(())
    });
    trial.with_ignored_flag(is_left_out)
}

/// One that mainly waits, and needs no turn.
fn waiting_trial(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.into();
    let timed = named(name.clone(), run);
    Trial::test(name, || {
        timed();
        Ok(())
    })
}

/// Notes how long it takes, its turn not counted.
fn named(name: String, run: impl FnOnce()) -> impl FnOnce() {
    move || {
        let began = Instant::now();
        run();
        tables::add("seconds  test", format!("{:>7}  {name}", began.elapsed().as_secs()));
    }
}
