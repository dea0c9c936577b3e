//! Which addresses count as one where clients have shares: for the server's listeners and for its HTTP services alike.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses in eight bytes. Blocks of different kinds are never equal.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block(u64);

/// What sets the kinds apart. 100::/64 is the discard prefix (RFC 6666), and 200::/7 is not assigned (RFC 4291): no client comes
/// from them.
const IPV4: u64 = 0x0100_0000_0000_0000;
const IPV4_NETWORK: u64 = 0x0200_0000_0000_0000;
const IPV6_NETWORK: u64 = 0x0300_0000_0000_0000;

impl Block {
    /// Before all others, for ranges.
    pub const MIN: Block = Block(0);

    /// After all others.
    pub const MAX: Block = Block(u64::MAX);

    /// An IPv4 address, or the /64 of an IPv6 one: what one client has, as a rule. An IPv4-mapped address is the IPv4 one.
    pub fn of(address: IpAddr) -> Block {
        match address.to_canonical() {
            IpAddr::V4(v4) => Block(u64::from(v4.to_bits()) | IPV4),
            IpAddr::V6(v6) => Block((v6.to_bits() >> 64) as u64),
        }
    }

    /// The network that an address is in, among which changing addresses change: an IPv4 /24, an IPv6 /48.
    pub fn network(address: IpAddr) -> Block {
        match address.to_canonical() {
            IpAddr::V4(v4) => Block(u64::from(v4.to_bits() >> 8) | IPV4_NETWORK),
            IpAddr::V6(v6) => Block((v6.to_bits() >> 80) as u64 | IPV6_NETWORK),
        }
    }

    /// The block with these [`Block::bits`].
    pub const fn from_bits(bits: u64) -> Block {
        Block(bits)
    }

    /// Tells blocks apart.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// `192.0.2.1`, `2001:db8::/64`; of networks `192.0.2.0/24`, `2001:db8::/48`.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIND: u64 = 0xff00_0000_0000_0000;
        let v6 = |bits: u64, shift: u32| Ipv6Addr::from_bits(u128::from(bits) << shift);
        match self.0 {
            bits if bits >> 32 == IPV4 >> 32 => write!(f, "{}", Ipv4Addr::from_bits(bits as u32)),
            bits if bits & KIND == IPV4_NETWORK => {
                write!(f, "{}/24", Ipv4Addr::from_bits((bits as u32) << 8))
            }
            bits if bits & KIND == IPV6_NETWORK => write!(f, "{}/48", v6(bits & !KIND, 80)),
            bits => write!(f, "{}/64", v6(bits, 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_block_is_one_ipv4_address_or_one_64_of_ipv6() {
        let block = |text: &str| Block::of(ip(text));
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:0:0:1"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
    }

    #[test]
    fn a_network_is_one_24_of_ipv4_or_one_48_of_ipv6() {
        let network = |text: &str| Block::network(ip(text));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:ffff::1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:1:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.255"));
        assert_ne!(network("10.0.0.1"), network("10.0.1.1"));
    }

    #[test]
    fn a_block_is_written_as_the_addresses_that_are_in_it() {
        let table = [
            ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
            ("255.255.255.255", "255.255.255.255", "255.255.255.0/24"),
            ("2001:db8:1:2::7", "2001:db8:1:2::/64", "2001:db8:1::/48"),
            ("::1", "::/64", "::/48"),
        ];
        for (address, block, network) in table {
            assert_eq!(Block::of(ip(address)).to_string(), block);
            assert_eq!(Block::network(ip(address)).to_string(), network);
        }
    }

    #[test]
    fn an_address_and_its_network_are_not_taken_for_one_another() {
        for text in ["10.0.0.0", "0.0.0.0", "2001:db8::", "::"] {
            assert_ne!(Block::of(ip(text)), Block::network(ip(text)), "{text}");
            assert!(Block::MIN <= Block::of(ip(text)) && Block::network(ip(text)) <= Block::MAX);
        }
    }
}
