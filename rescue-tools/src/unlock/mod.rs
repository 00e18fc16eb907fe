//! Opening encrypted disks: [`header`] says what a passphrase costs, [`passphrase`] gets it, [`open`] tries it on each device,
//! and [`inside`] brings up what stands on those that opened.

pub mod header;
pub mod inside;
pub mod open;
pub mod passphrase;
