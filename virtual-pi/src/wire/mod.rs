//! The Pi's Ethernet cable, plugged into a bridge of this machine: what the bootloader and then the guest send and receive is on a
//! real network, with real servers.

pub mod dhcp_frame;
pub mod stack;
pub mod tap;

pub use stack::Stack;
pub use tap::Tap;
