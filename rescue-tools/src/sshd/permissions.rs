//! What a login may do: what its key's line, and its certificate, leave of it.

/// What a login may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Runs in the place of whatever the client asks for.
    pub command: Option<String>,
    /// Terminals.
    pub pty: bool,
    /// Forwarding of ports.
    pub forwarding: Forwarding,
}

/// Which connections a client may have made from here: `ssh -L`, `ssh -W`, `ProxyJump`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Whether there is any.
    pub allowed: bool,
    /// Where to; empty: anywhere.
    pub to: Vec<Destination>,
}

/// `HOST:PORT` of `permitopen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// As the client has to say it, in small letters; `*`: any.
    host: String,
    /// None: any.
    port: Option<u16>,
}

impl Default for Permissions {
    /// Those of a key without options: everything but forwarding.
    fn default() -> Self {
        Permissions { command: None, pty: true, forwarding: Forwarding::default() }
    }
}

impl Forwarding {
    /// Whether a connection to `host` and `port` may be made.
    pub fn permits(&self, host: &str, port: u16) -> bool {
        let matches = |to: &Destination| {
            (to.host == "*" || to.host.eq_ignore_ascii_case(host))
                && to.port.is_none_or(|wanted| wanted == port)
        };
        self.allowed && (self.to.is_empty() || self.to.iter().any(matches))
    }
}

impl Destination {
    /// Reads `HOST:PORT`, where PORT may be `*` and HOST `*`, a name, an IPv4 address or an IPv6 address in brackets.
    ///
    /// # Errors
    /// What is wrong with it, for a human.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("permitopen={text:?} is not HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || bare.is_none() && host.contains(':') {
            return Err(bad());
        }
        let port = match port {
            "*" => None,
            number => Some(number.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?),
        };
        Ok(Destination { host: bare.unwrap_or(host).to_ascii_lowercase(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Forwarding {
        Forwarding { allowed: true, to: vec![Destination::parse(text).unwrap()] }
    }

    #[test]
    fn destinations_are_those_of_permitopen() {
        assert!(to("localhost:80").permits("LocalHost", 80) && !to("localhost:80").permits("localhost", 81));
        assert!(to("[::1]:80").permits("::1", 80) && to("10.0.0.1:*").permits("10.0.0.1", 5));
        assert!(to("*:22").permits("x", 22) && !to("*:22").permits("x", 23));
        for bad in ["", "host", "host:", ":80", "::1:80", "host:0", "host:65536", "host:-1", "[::1]"] {
            assert!(Destination::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forwarding_is_off_by_default() {
        assert!(!Permissions::default().forwarding.permits("localhost", 80));
        assert!(Forwarding { allowed: true, to: Vec::new() }.permits("localhost", 80));
        assert!(!Forwarding { allowed: false, ..to("*:*") }.permits("localhost", 80));
    }
}
