//! Who the client is: the address that a request came from, or that a trusted proxy says.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;

use crate::settings::{ClientHeader, TrustedProxy};

const FORWARDED_HOPS_MAX: usize = 32;

/// The client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The country that Cloudflare says, where it is the proxy: two letters.
    pub(crate) country: Option<String>,
}

/// What limits are kept by: an IPv4 address, or the /64 that an IPv6 address lies in, of which one
/// client has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Neighbourhood([u8; 16]);

impl Neighbourhood {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0])
            }
        }
    }

    /// Whether it is an IPv4 address.
    pub(crate) fn is_v4(&self) -> bool {
        Ipv6Addr::from(self.0).to_ipv4_mapped().is_some()
    }

    /// The network of so many bits that it lies in.
    pub(crate) fn network(&self, bits: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits.clamp(1, 128))).unwrap_or(u128::MAX);
        Self((u128::from_be_bytes(self.0) & mask).to_be_bytes())
    }

    /// One that was stored.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// An IPv4 address that came as IPv6 is the same address.
pub(crate) fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => mapped(address).unwrap_or(IpAddr::V6(address)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn mapped(address: Ipv6Addr) -> Option<IpAddr> {
    address.to_ipv4_mapped().map(IpAddr::V4)
}

/// The trusted proxy that has an address.
pub(crate) fn proxy_at(proxies: &[TrustedProxy], address: IpAddr) -> Option<&TrustedProxy> {
    proxies.iter().find(|proxy| proxy.network.contains(&address))
}

impl Client {
    /// The client of a request with these headers, whose connection came from an address.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &[TrustedProxy]) -> Self {
        let peer = plain(peer);
        match proxy_at(proxies, peer).map(|proxy| proxy.header) {
            None => Self { address: peer, country: None },
            Some(ClientHeader::CfConnectingIp) => Self {
                address: only(headers, ClientHeader::CfConnectingIp.as_str())
                    .and_then(|text| text.trim().parse().ok())
                    .map_or(peer, plain),
                country: only(headers, "cf-ipcountry").and_then(country),
            },
            Some(ClientHeader::XForwardedFor) => {
                Self { address: last_stranger(peer, headers, proxies), country: None }
            }
        }
    }
}

/// A header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    second.is_none().then_some(())?;
    first.to_str().ok()
}

fn country(text: &str) -> Option<String> {
    let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then(|| text.to_owned())
}

/// The last hop that is no trusted proxy: whatever stands before it, its client wrote.
fn last_stranger(peer: IpAddr, headers: &HeaderMap, proxies: &[TrustedProxy]) -> IpAddr {
    let values = headers.get_all(ClientHeader::XForwardedFor.as_str()).iter();
    // Whatever bytes a client wrote before, the last hops are the proxies' own.
    let hops: Vec<&[u8]> =
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
    let mut nearest = peer;
    for hop in hops.iter().rev().take(FORWARDED_HOPS_MAX) {
        // Some proxies write a port too.
        let hop = std::str::from_utf8(hop.trim_ascii()).unwrap_or_default();
        let address = hop
            .parse::<IpAddr>()
            .ok()
            .or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
        let Some(address) = address else { return nearest };
        nearest = plain(address);
        if proxy_at(proxies, nearest).is_none() {
            return nearest;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(headers: &[(&'static str, &str)], peer: &str) -> String {
        let proxies = [
            "127.0.0.1=x-forwarded-for",
            "10.0.0.0/8=x-forwarded-for",
            "192.0.2.7=cf-connecting-ip",
        ];
        let proxies: Vec<TrustedProxy> = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Client::of(peer.parse().unwrap(), &map, &proxies).address.to_string()
    }

    /// Guards: nobody chooses an address for himself.
    #[test]
    fn only_the_header_of_a_trusted_proxy_counts() {
        let forwarded = "x-forwarded-for";
        assert_eq!(address(&[(forwarded, "1.2.3.4")], "203.0.113.9"), "203.0.113.9");
        assert_eq!(address(&[(forwarded, "1.2.3.4")], "127.0.0.1"), "1.2.3.4");
        assert_eq!(address(&[(forwarded, "9.9.9.9, 1.2.3.4")], "127.0.0.1"), "1.2.3.4");
        assert_eq!(
            address(&[(forwarded, "9.9.9.9"), (forwarded, "1.2.3.4, 10.1.1.1")], "127.0.0.1"),
            "1.2.3.4"
        );
        assert_eq!(address(&[(forwarded, "9.9.9.9, nonsense")], "127.0.0.1"), "127.0.0.1");
        assert_eq!(address(&[(forwarded, "9.9.9.9\u{ff}, 1.2.3.4")], "127.0.0.1"), "1.2.3.4");
        assert_eq!(address(&[], "127.0.0.1"), "127.0.0.1");
        assert_eq!(address(&[("cf-connecting-ip", "1.2.3.4")], "127.0.0.1"), "127.0.0.1");
        assert_eq!(address(&[("cf-connecting-ip", "1.2.3.4")], "192.0.2.7"), "1.2.3.4");
        assert_eq!(address(&[(forwarded, "1.2.3.4")], "192.0.2.7"), "192.0.2.7");
        assert_eq!(
            address(
                &[("cf-connecting-ip", "1.2.3.4"), ("cf-connecting-ip", "5.6.7.8")],
                "192.0.2.7"
            ),
            "192.0.2.7"
        );
        assert_eq!(address(&[(forwarded, "::ffff:1.2.3.4")], "::ffff:127.0.0.1"), "1.2.3.4");
        assert_eq!(address(&[(forwarded, "1.2.3.4:5678")], "127.0.0.1"), "1.2.3.4");
    }

    /// Guards: who has a /64 has one share, not 2^64.
    #[test]
    fn addresses_of_one_network_are_one_neighbourhood() {
        let of = |text: &str| Neighbourhood::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
