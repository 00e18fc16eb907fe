//! What servers answer, as the checked type that the client acts on.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::address::is_usable;
use super::options::{
    CLIENT_ID, IA_ADDRESS, IA_NA, INFORMATION_MAX, Information, PREFERENCE, REFRESH, SERVER_ID, SOLICIT_MAX,
    STATUS, address, each, first, seconds,
};
use super::question::Identity;

/// No lease has more addresses that are of use to us.
const ADDRESSES: usize = 4;
/// RFC 8415 section 11.1: two bytes of type, one at least and 128 at most behind them.
const DUID: std::ops::RangeInclusive<usize> = 3..=130;
/// RFC 8415 section 7.7.
const FOR_EVER: u32 = u32::MAX;
/// Nothing is asked for more often, whatever a server says.
const SOONEST: u32 = 10;
/// RFC 8415 section 7.6 (IRT_DEFAULT and IRT_MINIMUM): when information is asked for again.
const REFRESH_DEFAULT: u32 = 86_400;
const REFRESH_SOONEST: u32 = 600;
/// RFC 8415 sections 21.24 and 21.25 allow a day; ten minutes are what a machine out of reach is made to wait at most.
const LONGEST_WAITS: std::ops::RangeInclusive<u32> = 60..=600;

/// RFC 8415 section 21.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Success,
    /// The server has no address for us.
    NoAddress,
    /// It does not know of such a lease.
    NoBinding,
    /// The address does not belong to this link.
    NotOnLink,
    /// Anything else.
    Other(u16),
}

impl Status {
    fn read(options: &[u8]) -> Self {
        match first(options, STATUS).and_then(|value| value.get(..2)) {
            None | Some([0, 0]) => Status::Success,
            Some([0, 2]) => Status::NoAddress,
            Some([0, 3]) => Status::NoBinding,
            Some([0, 4]) => Status::NotOnLink,
            Some(other) => Status::Other(other.iter().fold(0, |number, byte| number << 8 | u16::from(*byte))),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Success => write!(f, "success"),
            Status::NoAddress => write!(f, "no address is left"),
            Status::NoBinding => write!(f, "there is no such lease"),
            Status::NotOnLink => write!(f, "the address is not of this link"),
            Status::Other(code) => write!(f, "status {code}"),
        }
    }
}

/// An address, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address: unicast, and of more than this link.
    pub address: Ipv6Addr,
    /// Seconds for which it is used for new connections; `u32::MAX`: for ever.
    pub preferred: u32,
    /// Seconds for which it is ours, at least one, and no less than `preferred`; `u32::MAX`: for ever.
    pub valid: u32,
}

/// What a server grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The server's DUID.
    pub server: Vec<u8>,
    /// Our addresses, one at least.
    pub addresses: Vec<Address>,
    /// When to ask for more (T1).
    pub renew_after: Duration,
    /// When to ask anybody (T2).
    pub rebind_after: Duration,
    /// When the last address is over; `None`: never.
    pub lifetime: Option<Duration>,
    /// What else the server says.
    pub information: Information,
}

/// What an answer is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An Advertise: it can be requested. 255 asks to be taken at once (RFC 8415 section 18.2.1).
    Offer(Lease, u8),
    /// A Reply: the lease is ours.
    Granted(Lease),
    /// A Reply or an Advertise without an address for us, and why. In a Reply to an Information-request, the information is
    /// what was wanted.
    Nothing(Status, Information, Duration),
}

/// An answer, and how long the server asks to be left alone between two questions at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The answer.
    pub answer: Answer,
    /// SOL_MAX_RT or INF_MAX_RT, kept in bounds.
    pub longest_wait: Option<Duration>,
}

