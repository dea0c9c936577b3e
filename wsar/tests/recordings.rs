//! What was recorded is what is read, whatever happens to the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use wsar::record::format::{self, Trouble};
use wsar::record::write::files;
use wsar::record::{Archive, Bounds, Recorder};
use wsar::sample::{Kind, Sample, Schema, Series};

const WIDE: Bounds = Bounds { bytes: 1 << 30, age_ms: 1 << 50 };

fn schema(kinds: &[Kind]) -> Arc<Schema> {
    let series = kinds.iter().enumerate().map(|(n, &kind)| Series {
        name: format!("series.{n}").into(),
        key: "worker".into(),
        instance: n.to_string().into(),
        kind,
        unit: "things".into(),
        help: "Ünïcode, too.".into(),
    });
    Arc::new(Schema::new(series.collect()))
}

fn sample(schema: &Arc<Schema>, time_ms: u64, seed: u64) -> Sample {
    let values =
        (0..schema.words() as u64).map(|n| if n % 3 == 0 { n } else { n.wrapping_mul(seed) }).collect();
    Sample { time_ms, schema: schema.clone(), values }
}

fn record(folder: &Path, bounds: Bounds, samples: &[Sample]) {
    let mut recorder = Recorder::open(folder, bounds).expect("a folder");
    for sample in samples {
        recorder.push(sample).expect("room");
    }
    recorder.flush().expect("room");
}

fn read(folder: &Path) -> (Vec<Sample>, Vec<Trouble>) {
    let archive = Archive::open(folder, 0, u64::MAX).expect("a folder");
    let troubles = archive.troubles().iter().map(|(_, trouble)| trouble.clone()).collect();
    (archive.iter().map(|sample| sample.expect("readable")).collect(), troubles)
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![
        8 => Just(Kind::Counter), 8 => Just(Kind::Gauge), 2 => Just(Kind::HighWater), 1 => Just(Kind::Histogram)
    ];
    prop::collection::vec(kind, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_recorded_is_what_is_read(
        parts in prop::collection::vec((kinds(), prop::collection::vec((0u64..5_000, any::<[u64; 4]>()), 1..25)), 1..5),
        small in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut samples = Vec::new();
        let mut time = 1_700_000_000_000u64;
        for (kinds, values) in &parts {
            let schema = schema(kinds);
            for (passed, some) in values {
                time += passed + 1;
                let values = (0..schema.words()).map(|n| some[n % 4].rotate_left(n as u32 / 4)).collect();
                samples.push(Sample { time_ms: time, schema: schema.clone(), values });
            }
        }
        // Small files: each is full after its first block; then only the newest may be left.
        let bounds = Bounds { bytes: if small { 1 << 26 } else { WIDE.bytes }, ..WIDE };
        record(folder.path(), bounds, &samples);
        let (found, troubles) = read(folder.path());
        prop_assert_eq!(troubles, vec![]);
        prop_assert_eq!(found, samples);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let schema = schema(&[Kind::Counter, Kind::Gauge]);
        let mut file = format::MAGIC.to_vec();
        let (block, id) = format::schema_block(&schema);
        file.extend_from_slice(&block);
        file.extend_from_slice(&format::samples_block(&[sample(&schema, 7, 3), sample(&schema, 9, 4)], id));
        file.extend_from_slice(&bytes);
        for (at, bits) in flips {
            let at = at.index(file.len());
            file[at] ^= bits;
        }
        for block in format::scan(&file).0 {
            let _ = (block.schema(), block.samples(&schema));
        }
        let _ = (format::schema_of(&bytes), format::samples_of(&bytes, 64, 0, &schema));
    }
}

/// A recording of one file with forty samples in four blocks.
fn forty(folder: &Path) -> (Vec<Sample>, PathBuf) {
    let schema = schema(&[Kind::Counter, Kind::Gauge, Kind::Histogram]);
    let samples: Vec<Sample> = (0..40).map(|n| sample(&schema, 1_000_000 + n * 1_000, n)).collect();
    record(folder, WIDE, &samples);
    let mut files = files(folder).expect("a folder");
    assert_eq!(files.len(), 1);
    (samples, files.remove(0).1)
}

#[test]
fn a_torn_file_gives_all_whole_blocks_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let (samples, path) = forty(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let mut counts = Vec::new();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (found, troubles) = read(folder.path());
        assert_eq!(found, samples[..found.len()], "{length} bytes");
        assert!(found.len().is_multiple_of(10) && troubles.len() <= 1, "{length} bytes: {troubles:?}");
        counts.push(found.len());
    }
    assert!(counts.is_sorted() && counts.last() == Some(&30), "{counts:?}");
}

#[test]
fn a_damaged_block_costs_that_block_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (samples, path) = forty(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let offsets: Vec<usize> =
        format::scan(&whole).0.iter().filter(|block| block.has_samples()).map(|block| block.offset).collect();
    for at in offsets[1]..offsets[2] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        let (found, troubles) = read(folder.path());
        assert_eq!(found, [&samples[..10], &samples[20..]].concat(), "byte {at}");
        assert_eq!(troubles, [Trouble::Damaged(offsets[1], offsets[2])], "byte {at}");
    }
}

#[test]
fn a_foreign_file_is_named_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (samples, _) = forty(folder.path());
    std::fs::write(folder.path().join("wsar-0000000000001.rec"), b"holiday pictures").unwrap();
    std::fs::write(folder.path().join("notes.txt"), b"not even a recording's name").unwrap();
    let (found, troubles) = read(folder.path());
    assert_eq!((found, troubles), (samples, vec![Trouble::Foreign]));
}

#[test]
fn size_and_age_are_bounded_and_the_newest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let schema = schema(&[Kind::Histogram, Kind::Histogram]);
    let samples: Vec<Sample> =
        (1..2_000).map(|n| sample(&schema, n * 1_000, n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let bounds = Bounds { bytes: 1 << 20, age_ms: u64::MAX };
    record(folder.path(), bounds, &samples);
    let (found, troubles) = read(folder.path());
    assert_eq!(troubles, []);
    assert_eq!(found, samples[samples.len() - found.len()..]);
    assert!(found.len() > 50 && found.len() < samples.len(), "{}", found.len());
    let size = wsar::record::read::size(folder.path()).unwrap();
    // A file ends with the block that fills it.
    assert!(size <= bounds.bytes + (bounds.bytes >> 3) && size > bounds.bytes / 2, "{size}");

    let late = [sample(&schema, 100_000_000, 1)];
    record(folder.path(), Bounds { bytes: 1 << 30, age_ms: 3_600_000 }, &late);
    let (found, _) = read(folder.path());
    assert_eq!(found.last(), late.last());
    let oldest = files(folder.path()).unwrap();
    assert_eq!(
        oldest.len(),
        2,
        "of old files only the one that was being written until now is left: {oldest:?}"
    );
}

#[test]
fn a_part_is_found_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let (samples, _) = forty(folder.path());
    let archive = Archive::open(folder.path(), 1_015_000, 1_024_000).unwrap();
    let found: Vec<Sample> = archive.iter().map(Result::unwrap).collect();
    assert_eq!(found, samples[10..30], "whole blocks");
    assert_eq!(archive.block_at(1_020_500), 1);
}

#[test]
fn two_recorders_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Recorder::open(folder.path(), WIDE).unwrap();
    let error = Recorder::open(folder.path(), WIDE).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another wsar records into"), "{error}");
}
