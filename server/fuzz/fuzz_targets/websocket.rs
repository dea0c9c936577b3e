//! Frames of a client, cut anywhere: any split is like the whole, what is under way survives being saved, and text never
//! has more bytes than came, but for the end of a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_websocket::{Control, Decoder, END, Violation};

/// Messages that are whole, control frames, and the violation at the end.
type Heard = (Vec<Vec<u8>>, Vec<(Control, Vec<u8>)>, Option<Violation>);

const MESSAGE_BYTES_MAX: u64 = 512;

fn hear(data: &[u8], mut length: impl FnMut(usize) -> usize) -> Heard {
    let (mut decoder, mut text, mut controls, mut end) = (Decoder::default(), Vec::new(), Vec::new(), None);
    let mut rest = data;
    while !rest.is_empty() && end.is_none() {
        let (piece, behind) = rest.split_at(length(rest.len()).clamp(1, rest.len()));
        rest = behind;
        let mut buffer = piece.to_vec();
        let decoded = decoder.decode(&mut buffer, MESSAGE_BYTES_MAX, &mut |control, payload: &[u8]| {
            assert!(payload.len() <= whimbrel_websocket::CONTROL_BYTES_MAX);
            controls.push((control, payload.to_vec()));
        });
        assert!(buffer.len() <= piece.len() + 1);
        text.extend_from_slice(&buffer);
        end = decoded.err();
        if end.is_none() {
            let saved = decoder.save();
            assert_eq!(saved.is_empty(), decoder.is_idle());
            decoder = Decoder::restored(&saved).expect("what was saved can be restored");
            assert_eq!(decoder.save(), saved);
        }
        if controls.last().is_some_and(|(control, _)| *control == Control::Close) {
            break;
        }
    }
    let whole = text.split_inclusive(|byte| *byte == END).filter(|message| message.ends_with(&[END]));
    (whole.map(<[u8]>::to_vec).collect(), controls, end)
}

fuzz_target!(|data: &[u8]| {
    // A state of another program is bytes from outside as well.
    if let Some(mut decoder) = Decoder::restored(data) {
        let _ = decoder.decode(&mut vec![0x81; 64], MESSAGE_BYTES_MAX, &mut |_, _| {});
    }
    let whole = hear(data, |left| left);
    let mut state =
        data.iter().fold(0x9E37_79B9_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let split = hear(data, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize >> ((state >> 16) & 7)
    });
    assert_eq!(split, whole, "split otherwise than whole");
});