/// Reads a message; `None`: it is no answer to us in the exchange `id`, or none that can be used.
pub fn read(message: &[u8], id: [u8; 3], who: &Identity) -> Option<Received> {
    const ADVERTISE: u8 = 2;
    const REPLY: u8 = 7;
    let (head, options) = message.split_at_checked(4)?;
    let [kind @ (ADVERTISE | REPLY), number @ ..] = head else { return None };
    if *number != id || first(options, CLIENT_ID) != Some(&who.duid) {
        return None;
    }
    let server = first(options, SERVER_ID).filter(|duid| DUID.contains(&duid.len()))?;
    let wait = first(options, SOLICIT_MAX).or(first(options, INFORMATION_MAX)).and_then(seconds);
    let longest_wait = wait
        .filter(|wait| *wait >= *LONGEST_WAITS.start())
        .map(|wait| Duration::from_secs(wait.min(*LONGEST_WAITS.end()).into()));
    let association = each(options).find_map(|(code, value)| {
        let (iaid, rest) = value.split_at_checked(4).filter(|_| code == IA_NA)?;
        (iaid == who.iaid.to_be_bytes()).then_some(rest)
    });
    let information = Information::read(options);
    let status = match Status::read(options) {
        Status::Success => association.and_then(|one| one.get(8..)).map_or(Status::Success, Status::read),
        other => other,
    };
    let lease = association.filter(|_| status == Status::Success);
    let lease = lease.and_then(|association| lease_of(server, association, &information));
    let answer = match (lease, *kind) {
        (Some(lease), ADVERTISE) => {
            let preference = first(options, PREFERENCE).and_then(|value| value.first().copied());
            Answer::Offer(lease, preference.unwrap_or(0))
        }
        (Some(lease), _) => Answer::Granted(lease),
        (None, _) => Answer::Nothing(status, information, refresh(options)),
    };
    Some(Received { answer, longest_wait })
}

/// Behind the number of an association: T1, T2, options.
fn lease_of(server: &[u8], association: &[u8], information: &Information) -> Option<Lease> {
    let renew = seconds(association.get(0..4)?)?;
    let rebind = seconds(association.get(4..8)?)?;
    // RFC 8415 section 21.4: such an association does not count.
    if renew > rebind && rebind > 0 {
        return None;
    }
    let mut addresses: Vec<Address> = Vec::new();
    for (_, value) in each(association.get(8..)?).filter(|(code, _)| *code == IA_ADDRESS) {
        let good = address_of(value).filter(|one| addresses.iter().all(|known| known.address != one.address));
        addresses.extend(good.filter(|_| addresses.len() < ADDRESSES));
    }
    let longest = addresses.iter().map(|one| one.valid).max()?;
    // One whose time for new connections is over is no reason to ask without pause.
    let shortest = addresses.iter().map(|one| one.preferred).filter(|preferred| *preferred > 0).min();
    let shortest = shortest.unwrap_or(longest);
    // RFC 8415 section 14.2: for times of zero, the client's own choice.
    let part = |of: u32, tenths: u32| if of == FOR_EVER { FOR_EVER } else { of / 10 * tenths };
    let renew = if renew == 0 { part(shortest, 5) } else { renew }.max(SOONEST);
    let rebind = if rebind == 0 { part(shortest, 8) } else { rebind }.max(renew);
    Some(Lease {
        server: server.to_vec(),
        addresses,
        renew_after: Duration::from_secs(renew.into()),
        rebind_after: Duration::from_secs(rebind.into()),
        lifetime: (longest != FOR_EVER).then(|| Duration::from_secs(longest.into())),
        information: information.clone(),
    })
}

/// RFC 8415 section 21.6: address, two lifetimes, options.
fn address_of(value: &[u8]) -> Option<Address> {
    let address = address(value.get(..16)?).filter(is_usable)?;
    let preferred = seconds(value.get(16..20)?)?;
    let valid = seconds(value.get(20..24)?)?;
    let status = Status::read(value.get(24..)?);
    (status == Status::Success && preferred <= valid && valid > 0).then_some(Address {
        address,
        preferred,
        valid,
    })
}

fn refresh(options: &[u8]) -> Duration {
    let seconds = first(options, REFRESH).and_then(seconds).unwrap_or(REFRESH_DEFAULT);
    Duration::from_secs(seconds.clamp(REFRESH_SOONEST, 7 * REFRESH_DEFAULT).into())
}

