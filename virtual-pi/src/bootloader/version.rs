//! Which bootloader this claims to be.

/// The version, formed like the git hash that a real one leaves in `/chosen/bootloader/version`; it spells `virtual-pi`
/// in hexadecimal, so that nobody takes it for a released one.
pub const GIT: &str = "7669727475616c2d706900000000000000000000";

/// The build's time in seconds since 1970: 2026-02-23, the oldest release that `docs/virtual-pi.md` stands for.
pub const TIMESTAMP: u32 = 1_771_804_800;
