//! CRC-32C (Castagnoli): a value of the directory is checked at each read.

/// The checksum of the parts, one after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// Values of RFC 3720, appendix B.4.
    #[test]
    fn it_is_the_castagnoli_checksum() {
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(crc32c(&[&rising]), 0x46dd_794e);
        assert_eq!(crc32c(&[&rising[..5], &rising[5..]]), 0x46dd_794e);
    }
}
