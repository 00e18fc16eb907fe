//! What a client sends.

use super::answer::Lease;
use super::options::{
    CLIENT_ID, DOMAINS, ELAPSED, IA_ADDRESS, IA_NA, INFORMATION_MAX, NAME_SERVERS, NTP, RAPID_COMMIT,
    REFRESH, REQUESTED, SERVER_ID, SNTP_SERVERS, SOLICIT_MAX,
};

/// The kinds of messages that clients send (RFC 8415 section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for us?
    Solicit = 1,
    /// This server's offer is taken.
    Request = 3,
    /// The same server, for longer.
    Renew = 5,
    /// Any server, for longer.
    Rebind = 6,
    /// Somebody else has that address.
    Decline = 9,
    /// Name servers and the like, no address.
    InformationRequest = 11,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Our DUID, 3 to 130 bytes (RFC 8415 section 11.1).
    pub duid: Vec<u8>,
    /// The number of the interface's identity association.
    pub iaid: u32,
}

/// One message of ours.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What it asks.
    pub kind: Kind,
    /// The exchange's number, of 24 bits: an answer repeats it.
    pub id: [u8; 3],
    /// Who asks.
    pub who: &'a Identity,
    /// What was offered or given; a Solicit asks for the same addresses again.
    pub lease: Option<&'a Lease>,
}

impl Question<'_> {
    /// The message, `hundredths` of a second after the first of its exchange.
    pub fn encode(&self, hundredths: u16) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend(self.id);
        put(&mut bytes, CLIENT_ID, &self.who.duid);
        let to_one = matches!(self.kind, Kind::Request | Kind::Renew | Kind::Decline);
        if let Some(lease) = self.lease.filter(|_| to_one) {
            put(&mut bytes, SERVER_ID, &lease.server);
        }
        put(&mut bytes, ELAPSED, &hundredths.to_be_bytes());
        if self.kind == Kind::Solicit {
            put(&mut bytes, RAPID_COMMIT, &[]);
        }
        if self.kind != Kind::InformationRequest {
            put(&mut bytes, IA_NA, &self.association());
        }
        if self.kind != Kind::Decline {
            // RFC 8415 section 21.7: without these two or three a server need not say how often it may be asked.
            let further: &[u16] = match self.kind {
                Kind::InformationRequest => &[REFRESH, INFORMATION_MAX],
                _ => &[SOLICIT_MAX],
            };
            let codes = [NAME_SERVERS, DOMAINS, NTP, SNTP_SERVERS];
            let codes: Vec<u8> = codes.iter().chain(further).flat_map(|code| code.to_be_bytes()).collect();
            put(&mut bytes, REQUESTED, &codes);
        }
        bytes
    }

    /// RFC 8415 sections 21.4 and 21.6. Times of zero: the server chooses.
    fn association(&self) -> Vec<u8> {
        let mut bytes = self.who.iaid.to_be_bytes().to_vec();
        bytes.extend([0; 8]);
        for one in self.lease.map(|lease| lease.addresses.as_slice()).unwrap_or_default() {
            let mut address = one.address.octets().to_vec();
            address.extend([0; 8]);
            put(&mut bytes, IA_ADDRESS, &address);
        }
        bytes
    }
}

/// Every value of ours is short: a DUID, a few addresses.
fn put(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    bytes.extend(code.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(value.iter().take(usize::from(length)));
}

#[cfg(test)]
mod tests {
    use super::super::options::{each, first};
    use super::*;

    #[test]
    fn a_message_has_the_options_of_its_kind() {
        let who = Identity { duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1], iaid: 7 };
        let lease = Lease::example();
        for (kind, server, association, rapid) in [
            (Kind::Solicit, false, true, true),
            (Kind::Request, true, true, false),
            (Kind::Renew, true, true, false),
            (Kind::Rebind, false, true, false),
            (Kind::Decline, true, true, false),
            (Kind::InformationRequest, false, false, false),
        ] {
            let message = Question { kind, id: [1, 2, 3], who: &who, lease: Some(&lease) }.encode(250);
            assert_eq!(message[..4], [kind as u8, 1, 2, 3]);
            let options = &message[4..];
            assert_eq!(first(options, CLIENT_ID), Some(who.duid.as_slice()));
            assert_eq!(first(options, ELAPSED), Some(&[0, 250][..]));
            assert_eq!(first(options, SERVER_ID).is_some(), server, "{kind:?}");
            assert_eq!(first(options, RAPID_COMMIT).is_some(), rapid, "{kind:?}");
            let ours = first(options, IA_NA);
            assert_eq!(ours.is_some(), association, "{kind:?}");
            assert!(ours.is_none_or(|ours| ours[..4] == [0, 0, 0, 7] && each(&ours[12..]).count() == 1));
        }
    }
}
