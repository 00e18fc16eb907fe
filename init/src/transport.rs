//! How bytes are fetched and the time is asked for: proxies, the rate, pinned keys, time servers.
//!
//! The kernel hands words without a dot to PID 1 as environment too (Documentation/admin-guide/kernel-parameters.rst).
//! Nothing reads them there: what counts is the command line alone (held by `the_environment_says_nothing` in
//! tests/fetch.rs).

use std::net::IpAddr;
use std::time::Duration;

use url::Url;

use crate::ip;
use crate::plan::Parameter;
use crate::size::Size;

/// The parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] = &[
    ("lifeboat.rate", "SIZE", "fetch at most so many bytes a second: 512K, 10M"),
    ("lifeboat.jitter", "SECONDS", "wait so long at most, by chance, before the first request"),
    (
        "lifeboat.pin",
        "sha256//BASE64",
        "trust the HTTPS servers that have this public key, and no others; may be given more than once",
    ),
    ("lifeboat.ntp", "HOST[:PORT]", "a time server; may be given more than once"),
];

/// The longest wait of `lifeboat.jitter=`: an hour.
const LONGEST_JITTER: u64 = 3600;
/// So many time servers are enough.
const NTP_SERVERS: usize = 8;

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Whom to ask for `http:` URLs.
    pub http_proxy: Option<Url>,
    /// Whom to ask for `https:` URLs.
    pub https_proxy: Option<Url>,
    /// Whom to ask where the two above say nothing.
    pub all_proxy: Option<Url>,
    /// Hosts that are asked directly: names with all below them, addresses, networks, `*`; commas between.
    pub no_proxy: Option<String>,
    /// The most bytes of an image in a second.
    pub rate: Option<u64>,
    /// The longest wait before the first request.
    pub jitter: Option<Duration>,
    /// SHA-256 of public keys (SubjectPublicKeyInfo, RFC 7469 section 2.4). `None`: certificates are checked by their
    /// authorities. Where every pin was malformed it is an empty list, and no server is trusted.
    pub pins: Option<Vec<[u8; 32]>>,
    /// Time servers of `lifeboat.ntp=`, names or addresses.
    pub ntp: Vec<String>,
    /// Those of `ip=`, which come after them.
    pub ip_ntp: Vec<String>,
}

impl Transport {
    /// Reads a word; `false`: it is none of these, or somebody else's too.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "http_proxy" => self.http_proxy = proxy(value)?,
            "https_proxy" => self.https_proxy = proxy(value)?,
            "all_proxy" => self.all_proxy = proxy(value)?,
            "no_proxy" => self.no_proxy = no_proxy(value)?,
            "lifeboat.rate" => self.rate = Some(rate(value)?),
            "lifeboat.jitter" => self.jitter = Some(jitter(value)?),
            "lifeboat.pin" => {
                let pins = self.pins.get_or_insert_default();
                pins.push(pin(value)?);
            }
            "lifeboat.ntp" => push_server(&mut self.ntp, time_server(value)?)?,
            "ip" => {
                if let Some(server) = ntp_of_ip(value) {
                    push_server(&mut self.ip_ntp, server)?;
                }
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a whole command line; what cannot be understood is passed over, [`crate::plan::Plan`] tells of it.
    pub fn parse(line: &crate::cmdline::CommandLine) -> Self {
        let mut transport = Transport::default();
        for word in &line.words {
            let _ = transport.take(&word.name, word.value.as_deref().unwrap_or(""));
        }
        transport
    }

    /// Every time server, those of `lifeboat.ntp=` first.
    pub fn time_servers(&self) -> impl Iterator<Item = &str> {
        self.ntp.iter().chain(&self.ip_ntp).map(String::as_str)
    }

    /// The proxy for a scheme.
    pub fn proxy_for(&self, scheme: &str) -> Option<&Url> {
        let own = if scheme == "https" { &self.https_proxy } else { &self.http_proxy };
        own.as_ref().or(self.all_proxy.as_ref())
    }

    /// In lines, for `--explain`.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for scheme in ["http", "https"] {
            if let Some(proxy) = self.proxy_for(scheme) {
                lines.push(format!("proxy for {scheme}: {}", without_password(proxy)));
            }
        }
        lines.extend(self.no_proxy.iter().map(|hosts| format!("no proxy for: {hosts}")));
        lines.extend(self.rate.map(|rate| format!("fetches at most {}/s", crate::size::human(rate))));
        lines.extend(
            self.jitter.map(|most| format!("waits up to {} s before the first request", most.as_secs())),
        );
        lines.extend(
            self.pins
                .as_ref()
                .map(|pins| format!("https: only servers with one of {} pinned keys", pins.len())),
        );
        lines.extend(self.time_servers().map(|server| format!("time server: {server}")));
        lines
    }
}

/// A proxy's address as it may be shown.
pub fn without_password(url: &Url) -> Url {
    let mut shown = url.clone();
    // An error says that this kind of URL has none.
    let _ = shown.set_password(None);
    shown
}

