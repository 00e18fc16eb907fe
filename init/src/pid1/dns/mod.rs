//! Names to addresses: a stub resolver (RFC 1123, section 6.1.3.1) that asks the servers in `/etc/resolv.conf` and nobody
//! else, ever. [`name`] and [`message`] have the bytes, [`resolv_conf`] the file, [`resolver`] the asking.

pub mod message;
pub mod name;
pub mod resolv_conf;
pub mod resolver;
