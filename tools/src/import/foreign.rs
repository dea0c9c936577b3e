//! Hashes that other programs keep in the place of passwords. Taken for a password, the text of a hash would be what its
//! account logs in with, and everybody who has seen the old server's files would know it.

/// Characters of a hash after its name at least. Passwords that look like one are shorter.
const HASH_MIN: usize = 16;

/// Whether a text looks like one: `{SSHA}…` as directories write it (RFC 2307), or `$2b$…`, `$6$…`, `$argon2id$…` as
/// crypt(3) does.
pub(super) fn is_hash(text: &str) -> bool {
    let text = text.trim();
    let (name, rest) = match (text.strip_prefix('{'), text.strip_prefix('$')) {
        (Some(inside), _) => inside.split_once('}').unwrap_or_default(),
        (_, Some(inside)) => inside.split_once('$').unwrap_or_default(),
        _ => return false,
    };
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let of_hash = |byte: u8| byte.is_ascii_alphanumeric() || b"+/.=$,-_*:".contains(&byte);
    !name.is_empty() && name.bytes().all(of_name) && rest.len() >= HASH_MIN && rest.bytes().all(of_hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_from_passwords() {
        for (text, hash) in [
            ("{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr", true),
            ("{CRYPT}$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2", true),
            (" {PBKDF2-SHA256}10000$saltsalt$hashhashhash", true),
            ("$2b$12$LQv3c1yqBWVHxkd0LHAkCOYz6TtxMQJqhN8/LewdBPj/RK.PQwm.e", true),
            ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaGhhc2hoYXNo", true),
            ("$1$abc", false),
            ("{a}b", false),
            ("{}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr", false),
            ("$5 and a penny, please", false),
            ("$money$ makes the world go round", false),
            ("pass$word", false),
            ("", false),
        ] {
            assert_eq!(is_hash(text), hash, "{text}");
        }
    }
}
