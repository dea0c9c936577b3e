//! Sockets and open files.

use std::io;

use super::sysctl;
use crate::collect::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const FIGURES: [(&str, Description); 3] = [
    ("kern.ipc.numopensockets", metric("sockets.used", Kind::Gauge, "sockets", "Sockets of all kinds.")),
    ("kern.openfiles", metric("files.open", Kind::Gauge, "descriptors", "Open files of all programs.")),
    (
        "kern.maxfiles",
        metric("files.limit", Kind::HighWater, "descriptors", "Open files that the kernel allows."),
    ),
];

pub(super) struct Sockets;

impl Source for Sockets {
    fn name(&self) -> &'static str {
        "sockets"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        for (name, what) in &FIGURES {
            sink.put(what, sysctl::number(name)?);
        }
        Ok(())
    }
}
