//! Sixteen bytes at once find what one byte at a time finds.

use crate::chars::{self, DOUBLE, HIGH, NAME, SINGLE, SPACE, TEXT};
use crate::namespace;

/// A run of `fill` with `byte` at one place, for every byte, place and length around the width of a step.
fn runs(fill: u8) -> impl Iterator<Item = (u8, Vec<u8>)> {
    let places = [(0, 1), (0, 16), (3, 5), (15, 16), (15, 17), (16, 17), (20, 40), (33, 34)];
    (0..=u8::MAX).flat_map(move |byte| {
        places.into_iter().map(move |(at, length)| {
            let mut run = vec![fill; length];
            run[at] = byte;
            (byte, run)
        })
    })
}

#[test]
fn sixteen_at_once_are_like_one_by_one() {
    for fill in [b'a', b'.', b'_', b'9', b' '] {
        for (byte, run) in runs(fill) {
            let told = format!("0x{byte:02x} among {fill:?}, {} bytes", run.len());
            assert_eq!(chars::skip_name(&run, 0), chars::skip(&run, 0, NAME), "name: {told}");
            assert_eq!(chars::skip_text::<true>(&run, 0), chars::skip(&run, 0, TEXT), "text: {told}");
            let high = chars::skip(&run, 0, TEXT | HIGH);
            assert_eq!(chars::skip_text::<false>(&run, 0), high, "text beyond ASCII: {told}");
            for (quote, class) in [(b'"', DOUBLE), (b'\'', SINGLE)] {
                // The table lets white space pass that values stop at, to have it decoded.
                let stops = |classes: u8| {
                    let blank = |b: u8| b == b' ' || !chars::is(b, SPACE);
                    run.iter().position(|&b| !chars::is(b, classes) || !blank(b)).unwrap_or(run.len())
                };
                assert_eq!(chars::skip_value::<true>(&run, 0, quote), stops(class), "value: {told}");
                let beyond = stops(class | HIGH);
                assert_eq!(chars::skip_value::<false>(&run, 0, quote), beyond, "value beyond ASCII: {told}");
            }
        }
    }
}

#[test]
fn text_is_ascii_when_each_of_its_bytes_is() {
    for length in 0..40 {
        let mut text = vec![b'a'; length];
        assert!(namespace::is_ascii(&text), "{length} bytes");
        for at in 0..length {
            text[at] = 0x80;
            assert!(!namespace::is_ascii(&text), "{at} of {length}");
            text[at] = 0x7f;
        }
    }
}
