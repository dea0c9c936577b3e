//! What the record layer of TLS costs: building an expanded key, which happens once per batch of records, beside
//! sealing and opening a stanza with it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ring::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use whimbrel_tls::record::Records;
use whimbrel_tls::suite::{DirectionKeys, Suite, Version};

const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

/// Bytes of a chat message with its addresses.
const STANZA_BYTES: usize = 200;

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expand key");
    let raw = [7; 32];
    for (suite, algorithm) in SUITES.into_iter().zip([&AES_128_GCM, &AES_256_GCM, &CHACHA20_POLY1305]) {
        group.bench_function(format!("{suite:?}"), |bencher| {
            bencher.iter(|| {
                let raw = black_box(&raw[..suite.key_bytes()]);
                UnboundKey::new(algorithm, raw).map(LessSafeKey::new)
            });
        });
        group.bench_function(format!("{suite:?} from the traffic secret"), |bencher| {
            bencher.iter(|| DirectionKeys::from_secret(suite, black_box([7; 48])));
        });
    }
    group.finish();
}

fn records(criterion: &mut Criterion) {
    for (what, records) in [("one stanza", 1), ("a batch of 16 stanzas", 16)] {
        let mut group = criterion.benchmark_group(format!("seal and open {what}"));
        group.throughput(Throughput::Elements(records));
        for suite in SUITES {
            let direction = |seed| DirectionKeys::from_secret(suite, [seed; 48]);
            let mut here = Records::new(Version::Tls13, suite, direction(1), direction(2));
            let mut there = Records::new(Version::Tls13, suite, direction(2), direction(1));
            let (mut wire, mut plain, mut answer) = (Vec::new(), Vec::new(), Vec::new());
            group.bench_function(format!("{suite:?}"), |bencher| {
                bencher.iter(|| {
                    wire.clear();
                    plain.clear();
                    for _ in 0..records {
                        here.seal(black_box(&[b'x'; STANZA_BYTES]), &mut wire).expect("it is open");
                    }
                    there.open(&wire, &mut plain, &mut answer).expect("it is whole")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, keys, records);
criterion_main!(benches);
