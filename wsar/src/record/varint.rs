//! Integers of variable length.

/// Appends a number, 7 bits a byte.
pub(super) fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a difference, small for small ones of either sign.
pub(super) fn put_signed(out: &mut Vec<u8>, n: i64) {
    put(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Takes a number off the front; `None`: the input ends, or the number is too long.
pub(super) fn take(input: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

/// Takes a difference.
pub(super) fn take_signed(input: &mut &[u8]) -> Option<i64> {
    let n = take(input)?;
    Some((n >> 1) as i64 ^ -((n & 1) as i64))
}

/// Takes a number of things of which each takes a byte at least: never more than there is input.
pub(super) fn take_count(input: &mut &[u8]) -> Option<usize> {
    let n = usize::try_from(take(input)?).ok()?;
    (n <= input.len()).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_nothing_else_does() {
        for n in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, n);
            put(&mut bytes, n as u64);
            let mut input = &bytes[..];
            assert_eq!((take_signed(&mut input), take(&mut input)), (Some(n), Some(n as u64)));
            assert!(input.is_empty());
        }
        for wrong in
            [&[][..], &[0x80], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert_eq!(take(&mut &wrong[..]), None, "{wrong:?}");
        }
    }
}
