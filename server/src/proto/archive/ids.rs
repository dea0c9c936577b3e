//! Ids of archived messages, as clients see them (XEP-0359 §3, XEP-0313 §5.1.1).
//!
//! The journal's id of a message tells when it was appended and how many were in the same millisecond: of use to the
//! server, and nobody else's business. On the wire an id goes through a permutation of 64-bit numbers under a key of the
//! server, and is written in base32: nobody can guess one, and it tells nothing of the traffic. The key belongs to the
//! directory, so ids outlive restarts, upgrades and restored backups.

use std::hash::Hasher as _;

use ring::hmac;
use siphasher::sip::SipHasher13;
use whimbrel_storage::log::PeerHash;

/// Rounds of the Feistel network. Four of a good function make a permutation that cannot be told from a random one by anybody who
/// has seen fewer than some 2^16 pairs of in- and output, five by nobody who has seen fewer than some 2^32 (halves of 32 bits: Luby
/// and Rackoff; Patarin). A client sees outputs, of one conversation after the other, and chooses no inputs. Each round waits
/// for the one before, some 17 ns, and each copy of a message that goes out has an id.
const ROUNDS: u8 = 5;

/// Bytes of an id on the wire: 64 bits, five a character.
pub const BYTES: usize = 13;

/// RFC 4648 §6, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Turns the journal's ids into those of the wire, and back, and tells peers by a number.
#[derive(Clone, Debug)]
pub struct ArchiveIds {
    rounds: SipHasher13,
    peers: SipHasher13,
}

impl ArchiveIds {
    /// With a key of which nobody knows anything.
    pub fn new(key: &[u8; 16]) -> ArchiveIds {
        let rounds = SipHasher13::new_with_key(key);
        let mut peers = rounds;
        // As a round that there is not.
        peers.write_u8(u8::MAX);
        ArchiveIds { rounds, peers }
    }

    /// By which an archive finds what was exchanged with a user of this server. Two may have the same, but nobody can choose
    /// names that have.
    #[inline]
    pub fn peer(&self, local: &str) -> PeerHash {
        let mut hasher = self.peers;
        hasher.write(local.as_bytes());
        PeerHash((hasher.finish() as u32).max(1))
    }

    /// With the key of the server that has this secret.
    pub fn of_server(secret: &[u8; 32]) -> ArchiveIds {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"ids of archived messages");
        ArchiveIds::new(key.as_ref().first_chunk().expect("a digest of 32 bytes"))
    }

    /// The id as clients see it.
    #[inline]
    pub fn seal(&self, id: u64) -> [u8; BYTES] {
        let (mut left, mut right) = ((id >> 32) as u32, id as u32);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        let sealed = u64::from(left) << 32 | u64::from(right);
        std::array::from_fn(|at| ALPHABET[(sealed >> (60 - 5 * at) & 31) as usize])
    }

    /// The journal's id behind one that a client gives. `None` for what this server has never given to anybody: another
    /// length, another alphabet.
    pub fn open(&self, text: &str) -> Option<u64> {
        let text: &[u8; BYTES] = text.as_bytes().try_into().ok()?;
        let mut sealed = 0_u128;
        for byte in text {
            let digit = ALPHABET.iter().position(|of| of == byte)?;
            sealed = sealed << 5 | digit as u128;
        }
        let sealed = u64::try_from(sealed).ok()?;
        let (mut left, mut right) = ((sealed >> 32) as u32, sealed as u32);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        Some(u64::from(left) << 32 | u64::from(right))
    }

    /// A function of a half for each round: five bytes, which are hashed in one block.
    #[inline]
    fn round(&self, round: u8, half: u32) -> u32 {
        let [a, b, c, d] = half.to_le_bytes();
        self.rounds.hash(&[round, a, b, c, d]) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ids: &ArchiveIds, id: u64) -> String {
        String::from_utf8(ids.seal(id).to_vec()).unwrap()
    }

    #[test]
    fn an_id_opens_as_what_was_sealed_and_other_keys_seal_otherwise() {
        let (one, other) = (ArchiveIds::new(&[1; 16]), ArchiveIds::new(&[2; 16]));
        for id in [0, 1, 1 << 20, u64::MAX, 1_764_340_000_000 << 20 | 7] {
            assert_eq!(one.open(&text(&one, id)), Some(id));
            assert_ne!(text(&one, id), text(&other, id));
        }
    }

    #[test]
    fn a_peer_is_told_by_a_number_that_is_never_nobodys() {
        let ids = ArchiveIds::new(&[7; 16]);
        assert_eq!(ids.peer("juliet"), ids.peer("juliet"));
        assert_ne!(ids.peer("juliet"), ids.peer("romeo"));
        assert_ne!(ids.peer(""), PeerHash::NONE);
    }

    /// Clients keep ids, and rows keep peers: another release must know them.
    #[test]
    fn ids_and_peers_stay_what_they_are() {
        let ids = ArchiveIds::new(&[7; 16]);
        assert_eq!(text(&ids, 1_764_340_000_000 << 20 | 7), "cmclvj534ntxi");
        assert_eq!(ids.peer("juliet"), PeerHash(0x25c1_ddb5));
    }

    #[test]
    fn neighbours_look_unlike() {
        let ids = ArchiveIds::new(&[7; 16]);
        let (first, second) = (text(&ids, 1000), text(&ids, 1001));
        let same = first.bytes().zip(second.bytes()).filter(|(a, b)| a == b).count();
        assert!(same < 6, "{first} {second}");
    }

    #[test]
    fn what_was_never_given_is_no_id() {
        let ids = ArchiveIds::new(&[7; 16]);
        let good = text(&ids, 5);
        for bad in
            ["", "x", &good[1..], &format!("{good}a"), &good.to_uppercase(), "zzzzzzzzzzzzz", "aaaaaaaaaaaa1"]
        {
            assert_eq!(ids.open(bad), None, "{bad}");
        }
    }
}
