//! What RFC 6455 forbids, section by section, and what it allows though it looks odd.

use super::{LARGE, frame, hear, whole};
use crate::{Code, Control, Decoder, Violation};

#[test]
fn what_breaks_the_rules_is_refused_with_its_code() {
    let close = |payload: &[u8]| frame(0x88, payload);
    let unmasked = |first: u8| vec![first, 0x01, b'x'];
    let table: Vec<(&str, Vec<u8>, Violation, u16)> = vec![
        ("5.1: no mask", unmasked(0x81), Violation::NotMasked, 1002),
        ("5.1: no mask on a control frame", unmasked(0x89), Violation::NotMasked, 1002),
        ("5.2: RSV1", frame(0xC1, b"x"), Violation::Reserved, 1002),
        ("5.2: RSV2", frame(0xA1, b"x"), Violation::Reserved, 1002),
        ("5.2: RSV3", frame(0x91, b"x"), Violation::Reserved, 1002),
        ("5.2: opcode 3", frame(0x83, b"x"), Violation::Opcode, 1002),
        ("5.2: opcode 7", frame(0x87, b"x"), Violation::Opcode, 1002),
        ("5.2: opcode 11", frame(0x8B, b"x"), Violation::Opcode, 1002),
        ("5.2: opcode 15", frame(0x8F, b"x"), Violation::Opcode, 1002),
        ("5.2: 125 in two bytes", vec![0x81, 0xFE, 0, 125, 0, 0, 0, 0], Violation::Length, 1002),
        (
            "5.2: 65,535 in eight bytes",
            vec![0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0],
            Violation::Length,
            1002,
        ),
        (
            "5.2: the highest bit of a length",
            vec![0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
            Violation::Length,
            1002,
        ),
        ("5.4: the rest of nothing", frame(0x80, b"x"), Violation::Fragment, 1002),
        (
            "5.4: a message inside a message",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            Violation::Fragment,
            1002,
        ),
        (
            "5.4: a binary message inside a message",
            [frame(0x01, b"a"), frame(0x82, b"b")].concat(),
            Violation::Fragment,
            1002,
        ),
        ("5.5: a ping in fragments", frame(0x09, b"x"), Violation::Control, 1002),
        ("5.5: a long ping", frame(0x89, &[b'x'; 126]), Violation::Control, 1002),
        ("5.5.1: half a code", close(&[3]), Violation::CloseCode, 1002),
        ("5.5.1: a reason that is no text", close(&[3, 0xE8, 0xFF]), Violation::CloseReason, 1007),
        ("5.6: a binary message", frame(0x82, b"x"), Violation::Binary, 1003),
        ("a zero byte", frame(0x81, b"a\0b"), Violation::Zero, 1007),
    ];
    for (rule, bytes, violation, code) in table {
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        for heard in [whole(&bytes), hear(pieces, LARGE)] {
            assert_eq!(heard.end, Some(violation), "{rule}");
        }
        assert_eq!(violation.code(), Code(code), "{rule}");
    }
}

#[test]
fn codes_of_a_close_are_those_of_section_7_4() {
    let may: &[u16] = &[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999];
    let may_not: &[u16] = &[0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535];
    for &code in may {
        let heard = whole(&frame(0x88, &code.to_be_bytes()));
        assert_eq!((heard.end, heard.controls.len()), (None, 1), "{code}");
    }
    for &code in may_not {
        assert_eq!(whole(&frame(0x88, &code.to_be_bytes())).end, Some(Violation::CloseCode), "{code}");
    }
    assert_eq!(whole(&frame(0x88, b"")).controls, [(Control::Close, Vec::new())]);
}

#[test]
fn nothing_is_read_behind_a_close() {
    let bytes = [frame(0x81, b"<a/>"), frame(0x88, &[3, 0xE8]), frame(0x81, b"<b/>"), vec![0xFF; 9]].concat();
    let heard = whole(&bytes);
    assert_eq!((heard.messages(), heard.end), (vec!["<a/>".to_owned()], None));
}

#[test]
fn what_came_before_a_violation_stays() {
    let heard = whole(&[frame(0x81, b"<a/>"), frame(0x82, b"x")].concat());
    assert_eq!((heard.messages(), heard.end), (vec!["<a/>".to_owned()], Some(Violation::Binary)));
}

#[test]
fn a_message_over_the_limit_is_refused_when_its_head_is_here() {
    let head = [0x81, 0xFF, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4];
    assert_eq!(hear([&head[..]], LARGE).end, Some(Violation::TooBig));
    let at_limit = [frame(0x01, b"12345"), frame(0x80, b"67890")].concat();
    assert_eq!(hear([&at_limit[..]], 10).messages(), ["1234567890"]);
    // Fragments count together, and a length cannot wrap around.
    assert_eq!(hear([&at_limit[..]], 9).end, Some(Violation::TooBig));
    let mut huge = frame(0x01, b"1");
    huge.extend_from_slice(&[0x80, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4]);
    assert_eq!(hear([&huge[..]], u64::MAX >> 1).end, Some(Violation::TooBig));
}

#[test]
fn a_damaged_state_is_none() {
    let table: [&[u8]; 9] = [
        &[0],
        &[0; 8],
        // Half a head that would have been refused, and one that is whole.
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0x80, 1, 2, 3, 4],
        // The rest of a message of which there is none, or less than is left.
        &[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 9, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 9, 0, 0, 0, 0, 0, 0, 0],
        // A control frame of another kind, too long, or here already.
        &[0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 5, 1, 2, 3, 4],
        &[0, 0, 0, 0, 0, 0, 0, 0, 2, 9, 126, 1, 2, 3, 4],
        &[0, 0, 0, 0, 0, 0, 0, 0, 2, 9, 1, 1, 2, 3, 4, 5],
    ];
    for saved in table {
        assert_eq!(Decoder::restored(saved), None, "{saved:?}");
    }
    assert_eq!(Decoder::restored(&[]), Some(Decoder::default()));
}
