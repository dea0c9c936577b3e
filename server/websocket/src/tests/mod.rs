mod messages;
mod oracle;
mod rules;

use crate::{Control, Decoder, Violation};

/// A limit that no test comes near by chance.
const LARGE: u64 = 1 << 20;

/// A frame as a client sends it. `first`: its flags and opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// What came of some bytes.
#[derive(Debug, PartialEq)]
struct Heard {
    text: Vec<u8>,
    controls: Vec<(Control, Vec<u8>)>,
    end: Option<Violation>,
    idle: bool,
}

impl Heard {
    /// Messages that are whole, in order.
    fn messages(&self) -> Vec<String> {
        let whole = self.text.split_inclusive(|byte| *byte == crate::END);
        let whole = whole.filter_map(|message| message.strip_suffix(&[crate::END]));
        whole.map(|message| String::from_utf8_lossy(message).into_owned()).collect()
    }
}

/// Reads bytes in the pieces in which they come. Between two pieces the decoder is saved and restored.
fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, message_bytes_max: u64) -> Heard {
    let mut decoder = Decoder::default();
    let mut heard = Heard { text: Vec::new(), controls: Vec::new(), end: None, idle: true };
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let decoded = decoder.decode(&mut buffer, message_bytes_max, &mut |control, payload| {
            heard.controls.push((control, payload.to_vec()));
        });
        heard.text.extend_from_slice(&buffer);
        if let Err(violation) = decoded {
            heard.end = Some(violation);
            break;
        }
        let restored = Decoder::restored(&decoder.save()).unwrap();
        // What lies behind the bytes in use means nothing.
        assert_eq!(restored.save(), decoder.save());
        assert_eq!(restored.is_idle(), decoder.save().is_empty());
        decoder = restored;
        if heard.controls.last().is_some_and(|(control, _)| *control == Control::Close) {
            break;
        }
    }
    heard.idle = decoder.is_idle();
    heard
}

fn whole(bytes: &[u8]) -> Heard {
    hear([bytes], LARGE)
}
