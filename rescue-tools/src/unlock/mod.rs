//! Opening encrypted disks: [`header`] says what a passphrase costs, [`passphrase`] gets it, [`open`] tries it on each device,
//! [`inside`] brings up what stands on those that opened, and [`keyring`] keeps it for a kexec.

pub mod header;
pub mod inside;
pub mod keyring;
pub mod open;
pub mod passphrase;
