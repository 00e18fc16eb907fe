//! A TFTP server: RFC 1350, with options (RFC 2347), block size (2348), size and timeout (2349) and windows (7440). It only
//! reads, and knows nothing of Pis: which bytes a name stands for is a [`Tree`]'s matter.
//!
//! [`server`] takes questions and [`table`] decides which of them get a transfer; [`transfer`] moves bytes between a
//! [`content`], a [`socket`] and a [`session`], which has all that is to be known of the protocol's time and order.

pub mod content;
pub mod options;
pub mod packet;
pub mod round_trip;
pub mod server;
pub mod session;
#[cfg(test)]
mod simulated_site;
#[cfg(test)]
mod simulation;
pub mod socket;
pub mod table;
pub mod transfer;

use std::net::IpAddr;

use content::Content;
use packet::ErrorCode;

/// What is served: names, and what they stand for.
pub trait Tree: Send + Sync + 'static {
    /// Opens what `name`, as it came, stands for when `client` asks. May wait for a disk.
    ///
    /// # Errors
    /// See [`Refusal`].
    fn open(&self, client: IpAddr, name: &[u8]) -> Result<Content, Refusal>;

    /// `client` asked for `name` and answered: it is not just somebody who put its address on a packet.
    fn heard(&self, client: IpAddr, name: &[u8]) {
        let _ = (client, name);
    }

    /// What is known about who has this address, for the log.
    fn describe(&self, client: IpAddr) -> String {
        let _ = client;
        String::new()
    }
}

/// Why a name is not served. The client learns no more than the short words here; the log has the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such file, for this client.
    #[error("no such file")]
    NotFound,
    /// It is a name that is never served.
    #[error("this name is not served")]
    Denied,
    /// It cannot be read.
    #[error("the file cannot be read; the server's log says why")]
    Failed,
}

impl Refusal {
    /// For the ERROR packet.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::NOT_FOUND,
            Self::Denied => ErrorCode::ACCESS,
            Self::Failed => ErrorCode::OTHER,
        }
    }
}