/// `http://[USER:PASSWORD@]HOST[:PORT]`; `HOST[:PORT]` as curl takes it. Nothing takes an earlier word back.
fn proxy(value: &str) -> Result<Option<Url>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    // Other scripts come as punycode; url's idna, built for tests, ends the program at some of them.
    if !value.is_ascii() {
        return Err("a proxy's URL is ASCII (a name in another script as xn--…)".into());
    }
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&text).map_err(|error| format!("not the URL of a proxy: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(Some(url)),
        "http" | "https" => Err("the URL names no host".into()),
        scheme => Err(format!("a proxy is spoken to by http: or https:, not by {scheme}:")),
    }
}

fn no_proxy(value: &str) -> Result<Option<String>, String> {
    let is_part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '[' | ']' | '*');
    for host in value.split(',') {
        if !host.chars().all(is_part) || (host.contains('*') && host != "*") {
            return Err(format!("{host:?} is no host, address, network or *; commas stand between them"));
        }
        if let Some((address, prefix)) = host.split_once('/') {
            let address = ip::any_address("network", address)?;
            let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
            if !prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest) {
                return Err(format!("{host}: the prefix is 0 to {longest}"));
            }
        }
    }
    Ok(Some(value.to_owned()).filter(|value| !value.is_empty()))
}

fn rate(value: &str) -> Result<u64, String> {
    match value.parse() {
        Ok(Size::Bytes(bytes)) if bytes >= 1024 => Ok(bytes),
        _ => Err("it is bytes a second, at least 1K: 512K, 10M".into()),
    }
}

fn jitter(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(seconds @ 0..=LONGEST_JITTER) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("it is a whole number of seconds, at most {LONGEST_JITTER}")),
    }
}

/// curl's `--pinnedpubkey`.
fn pin(value: &str) -> Result<[u8; 32], String> {
    let form =
        "it is sha256// and the base64 of 32 bytes: a server's public key as curl --pinnedpubkey has it";
    value.strip_prefix("sha256//").and_then(from_base64).ok_or_else(|| form.into())
}

/// 32 bytes from 44 characters (RFC 4648, section 4), padded.
fn from_base64(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=')?;
    if digits.len() != 43 {
        return None;
    }
    let mut bytes = Vec::with_capacity(33);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    // The bits of the last digit that no byte takes are zero (RFC 4648, section 3.5).
    if held == 0 { bytes.try_into().ok() } else { None }
}

/// A name or an address, an IPv6 one in brackets where a port follows.
fn time_server(value: &str) -> Result<String, String> {
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (value, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("the port is 1 to 65535".into());
    }
    let plain = host.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(host);
    let is_address = plain.parse::<IpAddr>().is_ok();
    let is_name = (1..=253).contains(&host.len())
        && host.trim_end_matches('.').split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
    if is_address || is_name { Ok(value.into()) } else { Err("it is a host's name or an IP address".into()) }
}

/// A time server's host and port, as [`Transport::time_servers`] gives them.
pub fn host_and_port(server: &str, default: u16) -> (&str, u16) {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().unwrap_or(default))
        }
        _ => (server, default),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn push_server(servers: &mut Vec<String>, server: String) -> Result<(), String> {
    if servers.len() >= NTP_SERVERS {
        return Err(format!("there are more than {NTP_SERVERS} time servers"));
    }
    if !servers.contains(&server) {
        servers.push(server);
    }
    Ok(())
}

