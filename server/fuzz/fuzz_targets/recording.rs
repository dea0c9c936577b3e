//! Any bytes as a file of a recording of `wsar`: every sound block can be read or is refused, and what was read is
//! written and read again as the same.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use wsar::record::format;
use wsar::sample::Schema;

fuzz_target!(|bytes: &[u8]| {
    let mut schema = Arc::new(Schema::default());
    for block in format::scan(bytes).0 {
        if let Some(found) = block.schema() {
            schema = Arc::new(found);
        }
        let _ = block.samples(&schema);
    }
    // Checksums keep a fuzzer out; the payloads are reached directly, too.
    if let Some(found) = format::schema_of(bytes) {
        let again = format::schema_of(&format::schema_payload(&found));
        assert_eq!(again, Some(found));
    }
    let Some((&series, payload)) = bytes.split_first() else { return };
    let series = (0..series % 8).map(|n| wsar::sample::Series {
        name: n.to_string().into(),
        key: "".into(),
        instance: "".into(),
        kind: wsar::sample::Kind::Gauge,
        unit: "".into(),
        help: "".into(),
    });
    let schema = Arc::new(Schema::new(series.collect()));
    for count in [1, 2, 5] {
        if let Some(samples) = format::samples_of(payload, count, 5, &schema) {
            let first = samples[0].time_ms;
            let again = format::samples_of(&format::samples_payload(&samples), count, first, &schema);
            assert_eq!(again, Some(samples));
        }
    }
});
