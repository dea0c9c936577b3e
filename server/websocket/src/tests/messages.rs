//! Messages, whole and in pieces.

use proptest::prelude::*;

use super::{LARGE, frame, hear, whole};
use crate::encode::{self, Message};
use crate::{Code, Control};

#[test]
fn the_examples_of_section_5_7_are_read() {
    // A masked "Hello", the same in two fragments, and a ping with it.
    let single = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(whole(&single).messages(), ["Hello"]);
    assert_eq!(whole(&[frame(0x01, b"Hel"), frame(0x80, b"lo")].concat()).messages(), ["Hello"]);
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(whole(&ping).controls, [(Control::Ping, b"Hello".to_vec())]);
}

#[test]
fn the_examples_of_section_5_7_are_written() {
    let mut out = Vec::new();
    encode::text(b"Hello", &mut out);
    encode::pong(b"Hello", &mut out);
    encode::close(Code::NORMAL, &mut out);
    let text = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [0x8a, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(out, [&text[..], &pong, &[0x88, 2, 0x03, 0xE8]].concat());
}

#[test]
fn an_empty_message_and_empty_fragments_are_messages() {
    assert_eq!(whole(&frame(0x81, b"")).text, [0]);
    let bytes = [frame(0x01, b""), frame(0x00, b"x"), frame(0x80, b""), frame(0x81, b"")].concat();
    assert_eq!(whole(&bytes).text, b"x\0\0");
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let bytes = [frame(0x01, b"He"), frame(0x89, b"1"), frame(0x8A, b""), frame(0x80, b"llo")].concat();
    let heard = whole(&bytes);
    assert_eq!(heard.messages(), ["Hello"]);
    assert_eq!(heard.controls, [(Control::Ping, b"1".to_vec()), (Control::Pong, Vec::new())]);
}

#[test]
fn the_end_of_a_frame_whose_head_came_before_takes_one_byte_more() {
    let bytes = frame(0x81, b"<a/>");
    let (head, rest) = bytes.split_at(6);
    let heard = hear([head, rest, &bytes], LARGE);
    assert_eq!((heard.text.as_slice(), heard.idle), (&b"<a/>\0<a/>\0"[..], true));
}

#[test]
fn room_that_is_used_and_room_that_is_not_leave_no_gap() {
    // Room in front of the text, how much of it is used, and bytes of the text behind it.
    for (room, used, bytes) in
        [(0, 0, 0), (22, 0, 3), (22, 22, 3), (22, 22, 200), (22, 0, 200), (22, 7, 70_000), (0, 0, 70_000)]
    {
        let mut out = b"before".to_vec();
        let message = Message::begin(room, &mut out);
        let text_at = message.text_at();
        out[text_at - used..text_at].fill(b'u');
        out.resize(text_at + bytes, b't');
        message.end(used, &mut out);
        let text = [vec![b'u'; used], vec![b't'; bytes]].concat();
        let mut expected = b"before".to_vec();
        encode::text(&text, &mut expected);
        assert_eq!(out, expected, "{room} {used} {bytes}");
    }
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    /// A message in its fragments, with a control frame behind each but the last.
    Message(Vec<String>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl Sent {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Sent::Ping(payload) => frame(0x89, payload),
            Sent::Pong(payload) => frame(0x8A, payload),
            Sent::Message(parts) => {
                let mut out = Vec::new();
                for (at, part) in parts.iter().enumerate() {
                    let last = at + 1 == parts.len();
                    out.extend(frame(if last { 0x80 } else { 0 } | u8::from(at == 0), part.as_bytes()));
                    if !last {
                        out.extend(frame(0x89, b"between"));
                    }
                }
                out
            }
        }
    }
}

pub(super) fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let part = prop_oneof![8 => "[a-z<>/ é€]{0,40}", 1 => "[a-zé]{120,130}", 1 => "[a-z€]{300,400}"];
    let control = || proptest::collection::vec(any::<u8>(), 0..=125);
    let one = prop_oneof![
        4 => proptest::collection::vec(part, 1..4).prop_map(Sent::Message),
        1 => control().prop_map(Sent::Ping),
        1 => control().prop_map(Sent::Pong),
    ];
    proptest::collection::vec(one, 0..8)
}

/// Cuts bytes where `cuts` say.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    cuts.into_iter().map(|to| &bytes[std::mem::replace(&mut from, to)..to]).collect()
}

proptest! {
    #[test]
    fn any_cut_is_like_the_whole(sent in sent(), cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
        let bytes: Vec<u8> = sent.iter().flat_map(Sent::bytes).collect();
        let heard = whole(&bytes);
        prop_assert_eq!(heard.end, None);
        prop_assert!(heard.idle);
        let messages: Vec<String> = sent.iter().filter_map(|sent| match sent {
            Sent::Message(parts) => Some(parts.concat()),
            _ => None,
        }).collect();
        prop_assert_eq!(heard.messages(), messages);
        prop_assert_eq!(hear(pieces(&bytes, &cuts), LARGE), heard);
    }

    #[test]
    fn any_bytes_are_the_same_in_any_cut(
        bytes in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0x81), 1 => Just(0x80)], 0..60),
        cuts in proptest::collection::vec(any::<usize>(), 0..10),
    ) {
        let heard = whole(&bytes);
        let cut = hear(pieces(&bytes, &cuts), LARGE);
        prop_assert_eq!(&cut.controls, &heard.controls);
        prop_assert_eq!(cut.end, heard.end);
        // Of a message that is refused, more may have come before it is when it comes in pieces.
        prop_assert_eq!(cut.messages(), heard.messages());
    }
}