/// The tenth field of the kernel's form; what is wrong with it [`ip::parse`] says.
fn ntp_of_ip(value: &str) -> Option<String> {
    let fields = ip::fields(value).ok()?;
    let [.., server] = fields.as_slice() else { return None };
    let address: Option<IpAddr> = server.parse().ok();
    address.filter(|_| fields.len() == 10).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cmdline::CommandLine;
    use crate::plan::{Goal, Plan};

    const PIN: &str = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    fn transport(text: &str) -> Transport {
        let plan = Plan::parse(&CommandLine::parse(text));
        assert_eq!(plan.problems, [], "{text}");
        plan.transport
    }

    #[test]
    fn proxies_are_read_as_curl_reads_them() {
        for (text, http, https) in [
            ("quiet", None, None),
            ("http_proxy=http://p:3128", Some("http://p:3128/"), None),
            ("https_proxy=p:3128", None, Some("http://p:3128/")),
            ("all_proxy=http://p:3128/", Some("http://p:3128/"), Some("http://p:3128/")),
            ("all_proxy=http://a http_proxy=https://b", Some("https://b/"), Some("http://a/")),
            ("http_proxy=http://a http_proxy=http://b", Some("http://b/"), None),
            ("http_proxy=http://a http_proxy=", None, None),
            ("http_proxy=http://[2001:db8::1]:3128", Some("http://[2001:db8::1]:3128/"), None),
        ] {
            let transport = transport(text);
            let of = |scheme| transport.proxy_for(scheme).map(Url::as_str);
            assert_eq!((of("http"), of("https")), (http, https), "{text}");
        }
        let named = transport("no_proxy=.example.org,192.0.2.0/24,[2001:db8::]/32,localhost,*");
        assert!(named.no_proxy.is_some());
        assert_eq!(transport("no_proxy=a no_proxy=").no_proxy, None);
    }

    #[test]
    fn a_password_is_not_shown() {
        let lines = transport("http_proxy=http://me:secret@p:3128").describe();
        assert_eq!(lines, ["proxy for http: http://me@p:3128/"]);
    }

    #[test]
    fn figures_are_read() {
        let read = transport("lifeboat.rate=512K lifeboat.rate=2M lifeboat.jitter=60");
        assert_eq!((read.rate, read.jitter), (Some(2 << 20), Some(Duration::from_secs(60))));
    }

    #[test]
    fn pins_add_up_and_a_broken_one_trusts_nobody() {
        let read = transport(&format!("lifeboat.pin={PIN} lifeboat.pin=sha256//{}=", "A".repeat(43)));
        let pins = read.pins.unwrap();
        // The SHA-256 of nothing.
        assert_eq!((pins.len(), pins[0][0], pins[0][31], pins[1]), (2, 0xe3, 0x55, [0; 32]));
        let broken = Plan::parse(&CommandLine::parse("lifeboat.pin=sha256//AAAA"));
        assert_eq!((broken.goal, broken.transport.pins), (Goal::Rescue, Some(Vec::new())));
        assert_eq!(broken.problems[0].word, "lifeboat.pin=sha256//AAAA");
    }

    #[test]
    fn time_servers_come_from_both_words() {
        let read = transport(
            "ip=192.0.2.7::192.0.2.1:24::eth0:none:192.0.2.53::192.0.2.123 lifeboat.ntp=time.example.org \
             lifeboat.ntp=[2001:db8::123] ip=eth1:dhcp lifeboat.ntp=time.example.org",
        );
        let servers: Vec<&str> = read.time_servers().collect();
        assert_eq!(servers, ["time.example.org", "[2001:db8::123]", "192.0.2.123"]);
        for (server, host, port) in [
            ("time.example.org", "time.example.org", 123),
            ("time.example.org:1123", "time.example.org", 1123),
            ("192.0.2.1:1123", "192.0.2.1", 1123),
            ("2001:db8::1", "2001:db8::1", 123),
            ("[2001:db8::1]", "2001:db8::1", 123),
            ("[2001:db8::1]:1123", "2001:db8::1", 1123),
        ] {
            let read = transport(&format!("lifeboat.ntp={server}"));
            assert_eq!(read.time_servers().map(|one| host_and_port(one, 123)).next(), Some((host, port)));
        }
    }

    #[test]
    fn bad_words_are_named() {
        for bad in [
            "http_proxy=socks5://p:1080",
            "https_proxy=http://",
            "all_proxy=http://a b",
            "no_proxy=a;b",
            "no_proxy=*.example.org",
            "no_proxy=192.0.2.0/33",
            "lifeboat.rate=0",
            "lifeboat.rate=50%",
            "lifeboat.rate=fast",
            "lifeboat.jitter=3601",
            "lifeboat.jitter=-1",
            "lifeboat.jitter",
            "lifeboat.pin=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "lifeboat.pin=sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
            "lifeboat.pin=sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "lifeboat.pin=md5//AAAA",
            "lifeboat.ntp=",
            "lifeboat.ntp=time.example.org:ntp",
            "lifeboat.ntp=time.example.org:0",
            "lifeboat.ntp=[time.example.org]x:123",
            "lifeboat.ntp=a..b",
        ] {
            let quoted = format!("\"{bad}\"");
            let plan = Plan::parse(&CommandLine::parse(&format!("root=live:http://a/b.squashfs {quoted}")));
            assert_eq!(plan.problems.len(), 1, "{bad}: {:?}", plan.problems);
            assert_eq!((plan.goal, plan.problems[0].word.as_str()), (Goal::Rescue, bad));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(name in "http_proxy|no_proxy|lifeboat\\.(rate|jitter|pin|ntp)|ip", text in "\\PC{0,80}") {
            let _ = Transport::default().take(&name, &text);
            let _ = Transport::default().take("lifeboat.pin", &format!("sha256//{text}"));
        }

        #[test]
        fn base64_is_read_as_written(bytes in any::<[u8; 32]>()) {
            const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
            let digit = |six: &[u8]| six.iter().chain(&[0; 6]).take(6).fold(0, |sum, bit| sum << 1 | bit);
            let text: String = bits.chunks(6).map(|six| DIGITS[usize::from(digit(six))] as char).collect();
            prop_assert_eq!(from_base64(&(text + "=")), Some(bytes));
        }
    }
}