#[cfg(test)]
impl Lease {
    /// One for tests: 2001:db8::5 for 100 s, 60 of them for new connections.
    pub(super) fn example() -> Self {
        let address =
            Address { address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5), preferred: 60, valid: 100 };
        Lease {
            server: vec![0, 3, 0, 1, 9, 9, 9, 9, 9, 9],
            addresses: vec![address],
            renew_after: Duration::from_secs(30),
            rebind_after: Duration::from_secs(48),
            lifetime: Some(Duration::from_secs(100)),
            information: Information::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::options::{NAME_SERVERS, RAPID_COMMIT};
    use super::*;

    const ID: [u8; 3] = [1, 2, 3];

    fn us() -> Identity {
        Identity { duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1], iaid: 7 }
    }

    fn option(code: u16, value: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    fn address(text: &str, preferred: u32, valid: u32) -> Vec<u8> {
        let octets = text.parse::<Ipv6Addr>().unwrap().octets();
        option(IA_ADDRESS, &[&octets[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat())
    }

    fn association(iaid: u32, renew: u32, rebind: u32, within: &[u8]) -> Vec<u8> {
        option(
            IA_NA,
            &[&iaid.to_be_bytes()[..], &renew.to_be_bytes(), &rebind.to_be_bytes(), within].concat(),
        )
    }

    fn message(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![kind, 1, 2, 3];
        bytes.extend(option(CLIENT_ID, &us().duid));
        bytes.extend(option(SERVER_ID, &[0, 3, 0, 1, 9, 9, 9, 9, 9, 9]));
        bytes.extend(options.concat());
        bytes
    }

    fn granted(within: &[u8], renew: u32, rebind: u32) -> Option<Lease> {
        match read(&message(7, &[association(7, renew, rebind, within)]), ID, &us())?.answer {
            Answer::Granted(lease) => Some(lease),
            _ => None,
        }
    }

    #[test]
    fn an_offer_becomes_a_lease() {
        let server = "2001:db8::53".parse::<Ipv6Addr>().unwrap();
        let offer = message(
            2,
            &[
                association(6, 0, 0, &address("2001:db8::6", 60, 100)),
                association(7, 0, 0, &address("2001:db8::5", 60, 100)),
                option(PREFERENCE, &[255]),
                option(NAME_SERVERS, &server.octets()),
                option(RAPID_COMMIT, &[]),
                option(SOLICIT_MAX, &86_400u32.to_be_bytes()),
            ],
        );
        let received = read(&offer, ID, &us()).unwrap();
        let information = Information { nameservers: vec![server], ..Default::default() };
        assert_eq!(received.answer, Answer::Offer(Lease { information, ..Lease::example() }, 255));
        assert_eq!(received.longest_wait, Some(Duration::from_secs(600)), "a day is too long");
    }

    #[test]
    fn foreign_and_useless_answers_are_none() {
        let good = message(7, &[association(7, 0, 0, &address("2001:db8::5", 60, 100))]);
        assert!(read(&good, ID, &us()).is_some());
        assert_eq!(read(&good, [1, 2, 4], &us()), None);
        assert_eq!(read(&good, ID, &Identity { duid: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 2], iaid: 7 }), None);
        for kind in [0, 1, 3, 10, 12, 13, 255] {
            assert_eq!(read(&[&[kind], &good[1..]].concat(), ID, &us()), None, "{kind}");
        }
        let no_server = [&[7, 1, 2, 3][..], &option(CLIENT_ID, &us().duid)].concat();
        assert_eq!(read(&no_server, ID, &us()), None);
        let long = [&no_server[..], &option(SERVER_ID, &[0; 131])].concat();
        assert_eq!(read(&long, ID, &us()), None);
    }

    #[test]
    fn a_status_says_why_there_is_nothing() {
        let status = |code: u16| option(STATUS, &[&code.to_be_bytes()[..], b"sorry"].concat());
        for (code, wanted) in [
            (1, Status::Other(1)),
            (2, Status::NoAddress),
            (3, Status::NoBinding),
            (4, Status::NotOnLink),
            (700, Status::Other(700)),
        ] {
            for options in [vec![status(code)], vec![association(7, 0, 0, &status(code))]] {
                let Answer::Nothing(found, ..) = read(&message(7, &options), ID, &us()).unwrap().answer
                else {
                    panic!("{code}")
                };
                assert_eq!(found, wanted);
            }
        }
        let refused = [address("2001:db8::5", 60, 100), status(2)].concat();
        assert_eq!(granted(&refused, 0, 0), None, "an address beside a refusal");
    }

    #[test]
    fn addresses_that_cannot_be_ours_are_left_out() {
        for bad in ["::", "::1", "ff02::1", "fe80::5", "::ffff:192.0.2.1"] {
            let both = [address(bad, 60, 100), address("2001:db8::5", 60, 100)].concat();
            let lease = granted(&both, 30, 48).unwrap();
            assert_eq!(lease.addresses.len(), 1, "{bad}");
            assert_eq!(granted(&address(bad, 60, 100), 30, 48), None, "{bad}");
        }
        assert_eq!(granted(&address("2001:db8::5", 101, 100), 0, 0), None, "preferred beyond valid");
        assert_eq!(granted(&address("2001:db8::5", 0, 0), 0, 0), None, "over already");
        assert_eq!(granted(&address("2001:db8::5", 60, 100), 50, 49), None, "T1 beyond T2");
        let many: Vec<u8> = (1..200).flat_map(|n| address(&format!("2001:db8::{n:x}"), 60, 100)).collect();
        assert_eq!(granted(&many, 0, 0).unwrap().addresses.len(), ADDRESSES);
    }

    #[test]
    fn times_are_kept_sane() {
        let times = |preferred, valid, renew, rebind| {
            let lease = granted(&address("2001:db8::5", preferred, valid), renew, rebind).unwrap();
            (
                lease.renew_after.as_secs(),
                lease.rebind_after.as_secs(),
                lease.lifetime.map(|time| time.as_secs()),
            )
        };
        assert_eq!(times(60, 100, 0, 0), (30, 48, Some(100)));
        assert_eq!(times(60, 100, 20, 0), (20, 48, Some(100)));
        assert_eq!(times(1, 1, 0, 0), (10, 10, Some(1)), "not without pause");
        let ever = u64::from(u32::MAX);
        assert_eq!(times(u32::MAX, u32::MAX, 0, 0), (ever, ever, None));
        assert_eq!(times(0, 100, 0, 0), (50, 80, Some(100)));
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read(&bytes, ID, &us());
        }

        #[test]
        fn whatever_is_taken_is_bounded(options in proptest::collection::vec((0u16..90, proptest::collection::vec(any::<u8>(), 0..80)), 0..20), within in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut all: Vec<Vec<u8>> = options.iter().map(|(code, value)| option(*code, value)).collect();
            all.push(association(7, 0, 0, &within));
            all.push(association(7, 1, 2, &option(IA_ADDRESS, &within)));
            for kind in [2, 7] {
                if let Some(Received { answer: Answer::Offer(lease, _) | Answer::Granted(lease), .. }) = read(&message(kind, &all), ID, &us()) {
                    prop_assert!(lease.addresses.len() <= ADDRESSES && !lease.addresses.is_empty());
                    prop_assert!(lease.addresses.iter().all(|one| is_usable(&one.address) && one.valid > 0));
                    prop_assert!(lease.information.nameservers.len() <= 4 && lease.information.nameservers.iter().all(is_usable));
                    prop_assert!(lease.information.domains.len() <= 4 && lease.information.timeservers.len() <= 4);
                    prop_assert!(lease.renew_after >= Duration::from_secs(10) && lease.renew_after <= lease.rebind_after);
                }
            }
        }

        #[test]
        fn no_changed_message_panics(at in 0usize..120, byte: u8) {
            let mut bytes = message(7, &[association(7, 0, 0, &address("2001:db8::5", 60, 100))]);
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
            read(&bytes, ID, &us());
        }
    }
}
