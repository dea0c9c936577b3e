//! Which addresses count as one.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of an IPv6 one: what one client has, as a rule.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block(IpAddr);

impl Block {
    /// The block of an address. An IPv4-mapped address is the IPv4 one.
    pub fn of(address: IpAddr) -> Block {
        Block(match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_one_ipv4_address_or_one_64_of_ipv6() {
        let block = |text: &str| Block::of(text.parse().unwrap());
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:0:0:1"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
    }
}
