//! Network interfaces.

use std::io;

use super::text;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const PATH: &str = "/proc/net/dev";

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Description {
    metric(name, Kind::Counter, unit, help)
}

/// The column of each.
const COUNTS: [(usize, Description); 8] = [
    (0, count("net.in.bytes", "bytes", "Bytes that an interface received.")),
    (1, count("net.in.packets", "packets", "Packets that an interface received.")),
    (2, count("net.in.errors", "packets", "Packets that an interface received damaged.")),
    (3, count("net.in.dropped", "packets", "Packets that were received and dropped for want of room.")),
    (8, count("net.out.bytes", "bytes", "Bytes that an interface sent.")),
    (9, count("net.out.packets", "packets", "Packets that an interface sent.")),
    (10, count("net.out.errors", "packets", "Packets that could not be sent.")),
    (11, count("net.out.dropped", "packets", "Packets that were dropped instead of being sent.")),
];

#[derive(Default)]
pub(super) struct Network {
    buffer: String,
}

impl Source for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        for line in text::read(PATH, &mut self.buffer)?.lines().skip(2) {
            let Some((name, values)) = line.split_once(':') else { continue };
            let mut words = values.split_ascii_whitespace();
            let mut n = [0; 12];
            for n in &mut n {
                *n = text::number(&mut words, PATH)?;
            }
            for (column, what) in &COUNTS {
                sink.put_at(what, "interface", name.trim(), n[*column]);
            }
        }
        Ok(())
    }
}
