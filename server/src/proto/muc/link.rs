//! Links that make members of a room: `xmpp:ROOM?join;password=TOKEN` (XEP-0147, XEP-0045 §17.2.1). Clients that open one enter the
//! room with the token where others give a password.

/// Bytes of chance in a token.
pub const TOKEN_BYTES: usize = 16;

/// RFC 4648 §6, in lower case: nothing in it has to be escaped, and none of it is taken for another when it is read out.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A token of random bytes: 26 letters and digits.
pub fn token(random: &[u8; TOKEN_BYTES]) -> String {
    let bits = u128::from_be_bytes(*random);
    // Five bits a letter; the last one has three.
    let whole = (0..25).map(|at| bits >> (123 - 5 * at));
    whole.chain([bits << 2]).map(|digit| char::from(ALPHABET[(digit & 31) as usize])).collect()
}

/// The link of a room with this token.
pub fn uri(room: &str, token: &str) -> String {
    let mut uri = String::from("xmpp:");
    for byte in room.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                uri.push(char::from(byte));
            }
            // RFC 5122 §2.2.
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?join;password=" + token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_all_of_its_bits() {
        assert_eq!(token(&[0; 16]), "a".repeat(26));
        assert_eq!(token(&[0xff; 16]), "7".repeat(25) + "4");
        let mut all = std::collections::HashSet::new();
        for bit in 0..128 {
            let token = token(&(1_u128 << bit).to_be_bytes());
            assert!(token.len() == 26 && all.insert(token));
        }
    }

    #[test]
    fn a_link_has_nothing_that_a_client_would_take_apart_wrongly() {
        assert_eq!(uri("tea@c.x", "abc"), "xmpp:tea@c.x?join;password=abc");
        assert_eq!(uri("a b?&;é@c.x", "abc"), "xmpp:a%20b%3F%26%3B%C3%A9@c.x?join;password=abc");
    }
}
