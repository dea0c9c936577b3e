//! Looks at sixteen bytes at once for the first that needs attention.
//!
//! Each function gives a mask whose bit i speaks of byte i. On x86-64 that is SSE2, which every such processor has;
//! elsewhere a loop that the compiler may turn into what the processor has. The callers finish what is left over at
//! the end of the bytes with the table of [`super::chars`], so both are compared with it by the tests.

/// Bytes looked at in one step.
pub(super) const LANES: usize = 16;

/// Sixteen bytes from `pos` on, if there are so many.
#[inline(always)]
pub(super) fn block(bytes: &[u8], pos: usize) -> Option<&[u8; LANES]> {
    bytes.get(pos..pos + LANES)?.first_chunk()
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use std::arch::x86_64::{
        __m128i, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8,
        _mm_or_si128, _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::LANES;

    /// Sixteen truth values.
    #[derive(Copy, Clone)]
    pub(super) struct Truth(__m128i);

    /// Sixteen bytes.
    #[derive(Copy, Clone)]
    pub(super) struct Bytes(__m128i);

    impl Bytes {
        #[inline(always)]
        pub(super) fn load(block: &[u8; LANES]) -> Self {
            // SAFETY: SSE2 is part of x86-64, and the array is the sixteen bytes that the load reads, at any alignment.
            Self(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
        }

        #[inline(always)]
        fn all(byte: u8) -> __m128i {
            // SAFETY: SSE2 is part of x86-64.
            unsafe { _mm_set1_epi8(byte.cast_signed()) }
        }

        #[inline(always)]
        pub(super) fn equal(self, byte: u8) -> Truth {
            // SAFETY: SSE2 is part of x86-64.
            Truth(unsafe { _mm_cmpeq_epi8(self.0, Self::all(byte)) })
        }

        /// `first..=last`
        #[inline(always)]
        pub(super) fn within(self, first: u8, last: u8) -> Truth {
            // SAFETY: SSE2 is part of x86-64.
            unsafe {
                let above = _mm_sub_epi8(self.0, Self::all(first));
                Truth(_mm_cmpeq_epi8(_mm_min_epu8(above, Self::all(last - first)), above))
            }
        }

        #[inline(always)]
        pub(super) fn with_bit(self, bit: u8) -> Self {
            // SAFETY: SSE2 is part of x86-64.
            Self(unsafe { _mm_or_si128(self.0, Self::all(bit)) })
        }
    }

    impl Truth {
        #[inline(always)]
        pub(super) fn or(self, other: Self) -> Self {
            // SAFETY: SSE2 is part of x86-64.
            Self(unsafe { _mm_or_si128(self.0, other.0) })
        }

        #[inline(always)]
        pub(super) fn but_not(self, other: Self) -> Self {
            // SAFETY: SSE2 is part of x86-64.
            Self(unsafe { _mm_andnot_si128(other.0, self.0) })
        }

        #[inline(always)]
        pub(super) fn mask(self) -> u32 {
            // SAFETY: SSE2 is part of x86-64.
            (unsafe { _mm_movemask_epi8(self.0) }).cast_unsigned()
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod vector {
    use super::LANES;

    #[derive(Copy, Clone)]
    pub(super) struct Truth([bool; LANES]);

    #[derive(Copy, Clone)]
    pub(super) struct Bytes([u8; LANES]);

    impl Bytes {
        #[inline(always)]
        pub(super) fn load(block: &[u8; LANES]) -> Self {
            Self(*block)
        }

        #[inline(always)]
        pub(super) fn equal(self, byte: u8) -> Truth {
            Truth(self.0.map(|b| b == byte))
        }

        #[inline(always)]
        pub(super) fn within(self, first: u8, last: u8) -> Truth {
            Truth(self.0.map(|b| b.wrapping_sub(first) <= last - first))
        }

        #[inline(always)]
        pub(super) fn with_bit(self, bit: u8) -> Self {
            Self(self.0.map(|b| b | bit))
        }
    }

    impl Truth {
        #[inline(always)]
        pub(super) fn or(self, other: Self) -> Self {
            Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
        }

        #[inline(always)]
        pub(super) fn but_not(self, other: Self) -> Self {
            Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
        }

        #[inline(always)]
        pub(super) fn mask(self) -> u32 {
            self.0.iter().enumerate().fold(0, |mask, (i, &set)| mask | u32::from(set) << i)
        }
    }
}

use vector::Bytes;

/// Bytes that cannot stand in a name (ASCII, without the colon).
#[inline(always)]
pub(super) fn not_name(block: &[u8; LANES]) -> u32 {
    let bytes = Bytes::load(block);
    let letter = bytes.with_bit(0x20).within(b'a', b'z');
    // '-', '.', '/' and the digits stand in a row.
    let other = bytes.within(b'-', b'9').but_not(bytes.equal(b'/')).or(bytes.equal(b'_'));
    !letter.or(other).mask() & 0xFFFF
}

/// Bytes that need attention in a value between `quote`: the quote, `<`, `&`, controls, and with `HIGH` those
/// beyond ASCII.
#[inline(always)]
pub(super) fn not_value<const HIGH: bool>(block: &[u8; LANES], quote: u8) -> u32 {
    let bytes = Bytes::load(block);
    controls::<HIGH>(bytes).or(bytes.equal(quote)).or(bytes.equal(b'<')).or(bytes.equal(b'&')).mask()
}

/// Bytes that need attention in text: `<`, `&`, `>`, controls, and with `HIGH` those beyond ASCII.
#[inline(always)]
pub(super) fn not_text<const HIGH: bool>(block: &[u8; LANES]) -> u32 {
    let bytes = Bytes::load(block);
    controls::<HIGH>(bytes).or(bytes.equal(b'<')).or(bytes.equal(b'&')).or(bytes.equal(b'>')).mask()
}

/// Bytes that escaping must look at: those of text, both quotes, controls, those beyond ASCII.
#[inline(always)]
pub(super) fn not_plain(block: &[u8; LANES]) -> u32 {
    let bytes = Bytes::load(block);
    not_text::<true>(block) | bytes.equal(b'"').or(bytes.equal(b'\'')).mask()
}

#[inline(always)]
fn controls<const HIGH: bool>(bytes: Bytes) -> vector::Truth {
    let controls = bytes.within(0, 0x1F);
    if HIGH { controls.or(bytes.within(0x80, 0xFF)) } else { controls }
}
