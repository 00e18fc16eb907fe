//! `/etc/resolv.conf` (resolv.conf(5)): which servers are asked, and for which names.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// More servers than these are not asked.
const SERVERS: usize = 8;
/// More domains than these are not tried.
const DOMAINS: usize = 8;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers in their order.
    pub servers: Vec<SocketAddr>,
    /// What is put behind a name that is not complete.
    pub domains: Vec<String>,
    /// A name with at least so many dots is tried as it is first; default 1.
    pub dots: usize,
}

impl ResolvConf {
    /// Reads the file; one that is not there says nothing.
    pub fn read(path: &Path, port: u16) -> Self {
        Self::parse(&std::fs::read_to_string(path).unwrap_or_default(), port)
    }

    /// Reads its text. What is not understood is passed over, as every resolver does.
    pub fn parse(text: &str, port: u16) -> Self {
        let mut conf = ResolvConf { dots: 1, ..ResolvConf::default() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|text| server(text, port));
                    conf.servers.extend(server.filter(|server| !conf.servers.contains(server)));
                }
                // The last line counts.
                Some("search" | "domain") => {
                    let name = |word: &str| word.trim_matches('.').to_ascii_lowercase();
                    conf.domains = words.map(name).filter(|name| !name.is_empty()).take(DOMAINS).collect();
                }
                Some("options") => {
                    let dots = words.find_map(|word| word.strip_prefix("ndots:")?.parse::<usize>().ok());
                    conf.dots = dots.map_or(conf.dots, |dots| dots.min(15));
                }
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS);
        conf
    }

    /// The complete names to try for this one, in their order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(complete) = name.strip_suffix('.') {
            return vec![complete.into()];
        }
        let mut all: Vec<String> = self.domains.iter().map(|domain| format!("{name}.{domain}")).collect();
        let is_complete = name.matches('.').count() >= self.dots;
        all.insert(if is_complete { 0 } else { all.len() }, name.into());
        all
    }
}

/// An address; a link-local one has its interface behind a `%`.
fn server(text: &str, port: u16) -> Option<SocketAddr> {
    if let Some((address, interface)) = text.split_once('%') {
        let index = interface
            .parse()
            .ok()
            .or_else(|| nix::net::if_::if_nametoindex(interface).ok())
            .filter(|n| *n > 0)?;
        return Some(SocketAddrV6::new(address.parse().ok()?, port, 0, index).into());
    }
    let address: IpAddr = text.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_is_read_as_its_manual_says() {
        let text = "# a comment\nsearch old.example\nnameserver 192.0.2.1\n nameserver 2001:db8::53 # more\n\
                    nameserver fe80::1%1\nnameserver nonsense\nnameserver 192.0.2.1\nsearch A.example. b.example\n\
                    options edns0 ndots:2\nsortlist 10.0.0.0\n";
        let conf = ResolvConf::parse(text, 53);
        let servers: Vec<String> = conf.servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::53]:53", "[fe80::1%1]:53"]);
        assert_eq!((conf.domains, conf.dots), (vec!["a.example".to_owned(), "b.example".to_owned()], 2));
        assert_eq!(ResolvConf::parse("", 53).servers, []);
    }

    #[test]
    fn a_short_name_is_completed_first() {
        let conf = ResolvConf::parse("search a b\n", 53);
        assert_eq!(conf.candidates("x"), ["x.a", "x.b", "x"]);
        assert_eq!(conf.candidates("x.y"), ["x.y", "x.y.a", "x.y.b"]);
        assert_eq!(conf.candidates("x.y."), ["x.y"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((nameserver|search|options)? ?[0-9a-z.:%#]{0,20}\n?){0,9}", name in "[a-z.]{0,9}") {
            ResolvConf::parse(&text, 53).candidates(&name);
        }
    }
}
