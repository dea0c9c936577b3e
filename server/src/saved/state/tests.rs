//! The frame, with owners that are made up: it knows nothing of what blocks hold.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::saved::codec::Encoder;
use crate::saved::error::WriteError;
use crate::saved::frame::StateWriter;
use crate::saved::kind::{Readable, Versions, readable};

/// Makes an owner whose records are bytes.
macro_rules! owner {
    ($owner:ident, $kind:expr) => {
        struct $owner;

        impl Owner for $owner {
            const KIND: Kind = $kind;
            type Record<'a> = &'a [u8];

            fn write(record: &&[u8], to: &mut Encoder) {
                to.bytes_of(record);
            }

            fn read<'a>(from: &mut Decoder<'a>) -> Result<&'a [u8], StateError> {
                from.bytes()
            }

            fn samples() -> Vec<&'static [u8]> {
                vec![b"one", b""]
            }
        }
    };
}

owner!(Stones, Kind::required("stones"));
owner!(Sand, Kind::droppable("sand"));
owner!(NewStones, Kind { oldest: 2, newest: 3, ..Kind::required("stones") });
owner!(NewSand, Kind { oldest: 2, newest: 3, ..Kind::droppable("sand") });

const BOTH: &[Row] = &[Row::of::<Stones>(), Row::of::<Sand>()];

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn writer(versions: Versions) -> (File, StateWriter) {
    let file = tempfile::tempfile().unwrap();
    let copy = file.try_clone().unwrap();
    (file, StateWriter::new(copy, versions))
}

/// 240 stones of four workers, and some sand.
fn written() -> Vec<u8> {
    let (file, state) = writer(Versions::own(BOTH));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let state = &state;
            scope.spawn(move || {
                for n in 0..20u8 {
                    let mut blocks = state.blocks::<Stones>(worker);
                    for _ in 0..3 {
                        blocks.put(&&vec![n; usize::from(n) * 7][..]).unwrap();
                    }
                    blocks.finish().unwrap();
                }
            });
        }
    });
    state.put::<Sand>(&&b"sand"[..]).unwrap();
    state.finish().unwrap();
    assert_eq!((state.counts().of("stones"), state.counts().of("sand")), (240, 1));
    contents(&file)
}

#[test]
fn blocks_of_many_writers_are_all_found() {
    let state = State::read(written(), BOTH).unwrap();
    assert_eq!((state.records(&Stones::KIND), state.records(&Sand::KIND)), (240, 1));
    let mut lengths = vec![Vec::new(); 4];
    let each = state.each::<Stones>(|worker, record| {
        lengths[usize::from(worker)].push(record.len());
        Ok(())
    });
    each.unwrap();
    let expected: Vec<usize> = (0..20).flat_map(|n| [n * 7; 3]).collect();
    assert!(lengths.iter().all(|lengths| *lengths == expected));
    assert_eq!(state.one::<Sand>().unwrap(), b"sand");
    assert_eq!(state.one::<Stones>(), Err(StateError::NotOnce { kind: "stones" }));
}

#[test]
fn records_that_outgrow_a_block_begin_another() {
    let (file, state) = writer(Versions::own(BOTH));
    let mut blocks = state.blocks::<Stones>(7);
    for n in 0..5 {
        blocks.put(&&vec![n; 600_000][..]).unwrap();
    }
    blocks.finish().unwrap();
    state.finish().unwrap();
    let read = State::read(contents(&file), BOTH).unwrap();
    assert_eq!(
        read.blocks().map(|block| (block.worker, block.records)).collect::<Vec<_>>(),
        [(7, 2), (7, 2), (7, 1)]
    );
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let bytes = written();
    let all = State::read(&bytes[..], BOTH).unwrap();
    let start = bytes.as_ptr() as usize;
    let inside = |at: usize| {
        all.blocks().any(|block| {
            let content = block.content.as_ptr() as usize - start;
            (content - BLOCK_HEAD_BYTES..content + block.content.len()).contains(&at)
        })
    };
    let framed = (0..ATTEMPT_AT as usize).chain(BLOCKS_AT as usize..bytes.len());
    for at in framed.step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let read = State::read(&changed[..], BOTH);
        // What fills a block up to the next means nothing.
        let means_nothing = at >= BLOCKS_AT as usize && !inside(at);
        assert_eq!(read.is_ok(), means_nothing, "{at}: {:?}", read.err());
    }
    for length in (0..bytes.len()).step_by(101) {
        assert!(State::read(&bytes[..length], BOTH).is_err(), "{length}");
    }
}

