//! How fast strict framing is, alone and with forwarding, over what clients really send.
//!
//! `cargo bench -p whimbrel-xml --bench framer`; docs/performance.md says what was measured.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use whimbrel_xml::{Frame, Framer, Limits, Phase, Stamp};

/// Name and one stanza of each kind.
const STANZAS: &[(&str, &str)] = &[
    (
        "short chat",
        "<message to='juliet@capulet.example' type='chat' id='a8f3'><body>Wherefore art thou?</body></message>",
    ),
    (
        "chat with receipt, marker and state",
        "<message xml:lang='en' to='juliet@capulet.example/balcony' from='romeo@montague.example/orchard' type='chat' \
         id='6410ed52-86d4-4ae4-8ed8-4b6ff0d4d7a0'><body>Lady, by yonder blessed moon I swear, that tips with silver \
         all these fruit-tree tops.</body><active xmlns='http://jabber.org/protocol/chatstates'/><request \
         xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/><origin-id xmlns='urn:xmpp:sid:0' \
         id='6410ed52-86d4-4ae4-8ed8-4b6ff0d4d7a0'/></message>",
    ),
    (
        "presence with caps",
        "<presence xml:lang='en'><show>away</show><status>In the orchard</status><priority>5</priority><c \
         xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://client.example/caps' \
         ver='QgayPKawpkPSDYmwT/WM94uAlu0='/><x xmlns='vcard-temp:x:update'><photo>da39a3ee5e6b4b0d3255bfef95601890\
         afd80709</photo></x></presence>",
    ),
    (
        "roster result",
        "<iq type='result' id='roster_1' to='romeo@montague.example/orchard'><query xmlns='jabber:iq:roster' \
         ver='ver14'><item jid='juliet@capulet.example' name='Juliet' subscription='both'><group>Friends</group>\
         </item><item jid='benvolio@montague.example' name='Benvolio' subscription='to'/><item \
         jid='mercutio@verona.example' name='Mercutio' subscription='both'><group>Friends</group><group>Verona\
         </group></item><item jid='nurse@capulet.example' name='Nurse' subscription='from' ask='subscribe'>\
         <group>Servants</group></item></query></iq>",
    ),
    ("long message", ""),
    (
        "non-ASCII text",
        "<message to='ромео@монтекки.пример' type='chat' id='ž1'><body>Příliš žluťoučký kůň úpěl ďábelské ódy. \
         Съешь же ещё этих мягких французских булок. いろはにほへと ちりぬるを 🦢🌙</body><active \
         xmlns='http://jabber.org/protocol/chatstates'/></message>",
    ),
];

const LOREM: &str = "Two households, both alike in dignity, in fair Verona, where we lay our scene, from ancient \
    grudge break to new mutiny, where civil blood makes civil hands unclean.\n";

fn stanza(name: &str, text: &str) -> String {
    if name == "long message" {
        format!(
            "<message to='juliet@capulet.example' type='chat' id='l1'><body>{}</body></message>",
            LOREM.repeat(24)
        )
    } else {
        text.to_owned()
    }
}

/// At least so many bytes, so that neither the clock nor the branch predictor's memory decides.
const STREAM_BYTES_MIN: usize = 1 << 20;

fn repeated(stanza: &str) -> Vec<u8> {
    stanza.repeat(STREAM_BYTES_MIN / stanza.len() + 1).into_bytes()
}

/// Chats above all, as in life: of 20 stanzas 12 are chats with all they carry, 4 short ones.
fn mixed() -> Vec<u8> {
    let order = [1, 1, 0, 1, 2, 1, 1, 0, 1, 5, 1, 1, 0, 3, 1, 1, 0, 1, 4, 1];
    let one: String = order.iter().map(|&i| stanza(STANZAS[i].0, STANZAS[i].1)).collect();
    repeated(&one)
}

/// Frames all of `stream` in reads of `read` bytes; with `forward` also writes each stanza as it is passed on.
fn frame_all(framer: &mut Framer, stream: &[u8], read: usize, forward: Option<&mut Vec<u8>>) -> usize {
    let limits = Limits::default();
    let stamp = Stamp { from: "romeo@montague.example/orchard", ..Stamp::default() };
    let mut partial = None;
    let mut stanzas = 0;
    let mut forward = forward;
    for mut bytes in stream.chunks(read) {
        if let Some(out) = &mut forward {
            out.clear();
        }
        while !bytes.is_empty() {
            let (used, frame) =
                framer.next(Phase::InStream, None, &mut partial, bytes, &limits).expect("good stanzas");
            bytes = &bytes[used..];
            if let Some(Frame::Stanza(stanza)) = frame {
                stanzas += 1;
                match &mut forward {
                    Some(out) => stanza.write_stamped(&stamp, out),
                    None => _ = black_box(stanza),
                }
            }
        }
    }
    stanzas
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("framer");
    let streams: Vec<(String, Vec<u8>, usize)> = STANZAS
        .iter()
        .map(|&(name, text)| (name.to_owned(), repeated(&stanza(name, text)), 64 << 10))
        .chain([4 << 10, 64 << 10].map(|read| (format!("mixed, {} KiB reads", read >> 10), mixed(), read)))
        .collect();
    for (name, stream, read) in &streams {
        group.throughput(Throughput::Bytes(stream.len() as u64));
        let mut framer = Framer::new();
        group.bench_with_input(BenchmarkId::new("framing", name), stream, |b, stream| {
            b.iter(|| frame_all(&mut framer, stream, *read, None));
        });
        let mut out = Vec::new();
        group.bench_with_input(BenchmarkId::new("framing and forwarding", name), stream, |b, stream| {
            b.iter(|| frame_all(&mut framer, stream, *read, Some(&mut out)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // The machines are shared: short runs, compared by their ratios.
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = framing
}
criterion_main!(benches);