#[test]
fn a_version_of_the_frame_from_the_future_is_named() {
    let mut bytes = written();
    bytes[8] = 99;
    assert_eq!(State::read(bytes, BOTH).unwrap_err(), StateError::UnknownVersion { found: 99 });
}

#[test]
fn an_unknown_kind_is_refused_unless_it_may_be_left_out() {
    let bytes = written();
    let state = State::read(&bytes[..], &BOTH[..1]).unwrap();
    assert_eq!(state.left_out(), ["sand"]);
    assert_eq!(state.find::<Sand>().unwrap(), None);
    assert_eq!(state.records(&Stones::KIND), 240);
    let error = State::read(&bytes[..], &BOTH[1..]).unwrap_err();
    assert_eq!(error, StateError::UnknownKind { kind: "stones".into() });
    assert_eq!(error.to_string(), "the state has `stones`, which this program does not know");
}

#[test]
fn an_unknown_version_of_a_kind_is_refused_unless_it_may_be_left_out() {
    let bytes = written();
    let newer = [Row::of::<Stones>(), Row::of::<NewSand>()];
    assert_eq!(State::read(&bytes[..], &newer).unwrap().left_out(), ["sand"]);
    let newer = [Row::of::<NewStones>(), Row::of::<Sand>()];
    let expected = StateError::UnknownKindVersion { kind: "stones", found: 1, oldest: 2, newest: 3 };
    assert_eq!(State::read(&bytes[..], &newer).unwrap_err(), expected);
}

#[test]
fn the_newest_version_that_both_know_is_written() {
    let known = [Row::of::<NewStones>()];
    let of = |theirs: [u16; 2]| {
        let theirs = Readable::from([("stones".to_owned(), theirs)]);
        Versions::common(&known, &theirs).of(&NewStones::KIND)
    };
    assert_eq!(of([1, 2]), Some(2));
    assert_eq!(of([1, 9]), Some(3));
    assert_eq!((of([4, 9]), of([0, 1])), (None, None));
    assert_eq!(Versions::common(&known, &readable(&known)), Versions::own(&known));
    let (file, state) = writer(Versions::common(&known, &Readable::from([("stones".to_owned(), [1, 2])])));
    state.put::<NewStones>(&&b"x"[..]).unwrap();
    state.finish().unwrap();
    assert_eq!(State::read(contents(&file), &known).unwrap().blocks().next().unwrap().version, 2);
}

#[test]
fn a_reader_that_lacks_a_kind_gets_a_state_without_or_none() {
    let theirs = readable(&[]);
    let versions = Versions::common(BOTH, &theirs);
    assert_eq!(versions.missing(BOTH).map(|kind| kind.name).collect::<Vec<_>>(), ["stones", "sand"]);
    let (file, state) = writer(versions);
    state.put::<Sand>(&&b"x"[..]).unwrap();
    assert!(matches!(state.put::<Stones>(&&b"x"[..]), Err(WriteError::NotTaken { kind: "stones" })));
    // Examples are for those that can read them.
    BOTH.iter().for_each(|row| row.write_samples(&state).unwrap());
    state.finish().unwrap();
    let read = State::read(contents(&file), &[]).unwrap();
    assert_eq!((read.blocks().count(), read.left_out().len()), (0, 0));
}

#[test]
fn records_beyond_or_behind_what_a_block_says_are_damage() {
    let block = |records, content| Block { kind: "stones", version: 1, worker: 0, records, content };
    let each = |block: Block<'_>| block.each::<Stones>(|_| Ok(()));
    assert_eq!(each(block(2, b"\x01a\x01b")), Ok(()));
    assert!(each(block(3, b"\x01a\x01b")).is_err());
    assert!(each(block(1, b"\x01a\x01b")).is_err());
}
